"""FLIPNET: sampling that looks at a condition image, face tokens, and the models for both."""

import torch

from ..core.errors import CheckpointError, FacewrightError
from ..core.faces import load_analyzer
from ..core.files.known import bundled_path
from ..core.methods._flipnet_faces import FlipnetOptions
from ..core.modules.boosthub import MODES
from ..core.weights.listing import Fits
from ._convert import from_conditioning, from_latent, to_conditioning, to_nchw
from ._files import check_bundled, check_files, file_input
from ._host import host, io
from ._options import option_input
from ._types import Analyzer, BoostHub, FaceEncoder, output
from ._words import found_by

_SD21_WIDTH = 1024
"""Channels of Stable Diffusion 2.1's prompts, which carry text."""
_MODE_TIP = (
    "restore: a good picture from a degraded one. degrade: the other way round, a real-looking "
    "degradation of a good picture."
)


class LoadBoostHub(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightLoadBoostHub",
            display_name="Load BoostHub (FLIPNET)",
            category="facewright/load",
            **found_by("flipnet loader", "load flipnet model"),
            description=(
                "FLIPNET's BoostHub weights: attention from the picture being made into a "
                "condition picture, beside every self-attention of the model."
            ),
            inputs=[
                file_input(
                    "boosthub",
                    "facewright",
                    "A BoostHub file in models/facewright.",
                    Fits(
                        (
                            "flipnet_restore_boosthub.safetensors",
                            "flipnet_degrade_boosthub.safetensors",
                        ),
                        ("flipnet-boosthub",),
                    ),
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=MODES[0],
                    tooltip=f"{_MODE_TIP} Weights that were trained for the other one are refused.",
                ),
            ],
            outputs=[
                output(BoostHub, "hubs", "For Apply BoostHub.", name="boosthub"),
                output(
                    io.String, "info", "What the weights were trained for, and for which model."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, boosthub) -> bool | str:
        return check_files("facewright", boosthub)

    @classmethod
    def execute(cls, boosthub, mode) -> io.NodeOutput:
        from ..core.methods.flipnet import BoostHubs

        hubs = BoostHubs.from_file(host.model_path("facewright", boosthub))
        config = hubs.config
        if config.mode != mode:
            raise CheckpointError(
                f"{boosthub} was trained to {config.mode}, not to {mode}. Choose the file for "
                f'"{mode}", or set `mode` to "{config.mode}".'
            )
        info = f"{boosthub}: to {config.mode}, for {config.base}, {len(config.sites)} BoostHubs"
        return io.NodeOutput(hubs, info)


class ApplyBoostHub(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightApplyBoostHub",
            display_name="Apply BoostHub (FLIPNET)",
            category="facewright/restore",
            **found_by(
                "flipnet face restoration", "restore face with flipnet", "reference attention"
            ),
            description=(
                "Lets the model look at a condition picture while it samples: the degraded face "
                "to restore it, a good one to degrade it. The result goes to any sampler node. "
                "Start from noise alone: connect `empty_latent` to the sampler's latent_image and "
                "leave its denoise at 1."
            ),
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model the BoostHub was trained on, with its LoRA on it."
                ),
                BoostHub.Input("boosthub", tooltip="From Load BoostHub."),
                io.Latent.Input(
                    "condition",
                    tooltip="What to look at, encoded by the model's VAE: one image for all that "
                    "are sampled, or one for each. Its size may differ from theirs. Without a face "
                    "nodes behind this one do not run.",
                ),
                option_input(
                    "phi",
                    of=FlipnetOptions,
                    tooltip="How much the condition counts. 0: not at all; 1: as trained; more: "
                    "closer to the condition.",
                ),
                io.Combo.Input(
                    "mode",
                    options=["cached", "joint"],
                    default="cached",
                    tooltip="cached: the model reads the condition once per run. joint: again in "
                    "every step, which takes twice as long and gives the same picture, except "
                    "beside nodes that change the model in some steps or passes only "
                    "(Perturbed-Attention Guidance, Deep Shrink): in joint these change how the "
                    "condition is read as well, in cached they do not.",
                ),
                option_input(
                    "lq_timestep",
                    of=FlipnetOptions,
                    tooltip="Noise on the condition, in training timesteps. 0 trusts it fully; "
                    "with more, its finest details are taken less literally.",
                ),
                option_input(
                    "lq_seed",
                    of=FlipnetOptions,
                    tooltip="Seed of the noise on the condition.",
                ),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="Prompt under which the condition is read. Without it: the positive "
                    "prompt of the sampler.",
                ),
            ],
            outputs=[
                output(io.Model, "patched", "For a sampler, such as KSampler.", name="model"),
                output(
                    io.Latent,
                    "empty_latent",
                    "An empty latent of the condition's size, one for each of its images.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, model, boosthub, condition, phi, mode, lq_timestep, lq_seed, conditioning=None
    ) -> io.NodeOutput:
        from ..core.methods.flipnet import Condition

        latent = from_latent(condition, "condition")
        if latent is None:
            # ComfyUI's VAE Encode gives None for no faces; its samplers take no empty batch.
            return io.NodeOutput(host.nothing(), host.nothing())
        look = Condition(
            latent=latent,
            phi=phi,
            timestep=lq_timestep,
            seed=lq_seed,
            mode=mode,
            tokens=None if conditioning is None else from_conditioning(conditioning),
        )
        patched = host.apply_boosthub(model, boosthub, look)
        return io.NodeOutput(patched, {"samples": torch.zeros_like(latent)})


class LoadFaceEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightLoadFaceEncoder",
            display_name="Load Face Encoder (FLIPNET)",
            category="facewright/load",
            **found_by("flipnet loader", "load flipnet model"),
            description="FLIPNET's encoder of degraded faces, for Face Tokens.",
            inputs=[
                file_input(
                    "face_encoder",
                    "facewright",
                    "A face encoder file in models/facewright.",
                    Fits(
                        ("flipnet_restore_face_encoder.safetensors",),
                        ("flipnet-face-encoder", "flipnet-face-recogniser"),
                    ),
                ),
            ],
            outputs=[
                output(FaceEncoder, "encoder", "For Face Tokens.", name="face_encoder"),
            ],
        )

    @classmethod
    def validate_inputs(cls, face_encoder) -> bool | str:
        return check_files("facewright", face_encoder)

    @classmethod
    def execute(cls, face_encoder) -> io.NodeOutput:
        from ..core.methods.flipnet import load_face_encoder

        return io.NodeOutput(load_face_encoder(host.model_path("facewright", face_encoder)))


