"""All files of a report in one folder."""

from collections.abc import Callable
from pathlib import Path

from ...core.errors import shorten
from ...core.images import write_atomic
from .cases import extremes
from .comparison import Result
from .page import to_html
from .paper import to_latex, to_markdown
from .plot import draw_plot, draw_slices
from .sheet import draw_sheet
from .slices import SLICES
from .tables import to_csv, to_json


def write_report(result: Result, out: Path, *, sort: str | None = None, cases: int = 5) -> Path:
    """Write results.csv, results.json, tables.md, tables.tex, plot.png, sheet.png, a slices_BY.png
    for each way to group the pictures, and report.html; returns the last.

    Every file is complete or not there; those of an earlier report are replaced. The numbers are
    written before anything is drawn, and what cannot be drawn is said among `result.scores.notes`
    and on the page.

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
    write_atomic(out / "results.csv", to_csv(result).encode("utf-8", "backslashreplace"))
    write_atomic(out / "results.json", to_json(result).encode("utf-8", "backslashreplace"))
    write_atomic(out / "tables.md", to_markdown(result).encode("utf-8", "replace"))
    write_atomic(out / "tables.tex", to_latex(result).encode("utf-8", "replace"))

    def drawn(name: str, draw: Callable[[], bytes | None]) -> bytes | None:
        try:
            data = draw()
        except Exception as error:  # noqa: BLE001 (numbers and tables are there without it)
            why = shorten(f"{type(error).__name__}: {error}", 200)
            result.scores.notes.append(f"{name} could not be drawn ({why}).")
            data = None
        if data is None:
            (out / name).unlink(missing_ok=True)  # of an earlier report with other settings
        else:
            write_atomic(out / name, data)
        return data

    plot = drawn("plot.png", lambda: draw_plot(result))
    drawn("sheet.png", lambda: draw_sheet(ends, list(result.means)) if ends else None)
    sliced = {slices.grouping.by: slices for slices in result.slices}
    plots = {}
    for by in SLICES:
        slices = sliced.get(by)
        plots[by] = drawn(
            f"slices_{by}.png", lambda one=slices: draw_slices(result, one) if one else None
        )
    page = to_html(result, ends, plot, plots)
    write_atomic(out / "report.html", page.encode("utf-8", "replace"))
    return out / "report.html"
