"""From which cosine two faces count as one person, said by how often strangers reach it.

A cosine means nothing by itself: one recogniser gives strangers 0.1, another 0.6. What it means is
its false-match rate: the share of comparisons of a face with the album of another person that reach
it. `Limits` keeps a table of both for a recogniser. Matching takes a face for an album's person
from `same_person` on; the guard can hold back what drifts farther than 1 - that: one scale.

Where nobody has measured a recogniser, `false_match_rate` is None and `cosine_at` says so.
`core.people.calibration` measures one, and writes what `limits_beside` finds at the weight file.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, FacewrightError, shorten
from ..files.json_text import JsonError, parse_json
from ..files.writing import written_whole

FORMAT = "facewright.limits"
VERSION = 1
SUFFIX = ".limits.json"
LARGEST = 1 << 20
"""Bytes of a limits file; ours have some two thousand."""
_LONGEST = 1000


@dataclass(frozen=True)
class Rate:
    """One row of a table."""

    rate: float
    """Share of strangers, in (0, 1]."""
    cosine: float
    """That so many of them reach."""
    low: float | None = None
    high: float | None = None
    """Ends of the 95 % interval of the cosine; None where they are not known."""
    missed: float | None = None
    """Share of faces that do not reach it with their own person; None where it is not known."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What cosines of one recogniser mean."""

    same_person: float
    """Cosine from which a face is an album's person; strangers reach it at `false_match_rate`."""
    margin: float
    """By how much the best album has to beat the runner-up; below that the face is unsure."""
    false_match_rate: float | None
    """Share of strangers that reach `same_person`; None where nobody has measured it."""
    faces: str
    """On what: "rendered faces"; for reports."""
    source: str
    """The same in whole sentences, and by whom."""
    table: tuple[Rate, ...] = ()
    """Rates falling, cosines rising."""

    def cosine_at(self, rate: float) -> float:
        """The cosine that this share of strangers reaches; between the rates of the table linear
        in the logarithm of the rate.

        Raises:
            FacewrightError: a rate outside the table, or there is none.
        """
        advice = (
            "Measure the recogniser with `facewright person calibrate`, or give the limit as a "
            "cosine or drift."
        )
        if not self.table:
            raise FacewrightError(
                f"How often strangers reach which cosine is not known of this recogniser. {advice}"
            )
        known = [row.rate for row in self.table]
        if not known[-1] <= rate <= known[0]:
            highest, lowest = (f"{row:.10f}".rstrip("0") for row in (known[0], known[-1]))
            there = f"{lowest} ({percent(known[-1])}) to {highest} ({percent(known[0])})"
            if len(known) == 1:
                there = f"{highest} ({percent(known[0])}) alone"
            raise FacewrightError(
                f"The false-match rate has to be {there}, which is what is known of this "
                f"recogniser ({self.faces}). Came {percent(rate)}. {advice}"
            )
        return _between(rate, [(math.log(row.rate), row.cosine) for row in self.table], math.log)

    def rate_at(self, cosine: float) -> str:
        """In words the share of strangers that reach a cosine: "0.1 %", "less than 0.01 %"; empty
        where it is not known."""
        if not self.table:
            return ""
        first, last = self.table[0], self.table[-1]
        if cosine < first.cosine - _EQUAL:
            return f"more than {percent(first.rate)}"
        if cosine > last.cosine + _EQUAL:
            return f"less than {percent(last.rate)}"
        at = _between(cosine, [(row.cosine, math.log(row.rate)) for row in self.table])
        return percent(math.exp(at))

    def told(self, cosine: float) -> str:
        """For reports: "0.65: 0.1 % of strangers, rendered faces"."""
        share = self.rate_at(cosine)
        reach = f"{share} of strangers, {self.faces}" if share else "strangers not measured"
        return f"{cosine:.2f}: {reach}"

    def threshold(self, cosine: float | None, rate: float | None) -> float:
        """From which cosine a face is a person's: as asked for (not 0), else by the false-match
        rate, else `same_person`.

        Raises:
            FacewrightError: as `cosine_at`.
        """
        return cosine or (self.cosine_at(rate) if rate else self.same_person)

    def drift(self, limit: float | None, rate: float | None) -> float | None:
        """How far a face may drift: as asked for, else by the false-match rate, else None.

        Raises:
            FacewrightError: as `cosine_at`.
        """
        return 1 - self.cosine_at(rate) if limit is None and rate else limit

    def told_of_drift(self, limit: float) -> str:
        """For reports: "a drift of 0.35 is the cosine 0.65: 0.1 % of strangers, rendered faces"."""
        return f"a drift of {limit:.2f} is the cosine {self.told(1 - limit)}"

    def save(self, path: Path, recogniser: str, **more: Any) -> None:
        """Write a file that is complete or not there.

        Args:
            recogniser: `Recogniser.id` that the limits are of.
            more: further entries for people, which are not read back.

        Raises:
            OSError: the folder cannot be written.
        """
        content = {
            "format": FORMAT,
            "version": VERSION,
            "recogniser": recogniser,
            **{name: getattr(self, name) for name in _TEXTS + _NUMBERS},
            "table": [vars(row) for row in self.table],
            **more,
        }
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")


