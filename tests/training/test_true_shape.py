"""SD 2.1-base's true shape: what is trained is what the papers count, and one step moves it alone.

Weights are random, in files of the layouts that users have. The slow tests need some 10 GB of
memory and 3 GB of disk.
"""

import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from facewright.core.checkpoint import read_tensors, save_safetensors
from facewright.core.diffusion.boosthub import check_fits
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.methods.flipnet import BoostHubs
from facewright.core.methods.osdface import VisualRepresentationEmbedder, VREConfig
from facewright.core.modules.autoencoder import Decoder
from facewright.core.modules.face_encoder import FaceEncoder, FaceEncoderConfig
from facewright.core.modules.iresnet import IResNet
from facewright.core.modules.vgg import VGG16, VGG19
from facewright.training import methods
from facewright.training._lora import load_lora, lora_layers
from facewright.training.loop.engine import Engine
from facewright.training.settings.config import load_config
from facewright.training.train import stages
from PIL import Image

CONFIGS = Path(methods.__path__[0]).parent / "configs"
MANIFEST = Path(__file__).parents[1] / "goldens" / "sd21_unet_diffusers_manifest.json"
MILLION = 1e6


def millions(*nets):
    return sum(p.numel() for net in nets for p in net.parameters()) / MILLION


def test_osdface_counts_what_the_paper_prints():
    """978.4 M in its table of complexities; 979.1 M by the layers of the released code."""
    unet_class, vae_class = diffusers_classes()
    with torch.device("meta"):
        vre, decoder = VisualRepresentationEmbedder(VREConfig()), Decoder(VREConfig().encoder)
        unet = unet_class(
            sample_size=64,
            cross_attention_dim=1024,
            attention_head_dim=(5, 10, 20, 20),
            use_linear_projection=True,
        )
        vae = vae_class(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=4,
        )
    shapes = {k: list(v.shape) for k, v in unet.state_dict().items()}
    assert shapes == json.loads(MANIFEST.read_text())
    parts = (vre.encoder, vre.quantize, vre.quant_conv, vre.embedding_change)
    assert [round(millions(p), 3) for p in parts] == [28.385, 0.524, 0.263, 0.394]
    assert round(millions(decoder), 1) == 40.9
    assert (round(millions(unet), 1), round(millions(vae), 2)) == (865.9, 83.65)
    assert round(millions(vre, unet, vae), 1) == 979.1


@pytest.fixture(scope="module")
def files(tmp_path_factory, ldm_files):
    """SD 2.1-base as its single file in half precision, and what the losses look through."""
    folder = tmp_path_factory.mktemp("sd21")
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16)
    try:
        unet = ldm_files.unet(
            widths=(320, 640, 1280, 1280), attention=(True, True, True, False), per_level=2
        )
        vae = ldm_files.vae(widths=(128, 256, 512, 512), per_level=2)
    finally:
        torch.set_default_dtype(torch.float32)
    # Spread wider, it would mark a model that predicts v.
    unet["output_blocks.11.1.transformer_blocks.0.norm1.bias"] *= 0.05
    tensors = {f"model.diffusion_model.{k}": v for k, v in unet.items()}
    tensors |= {f"first_stage_model.{k}": v for k, v in vae.items()}
    save_safetensors(folder / "sd21.safetensors", tensors, {})
    del unet, vae, tensors
    VisualRepresentationEmbedder(VREConfig(double_norm=False)).save(folder / "vre.safetensors")
    FaceEncoder(FaceEncoderConfig()).save(folder / "face.safetensors", trained=False)
    torch.save(IResNet((3, 4, 14, 3)).state_dict(), folder / "backbone.pth")
    for name, vgg in (("vgg16", VGG16()), ("vgg19", VGG19())):
        weights = {k.replace("features_.", "features."): v for k, v in vgg.state_dict().items()}
        torch.save(weights, folder / f"{name}.pth")
    alpha, beta = torch.rand(2, 1, 1475, 1, 1) * 0.02
    torch.save({"alpha": alpha, "beta": beta}, folder / "dists.pt")
    (folder / "faces").mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((192, 192)).save(folder / "faces" / f"{i}.png")
    yield folder
    shutil.rmtree(folder)


def engine_of(stage, files, output, size, recipe):
    """The stage as its paper's config says, but for one picture of `size` and one step."""
    values = yaml.safe_load((CONFIGS / f"{stage.replace('-', '_')}_paper.yaml").read_text())
    values |= {
        "output": str(output), "budget": {"max_steps": 1}, "batch_size": 1, "cpu": True,
        "total_batch": None, "validate_images": 1, "grid_images": 1, "off_shelf": None,
        "data": {"source": "folder", "folder": str(files / "faces"), "size": size, "workers": 0,
                 "held_out": 0.3},
    }  # fmt: skip
    for optimizer in values["optimizers"].values():
        optimizer |= {"weight_decay": 0.0, "warmup": 0}  # so that what has no gradient stays
    values["recipe"] |= {"backbone": {"source": "sd", "path": str(files / "sd21.safetensors")}}
    values["recipe"] |= recipe
    path = output.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(values))
    cls = stages()[stage]
    config = load_config(path, cls.Config)
    return Engine(cls(config.recipe), config)


