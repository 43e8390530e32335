"""`facewright person cluster`: what the user corrected stays, and nothing is looked at twice."""

import csv
import json
import os
import shutil
import sys

import pytest
import torch
from facewright.core.checkpoint import CONFIG_KEY, FORMAT_KEY
from facewright.core.errors import FacewrightError
from facewright.core.faces import load_analyzer
from facewright.core.people.person import Person
from facewright.core.people.recogniser import nano_recogniser
from facewright.core.weights import nano
from facewright.headless.cli import app
from facewright.headless.make.people_albums import make_albums
from facewright.headless.make.people_cluster import PeopleFolder, limits_for
from facewright.headless.make.people_seen import read_seen
from facewright.headless.make.people_sheets import draw_sheets, file_stems
from facewright.headless.make.people_table import COLUMNS, Row, read_table, write_table
from facewright.training.world.faces3d import photos
from facewright.training.world.scenes import group_scene
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

PEOPLE = {"a": (7, 1), "b": (7, 2), "c": (9, 3), "d": (9, 4), "e": (7, 5), "f": (12, 6)}
"""Photos: person, and which shot of them."""


class Counting:
    """The bundled analyzer, which counts the photos it looks at."""

    def __init__(self):
        self.inner, self.name, self.looks = load_analyzer("nano"), "nano", 0

    def detect(self, image):
        self.looks += 1
        return self.inner.detect(image)

    def __getattr__(self, name):
        return getattr(self.inner, name)


@pytest.fixture(scope="module")
def recogniser():
    return nano_recogniser(nano.load_identity("loss"))


@pytest.fixture
def analyzer():
    return Counting()


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Six portraits of three people, and a picture of two of them."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, (person, shot) in PEOPLE.items():
        save(folder / f"{name}.png", photos(person, shot, size=192, aligned=False).pixels[0])
    save(folder / "party.png", group_scene(5, [9, 7], width=480, height=270).pixels)
    return folder


@pytest.fixture
def pictures(album, tmp_path):
    return shutil.copytree(album, tmp_path / "pictures")


