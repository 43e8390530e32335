"""Nodes run one after another, with a backbone and an analyzer that need no weights."""

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces import AutoAnalyzer, Choice, Face
from facewright.core.faces.auto import Passed
from facewright.core.host import running
from facewright.core.methods.osdface import VisualRepresentationEmbedder, VREConfig
from facewright.core.modules.autoencoder import AutoencoderConfig
from facewright.core.weights.model_folders import ModelFolders
from facewright.headless.host.builtin import VAEDecode
from facewright.headless.host.host import HeadlessHost
from facewright.nodes.compare import Compare
from facewright.nodes.detections import FacesFromDetections
from facewright.nodes.faces import DetectFaces, LoadFaceAnalyzer, PasteFaces
from facewright.nodes.frames import RestoreVideo
from facewright.nodes.nano import DemoPicture
from facewright.nodes.one_step import OneStepRestore, OneStepSampler
from facewright.nodes.osdface import VREEncode


class Told:
    """Finds in every picture the faces that were written down for it."""

    name = "told"

    def __init__(self, *faces):
        self.faces = iter(faces)

    def detect(self, image):
        return next(self.faces)


def face(x, y, size=40.0, score=1.0):
    half = size / 2
    return Face((x - half, y - half, x + half, y + half), score)


@pytest.fixture
def vre():
    encoder = AutoencoderConfig(
        ch=4, ch_mult=(1, 2), num_res_blocks=1, attn_levels=(), mid_attn=False, z_channels=8,
        groups=1,
    )  # fmt: skip
    return VisualRepresentationEmbedder(
        VREConfig(encoder=encoder, num_codes=32, input_size=16, proj_hidden=8, proj_out=12)
    ).eval()


@pytest.fixture
def weightless(monkeypatch, backbone):
    """The headless host with the identity backbone of tests/conftest.py."""
    monkeypatch.setattr(HeadlessHost, "backbone", lambda self, model, vae: backbone)
    monkeypatch.setattr(HeadlessHost, "latent", lambda self, model, z: {"samples": z})
    monkeypatch.setattr(HeadlessHost, "lacking", lambda self, model: "")
    return backbone


def detect(image, *faces, **options):
    values = {
        "crop_size": 64,
        "order": "left to right",
        "pick": "",
        "min_size": 0,
        "min_score": 0.0,
        "max_faces": 0,
        "padding": 0.0,
    }
    return DetectFaces.execute(image=image, analyzer=Told(*faces), **(values | options)).result


def restore(cond, image, **options):
    values = {"timestep": 399, "posterior": "mean", "seed": 0, "faces_at_once": 2} | options
    return OneStepRestore.execute(
        model=None, vae=None, conditioning=cond, image=image, **values
    ).result


def paste(image, faces, restored, **options):
    values = {"feather": 0.12, "color": "none", "strength": 1.0} | options
    return PasteFaces.execute(image=image, faces=faces, restored=restored, **values).result[:2]


def test_a_batch_with_and_without_faces_goes_all_the_way(weightless, vre):
    photos = torch.rand(3, 120, 200, 4)
    faces, crops, preview, count, report = detect(
        photos, [face(150, 60), face(50, 60)], [], [face(100, 60)]
    )
    assert count == len(faces) == 3 and crops.shape == (3, 64, 64, 3)
    assert faces.image_index.tolist() == [0, 0, 2]
    assert faces.boxes[0, 0] < faces.boxes[1, 0]  # left to right
    assert preview.shape == (3, 120, 200, 3)
    assert [line.split(":")[0] for line in report.splitlines()] == [
        "picture 0", "picture 1", "picture 2"
    ]  # fmt: skip
    cond, token_map = VREEncode.execute(vre=vre, image=crops).result
    assert cond[0][0].shape == (3, 77, 12) and token_map.shape == (3, 512, 512, 3)
    restored, latent = restore(cond, crops)
    assert restored.shape == crops.shape and latent["samples"].shape == (3, 3, 8, 8)
    pasted, mask = paste(photos, faces, restored)
    assert mask.shape == (3, 120, 200)
    assert torch.equal(pasted[1], photos[1])
    assert torch.equal(pasted[..., 3], photos[..., 3])
    outside = mask == 0
    assert torch.equal(pasted[outside], photos[outside])
    assert (pasted[~outside] != photos[~outside]).any()


