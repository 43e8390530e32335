"""Faces restored in one step, whatever made their prompts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from ..errors import CheckpointError, shorten
from ..geometry.face import DenseLandmarker
from ..people.person import Person
from ..people.recogniser import Recogniser
from ..restorer import ONE_STEP_TIMESTEP, Backbone, restore_in_chunks
from ..schedule import NUM_TRAIN_TIMESTEPS


@dataclass(frozen=True, kw_only=True)
class OneStepFaces:
    """A `FaceRestorer` around a backbone and whatever turns faces into prompts."""

    backbone: Backbone
    embed: Callable[[Tensor, Sequence[Person | None]], Tensor]
    """Faces (n, 3, s, s) in [0, 1] and their albums -> prompts (n, k, d)."""
    size: int
    device: torch.device | None = None
    """Where the faces are brought to; None: they stay where they are."""
    recogniser: Recogniser | None = None
    landmarker: DenseLandmarker | None = None
    takes_people: bool = False
    timestep: int = ONE_STEP_TIMESTEP
    """At which the weights were trained."""

    @torch.no_grad()
    def restore(
        self,
        lq: Tensor,
        people: Sequence[Person | None],
        *,
        options: Any = None,
        generator: Generator | None = None,
        chunk_size: int = 4,
        on_chunk: Callable[[int], object] = lambda faces: None,
    ) -> Tensor:
        """See `FaceRestorer`. A generator samples the latent; without one it is the mean."""
        faces = lq.to(self.device or lq.device)
        restored, _ = restore_in_chunks(
            faces,
            self.embed(faces, people),
            self.backbone,
            chunk_size=chunk_size,
            timestep=self.timestep,
            generator=generator,
            on_chunk=on_chunk,
        )
        return restored.to(lq.device)


def trained_timestep(lora: Mapping[str, str]) -> int:
    """The timestep that a LoRA's metadata tells of; OSDFace's where it says nothing.

    Raises:
        CheckpointError: no timestep there is.
    """
    said = lora.get("timestep", str(ONE_STEP_TIMESTEP))
    if said not in map(str, range(NUM_TRAIN_TIMESTEPS)):
        raise CheckpointError(
            f"The LoRA says that it was trained at timestep {shorten(repr(said), 40)}, but there "
            f"are those from 0 to {NUM_TRAIN_TIMESTEPS - 1} only. Export it again from its run."
        )
    return int(said)
