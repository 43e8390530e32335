"""Files of a comparison of damage: numbers first, then pictures."""

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...core.degradation import Degradation
from ...core.degradation.descriptors import DESCRIPTORS
from ...core.drawing.palette import COLORS
from ...core.drawing.sheet import contact_sheet, within
from ...core.errors import shorten
from ...core.images import read_picture, to_array, write_atomic
from ...core.metrics.embedding import PERPLEXITY, principal_components, tsne
from ...core.metrics.manifolds import NEIGHBOURS
from ..make.tables import shielded
from .coverage import MEASURES, ON_THE_FLY, REAL, THEMSELVES, CoverageRun, Found, square

SCHEMA = 1
"""Of coverage.json."""
EMBEDDINGS = ("pca", "tsne")
MOST_POINTS = 1500
"""Of a picture of t-SNE, whose time grows with the square."""
_SHOWN = 6
_CELL = 192
_LABELS = {"recall": "recall", "coverage": "coverage", "frechet": "Fréchet distance"}


def write_coverage(run: CoverageRun, found: Found, *, embedding: str = "pca") -> dict[Path, str]:
    """Write coverage.json, coverage.md, descriptors.csv, coverage.png and examples.png.

    The numbers are written before anything is drawn; what cannot be drawn is added to
    `found.notes`.

    Returns:
        What each file is.

    Raises:
        OSError: the folder cannot be written.
    """
    out = run.out
    written = {
        out / "coverage.md": "the tables",
        out / "coverage.json": "the same with every draw",
        out / "descriptors.csv": "the descriptors of every picture",
    }
    write_atomic(out / "descriptors.csv", _to_csv(found).encode("utf-8", "backslashreplace"))
    _write_numbers(run, found)
    shown = {"pca": "principal components", "tsne": "t-SNE"}[embedding]
    drawings: dict[str, tuple[str, Callable[[], bytes]]] = {
        "coverage.png": (f"{shown} of the descriptors", lambda: _plot(found, embedding)),
        "examples.png": ("some pictures of every set", lambda: _examples(run, found)),
    }
    for name, (what, draw) in drawings.items():
        try:
            data = draw()
        except Exception as error:  # noqa: BLE001 (the numbers are there without it)
            why = shorten(f"{type(error).__name__}: {error}", 200)
            found.notes.append(f"{name} could not be drawn ({why}).")
            (out / name).unlink(missing_ok=True)  # of an earlier run
            continue
        write_atomic(out / name, data)
        written[out / name] = what
    _write_numbers(run, found)
    return written


def _write_numbers(run: CoverageRun, found: Found) -> None:
    report = json.dumps(to_json(run, found), indent=2, ensure_ascii=False) + "\n"
    write_atomic(run.out / "coverage.json", report.encode("utf-8", "backslashreplace"))
    write_atomic(run.out / "coverage.md", to_markdown(run, found).encode("utf-8", "replace"))


def to_json(run: CoverageRun, found: Found) -> dict[str, Any]:
    """All that was measured; docs/degrading_and_scoring.md names the fields."""
    sets = [
        {
            "name": one.name,
            "kind": one.kind,
            "folder": str(one.folder),
            "preset": one.preset or None,
            "pictures": len(names),
            "resized": found.resized.get(one.name, 0),
        }
        for one, names in zip(found.sets, found.names, strict=True)
    ]
    table = [
        {
            "set": row,
            "real": column,
            "pictures": cell.pictures,
            **{m: {"mean": cell.mean(m), "draws": cell.draws[m]} for m in MEASURES},
        }
        for row, columns in found.table.items()
        for column, cell in columns.items()
    ]
    about = {"schema": SCHEMA, "side": run.side, "seed": run.seed, "neighbours": NEIGHBOURS}
    return about | {
        "descriptors": list(DESCRIPTORS),
        "sets": sets,
        "table": table,
        "notes": found.notes,
    }


