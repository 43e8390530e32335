"""What travels with a picture: true of the new pixels, kept where it can be, told where not."""

import io
import warnings

import numpy as np
import pytest
import torch
from facewright.core import images
from facewright.core.errors import FacewrightError
from facewright.core.images import (
    Picture,
    decode_picture,
    read_picture,
    to_array,
    upright_size,
    write_picture,
    writing,
)
from PIL import Image, ImageCms, features

from .picture_files import TURNED, png, tiff

RNG = np.random.default_rng(3)
WRITTEN = [".png", ".jpg", ".webp", ".tif", ".bmp", ".ppm", ".jp2", ".avif"]
if not features.check("avif"):
    WRITTEN.remove(".avif")
if not features.check_codec("jpg_2000"):
    WRITTEN.remove(".jp2")


TURNABLE = ["JPEG", "PNG", "WEBP", "TIFF", *(["AVIF"] if ".avif" in WRITTEN else [])]


def smooth(height=40, width=56, channels=3):
    """(h, w, c) uint8 that compression hardly changes."""
    y, x = np.mgrid[:height, :width]
    planes = [y * 3 + x, 200 - y * 2, x * 4 % 240, 255 - x * 2 - y]
    return np.stack(planes[:channels], -1).astype(np.uint8)


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def srgb():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def cmyk_profile():
    whole = bytearray(srgb())
    whole[16:20] = b"CMYK"
    return bytes(whole)


