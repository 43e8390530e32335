"""With what results were made: what is made again, what is kept, and what is never overwritten."""

import json

import pytest
import torch
from facewright.core.images import Picture, read_picture, write_picture
from facewright.core.people.person import Person
from facewright.core.pipeline.options import RestoreOptions
from facewright.headless.cli import app
from facewright.headless.jobs.manifest import Manifest
from facewright.headless.make import restore_files, restore_settings
from facewright.headless.make.restore_files import RestoreFile, RestorerChoice
from facewright.headless.make.restore_run import RestoreRun
from facewright.headless.make.restore_settings import Settings, album_mark

from .restore_doubles import cli, done, doubles, picture, runner, video

__all__ = ["doubles"]  # a fixture


@pytest.fixture
def folder(tmp_path):
    for k, name in enumerate("abc"):
        picture(tmp_path / f"in/{name}.png", k)
    return tmp_path / "in"


def records(out):
    lines = (out / "restore.jsonl").read_text().splitlines()
    return {record["output"]: record for record in map(json.loads, lines)}


def made(*args):
    return sorted(entry["output"].rpartition("/")[2] for entry in done(*args)["done"])


def test_other_options_make_results_again_and_say_so(folder, tmp_path):
    out = tmp_path / "out"
    done(folder, "-o", out)
    before = {name: (out / f"{name}.png").read_bytes() for name in "abc"}
    assert made(folder, "-o", out) == []
    result = cli(folder, "-o", out, "--strength", 0.5)
    assert "3 made again: --strength was 1.0, is 0.5" in result.stderr
    assert all((out / f"{name}.png").read_bytes() != before[name] for name in "abc")
    assert made(folder, "-o", out, "--strength", 0.5) == []
    again = done(folder, "-o", out)["done"]
    assert [entry["made_again"] for entry in again] == ["--strength was 0.5, is 1.0"] * 3
    assert {name: (out / f"{name}.png").read_bytes() for name in "abc"} == before
    # What decides no pixel is no reason, nor what videos alone have.
    assert made(folder, "-o", out, "--faces-at-once", 2, "--crf", 30, "--smoothing", 1) == []


def test_a_record_says_all_that_is_not_as_by_default(folder, tmp_path):
    done(folder, "-o", tmp_path / "out", "--color", "lab", "--seed", 7)
    record = records(tmp_path / "out")["a.png"]
    assert record["version"] and len(record["output_sha256"]) == len(record["input_sha256"]) == 12
    files = record["settings"].pop("files")
    assert record["settings"] == {
        "weights": "nano", "analyzer": "nano", "color": "lab", "seed": 7
    }  # fmt: skip
    assert files and all(name.endswith(".safetensors") for name in files)


def test_only_a_video_is_made_again_for_its_own_options(folder, tmp_path):
    video(folder / "v.mp4")
    done(folder, "-o", tmp_path / "out")
    again = done(folder, "-o", tmp_path / "out", "--crf", 20)["done"]
    assert [entry["made_again"] for entry in again] == ["--crf was 16, is 20"]
    assert again[0]["output"].endswith("v.mp4")


def test_what_was_changed_since_is_not_overwritten(folder, tmp_path):
    out = tmp_path / "out"
    done(folder, "-o", out)
    pixels = read_picture(out / "b.png").pixels.flip(-1)
    write_picture(out / "b.png", pixels, Picture(pixels))
    touched = (out / "b.png").read_bytes()
    assert made(folder, "-o", out) == []  # finished, as long as nothing else is asked for
    result = cli(folder, "-o", out, "--strength", 0.5)
    assert result.exit_code == 1
    said = " ".join(result.stderr.split())
    assert "b.png was changed since, but it should be made again (--strength was 1.0" in said
    assert "2 made again" in said and (out / "b.png").read_bytes() == touched
    assert len(made(folder, "-o", out, "--strength", 0.5, "--overwrite")) == 3
    assert (out / "b.png").read_bytes() != touched


def test_what_nobody_knows_is_not_overwritten(folder, tmp_path):
    out = tmp_path / "out"
    mine = picture(out / "a.png", 9).read_bytes()
    assert made(folder, "-o", out) == ["b.png", "c.png"]
    result = cli(folder, "-o", out, "--receipts")
    assert result.exit_code == 1 and (out / "a.png").read_bytes() == mine
    assert "was not written by this command" in " ".join(result.stderr.split())
    assert (out / "b.png.receipts.json").exists()


