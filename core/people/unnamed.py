"""Receipts as pictures hold them: a picture goes to other people, and names only where asked."""

import json
import re
from typing import Any

from .receipts import parse_json

_WHO = frozenset({"person", "people", "unsure", "runner_up"})
"""Entries that name people, one or several."""
_BY_NAME = frozenset({"cosines"})
"""Entries whose own entries are called after people."""
_BY_HAND = frozenset({"assign", "assignments"})
_NOBODYS = frozenset({"references", "nobody"})
"""Words in place of a name: an album that was made of references is called so."""
_PLAIN = frozenset({"format", "verdict", "anchor", "facewright", "date", "sha256", "measured"})
"""Entries that never speak of people, whatever people are called."""


def in_pictures(receipts: str, *, names: bool = False) -> str:
    """The JSON of receipts as it goes into a PNG.

    Args:
        receipts: from `to_json`; blank for none.
        names: as it is, people's names with it.

    Raises:
        FacewrightError: it is something else.
    """
    if names or not receipts.strip():
        return receipts
    return json.dumps(unnamed(parse_json(receipts)), allow_nan=False)


def unnamed(content: dict[str, Any]) -> dict[str, Any]:
    """Receipts with "person 1", "person 2" in place of names, in the order of the faces.

    What files are called is not touched, whosever name that is.
    """
    known: dict[str, str] = {}
    _learn(content.get("faces"), known)
    _learn(content, known)
    return {key: _without(key, value, known) for key, value in content.items()}


def _learn(value: Any, known: dict[str, str]) -> None:
    """Number whoever is named somewhere."""
    if isinstance(value, list):
        for item in value:
            _learn(item, known)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in _WHO or key in _BY_NAME:
                for name in [item] if isinstance(item, str) else item or ():
                    if isinstance(name, str) and name not in _NOBODYS:
                        known.setdefault(name, f"person {len(known) + 1}")
            _learn(item, known)


def _without(key: str, value: Any, known: dict[str, str]) -> Any:
    if key in _BY_HAND:
        return None
    if isinstance(value, list):
        return [_without(key, item, known) for item in value]
    if isinstance(value, dict):
        by_name = key in _BY_NAME
        return {known.get(k, k) if by_name else k: _without(k, v, known) for k, v in value.items()}
    if not isinstance(value, str) or key in _PLAIN or not known:
        return value
    if key in _WHO:
        return known.get(value, value)
    if key == "name":  # of a file
        return value
    longest = sorted(filter(None, known), key=len, reverse=True)
    named = rf"(?<!\w)({'|'.join(map(re.escape, longest))})(?!\w)"
    return re.sub(named, lambda found: known[found[1]], value) if longest else value