def to_markdown(run: CoverageRun, found: Found) -> str:
    """One table per real set, rows in the order given, the best that can be reached last."""
    lines = ["# How much of the damage of photographs is covered", ""]
    kinds = {one.name: one.kind for one in found.sets}
    columns = dict.fromkeys(name for row in found.table.values() for name in row)
    rows = [row for row in found.table if row != THEMSELVES] + [THEMSELVES]
    for column in columns:
        pictures = found.table[THEMSELVES][column].pictures
        draws = len(found.table[THEMSELVES][column].draws["recall"])
        lines += [f"## {column}", "", f"{pictures} pictures on either side, {draws} draws.", ""]
        lines += ["| | kind | " + " | ".join(_LABELS.values()) + " |", "|---|---|---|---|---|"]
        for row in rows:
            cell = found.table[row][column]
            values = " | ".join(_value(cell.draws[m]) for m in MEASURES)
            lines.append(f"| {row} | {kinds.get(row, REAL)} | {values} |")
        lines.append("")
    lines += [
        f"Means over draws, lowest to highest in brackets. Recall and coverage: {NEIGHBOURS} "
        f"neighbours. {len(DESCRIPTORS)} descriptors at {run.side} x {run.side} pixels, scaled by "
        "their spread over the photographs: " + ", ".join(DESCRIPTORS) + ". They see what a "
        "picture shows, too; the paper does not name the features of its figure.",
        "",
    ]
    resized = {name: n for name, n in found.resized.items() if n}
    if resized:
        listed = ", ".join(f"{n} of {name}" for name, n in resized.items())
        size = f"{run.side} x {run.side}"
        lines += [f"Brought to {size}, which changes noise and sharpness: {listed}.", ""]
    lines += [f"{note}\n" for note in found.notes]
    return "\n".join(lines)


def _value(values: list[float]) -> str:
    mean, low, high = float(np.mean(values)), min(values), max(values)
    digits = 3 if mean < 10 else 1
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _to_csv(found: Found) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["set", "kind", "picture", *DESCRIPTORS])
    for one, names, rows in zip(found.sets, found.names, found.descriptors, strict=True):
        for name, row in zip(names, rows.tolist(), strict=True):
            values = [f"{value:.9g}" for value in row]
            writer.writerow([shielded(one.name), one.kind, shielded(name), *values])
    return text.getvalue()


def _plot(found: Found, embedding: str) -> bytes:
    """A panel per made set with all photographs, on the same axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rng = np.random.default_rng(0)
    parts = [x.numpy() for x in found.scaled()]
    share = min(1.0, MOST_POINTS / sum(map(len, parts))) if embedding == "tsne" else 1.0
    if share < 1:
        parts = [x[rng.permutation(len(x))[: math.ceil(share * len(x))]] for x in parts]
    together = np.concatenate(parts)
    if embedding == "tsne":
        points, axes = tsne(together), ("", "")
        title = f"t-SNE, perplexity {PERPLEXITY:g}: distances between groups mean nothing"
    else:
        points, shares = principal_components(together)
        axes = tuple(f"component {i + 1} ({s:.0%})" for i, s in enumerate(shares))
        title = "Principal components"
    split = np.split(points, np.cumsum([len(x) for x in parts])[:-1])
    made = [i for i in range(len(parts)) if i not in found.real]
    columns = min(3, len(made))
    rows = math.ceil(len(made) / columns)
    figure = Figure((4.2 * columns, 4.0 * rows + 0.8), layout="constrained", facecolor="white")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    size = float(np.clip(4000 / len(points), 4, 18))
    for panel, i in zip(panels, made, strict=False):
        for k, j in enumerate(found.real):
            color = COLORS[(k + 1) % len(COLORS)]
            name = shorten(found.sets[j].name, 30)
            panel.scatter(*split[j].T, s=size, color=color, alpha=0.45, lw=0, label=name)
        one = found.sets[i]
        name = shorten(one.name, 30)
        panel.scatter(*split[i].T, s=size, color=COLORS[0], marker="x", lw=0.9, label=name)
        panel.set_title(f"{name} ({one.kind})", fontsize=10)
        panel.legend(fontsize=7, loc="best", framealpha=0.8)
        panel.set_xlabel(axes[0], fontsize=8)
        panel.set_ylabel(axes[1], fontsize=8)
        panel.tick_params(labelsize=7, labelbottom=True)
    for panel in panels[len(made) :]:
        panel.set_axis_off()
    figure.suptitle(f"Descriptors of damage. {title}.", fontsize=10)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, dpi=120, format="png")
    return buffer.getvalue()


def _examples(run: CoverageRun, found: Found) -> bytes:
    """A row per set, of pictures evenly spread over it."""
    from PIL import Image

    cells, labels = [], []
    for index, one in enumerate(found.sets):
        jobs = {job.name: job for job in run.jobs if job.of == index}
        names = found.names[index]
        wanted = min(_SHOWN, len(names))
        for k in range(_SHOWN):
            if k < wanted:
                job = jobs[names[k * len(names) // wanted]]
                x = square(read_picture(job.source).pixels[:3], run.side)[None]
                if one.kind == ON_THE_FLY:
                    x, _ = Degradation.preset(one.preset)(x, [job.seed])
                cells.append(within(x[0], _CELL))
            else:
                cells.append(torch.ones(3, _CELL, _CELL))
            labels.append(shorten(one.name, 24) if k == 0 else "")
    sheet = contact_sheet(cells, labels, _SHOWN)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(to_array(sheet))).save(buffer, "PNG")
    return buffer.getvalue()
