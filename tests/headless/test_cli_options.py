"""Every option of the command line keeps its name, default and range: scripts rely on them.

`cli_options.json` is what has been published, and only grows. To add new options to it:
`python tests/headless/test_cli_options.py`.
"""

import json
from pathlib import Path

import typer
from facewright.headless.cli import app

PUBLISHED = Path(__file__).with_name("cli_options.json")


def commands(command, name=""):
    found = getattr(command, "commands", None)
    if not found:
        return {name.strip(): command}
    return {k: v for n, c in found.items() for k, v in commands(c, f"{name} {n}").items()}


def about(parameter):
    kind = getattr(parameter, "type", None)  # where typer builds on click
    default = parameter.default
    return {
        "names": sorted([*parameter.opts, *parameter.secondary_opts]),
        "default": default if isinstance(default, bool | int | float | None) else str(default),
        "limits": [getattr(parameter, end, getattr(kind, end, None)) for end in ("min", "max")],
        "required": parameter.required,
        "takes": "many" if parameter.nargs == -1 or parameter.multiple else parameter.nargs,
        "flag": bool(getattr(parameter, "is_flag", False)),
    }


def offered():
    found = sorted(commands(typer.main.get_command(app)).items())
    return {name: {max(p.opts, key=len): about(p) for p in c.params} for name, c in found}


def test_what_was_published_is_offered():
    now = offered()
    for command, options in json.loads(PUBLISHED.read_text()).items():
        for name, option in options.items():
            here = now[command][name]
            assert set(option["names"]) <= set(here["names"]), (command, name)
            assert here | {"names": option["names"]} == option, (command, name)


def test_what_is_offered_is_on_record():
    published = json.loads(PUBLISHED.read_text())
    new = {c: set(options) - set(published.get(c, ())) for c, options in offered().items()}
    assert not any(new.values()), f"Run this file to put them on record: {new}"


if __name__ == "__main__":
    record = json.loads(PUBLISHED.read_text()) if PUBLISHED.is_file() else {}
    for command, options in offered().items():
        record[command] = options | record.get(command, {})
    rows = {
        command: ",\n".join(f"  {json.dumps(name)}: {json.dumps(o[name])}" for name in o)
        for command, o in sorted(record.items())
    }
    text = ",\n".join(f" {json.dumps(c)}: {{\n{lines}\n }}" for c, lines in rows.items())
    PUBLISHED.write_text(f"{{\n{text}\n}}\n", newline="\n")
