"""TIFF: what the samples mean, whatever their depth, order and packing (TIFF 6.0).

Pillow, OpenCV and tifffile each read a part of these kinds, some of them wrongly. Here the samples
are taken as they are stored and their meaning comes from the tags alone.
"""

import numpy as np

from ..color import LUMA
from .colors import cmyk_to_rgb, lab_to_rgb
from .metadata import ORIENTATION, attempt, checked_orientation, parse_exif
from .picture import Stored, damaged, pages, refused
from .tiff_samples import JPEG, Layout, UnreadableKindError, read_layout, read_samples
from .tiff_tags import REDUCED, SUBFILE, Directory, TagError, read_directory

_WHITE_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 2, 3, 5, 6, 8
_CHANNELS = {_WHITE_IS_ZERO: 1, 1: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3, _LAB: 3}
_OTHER = {4: "a transparency mask", 9: "ICC Lab colours", 10: "ITU Lab colours",
          32803: "the raw values of a camera", 34892: "the raw values of a camera",
          32844: "LogL values", 32845: "LogLuv values"}  # fmt: skip
_ASSOCIATED, _UNASSOCIATED = 1, 2
_INNER_PAGES = 330


def read_tiff(data: bytes, path: object) -> Stored:
    """
    Raises:
        FacewrightError: damaged, of several pages, too large, or of a kind that is not read.
        Exception: whatever zlib and Pillow make of damage.
    """
    try:
        page = read_directory(data)
        if page.pages > 1:
            raise pages(path, page.pages)
        if _INNER_PAGES in page.tags and page.number(SUBFILE, 0) & REDUCED:
            raise refused(path, "holds only a preview where others have the picture (a raw file?)")
        layout = read_layout(page, path)
        _check(page, layout)
        samples = read_samples(data, page, layout)
        return _meaning(samples, data, page, layout)
    except TagError as error:
        raise damaged(path, error) from error
    except UnreadableKindError as error:
        raise refused(path, f"is a TIFF with {error}, which cannot be read rightly") from error


def tiff_size(data: bytes, path: object) -> tuple[int, int]:
    """Width and height, upright.

    Raises:
        TagError: the tags are damaged.
        FacewrightError: too large.
    """
    page = read_directory(data)
    width, height = page.number(256), page.number(257)
    return (height, width) if _orientation(page, []) >= 5 else (width, height)


def _check(page: Directory, layout: Layout) -> None:
    """Raise UnreadableKindError for colours that are not read."""
    channels = _CHANNELS.get(layout.photometric)
    if channels is None:
        unknown = f"unknown colours ({layout.photometric})"
        raise UnreadableKindError(_OTHER.get(layout.photometric, unknown))
    if layout.samples < channels:
        raise TagError(f"{layout.samples} channels are too few")
    if layout.photometric == _CMYK and (page.number(332, 1), page.number(334, 4)) != (1, 4):
        raise UnreadableKindError("inks other than cyan, magenta, yellow and black")
    if layout.photometric == _LAB and layout.bits not in {8, 16}:
        raise UnreadableKindError(f"Lab colours of {layout.bits} bits")


def _meaning(samples: np.ndarray, data: bytes, page: Directory, layout: Layout) -> Stored:
    notes: list[str] = []
    conversions: list[str] = []
    icc = page.raw(34675)
    colors, extra = np.split(samples, [_CHANNELS[layout.photometric]], axis=2)
    grey = layout.photometric in {_WHITE_IS_ZERO, 1}
    if layout.photometric in {_WHITE_IS_ZERO, 1, _RGB}:
        rgb = _scaled(colors, layout.bits)
        if layout.photometric == _WHITE_IS_ZERO:
            rgb = np.iinfo(rgb.dtype).max - rgb
    elif layout.photometric == _PALETTE:
        rgb = _palette(colors[..., 0], page, layout)
    elif layout.photometric == _YCBCR:
        rgb = colors if layout.compression == JPEG and not layout.planar else _ycbcr(colors, page)
    else:
        rgb, icc = _converted(colors, layout, icc, conversions), None
    if grey:
        rgb = rgb.repeat(3, axis=2)
    rgb = _with_alpha(rgb, extra, page, layout, conversions)
    return Stored(
        rgb,
        "TIFF",
        grey=grey,
        icc=icc,
        exif=attempt(lambda: parse_exif(data, notes), notes, "EXIF"),
        orientation=_orientation(page, notes),
        notes=notes,
        conversions=conversions,
    )


