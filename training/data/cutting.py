"""Pictures cut to the squares that a batch holds."""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from .damage import UnreadableError
from .files import to_tensor


def random_square(
    images: Sequence[Image.Image],
    size: int,
    rng: np.random.Generator,
    *,
    largest: int | None = None,
    name: object = "",
) -> list[Tensor]:
    """One random square cut from each of several pictures of the same view, at the same place.

    Pictures keep their pixels, because resizing is a low-pass filter: it averages sensor noise
    away and narrows blur. Those with a side shorter than `size` are enlarged until it fits.

    Args:
        images: of one width and height.
        size: side of the square in pixels.
        rng: draws the place, and before it the shorter side where `largest` is given.
        largest: resize the shorter side to `size` to `largest` pixels first (Lanczos).
        name: of the pictures, for errors.

    Returns:
        For each picture a tensor (3, size, size), uint8.

    Raises:
        UnreadableError: the pictures differ in size.
    """
    sizes = {image.size for image in images}
    if len(sizes) > 1:
        told = " and ".join(f"{w} x {h}" for w, h in sorted(sizes))
        raise UnreadableError(name, f"its two pictures differ in size ({told} pixels)")
    width, height = images[0].size
    if largest is not None:
        scale = int(rng.integers(size, largest + 1)) / min(width, height)
    else:
        scale = max(1.0, size / min(width, height))
    if largest is not None or scale > 1:
        width, height = (max(size, round(side * scale)) for side in (width, height))
        images = [image.resize((width, height), Image.Resampling.LANCZOS) for image in images]
    left = int(rng.integers(width - size + 1))
    top = int(rng.integers(height - size + 1))
    return [to_tensor(image.crop((left, top, left + size, top + size))) for image in images]
