"""Frames through the nodes: whose face is whose, what passes through, progress, stopping."""

from types import SimpleNamespace

import pytest
import torch
from facewright.core.faces import Face
from facewright.headless.host.host import HeadlessHost
from facewright.headless.host.videos import VideoFile
from facewright.nodes.faces import DetectFaces, PasteFaces
from facewright.nodes.frames import RestoreVideo, SmoothFaces
from facewright.nodes.one_step import OneStepRestore

SIDE = 40


class Told:
    """Finds in the n-th picture it sees the faces written down for that frame."""

    name = "told"

    def __init__(self, faces):
        self.faces, self.at = faces, 0

    def detect(self, image):
        self.at += 1
        return [
            Face((x - SIDE / 2, y - SIDE / 2, x + SIDE / 2, y + SIDE / 2), 0.9)
            for x, y in self.faces[(self.at - 1) % len(self.faces)]
        ]


# One face walks through; a second comes in frame 3 and goes after frame 7; nobody in 5 and 10, 11.
WALK = [[(40 + 4 * t, 60.0)] + ([(150.0, 60.0)] if 3 <= t <= 7 else []) for t in range(10)]
WALK[5] = []
FRAMES = [*WALK, [], []]


@pytest.fixture
def weightless(monkeypatch, backbone):
    monkeypatch.setattr(HeadlessHost, "backbone", lambda self, model, vae: backbone)
    monkeypatch.setattr(HeadlessHost, "latent", lambda self, model, z: {"samples": z})
    monkeypatch.setattr(HeadlessHost, "lacking", lambda self, model: "")


@pytest.fixture
def bars(monkeypatch):
    """Every progress bar: how much was announced, and what was told."""
    seen = []

    class Bar:
        def __init__(self, total):
            self.total, self.told = total, []
            seen.append(self)

        def update(self, n=1):
            self.told.append(n)

    monkeypatch.setattr(HeadlessHost, "progress", lambda self, total: Bar(total))
    return seen


def detect(frames, faces=FRAMES):
    return DetectFaces.execute(
        image=frames, analyzer=Told(faces), crop_size=64, order="left to right", pick="",
        min_size=0, min_score=0.0, max_faces=0, padding=0.0,
    ).result  # fmt: skip


def smooth(frames, faces, **options):
    values = {"strength": 0.5, "fill_gaps": 3, "fade": 0, "cut_threshold": 1.0} | options
    return SmoothFaces.execute(image=frames, faces=faces, **values).result


def restore(crops):
    return OneStepRestore.execute(
        model=None, vae=None, conditioning=[[torch.zeros(len(crops), 4, 8), {}]], image=crops,
        timestep=399, posterior="mean", seed=0, faces_at_once=4,
    ).result[0]  # fmt: skip


def paste(frames, faces, restored, color="none"):
    return PasteFaces.execute(
        image=frames, faces=faces, restored=restored, feather=0.12, color=color, strength=1.0
    ).result[:2]


