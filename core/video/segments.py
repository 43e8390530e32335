"""The pictures of a video encoded in segments that outlive an interruption, and joined.

Each segment is encoded by an encoder of its own, begins with a picture that needs no other, and is
a file; what comes out is the same whether the run was interrupted, and where. The encoder's packets
are written into the new file as they are.
"""

import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from ..errors import FacewrightError
from .ahead import ahead
from .copies import Copies
from .parts import Parts
from .reading import Source, Video, load_av, opened
from .sink import AHEAD, FRAMES_TOGETHER, Form, Sink, Times

SEGMENT = 240
"""Frames of a segment: x264 begins anew every 250 at the latest anyway, a multiple of
`FRAMES_TOGETHER`, and what an interruption costs at most."""
_END = "end"


@dataclass(frozen=True)
class Resumed:
    """A change of frames that can go on where it was interrupted."""

    parts: Parts
    kind: Any
    """The type of the state between frames, as annotations spell it."""
    save: Callable[[], Any]
    """The state behind the frames changed so far."""
    restore: Callable[[Any], object]
    """Take up a state."""
    on_done: Callable[[int], object] = lambda frames: None
    """Told how many frames were done before."""


@dataclass(frozen=True)
class Packets:
    """What an encoder made of some frames."""

    frames: int
    data: Tensor
    """(bytes,) uint8."""
    about: Tensor
    """(n, 5) int64 per packet: size, pts, dts, duration, whether it needs no other."""

    @classmethod
    def of(cls, packets: list[Any], frames: int) -> "Packets":
        data = torch.frombuffer(bytearray(b"".join(map(bytes, packets))), dtype=torch.uint8)
        rows = [(p.size, p.pts, p.dts, p.duration or 0, int(p.is_keyframe)) for p in packets]
        return cls(frames, data, torch.tensor(rows, dtype=torch.int64).reshape(-1, 5))

    @property
    def whole(self) -> bool:
        """Whether the numbers fit each other, whoever wrote them."""
        about = self.about
        return (
            self.data.dtype == torch.uint8
            and self.data.dim() == 1
            and about.dtype == torch.int64
            and about.shape == (self.frames, 5)
            and bool((about[:, 0] > 0).all() and (about.abs() < 2**60).all())
            and int(about[:, 0].sum()) == len(self.data)
        )

    def packets(self, av: Any, time_base: Fraction) -> Iterator[Any]:
        """As the encoder gave them."""
        data, at = self.data.numpy().tobytes(), 0
        for size, pts, dts, duration, key in self.about.tolist():
            packet = av.Packet(data[at : at + size])
            packet.pts, packet.dts, packet.duration = pts, dts, duration
            packet.time_base, packet.is_keyframe = time_base, bool(key)
            at += size
            yield packet


@dataclass(frozen=True)
class PicturesRead:
    """What is known once all frames were read."""

    segments: int
    frames: int
    moved: int
    stopped: str
    broken_packets: int
    broken_frames: int
    resized: int


class _Segment(Sink):
    """A sink whose packets are kept."""

    def __init__(self, av: Any, *about: Any) -> None:
        # Only as what an encoder belongs to, so that it is set up as always; nothing is written.
        self._nowhere = av.open(io.BytesIO(), "w", format="mp4")
        super().__init__(self._nowhere, *about)
        self.frames, self._packets = 0, []

    def encode(self, planes: Sequence[Tensor], pts: int | None = None) -> None:
        super().encode(planes, pts)
        self.frames += 1

    def put(self, packets: list[Any]) -> None:
        self._packets += packets

    def finished(self) -> Packets:
        self.flush()
        self._nowhere.close()
        return Packets.of(self._packets, self.frames)


