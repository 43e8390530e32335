"""Scores of an experiment as benchmarks/results/scores_<experiment>.json holds them.

    {"schema": 1, "experiment": "osdface", "people": [seed of each], "damage": "...",
     "settings": {...}, "versions": {...},
     "conditions": {condition: {training seed: {metric: [a value per person]}}}}

A condition that needs no training has the training seed "-". A value that could not be measured is
null.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from facewright.core.errors import FacewrightError, listed, shorten
from facewright.core.files.json_text import JsonError, parse_json
from facewright.core.files.writing import written_whole

RESULTS = Path(__file__).parent / "results"
UNTRAINED = "-"
_KEYS = {"schema", "experiment", "people", "damage", "settings", "versions", "conditions"}
_LARGEST = 1e9
"""Of any metric. What is infinite is null in the file."""
_Table = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Scores:
    """What was measured, person by person."""

    people: int
    conditions: dict[str, _Table]
    """Condition -> training seed -> metric -> (people,), NaN where there is no value."""

    def missing(self, condition: str, metric: str) -> str | None:
        """Why there are no values, or None."""
        if condition not in self.conditions:
            return f"`{condition}` was not scored"
        if not any(metric in values for values in self.conditions[condition].values()):
            return f"`{condition}` has no `{metric}`"
        return None

    def pairs(
        self, first: str, second: str, metric: str
    ) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Training seeds that both conditions have, and their values (k, people) twice.

        A condition without training has one row; of two such the seed is "-".
        """
        a, b = (
            {s: values[metric] for s, values in self.conditions[name].items() if metric in values}
            for name in (first, second)
        )
        trained = [set(values) for values in (a, b) if UNTRAINED not in values]
        seeds = sorted(set.intersection(*trained), key=int) if trained else [UNTRAINED]
        rows = [[UNTRAINED] if UNTRAINED in values else seeds for values in (a, b)]
        return (
            seeds,
            np.array([a[seed] for seed in rows[0]]),
            np.array([b[seed] for seed in rows[1]]),
        )


def scores_file(experiment: str, folder: Path = RESULTS) -> Path:
    """Where the scores of an experiment lie."""
    return folder / f"scores_{experiment}.json"


def write_scores(
    experiment: str,
    people: Sequence[int],
    conditions: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
    *,
    damage: str,
    settings: Mapping[str, Any],
    versions: Mapping[str, Any],
    folder: Path = RESULTS,
) -> Path:
    """Write what `read_scores` reads: 5 significant digits, null for what is not finite.

    Raises:
        FacewrightError: values that do not fit `people`, or another mistake that reading refuses.
    """

    def rounded(values: Sequence[float]) -> list[float | None]:
        return [float(f"{v:.5g}") if math.isfinite(v) else None for v in values]

    content = {
        "schema": 1,
        "experiment": experiment,
        "people": list(people),
        "damage": damage,
        "settings": dict(settings),
        "versions": dict(versions),
        "conditions": {
            name: {
                seed: {metric: rounded(values) for metric, values in metrics.items()}
                for seed, metrics in runs.items()
            }
            for name, runs in conditions.items()
        },
    }
    _checked(content, experiment)
    path = scores_file(experiment, folder)
    with written_whole(path) as part:
        part.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
    return path


def read_scores(experiment: str, folder: Path = RESULTS) -> Scores | None:
    """The scores of an experiment; None where there is no such file.

    Raises:
        FacewrightError: the file cannot be read, or holds something else.
    """
    path = scores_file(experiment, folder)
    try:
        data = parse_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, JsonError) as error:
        raise FacewrightError(
            f"The scores {shorten(path, 200)} could not be read: {error}."
        ) from error
    try:
        return _checked(data, experiment)
    except FacewrightError as error:
        raise FacewrightError(
            f"The scores {shorten(path, 200)} are not as they should be: {error} Score the "
            "experiment again."
        ) from error


def _checked(data: Any, experiment: str) -> Scores:
    fields = _mapping(data, "the file")
    if fields.keys() != _KEYS:
        raise FacewrightError(
            f"it should hold {listed(sorted(_KEYS))}; unknown or missing: "
            f"{listed(sorted(fields.keys() ^ _KEYS))}."
        )
    if fields["schema"] != 1 or isinstance(fields["schema"], bool):
        raise FacewrightError(f"`schema` should be 1, got {shorten(repr(fields['schema']))}.")
    if fields["experiment"] != experiment:
        raise FacewrightError(
            f"they are of the experiment {shorten(repr(fields['experiment']))}, not {experiment!r}."
        )
    people = fields["people"]
    if not isinstance(people, list) or not people or len(set(map(repr, people))) < len(people):
        raise FacewrightError("`people` should be a list of seeds, nobody twice.")
    conditions: dict[str, _Table] = {}
    for name, runs in _mapping(fields["conditions"], "`conditions`").items():
        conditions[name] = {}
        for seed, metrics in _mapping(runs, f"condition `{shorten(name)}`").items():
            where = f"condition `{shorten(name)}`, training seed `{shorten(seed)}`"
            if seed != UNTRAINED and not (seed.isascii() and seed.isdigit() and len(seed) < 10):
                raise FacewrightError(f"{where}: a training seed is a number, or `{UNTRAINED}`.")
            conditions[name][seed] = {
                metric: _values(values, len(people), f"{where}, `{shorten(metric)}`")
                for metric, values in _mapping(metrics, where).items()
            }
        if UNTRAINED in conditions[name] and len(conditions[name]) > 1:
            raise FacewrightError(
                f"condition `{shorten(name)}` is both trained and not: `{UNTRAINED}` stands alone."
            )
    return Scores(len(people), conditions)


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not value:
        raise FacewrightError(f"{what} should be an object with entries.")
    return value


def _values(values: Any, count: int, where: str) -> np.ndarray:
    if not isinstance(values, list) or len(values) != count:
        raise FacewrightError(f"{where} should hold {count} values, one per person.")
    for value in values:
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _LARGEST
        ):
            raise FacewrightError(f"{where} holds {shorten(repr(value))}, which is no number.")
    return np.array([math.nan if v is None else float(v) for v in values])
