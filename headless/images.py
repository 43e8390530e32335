"""Pictures on disk, read and written without losing depth, alpha, colour profile or orientation."""

import io
import os
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core.errors import FacewrightError
from ..core.files import written_whole

MAX_PIXELS = 178_956_970
"""Larger pictures are refused before decoding, as Pillow does: a small file can claim any size."""

_SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".ppm": "PPM",
    ".jp2": "JPEG2000",
    ".avif": "AVIF",
}
_NO_ALPHA = {"JPEG", "PPM"}
_SAVE_OPTIONS = {
    "PNG": {"compress_level": 4},
    # Half-resolution colour would change pixels that the restoration never touched.
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "TIFF": {"compression": "tiff_deflate"},
    "AVIF": {"quality": 90},
}

PICTURE_SUFFIXES = frozenset(_SUFFIXES) | {".gif", ".jpe", ".jfif", ".tga", ".pgm", ".pnm"}
"""What counts as a picture when a folder is searched."""

_ORIENTATION = 0x0112
_LUMA = (0.299, 0.587, 0.114)


@dataclass
class Picture:
    """A decoded picture, upright, and what it takes to write one like it."""

    pixels: Tensor
    """(c, h, w) float32 in [0, 1]; c is 3 (RGB) or 4 (RGB and alpha)."""
    bits: int = 8
    """8 or 16 per channel."""
    grey: bool = False
    """It was stored without colour, and is written so again."""
    icc: bytes | None = None
    exif: bytes | None = None
    notes: list[str] = field(default_factory=list)
    """What could not be kept as it was, one sentence each."""


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Decode any still picture that Pillow knows, upright after its EXIF orientation.

    16-bit PNG and TIFF keep their depth (Pillow would cut RGB to 8 bits), alpha and ICC profile are
    kept, CMYK becomes RGB through its own profile, palettes become RGB.

    Raises:
        FacewrightError: no picture, damaged, animated, of a kind that cannot be restored, or larger
            than `MAX_PIXELS`.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise FacewrightError(f"There is no file {path}.") from error
    except IsADirectoryError as error:
        raise FacewrightError(f"{path} is a folder, not a picture.") from error
    except OSError as error:
        raise FacewrightError(f"{path} cannot be opened ({error}).") from error
    return decode_picture(data, path)