def _scaled(values: np.ndarray, bits: int) -> np.ndarray:
    """From `bits` to the whole range of uint8 or uint16."""
    if bits in {8, 16}:
        return values
    top, most = (255 if bits < 8 else 65535), 2**bits - 1
    table = (np.arange(most + 1, dtype=np.uint32) * top + most // 2) // most
    return table.astype(values.dtype)[values]


def _palette(index: np.ndarray, page: Directory, layout: Layout) -> np.ndarray:
    table = np.array(page.numbers(320), np.uint32)
    if len(table) != 3 * 2**layout.bits:
        raise TagError("its palette has another size")
    # 16 bits, of which some writers leave the lower ones empty; a few know 8 bits only.
    table = table >> 8 if table.max() > 255 else table
    return table.astype(np.uint8).reshape(3, -1).T[index]


def _ycbcr(values: np.ndarray, page: Directory) -> np.ndarray:
    """Rec. 601 or what the tags say, to RGB (TIFF 6.0, 21)."""
    try:
        red, green, blue = page.fractions(529) if 529 in page.tags else LUMA
        low = page.fractions(532) if 532 in page.tags else [0, 255, 128, 255, 128, 255]
        scale = [255 / (low[1] - low[0]), 127 / (low[3] - low[2]), 127 / (low[5] - low[4])]
        inverse = 1 / green
    except (ZeroDivisionError, ValueError, IndexError) as error:
        raise TagError("its colours are not defined") from error
    out = np.empty_like(values)
    for top in range(0, len(values), 256):  # so that float copies stay small
        rows = values[top : top + 256].astype(np.float32)
        y, cb, cr = ((rows[..., i] - low[2 * i]) * scale[i] for i in range(3))
        r = y + (2 - 2 * red) * cr
        b = y + (2 - 2 * blue) * cb
        g = (y - red * r - blue * b) * inverse
        rgb = np.stack([r, g, b], axis=-1)
        out[top : top + 256] = rgb.round().clip(0, 255)
    return out


def _converted(
    colors: np.ndarray, layout: Layout, icc: bytes | None, conversions: list[str]
) -> np.ndarray:
    """CMYK or Lab as 8-bit RGB."""
    from PIL import Image

    if layout.bits > 8:
        conversions.append(f"its {layout.bits} bits per channel became 8")
    lab = layout.photometric == _LAB
    if lab and layout.bits == 16:  # a and b are signed
        lightness = (colors[..., :1].astype(np.uint32) + 128) // 257
        colors = np.concatenate([lightness, colors[..., 1:] >> 8], axis=2).astype(np.uint8)
    else:
        colors = _to_8(_scaled(colors, layout.bits))
    size = (layout.width, layout.height)
    image = Image.frombytes("LAB" if lab else "CMYK", size, np.ascontiguousarray(colors).tobytes())
    image = lab_to_rgb(image, conversions) if lab else cmyk_to_rgb(image, icc, conversions)
    return np.asarray(image)


def _to_8(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _with_alpha(
    rgb: np.ndarray, extra: np.ndarray, page: Directory, layout: Layout, conversions: list[str]
) -> np.ndarray:
    """With the first channel that is an alpha channel; others are left out."""
    count = extra.shape[2]
    if not count:
        return rgb
    # Where nothing is said, one more channel is meant as alpha by those who write so.
    kinds = page.numbers(338, (_UNASSOCIATED,) if count == 1 else (0,) * count)[:count]
    found = next((i for i, k in enumerate(kinds) if k in {_ASSOCIATED, _UNASSOCIATED}), None)
    left_out = count - (found is not None)
    if left_out:
        what = "1 channel that is no colour was" if left_out == 1 else f"{left_out} channels were"
        conversions.append(f"{what} left out")
    if found is None:
        return rgb
    alpha = _scaled(extra[..., found : found + 1], layout.bits)
    if rgb.dtype == np.uint8:
        alpha = _to_8(alpha)
    if kinds[found] == _ASSOCIATED:
        if layout.photometric not in {1, _RGB}:
            raise UnreadableKindError("premultiplied transparency of such colours")
        conversions.append("premultiplied transparency became plain")
        rgb = _unmultiplied(rgb, alpha)
    return np.concatenate([rgb, alpha], axis=2)


def _unmultiplied(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    top = np.iinfo(rgb.dtype).max
    out = np.empty_like(rgb)
    for y in range(0, len(rgb), 256):
        a = alpha[y : y + 256].astype(np.uint64)
        whole = (rgb[y : y + 256].astype(np.uint64) * top + a // 2) // np.maximum(a, 1)
        out[y : y + 256] = np.minimum(whole, top)
    return out


def _orientation(page: Directory, notes: list[str]) -> int:
    value = attempt(lambda: page.number(ORIENTATION, 1), notes, "orientation")
    return checked_orientation(1 if value is None else value, notes)
