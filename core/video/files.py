"""Video files read and written frame by frame, with PyAV (which ComfyUI ships)."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import FacewrightError
from ..files.writing import written_whole
from .ahead import ahead
from .clip import Clip, Footage
from .colors import RGB, Coding
from .copies import Copies, add_sound, encode_sound, label, mark, options_for
from .notes import damage, missing, side_data
from .reading import Video, load_av, opened, words
from .segments import Resumed, encode_segments, join_segments
from .sink import AHEAD, FRAMES_TOGETHER, USUAL, Form, Sink, with_pixels

_RGB = Coding(RGB, full=True)
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS, errno.EACCES)


def read_frames(source: Footage) -> Iterator[Tensor]:
    """Frames (3, h, w) in [0, 1] of a clip or of a video's first picture stream, upright.

    Raises:
        FacewrightError: PyAV is missing, or the file is no video or damaged.
    """
    if isinstance(source, Clip):
        yield from map(source.frame, range(len(source.frames)))
        return
    with opened(source) as video:
        yield from ahead(map(video.pixels, video.contents()), 2)
        video.check_frames()


def frame_count(source: Footage) -> int:
    """How many frames a video says that it has, 0 where it does not say.

    Raises:
        FacewrightError: as `read_frames`.
    """
    if isinstance(source, Clip):
        return len(source.frames)
    with opened(source) as video:
        if video.pictures.frames > 0:
            return video.pictures.frames
        return max(0, round((video.container.duration or 0) / 1_000_000 * video.rate))


def rewrite_video(
    source: Footage,
    target: Path,
    change: Callable[[int, Sequence[Tensor]], Iterable[Tensor | None]],
    *,
    crf: int = 16,
    size: tuple[int, int] | None = None,
    location: bool = True,
    resumed: Resumed | None = None,
    on_written: Callable[[], object] = lambda: None,
) -> list[str]:
    """Write an MP4 (H.264, 8 bit) of a video with other pixels; all else stays as far as it can.

    Times, sound, tags, languages, chapters, the shape of pixels and the meaning of colours are
    handed on; what is to be shown turned or mirrored is stored upright. Samples of which `change`
    alters no pixel go to the encoder as they were decoded. The file is complete or not there at
    all, and was read back. A clip is encoded once, from the pixels that are in memory.

    Args:
        change: gets the number of a frame and some frames from there on, (3, h, w) in [0, 1], and
            returns as many; None for one that stays as it is.
        crf: quality of H.264: 0 lossless, 16 hardly to be told from the source, 23 usual. A clip
            is red, green and blue, and so is its file at 0; else its colours are halved (4:2:0).
        size: height and width of the frames that `change` returns, all of them, where they have
            another than those it gets.
        location: also hand on where it was recorded, where the source says so.
        resumed: where parts of it are kept, so that it can go on after an interruption: the
            pictures are then encoded in segments, and joined. Of a clip nothing is kept.
        on_written: called once all of a file is written, before it takes its place.

    Returns:
        Sentences on what the new file does not hold of the source, and what was amiss with that.

    Raises:
        FacewrightError: as `read_frames`, or the file cannot be written as MP4.
        OSError: the folder cannot be written.
    """
    if isinstance(source, Clip):
        write_video(
            target, _changed(source, change), source.rate, crf=crf, sound=source.sound, rgb=crf == 0
        )
        return source.notes(crf)
    with opened(source) as video:
        first = next(video.contents(), None)
        video.check_frames()
        sides = side_data(first)
    read = None
    if resumed is not None:
        writing = partial(_writing, load_av(), target)
        read = encode_segments(source, change, resumed, crf, size, writing)
    with opened(source) as video, written_whole(target) as temporary:
        with _mp4(video.av, temporary, target, options_for(video)) as (writer, writing):
            with writing():
                form = Form.of(first, video)
                form = replace(form, size=size or form.size)
                sink = Sink(writer, writing, form, crf, video.rate)
                copies = Copies(writer, video, location=location)
                notes = [*sink.form.notes, *missing(video, sides, copies.sources)]
                notes += [*mark(writer, video, location=location), *copies.notes]
                label(sink.stream, video.pictures, location=location)
                writer.start_encoding()
            if resumed is None or read is None:
                _encode(video, sink, copies, change)
            else:
                join_segments(video, sink, copies, resumed.parts, read)
            with writing():
                copies.flush()
        notes += damage(video, sink.times.moved)
        notes += _read_back(temporary, sink, copies)
        on_written()
        return notes


def write_video(
    target: Path,
    frames: Iterable[Tensor],
    rate: Fraction,
    *,
    crf: int = 16,
    sound: tuple[Tensor, int] | None = None,
    rgb: bool = False,
) -> None:
    """Write an MP4 (H.264, 8 bit) of frames (3, h, w) in [0, 1], `rate` of them a second.

    Args:
        crf: quality of H.264.
        sound: waveform (channels, n) in [-1, 1] and its samples a second.
        rgb: store red, green and blue in place of luma and chroma; few players show that.

    Raises:
        FacewrightError: PyAV is missing, or there are no frames, or no such rate.
        OSError: the folder cannot be written.
    """
    av = load_av()
    if not 0 < rate <= 1000:
        raise FacewrightError(f"A video has 1 to 1000 frames a second, not {float(rate)}.")
    sink = None
    with written_whole(target) as temporary, _mp4(av, temporary, target) as (writer, writing):
        for i, frame in enumerate(frames):
            if sink is None:
                coding = _RGB if rgb else USUAL
                form = Form((frame.shape[-2], frame.shape[-1]), 1 / Fraction(rate), coding)
                with writing():
                    sink = Sink(writer, writing, form, crf, rate)
                    speaker = sound and add_sound(writer, *sound)
            sink.encode(form.coding.from_rgb(frame, form.halved), i)
        if sink is None:
            raise FacewrightError("There are no frames to make a video of.")
        sink.flush()
        if sound and speaker:
            with writing():
                encode_sound(av, writer, speaker, *sound)


def _changed(clip: Clip, change: Callable) -> Iterator[Tensor]:
    """Frames of a clip as `change` leaves them, `FRAMES_TOGETHER` at a time."""
    for first in range(0, len(clip.frames), FRAMES_TOGETHER):
        last = min(first + FRAMES_TOGETHER, len(clip.frames))
        seen = [clip.frame(i) for i in range(first, last)]
        for old, new in zip(seen, change(first, seen), strict=True):
            yield old if new is None else new


def _read_back(path: Path, sink: Sink, copies: Copies) -> list[str]:
    """Open what was written; what it lost of the tags, in words."""
    with opened(path) as written:
        pictures = written.pictures
        shape = (pictures.codec_context.height, pictures.codec_context.width)
        if (pictures.frames, shape) != (sink.times.count, sink.form.size):
            raise FacewrightError(
                f"The new video was written wrongly: it has {pictures.frames} frames of "
                f"{shape[1]}x{shape[0]} in place of {sink.times.count} of {sink.form.size[1]}x"
                f"{sink.form.size[0]}. Nothing was kept; check the disk and run it again."
            )
        return list(copies.lost(written.container))


def _encode(video: Video, sink: Sink, copies: Copies, change: Callable) -> None:
    """All frames, and what goes with them, as they come in the file."""
    count, waiting = 0, []
    contents = map(partial(with_pixels, video), video.contents(*copies.sources))
    with closing(ahead(contents, AHEAD)) as items:
        for item, pixels in items:
            if pixels is None:
                with sink.writing():
                    copies.write(item)
                continue
            waiting.append((item, pixels))
            if len(waiting) == FRAMES_TOGETHER:
                sink.pass_on(video, waiting, change, count)
                count, waiting = count + len(waiting), []
    sink.pass_on(video, waiting, change, count)
    sink.flush()


@contextmanager
def _mp4(
    av: Any, path: Path, target: Path, options: dict[str, str] | None = None
) -> Iterator[tuple[Any, Callable]]:
    """An MP4 that becomes `target`, and a context for whatever PyAV does to it."""
    writing = partial(_writing, av, target)
    with writing():
        writer = av.open(str(path), "w", format="mp4", options=options)
    try:
        yield writer, writing
    except BaseException:
        with suppress(av.error.FFmpegError, ValueError):
            writer.close()
        raise
    with writing():
        writer.close()


@contextmanager
def _writing(av: Any, target: Path) -> Iterator[None]:
    """What PyAV says of a file that is written, as a sentence or as the system's error."""
    try:
        yield
    except FacewrightError:
        raise
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        if (number := getattr(error, "errno", 0)) in _OF_THE_DISK:
            raise OSError(number, os.strerror(number), str(target)) from error
        raise FacewrightError(
            f"The video cannot be written as MP4 ({words(error)}). Convert the "
            "source first: ffmpeg -i VIDEO -c:v libx264 -crf 12 -c:a aac CONVERTED.mp4"
        ) from error
