"""Reading and writing pictures of every kind people have."""

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.images import Picture, read_picture, to_array, write_picture
from PIL import Image, ImageCms

RNG = np.random.default_rng(0)


def save(tmp_path, image, name, **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def random_image(mode, size=(13, 7)):
    channels = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
    array = RNG.integers(0, 256, shape, dtype=np.uint8)
    return Image.frombytes(mode, size, array.tobytes())


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_png_round_trip_is_exact(tmp_path, mode):
    source = save(tmp_path, random_image(mode), "a.png")
    picture = read_picture(source)
    write_picture(tmp_path / "b.png", picture.pixels, picture)
    back = Image.open(tmp_path / "b.png")
    assert back.mode == mode
    np.testing.assert_array_equal(np.asarray(back), np.asarray(Image.open(source)))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_round_trip_exactly(tmp_path, suffix, channels):
    cv2 = pytest.importorskip("cv2")
    array = RNG.integers(0, 65536, (9, 11, channels), dtype=np.uint16)
    (tmp_path / f"a{suffix}").write_bytes(cv2.imencode(suffix, array)[1].tobytes())
    picture = read_picture(tmp_path / f"a{suffix}")
    assert picture.bits == 16 and picture.pixels.shape == (max(channels, 3), 9, 11)
    write_picture(tmp_path / f"b{suffix}", picture.pixels, picture)
    # Decoded by OpenCV, not by the code under test.
    back = cv2.imread(str(tmp_path / f"b{suffix}"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(back.reshape(array.shape), array)
    blue = picture.pixels[2 if channels > 1 else 0].numpy() * 65535
    np.testing.assert_allclose(blue, array[..., 0], atol=0.01)


def test_16_bit_png_keeps_profile(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    like = Picture(torch.rand(3, 4, 5), bits=16, icc=profile)
    write_picture(tmp_path / "a.png", like.pixels, like)
    assert read_picture(tmp_path / "a.png").icc == profile
    assert Image.open(tmp_path / "a.png").info["icc_profile"] == profile


def test_profile_and_exif_survive_8_bits(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    source = save(tmp_path, random_image("RGB"), "a.jpg", icc_profile=profile, exif=exif)
    picture = read_picture(source)
    write_picture(tmp_path / "b.jpg", picture.pixels, picture)
    back = Image.open(tmp_path / "b.jpg")
    assert back.info["icc_profile"] == profile
    assert back.getexif()[0x010F] == "Maker"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path, orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    source = save(tmp_path, random_image("RGB"), "a.png", exif=exif)
    picture = read_picture(source)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(source)))
    np.testing.assert_array_equal(to_array(picture.pixels), upright)
    write_picture(tmp_path / "b.png", picture.pixels, picture)
    np.testing.assert_array_equal(to_array(read_picture(tmp_path / "b.png").pixels), upright)


def test_palette_and_its_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putdata([0, 1])
    plain = read_picture(save(tmp_path, image, "a.png"))
    assert plain.pixels[:, 0].T.tolist() == [[1, 0, 0], [0, 1, 0]]
    see_through = read_picture(save(tmp_path, image, "b.png", transparency=1))
    assert see_through.pixels[3].tolist() == [[1, 0]]


def test_cmyk_becomes_rgb_and_says_so(tmp_path):
    image = Image.new("CMYK", (4, 3), (0, 255, 255, 0))
    picture = read_picture(save(tmp_path, image, "a.jpg", quality=100))
    assert picture.pixels.mean((1, 2)).round(decimals=1).tolist() == [1, 0, 0]
    assert picture.notes == ["CMYK was converted to RGB"]
    write_picture(tmp_path / "b.jpg", picture.pixels, picture)
    assert Image.open(tmp_path / "b.jpg").mode == "RGB"


def test_one_pixel_and_48_megapixels(tmp_path):
    one = read_picture(save(tmp_path, random_image("RGB", (1, 1)), "a.png"))
    assert one.pixels.shape == (3, 1, 1)
    large = Image.new("RGB", (8000, 6000), (10, 20, 30))
    picture = read_picture(save(tmp_path, large, "b.png", compress_level=1))
    assert picture.pixels.shape == (3, 6000, 8000)


def test_a_bomb_is_refused_before_decoding(tmp_path):
    data = bytearray((save(tmp_path, random_image("RGB"), "a.png")).read_bytes())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    (tmp_path / "b.png").write_bytes(data)
    with pytest.raises(FacewrightError, match="megapixels"):
        read_picture(tmp_path / "b.png")


def test_what_is_no_picture_gets_a_sentence(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    whole = save(tmp_path, random_image("RGB", (64, 64)), "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    frames = [random_image("L"), random_image("L")]
    save(tmp_path, frames[0], "moving.gif", save_all=True, append_images=frames[1:])
    save(tmp_path, Image.new("F", (2, 2)), "float.tif")
    for name, words in (
        ("empty.png", "is empty"),
        ("text.png", "no picture"),
        ("half.png", "damaged or incomplete"),
        ("moving.gif", "animated"),
        ("float.tif", "32-bit"),
        ("nothing.png", "no file"),
        ("", "folder"),
    ):
        with pytest.raises(FacewrightError, match=words):
            read_picture(tmp_path / name)


def test_alpha_is_never_dropped_silently(tmp_path):
    picture = read_picture(save(tmp_path, random_image("RGBA"), "a.png"))
    with pytest.raises(FacewrightError, match="transparency"):
        write_picture(tmp_path / "a.jpg", picture.pixels, picture)
    assert not (tmp_path / "a.jpg").exists()


def test_a_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(ValueError):
        write_picture(tmp_path / "a.png", torch.zeros(3, 2), Picture(torch.zeros(3, 2, 2)))
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_pixels_are_rounded_not_cut():
    assert to_array(torch.full((3, 1, 1), 0.9999)).tolist() == [[[255] * 3]]
