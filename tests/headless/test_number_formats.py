"""Diffusion models in float16: as plain calls in it, and in float32 where they overflow."""

import copy
import logging

import pytest
import torch
from facewright.core import devices
from facewright.core.devices import computing_on
from facewright.core.diffusion import loading
from facewright.core.diffusion.backbone import DiffusersBackbone, Model, build
from facewright.core.diffusion.boosthub import predicting
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.diffusion.loading import load_nano
from facewright.core.diffusion.vae import Vae
from facewright.core.errors import CheckpointError
from facewright.core.methods.flipnet import Condition
from facewright.core.pipeline.options import RestoreOptions
from facewright.core.restorer import decode_finite, restore_in_chunks, restore_one_step
from facewright.core.weights import nano
from facewright.headless.cli import app
from facewright.headless.make.restore_files import RestorerChoice
from facewright.headless.make.restore_settings import Settings
from typer.testing import CliRunner

from .test_boosthub import CONFIG, hubs_for, tiny_unet


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch):
    monkeypatch.delenv(devices.DTYPE_VARIABLE, raising=False)


def psnr(a, b):
    return float(-10 * (a - b).square().mean().log10())


def small_vae():
    torch.manual_seed(0)
    kinds = {"down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",)}
    return diffusers_classes()[1](block_out_channels=(32,), **kinds).requires_grad_(False)


def test_one_step_in_float16_is_plain_diffusers_in_float16(caplog):
    unet, codec = tiny_unet().half(), small_vae().half()
    model, vae = Model(copy.deepcopy(unet), CONFIG, "tiny"), Vae(copy.deepcopy(codec))
    lq, cond = torch.rand(2, 3, 16, 16), torch.randn(1, 5, 24)
    restored, _ = restore_one_step(lq, cond, DiffusersBackbone(model, vae))
    assert restored.dtype == torch.float32 and not caplog.records

    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    a = (1 - beta).cumprod(0)[399]
    z = codec.encode((lq * 2 - 1).half()).latent_dist.mode().float() * 0.18215
    eps = unet(z.half(), 399, encoder_hidden_states=cond.half().expand(2, -1, -1)).sample
    x_0 = (z.double() - (1 - a).sqrt() * eps.double()) / a.sqrt()
    expected = codec.decode((x_0.float() / 0.18215).half()).sample.float() / 2 + 0.5
    assert psnr(restored, expected.clamp(0, 1)) > 50  # sums in another order

    wide = DiffusersBackbone(Model(unet.float(), CONFIG, "tiny"), Vae(codec.float()))
    assert 48 < psnr(restored, restore_one_step(lq, cond, wide)[0]) < 90


def test_the_nano_models_follow_what_is_asked_for_and_nothing_else(monkeypatch):
    monkeypatch.setattr(loading, "fast_dtype", lambda device: torch.float16)
    assert load_nano(lora=True)[0].unet.dtype == torch.float32
    lq = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    cond = nano.load_vre()(lq)
    full, _ = restore_one_step(lq, cond, DiffusersBackbone(*load_nano(lora=True)))
    with computing_on(None, "fp16"):
        model, vae = load_nano(lora=True)
        assert model.unet.dtype == next(vae.module.parameters()).dtype == torch.float16
        half, _ = restore_one_step(lq, cond, DiffusersBackbone(model, vae))
    assert 40 < psnr(half, full) < 90
    assert load_nano()[0].unet.dtype == torch.float32  # another one


@pytest.fixture
def half_vae():
    """Its decoder leaves float16 where a latent is above 10 or so, and never float32."""
    module = small_vae()
    module.post_quant_conv.weight.copy_(2000 * torch.eye(4)[..., None, None])
    return Vae(module.half())


def test_a_decoder_that_overflows_stays_in_float32(half_vae, caplog):
    vae = half_vae
    plain, wide = copy.deepcopy(vae.module), copy.deepcopy(vae.module).float()
    z = torch.randn(3, 4, 8, 8)
    z[1] *= 100
    backbone = DiffusersBackbone(Model(tiny_unet(), CONFIG, "tiny", scaling_factor=1.0), vae)
    seen = []
    real = vae.module.decode
    vae.module.decode = lambda x: seen.append((len(x), x.dtype)) or real(x)
    with caplog.at_level(logging.WARNING), torch.no_grad():
        pixels = decode_finite(z, backbone)
        half = plain.decode(z.half().contiguous(memory_format=torch.channels_last)).sample.float()
        full = wide.decode(z).sample
    assert torch.equal(pixels[0], half[0]) and torch.equal(pixels[2], half[2])
    assert not half[1].isfinite().all()
    torch.testing.assert_close(pixels[1], full[1], rtol=1e-4, atol=1e-4)
    assert seen == [(3, torch.float16), (1, torch.float32)]
    assert "The VAE's decoder left the range of float16" in caplog.text

    again = decode_finite(z, backbone)  # of the next picture: no attempt in float16 any more
    assert seen[2:] == [(3, torch.float32)]
    torch.testing.assert_close(again, full, rtol=1e-4, atol=1e-4)
    assert len(caplog.records) == 1
    assert next(vae.module.encoder.parameters()).dtype == torch.float16  # which can go on


def test_an_encoder_that_overflows_stays_in_float32(half_vae):
    module = half_vae.module
    with torch.no_grad():
        module.encoder.conv_in.weight.mul_(2e5)  # what follows normalizes
    wide = copy.deepcopy(module).float()
    pixels = torch.rand(2, 3, 16, 16)
    found = half_vae.encode(pixels, torch.Generator().manual_seed(4))
    posterior = wide.encode(pixels).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(found, posterior.mean + posterior.std * noise, rtol=1e-4, atol=1e-4)
    assert next(module.encoder.parameters()).dtype == torch.float32
    assert next(module.decoder.parameters()).dtype == torch.float16


