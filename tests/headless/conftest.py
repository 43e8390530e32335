"""Fixtures of the headless tests."""

import importlib.util
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def float32():
    """Models load in float32 here whatever this machine is quick in: the tests compare digits."""
    from facewright.headless import host

    patch = pytest.MonkeyPatch()
    patch.setattr(host, "fast_dtype", lambda device: torch.float32)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def ldm_files():
    """The module beside this file; test folders are no packages, so it cannot be imported."""
    path = Path(__file__).with_name("ldm_files.py")
    spec = importlib.util.spec_from_file_location("facewright_test_ldm_files", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def osdface_files(tmp_path, ldm_files):
    """Thin files in ComfyUI's folders: SD 2.1 layout, a small embedder, a LoRA for this UNet."""
    from facewright.core.methods.osdface import VisualRepresentationEmbedder, VREConfig
    from facewright.core.modules.autoencoder import AutoencoderConfig
    from safetensors.torch import save_file

    models = tmp_path / "models"
    for name in ("checkpoints", "facewright", "loras"):
        (models / name).mkdir(parents=True)
    tensors = ldm_files.checkpoint()
    save_file(tensors, models / "checkpoints/v2-1_512-ema-pruned.safetensors")
    encoder = AutoencoderConfig(
        ch=8, ch_mult=(1, 1), num_res_blocks=1, attn_levels=(), z_channels=8, groups=1
    )
    config = VREConfig(encoder=encoder, num_codes=64, input_size=32, proj_hidden=8)
    VisualRepresentationEmbedder(config).save(models / "facewright/osdface_vre.safetensors")
    module = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    lora = {f"{module}.lora_A.weight": torch.randn(2, 64)}
    lora[f"{module}.lora_B.weight"] = torch.randn(64, 2)
    save_file(lora, models / "loras/pytorch_lora_weights.safetensors")
    return models