def save(path, pixels):
    array = (pixels * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(array).save(path)


@pytest.fixture
def cluster(analyzer, recogniser, tmp_path):
    """Runs over files, as the command does it."""

    def cluster(files, *, names=(), on_photo=lambda name: None, sheets=False):
        folder = PeopleFolder.open(tmp_path / "people", recogniser, analyzer)
        found = [(path, path.relative_to(path.parent)) for path in files]
        folder.failed = folder.look(found, analyzer, recogniser, on_photo)
        folder.attach()
        folder.rename(dict(names))
        folder.group(limits_for(recogniser), 20)
        if sheets:
            draw_sheets(folder)
        folder.save()
        return folder

    return cluster


def table(folder):
    with (folder / "people.csv").open(encoding="utf-8-sig", newline="") as file:
        delimiter = ";" if ";" in file.readline() else ","
        file.seek(0)
        return list(csv.DictReader(file, delimiter=delimiter))


def edit(folder, change):
    """Change the table as a user does: row by row."""
    rows = table(folder)
    for row in rows:
        change(row)
    with (folder / "people.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), delimiter=";")
        writer.writeheader()
        writer.writerows(reversed(rows))


def contents(folder):
    """But for the cache: safetensors writes its metadata in any order."""
    files = (path for path in folder.rglob("*") if path.suffix in (".png", ".jpg", ".csv"))
    return {path: path.read_bytes() for path in files}


def who(folder):
    return {(row["photo"], row["face"]): row["person"] for row in table(folder)}


def test_strangers_are_grouped_whatever_the_order_of_the_files(cluster, pictures, tmp_path):
    files = sorted(pictures.iterdir())
    cluster(files, sheets=True)
    out = tmp_path / "people"
    by_face = who(out)
    assert by_face["a.png", "0"] == by_face["b.png", "0"] == by_face["party.png", "1"]
    assert by_face["c.png", "0"] == by_face["d.png", "0"] == by_face["party.png", "0"]
    assert sorted(set(by_face.values())) == ["person 01", "person 02", "person 03"]
    assert by_face["f.png", "0"] == "person 03" and by_face["a.png", "0"] == "person 01"
    sheets = {path.name for path in out.rglob("*.png")}
    assert sheets == {"overview.png", "person 01.png", "person 02.png", "seen once.png"}
    for path in (out / "people.csv", out / "faces.safetensors", *out.rglob("*.png")):
        assert path.stat().st_mode & 0o077 == 0
    first = contents(out)
    assert len(first) == 5 + len(by_face)
    shutil.rmtree(out)
    cluster(files[::-1], sheets=True)
    assert contents(out) == first


def test_corrections_stay_and_only_new_photos_are_looked_at(cluster, pictures, tmp_path, analyzer):
    out, files = tmp_path / "people", sorted(pictures.iterdir())
    cluster(files[:4], sheets=True)
    assert analyzer.looks == 4

    def correct(row):
        if row["person"] == "person 01":
            row["person"] = " Ada  Lovelace "
        if row["photo"] == "d.png":
            row["person"] = "NOBODY"
        row["remark"] = "=1+1" if row["photo"] == "a.png" else ""

    edit(out, correct)
    numbers = {(r["photo"], r["face"]): r["number"] for r in table(out)}
    folder = cluster(files, sheets=True)
    assert analyzer.looks == len(files)
    by_face = who(out)
    assert by_face["a.png", "0"] == by_face["e.png", "0"] == "Ada Lovelace"
    assert by_face["party.png", "1"] == "Ada Lovelace" and by_face["d.png", "0"] == "nobody"
    assert by_face["party.png", "0"] == by_face["c.png", "0"] == "person 02"
    assert by_face["f.png", "0"] == "person 03"  # person 01 is never given again
    now = {(r["photo"], r["face"]): r["number"] for r in table(out)}
    assert now.items() >= numbers.items() and len(set(now.values())) == len(now)
    remarks = {row["photo"]: row["remark"] for row in table(out)}
    assert remarks["a.png"] == "'=1+1" and not remarks["f.png"]
    assert {p.name for p in (out / "sheets").iterdir()} == {
        "Ada Lovelace.png", "person 02.png", "seen once.png",
    }  # fmt: skip
    before = (out / "people.csv").read_bytes()
    cluster([])
    assert (out / "people.csv").read_bytes() == before and analyzer.looks == len(files)
    edit(out, lambda row: row.update(person=row["person"].replace("person 02", "Person 2")))
    cluster([])
    assert (out / "people.csv").read_bytes() == before
    with pytest.raises(FacewrightError, match="nobody is called 'Bo'"):
        cluster([], names=[("Bo", "Cy")])
    cluster([], names=[("person 02", "Ada Lovelace")])
    assert list(folder.people()) == ["Ada Lovelace", "person 02", "person 03"]
    assert set(who(out).values()) == {"Ada Lovelace", "person 03", "nobody"}
    cluster([], names=[("person 03", "Cy")])
    save(pictures / "g.png", photos(14, 9, size=192, aligned=False).pixels[0])
    cluster([pictures / "g.png"])
    assert who(out)["g.png", "0"] == "person 04"  # nor is the number of who has a name now


def test_an_interruption_costs_nothing_that_was_seen(cluster, pictures, analyzer):
    files, looked = sorted(pictures.iterdir()), []

    def stop(name):
        looked.append(name)
        if len(looked) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cluster(files, on_photo=stop)
    assert analyzer.looks == 3
    cluster(files)
    assert analyzer.looks == len(files)


def test_a_row_that_is_deleted_is_nobodys(cluster, pictures, tmp_path):
    files = sorted(pictures.iterdir())
    before = cluster(files[:-2])
    deleted = before.people()["person 01"][0].row
    lines = (before.path / "people.csv").read_bytes().decode("utf-8-sig").splitlines(True)
    kept = [line for line in lines if not line.startswith(f"{deleted.number},")]
    (before.path / "people.csv").write_text("".join(kept), "utf-8", newline="")
    with pytest.raises(KeyboardInterrupt):
        # What was only seen has no row yet, and none that was deleted.
        cluster(files, on_photo=lambda name: interrupt() if name == files[-2].name else None)
    folder = cluster(files)
    (row,) = (f.row for f in folder.faces if f.row.person == "nobody")
    assert (row.sha256, row.face, row.sure) == (deleted.sha256, deleted.face, "by hand")
    assert row.note == "its row was deleted" and row.number > len(lines) - 1
    assert any(line.startswith("1 face without a row in people.csv") for line in folder.report)
    again = cluster(files)
    assert [f.row.person for f in again.faces] == [f.row.person for f in folder.faces]
    assert not any("without a row" in line for line in again.report)
    (folder.path / "people.csv").unlink()
    assert not any(face.row.person == "nobody" for face in cluster(files).faces)


def interrupt():
    raise KeyboardInterrupt


def test_a_table_that_is_corrected_meanwhile_is_kept(cluster, pictures, analyzer, tmp_path):
    files, table = sorted(pictures.iterdir()), tmp_path / "people" / "people.csv"
    cluster(files[:2])
    link = table.rename(tmp_path / "real.csv")
    table.symlink_to(link)
    text = link.read_text("utf-8-sig").replace("person 01", "Ada")
    with pytest.raises(FacewrightError, match="changed by another program meanwhile"):
        cluster(files[:3], on_photo=lambda name: link.write_text(text, "utf-8"))
    assert link.read_text("utf-8") == text
    looks = analyzer.looks
    assert "Ada" in cluster(files[:3]).people() and analyzer.looks == looks
    assert table.is_symlink() and "Ada" in link.read_text("utf-8-sig")


def test_photos_that_move_change_and_go(cluster, pictures, tmp_path, analyzer):
    out, files = tmp_path / "people", sorted(pictures.iterdir())
    cluster(files, names=())
    cluster([], names=[("person 01", "Ada")])
    (pictures / "a.png").rename(pictures / "z.png")
    save(pictures / "c.png", photos(12, 8, size=192, aligned=False).pixels[0])
    (pictures / "b.png").unlink()
    shutil.copy(pictures / "d.png", pictures / "d2.png")
    (pictures / "x.png").write_bytes(b"no picture")
    looks = analyzer.looks
    folder = cluster(sorted(pictures.iterdir()))
    assert analyzer.looks == looks + 1  # the photo that changed
    rows = {(row["photo"], row["sha256"]): row for row in table(out)}
    notes = {row["photo"]: row["note"] for row in table(out) if row["note"]}
    assert notes == {"b.png": "the photo is gone", "c.png": "the photo is gone"}
    assert len([key for key in rows if key[0] == "c.png"]) == 2
    people = who(out)
    assert people["b.png", "0"] == people["z.png", "0"] == "Ada" and ("a.png", "0") not in people
    text = "\n".join(folder.report)
    assert "d2.png is the same file as d.png" in text and "2 photos with faces are gone" in text
    assert list(folder.failed) == [pictures / "x.png"]
    # Where one photo was another is now, and the first lies elsewhere: neither is gone.
    (pictures / "z.png").rename(pictures / "y.png")
    (pictures / "e.png").rename(pictures / "z.png")
    folder = cluster(sorted(pictures.iterdir()))
    assert analyzer.looks == looks + 1 and len(folder.gone) == 2
    people = who(out)
    assert people["y.png", "0"] == people["z.png", "0"] == "Ada" and ("e.png", "0") not in people


def test_what_the_user_said_outlives_the_cache_and_another_analyzer(
    cluster, pictures, tmp_path, analyzer
):
    out, files = tmp_path / "people", sorted(pictures.iterdir())
    cluster(files)
    cluster([], names=[("person 02", "Bo")])
    before = [(r["number"], r["photo"], r["face"], r["person"]) for r in table(out)]
    (out / "faces.safetensors").unlink()
    cluster(files)
    assert [(r["number"], r["photo"], r["face"], r["person"]) for r in table(out)] == before
    analyzer.name = "other"
    looks = analyzer.looks
    folder = cluster([])
    assert (
        analyzer.looks == looks + len(files)
        and "all photos are looked at again" in folder.report[0]
    )
    assert [(r["number"], r["photo"], r["face"], r["person"]) for r in table(out)] == before


def test_albums_hold_exactly_the_faces_of_the_table(
    cluster, pictures, tmp_path, analyzer, recogniser
):
    out = tmp_path / "people"
    cluster(sorted(pictures.iterdir()))
    edit(out, lambda row: row.update(person="Ada/../B") if row["person"] == "person 01" else None)
    # The wrong face of the group picture, because the user says so.
    edit(out, lambda row: row.update(person={"0": "Ada/../B", "1": ""}[row["face"]])
         if row["photo"] == "party.png" else None)  # fmt: skip
    folder = cluster([])
    make = lambda **more: make_albums(  # noqa: E731
        folder, analyzer, recogniser, crop_size=128, **{"overwrite": False, **more}
    )
    albums = make()
    assert list(albums.made) == ["Ada/../B"] and not albums.failed
    path = albums.made["Ada/../B"]
    assert path == out / "albums/Ada_.._B.person" and path.stat().st_mode & 0o077 == 0
    person = Person.from_file(path)
    assert person.name == "Ada/../B" and person.sources == ("a.png", "b.png", "e.png", "party.png")
    mine = {f.row.photo: f.embedding for f in folder.faces if f.row.person == "Ada/../B"}
    expected = torch.stack([mine[source] for source in person.sources])
    torch.testing.assert_close(person.embeddings, expected, rtol=0, atol=1e-5)
    (warning,) = [line for line in albums.report if line.startswith("warning")]
    assert "party.png" in warning and "with another name, or nobody, in people.csv" in warning
    assert make().made and not make().failed  # just so already
    person.save(path)
    edit(out, lambda row: row.update(person="nobody") if row["photo"] == "e.png" else None)
    folder = cluster([])
    content = path.read_bytes()
    assert "--overwrite" in make().failed["Ada/../B"] and path.read_bytes() == content
    assert make(overwrite=True).made and len(Person.from_file(path)) == 3
    save(pictures / "a.png", torch.rand(3, 64, 64))
    albums = make(overwrite=True)
    assert "a.png is gone or was changed" in "\n".join(albums.report)
    assert Person.from_file(path).sources == ("b.png", "party.png")


ROW = {"number": 3, "photo": "a.png", "face": 1, "box": (1.0, 2.0, 30.0, 40.0), "sha256": "0" * 64}


@pytest.mark.parametrize(
    "name", ["=cmd|' /C calc'!A0", "+1", "-Ada", "@x", "'t Hooft", "''x", 'a,b;c"d', "Zoë \u5b50"]
)
def test_the_table_gives_back_what_it_was_given_and_no_formulas(tmp_path, name):
    path = tmp_path / "people.csv"
    write_table(path, [Row(**ROW, person=name, more={"mine": name})])
    for cell in next(csv.reader(path.read_text("utf-8-sig").splitlines()[1:])):
        assert cell[:1] not in ("=", "+", "-", "@", "\t")
    (row,) = read_table(path)
    assert (row.person, row.more, row.box) == (name, {"mine": name}, ROW["box"])
    assert (row.number, row.face, row.sha256) == (3, 1, "0" * 64)


def test_what_spreadsheets_add_is_no_row_and_no_column(tmp_path):
    path = tmp_path / "people.csv"
    write_table(path, [Row(**ROW, person="Ada"), Row(**{**ROW, "number": 4}, person="Bo")])
    plain, good = read_table(path), path.read_bytes().decode("utf-8-sig")
    head, *lines = good.splitlines()
    semicolons = good.replace(",", ";")
    for text in (
        f"sep=;\r\n{semicolons}",
        "\r\n".join([head, lines[0], "," * head.count(","), lines[1], " ", ",,"]),
        "\r".join(f"{line},,," for line in (head, *lines)),
        f"{head},,\n{lines[0]}\n\n{lines[1]}\n",
    ):
        path.write_bytes(text.encode("utf-8-sig"))
        assert read_table(path) == plain
    path.write_bytes(f"{head},,\n{lines[0]},,mine\n{lines[1]}".encode())
    assert [row.more for row in read_table(path)] == [
        {"column 13": "", "column 14": "mine"}, {"column 13": "", "column 14": ""}
    ]  # fmt: skip


def broken_tables(good):
    head, line = good.split("\r\n")[:2]
    yield "needs the column person", good.replace("person", "persona", 1)
    yield "once only", f"{head},person\r\n{line},x\r\n"
    yield "more than once", f"{head}\r\n{line}\r\n{line}\r\n"
    yield "hexadecimal", f"{head}\r\n{line.rsplit(',', 1)[0]}\r\n"
    yield "hexadecimal", f"{head}\r\n{line.replace('Ada', 'Smith, Ada')}\r\n"
    yield "whole numbers", f"{head}\r\n{'9' * 5000}{line[1:]}\r\n"
    yield "whole numbers", f"{head}\r\n-{line}\r\n"
    yield "hexadecimal", f"{head}\r\n{line[:-1]}g\r\n"
    yield "are pixels", f"{head}\r\n{line.replace(',30,', ',nan,')}\r\n"
    yield "no name", f"{head}\r\n{line.replace('Ada', 'A' * 101)}\r\n"
    yield "no name", f"{head}\r\n{line.replace('Ada', 'A' + chr(0x202E) + 'b')}\r\n"
    yield "unexpected end", f'{head}\r\n"{line}'
    yield "line", f"{head}\r\n{line.replace('a.png', 'x' * 200_000)}\r\n"
    yield "needs the column number", ""


def test_a_table_that_cannot_be_understood_is_named_and_kept(cluster, pictures, tmp_path):
    out = tmp_path / "people"
    path = out / "people.csv"
    out.mkdir()
    write_table(path, [Row(**ROW, person="Ada")])
    good = path.read_text("utf-8-sig")
    for words, text in broken_tables(path.read_bytes().decode("utf-8-sig")):
        path.write_bytes(text.encode())
        with pytest.raises(FacewrightError, match=words):
            cluster([pictures / "a.png"])
        assert path.read_bytes() == text.encode()
    for data in (b"\xff\xfen\0u\0", good.replace("Ada", "Zoë").encode("latin-1")):
        path.write_bytes(data)
        with pytest.raises(FacewrightError, match="CSV UTF-8"):
            read_table(path)


def test_a_cache_of_somebody_else_is_checked(cluster, pictures, tmp_path):
    out = tmp_path / "people"
    cluster([pictures / "a.png", pictures / "party.png"])
    path = out / "faces.safetensors"
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()[CONFIG_KEY])

    def refused(**changes):
        parts = {**tensors, **changes.pop("tensors", {})}
        about = {FORMAT_KEY: "people", CONFIG_KEY: json.dumps({**config, **changes})}
        save_file(parts, path, metadata=about)
        with pytest.raises(FacewrightError, match="cannot be used"):
            read_seen(out)

    refused(version=2)
    refused(recogniser=7)
    refused(next=[0, 1])
    refused(next=[10**12, 1])
    refused(sheets=[3])
    refused(given={"recogniser": 1})
    for entry in (
        {"sha256": "../../x"}, {"faces": 10**6}, {"faces": -1}, {"path": "a%00b"}, {"name": ""},
    ):  # fmt: skip
        refused(photos=[{**config["photos"][0], **entry}, *config["photos"][1:]])
    refused(photos=config["photos"][:1] * 2)
    refused(tensors={"embeddings": tensors["embeddings"] * 2})
    refused(tensors={"boxes": tensors["boxes"] * float("nan")})
    refused(tensors={"points": tensors["points"][:1]})
    refused(tensors={"sharpness": tensors["sharpness"].double()})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FacewrightError, match="give the photos again"):
        cluster([])
    # Which recogniser it was is not known then, and is not what is complained of.
    path.write_bytes(path.read_bytes()[:20])
    run = CliRunner().invoke(app, ["person", "cluster", str(out)])
    assert run.exit_code == 1 and "give the photos again" in run.output
    # Names of sheets that lead out of the folder are not followed.
    path.unlink()
    kept = tmp_path / "kept.png"
    kept.write_bytes(b"mine")
    folder = cluster([pictures / "a.png"], sheets=True)
    folder.seen.sheets += ["../kept.png", str(kept), "people.csv"]
    folder.save()
    cluster([], sheets=True)
    assert kept.read_bytes() == b"mine" and (out / "people.csv").is_file()


