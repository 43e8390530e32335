"""Recogniser, score and guard as nodes on the headless host, down to the saved PNGs."""

import json
import math
import shutil

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces import load_analyzer
from facewright.core.geometry.paste import Pasting
from facewright.core.people.album import make_person
from facewright.core.people.delivery import PasteDelivery
from facewright.core.people.guard import guard_delivery
from facewright.core.people.limits import percent
from facewright.core.people.matching import match_faces
from facewright.core.people.recogniser import nano_recogniser
from facewright.core.weights import nano
from facewright.headless.host.host import HeadlessHost
from facewright.headless.host.saving import RunContext, context
from facewright.headless.runner import run_workflow
from facewright.nodes._convert import to_image, to_nchw
from facewright.nodes.faces import DetectFaces, PasteFaces
from facewright.nodes.guard import IdentityGuard, PictureGuard, SaveWithReceipts
from facewright.nodes.recognition import IdentityScore, LoadRecogniser
from facewright.training.world.faces3d import photos
from PIL import Image


@pytest.fixture(scope="module")
def recogniser():
    return nano_recogniser(nano.load_identity("loss"))


@pytest.fixture(scope="module")
def analyzer():
    return load_analyzer("nano")


@pytest.fixture(scope="module")
def crops():
    """The same two people twice, as IMAGE."""
    return [to_image(photos([9001, 9002], [seed] * 2, 128).pixels) for seed in (1, 2)]


def guard(image, restored, recogniser, analyzer, **changes):
    values = {"max_drift": 0.5, "action": "fall back"} | changes
    return IdentityGuard.execute(
        image=image, restored=restored, recogniser=recogniser, analyzer=analyzer, **values
    )


def test_a_recogniser_is_loaded_by_its_file(tmp_path, monkeypatch, recogniser):
    shutil.copy(nano.NANO_DIR / "nano_identity_loss.safetensors", tmp_path / "mine.safetensors")
    monkeypatch.setattr(HeadlessHost, "model_path", lambda self, kind, name: tmp_path / name)
    loaded, info = LoadRecogniser.execute(recogniser_file="mine.safetensors").result
    assert loaded.id == recogniser.id
    limit = recogniser.limits.told(0.65)
    assert info == (
        f"mine.safetensors: {recogniser.id}, 128 numbers from the whole aligned face; one person "
        f"from {limit}"
    )


def test_scores_of_crops_and_of_whole_pictures(crops, recogniser, analyzer):
    image, other = crops
    result = IdentityScore.execute(image=image, other=other, recogniser=recogniser)
    cosine, degrees, report, text = result.result
    assert 0.6 < cosine <= 1 and degrees == pytest.approx(
        sum(p["degrees"] for p in json.loads(text)["pictures"]) / 2, abs=1e-5
    )
    assert report.count("\n") == 2 and result.ui.as_dict()["text"] == (report,)
    stranger = IdentityScore.execute(image=image[:1], other=other[1:], recogniser=recogniser)
    assert stranger.result[0] < cosine
    blank = IdentityScore.execute(
        image=torch.full((1, 160, 160, 3), 0.5),
        other=other[:1],
        recogniser=recogniser,
        analyzer=analyzer,
    )
    assert math.isnan(blank.result[0]) and "no face found" in blank.result[2]


def test_the_guard_keeps_the_right_and_holds_back_the_wrong(crops, recogniser, analyzer):
    image, _ = crops
    wrong = torch.stack([image[0], image[0]])
    result = guard(image, wrong, recogniser, analyzer)
    guarded, receipts, overlay, report = result.result
    assert torch.equal(guarded, image)
    assert [f["verdict"] for f in json.loads(receipts)["faces"]] == ["kept", "fell back"]
    assert overlay.shape == (2, 256, 776, 3) and len(report.splitlines()) == 3
    assert torch.equal(result.ui.as_dict()["images"], overlay)


