"""MediaPipe's face mesh: 478 points, and which of them stand for iBUG's 68 and for the five.

The mesh's topology is MediaPipe's canonical face model (google-ai-edge/mediapipe, Apache-2.0); its
last ten points are the irises.
"""

from torch import Tensor

from ..errors import FacewrightError
from ..geometry.landmarks import five_points

POINTS = 478
"""Points of the mesh with both irises; files without them have 468."""

# fmt: off
IBUG_OF_MESH = (
    127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356,  # jaw
    70, 63, 105, 66, 107,  336, 296, 334, 293, 300,  # brows
    168, 197, 5, 1,  98, 97, 2, 326, 327,  # nose
    33, 160, 158, 133, 153, 144,  362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # lips, outside
    78, 82, 13, 312, 308, 317, 14, 87,  # and inside
)
# fmt: on
"""Which of the mesh's points stands for each of iBUG's 68.

Everything lies on the mesh's own contours (face oval, brows, eyes, lips). Lid and lip corners, the
middles of the lips and the chin are the same places. The others are the nearest there is: the jaw
begins beside the eyes and its points are spaced as evenly as the oval's allow; brows are their
upper edge; the nose tip is 1 rather than 4, because the five points then lie as FFHQ's template has
them (4 lies a fiftieth of the crop above it). So distances are comparable among faces of this
landmarker only.
"""


def mesh_to_68(mesh: Tensor) -> Tensor:
    """The points of `IBUG_OF_MESH`: (b, 478, 2) -> (b, 68, 2), iBUG order.

    The first points of each pair lie on the picture's left in an upright face. The mesh without
    irises, (b, 468, 2), is read as well.

    Raises:
        FacewrightError: another shape.
    """
    if mesh.ndim != 3 or mesh.shape[1] not in (POINTS, POINTS - 10) or mesh.shape[2] != 2:
        raise FacewrightError(
            f"A face mesh should be (b, {POINTS}, 2) points in pixels, got {tuple(mesh.shape)}; "
            "add the batch axis, or leave the depth out."
        )
    return mesh[:, list(IBUG_OF_MESH)]


def mesh_to_5(mesh: Tensor) -> Tensor:
    """Eye centres, nose tip and mouth corners, (b, 478, 2) -> (b, 5, 2), see `five_points`.

    The eyes' centres are those of their lids: irises follow the gaze.

    Raises:
        FacewrightError: another shape.
    """
    return five_points(mesh_to_68(mesh))
