"""restore and degrade over kinds of files: where no face is, pixels are what others decode."""

import io
import json

import numpy as np
import pytest
import torch
from facewright.core.demo import GROUP_LQ
from facewright.core.images import read_picture
from facewright.headless.cli import app
from PIL import Image, ImageCms
from typer.testing import CliRunner

from .picture_files import TURNED, png, tiff

RNG = np.random.default_rng(4)
runner = CliRunner()


@pytest.fixture(scope="module")
def scene():
    """(h, w, 3) uint8 with a face."""
    with Image.open(GROUP_LQ) as image:
        return np.asarray(image.convert("RGB"))[40:220, 370:530]


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def tagged(value):
    exif = Image.Exif()
    exif[274] = value
    return exif


def stored_so_that_it_shows(array, orientation):
    """What `TURNED` makes `array` of."""
    back = {6: 8, 8: 6}.get(orientation, orientation)
    return np.ascontiguousarray(TURNED[back](array))


def kinds(scene):
    """Files by name, each with what it shows: (h, w, c), and how far off lossy ones may be."""
    wide = scene.astype(int)
    deep = wide * 257
    grey = wide.mean(2, keepdims=True).astype(int)
    turned = Image.fromarray(stored_so_that_it_shows(scene, 6))
    cmyk = Image.fromarray(scene).convert("CMYK")
    light = 255.0 - np.asarray(cmyk)
    palette = Image.fromarray(scene).quantize(64)
    table = np.array(palette.getpalette()).reshape(-1, 3)
    hole = np.where(np.arange(scene.shape[1])[None, :, None] < 20, 0, 255) + 0 * grey
    return {
        "cmyk.tif": (saved(cmyk, "TIFF"), light[..., :3] * light[..., 3:] / 255, 1),
        "palette.tif": (saved(palette, "TIFF"), table[np.asarray(palette)], 0),
        "rot.tif": (saved(turned, "TIFF", exif=tagged(6)), wide, 0),
        "planar16.tif": (tiff(deep, 16, 2, planar=True), deep / 257, 0),
        "turned16.tif": (
            tiff(stored_so_that_it_shows(deep, 3), 16, 2, orientation=3, order=">"),
            deep / 257,
            0,
        ),
        "white.tif": (tiff(255 - grey, 8, 0), grey.repeat(3, 2), 0),
        "grey16.png": (
            png(grey * 257, 16, 0, before=[(b"tRNS", b"\0\0")], filters=False),
            np.dstack([grey.repeat(3, 2), np.where(grey == 0, 0, 255)]),
            0,
        ),
        "alpha.webp": (
            saved(
                Image.fromarray(np.dstack([wide, hole]).astype(np.uint8)),
                "WEBP",
                lossless=True,
                exact=True,
            ),
            np.dstack([wide, hole]),
            0,
        ),
        "photo.jpg": (saved(turned, "JPEG", quality=97, exif=tagged(6), dpi=(300, 300)), wide, 12),
        "broken.jpg": (saved(cmyk, "JPEG", quality=97, icc_profile=b"broken"), None, 0),
        "plain.bmp": (saved(Image.fromarray(scene), "BMP"), wide, 0),
        "one.gif": (saved(palette, "GIF"), table[np.asarray(palette)], 0),
    }


def cli(command, *args):
    return runner.invoke(app, [command, *map(str, args)])


@pytest.fixture(scope="module")
def restored(scene, tmp_path_factory):
    """The folder that was restored, the outcome, and the results' folder."""
    folder = tmp_path_factory.mktemp("kinds")
    for name, (data, *_) in kinds(scene).items():
        (folder / "in" / name).parent.mkdir(exist_ok=True)
        # Names differ where results of two would share one.
        (folder / "in" / f"{name.replace('.', '_')}.{name.split('.')[1]}").write_bytes(data)
    result = cli("restore", folder / "in", "-o", folder / "out", "--weights", "nano", "--json")
    assert result.exit_code == 0, result.stderr
    return folder, {e["input"].rpartition("/")[2]: e for e in json.loads(result.stdout)["done"]}


def test_restore_touches_nothing_but_faces_whatever_the_file(scene, restored):
    _folder, entries = restored
    truth = kinds(scene)
    assert len(entries) == len(truth)
    for name, entry in entries.items():
        stem = name.rpartition(".")[0].rpartition("_")[0]
        _data, shown, off = truth[f"{stem}.{name.rpartition('.')[2]}"]
        assert entry["faces"] == 1, name
        with Image.open(entry["output"]) as back:
            back.load()
        result = read_picture(entry["output"])
        pixels = result.pixels.numpy().transpose(1, 2, 0) * 255
        assert pixels.shape[:2] == scene.shape[:2]
        if shown is None:  # by the plain formula, but JPEG lost a little
            shown, off = truth["cmyk.tif"][1], 14
        assert pixels.shape == shown.shape, name
        apart = np.abs(pixels - shown)
        if off <= 1:
            same = (apart[..., :3] <= off + 0.01).all(2)
            assert 0.4 < same.mean() < 0.99, name
            assert same[:4].all() and same[-4:].all() and same[:, :4].all(), name
            np.testing.assert_array_equal(pixels[..., 3:].round(), shown[..., 3:])
        else:
            assert np.median(apart) < off


