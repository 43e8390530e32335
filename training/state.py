"""What a checkpoint holds of a run, and how a run takes it up again."""

import logging
import time
from typing import TYPE_CHECKING

import torch
from accelerate.utils import gather_object

from ..core.errors import FacewrightError
from .checkpoints import (
    list_checkpoints,
    load_trained_state,
    read_checkpoint,
    save_checkpoint,
    trained_state,
)
from .config import ConfigError

if TYPE_CHECKING:
    from .engine import Engine

log = logging.getLogger(__name__)

WAIT_FOR_ROOM = 60.0
"""Seconds between tries to write the last checkpoint to a full disk."""


def capture(engine: "Engine") -> dict:
    """Everything a run needs to go on as if nothing had happened. Every process has to call it."""
    cuda = engine.device.type == "cuda"
    rng = [{
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(engine.device) if cuda else None,
    }]  # fmt: skip
    scaler = engine.accelerator.scaler
    return {
        "stage": engine.recipe.stage,
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

    With `last` it waits for room, as what was learnt since the checkpoint before would be lost.

    Raises:
        FacewrightError: with `last`, it was told to stop, or other processes cannot wait.
    """
    state = capture(engine)
    while engine.accelerator.is_main_process:
        try:
            save_checkpoint(engine.checkpoints, engine.step, state, engine.config.keep_last)
            return
        except OSError as error:
            message = (
                f"The checkpoint of step {engine.step} could not be written to "
                f"{engine.checkpoints} ({error}). Older checkpoints are untouched; make room on "
                "the disk"
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


def take_up(engine: "Engine", *, resume: bool) -> None:
    """Put the newest checkpoint of the output folder into the engine, where there is one.

    Raises:
        ConfigError: the folder holds a run and `resume` is False.
        CheckpointError: the checkpoint is damaged or of other networks.
        FacewrightError: the checkpoint belongs to another stage.
    """
    found = list_checkpoints(engine.checkpoints)
    if not found:
        if resume:
            log.warning("There is no run to resume in %s: it begins.", engine.config.output)
        return
    if not resume:
        raise ConfigError(
            f"{engine.config.output} already holds a run ({found[-1].name}). Continue it with "
            "--resume, or choose another `output`."
        )
    state = read_checkpoint(found[-1], torch.device("cpu"))
    if state["stage"] != engine.recipe.stage:
        raise FacewrightError(
            f"{found[-1]} belongs to stage `{state['stage']}`, not `{engine.recipe.stage}`."
        )
    for name, net in engine.bare.items():
        load_trained_state(net, state["nets"].get(name, {}), name)
    for phase, optimizers in engine.optimizers.items():
        for optimizer, saved in zip(optimizers, state["optimizers"][phase], strict=True):
            base = [group["base_lr"] for group in optimizer.param_groups]
            optimizer.load_state_dict(saved)
            # The config's rates hold, so that a resumed run can be given others.
            for group, lr in zip(optimizer.param_groups, base, strict=True):
                group["base_lr"] = lr
    if engine.ema and state["ema"]:
        engine.ema.load_state_dict(state["ema"])
    if engine.accelerator.scaler and state["scaler"]:
        engine.accelerator.scaler.load_state_dict(state["scaler"])
    engine.step, engine.images = state["step"], state["images"]
    engine.spent, engine.cpu_spent = state["spent"], state["cpu_spent"]
    engine.recipe.load_extra_state(state["extra"])
    if engine.accelerator.process_index < len(state["rng"]):
        rng = state["rng"][engine.accelerator.process_index]
        torch.set_rng_state(rng["cpu"])
        if rng["cuda"] is not None and engine.device.type == "cuda":
            torch.cuda.set_rng_state(rng["cuda"], engine.device)