def test_records_without_settings_are_finished(folder, tmp_path):
    """As 0.1.0 wrote them, and what stands in a record may be anything."""
    out = tmp_path / "out"
    done(folder, "-o", out)
    lines = [{k: r[k] for k in ("output", "input", "input_sha256")} for r in records(out).values()]
    (out / "restore.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert made(folder, "-o", out, "--strength", 0.5) == []
    lines[0]["settings"] = {
        "strength": {"x": ["\x1b[31m" * 99]},
        "files": [1],
        "people": "eve",
        "?": 3,
    }
    (out / "restore.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = cli(folder, "-o", out)
    assert result.exit_code == 0 and "1 made again: " in result.stderr, result.stderr
    assert "\x1b" not in result.stderr
    lines[0]["settings"] = 5
    (out / "restore.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = cli(folder, "-o", out)
    assert result.exit_code == 2 and "has 5 in `settings`" in " ".join(result.stderr.split())


@pytest.mark.parametrize("first", [(), ("--strength", 0.7)])
def test_a_run_that_is_cut_short_leaves_nothing_to_be_mistaken(
    folder, tmp_path, monkeypatch, first
):
    """Between a result's taking its place and its record, and before its turn."""
    out, half = tmp_path / "out", ("--strength", 0.5)
    if first:
        done(folder, "-o", out, *first)
    own, count = Manifest.add, []

    def add(self, record):
        if count:
            raise KeyboardInterrupt
        count.append(own(self, record))

    monkeypatch.setattr(Manifest, "add", add)
    assert cli(folder, "-o", out, *half).exit_code != 0
    monkeypatch.setattr(Manifest, "add", own)
    left = records(out)
    assert "making" not in left["a.png"] and "making" in left["b.png"] and "making" in left["c.png"]
    assert (out / "b.png").exists(), "placed, not recorded"
    # Goes on: a and b are finished, c is not.
    doubles_again = made(folder, "-o", out, *half)
    assert doubles_again == ["c.png"]
    whole = tmp_path / "whole"
    done(folder, "-o", whole, *half)
    assert records(out) == records(whole), "all that a record says, of b, too"
    for name in "abc":
        assert (out / f"{name}.png").read_bytes() == (whole / f"{name}.png").read_bytes()
    assert made(folder, "-o", out) == ["a.png", "b.png", "c.png"], "b is known to be of half"


def test_of_a_source_that_changed_while_its_result_was_made_nothing_is_believed(
    folder, tmp_path, monkeypatch
):
    out, own = tmp_path / "out", Manifest.add

    def add(self, record):
        raise KeyboardInterrupt

    monkeypatch.setattr(Manifest, "add", add)
    assert cli(folder, "-o", out).exit_code != 0
    monkeypatch.setattr(Manifest, "add", own)
    picture(folder / "a.png", 9)
    result = cli(folder, "-o", out)
    assert result.exit_code == 1
    assert "restored from another file" in " ".join(result.stderr.split())
    line = json.loads((out / "restore.jsonl").read_text().splitlines()[0])
    for strange in (3, {}, {"input": "a.png"}, {**line, "settings": {}, "input_state": "x"}):
        (out / "restore.jsonl").write_text(json.dumps({**line, "making": strange}) + "\n")
        assert cli(folder, "-o", out).exit_code == 2


def test_what_is_beside_a_video_is_there_before_it(folder, tmp_path, monkeypatch):
    """A video that is there counts as finished."""
    source, out = video(tmp_path / "v/v.mp4"), tmp_path / "out"
    own = restore_files.write_picture

    def stopped(*args, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr(restore_files, "write_picture", stopped)
    assert cli(source.parent, "-o", out, "--compare").exit_code != 0
    assert not (out / "v.mp4").exists()
    monkeypatch.setattr(restore_files, "write_picture", own)
    assert made(source.parent, "-o", out, "--compare") == ["v.mp4"]
    assert sorted(p.name for p in out.iterdir()) == ["restore.jsonl", "v.mp4", "v_compare.png"]


@pytest.mark.parametrize("more", [(), ("--overwrite",), ("--strength", 0.5)])
def test_a_folder_in_place_of_a_result_costs_that_result_alone(folder, tmp_path, more):
    out = tmp_path / "out"
    done(folder, "-o", out)
    for name in "ab":
        (out / f"{name}.png").unlink()
    (out / "a.png").mkdir()
    result = cli(folder, "-o", out, *more)
    assert result.exit_code == 1 and (out / "b.png").is_file()
    assert "a.png: That is a folder, and a file is needed" in " ".join(result.stderr.split())


def test_what_was_left_of_a_record_being_written_goes(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.restore.jsonl.abcd1234.tmp").write_text("{")
    done(folder, "-o", tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_any_number_of_workers_writes_the_same_records(folder, tmp_path):
    args = ["restore", str(folder), "--weights", "nano", "--strength", "0.5", "-o"]
    for name, more in (("one", []), ("two", ["--workers", "1"])):
        assert runner.invoke(app, [*args, str(tmp_path / name), *more]).exit_code == 0
    files = [(tmp_path / name / "restore.jsonl").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]


# ---- settings


def album(name="eve", crop=0.0, **more):
    return Person(
        **{
            "name": name, "crops": torch.full((1, 3, 8, 8), crop), "embeddings": torch.eye(1, 96),
            "landmarks": torch.zeros(1, 68, 2), "quality": torch.ones(1), "recogniser": "r",
            "sources": ("1",), **more,
        }
    )  # fmt: skip


def settings(*, name="nano-honestface", **options):
    return Settings(RestorerChoice(name), RestoreOptions(**options))


def test_albums_and_photographs_count_by_what_is_in_them():
    ada, bo = album("ada"), album("bo", 0.5)
    before = settings(people=(ada, bo)).of(video=False)
    now = settings(people=(bo, ada))
    assert now.differing(before, now.of(video=False)) == ""
    for people, said in (
        ((ada, album("bo", 0.25)), "the album of bo is another now"),
        ((ada,), "the album of bo is not there now"),
        ((ada, bo, album("cy")), "the album of cy was not there"),
        ((), "the album of ada, bo is not there now"),
    ):
        now = settings(people=people)
        assert now.differing(before, now.of(video=False)) == said
    before, now = (settings(references=(torch.full((3, 8, 8), v),)) for v in (0.1, 0.2))
    said = now.differing(before.of(video=False), now.of(video=False))
    assert said == "the photographs of --reference are others"
    assert album_mark(album(sources=("2",))) == album_mark(album()), "names of files decide nothing"


def test_weights_count_by_what_is_in_them(tmp_path, monkeypatch):
    """Also large ones, of which pieces are looked at."""
    path = tmp_path / "w.safetensors"
    monkeypatch.setattr(
        restore_settings, "spec_of",
        lambda name: type("Spec", (), {
            "options": None, "analyzer": "nano", "takes_people": False, "bundled": True,
            "find": lambda self, source: {"w": path} if path.exists() else {},
        })(),
    )  # fmt: skip
    content = bytearray(17 * 2**20)
    marks = []
    for at in (None, 0, len(content) // 2, len(content) - 1):
        if at is not None:
            content[at] ^= 1
        path.write_bytes(content)
        marks.append(settings(name="x").of(video=False))
    assert len({json.dumps(mark) for mark in marks}) > 2
    now = settings(name="x")
    said = "the file w.safetensors is another now"
    assert now.differing(marks[0], now.of(video=False)) == said
    # What was measured of a recogniser decides who is held back, and nothing else.
    held, plain = settings(name="x", false_match_rate=0.01).of(video=False), now.of(video=False)
    (tmp_path / "w.limits.json").write_text("{}")
    now = settings(name="x", false_match_rate=0.01)
    said = "the file w.limits.json was not there"
    assert now.differing(held, now.of(video=False)) == said
    assert settings(name="x").of(video=False) == plain
    path.unlink()
    now = settings(name="x")
    assert now.differing(marks[0], now.of(video=False)) == "", "told by who loads it"


def test_every_field_of_the_options_is_told_or_left_out_knowingly():
    from dataclasses import fields

    known = {f.name for f in fields(RestoreOptions)}
    assert known >= restore_settings._NO_PART | restore_settings._OF_VIDEOS


def test_a_correction_by_hand_makes_that_picture_again_and_no_other(folder, tmp_path):
    out = tmp_path / "out"
    done(folder, "-o", out)

    def left(**told):
        run = RestoreRun([str(folder)], out, [])
        by_file = {folder / f"{name}.png": texts for name, texts in told.items()}
        work = RestoreFile(RestorerChoice("nano"), RestoreOptions(), told=by_file)
        lines = run.hold_against(work)
        return [job.target.name for job in run.jobs if not run.finished(job)], lines

    assert left() == ([], [])
    again = (["b.png"], ["1 made again: --assign was not given, is 0=nobody, 1=Bo"])
    assert left(b=("1=Bo", "0=nobody")) == again
