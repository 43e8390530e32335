"""Identity scores against cosines worked out apart, and faces that are not there."""

import json
import math

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces import load_analyzer
from facewright.core.people.recogniser import Recogniser, nano_recogniser
from facewright.core.scores.identity import reference_template, score_identity
from facewright.core.weights import nano
from facewright.training.world.faces3d import photos
from torch import nn


@pytest.fixture(scope="module")
def recogniser():
    return nano_recogniser(nano.load_identity("loss"))


@pytest.fixture(scope="module")
def analyzer():
    return load_analyzer("nano")


def test_identity_scores_of_crops_are_cosines_and_angles(recogniser):
    sharp, other = (photos([9001, 9002, 9003, 9004], [seed] * 4, 128).pixels for seed in (1, 2))
    scores = score_identity(sharp, other, recogniser)
    for i in range(4):
        a, b = (recogniser(x[i : i + 1])[0].double().numpy() for x in (sharp, other))
        cosine = float(a @ b / np.sqrt((a @ a) * (b @ b)))
        assert scores.values["cosine"][i] == pytest.approx(cosine, abs=1e-6)
        assert scores.values["degrees"][i] == pytest.approx(
            math.degrees(math.acos(cosine)), abs=1e-3
        )
    assert scores.mean("cosine") == pytest.approx(sum(scores.values["cosine"]) / 4)
    strangers = score_identity(sharp, other[1:2], recogniser)
    assert strangers.values["cosine"][1] == pytest.approx(scores.values["cosine"][1])
    assert max(strangers.values["cosine"][0], *strangers.values["cosine"][2:]) < min(
        scores.values["cosine"]
    )
    assert scores.report().splitlines()[-1].startswith("mean of 4: cosine")


def test_faces_are_found_in_whole_pictures_and_missing_ones_said(recogniser, analyzer):
    scenes = photos([9001, 9002], [1, 1], 192, aligned=False).pixels
    crops = photos([9001], [2], 128).pixels
    image = torch.cat([scenes, torch.full((1, 3, 192, 192), 0.5)])
    scores = score_identity(image, crops, recogniser, analyzer=analyzer)
    assert scores.values["cosine"][0] > 0.6 > scores.values["cosine"][1]
    assert math.isnan(scores.values["cosine"][2]) and math.isnan(scores.values["degrees"][2])
    assert scores.notes[2] == "no face found"
    assert scores.mean("cosine") == pytest.approx(sum(scores.values["cosine"][:2]) / 2)
    content = json.loads(scores.to_json())
    assert content["pictures"][2]["cosine"] is None and content["recogniser"] == recogniser.id
    assert content["pictures"][0]["degrees"] == round(scores.values["degrees"][0], 6)
    assert "picture 2: cannot be compared (no face found)" in scores.report()
    empty = score_identity(image[2:], crops, recogniser, analyzer=analyzer)
    assert (
        math.isnan(empty.mean("cosine")) and json.loads(empty.to_json())["mean"]["degrees"] is None
    )


def test_identity_scores_say_what_does_not_fit(recogniser):
    with pytest.raises(FacewrightError, match="no aligned face crop"):
        score_identity(torch.rand(1, 3, 64, 96), torch.rand(1, 3, 64, 64), recogniser)
    with pytest.raises(FacewrightError, match="3 pictures and `other` 2"):
        score_identity(torch.rand(3, 3, 64, 64), torch.rand(2, 3, 64, 64), recogniser)


def test_a_template_is_the_mean_direction_of_the_faces_found(recogniser, analyzer):
    photos_ = photos([9001, 9001, 9001], [1, 2, 3], 160, aligned=False).pixels
    pictures = torch.cat([photos_, torch.full((1, 3, 160, 160), 0.3)])
    template, report = reference_template(pictures, recogniser, analyzer)
    assert report == ["reference 3: no face found"]
    assert float(template.norm()) == pytest.approx(1)
    assert float(template @ recogniser(photos([9001], [7], 128).pixels)[0].double()) > 0.7
    nothing, report = reference_template(pictures[3:], recogniser, analyzer)
    assert nothing is None and "compared with their input" in report[-1]
    assert reference_template(None, recogniser, analyzer) == (None, [])


class _Blind(nn.Module):
    def forward(self, faces):
        return faces.new_zeros(len(faces), 4)


def test_a_picture_without_direction_is_no_match():
    blind = Recogniser(_Blind(), name="blind", dim=4)
    scores = score_identity(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8), blind)
    assert math.isnan(scores.values["cosine"][0])