@pytest.mark.parametrize("mode", ["plain", "cached", "joint"])
def test_a_unet_that_overflows_stays_in_float32(mode, caplog):
    """Also one that BoostHubs look into: what they kept of the condition is read anew."""
    unet = tiny_unet()
    with torch.no_grad():
        unet.conv_in.weight.mul_(1e5)  # what follows normalizes
    hubs, wide = hubs_for(tiny_unet()), copy.deepcopy(unet.half()).float()
    z_t, z_y, tokens = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.randn(1, 5, 24)

    def made(of):
        model = Model(of, CONFIG, "tiny", scaling_factor=0.5)
        if mode != "plain":
            model = model.looking_at(hubs, Condition(latent=z_y, mode=mode))
        with predicting(model, tokens) as predict:
            return [predict(z_t, 500, tokens), predict(z_t * 0.5, 200, tokens)]

    with caplog.at_level(logging.WARNING):
        found = made(unet)
    assert unet.dtype == torch.float32 and len(caplog.records) == 1
    assert "The UNet of tiny left the range of float16" in caplog.text
    for ours, expected in zip(found, made(wide), strict=True):
        assert torch.isfinite(expected).all()
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_weights_that_float16_cannot_hold_are_named():
    tensors = tiny_unet().state_dict()
    tensors["conv_in.bias"] = torch.full_like(tensors["conv_in.bias"], 7e4)
    about = {"source": "big.safetensors", "device": torch.device("cpu")}
    with pytest.raises(CheckpointError, match=r"big\.safetensors holds weights up to 70000, .*"):
        build(diffusers_classes()[0], CONFIG, tensors, dtype=torch.float16, **about)
    build(diffusers_classes()[0], CONFIG, tensors, dtype=torch.bfloat16, **about)
    tensors["conv_in.bias"][0] = torch.nan
    with pytest.raises(CheckpointError, match="NaN or infinite weights in 1 of"):
        build(diffusers_classes()[0], CONFIG, tensors, dtype=torch.float16, **about)


def test_what_is_broken_already_is_no_overflow(half_vae):
    half_vae.encode(torch.full((1, 3, 16, 16), torch.nan))
    model = Model(tiny_unet().half(), CONFIG, "tiny")
    with predicting(model, tokens := torch.randn(1, 5, 24)) as predict:
        predict(torch.full((1, 4, 8, 8), torch.nan), 500, tokens)
    assert model.unet.dtype == next(half_vae.module.encoder.parameters()).dtype == torch.float16


def test_records_say_the_format_that_was_asked_for():
    choice, options = RestorerChoice("nano", "nano"), RestoreOptions()
    plain = Settings(choice, options)
    with computing_on(None, "fp16"):
        half = Settings(choice, options)
    before, now = plain.of(video=False), half.of(video=False)
    assert "dtype" not in before and now["dtype"] == "fp16"
    assert half.differing(before, now) == "--dtype was auto, is fp16"
    assert plain.differing(now, before) == "--dtype was fp16, is auto"


def cli(*words):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [*map(str, words)])


@pytest.mark.parametrize("command", ["restore", "run", "synthesize", "cost", "doctor"])
def test_commands_with_a_diffusion_model_take_a_format(command):
    assert "--dtype" in cli(command, "--help").output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("doctor", "--no-hash", "--dtype", "int8"), "int8 is no number format. Choose"),
        (
            ("run", "x.json", "--server", "http://x", "--dtype", "fp16"),
            "ComfyUI chooses its number",
        ),
        (
            ("restore", "x.png", "-o", "o", "--weights", "classic", "--dtype", "fp16"),
            "--weights classic has none: it is computed in fp32. Leave --dtype out",
        ),
    ],
)
def test_formats_that_cannot_be_meant_are_wrong_usage(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.json").write_text("{}")
    done = cli(*words)
    assert done.exit_code == 2 and said in " ".join(done.output.replace("\u2502", " ").split())


def test_the_doctor_says_why(monkeypatch):
    from facewright.core.doctor import machine

    class Around:
        dtypes = None

    monkeypatch.setenv(devices.DTYPE_VARIABLE, "fp16")
    said = machine.dtypes(Around())
    assert said["diffusion"] == said["vae"] == "float16" and said["embedder"] == "float32"
    assert "--dtype or FACEWRIGHT_DTYPE asks for fp16. What overflows in it" in said["why"]
    monkeypatch.setenv(devices.DTYPE_VARIABLE, "auto")
    monkeypatch.setattr(machine, "fast_dtype", lambda device: torch.float16)
    assert "multiplies float16 in hardware" in machine.dtypes(Around())["why"]


def test_chunks_of_a_batch_share_what_was_learnt(half_vae):
    """The second face overflows; the third is not tried in float16."""
    seen = []
    real = half_vae.module.decode
    half_vae.module.decode = lambda x: seen.append(x.dtype) or real(x)

    class Backbone(DiffusersBackbone):
        def denoise(self, z_t, t, cond):
            return torch.randn_like(z_t) * cond[..., None]

    model = Model(tiny_unet(), CONFIG, "tiny", scaling_factor=1.0)
    scale = torch.tensor([1.0, 100.0, 1.0]).view(3, 1, 1)
    restored, _ = restore_in_chunks(
        torch.rand(3, 3, 8, 8), scale, Backbone(model, half_vae), chunk_size=1
    )
    assert torch.isfinite(restored).all()
    half, wide = torch.float16, torch.float32
    assert seen == [half, half, wide, wide]
