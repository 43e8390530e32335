"""Pictures cut to the square that models of aligned faces take."""

from PIL import Image


def centred_square(image: Image.Image, size: int) -> Image.Image:
    """The largest square in the middle, resized to `size` pixels by Lanczos's filter.

    Training and what is made for it beforehand cut alike, so that their pixels lie on each other.
    """
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    return image.resize((size, size), Image.Resampling.LANCZOS)
