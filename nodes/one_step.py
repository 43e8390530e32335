"""Restoration in a single denoising step, as one node or through ComfyUI's own sampler nodes."""

import torch

from ..core.restorer import ONE_STEP_TIMESTEP, restore_in_chunks
from ._convert import from_conditioning, rgb_view, to_image
from ._host import host, io
from ._options import option_input, posterior_inputs
from ._steps import reporter
from ._types import SHOWS, output
from ._words import RESTORE, found_by

_TIMESTEP_TIP = "The noise level the model takes the picture for. The weights are trained at 399."


class OneStepRestore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightOneStepRestore",
            display_name="One-Step Restore (OSDFace, HonestFace)",
            category="facewright/restore",
            **SHOWS,
            **found_by(
                *RESTORE,
                "face super resolution",
                "blind face restoration",
                "one step diffusion",
            ),
            description=(
                "Restores aligned faces in one step: encode, a single call of the diffusion model, "
                "decode. As many faces as you like; they are worked off in small groups."
            ),
            inputs=[
                io.Model.Input(
                    "model", tooltip="SD 2.1-base with OSDFace's LoRA, or the nano model."
                ),
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
                io.Conditioning.Input("conditioning", tooltip="From VRE Encode, of these crops."),
                io.Image.Input("image", tooltip="Aligned face crops from Detect Faces."),
                io.Int.Input(
                    "timestep", default=ONE_STEP_TIMESTEP, min=0, max=999, tooltip=_TIMESTEP_TIP
                ),
                *posterior_inputs("as the released OSDFace script does."),
                option_input("faces_at_once", max=256),
            ],
            outputs=[
                output(io.Image, "restored", "The restored crops, for Paste Faces."),
                output(
                    io.Latent,
                    "latent",
                    "The same before VAE Decode. Without a face there is none, and nodes "
                    "behind it do not run.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, model, vae, conditioning, image, timestep, posterior, seed, faces_at_once
    ) -> io.NodeOutput:
        lq = rgb_view(image)
        backbone = host.backbone(model, vae)
        generator = torch.Generator().manual_seed(seed) if posterior == "sample" else None
        restored, z_0 = restore_in_chunks(
            lq,
            from_conditioning(conditioning),
            backbone,
            chunk_size=faces_at_once,
            on_chunk=reporter(len(lq)),
            timestep=timestep,
            generator=generator,
        )
        lacks = host.lacking(model)
        return io.NodeOutput(
            to_image(restored),
            host.latent(model, z_0),
            ui=host.show_text(lacks) if lacks else None,
        )


class OneStepSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightOneStepSampler",
            display_name="One-Step Sampler",
            category="facewright/restore",
            **found_by("osdface sampler", "one step diffusion sampler"),
            description=(
                "The same single step for ComfyUI's SamplerCustom: connect the encoded degraded "
                "faces as latent_image, set cfg to 1 and add_noise to false."
            ),
            inputs=[
                io.Int.Input(
                    "timestep", default=ONE_STEP_TIMESTEP, min=0, max=999, tooltip=_TIMESTEP_TIP
                ),
            ],
            outputs=[
                output(io.Sampler, "sampler", "For SamplerCustom, with `sigmas`."),
                output(io.Sigmas, "sigmas", "The noise level of the one step."),
            ],
        )

    @classmethod
    def execute(cls, timestep) -> io.NodeOutput:
        return io.NodeOutput(*host.one_step_sampler(timestep))


NODES = [OneStepRestore, OneStepSampler]
