"""Draw which of MediaPipe's 478 points stand for iBUG's 68: docs/images/mediapipe_68.png.

`python -m facewright.docs.face_points MODELS` takes the models folder with MediaPipe's files. The
face is one that the toys were trained on, drawn by `training.world`.
"""

import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from ..core.drawing.paint import font_of
from ..core.faces.mediapipe_networks import MediapipeNetworks
from ..core.faces.mesh import IBUG_OF_MESH
from ..core.faces.views import whole
from ..training.world.faces3d import photos

OUT = Path(__file__).parent / "images" / "mediapipe_68.png"
SIDE, PERSON, PHOTO = 1400, 5, 10
_FILL, _LINE, _POINT, _DOT = (250, 250, 250), (90, 150, 220), (200, 40, 40), (170, 170, 170)
CONTOURS = (
    range(17), range(17, 22), range(22, 27), range(27, 31), range(31, 36),
    (*range(36, 42), 36), (*range(42, 48), 42), (*range(48, 60), 48), (*range(60, 68), 60),
)  # fmt: skip


def main(models: str) -> Path:
    """Draw the picture; every point bears its number of iBUG's and, smaller, the mesh's."""
    picture = photos(PERSON, PHOTO, 512, supersample=2).pixels
    networks = MediapipeNetworks.from_folder(models, torch.device("cpu"))
    mesh = networks.mesh(picture, whole(512, 512))[0][0]
    low, high = mesh.amin(0), mesh.amax(0)
    points = ((mesh - (low + high) / 2) / (high - low).amax() * 0.92 + 0.5) * SIDE
    sheet = Image.new("RGB", (SIDE, SIDE), _FILL)
    draw = ImageDraw.Draw(sheet)
    for x, y in points.tolist():
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=_DOT)
    chosen = [tuple(xy) for xy in points[list(IBUG_OF_MESH)].tolist()]
    for contour in CONTOURS:
        draw.line([chosen[i] for i in contour], fill=_LINE, width=2)
    for number, ((x, y), index) in enumerate(zip(chosen, IBUG_OF_MESH, strict=True)):
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=_POINT)
        draw.text((x + 5, y - 18), str(number), fill=_POINT, font=font_of(15))
        draw.text((x + 5, y + 1), str(index), fill=(90, 90, 90), font=font_of(11))
    sheet.save(OUT, optimize=True)
    return OUT


if __name__ == "__main__":
    main(sys.argv[1])