def test_what_had_to_be_said_was_said(restored):
    _, entries = restored
    notes = {name: " ".join(entry["notes"]) for name, entry in entries.items()}
    assert "CMYK was converted" in notes["cmyk_tif.tif"]
    assert "color profile is damaged" in notes["broken_jpg.jpg"]
    assert not notes["rot_tif.tif"] and not notes["palette_tif.tif"]


def test_depth_resolution_and_losslessness_survive(restored):
    _folder, entries = restored
    assert read_picture(entries["planar16_tif.tif"]["output"]).bits == 16
    assert read_picture(entries["grey16_png.png"]["output"]).bits == 16
    assert read_picture(entries["alpha_webp.webp"]["output"]).lossless
    with Image.open(entries["photo_jpg.jpg"]["output"]) as back:
        assert back.info["dpi"] == (300, 300) and back.getexif().get(274, 1) == 1


WALL = np.broadcast_to(np.linspace(60, 90, 80).astype(np.uint8)[None, :, None], (60, 80, 3))


@pytest.mark.parametrize("strength", [None, 0])
def test_what_passes_through_is_copied(scene, tmp_path, strength):
    picture = Image.fromarray(scene if strength == 0 else np.ascontiguousarray(WALL))
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    files = {
        "a.jpg": saved(picture, "JPEG", quality=61, exif=tagged(3), icc_profile=icc),
        "b.webp": saved(picture, "WEBP", lossless=True),
        "c.tif": saved(picture.convert("CMYK"), "TIFF", compression="tiff_lzw"),
        "d.png": saved(picture.quantize(9), "PNG", dpi=(72, 72)),
        "e.jpg": saved(picture.convert("CMYK"), "JPEG", icc_profile=b"x"),
        "f.png": saved(picture, "JPEG"),  # under a wrong name
        "g.gif": saved(picture, "GIF"),
    }
    if strength == 0:  # every face takes its time
        files = {name: files[name] for name in ("a.jpg", "b.webp", "f.png")}
    (tmp_path / "in").mkdir()
    for name, data in files.items():
        (tmp_path / "in" / name).write_bytes(data)
    more = () if strength is None else ("--strength", strength)
    result = cli("restore", tmp_path / "in", "-o", tmp_path / "out", "--weights", "nano", *more)
    assert result.exit_code == 0, result.stderr
    for name in files.keys() - {"f.png", "g.gif"}:
        assert (tmp_path / "out" / name).read_bytes() == files[name], name
    for source in files.keys() & {"f.png", "g.gif"}:
        name = f"{source[0]}.png"
        with Image.open(tmp_path / "out" / name) as back:
            assert back.format == "PNG"
        before = read_picture(tmp_path / "in" / source).pixels
        assert torch.equal(read_picture(tmp_path / "out" / name).pixels, before)


def test_degrade_reads_and_writes_the_same_kinds(scene, tmp_path):
    small = np.ascontiguousarray(scene[:60, :80])
    made = kinds(small)
    (tmp_path / "in").mkdir()
    for name, (data, *_) in made.items():
        (tmp_path / "in" / name).write_bytes(data)
    result = cli("degrade", tmp_path / "in", "-o", tmp_path / "out", "--preset", "mild", "--json")
    assert result.exit_code == 0, result.stderr
    for entry in json.loads(result.stdout)["done"]:
        name = entry["input"].rpartition("/")[2]
        with Image.open(entry["output"]) as back:
            back.load()
        shown = made["cmyk.tif" if name == "broken.jpg" else name][1]
        pixels = read_picture(entry["output"]).pixels.numpy().transpose(1, 2, 0) * 255
        assert pixels.shape == shown.shape, name
        assert np.abs(pixels[..., :3] - shown[..., :3]).mean() < 25, name
        np.testing.assert_array_equal(pixels[..., 3:].round(), shown[..., 3:])


def test_degrading_by_nothing_copies(tmp_path):
    deep = RNG.integers(0, 65536, (30, 40, 3))
    files = {"a.tif": tiff(deep, 16, 2, planar=True), "b.png": png(deep, 16, 2)}
    (tmp_path / "in").mkdir()
    for name, data in files.items():
        (tmp_path / "in" / name).write_bytes(data)
    first = cli("degrade", tmp_path / "in", "-o", tmp_path / "one", "--preset", "mild", "--json")
    assert first.exit_code == 0, first.stderr
    records = [
        json.loads(line) for line in (tmp_path / "one/manifest.jsonl").read_text().splitlines()
    ]
    recipe = records[0]["recipe"] | {"steps": []}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    args = (tmp_path / "in", "-o", tmp_path / "out", "--recipe", tmp_path / "recipe.json")
    result = cli("degrade", *args)
    assert result.exit_code == 0, result.stderr
    for name, data in files.items():
        assert (tmp_path / "out" / name).read_bytes() == data
