"""Diffusion models in half precision on the device, and formats that it lacks."""

import pytest
import torch
from facewright.core import devices
from facewright.core.devices import asked_dtype, computing_on
from facewright.core.diffusion.backbone import DiffusersBackbone
from facewright.core.diffusion.loading import load_nano
from facewright.core.errors import FacewrightError
from facewright.core.restorer import restore_one_step


def restored(lq, cond):
    model, vae = load_nano(lora=True)
    pixels, _ = restore_one_step(lq, cond, DiffusersBackbone(model, vae))
    return model, vae, pixels


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_faces_in_half_precision_are_nearly_those_of_float32(name, device, on_cpu):
    lq, cond = torch.rand(2, 3, 64, 64), 0.1 * torch.randn(1, 77, 128)
    with computing_on(str(device), name):
        model, _, there = restored(lq.to(device), cond.to(device))
    assert next(model.unet.parameters()).device.type == there.device.type == device.type
    assert next(model.unet.parameters()).dtype == devices.DTYPES[name]
    *_, here = on_cpu(lambda: restored(lq, cond))
    assert 1e-5 < (there.cpu() - here).square().mean().sqrt() < 0.02


def test_an_overflow_is_computed_again_in_float32(device):
    with computing_on(str(device), "fp16"):
        load_nano.__globals__["_nano"].cache_clear()
        model, vae = load_nano()
        with torch.no_grad():
            model.unet.conv_in.weight.mul_(1e4)
            vae.module.decoder.conv_in.weight.mul_(5e4)
        backbone = DiffusersBackbone(model, vae)
        lq, cond = torch.rand(1, 3, 64, 64, device=device), torch.randn(1, 77, 128, device=device)
        pixels, _ = restore_one_step(lq, cond, backbone)
        load_nano.__globals__["_nano"].cache_clear()
    assert torch.isfinite(pixels).all()
    assert next(vae.module.decoder.parameters()).dtype == torch.float32


def test_a_format_that_the_device_refuses_is_named(device, nothing_refused, monkeypatch):
    if nothing_refused is None:
        pytest.skip("only the pretended device lacks what it is told to")
    monkeypatch.setattr(nothing_refused, "WIDE", (*nothing_refused.WIDE, torch.bfloat16))
    devices._refusal.cache_clear()
    with (
        computing_on(str(device), "bf16"),
        pytest.raises(FacewrightError, match=r"does not compute in bf16 with torch .*bfloat16"),
    ):
        asked_dtype(device)
    devices._refusal.cache_clear()
    nothing_refused.refused.clear()  # asked for, and told
