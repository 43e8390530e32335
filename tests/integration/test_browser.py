"""Every shipped workflow and blueprint in ComfyUI's editor, in a headless Chromium.

What is needed, see `programs` in conftest.py; where pictures go, `screenshots`.
"""

import io
import itertools
import json
import re
import shutil
from urllib.error import HTTPError

import numpy as np
import pytest
from facewright.core.demo import GROUP_LQ
from facewright.docs.graphs.build import WORKFLOWS
from facewright.docs.graphs.graph import FOLDER
from facewright.docs.graphs.kinds import SIZES
from facewright.docs.graphs.subgraphs import BLUEPRINTS
from PIL import Image

from .test_server import assert_as_shipped, shipped

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

NAMES = [make.__name__ for make in WORKFLOWS]
SD21 = ("CheckpointLoaderSimple", "ckpt_name", "v2-1_512-ema-pruned.safetensors")
HONESTFACE = (
    SD21,
    ("FacewrightLoadLoRA", "lora", "honestface_lora.safetensors"),
    ("FacewrightLoadVRE", "embedder", "honestface_vre.safetensors"),
    ("FacewrightLoadRecogniser", "recogniser_file", "backbone.pth"),
    ("FacewrightLoadIDE", "embedder", "honestface_ide.safetensors"),
    ("FacewrightLoadIDE", "eye_extractor", "vgg16-397923af.pth"),
)
OSDFACE = (
    SD21,
    ("FacewrightLoadLoRA", "lora", "pytorch_lora_weights.safetensors"),
    ("FacewrightLoadVRE", "embedder", "associate_2.ckpt"),
    ("FacewrightLoadVRE", "projector", "embedding_change_weights.pth"),
)
GFPGAN = ("UpscaleModelLoader", "model_name", "GFPGANv1.4.pth")
# The only workflows that do not run as shipped, and what has to be put into models/ for them.
FILES = {
    "osdface_restore": OSDFACE,
    "restore_whole_photo": (
        *OSDFACE,
        ("UpscaleModelLoader", "model_name", "RealESRGAN_x2plus.pth"),
    ),
    "classic_restore": (GFPGAN,),
    "compare_restorers": (*OSDFACE, GFPGAN),
    "trained_restore": (
        ("FacewrightLoadLoRA", "lora", "onestep_nano_lora.safetensors"),
        ("FacewrightLoadVRE", "embedder", "onestep_nano_vre.safetensors"),
    ),
    "flipnet_restore": (
        SD21,
        ("FacewrightLoadLoRA", "lora", "flipnet_restore_lora.safetensors"),
        ("FacewrightLoadBoostHub", "boosthub", "flipnet_restore_boosthub.safetensors"),
        (
            "FacewrightLoadFaceEncoder",
            "face_encoder",
            "flipnet_restore_face_encoder.safetensors",
        ),
    ),
    "flipnet_degrade": (
        SD21,
        ("FacewrightLoadLoRA", "lora", "flipnet_degrade_lora.safetensors"),
        ("FacewrightLoadBoostHub", "boosthub", "flipnet_degrade_boosthub.safetensors"),
    ),
    "honestface_restore": HONESTFACE,
    "group_photo_people": HONESTFACE,  # the editor does not look for albums
}
RUNNING = [name for name in NAMES if name not in FILES]

LONGEST = 400
"""Seconds a workflow may take on a busy machine."""

AROUND = [
    ["SaveImage", {"filename_prefix": "blueprint"}, [840, 0], [420, 330]],
    ["PreviewAny", {}, [840, 400], [420, 220]],
]
DROPS = {
    # The nodes around each blueprint; links are [from, output, to, input], null is the blueprint.
    "Restore faces in photo": {
        "nodes": [
            ["FacewrightLoadNano", {"weights": "onestep"}, [0, 0], [340, 130]],
            ["FacewrightDemoPicture", {"picture": "group"}, [0, 200], [340, 290]],
            *AROUND,
        ],
        "links": [
            [1, 0, None, "image"],
            *([0, i, None, name] for i, name in enumerate(("model", "vae", "vre", "analyzer"))),
            [None, 0, 2, "images"],
            [None, 2, 3, "source"],
        ],
    },
    "Restore with person album": {
        "nodes": [
            ["FacewrightLoadNanoHonestface", {}, [-400, 0], [340, 150]],
            ["FacewrightDemoPicture", {"picture": "three people"}, [-400, 230], [340, 290]],
            ["FacewrightDemoPicture", {"picture": "photos of Ada"}, [-400, 590], [340, 290]],
            ["FacewrightPerson", {"name": "Ada", "crop_size": 128}, [0, 360], [340, 390]],
            *AROUND,
        ],
        "links": [
            [2, 1, 3, "references"],
            [0, 4, 3, "analyzer"],
            [0, 5, 3, "recogniser"],
            [3, 1, None, "people"],
            [1, 0, None, "image"],
            *(
                [0, i, None, name]
                for i, name in enumerate(("model", "vae", "vre", "ide", "analyzer", "recogniser"))
            ),
            [None, 0, 4, "images"],
            [None, 3, 5, "source"],
        ],
    },
}


