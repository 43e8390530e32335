"""Every kind of TIFF read as it is meant, or refused by name; compared with arithmetic alone."""

import io
import itertools

import numpy as np
import PIL
import pytest
from facewright.core.errors import FacewrightError
from facewright.core.images import decode_picture, to_array, upright_size
from PIL import Image

from .picture_files import TURNED, laid_out, tiff

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 13, 21
DEPTHS = (1, 2, 4, 8, 12, 16)
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
CHANNELS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3}


def decoded(data):
    picture = decode_picture(data, "a.tif")
    return to_array(picture.pixels, picture.bits), picture


def drawn(bits, channels, size=(HEIGHT, WIDTH)):
    return RNG.integers(0, 2**bits, (*size, channels))


def widened(values, bits):
    """To 8 or 16 bits, rounded: most to most."""
    top = 255 if bits <= 8 else 65535
    return np.floor(values * (top / (2**bits - 1)) + 0.5).astype(int)


def plain(samples, bits, photometric, alpha=None):
    """What grey and RGB samples mean."""
    channels = CHANNELS[photometric]
    color = samples[..., :channels]
    if photometric == WHITE_IS_ZERO:
        color = 2**bits - 1 - color
    color = widened(color, bits)
    color = color.repeat(3, 2) if channels == 1 else color
    return color if alpha is None else np.dstack([color, widened(samples[..., alpha], bits)])


LAYOUTS = (
    {},
    {"planar": True},
    {"rows_per_strip": 5},
    {"tile": (16, 16)},
    {"tile": (16, 16), "planar": True, "deflate": True},
    {"rows_per_strip": 4, "deflate": True, "big": True},
    {"backwards": True},
)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", DEPTHS)
def test_grey_and_rgb_of_every_depth_and_layout(bits, order):
    for photometric, layout in itertools.product(CHANNELS, LAYOUTS):
        channels = CHANNELS[photometric]
        for extra in ((), (2,), (0,), (0, 2)):
            samples = drawn(bits, channels + len(extra))
            alpha = channels + extra.index(2) if 2 in extra else None
            got, picture = decoded(
                tiff(samples, bits, photometric, order=order, extra=extra, **layout)
            )
            expected = plain(samples, bits, photometric, alpha)
            said = f"{photometric} {layout} {extra}"
            np.testing.assert_array_equal(got, expected, err_msg=said)
            assert picture.bits == (8 if bits <= 8 else 16)
            assert picture.grey == (photometric != RGB)
            assert bool(picture.notes) == (0 in extra)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [False, True])
def test_predictor(bits, order, planar):
    samples = drawn(bits, 3)
    more = {"order": order, "planar": planar, "predictor": 2, "deflate": True}
    for layout in ({}, {"rows_per_strip": 5}, {"tile": (16, 16)}):
        got, _ = decoded(tiff(samples, bits, RGB, **more, **layout))
        np.testing.assert_array_equal(got, samples)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bits", [1, 8, 16])
def test_orientation_is_applied_once(bits, orientation, tmp_path):
    for planar in (False, True):
        samples = drawn(bits, 3)
        about = {271: (2, b"Maker\0")}
        data = tiff(samples, bits, RGB, orientation=orientation, planar=planar, tags=about)
        got, picture = decoded(data)
        expected = TURNED[orientation](plain(samples, bits, RGB))
        np.testing.assert_array_equal(got, expected)
        (tmp_path / "a.tif").write_bytes(data)
        assert upright_size(tmp_path / "a.tif") == expected.shape[1::-1]
        kept = Image.Exif()
        kept.load(picture.exif)
        assert dict(kept) == {271: "Maker", 274: 1}


@pytest.mark.parametrize("bits", [8, 16])
def test_premultiplied_transparency(bits):
    samples = drawn(bits, 4)
    samples[..., :3] = np.minimum(samples[..., :3], samples[..., 3:])
    samples[0, 0] = 0
    got, _ = decoded(tiff(samples, bits, RGB, extra=(1,)))
    alpha = np.maximum(samples[..., 3:], 1)
    expected = np.floor(samples[..., :3] * (2**bits - 1) / alpha + 0.5)
    np.testing.assert_allclose(got[..., :3], expected, atol=0)
    np.testing.assert_array_equal(got[..., 3], samples[..., 3])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("low", ["full", "empty", "8 bits"])
