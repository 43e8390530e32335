"""Weights are never in memory twice: read in parts, cast one by one, LoRAs merged in place."""

import hashlib
import weakref

import pytest
import torch
from facewright.core import architecture
from facewright.core.checkpoint import read_pieces, read_tensors
from facewright.core.diffusion import backbone, ldm, loading
from facewright.core.diffusion.backbone import Model
from facewright.core.diffusion.source import DiffusersModels
from facewright.core.errors import CheckpointError
from facewright.core.files.known import NANO_BASE, bundled_path
from facewright.core.weights import nano
from safetensors.torch import save_file
from torch import nn

CPU = torch.device("cpu")
TENSORS = {f"t{i}": torch.full((64, 64), float(i)) for i in range(100)}


@pytest.fixture(params=["w.safetensors", "w.ckpt"])
def stored(request, tmp_path):
    path = tmp_path / request.param
    save_file(TENSORS, path) if path.suffix == ".safetensors" else torch.save(TENSORS, path)
    return path


def test_parts_of_a_file_are_all_of_it(stored):
    pieces = list(read_pieces(stored, read_tensors(stored)[0]))
    assert 10 < len(pieces) < 20
    assert [k for piece in pieces for k in piece] == list(read_tensors(stored)[0])
    assert all(torch.equal(v, TENSORS[k]) for piece in pieces for k, v in piece.items())


def test_a_file_that_changes_between_two_parts_is_refused(stored):
    pieces = read_pieces(stored, read_tensors(stored)[0])
    next(pieces)
    other = {k: v.half() for k, v in TENSORS.items()}
    stored.unlink()
    save_file(other, stored) if stored.suffix == ".safetensors" else torch.save(other, stored)
    with pytest.raises(CheckpointError, match="changed while it was being read"):
        next(pieces)


def test_a_part_is_gone_before_the_next_is_read():
    held = []

    def pieces():
        for name in ("weight", "bias"):
            assert not any(ref() is not None for ref in held)
            tensor = torch.ones(3, 3) if name == "weight" else torch.ones(3)
            held.append(weakref.ref(tensor))
            yield {name: tensor}
            del tensor

    tensors = {"weight": torch.ones(3, 3), "bias": torch.ones(3)}
    module = architecture.build(
        lambda: nn.Linear(3, 3), tensors, source="x", place=torch.Tensor.clone, pieces=pieces()
    )
    assert len(held) == 2 and bool((module.weight == 1).all())


def test_broken_weights_are_counted_over_all_parts():
    tensors = {"weight": torch.full((3, 3), torch.nan), "bias": torch.full((3,), torch.inf)}
    pieces = ({k: v} for k, v in tensors.items())
    with pytest.raises(CheckpointError, match=r"in 2 of 2 tensors \(weight, bias\)"):
        architecture.build(
            lambda: nn.Linear(3, 3), tensors, source="x", place=torch.Tensor.clone, pieces=pieces
        )


@pytest.mark.parametrize("kind", ["safetensors", "ckpt"])
def test_a_checkpoint_loads_as_if_read_at_once(tmp_path, ldm_files, kind, monkeypatch):
    """Against tensors that never were in a file; and of the file little is held at any time."""
    tensors = {k: v.half() for k, v in ldm_files.checkpoint().items()}
    path = tmp_path / f"m.{kind}"
    save_file(tensors, path) if kind == "safetensors" else torch.save(tensors, path)
    read, held, place = [], [0], backbone._placed

    def watched(tensor, *where):
        read.append(weakref.ref(tensor))
        held.append(sum(t.nbytes for ref in read if (t := ref()) is not None))
        return place(tensor, *where)

    monkeypatch.setattr(backbone, "_placed", watched)
    model, vae = loading.load_checkpoint(path, loading.Place(torch.bfloat16, CPU))
    assert 0 < max(held) < path.stat().st_size / 8, (max(held), path.stat().st_size)
    unet = ldm.unet_to_diffusers(ldm.part_of(tensors, ldm.UNET_PREFIX), model.config)
    own = ldm.part_of(tensors, ldm.VAE_PREFIX)
    config = ldm.vae_config(own, source="x")
    own, found = ldm.vae_to_diffusers(own, config), vae.module.state_dict()
    for expected, came in ((unet, model.tensors()), (own, found)):
        assert came.keys() == expected.keys()
        assert all(torch.equal(v, expected[k].bfloat16()) for k, v in came.items())


def lora_for(model):
    """Rank 2 on a linear layer and a convolution, and a whole difference."""
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    width, wide = model.unet.get_submodule(name).weight.shape[0], model.unet.conv_in.weight.shape
    return {
        f"{name}.lora_A.weight": torch.randn(2, width),
        f"{name}.lora_B.weight": torch.randn(width, 2),
        "conv_in.lora_A.weight": torch.randn(2, *wide[1:]),
        "conv_in.lora_B.weight": torch.randn(wide[0], 2, 1, 1),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_lora_goes_into_the_weights_that_are_there(tmp_path, ldm_files, dtype):
    """Where they are a view of the file, the file stays as it is."""
    path = tmp_path / "m.safetensors"
    save_file(ldm_files.checkpoint(), path)
    before = hashlib.sha256(path.read_bytes()).digest()
    model, _ = loading.load_checkpoint(path, loading.Place(dtype, CPU))
    lora = lora_for(model)
    copied, _ = model.with_lora(lora, {}, 0.7)
    plain = {k: v.clone() for k, v in model.tensors().items()}
    merged, report = model.with_lora(lora, {}, 0.7, in_place=True)
    assert merged.unet is model.unet and len(report.applied) == 2 and merged.loras == ({},)
    own = merged.tensors()
    assert all(torch.equal(v, own[k]) for k, v in copied.tensors().items())
    up, down = lora["conv_in.lora_B.weight"].flatten(1), lora["conv_in.lora_A.weight"].flatten(1)
    was = plain["conv_in.weight"]
    step = 0.7 * (up @ down).view_as(was)
    assert torch.equal(own["conv_in.weight"], (was.float() + step).to(dtype))
    assert hashlib.sha256(path.read_bytes()).digest() == before


def test_methods_merge_into_a_model_of_their_own(tmp_path, ldm_files, monkeypatch):
    path = tmp_path / "m.safetensors"
    save_file(ldm_files.checkpoint(), path)
    lora = lora_for(loading.load_checkpoint(path)[0]), {}
    monkeypatch.setattr(Model, "with_tensors", None)  # makes a second model
    DiffusersModels().backbone(path, lora)


def test_the_bundled_model_stays_as_it_is():
    base = loading.load_nano()[0]
    before = {k: v.clone() for k, v in base.tensors().items()}
    patched = DiffusersModels().backbone(bundled_path(NANO_BASE), nano.lora_tensors()).model
    assert patched.unet is not base.unet
    assert all(torch.equal(v, before[k]) for k, v in base.tensors().items())
