"""HonestFace's shipped workflows run in this process as they stand."""

import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facewright.core import demo
from facewright.core.faces import load_analyzer
from facewright.core.host import host
from facewright.core.images import Picture, write_picture
from facewright.core.node_api import io
from facewright.core.people.album import make_person
from facewright.core.people.recogniser import nano_recogniser
from facewright.core.weights import nano
from facewright.docs.graphs.demo_picture import ADA, ADA_ALBUM, ADA_SHOT, BO, BO_ALBUM, STRANGER
from facewright.docs.graphs.graph import FOLDER
from facewright.headless.host.builtin import ImageBatch
from facewright.headless.runner import node_classes, run_workflow
from facewright.headless.workflows.workflow import read_workflow
from facewright.training.world.scenes import group_scene
from PIL import Image

KNOWN = {ADA: "Ada", BO: "Bo", STRANGER: "nobody"}


def run(name, folder, inputs=None, **given):
    """Results by the title of their node."""
    path = FOLDER / f"{name}.json"
    results = run_workflow(path, inputs or {}, output_dir=folder, **given)
    prompt = read_workflow(FOLDER / f"api/{name}.api.json")
    return {node["_meta"]["title"]: results[k] for k, node in prompt.items() if k in results}


def test_the_demo_shows_photos_that_the_damaged_pictures_do_not():
    assert ADA_SHOT not in ADA_ALBUM and len({ADA, BO, STRANGER}) == 3
    for name in ("photos of Ada", "photos of Bo"):
        photos = demo.album_photos(name)
        assert photos.shape == (4, 3, 256, 256)
        # Four photographs, not one cut in the wrong places.
        assert (photos[:, None] - photos[None]).abs().mean((2, 3, 4)).add(torch.eye(4)).min() > 0.02
    assert len(ADA_ALBUM) == len(BO_ALBUM) == 4


def test_nano_honestface_restore_runs_as_shipped(tmp_path):
    shown = run("nano_honestface_restore", tmp_path)
    lq, gt = shown["Demo Picture"]
    cond, chosen, report = shown["IDE Encode, with photographs"]
    plain, black, none = shown["IDE Encode, without photographs"]
    assert report.startswith("face 0: references, 4 photos; eyes of photo ")
    assert none == "face 0: no references" and not black.any() and chosen.any()
    assert cond[0][0].shape == plain[0][0].shape == (1, 77, 128)
    assert not torch.equal(cond[0][0], plain[0][0])
    good, without = (shown[f"Paste {how} photographs"][0] for how in ("with", "without"))
    assert not torch.equal(good, without)
    for how, restored in (("with", good), ("without", without)):
        mask = shown[f"Paste {how} photographs"][1]
        assert torch.equal(restored[mask == 0], lq[mask == 0])
        scores = shown[f"Landmark Score {how} photographs"]
        assert scores[5] == shown[f"Landmarks {how} photographs"].ui["text"][0]
        assert 0 < scores[3] < 10 and json.loads(scores[6])["images"][0]["missing"] is None
    compared, original = shown["Compare Before / After"], torch.cat([lq, gt], 2)
    assert torch.equal(compared[0][:, :100, -60:], original[:, :100, -60:]), "gt at the right"
    assert len(list(tmp_path.rglob("*.png"))) == 2


@pytest.mark.slow
def test_nano_people_frames_runs_as_shipped(tmp_path):
    shown = run("nano_people_frames", tmp_path)
    matches, preview, report, known = shown["Match People"]
    lines = report.splitlines()
    assert lines[0].startswith("face 0, frames 0 to 6: Ada (0.")
    assert lines[1].startswith("face 1, frames 0 to 15: Bo (0.")
    assert lines[2].startswith("face 2, frames 9 to 15: nobody (") and len(lines) == 3
    assert known == 7 + 16 and len(preview) == 16
    receipts = json.loads(shown["Identity Guard"][1])
    assert [(t["person"], t["frames"]["count"]) for t in receipts["tracks"]] == [
        ("Ada", 7), ("Bo", 16), (None, 7),
    ]  # fmt: skip
    assert [f["person"] for f in receipts["faces"]] == [
        person.name if (person := matches.person_of(k)) else None for k in range(len(matches))
    ]
    assert len(list(tmp_path.rglob("*.mp4"))) == 1


