"""One folder of everything that users' folders hold, through every command that scans folders."""

import json
import os
import socket
import sys
from pathlib import Path

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.files import scan
from facewright.core.files.scan import LeftAside, pictures_in
from facewright.core.images import read_picture
from facewright.headless.cli import app
from facewright.headless.jobs.planning import find_pictures
from facewright.training.world.faces3d import photos
from PIL import Image
from typer.testing import CliRunner

runner = CliRunner()
ODD = b"od\xff\xfed.png"
"""A name that is no UTF-8."""


def save(path, like):
    path.parent.mkdir(parents=True, exist_ok=True)
    like.save(path, "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG")


@pytest.fixture(scope="module")
def face():
    pixels = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))
    return Image.fromarray((pixels * 255).byte().permute(1, 2, 0).numpy())


@pytest.fixture
def everything(tmp_path, face, request):
    """A folder with three pictures, and one behind a link, among all that is none."""
    top = tmp_path / "in"
    for name in ("a.png", "sub/B.JPEG"):
        save(top / name, face)
    save(tmp_path / "elsewhere/linked.png", face)
    for name in ("._a.png", ".hidden.jpg", "@eaDir/a.png", "__MACOSX/a.png",
                 ".ipynb_checkpoints/a.png", "sub/.cache/a.png"):  # fmt: skip
        save(top / name, face)
    for name in ("c.heic", "d.HEIC", "e.dng", "f.mp4", "g.jxl", "h.psd", "Thumbs.db", ".DS_Store",
                 "desktop.ini", "notes.md", "a.txt", "alone.txt", "sub/noending"):  # fmt: skip
        (top / name).write_bytes(b"x")
    (top / "folder.png").mkdir()
    if sys.platform != "win32":
        (top / "other").symlink_to(tmp_path / "elsewhere")
        (top / "again").symlink_to(tmp_path / "elsewhere")
        (top / "loop").symlink_to(top)
        (top / "sub/up").symlink_to(tmp_path)
        (top / "lost.png").symlink_to(tmp_path / "nothing.png")
        os.mkfifo(top / "x.png")
        with socket.socket(socket.AF_UNIX) as unix:
            here = Path.cwd()
            os.chdir(top)  # their names have at most 108 bytes
            unix.bind("s.jpg")
            os.chdir(here)
    if sys.platform == "linux":
        save(Path(os.fsdecode(os.fsencode(top) + b"/" + ODD)), face)
    return top


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="named pipes, links and names of bytes")
PICTURES = ["a.png", os.fsdecode(ODD), "other/linked.png", "sub/B.JPEG"]
REASONS = {
    (".heic", "no reader: install pillow-heif"): 2,
    (".jxl", "no reader: install pillow-jxl-plugin"): 1,
    (".dng", "a camera's raw file: export it as TIFF or PNG"): 1,
    (".mp4", "a video"): 1,
    (".psd", "no reader: export it as PNG"): 1,
    (".md", "no picture"): 1,
    (".txt", "no picture"): 1,
    ("", "no picture"): 1,
    (".png", "hidden"): 1,
    (".jpg", "hidden"): 1,
    ("@eaDir/", "kept by another program"): 1,
    ("__MACOSX/", "kept by another program"): 1,
    (".ipynb_checkpoints/", "hidden"): 1,
    (".cache/", "hidden"): 1,
}
NAMED = {
    "x.png": "a named pipe, no file",
    "s.jpg": "a socket, no file",
    "lost.png": "a link to nothing",
    "loop": "a link to a folder that is searched anyway",
    "sub/up": "a link to a folder that is searched anyway",
}


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch):
    """As if none were installed here."""
    for module in ("pillow_heif", "pillow_jxl", "pillow_avif"):
        monkeypatch.setitem(sys.modules, module, None)
    scan.why_unread.cache_clear()
    yield
    scan.why_unread.cache_clear()