_EQUAL = 1e-6
_TEXTS, _NUMBERS = ("faces", "source"), ("same_person", "margin", "false_match_rate")


def percent(rate: float) -> str:
    """0.001 -> "0.1 %", with two digits that count."""
    return f"{float(f'{100 * rate:.2g}'):.10f}".rstrip("0").rstrip(".") + " %"


def _between(value: float, points: list[tuple[float, float]], scale: Any = float) -> float:
    """Linear between the points, whose first numbers rise or fall; ends are held."""
    x = scale(value)
    for (x0, y0), (x1, y1) in pairwise(points):
        if min(x0, x1) <= x <= max(x0, x1) and x0 != x1:
            return y0 + (x - x0) / (x1 - x0) * (y1 - y0)
    return min(points, key=lambda point: abs(point[0] - x))[1]


def limits_file(weights: str | os.PathLike[str]) -> Path:
    """Where limits of a recogniser lie: backbone.limits.json beside backbone.pth."""
    path = Path(weights)
    return path.with_name(path.stem + SUFFIX)


def limits_beside(
    weights: str | os.PathLike[str], recogniser: str, *, checked: bool = True
) -> Limits:
    """What `person calibrate` wrote beside the weight file, else `limits_of` the recogniser.

    Args:
        recogniser: `Recogniser.id`, or the name alone where it is not `checked`.
        checked: whether what was written has to be of the recogniser.

    Raises:
        CheckpointError: as `read_limits`.
    """
    path = limits_file(weights)
    if not path.is_file():
        return limits_of(recogniser)
    return read_limits(path, recogniser if checked else None)


