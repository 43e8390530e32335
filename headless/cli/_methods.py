"""Options that methods bring along: whichever `core.methods` declares, under their own names."""

import functools
import inspect
from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from ...core.options import Option
from ._common import fail, wrong_usage

_GIVEN = "facewright.method"


class MethodCommand(TyperCommand):
    """A command with a `--weights` that names a method, and the options of all methods.

    What methods there are is only looked up when the command runs or shows its help: that imports
    torch.
    """

    def get_params(self, ctx: typer.Context) -> list[Any]:
        params = super().get_params(ctx)
        for param in params:
            if isinstance(param, TyperOption) and param.name == "weights":
                param.help = _described()
        *own, last = params  # --help comes last
        return [*own, *_method_params(), last]

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        names = {param.name for param in _method_params()}
        given = {name: ctx.params.pop(name) for name in names & ctx.params.keys()}
        ctx.meta[_GIVEN] = {name: value for name, value in given.items() if value is not None}
        return rest


def method_options(ctx: typer.Context, name: str) -> Any:
    """The method's own options as they were given, None without any.

    Ends with exit code 2 where it has no such options.
    """
    from ...core.methods import spec_of
    from ...core.options import options_of

    given, kind = ctx.meta[_GIVEN], spec_of(name).options
    for option in sorted(given.keys() - options_of(kind).keys()):
        flag = f"--{option.replace('_', '-')}"
        fail(f"{flag} is for {' or '.join(_fields()[option])}, and {name} has no such option.", 2)
    if kind is None or not given:
        return None
    with wrong_usage():
        return kind(**given)


def _fields() -> dict[str, dict[str, Field]]:
    """Options of methods: the field that declares one, for each method that has it."""
    from ...core.methods import specs

    found: dict[str, dict[str, Field]] = {}
    for name, spec in specs().items():
        for field in fields(spec.options) if spec.options else ():
            if "option" in field.metadata:
                found.setdefault(field.name, {})[name] = field
    return found


@functools.cache
def _method_params() -> Sequence[Any]:
    """Of all methods together; None where one is not given."""
    shown = []
    for name, declared in _fields().items():
        field = next(iter(declared.values()))
        option: Option = field.metadata["option"]
        defaults = ", ".join(
            f"{f.default!r} ({of})" for of, f in declared.items() if f.default is not None
        )
        about = typer.Option(
            metavar="|".join(option.choices) or None,
            help=f"{option.help} Default: {defaults}." if defaults else option.help,
            rich_help_panel=f"Only with --weights {' or '.join(declared)}",
        )
        kind = Annotated[field.type | None, about]
        shown.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        )

    def method(**given: Any) -> None:
        """Never called: typer makes the options of its signature."""

    method.__signature__ = inspect.Signature(shown)
    method.__annotations__ = {p.name: p.annotation for p in shown}
    app = typer.Typer(add_completion=False)
    app.command()(method)
    return [p for p in typer.main.get_command(app).params if p.name in _fields()]


def _described() -> str:
    from ...core.methods import DEFAULT, DEFAULT_WITH_PEOPLE, specs

    known = "; ".join(f"{name}, {spec.help}" for name, spec in specs().items())
    return f"{known}. By default {DEFAULT}, with --person or --reference {DEFAULT_WITH_PEOPLE}."
