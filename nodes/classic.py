"""Face restorers of one network, as ComfyUI's own loader gives them."""

from ..core.methods.classic import FIDELITY, ClassicOptions
from ._convert import rgb_view, to_image
from ._host import host, io
from ._options import option_input
from ._steps import reporter
from ._types import output
from ._words import RESTORE, found_by


class RestoreWithModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightRestoreWithModel",
            display_name="Restore with Model (GFPGAN, CodeFormer)",
            category="facewright/restore",
            **found_by(
                *RESTORE,
                "gfpgan",
                "codeformer",
                "restoreformer",
                "facerestore",
            ),
            description=(
                "Restores aligned faces with GFPGAN, RestoreFormer or CodeFormer, one after "
                "another: a single network each, without Stable Diffusion. Load Upscale Model "
                "loads their files."
            ),
            inputs=[
                io.UpscaleModel.Input(
                    "upscale_model",
                    tooltip="A face restorer from Load Upscale Model, such as GFPGANv1.4.pth in "
                    "models/upscale_models. Upscalers are refused.",
                ),
                io.Image.Input("image", tooltip="Aligned face crops from Detect Faces."),
                option_input(
                    "fidelity", io.Float, of=ClassicOptions, default=FIDELITY, optional=True
                ),
            ],
            outputs=[output(io.Image, "restored", "The restored crops, for Paste Faces.")],
        )

    @classmethod
    def execute(cls, upscale_model, image, fidelity=FIDELITY) -> io.NodeOutput:
        from ..core.methods.classic import check_restorer, restore_with_model

        lq = rgb_view(image)
        check_restorer(upscale_model, "`upscale_model`")
        with host.image_model(upscale_model):
            restored = restore_with_model(
                upscale_model, lq, fidelity=fidelity, on_face=reporter(len(lq))
            )
        return io.NodeOutput(to_image(restored))


NODES = [RestoreWithModel]
