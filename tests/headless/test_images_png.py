"""PNGs of every colour type, depth and order, and what stands beside their rows."""

import itertools
import struct
import zlib

import numpy as np
import pytest
from facewright.core.errors import FacewrightError
from facewright.core.images import (
    Picture,
    decode_picture,
    read_picture,
    to_array,
    upright_size,
    write_picture,
)
from PIL import Image

from .picture_files import TURNED, chunk, png

RNG = np.random.default_rng(1)
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
KINDS = [
    *itertools.product([GREY], [1, 2, 4, 8, 16]),
    *itertools.product([PALETTE], [1, 2, 4, 8]),
    *itertools.product([RGB, GREY_ALPHA, RGB_ALPHA], [8, 16]),
]
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}


def decoded(data):
    picture = decode_picture(data, "a.png")
    return to_array(picture.pixels, picture.bits), picture


def exif(orientation):
    made = Image.Exif()
    made[274] = orientation
    return made.tobytes().removeprefix(b"Exif\0\0")


@pytest.mark.parametrize("color, depth", KINDS)
@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize("see_through", [False, True])
def test_every_kind(color, depth, interlace, see_through):
    if see_through and color in {GREY_ALPHA, RGB_ALPHA}:
        pytest.skip("has its own transparency")
    samples = RNG.integers(0, 2**depth, (11, 19, CHANNELS[color]))
    samples[2:4, 3:5] = samples[0, 0]
    top = 65535 if depth == 16 else 255
    before = []
    if color == PALETTE:
        table = RNG.integers(0, 256, (2**depth, 3))
        before.append((b"PLTE", table.astype(np.uint8).tobytes()))
        expected = table[samples[..., 0]]
    else:
        scaled = samples * top // (2**depth - 1)
        expected = (
            scaled if CHANNELS[color] >= 3 else scaled[..., [0, 0, 0, -1][: 3 + (color == 4)]]
        )
    if see_through and color == PALETTE:
        alphas = RNG.integers(0, 256, max(1, 2**depth - 1))
        before.append((b"tRNS", alphas.astype(np.uint8).tobytes()))
        expected = np.dstack([expected, np.append(alphas, 255)[samples[..., 0]]])
    elif see_through:
        key = samples[0, 0]
        before.append((b"tRNS", key.astype(">u2").tobytes()))
        expected = np.dstack([expected, np.where((samples == key).all(2), 0, top)])
        assert (expected[..., 3] == 0).sum() >= 5
    got, picture = decoded(png(samples, depth, color, interlace=interlace, before=before))
    np.testing.assert_array_equal(got, expected)
    assert picture.bits == (16 if depth == 16 else 8) and not picture.notes
    assert picture.grey == (color in {GREY, GREY_ALPHA})


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("where", ["before", "after", "raw profile", "XMP"])
def test_orientation_wherever_it_stands(tmp_path, orientation, where):
    samples = RNG.integers(0, 65536, (5, 9, 3))
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="%d"/>' % orientation
    raw = exif(orientation).hex().encode()
    profile = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n%8d\n" % len(raw) + raw)
    chunks = {
        "before": {"before": [(b"eXIf", exif(orientation))]},
        "after": {"after": [(b"eXIf", exif(orientation))]},
        "raw profile": {"before": [(b"zTXt", profile)]},
        "XMP": {"before": [(b"iTXt", xmp)]},
    }
    data = png(samples, 16, RGB, **chunks[where])
    got, picture = decoded(data)
    np.testing.assert_array_equal(got, TURNED[orientation](samples))
    assert not picture.notes
    (tmp_path / "a.png").write_bytes(data)
    assert upright_size(tmp_path / "a.png") == got.shape[1::-1]


BROKEN = {
    "a checksum": None,
    "color profile": (b"iCCP", b"icc\0\0" + b"not deflated"),
    "color profile, short": (b"iCCP", b"icc\0\0" + zlib.compress(b"x" * 200)),
    "EXIF": (b"eXIf", b"II*\0\xff\xff\xff\x7f"),
    "EXIF, empty": (b"eXIf", b""),
    "orientation": (b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x03\0\0\0six\0\0\0\0\0"),
    "orientation, 9": (b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0\0\0\0\0"),
    "transparent color": (b"tRNS", b"\0"),
    "nothing: text": (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000), 9)),
    "nothing: XMP": (b"iTXt", b"XML:com.adobe.xmp\0"),
}


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("what", BROKEN)
def test_broken_metadata_cost_a_note_and_never_the_picture(what, depth):
    samples = RNG.integers(0, 2**depth, (6, 7, 3))
    if BROKEN[what] is None:
        whole = bytearray(png(samples, depth, RGB, before=[(b"tEXt", b"a\0b")]))
        whole[whole.index(b"tEXt") + 5] ^= 1
        data = bytes(whole)
    else:
        data = png(samples, depth, RGB, before=[BROKEN[what]])
    got, picture = decoded(data)
    np.testing.assert_array_equal(got, samples)
    word = what.partition(",")[0].removeprefix("a checksum") or "metadata"
    if what.startswith("nothing: text"):
        assert not picture.notes
    elif not what.startswith("nothing"):
        assert word in " ".join(picture.notes)


