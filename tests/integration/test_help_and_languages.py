"""What the running ComfyUI gives its editor beside the nodes: help pages and translations."""

import json
import re

import pytest
from facewright.docs.build import LOCALES, PAGES
from facewright.nodes import all_nodes

pytestmark = pytest.mark.comfyui

LANGUAGES = sorted(path.name for path in LOCALES.iterdir())


def test_help_pages_are_where_the_editor_looks_for_them(server):
    for node_id in (node.GET_SCHEMA().node_id for node in all_nodes()):
        page = server.get(f"/extensions/facewright/docs/{node_id}.md").decode()
        assert page == (PAGES / f"{node_id}.md").read_text("utf-8")
        for picture in re.findall(r"\]\((images/[^)]+)\)", page):
            # The editor puts the folder of the pages before a relative address.
            assert server.get(f"/extensions/facewright/docs/{picture}")[:2] == b"\xff\xd8"
    for path in PAGES.glob("*/*.md"):
        # English under its name as well: the editor asks for it first.
        name = f"{path.parent.name}/{path.name}"
        assert server.get(f"/extensions/facewright/docs/{name}").decode() == path.read_text("utf-8")


def test_the_editor_loads_our_scripts_and_no_other_file_as_one(server):
    scripts = sorted(path.name for path in (PAGES.parent / "js").iterdir())
    loaded = sorted(path for path in server.get("/extensions") if "facewright" in path)
    assert loaded == [f"/extensions/facewright/js/{name}" for name in scripts]


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_are_served(server, language):
    served = server.get("/i18n")[language]
    texts = json.loads((LOCALES / language / "nodeDefs.json").read_text("utf-8"))
    assert {node_id: served["nodeDefs"][node_id] for node_id in texts} == texts
    main = LOCALES / language / "main.json"
    if main.exists():
        assert served["nodeCategories"] == json.loads(main.read_text("utf-8"))["nodeCategories"]
