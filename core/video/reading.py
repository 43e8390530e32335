"""A video file opened for reading: its picture stream frame by frame, whatever else is in it."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import FacewrightError, shorten
from .colors import Coding, orientation, samples, turned

Source = str | Path | io.BytesIO

_LONGEST_SIDE = 16384
"""What H.264 can hold."""
_MOST_PIXELS = 2**26
"""Of a frame: twice 8K. A few bytes of a header can ask for terabytes."""

_LISTS = frozenset({"concat", "concatf", "dash", "hls", "imf", "rtsp", "sdp", "webm_dash_manifest"})
"""Kinds of files that name other files, or places in a network, to be opened."""


class Video:
    """What an open file holds, and what was found amiss while it was read."""

    def __init__(self, av: Any, container: Any, name: str) -> None:
        self.av, self.container, self.name = av, container, name
        pictures = [s for s in container.streams.video if s.codec_context is not None]
        # A cover comes as a video of one frame.
        moving = [s for s in pictures if not is_cover(s)]
        if not pictures:
            raise FacewrightError(f"{name} holds no picture stream that can be decoded.")
        self.pictures = (moving or pictures)[0]
        context = self.pictures.codec_context
        sides = (context.width, context.height)
        if max(sides) > _LONGEST_SIDE or sides[0] * sides[1] > _MOST_PIXELS:
            raise FacewrightError(
                f"{name} has frames of {sides[0]}x{sides[1]} pixels; {_LONGEST_SIDE} on a side and "
                f"{_MOST_PIXELS} together are the most. Make a smaller copy: "
                "ffmpeg -i VIDEO -vf scale=3840:-2 SMALL.mp4"
            )
        context.options = {"max_pixels": str(_MOST_PIXELS)}
        self.size: tuple[int, int] | None = None
        """Height and width of the frames as they are stored; those of the first one."""
        self.broken_packets = self.broken_frames = self.resized = self.frames = 0
        self.stopped = ""

    @property
    def rate(self) -> Fraction:
        """Frames a second, 25 where the file says nothing that can be."""
        rate = self.pictures.average_rate or self.pictures.base_rate
        return rate if rate and 0 < rate <= 1000 else Fraction(25)

    def contents(self, *others: Any) -> Iterator[Any]:
        """Frames of the pictures and packets of the streams `others`, as they come in the file.

        Where the file is damaged reading goes on behind it, or ends; both are counted.
        """
        demuxed = self.container.demux(self.pictures, *others)
        while True:
            try:
                packet = next(demuxed, None)
            except _unreadable(self.av) as error:
                self.stopped = words(error)
                yield from self._frames(self.pictures.codec_context.decode)
                return
            if packet is None:
                return
            if packet.stream.index != self.pictures.index:
                yield packet
            else:
                yield from self._frames(packet.decode)

    def packets(self, *others: Any) -> Iterator[Any]:
        """Packets of the streams `others` alone; no picture is decoded."""
        demuxed = self.container.demux(*others) if others else iter(())
        while True:
            try:
                packet = next(demuxed, None)
            except _unreadable(self.av) as error:
                self.stopped = words(error)
                return
            if packet is None:
                return
            yield packet

    def _frames(self, decode: Callable[[], list[Any]]) -> list[Any]:
        try:
            frames = decode()
        except _unreadable(self.av):
            self.broken_packets += 1
            return []
        for frame in frames:
            size = (frame.height, frame.width)
            self.size = self.size or size
            self.resized += size != self.size
            self.broken_frames += bool(frame.is_corrupt)
        self.frames += len(frames)
        return frames

    def pixels(self, frame: Any) -> Tensor:
        """(3, h, w) in [0, 1], upright."""
        coding, how = Coding.of(frame), orientation(frame)
        with self.reading():
            planes = samples(frame, self.size or (frame.height, frame.width))
        return turned(coding.to_rgb(planes), how).contiguous()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What PyAV says of the file, as a sentence."""
        try:
            yield
        except _unreadable(self.av) as error:
            raise _refusal(self.name, words(error)) from error

    def check_frames(self) -> None:
        """Refuse a file of which nothing could be decoded."""
        if not self.frames:
            why = self.stopped or "none of its frames can be decoded"
            raise _refusal(self.name, why)


@contextmanager
def opened(source: Source) -> Iterator[Video]:
    """A file, or one in memory, open for reading.

    Raises:
        FacewrightError: PyAV is missing, or the file is no video, is damaged, or only names others.
    """
    av = load_av()
    name = "The video" if isinstance(source, io.BytesIO) else shorten(Path(source).name)
    if isinstance(source, io.BytesIO):
        source.seek(0)
        given: Any = source
    else:
        given = f"file:{source}"  # a name with a colon is no address
    # A playlist would be opened with whatever it names, anywhere on this machine.
    kinds = {"format_whitelist": ",".join(sorted(av.formats_available - _LISTS))}
    try:
        container = av.open(given, "r", container_options=kinds, metadata_errors="replace")
    except _unreadable(av) as error:
        raise _refusal(name, words(error)) from error
    with container:
        yield Video(av, container, name)


def is_cover(stream: Any) -> bool:
    """Whether a stream of pictures is a cover or thumbnail, not a video."""
    return bool(int(getattr(stream.disposition, "value", stream.disposition)) & 0x400)


def load_av() -> Any:
    """PyAV, or a sentence."""
    try:
        import av
    except ImportError as error:
        raise FacewrightError(
            "Reading and writing videos needs PyAV, which ComfyUI ships. Elsewhere: "
            "pip install av. Or restore a folder of frames: ffmpeg -i VIDEO frames/%06d.png"
        ) from error
    return av


def _unreadable(av: Any) -> tuple[type[Exception], ...]:
    """What PyAV raises for files that are not as they should be."""
    known = (ValueError, OverflowError, ZeroDivisionError, AttributeError, RuntimeError)
    return (av.error.FFmpegError, *known)


def words(error: Exception) -> str:
    """What an error of PyAV says, without the name of a file."""
    return shorten(getattr(error, "strerror", None) or error, 200)


def _refusal(name: str, why: str) -> FacewrightError:
    return FacewrightError(
        f"{name} cannot be read as a video ({why}). Check that it plays, or convert it: "
        "ffmpeg -i VIDEO CONVERTED.mp4"
    )
