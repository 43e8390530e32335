"""How evaluate and score show their numbers."""

from pathlib import Path
from typing import Any

from ._common import console, say, say_aside, write_json


def print_json(result: Any, report: Path) -> None:
    from ..evaluation.tables import summary

    aside = result.scores.pairing.scanned.entries()
    _write_numbers({"report": str(report), **summary(result), "left_aside": aside})


def _write_numbers(content: dict[str, Any]) -> None:
    from ...core.files.json_text import strict

    write_json(strict(content, infinity=True))


def print_tables(result: Any, report: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    from ...core.metrics.statistics import FEWEST
    from ..evaluation.comparison import direction, number
    from ..evaluation.page import cautions, chance, lead

    table = Table(title_justify="left")
    table.add_column("metric")
    table.add_column("", style="dim")
    for method in result.means:
        table.add_column(method, justify="right", overflow="fold")
    between = "\n" if len(result.means) > 3 else " "  # many methods: narrow columns
    for m in result.picture_metrics:
        means = [of[m.name] for of in result.means.values()]
        label = f"{m.label} ({m.unit})" if m.unit else m.label
        table.add_row(label, direction(m), *(Text(_cell(x, m, between)) for x in means))
    for m in result.set_metrics:
        cells = [number(of[m.name], m) for of in result.scores.sets.values()]
        table.add_row(m.label, direction(m), *cells)
    console().print(table)
    if any(mean.count >= FEWEST for means in result.means.values() for mean in means.values()):
        say("Mean over pictures [95 % interval].", "dim")
    for line in lead(result):
        say(line)
    if several := chance(result):
        say(several, "dim")
    for line in cautions(result):
        say(line, "yellow")
    say_aside(result.scores.pairing.scanned)
    say(f"Report: {report}")


def _cell(mean: Any, m: Any, between: str) -> str:
    from ...core.metrics.statistics import FEWEST
    from ..evaluation.comparison import infinite, mean_text, number

    if mean.infinite and not mean.count:
        return mean_text(mean, m)
    parts = [number(mean.mean, m)]
    if mean.count >= FEWEST:
        parts.append(f"[{number(mean.low, m)}, {number(mean.high, m)}]")
    if mean.infinite:
        parts.append(f"+{infinite(mean.infinite, m)}")
    return between.join(parts)


def print_score(row: Any, settings: Any) -> None:
    from rich.table import Table

    from ..evaluation.comparison import direction, with_unit

    table = Table()
    for name in ("metric", "value", ""):
        table.add_column(name, justify="right" if name == "value" else "left")
    for m in settings.metrics:
        table.add_row(m.label, with_unit(row.values[m.name], m), direction(m))
    console().print(table)


def print_score_json(row: Any, settings: Any) -> None:
    content = {
        "values": row.values,
        "problems": row.problems,
        "notes": row.notes,
        "metrics": {m.name: m.summary for m in settings.metrics},
    }
    _write_numbers(content)
