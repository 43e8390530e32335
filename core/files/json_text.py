"""JSON from files, servers and text fields, read so that it can be wrong but do nothing else."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..errors import FacewrightError, shorten

MOST_LEVELS = 100
"""Of lists and objects inside each other. Files have some ten; deeper ones are made to break."""


class JsonError(FacewrightError):
    """Text that cannot be used as JSON. The message is a clause: "it ends too early"."""


def parse_json(text: str | bytes, *, file_names: bool = False) -> Any:
    """What JSON text says; bytes have to be UTF-8, with or without a byte order mark.

    Args:
        file_names: text in it may name files whose bytes are no UTF-8, as Python spells them.

    Raises:
        JsonError: it is something else, nested deeper than `MOST_LEVELS`, or an object in it has
            two entries of one name, of which every reader would silently drop one.
    """
    if isinstance(text, bytes):
        text = _decoded(text)
    if not text.strip():
        raise JsonError("it is empty")
    try:
        value = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_once)
    except RecursionError:
        raise JsonError(_TOO_DEEP) from None
    except json.JSONDecodeError as error:
        raise JsonError(f"it is not JSON: line {error.lineno}, {error.msg}") from error
    except ValueError as error:
        if isinstance(error, JsonError):
            raise
        raise JsonError("it holds a number of thousands of digits") from error
    check_plain(value, file_names=file_names)
    return value


def strict(value: Any, *, digits: int | None = None, infinity: bool = False) -> Any:
    """`value` without what JSON does not know, at any depth: None for NaN and infinity.

    Args:
        digits: after the point, to which numbers are rounded.
        infinity: stays, as the text "inf" or "-inf".
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value) if infinity and math.isinf(value) else None
        return value if digits is None else round(value, digits)
    if isinstance(value, Mapping):
        return {str(k): strict(v, digits=digits, infinity=infinity) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [strict(v, digits=digits, infinity=infinity) for v in value]
    return value


def check_plain(value: Any, *, file_names: bool = False) -> None:
    """Raise JsonError where lists and objects are nested too deeply, or text is no Unicode."""
    level = [value]
    for _ in range(MOST_LEVELS):
        inside: list[Any] = []
        for item in level:
            if isinstance(item, Mapping):
                inside += item.keys()
                inside += item.values()
            elif isinstance(item, list | tuple):
                inside += item
            elif isinstance(item, str) and not item.isascii():
                _check_unicode(item, file_names)
        if not inside:
            return
        level = inside
    raise JsonError(_TOO_DEEP)


_TOO_DEEP = f"its lists and objects are nested more than {MOST_LEVELS} levels deep"


def _decoded(data: bytes) -> str:
    encoding = json.detect_encoding(data)
    if encoding not in {"utf-8", "utf-8-sig"}:
        raise JsonError(f"it is {encoding.upper()} text and has to be saved as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise JsonError(
            f"byte {error.start} is not UTF-8; save it again with that encoding"
        ) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise JsonError(f"two entries of one object are called {shorten(twice)!r}")
    return found


def _check_unicode(text: str, file_names: bool) -> None:
    try:
        text.encode(errors="surrogateescape" if file_names else "strict")
    except UnicodeEncodeError as error:
        raise JsonError(f"the text {shorten(text)!r} holds half a character") from error


def as_fields(value: Any) -> Mapping[str, Any]:
    """An object as it is; in place of anything else an empty one, where nobody need be told."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    """`as_fields` of lists."""
    return value if isinstance(value, list) else []
