"""Which aligned faces are fit to train on: what is measured of a crop, and reasons against it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..color import luma
from ..faces import Face
from ..geometry.eyes import estimate_yaw
from ..geometry.warp import invert, pixel_grid, scale_of, transform
from .album import sharpness

HASH_BITS = 256
ALIKE = 16
"""Bits of two hashes that may differ in one photograph saved twice.

Of 104 copies (JPEG of quality 30, half and double size, brighter, noisy; detected anew each time)
nine in ten differ in less than 20. Of 450 rendered photos no two people come closer than 40, and of
the 100 photographed faces of scikit-image's LFW subset no two closer than 82; the two most alike
photos of one rendered person, closest of 450, differ in 18.
"""

_THUMBNAIL, _FREQUENCIES = 64, 16
_BLOCK = 1024


def usual_sharpness(size: int) -> float:
    """A `min_sharpness` between crops of `size` pixels as soft as enlarged four and eight times.

    0.3 from 512 pixels up, 0.37 at 128. Measured on rendered faces that had been reduced so many
    times: 0.37 and 0.22 at 512, 0.42 and 0.23 at 256, 0.45 and 0.28 at 128; sharp ones have 0.52,
    0.64 and 0.69. A photograph enlarged three times to 512 has 0.46.
    """
    return round(0.3 + 0.035 * max(0.0, math.log2(512 / size)), 3)


@dataclass(frozen=True, kw_only=True)
class Measures:
    """One aligned face in numbers."""

    side: float
    """Of the crop in pixels of the picture it was cut from."""
    sharpness: float
    """`core.people.album.sharpness` of the middle half of the crop, [0, 1]."""
    outside: float
    """Share of the crop that lies outside the picture, [0, 1]."""
    score: float
    """The detector's confidence, [0, 1]."""
    yaw: float | None
    """Degrees the face is turned to a side, [0, 90), see `estimate_yaw`; None without points."""
    color: float
    """Mean spread of a pixel's channels, max - min, in levels of 255: 0 for greys."""
    hash: str
    """64 hexadecimal digits, see `perceptual_hash`."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a crop has to reach; None, 0 or 1 where everything passes."""

    min_side: float = 0.0
    min_sharpness: float = 0.0
    max_outside: float = 1.0
    min_score: float = 0.0
    max_yaw: float | None = None
    min_color: float | None = None


@dataclass(frozen=True)
class Reason:
    """Why something was left out."""

    kind: str
    """One word or two for counting: "size", "sharpness", "outside", ..."""
    words: str
    """A phrase for people."""
    value: float
    limit: float

    def record(self) -> dict[str, str | float]:
        """For JSON."""
        numbers = {"value": round(self.value, 4), "limit": round(self.limit, 4)}
        return {"kind": self.kind, "words": self.words, **numbers}


