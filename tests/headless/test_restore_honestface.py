"""HonestFace from files in the layout of Stable Diffusion, and its embedder by hand."""

import json

import pytest
import torch
from facewright.core.errors import CheckpointError
from facewright.core.faces import Face, load_analyzer
from facewright.core.files.known import NANO_DIR
from facewright.core.images import Picture, read_picture, write_picture
from facewright.core.methods.honestface import (
    IDEConfig,
    IdentityEmbedder,
    eye_channels,
    load_eye_extractor,
    nano_ide,
)
from facewright.core.modules.iresnet import IResNet
from facewright.core.modules.vgg import VGG16
from facewright.core.people.album import make_person
from facewright.core.people.recogniser import fingerprint, load_recogniser, nano_recogniser
from facewright.core.weights import nano
from facewright.core.weights.model_folders import ModelFolders
from facewright.headless.cli import app
from facewright.headless.make import restore as restore_module
from facewright.headless.make.restore import load_restorer
from facewright.training.world.faces3d import photos
from typer.testing import CliRunner

runner = CliRunner()
ALICE, BOB = 2**40 + 3, 2**40 + 4


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")
    monkeypatch.setenv("FACEWRIGHT_MODELS", str(tmp_path / "models"))


def cli(*args):
    return runner.invoke(app, ["restore", *map(str, args)])


class OneFace:
    """A face in the middle of every picture, with the same 98 landmarks."""

    name, points = "fake", 98

    def detect(self, image):
        h, w = image.shape[-2:]
        return [Face((w * 0.3, h * 0.3, w * 0.7, h * 0.7), 1.0)]

    def landmarks(self, crops):
        points = torch.rand(98, 2, generator=torch.Generator().manual_seed(0))
        return (points * crops.shape[-1]).expand(len(crops), -1, -1)


@pytest.fixture
def honestface_files(osdface_files, monkeypatch):
    """Thin files in ComfyUI's folders, under the names that training gives them."""
    facewright, loras = osdface_files / "facewright", osdface_files / "loras"
    (facewright / "osdface_vre.safetensors").rename(facewright / "honestface_vre.safetensors")
    (loras / "pytorch_lora_weights.safetensors").rename(loras / "honestface_lora.safetensors")
    torch.save(IResNet((2, 2, 2, 2)).state_dict(), facewright / "backbone.pth")
    vgg = {f"features.{k[10:]}": v for k, v in VGG16().state_dict().items()}
    torch.save(vgg, facewright / "vgg16-397923af.pth")
    recogniser = load_recogniser(facewright / "backbone.pth")
    extractor = load_eye_extractor(facewright / "vgg16-397923af.pth")
    config = IDEConfig(
        width=8, hidden=8, recogniser=recogniser.id, extractor=fingerprint(extractor)
    )
    ide = IdentityEmbedder(config, recogniser=recogniser, extractor=extractor, landmarker=OneFace())
    torch.nn.init.normal_(ide.learned.fusion.extra)
    ide.save(facewright / "honestface_ide.safetensors")
    asked = []

    def load(name, **needs):
        asked.append((name, needs))
        return OneFace()

    monkeypatch.setattr(restore_module, "load_analyzer", load)
    return osdface_files, asked


