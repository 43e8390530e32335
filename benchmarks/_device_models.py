"""OSDFace's flow on a device with random weights: the plain one, and ours in any number format."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from facewright.core.diffusion.backbone import DiffusersBackbone, Model, build
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.diffusion.vae import Vae
from facewright.core.methods.osdface import VisualRepresentationEmbedder, VREConfig
from facewright.core.restorer import ONE_STEP_TIMESTEP, restore_one_step
from torch import Tensor, nn

from .onestep import (
    TINY_UNET,
    TINY_VAE,
    TINY_VRE,
    UNET,
    VAE,
    plain_decode,
    plain_denoise,
    plain_embed,
    plain_encode,
)

PARTS = ("embed", "encode", "denoise", "decode")
SEED = 0


@dataclass(frozen=True)
class Flow:
    """What one face goes through, part by part and as a whole; all on one device.

    Attributes:
        embed: (b, 3, h, w) in [0, 1] -> prompt (b, n, d).
        encode: pixels in [-1, 1] -> z (b, 4, h / 8, w / 8).
        denoise: z, prompt -> z_0.
        decode: z_0 -> pixels, not clamped.
        whole: (b, 3, h, w) in [0, 1] -> restored.
        vre: the embedder, for its tokens.
        backbone: None for the plain flow.
    """

    embed: Callable[[Tensor], Tensor]
    encode: Callable[[Tensor], Tensor]
    denoise: Callable[[Tensor, Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    whole: Callable[[Tensor], Tensor]
    vre: VisualRepresentationEmbedder
    backbone: DiffusersBackbone | None = None


@dataclass(frozen=True)
class Networks:
    """The networks in float32, contiguous, as diffusers makes them."""

    vre: VisualRepresentationEmbedder
    unet: Any
    vae: Any
    unet_config: dict[str, Any]
    vae_config: dict[str, Any]


def faces(count: int, device: torch.device, tiny: bool) -> Tensor:
    """(count, 3, s, s) in [0, 1]: smooth noise, other for every face, alike on all devices."""
    side = 64 if tiny else 512
    generator = torch.Generator().manual_seed(SEED)
    small = torch.rand(count, 3, 16, 16, generator=generator)
    return F.interpolate(small, (side, side), mode="bicubic").clamp(0, 1).to(device)


def random_networks(device: torch.device, tiny: bool) -> Networks:
    """Drawn where they are used: on CUDA that takes a second, on the CPU half a minute."""
    unet_config, vae_config = (TINY_UNET, TINY_VAE) if tiny else (UNET, VAE)
    unet_class, vae_class = diffusers_classes()
    torch.manual_seed(SEED)
    with device if device.type == "cuda" else nullcontext():
        vre = VisualRepresentationEmbedder(TINY_VRE if tiny else VREConfig())
        unet: nn.Module = unet_class.from_config(unet_config)
        vae: nn.Module = vae_class.from_config(vae_config)
    for net in (vre, unet, vae):
        net.eval().requires_grad_(False).to(device)
    return Networks(vre, unet, vae, unet_config, vae_config)


def plain(nets: Networks, dtype: torch.dtype = torch.float32) -> Flow:
    """The released inference: diffusers' modules, one face at a time for the embedder."""
    vre = _contiguous(nets.vre)
    unet, vae = (_as(net, dtype) for net in (nets.unet, nets.vae))

    def embed(lq: Tensor) -> Tensor:
        return torch.cat([plain_embed(vre, face)[0] for face in lq.split(1)])

    def encode(pixels: Tensor) -> Tensor:
        return plain_encode(vae, pixels.to(dtype)).float()

    def denoise(z: Tensor, prompt: Tensor) -> Tensor:
        return plain_denoise(unet, z.to(dtype), prompt.to(dtype))

    def decode(z_0: Tensor) -> Tensor:
        return plain_decode(vae, z_0.to(dtype)).float()

    def whole(lq: Tensor) -> Tensor:
        pixels = decode(denoise(encode(lq * 2 - 1), embed(lq)))
        return ((pixels + 1) / 2).clamp(0, 1)

    return Flow(embed, encode, denoise, decode, whole, vre)


def ours(nets: Networks, dtype: torch.dtype, device: torch.device) -> Flow:
    """What `facewright restore --weights osdface` runs, its embedder in float32."""
    unet_class, vae_class = diffusers_classes()
    built = partial(build, dtype=dtype, device=device)
    vae = Vae(built(vae_class, nets.vae_config, nets.vae.state_dict(), source="VAE"))
    unet = built(unet_class, nets.unet_config, nets.unet.state_dict(), source="UNet")
    backbone = DiffusersBackbone(Model(unet, nets.unet_config, "random"), vae)
    vre = nets.vre

    def whole(lq: Tensor) -> Tensor:
        return restore_one_step(lq, vre(lq), backbone)[0]

    return Flow(
        embed=vre,
        encode=backbone.encode,
        denoise=lambda z, prompt: backbone.denoise(z, ONE_STEP_TIMESTEP, prompt),
        decode=backbone.decode,
        whole=whole,
        vre=vre,
        backbone=backbone,
    )


def model_of(flow: Flow) -> Model:
    """MODEL of the headless host, of one of `ours`."""
    if flow.backbone is None:
        raise ValueError("The plain flow has no backbone.")
    return flow.backbone.model


def formats_of(flow: Flow) -> dict[str, str]:
    """The format that each of our networks is held in: one that overflowed is in float32 since."""
    if flow.backbone is None:
        return {}
    vae = flow.backbone.vae.module
    nets = {"unet": flow.backbone.model.unet, "encoder": vae.encoder, "decoder": vae.decoder}
    return {k: str(next(net.parameters()).dtype).removeprefix("torch.") for k, net in nets.items()}


def inputs_of(flow: Flow, lq: Tensor) -> dict[str, tuple[Tensor, ...]]:
    """Arguments of each part, computed by the flow itself."""
    pixels = lq * 2 - 1
    prompt, z = flow.embed(lq), flow.encode(pixels)
    return {
        "embed": (lq,),
        "encode": (pixels,),
        "denoise": (z, prompt),
        "decode": (flow.denoise(z, prompt),),
    }


@contextmanager
def tensor_cores(*, products: bool, convolutions: bool) -> Iterator[None]:
    """Whether float32 may be rounded to TF32 on its way into a GPU's matrix units.

    torch's own defaults are no for matrix products and yes for convolutions.
    """
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32, cudnn.allow_tf32 = products, convolutions
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def _contiguous(net: Any) -> Any:
    return copy.deepcopy(net).to(memory_format=torch.contiguous_format)


def _as(net: nn.Module, dtype: torch.dtype) -> nn.Module:
    # Not diffusers' own `to`, which warns of layers that are to stay in float32 and names none.
    return net if dtype == torch.float32 else nn.Module.to(copy.deepcopy(net), dtype)
