"""Masks of faces: what lies over or beside a face stays as it is."""

from typing import TYPE_CHECKING

from ..core.pipeline.options import MaskOptions
from ._convert import rgb_view, to_image
from ._host import SHOWN, host, io
from ._options import option_input
from ._types import SHOWS, Faces, output
from ._words import found_by

if TYPE_CHECKING:
    from ..core.faces.parsing import FaceParser


def _parser() -> "FaceParser":
    from ..core.faces.parsing import load_parser

    found = load_parser()
    host.load(found.net)
    return found


class FaceMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightFaceMask",
            display_name="Face Mask",
            category="facewright/faces",
            **SHOWS,
            **found_by(
                "face parsing",
                "face segmentation",
                "segment face",
                "hair mask",
                "skin mask",
                "occlusion mask",
            ),
            description=(
                "Says which pixels of each face are to be restored, so that Paste Faces leaves "
                "hair, background, or what lies over a face as they are: the oval of the face "
                "without any weights, or its parts by a network."
            ),
            inputs=[
                Faces.Input(
                    "faces",
                    tooltip="From Detect Faces or Smooth Faces over Frames: the ones that are "
                    "pasted.",
                ),
                option_input("mode", of=MaskOptions),
                option_input("parts", of=MaskOptions),
                option_input("grow", of=MaskOptions),
                option_input("feather", of=MaskOptions),
                io.Image.Input(
                    "crops",
                    optional=True,
                    tooltip="What parsing looks at in place of the damaged faces, one per face, "
                    "such as the restored crops: parts are told apart better in them, but what "
                    "the restorer painted over is not seen there any more.",
                ),
            ],
            outputs=[
                output(io.Mask, "masks", "One per crop, for Paste Faces. 0 stays as it is."),
                output(io.Image, "preview", "The crops, red where they stay as they are."),
                output(io.String, "report", "A line per face on its mask."),
            ],
        )

    @classmethod
    def execute(cls, faces, mode, parts, grow, feather, crops=None) -> io.NodeOutput:
        from ..core.drawing.masks import draw_masks
        from ..core.pipeline.masks import face_masks, mask_report

        options = MaskOptions(mode=mode, parts=parts, grow=grow, feather=feather)
        parsed = None if crops is None else rgb_view(crops, "crops")
        masks = face_masks(faces, options, _parser, crops=parsed)
        preview = to_image(draw_masks(faces.pixels, masks))
        report = "\n".join(mask_report(faces, masks, options))
        shown = host.preview(preview[:SHOWN], cls)
        return io.NodeOutput(masks, preview, report, ui=shown)


NODES = [FaceMask]