def test_faces_come_back_to_their_own_frames(weightless, bars):
    """Each restored crop is painted in a colour of its own and looked for where its face was."""
    frames = torch.rand(12, 120, 200, 4)
    before = frames.clone()
    faces, crops, preview, count, report = detect(frames)
    expected = [t for t, of_frame in enumerate(FRAMES) for _ in of_frame]
    assert faces.image_index.tolist() == expected and count == len(crops) == len(expected) == 13
    assert restore(crops).shape == crops.shape
    painted = torch.linspace(0, 1, count).view(-1, 1, 1, 1).expand(-1, 64, 64, 3)
    image, mask = paste(frames, faces, painted)
    number = 0
    for t, of_frame in enumerate(FRAMES):
        for x, y in of_frame:
            where = image[t, int(y), int(x), :3]
            assert torch.allclose(where, torch.tensor(number / 12), atol=1e-5)
            number += 1
        if not of_frame:
            assert torch.equal(image[t], before[t]) and not mask[t].any()
        outside = mask[t] == 0
        assert torch.equal(image[t][outside], before[t][outside])
        assert torch.equal(image[t, ..., 3], before[t, ..., 3])
        top = slice(0, len(preview[t]) // 2)  # below, a frame without a face says why
        assert (preview[t][top] == before[t, top, :, :3]).all() == (not of_frame)
    assert torch.equal(frames, before)
    lines = report.splitlines()
    assert len(lines) == 12 and "no face found" in lines[5] and "2 faces" in lines[3]
    assert [(bar.total, sum(bar.told)) for bar in bars] == [(12, 12), (13, 13)]
    assert bars[0].told == [1] * 12


def test_smoothing_fills_in_and_leaves_frames_without_faces_alone(weightless, bars):
    frames = torch.rand(12, 120, 200, 3)
    faces = detect(frames)[0]
    steady, crops, count, report = smooth(frames, faces)
    assert count == 15 and len(crops) == 15 and "2 missed ones" in report  # both in frame 5
    assert steady.image_index.unique().tolist() == list(range(10))
    assert steady.tracks.number.unique().tolist() == [0, 1]
    image, mask = paste(frames, steady, restore(crops))
    assert torch.equal(image[10:], frames[10:]) and not mask[10:].any()
    assert bool((mask[:10].flatten(1).amax(1) > 0.9).all())
    assert bars[1].total == 12 and bars[1].told == [1] * 12


def test_colours_flicker_less_with_tracks_than_without(weightless):
    """Restored faces whose brightness jumps from frame to frame, as a restorer's may."""
    torch.manual_seed(2)
    faces_at = [[(100.0, 60.0)]] * 30
    level = 0.5 + 0.02 * torch.randn(30)
    frames = torch.full((30, 120, 200, 3), 0.5) + 0.1 * torch.rand(1, 120, 200, 3)
    faces, crops, *_ = detect(frames, faces_at)
    # The input's noise moves the gain that plain matching takes from frame to frame.
    restored = (crops - 0.5) * level.view(-1, 1, 1, 1) * 2 + 0.5
    noisy = faces.pixels + 0.03 * torch.randn(30, 1, 1, 1)
    faces.pixels = noisy.clamp(0, 1)
    steady = smooth(frames, faces)[0]
    steady.pixels = faces.pixels

    def flicker(of):
        image, _ = paste(frames, of, restored, color="adain")
        mean = image[:, 50:70, 90:110].mean((1, 2, 3))
        return (mean[1:] - mean[:-1]).abs().mean()

    assert flicker(steady) < 0.4 * flicker(faces)


@pytest.mark.parametrize("node", ["detect", "smooth"])
def test_the_stop_button_is_heard_between_frames(monkeypatch, node):
    frames = torch.rand(12, 120, 200, 3)
    faces = detect(frames)[0]
    asked = []

    def stop(self):
        asked.append(1)
        if len(asked) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(HeadlessHost, "check_interrupt", stop)
    with pytest.raises(KeyboardInterrupt):
        detect(frames) if node == "detect" else smooth(frames, faces)
    assert len(asked) == 4


def restore_video(path, faces, whole=False, **options):
    values = {
        "crop_size": 64, "smoothing": 0.5, "fill_gaps": 3, "fade": 3, "cut_threshold": 1.0,
        "strength": 1.0, "color": "none", "feather": 0.12, "min_size": 0, "min_score": 0.0,
        "order": "size", "max_faces": 0, "faces_at_once": 4, "crf": 0,
    }  # fmt: skip

    class Vre(torch.nn.Module):
        def forward(self, crops):
            return torch.zeros(len(crops), 4, 8)

    given = {"video": VideoFile(path), "vre": Vre(), "analyzer": Told(faces)} | values | options
    result = RestoreVideo.execute(model=None, vae=None, **given).result
    return result if whole else result[:2]


def test_a_video_is_restored_as_its_frames_are(weightless, bars, tmp_path):
    pytest.importorskip("av")
    from facewright.core.video.files import read_frames, write_video

    y, x = torch.meshgrid(torch.arange(120) / 120, torch.arange(200) / 200, indexing="ij")
    ripple = 0.5 + 0.3 * torch.sin(40 * x) * torch.cos(30 * y)
    write_video(tmp_path / "a.mp4", [torch.stack([x, y, ripple])] * 12, 25, crf=0)
    frames = torch.stack([f.permute(1, 2, 0) for f in read_frames(tmp_path / "a.mp4")])
    video, report = restore_video(tmp_path / "a.mp4", FRAMES)
    steady, crops, *_ = smooth(frames, detect(frames)[0], fade=3)
    expected, mask = paste(frames, steady, restore(crops))
    got = torch.stack([f.permute(1, 2, 0) for f in read_frames(video.path)])
    assert got.shape == frames.shape
    assert (got - expected).abs().mean() < 0.01 < (got - frames)[mask > 0.9].abs().mean()
    assert (got[10:] - frames[10:]).abs().max() < 0.01
    assert "12 frames" in report and "15 faces restored; 2 frames without a face" in report
    assert bars[0].total == 24 and sum(bars[0].told) == 24


def test_a_video_without_a_face_says_so(weightless, tmp_path, caplog):
    pytest.importorskip("av")
    from facewright.core.video.files import write_video

    write_video(tmp_path / "a.mp4", [torch.rand(3, 64, 64)] * 3, 25, crf=0)
    small = [(30, 30)]
    _, report = restore_video(tmp_path / "a.mp4", [[], small, []], min_size=64)
    summary = (
        "No face to work on in 3 of 3 frames: no face found by told (2 frames); 1 face found by "
        "told, smaller than 64 px (40 px) (1 frame)."
    )
    assert "0 faces restored; 3 frames without a face" in report and summary in report
    assert [m for m in caplog.messages if m.startswith(f"Restore Video: {summary}")]
    _, report = restore_video(tmp_path / "a.mp4", [[], small, []])
    assert "No face to work on" not in report


def test_frames_at_strength_0_are_the_source_bit_by_bit_and_losses_are_told(weightless, tmp_path):
    av = pytest.importorskip("av")
    source = tmp_path / "a.mkv"
    with av.open(str(source), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 200, 120, "yuva420p"
        for i in range(12):
            noise = torch.randint(256, (120, 200, 4), dtype=torch.uint8).numpy()
            frame = av.VideoFrame.from_ndarray(noise, format="rgba").reformat(format="yuva420p")
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    video, report = restore_video(source, FRAMES, strength=0.0)
    assert "15 faces restored" in report and "Transparency" in report.splitlines()[-1]

    def luma(path):
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.reformat(format="yuv420p").to_ndarray()

    pairs = list(zip(luma(source), luma(video.path), strict=True))
    assert len(pairs) == 12 and all((a == b).all() for a, b in pairs)


def test_frames_of_create_video_meet_no_codec_before_the_restorer(weightless, tmp_path):
    """Detector and restorer see the very numbers; at strength 0 and crf 0 they come out again."""
    pytest.importorskip("av")
    from facewright.core.video.files import read_frames
    from facewright.headless.host.videos import CreateVideo

    frames = torch.rand(12, 120, 200, 3)
    (video,) = CreateVideo.execute(images=frames, fps=25.0).result
    seen = []

    class Looking(Told):
        def detect(self, image):
            seen.append(image.clone())
            return super().detect(image)

    untouched, report = restore_video(None, FRAMES, video=video, strength=0.0)
    assert "15 faces restored" in report and "without any loss" in report
    got = torch.stack([f.permute(1, 2, 0) for f in read_frames(untouched.path)])
    assert torch.equal((got * 255).round(), (frames * 255).round())
    restore_video(None, FRAMES, video=video, analyzer=Looking(FRAMES))
    assert torch.equal(torch.stack(seen).permute(0, 2, 3, 1), frames)


def test_a_videos_faces_are_guarded_and_matched(weightless, tmp_path, monkeypatch):
    """What the node gets goes to the pipeline; what comes back goes out."""
    from facewright.core.pipeline import videos
    from facewright.core.video.files import write_video

    got = {}

    def restore(restorer, source, target, options, *, on_frames):
        got.update(restorer=restorer, options=options)
        write_video(target, [torch.rand(3, 16, 16)], 25)
        guard = SimpleNamespace(json="{}", held_back=["face 0: held back"])
        return SimpleNamespace(none="", report="told", notes=["a note"], guard=guard)

    monkeypatch.setattr(videos, "restore_video", restore)
    write_video(tmp_path / "a.mp4", [torch.rand(3, 120, 200)], 25)
    shared = {"recogniser": "judge", "crop_size": 96, "pick": "1", "padding": 0.2, "crf": 20}
    on = {"guard": "fall back", "max_drift": 0.7, "posterior": "sample", "seed": 9}
    report, receipts = restore_video(tmp_path / "a.mp4", FRAMES, **shared, **on, whole=True)[1:]
    assert receipts == "{}" and report.splitlines() == ["told", "face 0: held back", "a note"]
    options, restorer = got["options"], got["restorer"]
    assert (options.pick, options.padding, options.crf, options.seed) == ("1", 0.2, 20, 9)
    assert (options.max_drift, options.on_drift) == (0.7, "fall back")
    assert restorer.judge == "judge" and restorer.method.size == 96
    assert not restorer.method.takes_people and restorer.place is not None
    restore_video(tmp_path / "a.mp4", FRAMES, **shared)
    assert (got["options"].max_drift, got["options"].seed) == (None, None)


def test_the_moving_demo_is_the_group_seen_through_a_window():
    from facewright.nodes.nano import DemoPicture

    whole = DemoPicture.execute("group").result
    moving = DemoPicture.execute("moving group").result
    for still, frames in zip(whole, moving, strict=True):
        count, height, width, _ = frames.shape
        assert count == 16 and height % 2 == width % 2 == 0
        assert torch.equal(frames[0], still[0, :height, :width])
        assert torch.equal(frames[-1], still[0, :height, -width:])