def test_a_limit_by_false_match_rate_is_that_of_the_recogniser(crops, recogniser, analyzer):
    image, other = crops
    other = 0.45 * other[:1] + 0.55 * other[1:]  # half another person
    cosine = float((recogniser(to_nchw(image)[:1]) * recogniser(to_nchw(other))).sum())
    rates = [row.rate for row in recogniser.limits.table]
    passing = [rate for rate in rates if recogniser.limits.cosine_at(rate) <= cosine]
    for rate in rates:
        _, receipts, _, report = guard(
            image[:1], other, recogniser, analyzer, max_drift=0.0, false_match_rate=rate
        ).result
        content = json.loads(receipts)
        (face,) = content["faces"]
        assert (face["verdict"] == "kept") == (rate in passing)
        assert face["max_drift"] == pytest.approx(1 - recogniser.limits.cosine_at(rate))
        assert f"{percent(rate)} of the strangers" in content["limit"]["source"]
        assert f"{percent(rate)} of strangers, rendered faces" in report
    assert 0 < len(passing) < len(rates)


def test_references_are_found_in_pictures(crops, recogniser, analyzer):
    image, _ = crops
    portraits = to_image(photos([9001, 9001], [5, 6], 160, aligned=False).pixels)
    result = guard(image, image, recogniser, analyzer, references=portraits).result
    faces = json.loads(result[1])["faces"]
    assert [f["anchor"] for f in faces] == ["references"] * 2
    assert [f["verdict"] for f in faces] == ["kept", "nearest"]
    blank = torch.full((1, 160, 160, 3), 0.5)
    _, receipts, _, report = guard(image, image, recogniser, analyzer, references=blank).result
    assert report.splitlines()[1].startswith("no face in any reference")
    assert [f["anchor"] for f in json.loads(receipts)["faces"]] == ["input"] * 2


def test_each_face_is_held_against_its_own_match(crops, recogniser, analyzer):
    image, other = crops
    ann, _ = make_person(
        list(photos([9001, 9001], [5, 6], 160, aligned=False).pixels),
        name="ann",
        sources=["a.png", "b.png"],
        analyzer=analyzer,
        recogniser=recogniser,
        crop_size=128,
    )
    matches = match_faces(to_nchw(image), torch.tensor([0, 0]), [ann], recogniser)
    wrong = torch.stack([image[1], other[1]])
    result = guard(image, wrong, recogniser, analyzer, matches=matches).result
    known, unknown = json.loads(result[1])["faces"]
    assert (known["person"], known["anchor"], known["verdict"]) == (
        "ann", "references", "fell back"
    )  # fmt: skip
    assert (unknown["person"], unknown["anchor"], unknown["verdict"]) == (None, "input", "kept")
    with pytest.raises(FacewrightError, match="`person` and by `matches`"):
        guard(image, wrong, recogniser, analyzer, matches=matches, person=ann)


def test_no_faces_pass_through_to_the_paste_node(recogniser, analyzer):
    picture = torch.full((1, 96, 96, 3), 0.25)
    faces, found, *_ = DetectFaces.execute(
        image=picture, analyzer=analyzer, crop_size=128, order="size", pick="",
        min_size=0, min_score=0.0, max_faces=0, padding=0.0,
    ).result  # fmt: skip
    guarded, receipts, overlay, report = guard(found, found, recogniser, analyzer).result
    assert len(guarded) == 0 and overlay.shape == (1, 256, 776, 3)
    assert report.splitlines()[0] == "no faces"
    assert json.loads(receipts)["faces"] == []
    pasted, *_ = PasteFaces.execute(
        image=picture, faces=faces, restored=guarded, feather=0.12, color="none", strength=1.0
    ).result
    assert torch.equal(pasted, picture)


def detected(scenes, analyzer):
    return DetectFaces.execute(
        image=scenes, analyzer=analyzer, crop_size=128, order="size", pick="",
        min_size=0, min_score=0.0, max_faces=0, padding=0.0,
    ).result[:2]  # fmt: skip


