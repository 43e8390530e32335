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
WIDTH = 300
_PICTURE = 240
"""The least height of a picture or video that any editor shows on a node, and a little more."""
LOOKS = {
    "Compare": (380, _PICTURE),
    "CLIPTextEncode": (WIDTH, 40),
    "DegradationSheet": (780, 480),
    "DemoPicture": (WIDTH, _PICTURE),
    "DetectFaces": (WIDTH, _PICTURE),
    "FaceMask": (420, _PICTURE),
    "IDEEncode": (WIDTH, 80),
    "IdentityGuard": (440, _PICTURE),
    "ImageScore": (420, 280),
    "LandmarkScore": (400, 290),
    "LoadImage": (340, _PICTURE),
    "LoadPerson": (320, _PICTURE),
    "MatchPeople": (360, _PICTURE),
    "Person": (320, _PICTURE),
    "PictureGuard": (440, _PICTURE),
    "PreviewAny": (360, 60),
    "SaveImage": (360, _PICTURE),
    "SaveVideo": (400, 440),
    "SaveWithReceipts": (360, _PICTURE),
    "VREEncode": (WIDTH, _PICTURE),
}
"""Nodes that show something below their widgets: width, and the height of what they show."""
_SCORES = {"FacewrightImageScore", "FacewrightLandmarkScore"}
_FILES = {"CheckpointLoaderSimple", "LoadImage", "UpscaleModelLoader"}
"""Nodes of ComfyUI itself that name a file."""


def over(kind: "Kind") -> int:
    """How far nodes of a kind reach below the height that they were given, at most.

    Vue nodes with a text and a picture do, and all whose file is missing: a line hangs below them.
    """
    return 240 * (kind.id in _SCORES) + 30 * (kind.id in _FILES or bool(kind.files))


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
