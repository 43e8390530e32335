"""How far restored faces moved from the true ones, in numbers and as a picture."""

from ..core.drawing.landmarks import draw_scores
from ..core.scores.landmarks import LABELS, score_landmarks
from ._convert import to_image, to_nchw
from ._host import host, io
from ._steps import reporter
from ._types import Analyzer

_SHOWN = 16
"""Pictures shown on the node itself; a video may have thousands."""


class LandmarkScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        blind = "Blind to shear and stretch of the whole face: read l2 beside it."
        return io.Schema(
            node_id="FacewrightLandmarkScore",
            display_name="Landmark Score (A-LD)",
            category="facewright/score",
            description=(
                "Affine landmark distance (A-LD, from HonestFace): how much eyes and mouth "
                "changed their shape, whatever the place, size and turn of the face. With "
                "originals it measures restoration; with another photograph of the person, "
                "likeness and expression together."
            ),
            inputs=[
                io.Image.Input(
                    "restored", tooltip="The pictures to score: whole ones or cut-out faces."
                ),
                io.Image.Input(
                    "gt",
                    tooltip="The same people: the originals, or other photographs of any size. As "
                    "many, or one for all. Faces are paired by place, or the largest ones where "
                    "the pictures are framed differently.",
                ),
                Analyzer.Input(
                    "analyzer",
                    tooltip="Finds the landmarks, so it must give dense ones: facexlib (98 "
                    "points) or insightface (68) with their landmark weights, or nano (68) for "
                    "rendered faces.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    "ald_eyes",
                    display_name="ald_eyes",
                    tooltip="A-LD of eyes and brows in pixels of gt, mean over pictures. The root "
                    "of a sum over all points, so larger than l2, a mean per point. "
                    f"{blind} NaN where no face was found.",
                ),
                io.Float.Output(
                    "ald_mouth",
                    display_name="ald_mouth",
                    tooltip=f"A-LD of both lip contours, in pixels of gt. {blind}",
                ),
                io.Float.Output(
                    "ald_all",
                    display_name="ald_all",
                    tooltip=f"A-LD of all landmarks, in pixels of gt. {blind}",
                ),
                io.Float.Output(
                    "l2",
                    display_name="l2",
                    tooltip="Mean distance of all landmarks (L2-LD) in pixels; place, size and "
                    "turn count too. NaN where the pictures are framed differently.",
                ),
                io.Image.Output(
                    "overlay",
                    display_name="overlay",
                    tooltip="The restored pictures with the landmarks found, the true ones, and "
                    "the found ones after the best affine map: what A-LD counts are the lines.",
                ),
                io.String.Output(
                    "report", display_name="report", tooltip="The scores in words, a line each."
                ),
                io.String.Output(
                    "json",
                    display_name="json",
                    tooltip="All scores as JSON, face by face and the means; null where there is "
                    "none.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, restored, gt, analyzer) -> io.NodeOutput:
        pictures = to_nchw(restored, "restored")
        on_image = reporter(len(pictures))
        scores = score_landmarks(pictures, to_nchw(gt, "gt"), analyzer, on_image=on_image)
        overlay = to_image(draw_scores(pictures, scores))
        means = {name: scores.mean(name) for name in LABELS}
        return io.NodeOutput(
            *(means[name] for name in ("ald_eyes", "ald_mouth", "ald_all", "l2")),
            overlay,
            scores.report(),
            scores.to_json(),
            ui=host.preview(overlay[:_SHOWN], cls),
        )


NODES = [LandmarkScore]