def test_the_finished_picture_is_judged_and_what_drifted_taken_back(crops, recogniser, analyzer):
    scenes = to_image(photos([9001, 9002], [1, 1], 160, aligned=False).pixels)
    scenes = torch.cat([scenes, torch.rand(2, 160, 160, 1)], 3)
    faces, found = detected(scenes, analyzer)
    wrong = torch.stack([found[0], found[0]])
    paste = {"image": scenes, "faces": faces, "feather": 0.12, "color": "none"}
    pasted, mask, _ = PasteFaces.execute(**paste, restored=wrong, strength=1.0).result
    how = {"image": scenes, "faces": faces, "recogniser": recogniser, "analyzer": analyzer}
    how |= {"max_drift": 0.1, "action": "fall back"}
    result = PictureGuard.execute(pasted=pasted, **how)
    picture, receipts, overlay, report = result.result
    content = json.loads(receipts)
    assert content["measured"] == "delivered"
    assert [(p["width"], p["height"]) for p in content["pictures"]] == [(160, 160)] * 2
    assert [f["verdict"] for f in content["faces"]] == ["kept", "fell back"]
    assert [f["picture"] for f in content["faces"]] == [0, 1]
    assert torch.equal(picture[0], pasted[0]) and not torch.equal(pasted[1], scenes[1])
    torch.testing.assert_close(picture[1], scenes[1], rtol=0, atol=1e-6)
    assert torch.equal(picture[..., 3], scenes[..., 3])
    assert torch.equal(picture[mask == 0], scenes[mask == 0])
    assert overlay.shape == (2, 256, 776, 3) and len(report.splitlines()) == 3
    assert torch.equal(result.ui.as_dict()["images"], overlay)
    # As weak as it was pasted, nobody has become anybody else.
    weak, *_ = PasteFaces.execute(**paste, restored=wrong, strength=0.1).result
    kept = json.loads(PictureGuard.execute(pasted=weak, **how).result[1])["faces"]
    assert [f["verdict"] for f in kept] == ["kept"] * 2
    with pytest.raises(FacewrightError, match="went into Paste Faces and what came out"):
        PictureGuard.execute(pasted=weak[:, ::2, ::2], **how)
    with pytest.raises(FacewrightError, match="same pictures the faces were detected in"):
        PictureGuard.execute(pasted=weak[:1], **{**how, "image": scenes[:1]})


def test_receipts_of_a_finished_picture_say_how_it_was_pasted(crops, recogniser, analyzer):
    """The same numbers as where faces are pasted and judged in one: under the border and mask."""
    scenes = to_image(photos([9001, 9002], [1, 1], 160, aligned=False).pixels)
    faces, found = detected(scenes, analyzer)
    how = {"feather": 0.3, "color": "lab", "strength": 0.4, "detail": 0.5}
    masks = torch.zeros(2, 128, 128)
    masks[:, 30:90, 40:80] = 1
    wrong = torch.stack([found[1], found[0]])
    pasted, _, told = PasteFaces.execute(
        image=scenes, faces=faces, restored=wrong, masks=masks, **how
    ).result
    judged = {"recogniser": recogniser, "analyzer": analyzer, "action": "report only"}
    given = {"image": scenes, "pasted": pasted, "max_drift": 2.0, **judged}
    known, unknown = (
        json.loads(PictureGuard.execute(faces=f, **given).result[1]) for f in (told, faces)
    )
    assert known["options"] == {"size": 128, **how, "mask": "connected"}
    assert unknown["options"] == {}
    assert {f["strength"] for f in known["faces"]} == {f["asked"] for f in known["faces"]} == {0.4}
    pictures = to_nchw(scenes)
    lq = faces.pixels
    pasting = Pasting(pictures, faces, to_nchw(wrong), 0.3, "lab", masks, 0.5)
    expected = guard_delivery(
        lq,
        PasteDelivery(pasting, pictures, lq, 0.4, 0.3, masks),
        recogniser=recogniser, landmarker=analyzer, max_drift=2.0, action="report only",
    ).receipts  # fmt: skip
    for name in ("color", "seam", "sharpness"):
        entry = "color_difference" if name == "color" else name
        numbers = [getattr(receipt.measured, name) for receipt in expected]
        assert [f[entry] for f in known["faces"]] == pytest.approx(numbers, rel=1e-4)
        assert [f[entry] for f in unknown["faces"]] != pytest.approx(numbers, rel=1e-2)
    one = told.of_picture(1)
    assert torch.equal(one.pasted.masks, masks[1:]) and one.pasted.strength == 0.4
    held = {**given, "max_drift": 0.001, "action": "fall back"}
    back = PictureGuard.execute(faces=told, **held).result[0]
    torch.testing.assert_close(back, scenes, rtol=0, atol=1e-6)


