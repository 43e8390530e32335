"""A LoRA loader that applies every module of the file or none."""

from ..core.weights.listing import LORA, Fits
from ._files import check_files, file_input
from ._host import host, io
from ._types import output
from ._words import found_by

_FITS = Fits(
    (
        "pytorch_lora_weights.safetensors",
        "pytorch_lora_weights_comfyui.safetensors",
        "honestface_lora.safetensors",
        "flipnet_restore_lora.safetensors",
        "flipnet_degrade_lora.safetensors",
    ),
    (LORA,),
)


class LoadLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightLoadLoRA",
            display_name="Load LoRA (all modules)",
            category="facewright/load",
            **found_by(
                "lora loader",
                "load lora",
                "diffusers lora",
                "peft lora",
                "osdface lora",
                "flipnet lora",
                "honestface lora",
            ),
            description=(
                "Puts a diffusers or peft LoRA on a Stable Diffusion MODEL, attention included. "
                "ComfyUI's own loader silently leaves out every attention module of such files "
                "(OSDFace's pytorch_lora_weights.safetensors is one). Refuses a file that does "
                "not fit."
            ),
            inputs=[
                io.Model.Input("model", tooltip="The model the LoRA was trained on: SD 2.1-base."),
                file_input("lora", "loras", "A file in models/loras.", _FITS),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-4.0,
                    max=4.0,
                    step=0.01,
                    tooltip="1 is what the LoRA was trained for, 0 leaves the model as it is.",
                ),
            ],
            outputs=[
                output(io.Model, "patched", "The model with the LoRA on it.", name="model"),
                output(io.String, "report", "How many modules were applied."),
            ],
        )

    @classmethod
    def validate_inputs(cls, lora) -> bool | str:
        return check_files("loras", lora)

    @classmethod
    def execute(cls, model, lora, strength) -> io.NodeOutput:
        from ..core.lora.files import read_lora

        tensors, metadata = read_lora(host.model_path("loras", lora))
        patched, report = host.apply_lora(model, tensors, metadata, strength)
        return io.NodeOutput(patched, f"{lora}: {report}")


NODES = [LoadLoRA]