def encode_segments(
    source: Source,
    change: Callable,
    resumed: Resumed,
    crf: int,
    size: tuple[int, int] | None,
    writing: Callable,
) -> PicturesRead:
    """Encode what is not encoded yet; the frames before are decoded and passed over.

    Args:
        source, change, crf, size: as for `rewrite_video`.
        writing: a context for whatever PyAV does to the new video.

    Raises:
        FacewrightError: as `rewrite_video`.
        OSError: a part cannot be written.
    """
    parts, av = resumed.parts, load_av()
    segments, count, state = _done(resumed)
    if segments:
        resumed.restore(state)
        resumed.on_done(count)
    end: PicturesRead | None = parts.load(_END, PicturesRead)
    if end is not None and (end.segments, end.frames) == (segments, count):
        return end
    with opened(source) as video:
        frames: Iterator[Any] = video.contents()
        first = next(frames, None)
        video.check_frames()  # raises where there is none
        form = Form.of(first, video)
        form = replace(form, size=size or form.size)
        times = Times.of(form, video.rate)
        frames = itertools.chain([first], frames)
        for done in itertools.islice(frames, count):
            times.next(done.pts)
        sink, contents = None, ((frame, video.pixels(frame)) for frame in frames)
        with closing(ahead(contents, AHEAD)) as seen:
            while some := list(itertools.islice(seen, FRAMES_TOGETHER)):
                sink = sink or _Segment(av, writing, form, crf, video.rate, times)
                sink.pass_on(video, some, change, count)
                count += len(some)
                if sink.frames == SEGMENT:
                    parts.save(_name(segments), (sink.finished(), resumed.save()))
                    sink, segments = None, segments + 1
        if sink is not None:
            parts.save(_name(segments), (sink.finished(), resumed.save()))
            segments += 1
        end = PicturesRead(
            segments, count, times.moved, video.stopped, video.broken_packets,
            video.broken_frames, video.resized,
        )  # fmt: skip
    parts.save(_END, end)
    return end


def _done(resumed: Resumed) -> tuple[int, int, Any]:
    """How many segments and frames of them are whole, and the state behind them."""
    segments, frames, state = 0, 0, None
    while True:
        found = resumed.parts.load(_name(segments), tuple[Packets, resumed.kind])
        if found is None or not found[0].whole:
            return segments, frames, state
        segments, frames, state = segments + 1, frames + found[0].frames, found[1]


def join_segments(
    video: Video, sink: Sink, copies: Copies, parts: Parts, read: PicturesRead
) -> None:
    """Write the packets of all segments, and what goes with them as its times say.

    Raises:
        FacewrightError: a segment is no longer there.
    """
    others = video.packets(*copies.sources)
    other = next(others, None)
    last: Any = None
    for number in range(read.segments):
        found = parts.load(_name(number), tuple[Packets, Any])
        if found is None or not found[0].whole:
            raise FacewrightError(
                f"Part {number} of the video in {parts.folder} cannot be read any more. Run the "
                "same command again, which makes it anew."
            )
        for packet in found[0].packets(video.av, sink.form.time_base):
            if last is not None and packet.dts <= last:
                # An encoder that begins anew foresees less of uneven times; in order is enough.
                packet.dts = last + 1
            last = packet.dts
            while other is not None and _begins(other, last * sink.form.time_base):
                with sink.writing():
                    copies.write(other)
                other = next(others, None)
            packet.stream = sink.stream
            with sink.writing():
                sink.put([packet])
    while other is not None:
        with sink.writing():
            copies.write(other)
        other = next(others, None)
    video.frames, video.resized = read.frames, read.resized
    video.stopped = video.stopped or read.stopped
    video.broken_packets += read.broken_packets
    video.broken_frames += read.broken_frames
    sink.times.count, sink.times.moved = read.frames, read.moved


def _begins(packet: Any, when: Fraction) -> bool:
    """Whether it is no later than that, in seconds."""
    return packet.dts is None or packet.dts * packet.time_base <= when


def _name(segment: int) -> str:
    return f"segment-{segment:06}"
