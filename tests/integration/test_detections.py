"""Faces that ComfyUI's own models and nodes find: into our nodes, and back into the picture."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from facewright.nodes._host import io as node_io
from PIL import Image

pytestmark = pytest.mark.comfyui
FILE = "mediapipe_face_fp32.safetensors"
DOCS = Path(__file__).parents[2] / "docs" / "workflows.md"
MARKS = ((120, 120), (360, 120), (520, 200))
"""Centres of the white squares that the file's detectors take for faces."""


@pytest.fixture(scope="module")
def landmarker(home, weights, server):
    """The running ComfyUI, which knows face landmarks, and the picture in its input folder."""
    info = server.get("/object_info")
    if "MediaPipeFaceLandmarker" not in info:
        pytest.skip("this ComfyUI is older than its own face landmarker")
    weights.mediapipe_landmarker(home / "models" / "detection" / FILE)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 100, (320, 640, 3), dtype=np.uint8)
    for x, y in MARKS:
        pixels[y - 12 : y + 12, x - 12 : x + 12] = 255
    Image.fromarray(pixels).save(home / "input" / "marks.png")
    return server


MODEL = {
    "image": {"class_type": "LoadImage", "inputs": {"image": "marks.png"}},
    "load": {"class_type": "LoadMediaPipeFaceLandmarker", "inputs": {"model_name": FILE}},
}
CHOICE = {
    "crop_size": 128, "order": "left to right", "pick": "", "min_size": 0, "min_score": 0.0,
    "max_faces": 0, "image": ["image", 0],
}  # fmt: skip
OURS = {
    "analyzer": {
        "class_type": "FacewrightAnalyzerFromModel",
        "inputs": {
            "model": ["load", 0], "detector_variant": "both", "min_confidence": 0.5,
            "rotations": False,
        },
    },
    "faces": {
        "class_type": "FacewrightDetectFaces",
        "inputs": CHOICE | {"padding": 0.0, "analyzer": ["analyzer", 0]},
    },
}  # fmt: skip


def theirs(**sockets):
    """ComfyUI's own landmarker before our node."""
    inputs = {
        "face_detection_model": ["load", 0], "image": ["image", 0], "detector_variant": "both",
        "num_faces": 0, "min_confidence": 0.5, "missing_frame_fallback": "empty",
    }  # fmt: skip
    return {
        "landmarks": {"class_type": "MediaPipeFaceLandmarker", "inputs": inputs},
        "faces": {
            "class_type": "FacewrightFacesFromDetections",
            "inputs": CHOICE | {"label": "face"} | sockets,
        },
    }


def restored():
    """Everything behind the faces, with the nano models; what is compared goes out as pictures."""
    nano, crops = ["nano", 0], ["faces", 1]
    nodes = {
        "nano": ("FacewrightLoadNano", {"weights": "onestep"}),
        "cond": ("FacewrightVREEncode", {"vre": ["nano", 2], "image": crops}),
        "restore": (
            "FacewrightOneStepRestore",
            {
                "timestep": 399, "posterior": "mean", "seed": 0, "faces_at_once": 4, "model": nano,
                "vae": ["nano", 1], "conditioning": ["cond", 0], "image": crops,
            },
        ),
        "paste": (
            "FacewrightPasteFaces",
            {
                "feather": 0.12, "color": "none", "strength": 1.0, "image": ["image", 0],
                "faces": ["faces", 0], "restored": ["restore", 0],
            },
        ),
        "touched": ("ThresholdMask", {"mask": ["paste", 1], "value": 0.0}),
        "mask": ("MaskToImage", {"mask": ["touched", 0]}),
        "before": ("SaveImage", {"images": ["image", 0], "filename_prefix": "t/before"}),
        "after": ("SaveImage", {"images": ["paste", 0], "filename_prefix": "t/after"}),
        "where": ("SaveImage", {"images": ["mask", 0], "filename_prefix": "t/where"}),
        "report": ("PreviewAny", {"source": ["faces", 4]}),
        "count": ("PreviewAny", {"source": ["faces", 3]}),
    }  # fmt: skip
    return {k: {"class_type": kind, "inputs": inputs} for k, (kind, inputs) in nodes.items()}


def run(server, prompt):
    """What the nodes show by id; pictures as arrays."""
    entry = server.run(prompt)
    problems = [m for m in entry["status"]["messages"] if m[0] == "execution_error"]
    assert not problems, problems
    shown = {}
    for node, out in entry["outputs"].items():
        if "text" in out:
            shown[node] = out["text"][0]
        elif node in ("before", "after", "where"):
            (picture,) = out["images"]
            shown[node] = np.asarray(Image.open(io.BytesIO(server.picture(picture))))
    return shown