def read_limits(path: Path, recogniser: str | None) -> Limits:
    """A file that `Limits.save` wrote.

    Args:
        recogniser: `Recogniser.id` that it has to be of; None: any.

    Raises:
        CheckpointError: it is something else, of another version or recogniser, or its numbers
            cannot be meant; the sentence names it.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise JsonError(f"it is larger than the {LARGEST} bytes that limits can need")
        content = parse_json(path.read_bytes())
    except (JsonError, OSError) as error:
        problem = str(error) if isinstance(error, JsonError) else f"it cannot be read ({error})"
        raise _unusable(path, problem) from error
    problem = _problem(content, recogniser)
    if problem:
        raise _unusable(path, problem)
    return Limits(
        faces=content["faces"],
        source=content["source"],
        same_person=float(content["same_person"]),
        margin=float(content["margin"]),
        false_match_rate=float(content["false_match_rate"]),
        table=tuple(Rate(**{k: float(v) for k, v in row.items()}) for row in content["table"]),
    )


def _unusable(path: Path, problem: str) -> CheckpointError:
    return CheckpointError(
        f"{shorten(path.name)}, which should say what cosines of the recogniser beside it mean, "
        f"cannot be used: {problem}. Measure again with `facewright person calibrate`, or delete "
        "the file: then the limits that come with facewright count."
    )


def _problem(content: Any, recogniser: str | None) -> str:
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        return f"it is not of the format {FORMAT}"
    version = content.get("version")
    if type(version) is not int or version != VERSION:
        return f"it is of format version {shorten(repr(version), 40)}, and {VERSION} is read here"
    if recogniser not in (None, content.get("recogniser")):
        return (
            f"it is of the recogniser {shorten(content.get('recogniser'))}, and the weights there "
            f"are {recogniser}"
        )
    wrong = [n for n in _TEXTS if not isinstance(content.get(n), str) or len(content[n]) > _LONGEST]
    wrong += [name for name in _NUMBERS if not _share(content.get(name))]
    rows = content.get("table")
    if not isinstance(rows, list) or not 1 <= len(rows) <= _LONGEST or not _is_table(rows):
        wrong.append("table")
    return f"its entries {', '.join(wrong)} are not as `person calibrate` writes them" * bool(wrong)


def _share(value: Any, low: float = 0.0) -> bool:
    return type(value) in (int, float) and low <= value <= 1


def _is_table(rows: list[Any]) -> bool:
    names = set(Rate.__annotations__)
    for row in rows:
        if not isinstance(row, Mapping) or set(row) != names:
            return False
        if not all(_share(row[name], -1.0) for name in names) or row["rate"] <= 0:
            return False
    return all(a["rate"] > b["rate"] and a["cosine"] <= b["cosine"] for a, b in pairwise(rows))


_NANO = Limits(
    same_person=0.65,
    margin=0.08,
    false_match_rate=0.016,
    faces="rendered faces",
    source="Measured on 480 rendered people of 8 sharp photos each, found by the nano detector: "
    "1,839,360 comparisons of a face with the album of another person (benchmarks/limits.py).",
    table=tuple(
        Rate(*row)
        for row in (
            (0.5, -0.0127, -0.0181, -0.0078, 0.0008),
            (0.2, 0.2475, 0.2400, 0.2543, 0.0016),
            (0.1, 0.3890, 0.3811, 0.3980, 0.0018),
            (0.05, 0.5033, 0.4926, 0.5130, 0.0021),
            (0.02, 0.6266, 0.6157, 0.6388, 0.0031),
            (0.01, 0.7024, 0.6897, 0.7150, 0.0034),
            (0.005, 0.7649, 0.7496, 0.7795, 0.0039),
            (0.002, 0.8284, 0.8124, 0.8463, 0.0055),
            (0.001, 0.8648, 0.8491, 0.8839, 0.0120),
            (0.0005, 0.8945, 0.8773, 0.9128, 0.0271),
            (0.0002, 0.9243, 0.9074, 0.9372, 0.0714),
            (0.0001, 0.9385, 0.9242, 0.9490, 0.1279),
        )
    ),
)
"""The limit is older than the table, which says what it means: 1.6 % of strangers. Of damaged faces
fewer strangers reach it (moderate 1.4 %, severe 1.1 %), and more of the right people miss it (1.1 %
and 15 %); at 0.1 % they would be 21 % and 78 %. By the margin the wrong one of two albums of the
very same person leads in 0.3 % of the sharp faces (moderate 1.4 %, severe 3 %); among eight albums
of different people it makes 0.5 % of the right assignments unsure (0.7 % and 1.7 %)."""
_ARCFACE = Limits(
    same_person=0.28,
    margin=0.08,
    false_match_rate=0.001,
    faces="LFW photographs, as published",
    source="Published, not measured here: AdvFaces (arXiv:1908.05008) takes ArcFace's cosine of "
    "0.28 for a false accept rate of 0.1 %, from a million pairs of strangers of LFW (issue 7 of "
    "github.com/ronny3050/AdvFaces). insightface's demonstration, too, calls faces above 0.28 the "
    "same person, and below 0.2 another. Two other networks of the kind have 0.31 and 0.23 at "
    "0.1 % (test.py of TencentYoutuResearch/Adv-Makeup), so measure your own weights. The margin "
    "is that of rendered faces.",
    table=(Rate(0.001, 0.28),),
)
_ADAFACE = Limits(
    same_person=0.28,
    margin=0.08,
    false_match_rate=None,
    faces="photographs",
    source="Taken from ArcFace, whose limit is 0.28. Of AdaFace no cosine is published with its "
    "false-match rate; its author calls 0.3 a rough guess (issue 161 of "
    "github.com/mk-minchul/AdaFace). The margin is that of rendered faces.",
)


def limits_of(recogniser: str) -> Limits:
    """Limits that come with facewright, for a `Recogniser.name` or `Recogniser.id`.

    Any other recogniser of photographs is taken to be like AdaFace.
    """
    known = {"nano-identity": _NANO, "arcface": _ARCFACE}
    return next((known[kind] for kind in known if recogniser.startswith(kind)), _ADAFACE)


def threshold_of(recogniser: str) -> float:
    """`limits_of(recogniser).same_person`."""
    return limits_of(recogniser).same_person
