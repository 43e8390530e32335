"""`facewright person add|remove|rename|merge|best` and who may overwrite what."""

import json
import os
import shlex
import stat
import threading

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.files import writing
from facewright.core.people.editing import renamed
from facewright.core.people.person import Person
from facewright.headless.cli import app
from facewright.headless.make.albums import AlbumFile
from facewright.training.world.faces3d import photos
from facewright.training.world.scenes import group_scene
from PIL import Image
from torch.nn.functional import normalize
from typer.testing import CliRunner

runner = CliRunner()


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")
    monkeypatch.setenv("FACEWRIGHT_MODELS", str(tmp_path / "models"))


@pytest.fixture
def album(tmp_path):
    path = tmp_path / "my ada.person"
    made(4).save(path)
    return path


def made(n, seed=0, sources=None, **changes):
    draw = torch.Generator().manual_seed(seed)
    center, noise = torch.randn(1, 128, generator=draw), torch.randn(n, 128, generator=draw)
    return Person(
        **{
            "name": "Ada",
            "crops": torch.rand(n, 3, 128, 128, generator=draw).mul(255).round() / 255,
            "embeddings": normalize(normalize(center) + 0.02 * noise, dim=1),
            "landmarks": torch.rand(n, 68, 2, generator=draw),
            "quality": torch.linspace(0.4, 0.7, n),
            "recogniser": "nano-identity:0",
            "sources": tuple(sources or (f"{i} a.png" for i in range(n))),
            **changes,
        }
    )


def person(*args):
    return runner.invoke(app, ["person", *map(str, args)])


