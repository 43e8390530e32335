"""How far restored faces moved from the true ones, in numbers and as a picture."""

from ..core.faces import DENSE
from ._convert import to_image, to_nchw
from ._host import SHOWN, host, io
from ._steps import reporter
from ._types import Analyzer, output
from ._words import found_by


class LandmarkScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        blind = "Blind to shear and stretch of the whole face: read l2 beside it."
        return io.Schema(
            node_id="FacewrightLandmarkScore",
            display_name="Landmark Score (A-LD)",
            category="facewright/score",
            **found_by(
                "face landmark distance",
                "landmark metric",
                "face geometry",
                "face shape",
                "expression drift",
            ),
            description=(
                "Affine landmark distance (A-LD, from HonestFace): how much eyes and mouth "
                "changed their shape, whatever the place, size and turn of the face, as far as the "
                "landmarker can tell: the report says how sure that is. With originals it measures "
                "restoration; with another photograph of the person, likeness and expression "
                "together. It does not tell people apart."
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
                    tooltip=f"Finds the landmarks, so it must give dense ones: {DENSE}.",
                ),
                io.Float.Input(
                    "landmark_error",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    optional=True,
                    tooltip="How far a score moves by itself, in eye distances: smaller scores and "
                    "differences are reported as such that cannot be told. 0: what was measured of "
                    "nano and mediapipe, unknown for others. Yours: the mean score of sharp "
                    "photographs against damaged copies of themselves.",
                ),
            ],
            outputs=[
                output(
                    io.Float,
                    "ald_eyes",
                    "A-LD of eyes and brows in pixels of gt, mean over pictures. The root "
                    "of a sum over all points, so larger than l2, a mean per point. "
                    f"{blind} NaN where no face was found.",
                ),
                output(
                    io.Float, "ald_mouth", f"A-LD of both lip contours, in pixels of gt. {blind}"
                ),
                output(io.Float, "ald_all", f"A-LD of all landmarks, in pixels of gt. {blind}"),
                output(
                    io.Float,
                    "l2",
                    "Mean distance of all landmarks (L2-LD) in pixels; place, size and "
                    "turn count too. NaN where the pictures are framed differently.",
                ),
                output(
                    io.Image,
                    "overlay",
                    "The restored pictures with the landmarks found, the true ones, and "
                    "the found ones after the best affine map: what A-LD counts are the lines.",
                ),
                output(
                    io.String,
                    "report",
                    "The scores in words, a line each, with the landmarker's own error, and what "
                    "cannot be told for it: small scores, turned and mirrored faces.",
                ),
                output(
                    io.String,
                    "json",
                    "All scores as JSON, face by face with their errors, and the means; null "
                    "where there is none.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, restored, gt, analyzer, landmark_error=0.0) -> io.NodeOutput:
        from ..core.drawing.landmarks import draw_scores
        from ..core.scores.landmarks import LABELS, score_landmarks

        pictures = to_nchw(restored, "restored")
        on_image = reporter(len(pictures))
        scores = score_landmarks(
            pictures, to_nchw(gt, "gt"), analyzer, error=landmark_error, on_image=on_image
        )
        overlay = to_image(draw_scores(pictures, scores))
        report = scores.report()
        means = {name: scores.mean(name) for name in LABELS}
        return io.NodeOutput(
            *(means[name] for name in ("ald_eyes", "ald_mouth", "ald_all", "l2")),
            overlay,
            report,
            scores.to_json(),
            ui=host.show_text(report, overlay[:SHOWN], cls),
        )


NODES = [LandmarkScore]
