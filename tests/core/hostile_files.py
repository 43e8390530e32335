"""Seeded mutations of what files say, and ways to write files that no honest program writes."""

import copy
import json
import random
import signal
import struct
from contextlib import contextmanager

from facewright.core.errors import FacewrightError

HOSTILE = (
    None, True, False, 0, 1, -1, 2, 3, 7, 31, 10**4, 10**6, 10**9, 2**31, 2**63, 10**30, -(10**30),
    0.5, -0.0, 1e308, float("inf"), float("nan"), "", "1", "true", "null", "..", "\x00", "\ud800",
    "x" * 5000, "\N{SNOWMAN}", "$HOME", "__class__", [], [[]], [1], [0], [-1], [1, "2"],
    [10**9] * 4, [1] * 5000, [None], {}, {"": 1}, {"a": {"b": {"c": 1}}}, [[[[[[1]]]]]],
)  # fmt: skip


def places(value, path=()):
    """Every place inside a JSON value, from the outside in."""
    yield path
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return
    for key, inner in items:
        yield from places(inner, (*path, key))


def mutated(value, rng: random.Random):
    """A copy of a JSON value with one to three places changed, removed, added or doubled."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        path = rng.choice(list(places(value)))
        if not path:
            if rng.random() < 0.1:
                value = copy.deepcopy(rng.choice(HOSTILE))
            elif isinstance(value, dict):
                value[rng.choice(("", "extra", "__init__", "x" * 300))] = rng.choice(HOSTILE)
            continue
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        key, kind = path[-1], rng.random()
        if kind < 0.15:
            del holder[key]
        elif kind < 0.3 and type(holder[key]) is int:
            holder[key] = rng.choice(
                (holder[key] * 2, holder[key] + 1, -holder[key], str(holder[key]))
            )
        elif kind < 0.4 and isinstance(holder[key], list):
            holder[key] = holder[key] * rng.choice((2, 100))
        else:
            holder[key] = copy.deepcopy(rng.choice(HOSTILE))
    return value


def with_header(content: bytes, change) -> bytes:
    """A safetensors file whose header went through `change`; its numbers stay."""
    (length,) = struct.unpack("<Q", content[:8])
    header = change(json.loads(content[8 : 8 + length]))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def outcome(read, *arguments):
    """What reading gave, or the sentence it was refused with; anything else is a failure."""
    try:
        return read(*arguments)
    except FacewrightError as error:
        text = str(error)
        assert text.endswith((".", ")")), text
        assert len(text) < 2500, text
        assert all(c.isprintable() or c == "\n" for c in text), text
        return text


@contextmanager
def no_hang(seconds: int = 120):
    """Ends a test that would never end; far above what any machine needs."""

    def stop(*_):
        raise AssertionError(f"still not done after {seconds} s")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