def test_every_sheet_is_a_file_of_its_own(cluster, pictures, tmp_path, monkeypatch):
    from facewright.core.drawing import people

    monkeypatch.setattr(people, "PER_SHEET", 2)
    cluster(sorted(pictures.iterdir()))
    cluster([], names=[("person 01", "Ada"), ("person 02", "Ada 2")])
    out = tmp_path / "people"
    edit(out, lambda row: row.update(person="nobody") if row["photo"] == "d.png" else None)
    folder = cluster([], sheets=True)
    names = {path.name for path in out.rglob("*.png")}
    assert len(names) == len(folder.seen.sheets) == 6  # of Ada two, of Ada 2 one, of all two
    assert {"Ada 1.png", "Ada 2.png", "Ada 2_.png"} <= names


def test_names_for_files_are_distinct_on_every_system():
    names = ["Ada", "ada", "A/B", "A\\B", "con", "x" * 100, "x" * 99 + "y", "Seen Once", "…"]
    stems = file_stems(names, taken=["seen once"])
    assert len({stem.casefold() for stem in stems.values()}) == len(names)
    assert stems["Ada"] == "Ada" and stems["ada"] == "ada (2)" and stems["con"] == "_con"
    assert not any(set(stem) & set('/\\:*?"<>|') for stem in stems.values())


