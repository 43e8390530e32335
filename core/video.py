"""Video files read and written frame by frame, with PyAV (which ComfyUI ships)."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import FacewrightError
from .files import written_whole

FRAMES_TOGETHER = 8
"""Frames that `rewrite_video` holds at a time."""

# Of libavutil (pixfmt.h): colour ranges, and the matrices that its scaler knows.
_LIMITED, _FULL = 1, 2
_MATRICES = (1, 4, 5, 7, 9)


def read_frames(source: str | Path | io.BytesIO) -> Iterator[Tensor]:
    """Frames (3, h, w) in [0, 1] of a video's first picture stream, one by one, upright.

    Raises:
        FacewrightError: PyAV is missing, or the file is no video or damaged.
    """
    with _opened(source) as container:
        for frame in container.decode(video=0):
            yield _pixels(frame)


def frame_count(source: str | Path | io.BytesIO) -> int:
    """How many frames a video says that it has, 0 where it does not say.

    Raises:
        FacewrightError: as `read_frames`.
    """
    with _opened(source) as container:
        stream = container.streams.video[0]
        if stream.frames or not (container.duration and stream.average_rate):
            return stream.frames
        return round(container.duration / 1_000_000 * stream.average_rate)


def rewrite_video(
    source: str | Path | io.BytesIO,
    target: Path,
    change: Callable[[int, Sequence[Tensor]], Sequence[Tensor | None]],
    *,
    crf: int = 16,
) -> None:
    """Write an MP4 (H.264, 8 bit) of a video with other pixels; times and sound are copied.

    Frames that are not changed go to the encoder as they were decoded. The file is complete or not
    there at all.

    Args:
        change: gets the number of a frame and some frames from there on, (3, h, w) in [0, 1], and
            returns as many; None for one that stays as it is.
        crf: quality of H.264: 0 lossless, 16 hardly to be told from the source, 23 usual.

    Raises:
        FacewrightError: as `read_frames`, or sound of a kind that MP4 cannot hold.
        OSError: the folder cannot be written.
    """
    av = _av()
    size = next(iter(read_frames(source))).shape[-2:]
    with _opened(source) as reader, written_whole(target) as temporary:
        pictures, sounds = reader.streams.video[0], reader.streams.audio
        with av.open(str(temporary), "w", format="mp4") as writer:
            rate = pictures.average_rate or Fraction(25)
            colors = pictures.codec_context
            sink = _Sink(av, writer, size, crf, rate, pictures.time_base, colors)
            copied = {s.index: writer.add_stream_from_template(s) for s in sounds}
            _start(av, writer, sounds)
            first, waiting = 0, []
            for packet in reader.demux(pictures, *sounds):
                if packet.stream.index in copied:
                    if packet.dts is not None:
                        packet.stream = copied[packet.stream.index]
                        writer.mux(packet)
                    continue
                waiting += packet.decode()
                while len(waiting) >= FRAMES_TOGETHER or (waiting and packet.dts is None):
                    some, waiting = waiting[:FRAMES_TOGETHER], waiting[FRAMES_TOGETHER:]
                    sink.write(some, change(first, [_pixels(frame) for frame in some]))
                    first += len(some)
            sink.flush()


def write_video(target: Path, frames: Iterable[Tensor], rate: Fraction, *, crf: int = 16) -> None:
    """Write an MP4 (H.264, 8 bit) of frames (3, h, w) in [0, 1], `rate` of them a second.

    Raises:
        FacewrightError: PyAV is missing, or there are no frames.
        OSError: the folder cannot be written.
    """
    av = _av()
    sink = None
    with written_whole(target) as temporary, av.open(str(temporary), "w", format="mp4") as writer:
        for i, frame in enumerate(frames):
            if sink is None:
                sink = _Sink(av, writer, frame.shape[-2:], crf, rate, 1 / Fraction(rate))
            sink.encode(sink.frame(frame), i)
        if sink is None:
            raise FacewrightError("There are no frames to make a video of.")
        sink.flush()


class _Sink:
    """The picture stream of the file that is written, in the colours of the one that is read."""

    def __init__(
        self,
        av: Any,
        writer: Any,
        size: tuple[int, int],
        crf: int,
        rate: Fraction,
        time_base: Fraction,
        colors: Any = None,
    ) -> None:
        self.av, self.writer, self.time_base = av, writer, time_base
        self.next, self.step = 0, round(1 / (rate * time_base))
        self.stream = writer.add_stream("libx264", rate=rate, options={"crf": str(crf)})
        self.stream.height, self.stream.width = size
        self.stream.pix_fmt = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
        context = self.stream.codec_context
        context.time_base = time_base
        context.color_range, self.matrix = _LIMITED, None
        if colors is not None:
            context.color_range = _FULL if colors.color_range == _FULL else _LIMITED
            context.colorspace, context.color_trc = colors.colorspace, colors.color_trc
            context.color_primaries = colors.color_primaries
            self.matrix = colors.colorspace if colors.colorspace in _MATRICES else None
        self.range = int(context.color_range)

    def write(self, frames: Sequence[Any], changed: Sequence[Tensor | None]) -> None:
        for frame, pixels in zip(frames, changed, strict=True):
            if pixels is None and frame.rotation % 360 == 0:
                new = frame.reformat(format=self.stream.pix_fmt)
            else:
                new = self.frame(_pixels(frame) if pixels is None else pixels)
            self.encode(new, self.next if frame.pts is None else frame.pts)

    def encode(self, frame: Any, pts: int) -> None:
        frame.pts, frame.time_base = pts, self.time_base
        self.next = pts + self.step
        frame.pict_type = 0  # the encoder chooses its own key frames
        self.writer.mux(self.stream.encode(frame))

    def frame(self, pixels: Tensor) -> Any:
        """Pixels (3, h, w) in [0, 1] as the encoder takes them."""
        array = pixels.mul(255).round_().clamp_(0, 255).byte().permute(1, 2, 0).cpu().numpy()
        frame = self.av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
        return frame.reformat(
            format=self.stream.pix_fmt,
            dst_colorspace=self.matrix,
            dst_color_range=self.range,
        )

    def flush(self) -> None:
        self.writer.mux(self.stream.encode(None))


def _start(av: Any, writer: Any, sounds: Sequence[Any]) -> None:
    try:
        writer.start_encoding()
    except av.error.FFmpegError as error:
        kinds = ", ".join(s.codec_context.name for s in sounds) or "none"
        raise FacewrightError(
            f"The restored video cannot be started as MP4 ({error}); its sound is {kinds}. "
            "Convert the sound first: ffmpeg -i VIDEO -c:v copy -c:a aac CONVERTED.mp4"
        ) from error


def _pixels(frame: Any) -> Tensor:
    """(3, h, w) in [0, 1], upright."""
    array = frame.to_ndarray(format="rgb24")
    picture = torch.from_numpy(array).permute(2, 0, 1)
    return torch.rot90(picture, round(frame.rotation / 90), (1, 2)).float().div_(255).contiguous()


@contextmanager
def _opened(source: str | Path | io.BytesIO) -> Iterator[Any]:
    av = _av()
    if isinstance(source, io.BytesIO):
        source.seek(0)
        given = source
    else:
        given = str(source)
    try:
        with av.open(given) as container:
            if not container.streams.video:
                raise FacewrightError(f"{_name(source)} holds no picture stream.")
            yield container
    except av.error.FFmpegError as error:
        raise FacewrightError(
            f"{_name(source)} cannot be read as a video ({error}). Check that it plays, or "
            "convert it: ffmpeg -i VIDEO CONVERTED.mp4"
        ) from error


def _name(source: str | Path | io.BytesIO) -> str:
    return "The video" if isinstance(source, io.BytesIO) else Path(source).name


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise FacewrightError(
            "Reading and writing videos needs PyAV, which ComfyUI ships. Elsewhere: "
            "pip install av. Or restore a folder of frames: ffmpeg -i VIDEO frames/%06d.png"
        ) from error
    return av
