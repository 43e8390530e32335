"""`facewright degrade`: the same pixels whatever happens to the run."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
import torch
from facewright.core.degradation import Degradation
from facewright.core.errors import FacewrightError
from facewright.core.images import read_picture
from facewright.headless.cli import app
from facewright.headless.make.degrade import DegradeOptions, DegradeRun, picture_seed
from facewright.headless.make.picture_lists import is_list
from PIL import Image
from typer.testing import CliRunner

from ..core.hostile_files import mutated

MILD = DegradeOptions(preset="mild", seed=3)


def picture(path, mode="RGB", side=32, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = len(Image.new(mode, (1, 1)).getbands())
    data = np.random.default_rng(seed).integers(0, 256, (side, side, bands), dtype=np.uint8)
    Image.frombytes(mode, (side, side), data.tobytes()).save(path)


@pytest.fixture
def gt(tmp_path):
    for index, name in enumerate(("a.png", "b.jpg", "sub/a.png")):
        picture(tmp_path / "gt" / name, seed=index)
    return tmp_path / "gt"


def degrade(*args):
    return CliRunner().invoke(app, ["degrade", *map(str, args)])


def make(gt, out, options=MILD, **more):
    return DegradeRun([str(gt)], out, options, **more).carry_out()


def contents(folder):
    """Every file, hidden ones too, with its bytes."""
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in files.items()}


def records(out):
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def test_the_manifest_says_how_each_picture_came_about(gt, tmp_path):
    args = ["--preset", "mild", "--noise", "5:10", "--quality", 40, "--copies", 2, "--seed", 3]
    result = degrade(gt, "-o", tmp_path / "out", *args, "--json")
    assert result.exit_code == 0, result.stderr
    found = records(tmp_path / "out")
    outputs = ["a.png", "a_2.png", "b.png", "b_2.png", "sub/a.png", "sub/a_2.png"]
    assert [r["output"] for r in found] == outputs
    assert len({r["seed"] for r in found}) == 6
    for r in found:
        overrides = {"noise": [5 / 255, 10 / 255], "quality": [40, 40]}
        assert (r["preset"], r["base_seed"], r["overrides"]) == ("mild", 3, overrides)
        assert r["seed"] == picture_seed(3, r["input"], r["copy"])
        pixels = read_picture(gt / r["input"]).pixels[None]
        lq, recipes = Degradation.preset(r["preset"], **r["overrides"])(pixels, [r["seed"]])
        assert recipes[0] == r["recipe"]
        assert torch.equal(read_picture(tmp_path / "out" / r["output"]).pixels, lq[0])
    assert len(json.loads(result.stdout)["done"]) == 6


def test_seeds_are_sha_256():
    expected = int(hashlib.sha256(b"7/2/sub/a.png").hexdigest()[:12], 16)
    assert picture_seed(7, "sub/a.png", 2) == expected


def test_other_pictures_change_nothing(gt, tmp_path):
    make(gt, tmp_path / "x")
    (gt / "a.png").rename(gt / "z.png")
    picture(gt / "0.png", seed=9)
    make(gt, tmp_path / "y", DegradeOptions(preset="mild", seed=3, copies=2))
    x, y = contents(tmp_path / "x"), contents(tmp_path / "y")
    assert x["b.png"] == y["b.png"] and x["sub/a.png"] == y["sub/a.png"]
    assert len({y["b.png"], y["b_2.png"]}) == 2
    assert x["a.png"] != y["z.png"], "the seed knows the name"


def test_a_manifest_plays_back_exactly(gt, tmp_path):
    make(gt, tmp_path / "x", DegradeOptions(preset="gfpgan", seed=5, copies=2))
    manifest = tmp_path / "x/manifest.jsonl"
    assert degrade(gt, "-o", tmp_path / "y", "--recipe", manifest).exit_code == 0
    assert contents(tmp_path / "x") == contents(tmp_path / "y")
    elsewhere = manifest.read_text().replace('"output":"a', '"output":"../a')
    (tmp_path / "moved.jsonl").write_text(elsewhere)
    assert degrade(gt, "-o", tmp_path / "w", "--recipe", tmp_path / "moved.jsonl").exit_code == 0
    assert contents(tmp_path / "x") == contents(tmp_path / "w"), "names of results are our own"
    picture(gt / "new.png")
    result = degrade(gt, "-o", tmp_path / "z", "--recipe", manifest)
    assert result.exit_code == 2 and "no recipe for new.png" in result.stderr
    result = degrade(gt, "-o", tmp_path / "z", "--recipe", manifest, "--scale", 2)
    assert result.exit_code == 2


def sha(path):
    pixels = np.asarray(Image.open(path).convert("RGB"))
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def test_a_list_lets_others_make_the_same_test_set(gt, tmp_path):
    made, named = tmp_path / "x", tmp_path / "set.jsonl"
    args = ["--preset", "codeformer", "--seed", 4, "--copies", 2, "--noise", "0:9"]
    result = degrade(gt, "-o", made, *args, "--list", named)
    assert result.exit_code == 0 and "6 pictures" in result.stderr
    head, *lines = map(json.loads, named.read_text().splitlines())
    assert (head["format"], head["schema"], head["pictures"]) == ("facewright.test_set", 1, 6)
    assert [line["output"] for line in lines] == sorted(r["output"] for r in records(made))
    for line in lines:
        assert line["gt_pixels"] == sha(gt / line["input"])
        assert line["lq_pixels"] == sha(made / line["output"])
        assert line["seed"] == picture_seed(4, line["input"], line["copy"])
    assert degrade(gt, "-o", tmp_path / "y", "--recipe", named).exit_code == 0
    assert contents(made) == contents(tmp_path / "y")
    # Seeds alone are enough.
    for line in lines:
        for key in ("recipe", "gt_pixels", "output"):
            del line[key]
    short = tmp_path / "short.jsonl"
    short.write_text("\n".join(map(json.dumps, [head, *lines])))
    assert degrade(gt, "-o", tmp_path / "z", "--recipe", short).exit_code == 0
    assert contents(made) == contents(tmp_path / "z")
    assert degrade(gt, "-o", tmp_path / "z", "--recipe", short).exit_code == 0, "it goes on"


def test_a_list_tells_other_pictures_from_its_own(gt, tmp_path):
    named, out = tmp_path / "set.jsonl", tmp_path / "out"
    assert degrade(gt, "-o", tmp_path / "x", "--preset", "mild", "--list", named).exit_code == 0
    before = contents(tmp_path / "x")
    picture(gt / "a.png", seed=77)  # another picture of the name
    Image.open(gt / "sub/a.png").save(gt / "sub/a.png", compress_level=0)  # the same in other bytes
    (gt / "b.jpg").unlink()
    result = degrade(gt, "-o", out, "--recipe", named)
    words = " ".join(result.stderr.split())
    assert (
        result.exit_code == 1 and "a.png has other pixels than the picture that the list" in words
    )
    assert "1 picture (b.jpg). The test set will lack" in words
    assert not (out / "a.png").exists() and contents(out)["sub/a.png"] == before["sub/a.png"]
    text = named.read_text()
    known = json.loads(text.splitlines()[-1])["lq_pixels"]
    named.write_text(text.replace(known, "0" * 64))
    result = degrade(gt, "-o", tmp_path / "n", "--recipe", named)
    assert "sub/a.png came out with other pixels" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda head, line: head.update(schema=2), "of schema 2"),
        (lambda head, line: head.update(preset="nope"), "no degradation preset"),
        (lambda head, line: head.update(overrides={"name": 1}), "does not say a degradation"),
        (lambda head, line: head.update(overrides={"noise": [0, 20]}), "levels of 255"),
        (
            lambda head, line: (line.pop("recipe"), line.pop("seed")),
            "neither a `recipe` nor a `seed`",
        ),
        (lambda head, line: line.update(copy="one"), "Line 2 of"),
        (lambda head, line: line.update(input="new.png"), "does not list a.png"),
        (lambda head, line: line["recipe"].update(steps=[{"op": "melt"}]), "'melt'"),
    ],
)
def test_lists_that_are_wrong(tmp_path, change, words):
    picture(tmp_path / "gt/a.png")
    named = tmp_path / "set.jsonl"
    args = ["--preset", "mild", "--list", named]
    assert degrade(tmp_path / "gt", "-o", tmp_path / "x", *args).exit_code == 0
    head, line = map(json.loads, named.read_text().splitlines())
    change(head, line)
    named.write_text("\n".join(map(json.dumps, [head, line])))
    result = degrade(tmp_path / "gt", "-o", tmp_path / "y", "--recipe", named)
    assert result.exit_code in (1, 2) and words in " ".join(result.stderr.split())
    assert not (tmp_path / "y/a.png").exists()


def test_hostile_lists_end_in_sentences(tmp_path):
    """Mutated heads and lines: the pictures are made, or it is said why not."""
    picture(tmp_path / "gt/a.png", side=16)
    named, rng = tmp_path / "set.jsonl", random.Random(5)
    args = ["--preset", "mild", "--noise", "0:9", "--list", named]
    assert degrade(tmp_path / "gt", "-o", tmp_path / "x", *args).exit_code == 0
    whole = [json.loads(line) for line in named.read_text().splitlines()]
    ends = Counter()
    for turn in range(150):
        lines = [mutated(one, rng) if rng.random() < 0.6 else one for one in whole]
        named.write_text("\n".join(map(json.dumps, lines)))
        if not is_list(named):
            continue
        out = tmp_path / f"out{turn}"
        try:
            run = DegradeRun([str(tmp_path / "gt")], out, DegradeOptions(), recipes=named)
            summary = run.carry_out()
        except FacewrightError as error:
            ends["refused"] += 1
            assert len(str(error)) < 900 and str(error)[-1] in ".)"
            continue
        ends["failed" if summary.failed else "made"] += 1
        assert all("Error:" not in why for why in summary.failed.values()), summary.failed
        found = {p.name for p in out.rglob("*") if p.is_file()} if out.exists() else set()
        assert found <= {"manifest.jsonl", "a.png"} or "a_" in str(found)
    assert ends["refused"] > 20 and ends["made"] > 20


def test_a_recipe_that_ends_at_another_size(tmp_path):
    picture(tmp_path / "gt/a.png")
    picture(tmp_path / "gt/alpha.png", "RGBA")
    recipe = {"size": [32, 32], "steps": [{"op": "resize", "size": [8, 8], "mode": "area"}]}
    (tmp_path / "r.json").write_text(json.dumps(recipe))
    result = degrade(tmp_path / "gt", "-o", tmp_path / "out", "--recipe", tmp_path / "r.json")
    words = " ".join(result.stderr.split())
    assert result.exit_code == 1 and "alpha channel has 32 x 32" in words
    assert read_picture(tmp_path / "out/a.png").pixels.shape == (3, 8, 8)


def test_lists_replace_lists_only(gt, tmp_path):
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"format": "of mine"}\n')
    result = degrade(gt, "-o", tmp_path / "x", "--list", mine)
    assert result.exit_code == 2 and "is no list" in result.stderr and "mine" in mine.read_text()
    named = tmp_path / "set.jsonl"
    for _ in range(2):
        assert degrade(gt, "-o", tmp_path / "x", "--list", named).exit_code == 0
    assert degrade(gt, "-o", tmp_path / "x", "--recipe", named, "--list", mine).exit_code == 2
    # Pictures of a version that kept no hashes.
    manifest = tmp_path / "x/manifest.jsonl"
    old = [{k: v for k, v in r.items() if "pixels" not in k} for r in records(tmp_path / "x")]
    manifest.write_text("".join(json.dumps(r) + "\n" for r in old))
    result = degrade(gt, "-o", tmp_path / "x", "--list", named)
    assert result.exit_code == 1 and "make them again with --overwrite" in result.stderr


def test_one_picture_keeps_its_record_beside_it(gt, tmp_path):
    assert degrade(gt / "a.png", "-o", tmp_path / "x.png", "--seed", 1).exit_code == 0
    record = json.loads((tmp_path / "x.json").read_text())
    assert (record["input"], record["output"], record["base_seed"]) == ("a.png", "x.png", 1)
    assert not (tmp_path / "manifest.jsonl").exists()
    again = degrade(gt / "a.png", "-o", tmp_path / "x.png", "--seed", 1)
    assert "1 were finished before" in again.stderr
    other = degrade(gt / "a.png", "-o", tmp_path / "x.png", "--seed", 2)
    assert other.exit_code == 2 and "--seed 1 there, 2 now" in other.stderr
    before = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.json").write_text('{"mine": true}')
    assert "is not the record" in degrade(gt / "a.png", "-o", tmp_path / "x.png").stderr
    args = ["--seed", 1, "--overwrite"]
    assert degrade(gt / "a.png", "-o", tmp_path / "x.png", *args).exit_code == 0
    assert json.loads((tmp_path / "x.json").read_text()) == record
    forms = {"record": record, "bare": record["recipe"], "list": [record["recipe"]]}
    for name, content in forms.items():
        (tmp_path / "recipe.json").write_text(json.dumps(content))
        out = tmp_path / f"{name}.png"
        assert degrade(gt / "a.png", "-o", out, "--recipe", tmp_path / "recipe.json").exit_code == 0
        assert out.read_bytes() == before
    (tmp_path / "recipe.json").write_text(json.dumps([record["recipe"]] * 2))
    result = degrade(gt / "a.png", "-o", tmp_path / "n.png", "--recipe", tmp_path / "recipe.json")
    assert result.exit_code == 2 and "2 entries" in result.stderr


def test_other_settings_are_not_mixed_in(gt, tmp_path):
    out = tmp_path / "out"
    make(gt, out, DegradeOptions(preset="mild", overrides={"noise": (0.0, 0.2)}))
    before = contents(out)
    for args, words in {
        ("--preset", "severe", "--noise", "0:51"): "--preset mild there, severe now",
        ("--preset", "mild", "--noise", "0:5"): "--noise 0:51 there, 0:5 now",
        ("--preset", "mild"): "--noise 0:51 there, not given now",
    }.items():
        result = degrade(gt, "-o", out, *args)
        assert result.exit_code == 2 and words in result.stderr and "--overwrite" in result.stderr
        assert contents(out) == before
    picture(gt / "new.png")  # a new name does not hide the others' settings
    assert degrade(gt / "new.png", "-o", out).exit_code == 2
    assert degrade(gt, "-o", out, "--preset", "mild", "--overwrite").exit_code == 0
    assert {json.dumps(r["overrides"]) for r in records(out)} == {"{}"}
    assert make(gt, out, DegradeOptions(preset="mild")).done == []


def test_pictures_of_no_run_are_not_replaced(gt, tmp_path):
    picture(tmp_path / "out/a.png", seed=8)
    before = contents(tmp_path / "out")
    result = degrade(gt, "-o", tmp_path / "out")
    assert result.exit_code == 2 and "not made by this command" in result.stderr
    assert contents(tmp_path / "out") == before
    assert degrade(gt, "-o", tmp_path / "out", "--overwrite").exit_code == 0


def test_what_a_crash_leaves_is_mended(gt, tmp_path):
    out, manifest = tmp_path / "out", tmp_path / "out/manifest.jsonl"
    make(gt, out)
    before = contents(out)
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(lines[2] + lines[0] + lines[1][:40])  # b.png's line was being written
    (out / "sub/a.png").unlink()
    (out / ".b.png.k2j3ab_9.tmp").write_bytes(b"half")
    summary = make(gt, out)
    assert sorted(d["output"] for d in summary.done) == [str(out / "b.png"), str(out / "sub/a.png")]
    assert contents(out) == before
    manifest.write_bytes(lines[0] + b"nonsense\n" + lines[2])
    result = degrade(gt, "-o", out, "--preset", "mild", "--seed", 3)
    assert result.exit_code == 2 and "Line 2 of" in result.stderr


def test_an_overwrite_that_is_cut_short_is_not_taken_for_the_old_run(gt, tmp_path, monkeypatch):
    make(gt, tmp_path / "out")
    severe = DegradeRun(
        [str(gt)], tmp_path / "out", DegradeOptions(preset="severe"), overwrite=True
    )
    monkeypatch.setattr(severe.manifest, "add", lambda record: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        severe.carry_out()
    assert len(make(gt, tmp_path / "out").done) == 3


WAITING = """
import signal, sys, time
from facewright.headless import cli
from facewright.headless.jobs.manifest import Manifest