def test_palettes(bits, low):
    table = RNG.integers(0, 256, (2**bits, 3))
    table[0, 0] = 255
    stored = table * {"full": 257, "empty": 256, "8 bits": 1}[low]
    samples = drawn(bits, 1)
    tags = {320: (3, stored.T.ravel().tolist())}
    for order in "<>":
        got, _ = decoded(tiff(samples, bits, PALETTE, order=order, tags=tags))
        np.testing.assert_array_equal(got, table[samples[..., 0]])
    both = np.dstack([samples, drawn(bits, 1)])
    got, _ = decoded(tiff(both, bits, PALETTE, extra=(2,), tags=tags))
    np.testing.assert_array_equal(got[..., :3], table[samples[..., 0]])
    np.testing.assert_array_equal(got[..., 3], widened(both[..., 1], bits))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [False, True])
def test_cmyk_by_the_plain_formula(bits, planar):
    ink = RNG.integers(0, 256, (HEIGHT, WIDTH, 5))
    ink[0, 0, :4] = 0, 255, 255, 0
    samples = ink * (257 if bits == 16 else 1)
    got, picture = decoded(tiff(samples, bits, CMYK, planar=planar, extra=(2,)))
    light = (255 - ink[..., :3]) * (255 - ink[..., 3:4]) / 255
    np.testing.assert_allclose(got[..., :3], light, atol=1)
    np.testing.assert_array_equal(got[..., 3], ink[..., 4])
    assert got[0, 0, :3].tolist() == [255, 0, 0]
    assert "CMYK was converted to RGB" in picture.notes
    assert len(picture.notes) == (2 if bits == 16 else 1)


def rgb_of(ycbcr):
    y, cb, cr = np.moveaxis(ycbcr.astype(float), -1, 0)
    r, b = y + 1.402 * (cr - 128), y + 1.772 * (cb - 128)
    g = y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128)
    return np.stack([r, g, b], -1).clip(0, 255)


def test_ycbcr_at_full_resolution():
    samples = drawn(8, 3)
    for planar in (False, True):
        got, _ = decoded(tiff(samples, 8, YCBCR, planar=planar, tags={530: (3, [1, 1])}))
        np.testing.assert_allclose(got, rgb_of(samples), atol=1)


