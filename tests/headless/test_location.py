"""Where something was taken, kept or left out of whatever is written."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from facewright.core.images import decode_picture, read_picture, to_array, write_picture
from facewright.core.people.unnamed import in_pictures
from facewright.core.pipeline.options import RestoreOptions
from PIL import Image

from .restore_doubles import cli, done, doubles

__all__ = ["doubles"]  # a fixture

NORTH = (48.0, 12.0, 29.0)
RATIONALS = struct.pack(">6I", 48, 1, 12, 1, 29, 1), struct.pack("<6I", 48, 1, 12, 1, 29, 1)
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description exif:GPSLatitude="48,12.4833N" dc:creator="Zoe"/></rdf:RDF>'
    b"</x:xmpmeta>"
)
SECRETS = (b"48,12", b"Hallstatt", b"+48.2081", *RATIONALS)
IPTC = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0e\x1c\x02\x5a\0\x09Hallstatt"


def segment(marker, body):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def about(turn=6):
    made = Image.Exif()
    made[271], made[306], made[274] = "Maker", "2024:01:02 03:04:05", turn
    made[0x8769] = {33434: 0.01, 37500: b"own: Hallstatt"}
    made[0x8825] = {1: "N", 2: NORTH}
    return made


def photo(form, **options):
    y, x = np.mgrid[:40, :56]
    array = np.stack([y * 3 + x, 200 - y * 2, x * 4 % 240], -1).astype(np.uint8)
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif.load(about().tobytes())  # Pillow's writer of TIFF takes no other
    if form == "TIFF":
        exif[700] = XMP
    Image.fromarray(array).save(buffer, form, exif=exif, **options)
    data = buffer.getvalue()
    if form == "JPEG":
        more = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP) + segment(0xED, IPTC)
        more += segment(0xE5, b"Samsung Hallstatt") + segment(0xFE, b"a comment")
        return data[:2] + more + data[2:] + b"ftypqt  \xa9xyz+48.2081+013.6+"
    if form == "PNG":
        packed = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)
        more = chunk(b"iTXt", packed) + chunk(b"tEXt", b"Author\0Zoe")
        more += chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(b"Hallstatt"))
        more += chunk(b"tEXt", b"GPS position\0+48.2081")
        return data[:33] + more + data[33:] + b"+48.2081"
    return data


def holds_a_place(path):
    data = path.read_bytes()
    unpacked = b"".join(_inflated(data)) if path.suffix == ".png" else b""
    with Image.open(path) as image:
        told = [bool(image.getexif().get_ifd(0x8825)), "xmp" in image.info]
    return any(told) or any(secret in data + unpacked for secret in SECRETS)


def _inflated(data):
    for at in range(len(data) - 1):
        if data[at] == 0x78 and data[at + 1] in b"\x01\x5e\x9c\xda":
            try:
                yield zlib.decompressobj().decompress(data[at:], 10**6)
            except zlib.error:
                continue


SOURCES = {
    "JPEG": {}, "PNG": {}, "TIFF": {}, "WEBP": {"xmp": XMP},
    "lossless WEBP": {"lossless": True, "xmp": XMP},
}  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("copied", [True, False])
def test_a_place_is_kept_or_left_out_wherever_it_is(tmp_path, source, copied):
    form = source.rpartition(" ")[2]
    suffix = {"JPEG": ".jpg", "TIFF": ".tif"}.get(form, f".{form.lower()}")
    data = photo(form, **SOURCES[source])
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    assert holds_a_place(path), "the test finds what there is"
    picture = read_picture(path)
    pixels = picture.pixels if copied else picture.pixels.flip(-1)
    write_picture(path, pixels, picture, copy=copied)
    assert holds_a_place(path) and (not copied or path.read_bytes() == data)
    notes = write_picture(path, pixels, picture, copy=copied, location=False)
    assert not holds_a_place(path), notes
    assert any("maker's note" in note for note in notes)
    back = read_picture(path)
    np.testing.assert_allclose(to_array(back.pixels), to_array(pixels), atol=0 if copied else 40)
    with Image.open(path) as image:
        exif = image.getexif()
        assert exif[271] == "Maker" and exif.get_ifd(0x8769)[33434] == 0.01
        if copied and form == "PNG":
            assert image.info["Author"] == "Zoe"
        if copied and form == "JPEG":
            assert image.info["comment"] == b"a comment"
            assert any("what followed the picture" in note for note in notes)


def test_a_copy_without_a_place_is_the_same_file(tmp_path):
    for form, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")):
        buffer = io.BytesIO()
        Image.new("RGB", (20, 30), (9, 8, 7)).save(buffer, form)
        picture = decode_picture(buffer.getvalue(), "a")
        path = tmp_path / f"a.{suffix}"
        assert not write_picture(path, picture.pixels, picture, copy=True, location=False)
        assert path.read_bytes() == buffer.getvalue()


def test_xmp_that_alone_turns_the_picture_is_not_simply_taken_out(tmp_path):
    """The picture is stored upright then."""
    turned = XMP.replace(b'dc:creator="Zoe"', b'tiff:Orientation="6"')
    buffer = io.BytesIO()
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(10, 20, 3)).save(buffer, "PNG")
    data = buffer.getvalue()
    data = data[:33] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + turned) + data[33:]
    picture = decode_picture(data, "a")
    assert picture.pixels.shape[-2:] == (20, 10)
    write_picture(tmp_path / "a.png", picture.pixels, picture, copy=True, location=False)
    assert (read_picture(tmp_path / "a.png").pixels == picture.pixels).all()
    assert not holds_a_place(tmp_path / "a.png")


def test_the_command_line_keeps_it_and_drops_it(tmp_path):
    source = tmp_path / "in/a.jpg"
    source.parent.mkdir()
    source.write_bytes(photo("JPEG"))
    done(source, "-o", tmp_path / "out")
    kept = Image.open(tmp_path / "out/a.jpg").getexif().get_ifd(0x8825)
    assert tuple(map(float, kept[2])) == NORTH
    again = done(source, "-o", tmp_path / "out", "--location", "drop")["done"]
    assert again[0]["made_again"] == "--location was keep, is drop" and again[0]["faces"] == 1
    assert not holds_a_place(tmp_path / "out/a.jpg")
    none = ("--min-size", 99, "--location", "drop")
    assert done(source, "-o", tmp_path / "none", *none)["done"][0]["faces"] == 0
    assert not holds_a_place(tmp_path / "none/a.jpg")
    assert RestoreOptions().location == "keep"
    assert cli(source, "-o", tmp_path / "x", "--location", "here").exit_code == 2


# ---- names in pictures


def test_names_stay_out_of_pictures_unless_asked_for():
    face = {"face": 0, "person": "Ada", "cosine": {"input": 0.5}, "unsure": ["Bo", "Ada"]}
    other = {"face": 1, "person": None, "runner_up": "Cy", "cosines": {"Ada": 0.1, "Bo": 0.2}}
    content = {
        "format": "facewright.receipts", "version": 2, "faces": [face, other],
        "options": {"assign": ["1=Ada"], "people": ["Di"], "color": "lab"},
        "limit": "0.5 for Ada and Adam", "pictures": [{"name": "Ada.png"}],
    }  # fmt: skip
    text = json.dumps(content)
    assert in_pictures(text, names=True) == text
    plain = json.loads(in_pictures(text))
    assert [f["person"] for f in plain["faces"]] == ["person 1", None]
    assert plain["faces"][0]["unsure"] == ["person 2", "person 1"]
    assert plain["faces"][1]["cosines"] == {"person 1": 0.1, "person 2": 0.2}
    assert plain["options"] == {"assign": None, "people": ["person 4"], "color": "lab"}
    assert plain["limit"] == "0.5 for person 1 and Adam"
    face["person"] = "references"
    assert json.loads(in_pictures(json.dumps(content)))["faces"][0]["person"] == "references"
    assert plain["pictures"] == content["pictures"] and plain["format"] == content["format"]
