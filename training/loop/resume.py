"""What a config may change when a run is resumed: each key is honoured, or refused by name.

A key is honoured where the rest of the run is really trained with its new value, which the run's
record then tells with the step. Everything else decides what has been learnt already (the data's
split, networks, initial weights), and a record with its new value would not be true.
"""

import fnmatch
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from ...core.errors import shorten
from ...core.files.writing import content_hash
from ..settings.strict import ConfigError

HONOURED = (
    "output", "budget", "budget.*", "batch_size", "accumulate", "total_batch", "precision", "cpu",
    "threads",
    "channels_last", "frozen_precision", "gradient_checkpointing", "cache", "cache.*", "compile",
    "ema", "log_every", "trackers", "validate_every", "validate_images", "grid_images",
    "checkpoint_every", "keep_last", "data.workers", "data.cache",
    *(f"optimizers.*.{key}" for key in ("lr", "muon_lr", "betas", "weight_decay", "muon_momentum",
                                        "clip", "warmup", "schedule", "floor")),
)  # fmt: skip
"""Patterns of keys that may change, `budget.*` all within a section; a recipe has its own."""

_REQUIRED = object()
Change = tuple[str, Any, Any]
"""Key, value before, value now."""


def settings_of(config: BaseModel, recipe: BaseModel) -> dict[str, Any]:
    """Every key of a run's config with its value, as a checkpoint keeps it: plain data."""
    return dict([*_leaves(config, "", skip="recipe"), *_leaves(recipe, "recipe.")])


def defaults_of(config: BaseModel, recipe: BaseModel) -> dict[str, Any]:
    """The default of every key of `settings_of` that has one."""
    found = [*_leaves(config, "", skip="recipe", default=True),
             *_leaves(recipe, "recipe.", default=True)]  # fmt: skip
    return {key: value for key, value in found if value is not _REQUIRED}


def _leaves(
    section: BaseModel, start: str, skip: str = "", *, default: bool = False
) -> Iterator[tuple[str, Any]]:
    plain = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        value, key = getattr(section, name), f"{start}{name}"
        if name == skip:
            continue
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{key}.", default=default)
        elif isinstance(value, Mapping) and any(isinstance(v, BaseModel) for v in value.values()):
            for part, inner in value.items():
                yield from _leaves(inner, f"{key}.{part}.", default=default)
        elif not default:
            yield key, plain[name]
        else:
            given = (
                _REQUIRED if field.is_required() else field.get_default(call_default_factory=True)
            )
            yield key, given if given is _REQUIRED else to_jsonable_python(given)


def check_changes(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    changeable: Iterable[str],
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> list[Change]:
    """What a resumed run does otherwise from here on.

    Args:
        changeable: of the recipe.
        defaults: see `defaults_of`. A key that a run of an older version does not know had this
            value there, as a config without it goes on to mean what it meant.

    Raises:
        ConfigError: a key has changed that a resumed run cannot honour; all are named.
    """
    changes = list(_changes(before, now, defaults))
    patterns = (*HONOURED, *(f"recipe.{pattern}" for pattern in changeable))
    refused = [change for change in changes if not _honoured(patterns, *change)]
    if refused:
        lines = [f"  {key}: {_shown(old)} before, {_shown(new)} now" for key, old, new in refused]
        raise ConfigError(
            "A run cannot be resumed with other values of what has already shaped it:\n"
            + "\n".join(lines)
            + "\nGive the values of before, as in config.yaml of the run's folder, or begin a new "
            "run with another `output`."
        )
    return changes


def _changes(
    before: Mapping[str, Any], now: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Iterator[Change]:
    if before.get("data.source") != now.get("data.source"):  # its other keys are others, then
        yield "data.source", before.get("data.source"), now.get("data.source")
        before = {k: v for k, v in before.items() if not k.startswith("data.")}
        now = {k: v for k, v in now.items() if not k.startswith("data.")}
    for key in dict.fromkeys([*before, *now]):
        if key in before and key in now:
            if before[key] != now[key] and not _moved(key, before[key], now[key]):
                yield key, before[key], now[key]
        elif _section_came_or_went(key, before, now):
            yield key, before.get(key), now.get(key)
        elif key in now and key in defaults and now[key] != defaults[key]:
            yield key, defaults[key], now[key]


def _section_came_or_went(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a key is on one side alone for its section, and not for another version of this."""
    other = now if key in before else before
    section = key.rpartition(".")[0]
    if section in other:
        return True
    return bool(section) and not any(k.startswith(f"{section}.") for k in other)


def _moved(key: str, old: Any, new: Any) -> bool:
    """Whether two paths are of one file or folder that lies elsewhere now."""
    read = key.startswith(("recipe.", "data.", "off_shelf."))
    if not (read and isinstance(old, str) and isinstance(new, str)):
        return False
    a, b = Path(old), Path(new)
    if a.name != b.name or not b.exists():
        return False
    if a.is_file() and b.is_file():
        return content_hash(a) == content_hash(b)
    return not a.exists() or a.resolve() == b.resolve()


def _honoured(patterns: tuple[str, ...], key: str, old: Any, new: Any) -> bool:
    if key.startswith("recipe.weights.") and not (old and new):
        return False  # a term of the loss, with its networks, would come or go
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)


def _shown(value: Any) -> str:
    return "nothing" if value is None else shorten(value, 120)
