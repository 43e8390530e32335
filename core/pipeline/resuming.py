"""What a `FrameRestorer` has learned, kept in the parts of a video, so that a run can go on."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import islice
from typing import Any, get_type_hints

from torch import Tensor

from ..video.parts import Parts
from ..video.segments import SEGMENT, Resumed
from .frames import FrameRestorer

_LOOKED, _SHOWN = "looked", "shown"
_CHANGING = ("receipts", "_shown")
"""Fields that the second pass changes."""
_SHARE = 4
"""The first pass is kept again after a quarter more frames, as all of it is written each time."""

Shown = tuple[Tensor, Tensor] | None


def _learned(frames: FrameRestorer) -> list[str]:
    """Fields that the first pass fills."""
    return [f.name for f in fields(frames) if not f.init and f.name in vars(frames)]


def _kind(names: Any) -> Any:
    hints = get_type_hints(FrameRestorer)
    return tuple[*(hints[name] for name in names)]


def look_at_all(
    frames: FrameRestorer,
    pictures: Callable[[], Iterator[Tensor]],
    on_frames: Callable[[int], object],
    on_done: Callable[[int], object],
    parts: Parts | None,
) -> None:
    """The first pass, from where an earlier run was interrupted.

    Args:
        on_frames: called with a number of frames just looked at.
        on_done: called with a number of frames that were looked at before.
    """
    names, count, whole = _learned(frames), 0, False
    found = parts.load(_LOOKED, tuple[int, bool, _kind(names)]) if parts else None
    if found is not None:
        count, whole, values = found
        for name, value in zip(names, values, strict=True):
            setattr(frames, name, value)
        on_done(count)
    kept = count

    def keep(whole: bool) -> None:
        if parts is not None:
            parts.save(_LOOKED, (count, whole, [getattr(frames, name) for name in names]))

    if whole:
        return
    for frame in islice(pictures(), count, None):
        frames.look(frame)
        on_frames(1)
        count += 1
        if count >= kept + max(SEGMENT, kept // _SHARE):
            keep(False)
            kept = count
    keep(True)


class Progress:
    """The state of the second pass between segments."""

    def __init__(self, frames: FrameRestorer) -> None:
        self.frames = frames
        self.shown: Shown = None
        """A frame before and after: the one with the largest face, once that was restored."""

    def resumed(self, parts: Parts, on_done: Callable[[int], object]) -> Resumed:
        """For `rewrite_video`."""
        kept = False

        def save() -> Any:
            nonlocal kept
            if self.shown is not None and not kept:  # large, and the same behind all segments
                parts.save(_SHOWN, self.shown)
                kept = True
            return [getattr(self.frames, name) for name in _CHANGING]

        def restore(values: Any) -> None:
            nonlocal kept
            for name, value in zip(_CHANGING, values, strict=True):
                setattr(self.frames, name, value)
            self.shown = parts.load(_SHOWN, tuple[Tensor, Tensor])
            kept = self.shown is not None

        return Resumed(parts, _kind(_CHANGING), save, restore, on_done)