def decode_picture(data: bytes, path: str | os.PathLike[str]) -> Picture:
    """`read_picture` of a file's content; `path` is what errors call it.

    Raises:
        FacewrightError: as `read_picture`.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        what = "is empty (0 bytes); copy or download it again."
        if data:
            what = "is no picture in a format Pillow knows. Convert it to PNG or JPEG first."
        raise FacewrightError(f"{path} {what}") from error
    except Image.DecompressionBombError as error:
        raise FacewrightError(
            f"{path} claims more than {MAX_PIXELS / 1e6:.0f} megapixels and was not opened. "
            "Cut it into tiles or scale it down first."
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise FacewrightError(f"{path} cannot be opened ({error}).") from error
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # phones append a second view to their JPEGs
        raise FacewrightError(
            f"{path} is animated or has {frames} pages; only single pictures can be read. "
            "Export its frames first."
        )
    try:
        return _decode(image, data, path)
    except FacewrightError:
        raise
    except (OSError, ValueError, SyntaxError, struct.error) as error:
        raise FacewrightError(
            f"{path} is damaged or incomplete ({error}). Copy or download it again."
        ) from error


def _decode(image, data: bytes, path: str | os.PathLike[str]) -> Picture:  # noqa: ANN001 (Pillow loads lazily)
    exif = image.getexif()
    orientation = exif.get(_ORIENTATION, 1)
    icc = image.info.get("icc_profile")
    notes: list[str] = []
    grey = image.mode in {"1", "L", "LA", "La", "I;16", "I;16B", "I;16L"}
    if _has_16_bits(image, data):
        array, bits = _decode_16(data, path), 16
    else:
        if image.mode in {"I", "F"}:
            raise FacewrightError(
                f"{path} stores 32-bit values, whose white point is unknown. "
                "Convert it to 8 or 16 bits per channel."
            )
        if image.mode == "CMYK":
            image, icc = _from_cmyk(image, icc), None
            notes.append("CMYK was converted to RGB")
        has_alpha = "transparency" in image.info or image.mode in {"RGBA", "LA", "PA", "RGBa", "La"}
        array = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
        bits = 8
    if orientation != 1:
        array = _upright(array, orientation)
        exif[_ORIENTATION] = 1
    planes = np.ascontiguousarray(array.transpose(2, 0, 1)).astype(np.float32)
    pixels = torch.from_numpy(planes).div_(float(2**bits - 1))
    return Picture(pixels, bits, grey, icc, exif.tobytes() if len(exif) else None, notes)


def _has_16_bits(image, data: bytes) -> bool:  # noqa: ANN001
    if image.format == "PNG":
        return data[24] == 16  # bit depth, the ninth byte of IHDR
    if image.format == "TIFF":
        return set(np.atleast_1d(image.tag_v2.get(258, 8))) == {16} and image.mode != "CMYK"
    return image.mode.startswith("I;16")


def _decode_16(data: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    """(h, w, 3 or 4) uint16 RGB(A)."""
    try:
        import cv2
    except ImportError as error:
        raise FacewrightError(
            f"{path} has 16 bits per channel; reading it needs OpenCV. Install it with "
            '`pip install "facewright[headless]"`.'
        ) from error
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16:
        raise FacewrightError(f"{path} cannot be decoded as a 16-bit picture. Save it as PNG.")
    if array.ndim == 2:
        return array[..., None].repeat(3, axis=2)
    order = [2, 1, 0, 3] if array.shape[2] == 4 else [2, 1, 0]
    return array[..., order]


def _from_cmyk(image, icc: bytes | None):  # noqa: ANN001
    from PIL import ImageCms

    if icc:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            target = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, source, target, outputMode="RGB")
        except ImageCms.PyCMSError:
            pass  # a profile of another colour space; the plain formula is what remains
    return image.convert("RGB")


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the EXIF orientation (1 to 8) of an (h, w, c) array."""
    if orientation >= 5:
        array = array.transpose(1, 0, 2)
    if orientation in {2, 3, 6, 7}:
        array = array[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        array = array[::-1]
    return array


def written_suffix(path: Path) -> str:
    """Suffix of the file a picture is written back to: its own where Pillow writes that format."""
    return path.suffix if path.suffix.lower() in _SUFFIXES else ".png"


def write_picture(
    path: str | os.PathLike[str],
    pixels: Tensor,
    like: Picture,
    *,
    text: Mapping[str, str] | None = None,
    quality: int | None = None,
) -> None:
    """Write pixels (c, h, w) in [0, 1] with depth, greyness, profile and EXIF of `like`.

    The format follows the suffix of `path`; 16 bits are kept in PNG and TIFF. The file is complete
    or not there at all.

    Args:
        text: text chunks by keyword (1 to 79 characters), PNG only; both in Latin-1, so escape what
            leaves it (`json.dumps` does).
        quality: of a JPEG, WebP or AVIF, 1 to 100; None for 95, of an AVIF 90.

    Raises:
        FacewrightError: an unknown suffix, a format that cannot hold the alpha channel, or `text`
            for another format than PNG.
        OSError: the folder cannot be written.
    """
    path = Path(path)
    file_format = _SUFFIXES.get(path.suffix.lower())
    if file_format is None:
        raise FacewrightError(
            f"{path.name}: pictures are written as {', '.join(sorted(_SUFFIXES))}. Choose one."
        )
    if len(pixels) == 4 and file_format in _NO_ALPHA:
        raise FacewrightError(
            f"{path.name}: {file_format} cannot keep the transparency of this picture. "
            "Write PNG, WebP or TIFF instead."
        )
    if text and file_format != "PNG":
        raise FacewrightError(
            f"{path.name}: only PNG keeps {', '.join(text)} beside the picture. Write PNG, or "
            "leave it out."
        )
    deep = like.bits == 16 and file_format in {"PNG", "TIFF"}
    data = _encode(pixels, like, file_format, 16 if deep else 8, quality)
    write_atomic(path, _with_text(data, text) if text else data)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees half of it."""
    with written_whole(path) as temporary:
        temporary.write_bytes(data)


def to_array(pixels: Tensor, bits: int = 8) -> np.ndarray:
    """(c, h, w) in [0, 1] -> (h, w, c) uint8 or uint16, rounded."""
    top = 2**bits - 1
    scaled = pixels.detach().float().cpu().clamp(0, 1).mul(top).round().permute(1, 2, 0)
    return scaled.numpy().astype(np.uint16 if bits == 16 else np.uint8)


def _encode(
    pixels: Tensor, like: Picture, file_format: str, bits: int, quality: int | None
) -> bytes:
    from PIL import Image

    if like.grey:
        luma = (pixels[:3] * pixels.new_tensor(_LUMA)[:, None, None]).sum(0, keepdim=True)
        pixels = torch.cat([luma, pixels[3:]])
    array = to_array(pixels, bits)
    if bits == 16:
        return _encode_16(array, like, file_format)
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    extra = {"icc_profile": like.icc, "exif": like.exif}
    options = _SAVE_OPTIONS.get(file_format, {}) | {k: v for k, v in extra.items() if v}
    if quality is not None and "quality" in options:
        options["quality"] = quality
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _encode_16(array: np.ndarray, like: Picture, file_format: str) -> bytes:
    channels = array.shape[2]
    if file_format == "TIFF":
        import tifffile

        buffer = io.BytesIO()
        tifffile.imwrite(
            buffer,
            array[..., 0] if channels == 1 else array,
            photometric="rgb" if channels >= 3 else "minisblack",
            extrasamples=["unassalpha"] if channels in {2, 4} else None,
            compression="zlib",
            iccprofile=like.icc,
            metadata=None,
        )
        return buffer.getvalue()
    return _png_16(array, like)


_AFTER_HEADER = 8 + 25
"""Length of a PNG's signature and IHDR chunk."""


def _with_text(png: bytes, text: Mapping[str, str]) -> bytes:
    """A PNG with tEXt chunks after its header, which readers find before the pixels."""
    chunks = (
        _chunk(b"tEXt", key.encode("latin-1") + b"\0" + value.encode("latin-1"))
        for key, value in text.items()
    )
    return png[:_AFTER_HEADER] + b"".join(chunks) + png[_AFTER_HEADER:]


_PNG_COLOR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}


def _png_16(array: np.ndarray, like: Picture) -> bytes:
    """PNG with 16 bits per channel, which Pillow cannot write; rows use the "up" filter.

    Layout: PNG specification, third edition, sections 5 (chunks) and 9 (filtering).
    """
    height, width, channels = array.shape
    rows = np.ascontiguousarray(array, dtype=">u2").view(np.uint8).reshape(height, -1)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2
    np.subtract(rows, above, out=filtered[:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 16, _PNG_COLOR_TYPE[channels], 0, 0, 0)
    chunks = [(b"IHDR", header)]
    if like.icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(like.icc)))
    if like.exif:
        chunks.append((b"eXIf", like.exif.removeprefix(b"Exif\0\0")))
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes(), 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*c) for c in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
