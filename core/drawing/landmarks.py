"""Landmarks of restored faces and the true ones, drawn on the restored picture."""

import math

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from ..scores.landmarks import LandmarkScores
from .paint import font_of, lay_over, mark, pixels_of

COLOURS = {
    "restored": (255, 159, 10),
    "gt": (48, 219, 130),
    "restored, best affine map": (255, 80, 210),
}
_SMALLEST = 512
"""Smaller pictures are enlarged: dots and words want room."""
_LARGEST = 4096
"""Pixels along the longer side that enlarging stops at."""
_FINE = 3
"""Drawn at this multiple and reduced, so that dots are round."""


def draw_scores(restored: Tensor, scores: LandmarkScores) -> Tensor:
    """Restored landmarks, the true ones, and the restored ones after the best affine map.

    What A-LD counts is the distance from the last to the true ones: the thin lines.

    Args:
        restored: (n, 3, h, w) in [0, 1], the batch that was scored.
        scores: from `score_landmarks`.

    Returns:
        (n, 3, h' + legend, w') in [0, 1], float32 on the CPU; h' and w' are h and w, or their
        smallest multiples with both sides at least 512, or none above 4096.
    """
    pictures = restored.detach().float().cpu().clamp(0, 1)
    height, width = pictures.shape[-2:]
    factor = math.ceil(_SMALLEST / max(1, min(height, width)))
    factor = max(1, min(factor, _LARGEST // max(1, height, width)))
    if factor > 1:
        size = (height * factor, width * factor)
        pictures = (
            F.interpolate(pictures, size, mode="bilinear")
            if len(pictures)
            else (pictures.new_zeros(0, 3, *size))
        )
    legend = _legend(width * factor)
    out = torch.cat([pictures, legend.expand(len(pictures), -1, -1, -1)], 2)
    for face in scores.faces:
        sets = [(p + 0.5) * factor - 0.5 for p in (face.restored, face.gt, face.mapped)]
        picture = out[face.image, :, : height * factor]
        _draw_face(picture, *sets)
    return out


def _draw_face(picture: Tensor, restored: Tensor, gt: Tensor, mapped: Tensor) -> None:
    """Into a (3, h, w) picture, in place."""
    height, across = picture.shape[-2:]
    together = torch.cat([restored, gt, mapped])
    extent = float((gt.amax(0) - gt.amin(0)).max())
    radius = max(1.6, extent / 130)
    # Only as much paper as the face needs.
    low = (together.amin(0) - 4 * radius).floor().clamp(min=0).long().tolist()
    high = (together.amax(0) + 4 * radius).ceil().long().tolist()
    left, top, right, bottom = *low, min(high[0], across), min(high[1], height)
    if left >= right or top >= bottom:
        return
    sheet = Image.new("RGBA", ((right - left) * _FINE, (bottom - top) * _FINE))
    draw = ImageDraw.Draw(sheet)

    def place(points: Tensor) -> list[tuple[float, float]]:
        corner = torch.tensor([left, top])
        return [tuple(p) for p in ((points - corner + 0.5) * _FINE).tolist()]

    for a, b in zip(place(mapped), place(gt), strict=True):
        width = max(1, round(radius * _FINE / 2))
        draw.line([a, b], fill=COLOURS["restored, best affine map"], width=width)
    for points, name in zip((restored, gt, mapped), COLOURS, strict=True):
        for at in place(points):
            _dot(draw, at, radius * _FINE, name)
    small = sheet.resize((right - left, bottom - top), Image.Resampling.BOX)
    lay_over(picture, small, (left, top))


def _dot(draw: ImageDraw.ImageDraw, at: tuple[float, float], r: float, name: str) -> None:
    """A disc, and a ring around it for the truth: discs lie in their rings where they agree."""
    if name == "gt":
        mark(draw, at, 1.5 * r, COLOURS[name], "ring")
    else:
        mark(draw, at, r, COLOURS[name])


def _legend(width: int) -> Tensor:
    """(3, h, width): a strip that says which colour is which."""
    size = 20
    while size > 7:
        font = font_of(size)
        gaps = 3.2 * size * len(COLOURS)
        if sum(font.getlength(text) for text in COLOURS) + gaps <= width:
            break
        size -= 1
    strip = Image.new("RGB", (width, round(1.8 * size)), (24, 24, 24))
    draw = ImageDraw.Draw(strip)
    x, middle = 0.8 * size, 0.9 * size
    for text in COLOURS:
        r = 0.35 * size
        _dot(draw, (x + r, middle), r, text)
        x += 1.1 * size
        draw.text((x, middle), text, fill=(240, 240, 240), font=font, anchor="lm")
        x += font.getlength(text) + 1.6 * size
    return pixels_of(strip)
