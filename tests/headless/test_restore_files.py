"""`facewright restore` over pictures and videos together, with a method that needs no weights."""

import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from facewright.core.checkpoint import read_metadata
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.faces import AutoAnalyzer, Choice, choice_of
from facewright.core.faces.auto import Passed
from facewright.core.files.known import bundled_path
from facewright.core.images import read_picture
from facewright.core.methods import spec_of
from facewright.core.methods.honestface import NANO_FILES
from facewright.core.people.person import Person
from facewright.core.pipeline.options import RestoreOptions
from facewright.headless.cli import app
from facewright.headless.make import restore as restore_module
from facewright.headless.make import restore_files
from facewright.headless.make.restore import Restorer, check_albums, load_restorer
from facewright.headless.make.restore_files import RestorerChoice

from .restore_doubles import OneFace, Remembers, cli, done, doubles, picture, runner, video

__all__ = ["doubles"]  # a fixture


def test_rotations_reach_the_analyzer_in_every_process(tmp_path, monkeypatch):
    asked, own = [], restore_files.load_restorer

    def load(name, *, rotations, **more):
        asked.append(rotations)
        return own(name, **more)

    monkeypatch.setattr(restore_files, "load_restorer", load)
    for given in ([], ["--rotations"]):
        done(picture(tmp_path / "a.png"), "-o", tmp_path / "out", "--overwrite", *given)
    pickle.loads(pickle.dumps(RestorerChoice("osdface", rotations=True))).restorer  # noqa: B018
    assert asked == [False, True, True]


def test_what_auto_chose_goes_to_other_processes(tmp_path, monkeypatch):
    """And why no face was found is told of each picture, in one process and in two."""
    asked, own = [], restore_files.load_restorer
    choice = Choice("skimage", None, (Passed("mediapipe", "its file is not there"),))

    def load(name, *, analyzer=None, **more):
        asked.append(analyzer)
        loaded = own(name, **more)
        found = loaded.analyzer if analyzer else AutoAnalyzer(loaded.analyzer, choice)
        return replace(loaded, analyzer=found)

    monkeypatch.setattr(restore_files, "load_restorer", load)
    first = RestorerChoice("osdface")
    assert choice_of(first.restorer.analyzer)
    other = pickle.loads(pickle.dumps(first.unloaded()))
    assert choice_of(other.restorer.analyzer) == choice_of(first.restorer.analyzer)
    assert asked == [None, "skimage"] and other.unloaded().chosen == choice
    reports = [
        c.restorer.restore(torch.rand(3, 40, 40), RestoreOptions(min_size=99)).report
        for c in (first, other)
    ]
    assert reports[0] == reports[1]
    lines = reports[0].splitlines()
    assert lines[0].startswith("1 face found by fake, smaller than 99 px (16 px); it passes")
    assert lines[
        1
    ] == "Faces are looked for by skimage, because its file is not there; skimage " + (
        "finds fewer faces, upright frontal ones, and no points in them."
    )
    result = cli(picture(tmp_path / "a.png"), "-o", tmp_path / "out", "--min-size", 99)
    assert result.stderr.count("looked for by skimage") == 1, "at the start, for all pictures"
    assert "a.png: " in result.stderr and "smaller than 99 px" in result.stderr


def test_a_video_a_picture_and_a_folder(tmp_path):
    import av
    from facewright.core.video.files import read_frames

    clip, photo = video(tmp_path / "clip.mov.mp4"), picture(tmp_path / "photo.png")
    picture(tmp_path / "folder/sub/a.png")
    video(tmp_path / "folder/b.mkv".replace("mkv", "mp4"))
    out = tmp_path / "out"
    args = (clip, photo, tmp_path / "folder", "-o", out)
    more = ("--receipts", "--compare", "--max-drift", 2, "--crf", 0)
    summary = done(*args, *more)
    made = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    results = ["b.mp4", "clip.mov.mp4", "photo.png", "sub/a.png"]
    assert made == sorted(
        [
            *results,
            *(f"{name}.receipts.json" for name in results),
            *(str(Path(name).with_suffix("")) + "_compare.png" for name in results),
            "restore.jsonl",
        ]
    )
    by_name = {Path(entry["input"]).name: entry for entry in summary["done"]}
    assert all(entry["faces"] == 1 and len(entry["receipts"]) == 1 for entry in by_name.values())
    assert by_name["clip.mov.mp4"]["receipts"][0]["frames"]["count"] == 4
    with av.open(str(out / "clip.mov.mp4")) as container:
        (sound,) = container.streams.audio
        assert sum(frame.samples for frame in container.decode(sound)) >= 4000
    before, after = (torch.stack(list(read_frames(f / "clip.mov.mp4"))) for f in (tmp_path, out))
    inside, corner = (slice(None), slice(None), slice(17, 23), slice(21, 27)), (..., slice(3), 0)
    assert (before[inside] - after[inside]).abs().mean() > 0.05
    assert (before[corner] - after[corner]).abs().max() < 0.02
    pair = read_picture(out / "clip.mov_compare.png").pixels
    assert pair.shape[-1] > 2 * 48

    again = done(*args, *more)
    assert not again["done"] and len(again["skipped"]) == 4
    (out / "clip.mov.mp4").unlink()
    assert [entry["input"] for entry in done(*args, *more)["done"]] == [str(clip)]
    assert "1 video with 1 face" in cli(clip, "-o", tmp_path / "x.mp4").stderr


