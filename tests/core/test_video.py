"""Videos rewritten frame by frame, against what PyAV itself decodes."""

import struct
from fractions import Fraction

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.video.files import frame_count, read_frames, rewrite_video

av = pytest.importorskip("av")


def frames_of(count, height=48, width=64):
    """Smooth pictures, which compression keeps, each with a grey level of its own."""
    y, x = np.mgrid[:height, :width]
    for t in range(count):
        picture = np.stack([x * 3, y * 4, np.full_like(x, 40 + 8 * t)], -1)
        yield picture.clip(0, 255).astype(np.uint8)


def write(path, frames, *, sound=False, matrix=None, colorspace=None, full=False, pts=None):
    frames = list(frames)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "0", "preset": "ultrafast"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv444p"
        context = stream.codec_context
        context.time_base = Fraction(1, 1000)
        context.color_range = 2 if full else 1
        if colorspace:
            context.colorspace = colorspace
        audio = out.add_stream("aac", rate=8000, layout="mono") if sound else None
        for t, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24").reformat(
                format="yuv444p", dst_colorspace=colorspace, dst_color_range=2 if full else 1
            )
            frame.pts, frame.time_base = (pts[t] if pts else 40 * t), Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if audio:
            tone = np.sin(np.arange(320 * len(frames)) / 4).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, 0
            out.mux(audio.encode(frame))
            out.mux(audio.encode(None))
    if matrix:
        show_by(path, matrix)
    return path


def show_by(path, matrix):
    """Put a, b, c, d into the box `tkhd` of an MP4's first track: x' = ax + cy, y' = bx + dy."""
    data = bytearray(path.read_bytes())
    a, b, c, d = (65536 * x for x in matrix)
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def decoded(path):
    with av.open(str(path)) as container:
        return [
            (frame.to_ndarray(format="rgb24").astype(int), frame.time)
            for frame in container.decode(video=0)
        ]


def sound_packets_of(path, number=0):
    with av.open(str(path)) as container:
        stream = container.streams.audio[number]
        return [bytes(p) for p in container.demux(stream) if p.dts is not None]


@pytest.mark.parametrize("how", [{}, {"colorspace": 1}, {"full": True}, {"colorspace": 5}])
def test_changed_and_unchanged_frames_keep_their_colours(tmp_path, how):
    source = write(tmp_path / "a.mp4", frames_of(11), **how)
    seen = []

    def change(first, frames):
        seen.extend(range(first, first + len(frames)))
        return [x if (first + i) % 2 else None for i, x in enumerate(frames)]

    rewrite_video(source, tmp_path / "b.mp4", change, crf=0)
    before, after = decoded(source), decoded(tmp_path / "b.mp4")
    assert seen == list(range(11)) and [t for _, t in after] == [t for _, t in before]
    for (a, _), (b, _) in zip(before, after, strict=True):
        assert np.abs(a - b).mean() < 2.5  # half the colour resolution
    assert frame_count(tmp_path / "b.mp4") == 11


def test_what_changes_is_what_is_written_and_uneven_times_and_sound_stay(tmp_path):
    pts = [0, 40, 95, 120, 400, 410, 470, 500, 560, 800]
    source = write(tmp_path / "a.mp4", frames_of(10), sound=True, pts=pts)
    rewrite_video(source, tmp_path / "b.mp4", lambda first, frames: [1 - x for x in frames], crf=0)
    before, after = decoded(source), decoded(tmp_path / "b.mp4")
    assert [round(1000 * t) for _, t in after] == pts
    for (a, _), (b, _) in zip(before, after, strict=True):
        assert np.abs(255 - a - b).mean() < 2.5
    assert sound_packets_of(tmp_path / "b.mp4") == sound_packets_of(source)


def test_odd_sizes_and_turned_phones(tmp_path):
    source = write(tmp_path / "odd.mp4", frames_of(3, 47, 63))
    rewrite_video(source, tmp_path / "b.mp4", lambda first, frames: frames)
    assert decoded(tmp_path / "b.mp4")[0][0].shape == (47, 63, 3)
    turned = write(tmp_path / "turned.mp4", frames_of(3, 48, 64), matrix=(0, -1, 1, 0))
    upright = next(iter(read_frames(turned)))
    assert upright.shape == (3, 64, 48)
    # Turned against the clock, what was the top right corner (most red) is at the top left.
    assert float(upright[0, 0, 0]) > 0.6 and float(upright[1, 0, 0]) < 0.1
    rewrite_video(turned, tmp_path / "up.mp4", lambda first, frames: [None] * len(frames), crf=0)
    again = torch.from_numpy(decoded(tmp_path / "up.mp4")[0][0]) / 255
    assert (again.permute(2, 0, 1) - upright).abs().mean() < 0.01


def test_a_stopped_or_impossible_rewrite_leaves_nothing(tmp_path):
    source = write(tmp_path / "a.mp4", frames_of(20))

    def stop(first, frames):
        if first:
            raise KeyboardInterrupt
        return frames

    with pytest.raises(KeyboardInterrupt):
        rewrite_video(source, tmp_path / "out" / "b.mp4", stop)
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "no.mp4").write_bytes(b"nothing of the kind")
    with pytest.raises(FacewrightError, match=r"no.mp4 cannot be read as a video"):
        next(iter(read_frames(tmp_path / "no.mp4")))
