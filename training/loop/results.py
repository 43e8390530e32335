"""What a run leaves behind: the exports with their card, the curves, the facts."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import FacewrightError
from ...core.files.writing import remove_leftovers, written_whole
from ..data import Batches
from ..log.curves import curve_sheet
from ..results.card import CARD_FILES, write_card
from ..results.provenance import provenance, shareable
from ..settings.config import ConfigError, save_config
from .checkpoints import remove_partial

if TYPE_CHECKING:
    from .engine import Engine

log = logging.getLogger(__name__)

_STEP = "step"
"""What pictures and batches of all steps are called together."""


def export(engine: "Engine", facts: dict, batches: Batches | None, folder: Path) -> list[Path]:
    """Write what nodes load, with averaged weights, and the model card beside it.

    Args:
        facts: what the run measured; the files' metadata gets it, with the run's provenance. They
            are shared with others, so nothing here may name a place of this machine.
        batches: the run's data; None where they are out of reach.
        folder: made if needed.

    Raises:
        FacewrightError: the files could not be written.
    """
    facts = facts | provenance(engine.config, engine.recipe, batches)
    facts["changes"] = shareable(engine.changes)
    with _room_for("exports", folder):
        folder.mkdir(parents=True, exist_ok=True)
        with engine.averaged():
            files = engine.recipe.export(folder, facts)
        write_card(folder, facts, files, run=engine.config.output)
        remove_leftovers(files)  # of an export that was killed
    return files


def draw_curves(output: Path) -> Path | None:
    """`curves.png` of a run; None where nothing was logged or it could not be written."""
    try:
        return curve_sheet(output / "metrics.jsonl", output / "curves.png")
    except (FacewrightError, OSError) as error:  # only a picture: what it shows is on disk
        log.warning("No curves were drawn: %s", error)
        return None


def write_facts(output: Path, facts: dict) -> None:
    """`facts.json` of a run.

    Raises:
        FacewrightError: it could not be written.
    """
    with _room_for("facts", output), written_whole(output / "facts.json") as partial:
        partial.write_text(json.dumps(facts, indent=2), encoding="utf-8")


def begin(engine: "Engine") -> None:
    """Take possession of the run's folder: what a killed run left half written goes, `config.yaml`
    is written.

    Raises:
        ConfigError: the folder cannot be written.
    """
    output = engine.config.output
    try:
        output.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(output)
        save_config(engine.config, output / "config.yaml", engine.recipe.stage)
    except OSError as error:
        raise ConfigError(
            f"The run's folder {output} cannot be written ({error}). Name another `output`, or "
            "mend that; nothing was trained yet."
        ) from error


def _remove_leftovers(output: Path) -> None:
    """Delete the temporary files of this run alone: a kill leaves them, the rerun clears them."""
    remove_partial(output / "checkpoints")
    (output / "metrics.partial").unlink(missing_ok=True)
    numbered = [output / "grids" / _STEP, output / "nonfinite" / _STEP]
    named = [output / name for name in ("config.yaml", "facts.json", "curves.png", "metrics.jsonl")]
    card = [output / "export" / name for name in CARD_FILES]
    remove_leftovers(
        numbered + named + card,
        named_after=lambda name: _STEP if re.fullmatch(r"step-\d{8}(-.+)?\.\w+", name) else name,
    )


@contextmanager
def _room_for(what: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FacewrightError(
            f"The run's {what} could not be written to {folder} ({error}). Nothing is lost: its "
            "last checkpoint is whole. Make room on the disk and run again with --resume."
        ) from error
