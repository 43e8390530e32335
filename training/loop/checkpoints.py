"""Resumable training states on disk: written whole or not at all, oldest removed."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...core.checkpoint import read_content
from ...core.errors import CheckpointError, listed, shorten

_KINDS = {
    "stage": str,
    "step": int,
    "images": int,
    "spent": float | int,
    "cpu_spent": float | int,
    "nets": dict,
    "optimizers": dict,
    "rng": list,
    "extra": dict,
}
"""What a training state holds (`state.capture`), beside what may be None."""


def save_checkpoint(folder: Path, step: int, state: dict, keep_last: int | None) -> Path:
    """Write `folder/step-<n>.pt` through a temporary file, then drop all but the newest, if told.

    Raises:
        OSError: it could not be written; the older ones are untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_partial(folder)
    path = folder / f"step-{step:08d}.pt"
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        _write(state, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    for old in list_checkpoints(folder)[:-keep_last] if keep_last else ():
        old.unlink()
    return path


def remove_partial(folder: Path) -> None:
    """Delete what a run that was killed while it wrote a checkpoint left in `folder`."""
    for left in folder.glob("step-*.partial"):
        left.unlink(missing_ok=True)


def _write(state: dict, path: Path) -> None:
    try:
        torch.save(state, path)
    except RuntimeError as error:  # what torch makes of a disk that is full
        free = shutil.disk_usage(path.parent).free / 2**20
        raise OSError(f"torch could not write it, with {free:.0f} MB free: {error}") from error


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest first."""
    return sorted(p for p in folder.glob("step-*.pt") if re.fullmatch(r"step-\d+", p.stem))


def read_checkpoint(path: Path) -> dict:
    """Read a training state onto the CPU; no code in the file is run.

    Raises:
        CheckpointError: the file is damaged or no training state, or holds NaN.
    """
    again = _instead(path)
    try:
        state = read_content(path, again=again)
    except CheckpointError as error:
        raise CheckpointError(f"{path} is not a readable training state: {error}") from error
    held = state if isinstance(state, dict) else {}
    wrong = [name for name, kind in _KINDS.items() if not isinstance(held.get(name), kind)]
    if wrong:
        raise CheckpointError(
            f"{path} is no training state of `facewright train`: {listed(wrong)} is missing or "
            f"of another kind. {again}"
        )
    if where := non_finite(held):
        raise CheckpointError(
            f"{path} holds NaN or infinite numbers ({shorten(where)}): the run had diverged. "
            f"{_instead(path)}"
        )
    return held


def _instead(path: Path) -> str:
    before = [p.name for p in list_checkpoints(path.parent) if p < path]
    if not before:
        return "There is none before it: move it away and start the run without --resume."
    return f"Delete it to resume from the one before, {before[-1]}."


def non_finite(state: Any) -> str | None:
    """Place of the first NaN or infinite number among what a state holds, as `nets.unet.weight`."""
    found = (name for name, tensor in _tensors(state, "") if not tensor.isfinite().all())
    return next(found, None)


def _tensors(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex()):
        yield name, value
    elif isinstance(value, (Mapping, list, tuple)):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _tensors(item, f"{name}.{key}" if name else str(key))


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
            f"{listed(sorted(missing)) or 'none'}, unexpected "
            f"{listed(sorted(map(str, unexpected))) or 'none'}. Resume with the config the run "
            "was started with."
        )
    with torch.no_grad():
        for key, value in expected.items():
            shape = tuple(getattr(state[key], "shape", ()))
            if value.shape != shape:
                raise CheckpointError(
                    f"The checkpoint of network `{name}` holds {key} with shape "
                    f"{shape}, the config makes {tuple(value.shape)}."
                )
            value.copy_(state[key])
