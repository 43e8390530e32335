"""HonestFace's nodes through the stand-in of ComfyUI's API, with the bundled models."""

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.weights import nano
from facewright.nodes.faces import DetectFaces
from facewright.nodes.honestface import IDEEncode, LoadNanoHonestface
from facewright.nodes.one_step import OneStepRestore
from facewright.nodes.osdface import VREEncode
from facewright.nodes.people import MatchPeople, PersonAlbum
from facewright.training.world.faces3d import photos
from facewright.training.world.scenes import group_scene

ADA, BO, EVE = 2**40 + 3, 2**40 + 4, 2**40 + 5


@pytest.fixture(scope="module")
def loaded():
    names = ("model", "vae", "vre", "ide", "analyzer", "recogniser")
    return dict(zip(names, LoadNanoHonestface.execute().args, strict=True))


def image(pixels):
    return pixels.permute(0, 2, 3, 1).contiguous()


def crops(seeds, photo=0):
    made = photos(seeds, [9 * s + photo for s in seeds], nano.NANO_SIZE)
    return image(made.pixels)


def album(loaded, seed, name):
    return PersonAlbum.execute(
        references=[torch.cat([crops([seed], k) for k in (1, 2, 3)])],
        name=[name],
        analyzer=[loaded["analyzer"]],
        recogniser=[loaded["recogniser"]],
        crop_size=[nano.NANO_SIZE],
    ).args[0]


def encode(loaded, lq, **sources):
    given = {k: v if isinstance(v, list) else [v] for k, v in sources.items()}
    return IDEEncode.execute([loaded["ide"]], [loaded["vre"]], [lq], **given).args


def test_without_references_a_prompt_and_black_pictures(loaded):
    lq = crops([ADA, BO])
    cond, chosen, report = encode(loaded, lq)
    assert cond[0][0].shape == (2, 77, 128)
    assert chosen.shape == (2, nano.NANO_SIZE, nano.NANO_SIZE, 3) and not chosen.any()
    assert report.splitlines() == ["face 0: no references", "face 1: no references"]


def test_references_change_the_prompt_and_the_picture(loaded):
    lq = crops([ADA])
    plain = encode(loaded, lq)[0]
    mine, chosen, report = encode(
        loaded, lq, references=torch.cat([crops([ADA], k) for k in (1, 2)])
    )
    other = encode(loaded, lq, references=crops([BO], 1))[0]
    assert not torch.equal(mine[0][0], plain[0][0]) and not torch.equal(mine[0][0], other[0][0])
    assert chosen.any() and "2 photos; eyes of photo" in report
    pictures = [
        OneStepRestore.execute(loaded["model"], loaded["vae"], cond, lq, 399, "mean", 0, 4).args[0]
        for cond in (plain, mine)
    ]
    assert not torch.allclose(*pictures, atol=1e-3)


def test_photographs_of_any_size_that_show_more_than_a_face(loaded):
    scene = image(group_scene(3, [ADA]).pixels[None])
    cond, _, report = encode(loaded, crops([ADA]), references=[scene, crops([ADA], 2)])
    assert cond[0][0].isfinite().all() and "2 photos" in report


def test_a_reference_without_a_face_is_named_and_the_others_count(loaded):
    grey = torch.full((1, 64, 64, 3), 0.5)
    _, _, report = encode(loaded, crops([ADA]), references=[crops([ADA], 1), grey])
    assert "photo 1" in report.splitlines()[0] and "1 photo; eyes of photo 0" in report
    with pytest.raises(FacewrightError, match="No photo of references can be used"):
        encode(loaded, crops([ADA]), references=grey)


def test_each_face_of_a_group_gets_its_own_album_or_none(loaded):
    picture = image(group_scene(11, [BO, EVE, ADA]).pixels[None])
    faces, lq, *_ = DetectFaces.execute(
        picture, loaded["analyzer"], nano.NANO_SIZE, "left to right", "", 0, 0.0, 0, 0.0
    ).args
    people = [album(loaded, ADA, "Ada"), album(loaded, BO, "Bo")]
    matches = MatchPeople.execute(picture, faces, loaded["recogniser"], 0.0, people).args[0]
    cond, chosen, report = encode(loaded, lq, matches=matches)
    lines = report.splitlines()
    assert ["Bo, 3 photos" in lines[0], lines[1], "Ada, 3 photos" in lines[2]] == [
        True, "face 1: no references", True
    ]  # fmt: skip
    assert chosen[0].any() and not chosen[1].any() and chosen[2].any()
    # a face's prompt is what it is alone
    alone = encode(loaded, lq[2:], person=people[0])[0]
    torch.testing.assert_close(cond[0][0][2:], alone[0][0], rtol=0, atol=1e-5)


def test_several_sources_are_refused(loaded):
    person = album(loaded, ADA, "Ada")
    with pytest.raises(FacewrightError, match="`references` and `person` are connected"):
        encode(loaded, crops([ADA]), references=crops([ADA], 1), person=person)


def test_matches_of_other_faces_are_refused(loaded):
    picture = image(group_scene(11, [BO, ADA]).pixels[None])
    faces, *_ = DetectFaces.execute(
        picture, loaded["analyzer"], nano.NANO_SIZE, "left to right", "", 0, 0.0, 0, 0.0
    ).args
    matches = MatchPeople.execute(picture, faces, loaded["recogniser"], 0.0, None).args[0]
    with pytest.raises(FacewrightError, match="`matches` tells of 2 faces but `image` holds 1"):
        encode(loaded, crops([ADA]), matches=matches)


def test_no_face_gives_an_empty_prompt(loaded):
    none = torch.zeros(0, nano.NANO_SIZE, nano.NANO_SIZE, 3)
    cond, chosen, report = encode(loaded, none, person=album(loaded, ADA, "Ada"))
    assert cond[0][0].shape == (0, 77, 128) and len(chosen) == 0 and report == ""
    assert VREEncode.execute(loaded["vre"], none).args[0][0][0].shape == (0, 77, 128)
