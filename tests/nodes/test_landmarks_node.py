"""Landmark Score with the bundled analyzer: what it hands on."""

import json
import math

import pytest
import torch
from facewright.core.degradation import Degradation
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.faces import load_analyzer
from facewright.core.scores.landmarks import score_landmarks
from facewright.headless.host.host import HeadlessHost
from facewright.nodes.landmarks import LandmarkScore
from facewright.training.world.faces3d import photos


@pytest.fixture(scope="module")
def analyzer():
    return load_analyzer("nano")


@pytest.fixture(scope="module")
def faces():
    gt = photos([911, 912], [0, 1], 128).pixels
    lq, _ = Degradation.preset("severe")(gt, 4)
    return lq, gt


def image(x):
    return x.movedim(1, -1)


def test_gives_what_core_gives(analyzer, faces):
    lq, gt = faces
    out = LandmarkScore.execute(restored=image(lq), gt=image(gt), analyzer=analyzer)
    eyes, mouth, everything, l2, overlay, report, text = out.result
    scores = score_landmarks(lq, gt, analyzer)
    assert eyes == scores.mean("ald_eyes") > 0 and mouth == scores.mean("ald_mouth") > 0
    assert everything == scores.mean("ald_all") and l2 == scores.mean("l2") > 0
    assert report == scores.report() and text == scores.to_json()
    assert len(json.loads(text)["images"]) == 2
    assert overlay.shape[0] == 2 and overlay.shape[2] == 512 and overlay.shape[3] == 3
    assert out.ui.as_dict() == {"text": (report,)}


def test_an_original_beside_itself_is_zero(analyzer, faces):
    _, gt = faces
    result = LandmarkScore.execute(restored=image(gt), gt=image(gt), analyzer=analyzer).result
    assert result[:4] == (0, 0, 0, 0)


def test_another_photograph_of_the_person(analyzer, faces):
    _, gt = faces
    other = photos([911], [5], 256, aligned=False).pixels
    result = LandmarkScore.execute(restored=image(gt[:1]), gt=image(other), analyzer=analyzer)
    assert result.result[0] > 0 and math.isnan(result.result[3])
    assert "framed differently" in result.result[5]


def test_a_wall_between_faces_stops_nothing(analyzer, faces):
    lq, gt = faces
    wall = torch.linspace(0.2, 0.7, 128).expand(1, 3, 128, 128)
    three = torch.cat([lq[:1], wall, lq[1:]])
    truth = torch.cat([gt[:1], gt[:1], gt[1:]])
    result = LandmarkScore.execute(restored=image(three), gt=image(truth), analyzer=analyzer).result
    assert result[5].splitlines()[1] == "picture 1: no face was found in restored"
    alone = LandmarkScore.execute(restored=image(lq), gt=image(gt), analyzer=analyzer).result
    assert result[0] == pytest.approx(alone[0])
    empty = LandmarkScore.execute(restored=image(wall), gt=image(gt[:1]), analyzer=analyzer).result
    assert math.isnan(empty[0]) and json.loads(empty[6])["mean"]["ald_eyes"] is None
    assert empty[4].shape[0] == 1


def test_progress_counts_pictures(analyzer, faces, monkeypatch):
    told = []

    class Bar:
        def update(self, n):
            told.append(n)

    monkeypatch.setattr(HeadlessHost, "progress", lambda self, total: told.append(total) or Bar())
    lq, gt = faces
    LandmarkScore.execute(restored=image(lq), gt=image(gt), analyzer=analyzer)
    assert told == [2, 1, 1]


def test_detectors_without_landmarks_say_so(faces):
    lq, gt = faces
    pytest.importorskip("skimage")
    with pytest.raises(FacewrightError, match="no dense landmarks"):
        LandmarkScore.execute(restored=image(lq), gt=image(gt), analyzer=load_analyzer("skimage"))

    class Unarmed:
        name, points = "facexlib", 98

        def landmarks(self, crops):
            raise CheckpointError("alignment_WFLW_4HG.pth is not there")

    with pytest.raises(CheckpointError, match="WFLW"):
        LandmarkScore.execute(restored=image(lq), gt=image(gt), analyzer=Unarmed())