def test_honestface_from_files_which_belong_together(honestface_files, tmp_path):
    models, asked = honestface_files
    folders = ModelFolders([models])
    restorer = load_restorer("honestface", folders, analyzer="facexlib")
    pixels = (torch.rand(3, 48, 56) * 255).round() / 255
    write_picture(tmp_path / "a.png", pixels, Picture(pixels))
    alice, _ = make_person(
        [pixels],
        name="alice",
        sources=["1.png"],
        analyzer=restorer.analyzer,
        recogniser=restorer.recogniser,
        crop_size=64,
    )
    alice.save(tmp_path / "alice.person")
    args = ("--models", models, "--size", 64, "--json")
    person = ("--person", tmp_path / "alice.person")
    result = cli(tmp_path / "a.png", "-o", tmp_path / "out.png", *person, *args)
    assert result.exit_code == 0, result.stderr
    asked_for = {"dense": True, "points": 98, "rotations": False}
    assert asked[-1] == ("auto", asked_for), "as many landmarks as the album"
    assert json.loads(result.stdout)["done"][0]["matches"][0]["person"] == "alice"
    plain = ("--weights", "honestface")
    nobody = cli(tmp_path / "a.png", "-o", tmp_path / "no.png", *args, *plain)
    assert nobody.exit_code == 0 and asked[-1] == ("auto", asked_for | {"points": None})
    mine, without = (read_picture(tmp_path / f"{n}.png").pixels for n in ("out", "no"))
    assert not torch.equal(mine, without)
    assert torch.equal(mine[:, 0], read_picture(tmp_path / "a.png").pixels[:, 0])

    torch.save(IResNet((2, 2, 2, 2)).state_dict(), models / "facewright/backbone.pth")
    with pytest.raises(CheckpointError, match="was trained with the recogniser"):
        load_restorer("honestface", folders, analyzer="facexlib")


def test_what_honestface_lacks_is_named_at_once(tmp_path):
    write_picture(tmp_path / "a.png", torch.rand(3, 40, 40), Picture(torch.rand(3, 40, 40)))
    args = ("--models", tmp_path, "--weights", "honestface")
    result = cli(tmp_path / "a.png", "-o", tmp_path / "out", *args)
    assert result.exit_code == 1 and not (tmp_path / "out").exists()
    for words in (
        "v2-1_512-ema-pruned.safetensors",
        "honestface_lora.safetensors",
        "honestface_vre.safetensors",
        "honestface_ide.safetensors",
        "facewright train honestface",
        "backbone.pth",
        "non-commercial research",
        "vgg16-397923af.pth",
        "face_landmarker.task",
        "detection_Resnet50_Final.pth",
        str(tmp_path / "loras"),
    ):
        assert words in result.stderr, words


# ---- the lines of the manual


def test_the_identity_embedder_by_hand():
    """What README says of it: references and a degraded face become the prompt, step by step."""
    ide, vre = nano_ide(), nano.load_vre(NANO_DIR / "nano_honestface_vre.safetensors")
    lq = photos([ALICE, BOB], [1, 1], 128).pixels
    references = torch.stack([photos([p] * 3, [2, 3, 4], 128).pixels for p in (ALICE, BOB)])
    valid = torch.tensor([[True, True, True], [True, False, False]])
    tokens = ide(references, valid, lq)
    rows = vre.quantize.lookup(vre.tokenize(lq))
    cond = vre.embedding_change(ide.fuse(rows, tokens))
    assert tokens.shape == (2, 11, 96) and cond.shape == (2, 77, 128)
    assert torch.equal(cond, ide.condition(vre, lq, ide.look_at(references, valid, lq)))


def test_the_identity_embedder_at_the_papers_shape():
    encoder = nano.load_identity("loss")
    colour, structure = eye_channels(encoder)
    config = IDEConfig(
        recogniser_dim=encoder.config.dim, colour_channels=colour, structure_channels=structure
    )
    ide = IdentityEmbedder(
        config,
        recogniser=nano_recogniser(encoder),
        extractor=encoder,
        landmarker=load_analyzer("nano"),
    )
    lq, rows = photos(ALICE, 1, 128).pixels, torch.randn(1, 77, 512)
    for n in (0, 2):
        references = photos([ALICE] * 2, [2, 3], 128).pixels[None, :n]
        tokens = ide(references, torch.ones(1, n, dtype=torch.bool), lq)
        assert tokens.shape == (1, 11, 512) and tokens.isfinite().all()
        assert torch.equal(ide.fuse(rows, tokens), rows)
