"""Write what follows from the nodes' schemas: `python -m facewright.docs.build`.

That is the inputs and outputs in the help pages (web/docs, which ComfyUI shows beside the graph),
the node reference (docs/nodes.md) and the English texts that translations start from (locales/en).
The rest of a help page is written by hand and kept; a node without a page gets one to be filled in.

A page in another language (web/docs/<NodeId>/<language>.md; an empty file is filled in) takes names
and texts of sockets from locales/, and its last line tells which English text was translated. Where
that has changed, bring the page up to date and take the line out: a new one is written.
"""

import json
import zlib
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from .. import headless  # noqa: F401 (runs the nodes)
from ..nodes import all_nodes
from ..nodes._host import io
from .languages import ENGLISH, LANGUAGES, Words

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "web" / "docs"
LOCALES = ROOT / "locales"
REFERENCE = ROOT / "docs" / "nodes.md"
BEGIN = "<!-- From the schema: python -m facewright.docs.build -->"
END = "<!-- end -->"
TRANSLATED = "<!-- Translated from {} -->"

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


def page(schema: io.Schema, text: str | None, language: str = "en") -> str:
    """A help page with title and lists renewed, or the beginnings of one where `text` is None.

    Raises:
        ValueError: the marks around the lists are gone.
    """
    texts = texts_in(language)[schema.node_id]
    text = text or f"#\n\n{texts['description']}\n\n{BEGIN}\n{END}\n"
    before, begin, rest = text.partition("\n")[2].partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(
            f"{page_path(schema.node_id, language).relative_to(ROOT)} lacks the lines between "
            f"which its sockets stand: {BEGIN} and {END}. Put them back where the lists belong."
        )
    lists = _lists(schema, texts, LANGUAGES[language])
    return f"# {texts['display_name']}\n{before}{BEGIN}\n{lists}\n{END}{after}"


def page_path(node_id: str, language: str = "en") -> Path:
    """Where the editor looks for a help page; the English one stands for all that are not there."""
    return PAGES / (f"{node_id}.md" if language == "en" else f"{node_id}/{language}.md")


def translated(english_page: str) -> str:
    """The last line of a translation of this English page: it changes with what is by hand."""
    before, _, rest = english_page.partition("\n")[2].partition(BEGIN)
    by_hand = before + rest.partition(END)[2]
    return TRANSLATED.format(f"{zlib.crc32(by_hand.encode()):08x}")


def texts_in(language: str) -> dict[str, dict]:
    """The nodes' entries of `nodeDefs.json`."""
    if language == "en":
        return {schema.node_id: english(schema) for schema in schemas()}
    return json.loads((LOCALES / language / "nodeDefs.json").read_text("utf-8"))


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
        path = page_path(schema.node_id)
        text = page(schema, path.read_text("utf-8") if path.exists() else None)
        # Editors ask for English by its name first: not there, that is an error in the console.
        files[path] = files[PAGES / schema.node_id / "en.md"] = text
        for language in LANGUAGES.keys() - {"en"}:
            path = page_path(schema.node_id, language)
            if path.exists():
                there = page(schema, path.read_text("utf-8"), language)
                mark = "" if TRANSLATED.partition("{")[0] in there else f"\n{translated(text)}\n"
                files[path] = there + mark
    texts = json.dumps(texts_in("en"), indent=2, ensure_ascii=False) + "\n"
    files[LOCALES / "en" / "nodeDefs.json"] = texts
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


class _Socket(NamedTuple):
    id: str
    name: str
    values: str
    text: str


def _sockets(schema: io.Schema, texts: dict, words: Words) -> dict[str, list[_Socket]]:
    """The inputs and the outputs by their headings, where there are any."""
    given, made = texts["inputs"], [texts["outputs"][str(i)] for i in range(len(schema.outputs))]
    sockets = {
        words.inputs: [
            _Socket(i.id, given[i.id]["name"], _values(i, words), given[i.id]["tooltip"])
            for i in schema.inputs
        ],
        words.outputs: [
            _Socket(o.display_name or o.id, text["name"], o.io_type, text["tooltip"])
            for o, text in zip(schema.outputs, made, strict=True)
        ],
    }
    return {title: rows for title, rows in sockets.items() if rows}


def _lists(schema: io.Schema, texts: dict, words: Words) -> str:
    """For the editor's help panel, which is too narrow for a table."""
    parts = []
    for title, rows in _sockets(schema, texts, words).items():
        lines = [words.line.format(**r._replace(text=_one_line(r.text))._asdict()) for r in rows]
        parts.append(f"## {title}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _tables(schema: io.Schema) -> str:
    parts = []
    for title, rows in _sockets(schema, english(schema), ENGLISH).items():
        lines = [(title.lower(), "values" if title == "Inputs" else "type", ""), ("---",) * 3]
        lines += [(f"**{row.name}**", row.values, _one_line(row.text)) for row in rows]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts)


def _one_line(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")


def _values(i: io.Input, words: Words) -> str:
    """What an input takes, and what it is at first."""
    if not i.has_widget:
        return words.comma.join([i.io_type, words.optional] if i.optional else [i.io_type])
    if i.io_type == "COMBO":
        return words.file if getattr(i, "of_files", False) else _options(i, words)
    takes, default = words.text, f"`{i.default}`" if i.default else ""
    if i.io_type == "BOOLEAN":
        takes, default = words.toggle, words.on if i.default else words.off
    elif i.io_type in ("INT", "FLOAT"):
        takes, default = words.numbers.format(_number(i.min), _number(i.max)), _number(i.default)
        if i.io_type == "FLOAT" and i.step:
            takes += words.comma + words.steps.format(i.step)
    return words.then.join([takes, words.default.format(default)] if default else [takes])


def _options(combo: io.Combo.Input, words: Words) -> str:
    rest = [f"`{option}`" for option in combo.options if option != combo.default]
    return words.comma.join([words.chosen.format(combo.default), *rest])


def _number(value: float) -> str:
    return "2^64 - 1" if value == 2**64 - 1 else f"{value:g}"


if __name__ == "__main__":
    main()
