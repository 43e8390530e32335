"""Kinds of nodes that workflows are made of: their inputs and outputs, and what they look like."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from ... import headless  # noqa: F401 (runs the nodes)
from ...nodes import all_nodes
from ...nodes._all import file_inputs

SIZES: dict[str, int] = json.loads((Path(__file__).parent / "sizes.json").read_text())
"""Class of a node -> the least height, without its title, that any editor gave it in either kind of
nodes. The browser test measures them anew."""
WIDTH = 340
LOOKS = {
    "Compare": (420, 290),
    "CLIPTextEncode": (340, 40),
    "DegradationSheet": (780, 480),
    "DemoPicture": (340, 190),
    "DetectFaces": (340, 220),
    "FaceMask": (420, 220),
    "IDEEncode": (340, 130),
    "IdentityGuard": (460, 240),
    "ImageScore": (440, 340),
    "LandmarkScore": (400, 340),
    "LoadImage": (340, 250),
    "LoadPerson": (340, 200),
    "MatchPeople": (380, 240),
    "Person": (340, 210),
    "PictureGuard": (460, 240),
    "PreviewAny": (400, 110),
    "SaveImage": (440, 260),
    "SaveVideo": (420, 300),
    "SaveWithReceipts": (440, 260),
    "VREEncode": (320, 220),
}
"""Nodes that show something below their widgets: width, and the height of what they show."""
OVER = {"FacewrightImageScore": 240, "FacewrightLandmarkScore": 240}
"""Vue nodes with a text and a picture reach so far below the height that they were given."""

CORE = {
    "CLIPTextEncode": "clip CLIP, text STRING -> CONDITIONING",
    "CheckpointLoaderSimple": "ckpt_name COMBO -> MODEL, CLIP, VAE",
    "CreateVideo": "images IMAGE, fps FLOAT -> VIDEO",
    "KSampler": "model MODEL, positive CONDITIONING, negative CONDITIONING, latent_image LATENT, "
    "seed INT, steps INT, cfg FLOAT, sampler_name COMBO, scheduler COMBO, denoise FLOAT -> LATENT",
    "ImageUpscaleWithModel": "upscale_model UPSCALE_MODEL, image IMAGE -> IMAGE",
    "LoadImage": "image COMBO -> IMAGE, MASK",
    "PreviewAny": "source * -> ",
    "SaveImage": "images IMAGE, filename_prefix STRING -> ",
    "SaveVideo": "video VIDEO, filename_prefix STRING, format COMBO, codec COMBO -> ",
    "UpscaleModelLoader": "model_name COMBO -> UPSCALE_MODEL",
    "VAEDecode": "samples LATENT, vae VAE -> IMAGE",
    "VAEEncode": "pixels IMAGE, vae VAE -> LATENT",
}
"""The few nodes of ComfyUI itself that the graphs use: their inputs and outputs."""
_WIDGETS = {"STRING", "INT", "FLOAT", "COMBO"}


class Input(NamedTuple):
    name: str
    type: str
    is_widget: bool
    optional: bool = False
    default: Any = None


class Kind(NamedTuple):
    """What the nodes of one class have in common."""

    id: str
    title: str
    inputs: list[Input]
    """Sockets, then widgets."""
    outputs: list[tuple[str, str]]
    """Names and types."""
    files: dict[str, str] = {}  # noqa: RUF012 (never changed)
    """Inputs of ours that name weight files -> the models folder of these."""


def kinds() -> dict[str, Kind]:
    """All kinds of nodes; those of this pack by their names without "Facewright" in front."""
    found = {}
    for name, signature in CORE.items():
        taken, given = (part.split(", ") for part in signature.split(" -> "))
        pairs = [pair.split() for pair in taken]
        inputs = [Input(name, io_type, io_type in _WIDGETS) for name, io_type in pairs]
        found[name] = Kind(name, name, inputs, [(output, output) for output in given if output])
    for node in all_nodes():
        schema = node.GET_SCHEMA()
        inputs = [
            Input(i.id, i.io_type, i.has_widget, i.optional, getattr(i, "default", None))
            for i in schema.inputs
        ]
        inputs.sort(key=lambda given: given.is_widget)
        outputs = [(o.display_name or o.id, o.io_type) for o in schema.outputs]
        short = schema.node_id.removeprefix("Facewright")
        files = file_inputs(node)
        found[short] = Kind(schema.node_id, schema.display_name, inputs, outputs, files)
    return found