# A shell that puts the tests into the background lets them ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
left, add = int(sys.argv.pop(1)), Manifest.add

def add_and_wait(self, record):
    global left
    add(self, record)
    left -= 1
    time.sleep(0 if left else 60)

Manifest.add = add_and_wait
cli.main()
"""
"""The command line, which waits for a signal after so many pictures."""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows neither signal")
def test_killed_or_interrupted_runs_go_on_to_the_same_bytes(tmp_path):
    """Ctrl-C, then SIGKILL, each in the middle, then to the end: what one quiet run gives."""
    for index in range(12):
        picture(tmp_path / f"gt/{index:02}.png", side=64, seed=index)
    options = DegradeOptions(preset="flipnet", seed=1)
    out, manifest = tmp_path / "out", tmp_path / "out/manifest.jsonl"
    command = ["degrade", str(tmp_path / "gt"), "-o", str(out), "--preset", "flipnet"]
    command = [sys.executable, "-c", WAITING, "3", *command, "--seed", "1", "--workers"]
    count = 0
    for number, workers in ((signal.SIGINT, "2"), (signal.SIGKILL, "1")):
        started = subprocess.Popen([*command, workers], stderr=subprocess.PIPE, text=True)
        with started as process:
            while not manifest.exists() or manifest.read_bytes().count(b"\n") < count + 3:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.005)
            process.send_signal(number)
            words = process.stderr.read()
        count = manifest.read_bytes().count(b"\n")
        assert count in (3, 6)
        if number == signal.SIGINT:
            assert process.returncode == 130 and "Interrupted" in words and "Traceback" not in words
        else:
            assert process.returncode == -signal.SIGKILL
    assert len(make(tmp_path / "gt", out, options).skipped) >= count
    make(tmp_path / "gt", tmp_path / "quiet", options)
    assert contents(out) == contents(tmp_path / "quiet")


def test_bad_pictures_are_named_and_the_others_done(gt, tmp_path):
    cv2 = pytest.importorskip("cv2")
    (gt / "empty.png").touch()
    (gt / "torn.png").write_bytes((gt / "a.png").read_bytes()[:200])
    nan = np.full((8, 8), np.nan, np.float32)
    Image.fromarray(nan, "F").save(gt / "nan.tiff")
    picture(gt / "alpha.png", "RGBA")
    picture(gt / "grey.png", "L")
    picture(gt / "tiny.png", side=1)
    cv2.imwrite(str(gt / "deep.png"), np.full((9, 9, 3), 40000, np.uint16))
    result = degrade(gt, "-o", tmp_path / "out", "--preset", "severe")
    assert result.exit_code == 1 and "3 of 10 pictures failed" in result.stderr
    for words in ("empty.png is empty", "torn.png is damaged", "nan.tiff stores 32-bit"):
        assert words in result.stderr
    assert "without colour" in result.stderr and "16 bits per channel were kept" in result.stderr
    written = {name: read_picture(tmp_path / "out" / name) for name in ("alpha.png", "grey.png")}
    assert written["grey.png"].grey
    before = read_picture(gt / "alpha.png").pixels
    assert torch.equal(written["alpha.png"].pixels[3], before[3])
    assert not torch.equal(written["alpha.png"].pixels[:3], before[:3])
    deep = read_picture(tmp_path / "out/deep.png")
    assert deep.bits == 16 and torch.equal((deep.pixels * 255).round() / 255, deep.pixels)


@pytest.mark.parametrize(
    "args",
    [
        ["--quality", "0"],
        ["--quality", "50:101"],
        ["--quality", "50.5"],
        ["--sigma", "-1:5"],
        ["--scale", "0"],
        ["--scale", "8:4"],
        ["--scale", "big"],
        ["--sigma", "nan"],
        ["--noise", "0:300"],
        ["--preset", "nope"],
        ["--order", "backwards"],
        ["--kernel-size", "4"],
        ["--aniso", "2"],
        ["--copies", "0"],
        ["--workers", "0"],
    ],
)
def test_wrong_usage_is_code_2_with_a_sentence(gt, tmp_path, args):
    result = degrade(gt, "-o", tmp_path / "out", *args)
    assert result.exit_code == 2 and len(result.stderr) > 30
    assert not (tmp_path / "out").exists()


def test_pictures_far_from_the_size_of_a_preset_are_remarked_once(gt, tmp_path):
    words = degrade(gt, "-o", tmp_path / "x", "--preset", "codeformer").stderr
    assert words.count("512 x 512") == 1 and "3 of 3 pictures" in words
    done = json.loads(degrade(gt, "-o", tmp_path / "j", "--preset", "vqfr", "--json").stdout)
    assert all("512 x 512" in entry["remark"] for entry in done["done"])
    assert "512 x 512" not in degrade(gt, "-o", tmp_path / "y", "--preset", "mild").stderr


def test_shares_of_one_are_no_levels_of_noise(gt, tmp_path):
    result = degrade(gt, "-o", tmp_path / "out", "--noise", "0:0.05")
    assert result.exit_code == 2 and "0:12.75" in result.stderr
    assert degrade(gt, "-o", tmp_path / "out", "--noise", "0").exit_code == 0


def test_nothing_to_do_is_code_2(gt, tmp_path):
    (tmp_path / "none").mkdir()
    for args in ([tmp_path / "none", "-o", tmp_path / "out"], [gt], []):
        assert degrade(*args).exit_code == 2
    with pytest.raises(FacewrightError, match="2 copies cannot be written to one file"):
        DegradeRun([str(gt / "a.png")], tmp_path / "x.png", DegradeOptions(copies=2))


def test_presets_are_listed_with_their_evidence():
    rows = json.loads(degrade("--list-presets", "--json").stdout)
    assert [r["preset"] for r in rows] == Degradation.presets()
    assert all(r["source"] and r["evidence"] and r["summary"] for r in rows)
    assert "codeformer" in degrade("--list-presets").stdout
