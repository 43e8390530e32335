"""What every section of a training config is made of, and the error that names a wrong one."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from ...core.errors import FacewrightError
from ...core.files.writing import expand_path


class ConfigError(FacewrightError):
    """The YAML file does not describe a run; the message names every wrong key."""


class Strict(BaseModel):
    """Base of every section: unknown keys are refused, values checked, nothing changes later.

    `yes` is no number and `.inf` none that can be computed with; paths may begin with `~` and hold
    `$VAR`.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        fields = cls.model_fields
        return {k: _read(k, v, fields[k].annotation) if k in fields else v
                for k, v in values.items()}  # fmt: skip


class Refused:
    """Stands for a value that cannot be taken, so that the field's own check fails and names it."""

    def __init__(self, value: Any, sentence: str) -> None:
        self.value, self.sentence = value, sentence

    def __repr__(self) -> str:
        return repr(self.value)


def _read(key: str, value: Any, annotation: Any) -> Any:
    kinds = set(_kinds(annotation))
    if kinds & {int, float} and not kinds & {bool, Any} and _holds_bool(value):
        return Refused(value, "should be a number, not yes, no, true or false")
    if key == "name" and isinstance(value, str) and not _is_file_name(value):
        return Refused(value, "should be the name of a file, without any folder")
    if Path not in kinds:
        return value
    try:
        return _expanded(value)
    except FacewrightError as error:
        return Refused(value, str(error).rstrip("."))


def _is_file_name(text: str) -> bool:
    return bool(text.strip(". ")) and text.isprintable() and not set(text) & set('/\\:*?<>|"')


def _kinds(annotation: Any) -> list[Any]:
    """The plain types that an annotation is made of."""
    parts = getattr(annotation, "__args__", None)
    return [kind for part in parts for kind in _kinds(part)] if parts else [annotation]


def _holds_bool(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, bool) or (
        isinstance(value, (list, tuple)) and any(map(_holds_bool, value))
    )


def _expanded(value: Any) -> Any:
    if isinstance(value, (str, Path)):
        return expand_path(value)
    return [_expanded(item) for item in value] if isinstance(value, (list, tuple)) else value
