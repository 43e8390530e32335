"""What the loops of the training benchmark start from: random weights, pictures, a config."""

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.methods.osdface import VisualRepresentationEmbedder, VREConfig
from facewright.core.modules.autoencoder import AutoencoderConfig
from facewright.core.modules.iresnet import IResNet
from facewright.core.modules.vgg import VGG16
from facewright.training import methods
from facewright.training.methods.onestep import OneStepConfig
from facewright.training.settings.config import TrainConfig, load_config
from PIL import Image
from torch import nn

PAPER = Path(methods.__path__[0]).parent / "configs" / "onestep_paper.yaml"
SEED = 0
DISTS_CHANNELS = 1475
"""Of the picture and the five stages of VGG-16: as many alphas and betas have DISTS's weights."""


@dataclass(frozen=True)
class Shape:
    """Sizes of everything; widths of UNet and VAE per level, the layout is SD 2.1-base's."""

    unet: tuple[int, ...]
    heads: tuple[int, ...]
    vae: tuple[int, ...]
    layers: int
    vre: VREConfig
    recogniser: tuple[int, ...]
    size: int
    batch: int


SHAPES = {
    "true": Shape(
        unet=(320, 640, 1280, 1280),
        heads=(5, 10, 20, 20),
        vae=(128, 256, 512, 512),
        layers=2,
        vre=VREConfig(double_norm=False),
        recogniser=(3, 4, 14, 3),
        size=192,  # at less the discriminator's two 4x4 convolutions have no room
        batch=1,
    ),
    "middle": Shape(
        unet=(128, 256, 512, 512),
        heads=(2, 4, 8, 8),
        vae=(64, 128, 256, 256),
        layers=2,
        vre=VREConfig(encoder=AutoencoderConfig(ch=64), input_size=256, double_norm=False),
        recogniser=(2, 2, 2, 2),
        size=256,
        batch=1,  # as in the paper, on each of its GPUs
    ),
    "tiny": Shape(
        unet=(32, 64),
        heads=(1, 2),
        vae=(32, 32, 32, 32),
        layers=1,
        vre=VREConfig(
            encoder=AutoencoderConfig(ch=32, ch_mult=(1, 1, 2), num_res_blocks=1, attn_levels=(2,)),
            input_size=64,
            double_norm=False,
        ),
        recogniser=(2, 2, 2, 2),
        size=64,
        batch=1,
    ),
}


def write_files(folder: Path, shape: Shape, pictures: int = 8) -> None:
    """A diffusers folder, an embedder, VGG-16 with DISTS's weights, ArcFace's net and pictures."""
    unet_class, vae_class = diffusers_classes()
    torch.manual_seed(SEED)
    levels = len(shape.unet)
    # Half, as Stable Diffusion is mostly stored, and quicker to make.
    torch.set_default_dtype(torch.float16)
    try:
        unet = unet_class(
            sample_size=64,
            block_out_channels=shape.unet,
            attention_head_dim=shape.heads,
            layers_per_block=shape.layers,
            down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
            cross_attention_dim=1024,
            use_linear_projection=True,
        )
        unet.save_pretrained(folder / "unet")
        del unet
        vae = vae_class(
            down_block_types=("DownEncoderBlock2D",) * len(shape.vae),
            up_block_types=("UpDecoderBlock2D",) * len(shape.vae),
            block_out_channels=shape.vae,
            layers_per_block=shape.layers,
            latent_channels=4,
        )
        vae.save_pretrained(folder / "vae")
        del vae
    finally:
        torch.set_default_dtype(torch.float32)
    VisualRepresentationEmbedder(shape.vre).save(folder / "vre.safetensors")
    torch.save(IResNet(shape.recogniser).state_dict(), folder / "backbone.pth")
    torch.save(_vgg16(), folder / "vgg16.pth")
    (folder / "faces").mkdir()
    rng = np.random.default_rng(SEED)
    for i in range(pictures):
        pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((shape.size,) * 2, Image.Resampling.BICUBIC)
        picture.save(folder / "faces" / f"{i}.png")


def _vgg16() -> dict[str, torch.Tensor]:
    tensors = {k.replace("features_.", "features."): v for k, v in VGG16().state_dict().items()}
    for value in tensors.values():
        if value.ndim == 4:  # torch's own start lets activations die away over 13 layers
            nn.init.kaiming_normal_(value, nonlinearity="relu")
    # Where DISTS's own training starts.
    alpha, beta = torch.randn(2, 1, DISTS_CHANNELS, 1, 1).mul(0.01).add(0.1)
    return tensors | {"alpha": alpha, "beta": beta}


def run_config(folder: Path, shape: Shape, arm: str, device: str, **changes: object) -> TrainConfig:
    """onestep_paper.yaml on these files, with every picture degraded in one way, as the cache
    needs it: so all arms see the same batches.

    Args:
        arm: names the output folder, which only a config has: nothing is written there.
        changes: keys of the config.
    """
    values = paper_values(PAPER, folder, shape, arm, device)
    values["recipe"] |= {
        "backbone": {"source": "sd", "path": str(folder)},
        "vre": str(folder / "vre.safetensors"),
        "extractor": {"kind": "vgg16", "path": str(folder / "vgg16.pth")},
        "recogniser": {"path": str(folder / "backbone.pth")},
    }
    return written(folder, arm, values | changes, OneStepConfig)


def paper_values(paper: Path, folder: Path, shape: Shape, arm: str, device: str) -> dict[str, Any]:
    """A paper's config on these pictures, its networks still to be named."""
    values = yaml.safe_load(paper.read_text(encoding="utf-8"))
    values |= {
        "output": str(folder / arm), "seed": SEED, "batch_size": shape.batch,
        "cpu": device == "cpu", "log_every": 1, "trackers": [],
    }  # fmt: skip
    del values["total_batch"]  # `batch` of the shape is all of a step
    values["data"] |= {
        "folder": str(folder / "faces"), "size": shape.size, "workers": 0, "held_out": 0.2,
    }  # fmt: skip
    values["degradation"] |= {"variants": 1}
    for optimizer in values["optimizers"].values():
        optimizer["warmup"] = 0
    return values


def written(folder: Path, arm: str, values: dict[str, Any], recipe: type) -> TrainConfig:
    """The config, through the file that a run would read."""
    path = folder / f"{arm}.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return load_config(path, recipe)


@torch.no_grad()
def set_start(named: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Fill what is trained from its name alone, so that two loops start alike.

    The upper matrices of the LoRA are not zero, as they are in a fresh one: with zeros neither the
    adapters nor the gradients below them would show in the losses.
    """
    for name, p in named:
        if not p.requires_grad or name.startswith("embedding_change."):  # comes from the file
            continue
        noise = torch.randn(
            p.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode()))
        )
        if "lora_B" in name:
            noise *= 0.02
        elif p.ndim > 1:
            noise *= p[0].numel() ** -0.5
        else:  # of the discriminator's group norm, and biases
            noise = noise * 0.1 + float(name.endswith("1.weight"))
        p.copy_(noise)


@contextmanager
def logical_noise() -> Iterator[None]:
    """`torch.randn_like` draws in the order of indices, whatever the layout in memory.

    It fills memory in its order, so that the same seed means other noise in channels-last layout.
    """
    kept = torch.randn_like
    torch.randn_like = lambda x, **_: torch.randn(x.shape, dtype=x.dtype, device=x.device)
    try:
        yield
    finally:
        torch.randn_like = kept
