"""Faces of a video's frames: followed, and kept from shaking and flickering; whole videos."""

from ..core.faces import warn_of_none
from ..core.pipeline.options import ACTIONS, RestoreOptions
from ._convert import rgb_view, to_image
from ._host import host, io
from ._options import (
    check_pick,
    crop_size_input,
    false_match_input,
    option_input,
    posterior_inputs,
    told_inputs,
)
from ._steps import reporter
from ._types import Analyzer, Faces, Ide, People, Person, Recogniser, Vre, output
from ._words import found_by


def _smoothing_inputs(name: str) -> list[io.Input]:
    return [
        option_input("smoothing", id=name),
        option_input("fill_gaps", max=100),
        option_input("fade", max=100),
        option_input("cut_threshold"),
    ]


class SmoothFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightSmoothFaces",
            display_name="Smooth Faces over Frames",
            category="facewright/faces",
            **found_by(
                "deflicker faces",
                "flickering face",
                "face jitter",
                "stabilize faces",
                "temporal smoothing",
                "face tracking in video",
            ),
            description=(
                "For videos: follows each face over the frames and cuts it out again where it is "
                "without the detector's trembling, which restoring would make visible as flicker. "
                "Missed faces are filled in. Faces are told apart by where they are, and with a "
                "recogniser by who they are. Continue with these faces and crops in place of "
                "Detect Faces'."
            ),
            inputs=[
                io.Image.Input(
                    "image", tooltip="The frames that went into Detect Faces, in their order."
                ),
                Faces.Input("faces", tooltip="From Detect Faces."),
                *_smoothing_inputs("strength"),
                Recogniser.Input(
                    "recogniser",
                    optional=True,
                    tooltip="Tells where a face becomes somebody else's without a cut: in a "
                    "cross-fade, behind somebody, in the same chair. What follows is a face of its "
                    "own then.",
                ),
            ],
            outputs=[
                output(
                    Faces,
                    "smoothed",
                    "For Paste Faces, which also keeps the colours of a face steady then.",
                    name="faces",
                ),
                output(io.Image, "crops", "The faces, for VRE Encode and restore."),
                output(io.Int, "count", "Faces of all frames together."),
                output(
                    io.String, "report", "Cuts, faces followed, filled in, and how much they shook."
                ),
            ],
        )

    @classmethod
    def execute(cls, image, faces, recogniser=None, **options) -> io.NodeOutput:
        from ..core.video.smoothing import smooth_faces

        if recogniser is not None:
            host.load(recogniser)
        smoothed, report = smooth_faces(
            rgb_view(image),
            faces,
            recogniser=recogniser,
            on_frame=reporter(len(image)),
            **options,
        )
        crops = to_image(smoothed.pixels)
        return io.NodeOutput(smoothed, crops, len(smoothed), report)


class RestoreVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightRestoreVideo",
            display_name="Restore Video (faces)",
            category="facewright/restore",
            **found_by(
                "video face restoration",
                "restore face in video",
                "video face enhance",
                "upscale face in video",
                "face detailer video",
                "deblur face in video",
                "fix blurry face in video",
                "old film",
            ),
            description=(
                "Detect, smooth, embed, restore and paste in one node, a few frames at a time: a "
                "video of any length needs no more memory than a short one. It is read twice. The "
                "result is an MP4 with the sound of the original; Save Video keeps it as it is."
            ),
            inputs=[
                io.Video.Input("video", tooltip="From Load Video."),
                io.Model.Input(
                    "model", tooltip="SD 2.1-base with OSDFace's LoRA, or the nano model."
                ),
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
                Vre.Input("vre", tooltip="From Load Face Embedder or Load Nano Models."),
                Analyzer.Input("analyzer", tooltip="From Load Face Detector or Load Nano Models."),
                crop_size_input(),
                *_smoothing_inputs("smoothing"),
                option_input("strength"),
                option_input("color"),
                option_input("feather"),
                option_input("min_size", io.Int, default=0, max=8192),
                option_input("min_score"),
                option_input(
                    "order",
                    default="size",
                    tooltip="Which faces of a frame count first where max_faces limits them.",
                ),
                option_input(
                    "max_faces",
                    max=1000,
                    tooltip="Take at most this many faces of a frame. 0: no limit.",
                ),
                option_input("faces_at_once", max=256),
                option_input("crf"),
                option_input("pick", optional=True),
                option_input("padding", optional=True),
                Ide.Input(
                    "ide",
                    optional=True,
                    tooltip="HonestFace's identity embedder, where model and vre are HonestFace's: "
                    "faces are restored with photographs of the person.",
                ),
                Person.Input(
                    "person",
                    optional=True,
                    tooltip="The album for all faces, from Person Album or Load Person. Needs ide.",
                ),
                People.Input(
                    "people",
                    optional=True,
                    tooltip="Albums, in place of person: each face that is followed gets that of "
                    "whom it shows, or none. Needs ide.",
                ),
                option_input("threshold", io.Float, default=0.0, step=0.01, optional=True),
                Recogniser.Input(
                    "recogniser",
                    optional=True,
                    tooltip="Compares the faces for the guard, and tells where a face becomes "
                    "somebody else's without a cut. With ide it is not needed: that has its own.",
                ),
                io.Combo.Input(
                    "guard",
                    options=["off", *ACTIONS],
                    default="off",
                    optional=True,
                    tooltip="What becomes of restored faces that are no longer who they were, as "
                    "in Identity Guard. A face that was held back stays so for four times `fade` "
                    "frames and comes again over `fade` frames. Needs a recogniser, and an "
                    "analyzer with dense landmarks.",
                ),
                option_input("max_drift", io.Float, default=0.5, step=0.01, optional=True),
                *posterior_inputs("the same numbers in all frames.", optional=True, redrawn=False),
                option_input("detail", optional=True),
                option_input("mask", optional=True),
                option_input("mask_parts", optional=True),
                option_input("mask_grow", optional=True),
                option_input("mask_feather", optional=True),
                option_input("location", optional=True),
                *told_inputs(
                    "Whose face it is, by hand: its number in the report, the same in all frames, "
                    "and the name of an album, such as 2=Bo, or 3=nobody; several with commas "
                    "between them. Needs people, or person for nobody."
                ),
                false_match_input(
                    "threshold and max_drift count; threshold also does where it is above 0. With "
                    "guard off it means nothing."
                ),
            ],
            outputs=[
                output(io.Video, "restored", "For Save Video.", name="video"),
                output(
                    io.String,
                    "report",
                    "Frames, cuts, faces followed and restored, and what of the original "
                    "an MP4 does not hold.",
                ),
                output(
                    io.String,
                    "receipts",
                    "What the guard measured of each face over its frames, as JSON.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, pick="") -> bool | str:
        return check_pick(pick)

    @classmethod
    def execute(
        cls,
        video,
        model,
        vae,
        vre,
        analyzer,
        crop_size,
        ide=None,
        person=None,
        people=(),
        recogniser=None,
        guard="off",
        max_drift=0.5,
        posterior="mean",
        seed=0,
        margin=-1.0,
        assign="",
        false_match_rate=0.0,
        **options,
    ) -> io.NodeOutput:
        from ..core.methods._references import one_step_faces
        from ..core.pipeline.pictures import Restorer
        from ..core.pipeline.videos import restore_video
        from ..core.video.files import frame_count

        source, target = host.video_source(video), host.new_video_path()
        method = one_step_faces(host.backbone(model, vae), vre, ide, crop_size, host.load)
        done = restore_video(
            Restorer(method, analyzer, recogniser, host.load),
            source,
            target,
            RestoreOptions(
                **options,
                person=person,
                people=people,
                seed=seed if posterior == "sample" else None,
                max_drift=None if guard == "off" or false_match_rate else max_drift,
                on_drift=None if guard == "off" else guard,
                margin=None if margin < 0 else margin,
                assign=(assign,) if assign.strip() else (),
                false_match_rate=None if guard == "off" else false_match_rate or None,
            ),
            on_frames=reporter(2 * frame_count(source)),
        )
        warn_of_none("Restore Video", done.none)
        receipts = done.guard.json if done.guard else ""
        held_back = done.guard.held_back if done.guard else []
        lacks = host.lacking(model)
        report = "\n".join([done.report, *held_back, *done.notes, *([lacks] if lacks else [])])
        return io.NodeOutput(host.video(target), report, receipts)


NODES = [SmoothFaces, RestoreVideo]
