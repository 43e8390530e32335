"""Load Face Detector on auto with MediaPipe's official files, in a running ComfyUI.

The files are read from the folder that FACEWRIGHT_MEDIAPIPE names.
"""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from facewright.docs.graphs.graph import FOLDER
from PIL import Image
from skimage import data

pytestmark = pytest.mark.comfyui


@pytest.fixture(scope="module")
def files(home):
    folder = os.environ.get("FACEWRIGHT_MEDIAPIPE")
    if not folder:
        pytest.skip("name the folder of MediaPipe's files and answers in FACEWRIGHT_MEDIAPIPE")
    detection = home / "models" / "detection"
    detection.mkdir(exist_ok=True)
    names = ("face_landmarker.task", "face_detection_full_range_sparse.tflite")
    yield [Path(shutil.copy(Path(folder) / name, detection)) for name in names]
    for name in names:
        (detection / name).unlink(missing_ok=True)


def test_osdface_restore_finds_its_face_by_mediapipe(server, home, files):
    prompt = json.loads((FOLDER / "api/osdface_restore.api.json").read_text())
    kinds = {node["class_type"]: key for key, node in prompt.items()}
    titles = {node["_meta"]["title"]: key for key, node in prompt.items()}
    prompt[kinds["CheckpointLoaderSimple"]]["inputs"]["ckpt_name"] = "thin.safetensors"
    prompt[kinds["FacewrightDetectFaces"]]["inputs"]["crop_size"] = 128
    report, mask = [kinds["FacewrightDetectFaces"], 4], [kinds["FacewrightPasteFaces"], 1]
    prompt |= {
        "report": {"class_type": "PreviewAny", "inputs": {"source": report}},
        "weight": {"class_type": "MaskToImage", "inputs": {"mask": mask}},
        "mask": {"class_type": "PreviewImage", "inputs": {"images": ["weight", 0]}},
    }
    picture = data.astronaut()
    Image.fromarray(picture).save(home / "input" / "choose your photograph.png")
    entry = server.run(prompt)
    (home / "input" / "choose your photograph.png").unlink()
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
    found, said = entry["outputs"]["report"]["text"][0].splitlines()
    assert found == "picture 0: 1 face, aligned by five points"
    assert said == "Faces are looked for by mediapipe (models/detection/face_landmarker.task)."

    def pixels(key):
        (image,) = entry["outputs"][key]["images"]
        return np.asarray(Image.open(io.BytesIO(server.picture(image))))[..., :3]

    restored = pixels(titles["Save the restored picture"])
    outside = pixels("mask")[..., 0] == 0
    assert 0.3 < outside.mean() < 1 and (restored[~outside] != picture[~outside]).any()
    # Below 1/510 the mask's picture shows 0, too: a margin of a pixel is left to it.
    inner = outside & np.roll(outside, 1, 0) & np.roll(outside, -1, 0)
    inner &= np.roll(outside, 1, 1) & np.roll(outside, -1, 1)
    assert (restored[inner] == picture[inner]).all()
