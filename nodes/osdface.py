"""Nodes of OSDFace's visual representation embedder (VRE)."""

import torch

from ..core.weights.listing import Fits
from ._convert import rgb_view, to_conditioning, to_image
from ._files import NONE, check_files, file_input
from ._host import host, io
from ._steps import steps
from ._types import SHOWS, Vre, output
from ._words import found_by

_ENCODE_TOGETHER = 8
_SHOWN = 64
"""Faces with a token map; a video may have thousands."""


class LoadVRE(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightLoadVRE",
            display_name="Load Face Embedder (VRE)",
            category="facewright/load",
            **found_by(
                "osdface loader",
                "load osdface",
                "honestface loader",
                "face prompt model",
                "visual representation embedder",
            ),
            description=(
                "Loads OSDFace's visual representation embedder from models/facewright: the "
                "released pair associate_2.ckpt + embedding_change_weights.pth, or one file "
                "written by `facewright convert`. The released files are linked from "
                "github.com/jkwang28/OSDFace; their authors state no licence."
            ),
            inputs=[
                file_input(
                    "embedder",
                    "facewright",
                    "associate_2.ckpt, or a converted .safetensors that holds everything.",
                    Fits(
                        (
                            "osdface_vre.safetensors",
                            "associate_2.ckpt",
                            "honestface_vre.safetensors",
                        ),
                        ("osdface-vre",),
                    ),
                ),
                file_input(
                    "projector",
                    "facewright",
                    "embedding_change_weights.pth, the second released file. "
                    '"none" where `embedder` is a converted .safetensors.',
                    Fits(("embedding_change_weights.pth",)),
                    optional=True,
                ),
            ],
            outputs=[output(Vre, "vre", "For VRE Encode.")],
        )

    @classmethod
    def validate_inputs(cls, embedder, projector) -> bool | str:
        return check_files("facewright", embedder, projector)

    @classmethod
    def execute(cls, embedder, projector) -> io.NodeOutput:
        from ..core.methods.osdface import VisualRepresentationEmbedder

        names = [name for name in (embedder, projector) if name != NONE]
        paths = [host.model_path("facewright", name) for name in names]
        return io.NodeOutput(VisualRepresentationEmbedder.from_files(*paths))


class VREEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightVREEncode",
            display_name="VRE Encode (OSDFace)",
            category="facewright/conditioning",
            **SHOWS,
            **found_by(
                "face prompt",
                "osdface prompt",
                "face conditioning",
                "face embedding",
                "visual representation embedder",
            ),
            description=(
                "Describes each degraded face by 77 entries of a dictionary of face patches. The "
                "restorer takes them in place of a text prompt."
            ),
            inputs=[
                Vre.Input("vre", tooltip="From Load Face Embedder or Load Nano Models."),
                io.Image.Input(
                    "image",
                    tooltip="Aligned face crops from Detect Faces: the same that are restored.",
                ),
            ],
            outputs=[
                output(
                    io.Conditioning,
                    "conditioning",
                    "One entry per crop, for One-Step Restore of these very crops.",
                ),
                output(
                    io.Image,
                    "token_map",
                    "Where the tokens come from: yellow confident, blue doubtful. Of the "
                    "first 64 faces.",
                    name="token map",
                ),
            ],
        )

    @classmethod
    def execute(cls, vre, image) -> io.NodeOutput:
        from ..core.drawing.tokenmap import token_map

        lq = rgb_view(image)
        device = host.load(vre)
        parts = steps(lq.split(_ENCODE_TOGETHER))
        chosen = [vre.select(part.contiguous().to(device)) for part in parts]
        cond = vre.embed(torch.cat([c.tokens for c in chosen]))
        positions = torch.cat([c.positions for c in chosen])[:_SHOWN]
        picture = to_image(token_map(lq[:_SHOWN].contiguous(), positions, vre.grid_size))
        return io.NodeOutput(to_conditioning(cond), picture, ui=host.preview(picture, cls))


NODES = [LoadVRE, VREEncode]
