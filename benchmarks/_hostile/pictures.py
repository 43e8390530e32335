"""Pictures: damaged files of all formats, and clean ones whose every sample is known."""

import io
import random

import numpy as np
from facewright.core.images import decode_picture, to_array, write_picture
from PIL import Image

from ...tests.headless.picture_files import TURNED, png, tiff
from ...tests.headless.test_images_fuzz import mutated
from ...tests.headless.test_images_metadata import WRITTEN
from .watch import Told, Wrong

LOSSY = (".jpg", ".webp", ".avif")
NEAR = 0.1
"""Of mean colours of a lossy file: the pictures are small and pure noise, of which compression with
half the colour resolution keeps no more."""
DEEP = {".png", ".tif", ".ppm"}


def pictures(room):
    def case(rng):
        numbers = np.random.default_rng(rng.getrandbits(64))
        if rng.random() < 0.6:
            name, expected = "damaged", None
            data = mutated(numbers)
        else:
            name, data, expected = clean(rng, numbers)
        picture = room.watch(decode_picture, data, "a file")
        if isinstance(picture, Told):
            if expected is not None:
                raise Wrong(f"{name} was refused: {picture}")
            return picture
        if expected is not None:
            found = picture.pixels.permute(1, 2, 0).numpy()
            if found.shape != expected.shape or np.abs(found - expected).max() > 1e-6:
                raise Wrong(f"{name} was read as another picture, {found.shape}")
        suffix = rng.choice(WRITTEN)
        target = room.out / f"new{suffix}"
        copied = rng.random() < 0.3
        notes = room.watch(write_picture, target, picture.pixels, picture, copy=copied)
        if isinstance(notes, Told):
            if len(picture.pixels) == 3 and suffix not in LOSSY:
                raise Wrong(f"{name} as {suffix} was not written: {notes}")
            return notes
        again = room.watch(decode_picture, target.read_bytes(), "a result")
        if isinstance(again, Told):
            raise Wrong(f"{name} as {suffix} cannot be read: {again}")
        _same(name, suffix, picture, again.pixels, "our reader")
        if expected is not None and target.read_bytes() != data:
            _same(name, suffix, picture, independent(target), "another reader")
        return notes

    return case


def _same(name, suffix, picture, found, reader):
    """Whether a file holds a picture up to what its format keeps."""
    bits = 16 if picture.bits == 16 and suffix in DEEP else 8
    wanted = to_array(picture.pixels, bits) / (2**bits - 1)
    if not isinstance(found, np.ndarray):
        found = found.permute(1, 2, 0).numpy()
    if found.shape[2] < 3:  # grey, perhaps with alpha
        found = np.concatenate([found[..., :1].repeat(3, 2), found[..., 1:]], 2)
    if found.shape != wanted.shape:
        raise Wrong(f"{name} as {suffix}: {reader} finds {found.shape}, not {wanted.shape}")
    colors = np.abs(found - wanted)[..., :3]
    if wanted.shape[2] == 4:
        if suffix not in LOSSY and np.abs(found - wanted)[..., 3].max() > 1e-6:
            raise Wrong(f"{name} as {suffix}: {reader} finds another alpha")
        if suffix in LOSSY:
            colors = colors[wanted[..., 3] > 0]  # what nobody sees may be compressed away
    lossless = suffix not in LOSSY or (suffix == ".webp" and picture.lossless)
    seen = wanted[..., 3] > 0 if wanted.shape[2] == 4 else np.ones(wanted.shape[:2], bool)
    means = np.abs((found - wanted)[seen][:, :3].mean(0)) if seen.any() else np.zeros(3)
    if colors.size and (colors.max() > 1e-6 if lossless else means.max() > NEAR):
        raise Wrong(f"{name} as {suffix}: {reader} is off by {colors.max():.4f}, {means}")


def independent(path):
    """(h, w, c) in [0, 1] as tifffile, OpenCV or Pillow read it."""
    if path.suffix == ".tif":
        import tifffile

        array = tifffile.imread(path)
    elif path.suffix in (".png", ".ppm"):
        import cv2

        array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if array.ndim == 3:
            order = [2, 1, 0, 3][: array.shape[2]]
            array = array[..., order]
    else:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            array = np.asarray(image)
    array = array[..., None] if array.ndim == 2 else array
    return array / np.iinfo(array.dtype).max


def clean(rng: random.Random, numbers):
    """A name, a file and what it shows, (h, w, 3 or 4) in [0, 1]."""
    height, width = rng.randint(1, 24), rng.randint(1, 24)
    if rng.random() < 0.5:
        color = rng.choice((0, 2, 3, 4, 6))
        depth = rng.choice({0: (1, 2, 4, 8, 16), 3: (1, 2, 4, 8)}.get(color, (8, 16)))
        channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
        samples = numbers.integers(0, 2**depth, (height, width, channels))
        interlace = rng.random() < 0.5
        before, shown = [], samples / (2**depth - 1)
        if color == 3:
            palette = numbers.integers(0, 256, (2**depth, 3))
            before = [(b"PLTE", palette.astype(np.uint8).tobytes())]
            shown = palette[samples[..., 0]] / 255
        elif color in (0, 4):
            shown = np.concatenate([shown[..., :1].repeat(3, 2), shown[..., 1:]], 2)
        data = png(samples, depth, color, interlace=interlace, before=before)
        return f"PNG {depth} bits, colour {color}, interlaced {interlace}", data, shown
    photometric = rng.choice((0, 1, 2))
    bits = rng.choice((8, 16)) if photometric == 2 else rng.choice((1, 2, 4, 8, 16))
    alpha = photometric == 2 and rng.random() < 0.4
    samples = numbers.integers(0, 2**bits, (height, width, 3 + alpha if photometric == 2 else 1))
    orientation = rng.choice((None, *TURNED))
    options = {
        "order": rng.choice("<>"),
        "planar": photometric == 2 and rng.random() < 0.4,
        "extra": (2,) if alpha else (),
        "orientation": orientation,
        "rows_per_strip": rng.choice((None, 1, 5)),
        "tile": rng.choice((None, (16, 16), (32, 16))),
        "predictor": rng.choice((1, 2)) if bits >= 8 else 1,
        "deflate": rng.random() < 0.5,
        "big": rng.random() < 0.3,
    }
    if options["predictor"] == 2:
        options["deflate"] = True
    shown = samples / (2**bits - 1)
    if photometric == 0:
        shown = 1 - shown
    if photometric != 2:
        shown = shown.repeat(3, 2)
    shown = TURNED[orientation or 1](shown)
    name = f"TIFF {bits} bits, photometric {photometric}, {options}"
    return name, tiff(samples, bits, photometric, **options), np.ascontiguousarray(shown)
