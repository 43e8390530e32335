"""Steps whose loss or gradient is no number: skipped, kept on disk to look at, then refused.

A skipped step changes nothing of the networks. As long as a phase is in a row of them, its weights
are those that gave the first, so nothing that is saved meanwhile counts as good.
"""

import json
import logging
from pathlib import Path

import torch
from torch import Tensor

from ...core.checkpoint import save_safetensors
from ...core.errors import NonFiniteError
from ..log.visual import picture_grid
from ..recipe import Batch
from .checkpoints import list_checkpoints

log = logging.getLogger(__name__)

MAX_OVERFLOWS = 40
"""Infinite gradients in a row under a gradient scaler: each halves its scale, which began at 2^16,
so after these nothing of the scale is left to blame."""
MAX_BAD_STEPS = 10
"""Steps with a non-finite loss or gradient that are skipped in a row before the run stops."""
_SHOWN = 8
_PICTURES = ("gt", "lq")


class NonFiniteGuard:
    """Counts bad steps per phase; of every row of them the first and the last batch are saved.

    Args:
        folder: gets `step-<n>-<phase>-process-<k>.safetensors`, all tensors of the batch as they
            went in, and a `.png` of its pictures.
        process: number of this process; each saves its own part of the batch.
        checkpoints: folder of the run's, of which a good one is named when the run ends.
    """

    def __init__(
        self, folder: Path, phases: tuple[str, ...], process: int, checkpoints: Path
    ) -> None:
        self.folder, self.process, self.checkpoints = folder, process, checkpoints
        self.rows = dict.fromkeys(phases, 0)
        self.first = dict.fromkeys(phases, 0)
        self.overflows = dict.fromkeys(phases, 0)

    @property
    def in_bad_row(self) -> bool:
        """Whether the last step of any phase was skipped."""
        return any(self.rows.values())

    def good(self, phase: str) -> None:
        self.rows[phase] = 0

    def bad(self, phase: str, step: int, terms: dict[str, float], batches: list[Batch]) -> None:
        """Note a bad step.

        Raises:
            NonFiniteError: it is the tenth in a row.
        """
        if not self.rows[phase]:
            self.first[phase] = step
        self.rows[phase] += 1
        last = self.rows[phase] >= MAX_BAD_STEPS
        saved = self._save(phase, step, terms, batches) if self.rows[phase] == 1 or last else None
        where = f"; its batch is in {saved}" if saved else ""
        log.warning("step %d, phase %s: not finite, skipped: %s%s", step, phase, terms, where)
        if last:
            raise NonFiniteError(
                f"The loss of phase `{phase}` was NaN or infinite {MAX_BAD_STEPS} times in a row "
                f"(step {step}: {terms}{where}). Look at the pictures, lower the "
                f'learning rate or use precision: "no". {self.way_back(self.first[phase])}'
            )

    def scaled(self, phase: str, step: int, finite: bool) -> None:
        """Note a step of a gradient scaler, which skips infinite gradients by itself.

        Raises:
            NonFiniteError: they do not end.
        """
        self.overflows[phase] = 0 if finite else self.overflows[phase] + 1
        if self.overflows[phase] >= MAX_OVERFLOWS:
            raise NonFiniteError(
                f"The gradient of phase `{phase}` was NaN or infinite {MAX_OVERFLOWS} times in a "
                f"row, however small the gradient scaler made it. Lower the learning rate or use "
                f'precision: bf16 or "no". {self.way_back(step - MAX_OVERFLOWS + 1)}'
            )

    def weights(self, step: int, where: str) -> NonFiniteError:
        """The error that ends a run whose state after `step` steps is no number any more."""
        return NonFiniteError(
            f"The training has diverged: after step {step} its state holds NaN or infinite numbers "
            f"({where}), though the losses did not. That state is not saved. Lower the learning "
            f'rate or use precision: "no". {self.way_back(step)}'
        )

    def way_back(self, step: int) -> str:
        """Which checkpoint to go on from, where the weights after `step` steps are bad."""
        found = list_checkpoints(self.checkpoints)
        before = [p for p in found if int(p.stem.removeprefix("step-")) < step]
        after = ", ".join(p.name for p in found if p not in before)
        if not before:
            also = f" ({after} holds the weights that gave this: delete it)" if after else ""
            return f"There is no checkpoint from before{also}: start anew."
        if after:
            return (
                f"{after} in {self.checkpoints} holds the very weights that gave this: delete it, "
                f"and --resume goes on from {before[-1].name}, which is from before."
            )
        sentence = f"The last checkpoint, {before[-1]}, is from before: --resume goes on from it."
        if before[1:]:
            sentence += f" If it diverges again, delete it: {before[-2].name} is older."
        return sentence

    def _save(
        self, phase: str, step: int, terms: dict[str, float], batches: list[Batch]
    ) -> Path | None:
        path = self.folder / f"step-{step:08d}-{phase}-process-{self.process}.safetensors"
        tensors = {
            f"{i}.{key}": value.detach().contiguous()
            for i, batch in enumerate(batches)
            for key, value in batch.items()
            if isinstance(value, Tensor)
        }
        try:
            save_safetensors(path, tensors, {"terms": json.dumps(terms), "phase": phase})
            shown = {k: torch.cat([b[k] for b in batches]) for k in _PICTURES if k in batches[0]}
            if shown:
                picture_grid(shown, _SHOWN).save(path.with_suffix(".png"))
        except OSError as error:  # a full disk must not hide what happened
            log.warning("the batch could not be saved to %s: %s", path, error)
            return None
        return path
