"""Help pages and node reference against the nodes: nothing missing, nothing out of date."""

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest
from facewright.docs.build import LOCALES, PAGES, ROOT, made, page, schemas
from facewright.docs.pictures import COUNTERPART, SHOWN, THUMBNAILS
from PIL import Image

SCHEMAS = schemas()
IDS = [schema.node_id for schema in SCHEMAS]
# ComfyUI's own nodes that the pages name, by their English titles.
CORE_NODES = json.loads((Path(__file__).parent / "core_nodes.json").read_text("utf-8")).keys()


def text_of(schema):
    return (PAGES / f"{schema.node_id}.md").read_text("utf-8")


@cache
def sentences():
    """Every text in the sources that may become part of a message, f-strings in their pieces."""
    texts = []
    for folder in ("core", "nodes"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return "\n".join(texts)


def test_pages_reference_and_english_texts_are_what_the_schemas_say():
    stale = [
        str(path.relative_to(ROOT))
        for path, text in made().items()
        if not path.exists() or path.read_text("utf-8") != text
    ]
    assert stale == [], "run python -m facewright.docs.build"


def test_there_is_a_page_for_every_node_and_for_nothing_else():
    assert sorted(path.stem for path in PAGES.glob("*.md")) == sorted(IDS)


@pytest.mark.parametrize("schema", SCHEMAS, ids=IDS)
def test_a_page_says_what_no_schema_can(schema):
    text = text_of(schema)
    assert text.startswith(f"# {schema.display_name}\n\n")
    introduction = text.split("\n\n")[1]
    assert introduction.replace("\n", " ") != schema.description, "say it to an artist"
    assert "\n## In a graph\n" in text
    for socket in [*schema.inputs, *schema.outputs]:
        assert f"\n* **{socket.display_name or socket.id}** (" in text


@pytest.mark.parametrize("schema", SCHEMAS, ids=IDS)
def test_pages_name_nodes_and_sockets_that_exist(schema):
    text = text_of(schema)
    names = {s.display_name for s in SCHEMAS}
    titles = CORE_NODES | names | {name.partition(" (")[0] for name in names}
    emphasised = re.findall(r"(?<!\*)\*([A-Z][^*]*)\*(?!\*)", text)
    assert {" ".join(name.split()) for name in emphasised} <= titles | {"Nothing found"}
    sockets = {socket.id for s in SCHEMAS for socket in [*s.inputs, *s.outputs]}
    words = set(re.findall(r"`([a-z]+_[a-z_]+)`", text))
    assert words <= sockets | {"facewright_receipts"}
    for mentioned in re.findall(r"`workflows/(\w+\.json)`", text):
        assert (ROOT / "workflows" / mentioned).exists()


@pytest.mark.parametrize("schema", SCHEMAS, ids=IDS)
def test_quoted_messages_are_in_the_sources(schema):
    for quoted in re.findall(r'^\* \*\*"(.+?)"\*\*', text_of(schema), re.MULTILINE):
        assert quoted in sentences()


def test_pictures_exist_and_are_used_and_stay_small():
    used = {
        picture
        for schema in SCHEMAS
        for picture in re.findall(r"!\[[^\]]+\]\((images/[^)]+)\)", text_of(schema))
    }
    there = {f"images/{path.name}" for path in (PAGES / "images").iterdir()}
    assert used == there
    assert sum(path.stat().st_size for path in (PAGES / "images").iterdir()) < 2 * 2**20
    for name in used:
        with Image.open(PAGES / name) as picture:
            assert max(picture.size) <= 640


def test_what_is_written_by_hand_survives_and_lost_marks_are_named():
    schema = SCHEMAS[0]
    text = text_of(schema)
    mine = text.replace("In a graph\n", "In a graph\n\nMine.")
    spoilt = re.sub(r"\* \*\*\w+\*\* \(.*\n", "", mine)
    assert spoilt != mine
    assert page(schema, spoilt) == mine
    with pytest.raises(ValueError, match=f"{schema.node_id}.md lacks the lines"):
        page(schema, "# Nothing here\n")


def test_the_folder_that_comfyui_serves_holds_pages_and_our_scripts_alone():
    served = {path for path in (ROOT / "web").rglob("*") if path.is_file()}
    scripts = {path for path in served if path.parent == ROOT / "web" / "js"}
    assert {path.suffix for path in scripts} == {".js"}
    assert {path.suffix for path in served - scripts} == {".md", ".jpg"}
    assert Path(LOCALES) == ROOT / "locales"


def test_what_the_pictures_show_is_in_the_workflows():
    for make in {**SHOWN, **THUMBNAILS}:
        sheets = [*SHOWN.get(make, {}).values(), *filter(None, [THUMBNAILS.get(make)])]
        asked = {title for _, shown in sheets for title, *_ in shown}
        assert asked <= {node["_meta"]["title"] for node in make().api().values()}, make.__name__
    assert not COUNTERPART.keys() & {make.__name__ for make in THUMBNAILS}
