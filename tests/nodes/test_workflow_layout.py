"""What a shipped workflow looks like, as far as the file says: the browser test sees the rest."""

import itertools
import json

import pytest
from facewright.docs.graphs.build import WORKFLOWS
from facewright.docs.graphs.graph import COLORS, FOLDER
from facewright.docs.graphs.kinds import SIZES
from facewright.docs.graphs.subgraphs import BLUEPRINTS
from facewright.docs.graphs.subgraphs import FOLDER as BLUEPRINT_FOLDER
from facewright.docs.graphs.wires import curve

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


FOOTER = 30  # what the editor hangs below a node whose file is missing
FILES = {"CheckpointLoaderSimple", "LoadImage", "UpscaleModelLoader"}
LEAST = 45  # between nodes, whatever the editor adds


@pytest.mark.parametrize("make", WORKFLOWS, ids=lambda make: make.__name__)
def test_every_node_has_room_in_both_kinds_of_nodes(make):
    """An editor makes a node larger that lacks it, and draws it over the one below."""
    shipped = json.loads((FOLDER / f"{make.__name__}.json").read_text())
    small = [n["type"] for n in shipped["nodes"] if n["size"][1] < SIZES[n["type"]]]
    assert small == []
    named = [n["type"] in FILES or "models" in n["properties"] for n in shipped["nodes"]]
    placed = {
        k: (left, top, right, bottom + FOOTER * may_lack + LEAST)
        for (k, (left, top, right, bottom)), may_lack in zip(
            boxes(shipped["nodes"]).items(), named, strict=True
        )
    }
    pairs = itertools.combinations(placed, 2)
    assert [(a, b) for a, b in pairs if overlap(placed[a], placed[b])] == []


@pytest.mark.parametrize("make", WORKFLOWS, ids=lambda make: make.__name__)
def test_it_is_no_strip(make):
    shipped = json.loads((FOLDER / f"{make.__name__}.json").read_text())
    all_of_it = [*boxes(shipped["nodes"]).values(), *map(frame, shipped["groups"])]
    left, top = (min(box[i] for box in all_of_it) for i in (0, 1))
    right, bottom = (max(box[i] for box in all_of_it) for i in (2, 3))
    assert right - left <= 2 * (bottom - top)
    # Opened on 1920 by 1080 all of it is there, below the editor's bars.
    ds = shipped["extra"]["ds"]
    x, y = ds["offset"]
    assert (left + x) * ds["scale"] >= 60 and (top + y) * ds["scale"] >= 50
    assert (right + x) * ds["scale"] <= 1900 and (bottom + y) * ds["scale"] <= 1060


LARGE = {  # so many nodes that they cannot all be read at once -> the zoom they open with
    "group_photo_people": 0.46,
    "honestface_restore": 0.46,
    "nano_group_people": 0.49,
    "nano_honestface_restore": 0.49,
    "nano_people_frames": 0.49,
    "nano_practice_loop": 0.51,
    "practice_loop": 0.53,
}


@pytest.mark.parametrize("make", WORKFLOWS, ids=lambda make: make.__name__)
def test_it_opens_with_text_that_can_be_read(make):
    """Newer editors fit a template's nodes into three quarters of the window, here 1920 by 1080,
    and write no text on classic nodes where 14 pixels would be drawn with less than 8."""
    nodes = boxes(json.loads((FOLDER / f"{make.__name__}.json").read_text())["nodes"]).values()
    left, top = (min(box[i] for box in nodes) - 10 for i in (0, 1))
    right, bottom = (max(box[i] for box in nodes) + 10 for i in (2, 3))
    zoom = min(0.75 * 1920 / (right - left), 0.75 * 1080 / (bottom - top))
    assert zoom > LARGE.get(make.__name__, 8 / 14)


@pytest.mark.parametrize("make", WORKFLOWS, ids=lambda make: make.__name__)
def test_frames_are_as_wide_as_their_titles(make):
    """At 24 pixels a letter takes ten, as seen in the editor."""
    for group in json.loads((FOLDER / f"{make.__name__}.json").read_text())["groups"]:
        assert group["bounding"][2] >= 10 * len(group["title"]), group["title"]


def ways(shipped):
    """Each link with the points that the editor draws it through, socket to socket."""
    nodes = {node["id"]: node for node in shipped["nodes"]}
    reroutes = {entry["id"]: entry for entry in shipped["extra"]["reroutes"]}
    last = {entry["id"]: entry["parentId"] for entry in shipped["extra"]["linkExtensions"]}
    for link, source, index, target, slot, _ in shipped["links"]:
        points, at = [], last.get(link)
        while at is not None:
            assert link in reroutes[at]["linkIds"]
            points.insert(0, tuple(reroutes[at]["pos"]))
            at = reroutes[at].get("parentId")
        (x, y), (width, _) = nodes[source]["pos"], nodes[source]["size"]
        left, top = nodes[target]["pos"]
        start, end = (x + width, y + 14 + 20 * index), (left, top + 14 + 20 * slot)
        yield (source, target), [start, *points, end]


@pytest.mark.parametrize("make", WORKFLOWS, ids=lambda make: make.__name__)
def test_no_wire_runs_behind_a_node(make):
    shipped = json.loads((FOLDER / f"{make.__name__}.json").read_text())
    placed = boxes(shipped["nodes"])
    for ends, points in ways(shipped):
        drawn = curve(points, 65)
        for name, (left, top, right, bottom) in placed.items():
            x, y = drawn.T
            assert not ((left < x) & (x < right) & (top < y) & (y < bottom)).any(), (ends, name)


@pytest.mark.parametrize("make", WORKFLOWS, ids=lambda make: make.__name__)
def test_notes_hold_no_code_which_vue_nodes_write_in_blue_on_brown(make):
    nodes = json.loads((FOLDER / f"{make.__name__}.json").read_text())["nodes"]
    notes = [n["widgets_values"][0] for n in nodes if n["type"] == "MarkdownNote"]
    assert notes and not any("`" in note or "{" in note for note in notes)
    for note in notes:  # they exist in English only
        prose = [line for line in note.splitlines() if not line.startswith("|")]
        assert len(" ".join(prose).split()) <= 110, note


@pytest.mark.parametrize("make", WORKFLOWS, ids=lambda make: make.__name__)
def test_columns_end_at_one_height_and_colours_have_a_meaning(make):
    groups = json.loads((FOLDER / f"{make.__name__}.json").read_text())["groups"]
    assert {group["color"] for group in groups} <= set(COLORS.values())
    frames = [frame(group) for group in groups]
    for left, _, right, bottom in frames:
        # Where another frame ends lower, one of the same slot follows beside it.
        end = max((box[3] for box in frames if box[1] < bottom < box[3]), default=None)
        assert end is None or any(overlap((left, bottom, right, end), box) for box in frames)


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