def full_exif(orientation=6):
    """With everything that must not survive, and some that must."""
    made = Image.Exif()
    made[271], made[305], made[306], made[315] = "Maker", "Tool", "2024:01:02 03:04:05", "Zoë"
    made[274] = orientation
    made[282], made[283], made[296] = 72.0, 144.0, 2
    made[256], made[257], made[258], made[262], made[277] = 5, 6, (4, 4, 4), 3, 3
    made[531], made[513], made[514] = 1, 1000, 20
    made[0x8769] = {40962: 4000, 40963: 3000, 37122: 4.0, 33434: 0.01, 37500: b"own"}
    made[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    return made


def camera_of(exif):
    return dict(exif.get_ifd(0x8769))


@pytest.mark.parametrize("source", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_only_what_is_true_of_the_new_pixels_is_kept(tmp_path, source, suffix, orientation):
    array = smooth()
    about = full_exif(orientation)
    if source == "TIFF":
        # Pillow's writer would take the structure from the EXIF; this is what a TIFF holds anyway.
        for tag in (256, 257, 258, 262, 277, 531, 513, 514):
            del about[tag]
        whole, about = about.tobytes(), Image.Exif()
        about.load(whole)
    data = saved(Image.fromarray(array), source, exif=about)
    picture = decode_picture(data, "a")
    expected = TURNED[orientation](array)
    assert to_array(picture.pixels).shape == expected.shape
    np.testing.assert_allclose(to_array(picture.pixels), expected, atol=60)
    path = tmp_path / f"b{suffix}"
    assert not write_picture(path, picture.pixels, picture)
    with Image.open(path) as back:
        exif = back.getexif()
        assert (exif[271], exif[305], exif[274]) == ("Maker", "Tool", 1)
        height, width = expected.shape[:2]
        camera = camera_of(exif)
        assert (camera[40962], camera[40963], camera[33434]) == (width, height, 0.01)
        assert 37122 not in camera and camera[37500] == b"own"
        assert exif.get_ifd(0x8825)[1] == "N"
        resolution = (72.0, 144.0) if orientation < 5 else (144.0, 72.0)
        if source != "TIFF":
            assert (exif[282], exif[283]) == resolution
        if suffix != ".tif":
            assert not {256, 257, 258, 262, 277, 531, 513, 514} & set(exif)
        back.load()
        assert back.size == (width, height)
    again = read_picture(path).pixels
    np.testing.assert_allclose(to_array(again), to_array(picture.pixels), atol=40)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16"]
)
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_structure_tags_of_a_tiff_are_never_passed_on(tmp_path, mode, suffix):
    array = smooth()
    plain = Image.fromarray(array)
    if mode == "P":
        image = plain.quantize(16)
    elif mode in {"PA", "LA", "RGBA"}:
        image = plain.convert("RGBA").convert(mode)
    elif mode == "I;16":
        image = Image.fromarray(array[..., 0].astype(np.uint16) * 257)
    elif mode == "LAB":
        profiles = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
        image = ImageCms.profileToProfile(plain, *profiles, outputMode="LAB")
    else:
        image = plain.convert(mode)
    picture = decode_picture(saved(image, "TIFF"), "a.tif")
    shown = to_array(picture.pixels[:3])
    if mode in {"RGB", "RGBA", "CMYK", "YCbCr"}:
        np.testing.assert_allclose(shown, array, atol=4)
    changed = picture.pixels.clone()
    changed[:3] = 1 - changed[:3]
    write_picture(tmp_path / f"b{suffix}", changed, picture)
    with Image.open(tmp_path / f"b{suffix}") as back:
        if mode == "I;16":
            array = np.asarray(back).astype(float) / 257
        else:
            array = np.asarray(back.convert("RGB")).astype(float)
    expected = to_array(changed[:3]).astype(float)
    if mode == "I;16":
        expected = expected[..., 0]
    np.testing.assert_allclose(array, expected, atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", TURNABLE)
def test_every_format_is_turned_once(tmp_path, form, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    array = smooth()
    path = tmp_path / "a.bin"
    path.write_bytes(saved(Image.fromarray(array), form, exif=exif, quality=95))
    expected = TURNED[orientation](array)
    got = to_array(read_picture(path).pixels)
    assert got.shape == expected.shape and upright_size(path) == got.shape[1::-1]
    assert np.abs(got.astype(int) - expected).mean() < 8


def test_a_picture_that_was_turned_before_saving():
    # What a scanner program writes: pixels upside down, and a tag that says so.
    exif = Image.Exif()
    exif[274] = 3
    array = smooth()
    for kind in (Image.fromarray(array), Image.fromarray(array[..., 0].astype(np.uint16) * 257)):
        rotated = Image.fromarray(np.rot90(np.asarray(kind), 2).copy())
        picture = decode_picture(saved(rotated, "TIFF", exif=exif), "rot.tif")
        got = to_array(picture.pixels, picture.bits)
        plain = np.asarray(kind)
        np.testing.assert_array_equal(got, plain if plain.ndim == 3 else np.dstack([plain] * 3))


BAD_ORIENTATIONS = ["6", "upright", b"\x06", 9, 65535, 2.5, -1]


@pytest.mark.parametrize("value", BAD_ORIENTATIONS)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_orientation_that_is_none_costs_a_note(tmp_path, form, value):
    kinds = {str: 2, bytes: 7, int: 3 if value in {9, 65535} else 9, float: 12}
    kind = kinds[type(value)]
    raw = {2: lambda v: v.encode() + b"\0", 7: bytes}.get(kind, lambda v: v)(value)
    values = list(raw) if isinstance(raw, bytes) else [raw]
    if form == "TIFF":
        if kind == 9:
            pytest.skip("not written by the helper")
        data = tiff(smooth().astype(int), 8, 2, tags={274: (kind, values)})
    else:
        small = tiff(np.zeros((1, 1, 1), int), 8, 1, tags={274: (kind if kind != 9 else 3, [
            v & 0xFFFF if isinstance(v, int) else v for v in values])})  # fmt: skip
        data = saved(Image.fromarray(smooth()), form, exif=b"Exif\0\0" + small)
    picture = decode_picture(data, "a")
    assert to_array(picture.pixels).shape == smooth().shape
    assert any("orientation" in note for note in picture.notes)
    write_picture(tmp_path / "b.png", picture.pixels, picture)


@pytest.mark.parametrize(
    "icc",
    [b"x", bytes(200), srgb()[:100], b"\0" * 128 + b"acsp"],
    ids=["x", "zeros", "cut short", "mark alone"],  # a profile holds the time it was made at
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("form", ["JPEG", "TIFF", "PNG", "WEBP"])
def test_a_broken_profile_costs_a_note(tmp_path, form, mode, icc):
    if mode == "CMYK" and form in {"PNG", "WEBP"}:
        pytest.skip("no such files")
    array = smooth()
    data = saved(Image.fromarray(array).convert(mode), form, icc_profile=icc)
    picture = decode_picture(data, "a.jpg")
    assert any("color profile" in note for note in picture.notes)
    assert picture.icc is None
    expected = np.asarray(Image.fromarray(array).convert(mode).convert("RGB")).astype(int)
    assert np.abs(to_array(picture.pixels) - expected).mean() < 12
    write_picture(tmp_path / "a.png", picture.pixels, picture)


def test_a_profile_of_other_pixels_is_not_passed_on():
    data = saved(Image.fromarray(smooth()), "PNG", icc_profile=cmyk_profile())
    picture = decode_picture(data, "a.png")
    assert picture.icc is None and "CMYK" in picture.notes[0]


def test_cmyk_and_ycck_with_and_without_a_profile():
    ink = smooth(channels=4)
    image = Image.frombytes("CMYK", (56, 40), ink.tobytes())
    light = (255.0 - ink[..., :3]) * (255 - ink[..., 3:]) / 255
    for options in ({}, {"icc_profile": cmyk_profile()}):
        picture = decode_picture(saved(image, "JPEG", quality=98, **options), "a.jpg")
        assert np.abs(to_array(picture.pixels) - light).mean() < 5
        assert "CMYK was converted to RGB" in picture.notes
    # As Adobe writes it: the same, its colours as YCbCr.
    data = bytearray(saved(image, "JPEG", quality=98, subsampling=0))
    at = data.index(b"Adobe") + 11
    assert data[at] in {0, 2}
    data[at] = 2
    ycck = decode_picture(bytes(data), "a.jpg")
    assert ycck.pixels.shape == (3, 40, 56)


def test_rgb_stored_in_a_jpeg_as_it_is():
    cases = saved(Image.fromarray(smooth()), "JPEG", quality=98, keep_rgb=True)
    np.testing.assert_allclose(to_array(decode_picture(cases, "a").pixels), smooth(), atol=12)


@pytest.mark.parametrize("marker, body", [
    (0xE1, b"Exif\0\0II*\0\xff\xff\xff\x7f"), (0xE1, b"Exif\0\0"), (0xE1, b"Exif\0\0garbage!"),
    (0xE2, b"ICC_PROFILE\0\x02\x05half"), (0xE2, b"MPF\0broken"), (0xED, b"Photoshop 3.0\x008BIM"),
    (0xFE, b"\xff" * 30),
])  # fmt: skip
def test_broken_segments_of_a_jpeg_cost_no_picture(capfd, marker, body):
    plain = saved(Image.fromarray(smooth()), "JPEG")
    segment = bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        picture = decode_picture(plain[:2] + segment + plain[2:], "a.jpg")
    assert torch.equal(picture.pixels, decode_picture(plain, "a.jpg").pixels)
    assert not caught and capfd.readouterr() == ("", "")


def test_other_kinds_of_jpeg_are_refused_by_name():
    data = saved(Image.fromarray(smooth()), "JPEG")
    at = data.index(b"\xff\xc0")
    for change, words in (((at + 1, 0xC3), "lossless"), ((at + 4, 12), "12-bit")):
        wrong = bytearray(data)
        wrong[change[0]] = change[1]
        with pytest.raises(FacewrightError, match=words):
            decode_picture(bytes(wrong), "a.jpg")


@pytest.mark.parametrize("source", ["PNG", "JPEG", "TIFF", "BMP"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
@pytest.mark.parametrize("bits", [8, 16])
def test_resolution_survives(tmp_path, source, suffix, bits):
    picture = decode_picture(saved(Image.fromarray(smooth()), source, dpi=(300, 150)), "a")
    np.testing.assert_allclose(picture.dpi, (300, 150), atol=0.1)
    picture.bits = bits
    write_picture(tmp_path / f"b{suffix}", picture.pixels, picture)
    with Image.open(tmp_path / f"b{suffix}") as back:
        np.testing.assert_allclose([float(v) for v in back.info["dpi"]], (300, 150), atol=0.1)
    write_picture(tmp_path / "b.webp", picture.pixels, picture)
    np.testing.assert_allclose(read_picture(tmp_path / "b.webp").dpi, (300, 150), atol=0.1)


@pytest.mark.parametrize(("unit", "dpi"), [(2, (118, 59)), (3, (299.72, 149.86)), (1, None)])
def test_the_resolution_of_a_tiff_has_a_unit(unit, dpi):
    data = saved(Image.fromarray(smooth()), "TIFF", tiffinfo={282: 118.0, 283: 59.0, 296: unit})
    found = decode_picture(data, "a").dpi
    assert found is None if dpi is None else np.allclose(found, dpi)


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("kind", ["grey", "grey, alpha", "RGB", "RGB, alpha"])
@pytest.mark.parametrize("bits", [8, 16])
def test_every_format_that_is_written_reads_back(tmp_path, suffix, kind, bits):
    alpha, grey = "alpha" in kind, kind.startswith("grey")
    array = smooth(channels=4 if alpha else 3)
    if grey:
        array[..., :3] = array[..., :1]
    pixels = torch.from_numpy(array.transpose(2, 0, 1).astype(np.float32) / 255)
    if bits == 16:
        pixels = ((pixels * 65535) + 3).clamp(max=65535).round() / 65535
    like = Picture(pixels, bits, grey=grey)
    path = tmp_path / f"a{suffix}"
    if alpha and suffix in {".jpg", ".ppm"}:
        with pytest.raises(FacewrightError, match="transparency"):
            write_picture(path, pixels, like)
        return
    notes = write_picture(path, pixels, like)
    back = read_picture(path)
    deep = bits == 16 and suffix in {".png", ".tif", ".ppm"}
    assert back.bits == (16 if deep else 8) and bool(notes) == (bits == 16 and not deep)
    lossy = suffix in {".jpg", ".webp", ".avif"}
    visible = back.pixels[3:] > 0 if alpha else torch.ones(1)
    difference = ((back.pixels - pixels) * visible).abs()
    assert difference.mean() < (0.06 if lossy else 1e-6 if deep or bits == 8 else 0.005)


def test_webp_stays_without_loss(tmp_path):
    noise = RNG.integers(0, 256, (40, 56, 4), dtype=np.uint8)
    for array in (noise, noise[..., :3]):
        data = saved(Image.fromarray(array), "WEBP", lossless=True, exact=True)
        picture = decode_picture(data, "a.webp")
        assert picture.lossless
        changed = 1 - picture.pixels
        write_picture(tmp_path / "b.webp", changed, picture)
        back = read_picture(tmp_path / "b.webp")
        assert back.lossless and torch.equal(back.pixels, to_8(changed))
    assert not decode_picture(saved(Image.fromarray(noise), "WEBP"), "a.webp").lossless


def to_8(pixels):
    return (pixels * 255).round() / 255


@pytest.mark.parametrize("most", [65535, 1023])
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_ppm(tmp_path, channels, most):
    samples = RNG.integers(0, most + 1, (9, 11, channels), dtype=np.uint16)
    head = b"P%d\n# made by hand\n11 9\n%d\n" % (6 if channels == 3 else 5, most)
    picture = decode_picture(head + samples.astype(">u2").tobytes(), "a.ppm")
    assert picture.bits == 16 and picture.grey == (channels == 1)
    expected = np.floor(samples * (65535 / most) + 0.5).astype(int)
    got = to_array(picture.pixels, 16)
    np.testing.assert_array_equal(got, expected if channels == 3 else expected.repeat(3, 2))


@pytest.mark.parametrize("name, wrong", [
    ("a.png", lambda data: data[:-30]),
    ("a.jpg", lambda data: saved(Image.new("RGB", (56, 40)), "JPEG")),
    ("a.tif", lambda data: tiff(255 - smooth().astype(int), 8, 2)),
    ("a.webp", lambda data: saved(Image.new("RGB", (55, 40)), "WEBP")),
    ("a.bmp", lambda data: b""),
])  # fmt: skip
def test_what_reads_back_otherwise_replaces_nothing(tmp_path, monkeypatch, name, wrong):
    encode = writing._encode
    monkeypatch.setattr(writing, "_encode", lambda *given: wrong(encode(*given)))
    pixels = torch.from_numpy(smooth().transpose(2, 0, 1).astype(np.float32) / 255)
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(FacewrightError, match="was not written"):
        write_picture(tmp_path / name, pixels, Picture(pixels))
    assert (tmp_path / name).read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_copies_are_the_same_bytes_only_where_nothing_was_changed(tmp_path):
    data = saved(Image.fromarray(smooth()).convert("CMYK"), "JPEG", icc_profile=b"broken")
    picture = decode_picture(data, "a.jpg")
    notes = write_picture(tmp_path / "a.jpg", picture.pixels.clone(), picture, copy=True)
    assert (tmp_path / "a.jpg").read_bytes() == data and not notes
    notes = write_picture(tmp_path / "a.png", picture.pixels, picture, copy=True)
    assert Image.open(tmp_path / "a.png").format == "PNG" and len(notes) == 2
    picture.pixels[0] = 0  # in place, where nobody sees it
    write_picture(tmp_path / "b.jpg", picture.pixels, picture, copy=True)
    assert (tmp_path / "b.jpg").read_bytes() != data
    assert read_picture(tmp_path / "b.jpg").pixels[0].mean() < 0.05


def test_png_in_disguise_is_not_copied_under_another_name(tmp_path):
    picture = decode_picture(png(smooth().astype(int), 8, 2), "a.jpg")
    write_picture(tmp_path / "a.jpg", picture.pixels, picture, copy=True)
    assert Image.open(tmp_path / "a.jpg").format == "JPEG"


def test_exif_too_long_for_a_jpeg(tmp_path):
    exif = Image.Exif()
    exif[271], exif[0x8769] = "Maker", {37500: bytes(90_000)}
    picture = decode_picture(saved(Image.fromarray(smooth()), "PNG", exif=exif.tobytes()), "a.png")
    assert not write_picture(tmp_path / "a.png", picture.pixels, picture)
    assert len(camera_of(Image.open(tmp_path / "a.png").getexif())[37500]) == 90_000
    (note,) = write_picture(tmp_path / "a.jpg", picture.pixels, picture)
    assert "maker's note" in note
    assert Image.open(tmp_path / "a.jpg").getexif()[271] == "Maker"


def test_a_second_view_and_a_bomb(tmp_path):
    one, two = Image.fromarray(smooth()), Image.fromarray(smooth()[::-1].copy())
    data = saved(one, "MPO", save_all=True, append_images=[two])
    got = decode_picture(data, "a.jpg")
    assert np.abs(to_array(got.pixels).astype(int) - smooth()).mean() < 8
    bomb = bytearray(saved(one, "JPEG"))
    at = bomb.index(b"\xff\xc0")
    bomb[at + 5 : at + 9] = b"\xff" * 4
    with pytest.raises(FacewrightError, match="megapixels"):
        decode_picture(bytes(bomb), "a.jpg")


def test_deep_pgm_in_words():
    picture = decode_picture(b"P2\n2 1\n65535\n0 4660\n", "a.pgm")
    assert picture.bits == 16 and picture.grey
    assert to_array(picture.pixels, 16)[0, 1].tolist() == [4660] * 3


def test_drawings_are_not_handed_to_other_programs():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(FacewrightError, match="drawing"):
        decode_picture(eps, "a.png")


def test_public_names_stay():
    assert {"read_picture", "write_picture", "Picture", "PICTURE_SUFFIXES"} <= set(images.__all__)


@pytest.mark.parametrize(
    "text",
    [
        '{"shape": [3, 16, 16]}',
        "shape=(3, 16, 16)",
        "ImageJ=1.53\nimages=3\nchannels=3",
        "SCIFIO=0.42\naxes=X,Y",
        '<?xml version="1.0" encoding="UTF-8"?><!-- note -->\n<OME xmlns="x"><Image/></OME>',
    ],
)
def test_descriptions_of_the_layout_of_pixels_are_not_passed_on(tmp_path, text):
    """tifffile warns of, and ImageJ misreads, a file whose description is another one's."""
    for name, description in (("layout.tif", text), ("words.tif", "the shape of a face")):
        exif = Image.Exif()
        exif[270] = description
        Image.fromarray(smooth()).save(tmp_path / name, exif=exif)
        picture = read_picture(tmp_path / name)
        write_picture(tmp_path / f"new_{name}", 1 - picture.pixels, picture)
    assert 270 not in Image.open(tmp_path / "new_layout.tif").getexif()
    assert Image.open(tmp_path / "new_words.tif").getexif()[270] == "the shape of a face"
