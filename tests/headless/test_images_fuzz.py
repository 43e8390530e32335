"""Files with flipped, lost and repeated bytes: a picture or a sentence, nothing else, and quiet."""

import io

import numpy as np
import pytest
from facewright.core.errors import FacewrightError
from facewright.core.images import decode_picture
from PIL import Image, ImageCms, features

from .picture_files import png, tiff

RNG = np.random.default_rng(2)


def saved(mode, form, size=(24, 18), **options):
    channels = len(Image.new(mode, (1, 1)).getbands())
    count = size[0] * size[1] * channels
    image = Image.frombytes(mode, size, RNG.integers(0, 256, count, dtype=np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def seeds():
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[271], exif[274] = "Maker", 6
    exif[0x8769] = {40962: 24, 37500: b"note" * 20}
    about = {"icc_profile": icc, "exif": exif.tobytes()}
    deep = RNG.integers(0, 65536, (9, 11, 3))
    yield from (saved(m, "PNG", **about) for m in ("RGB", "RGBA", "L"))
    yield from (png(deep, 16, 2, interlace=i, before=[(b"tRNS", bytes(6))]) for i in (0, 1))
    yield from (saved(m, "JPEG", **about) for m in ("RGB", "L", "CMYK"))
    yield saved("RGB", "JPEG", progressive=True)
    packings = ("raw", "tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg")
    if features.check_codec("libtiff"):
        yield from (saved("RGB", "TIFF", compression=c, icc_profile=icc) for c in packings)
    yield tiff(deep, 16, 2, orientation=8, tags={271: (2, b"Maker\0"), 0x8769: (4, [8])})
    yield tiff(deep, 16, 2, planar=True, tile=(16, 16), deflate=True, predictor=2)
    yield tiff(deep % 16, 4, 2, order=">", big=True, backwards=True)
    yield tiff(deep[..., :1] % 256, 8, 3, tags={320: (3, list(range(768)))})
    yield from (saved("RGBA", "WEBP", lossless=loss, **about) for loss in (False, True))
    yield from (saved("RGB", f) for f in ("BMP", "GIF", "PPM", "TGA"))
    yield b"P6 9 11 65535\n" + deep.astype(">u2").tobytes()
    if features.check_codec("jpg_2000"):
        yield saved("RGB", "JPEG2000")


SEEDS = list(seeds())


def mutated(rng):
    data = bytearray(SEEDS[rng.integers(len(SEEDS))])
    for _ in range(rng.integers(1, 6)):
        # Headers decide most; every second blow falls there.
        at = int(rng.integers(len(data) if rng.random() < 0.5 else min(len(data), 200)))
        blow = rng.integers(5)
        if blow == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif blow == 1:
            data[at] = int(rng.choice([0, 1, 127, 128, 255]))
        elif blow == 2:
            data[at : at + 4] = int(rng.choice([0, 2**31, 2**32 - 1, 65536])).to_bytes(4, "little")
        elif blow == 3:
            del data[at : at + int(rng.integers(1, 40))]
        else:
            data[at:at] = data[at : at + int(rng.integers(1, 40))]
        if len(data) < 2:
            break
    return bytes(data)


def hammer(count, seed):
    rng = np.random.default_rng(seed)
    pictures = refusals = 0
    for index in range(count):
        data = mutated(rng)
        try:
            picture = decode_picture(data, "a file")
        except FacewrightError as error:
            assert str(error).startswith("a file ") and len(str(error)) < 1000, (seed, index)
            refusals += 1
        else:
            assert picture.pixels.ndim == 3 and len(picture.pixels) in {3, 4}, (seed, index)
            assert picture.pixels.isfinite().all() and picture.pixels.max() <= 1, (seed, index)
            pictures += 1
    return pictures, refusals


def test_damage_gives_a_picture_or_a_sentence(capfd):
    pictures, refusals = hammer(250, seed=7)
    assert pictures > 30 and refusals > 60
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_damage_at_length(capfd):
    hammer(5000, seed=11)
    assert capfd.readouterr() == ("", "")
