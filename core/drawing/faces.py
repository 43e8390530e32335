"""Numbered or named frames around the faces that were found, or why there are none."""

import math
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..geometry.align import FaceCrops
from ..geometry.face import NoFace
from .paint import BLACK, WHITE, fitting, font_of, lay_over, wrapped

_FAR = 1e6
"""Pixels from a picture's corner beyond which no line is drawn any further."""
FRAME = (255, 208, 0)
_DARK = (16, 16, 16, 225)
_BAND = 0.45
"""Share of a picture's height that words may cover."""
_SMALLEST = 8
"""Letters in pixels that can be read."""


def draw_faces(images: Tensor, faces: FaceCrops, labels: Sequence[str] | None = None) -> Tensor:
    """Draw the border of every crop and its number, counted from 0 in each picture, or its label.

    Over the bottom of a picture without a face a band says why, where that is known.

    Args:
        images: (b, 3, h, w) in [0, 1], the batch the faces were found in.
        faces: from `align_faces`.
        labels: one per face, in place of the numbers; moved into the picture where they would leave
            it.

    Returns:
        (b, 3, h, w) float32 on the CPU. Pixels that nothing was drawn over keep their bits.
    """
    faces.check_pictures(images)
    out = images.float().cpu().clone()
    h, w = out.shape[-2:]
    width = max(2, min(h, w) // 200)
    font = font_of(max(12, min(h, w) // 24))
    corners = crop_corners(faces)
    for i in faces.image_index.unique().tolist():
        sheet = Image.new("RGBA", (w, h))
        draw = ImageDraw.Draw(sheet)
        mine = (faces.image_index == i).nonzero()[:, 0].tolist()
        for number, face in enumerate(mine):
            points = [(x, y) for x, y in corners[face].tolist()]
            draw.line([*points, points[0]], fill=FRAME, width=width, joint="curve")
            text, place = str(number) if labels is None else str(labels[face]), points[0]
            if labels is not None:
                place = _inside(place, draw.textbbox((0, 0), text, font=font, anchor="lt"), w, h)
            box = draw.textbbox(place, text, font=font, anchor="lt")
            draw.rectangle([box[0] - 4, box[1] - 4, box[2] + 4, box[3] + 4], fill=FRAME)
            draw.text(place, text, fill=BLACK, font=font, anchor="lt")
        lay_over(out[i], sheet)
    draw_reasons(out, faces)
    return out


def draw_reasons(images: Tensor, faces: FaceCrops) -> None:
    """Over the bottom of pictures (b, 3, h, w) without a face, in place, a band that says why,
    where that is known."""
    h, w = images.shape[-2:]
    for i in faces.none.keys() - set(faces.image_index.tolist()):
        sheet = _band(faces.none[i], w, h)
        lay_over(images[i], sheet, (0, h - sheet.height))


def _band(none: NoFace, width: int, height: int) -> Image.Image:
    """A dark band that says why there is no face, in letters as large as fit.

    What to try next is left out where a small picture has no room for it.
    """
    most = height * _BAND
    sizes = range(max(12, min(height, width) // 24), _SMALLEST - 1, -1)
    choices = [(text, size) for text in (none.sentences, none.short) for size in sizes]
    for text, size in choices:
        font, edge, line = font_of(size), max(2, size // 2), math.ceil(1.3 * size)
        lines = wrapped(text, width - 2 * edge, font)
        whole = all(font.getlength(shown) <= width - 2 * edge for shown in lines)
        if whole and line * len(lines) + 2 * edge <= most:
            break
    lines = lines[: max(1, int((height - 2 * edge) // line))]
    sheet = Image.new("RGBA", (width, min(height, line * len(lines) + 2 * edge)), _DARK)
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((0, 0, width, max(1, size // 6) - 1), fill=FRAME)
    for number, shown in enumerate(lines):
        place = (edge, edge + number * line)
        draw.text(place, fitting(shown, width - 2 * edge, font), WHITE, font)
    return sheet


def _inside(
    place: tuple[float, float], box: tuple[float, float, float, float], w: int, h: int
) -> tuple[float, float]:
    """`place` of a text that has this `box` at the origin, moved until its plate is visible."""
    x = min(place[0], w - 5 - box[2])
    y = min(place[1], h - 5 - box[3])
    return max(x, 4), max(y, 4)


def crop_corners(faces: FaceCrops) -> Tensor:
    """(n, 4, 2) corners of the crops in picture pixels, clockwise from the top left."""
    s = faces.pixels.shape[-1]
    square = torch.tensor([[0, 0], [s, 0], [s, s], [0, s]], dtype=torch.float64) - 0.5
    linear, shift = faces.matrix[:, :, :2], faces.matrix[:, :, 2]
    corners = torch.linalg.solve(linear, (square - shift[:, None]).mT).mT
    return corners.clamp(-_FAR, _FAR)  # what draws them counts in 32 bits
