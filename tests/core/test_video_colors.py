"""Colours of videos against arithmetic of the standards, written out here for itself."""

import numpy as np
import pytest
import torch
from facewright.core.video.files import read_frames, rewrite_video, write_video

av = pytest.importorskip("av")

# ITU-R BT.601, BT.709, BT.2020, SMPTE 240M and FCC: what red and blue weigh in luma.
LUMA = {
    1: (0.2126, 0.0722),
    2: (0.299, 0.114),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
LAYOUTS = {"yuv420p": 2, "yuv444p": 1}


def to_yuv(rgb, matrix, full):
    """(3, h, w) in [0, 1] to float samples, by the text of the standards."""
    r, g, b = rgb.astype(np.float64)
    if matrix == 8:  # YCgCo
        y, u, v = r / 4 + g / 2 + b / 4, -r / 4 + g / 2 - b / 4, r / 2 - b / 2
    else:
        kr, kb = LUMA[matrix]
        y = kr * r + (1 - kr - kb) * g + kb * b
        u, v = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    if full:
        return np.stack([255 * y, 255 * u + 128, 255 * v + 128])
    return np.stack([219 * y + 16, 224 * u + 128, 224 * v + 128])


def patches(shift, height=48, width=64):
    """Blocks of 16 pixels, each of one colour."""
    rng = np.random.default_rng(shift)
    few = 0.1 + 0.8 * rng.random((3, height // 16, width // 16))
    return few.repeat(16, 1).repeat(16, 2)


def stored(yuv, layout):
    step = LAYOUTS[layout]
    y, u, v = yuv.round().clip(0, 255).astype(np.uint8)
    return y, u[::step, ::step], v[::step, ::step]


def frame_of(planes, layout):
    if layout == "yuv444p":
        return av.VideoFrame.from_ndarray(np.stack(planes), format=layout)
    flat = np.concatenate([p.ravel() for p in planes])
    return av.VideoFrame.from_ndarray(flat.reshape(-1, planes[0].shape[1]), format=layout)


def write(path, pictures, layout, *, codec="ffv1", matrix=2, full=False, size=(48, 64)):
    with av.open(str(path), "w") as out:
        options = {"crf": "0"} if codec == "libx264" else {}
        stream = out.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *size, layout
        context = stream.codec_context
        context.color_range, context.colorspace = 2 if full else 1, matrix
        for i, planes in enumerate(pictures):
            frame = frame_of(planes, layout)
            frame.colorspace, frame.color_range, frame.pts = matrix, 2 if full else 1, i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def planes_in(path, layout="yuv420p"):
    """The samples of every frame, which PyAV hands over as they are."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            assert frame.format.name.replace("yuvj", "yuv") == layout
            height, width, step = frame.height, frame.width, LAYOUTS[layout]
            flat = frame.to_ndarray().ravel()
            few = (height // step, width // step)
            colors = flat[height * width :].reshape(2, *few)
            yield flat[: height * width].reshape(height, width), *colors


@pytest.mark.parametrize("matrix", [*LUMA, 8])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize(
    ("codec", "layout"), [("ffv1", "yuv420p"), ("libx264", "yuv420p"), ("ffv1", "yuv444p")]
)
def test_every_matrix_and_range(tmp_path, matrix, full, codec, layout):
    pictures = [patches(i) for i in range(4)]
    coded = [stored(to_yuv(p, matrix, full), layout) for p in pictures]
    source = write(tmp_path / "a.mkv", coded, layout, codec=codec, matrix=matrix, full=full)
    seen = [f.numpy() for f in read_frames(source)]
    for picture, frame in zip(pictures, seen, strict=True):
        middles = (slice(None), slice(8, None, 16), slice(8, None, 16))
        assert np.abs(picture - frame)[middles].max() < 3 / 255  # three samples were rounded

    # Every other frame with its left half inverted.
    def change(first, frames):
        new = [f.clone() for f in frames]
        for picture in new:
            picture[:, :, :32] = 1 - picture[:, :, :32]
        return [x if (first + i) % 2 else None for i, x in enumerate(new)]

    notes = rewrite_video(source, tmp_path / "b.mp4", change, crf=0)
    assert len(notes) == (layout == "yuv444p"), notes
    with av.open(str(tmp_path / "b.mp4")) as container:
        context = container.streams.video[0].codec_context
        # What was not said of the source is not said of the result, where that means the same.
        assert context.colorspace == matrix
        assert (context.color_range == 2) == full
    exact = stored(to_yuv(np.zeros((3, 48, 64)), matrix, full), "yuv420p")
    for i, got in enumerate(planes_in(tmp_path / "b.mp4")):
        was = stored(to_yuv(pictures[i], matrix, full), "yuv420p")
        inverted = stored(to_yuv(1 - pictures[i], matrix, full), "yuv420p")
        for plane, same, new, black in zip(got, was, inverted, exact, strict=True):
            assert plane.shape == black.shape
            half = plane.shape[1] // 2
            # What nobody touched is what was decoded, sample for sample.
            assert np.array_equal(plane[:, half:], same[:, half:])
            if i % 2 == 0:
                assert np.array_equal(plane, same)
                continue
            step = 48 // plane.shape[0]
            at = (slice(8 // step, None, 16 // step), slice(8 // step, half, 16 // step))
            off = np.abs(plane[at].astype(int) - new[at])
            assert off.max() <= 2, off.max()


def test_a_matrix_nobody_knows_is_told_and_goes_through(tmp_path):
    coded = [stored(to_yuv(patches(0), 6, False), "yuv420p")] * 3
    source = write(tmp_path / "a.mkv", coded, "yuv420p", matrix=14)
    notes = rewrite_video(source, tmp_path / "b.mp4", lambda i, x: [None] * len(x), crf=0)
    assert any("matrix 14 is not known" in note for note in notes)
    for got, was in zip(planes_in(tmp_path / "b.mp4"), coded, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(got, was, strict=True))


@pytest.mark.parametrize(
    ("codec", "layout", "suffix"),
    [
        ("libx264rgb", "rgb24", "mkv"),
        ("ffv1", "bgr0", "mkv"),
        ("png", "rgb24", "mov"),
        ("qtrle", "rgb24", "mov"),
        ("rawvideo", "bgr24", "avi"),
        ("ffv1", "gbrp10le", "mkv"),
    ],
)
def test_sources_of_red_green_and_blue(tmp_path, codec, layout, suffix):
    source, pictures = tmp_path / f"a.{suffix}", [patches(i) for i in range(3)]
    with av.open(str(source), "w") as out:
        options = {"crf": "0"} if "264" in codec else {}
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, layout
        for i, picture in enumerate(pictures):
            rgb = (255 * picture).round().astype(np.uint8).transpose(1, 2, 0)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            frame = frame.reformat(format=layout)
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    rewrite_video(source, tmp_path / "b.mp4", lambda i, x: [None] * len(x), crf=0)
    with av.open(str(tmp_path / "b.mp4")) as container:
        context = container.streams.video[0].codec_context
        matrix, full = context.colorspace, context.color_range == 2
    assert matrix in LUMA and matrix != 2  # said, so that no player has to guess
    for picture, got in zip(pictures, planes_in(tmp_path / "b.mp4"), strict=True):
        expected = stored(to_yuv(picture, matrix, full), "yuv420p")
        for a, b in zip(got, expected, strict=True):
            assert np.abs(a.astype(int) - b).max() <= 1
    for picture, frame in zip(pictures, read_frames(source), strict=True):
        assert np.abs(picture - frame.numpy()).max() < 1.5 / 255


@pytest.mark.parametrize("full", [False, True])
def test_grey_stays_grey(tmp_path, full):
    levels = [np.full((48, 64), 40 * i + 20, np.uint8) for i in range(4)]
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        stream.codec_context.color_range = 2 if full else 1
        for i, level in enumerate(levels):
            frame = av.VideoFrame.from_ndarray(level, format="gray")
            frame.pts, frame.color_range = i, 2 if full else 1
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    rewrite_video(tmp_path / "a.mkv", tmp_path / "b.mp4", lambda i, x: list(x), crf=0)
    with av.open(str(tmp_path / "b.mp4")) as container:
        marked_full = container.streams.video[0].codec_context.color_range == 2
    for level, (y, u, v) in zip(levels, planes_in(tmp_path / "b.mp4"), strict=True):
        assert np.array_equal(y, level) and {*u.ravel(), *v.ravel()} == {128}
    (first, *_) = read_frames(tmp_path / "a.mkv")
    expected = 20 / 255 if marked_full else 4 / 219
    assert (first - expected).abs().max() < 1e-3


def test_frames_written_anew_say_what_their_colours_mean(tmp_path):
    pictures = [torch.from_numpy(patches(i)).float() for i in range(3)]
    write_video(tmp_path / "a.mp4", pictures, 25, crf=0)
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        matrix, full = context.colorspace, context.color_range == 2
    assert matrix in LUMA and matrix != 2
    for picture, got in zip(pictures, planes_in(tmp_path / "a.mp4"), strict=True):
        expected = stored(to_yuv(picture.numpy(), matrix, full), "yuv420p")
        for a, b in zip(got, expected, strict=True):
            assert np.abs(a.astype(int) - b).max() <= 1
