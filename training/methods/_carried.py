"""A discriminator that goes on from the run before, as HonestFace's from OSDFace's."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ...core.checkpoint import read_content
from ...core.errors import CheckpointError, listed, shorten
from ..losses.latent_discriminator import LatentDiscriminator

log = logging.getLogger(__name__)

_AGAIN = "Name another in `discriminator.carry_on`, or `carry_on: null` for a fresh discriminator."
_NET = "discriminator"


def carry_on(net: LatentDiscriminator, place: Path) -> None:
    """Put the discriminator of another run's checkpoint into `net`.

    A checkpoint holds what was trained: the LoRA and the head. Optimiser states stay behind.

    Args:
        place: a checkpoint, a folder of them, of which the newest counts, or the run's folder.

    Raises:
        CheckpointError: there is none, it is damaged, or its discriminator is another.
    """
    path = _checkpoint(place)
    content = read_content(path, again=_AGAIN)
    nets = content.get("nets") if isinstance(content, dict) else None
    held = nets.get(_NET) if isinstance(nets, dict) else None
    if not isinstance(held, dict) or not all(isinstance(v, Tensor) for v in held.values()):
        raise CheckpointError(
            f"{path} holds no discriminator: a checkpoint of stage onestep or honestface that was "
            f"trained with `weights.gan` above 0 was expected. {_AGAIN}"
        )
    found = {_plain(str(name)): value for name, value in held.items()}
    wanted = {_plain(name): p for name, p in net.named_parameters() if p.requires_grad}
    if other := _differences(found, wanted):
        raise CheckpointError(
            f"The discriminator of {path} is another than the config's ({other}). It has "
            f"{_told(found)}, the config's {_told(wanted)}. Give `discriminator` and `backbone` "
            "the values of that run, or `carry_on: null` for a fresh discriminator."
        )
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(found[name])
    log.info("The discriminator goes on from %s.", path)


def _checkpoint(place: Path) -> Path:
    if place.is_file():
        return place
    for folder in (place, place / "checkpoints"):
        if found := sorted(folder.glob("step-*.pt")):
            return found[-1]
    raise CheckpointError(
        f"{place} holds no checkpoint of a run: files step-*.pt were expected, there or in its "
        f"folder `checkpoints`. {_AGAIN}"
    )


def _plain(name: str) -> str:
    """Without what `merged: true` adds, which changes how a network is computed alone."""
    return name.replace("encoder.module.", "encoder.", 1)


def _differences(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    odd = found.keys() ^ wanted.keys()
    odd |= {k for k in found.keys() & wanted.keys() if found[k].shape != wanted[k].shape}
    return listed([shorten(name, 80) for name in sorted(odd)])


def _told(weights: Mapping[str, Tensor]) -> str:
    ranks = {len(v) for k, v in weights.items() if ".lora_A." in k and v.ndim}
    heads = [len(v) for k, v in weights.items() if k == "head.0.weight" and v.ndim]
    rank = f"rank {', '.join(map(str, sorted(ranks)))}" if ranks else "no LoRA"
    return f"{rank} and {f'{heads[0]} hidden channels' if heads else 'no head'}"
