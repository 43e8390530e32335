"""Faces found, cut out upright, and put back."""

from dataclasses import replace
from typing import Any

from ..core.faces import (
    ANALYZERS,
    NEEDS,
    Face,
    NoFace,
    choice_of,
    find_faces,
    find_weights,
    load_analyzer,
)
from ._convert import alpha_view, crop_masks, rgb_view, to_image
from ._found import found_faces, found_outputs
from ._host import host, io
from ._options import check_pick, crop_size_input, option_input, selection_inputs
from ._steps import steps
from ._types import SHOWS, Analyzer, Faces, output
from ._words import found_by


class LoadFaceAnalyzer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightLoadFaceAnalyzer",
            display_name="Load Face Detector",
            category="facewright/load",
            **found_by(
                "insightface loader",
                "facexlib",
                "retinaface",
                "mediapipe",
                "face detection model",
                "face analysis",
                "face analyzer",
            ),
            description=(
                "Chooses what finds the faces. Only the chosen backend is imported, and nothing "
                "is ever downloaded: what is missing is named with where to get it."
            ),
            inputs=[
                io.Combo.Input(
                    "backend",
                    options=list(ANALYZERS),
                    default=ANALYZERS[0],
                    tooltip="auto: the best of mediapipe, facexlib, insightface and skimage "
                    "that is ready here; reports say which and why. mediapipe: covered "
                    "and turned faces, 68 landmarks; needs its file, no package. "
                    "facexlib, insightface: five points, so tilted faces are set "
                    "upright, and dense landmarks where those weights are there too; "
                    "each needs its package and its weights. skimage: upright frontal "
                    "faces, boxes only; needs scikit-image, no weights. nano: computer-drawn "
                    "faces of the demo.",
                ),
                io.Boolean.Input(
                    "rotations",
                    default=False,
                    optional=True,
                    tooltip="Look for faces that lie on their side or stand on their head, too. "
                    "Only mediapipe can, and auto where it takes that; takes longer.",
                ),
            ],
            outputs=[output(Analyzer, "analyzer", "For Detect Faces.")],
        )

    @classmethod
    def execute(cls, backend, rotations=False) -> io.NodeOutput:
        return io.NodeOutput(load_analyzer(backend, device=host.device(), rotations=rotations))

    @classmethod
    def fingerprint_inputs(cls, backend, rotations=False) -> Any:
        """What "auto" chooses from: files that came since the last run are seen."""
        found = [str(find_weights(name)) for name in NEEDS] if backend == "auto" else backend
        return found, rotations


class DetectFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightDetectFaces",
            display_name="Detect Faces",
            category="facewright/faces",
            **SHOWS,
            **found_by(
                "face detection",
                "find faces",
                "crop faces",
                "face crop",
                "align faces",
                "face alignment",
                "face box",
                "face bbox",
                "face landmarks",
                "face detailer",
            ),
            description=(
                "Finds the faces of every picture, chooses and numbers them, and cuts them out "
                "upright at the size the restorer works at. A picture without a face passes "
                "through the whole pack unchanged."
            ),
            inputs=[
                io.Image.Input("image", tooltip="One picture, a batch, or the frames of a video."),
                Analyzer.Input(
                    "analyzer",
                    tooltip="From Load Face Detector, Face Detector from Model or Load Nano "
                    "Models.",
                ),
                crop_size_input(),
                *selection_inputs("Detectors differ in what they call sure."),
                option_input("padding"),
            ],
            outputs=found_outputs("A line per picture on what was found, and by whom."),
        )

    @classmethod
    def validate_inputs(cls, pick) -> bool | str:
        return check_pick(pick)

    @classmethod
    def execute(
        cls, image, analyzer, crop_size, order, pick, min_size, min_score, max_faces, padding
    ) -> io.NodeOutput:
        from ..core.geometry.align import align_faces

        pictures = rgb_view(image)
        found: list[list[Face]] = []
        none: dict[int, NoFace] = {}

        def on_none(why: NoFace) -> None:
            none[len(found)] = why

        for picture in steps(pictures.split(1) if len(pictures) else ()):
            faces = find_faces(
                analyzer,
                picture[0].contiguous(),
                padding=padding,
                order=order,
                pick=pick,
                min_size=min_size,
                min_score=min_score,
                max_count=max_faces,
                on_none=on_none,
            )
            found.append(faces)
        faces = align_faces(pictures, found, crop_size, none)
        return found_faces(cls, "Detect Faces", pictures, faces, choice_of(analyzer))


class PasteFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightPasteFaces",
            display_name="Paste Faces",
            category="facewright/faces",
            **found_by(
                "paste back",
                "put faces back",
                "uncrop faces",
                "stitch faces",
                "composite faces",
                "blend faces",
                "paste restored face",
                "face detailer",
            ),
            description=(
                "Puts restored faces back where they were cut out, with a soft border. Pixels "
                "outside the mask keep their exact values, and so does the alpha channel."
            ),
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The pictures that went into Detect Faces, or the same enlarged.",
                ),
                Faces.Input("faces", tooltip="From Detect Faces."),
                io.Image.Input(
                    "restored",
                    lazy=True,
                    tooltip="The restored crops, as many and in the same order. Without a face "
                    "nothing before this input runs, and the pictures pass through.",
                ),
                option_input("feather"),
                option_input(
                    "color",
                    tooltip="How the restored face takes over the colours of the original: none; "
                    "adain: mean and contrast; wavelet: everything coarse; lab: mean and contrast "
                    "in CIE Lab.",
                ),
                option_input("strength"),
                option_input("detail", optional=True),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="From Face Mask, one per crop: narrows the soft border down to what is "
                    "to be restored. Pixels where it is 0 keep their exact values.",
                ),
            ],
            outputs=[
                output(io.Image, "pasted", "The pictures with the restored faces.", name="image"),
                output(io.Mask, "mask", "How much each pixel was replaced."),
                output(
                    Faces,
                    "pasted_faces",
                    "The same faces, and how they were pasted: for Picture Guard, whose receipts "
                    "then say so.",
                    name="faces",
                ),
            ],
        )

    @classmethod
    def check_lazy_status(cls, faces, **others) -> list[str]:
        return ["restored"] if len(faces) else []

    @classmethod
    def execute(cls, image, faces, restored=None, masks=None, **options) -> io.NodeOutput:
        from ..core.geometry.align import Pasted
        from ..core.geometry.paste import paste_faces

        restored = rgb_view(restored, "restored") if len(faces) else faces.pixels
        masks = None if masks is None or not len(faces) else crop_masks(masks)
        how = {"feather": 0.12, "color": "none", "strength": 1.0, "detail": 0.0, **options}
        pasted, mask = paste_faces(alpha_view(image), faces, restored, masks=masks, **how)
        faces = replace(faces, pasted=Pasted(masks=masks, **how))
        return io.NodeOutput(to_image(pasted), mask.float().cpu(), faces)


NODES = [LoadFaceAnalyzer, DetectFaces, PasteFaces]
