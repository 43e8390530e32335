"""A video that is in memory, as hosts make them of pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor

from .notes import HALVED, LOSSLESS, UNHALVED
from .reading import Source


@dataclass(frozen=True)
class Clip:
    """Frames and their sound, which no codec has seen yet."""

    frames: Tensor | Sequence[Tensor]
    """(3, h, w) in [0, 1], all of one size: a tensor (n, 3, h, w), or others that are made when
    asked for."""
    rate: Fraction
    """Frames a second."""
    sound: tuple[Tensor, int] | None = None
    """Waveform (channels, n) in [-1, 1] and its samples a second."""
    depth: int = 8
    """Bits that a file of it was to have."""
    alpha: bool = False
    """Whether there was a transparency beside the colors."""

    def frame(self, number: int) -> Tensor:
        """(3, h, w) in [0, 1]."""
        return self.frames[number].clamp(0, 1).contiguous()

    def notes(self, crf: int) -> list[str]:
        """What an MP4 of this quality does not hold of it."""
        odd = any(side % 2 for side in self.frames[0].shape[-2:]) if len(self.frames) else False
        said = (
            (self.alpha, "Transparency, where there is any, is not kept."),
            (self.depth > 8, f"Colours of {self.depth} bits are written with 8."),
            (True, LOSSLESS if crf == 0 else UNHALVED if odd else HALVED),
        )
        return [line for applies, line in said if applies]


Footage = Source | Clip
"""What can be read frame by frame, as often as it is asked for."""