def measure(crop: Tensor, matrix: Tensor, image_size: tuple[int, int], face: Face) -> Measures:
    """Measure one aligned face.

    Args:
        crop: (3, s, s) in [0, 1].
        matrix: (2, 3) picture -> crop.
        image_size: height and width of the picture.
        face: that was aligned.
    """
    size = crop.shape[-1]
    middle = slice(size // 4, size - size // 4)
    spread = crop.amax(0) - crop.amin(0)
    return Measures(
        side=size / scale_of(matrix),
        sharpness=float(sharpness(crop[None, :, middle, middle])),
        outside=outside_share(matrix, size, image_size),
        score=face.score,
        yaw=None if face.points5 is None else estimate_yaw(face.points5),
        color=float(spread.mean()) * 255,
        hash=perceptual_hash(crop),
    )


def outside_share(matrix: Tensor, size: int, image_size: tuple[int, int]) -> float:
    """Share of a crop of `size` pixels whose centres lie outside the picture (height, width)."""
    source = transform(invert(matrix), pixel_grid((0, 0, size, size)).flatten(0, 1))
    height, width = image_size
    limit = torch.tensor([width - 0.5, height - 0.5], dtype=torch.float64)
    inside = ((source >= -0.5) & (source <= limit)).all(1)
    return 1 - float(inside.double().mean())


def perceptual_hash(crop: Tensor) -> str:
    """256 bits that hardly change when a picture is saved again, as hexadecimal digits.

    The luma's means over 64 x 64 areas are turned into cosine frequencies (DCT-II, orthonormal). Of
    the 17 x 17 lowest in reading order, all but the constant, the first 256 each give one bit:
    whether it lies above their median. A 16 x 16 version of the widespread pHash (Zauner 2010),
    whose 64 bits do not tell aligned faces apart: all have eyes and a mouth in the same places.

    Args:
        crop: (3, s, s) in [0, 1].
    """
    grey = luma(crop[None].detach().cpu().double())
    small = F.interpolate(grey, (_THUMBNAIL, _THUMBNAIL), mode="area")[0, 0].numpy()
    k, i = np.arange(_FREQUENCIES + 1)[:, None], np.arange(_THUMBNAIL)[None]
    basis = np.sqrt(2 / _THUMBNAIL) * np.cos(np.pi * k * (2 * i + 1) / (2 * _THUMBNAIL))
    basis[0] /= np.sqrt(2)
    low = (basis @ small @ basis.T).flatten()[1 : HASH_BITS + 1]
    return np.packbits(low > np.median(low)).tobytes().hex()


_AGAINST = (
    (
        "size", "side", "min_side",
        "the crop is {:.0f} pixels wide in the picture, at least {:g} are wanted",
    ),
    ("sharpness", "sharpness", "min_sharpness", "sharpness {:.2f}, at least {:g} is wanted"),
    (
        "outside", "outside", "max_outside",
        "{:.0%} of the crop lies outside the picture, at most {:.0%} may",
    ),
    ("score", "score", "min_score", "the detector's score is {:.2f}, at least {:g} is wanted"),
    (
        "yaw", "yaw", "max_yaw",
        "the face is turned to the side by some {:.0f} degrees, at most {:g} are wanted",
    ),
    (
        "grey", "color", "min_color",
        "the crop has no colours: its channels differ by {:.1f} of 255 levels, "
        + "at least {:g} are wanted",
    ),
)  # fmt: skip
"""Kind of a reason, what is measured, the limit it is held against, and words for both."""


def reasons(measures: Measures, limits: Limits) -> list[Reason]:
    """Everything that speaks against a crop; [] keeps it."""
    found = []
    for kind, measured, limited, words in _AGAINST:
        value, limit = getattr(measures, measured), getattr(limits, limited)
        if value is not None and limit is not None:
            low, high = (value, limit) if limited.startswith("min") else (limit, value)
            if low < high:
                found.append(Reason(kind, words.format(value, limit), value, limit))
    return found


def find_duplicates(hashes: Sequence[str], limit: int = ALIKE) -> dict[int, tuple[int, int]]:
    """Pictures whose hash is close to that of a better one that stays.

    In order, each picture stays unless it differs in at most `limit` bits from one that stayed
    before; so nothing depends on how the pictures came in, only on how they are ranked.

    Args:
        hashes: of `perceptual_hash`, best picture first.

    Returns:
        For each picture that goes, the closest one that stays and the bits that differ.
    """
    if not hashes:
        return {}
    packed = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(len(hashes), -1)
    # With bits as signs a product of two hashes is 256 less twice their distance, exactly.
    signs = np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1
    gone: dict[int, tuple[int, int]] = {}
    for start in range(0, len(signs), _BLOCK):
        stop = min(start + _BLOCK, len(signs))
        distance = (HASH_BITS - signs[start:stop] @ signs[:stop].T) / 2
        rows, earlier = np.nonzero(distance <= limit)
        near: dict[int, list[tuple[int, int]]] = {}
        for row, other in zip(rows.tolist(), earlier.tolist(), strict=True):
            if other < start + row:
                near.setdefault(start + row, []).append((int(distance[row, other]), other))
        for index in sorted(near):
            staying = [(bits, other) for bits, other in near[index] if other not in gone]
            if staying:
                bits, other = min(staying)
                gone[index] = (other, bits)
    return gone
