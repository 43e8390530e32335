"""FLIPNET's nodes on the headless host: loading, applying, face tokens, the nano models."""

import json

import pytest
import torch
from facewright.core.checkpoint import read_tensors, save_safetensors
from facewright.core.diffusion import loading
from facewright.core.errors import CheckpointError, FacewrightError, LoraError
from facewright.core.files import known
from facewright.core.methods.flipnet import BoostHubConfig, BoostHubs, find_sites
from facewright.core.modules.autoencoder import AutoencoderConfig
from facewright.core.modules.face_encoder import FaceEncoder, FaceEncoderConfig
from facewright.core.node_api import Blocked
from facewright.core.weights import nano
from facewright.headless.host import builtin_sampling as builtin
from facewright.headless.host import host as hosts
from facewright.nodes._host import host
from facewright.nodes.flipnet import (
    ApplyBoostHub,
    FaceTokens,
    LoadBoostHub,
    LoadFaceEncoder,
    LoadNanoFlipnet,
)
from safetensors.torch import save_file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """models/facewright in a temporary place."""
    monkeypatch.setattr(hosts.HeadlessHost, "model_path", lambda self, kind, name: tmp_path / name)
    return tmp_path


def encoder(width=128):
    shape = AutoencoderConfig(
        ch=8, ch_mult=(1, 1, 2), num_res_blocks=1, attn_levels=(), z_channels=8, groups=1
    )
    config = FaceEncoderConfig(encoder=shape, input_size=16, hidden=16, width=width)
    return FaceEncoder(config).eval().requires_grad_(False)


def test_weights_for_the_other_direction_are_refused(folder):
    config = BoostHubConfig(sites={"mid_block": 16}, dim_head=8, mode="degrade", base="mine")
    BoostHubs(config).save(folder / "a.safetensors")
    hubs, info = LoadBoostHub.execute(boosthub="a.safetensors", mode="degrade").result
    assert hubs.config == config
    assert info == "a.safetensors: to degrade, for mine, 1 BoostHubs"
    with pytest.raises(CheckpointError, match="trained to degrade, not to restore"):
        LoadBoostHub.execute(boosthub="a.safetensors", mode="restore")


def test_an_adapter_that_was_never_trained_is_refused(folder):
    encoder().save(folder / "new.safetensors", trained=False)
    tensors, metadata = read_tensors(folder / "new.safetensors")
    # A file from before the mark says only which stage wrote it.
    del metadata["facewright.adapter"]
    for stage in ("face-associate", "flipnet-restore"):
        marks = metadata | {"facewright.training": json.dumps({"stage": stage, "steps": 1})}
        save_safetensors(folder / f"{stage}.safetensors", tensors, marks)
    for name in ("new", "face-associate"):
        with pytest.raises(CheckpointError, match=r"Use the file whose name ends in _face_encoder"):
            LoadFaceEncoder.execute(face_encoder=f"{name}.safetensors")
        FaceEncoder.from_file(folder / f"{name}.safetensors", untrained=True)
    LoadFaceEncoder.execute(face_encoder="flipnet-restore.safetensors")


def test_face_tokens_join_the_positive_prompt_only(folder):
    encoder().save(folder / "e.safetensors")
    (loaded,) = LoadFaceEncoder.execute(face_encoder="e.safetensors").result
    faces = torch.rand(3, 20, 24, 3)
    text = [[torch.randn(1, 77, 128), {"kept": 1}], [torch.randn(3, 154, 128), {}]]
    no = [[torch.randn(1, 77, 128), {}]]
    positive, negative = FaceTokens.execute(loaded, faces, text, no).result
    assert [p[0].shape for p in positive] == [(3, 77 + 16, 128), (3, 154 + 16, 128)]
    assert positive[0][1] == {"kept": 1} and negative is no
    tokens = loaded(faces.movedim(-1, 1))
    for (joined, _), (words, _) in zip(positive, text, strict=True):
        torch.testing.assert_close(joined[:, -16:], tokens)
        assert torch.equal(joined[:, :-16], words.expand(3, -1, -1))
    positive, negative = FaceTokens.execute(loaded, faces).result
    assert positive[0][0].shape == (3, 93, 128) and not positive[0][0][:, :77].any()
    assert negative[0][0].shape == (1, 77, 128) and not negative[0][0].any()


def test_a_model_that_reads_text_has_to_get_some():
    faces, text = torch.rand(1, 20, 20, 3), [[torch.randn(1, 77, 1024), {}]]
    sd21 = encoder(1024)
    for given, named in (((), "positive and negative"), ((text,), "to negative")):
        with pytest.raises(FacewrightError, match=rf"{named}\. Connect CLIP Text Encode"):
            FaceTokens.execute(sd21, faces, *given)
    assert FaceTokens.execute(sd21, faces, text, text)[0][0][0].shape == (1, 77 + 16, 1024)