@pytest.mark.parametrize("across, down", [(2, 1), (2, 2), (4, 2)])
def test_ycbcr_in_units(across, down):
    height, width = 8, 12
    luma = drawn(8, 1, (height, width))
    color = drawn(8, 2, (height // down, width // across))
    cells = luma.reshape(height // down, down, width // across, across).transpose(0, 2, 1, 3)
    units = np.concatenate([cells.reshape(*color.shape[:2], -1), color], axis=2)
    one_row = units.reshape(1, -1, 1)
    tags = {256: (4, [width]), 257: (4, [height]), 258: (3, [8, 8, 8]), 277: (3, [3])}
    tags |= {530: (3, [across, down]), 278: (4, [height])}
    got, _ = decoded(tiff(one_row, 8, YCBCR, tags=tags))
    full = np.dstack([luma, color.repeat(down, 0).repeat(across, 1)])
    np.testing.assert_allclose(got, rgb_of(full), atol=1)


def test_lab_against_its_definition():
    levels = np.stack(np.meshgrid([64, 128, 200], [226, 0, 20], [236, 0, 30], indexing="ij"), -1)
    samples = levels.reshape(9, 3, 3)
    got, picture = decoded(tiff(samples, 8, LAB))
    assert "CIE Lab was converted to RGB" in picture.notes
    signed = samples.astype(np.uint8).view(np.int8).astype(float)
    lightness = samples[..., 0] / 2.55
    fy = (lightness + 16) / 116
    f = np.stack([fy + signed[..., 1] / 500, fy, fy - signed[..., 2] / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1, 0.8249]
    matrix = [[3.1339, -1.6169, -0.4906], [-0.9785, 1.9160, 0.0333], [0.0720, -0.2290, 1.4057]]
    linear = (xyz @ np.transpose(matrix)).clip(0, 1)
    srgb = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    np.testing.assert_allclose(got, srgb * 255, atol=12)
    deep = samples.copy() * 256
    deep[..., 0] = samples[..., 0] * 257
    np.testing.assert_allclose(decoded(tiff(deep, 16, LAB))[0], got, atol=1)


REFUSED = {
    "32 bits": {"samples": drawn(8, 3), "bits": 8, "tags": {258: (3, [32] * 3)}},
    "32 bits, whole": {"samples": drawn(8, 1), "photometric": 1, "tags": {258: (3, [32])}},
    "floating-point": {"samples": drawn(16, 3), "bits": 16, "tags": {339: (3, [3] * 3)}},
    "signed": {"samples": drawn(8, 3), "tags": {339: (3, [2] * 3)}},
    "different depth": {"samples": drawn(8, 3), "tags": {258: (3, [5, 6, 5])}},
    "transparency mask": {"samples": drawn(8, 1), "photometric": 4},
    "ICC Lab": {"samples": drawn(8, 3), "photometric": 9},
    "camera": {"samples": drawn(16, 1), "bits": 16, "photometric": 32803},
    "LogLuv": {"samples": drawn(8, 3), "photometric": 32845},
    "unknown colours": {"samples": drawn(8, 3), "photometric": 77},
    "inks": {"samples": drawn(8, 4), "photometric": 5, "tags": {332: (3, [2])}},
    "old-style JPEG": {"samples": drawn(8, 3), "compression": 6},
    "JPEG 2000": {"samples": drawn(8, 3), "compression": 33003},
    "predictor 3": {"samples": drawn(8, 3), "deflate": True, "predictor": 3},
    "99 channels": {"samples": drawn(8, 99)},
    "YCbCr of 3 x 16": {"samples": drawn(16, 3), "bits": 16, "photometric": 6},
    "planar subsampled": {"samples": drawn(8, 3), "photometric": 6, "planar": True},
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_read_rightly_is_refused_by_name(words):
    with pytest.raises(FacewrightError, match=r"TIFF with|stores") as error:
        decoded(tiff(**REFUSED[words]))
    assert words.split(",")[0].replace("32 bits", "32-bit") in str(error.value)
    assert "Convert it to RGB" in str(error.value)


def test_a_page_more_and_a_bomb_are_refused():
    buffer = io.BytesIO()
    one = Image.new("RGB", (3, 3))
    one.save(buffer, "TIFF", save_all=True, append_images=[one, one])
    with pytest.raises(FacewrightError, match="3 pages"):
        decoded(buffer.getvalue())
    huge = {256: (4, [60_000]), 257: (4, [60_000])}
    with pytest.raises(FacewrightError, match="megapixels"):
        decoded(tiff(drawn(8, 3), tags=huge))


COMPRESSIONS = (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "group3", "group4", "jpeg")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16")


@pytest.mark.parametrize("mode", MODES)
def test_what_pillow_writes(mode):
    for compression in COMPRESSIONS:
        bilevel = compression in {"group3", "group4"}
        if (bilevel != (mode == "1") and bilevel) or (
            compression == "jpeg" and mode not in {"L", "RGB", "CMYK"}
        ):
            continue
        channels = len(Image.new(mode, (1, 1)).getbands())
        array = RNG.integers(0, 256, (HEIGHT, WIDTH, channels), dtype=np.uint8)
        if compression == "jpeg":  # smooth, to lose little
            ramp = np.linspace(0, 250, WIDTH)[None, :, None] + np.zeros((HEIGHT, 1, channels))
            array = ramp.astype(np.uint8)
        if mode == "1":
            array = array > 127
            image = Image.fromarray(array[..., 0])
            expected = array.repeat(3, 2) * 255
        elif mode == "I;16":
            array = RNG.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
            image = Image.frombytes("I;16", (WIDTH, HEIGHT), array.astype("<u2").tobytes())
            expected = array[..., None].repeat(3, 2)
        else:
            image = Image.frombytes(mode, (WIDTH, HEIGHT), array.tobytes())
            expected = array.repeat(3, 2) if mode == "L" else array
        if mode == "LA":
            expected = array[..., [0, 0, 0, 1]]
        if mode == "P":
            table = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
            image.putpalette(table.tobytes())
            expected = table[array[..., 0]]
        if mode == "CMYK":
            light = 255.0 - array
            expected = light[..., :3] * light[..., 3:] / 255
        buffer = io.BytesIO()
        options = {"quality": 100} if compression == "jpeg" else {}
        image.save(buffer, "TIFF", compression=compression, **options)
        got, _ = decoded(buffer.getvalue())
        atol = 4 if compression == "jpeg" else 1 if mode == "CMYK" else 0
        np.testing.assert_allclose(got, expected, atol=atol, err_msg=f"{mode} {compression}")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "rgb"])
def test_what_tifffile_writes(bits, photometric):
    tifffile = pytest.importorskip("tifffile")
    kind = np.uint16 if bits == 16 else np.uint8
    channels = 3 if photometric == "rgb" else 1
    codes = {"minisblack": BLACK_IS_ZERO, "miniswhite": WHITE_IS_ZERO, "rgb": RGB}
    for order, planar, extra, zipped, tile in itertools.product(
        "<>", (False, True), (None, "unassalpha", "unspecified"), (None, "zlib"), (None, (16, 16))
    ):
        count = channels + (extra is not None)
        if planar and count == 1:
            continue
        samples = drawn(bits, count)
        array = np.moveaxis(samples, 2, 0) if planar else samples
        buffer = io.BytesIO()
        tifffile.imwrite(
            buffer,
            (array[..., 0] if count == 1 else array).astype(kind),
            photometric=photometric,
            planarconfig=None if count == 1 else "separate" if planar else "contig",
            extrasamples=[extra] if extra else None,
            byteorder=order,
            compression=zipped,
            tile=tile,
            metadata=None,
        )
        got, _ = decoded(buffer.getvalue())
        alpha = channels if extra == "unassalpha" else None
        np.testing.assert_array_equal(got, plain(samples, bits, codes[photometric], alpha))


@pytest.mark.parametrize("mode, photometric", [("L", 1), ("RGB", YCBCR), ("RGB", RGB), ("CMYK", 5)])
def test_tiles_that_are_jpegs(mode, photometric):
    if photometric == RGB and tuple(map(int, PIL.__version__.split(".")[:2])) < (10, 2):
        pytest.skip("Pillow before 10.2 writes no JPEG of RGB as it is")
    channels = {"L": 1, "RGB": 3, "CMYK": 4}[mode]
    y, x = np.mgrid[:32, :48]
    array = np.stack([y * 5, x * 4, 200 - y - x, y + x][:channels], -1).astype(np.uint8)
    segments = []
    for top, left in itertools.product((0, 16), (0, 16, 32)):
        tile = array[top : top + 16, left : left + 16]
        if mode == "CMYK":
            tile = 255 - tile  # Pillow turns CMYK round when it writes a JPEG
        image = Image.frombytes(mode, (16, 16), np.ascontiguousarray(tile).tobytes())
        buffer = io.BytesIO()
        more = {"keep_rgb": True} if photometric == RGB else {}
        image.save(
            buffer, "JPEG", quality=100, **({} if mode == "L" else {"subsampling": 0} | more)
        )
        jpeg = buffer.getvalue()
        start = jpeg.index(b"\xff\xdb")  # without JFIF or Adobe, as TIFF has them
        segments.append(jpeg[:2] + jpeg[start:])
    tags = {256: (4, [48]), 257: (4, [32]), 258: (3, [8] * channels), 259: (3, [7])}
    tags |= {262: (3, [photometric]), 277: (3, [channels]), 322: (4, [16]), 323: (4, [16])}
    got, _ = decoded(laid_out(tags, segments, (324, 325), "<", False))
    if mode == "CMYK":
        light = 255.0 - array
        array = light[..., :3] * light[..., 3:] / 255
    np.testing.assert_allclose(got, array if channels > 1 else array.repeat(3, 2), atol=6)


def test_colours_that_are_not_named_are_what_libtiff_takes_them_for():
    for channels, photometric in ((1, BLACK_IS_ZERO), (3, RGB)):
        samples = drawn(8, channels)
        got, _ = decoded(tiff(samples, 8, RGB, tags={262: (3, None)}))
        np.testing.assert_array_equal(got, plain(samples, 8, photometric))


def test_lzw_of_16_bits_as_opencv_writes_it():
    cv2 = pytest.importorskip("cv2")
    array = RNG.integers(0, 65536, (40, 50, 3), dtype=np.uint16)
    data = cv2.imencode(".tif", array, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes()
    got, _ = decoded(data)
    np.testing.assert_array_equal(got, array[..., ::-1])


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_a_smaller_version_in_the_file_is_no_further_page(big, order):
    tifffile = pytest.importorskip("tifffile")
    pixels = RNG.integers(0, 256, (12, 16, 3)).astype(np.uint8)
    for kind, read in ((1, True), (0, False)):
        file = io.BytesIO()
        with tifffile.TiffWriter(file, bigtiff=big, byteorder=order) as writer:
            writer.write(pixels, photometric="rgb")
            writer.write(pixels[::2, ::2], photometric="rgb", subfiletype=kind)
        if read:
            picture = decode_picture(file.getvalue(), "a.tif")
            assert (to_array(picture.pixels) == pixels).all()
        else:
            with pytest.raises(FacewrightError, match="2 pages"):
                decode_picture(file.getvalue(), "a.tif")


def test_the_preview_of_a_raw_file_is_not_taken_for_the_picture():
    preview = np.zeros((6, 8, 3), np.uint8)
    data = tiff(preview, tags={254: (4, [1]), 330: (4, [8])})
    with pytest.raises(FacewrightError, match="only a preview"):
        decode_picture(data, "a.dng")
    decode_picture(tiff(preview, tags={254: (4, [1])}), "a.tif")
    decode_picture(tiff(preview, tags={330: (4, [8])}), "a.tif")