def test_nano_group_people_runs_as_shipped(tmp_path):
    shown = run("nano_group_people", tmp_path)
    matches, _, report, known = shown["Match People"]
    assert matches.names == ["Ada", "Bo", "nobody"] and known == 2
    for name in ("Ada", "Bo"):
        person, _, _, told = shown[f"Album of {name}"]
        assert len(person) == 4 and told == person.info, "a demo without warnings"
    used = shown["IDE Encode (HonestFace)"][2].splitlines()
    assert used[0].startswith("face 0: Ada, 4 photos")
    assert used[1].startswith("face 1: Bo, 4 photos") and used[2] == "face 2: no references"
    assert shown["Who is who"].ui["text"] == (report,)
    guarded, receipts, _, words = shown["Picture Guard"]
    content = json.loads(receipts)
    faces = content["faces"]
    assert content["measured"] == "delivered" and len(content["pictures"]) == 1
    assert [(f["person"], f["anchor"]) for f in faces] == [
        ("Ada", "references"), ("Bo", "references"), (None, "input")
    ]  # fmt: skip
    assert shown["Receipts in words"].ui["text"] == (words,)
    restored, mask, _ = shown["Paste Faces"]
    image = shown["Demo Picture"][0]
    assert torch.equal(restored[mask == 0], image[mask == 0]) and not torch.equal(restored, image)
    assert torch.equal(guarded, restored), "nobody drifted"
    saved = sorted(tmp_path.rglob("*.png"))
    assert len(saved) == 2
    texts = Image.open(next(p for p in saved if "compare" not in p.name)).info
    called = {"Ada": "person 1", "Bo": "person 2", None: None}
    inside = [{**f, "person": called[f["person"]]} for f in faces]
    assert json.loads(texts["facewright_receipts"])["faces"] == inside
    assert json.loads(texts["prompt"]) and json.loads(texts["workflow"])["nodes"]


def test_nobody_gets_the_photos_of_another_when_one_album_is_left_out(tmp_path):
    prompt = read_workflow(FOLDER / "api/nano_group_people.api.json")
    ids = {node["_meta"]["title"]: k for k, node in prompt.items()}
    del prompt[ids["Album of Bo"]]["inputs"]["people"]
    results = run_workflow(prompt, output_dir=tmp_path)
    assert results[ids["Match People"]][0].names == ["nobody", "Bo", "nobody"]