def test_why_there_is_no_face_stands_on_the_preview_alone(caplog):
    photos = torch.rand(2, 240, 320, 4)
    faces, _, preview, count, report = detect(photos, [face(150, 60)], [], min_size=64)
    assert count == 0
    small = "1 face found by told, smaller than 64 px (40 px); it passes through unchanged."
    lines = report.splitlines()
    assert lines[0] == f"picture 0: {small} Try a smaller min_size."
    assert lines[1].startswith("picture 1: no face found by told; it passes through unchanged. Try")
    assert len(caplog.messages) == 1 and "in 2 of 2 pictures" in caplog.messages[0]
    for shown, photo in zip(preview, photos[..., :3], strict=True):
        rows = (shown != photo).any(-1).any(-1).nonzero()[:, 0]
        assert rows.min() > 120 and rows.max() == 239
    pasted, _ = paste(photos, faces, photos[:0])
    assert torch.equal(pasted, photos)


def test_the_report_says_what_auto_chose_and_the_rest_stays(tmp_path):
    choice = Choice("skimage", None, (Passed("mediapipe", "broken", broken=True),))
    auto = AutoAnalyzer(Told([face(150, 60)]), choice)
    options = {"crop_size": 64, "order": "size", "pick": "", "min_size": 0, "min_score": 0.0}
    done = DetectFaces.execute(
        torch.rand(1, 120, 200, 3), auto, **options, max_faces=0, padding=0.0
    )
    found, said, warning = done.result[4].splitlines()
    assert found == "picture 0: 1 face, aligned by box"
    assert (
        said.startswith("Faces are looked for by skimage, because broken") and "broken" in warning
    )


def test_auto_is_asked_again_when_files_come(tmp_path):
    with running(HeadlessHost(ModelFolders([tmp_path]))):
        before = LoadFaceAnalyzer.fingerprint_inputs("auto")
        assert before == LoadFaceAnalyzer.fingerprint_inputs("auto")
        (tmp_path / "detection").mkdir()
        (tmp_path / "detection" / "face_landmarker.task").touch()
        assert before != LoadFaceAnalyzer.fingerprint_inputs("auto")
        named = LoadFaceAnalyzer.fingerprint_inputs("nano")
        (tmp_path / "detection" / "face_landmarker.task").unlink()
        assert named == LoadFaceAnalyzer.fingerprint_inputs("nano")


def test_each_face_is_embedded_as_it_would_be_alone(vre):
    crops = torch.rand(9, 16, 16, 3)
    together = VREEncode.execute(vre=vre, image=crops).result[0][0][0]
    for i in range(9):
        alone = VREEncode.execute(vre=vre, image=crops[i : i + 1]).result[0][0][0]
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-6, rtol=0)


def test_a_sampled_posterior_follows_the_seed(weightless):
    cond, crops = [[torch.rand(1, 5, 6), {}]], torch.rand(3, 64, 64, 3)
    mean, one, again, other = (
        restore(cond, crops, **options)[0]
        for options in (
            {"seed": 1},
            {"posterior": "sample", "seed": 1},
            {"posterior": "sample", "seed": 1, "faces_at_once": 1},
            {"posterior": "sample", "seed": 2},
        )
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, mean) and not torch.equal(one, other)


def test_a_conditioning_of_other_faces_names_both_sockets(weightless):
    with pytest.raises(FacewrightError, match=r"`conditioning` holds 2.*`image` holds 3"):
        restore([[torch.rand(2, 5, 6), {}]], torch.rand(3, 16, 16, 3))


