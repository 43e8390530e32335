"""Where curves go besides `metrics.jsonl`: TensorBoard, and the trackers accelerate knows."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from ..settings.config import ConfigError, TrainConfig
from .records import Unwritten

OWN = "tensorboard"
"""Ours, not accelerate's: a resumed run must take back what was logged after its checkpoint."""
PROJECT = "facewright"
"""Name of the project (mlflow: experiment) in a tracker that has such."""
_PACKAGES = {"comet_ml": "comet-ml"}
"""Where `pip install` wants another name than the tracker's."""
_ONE_PICTURE = ("aim", "clearml")
"""Trackers whose `log_images` takes one picture per name; the others take a list."""

_ROOM = 2**16
"""Bytes that have to fit on the disk before TensorBoard's files are taken up again."""


class Tracker(Protocol):
    """What a run's log tells of its scalars and pictures."""

    def scalars(self, values: dict[str, float], step: int) -> None: ...

    def held_out(self, values: dict[str, float], grid: np.ndarray | None, step: int) -> None:
        """Metrics of a validation, and its picture grid (h, w, 3) uint8 where there is one."""

    def close(self) -> None: ...


def check_trackers(names: tuple[str, ...]) -> list[str]:
    """Those of the config's `trackers` that accelerate has to start.

    Raises:
        ConfigError: a name that accelerate does not know, or whose package is not installed.
    """
    for name in names:
        if name not in {OWN, *LOGGER_TYPE_TO_CLASS}:
            raise ConfigError(
                f"There is no tracker `{name}`. `trackers:` in the config takes any of "
                f"{', '.join(sorted({OWN, *LOGGER_TYPE_TO_CLASS}))}; [] switches all off."
            )
        if not _is_installed(name):
            package = _PACKAGES.get(name, name)
            raise ConfigError(
                f"The tracker `{name}` is not installed. Install it with: pip install {package}; "
                "or take it out of `trackers:` in the config."
            )
    return [name for name in names if name != OWN]


def _is_installed(name: str) -> bool:
    if name == OWN:
        return importlib.util.find_spec("tensorboard") is not None
    built_in = LOGGER_TYPE_TO_CLASS[name].__module__ == "accelerate.tracking"
    return not built_in or name in map(str, get_available_trackers())  # members of an enum


def open_trackers(config: TrainConfig, accelerator: Accelerator, step: int) -> list[Tracker]:
    """Start every tracker of the config; none but in the main process.

    Args:
        accelerator: made with `log_with=check_trackers(config.trackers)`.
        step: that the run starts at or goes on from.

    Raises:
        ConfigError: a tracker does not start, for want of a login, say.
    """
    if not accelerator.is_main_process:
        return []
    opened: list[Tracker] = []
    if OWN in config.trackers:
        opened.append(TensorBoard(config.output / "tensorboard", step))
    if accelerator.log_with:
        names = ", ".join(str(name) for name in accelerator.log_with)
        try:
            accelerator.init_trackers(PROJECT, flat(config.model_dump(mode="json")))
        except Exception as error:  # each tracker has errors of its own
            raise ConfigError(
                f"A tracker of {names} did not start ({type(error).__name__}: {error}). Log in to "
                "it as its documentation says, or take it out of `trackers:` in the config."
            ) from error
        opened += [Accelerated(tracker) for tracker in accelerator.trackers]
    return opened


def flat(values: dict, prefix: str = "") -> dict[str, Any]:
    """{"data": {"size": 64}} -> {"data.size": 64}; trackers take single values only."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            found[prefix + key] = str(value)
        elif value is not None:
            found[prefix + key] = value
    return found


class TensorBoard:
    """Event files below `folder`.

    Where one cannot be written any more, the next validation starts another.

    Args:
        step: that the run goes on from; what was logged after it is not shown.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.folder, self.writer, self.unwritten = folder, None, Unwritten()
        self._open(step)

    def scalars(self, values: dict[str, float], step: int) -> None:
        self._attempt(lambda w: [w.add_scalar(k, v, step) for k, v in values.items()])

    def held_out(self, values: dict[str, float], grid: np.ndarray | None, step: int) -> None:
        if self.writer is None and self._has_room():
            self._open(step)
        self.scalars({f"held_out/{k}": v for k, v in values.items()}, step)
        if grid is not None:
            self._attempt(lambda w: w.add_image("held_out", grid, step, dataformats="HWC"))
        self._attempt(lambda w: w.flush())

    def close(self) -> None:
        self._attempt(lambda w: w.close())

    def _has_room(self) -> bool:
        """Whether another try is worth it; each one that fails shows a thread's traceback."""
        try:
            with TemporaryFile(dir=self.folder, buffering=0) as file:
                return file.write(bytes(_ROOM)) == _ROOM
        except OSError:
            return False

    def _open(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        try:
            self.writer = SummaryWriter(str(self.folder), purge_step=step + 1)
        except OSError as error:
            self._give_up(error)

    def _attempt(self, write: Callable[[Any], object]) -> None:
        if self.writer is None:
            return
        # A thread writes, and the call after a failure raises what it met.
        try:
            write(self.writer)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.writer = None
        self.unwritten.warn(f"TensorBoard's files in {self.folder} could not be written", error)


class Accelerated:
    """One tracker that accelerate has started."""

    def __init__(self, tracker: Any) -> None:
        self.tracker, self.unwritten = tracker, Unwritten()

    def scalars(self, values: dict[str, float], step: int) -> None:
        self._attempt(lambda: self.tracker.log(values, step=step))

    def held_out(self, values: dict[str, float], grid: np.ndarray | None, step: int) -> None:
        self.scalars({f"held_out/{k}": v for k, v in values.items()}, step)
        if grid is not None and hasattr(self.tracker, "log_images"):
            shown = grid if self.tracker.name in _ONE_PICTURE else [grid]
            self._attempt(lambda: self.tracker.log_images({"held_out/pictures": shown}, step=step))

    def close(self) -> None:
        self._attempt(self.tracker.finish)

    def _attempt(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - a service that is down must not end a run
            self.unwritten.warn(f"The tracker {self.tracker.name} did not take everything", error)