def test_a_file_without_a_face_is_told_on_one_line():
    from facewright.headless.cli.restore import _about

    entry = {"faces": 0, "report": "3 frames\n0 faces restored", "notes": []}
    assert _about(entry) == ["3 frames; 0 faces restored"]


def test_a_video_is_written_to_a_folder_or_an_mp4(tmp_path):
    clip = video(tmp_path / "clip.mp4")
    result = cli(clip, "-o", tmp_path / "x.png")
    assert result.exit_code == 2 and ".mp4" in result.stderr
    assert done(clip, "-o", tmp_path / "x.mp4")["done"][0]["output"] == str(tmp_path / "x.mp4")
    assert not (tmp_path / "restore.jsonl").exists()
    photo = picture(tmp_path / "photo.png")
    for name, source, words in (
        ("x.mkv", clip, "a name that ends in .mp4"),
        ("x.mov", photo, "a name that ends in .png"),
        ("x.MP4", tmp_path, "3 files cannot be written to one file"),
    ):
        result = cli(source, "-o", tmp_path / name)
        assert result.exit_code == 2 and words in result.stderr.replace("\n", " ")
        assert not (tmp_path / name).exists()


def test_without_pyav_the_pictures_are_restored(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/clip.mp4").write_bytes(b"a video")
    picture(tmp_path / "in/a.png")
    monkeypatch.setitem(sys.modules, "av", None)
    result = cli(tmp_path / "in", "-o", tmp_path / "out")
    assert result.exit_code == 1 and "pip install av" in result.stderr
    assert (tmp_path / "out/a.png").exists() and "1 of 2 files failed" in result.stderr
    monkeypatch.setattr(restore_files, "load_restorer", lambda *a, **k: pytest.fail("loaded"))
    assert cli(tmp_path / "in/clip.mp4", "-o", tmp_path / "out").exit_code == 1


def test_a_picture_that_comes_later_is_not_taken_for_finished(tmp_path):
    """Its name was given to the result of another, which now goes by a name of its own."""
    folder, out = tmp_path / "in", tmp_path / "out"
    picture(folder / "a.png", 1)
    (folder / "a.png").rename(folder / "a.gif")
    done(folder, "-o", out)
    first = (out / "a.png").read_bytes()
    picture(folder / "a.png", 2)
    summary = done(folder, "-o", out)
    assert {Path(entry["output"]).name for entry in summary["done"]} == {"a.png", "a_gif.png"}
    assert (out / "a.png").read_bytes() != first
    assert not done(folder, "-o", out)["done"]
    records = [json.loads(line) for line in (out / "restore.jsonl").read_text().splitlines()]
    pairs = [(r["output"], r["input"]) for r in records]
    assert pairs == [("a.png", "a.png"), ("a_gif.png", "a.gif")]  # in order, whoever did it when


def test_a_result_of_another_picture_is_kept(tmp_path):
    out = tmp_path / "out"
    one, other = picture(tmp_path / "1/a.png", 1), picture(tmp_path / "2/a.png", 2)
    done(one, "-o", out)
    first = (out / "a.png").read_bytes()
    result = cli(other, "-o", out)
    assert result.exit_code == 1 and "was restored from another file" in result.stderr
    assert (out / "a.png").read_bytes() == first
    assert done(other, "-o", out, "--overwrite")["done"]
    assert not done(other, "-o", out)["done"]


def test_results_without_a_record_are_finished(tmp_path):
    """As earlier versions left them."""
    source, out = picture(tmp_path / "a.png"), tmp_path / "out"
    done(source, "-o", out)
    (out / "restore.jsonl").unlink()
    assert not done(source, "-o", out)["done"] and not (out / "restore.jsonl").exists()
    (out / "restore.jsonl").write_text("damaged\n")
    result = cli(source, "-o", out)
    assert result.exit_code == 2 and "Delete that line and the result" in result.stderr


def test_a_methods_own_options_reach_it_and_no_other(tmp_path):
    source = picture(tmp_path / "a.png")
    args = ["restore", str(source), "-o", str(tmp_path / "b.png"), "--weights", "nano-flipnet"]
    result = runner.invoke(app, [*args, "--phi", "0.5", "--no-face-tokens"])
    assert result.exit_code == 0, result.output
    (given,) = Remembers.given
    kind = spec_of("nano-flipnet").options
    assert given == replace(kind(), phi=0.5, face_tokens=False)
    for wrong, words in (
        (["--phi", "7"], "`phi` should be"),
        (["--weights", "nano", "--phi", "0.5"], "--phi is for flipnet or nano-flipnet"),
    ):
        result = runner.invoke(app, [*args, *wrong])
        assert result.exit_code == 2 and words in result.stderr
    shown = " ".join(
        runner.invoke(app, ["restore", "--help"])
        .stdout.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ")
        .split()
    )
    assert "--phi" in shown and "honestface, which looks at photos" in shown


# ---- before anything large is loaded


def test_all_that_is_missing_is_named_before_anything_is_loaded(tmp_path, monkeypatch):
    """Weights, who compares faces, and a detector with landmarks."""
    with pytest.raises(CheckpointError) as refusal:
        load_restorer("osdface", tmp_path, measured=True)
    for words in (
        "v2-1_512-ema-pruned.safetensors",
        "pytorch_lora_weights.safetensors",
        "backbone.pth",
        "gives no dense landmarks",
    ):
        assert words in str(refusal.value)


def test_what_receipts_need_is_looked_for_before_the_weights_are_loaded(osdface_files, monkeypatch):
    def load(*args, **kwargs):
        pytest.fail("weights were loaded")

    spec = replace(spec_of("osdface"), build=load)
    monkeypatch.setattr(restore_module, "spec_of", lambda name: spec)
    with pytest.raises(FacewrightError, match="no dense landmarks"):
        load_restorer("osdface", osdface_files, measured=True)
    monkeypatch.setattr(restore_module, "load_analyzer", lambda name, **needs: OneFace())
    with pytest.raises(CheckpointError, match=r"backbone\.pth"):
        load_restorer("osdface", osdface_files, measured=True)


def test_an_album_of_another_recogniser_is_refused_by_the_headers_of_files():
    album = Person(
        name="eve", crops=torch.zeros(1, 3, 8, 8), embeddings=torch.eye(1, 96),
        landmarks=torch.zeros(1, 68, 2), quality=torch.ones(1), recogniser="arcface-r50:0",
        sources=("1",),
    )  # fmt: skip
    with pytest.raises(FacewrightError, match="album of eve was made with the recogniser arcface"):
        check_albums("nano-honestface", [album])
    said = json.loads(read_metadata(bundled_path(NANO_FILES[0]))["facewright.config"])
    check_albums("nano-honestface", [replace(album, recogniser=said["recogniser"])])
    check_albums("honestface", [album])  # nothing is there: who loads it says so


def test_names_of_the_manual():
    from facewright import headless
    from facewright.core.people import recogniser
    from facewright.core.recognition import load_recogniser  # as 0.1.0 had it, like what follows
    from facewright.headless.remote import server
    from facewright.headless.restore import Restorer as Old
    from facewright.headless.server import run_on_server
    from facewright.headless.workflow import read_workflow
    from facewright.headless.workflows import workflow

    assert headless.load_restorer is load_restorer and Old is Restorer
    assert load_recogniser is recogniser.load_recogniser
    assert run_on_server is server.run_on_server and read_workflow is workflow.read_workflow
    assert headless.RestoreOptions(color="lab").color == "lab"
    with pytest.raises(FacewrightError, match="known: osdface"):
        load_restorer("nana")
