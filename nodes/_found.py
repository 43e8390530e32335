"""What nodes that find faces give: the faces, and pictures and words about them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..core.faces import none_left, warn_of_none
from ._convert import to_image
from ._host import SHOWN, host, io
from ._types import Faces, output

if TYPE_CHECKING:
    from ..core.geometry.align import FaceCrops


def found_outputs(report: str) -> list[io.Output]:
    """The outputs that `found_faces` fills; `report` says what stands in the last."""
    return [
        output(Faces, "faces", "Where the faces are, for Paste Faces."),
        output(io.Image, "crops", "The faces, for VRE Encode and restore."),
        output(
            io.Image, "preview", "The pictures with numbered frames; one without a face says why."
        ),
        output(io.Int, "count", "Faces of all pictures together."),
        output(io.String, "report", report),
    ]


def found_faces(
    cls: type[io.ComfyNode],
    title: str,
    pictures: Tensor,
    faces: "FaceCrops",
    notes: Sequence[str] = (),
) -> io.NodeOutput:
    """The outputs of the node `cls`, and a warning in the log where a picture has no face.

    Args:
        title: of the node, for the log.
        pictures: (b, 3, h, w), in which the faces were found.
        notes: follow the lines of the report.
    """
    from ..core.drawing.faces import draw_faces

    warn_of_none(title, none_left(faces.none.values(), len(pictures)))
    preview = to_image(draw_faces(pictures, faces))
    return io.NodeOutput(
        faces,
        to_image(faces.pixels),
        preview,
        len(faces),
        "\n".join([*faces.report, *notes]),
        ui=host.preview(preview[:SHOWN], cls),
    )
