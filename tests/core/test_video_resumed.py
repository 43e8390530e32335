"""Videos that were interrupted go on, and come out as if they had not been."""

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from facewright.core.errors import FacewrightError
from facewright.core.pipeline import resuming
from facewright.core.pipeline.options import RestoreOptions
from facewright.core.pipeline.pictures import Restorer
from facewright.core.pipeline.videos import restore_video
from facewright.core.video import segments
from facewright.core.video.files import rewrite_video, write_video
from facewright.core.video.parts import Parts, parts_folder
from facewright.core.video.segments import Packets, Resumed

from .test_restore_options import FRAMES, Markers, Painter, alice, photo, recogniser
from .test_video import decoded, sound_packets_of, write
from .test_video import frames_of as smooth

__all__ = ["alice", "photo", "recogniser"]  # fixtures
av = pytest.importorskip("av")
UNEVEN = [0, 40, 80, 85, 90, 700, 704, 708, *range(2000, 2000 + 33 * 40, 33)]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    for module in (segments, resuming):
        monkeypatch.setattr(module, "SEGMENT", 8)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


class Interrupted(BaseException):
    pass


def frames_of(count):
    # Of small frames some builds of x264 make other bytes now and then, whoever interrupts: of 192
    # x 144, 320 x 240 and 400 x 144 too, not of these sides in 20 runs.
    return smooth(count, 144, 256)


def brighter(first, frames):
    return [
        (frame + 0.1).clamp(0, 1) if (first + i) % 3 else None for i, frame in enumerate(frames)
    ]


def in_segments(source, target, stop_at=None, key=None, **how):
    """As a run does it; `stop_at`: the frame at which it is cut short."""
    parts, state, done = Parts(parts_folder(target), key or {}), [], []

    def change(first, frames):
        state.append(first)
        if stop_at is not None and first <= stop_at < first + len(frames):
            raise Interrupted
        return brighter(first, frames)

    resumed = Resumed(
        parts, list[int], lambda: state, lambda found: state.extend(found), done.append
    )
    notes = rewrite_video(source, target, change, resumed=resumed, **how)
    parts.remove()
    return notes, state, sum(done)


@pytest.mark.parametrize("pts", [None, UNEVEN[:45]])
@pytest.mark.parametrize("crf", [0, 20])
def test_joined_segments_are_the_video_as_it_is_otherwise(tmp_path, pts, crf):
    source = write(tmp_path / "a.mp4", frames_of(45), sound=True, pts=pts)
    whole, joined = tmp_path / "whole.mp4", tmp_path / "joined.mp4"
    assert (
        rewrite_video(source, whole, brighter, crf=crf) == in_segments(source, joined, crf=crf)[0]
    )
    assert sound_packets_of(whole) == sound_packets_of(joined)
    (a, b), (times, others) = zip(*decoded(whole), strict=True), zip(*decoded(joined), strict=True)
    for mine, theirs in zip(a, times, strict=True):
        assert abs(mine - theirs).max() <= (0 if crf == 0 else 40)
    assert b == others, "shown when they were"
    for path in (whole, joined):
        with av.open(str(path)) as container:
            packets = [p for p in container.demux(video=0) if p.size]
            assert all(p.dts <= p.pts for p in packets)
            about = [(container.duration, container.streams.video[0].frames)]
    assert about == about[:1] and about[0][1] == 45


@pytest.mark.parametrize("stops", [[0], [7], [8], [20], [44], [3, 11, 12, 40]])
def test_it_does_not_matter_where_it_was_interrupted(tmp_path, stops):
    source = write(tmp_path / "a.mp4", frames_of(45), sound=True, pts=UNEVEN[:45])
    in_segments(source, tmp_path / "once/a.mp4")
    target = tmp_path / "often/a.mp4"
    done = 0
    for stop in stops:
        with pytest.raises(Interrupted):
            in_segments(source, target, stop_at=stop)
        assert not target.exists()
        assert stop < 8 or [p.name for p in target.parent.iterdir()] == [".a.mp4.parts"]
    _, state, done = in_segments(source, target)
    assert done == stops[-1] // 8 * 8, "no more than the segment is lost"
    assert state == list(range(0, 45, 8)), "the state of each segment follows the one before"
    assert target.read_bytes() == (tmp_path / "once/a.mp4").read_bytes()
    assert [p.name for p in target.parent.iterdir()] == ["a.mp4"]


