"""A video file with its faces restored; everything else of it stays."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..people.matching import Matches
from ..video.clip import Clip, Footage
from ..video.files import read_frames, rewrite_video
from ..video.parts import Parts
from .frames import FrameRestorer
from .options import RestoreOptions
from .pictures import Restorer
from .resuming import Progress, Shown, look_at_all
from .tracks import TrackReceipts

_WENT_ON = (
    "Went on where an earlier run was cut short: {} of its steps, two for each frame, were done."
)


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
    shown: Shown = None
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
    parts: Parts | None = None,
    on_written: Callable[[TrackReceipts | None, Shown], object] = lambda guard, shown: None,
) -> RestoredVideo:
    """Restore the faces of a video and write an MP4, its sound kept; memory does not grow with it.

    Args:
        on_frames: called with a number of frames just finished; each is looked at twice. An
            exception ends the work.
        parts: where what is done is kept, so that an interrupted run goes on; whoever gives them
            removes them at the end. Of a clip nothing is kept.
        on_written: called with `RestoredVideo.guard` and `shown` before the new file takes its
            place, so that what is written beside it is there first. Not for a clip.

    Raises:
        FacewrightError: as `Restorer.settled` and `core.video.files.rewrite_video`.
        OSError: the folder cannot be written.
    """
    frames = FrameRestorer(restorer, options or RestoreOptions())
    if isinstance(source, Clip):
        parts = None
    done_before = 0

    def on_done(count: int) -> None:
        nonlocal done_before
        done_before += count
        on_frames(count)

    look_at_all(frames, lambda: read_frames(source), on_frames, on_done, parts)
    report = frames.settle()
    largest, progress = frames.largest(), Progress(frames)

    def change(first: int, seen: Sequence[Tensor]) -> Iterable[Tensor | None]:
        if frames.size and len(seen) > 1:  # one at a time: enlarged frames are large
            return (one for k in range(len(seen)) for one in change(first + k, seen[k : k + 1]))
        changed = frames.restore(first, seen)
        if largest is not None and first <= largest < first + len(seen):
            after = changed[largest - first]
            progress.shown = None if after is None else (seen[largest - first], after)
        on_frames(len(seen))
        return changed

    notes = rewrite_video(
        source,
        target,
        change,
        crf=frames.options.crf,
        size=frames.size,
        location=frames.options.location == "keep",
        resumed=progress.resumed(parts, on_done) if parts else None,
        on_written=lambda: on_written(frames.receipts, progress.shown),
    )
    if parts is not None:
        notes += [parts.note] if parts.note else []
        notes += [_WENT_ON.format(done_before)] if done_before else []
    return RestoredVideo(
        frames.followed,
        report,
        notes,
        frames.matches,
        frames.receipts,
        progress.shown,
        frames.none,
    )
