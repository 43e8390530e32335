"""Before and after in one picture."""

from ..core.drawing.compare import MODES
from ._convert import rgb_view, to_image
from ._host import SHOWN, host, io
from ._types import output
from ._words import found_by


class Compare(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightCompare",
            display_name="Compare Before / After",
            category="facewright/util",
            **found_by(
                "before and after",
                "compare images",
                "image comparer",
                "image comparison",
                "side by side",
            ),
            description="Joins two pictures, labelled, for looking at and for showing around.",
            inputs=[
                io.Image.Input("before", tooltip="Resized to the size of `after` where needed."),
                io.Image.Input("after", tooltip="As many pictures as `before`, or one for all."),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=MODES[0],
                    tooltip="side by side, or split: left half before, right half after.",
                ),
                io.String.Input("label_before", default="before", tooltip="Empty: no label."),
                io.String.Input("label_after", default="after", tooltip="Empty: no label."),
            ],
            outputs=[output(io.Image, "image", "One picture per pair.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, before, after, mode, label_before, label_after) -> io.NodeOutput:
        from ..core.drawing.compare import compare

        picture = to_image(
            compare(
                rgb_view(before, "before"),
                rgb_view(after, "after"),
                mode,
                labels=(label_before, label_after),
            )
        )
        return io.NodeOutput(picture, ui=host.preview(picture[:SHOWN], cls))


NODES = [Compare]
