"""What a rewritten video keeps of everything that a file can hold, and what it says it does not."""

import io
import random
import struct
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.video.files import frame_count, read_frames, rewrite_video, write_video

from .test_video import frames_of, show_by, sound_packets_of

av = pytest.importorskip("av")


def untouched(first, frames):
    return [None] * len(frames)


def clip(
    path, codec="libx264", layout="yuv420p", *, height=48, width=64, count=6, sounds=(),
    options=None, muxer=None, tags=None, at=None, time_base=None, setup=None, more=None,
):  # fmt: skip
    """A video with frames of their own brightness; `sounds`: (codec, tags) each."""
    with av.open(str(path), "w", options=muxer or {}) as out:
        out.metadata.update(tags or {})
        stream = out.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, layout
        if time_base:
            stream.codec_context.time_base = time_base
        if setup:
            setup(stream)
        speakers = []
        for name, about in sounds:
            speakers.append(out.add_stream(name, rate=8000, layout="mono"))
            speakers[-1].metadata.update(about)
        finish = more(out) if more else None
        for t, array in enumerate(frames_of(count, height, width)):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24").reformat(format=layout)
            frame.pts = at[t] if at else t
            if time_base:
                frame.time_base = time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        for speaker in speakers:
            tone = np.sin(np.arange(1600) / 4).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, 0
            out.mux(speaker.encode(frame))
            out.mux(speaker.encode(None))
        if finish:
            finish()
    return path


def rewritten(source, **how):
    target = source.with_name("new.mp4")
    notes = rewrite_video(source, target, untouched, **{"crf": 0, **how})
    return target, notes


def flag(stream):
    return int(getattr(stream.disposition, "value", stream.disposition))


# ---- shape of pixels, turns and mirrors

EIGHT = [
    (1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1),
    (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, -1, 0), (0, -1, -1, 0),
]  # fmt: skip


def shown(picture, matrix):
    """Every pixel of (h, w, 3) where ISO 14496-12 puts it: x' = ax + cy, y' = bx + dy."""
    a, b, c, d = matrix
    height, width = picture.shape[:2]
    places = {}
    for y in range(height):
        for x in range(width):
            places[a * x + c * y, b * x + d * y] = picture[y, x]
    left, top = min(x for x, _ in places), min(y for _, y in places)
    right, low = max(x for x, _ in places), max(y for _, y in places)
    result = np.zeros((low - top + 1, right - left + 1, 3), picture.dtype)
    for (x, y), color in places.items():
        result[y - top, x - left] = color
    return result


@pytest.mark.parametrize("ratio", [None, Fraction(16, 15)], ids=str)
@pytest.mark.parametrize("matrix", EIGHT, ids=str)
def test_what_is_shown_turned_or_mirrored_is_stored_upright(tmp_path, matrix, ratio):
    def setup(stream):
        if ratio:
            stream.codec_context.sample_aspect_ratio = ratio

    source = clip(tmp_path / "a.mp4", height=32, width=48, setup=setup, options={"crf": "0"})
    plain = [f.permute(1, 2, 0).numpy() for f in read_frames(source)]
    show_by(source, matrix)
    target, notes = rewritten(source)
    assert notes == []
    for was, seen, now in zip(plain, read_frames(source), read_frames(target), strict=True):
        expected = torch.from_numpy(shown(was, matrix)).permute(2, 0, 1)
        assert torch.equal(seen, expected)
        assert (now - expected).abs().max() < 1e-6
    with av.open(str(target)) as container:
        got = container.streams.video[0].sample_aspect_ratio
        assert (got if got != 1 else None) == (1 / ratio if ratio and not matrix[0] else ratio)
        assert next(container.decode(video=0)).rotation == 0


