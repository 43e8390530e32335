"""Pages of the site that follow from the code: command line from typer, Python from docstrings."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from ..headless.cli import app

ROOT = Path(__file__).parents[1]
PACKAGES = ("core", "headless", "training")
APART = {"headless.cli"}
"""What scripts import; nodes and commands have references of their own."""

_TOGETHER = re.compile(r"(?m)^( {8,})(\w+(?:, \w+)+): ((?:.*\n)(?:\1 +.*\n)*)")


def command_line() -> dict[str, str]:
    """Return each command of `facewright` with its page; the commands of a group share one."""
    commands = dict(typer.main.get_command(app).commands)
    return {name: _command(name, command) for name, command in sorted(commands.items())}


def python(root: Path = ROOT) -> dict[str, str]:
    """Return each folder of the package, such as `core.faces`, with its page.

    A page lists the folder's public modules; mkdocstrings puts their docstrings there.
    """
    pages = {}
    for package in PACKAGES:
        for folder in [root / package, *sorted((root / package).rglob("*/"))]:
            modules = sorted(p.stem for p in folder.glob("*.py") if p.stem[0] != "_")
            name = ".".join(folder.relative_to(root).parts)
            if not modules or name in APART:
                continue
            entries = [f"::: facewright.{name}.{module}\n" for module in modules]
            pages[name] = "\n".join([f"# {name}\n", *entries])
    return pages


def with_parameters_apart(source: str) -> str:
    """Return source text whose docstrings describe one parameter an entry.

    Ours say `a, b: (n, 3) in [0, 1]` of two alike; mkdocstrings would take that for one name.
    """

    def apart(entry: re.Match) -> str:
        indent, names, rest = entry.groups()
        return "".join(f"{indent}{name}: {rest}" for name in names.split(", "))

    lines = source.splitlines(keepends=True)
    texts = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    for text in sorted(texts, key=lambda node: -node.lineno):  # what comes earlier keeps its place
        if isinstance(text.value, str) and "\n" in text.value:
            part = slice(text.lineno - 1, text.end_lineno)
            lines[part] = [_TOGETHER.sub(apart, "".join(lines[part]))]
    return "".join(lines)


def _command(name: str, command: Any, level: int = 1) -> str:
    words = " ".join(filter(None, (_argument(p) for p in _parameters(command))))
    usage = f"facewright {name} {words}".rstrip()
    parts = [f"{'#' * level} {name}", (command.help or "").strip(), f"```text\n{usage}\n```"]
    for sub, inner in getattr(command, "commands", {}).items():
        if sub == next(iter(command.commands)):
            parts[2] = f"```text\nfacewright {name} COMMAND ...\n```"
        parts.append(_command(f"{name} {sub}", inner, level + 1))
    for title, rows in _options(command):
        parts.append(f"**{title}**\n\n| | takes | default | |\n|---|---|---|---|\n" + rows)
    return "\n\n".join(filter(None, parts)) + "\n"


def _parameters(command: Any) -> list[Any]:
    """Return what `--help` lists, options of methods included, but for `--help` itself."""
    shown = command.get_params(typer.Context(command))
    return [p for p in shown if p.name != "help" and not getattr(p, "hidden", False)]


def _argument(parameter: Any) -> str:
    """Return how a required parameter stands in the usage line, and nothing for the others."""
    if parameter.opts[0].startswith("-"):
        return f"{parameter.opts[0]} {parameter.name.upper()}" if parameter.required else ""
    name = parameter.name.upper() + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _options(command: Any) -> Iterator[tuple[str, str]]:
    """Yield the panels that `--help` shows, each with its rows of a table."""
    panels: dict[str, list[str]] = {}
    for parameter in _parameters(command):
        option = parameter.opts[0].startswith("-")
        title = getattr(parameter, "rich_help_panel", None) or (
            "Options" if option else "Arguments"
        )
        names = [*parameter.opts, *parameter.secondary_opts] if option else [parameter.name.upper()]
        cells = (
            ", ".join(f"`{name}`" for name in names),
            _takes(parameter),
            _default(parameter),
            (parameter.help or "") + _limits(parameter),
        )
        row = " | ".join(_cell(cell) for cell in cells)
        panels.setdefault(title, []).append(f"| {row} |")
    for title, rows in panels.items():
        yield title, "\n".join(rows)


def _takes(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return ""
    many = ", repeatable" if getattr(parameter, "multiple", False) else ""
    if parameter.metavar:
        return f"`{parameter.metavar}`{many}"
    kind = getattr(parameter, "type_descriptor", None)  # typer without click
    annotation = kind.annotation if kind else parameter.type.name
    name = getattr(annotation, "__name__", str(annotation))
    if getattr(annotation, "__args__", None):
        name = getattr(annotation.__args__[0], "__name__", name)
    words = {"str": "text", "int": "whole number", "float": "number", "integer": "whole number"}
    return words.get(name, name).lower() + many


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    default = parameter.default
    if default is None or default == () or default == [] or callable(default):
        return ""
    if isinstance(default, bool):
        return "on" if default else ""
    return f"`{default}`"


def _limits(parameter: Any) -> str:
    kind = getattr(parameter, "type", None)
    low, high = (getattr(parameter, end, getattr(kind, end, None)) for end in ("min", "max"))
    if low is None and high is None:
        return ""
    if high is None:
        return f" At least {low:g}."
    return f" At most {high:g}." if low is None else f" {low:g} to {high:g}."


def _cell(text: str) -> str:
    plain = text.replace("|", "\\|").replace("\n", "<br>")
    return plain if "`" in text else plain.replace("*", "\\*").replace("_", "\\_")