@pytest.fixture(scope="module")
def blueprints(server):
    """Those that the server offers: none before ComfyUI 0.10."""
    try:
        return server.get("/global_subgraphs")
    except HTTPError:
        return {}


@pytest.fixture(scope="module")
def seen(server, home, drive, screenshots, blueprints):
    """Everything one browser saw of one server."""
    for name in NAMES:  # the photographs that people are asked to choose
        for node in json.loads((FOLDER / f"api/{name}.api.json").read_text()).values():
            if node["class_type"] == "LoadImage":
                shutil.copy(GROUP_LQ, home / "input" / node["inputs"]["image"])
    return drive(
        "browser.mjs",
        3000,
        address=server.address,
        out=str(screenshots),
        templates=True,
        workflows=[
            {
                "name": name,
                "url": f"/api/workflow_templates/facewright/{name}.json",
                "run": LONGEST if name in RUNNING else 0,
            }
            for name in NAMES
        ],
        blueprints=[
            {"name": name, "run": LONGEST, "widgets": {"crop_size": 128}, **around}
            for name, around in DROPS.items()
            if blueprints
        ],
        fresh=list(SIZES),
    )


def on_screen(server, screenshot, node, zoom):
    """How well a node's only picture is found where the editor draws it: correlation, up to 1."""
    with Image.open(io.BytesIO(server.get(node["urls"][0].split(server.address)[1]))) as picture:
        picture = picture.convert("RGB")
    x, y, width, height = node["box"]
    # The editor never enlarges a picture on its canvas.
    scale = min(width / picture.width, height / picture.height, zoom)
    size = round(picture.width * scale), round(picture.height * scale)
    left, top = round(x + (width - size[0]) / 2), round(y + (height - size[1]) / 2)
    there = screenshot.crop((left, top, left + size[0], top + size[1]))
    pair = [np.asarray(image, np.float64).ravel() for image in (there, picture.resize(size))]
    return np.corrcoef(*pair)[0, 1]


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_whole_and_tidy(seen, home, name):
    workflow = seen["workflows"][name]
    missing = workflow["missing"]
    assert not missing["nodes"] and not missing["unregistered"]
    there = {path.name for path in (home / "models").rglob("*")}
    lacking = {file for file in FILES.get(name, ()) if file[2].rsplit("/")[-1] not in there}
    if missing["keeps"]:
        assert {tuple(file) for file in missing["files"]} == lacking
        assert set(missing["red"]) == {kind for kind, *_ in lacking}
    assert workflow["untidy"] == []  # no node too small, no line of text cut off


APART = 45
"""Pixels between two nodes, whatever the editor adds to them."""


def close(laid):
    """Pairs of nodes that have too little room between them, and nodes that reach over a frame."""
    nodes = [(node["title"], node["box"]) for node in laid["nodes"]]
    for (a, (left, top, right, bottom)), (b, (x, y, u, v)) in itertools.combinations(nodes, 2):
        if left < u and x < right and top < v + APART and y < bottom + APART:
            yield a, b
        if top < v and y < bottom and left < u + APART and x < right + APART:
            yield a, b
    for title, (left, top, right, bottom) in nodes:
        for x, y, u, v in laid["groups"]:
            apart = right <= x or u <= left or bottom <= y or v <= top
            if not apart and not (x < left and y < top and right < u and bottom < v):
                yield title, "a frame"


def judge(laid, notes):
    assert list(close(laid)) == []
    assert laid["behind"]["drawn"] and laid["behind"]["found"] == []
    everything = [*(node["box"] for node in laid["nodes"]), *laid["groups"]]
    left, top = (min(box[i] for box in everything) for i in (0, 1))
    right, bottom = (max(box[i] for box in everything) for i in (2, 3))
    assert right - left <= 2 * (bottom - top)
    assert len(laid["notes"]) == notes
    assert all(note["contrast"] >= 4.5 and note["hidden"] <= 1 for note in laid["notes"])


@pytest.mark.parametrize("name", NAMES)
def test_nothing_lies_over_anything(seen, name):
    """As opened, with what is missing, and after a run; classic and Vue nodes."""
    nodes = json.loads((FOLDER / f"{name}.json").read_text())["nodes"]
    notes = sum(node["type"] == "MarkdownNote" for node in nodes)
    laid = seen["workflows"][name]["laid"]
    for states in laid.values():
        assert set(states) == {"opened", *(["ran"] if name in RUNNING else [])}
        for state in states.values():
            assert len(state["nodes"]) == len(nodes)
            judge(state, notes)


