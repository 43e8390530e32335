"""Patterns out of files, matched without ever being run as regular expressions.

A file may bring a pattern that keeps `re` busy for ever, so only those are taken that are decided
in a time that grows with their length: no groups, no counted repeats, nothing looked ahead for.
"""

import re
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..errors import FacewrightError, shorten

_PLAIN = frozenset(string.ascii_letters + string.digits + "_.-/: ")
_STEP = re.compile(
    r"(\\[dDwW]|\\[^A-Za-z0-9]|\[(?:[^\]\[\\^&~|-]|-(?!-))+\]|[^\\\[\](){}^$*+?|])([*+?]?)(?![*+?])"
)
"""One character of a name as a pattern describes it, and how often it stands there."""
_MOST_PATTERNS, _MOST_STEPS, _LONGEST = 4096, 512, 16384


class PatternError(FacewrightError):
    """A pattern that is not matched here, and why."""


@dataclass(frozen=True)
class _Step:
    takes: Callable[[str], object]
    optional: bool = False
    again: bool = False


class NameEnds:
    """peft's patterns: each is the end of a dotted name, on a dot, or the whole of it.

    Args:
        patterns: literal names, or patterns of characters, `.`, `[...]`, `\\d`, `\\w` with `*`, `+`
            and `?`, and `|` between alternatives.

    Raises:
        PatternError: another construct of regular expressions, or far more than a model has names.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = list(patterns)
        if len(patterns) > _MOST_PATTERNS:
            raise PatternError(f"there are {len(patterns)} of them, {_MOST_PATTERNS} at the most")
        if sum(len(p) for p in patterns if not _PLAIN.issuperset(p)) > _LONGEST:
            raise PatternError(f"together they are longer than {_LONGEST} characters")
        self._patterns = [(p, None if _PLAIN.issuperset(p) else _alternatives(p)) for p in patterns]
        steps = sum(len(s) for _, ways in self._patterns for _, s in ways or ())
        if steps > _MOST_STEPS:
            raise PatternError(f"they have {steps} parts, {_MOST_STEPS} at the most")

    def first(self, name: str) -> str | None:
        """The first pattern that `name` ends with."""
        for pattern, ways in self._patterns:
            if _ends(pattern, name) if ways is None else any(_matches(w, name) for w in ways):
                return pattern
        return None


def _ends(pattern: str, name: str) -> bool:
    start = len(name) - len(pattern)
    if start < 0 or (start and name[start - 1] != "."):
        return False
    # A dot of a pattern is any character.
    return all(p in (c, ".") for p, c in zip(pattern, name[start:], strict=True))


def _alternatives(pattern: str) -> list[tuple[bool, list[_Step]]]:
    """Of each alternative: whether it is the whole name, and its steps."""
    ways: list[tuple[bool, list[_Step]]] = [(False, [])]
    at = 0
    while at < len(pattern):
        whole, steps = ways[-1]
        if step := _STEP.match(pattern, at):
            steps.append(_step(step[1], step[2], pattern))
            at = step.end()
            continue
        if pattern[at] == "^" and not steps and not whole:
            ways[-1] = (True, steps)
        elif pattern[at] == "|":
            ways.append((False, []))
        elif pattern[at] != "$" or pattern[at + 1 : at + 2] not in {"", "|"}:
            raise _unsupported(pattern)  # a dollar ends an alternative, where it changes nothing
        at += 1
    return [way for way in ways if way[1]]  # no name ends with nothing behind its last dot


def _step(one: str, repeat: str, pattern: str) -> _Step:
    try:
        takes = re.compile(one).fullmatch
    except re.error as error:
        raise _unsupported(pattern) from error
    return _Step(takes, optional=repeat in {"*", "?"}, again=repeat in {"*", "+"})


def _unsupported(pattern: str) -> PatternError:
    return PatternError(
        f'"{shorten(pattern)}" needs a regular expression; names and simple patterns without '
        "groups or counts are taken"
    )


def _matches(way: tuple[bool, list[_Step]], name: str) -> bool:
    """All places in the steps are followed side by side, so no way is ever tried twice."""
    whole, steps = way
    places = _skipped({0}, steps)
    if not name:
        return len(steps) in places
    current = places
    for at, char in enumerate(name):
        if at and not whole and name[at - 1] == ".":
            current |= places
        current = _skipped(
            {
                to
                for place in current
                if place < len(steps) and steps[place].takes(char)
                for to in ((place, place + 1) if steps[place].again else (place + 1,))
            },
            steps,
        )
    return len(steps) in current


def _skipped(places: set[int], steps: list[_Step]) -> set[int]:
    """With the places behind steps that may be left out."""
    for place in sorted(places):
        while place < len(steps) and steps[place].optional:
            place += 1
            places = places | {place}
    return places