def test_grey_pictures_become_rgb(weightless, vre):
    grey = torch.rand(1, 64, 64, 1)
    a, b = (detect(x, [face(32, 32)])[1] for x in (grey, grey.expand(-1, -1, -1, 3)))
    assert a.shape == (1, 64, 64, 3) and torch.equal(a, b)


def test_no_faces_at_all_decode_to_no_pictures(weightless):
    restored, latent = restore([[torch.rand(1, 5, 6), {}]], torch.rand(0, 16, 24, 3))
    decoded = VAEDecode.execute(samples=latent, vae=weightless).result[0]
    assert restored.shape == (0, 16, 24, 3)
    assert decoded.shape == restored.shape


def test_combined_conditionings_are_refused(weightless):
    entry = [torch.rand(1, 5, 6), {}]
    with pytest.raises(FacewrightError, match="2 entries"):
        restore([entry, entry], torch.rand(1, 16, 16, 3))


def test_progress_counts_faces_and_listens_for_the_stop_button(weightless, monkeypatch):
    counted, asked = [], []

    class Bar:
        def update(self, n):
            counted.append(n)

    monkeypatch.setattr(
        HeadlessHost, "progress", lambda self, total: counted.append(total) or Bar()
    )
    monkeypatch.setattr(HeadlessHost, "check_interrupt", lambda self: asked.append(1))
    restore([[torch.rand(1, 5, 6), {}]], torch.rand(5, 16, 16, 3))
    assert counted == [5, 2, 2, 1] and len(asked) == 3


def test_one_step_sampler_carries_the_noise_level_of_the_timestep():
    _, sigmas = OneStepSampler.execute(timestep=399).result
    torch.testing.assert_close(sigmas, torch.tensor([1.1605784, 0.0]))


def test_comparison_takes_pictures_with_and_without_alpha():
    out = Compare.execute(
        before=torch.rand(1, 20, 20, 4),
        after=torch.rand(2, 40, 30, 3),
        mode="side by side",
        label_before="",
        label_after="",
    ).result[0]
    assert out.shape == (2, 40, 64, 3)


@pytest.mark.parametrize("chosen", [None, "group", "face", "three people", "Ada"])
def test_the_demo_picture_is_damaged_but_shows_the_same_scene(chosen):
    lq, gt = DemoPicture.execute(**({"picture": chosen} if chosen else {})).result
    assert lq.shape == gt.shape and lq.shape[0] == 1
    assert 0.005 < (lq - gt).abs().mean() < 0.1
    sizes = {"face": (512, 512), "three people": (320, 480), "Ada": (160, 160)}
    assert gt.shape[1:3] == sizes.get(chosen, (320, 640))


@pytest.mark.parametrize("name", ["Ada", "Bo"])
def test_demo_photos_for_albums_are_good_from_either_output(name):
    lq, gt = DemoPicture.execute(picture=f"photos of {name}").result
    assert gt.shape == (4, 256, 256, 3) and torch.equal(lq, gt)


@pytest.mark.parametrize("node", [DetectFaces, FacesFromDetections, RestoreVideo])
def test_a_pick_that_is_no_number_is_refused_before_anything_runs(node):
    assert "'first'" in node.validate_inputs(pick="first")
    assert node.validate_inputs(pick="0, 2") is node.validate_inputs(pick=None) is True


@pytest.mark.parametrize("lora", [True, False])
def test_a_model_without_a_lora_is_told_of_on_the_node(lora):
    model, vae = HeadlessHost(ModelFolders([])).load_nano(lora=lora)
    crops = torch.zeros(1, 128, 128, 3)
    width = model.config["cross_attention_dim"]
    ran = OneStepRestore.execute(
        model, vae, [[torch.zeros(1, 4, width), {}]], crops, 399, "mean", 5, 1
    )
    told = ran.ui.as_dict()["text"][0] if ran.ui else ""
    assert ("No LoRA" in told) is not lora
