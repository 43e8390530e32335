"""The picture stream of a new video: what its frames are like, when they are shown, how encoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Self

from torch import Tensor

from .colors import (
    BT601,
    FULL,
    LIMITED,
    RGB,
    UNSPECIFIED,
    Coding,
    fitted,
    frame_of,
    merged,
    orientation,
    samples,
    turned,
)
from .notes import coding_notes, upright_ratio
from .reading import Video, load_av

FRAMES_TOGETHER = 8
"""Frames that `rewrite_video` changes at a time."""
AHEAD = 4
"""Frames that are decoded meanwhile."""
USUAL = Coding(BT601, full=False)


@dataclass(frozen=True)
class Form:
    """What every frame of the new file is like."""

    size: tuple[int, int]
    """Height and width as they are shown."""
    time_base: Fraction
    coding: Coding = USUAL
    ratio: Fraction | None = None
    """Width of a pixel over its height."""
    tags: tuple[int, int] = (UNSPECIFIED, UNSPECIFIED)
    """Primaries and transfer, as in pixfmt.h."""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, frame: Any, video: Video) -> Self:
        how, coding = orientation(frame), Coding.of(frame)
        context, stream = video.pictures.codec_context, video.pictures
        size = (frame.height, frame.width) if how[0] else (frame.width, frame.height)
        ratio = stream.sample_aspect_ratio or context.sample_aspect_ratio
        form = cls(
            size,
            stream.time_base or Fraction(1, 90000),
            coding.written(),
            upright_ratio(ratio, transposed=not how[0]),
            (int(context.color_primaries), int(context.color_trc)),
        )
        return replace(form, notes=tuple(coding_notes(frame, coding, form.halved)))

    @property
    def halved(self) -> bool:
        """Whether colours have half the resolution; frames of odd size cannot, nor can RGB."""
        even = not (self.size[0] % 2 or self.size[1] % 2)
        return even and self.coding.matrix != RGB


@dataclass
class Times:
    """When each frame is shown: as the source says, and later than the one before."""

    step: int
    """Between frames that say nothing."""
    last: int | None = None
    count: int = 0
    moved: int = 0
    """Frames that got another time than their own."""

    @classmethod
    def of(cls, form: "Form", rate: Fraction) -> Self:
        return cls(max(1, round(1 / (rate * form.time_base))))

    def next(self, pts: int | None) -> int:
        """That of the next frame, which says `pts`."""
        soonest = 0 if self.last is None else self.last + (self.step if pts is None else 1)
        if pts is None or (self.last is not None and pts < soonest):
            self.moved += 1
            pts = soonest
        self.last, self.count = pts, self.count + 1
        return pts


def with_pixels(video: Video, item: Any) -> tuple[Any, Tensor | None]:
    """What `Video.contents` gave, and the pixels of a frame; None for a packet."""
    return item, video.pixels(item) if isinstance(item, video.av.VideoFrame) else None


class Sink:
    """The picture stream of the file that is written."""

    def __init__(
        self,
        writer: Any,
        writing: Callable,
        form: Form,
        crf: int,
        rate: Fraction,
        times: "Times | None" = None,
    ) -> None:
        self.writer, self.writing, self.form = writer, writing, form
        self.times = times or Times.of(form, rate)
        rgb = form.coding.matrix == RGB
        codec, layout = ("libx264rgb", "rgb24") if rgb else ("libx264", "yuv444p")
        self.stream = writer.add_stream(codec, rate=rate, options={"crf": str(crf)})
        self.stream.height, self.stream.width = form.size
        self.stream.pix_fmt = "yuv420p" if form.halved else layout
        context = self.stream.codec_context
        context.time_base = form.time_base
        context.color_range = FULL if form.coding.full else LIMITED
        context.colorspace = form.coding.matrix
        context.color_primaries, context.color_trc = form.tags
        if form.ratio:
            context.sample_aspect_ratio = form.ratio

    def planes(self, video: Video, frame: Any) -> list[Tensor]:
        """A decoded frame's own samples, upright; through colours only where it is coded anew."""
        coding = Coding.of(frame)
        if coding != self.form.coding:
            return self.form.coding.from_rgb(video.pixels(frame), self.form.halved)
        how = orientation(frame)
        with video.reading():
            size = video.size or (frame.height, frame.width)
            own = fitted(samples(frame, size), self.form.halved)
        return [turned(plane, how) for plane in own]

    def encode(self, planes: Sequence[Tensor], pts: int | None = None) -> None:
        frame = frame_of(load_av(), planes, self.form.coding)
        frame.pts, frame.time_base = self.times.next(pts), self.form.time_base
        with self.writing():
            self.put(self.stream.encode(frame))

    def flush(self) -> None:
        """What the encoder still holds."""
        with self.writing():
            self.put(self.stream.encode(None))

    def put(self, packets: list[Any]) -> None:
        """What the encoder made."""
        self.writer.mux(packets)

    def pass_on(
        self, video: Video, frames: list[tuple[Any, Tensor]], change: Callable, first: int
    ) -> None:
        """Some frames, each with its pixels, to `change`, and what comes back to the encoder."""
        if not frames:
            return
        form, changed_to = self.form, change(first, [pixels for _, pixels in frames])
        for (frame, old), new in zip(frames, changed_to, strict=True):
            if new is not None and new.shape != old.shape:
                self.encode(form.coding.from_rgb(new, form.halved), frame.pts)
                continue
            planes = self.planes(video, frame)
            if new is not None:
                changed = (new.detach().cpu() != old).any(0)
                planes = merged(planes, form.coding.from_rgb(new, form.halved), changed)
            self.encode(planes, frame.pts)