@LINUX
def test_the_scan_takes_the_pictures_and_tells_of_all_else(everything):
    aside = LeftAside()
    found = pictures_in(everything, aside)
    names = [path.relative_to(everything).as_posix() for path in found]
    # Of two links to one folder the first is followed.
    assert sorted(n.replace("again/", "other/") for n in names) == sorted(PICTURES)
    assert dict(aside.counts) == REASONS
    named = {p.relative_to(everything).as_posix(): why for p, why in aside.named.items()}
    links = {"other", "again"} & set(named)
    assert len(links) == 1 and {k: v for k, v in named.items() if k not in links} == NAMED
    sentence = aside.sentence()
    assert "2 .heic (no reader: install pillow-heif)" in sentence and "1 .mp4 (a video)" in sentence
    assert {entry["count"] for entry in aside.entries() if "files" in entry} <= {1, 2, 3}
    json.dumps(aside.entries())


def json_of(args):
    result = runner.invoke(app, [*map(str, args), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def check_left_aside(data):
    found = {(e["suffix"], e["reason"]): e["count"] for e in data["left_aside"] if "files" not in e}
    assert found == REASONS
    named = {Path(f).name for e in data["left_aside"] for f in e.get("files", ())}
    assert {Path(name).name for name in NAMED} <= named


def inputs(data):
    return sorted(Path(entry["input"]).name for entry in data["done"])


NAMES = sorted(Path(name).name for name in PICTURES)


@LINUX
def test_degrade(everything, tmp_path):
    data = json_of(["degrade", everything, "-o", tmp_path / "out"])
    check_left_aside(data)
    assert inputs(data) == NAMES
    assert all(Path(entry["output"]).exists() for entry in data["done"])
    again = runner.invoke(app, ["degrade", str(everything), "-o", str(tmp_path / "out")])
    assert again.exit_code == 0 and "Left aside: " in again.stderr
    assert "2 .heic (no reader: install pillow-heif)" in again.stderr.replace("\n", " ")


@LINUX
def test_restore(everything, tmp_path):
    args = [
        "restore",
        everything,
        "-o",
        tmp_path / "out",
        "--weights",
        "nano",
        "--analyzer",
        "nano",
    ]
    result = runner.invoke(app, [*map(str, args), "--receipts", "--compare", "--json"])
    data = json.loads(result.stdout)
    (failed,) = data["failed"]  # a video is taken, and this one is none
    assert result.exit_code == 1 and failed["input"] == str(everything / "f.mp4")
    data["left_aside"].append({"suffix": ".mp4", "reason": "a video", "count": 1})
    check_left_aside(data)
    assert inputs(data) == NAMES
    assert len(list((tmp_path / "out").rglob("*.receipts.json"))) == 4


@LINUX
def test_synthesize(everything, tmp_path):
    out = tmp_path / "out"
    few = ["--weights", "nano", "--steps", 1000 // 500, "--copies", 1]
    data = json_of(["synthesize", everything, "-o", out, *few])
    check_left_aside(data)
    assert inputs(data) == NAMES


@LINUX
def test_align(everything, tmp_path):
    data = json_of(
        ["align", everything, "-o", tmp_path / "out", "--analyzer", "nano", "--size", 64]
    )
    check_left_aside(data)
    assert inputs(data) == NAMES


@LINUX
def test_evaluate(everything, tmp_path):
    args = ["evaluate", everything, "--gt", everything, "-o", tmp_path / "out", "--metrics", "psnr"]
    data = json_of(args)
    found = {(e["suffix"], e["reason"]): e["count"] for e in data["left_aside"] if "files" not in e}
    assert found == {key: 2 * count for key, count in REASONS.items()}  # both folders
    assert (tmp_path / "out/report.html").stat().st_size > 0


@LINUX
def test_person(everything, tmp_path):
    pixels = photos(7, 1, size=256, aligned=False).pixels[0]
    save(everything / "a.png", Image.fromarray((pixels * 255).byte().movedim(0, -1).numpy()))
    args = ["person", "make", everything, "-o", tmp_path / "p.person", "--recogniser", "nano"]
    data = json_of(args)
    check_left_aside(data)


@LINUX
def test_run_batch(everything, tmp_path):
    nodes = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "[v2]"}},
    }
    (tmp_path / "w.json").write_text(json.dumps(nodes))
    args = ["run", tmp_path / "w.json", "--embedded", "--batch", everything, "-o", tmp_path / "o"]
    data = json_of(args)
    check_left_aside(data)
    assert inputs(data) == NAMES


