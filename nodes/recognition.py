"""Face recognisers, and how much two pictures show the same person."""

from ..core.files.known import ARCFACE
from ..core.files.writing import content_hash
from ..core.weights.listing import Fits
from ._convert import to_image, to_nchw
from ._files import check_files, file_input
from ._host import host, io
from ._steps import reporter
from ._types import Analyzer, Recogniser, output
from ._words import found_by


class LoadRecogniser(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightLoadRecogniser",
            display_name="Load Face Recogniser (ArcFace, AdaFace)",
            category="facewright/load",
            **found_by(
                "face recognizer",
                "face recognition model",
                "insightface loader",
                "face id",
                "face embedding",
            ),
            description=(
                "A network that tells people apart by their faces: ArcFace (backbone.pth of "
                "arcface_torch) or AdaFace (its .ckpt). No code from a file ever runs, and ONNX "
                "files cannot be used. The weights of both are for research: see their licences."
            ),
            inputs=[
                file_input(
                    "recogniser_file",
                    "facewright",
                    "A recogniser's weights in models/facewright. Which kind it is shows in the "
                    "file; how it wants its faces cut and coloured is taken care of.",
                    Fits((*ARCFACE.names, "adaface_ir50_ms1mv2.ckpt"), ("nano-identity",)),
                ),
            ],
            outputs=[
                output(
                    Recogniser,
                    "recogniser",
                    "For Identity Score, Identity Guard, albums and reference encoders. "
                    "Use one and the same for all of them: numbers of two recognisers cannot be "
                    "compared.",
                ),
                output(
                    io.String,
                    "info",
                    "Kind and fingerprint of the weights, and from which cosine two faces are one "
                    "person: what `facewright person calibrate` measured, else as shipped.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, recogniser_file) -> bool | str:
        return check_files("facewright", recogniser_file)

    @classmethod
    def fingerprint_inputs(cls, recogniser_file) -> str:
        from ..core.people.limits import limits_file

        limits = limits_file(host.model_path("facewright", recogniser_file))
        return content_hash(limits) if limits.is_file() else ""

    @classmethod
    def execute(cls, recogniser_file) -> io.NodeOutput:
        from ..core.people.recogniser import load_recogniser

        recogniser = load_recogniser(host.model_path("facewright", recogniser_file))
        return io.NodeOutput(recogniser, f"{recogniser_file}: {recogniser.info}")


class IdentityScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightIdentityScore",
            display_name="Identity Score (face similarity)",
            category="facewright/score",
            **found_by(
                "compare faces",
                "face distance",
                "face embedding distance",
                "same person",
                "arcface score",
                "identity metric",
            ),
            description=(
                "How much two pictures show the same person: cosine and angle of what a recogniser "
                "makes of their faces. For photographs and ArcFace, a cosine above about 0.3 means "
                "the same person. A picture without a face is no error."
            ),
            inputs=[
                io.Image.Input(
                    "image", tooltip="Aligned face crops, or with an analyzer any pictures."
                ),
                io.Image.Input(
                    "other",
                    tooltip="What to compare with: as many, or one picture for all.",
                ),
                Recogniser.Input(
                    "recogniser", tooltip="From Load Face Recogniser or a nano loader."
                ),
                Analyzer.Input(
                    "analyzer",
                    optional=True,
                    tooltip="Finds the largest face of each picture and sets it upright. Without "
                    "it, both inputs are taken for crops of Detect Faces.",
                ),
            ],
            outputs=[
                output(
                    io.Float,
                    "cosine",
                    "Mean over the pictures with a face: 1 the same, 0 unrelated. Not a "
                    "number where there is no face.",
                ),
                output(
                    io.Float,
                    "degrees",
                    'Mean angle, which papers call "Deg.": 0 the same, 90 unrelated.',
                ),
                output(io.String, "report", "A line per picture, and the mean."),
                output(io.String, "json", "The same as JSON; null where there is no face."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, image, other, recogniser, analyzer=None) -> io.NodeOutput:
        from ..core.drawing.scores import draw_identity_scores
        from ..core.scores.identity import score_identity

        device = host.load(recogniser)
        scores = score_identity(
            to_nchw(image).to(device),
            to_nchw(other, "other").to(device),
            recogniser,
            analyzer=analyzer,
            on_image=reporter(len(image)),
        )
        report = scores.report()
        return io.NodeOutput(
            scores.mean("cosine"),
            scores.mean("degrees"),
            report,
            scores.to_json(),
            ui=host.show_text(report, to_image(draw_identity_scores(scores)), cls),
        )


NODES = [LoadRecogniser, IdentityScore]
