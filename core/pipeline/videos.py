"""A video file with its faces restored; everything else of it stays."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..people.matching import Matches
from ..video.clip import Footage
from ..video.files import read_frames, rewrite_video
from .frames import FrameRestorer
from .options import RestoreOptions
from .pictures import Restorer
from .tracks import TrackReceipts


@dataclass(frozen=True)
class RestoredVideo:
    """What became of a video."""

    faces: int
    """How many were followed, however many frames each is in."""
    report: str
    notes: list[str]
    """What the new file does not hold of the source, and what was amiss with that."""
    matches: Matches | None = None
    """Who the faces are, where `people` were given."""
    guard: TrackReceipts | None = None
    """Where `max_drift` or `receipts` asked for them."""
    shown: tuple[Tensor, Tensor] | None = None
    """A frame (3, h, w) before and after: the one with the largest face; None without faces."""
    none: str = ""
    """Why no frame has a face to restore, where that is so."""


def restore_video(
    restorer: Restorer,
    source: Footage,
    target: Path,
    options: RestoreOptions | None = None,
    *,
    on_frames: Callable[[int], object] = lambda frames: None,
) -> RestoredVideo:
    """Restore the faces of a video and write an MP4, its sound kept; memory does not grow with it.

    Args:
        on_frames: called with a number of frames just finished; each is looked at twice. An
            exception ends the work.

    Raises:
        FacewrightError: as `Restorer.settled` and `core.video.files.rewrite_video`.
        OSError: the folder cannot be written.
    """
    frames = FrameRestorer(restorer, options or RestoreOptions())
    for frame in read_frames(source):
        frames.look(frame)
        on_frames(1)
    report = frames.settle()
    largest, shown = frames.largest(), None

    def change(first: int, seen: Sequence[Tensor]) -> Iterable[Tensor | None]:
        nonlocal shown
        if frames.size and len(seen) > 1:  # one at a time: enlarged frames are large
            return (one for k in range(len(seen)) for one in change(first + k, seen[k : k + 1]))
        changed = frames.restore(first, seen)
        if largest is not None and first <= largest < first + len(seen):
            after = changed[largest - first]
            shown = None if after is None else (seen[largest - first], after)
        on_frames(len(seen))
        return changed

    notes = rewrite_video(
        source,
        target,
        change,
        crf=frames.options.crf,
        size=frames.size,
        location=frames.options.location == "keep",
    )
    return RestoredVideo(
        frames.followed,
        report,
        notes,
        frames.matches,
        frames.receipts,
        shown,
        frames.none,
    )
