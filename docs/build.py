"""Write what follows from the nodes' schemas: `python -m facewright.docs.build`.

That is the inputs and outputs in the help pages (web/docs, which ComfyUI shows beside the graph),
the node reference (docs/nodes.md) and the English texts that translations start from (locales/en).
The rest of a help page is written by hand and kept; a node without a page gets one to be filled in.
"""

import json
from collections import defaultdict
from pathlib import Path

from .. import headless  # noqa: F401 (runs the nodes)
from ..nodes import all_nodes
from ..nodes._host import io

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "web" / "docs"
LOCALES = ROOT / "locales"
REFERENCE = ROOT / "docs" / "nodes.md"
BEGIN = "<!-- From the schema: python -m facewright.docs.build -->"
END = "<!-- end -->"

_REFERENCE_HEAD = """# Nodes

Every node with its inputs and outputs, as the editor shows them. How to use a node, and what tends
to go wrong, stands on its help page: the link here, or the tab *Info* beside the editor's graph.

<!-- Written by python -m facewright.docs.build: change the schemas instead. -->"""

# In the order in which a graph is built; a category that is not named here comes after these.
CATEGORIES = {
    "load": "Load",
    "faces": "Faces",
    "people": "People",
    "conditioning": "Conditioning",
    "restore": "Restore",
    "guard": "Guard",
    "degrade": "Degrade",
    "score": "Score",
    "util": "Utilities",
}


def schemas() -> list[io.Schema]:
    """Of every node, in the order of the files' names."""
    return [node.GET_SCHEMA() for node in all_nodes()]


def english(schema: io.Schema) -> dict:
    """One node's entry of `nodeDefs.json`, as ComfyUI's own are made."""
    inputs = {i.id: {"name": i.id, "tooltip": i.tooltip} for i in schema.inputs}
    if any(getattr(i, "control_after_generate", None) for i in schema.inputs):
        inputs["control_after_generate"] = {"name": "control after generate"}
    outputs = {
        str(index): {"name": o.display_name or o.id, "tooltip": o.tooltip}
        for index, o in enumerate(schema.outputs)
    }
    texts = {"display_name": schema.display_name, "description": schema.description}
    return texts | {"inputs": inputs, "outputs": outputs}


def page(schema: io.Schema, text: str | None) -> str:
    """A help page with its lists renewed, or the beginnings of one where `text` is None.

    Raises:
        ValueError: the marks around the lists are gone.
    """
    if text is None:
        text = f"# {schema.display_name}\n\n{schema.description}\n\n{BEGIN}\n{END}\n"
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(
            f"web/docs/{schema.node_id}.md lacks the lines between which its sockets stand: "
            f"{BEGIN} and {END}. Put them back where the lists belong."
        )
    return f"{before}{BEGIN}\n{_lists(schema)}\n{END}{after}"


def reference() -> str:
    """docs/nodes.md: every node by category."""
    groups = defaultdict(list)
    for schema in schemas():
        groups[schema.category.removeprefix("facewright/")].append(schema)
    unknown = sorted(groups.keys() - CATEGORIES.keys())
    parts = [_REFERENCE_HEAD]
    for key in [k for k in CATEGORIES if k in groups] + unknown:
        parts.append(f"## {CATEGORIES.get(key, key)}")
        for schema in groups[key]:
            parts.append(
                f"### {schema.display_name}\n\n{schema.description}\n\n"
                f"`{schema.node_id}` · [help page](../web/docs/{schema.node_id}.md)\n\n"
                f"{_tables(schema)}"
            )
    return "\n\n".join(parts) + "\n"


def made() -> dict[Path, str]:
    """Every file that is written here, and what belongs in it."""
    files = {REFERENCE: reference()}
    for schema in schemas():
        path = PAGES / f"{schema.node_id}.md"
        files[path] = page(schema, path.read_text("utf-8") if path.exists() else None)
    texts = {schema.node_id: english(schema) for schema in schemas()}
    files[LOCALES / "en" / "nodeDefs.json"] = json.dumps(texts, indent=2, ensure_ascii=False) + "\n"
    return files


def main() -> list[Path]:
    """Write what is not up to date, and say which files."""
    written = []
    for path, text in made().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            written.append(path)
    return written


def _sockets(schema: io.Schema) -> dict[str, list[tuple[str, str, str]]]:
    """Name, values and text of the inputs and of the outputs, where there are any."""
    sockets = {
        "Inputs": [(i.id, _values(i), i.tooltip) for i in schema.inputs],
        "Outputs": [(o.display_name or o.id, o.io_type, o.tooltip) for o in schema.outputs],
    }
    return {title: rows for title, rows in sockets.items() if rows}


def _lists(schema: io.Schema) -> str:
    """For the editor's help panel, which is too narrow for a table."""
    parts = []
    for title, rows in _sockets(schema).items():
        lines = [f"* **{name}** ({values})<br>{_one_line(text)}" for name, values, text in rows]
        parts.append(f"## {title}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _tables(schema: io.Schema) -> str:
    parts = []
    for title, rows in _sockets(schema).items():
        lines = [(title.lower(), "values" if title == "Inputs" else "type", ""), ("---",) * 3]
        lines += [(f"**{name}**", values, _one_line(text)) for name, values, text in rows]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts)


def _one_line(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")


def _values(i: io.Input) -> str:
    """What an input takes, and what it is at first."""
    if not i.has_widget:
        return f"{i.io_type}, optional" if i.optional else i.io_type
    if i.io_type == "COMBO":
        return "a file" if getattr(i, "of_files", False) else _options(i)
    if i.io_type == "BOOLEAN":
        return f"on or off; default {'on' if i.default else 'off'}"
    if i.io_type in ("INT", "FLOAT"):
        step = f", steps of {i.step}" if i.io_type == "FLOAT" and i.step else ""
        return f"{_number(i.min)} to {_number(i.max)}{step}; default {_number(i.default)}"
    return f"text; default `{i.default}`" if i.default else "text"


def _options(combo: io.Combo.Input) -> str:
    rest = [f"`{option}`" for option in combo.options if option != combo.default]
    return ", ".join([f"`{combo.default}` (default)", *rest])


def _number(value: float) -> str:
    return "2^64 - 1" if value == 2**64 - 1 else f"{value:g}"


if __name__ == "__main__":
    main()
