"""Networks through spandrel: loaded like spandrel itself loads them, and refused by name."""

import os
import random
import subprocess
import sys

import pytest
import torch
from facewright.core.checkpoint import save_safetensors
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.modules.spandrel import describe_image_model, load_image_model

from ..image_models import esrgan, restoreformer
from .hostile_files import no_hang, outcome

spandrel = pytest.importorskip("spandrel")


class Opens:
    """Runs a command where a pickle is loaded carelessly."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("make", [pytest.param(restoreformer, marks=pytest.mark.slow), esrgan])
def test_a_network_is_what_spandrel_itself_makes_of_the_file(tmp_path, make):
    path = make(tmp_path / "model.pth")
    ours, theirs = load_image_model(path), spandrel.ModelLoader().load_from_file(path)
    for name, tensor in theirs.model.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name], tensor)
    lq = torch.rand(1, 3, 64, 64)
    assert torch.equal(ours(lq), theirs(lq))
    assert not ours.model.training and not any(p.requires_grad for p in ours.model.parameters())


def test_safetensors_with_halves_become_full_precision(tmp_path):
    given = torch.load(esrgan(tmp_path / "model.pth"), weights_only=True)
    save_safetensors(tmp_path / "x.safetensors", {k: v.half() for k, v in given.items()})
    assert load_image_model(tmp_path / "x.safetensors").dtype == torch.float32


def test_models_are_described(tmp_path):
    model = load_image_model(esrgan(tmp_path / "x.pth", scale=2))
    assert describe_image_model(model) == "an upscaler (ESRGAN, 2x)"
    model = load_image_model(restoreformer(tmp_path / "r.pth"))
    assert describe_image_model(model) == "a face restorer (RestoreFormer)"


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"lora_unet_a.lora_down.weight": (4, 4)}, "x.pth is a LoRA"),
        ({"model.diffusion_model.input_blocks.0.0.weight": (4, 4, 3, 3)}, "whole Stable Diffusion"),
        ({"encoder.down.0.a": (4,), "decoder.up.0.a": (4,)}, "an autoencoder \\(VAE\\)"),
        ({"a": (4,)}, "none of the files facewright knows"),
        (
            {"position_emb": (4,), "idx_pred_layer.1.weight": (4,),
             "quantize.embedding.weight": (4,)},
            "CodeFormer.*pip install spandrel_extra_arches.*S-Lab License 1.0, non-commercial",
        ),
        ({"toRGB.0.weight": (4,), "stylegan_decoder.style_mlp.1.weight": (4,)},
         "names of GFPGAN, but does not fit it"),
    ],
)  # fmt: skip
def test_other_files_are_refused_as_what_they_are(tmp_path, tensors, said):
    torch.save({name: torch.ones(shape) for name, shape in tensors.items()}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=said):
        load_image_model(tmp_path / "x.pth")


def test_no_code_runs(tmp_path):
    torch.save({"params": Opens(tmp_path / "made")}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="Nothing was executed"):
        load_image_model(tmp_path / "x.pth")
    assert not (tmp_path / "made").exists()


def test_weights_that_are_not_finite_are_refused(tmp_path):
    given = torch.load(esrgan(tmp_path / "x.pth"), weights_only=True)
    given["model.0.bias"][0] = torch.nan
    torch.save(given, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        load_image_model(tmp_path / "x.pth")


def test_thin_tensors_cannot_ask_for_a_wide_network(tmp_path):
    given = torch.load(esrgan(tmp_path / "x.pth"), weights_only=True)
    given["model.0.weight"] = torch.ones(2**17, 3, 3, 3)  # filters of every layer
    torch.save(given, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="many times larger than the file"):
        load_image_model(tmp_path / "x.pth")


def changed(tensors, rng):
    """With one to three of the tensors gone, doubled, of another shape or kind of number."""
    tensors = dict(tensors)
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(sorted(tensors))
        tensor, kind = tensors[name], rng.randrange(7)
        if kind == 0:
            del tensors[name]
        elif kind == 1:
            tensors[f"{name}.{rng.choice(('0', 'weight', 'x' * 300))}"] = tensor
        elif kind == 2:
            tensors[name] = tensor.flatten()[: rng.randrange(3)]
        elif kind == 3:
            tensors[name] = tensor.to(rng.choice((torch.int64, torch.half, torch.bool)))
        elif kind == 4:
            tensors[name] = tensor[None].transpose(0, -1)
        elif kind == 5:
            tensors[name] = torch.ones(rng.choice(((0, 10**9), (10**5, 0, 3, 3), (10**4, 1))))
        else:
            tensors[name] = tensor.repeat(3, *[1] * (tensor.ndim - 1)) if tensor.ndim else tensor
    return tensors


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "files"), [(restoreformer, 4), (esrgan, 12)])
def test_mutated_files_are_loaded_or_refused_in_a_sentence(tmp_path, make, files):
    given = torch.load(make(tmp_path / "x.pth"), weights_only=True)
    given = given.get("params", given)
    refused = 0
    with no_hang():
        for seed in range(files):
            torch.save(changed(given, random.Random(seed)), tmp_path / "x.pth")
            refused += isinstance(outcome(load_image_model, tmp_path / "x.pth"), str)
    assert refused > files / 2


def test_without_spandrel_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(FacewrightError, match="pip install spandrel"):
        load_image_model(tmp_path / "x.pth")


BROKEN = """
import torch

@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, threshold):
    return dets

@torch.library.register_fake("torchvision::qnms")
def qnms(dets, scores, threshold):
    return dets
"""


@pytest.mark.slow
def test_a_torchvision_for_another_torch_can_be_imported(tmp_path):
    """With a package that fails as torchvision's Python part does where its compiled one does."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision/__init__.py").write_text(BROKEN)
    code = (
        "import sys; from facewright.core.devices import mend_torchvision; "
        f"sys.path.insert(0, {str(tmp_path)!r}); mend_torchvision(); mend_torchvision(); "
        "import torchvision; print(torchvision.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "torchvision/__init__.py")
