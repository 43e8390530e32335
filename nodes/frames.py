"""Faces of a video's frames: followed, and kept from shaking and flickering; whole videos."""

from ..core.color import COLOR_MODES
from ..core.faces import ORDERS
from ..core.pipeline.frames import FrameOptions, FrameRestorer
from ..core.video.files import frame_count, read_frames, rewrite_video
from ..core.video.smoothing import smooth_faces
from ._convert import rgb_view, to_image
from ._host import host, io
from ._steps import reporter
from ._types import Analyzer, Faces, Vre, output


def _smoothing_inputs(name: str) -> list[io.Input]:
    return [
        io.Float.Input(
            name,
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="How steady the crops are held. 0.5: trembling within 20 frames goes, slower "
            "movement stays; 1: within 40 frames. 0: as detected. Fast movements are followed "
            "at any value, and nothing lags behind.",
        ),
        io.Int.Input(
            "fill_gaps",
            default=3,
            min=0,
            max=100,
            tooltip="A face that was missed for at most this many frames between two where it was "
            "found is put in between, so that it does not flash. 0: never.",
        ),
        io.Int.Input(
            "fade",
            default=3,
            min=0,
            max=100,
            tooltip="Frames over which the restored face fades in and out where it appears or "
            "disappears within a scene. 0: at once.",
        ),
        io.Float.Input(
            "cut_threshold",
            default=0.1,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="How different a frame has to be from the one before, and from its "
            "surroundings, to count as a cut, over which nothing is smoothed. Lower finds more "
            "cuts. 1: the frames are one scene.",
        ),
    ]


class SmoothFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightSmoothFaces",
            display_name="Smooth Faces over Frames",
            category="facewright/faces",
            description=(
                "For videos: follows each face over the frames and cuts it out again where it is "
                "without the detector's trembling, which restoring would make visible as flicker. "
                "Missed faces are filled in. Faces are told apart by where they are. Continue with "
                "these faces and crops in place of Detect Faces'."
            ),
            inputs=[
                io.Image.Input(
                    "image", tooltip="The frames that went into Detect Faces, in their order."
                ),
                Faces.Input("faces", tooltip="From Detect Faces."),
                *_smoothing_inputs("strength"),
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
    def execute(cls, image, faces, strength, fill_gaps, fade, cut_threshold) -> io.NodeOutput:
        smoothed, report = smooth_faces(
            rgb_view(image),
            faces,
            strength=strength,
            fill_gaps=fill_gaps,
            fade=fade,
            cut_threshold=cut_threshold,
            on_frame=reporter(len(image)),
        )
        crops = to_image(smoothed.pixels)
        return io.NodeOutput(smoothed, crops, len(smoothed), report)


class RestoreVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightRestoreVideo",
            display_name="Restore Video",
            category="facewright/sample",
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
                io.Int.Input(
                    "crop_size",
                    default=512,
                    min=64,
                    max=2048,
                    step=16,
                    tooltip="Side of the cut-out faces in pixels: 512 for OSDFace, 128 for the "
                    "nano models.",
                ),
                *_smoothing_inputs("smoothing"),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="0 keeps the original, 1 shows the restored face alone.",
                ),
                io.Combo.Input(
                    "color",
                    options=list(COLOR_MODES),
                    default=COLOR_MODES[0],
                    tooltip="How the restored face takes over the colours of the original, as in "
                    "Paste Faces. wavelet follows the original from frame to frame.",
                ),
                io.Float.Input(
                    "feather",
                    default=0.12,
                    min=0.01,
                    max=0.5,
                    step=0.01,
                    tooltip="Width of the soft border as a share of the crop.",
                ),
                io.Int.Input(
                    "min_size",
                    default=0,
                    min=0,
                    max=8192,
                    tooltip="Faces smaller than this many pixels are left alone.",
                ),
                io.Float.Input(
                    "min_score",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Faces the detector is less sure of are left alone.",
                ),
                io.Combo.Input(
                    "order",
                    options=list(ORDERS),
                    default="size",
                    tooltip="Which faces of a frame count first where max_faces limits them.",
                ),
                io.Int.Input(
                    "max_faces",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="Take at most this many faces of a frame. 0: no limit.",
                ),
                io.Int.Input(
                    "faces_at_once",
                    default=4,
                    min=1,
                    max=256,
                    tooltip="Faces restored together. Fewer need less memory; the result is the "
                    "same.",
                ),
                io.Int.Input(
                    "crf",
                    default=16,
                    min=0,
                    max=51,
                    tooltip="Quality of the H.264 file: 0 lossless, 16 hardly to be told from the "
                    "source, 23 usual. Every frame is encoded again.",
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
            ],
        )

    @classmethod
    def execute(
        cls, video, model, vae, vre, analyzer, faces_at_once, crop_size, crf, **options
    ) -> io.NodeOutput:
        source = host.video_source(video)
        restorer = FrameRestorer(
            analyzer=analyzer,
            embed=lambda crops: vre(crops.to(host.load(vre))),
            backbone=host.backbone(model, vae),
            options=FrameOptions(size=crop_size, faces_at_once=faces_at_once, **options),
        )
        finished = reporter(2 * frame_count(source))
        for frame in read_frames(source):
            restorer.look(frame)
            finished(1)
        report = restorer.settle()

        def change(first, frames):
            changed = restorer.restore(first, frames)
            finished(len(frames))
            return changed

        target = host.new_video_path()
        notes = rewrite_video(source, target, change, crf=crf)
        return io.NodeOutput(host.video(target), "\n".join([report, *notes]))


NODES = [SmoothFaces, RestoreVideo]
