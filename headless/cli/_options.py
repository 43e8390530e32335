"""Options of a command in groups: a parameter that is a dataclass stands for one option per field.

A field is declared where it belongs: with `core.options.option` where Python and nodes take it,
too, or as `Annotated[type, typer.Option(...)]` where only the command line knows it. A field with
neither is no option and keeps its default.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, get_origin

import typer

from ...core.errors import FacewrightError
from ...core.options import Option


def grouped(command: Callable) -> Callable:
    """Let typer see an option for each field of the dataclasses that a command takes.

    The command gets the dataclasses made of what was given; a value that one refuses is wrong
    usage. Stands below `@app.command()`.
    """
    own = inspect.signature(command, eval_str=True).parameters
    kinds = {name: p.annotation for name, p in own.items() if isinstance(p.annotation, type)}
    groups = {name: kind for name, kind in kinds.items() if is_dataclass(kind)}
    seen = [
        q for name, p in own.items() for q in (_of_group(groups[name]) if name in groups else [p])
    ]

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        for name, group in groups.items():
            mine = {p.name: given.pop(p.name) for p in _of_group(group)}
            try:
                given[name] = group(**mine)
            except FacewrightError as error:
                raise typer.BadParameter(str(error)) from error
        return command(**given)

    del run.__wrapped__  # or typer would look at the command itself
    seen_last = [p.replace(kind=p.KEYWORD_ONLY) for p in seen]
    vars(run)["__signature__"] = inspect.Signature(seen_last)
    run.__annotations__ = {p.name: p.annotation for p in seen}
    return run


def _of_group(group: type) -> Iterator[inspect.Parameter]:
    for field in fields(group):
        annotation = _annotation(field)
        if annotation is not None:
            default = field.default
            if default is MISSING:
                made = field.default_factory
                default = inspect.Parameter.empty if made is MISSING else made()
            yield inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
            )


def _annotation(field: Field) -> Any:
    """What typer reads of a field; None where it is no option."""
    option: Option | None = field.metadata.get("option")
    if option is None:
        return field.type if get_origin(field.type) is Annotated else None
    if option.choices:
        about = typer.Option(
            metavar="|".join(option.choices), callback=_chosen(option.choices), help=option.help
        )
    elif field.type is bool and not field.default:
        about = typer.Option(f"--{field.name.replace('_', '-')}", help=option.help)
    else:
        about = typer.Option(min=option.low, max=option.high, help=option.help)
    kind = list[str] if field.type == tuple[str, ...] else field.type
    return Annotated[kind, about]


def _chosen(choices: tuple[str, ...]) -> Callable[[str | None], str | None]:
    def check(value: str | None) -> str | None:
        if value is not None and value not in choices:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(choices)}.")
        return value

    return check
