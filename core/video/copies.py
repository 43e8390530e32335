"""What goes with the pictures of a video into a new file: sound, subtitles, tags."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import counted
from .notes import described, lost_tags, speaks_of_a_place, tags
from .reading import Video

_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_RATES = range(1000, 1_000_000)
"""Samples a second that can be meant: a second of fewer would become a flood of them."""
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}

_HANDLERS = ("VideoHandler", "SoundHandler", "SubtitleHandler")
# fmt: off
_USUAL_TAGS = frozenset((
    "title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright",
    "grouping", "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords",
    "creation_time", "timecode",
))
# fmt: on
"""Those of a file that MP4 has a place for."""


class Copies:
    """The streams that are copied to `writer`; sound that MP4 cannot hold becomes AAC."""

    def __init__(self, writer: Any, video: Video, *, location: bool = True) -> None:
        """
        Args:
            location: also hand on where the video was recorded.
        """
        self.writer, self.video, self.location = writer, video, location
        self.copied: dict[int, Any] = {}
        self.encoded: dict[int, Any] = {}
        self.sources: list[Any] = []
        self.notes: list[str] = []
        self._last: dict[int, int] = {}
        self._filled: set[int] = set()
        self._places = 0
        for stream in video.container.streams:
            if stream.type in ("audio", "subtitle"):
                self._take(stream)

    def _take(self, stream: Any) -> None:
        what = "sound" if stream.type == "audio" else "subtitles"
        new = None
        context = stream.codec_context
        # Where the file says too little of its sound, MP4 could not be begun with it.
        if context is not None and (stream.type != "audio" or context.sample_rate):
            new = self._copy(stream)
            if new is not None:
                self.copied[stream.index] = new
            elif stream.type == "audio" and context.sample_rate in _RATES:
                new = self.encoded[stream.index] = self._encoder(stream)
                self.notes.append(f"Sound that MP4 does not hold{described(stream)} is AAC now.")
        if new is None:
            self.notes.append(f"Not kept, as MP4 cannot hold it: {what}{described(stream)}.")
            return
        label(new, stream, location=self.location)
        self.sources.append(stream)

    def _copy(self, stream: Any) -> Any:
        try:
            return self.writer.add_stream_from_template(stream)
        except (ValueError, self.video.av.error.FFmpegError):
            return None

    def _encoder(self, stream: Any) -> Any:
        rate = _aac_rate(stream.codec_context.sample_rate)
        layout = _LAYOUTS.get(stream.codec_context.channels, "stereo")  # mixed by FFmpeg
        return self.writer.add_stream("aac", rate=rate, layout=layout)

    def write(self, packet: Any) -> None:
        """A packet of one of `sources`."""
        at = packet.stream.index
        subtitle = packet.stream.type == "subtitle"
        if not self.location and subtitle and speaks_of_a_place(bytes(packet)):
            self._places += 1
            return
        if at in self.encoded:
            self._encode(packet, self.encoded[at])
        elif packet.size:
            copy = self.copied[at]
            # Times have to grow by one of MP4's units, which may be coarser than the source's.
            units = packet.time_base / copy.time_base
            dts = packet.dts if packet.dts is not None else packet.pts
            dts = (
                max(dts or 0, math.ceil((self._last[at] + 1) / units)) if at in self._last else dts
            )
            packet.dts = dts or 0
            if packet.pts is None or packet.pts < packet.dts:
                packet.pts = packet.dts
            self._last[at] = round(packet.dts * units)
            packet.stream = copy
            try:
                self.writer.mux(packet)
            except ValueError:  # what the file cannot take; a full disk is no ValueError
                self.video.broken_packets += 1
            self._filled.add(at)

    def _encode(self, packet: Any, encoder: Any) -> None:
        try:
            frames = packet.decode()
        except (ValueError, self.video.av.error.FFmpegError):
            self.video.broken_packets += 1
            return
        for frame in frames:
            self._filled.add(packet.stream.index)
            self.writer.mux(encoder.encode(frame))

    def flush(self) -> None:
        for encoder in self.encoded.values():
            self.writer.mux(encoder.encode(None))

    def lost(self, written: Any) -> Iterator[str]:
        """What of the tags is not in the file that was `written`, opened for reading."""
        if self._places:
            told = counted(self._places, "subtitle")
            yield f"Left out, as they tell where it was recorded: {told}."
        pairs = [
            (self.video.container, written, "the file"),
            (self.video.pictures, written.streams.video[0], "the pictures"),
        ]
        got = [s for s in written.streams if s.type in ("audio", "subtitle")]
        kept = [s for s in self.sources if s.index in self._filled]
        for stream in self.sources:
            if stream not in kept:
                yield f"Not kept, as there is nothing in it: a track{described(stream)}."
        if len(got) != len(kept):
            yield f"Of {len(kept)} tracks of sound and subtitles {len(got)} are in the new file."
        pairs += [(a, b, f"a track{described(a)}") for a, b in zip(kept, got, strict=False)]
        for source, result, of in pairs:
            yield from lost_tags(tags(source.metadata, location=self.location), result.metadata, of)


def label(new: Any, stream: Any, *, location: bool = True) -> None:
    """Language, title and role of a stream, handed on to its copy."""
    given = tags(stream.metadata, location=location)
    title = given.get("title") or given.pop("name", None)
    if title:
        # Players show the handler's name; MP4 written by older versions has no other title.
        given["title"] = title
        if given.get("handler_name", "VideoHandler") in _HANDLERS:
            given["handler_name"] = title
    new.metadata.update(given)
    new.disposition = int(getattr(stream.disposition, "value", stream.disposition))


def options_for(video: Video) -> dict[str, str]:
    """The muxer's: tags that MP4 has no place for go where QuickTime and ComfyUI keep theirs."""
    unusual = {k.lower() for k in tags(video.container.metadata)} - _USUAL_TAGS
    return {"movflags": "use_metadata_tags"} if unusual else {}