def test_a_turn_that_is_no_right_angle_is_told(tmp_path):
    source = clip(tmp_path / "a.mp4")
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 44
    half = round(65536 * 0.5**0.5)
    data[at : at + 36] = struct.pack(">9i", half, half, 0, -half, half, 0, 0, 0, 1 << 30)
    source.write_bytes(data)
    _, notes = rewritten(source)
    assert any("askew" in note for note in notes), notes


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "ts", "avi"])
@pytest.mark.parametrize("ratio", ["16/15", "64/45", "8/9", "4/3", "1/1", "12/11"])
def test_the_shape_of_pixels_is_kept(tmp_path, ratio, suffix):
    def setup(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(ratio)

    codec = "libx264" if suffix != "avi" else "mpeg4"
    source = clip(tmp_path / f"a.{suffix}", codec, count=20, setup=setup)
    target, _ = rewritten(source)
    with av.open(str(target)) as container:
        assert (container.streams.video[0].sample_aspect_ratio or 1) == Fraction(ratio)


# ---- kinds of pictures

KINDS = [
    ("libx264", "yuv420p", "mp4", ()),
    ("libx264", "yuv422p", "mp4", ("halved",)),
    ("libx264", "yuv444p", "mp4", ("halved",)),
    ("libx264", "yuv420p10le", "mp4", ("10 bits",)),
    ("libx264", "yuvj420p", "mp4", ()),
    ("mjpeg", "yuvj422p", "avi", ("halved",)),
    ("mpeg2video", "yuv422p", "mpg", ("halved",)),
    ("dvvideo", "yuv411p", "avi", ("halved", "interlaced")),
    ("rawvideo", "uyvy422", "avi", ("halved",)),
    ("rawvideo", "nv12", "avi", ()),
    ("ffv1", "gray", "mkv", ()),
    ("ffv1", "gray10le", "mkv", ("10 bits",)),
    ("ffv1", "yuva420p", "mkv", ("Transparency",)),
    ("ffv1", "yuv410p", "mkv", ()),
    ("png", "rgba", "mov", ("halved", "Transparency")),
    ("qtrle", "argb", "mov", ("halved", "Transparency")),
    ("prores_ks", "yuva444p10le", "mov", ("halved", "bits", "Transparency")),
    ("libvpx-vp9", "yuva420p", "webm", ("Transparency",)),
    ("libx264rgb", "rgb24", "mkv", ("halved",)),
]


@pytest.mark.parametrize(("codec", "layout", "suffix", "told"), KINDS)
def test_every_kind_of_picture_looks_the_same_and_what_it_loses_is_told(
    tmp_path, codec, layout, suffix, told
):
    size = {"height": 480, "width": 720, "count": 2} if codec == "dvvideo" else {}
    setup = None
    if codec == "dvvideo":
        size["setup"] = setup = lambda s: setattr(
            s.codec_context, "framerate", Fraction(30000, 1001)
        )
    try:
        source = clip(tmp_path / f"a.{suffix}", codec, layout, **size)
    except (av.error.FFmpegError, ValueError):
        assert setup, "only DV is choosy"
        pytest.skip("this version of FFmpeg writes no such DV")
    target, notes = rewritten(source)
    assert all(any(word in note for note in notes) for word in told), notes
    words = ("bits", "halved", "Transparency", "interlaced", "4:4:4")
    assert not any(w in n for n in notes for w in words if not any(w in t for t in told)), notes
    pairs = list(zip(read_frames(source), read_frames(target), strict=True))
    assert len(pairs) == size.get("count", 6)
    for before, after in pairs:
        # Smooth pictures, but for where they are cut off at white.
        assert (before - after).abs().mean() < 1.5 / 255
        if not told and layout != "yuv410p":
            assert (before - after).abs().max() < 1e-6
    with av.open(str(target)) as container:
        assert container.streams.video[0].codec_context.pix_fmt in ("yuv420p", "yuvj420p")


@pytest.mark.parametrize(("height", "width"), [(241, 321), (240, 321), (241, 320), (2, 2), (1, 1)])
def test_frames_of_odd_size_keep_it(tmp_path, height, width):
    picture = torch.rand(3, height, width)
    write_video(tmp_path / "a.mp4", [picture] * 3, Fraction(25), crf=0)
    target, notes = rewritten(tmp_path / "a.mp4")
    odd = bool(height % 2 or width % 2)
    assert [n for n in notes if "odd" in n] == notes and len(notes) == odd
    for before, after in zip(read_frames(tmp_path / "a.mp4"), read_frames(target), strict=True):
        assert before.shape == after.shape == (3, height, width)
        assert torch.equal(before, after)
    if odd:
        assert (before - picture).abs().max() < 3 / 255


def test_half_colours_of_odd_sizes(tmp_path):
    source = clip(tmp_path / "a.webm", "libvpx-vp9", height=47, width=63, count=3)
    target, notes = rewritten(source)
    assert any("4:4:4" in n for n in notes)
    for before, after in zip(read_frames(source), read_frames(target), strict=True):
        assert before.shape == (3, 47, 63) and (before - after).abs().max() < 3 / 255


# ---- tracks, tags, chapters


def test_tracks_languages_titles_roles_and_tags(tmp_path):
    tags = {
        "title": "Ein Fest", "artist": "Jemand", "comment": "mit Ö", "workflow": '{"1": 2}',
        "com.apple.quicktime.make": "Apple", "creation_time": "2020-01-02T03:04:05.000000Z",
    }  # fmt: skip
    names = [("deu", "Deutsch"), ("fra", "Français"), ("jpn", "\u65e5\u672c\u8a9e")]
    sounds = [("aac", {"language": code, "title": title}) for code, title in names]

    def setup(stream):
        stream.metadata.update({"language": "ita", "title": "Bild"})

    for suffix in ("mkv", "mp4"):
        source = clip(
            tmp_path / f"a.{suffix}", sounds=sounds, tags=tags, setup=setup,
            muxer={"movflags": "use_metadata_tags"} if suffix == "mp4" else {},
        )  # fmt: skip
        target, notes = rewritten(source)
        assert notes == []
        with av.open(str(target)) as b:
            for key, value in tags.items():
                assert {k.lower(): v for k, v in b.metadata.items()}[key] == value
            assert b.streams.video[0].language == "ita"
            assert [s.language for s in b.streams.audio] == ["deu", "fra", "jpn"]
            if suffix == "mkv":
                said = [set(s.metadata.values()) for s in (b.streams.video[0], *b.streams.audio)]
                titles = ["Bild", "Deutsch", "Français", "\u65e5\u672c\u8a9e"]
                assert all(t in values for t, values in zip(titles, said, strict=True))
        for number in range(3):
            heard = [sound_packets_of(path, number) for path in (source, target)]
            assert heard[0] == heard[1] and heard[0]


def test_roles_of_tracks(tmp_path):
    source = clip(tmp_path / "a.mkv", sounds=[("aac", {}), ("aac", {})])
    with av.open(str(source)) as a:
        roles = [flag(s) for s in a.streams]
    target, _ = rewritten(source)
    with av.open(str(target)) as b:
        for role, stream in zip(roles, b.streams, strict=True):
            assert flag(stream) & role == role


@pytest.mark.parametrize(("codec", "suffix"), [("pcm_u8", "avi"), ("adpcm_ima_wav", "avi")])
def test_sound_that_mp4_cannot_hold_is_heard_still(tmp_path, codec, suffix):
    source = clip(tmp_path / f"a.{suffix}", "mpeg4", sounds=[(codec, {})])
    target, notes = rewritten(source)
    assert any(f"({codec}" in n and "AAC" in n for n in notes), notes
    with av.open(str(target)) as container:
        (stream,) = container.streams.audio
        heard = np.concatenate([f.to_ndarray()[0] for f in container.decode(stream)])
    assert stream.codec_context.name == "aac" and len(heard) >= 1500
    assert 0.5 < np.sqrt((heard[200:1400] ** 2).mean()) / np.sqrt(0.5) < 1.5


def test_chapters_stay_or_are_told(tmp_path):
    chapters = [
        {"id": i, "start": i * 100, "end": i * 100 + 100, "time_base": Fraction(1, 1000),
         "metadata": {"title": f"Teil {i}"}}
        for i in range(2)
    ]  # fmt: skip
    if not hasattr(av.container.OutputContainer, "set_chapters"):
        pytest.skip("this version of PyAV makes no file with chapters")
    source = clip(tmp_path / "a.mkv", more=lambda out: out.set_chapters(chapters))
    target, notes = rewritten(source)
    assert notes == []
    with av.open(str(target)) as container:
        got = [(c["metadata"]["title"], c["start"] * c["time_base"]) for c in container.chapters()]
    assert got == [("Teil 0", 0), ("Teil 1", Fraction(1, 10))]
    assert rewritten(target.rename(tmp_path / "b.mp4"))[1] == []


def test_attached_files_covers_and_further_videos_are_told(tmp_path):
    def more(out):
        if hasattr(out, "add_attachment"):
            out.add_attachment("a font.ttf", "application/x-truetype-font", b"\0" * 50)
        second = out.add_stream("libx264", rate=25)
        second.width, second.height, second.pix_fmt = 32, 32, "yuv420p"
        grey = av.VideoFrame.from_ndarray(np.full((48, 32), 99, np.uint8), format="yuv420p")
        grey.pts = 0

        def finish():
            out.mux(second.encode(grey))
            out.mux(second.encode(None))

        return finish

    source = clip(tmp_path / "a.mkv", more=more)
    _, notes = rewritten(source)
    assert any("second video (h264)" in n for n in notes), notes
    if hasattr(av.container.OutputContainer, "add_attachment"):
        assert any("attached file" in n and "a font.ttf" in n for n in notes), notes


@pytest.mark.parametrize("name", ["mov_text", "subrip", "ass", "webvtt"])
def test_subtitles_stay_or_are_told(tmp_path, name):
    if not hasattr(av.container.OutputContainer, "add_mux_stream"):
        pytest.skip("this version of PyAV makes no file with subtitles")

    def more(out):
        stream = out.add_mux_stream(name)
        stream.metadata["language"] = "deu"
        stream.time_base = Fraction(1, 1000)

        def finish():
            packet = av.Packet((struct.pack(">H", 5) if name == "mov_text" else b"") + b"Hallo")
            packet.stream, packet.time_base, packet.duration = stream, Fraction(1, 1000), 100
            packet.pts = packet.dts = 40
            out.mux(packet)

        return finish

    source = clip(tmp_path / ("a.mp4" if name == "mov_text" else "a.mkv"), more=more)
    target, notes = rewritten(source)
    with av.open(str(target)) as container:
        kept = container.streams.subtitles
        texts = [bytes(p) for s in kept for p in container.demux(s)]
    if name == "mov_text":
        assert notes == [] and [s.language for s in kept] == ["deu"]
        assert any(text.endswith(b"Hallo") for text in texts)
    else:
        assert not kept and len(notes) == 1
        assert "subtitles (" in notes[0] and "deu" in notes[0]


@pytest.mark.parametrize(
    ("suffix", "codec", "sound"),
    [("mp4", "libx264", "aac"), ("mkv", "libx264", "aac"), ("ts", "mpeg2video", "aac"),
     ("avi", "mpeg4", "pcm_u8"), ("mov", "libx264", "pcm_s16be")],
)  # fmt: skip
def test_sound_stays_with_the_pictures(tmp_path, suffix, codec, sound):
    source = clip(tmp_path / f"a.{suffix}", codec, count=20, sounds=[(sound, {})])
    target, _ = rewritten(source)
    apart = []
    for path in (source, target):
        starts = []
        for kind in ("audio", "video"):
            with av.open(str(path)) as container:
                # Versions differ in whether they show an encoder's run-up, before zero.
                times = (frame.time for frame in container.decode(**{kind: 0}))
                starts.append(next(time for time in times if time >= 0))
        apart.append(starts[0] - starts[1])
    assert apart[0] == pytest.approx(apart[1], abs=0.002)


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of Linux stands in for a full disk")
def test_a_full_disk_is_the_systems_error_and_leaves_nothing(tmp_path):
    import resource

    source = clip(tmp_path / "a.mp4", count=30, options={"crf": "0"})
    target = tmp_path / "out" / "b.mp4"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        with pytest.raises(OSError, match=r"b\.mp4"):
            rewrite_video(source, target, untouched, crf=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(target.parent.iterdir()) == []


def test_interlaced_and_hdr_are_told(tmp_path):
    source = clip(tmp_path / "a.mpg", "mpeg2video", options={"flags": "+ildct+ilme"})
    assert any("interlaced" in n for n in rewritten(source)[1])

    def setup(stream):
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = 16, 9, 9

    source = clip(tmp_path / "a.mp4", layout="yuv420p10le", setup=setup)
    target, notes = rewritten(source)
    assert any("HDR (PQ)" in n for n in notes)
    with av.open(str(target)) as container:
        context = container.streams.video[0].codec_context
        got = (context.color_trc, context.color_primaries, context.colorspace)
    assert got == (16, 9, 9)


# ---- times


@pytest.mark.parametrize(
    "at",
    [[0, 40, 95, 120, 400, 410], [1400, 1440, 1480, 1520, 1560, 1600], [7, 8, 9, 10, 11, 3600]],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_times_are_kept(tmp_path, at, suffix):
    source = clip(tmp_path / f"a.{suffix}", at=at, time_base=Fraction(1, 1000))
    target, notes = rewritten(source)
    assert notes == []
    times = []
    for path in (source, target):
        with av.open(str(path)) as container:
            times.append([round(1000 * frame.time) for frame in container.decode(video=0)])
    assert times[0] == times[1]


# ---- what is damaged or hostile


@pytest.mark.parametrize("suffix", ["ffconcat", "m3u8", "mp4"])
def test_a_list_of_other_files_is_not_followed(tmp_path, suffix):
    clip(tmp_path / "secret.mp4", count=2)
    lists = {
        "ffconcat": "ffconcat version 1.0\nfile secret.mp4\n",
        "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    }
    path = tmp_path / f"list.{suffix}"
    path.write_text(lists.get(suffix, lists["ffconcat"]))
    for source in (path, io.BytesIO(path.read_bytes())):
        with pytest.raises(FacewrightError, match="cannot be read as a video"):
            list(read_frames(source))


@pytest.mark.parametrize("name", ["a:b.mp4", "http:x.mp4", "%03d.mp4", "[x] 'y'.mp4"])
def test_names_are_no_addresses(tmp_path, name):
    source = clip(tmp_path / "a.mp4", count=2).rename(tmp_path / name)
    assert frame_count(source) == len(list(read_frames(source))) == 2


def test_a_damaged_piece_costs_itself_alone(tmp_path):
    source = clip(tmp_path / "a.mov", "png", "rgb24", count=30)
    data = bytearray(source.read_bytes())
    starts = [i for i in range(len(data)) if data[i : i + 4] == b"\x89PNG"]
    data[starts[7] : starts[7] + 90] = bytes(90)
    source.write_bytes(data)
    seen = []
    target = source.with_name("new.mp4")
    notes = rewrite_video(source, target, lambda i, x: seen.append(len(x)) or [None] * len(x))
    assert sum(seen) == len(list(read_frames(target))) == 29
    assert any("damaged" in n for n in notes), notes


def test_a_file_cut_short_says_so(tmp_path):
    source = clip(tmp_path / "a.mp4", "mpeg4", count=30, muxer={"movflags": "faststart"})
    data = source.read_bytes()
    source.write_bytes(data[: len(data) * 2 // 3])
    target, notes = rewritten(source)
    left = len(list(read_frames(target)))
    assert 0 < left < 30 and any(f"30 frames; {left} could be read" in n for n in notes), notes


def test_a_header_that_asks_for_too_much_is_refused(tmp_path):
    source = clip(tmp_path / "a.avi", "rawvideo", "bgr24", count=2)
    data = bytearray(source.read_bytes())
    at = data.index(b"strf") + 12
    data[at : at + 8] = struct.pack("<ii", 20000, 3000)
    source.write_bytes(data)
    with pytest.raises(FacewrightError, match="20000x3000"):
        list(read_frames(source))


def sample_videos(folder):
    sound = [("aac", {"language": "deu"})]
    made = [
        clip(folder / "a.mp4", sounds=sound, tags={"title": "T"}),
        clip(folder / "b.mkv", sounds=sound),
        clip(folder / "c.mov", "qtrle", "argb"),
        clip(folder / "d.avi", "mjpeg", "yuvj422p", sounds=[("pcm_u8", {})]),
        clip(folder / "e.ts", "mpeg2video", sounds=sound),
        clip(folder / "f.gif", "gif", "rgb8"),
        clip(folder / "g.webm", "libvpx-vp9", count=3),
    ]
    return [path.read_bytes() for path in made]


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return sample_videos(tmp_path_factory.mktemp("samples"))


def mutated(data, rng):
    data = bytearray(data)
    how = rng.randrange(4)
    if how == 0:
        return bytes(data[: rng.randrange(len(data))])
    if how == 1:
        for _ in range(rng.choice((1, 4, 30, 300))):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif how == 2:
        at = rng.randrange(len(data))
        del data[at : at + rng.randrange(200)]
    else:  # headers lie at either end
        for _ in range(rng.choice((1, 2, 5))):
            at = rng.randrange(min(len(data), 1500))
            data[at if rng.random() < 0.5 else len(data) - 1 - at] = rng.randrange(256)
    return bytes(data)


def try_broken(samples, seed, folder):
    """True for a video, False for a sentence; anything else is raised."""
    rng = random.Random(seed)
    source = io.BytesIO(mutated(rng.choice(samples), rng))
    try:
        frame_count(source)
        notes = rewrite_video(source, folder / "new.mp4", lambda i, x: [1 - f for f in x], crf=40)
    except FacewrightError as error:
        assert str(error)[0].isupper() and str(error).rstrip()[-1] in ".4", str(error)
        assert "Traceback" not in str(error) and ".tmp" not in str(error)
        return False
    assert all(isinstance(note, str) and note for note in notes)
    assert next(iter(read_frames(folder / "new.mp4"))).shape[0] == 3
    return True


@pytest.mark.parametrize("seed", range(30))
def test_broken_bytes_give_a_video_or_a_sentence(samples, tmp_path, seed):
    try_broken(samples, seed, tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".tmp"]


@pytest.mark.slow
def test_many_broken_bytes_give_a_video_or_a_sentence(samples, tmp_path):
    good = sum(try_broken(samples, seed, tmp_path) for seed in range(100, 5100))
    assert 500 < good < 4500
