"""Numbers for restored pictures, shown on the node."""

from ..core.faces import DENSE
from ..core.metrics import scoring_pictures
from ._convert import to_image, to_nchw
from ._host import host, io
from ._steps import reporter
from ._types import Analyzer, output
from ._words import found_by


class ImageScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightImageScore",
            display_name="Image Score (PSNR, SSIM, LPIPS)",
            category="facewright/score",
            **found_by(
                "image quality",
                "quality metrics",
                "measure image",
                "compare images",
                "sharpness score",
            ),
            description=(
                "Scores restored pictures, against the originals where there are any, and says "
                "how much better they are than what was restored. Every number states its "
                "convention in the manual; compare numbers of one metric only."
            ),
            inputs=[
                io.Image.Input("restored", tooltip="The pictures to score."),
                io.String.Input(
                    "metrics",
                    default="psnr, ssim, edges",
                    tooltip="Names with commas between them; the first makes the score output. "
                    f"Known: {', '.join(scoring_pictures())}. Some need a package, and say which.",
                ),
                io.Image.Input(
                    "gt",
                    optional=True,
                    tooltip="The originals, of the same size: as many, or one for all. Most "
                    "metrics need them.",
                ),
                io.Image.Input(
                    "lq",
                    optional=True,
                    tooltip="The pictures before restoration: scored too, with the gain over them.",
                ),
                Analyzer.Input(
                    "analyzer",
                    optional=True,
                    tooltip="Finds the landmarks for ald and lmd, so it must give dense ones: "
                    f"{DENSE}. A picture without a face is no error.",
                ),
            ],
            outputs=[
                output(io.Float, "score", "Mean of the first metric over the pictures."),
                output(io.String, "report", "All scores in words, and the means."),
                output(
                    io.String,
                    "json",
                    "All scores as JSON: per picture and the means; null where there is "
                    "no finite number.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, restored, metrics, gt=None, lq=None, analyzer=None) -> io.NodeOutput:
        from ..core.drawing.scores import draw_picture_scores
        from ..core.scores.pictures import named_metrics, score_images

        pictures = to_nchw(restored, "restored")
        scores = score_images(
            pictures,
            named_metrics(metrics),
            gt=None if gt is None else to_nchw(gt, "gt"),
            lq=None if lq is None else to_nchw(lq, "lq"),
            analyzer=analyzer,
            on_image=reporter(len(pictures)),
        )
        report = scores.report()
        return io.NodeOutput(
            scores.mean(scores.metrics[0].name),
            report,
            scores.to_json(),
            ui=host.show_text(report, to_image(draw_picture_scores(scores)), cls),
        )


NODES = [ImageScore]