def mark(writer: Any, video: Video, *, location: bool = True) -> list[str]:
    """Tags and chapters of the file as a whole; what could not be set, in words."""
    writer.metadata.update(tags(video.container.metadata, location=location))
    if hasattr(writer, "set_chapters"):
        writer.set_chapters(video.container.chapters())
    elif "Chapter #" in _printed(video):
        return ["Chapters are not kept: this version of PyAV cannot copy them; 16 and later can."]
    return []


def _printed(video: Video) -> str:
    """What FFmpeg says of a file: older versions of PyAV know of chapters nowhere else."""
    logs = video.av.logging
    before = logs.get_level()
    logs.set_level(logs.INFO)
    try:
        return video.container.dumps_format()
    finally:
        logs.set_level(before)


def add_sound(writer: Any, waveform: Tensor, rate: int) -> Any:
    """A stream of AAC for `encode_sound`."""
    return writer.add_stream(
        "aac", rate=_aac_rate(rate), layout=_LAYOUTS.get(len(waveform), "mono")
    )


def encode_sound(av: Any, writer: Any, stream: Any, waveform: Tensor, rate: int) -> None:
    """All of `stream`: a waveform (channels, n) in [-1, 1]; unusual channels are mixed into one."""
    given = waveform.detach().float().cpu()
    layout = _LAYOUTS.get(len(given))
    if layout is None:
        given, layout = given.mean(0, keepdim=True), "mono"
    array = np.ascontiguousarray(given.numpy())
    frame = av.AudioFrame.from_ndarray(array, format="fltp", layout=layout)
    frame.sample_rate, frame.pts = rate, 0
    writer.mux(stream.encode(frame))
    writer.mux(stream.encode(None))


def _aac_rate(rate: int) -> int:
    return min(_AAC_RATES, key=lambda r: abs(r - rate))
