"""The bundled nano models and their picture: everything the shipped demo workflow needs."""

import torch

from ..core import demo
from ..core.faces import load_analyzer
from ._convert import to_image
from ._host import host, io
from ._types import SHOWS, Analyzer, Vre, output
from ._words import found_by


class LoadNano(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightLoadNano",
            display_name="Load Nano Models (demo)",
            category="facewright/load",
            **found_by("demo model", "example model", "toy model", "no download", "osdface demo"),
            description=(
                "Tiny models that come with this pack and restore computer-drawn faces at 128 "
                "pixels. They know no real faces and make photographs worse: they are for trying "
                "out the nodes without a download. Set crop_size of Detect Faces to 128."
            ),
            inputs=[
                io.Combo.Input(
                    "weights",
                    options=["onestep", "base"],
                    default="onestep",
                    tooltip="onestep: the restorer (base model + LoRA). base: the diffusion model "
                    "alone, for putting a LoRA of your own on it.",
                ),
            ],
            outputs=[
                output(io.Model, "model", "For One-Step Restore, at 128 pixels."),
                output(io.Vae, "vae", "The VAE of this model."),
                output(Vre, "vre", "For VRE Encode."),
                output(Analyzer, "analyzer", "Finds computer-drawn faces, with 68 landmarks each."),
            ],
        )

    @classmethod
    def execute(cls, weights) -> io.NodeOutput:
        from ..core.weights import nano

        model, vae = host.load_nano(lora=weights == "onestep")
        return io.NodeOutput(model, vae, nano.load_vre(), load_analyzer("nano"))


class DemoPicture(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightDemoPicture",
            display_name="Demo Picture",
            category="facewright/util",
            **SHOWS,
            **found_by("example image", "test image", "sample picture", "load demo image"),
            description=(
                "A degraded picture of computer-drawn people, and the same picture before it was "
                "degraded; or photographs of one of them, for an album. All come with this pack "
                "and fit the nano models."
            ),
            inputs=[
                io.Combo.Input(
                    "picture",
                    optional=True,
                    options=list(demo.PICTURES),
                    default=demo.PICTURES[0],
                    tooltip="group: five people. face: one, at 512 pixels. three people: Ada, Bo "
                    "and a stranger. Ada: she alone. photos of Ada, photos of Bo: four good "
                    "pictures of each, the same from both outputs. moving group, moving three "
                    "people: 16 frames.",
                ),
            ],
            outputs=[
                output(io.Image, "image", "The picture to restore.", name="degraded"),
                output(io.Image, "original", "What it was before, to compare."),
            ],
        )

    @classmethod
    def execute(cls, picture=demo.PICTURES[0]) -> io.NodeOutput:
        lq, gt = (to_image(x) for x in demo.picture(picture))
        # Photographs are the same from both outputs.
        shown = lq if torch.equal(lq, gt) else torch.cat([lq, gt])
        return io.NodeOutput(lq, gt, ui=host.preview(shown, cls))


NODES = [LoadNano, DemoPicture]
