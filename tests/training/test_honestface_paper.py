"""honestface_paper.yaml: what the paper prints is in it, and the stage runs as it is shipped."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from facewright.core.checkpoint import read_tensors
from facewright.core.methods.honestface import IDEConfig, IdentityTokens
from facewright.core.modules.adaface import AdaFaceIR
from facewright.core.modules.identity import IdentityConfig, IdentityEncoder
from facewright.core.modules.iresnet import IResNet
from facewright.core.modules.vgg import VGG16
from facewright.training import methods
from facewright.training._backbone import BackboneConfig, load_backbone
from facewright.training._lora import add_lora, save_lora
from facewright.training.methods.honestface import HonestFaceConfig
from facewright.training.settings.config import load_config
from facewright.training.train import train
from PIL import Image

_spec = importlib.util.spec_from_file_location(
    "facewright_test_onestep", Path(__file__).with_name("test_onestep.py")
)
onestep = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(onestep)

CONFIG = Path(methods.__path__[0]).parent / "configs" / "honestface_paper.yaml"


def test_what_the_paper_prints_is_in_the_config():
    config = load_config(CONFIG, HonestFaceConfig)
    recipe = config.recipe
    assert (recipe.rank, recipe.alpha) == (16, 16)
    assert (config.budget.max_steps, config.total_batch, config.data.size) == (60000, 4, 512)
    assert {(o.kind, o.lr) for o in config.optimizers.values()} == {("adamw", 1e-4)}
    assert recipe.embedder.queries == 7 and recipe.mfa_sharpness == 10
    assert recipe.mfa_distance.startswith("lpips") and recipe.extractor.kind == "vgg16"
    assert [p.name for p in recipe.recognisers] == ["backbone.pth", "adaface_ir50_ms1mv2.ckpt"]
    assert config.degradation.presets == ("honestface",)
    assert config.data.identity == "parent" and config.data.references == 4
    weights = recipe.weights
    assert (weights.mse, weights.perceptual, weights.identity, weights.mfa) == (1, 1, 0.1, 1)
    assert weights.gan == 5e-3 and recipe.start.name == "onestep_lora.safetensors"


def test_the_parameters_that_its_comment_counts():
    with torch.device("meta"):
        tokens = IdentityTokens(IDEConfig())
        nets = {
            "": tokens,
            "eyes": tokens.eyes,
            "identity": tokens.identity,
            "fusion": tokens.fusion,
            "r50": IResNet((3, 4, 14, 3)),
            "r100": IResNet((3, 13, 30, 3)),
            "vgg": VGG16(),
        }
    count = {k: sum(p.numel() for p in net.parameters()) for k, net in nets.items()}
    comment = CONFIG.read_text()
    for key in ("", "eyes", "identity", "r50", "r100", "vgg"):
        assert f"{count[key] / 1e6:.2f} M" in comment, key
    assert count["fusion"] == 77 * 88 == 6776
    for recogniser in ("r50", "r100"):
        total = count[recogniser] + count["vgg"] + count[""]
        assert f"{total / 1e6:.1f} M" in comment


def people(folder):
    """Three people with three photos each, and one with a single one."""
    rng = np.random.default_rng(0)
    for person in range(4):
        (folder / f"p{person}").mkdir(parents=True)
        for photo in range(1 if person == 3 else 3):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            name = folder / f"p{person}" / f"{photo}.png"
            Image.fromarray(pixels).resize((512, 512)).save(name)
    return folder


@pytest.mark.slow
def test_the_published_config_trains_an_sd_like_net_at_512_px(tmp_path):
    """As shipped but for the files: shallow random networks of the right layout.

    The losses look through a small extractor instead of VGG-16 and LPIPS: neither the package
    `lpips` nor its weights need to be here, and VGG-16 at 512 px takes minutes on a CPU. So do
    the landmarks of facexlib, whose weights are the user's.
    """
    torch.manual_seed(0)
    onestep.vre_file(tmp_path / "vre.safetensors", 1024, input_size=32)
    unet = load_backbone(BackboneConfig(source="random")).unet
    add_lora(unet, 16, 16)
    save_lora(tmp_path / "lora.safetensors", unet, base="random", dtype=torch.float32, facts={})
    torch.save(IResNet((2, 2, 2, 2)).state_dict(), tmp_path / "backbone.pth")
    ada = {f"model.{k}": v for k, v in AdaFaceIR((2, 2, 2, 2)).state_dict().items()}
    torch.save({"state_dict": ada}, tmp_path / "adaface.ckpt")
    vgg = {f"features.{k[len('features_.') :]}": v for k, v in VGG16().state_dict().items()}
    torch.save(vgg, tmp_path / "vgg16.pth")
    IdentityEncoder(IdentityConfig(ch=(8, 8), dim=8)).save(tmp_path / "features.safetensors")

    values = yaml.safe_load(CONFIG.read_text())
    values |= {"output": str(tmp_path / "run"), "budget": {"max_steps": 2}, "cpu": True}
    folder = people(tmp_path / "people")
    values["data"] |= {"folder": str(folder), "workers": 0, "held_out": 0.25}
    values["recipe"] |= {
        "backbone": {"source": "random"},
        "vre": str(tmp_path / "vre.safetensors"),
        "start": str(tmp_path / "lora.safetensors"),
        "extractor": {"kind": "nano", "path": str(tmp_path / "features.safetensors")},
        "recognisers": [str(tmp_path / "backbone.pth"), str(tmp_path / "adaface.ckpt")],
        "mfa_distance": "features",
        "discriminator": {"rank": 16, "condition": "prompt"},
    }
    values["recipe"]["embedder"] |= {
        "recogniser": str(tmp_path / "backbone.pth"),
        "extractor": str(tmp_path / "vgg16.pth"),
        "landmarker": {"kind": "nano"},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    facts = train("honestface", path)
    assert facts["steps"] == 2 and facts["finished"]
    parts = ("lora", "vre", "ide")
    names = {f"honestface_{part}.safetensors" for part in parts}
    assert {Path(f).name for f in facts["files"]} == names
    export = tmp_path / "run" / "export"
    tensors = {part: read_tensors(export / f"honestface_{part}.safetensors") for part in parts}
    assert all(torch.isfinite(v).all() for part in parts for v in tensors[part][0].values())
    metadata = tensors["lora"][1]
    assert (metadata["rank"], metadata["method"]) == ("16", "honestface")
    moved = tensors["ide"][0]["fusion.extra"]
    assert bool(moved.abs().sum() > 0), "the references have begun to count"
