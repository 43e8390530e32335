"""Videos: whole and damaged files of seven kinds, negated and read back by PyAV itself."""

import io

import numpy as np
from facewright.core.video.files import read_frames, rewrite_video

from ...tests.core.test_video_kept import mutated, sample_videos
from .watch import Told, Wrong

_NEAR = 0.06
"""Mean difference that H.264 with half the colour resolution may bring about."""


def videos(room):
    samples = sample_videos(room.spare)

    def case(rng):
        number = rng.randrange(len(samples))
        whole = rng.random() < 0.1
        data = samples[number] if whole else mutated(samples[number], rng)
        target = room.out / "new.mp4"
        seen = []

        def negated(first, frames):
            seen.extend(1 - f for f in frames)
            return [1 - f for f in frames]

        notes = room.watch(rewrite_video, io.BytesIO(data), target, negated, crf=16)
        if isinstance(notes, Told):
            if whole:
                raise Wrong(f"whole video {number} was refused: {notes}")
            return notes
        frames = room.watch(lambda: list(read_frames(io.BytesIO(data))))
        if isinstance(frames, Told) or len(frames) != len(seen):
            raise Wrong(
                f"video {number}: {len(seen)} frames rewritten, read alone: {frames!r:.200}"
            )
        _compare(number, target, seen)
        return notes

    return case


def _compare(number, target, seen):
    """The file as PyAV decodes it against what was to be written."""
    import av

    with av.open(str(target)) as container:
        found = [f.to_ndarray(format="rgb24") / 255 for f in container.decode(video=0)]
    if len(found) != len(seen):
        raise Wrong(f"video {number}: {len(found)} frames written of {len(seen)}")
    for index, (there, wanted) in enumerate(zip(found, seen, strict=True)):
        wanted = wanted.clamp(0, 1).permute(1, 2, 0).numpy()
        if there.shape != wanted.shape:
            raise Wrong(f"video {number}, frame {index}: {there.shape} for {wanted.shape}")
        # Damage is noise, of which compression keeps its brightness in the large.
        if abs(there - wanted).mean() > _NEAR and not _alike(there, wanted):
            raise Wrong(f"video {number}, frame {index}: off by {abs(there - wanted).mean():.3f}")


def _alike(a, b):
    """Whether two pictures agree in cells of 8 pixels."""
    height, width = (8 * (n // 8) for n in a.shape[:2])
    cells = [
        x[:height, :width].reshape(height // 8, 8, width // 8, 8, 3).mean((1, 3)) for x in (a, b)
    ]
    return np.abs(cells[0] - cells[1]).mean() < _NEAR
