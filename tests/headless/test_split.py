"""`facewright split`: who is tested with is never trained on."""

import json
import os

import pytest
from facewright.headless.cli import app
from facewright.headless.make import split as make
from PIL import Image
from typer.testing import CliRunner


def run(*arguments):
    return CliRunner().invoke(app, ["split", *map(str, arguments)])


@pytest.fixture
def people(tmp_path):
    folder = tmp_path / "set"
    for person in ("1", "2", "10", "11", "100"):
        for name in ("a.png", "deep/b.png"):
            path = folder / person / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (int(person), 0, 0)).save(path)
        (folder / person / "a.txt").write_text(f"person {person}")
    Image.new("RGB", (8, 8)).save(folder / "cover.png")
    return folder


def on(out, side):
    return {path.name for path in (out / side).iterdir()}


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


@pytest.mark.parametrize(
    ("choice", "test"),
    [
        (["--first", 2], ["1", "2"]),
        (["--last", 2], ["11", "100"]),
        (["--names"], ["10", "2"]),
    ],
)
def test_people_are_on_the_side_that_was_chosen(people, tmp_path, choice, test):
    if choice == ["--names"]:
        (tmp_path / "test.txt").write_text("10\n2\n\n")
        choice = ["--names", tmp_path / "test.txt"]
    out = tmp_path / "out"
    result = run(people, "-o", out, *choice)
    assert result.exit_code == 0, result.output
    test = set(test)
    assert on(out, "test") == test and on(out, "train") == {"1", "2", "10", "11", "100"} - test
    both = files(out / "test") | files(out / "train")
    assert both == {k: v for k, v in files(people).items() if k != "cover.png"} and len(both) == 15
    assert "1 picture in no person's folder" in result.output
    assert json.loads((out / "split.json").read_text())["test"] == sorted(test, key=int)


def test_the_papers_split_of_1005_people(tmp_path):
    for number in range(1, 1006):
        (tmp_path / f"set/{number}").mkdir(parents=True)
        (tmp_path / f"set/{number}/x.png").touch()
    chosen = make.plan_split(tmp_path / "set", first=100)
    assert chosen.test == [str(n) for n in range(1, 101)]
    assert chosen.train == [str(n) for n in range(101, 1006)] and len(chosen.train) == 905


def test_files_are_linked_or_else_copied(people, tmp_path, monkeypatch):
    run(people, "-o", tmp_path / "linked", "--first", 1)
    assert (people / "1/a.png").samefile(tmp_path / "linked/test/1/a.png")

    def other_disk(*paths):
        raise OSError(18, "another disk")

    monkeypatch.setattr(os, "link", other_disk)
    assert run(people, "-o", tmp_path / "copied", "--first", 1).exit_code == 0
    assert not (people / "1/a.png").samefile(tmp_path / "copied/test/1/a.png")
    assert files(tmp_path / "copied/train") == files(tmp_path / "linked/train")


def test_an_interrupted_run_goes_on_and_two_splits_never_mix(people, tmp_path):
    out = tmp_path / "out"
    facts = json.loads(run(people, "-o", out, "--first", 2, "--json").stdout)
    assert facts["test"]["pictures"] == 4 and len(facts["train"]["people"]) == 3
    (out / "train/10/a.png").unlink()
    assert run(people, "-o", out, "--first", 2).exit_code == 0
    assert (out / "train/10/a.png").is_file()
    result = run(people, "-o", out, "--first", 3)
    assert result.exit_code == 2 and "another split" in result.output
    assert on(out, "test") == {"1", "2"}
    result = run(people, "-o", people, "--first", 3)
    assert result.exit_code == 2 and "holds other files" in result.output


def test_wrong_use_is_told(people, tmp_path):
    for wrong in ([], ["--first", 1, "--last", 1]):
        result = run(people, "-o", tmp_path / "out", *wrong)
        assert result.exit_code == 2 and "Give one of" in result.output
    for all_of_them in (["--first", 5], ["--last", 5], ["--last", 7]):
        result = run(people, "-o", tmp_path / "out", *all_of_them)
        assert result.exit_code == 2
        assert "5 folders with pictures" in " ".join(result.output.split())
    (tmp_path / "names.txt").write_text("12\n1\n")
    result = run(people, "-o", tmp_path / "out", "--names", tmp_path / "names.txt")
    assert result.exit_code == 2 and "12" in result.output
    assert not (tmp_path / "out").exists()
