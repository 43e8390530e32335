"""Fixtures of the headless tests."""

import functools
import importlib.util
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def float32():
    """Models load in float32 here whatever this machine is quick in: the tests compare digits."""
    from facewright.core.diffusion import loading

    patch = pytest.MonkeyPatch()
    patch.setattr(loading, "fast_dtype", lambda device: torch.float32)
    yield
    patch.undo()


def _beside(file):
    """A module by its file: test folders are no packages, so that it cannot be imported."""
    path = Path(__file__).parent / file
    spec = importlib.util.spec_from_file_location(f"facewright_test_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def built_once():
    """The command line with all its options, which typer builds anew for each call in a test."""
    import typer.testing

    patch = pytest.MonkeyPatch()
    build = functools.cache(typer.testing._get_command)
    patch.setattr(typer.testing, "_get_command", build)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def ldm_files():
    return _beside("ldm_files.py")


@pytest.fixture(scope="session")
def record():
    """The module that recorded what the editor makes of workflow files."""
    return _beside("editor/record.py")


@pytest.fixture(scope="session")
def official(record):
    """The official templates by name."""
    try:
        version(record.PACKAGE)
    except PackageNotFoundError:
        pytest.skip(f"{record.PACKAGE} is not installed")
    return record.official()


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


def _boosthubs(unet, dim_head, mode):
    """Random BoostHubs that change what the UNet predicts."""
    from facewright.core.methods.flipnet import BoostHubConfig, BoostHubs, find_sites

    sites = find_sites(unet)
    hubs = BoostHubs.beside(unet, BoostHubConfig(sites=sites, dim_head=dim_head, mode=mode))
    for site, dim in sites.items():
        torch.nn.init.normal_(hubs[site].to_out.weight, std=dim**-0.5)
    return hubs


def _lora(sites):
    lora = {}
    for site, dim in sites.items():
        lora[f"unet.{site}.attn1.to_q.lora_A.weight"] = torch.randn(4, dim) * 0.1
        lora[f"unet.{site}.attn1.to_q.lora_B.weight"] = torch.randn(dim, 4) * 0.1
    return lora


def _face_encoder(width):
    from facewright.core.modules.autoencoder import AutoencoderConfig
    from facewright.core.modules.face_encoder import FaceEncoder, FaceEncoderConfig

    shape = AutoencoderConfig(
        ch=8, ch_mult=(1, 1, 2), num_res_blocks=1, attn_levels=(), z_channels=8, groups=1
    )
    return FaceEncoder(FaceEncoderConfig(encoder=shape, input_size=16, hidden=16, width=width))


@pytest.fixture(scope="session")
def flipnet_folder(tmp_path_factory):
    """Random FLIPNET files for the nano base, named as the bundled ones."""
    from facewright.core.weights import nano
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("flipnet")
    torch.manual_seed(0)
    unet, config = nano.unet_tensors(), nano.unet_config()
    dim_head = config["block_out_channels"][-1] // config["attention_head_dim"][-1]
    for mode in ("degrade", "restore"):
        hubs = _boosthubs(unet, dim_head, mode)
        hubs.save(folder / f"nano_flipnet_{mode}_boosthub.safetensors")
        save_file(_lora(hubs.config.sites), folder / f"nano_flipnet_{mode}_lora.safetensors")
    _face_encoder(128).save(folder / "nano_face_encoder.safetensors")
    return folder


@pytest.fixture
def nano_flipnet(flipnet_folder, monkeypatch):
    """Random files in place of the bundled ones: small numbers of steps suffice for them."""
    from facewright.core.files import known

    for path in known.NANO_DIR.glob("*.safetensors"):
        beside = flipnet_folder / path.name
        if not beside.exists():
            beside.symlink_to(path)
    monkeypatch.setattr(known, "NANO_DIR", flipnet_folder)


@pytest.fixture
def flipnet_sd21(tmp_path, ldm_files):
    """Thin files in ComfyUI's folders: SD 2.1 layout, and FLIPNET's of both modes."""
    from facewright.core.diffusion.loading import load_checkpoint
    from safetensors.torch import save_file

    models = tmp_path / "models"
    for name in ("checkpoints", "facewright", "loras"):
        (models / name).mkdir(parents=True)
    path = models / "checkpoints/v2-1_512-ema-pruned.safetensors"
    save_file(ldm_files.checkpoint(), path)
    unet = load_checkpoint(path)[0].tensors()
    for mode in ("degrade", "restore"):
        hubs = _boosthubs(unet, 64, mode)
        hubs.save(models / f"facewright/flipnet_{mode}_boosthub.safetensors")
        save_file(_lora(hubs.config.sites), models / f"loras/flipnet_{mode}_lora.safetensors")
    _face_encoder(1024).save(models / "facewright/flipnet_restore_face_encoder.safetensors")
    return models
