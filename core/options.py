"""What a person may choose, declared once: the field of a dataclass says value, range and meaning.

The command line, a node and Python take theirs from there. Nothing heavy is imported here: --help
reads the declarations, too.
"""

from dataclasses import dataclass, field, fields
from typing import Any

from .errors import FacewrightError, shorten


@dataclass(frozen=True, kw_only=True)
class Option:
    """What is known of an option beyond its name, its type and its default."""

    help: str
    """A sentence for people."""
    low: float | None = None
    high: float | None = None
    step: float | None = None
    """Between the values of a widget."""
    choices: tuple[str, ...] = ()
    """All that a text may be; empty: anything."""

    def problem(self, name: str, value: Any) -> str:
        """A sentence on a value that cannot be meant; empty where it can."""
        if self.choices:
            fits, wanted = value in self.choices, f"one of {', '.join(self.choices)}"
        elif self.low is None and self.high is None:
            return ""
        else:
            # A comparison with NaN is false.
            fits = isinstance(value, int | float) and (
                (self.low is None or value >= self.low)
                and (self.high is None or value <= self.high)
            )
            wanted = (
                f"at least {self.low}" if self.high is None else f"from {self.low} to {self.high}"
            )
        return "" if fits else f"`{name}` should be {wanted}; came {shorten(repr(value), 60)}."


def option(default: Any, text: str, **more: Any) -> Any:
    """A dataclass field that people may set; `more` are further attributes of `Option`."""
    return field(default=default, metadata={"option": Option(help=text, **more)})


def same_option(cls: type, name: str) -> Any:
    """A dataclass field that another dataclass declares as `name`."""
    (known,) = (f for f in fields(cls) if f.name == name)
    return field(default=known.default, metadata=known.metadata)


def options_of(cls: type | None) -> dict[str, Option]:
    """Fields of a dataclass that were declared with `option`, in their order; of None, none."""
    found = fields(cls) if cls else ()
    return {f.name: f.metadata["option"] for f in found if "option" in f.metadata}


def check_options(given: Any) -> None:
    """Raise FacewrightError where a value of a dataclass is out of its range.

    None is taken where it is the default.
    """
    problems = []
    for f in fields(given):
        value = getattr(given, f.name)
        if "option" in f.metadata and not (value is None and f.default is None):
            problems.append(f.metadata["option"].problem(f.name, value))
    if any(problems):
        raise FacewrightError(" ".join(filter(None, problems)))