class FaceTokens(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightFaceTokens",
            display_name="Face Tokens (FLIPNET)",
            category="facewright/conditioning",
            **found_by("flipnet prompt", "face prompt", "face conditioning", "face embedding"),
            description=(
                "Appends what the face encoder sees in the degraded faces to the positive prompt. "
                "The negative prompt gets no face tokens, so that guidance strengthens them."
            ),
            inputs=[
                FaceEncoder.Input("face_encoder", tooltip="From Load Face Encoder."),
                io.Image.Input("image", tooltip="Aligned face crops, one for each to be sampled."),
                io.Conditioning.Input(
                    "positive",
                    optional=True,
                    tooltip="Text that describes the faces. Stable Diffusion 2.1 needs it. Without "
                    "it: 77 tokens of zeros, which is what models without text, such as the nano "
                    "ones, were trained with.",
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="Text that describes what is not wanted. Stable Diffusion 2.1 needs "
                    "it, even if empty. Without it: zeros.",
                ),
            ],
            outputs=[
                output(
                    io.Conditioning,
                    "positive_out",
                    "The positive prompt with face tokens, one entry of the batch per face.",
                    name="positive",
                ),
                output(
                    io.Conditioning,
                    "negative_out",
                    "The negative prompt as it came, or zeros.",
                    name="negative",
                ),
            ],
        )

    @classmethod
    def execute(cls, face_encoder, image, positive=None, negative=None) -> io.NodeOutput:
        from ..core.methods.flipnet import TEXT_TOKENS
        from ..core.modules.face_encoder import append_tokens

        width = face_encoder.config.width
        prompts = {"positive": positive, "negative": negative}
        open_ones = [name for name, prompt in prompts.items() if prompt is None]
        if open_ones and width == _SD21_WIDTH:
            raise FacewrightError(
                f"This face encoder belongs to Stable Diffusion 2.1, which reads text, but nothing "
                f"is connected to {' and '.join(open_ones)}. Connect CLIP Text Encode to both; an "
                "empty text will do."
            )
        lq = to_nchw(image)
        if not len(lq):
            return io.NodeOutput(host.nothing(), host.nothing())
        lq = lq.to(host.load(face_encoder))
        tokens = face_encoder(lq).float().cpu()
        empty = to_conditioning(torch.zeros(1, TEXT_TOKENS, width))
        positive = empty if positive is None else positive
        with_faces = [[append_tokens(text, tokens), dict(more)] for text, more in positive]
        return io.NodeOutput(with_faces, empty if negative is None else negative)


class LoadNanoFlipnet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightLoadNanoFlipnet",
            display_name="Load Nano FLIPNET (demo)",
            category="facewright/load",
            **found_by("demo model", "example model", "toy model", "flipnet loader"),
            description=(
                "Tiny FLIPNET models that come with this pack. They know computer-drawn faces at "
                "128 pixels and no real ones: for trying out the nodes without a download."
            ),
            inputs=[
                io.Combo.Input("mode", options=list(MODES), default=MODES[0], tooltip=_MODE_TIP),
            ],
            outputs=[
                output(io.Model, "model", "The base model with FLIPNET's LoRA."),
                output(io.Vae, "vae", "The VAE of the nano models."),
                output(BoostHub, "boosthub", "For Apply BoostHub."),
                output(FaceEncoder, "face_encoder", "For Face Tokens."),
                output(Analyzer, "analyzer", "Finds computer-drawn faces."),
            ],
        )

    @classmethod
    def validate_inputs(cls, mode) -> bool | str:
        from ..core.methods.flipnet import nano_files

        return check_bundled(nano_files(mode))

    @classmethod
    def execute(cls, mode) -> io.NodeOutput:
        from ..core.lora.files import read_lora
        from ..core.methods.flipnet import BoostHubs, nano_files
        from ..core.modules.boosthub import check_loras
        from ..core.modules.face_encoder import FaceEncoder as Encoder

        boosthub, encoder, lora_file = map(bundled_path, nano_files(mode))
        hubs, lora = BoostHubs.from_file(boosthub), read_lora(lora_file)
        check_loras(hubs.config.mode, [lora[1]])
        model, vae = host.load_nano(lora=False)
        model, _ = host.apply_lora(model, *lora, 1.0)
        return io.NodeOutput(model, vae, hubs, Encoder.from_file(encoder), load_analyzer("nano"))


NODES = [LoadBoostHub, ApplyBoostHub, LoadFaceEncoder, FaceTokens, LoadNanoFlipnet]
