"""Paths on the command line: `~` and variables, for every option of every command."""

from pathlib import Path
from typing import get_type_hints

import pytest
import typer
from facewright.headless.cli import app
from typer.testing import CliRunner


def commands(command, name=""):
    found = getattr(command, "commands", None)
    if not found:
        return {name.strip(): command}
    return {k: v for n, c in found.items() for k, v in commands(c, f"{name} {n}").items()}


COMMANDS = commands(typer.main.get_command(app))
NAMES = {
    "album",
    "batch",
    "boosthub",
    "config",
    "inputs",
    "lora",
    "more",
    "person",
    "recogniser",
    "reference",
}
"""Options that may be paths and are read as text."""

MUST_BE_FILES = {
    ("degrade", "recipe"),
    ("doctor", "ca_file"),
    ("evaluate", "scores"),
    ("restore", "assignments"),
    ("run", "ca_file"),
    ("split", "names"),
}


def holds_path(hint):
    return hint is Path or any(map(holds_path, getattr(hint, "__args__", ())))


OPTIONS = [
    (name, parameter)
    for name, command in COMMANDS.items()
    for parameter, hint in get_type_hints(command.callback).items()
    if holds_path(hint) or (parameter in NAMES and hint is not bool)
]


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    (folder / "there").mkdir(parents=True)
    for name in ("HOME", "USERPROFILE", "MINE"):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_every_path_is_expanded(home, name, option):
    command = COMMANDS[name]
    parameter = next(p for p in command.params if p.name == option)
    for given in ("~/there", "$MINE/there", "${MINE}/there"):
        if (name, option) in MUST_BE_FILES:
            (home / "there").rmdir() if (home / "there").is_dir() else None
            (home / "there").touch()
        filler = "." if (name, option) in MUST_BE_FILES else "there"
        argument = parameter.param_type_name == "argument"
        others = [
            text
            for p in command.params
            if p.required and p is not parameter
            for text in ([] if p.param_type_name == "argument" else [p.opts[-1]])
            + [filler if getattr(p, "min", None) is None else str(p.min)]
        ]
        mine = [given] if argument else [f"{max(parameter.opts, key=len)}={given}"]
        # Positions are filled in their order.
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        first = argument and parameter is arguments[0]
        context = command.make_context(name, mine + others if first else others + mine)
        found = context.params[option]
        found = found[0] if isinstance(found, (list, tuple)) else found
        assert Path(found) == home / "there", given


def test_what_cannot_be_expanded_is_a_sentence(home, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for given, words in (("$NOPE/x", "not set"), ("", "is no path"), ("~nobody-here/x", "home")):
        result = CliRunner().invoke(app, ["restore", "there", "-o", given])
        assert result.exit_code == 2 and words in result.stderr, given


def test_relative_paths_and_files_really_called_so_keep_their_meaning(home):
    (home / "$x").mkdir()
    parse = COMMANDS["restore"].make_context
    assert parse("restore", ["*.png", "-o", "out/./a"]).params["out"] == Path("out/a")
    context = parse("restore", ["a*.png", "$x", "-o", "$x"])
    assert context.params["out"] == Path("$x") and list(context.params["inputs"]) == [
        "a*.png",
        "$x",
    ]
