"""Patterns out of files, matched without ever being run as regular expressions.

A file may bring a pattern that keeps `re` busy for ever, so only those are taken that are decided
in a time that grows with their length: no groups, no counted repeats, nothing looked ahead for.
"""

import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ..errors import FacewrightError, shorten

_PLAIN = frozenset(string.ascii_letters + string.digits + "_.-/: ")
_CLASSES = {
    "d": str.isdecimal,
    "D": lambda c: not c.isdecimal(),
    "w": lambda c: c.isalnum() or c == "_",
    "W": lambda c: not (c.isalnum() or c == "_"),
}
_REPEATS = "*+?"
_MOST_PATTERNS, _MOST_STEPS = 4096, 512


class PatternError(FacewrightError):
    """A pattern that is not matched here, and why."""


@dataclass(frozen=True)
class _Step:
    takes: Callable[[str], bool]
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
    rest = iter(pattern)
    last = ""
    for char in rest:
        whole, steps = ways[-1]
        if char == "|":
            ways.append((False, []))
        elif char == "^" and not steps and not whole:
            ways[-1] = (True, steps)
        elif char in _REPEATS and steps and last not in _REPEATS:
            steps[-1] = _Step(steps[-1].takes, optional=char != "+", again=char != "?")
        elif char == "$":
            # It stands at the end of an alternative, where it changes nothing.
            if next(rest, "|") != "|":
                raise _unsupported(pattern)
            ways.append((False, []))
        elif char in "(){}^*+?]":
            raise _unsupported(pattern)
        else:
            steps.append(_Step(_taker(char, rest, pattern)))
        last = char if char in _REPEATS else "|" if char == "|" else "x"
    return [way for way in ways if way[1]]  # no name ends with nothing behind its last dot


def _taker(char: str, rest: Iterator[str], pattern: str) -> Callable[[str], bool]:
    if char == ".":
        return lambda c: c != "\n"
    if char == "\\":
        escaped = next(rest, "")
        if escaped in _CLASSES:
            return _CLASSES[escaped]
        if not escaped or escaped.isalnum():
            raise _unsupported(pattern)
        return escaped.__eq__
    if char == "[":
        return _one_of(rest, pattern)
    return char.__eq__


def _one_of(rest: Iterator[str], pattern: str) -> Callable[[str], bool]:
    inside = []
    for char in rest:
        if char == "]":
            break
        inside.append(char)
    else:
        raise _unsupported(pattern)
    text = "".join(inside)
    if not text or set(text) & set("^\\["):
        raise _unsupported(pattern)
    chars, at = set(), 0
    while at < len(text):
        low, high = text[at], text[at + 2 : at + 3]
        if text[at + 1 : at + 2] == "-" and high:
            if ord(high) > 0x7F or low > high:
                raise _unsupported(pattern)
            chars.update(map(chr, range(ord(low), ord(high) + 1)))
            at += 3
        else:
            chars.add(low)
            at += 1
    return chars.__contains__


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
