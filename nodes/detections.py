"""Faces that ComfyUI's own models find, and those of any other detector."""

from ..core.faces.foreign import VARIANTS
from ._convert import rgb_view
from ._found import found_faces, found_outputs
from ._host import io
from ._options import check_pick, crop_size_input, selection_inputs
from ._types import SHOWS, Analyzer, output
from ._words import found_by

DetectionModel = io.Custom("FACE_DETECTION_MODEL")  # ComfyUI's own since 0.33
FaceLandmarks = io.Custom("FACE_LANDMARKS")  # the same


class AnalyzerFromModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightAnalyzerFromModel",
            display_name="Face Detector from Model (MediaPipe)",
            category="facewright/load",
            **found_by(
                "mediapipe face detection",
                "face detection model",
                "face landmarker",
                "face analyzer",
            ),
            description=(
                "Lets a face detection model of ComfyUI (MediaPipe, since ComfyUI 0.33) find the "
                "faces for this pack: with 68 landmarks, so tilted faces are set upright, and "
                "albums, guard and landmark scores work."
            ),
            inputs=[
                DetectionModel.Input(
                    "model", tooltip="From ComfyUI's Load Face Detection Model (MediaPipe)."
                ),
                io.Combo.Input(
                    "detector_variant",
                    options=list(VARIANTS),
                    default="both",
                    tooltip="short: faces that are large in the picture. full: smaller ones, too, "
                    "but not those that fill it. both: what either finds, each face once.",
                ),
                io.Float.Input(
                    "min_confidence",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Faces the model is less sure of do not count as found. Lower it for "
                    "covered or badly degraded faces.",
                ),
                io.Boolean.Input(
                    "rotations",
                    default=False,
                    tooltip="Also look for faces that lie on their side or stand on their head. "
                    "Takes four times as long. Without, most faces tilted by up to 45 degrees are "
                    "found.",
                ),
            ],
            outputs=[output(Analyzer, "analyzer", "For Detect Faces.")],
        )

    @classmethod
    def execute(cls, model, detector_variant, min_confidence, rotations) -> io.NodeOutput:
        from ..core.faces.from_model import ModelAnalyzer

        options = {"min_confidence": min_confidence, "rotations": rotations}
        return io.NodeOutput(ModelAnalyzer(model, variant=detector_variant, **options))


def _detections() -> list[io.Input]:
    """Sockets that a ComfyUI without these types does not offer: nothing there could fill them."""
    if not hasattr(io, "BoundingBox"):
        return []
    return [
        FaceLandmarks.Input(
            "face_landmarks",
            optional=True,
            tooltip="From ComfyUI's Detect Face Landmarks (MediaPipe): tilted faces are set "
            "upright by their points.",
        ),
        io.BoundingBox.Input(
            "bounding_boxes",
            optional=True,
            force_input=True,
            tooltip="Of any detector: RT-DETR, SAM 3, YOLO packs. A list per picture, or one for "
            "all. Faces are cut out by their box and are not set upright.",
        ),
    ]


class FacesFromDetections(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightFacesFromDetections",
            display_name="Faces from Detections",
            category="facewright/faces",
            **SHOWS,
            **found_by(
                "bounding box to faces",
                "bbox to faces",
                "landmarks to faces",
                "crop faces by bounding box",
                "faces from mediapipe",
            ),
            description=(
                "In place of Detect Faces, where something else has found them: cuts out the faces "
                "of landmarks, boxes or masks. A face in several of them counts once."
            ),
            inputs=[
                io.Image.Input("image", tooltip="The pictures in which the faces were found."),
                crop_size_input(),
                *selection_inputs("Masks, and boxes without a score, count as sure."),
                io.String.Input(
                    "label",
                    default="",
                    tooltip='Take only boxes with this label, such as "face", or several names '
                    "with commas between. Empty: all boxes.",
                ),
                *_detections(),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="White where a face is. For one picture several masks are a face each; "
                    "otherwise one per picture, and each part of it that stands alone is a face.",
                ),
            ],
            outputs=found_outputs(
                "A line per picture on the faces, and on what was left out of the detections."
            ),
        )

    @classmethod
    def validate_inputs(cls, pick) -> bool | str:
        return check_pick(pick)

    @classmethod
    def execute(cls, image, crop_size, max_faces, **options) -> io.NodeOutput:
        from ..core.faces.detections import faces_from_detections

        pictures = rgb_view(image)
        faces = faces_from_detections(pictures, crop_size, max_count=max_faces, **options)
        return found_faces(cls, "Faces from Detections", pictures, faces)


NODES = [AnalyzerFromModel, FacesFromDetections]