def checksums(tensors):
    return {
        k: zlib.crc32(v.detach().flatten().contiguous().view(torch.uint8).numpy())
        for k, v in tensors.items()
    }


def one_step(engine):
    """Run; names of trained weights, of those that moved, and the files that came out."""
    nets = {**engine.bare, **engine.frozen}
    trained = {id(p) for params in engine.trainable.values() for p in params}
    named = {f"{n}.{k}": p for n, net in nets.items() for k, p in net.named_parameters()}
    buffers = {f"{n}.{k}": b for n, net in nets.items() for k, b in net.named_buffers()}
    ours = {k for k, p in named.items() if id(p) in trained}
    before = checksums(named | buffers)
    facts = engine.run()
    assert facts["steps"] == 1 and facts["finished"]
    after = checksums(named | buffers)
    moved = {k for k in before if before[k] != after[k]}
    assert moved <= ours, sorted(moved - ours)[:5]
    line = json.loads((engine.config.output / "metrics.jsonl").read_text().splitlines()[-1])
    assert all(np.isfinite(v) for v in line["held_out"].values())
    return ours, moved, [Path(f) for f in facts["files"]]


def count(engine, net, part):
    named = engine.bare[net].named_parameters()
    return sum(p.numel() for k, p in named if p.requires_grad and part in k)


@pytest.mark.slow
def test_one_step_of_onestep(files, tmp_path):
    """192 px: at less the discriminator's two 4x4 convolutions have no room at the bottleneck."""
    recipe = {
        "vre": str(files / "vre.safetensors"),
        "extractor": {
            "kind": "vgg16",
            "path": str(files / "vgg16.pth"),
            "dists": str(files / "dists.pt"),
        },
        "recogniser": {"path": str(files / "backbone.pth")},
    }
    engine = engine_of("onestep", files, tmp_path / "run", 192, recipe)
    unet = engine.bare["generator"].unet
    assert len(lora_layers(unet)) == 278
    assert count(engine, "generator", "lora_") == 16_944_128
    assert count(engine, "generator", "embedding_change") == 393_984 + 512
    assert count(engine, "discriminator", "lora_") == 6_875_136
    assert count(engine, "discriminator", "head") == 52_477_441

    ours, moved, (lora, vre) = one_step(engine)
    # The matrices above the zeros of a fresh LoRA feel nothing until those have moved.
    assert ours - moved == {k for k in ours if ".lora_A." in k}
    assert {k.replace(".lora_A.", ".lora_B.") for k in ours - moved} <= moved
    before = {k: v.clone() for k, v in unet.state_dict().items() if "lora_" in k}
    load_lora(unet, lora)
    assert all(torch.equal(v, unet.state_dict()[k]) for k, v in before.items())
    embedder = VisualRepresentationEmbedder.from_files(vre)
    assert embedder(torch.rand(1, 3, 64, 64)).shape == (1, 77, 1024)
    learned = engine.bare["generator"].embedding_change.state_dict()
    assert all(
        torch.equal(v, learned[k]) for k, v in embedder.embedding_change.state_dict().items()
    )


@pytest.mark.slow
def test_one_step_of_flipnet_restore(files, tmp_path):
    recipe = {
        "text": None,
        "face_encoder": str(files / "face.safetensors"),
        "extractor": {"kind": "vgg19", "path": str(files / "vgg19.pth")},
        "drop_face": 0,  # the one sample should show its face
        "sampling": {"steps": 1},
    }
    engine = engine_of("flipnet-restore", files, tmp_path / "run", 64, recipe)
    denoiser = engine.bare["denoiser"]
    assert len(lora_layers(denoiser.bare_unet)) == 128 and len(denoiser.hubs.config.sites) == 16
    assert count(engine, "denoiser", "lora_") == 13_279_232
    assert round(count(engine, "denoiser", "hubs.") / MILLION, 1) == 49.6

    ours, moved, (lora, boosthub, face) = one_step(engine)
    # Nor do a BoostHub's queries, keys and values below the zeros of its output.
    still = {k for k in ours if ".lora_A." in k}
    still |= {k for k in ours if "hubs." in k and any(f"to_{x}." in k for x in "qkv")}
    assert ours - moved == still
    assert {k for k in moved if "hubs." in k} == {
        k for k in ours if "hubs." in k and "to_out." in k
    }
    before = {k: v.clone() for k, v in denoiser.state_dict().items() if "lora_" in k}
    load_lora(denoiser.bare_unet, lora)
    assert all(torch.equal(v, denoiser.state_dict()[k]) for k, v in before.items())
    hubs = BoostHubs.from_file(boosthub)
    unet_class, _ = diffusers_classes()
    with torch.device("meta"):
        unet = unet_class.from_config(denoiser.bare_unet.config)
    check_fits(hubs, unet, "sd21")
    learned = denoiser.hubs.state_dict()
    assert all(torch.equal(v, learned[k]) for k, v in hubs.state_dict().items())
    assert FaceEncoder.from_file(face).adapter.positions.shape == (256, 1024)
    assert len(read_tensors(lora)[0]) == 256
