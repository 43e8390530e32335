"""What a checkpoint holds of a run, and how a run takes it up again."""

import errno
import logging
import time
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object

from ...core.devices import random_state, set_random_state
from ...core.errors import CheckpointError, FacewrightError, shorten
from ..settings.config import ConfigError, load_config
from .checkpoints import (
    list_checkpoints,
    load_trained_state,
    non_finite,
    read_checkpoint,
    save_checkpoint,
    trained_state,
)
from .resume import check_changes, defaults_of, settings_of

if TYPE_CHECKING:
    from .engine import Engine

log = logging.getLogger(__name__)

_CHANGE = ("step", "key", "before", "now")
_COUNTED = ("step", "images", "spent", "cpu_spent")
_NO_ROOM = (None, errno.ENOSPC, errno.EDQUOT)
"""How a full disk is told; by torch without a number."""
WAIT_FOR_ROOM = 60.0
"""Seconds between tries to write the last checkpoint to a full disk."""


def capture(engine: "Engine") -> dict:
    """Everything a run needs to go on as if nothing had happened. Every process has to call it."""
    rng = [{"cpu": torch.get_rng_state(), "device": random_state(engine.device)}]
    scaler = engine.accelerator.scaler
    return {
        "stage": engine.recipe.stage,
        "settings": settings_of(engine.config, engine.recipe.config),
        "changes": engine.changes,
        "step": engine.step,
        "images": engine.images,
        "spent": engine.spent,
        "cpu_spent": engine.cpu_spent,
        "nets": {name: trained_state(net) for name, net in engine.bare.items()},
        "optimizers": {k: [o.state_dict() for o in v] for k, v in engine.optimizers.items()},
        "ema": engine.ema.state_dict() if engine.ema else None,
        "scaler": scaler.state_dict() if scaler else None,
        "rng": gather_object(rng) if engine.accelerator.num_processes > 1 else rng,
        "extra": engine.recipe.extra_state(),
    }


def put_down(engine: "Engine", *, last: bool = False) -> None:
    """Write a checkpoint. A disk that is full spares the older ones and the run.

    While a phase is in a row of bad steps none is written, but for the last, and none removed: its
    weights may be what the row comes of. In a good step the one before has shown that training
    goes on from it, so it stays beside the new one, which has not yet.

    With `last` it waits for room, as what was learnt since the checkpoint before would be lost.

    Raises:
        NonFiniteError: weights, averages or optimisers hold NaN; nothing was written or removed.
        FacewrightError: with `last`, it was told to stop, or other processes cannot wait.
    """
    in_bad_row = engine.guard.in_bad_row
    if in_bad_row and not last:
        log.warning("No checkpoint of step %d: its steps are not finite.", engine.step)
        return
    state = capture(engine)
    if where := non_finite(state):
        raise engine.guard.weights(engine.step, where)
    keep = engine.config.keep_last
    kept = None if in_bad_row else keep if last else max(2, keep)
    while engine.accelerator.is_main_process:
        try:
            save_checkpoint(engine.checkpoints, engine.step, state, kept)
            return
        except OSError as error:
            message = (
                f"The checkpoint of step {engine.step} could not be written to "
                f"{engine.checkpoints} ({error}). Older checkpoints are untouched; "
                + ("make room on the disk" if error.errno in _NO_ROOM else "mend that")
            )
            if last and (engine.stopped_by or engine.accelerator.num_processes > 1):
                raise FacewrightError(f"{message} and go on with --resume.") from error
        if not last:
            log.warning("%s. The run goes on and tries again at the next one.", message)
            return
        log.warning("%s: the run waits for it. Ctrl-C gives up.", message)
        waited = time.monotonic() + WAIT_FOR_ROOM
        while time.monotonic() < waited and not engine.stopped_by:
            time.sleep(0.1)


