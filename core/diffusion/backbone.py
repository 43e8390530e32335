"""Stable Diffusion's UNet and VAE from diffusers, and the nano VAE, as a `Backbone`."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from .. import architecture
from ..errors import CheckpointError, FacewrightError, shorten
from ..lora.merge import LoraReport, merge_lora, parse_lora
from ..methods.flipnet import ALREADY_APPLIED, TEXT_TOKENS, BoostHubs, Condition
from ..modules.boosthub import check_loras
from ..modules.fast import use_fast_layers
from ..restorer import one_step
from .boosthub import AppliedBoostHub, Predict, predicting
from .boosthub import check_fits as check_hubs
from .text import Clip
from .vae import Vae


def build(
    cls: type,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    dtype: torch.dtype,
    device: torch.device,
    pieces: Iterable[Mapping[str, Tensor]] | None = None,
) -> nn.Module:
    """A diffusers module around the given weights, which are shared where dtype and device fit.

    Args:
        pieces: see `architecture.build`.

    Raises:
        CheckpointError: the weights do not fit the architecture, or float16 cannot hold them.
    """
    # Names with an underscore are diffusers' own notes, such as the class to build instead.
    known = {k: v for k, v in config.items() if not k.startswith("_")}
    return architecture.build(
        lambda: use_fast_layers(cls.from_config(known)),
        tensors,
        source=source,
        place=lambda tensor: _placed(tensor, dtype, device, source),
        pieces=pieces,
    )


def _placed(tensor: Tensor, dtype: torch.dtype, device: torch.device, source: str) -> Tensor:
    given, tensor = tensor, tensor.to(device, dtype)
    lost = dtype == torch.float16 and given.dtype != dtype and not torch.isfinite(tensor).all()
    if lost and torch.isfinite(given).all():  # what is broken itself is told by who reads it
        raise CheckpointError(
            f"{shorten(source)} holds weights up to {float(given.abs().max()):g}, and float16 ends "
            "at 65504. Load it in float32 or bfloat16 (command line: --dtype fp32)."
        )
    # About a fifth faster on CPU, and what tensor cores want.
    return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


@dataclass(frozen=True)
class Model:
    """MODEL of the headless host: a UNet and what it takes to build it again."""

    unet: nn.Module
    config: Mapping[str, Any]
    name: str
    scaling_factor: float = 0.18215
    """Latents inside the model are this times the VAE's own; LATENT sockets carry the VAE's."""
    boosthub: AppliedBoostHub | None = None
    loras: tuple[Mapping[str, str], ...] = ()
    """Metadata of the LoRA files that are in the weights."""

    def tensors(self) -> dict[str, Tensor]:
        return self.unet.state_dict()

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "Model":
        """The same architecture around other weights; unchanged tensors stay shared."""
        first = next(self.unet.parameters())
        unet = build(
            type(self.unet),
            self.config,
            tensors,
            source=self.name,
            dtype=first.dtype,
            device=first.device,
        )
        return replace(self, unet=unet)

    def with_lora(
        self,
        tensors: dict[str, Tensor],
        metadata: dict[str, str],
        strength: float = 1.0,
        *,
        in_place: bool = False,
    ) -> tuple["Model", LoraReport]:
        """The same model with a LoRA in its weights; see `core.lora.merge.merge_lora`.

        Args:
            in_place: the weights of this model are changed themselves, so that they are never there
                twice. For who has just loaded it and shares it with nobody.
        """
        weights = dict(self.tensors())
        for name in () if in_place else parse_lora(tensors, metadata, weights.keys()).changes:
            # merge_lora writes in place; everything it does not touch stays shared.
            if name in weights:
                weights[name] = weights[name].clone()
        report = merge_lora(weights, tensors, strength, metadata)
        model = self if in_place else self.with_tensors(weights)
        patched = replace(model, loras=(*self.loras, metadata))
        if self.boosthub:
            check_loras(self.boosthub.hubs.config.mode, patched.loras)
        return patched, report

    def looking_at(self, hubs: BoostHubs, condition: Condition) -> "Model":
        """The same model, whose sampling looks at `condition` through FLIPNET's BoostHubs.

        Raises:
            CheckpointError: the BoostHubs belong to another architecture.
            FacewrightError: a condition of other channels, or there is one already.
        """
        check_hubs(hubs, self.unet, self.name)
        check_loras(hubs.config.mode, self.loras)
        condition.check_latent(self.config["in_channels"])
        if self.boosthub is not None:
            raise FacewrightError(ALREADY_APPLIED)
        hubs.to(next(self.unet.parameters()).device)
        return replace(self, boosthub=AppliedBoostHub(hubs, condition))


class DiffusersBackbone:
    """`core.restorer.Backbone` on a diffusers UNet and a VAE.

    eps = UNet(z_t, t, cond) in the UNet's own dtype; x_0 from it in float64
    (`core.schedule.eps_to_x0`). Latents are multiplied by the model's scaling factor.
    """

    def __init__(self, model: Model, vae: Vae, clip: Clip | None = None) -> None:
        """Without a CLIP it reads no text."""
        self.model, self.vae, self.factor, self.clip = model, vae, vae.factor, clip

    def encode(self, pixels: Tensor, generator: Generator | None = None) -> Tensor:
        return self.vae.encode(pixels, generator) * self.model.scaling_factor

    def denoise(self, z_t: Tensor, t: int, cond: Tensor) -> Tensor:
        return denoise(self.model, z_t, t, cond)

    def predicting(self, cond: Tensor) -> AbstractContextManager[Predict]:
        """The noise prediction for one run of a sampler (`core.diffusion.boosthub.predicting`)."""
        return predicting(self.model, cond)

    def looking_at(self, hubs: BoostHubs, z: Tensor, **about: Any) -> "DiffusersBackbone":
        """See `core.methods.ManyStepBackbone`."""
        condition = Condition(latent=z / self.model.scaling_factor, **about)
        return DiffusersBackbone(self.model.looking_at(hubs, condition), self.vae, self.clip)

    def read(self, text: str) -> Tensor:
        """See `core.methods.ManyStepBackbone`; zeros for a model that reads no text."""
        if self.clip is not None:
            return self.clip.encode(text)
        if text:
            raise FacewrightError(
                f"{self.model.name} reads no text, but the prompt is {shorten(repr(text))}. Leave "
                "it out."
            )
        return torch.zeros(1, TEXT_TOKENS, self.model.config["cross_attention_dim"])

    def decode(self, z_0: Tensor, *, full_precision: bool = False) -> Tensor:
        z = z_0 / self.model.scaling_factor
        return self.vae.decode(z, full_precision=full_precision)


def denoise(model: Model, z_t: Tensor, t: int, cond: Tensor) -> Tensor:
    """x_0 in one call, with no VAE at hand; see `core.restorer.Backbone.denoise`."""
    with predicting(model, cond) as predict:
        return one_step(predict, z_t, t, cond)


@dataclass(frozen=True)
class OneStepSampler:
    """SAMPLER of the headless host: one step at a fixed timestep."""

    timestep: int
