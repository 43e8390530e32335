"""Which device a run trains on."""

import os
from typing import Any

from accelerate import Accelerator

from ...core.devices import AUTO, asked_device, find_device
from ..settings.config import ConfigError, TrainConfig

_ACCELERATES_OWN = "ACCELERATE_TORCH_DEVICE"


def with_chosen_device(config: TrainConfig) -> TrainConfig:
    """The config as it is run: --device and FACEWRIGHT_DEVICE come before its `cpu`."""
    name = asked_device()
    if name == AUTO:
        return config
    return config.model_copy(update={"cpu": find_device(name).type == "cpu"})


def accelerator(config: TrainConfig, **settings: Any) -> Accelerator:
    """accelerate on the chosen device; what its launcher starts takes a device each.

    Args:
        config: from `with_chosen_device`.
        settings: more arguments of `Accelerator`.

    Raises:
        ConfigError: one device was chosen for several processes.
        FacewrightError: it is not there.
    """
    name = asked_device()
    if name == AUTO or config.cpu:
        return Accelerator(cpu=config.cpu, **settings)
    device = find_device(name)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if device.index is not None:
            raise ConfigError(
                f"Several processes cannot share {device}: each takes a device of its own. Leave "
                f"the number out (--device {device.type}), and choose among the devices with "
                "CUDA_VISIBLE_DEVICES or the launcher's own options."
            )
        return Accelerator(**settings)
    before = os.environ.get(_ACCELERATES_OWN)
    os.environ[_ACCELERATES_OWN] = str(device)  # it has no argument for that
    try:
        return Accelerator(**settings)
    finally:
        if before is None:
            del os.environ[_ACCELERATES_OWN]
        else:
            os.environ[_ACCELERATES_OWN] = before
