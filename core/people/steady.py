"""How much is shown of a restored face, steadied over the frames in which it was followed.

A guard that judges every frame by itself lets a face at its limit pulse: all of it, six tenths, all
of it. What is shown follows the lowest frames instead: it waits there for a while, then comes again
step by step, and where later frames are known, it also goes step by step before them. No frame
shows more than the guard let through.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

WAIT = 4
"""Frames that a face is held back at least after the guard asked for it, in multiples of `fade`."""
LONGEST = 8
"""Of these times, where it is held back again and again."""


def steadied(share: Sequence[float], number: Tensor, frames: Tensor, fade: int) -> Tensor:
    """(n,) float64: the largest shares, none above its own, so that around each that is held back
    all of its track wait, and go to and fro over `fade` frames.

    Args:
        share: (n,) in [0, 1], that a guard lets through of each face.
        number, frames: (n,) the track and the frame of each.
        fade: frames over which a face comes again; 0: nothing is steadied.
    """
    out = torch.tensor(share, dtype=torch.float64)
    for track in number.unique().tolist() if fade else ():
        mine = (number == track).nonzero()[:, 0]
        low = mine[out[mine] < 1]
        if len(low):
            away = (frames[mine][:, None] - frames[low][None]).abs() - WAIT * fade
            most = (out[low][None] + away.clamp(min=0).double() / (fade + 1)).amin(1)
            out[mine] = torch.minimum(out[mine], most)
    return out


@dataclass
class ShownSoFar:
    """The same frame by frame, where later ones are not known yet. Of a size with the tracks.

    A face that has hardly come again when it is held back anew waits twice as long, and so on: it
    is at its limit, and should not pulse.
    """

    fade: int
    held: dict[int, tuple[int, float, int]] = field(default_factory=dict)
    """Of each track that was held back, since when, at what share, and how long it waits."""

    def most(self, tracks: Sequence[int], frame: int) -> Tensor:
        """(n,) float64: the largest share that may be shown of each face in a frame."""
        most = []
        for track in tracks:
            since, share, wait = self.held.get(track, (frame, 1.0, 0))
            most.append(min(1.0, share + max(0, frame - since - wait) / (self.fade + 1)))
        return torch.tensor(most, dtype=torch.float64)

    def add(self, tracks: Sequence[int], frame: int, shares: Sequence[float]) -> None:
        """What the guard let through of what `most` allowed."""
        allowed = self.most(tracks, frame).tolist()
        for track, share, most in zip(tracks, shares, allowed, strict=True):
            if share < most:
                wait = WAIT * self.fade
                if track in self.held:
                    since, low, waited = self.held[track]
                    back = since + waited + (1 - low) * (self.fade + 1)
                    if frame < back + waited:
                        wait = min(2 * waited, LONGEST * wait)
                self.held[track] = (frame, share, wait)