@pytest.mark.parametrize("depth", [8, 16])
def test_damaged_rows_are_refused(depth):
    data = png(RNG.integers(0, 2**depth, (64, 64, 3)), depth, RGB)
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 16
    ends = data[: len(data) // 2]
    unknown = bytearray(zlib.decompress(zlib.compress(bytes(64 * (1 + 64 * depth * 3 // 8)))))
    unknown[0] = 7
    header = struct.pack(">IIBBBBB", 64, 64, depth, 2, 0, 0, 0)
    rows = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(unknown))), (b"IEND", b"")]
    odd = data[:8] + b"".join(chunk(*c) for c in rows)
    for wrong in (bytes(flipped), ends, odd):
        with pytest.raises(FacewrightError, match="damaged or incomplete"):
            decoded(wrong)


def test_animations_are_refused():
    data = png(np.zeros((4, 4, 3), int), 8, RGB, before=[(b"acTL", struct.pack(">II", 5, 0))])
    with pytest.raises(FacewrightError, match="animated or has 5 pages"):
        decoded(data)


def test_text_takes_the_place_of_what_was_said_before(tmp_path):
    data = png(np.full((4, 4, 3), 9), 8, RGB, before=[(b"tEXt", b"a\0old"), (b"tEXt", b"b\0kept")])
    (tmp_path / "a.png").write_bytes(data)
    picture = read_picture(tmp_path / "a.png")
    write_picture(tmp_path / "b.png", picture.pixels, picture, text={"a": "new"}, copy=True)
    assert Image.open(tmp_path / "b.png").info == {"a": "new", "b": "kept"}
    write_picture(tmp_path / "c.png", torch_like(picture), Picture(picture.pixels), text={"a": "x"})
    assert Image.open(tmp_path / "c.png").info == {"a": "x"}


def torch_like(picture):
    return picture.pixels.clone()


LINEAR = (b"gAMA", struct.pack(">I", 100_000))
WIDE = (b"cHRM", struct.pack(">8I", 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600))
HDR = (b"cICP", bytes([9, 16, 0, 1]))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("before", [[LINEAR], [LINEAR, WIDE], [HDR], [(b"sRGB", b"\0")]])
def test_what_the_values_look_like_is_kept_or_named(tmp_path, depth, before):
    picture = decode_picture(png(RNG.integers(0, 2**depth, (9, 7, 3)), depth, 2, before=before), "")
    changed = 1 - picture.pixels
    write_picture(tmp_path / "b.png", changed, picture)
    written = (tmp_path / "b.png").read_bytes()
    head = written[: written.index(b"IDAT")]
    assert all(head.count(chunk(*piece)) == 1 for piece in before)
    assert (to_array(read_picture(tmp_path / "b.png").pixels) == to_array(changed)).all()
    notes = write_picture(tmp_path / "b.tif", changed, picture)
    assert any("color space" in note for note in notes) == (before[0][0] != b"sRGB")


def test_space_of_a_wrong_length_is_not_kept(tmp_path):
    data = png(RNG.integers(0, 256, (9, 7, 3)), 8, 2, before=[(b"gAMA", b"1")])
    picture = decode_picture(data, "a.png")
    write_picture(tmp_path / "b.png", 1 - picture.pixels, picture)
    assert b"gAMA" not in (tmp_path / "b.png").read_bytes()


def test_a_picture_stored_anew_with_loss_is_named(tmp_path):
    picture = decode_picture(png(RNG.integers(0, 256, (9, 7, 3)), 8, 2), "a.png")
    notes = write_picture(tmp_path / "b.jpg", picture.pixels, picture, copy=True)
    assert notes == ["it was stored anew as JPEG"]
    assert not write_picture(tmp_path / "b.bmp", picture.pixels, picture, copy=True)