def test_parts_that_are_damaged_foreign_or_of_something_else_are_made_again(tmp_path):
    source = write(tmp_path / "a.mp4", frames_of(45), sound=True)
    in_segments(source, tmp_path / "once.mp4")
    once, target = (tmp_path / "once.mp4").read_bytes(), tmp_path / "a2.mp4"
    folder = parts_folder(target)

    def interrupted(change):
        with pytest.raises(Interrupted):
            in_segments(source, target, stop_at=44)
        change({p.name: p for p in folder.iterdir()})
        _, _, done = in_segments(source, target)
        assert target.read_bytes() == once
        target.unlink()
        return done

    name = "segment-00000{}.safetensors"
    assert interrupted(lambda files: None) == 40
    assert interrupted(lambda files: files[name.format(2)].write_bytes(b"")) == 16
    assert interrupted(lambda files: files[name.format(0)].unlink()) == 0

    def cut(files):
        path = files[name.format(3)]
        path.write_bytes(path.read_bytes()[:-1])

    assert interrupted(cut) == 24

    def lie(files):
        found = Parts(folder, {}).load("segment-000001", tuple[Packets, list[int]])
        Parts(folder, {}).save(
            "segment-000001", (Packets(8, found[0].data[1:], found[0].about), [])
        )

    assert interrupted(lie) == 8
    with pytest.raises(Interrupted):
        in_segments(source, target, stop_at=44, key={"crf": 1, "weights": "a"})
    parts = Parts(folder, {"crf": 1, "weights": "b"})
    assert "made otherwise (other: weights); it was begun anew" in parts.note
    assert not folder.exists()
    parts.save("x", 1)
    (folder / "key.safetensors").write_bytes(b"x")
    assert "other: key" in Parts(folder, {}).note and not Parts(folder, {}).note
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(once[:40])
    with pytest.raises(FacewrightError):
        in_segments(broken, target)
    assert not folder.exists() and not target.exists(), "nothing is left of what cannot be done"


def test_a_link_in_place_of_the_parts_is_replaced_not_followed(tmp_path):
    source, target = write(tmp_path / "a.mp4", frames_of(20)), tmp_path / "b.mp4"
    mine = tmp_path / "mine"
    with pytest.raises(Interrupted):
        in_segments(source, target, stop_at=19)
    parts_folder(target).rename(mine)
    parts_folder(target).symlink_to(mine)
    kept = {path.name: path.read_bytes() for path in mine.iterdir()}
    assert in_segments(source, target)[2] == 0
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4", "mine"]


def film(path):
    """Frames whose markers survive the codec."""
    frames = [F.pad(frame, (48, 48, 40, 40)) for frame in FRAMES * 3]
    write_video(path, frames, Fraction(25), crf=0, rgb=True, sound=(torch.rand(1, 8000), 8000))
    return path


@pytest.mark.parametrize(
    "stops", [[20, 37], *(pytest.param(s, marks=pytest.mark.slow) for s in ([26, 30], [45, 53]))]
)
def test_receipts_and_fading_outlive_an_interruption(tmp_path, stops, recogniser, alice):
    """In the first pass and in the second one, whose state follows from all frames before."""
    source = film(tmp_path / "a.mp4")
    options = RestoreOptions(
        people=[alice], color="lab", mask="oval", max_drift=0.3, fade=20, receipts=True, seed=3
    )

    def run(target, stop=None):
        parts, steps = Parts(parts_folder(target), {}), []

        def on_frames(count):
            steps.extend(range(count))
            if stop is not None and len(steps) > stop:
                raise Interrupted

        restorer = Restorer(Painter(recogniser), Markers())
        done = restore_video(restorer, source, target, options, on_frames=on_frames, parts=parts)
        parts.remove()
        return done, len(steps)

    once, steps = run(tmp_path / "once.mp4")
    assert once.guard.held_back and steps == 54
    target = tmp_path / "often.mp4"
    for stop in stops:
        with pytest.raises(Interrupted):
            run(target, stop)
    often, steps = run(target)
    assert steps == 54
    assert target.read_bytes() == (tmp_path / "once.mp4").read_bytes()
    assert often.guard.json == once.guard.json and often.report == once.report
    assert all(torch.equal(a, b) for a, b in zip(once.shown, often.shown, strict=True))
    assert not parts_folder(target).exists()
    assert any("Went on where an earlier run was cut short" in n for n in often.notes)


def test_without_parts_nothing_is_kept_and_nothing_lies_about(tmp_path, recogniser):
    restorer = Restorer(Painter(recogniser), Markers())
    done = restore_video(restorer, film(tmp_path / "a.mp4"), tmp_path / "b.mp4", RestoreOptions())
    assert done.faces and {p.name for p in tmp_path.iterdir()} == {"a.mp4", "b.mp4"}