GRAPHS = {
    "core's model as our detector": (OURS, "3 faces, aligned by five points"),
    "core's landmarks": (
        theirs(face_landmarks=["landmarks", 0]), "3 faces, aligned by five points",
    ),
    "core's boxes": (theirs(bounding_boxes=["landmarks", 1]), "3 faces, aligned by box"),
    "both": (
        theirs(face_landmarks=["landmarks", 0], bounding_boxes=["landmarks", 1]),
        "3 faces, aligned by five points; left out: box 0 is a face that is there already, box 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("graph", GRAPHS)
def test_faces_are_restored_and_no_other_bit_changes(landmarker, graph):
    nodes, says = GRAPHS[graph]
    shown = run(landmarker, MODEL | nodes | restored())
    assert shown["count"] == "3" and says in shown["report"]
    outside = shown["where"][..., 0] == 0
    assert 0.1 < outside.mean() < 0.9
    assert np.array_equal(shown["before"][outside], shown["after"][outside])
    for x, y in MARKS:
        around = np.s_[y - 20 : y + 20, x - 20 : x + 20]
        assert (shown["where"][around] == 255).all()
        assert (shown["before"][around] != shown["after"][around]).mean() > 0.5


def test_a_box_drawn_by_hand_and_a_mask_do_as_well(landmarker):
    by_hand = {
        "box": {
            "class_type": "PrimitiveBoundingBox",
            "inputs": {"x": 70, "y": 70, "width": 100, "height": 100},
        },
        "faces": {
            "class_type": "FacewrightFacesFromDetections",
            "inputs": CHOICE | {"label": "", "bounding_boxes": ["box", 0], "masks": ["white", 0]},
        },
        "white": {
            "class_type": "ImageToMask", "inputs": {"image": ["threshold", 0], "channel": "red"},
        },
        "threshold": {"class_type": "ImageInvert", "inputs": {"image": ["dark", 0]}},
        "dark": {"class_type": "ImageInvert", "inputs": {"image": ["image", 0]}},
    }  # fmt: skip
    shown = run(landmarker, MODEL | by_hand | restored())
    # The first white square lies within the box, and is no other face.
    assert shown["count"] == "4" and "4 faces, aligned by box" in shown["report"]


def test_what_does_not_fit_is_said(landmarker):
    half = {"class_type": "ImageScaleBy", "inputs": {
        "image": ["image", 0], "upscale_method": "area", "scale_by": 0.5}}  # fmt: skip
    nodes = theirs(face_landmarks=["landmarks", 0]) | {"half": half}
    nodes["landmarks"]["inputs"]["image"] = ["half", 0]
    entry = landmarker.run(MODEL | nodes | restored())
    (error,) = (c for kind, c in entry["status"]["messages"] if kind == "execution_error")
    assert (
        "found in pictures of 320 x 160 pixels, and `image` is 640 x 320"
        in (error["exception_message"])
    )


def test_sockets_are_offered_where_comfyui_knows_their_values(server):
    info = server.get("/object_info")
    offered = info["FacewrightFacesFromDetections"]["input"]["optional"]
    known = "PrimitiveBoundingBox" in info
    assert set(offered) == {"masks"} | ({"face_landmarks", "bounding_boxes"} if known else set())
    if known:
        assert offered["bounding_boxes"][0] == info["PrimitiveBoundingBox"]["output"][0]
        assert offered["bounding_boxes"][1]["forceInput"]
        assert offered["face_landmarks"][0] == info["MediaPipeFaceLandmarker"]["output"][0]
        model = info["FacewrightAnalyzerFromModel"]["input"]["required"]["model"][0]
        assert model == info["LoadMediaPipeFaceLandmarker"]["output"][0]
    assert hasattr(node_io, "BoundingBox")  # the stand-in knows them, too


def test_masks_are_taken_by_every_comfyui(server, home):
    pixels = np.full((64, 64, 4), 255, np.uint8)
    pixels[10:40, 20:50, 3] = 0
    Image.fromarray(pixels).save(home / "input" / "alpha.png")
    inputs = CHOICE | {"label": "", "masks": ["image", 1]}
    prompt = {
        "image": {"class_type": "LoadImage", "inputs": {"image": "alpha.png"}},
        "faces": {"class_type": "FacewrightFacesFromDetections", "inputs": inputs},
        "report": {"class_type": "PreviewAny", "inputs": {"source": ["faces", 4]}},
    }
    assert "picture 0: 1 face, aligned by box" in run(server, prompt)["report"]


EXAMPLES = [
    json.loads(code)
    for code in re.findall(r"```json\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
]


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, EXAMPLES[1]], ids=["our detector", "their landmarks"])
def test_the_graphs_of_the_docs_run(landmarker, more):
    prompt = {
        k: node | {"inputs": dict(node["inputs"])} for k, node in (EXAMPLES[0] | more).items()
    }
    prompt["1"]["inputs"]["image"] = "marks.png"
    prompt["4"]["inputs"]["crop_size"] = 64
    prompt["5"]["inputs"]["ckpt_name"] = "thin.safetensors"
    entry = landmarker.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
    (picture,) = entry["outputs"]["11"]["images"]
    after = np.asarray(Image.open(io.BytesIO(landmarker.picture(picture))))
    assert after.shape == (320, 640, 3) and (after[100:140, 100:140] != 255).any()