def test_a_picture_without_faces_passes_the_guard(recogniser, analyzer):
    picture = torch.full((1, 96, 96, 3), 0.25)
    faces, _ = detected(picture, analyzer)
    out, receipts, overlay, report = PictureGuard.execute(
        image=picture, pasted=picture, faces=faces, recogniser=recogniser, analyzer=analyzer,
        max_drift=0.5, action="lower strength",
    ).result  # fmt: skip
    assert torch.equal(out, picture) and report.startswith("no faces\n") and len(overlay) == 1
    assert json.loads(receipts)["faces"] == []


def test_saved_pictures_carry_the_receipts_of_their_own_faces(
    tmp_path, crops, recogniser, analyzer
):
    scenes = to_image(photos([9001, 9002], [1, 1], 160, aligned=False).pixels)
    faces, found, *_ = DetectFaces.execute(
        image=scenes, analyzer=analyzer, crop_size=128, order="size", pick="",
        min_size=0, min_score=0.0, max_faces=0, padding=0.0,
    ).result  # fmt: skip
    assert len(found) == 2
    receipts = guard(found, found, recogniser, analyzer).result[1]
    token = context.set(RunContext(output_dir=tmp_path, prompt={"1": {"class_type": "x"}}))
    try:
        saved = SaveWithReceipts.execute(
            images=scenes, receipts=receipts, filename_prefix="out", faces=faces
        )
        SaveWithReceipts.execute(images=scenes[:1], receipts="", filename_prefix="plain")
        with pytest.raises(FacewrightError, match="Identity Guard puts out"):
            SaveWithReceipts.execute(images=scenes, receipts="kept", filename_prefix="out")
    finally:
        context.reset(token)
    assert [p.name for p in saved.ui["images"]] == ["out_00001_.png", "out_00002_.png"]
    for i, path in enumerate(saved.ui["images"]):
        info = Image.open(path).info
        assert json.loads(info["prompt"]) == {"1": {"class_type": "x"}}
        assert [f["face"] for f in json.loads(info["facewright_receipts"])["faces"]] == [i]
    assert "facewright_receipts" not in Image.open(tmp_path / "plain_00001_.png").info


def test_names_are_saved_only_where_they_are_asked_for(tmp_path):
    face = {"face": 0, "person": "Ada"}
    text = json.dumps({"format": "facewright.receipts", "version": 1, "faces": [face]})
    token = context.set(RunContext(output_dir=tmp_path))
    try:
        for number, asked in enumerate(({}, {"names": False}, {"names": True}), 1):
            SaveWithReceipts.execute(torch.rand(1, 8, 8, 3), text, "a", **asked)
            data = (tmp_path / f"a_0000{number}_.png").read_bytes()
            assert (b"Ada" in data, b"person 1" in data) == (number == 3, number < 3)
    finally:
        context.reset(token)


def test_a_workflow_saves_its_receipts(tmp_path):
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "face.png"}},
        "2": {
            "class_type": "FacewrightSaveWithReceipts",
            "inputs": {"images": ["1", 0], "receipts": "", "filename_prefix": "done/face"},
        },
    }
    picture = Image.fromarray((torch.rand(8, 8, 3) * 255).byte().numpy())
    picture.save(tmp_path / "face.png")
    results = run_workflow(graph, input_dir=tmp_path, output_dir=tmp_path / "out")
    (path,) = results["2"].ui["images"]
    assert path.relative_to(tmp_path / "out").as_posix() == "done/face_00001_.png"
    assert Image.open(path).tobytes() == picture.tobytes()
    assert json.loads(Image.open(path).info["prompt"])["2"]["inputs"]["receipts"] == ""