def test_without_a_face_nodes_behind_do_not_run():
    none = torch.zeros(0, 64, 64, 3)
    assert all(isinstance(x, Blocked) for x in FaceTokens.execute(encoder(), none).result)
    look = {"phi": 1.0, "mode": "cached", "lq_timestep": 0, "lq_seed": 0}
    for samples in (None, torch.zeros(0, 8, 16, 16)):  # ComfyUI's VAE Encode gives None
        result = ApplyBoostHub.execute(None, None, {"samples": samples}, **look).result
        assert len(result) == 2 and all(isinstance(x, Blocked) for x in result)


def test_missing_nano_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(known, "NANO_DIR", tmp_path)
    answer = LoadNanoFlipnet.validate_inputs(mode="degrade")
    assert "nano_flipnet_degrade_boosthub.safetensors is missing" in answer
    with pytest.raises(CheckpointError, match="nano_flipnet_degrade_boosthub"):
        LoadNanoFlipnet.execute(mode="degrade")


@pytest.fixture
def nano_flipnet(tmp_path, monkeypatch):
    """The bundled nano models with random FLIPNET files beside them."""
    shipped = known.NANO_DIR
    for name in ("nano_unet", "nano_vae", "nano_faces"):
        (tmp_path / f"{name}.safetensors").symlink_to(shipped / f"{name}.safetensors")
    monkeypatch.setattr(known, "NANO_DIR", tmp_path)
    unet = nano.unet_tensors()
    sites = find_sites(unet)
    config = nano.unet_config()
    dim_head = config["block_out_channels"][-1] // config["attention_head_dim"][-1]
    hubs = BoostHubs.beside(unet, BoostHubConfig(sites=sites, dim_head=dim_head))
    lora = {}
    for site, dim in sites.items():
        torch.nn.init.normal_(hubs[site].to_out.weight, std=dim**-0.5)
        lora[f"unet.{site}.attn1.to_q.lora_A.weight"] = torch.randn(4, dim) * 0.1
        lora[f"unet.{site}.attn1.to_q.lora_B.weight"] = torch.randn(dim, 4) * 0.1
    hubs.save(tmp_path / "nano_flipnet_restore_boosthub.safetensors")
    save_file(lora, tmp_path / "nano_flipnet_restore_lora.safetensors")
    encoder().save(tmp_path / "nano_face_encoder.safetensors")
    loading._nano.cache_clear()
    yield
    loading._nano.cache_clear()


def test_the_whole_chain_from_faces_to_a_latent(nano_flipnet):
    assert LoadNanoFlipnet.validate_inputs(mode="restore") is True
    model, vae, hubs, faces, analyzer = LoadNanoFlipnet.execute(mode="restore").result
    assert analyzer.name == "nano"
    lq = torch.rand(2, 32, 32, 3)
    positive, negative = FaceTokens.execute(faces, lq).result
    latent = {"samples": vae.encode(lq.movedim(-1, 1) * 2 - 1)}
    made = {}
    for mode, phi in (("cached", 1.0), ("joint", 1.0), ("cached", 0.0)):
        look = {"phi": phi, "mode": mode, "lq_timestep": 0, "lq_seed": 0}
        patched, empty = ApplyBoostHub.execute(model, hubs, latent, **look).result
        assert empty["samples"].shape == (2, 8, 8, 8) and not empty["samples"].any()
        made[mode, phi] = builtin.KSampler.execute(
            model=patched,
            seed=1,
            steps=3,
            cfg=1.5,
            sampler_name="ddim",
            scheduler="normal",
            positive=positive,
            negative=negative,
            latent_image=empty,
            denoise=1.0,
        )[0]["samples"]
    torch.testing.assert_close(made["cached", 1.0], made["joint", 1.0], rtol=1e-4, atol=1e-4)
    assert (made["cached", 0.0] - made["cached", 1.0]).abs().max() > 1e-2
    with pytest.raises(FacewrightError, match=r"the model takes .images, 8"):
        ApplyBoostHub.execute(model, hubs, {"samples": torch.zeros(1, 4, 8, 8)}, **look)
    for marks in ({"method": "flipnet", "mode": "degrade"}, {"method": "osdface"}):
        lora = read_tensors(known.bundled_path("nano_flipnet_restore_lora"))[0]
        other, _ = host.apply_lora(loading.load_nano()[0], lora, marks, 1.0)
        with pytest.raises(LoraError, match="Take the LoRA and the BoostHub of one training"):
            ApplyBoostHub.execute(other, hubs, latent, **look)
        with pytest.raises(LoraError, match="LoRA on this model was trained"):
            host.apply_lora(patched, lora, marks, 1.0)


def test_a_bundled_lora_for_the_other_direction_is_refused(nano_flipnet):
    path = known.bundled_path("nano_flipnet_restore_lora")
    save_safetensors(path, read_tensors(path)[0], {"method": "flipnet", "mode": "degrade"})
    with pytest.raises(LoraError, match="trained to degrade, but these"):
        LoadNanoFlipnet.execute(mode="restore")