@pytest.mark.parametrize("make", BLUEPRINTS, ids=lambda make: make.__name__)
def test_nothing_lies_over_anything_inside_a_blueprint(seen, blueprints, make):
    if not blueprints:
        pytest.skip("this ComfyUI has no subgraph blueprints")
    for states in seen["blueprints"][make().name]["laid"].values():
        judge(states["opened"], 0)


def test_the_heights_that_layouts_stand_on_are_enough(seen, screenshots):
    """`python -m facewright.docs.screenshots` takes over what is written here."""
    measured = {
        kind: max(heights[kind] for heights in seen["fresh"].values())
        for kind in set.intersection(*map(set, seen["fresh"].values()))
    }
    (screenshots / "sizes.json").write_text(json.dumps(measured))
    assert {kind: most for kind, most in measured.items() if most > SIZES[kind]} == {}


@pytest.mark.parametrize("name", NAMES)
def test_it_converts_to_the_shipped_api_form(seen, server, name):
    api = seen["workflows"][name]["api"]
    for node in api.values():
        if node["class_type"] == "PreviewAny":
            # Older editors also send what it shows and how.
            given = node["inputs"].items()
            node["inputs"] = {name: v for name, v in given if not name.startswith("preview")}
    assert_as_shipped(server, api, shipped(f"api/{name}.api"))


@pytest.mark.parametrize("name", RUNNING)
def test_it_runs_and_shows_its_results(seen, server, screenshots, name):
    workflow = seen["workflows"][name]
    assert workflow["ran"] == ["execution_success", None]
    shown = workflow["shown"]
    assert workflow["grown"] == []  # every node has room for what it shows
    savers = [n for n in shown if n["type"] in ("SaveImage", "FacewrightSaveWithReceipts")]
    videos = [n for n in shown if n["type"] == "SaveVideo"]
    assert [*savers, *videos] and all(node["pictures"] for node in savers)
    assert all(node["video"] for node in videos)
    screenshot = Image.open(screenshots / f"{name}.png").convert("RGB")
    for node in savers:
        if len(node["pictures"]) == 1:
            assert on_screen(server, screenshot, node, workflow["scale"]) > 0.9, node["title"]
    previews = ("Compare", "DetectFaces", "DegradationSheet", "VREEncode", "DemoPicture", "Person")
    previews += ("MatchPeople", "IdentityGuard", "PictureGuard", "EditPerson", "LandmarkScore")
    for node in shown:
        if node["type"] in {f"Facewright{name}" for name in previews}:
            assert node["pictures"], node["title"]
        if node["type"] == "PreviewAny":
            assert node["text"], node["title"]


def test_the_template_browser_shows_a_picture_of_each(seen):
    sizes = {name: list(Image.open(FOLDER / f"{name}.jpg").size) for name in NAMES}
    assert seen["templates"] == sizes


@pytest.mark.parametrize("make", BLUEPRINTS, ids=lambda make: make.__name__)
def test_a_blueprint_drops_and_runs(seen, blueprints, make):
    if not blueprints:
        pytest.skip("this ComfyUI has no subgraph blueprints")
    expected = make().blueprint()["nodes"][0]
    dropped = seen["blueprints"][make().name]
    assert len(dropped["known"]) == 1  # in the node library
    for side in ("inputs", "outputs"):
        assert dropped[side] == [[port["name"], port["type"]] for port in expected[side]]
    widgets = [i["name"] for i in expected["inputs"] if "widget" in i]
    assert [name for name, _ in dropped["widgets"]] == widgets
    assert not any(found for what, found in dropped["missing"].items() if what != "keeps")
    # What is turned outside arrives inside.
    (found,) = (n for n in dropped["api"].values() if n["class_type"] == "FacewrightDetectFaces")
    assert found["inputs"]["crop_size"] == 128
    assert dropped["ran"] == ["execution_success", None]
    shown = {node["type"]: node for node in dropped["shown"]}
    assert shown["SaveImage"]["pictures"] and "face" in shown["PreviewAny"]["text"]


OWN_FAULTS = {"1.27": r"TypeError: .*\(reading 'id'\)\s+at onChange "}
"""Frontend -> what it reports when it starts, without any pack."""


def test_the_editor_reports_no_fault(seen):
    own = OWN_FAULTS.get(seen["frontend"].rpartition(".")[0], "$.")
    assert [fault for fault in seen["faults"] if not re.match(own, fault)] == []