runner = CliRunner()


@pytest.mark.slow
def test_the_photos_that_come_with_the_package_are_grouped(cluster, tmp_path):
    """As docs/people.md tells it."""
    result = runner.invoke(app, ["demo", "--people", "-o", str(tmp_path)])
    assert result.exit_code == 0 and "13 photos of computer-drawn people" in result.stderr
    folder = cluster(sorted((tmp_path / "people").glob("*.png")))
    people = [sorted({face.row.photo for face in mine}) for mine in folder.people().values()]
    ada, bo = (
        sorted(
            [*(f"{name}_{i}.png" for i in (1, 2, 3, 4)), *more, "three.png", "three_damaged.png"]
        )
        for name, more in (("ada", ["ada_damaged.png"]), ("bo", []))
    )
    others = [["three.png", "three_damaged.png"], *[["five.png"]] * 5, ["portrait.png"]]
    assert people == [ada, bo, *others] and not folder.unsure()


def test_small_and_blurred_faces_are_said_to_be_so(cluster, pictures, tmp_path):
    small = Image.open(pictures / "a.png")
    crowd = Image.new("RGB", (192, 192), (90, 90, 90))
    crowd.paste(small.resize((24, 24), Image.Resampling.BOX), (80, 80))
    crowd.save(pictures / "small.png")
    soft = small.resize((9, 9), Image.Resampling.BOX).resize((192, 192), Image.Resampling.BICUBIC)
    soft.save(pictures / "soft.png")
    folder = cluster(sorted(pictures.iterdir()), sheets=True)
    notes = {row["photo"]: (row["person"], row["note"]) for row in table(tmp_path / "people")}
    found = {name: notes[name] for name in ("small.png", "soft.png") if name in notes}
    assert found, "neither was found at all"
    for name, (person, note) in found.items():
        assert not person and "to tell" in note, name
    assert (tmp_path / "people/unsure.png").is_file() and len(folder.unsure()) == len(found)


