"""Names at the faces of pictures, and how sure they are."""

from collections.abc import Iterable

from PIL import Image, ImageDraw
from torch import Tensor

from ..geometry.align import FaceCrops
from ..people.matching import Matches
from .faces import FRAME, crop_corners, draw_reasons
from .paint import BLACK, Color, Font, fitting, font_of, lay_over

UNSURE, BY_HAND, NOBODY = (255, 138, 76), (120, 200, 255), (196, 196, 196)
_SMALLEST = 11
"""Letters in pixels that can be read."""
_FEW = 8
"""Faces of a picture beside which large letters have room."""

Box = tuple[float, float, float, float]


def draw_matches(images: Tensor, faces: FaceCrops, matches: Matches) -> Tensor:
    """Draw the border of every crop, and below the face its number in its picture and whose it is.

    Yellow: an album's; orange: unsure, "1 Ada or Bo?"; blue: told by hand; grey: nobody's. Letters
    are a share of the picture, so that they can be read however large it is shown; names that would
    lie over one another are moved apart.

    Over the bottom of a picture without a face a band says why, where that is known.

    Args:
        images: (b, 3, h, w) in [0, 1], the batch the faces were found in.
        faces: from `align_faces`.
        matches: of these faces.

    Returns:
        (b, 3, h, w) float32 on the CPU. Pixels that nothing was drawn over keep their bits.
    """
    faces.check_pictures(images)
    out = images.float().cpu().clone()
    h, w = out.shape[-2:]
    width = max(2, min(h, w) // 200)
    corners, boxes = crop_corners(faces), faces.boxes.tolist()
    for i in faces.image_index.unique().tolist():
        sheet = Image.new("RGBA", (w, h))
        draw = ImageDraw.Draw(sheet)
        mine = (faces.image_index == i).nonzero()[:, 0].tolist()
        size = max(_SMALLEST, min(h, w) // (24 if len(mine) <= _FEW else 40))
        font = font_of(size, "".join(_text(matches, face) for face in mine))
        for face in mine:
            points = [(x, y) for x, y in corners[face].tolist()]
            draw.line([*points, points[0]], fill=_color(matches, face), width=width, joint="curve")
        taken: list[Box] = []
        for face in mine:  # after all frames, which else would cross names
            text = fitting(_text(matches, face), w - 1 - 2 * _edge(font), font)
            place = _free(draw, text, font, boxes[face], taken, (w, h))
            taken.append(place)
            draw.rectangle(place, fill=_color(matches, face))
            edge = _edge(font)
            draw.text((place[0] + edge, place[1] + edge), text, BLACK, font, anchor="lt")
        lay_over(out[i], sheet)
    draw_reasons(out, faces)
    return out


def _text(matches: Matches, face: int) -> str:
    doubt = "?" if matches.may_be(face) else ""
    return f"{matches.numbers[face]} {matches.names[face]}{doubt}"


def _color(matches: Matches, face: int) -> Color:
    if face in matches.by_hand:
        return BY_HAND
    if matches.may_be(face):
        return UNSURE
    return NOBODY if matches.assigned[face] is None else FRAME


def _edge(font: Font) -> int:
    """Between letters and the border of their plate."""
    return max(3, round(font.size / 4))


def _free(
    draw: ImageDraw.ImageDraw,
    text: str,
    font: Font,
    face: Box,
    taken: Iterable[Box],
    size: tuple[int, int],
) -> Box:
    """A plate for the text in the picture: below the face, above it, or near, where no other is."""
    _, _, right, bottom = draw.textbbox((0, 0), text, font=font, anchor="lt")
    wide, high = right + 2 * _edge(font), bottom + 2 * _edge(font)
    x = min(max((face[0] + face[2] - wide) / 2, 0), max(0, size[0] - 1 - wide))
    below, above = face[3] + 2, face[1] - high - 2
    steps = [below + k * (high + 1) for k in range(4)] + [above - k * (high + 1) for k in range(4)]
    places = [_inside(x, y, wide, high, size[1]) for y in steps]
    free = (p for p in places if not any(_cross(p, other) for other in taken))
    return next(free, places[0])


def _inside(x: float, y: float, wide: float, high: float, height: int) -> Box:
    y = min(max(y, 0), max(0, height - 1 - high))
    return x, y, x + wide, y + high


def _cross(a: Box, b: Box) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]
