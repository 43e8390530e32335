"""Whose face is whose, corrected by hand: `restore --assign`, and tables over many files."""

import csv
import json
from pathlib import Path

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces import load_analyzer
from facewright.core.images import Picture, read_picture, write_picture
from facewright.core.people.album import make_person
from facewright.core.people.recogniser import nano_recogniser
from facewright.core.weights import nano
from facewright.headless.cli import app
from facewright.headless.jobs.planning import Job
from facewright.headless.make.assignments import (
    check_places,
    read_assignments,
    told_of_files,
    write_assignments,
)
from facewright.headless.make.restore import RestoreOptions, load_restorer
from facewright.training.world.faces3d import photos
from facewright.training.world.scenes import group_scene
from typer.testing import CliRunner

runner = CliRunner()
ADA, BO, EVE = 2**40 + 3, 2**40 + 4, 2**40 + 5


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")
    monkeypatch.setenv("FACEWRIGHT_MODELS", str(tmp_path / "models"))


@pytest.fixture(scope="module")
def restorer():
    return load_restorer("nano-honestface")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ada.person, Bo.person, and in `pictures` Bo, a stranger and Ada, and the stranger alone."""
    folder = tmp_path_factory.mktemp("people")
    analyzer, recogniser = load_analyzer("nano"), nano_recogniser(nano.load_identity("loss"))
    for name, seed in (("Ada", ADA), ("Bo", BO)):
        album, _ = make_person(
            list(photos(seed, [1, 2], size=192, aligned=False).pixels),
            name=name,
            sources=["1.png", "2.png"],
            analyzer=analyzer,
            recogniser=recogniser,
            crop_size=nano.NANO_SIZE,
        )
        album.save(folder / f"{name}.person")
    pictures = {
        "group": group_scene(11, [BO, EVE, ADA], width=480, height=270).pixels,
        "eve": photos(EVE, [1], size=128, aligned=False).pixels[0],
    }
    for name, pixels in pictures.items():
        write_picture(folder / "pictures" / f"{name}.png", pixels, Picture(pixels))
    return folder


def cli(folder, *args):
    people = [word for name in ("Ada", "Bo") for word in ("--person", folder / f"{name}.person")]
    return runner.invoke(app, ["restore", *map(str, [*args, *people, "--weights", "nano"])])


def who(result):
    assert result.exit_code == 0, result.stderr
    done = json.loads(result.stdout)["done"]
    return {Path(e["input"]).name: [m["person"] for m in e.get("matches", ())] for e in done}


def test_a_face_gets_whom_it_is_told_to_be(folder, tmp_path, restorer):
    group = folder / "pictures/group.png"
    told = ("--assign", "1=Ada", "--assign", "2=nobody")
    result = cli(folder, group, "-o", tmp_path / "a.png", *told, "--json")
    assert who(result) == {"group.png": ["Bo", "Ada", None]}
    (entry,) = json.loads(result.stdout)["done"]
    bo, ada, _ = entry["matches"]
    assert [m["by_hand"] for m in entry["matches"]] == [False, True, True]
    assert bo["runner_up"] == ada["runner_up"].replace("Bo", "Ada") == "Ada"
    assert [m["box"] for m in entry["matches"]] == entry["boxes"]
    assert ada["cosines"]["Ada"] < 0.65 and bo["unsure"] == [] and bo["matched"] == "Bo"
    # what is told decides the pixels, too
    picture = read_picture(group).pixels
    options = RestoreOptions(people=albums(folder), assign=("1=Ada, 2=nobody",))
    mine = restorer.restore(picture, options)
    written = read_picture(tmp_path / "a.png").pixels
    torch.testing.assert_close(written, mine.pixels, rtol=0, atol=0.51 / 255)
    plain = restorer.restore(picture, RestoreOptions(people=options.people))
    assert not torch.equal(plain.pixels, mine.pixels)


def albums(folder):
    from facewright.core.people.person import Person

    return [Person.from_file(folder / f"{name}.person") for name in ("Ada", "Bo")]


def test_what_cannot_be_told_is_a_sentence_with_what_there_is(folder, tmp_path):
    pictures = folder / "pictures"
    for args, code, words in (
        ((pictures / "group.png", "--assign", "7=Bo"), 1, "the picture has 3 faces, numbered from"),
        ((pictures / "group.png", "--assign", "1=Al"), 1, "no album here. There are Ada, Bo"),
        ((pictures / "group.png", "--assign", "one=Bo"), 2, "such as 2=Bo or"),
        ((pictures, "--assign", "1=Bo"), 2, "which of 2 files"),
        ((pictures, "--assign", "x.png/1=Bo"), 2, "none of the files given: eve.png, group.png"),
    ):
        result = cli(folder, args[0], "-o", tmp_path / "out", *args[1:])
        assert result.exit_code == code and words in " ".join(result.stderr.split()), result.stderr
    alone = runner.invoke(app, ["restore", str(pictures), "-o", str(tmp_path), "--assign", "0=Bo"])
    assert alone.exit_code == 2 and "--person" in alone.stderr


def test_a_table_is_written_corrected_and_read_back(folder, tmp_path):
    out, table = tmp_path / "out", tmp_path / "who.csv"
    first = cli(folder, folder / "pictures", "-o", out, "--write-assignments", table, "--json")
    assert who(first) == {"eve.png": [None], "group.png": ["Bo", None, "Ada"]}
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert [row["person"] for row in rows] == ["nobody", "Bo", "nobody", "Ada"]
    rows[2]["person"] = "Ada"
    rows[3]["person"] = "nobody"
    with table.open("w", encoding="utf-8-sig", newline="") as file:  # as a spreadsheet saves it
        writer = csv.DictWriter(file, rows[0], delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    # The same command again makes those again that were corrected, and no other.
    again = cli(folder, folder / "pictures", "-o", out, "--assignments", table)
    assert (
        again.exit_code == 0
        and "1 made again: --assign was not given, is 1=Ada, 2=nobody" in again.stderr
    )
    names = "3 faces: Bo (0.", ", Ada (0.", ", nobody (by hand)"
    assert all(name in again.stderr for name in names), again.stderr
    # Where a number means another face now, nothing is restored.
    other = cli(folder, folder / "pictures", "-o", out, "--assignments", table, "--order", "size")
    words = "who.csv, line 4: face 1 was at another place when the table was written, which is"
    assert other.exit_code == 1 and words in " ".join(other.stderr.split()), other.stderr
    kept = cli(folder, folder / "pictures", "-o", out, "--write-assignments", table)
    assert kept.exit_code == 2 and "is there already" in kept.stderr
    # What was finished before is not in a new table, and that is said.
    new = tmp_path / "new.csv"
    said = cli(folder, folder / "pictures/eve.png", "-o", out, "--order", "size",
               "--write-assignments", new)  # fmt: skip
    assert "new.csv lacks 1 file finished before" in " ".join(said.stderr.split()), said.stderr


@pytest.mark.slow
def test_what_json_printed_is_read_back(folder, tmp_path):
    first = cli(folder, folder / "pictures", "-o", tmp_path / "a", "--json")
    said = json.loads(first.stdout)
    group = next(entry for entry in said["done"] if entry["faces"] == 3)
    group["matches"][1]["person"] = "Ada"
    group["matches"][2]["person"] = None
    (tmp_path / "who.json").write_text(json.dumps(said))
    args = (folder / "pictures", "-o", tmp_path / "b", "--assignments", tmp_path / "who.json")
    assert who(cli(folder, *args, "--json"))["group.png"] == ["Bo", "Ada", None]
    # The command line counts more.
    more = (*args, "--assign", "group.png/2=Ada", "--assign", "group.png/1=nobody", "--overwrite")
    assert who(cli(folder, *more, "--json"))["group.png"] == ["Bo", None, "Ada"]


def test_one_album_for_a_group_is_not_silent(folder, tmp_path):
    args = ["restore", folder / "pictures/group.png", "-o", tmp_path / "a.png"]
    args += ["--reference", folder / "pictures/eve.png", "--weights", "nano"]
    result = runner.invoke(app, list(map(str, args)))
    said = " ".join(result.stderr.split())
    assert result.exit_code == 0 and "3 faces: references (0." in said
    assert "2 faces may be somebody else than references" in said and "--person" in said
    told = [*args, "--overwrite", "--assign", "0=nobody", "--assign", "2=nobody", "--json"]
    result = runner.invoke(app, list(map(str, told)))
    assert who(result) == {"group.png": [None, "references", None]}
    assert "warning" not in json.loads(result.stdout)["done"][0]["report"]


def test_hostile_tables_are_refused_by_line(tmp_path):
    path = tmp_path / "who.csv"
    head = b"picture,face,person\n"
    for content, words in (
        (b"", "line 1: it should have the titles picture, face and person"),
        (b"picture,face\na.png,1\n", "titles"),
        (b"picture,face,face,person\n", "each once"),
        (head + b"a.png,one,Bo\n", "line 2: `face` should be its number, from 0; came 'one'"),
        (head + b"a.png,-1,Bo\n", "line 2: `face`"),
        (head + "a.png,\u0661,Bo\n".encode(), "line 2: `face`"),
        (head + b"a.png,99999999999999999999,Bo\n", "line 2: `face`"),
        (head + b"a.png,1\n", "line 2: it should have a picture, a face and a person"),
        (head + b",1,Bo\n", "line 2: `picture` should name a file"),
        (head + b"a.png,1,Bo\nb.png,1,\xff\n", "line 3: it is no UTF-8"),
        (head + b'a.png,1,"Bo\n', "line 2: it is no CSV"),
        (head + b"a,x,Bo\n" * 9, "and 4 more"),
        (b"sep=,\n\n" + head + b"a,x,Bo\n", "line 4: `face`"),
        (head + b"a.png,1.5,Bo\n", "line 2: `face`"),
        (head + b'a.png,1,"Bo, 3=Ada"\n', "line 2: `person` 'Bo, 3=Ada' reads as several"),
        (head + b'a.png,1,"Bo, 1=Ada"\n', "reads as several assignments"),
        (head + b'a.png,1,"a/2=Bo"\n', "reads as several assignments"),
        (b"picture,face,person,box\na.png,1,Bo,1 2 3\n", "line 2: `box` should be four numbers"),
        (b'[{"picture": "a", "face": 1, "person": "Bo", "box": [0, 0, 0, 5]}]', "1: `box`"),
        (b'[{"picture": "a", "face": 1}]', "entry 1: it should have"),
        (b"{", "it is not JSON: line 1"),
        (b"[" * 300, "cannot be used"),
        (b'{"failed": []}', "what `facewright restore --json` prints"),
        (b'[{"picture": 3, "face": 1, "person": "Bo"}]', "entry 1: `picture`"),
        (b'[{"picture": "a", "face": true, "person": "Bo"}]', "entry 1: `face`"),
        (b'[{"picture": "a", "face": 1, "person": ["Bo"]}]', "entry 1: `person`"),
        (b'{"done": [{"input": "a", "matches": [3]}]}', "entry 1, match 0: it should have"),
        (b'{"done": [{"input": "a", "matches": 3}]}', "entry 1: it should have"),
        (b"[3]", "entry 1: it should have"),
    ):
        path.write_bytes(content)
        with pytest.raises(FacewrightError) as caught:
            read_assignments(path)
        assert words in str(caught.value), (content, str(caught.value))
    with pytest.raises(FacewrightError, match=r"none\.csv"):
        read_assignments(tmp_path / "none.csv")


def test_rows_that_leave_it_open_are_none(tmp_path):
    path = tmp_path / "who.csv"
    path.write_text("Face\tPerson\tPicture\n0\t\ta.png\n1\tNobody\ta.png\n2\tSmith, J.\ta.png\n\n")
    assert [str(r.told) for r in read_assignments(path)] == ["a.png/1=nobody", "a.png/2=Smith, J."]
    same = {"face": 0, "person": None, "matched": None, "unsure": ["Ada"], "by_hand": False}
    moved = {**same, "face": 1, "matched": "Ada", "box": [4, 5, 60, 70.5]}
    matches = [same, moved, {**same, "face": 2, "by_hand": True}]
    path.write_text(json.dumps({"done": [{"input": "a.png", "matches": matches}, {"input": "b"}]}))
    rows = read_assignments(path)
    assert [str(row.told) for row in rows] == ["a.png/1=nobody", "a.png/2=nobody"]
    assert [row.box for row in rows] == [(4, 5, 60, 70.5), None]
    # What the command line says counts more than a table, and than where it saw the face.
    job = Job(Path("a.png"), Path("out/a.png"), "a.png")
    told, places, _ = told_of_files([job], rows, ["2=Ada"])
    assert told == {job.source: ("1=nobody", "2=Ada")} and list(places[job.source]) == [1]
    assert told_of_files([job], rows, ["1=Ada"])[1] == {job.source: {}}
    with pytest.raises(
        FacewrightError, match=r"entry 1, match 1: face 1 was at another place .* 0"
    ):
        check_places([(4, 6, 60, 70), (80, 5, 99, 70)], places[job.source])
    check_places([(80, 5, 99, 70), (4, 6, 60, 70)], places[job.source])


def test_what_spreadsheets_write_and_compute_comes_back(tmp_path):
    path = tmp_path / "who.csv"
    path.write_bytes(b"\xef\xbb\xbfsep=;\r\npicture;face;person\r\na.png;1.0;Bo\r\n")
    assert [str(row.told) for row in read_assignments(path)] == ["a.png/1=Bo"]
    path.write_text('[{"picture": "a.png", "face": 2.0, "person": "Bo", "box": null}]')
    assert [str(row.told) for row in read_assignments(path)] == ["a.png/2=Bo"]
    match = {"face": 0, "person": "=1+1", "cosines": {"=1+1": 0.9}, "runner_up": "@Bo"}
    match |= {"margin": 0.5, "unsure": [], "by_hand": True, "matched": None, "box": [1, 2, 3.25, 9]}
    write_assignments(path, [{"input": "-a.png", "matches": [match]}])
    assert "\n'-a.png,0,'=1+1,,yes,,0.9,'@Bo,0.5,1 2 3.25 9\n" in path.read_text()
    (row,) = read_assignments(path)
    assert (str(row.told), row.box) == ("-a.png/0==1+1", (1, 2, 3.25, 9))


def test_pictures_are_found_by_as_much_of_their_path_as_says_which(tmp_path):
    jobs = [
        Job(Path("in") / name, Path("out") / name, name) for name in ("x/a.png", "y/a.png", "b.png")
    ]
    path = tmp_path / "who.csv"

    def told(*lines):
        path.write_text("picture,face,person\n" + "\n".join(lines))
        found, _, warnings = told_of_files(jobs, read_assignments(path), [])
        return {str(k.as_posix()): v for k, v in found.items()}, warnings

    assert told("x/a.png,1,Bo", "in/y/a.png,2,nobody", "/elsewhere/b.png,0,Ada") == (
        {"in/x/a.png": ("1=Bo",), "in/y/a.png": ("2=nobody",), "in/b.png": ("0=Ada",)},
        [],
    )
    assert "c.png" in told("c.png,0,Bo")[1][0]
    with pytest.raises(FacewrightError, match=r"line 2: a.png may be .*Write its whole path"):
        told("a.png,1,Bo")
    with pytest.raises(
        FacewrightError, match=r"line 3: face 1 of b.png is Ada, but who.csv, line 2"
    ):
        told("b.png,1,Bo", "b.png,1,Ada")
