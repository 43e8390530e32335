"""A run that stands still: its exports, without training on."""

from pathlib import Path
from typing import Any

from ..core.errors import FacewrightError
from .data import Batches
from .log.records import read_lines
from .loop.checkpoints import list_checkpoints, read_checkpoint
from .loop.engine import Engine
from .loop.results import export
from .loop.state import take_up
from .recipe import Recipe
from .settings.config import ConfigError, TrainConfig, load_config
from .train import stages

CONFIG_FILE = "config.yaml"
"""What a run writes of its config, beside `checkpoints/`."""


def export_run(run: Path, out: Path | None = None) -> list[Path]:
    """Write what a run would export now, from its newest checkpoint, without training on.

    The weights are the averaged ones where the run has such. Nothing of the run changes, and its
    data may be gone: then the exports say nothing of them. Paths of the config are taken as the run
    took them, so relative ones from the folder where it was started.

    Args:
        run: the `output` folder of a run, also of one that was moved, stopped or killed.
        out: folder for the exports; `export` in the run's by default.

    Returns:
        the files; a model card lies beside them.

    Raises:
        ConfigError: no run with a checkpoint, or a file that its config names is gone.
        CheckpointError: the checkpoint is damaged or of other networks.
    """
    found = list_checkpoints(run / "checkpoints")
    if not found or not (run / CONFIG_FILE).is_file():
        raise ConfigError(
            f"{run} holds no run that can be exported: {CONFIG_FILE} and checkpoints/step-*.pt, "
            "which `facewright train` writes there, were expected."
        )
    stage = read_checkpoint(found[-1])["stage"]
    known = stages()
    if stage not in known:
        raise ConfigError(f"{found[-1]} belongs to stage `{stage}`, which this version lacks.")
    config = load_config(run / CONFIG_FILE, known[stage].Config)
    engine = _Standstill(known[stage](config.recipe), config, run)
    return export(engine, engine.facts(), engine.batches(), out or run / "export")


class _Standstill(Engine):
    """A run as its newest checkpoint left it, in full precision; it does not train."""

    def __init__(self, recipe: Recipe, config: TrainConfig, run: Path) -> None:
        plain = {
            "output": run,
            "precision": "no",
            "frozen_precision": "no",
            "gradient_checkpointing": False,
            "compile": False,
            "cache": None,
            "trackers": (),
        }
        super().__init__(recipe, config.model_copy(update=plain))
        take_up(self, resume=True, checked=False)

        self.config = config.model_copy(update={"output": run})  # what the exports tell of

    def facts(self) -> dict[str, Any]:
        """As `Engine.run` returns them, with the last scores that the run logged."""
        lines = read_lines(self.config.output / "metrics.jsonl")
        scored = [x["held_out"] for x in lines if "held_out" in x and x["step"] <= self.step]
        # A checkpoint knows the CPU seconds of one process only.
        return self.measured(scored[-1] if scored else {}, cpu_seconds=None)

    def batches(self) -> Batches | None:
        try:
            return Batches(self.config, self.device)
        except (FacewrightError, OSError):
            return None