@LINUX
def test_a_pipe_given_by_its_name_never_hangs(everything, tmp_path):
    pipe = str(everything / "x.png")
    with pytest.raises(FacewrightError, match="a named pipe"):
        find_pictures([pipe], tmp_path / "out")
    aside = LeftAside()
    assert len(find_pictures([pipe, str(everything / "a.png")], tmp_path / "out", aside)) == 1
    assert aside.named == {everything / "x.png": "a named pipe, no file"}
    with pytest.raises(FacewrightError, match="a named pipe"):
        read_picture(pipe)
    assert runner.invoke(app, ["score", pipe, pipe, "--metric", "psnr"]).exit_code == 1
    with pytest.raises(FacewrightError, match="a device"):
        read_picture("/dev/zero")


def test_folders_that_cannot_be_searched_are_named(tmp_path, face, monkeypatch):
    save(tmp_path / "a.png", face)
    (tmp_path / "closed").mkdir()
    real = os.scandir

    def closed(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(scan.os, "scandir", closed)
    aside = LeftAside()
    assert pictures_in(tmp_path, aside) == [tmp_path / "a.png"]
    assert aside.named == {tmp_path / "closed": "cannot be searched: Permission denied"}


def test_plugins_of_pillow_are_used_where_they_are(tmp_path, face, monkeypatch):
    """A stand-in for pillow-heif that reads a format of its own."""
    import types

    from PIL import ImageFile

    class Stand(ImageFile.ImageFile):
        format = "STAND"

        def _open(self):
            self._size, self._mode = (8, 8), "RGB"
            self.tile = [("raw", (0, 0, 8, 8), 12, ("RGB", 0, 1))]

    def register():
        Image.register_open("STAND", Stand, lambda start: start[4:12] == b"ftypstan")

    (tmp_path / "a.heic").write_bytes(b"\0\0\0\0ftypstan" + bytes(range(192)))
    aside = LeftAside()
    assert pictures_in(tmp_path, aside) == [] and aside.counts == {
        (".heic", "no reader: install pillow-heif"): 1
    }
    with pytest.raises(FacewrightError, match="install pillow-heif"):
        read_picture(tmp_path / "a.heic")
    plugin = types.SimpleNamespace(register_heif_opener=register)
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    scan.why_unread.cache_clear()
    try:
        assert read_picture(tmp_path / "a.heic").pixels.shape == (3, 8, 8)
        aside = LeftAside()
        assert pictures_in(tmp_path, aside) == [tmp_path / "a.heic"] and not aside
    finally:
        Image.OPEN.pop("STAND", None)
        if "STAND" in Image.ID:
            Image.ID.remove("STAND")


@pytest.mark.parametrize("suffix", sorted(scan.PICTURE_SUFFIXES - {".avif"}))
def test_every_suffix_counts_in_any_case(tmp_path, suffix):
    for name in (f"a{suffix}", f"b{suffix.upper()}"):
        (tmp_path / name).touch()
    assert len(pictures_in(tmp_path, LeftAside())) == 2


@pytest.mark.parametrize("suffix", sorted(scan._REASONS))
def test_what_is_no_readable_picture_says_so(tmp_path, suffix):
    (tmp_path / f"a{suffix}").touch()
    aside = LeftAside()
    assert not pictures_in(tmp_path, aside) and aside.sentence().startswith("Left aside: 1 ")
    with pytest.raises(FacewrightError, match="Left aside: 1"):
        find_pictures([str(tmp_path)], tmp_path / "out")