def test_the_command(album, tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")
    monkeypatch.setenv("FACEWRIGHT_MODELS", str(tmp_path / "models"))
    out = tmp_path / "people"
    person = lambda *args: runner.invoke(app, ["person", "cluster", *map(str, args)])  # noqa: E731
    (tmp_path / "bad.png").write_bytes(b"")
    result = person(album, tmp_path / "bad.png", "-o", out, "--recogniser", "nano", "--json")
    assert result.exit_code == 1 and "bad.png is empty" in result.stderr
    told = json.loads(result.stdout)
    assert told["people"] == {"person 01": 4, "person 02": 3, "person 03": 1}
    assert [face["number"] for face in told["faces"]] == list(range(1, 9))
    result = person(out, "--albums")
    assert result.exit_code == 1 and "Nobody has a name yet" in result.stderr
    result = person(out, "--albums", "--name", "person 01=Ada", "--name", "person 03=nobody")
    assert result.exit_code == 0, result.stderr
    assert "1 left out as nobody" in result.stderr and "1 person without a name" in result.stderr
    assert Person.from_file(out / "albums/Ada.person").sources == (
        "a.png", "b.png", "e.png", "party.png",
    )  # fmt: skip
    for args, words in (
        ((album,), "Give a folder"),
        ((out, "--name", "x"), "should be a name"),
        ((tmp_path / "nothing", "-o", out), "There is no file"),
        ((album, "-o", tmp_path / "bad.png"), "is a file"),
    ):
        result = person(*args)
        # Lines break where the box ends, which depends on the length of paths.
        said = " ".join(result.stderr.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())
        assert result.exit_code == 2 and words in said, result.stderr
    monkeypatch.setitem(sys.modules, "sklearn", None)
    result = person(out)
    assert result.exit_code == 1 and 'pip install "facewright[people]"' in result.stderr
    assert os.path.exists(out / "people.csv") and set(COLUMNS) == set(table(out)[0])