def take_up(engine: "Engine", *, resume: bool, checked: bool = True) -> None:
    """Put the newest checkpoint of the output folder into the engine, where there is one.

    Args:
        checked: False to only look at a run: whether it could go on so is not asked.

    Raises:
        ConfigError: the folder holds a run and `resume` is False, or the config has changed where
            a run cannot (see `resume.check_changes`).
        CheckpointError: the checkpoint is damaged or of other networks.
        FacewrightError: the checkpoint belongs to another stage.
    """
    try:
        found = list_checkpoints(engine.checkpoints)
    except OSError as error:
        raise ConfigError(
            f"The run's folder {shorten(engine.config.output, 200)} cannot be read "
            f"({shorten(error.strerror)}). Name another `output`, or mend that."
        ) from error
    if not found:
        if resume:
            log.warning("There is no run to resume in %s: it begins.", engine.config.output)
        return
    if not resume:
        raise ConfigError(
            f"{engine.config.output} already holds a run ({found[-1].name}). Continue it with "
            "--resume, or choose another `output`."
        )
    state = read_checkpoint(found[-1])
    if state["stage"] != engine.recipe.stage:
        raise FacewrightError(
            f"{found[-1]} belongs to stage `{state['stage']}`, not `{engine.recipe.stage}`."
        )
    try:
        if checked:
            _compare(engine, state)
        _restore(engine, state)
    except FacewrightError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"{found[-1]} does not hold what a run of this config saves "
            f"({type(error).__name__}: {shorten(error, 200)}). Delete it to resume from the one "
            "before, or begin a new run with another `output`."
        ) from error


def _compare(engine: "Engine", state: dict[str, Any]) -> None:
    """Refuse what a resumed run cannot honour, and note what it does otherwise from here on."""
    before = dict(state.get("settings") or _recorded(engine))
    now = settings_of(engine.config, engine.recipe.config)
    defaults = defaults_of(engine.config, engine.recipe.config)
    changed = check_changes(before, now, engine.recipe.changeable, defaults)
    engine.changes = [
        *({key: entry[key] for key in _CHANGE} for entry in state.get("changes", [])),
        *(dict(zip(_CHANGE, (state["step"], *change), strict=True)) for change in changed),
    ]


def _recorded(engine: "Engine") -> dict[str, Any]:
    """Settings of a run whose checkpoints do not hold them: those in its config.yaml."""
    try:
        config = load_config(engine.config.output / "config.yaml", type(engine.recipe.config))
    except ConfigError:  # gone, or of another version: there is nothing to compare with
        return settings_of(engine.config, engine.recipe.config)
    return settings_of(config, config.recipe)


def _restore(engine: "Engine", state: dict[str, Any]) -> None:
    for key in _COUNTED:
        if isinstance(state[key], bool) or state[key] < 0:
            raise TypeError(f"`{key}` is {shorten(repr(state[key]))}")
    for name, net in engine.bare.items():
        load_trained_state(net, state["nets"].get(name, {}), name)
    for phase, optimizers in engine.optimizers.items():
        for optimizer, saved in zip(optimizers, state["optimizers"][phase], strict=True):
            given = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
            optimizer.load_state_dict(saved)
            # The config's rates, betas and decay hold, so that a resumed run can be given others.
            for group, values in zip(optimizer.param_groups, given, strict=True):
                group |= values
    if engine.ema:
        averages = [p.detach().clone() for p in engine.ema.params]  # where there were none before
        engine.ema.load_state_dict(state["ema"] or {"averages": averages, "updates": 0})
    if engine.accelerator.scaler and state["scaler"]:
        engine.accelerator.scaler.load_state_dict(state["scaler"])
    engine.step, engine.images = state["step"], state["images"]
    engine.spent, engine.cpu_spent = state["spent"], state["cpu_spent"]
    engine.recipe.load_extra_state(state["extra"])
    if engine.accelerator.process_index < len(state["rng"]):
        rng = state["rng"][engine.accelerator.process_index]
        torch.set_rng_state(rng["cpu"])
        # "cuda" in checkpoints of version 0.1.
        own = rng.get("device", rng.get("cuda"))
        if own is not None and random_state(engine.device) is not None:
            set_random_state(engine.device, own)