@pytest.fixture
def thin(osdface_files, monkeypatch, models_in):
    """Thin weights for SD 2.1; recogniser, landmarks and eyes are those of rendered people."""
    from facewright.core.methods.honestface import IDEConfig, IdentityEmbedder, eye_channels
    from facewright.core.people.recogniser import fingerprint

    models, own = osdface_files, osdface_files / "facewright"
    (own / "osdface_vre.safetensors").rename(own / "honestface_vre.safetensors")
    lora = models / "loras/pytorch_lora_weights.safetensors"
    lora.rename(models / "loras/honestface_lora.safetensors")
    shutil.copy(nano.NANO_DIR / "nano_identity_loss.safetensors", own)
    encoder, analyzer = nano.load_identity("loss"), load_analyzer("nano")
    recogniser = nano_recogniser(encoder)
    colour, structure = eye_channels(encoder)
    config = IDEConfig(
        width=8,
        hidden=8,
        colour_channels=colour,
        structure_channels=structure,
        recogniser_dim=recogniser.dim,
        recogniser=recogniser.id,
        extractor=fingerprint(encoder),
    )
    ide = IdentityEmbedder(config, recogniser=recogniser, extractor=encoder, landmarker=analyzer)
    torch.nn.init.normal_(ide.learned.fusion.extra)
    ide.save(own / "honestface_ide.safetensors")
    for file, name in (("alice", "Ada"), ("bob", "Bo")):
        photos = demo.album_photos(f"photos of {name}")
        person, _ = make_person(
            list(photos),
            name=name,
            sources=[f"{i}.jpg" for i in range(len(photos))],
            analyzer=analyzer,
            recogniser=recogniser,
            crop_size=64,
        )
        (own / "people").mkdir(exist_ok=True)
        person.save(own / f"people/{file}.person")
    models_in(models)
    found = classmethod(lambda cls, backend, **more: io.NodeOutput(analyzer))
    monkeypatch.setattr(node_classes()["FacewrightLoadFaceAnalyzer"], "execute", found)
    return {
        "FacewrightLoadRecogniser.recogniser_file": "nano_identity_loss.safetensors",
        "FacewrightLoadIDE.eye_extractor": "nano_identity_loss.safetensors",
        "FacewrightDetectFaces.crop_size": 64,
    }


def write(folder, **pictures):
    for name, pixels in pictures.items():
        write_picture(folder / f"{name}.png", pixels, Picture(pixels))


def test_honestface_restore_runs_with_thin_weights(thin, tmp_path):
    photos = demo.album_photos("photos of Ada")
    write(tmp_path, lq=demo.picture("Ada")[0][0], one=photos[0], two=photos[1, :, 20:, 40:])
    thin |= {
        "The damaged picture.image": "lq.png",
        "A good photo of them.image": "one.png",
        "Another good photo.image": "two.png",
    }
    shown = run("honestface_restore", tmp_path / "out", thin, input_dir=tmp_path)
    assert shown["IDE Encode (HonestFace)"][2].startswith(
        "face 0: the person, 2 photos; eyes of photo "
    )
    (face,) = json.loads(shown["Picture Guard"][1])["faces"]
    assert face["anchor"] == "references"
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2


def test_group_photo_people_runs_with_thin_weights(thin, tmp_path):
    order = [STRANGER, ADA, BO]
    write(tmp_path, lq=group_scene(3, order, width=480, height=320).pixels)
    thin |= {"The damaged picture.image": "lq.png"}
    shown = run("group_photo_people", tmp_path / "out", thin, input_dir=tmp_path)
    assert shown["Match People"][0].names == [KNOWN[seed] for seed in order]
    assert shown["IDE Encode (HonestFace)"][2].splitlines()[0] == "face 0: no references"
    saved = [p for p in (tmp_path / "out").rglob("*.png") if "compare" not in p.name]
    assert "facewright_receipts" in Image.open(saved[0]).info


def test_an_album_that_is_not_there_is_named(thin, tmp_path):
    (host.folders.roots[0] / "facewright/people/bob.person").unlink()
    with pytest.raises(Exception, match=r"bob\.person"):
        run("group_photo_people", tmp_path, thin, input_dir=tmp_path)


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (31, 17), (24, 32)])
def test_image_batch_cuts_the_second_to_the_shape_of_the_first(size):
    first, second = torch.rand(1, 24, 32, 3), torch.rand(2, *size, 3)
    both = ImageBatch.execute(first, second).args[0]
    assert torch.equal(both[:1], first) and both.shape == (3, 24, 32, 3)
    h, w = size
    wide = w / h > 32 / 24
    cut = round(((w - h * 32 / 24) if wide else (h - w * 24 / 32)) / 2)
    kept = second[:, :, cut : w - cut] if wide else second[:, cut : h - cut]
    expected = F.interpolate(kept.movedim(-1, 1), (24, 32), mode="bilinear").movedim(1, -1)
    np.testing.assert_allclose(both[1:], expected, atol=1e-6)
