"""Faces that another detector found, on their way through the nodes."""

import numpy as np
import pytest
import torch
from facewright.core.demo import picture
from facewright.core.errors import FacewrightError
from facewright.core.faces import load_analyzer
from facewright.core.people.recogniser import nano_recogniser
from facewright.core.weights import nano
from facewright.nodes import detections, faces, frames, osdface, people
from facewright.nodes._host import io

OPTIONS = {
    "crop_size": 128, "order": "left to right", "pick": "", "min_size": 0, "min_score": 0.0,
    "max_faces": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def scene():
    """Two frames with three drawn people, and what Detect Faces makes of them."""
    image = picture("three people")[0].movedim(1, -1).repeat(2, 1, 1, 1)
    image[1] = image[1].roll(6, 1)
    analyzer = load_analyzer("nano")
    options = OPTIONS | {"padding": 0.0}
    found = faces.DetectFaces.execute(image=image, analyzer=analyzer, **options).result[0]
    return image, found


def boxes(found):
    """BOUNDING_BOX of what another detector found."""
    lists = [[] for _ in found.image_sizes]
    for i, (x0, y0, x1, y1) in zip(found.image_index.tolist(), found.boxes.tolist(), strict=True):
        lists[i].append({"x": x0 + 0.5, "y": y0 + 0.5, "width": x1 - x0, "height": y1 - y0})
    return lists


def from_boxes(scene, **options):
    image, found = scene
    given = {"image": image, "bounding_boxes": boxes(found)}
    return detections.FacesFromDetections.execute(**given, **OPTIONS | options).result


def test_outside_of_the_mask_every_bit_stays(scene):
    image, _ = scene
    found, crops, preview, count, report = from_boxes(scene)
    assert count == len(crops) == 6 and preview.shape == image.shape
    assert report.splitlines() == [f"picture {i}: 3 faces, aligned by box" for i in (0, 1)]
    pasted, mask, _ = faces.PasteFaces.execute(
        image=image, faces=found, restored=1 - crops, feather=0.12, color="none", strength=1.0
    ).result
    assert (mask > 0).any() and (mask == 0).any()
    assert torch.equal(pasted[mask == 0], image[mask == 0])
    assert not torch.equal(pasted, image)


def test_they_go_on_like_faces_of_detect_faces(scene):
    image, _ = scene
    found, crops, *_ = from_boxes(scene)
    options = {"strength": 0.5, "fill_gaps": 1, "fade": 1, "cut_threshold": 1.0}
    smoothed = frames.SmoothFaces.execute(image=image, faces=found, **options).result
    assert smoothed[2] == 6 and "3 faces" in smoothed[3]
    recogniser = nano_recogniser(nano.load_identity("loss"))
    given = {"faces": found, "recogniser": recogniser, "threshold": 0.0}
    _, _, report, known = people.MatchPeople.execute(image=image, **given).result
    assert known == 0 and len(report.splitlines()) >= 6
    assert osdface.VREEncode.execute(vre=nano.load_vre(), image=crops).result[0][0][0].shape[0] == 6


def test_what_is_chosen_is_chosen(scene):
    found, _, _, count, _ = from_boxes(scene, order="size", pick="0", max_faces=5)
    assert count == 2 and found.image_index.tolist() == [0, 1]
    found, crops, _, count, report = from_boxes(scene, label="face")
    assert count == len(crops) == len(found) == 0 and "box 2 has no label" in report


def test_the_log_tells_of_pictures_without_a_face(scene, caplog):
    *_, count, report = from_boxes(scene, min_size=500)
    why = "3 faces found, all smaller than 500 px"
    assert count == 0 and report.count(why) == 2
    assert f"Faces from Detections: No face to work on in 2 of 2 pictures: {why}" in caplog.text


def sockets():
    return [i.id for i in detections.FacesFromDetections.GET_SCHEMA().inputs]


def test_a_comfyui_without_such_values_is_offered_masks_only(monkeypatch, scene):
    now = sockets()
    monkeypatch.delattr(io, "BoundingBox")
    then = sockets()
    assert [i for i in now if i not in then] == ["face_landmarks", "bounding_boxes"]
    image, _ = scene
    with pytest.raises(FacewrightError, match="Nothing says where the faces are"):
        detections.FacesFromDetections.execute(image=image, **OPTIONS, label="")


def test_a_detection_model_becomes_an_analyzer(scene):
    image, found = scene
    nano_analyzer = load_analyzer("nano")

    class Model:
        def detect_batch(self, images, num_faces, score_thresh, variant):
            (pixels,) = images
            seen = nano_analyzer.detect(torch.from_numpy(pixels).movedim(-1, 0) / 255)
            return [[self.face(f) for f in seen if f.score >= score_thresh]]

        def face(self, face):
            from facewright.core.faces.mesh import IBUG_OF_MESH

            mesh = np.repeat(face.landmarks.numpy()[30:31], 478, 0)
            mesh[list(IBUG_OF_MESH)] = face.landmarks.numpy()
            return {"landmarks_xy": mesh, "score": face.score, "presence": 1.0}

    options = {"detector_variant": "both", "min_confidence": 0.5, "rotations": False}
    analyzer = detections.AnalyzerFromModel.execute(model=Model(), **options).result[0]
    options = OPTIONS | {"padding": 0.0}
    mine = faces.DetectFaces.execute(image=image, analyzer=analyzer, **options).result[0]
    assert mine.report == found.report
    torch.testing.assert_close(mine.matrix, found.matrix, atol=0.02, rtol=0.02)
