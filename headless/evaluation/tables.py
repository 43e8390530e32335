"""The results as CSV for spreadsheets and JSON for programs."""

import csv
import io
import json
import math
import platform
from dataclasses import asdict
from importlib import metadata
from typing import Any

from ...core.files.json_text import strict
from ...core.metrics import Metric
from ...core.metrics.statistics import CONFIDENCE, DRAWS, FEWEST
from .comparison import Result, Slices, direction
from .pairing import LQ
from .scoring import Row

SCHEMA = 1
"""Of results.json, whose fields docs/degrading_and_scoring.md names. It grows when a field is taken
away or means something else; fields may join without that."""
INTERVAL = f"expanded percentile bootstrap over pictures, {DRAWS} draws; none below {FEWEST}"
"""How intervals are made."""


def to_csv(result: Result) -> str:
    """One line per picture and method; empty where a value is missing, inf where it is infinite."""
    metrics = result.picture_metrics
    files = {case.name: case for case in result.scores.pairing.cases}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = [m.name for m in metrics]
    writer.writerow(["picture", "method", *names, "file", "original", "problems", "notes"])
    for row in result.scores.rows:
        case = files[row.case]
        values = [row.values.get(name, math.nan) for name in names]
        writer.writerow(
            [
                row.case,
                row.method,
                *("" if math.isnan(x) else repr(x) for x in values),
                case.versions[row.method],
                case.gt or "",
                "; ".join(problems(row)),
                "; ".join(row.notes),
            ]
        )
    return buffer.getvalue()


def problems(row: Row) -> list[str]:
    """Why values of this row are missing, one sentence per reason."""
    if row.error:
        return [row.error]
    reasons: dict[str, list[str]] = {}
    for name, why in row.problems.items():
        reasons.setdefault(why, []).append(name)
    return [f"{', '.join(names)}: {why}" for why, names in reasons.items()]


def to_json(result: Result) -> str:
    """Everything; strict JSON, in which an infinite number is the string "inf"."""
    scores = result.scores
    copies = {case.name: case.copy_of for case in scores.pairing.cases}
    value = {
        **summary(result),
        "pictures": [
            {
                "picture": row.case,
                "copy_of": copies.get(row.case),
                "method": row.method,
                "values": row.values,
                "problems": row.problems,
                "notes": row.notes,
                "error": row.error,
            }
            for row in scores.rows
        ],
    }
    return json.dumps(strict(value, infinity=True), indent=2, allow_nan=False, default=str) + "\n"


def summary(result: Result) -> dict[str, Any]:
    """What `--json` prints: everything but the single pictures."""
    scores, pairing = result.scores, result.scores.pairing
    reference = scores.settings.reference
    return {
        "schema": SCHEMA,
        "settings": {
            "methods": {n: str(folder) for n, folder in pairing.methods.items() if n != LQ},
            "gt": None if pairing.gt is None else str(pairing.gt),
            "lq": str(pairing.methods[LQ]) if LQ in pairing.methods else None,
            "faces": scores.settings.faces,
            "recogniser": scores.settings.looks.recogniser,
            "aligned": scores.settings.looks.aligned,
            "reference_set": reference and str(reference),
            "interval": f"{CONFIDENCE:.0%}, {INTERVAL}",
        },
        "versions": versions(),
        "metrics": {m.name: _describe(m) for m in scores.settings.metrics},
        "cases": len(pairing.cases),
        "means": {
            method: {
                **{name: asdict(mean) for name, mean in means.items()},
                **{
                    name: {"mean": x, "count": scores.set_counts[method][name]}
                    for name, x in scores.sets.get(method, {}).items()
                },
            }
            for method, means in result.means.items()
        },
        "comparisons": [
            {
                "method": c.method,
                "against": c.against,
                "metric": c.metric.name,
                **asdict(c.difference),
                "clear": c.difference.clear,
                "p_holm": c.p_holm,
                "verdict": c.verdict,
                "sentence": c.sentence(),
            }
            for c in result.comparisons
        ],
        "slices": [_sliced(slices) for slices in result.slices],
        "notes": [*pairing.notes, *scores.notes],
        "left_aside": [str(file) for file in pairing.aside],
        "unmatched": [{"file": str(u.file), "why": u.why} for u in pairing.unmatched],
        "failed": [
            {"picture": row.case, "method": row.method, "why": row.error} for row in scores.failed
        ],
        "missing_values": [
            {"picture": row.case, "method": row.method, "why": problems(row)} for row in scores.gaps
        ]
        + [
            {"picture": None, "method": method, "why": [f"{name}: {why}"]}
            for method, whys in scores.set_problems.items()
            for name, why in whys.items()
        ],
    }


def _sliced(slices: Slices) -> dict[str, Any]:
    grouping = slices.grouping
    return {
        "by": grouping.by,
        "label": grouping.label,
        "groups": [
            {
                "name": g.name,
                "low": g.low,
                "high": g.high,
                "pictures": list(g.cases),
                "means": {
                    method: {name: asdict(mean) for name, mean in of.items()}
                    for method, of in means.items()
                },
            }
            for g, means in zip(grouping.groups, slices.means, strict=True)
        ],
        "levels": dict(grouping.levels),
        "without": list(grouping.without),
    }


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in ("facewright", "torch", "numpy", "pillow", "kornia", "scipy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a package that came along without its metadata
            found[name] = "unknown"
    return found


def _describe(m: Metric) -> dict[str, Any]:
    return {
        "label": m.label,
        "unit": m.unit,
        "better": m.better,
        "direction": direction(m),
        "conventions": m.summary,
        "package": m.package,
        "licence": m.licence,
    }
