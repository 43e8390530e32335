"""Resumable training states on disk: written whole or not at all, oldest removed."""

import os
import re
import shutil
from pathlib import Path

import torch
from torch import nn

from ..core.errors import CheckpointError


def save_checkpoint(folder: Path, step: int, state: dict, keep_last: int) -> Path:
    """Write `folder/step-<n>.pt` through a temporary file, then drop all but the newest.

    Raises:
        OSError: it could not be written; the older ones are untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("step-*.partial"):  # of a run that was killed while it wrote
        left.unlink()
    path = folder / f"step-{step:08d}.pt"
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        _write(state, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    for old in list_checkpoints(folder)[:-keep_last]:
        old.unlink()
    return path


def _write(state: dict, path: Path) -> None:
    try:
        torch.save(state, path)
    except RuntimeError as error:  # what torch makes of a disk that is full
        free = shutil.disk_usage(path.parent).free / 2**20
        raise OSError(f"torch could not write it, with {free:.0f} MB free: {error}") from error


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest first."""
    return sorted(p for p in folder.glob("step-*.pt") if re.fullmatch(r"step-\d+", p.stem))


def read_checkpoint(path: Path, device: torch.device) -> dict:
    """Read a training state; no code in the file is run.

    Raises:
        CheckpointError: the file is damaged or no training state.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets
        raise CheckpointError(
            f"{path} is not a readable training state ({error}). Delete it to resume from the "
            "one before, or start the run without --resume."
        ) from error


def trained_state(net: nn.Module) -> dict[str, torch.Tensor]:
    """What a checkpoint holds of a network: trainable parameters and buffers."""
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    return {k: v for k, v in net.state_dict().items() if k not in frozen}


def load_trained_state(net: nn.Module, state: dict[str, torch.Tensor], name: str) -> None:
    """Inverse of `trained_state`; the trained weights must match name by name."""
    expected = trained_state(net)
    missing, unexpected = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing or unexpected:
        raise CheckpointError(
            f"The checkpoint of network `{name}` does not fit the config: missing "
            f"{sorted(missing)[:5]}, unexpected {sorted(unexpected)[:5]}. Resume with the config "
            "the run was started with."
        )
    with torch.no_grad():
        for key, value in expected.items():
            if value.shape != state[key].shape:
                raise CheckpointError(
                    f"The checkpoint of network `{name}` holds {key} with shape "
                    f"{tuple(state[key].shape)}, the config makes {tuple(value.shape)}."
                )
            value.copy_(state[key])