def picture(path, pixels):
    array = (pixels * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(array).save(path)
    return path


def portrait(path, shot, who=7):
    return picture(path, photos(who, shot, size=256, aligned=False).pixels[0])


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


EDITS = {
    "remove": (("{album}", "1 a.png", "3"), ("0 a.png", "2 a.png")),
    "rename": (("{album}", "Bo"), tuple(f"{i} a.png" for i in range(4))),
    "merge": (("{album}", "{other}"), (*(f"{i} a.png" for i in range(4)), "new.png")),
    "best": (("1", "{album}"), ("3 a.png",)),
}


def words(command, album):
    other = album.with_name("other.person")
    if not other.exists():
        made(1, seed=3, sources=["new.png"], embeddings=made(4).embeddings[:1]).save(other)
    return [command, *(word.format(album=album, other=other) for word in EDITS[command][0])]


@pytest.mark.parametrize("command", EDITS)
def test_an_album_is_changed_in_place(album, command):
    os.chmod(album, 0o644)
    result = person(*words(command, album), "--json")
    assert result.exit_code == 0, result.stderr
    told, changed = json.loads(result.stdout), Person.from_file(album)
    assert changed.sources == EDITS[command][1]
    assert changed.name == ("Bo" if command == "rename" else "Ada")
    assert told["written"] is True and told["file"] == str(album)
    assert [p["source"] for p in told["photos"]] == list(changed.sources)
    assert [p["number"] for p in told["photos"]] == list(range(len(changed)))
    if os.name != "nt":
        assert mode(album) == 0o600, "others could read the older file"
    assert not [p for p in album.parent.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("command", EDITS)
def test_another_file_or_a_dry_run_leaves_the_album(album, command):
    before, out = album.read_bytes(), album.with_name("new.person")
    result = person(*words(command, album), "--dry-run")
    assert result.exit_code == 0 and "A dry run" in result.stderr, result.stderr
    assert album.read_bytes() == before
    assert person(*words(command, album), "-o", out).exit_code == 0
    assert Person.from_file(out).sources == EDITS[command][1] and album.read_bytes() == before
    result = person(*words(command, album), "-o", out)
    assert result.exit_code == 0 and "is as it was" in result.stderr
    out.write_bytes(b"something else")
    result = person(*words(command, album), "-o", out)
    assert result.exit_code == 2 and "--overwrite" in result.stderr
    assert out.read_bytes() == b"something else"
    assert person(*words(command, album), "-o", out, "--overwrite").exit_code == 0
    assert Person.from_file(out).sources == EDITS[command][1]
    result = person(*words(command, album), "-o", album.with_suffix(".png"))
    assert result.exit_code == 2 and "should end in .person" in result.stderr


@pytest.mark.parametrize("command", EDITS)
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_the_old_album_survives_a_failure(album, command, error, monkeypatch):
    before = album.read_bytes()
    given = words(command, album)

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(writing.Path, "replace", fail)
    result = person(*given)
    assert result.exit_code == (1 if isinstance(error, OSError) else 130)
    said = "is full" if isinstance(error, OSError) else "Every album is as it was"
    assert said in result.stderr
    assert album.read_bytes() == before
    assert sorted(p.name for p in album.parent.glob("*.*")) == ["my ada.person", "other.person"]


def test_of_two_who_write_at_once_one_is_told(album, monkeypatch):
    pytest.importorskip("fcntl")
    mine, other = AlbumFile.read(album), AlbumFile.read(album)
    save, errors, threads = Person.save, [], []

    def write_other():
        try:
            other.write(renamed(other.person, "Theirs")[0], None)
        except FacewrightError as error:
            errors.append(str(error))

    def save_slowly(person, path):
        if not threads:  # mine, which has looked at the file already
            threads.append(threading.Thread(target=write_other))
            threads[0].start()
            threads[0].join(0.1)
        save(person, path)

    monkeypatch.setattr(Person, "save", save_slowly)
    assert mine.write(renamed(mine.person, "Mine")[0], None)
    threads[0].join()
    assert Person.from_file(album).name == "Mine"
    assert len(errors) == 1 and "changed by another program" in errors[0]


def test_what_somebody_else_changed_meanwhile_is_not_lost(album, monkeypatch):
    from facewright.core.people import editing

    original = editing.renamed

    def meanwhile(*args):
        made(3, seed=4).save(album)
        return original(*args)

    monkeypatch.setattr(editing, "renamed", meanwhile)
    result = person("rename", album, "Bo")
    assert result.exit_code == 1 and "changed by another program" in result.stderr
    assert len(Person.from_file(album)) == 3


def test_nothing_to_change_writes_nothing(album):
    before = album.stat().st_mtime_ns
    for args in (("rename", album, "Ada"), ("best", 9, album)):
        result = person(*args)
        assert result.exit_code == 0 and "is as it was" in result.stderr
    assert album.stat().st_mtime_ns == before


def test_what_is_not_there_is_wrong_usage(album):
    before = album.read_bytes()
    for args, said in (
        (("remove", album, "b.png"), "has no photo 'b.png'"),
        (("remove", album, "0", "1", "2", "3"), "would be empty"),
        (("rename", album, " "), "is empty"),
        (("remove", album.with_name("no.person"), "0"), "There is no file"),
        (("merge", album, album.with_name("no.person")), "There is no file"),
        (("best", "0", album), "N"),
    ):
        result = person(*args)
        assert result.exit_code == 2 and said in result.stderr, result.stderr
    assert album.read_bytes() == before


def test_an_album_is_found_by_name_and_a_link_stays_a_link(tmp_path):
    folder = tmp_path / "models/facewright/people"
    folder.mkdir(parents=True)
    made(2).save(folder / "ada.person")
    assert person("rename", "ada.person", "Bo").exit_code == 0
    assert Person.from_file(folder / "ada.person").name == "Bo"
    assert "Bo: 2 photographs" in person("show", "ada.person").stderr
    link = tmp_path / "link.person"
    try:
        link.symlink_to(folder / "ada.person")
    except OSError:
        pytest.skip("this system makes no links")
    assert person("rename", link, "Cy").exit_code == 0
    assert link.is_symlink() and Person.from_file(folder / "ada.person").name == "Cy"


def test_photos_are_added_with_the_recogniser_of_the_album(tmp_path):
    """A group photo gives the person's face; a stranger's is warned of, by a command that works."""
    out = tmp_path / "my ada.person"
    first = [portrait(tmp_path / f"{shot}.png", shot) for shot in (1, 2, 3)]
    assert person("make", *first, "-o", out, "--recogniser", "nano").exit_code == 0
    if os.name != "nt":
        assert mode(out) == 0o600
    group = picture(tmp_path / "group.png", group_scene(5, [9, 7, 8]).pixels)
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    result = person("add", out, group, first[0], bad)
    assert result.exit_code == 1 and "1 of 3 photos cannot be read" in result.stderr
    assert "was taken, most like the album" in result.stderr
    assert "1.png: in the album already as 1.png, counted once" in result.stderr
    album = Person.from_file(out)
    assert album.sources == ("1.png", "2.png", "3.png", "group.png")
    assert (album.embeddings[3] @ album.embeddings[:3].T).min() > 0.65

    stranger = portrait(tmp_path / "b o.png", 1, who=9)
    told = json.loads(person("add", out, stranger, "--json").stdout)
    (warning,) = [line for line in told["report"] if line.startswith("warning")]
    command = shlex.split(warning.split("`")[1])
    assert command == ["facewright", "person", "remove", str(out), "b o.png"]
    assert runner.invoke(app, command[1:]).exit_code == 0
    assert Person.from_file(out).sources == album.sources

    before = out.read_bytes()
    Image.new("RGB", (80, 60)).save(tmp_path / "wall.png")
    result = person("add", out, tmp_path / "wall.png")
    assert result.exit_code == 1 and "no face was found" in result.stderr
    assert person("add", out, bad).exit_code == 1 and out.read_bytes() == before


def test_photos_of_another_recogniser_are_refused_with_the_command(album, tmp_path):
    photo = tmp_path / "a.png"
    Image.new("RGB", (80, 60)).save(photo)
    result = person("add", album, photo)
    assert result.exit_code == 1 and "made with the recogniser nano-identity:0" in result.stderr
    again = f"`facewright person make PHOTOS -o '{album}' --overwrite`"
    assert "--recogniser FILE" in result.stderr and again in result.stderr


def test_what_an_album_does_not_fit_is_said_with_the_command(album, tmp_path):
    other = tmp_path / "other one.person"
    made(2, recogniser="arcface-r50:1").save(other)
    result = person("merge", album, other)
    again = f"`facewright person make PHOTOS -o '{other}' --overwrite`"
    assert result.exit_code == 1 and again in result.stderr
    photo = tmp_path / "a.png"
    Image.new("RGB", (80, 60)).save(photo)
    result = person("add", other, photo)
    assert result.exit_code == 1 and "backbone.pth" in result.stderr
    assert "was made with arcface-r50:1: if that is another file, name it by" in result.stderr


def test_making_an_album_overwrites_nothing_unasked(tmp_path):
    a, b = (portrait(tmp_path / f"{shot}.png", shot) for shot in (1, 2))
    out = tmp_path / "ada.person"

    def make(*args):
        return person("make", *args, "-o", out, "--recogniser", "nano")

    assert make(a, b).exit_code == 0
    before, when = out.read_bytes(), out.stat().st_mtime_ns
    result = make(a, b)
    assert result.exit_code == 0 and "was there already, just so" in result.stderr
    assert out.stat().st_mtime_ns == when
    portrait(tmp_path / "2.png", 3)
    for given in ((a,), (a, b), (b, "--name", "Bo")):
        result = make(*given)
        assert result.exit_code == 2, result.stderr
        assert f"already is a file {out}. Give --overwrite" in result.stderr
        assert out.read_bytes() == before
    assert make(a, "--overwrite").exit_code == 0
    assert Person.from_file(out).sources == ("1.png",)


def test_photos_of_one_name_are_told_apart(album):
    made(3, sources=["a.png", "b.png", "a.png"]).save(album)
    shown = person("show", album).stderr
    assert "  0  a.png (number 0): quality 0.40" in shown and "  1  b.png: quality" in shown
    result = person("remove", album, "a.png")
    assert result.exit_code == 2 and "#0 (a.png) or #2 (a.png)" in result.stderr
    assert person("remove", album, "#2").exit_code == 0
    assert Person.from_file(album).sources == ("a.png", "b.png")
