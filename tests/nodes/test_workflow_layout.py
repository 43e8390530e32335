"""What a shipped workflow looks like, as far as the file says: the browser test sees the rest."""

import itertools
import json

import pytest
from facewright.docs.graphs.build import WORKFLOWS
from facewright.docs.graphs.graph import COLORS, FOLDER
from facewright.docs.graphs.subgraphs import BLUEPRINTS
from facewright.docs.graphs.subgraphs import FOLDER as BLUEPRINT_FOLDER

TITLE = 30  # a node's title bar stands above its position


def boxes(nodes):
    """left, top, right, bottom, by title or kind and id"""
    return {
        f"{node.get('title', node['type'])} ({node['id']})": (
            node["pos"][0],
            node["pos"][1] - TITLE,
            node["pos"][0] + node["size"][0],
            node["pos"][1] + node["size"][1],
        )
        for node in nodes
    }


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def frame(group):
    x, y, width, height = group["bounding"]
    return x, y, x + width, y + height


@pytest.mark.parametrize("make", WORKFLOWS, ids=lambda make: make.__name__)
def test_nothing_overlaps_and_every_node_has_its_frame(make):
    shipped = json.loads((FOLDER / f"{make.__name__}.json").read_text())
    placed = boxes(shipped["nodes"])
    clashes = [
        (a, b) for a, b in itertools.combinations(placed, 2) if overlap(placed[a], placed[b])
    ]
    assert clashes == []
    frames = [frame(group) for group in shipped["groups"]]
    assert not any(overlap(a, b) for a, b in itertools.combinations(frames, 2))
    for node, box in zip(shipped["nodes"], placed.values(), strict=True):
        around = [f for f in frames if overlap(f, box)]
        if node["type"] != "MarkdownNote" or around:
            ((left, top, right, bottom),) = around
            assert left < box[0] and top < box[1] and box[2] < right and box[3] < bottom


# What ComfyUI 0.33's Vue nodes measured without their title, in a browser; below those whose file
# is missing hangs a line of 26 pixels.
VUE = {
    "FacewrightLoadFaceAnalyzer": 114, "FacewrightLoadFaceEncoder": 86, "FacewrightLoadIDE": 134,
    "FacewrightLoadLoRA": 134, "FacewrightLoadNano": 146, "FacewrightLoadNanoFlipnet": 166,
    "FacewrightLoadRecogniser": 106, "FacewrightLoadVRE": 114, "FacewrightOneStepRestore": 230,
    "FacewrightPasteFaces": 230, "FacewrightRestoreVideo": 962, "FacewrightDegrade": 462,
    "FacewrightPerson": 470, "FacewrightMatchPeople": 470, "FacewrightPictureGuard": 514,
    "FacewrightIdentityGuard": 514, "FacewrightSaveWithReceipts": 410, "FacewrightIDEEncode": 220,
}  # fmt: skip
MISSING = 26


@pytest.mark.parametrize("make", WORKFLOWS, ids=lambda make: make.__name__)
def test_vue_nodes_have_room_too(make):
    shipped = json.loads((FOLDER / f"{make.__name__}.json").read_text())
    small = [n["type"] for n in shipped["nodes"] if n["size"][1] < VUE.get(n["type"], 0)]
    assert small == []
    placed = {k: (*box[:3], box[3] + MISSING) for k, box in boxes(shipped["nodes"]).items()}
    pairs = itertools.combinations(placed, 2)
    assert [(a, b) for a, b in pairs if overlap(placed[a], placed[b])] == []


@pytest.mark.parametrize("make", WORKFLOWS, ids=lambda make: make.__name__)
def test_notes_hold_no_code_which_vue_nodes_write_in_blue_on_brown(make):
    nodes = json.loads((FOLDER / f"{make.__name__}.json").read_text())["nodes"]
    notes = [n["widgets_values"][0] for n in nodes if n["type"] == "MarkdownNote"]
    assert notes and not any("`" in note for note in notes)


@pytest.mark.parametrize("make", WORKFLOWS, ids=lambda make: make.__name__)
def test_every_node_has_room_for_its_rows(make):
    """The editor makes a node larger that lacks it, and draws it over the one below."""
    for node in json.loads((FOLDER / f"{make.__name__}.json").read_text())["nodes"]:
        if node["type"] != "MarkdownNote":
            sockets = [i for i in node.get("inputs", ()) if "widget" not in i]
            rows = max(len(sockets), len(node.get("outputs", ())))
            least = 20 * rows + 24 * len(node.get("widgets_values", ()))
            assert node["size"][1] >= least, node["type"]


@pytest.mark.parametrize("make", WORKFLOWS, ids=lambda make: make.__name__)
def test_columns_end_at_one_height_and_colours_have_a_meaning(make):
    groups = json.loads((FOLDER / f"{make.__name__}.json").read_text())["groups"]
    assert {group["color"] for group in groups} <= set(COLORS.values())
    lower = [group for group in groups if group["bounding"][1] > 20]
    blocked = [g["bounding"] for g in lower]
    ends = {
        frame(group)[3]
        for group in groups
        if group["bounding"][1] == 20
        and not any(overlap((*frame(group)[:3], 10**6), frame({"bounding": b})) for b in blocked)
    }
    assert len(ends) == 1


@pytest.mark.parametrize("make", WORKFLOWS, ids=lambda make: make.__name__)
def test_the_template_browser_has_a_picture(make):
    assert (FOLDER / f"{make.__name__}.jpg").is_file()


@pytest.mark.parametrize("make", BLUEPRINTS, ids=lambda make: make.__name__)
def test_blueprints_are_up_to_date_and_all_ends_are_tied(make):
    graph = make()
    shipped = json.loads((BLUEPRINT_FOLDER / f"{graph.name}.json").read_text())
    assert shipped == json.loads(json.dumps(graph.blueprint())), (
        "run python -m facewright.docs.graphs.build"
    )
    (whole,) = shipped["definitions"]["subgraphs"]
    assert shipped["nodes"][0]["type"] == whole["id"]
    links = {link["id"]: link for link in whole["links"]}
    for side, end in (("inputs", "origin"), ("outputs", "target")):
        for slot, port in enumerate(whole[side]):
            assert port["linkIds"]
            for link in (links[i] for i in port["linkIds"]):
                assert link[f"{end}_id"] == {"origin": -10, "target": -20}[end]
                assert link[f"{end}_slot"] == slot and link["type"] == port["type"]
    for node in whole["nodes"]:
        for slot, port in enumerate(node["inputs"]):
            if port["link"] is not None:
                link = links[port["link"]]
                assert (link["target_id"], link["target_slot"]) == (node["id"], slot)
        for slot, port in enumerate(node["outputs"]):
            for link in (links[i] for i in port["links"] or ()):
                assert (link["origin_id"], link["origin_slot"]) == (node["id"], slot)
