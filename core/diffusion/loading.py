"""Stable Diffusion 2.1-base from its files as diffusers modules, to run or to train."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..checkpoint import identify, read_pieces, read_tensors
from ..checkpoint.identify import weights_in
from ..devices import asked_dtype, channels_last, compute_device
from ..modules.fast import fast_dtype
from ..weights import nano
from ..weights.sd_config import UNetConfig, VAEConfig, part_config
from . import ldm
from .backbone import Model, build
from .library import diffusers_classes
from .vae import Vae

_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names in VAE folders written before diffusers 0.14, SD 2.1-base's own among them."""


class Place(NamedTuple):
    """How and where weights are held."""

    dtype: torch.dtype
    device: torch.device


def quickest() -> Place:
    """For inference on this machine: in the format that is asked for, else the device's fastest.

    Raises:
        FacewrightError: a format is asked for that the device does not compute in.
    """
    device = compute_device()
    return Place(asked_dtype(device) or fast_dtype(device), device)


def load_checkpoint(path: Path, place: Place | None = None) -> tuple[Model, Vae | None]:
    """SD 2.1-base from a single file or a diffusers folder; no VAE where a single file has none.

    Args:
        place: number format and device; default what this machine is quickest with.

    Raises:
        CheckpointError: another model (said which), incomplete, or unreadable.
    """
    place = place or quickest()
    return _load_folder(path, place) if path.is_dir() else _load_single_file(path, place)


def load_nano(*, lora: bool = False) -> tuple[Model, Vae]:
    """The bundled model of rendered faces; with `lora` the one-step LoRA is in it.

    It is in float32 unless another format is asked for: it is small.

    Raises:
        CheckpointError: a file of it is missing.
        FacewrightError: a format is asked for that the device does not compute in.
    """
    device = compute_device()
    place = Place(asked_dtype(device) or torch.float32, device)
    model, vae = _nano(place)
    return (_nano_with_lora(place) if lora else model), vae


@functools.cache
def _nano(place: Place) -> tuple[Model, Vae]:
    config = nano.unet_config()
    unet = build(
        diffusers_classes()[0],
        config,
        nano.unet_tensors(),
        source="nano_unet.safetensors",
        dtype=place.dtype,
        device=place.device,
    )
    vae = channels_last(nano.load_vae().to(place.device, place.dtype))
    return Model(unet, config, "the nano UNet", scaling_factor=1.0), Vae(vae)


@functools.cache
def _nano_with_lora(place: Place) -> Model:
    return _nano(place)[0].with_lora(*nano.lora_tensors())[0]


def load_vae(path: Path) -> Vae:
    """A VAE of its own: single file in LDM layout, diffusers file, or diffusers folder.

    Raises:
        CheckpointError: not a Stable Diffusion VAE.
    """
    if path.is_dir():
        return _vae_from_folder(path, quickest())
    tensors, _ = read_tensors(path)
    return _ldm_vae(path, _starting_with(ldm.VAE_PREFIX, tensors) or tensors, quickest())


def _load_single_file(path: Path, place: Place) -> tuple[Model, Vae | None]:
    tensors, metadata = read_tensors(path)
    identify(path, tensors, metadata).check_base()
    unet, vae = (_starting_with(p, tensors) for p in (ldm.UNET_PREFIX, ldm.VAE_PREFIX))
    config = ldm.unet_config(ldm.part_of(unet, ldm.UNET_PREFIX), source=path.name)

    def renamed(part: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return ldm.unet_to_diffusers(ldm.part_of(part, ldm.UNET_PREFIX), config)

    model = _model(config, _Stored(path, unet, renamed), path.name, place)
    return model, _ldm_vae(path, vae, place) if vae else None


def _starting_with(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v for k, v in tensors.items() if k.startswith(prefix)}


def _ldm_vae(path: Path, tensors: Mapping[str, Tensor], place: Place) -> Vae:
    """From a file's tensors of a VAE, whose names may begin with that of the part."""

    def weights(part: Mapping[str, Tensor]) -> dict[str, Tensor]:
        part = {k.removeprefix(ldm.VAE_PREFIX): v for k, v in part.items()}
        # Training losses that some files carry along have no place in the module.
        return {k: v for k, v in part.items() if not k.startswith(("loss.", "model_ema."))}

    config = ldm.vae_config(weights(tensors), source=path.name)
    stored = _Stored(path, tensors, lambda part: ldm.vae_to_diffusers(weights(part), config))
    return _vae(config, stored, path.name, place)


class _Stored(NamedTuple):
    """Weights in a file, and what the network they are for calls them."""

    path: Path
    tensors: Mapping[str, Tensor]
    renamed: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]

    def built(self, cls: type, config: Mapping[str, Any], source: str, place: Place) -> nn.Module:
        """The network; of a mapped file never more than a part is held beside it."""
        return build(
            cls,
            config,
            self.renamed(self.tensors),
            source=source,
            dtype=place.dtype,
            device=place.device,
            pieces=map(self.renamed, read_pieces(self.path, self.tensors)),
        )


def _model(config: Mapping[str, Any], stored: _Stored, name: str, place: Place) -> Model:
    unet_class, _ = diffusers_classes()
    return Model(stored.built(unet_class, config, name, place), config, name)


def _vae(config: Mapping[str, Any], stored: _Stored, name: str, place: Place) -> Vae:
    _, vae_class = diffusers_classes()
    return Vae(stored.built(vae_class, config, name, place))


def _load_folder(folder: Path, place: Place) -> tuple[Model, Vae]:
    config, tensors, _ = read_unet_folder(folder)
    stored = _Stored(weights_in(folder / "unet"), tensors, dict)
    return _model(config, stored, folder.name, place), _vae_from_folder(folder / "vae", place)


def read_unet_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, str]]:
    """Config, weights and metadata of the UNet in a diffusers folder of SD 2.1-base.

    Raises:
        CheckpointError: another model (said which), or incomplete.
    """
    identify(folder).check_base()
    tensors, metadata = read_tensors(weights_in(folder / "unet"))
    return part_config(folder / "unet", UNetConfig, "a UNet"), tensors, metadata


def _vae_from_folder(folder: Path, place: Place) -> Vae:
    weights = weights_in(folder)
    config = part_config(folder, VAEConfig, "an autoencoder")
    tensors, _ = read_tensors(weights)

    def modern(key: str) -> str:
        parts = key.split(".")
        if "attentions" in parts:
            parts[-2] = _OLD_ATTENTION.get(parts[-2], parts[-2])
        return ".".join(parts)

    stored = _Stored(weights, tensors, lambda part: {modern(k): v for k, v in part.items()})
    return _vae(config, stored, str(folder), place)
