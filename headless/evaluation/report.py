"""All files of a report in one folder."""

from pathlib import Path

from ...core.images import write_atomic
from .cases import extremes
from .comparison import Result
from .page import to_html
from .plot import draw_plot
from .sheet import draw_sheet
from .tables import to_csv, to_json


def write_report(result: Result, out: Path, *, sort: str | None = None, cases: int = 5) -> Path:
    """Write results.csv, results.json, plot.png, sheet.png and report.html; returns the last.

    Every file is complete or not there; those of an earlier report are replaced.

    Args:
        result: from `summarize`.
        out: folder, made if needed.
        sort: metric that decides which cases are worst and best; None takes the first.
        cases: how many of each are shown; 0 shows none.

    Raises:
        FacewrightError: `sort` names no metric that was measured per picture.
        OSError: the folder cannot be written.
    """
    ends = extremes(result, sort, cases)
    plot = draw_plot(result)
    files = {
        "results.csv": to_csv(result).encode("utf-8", "backslashreplace"),
        "results.json": to_json(result).encode("utf-8", "backslashreplace"),
        "plot.png": plot,
        "sheet.png": draw_sheet(ends, list(result.means)) if ends else None,
        "report.html": to_html(result, ends, plot).encode("utf-8", "replace"),
    }
    for name, data in files.items():
        if data is None:
            (out / name).unlink(missing_ok=True)  # of an earlier report with other settings
        else:
            write_atomic(out / name, data)
    return out / "report.html"
