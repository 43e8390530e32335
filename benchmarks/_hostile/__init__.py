"""Cases of `hostile_files`: what each kind draws, how it is read, and how the outcome is judged."""

from collections.abc import Callable
from importlib import import_module
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .watch import Room

KINDS = {
    "pictures": ("pictures", "pictures", 2500),
    "videos": ("videos", "videos", 400),
    "LoRA files": ("loras", "loras", 1000),
    "weight metadata and state dicts": ("weights", "described", 1000),
    "safetensors bytes": ("weights", "tensor_bytes", 1000),
    "pickles": ("pickles", "pickles", 1200),
    "TensorFlow Lite files": ("tflite", "files", 1000),
    "diffusers config.json": ("weights", "configs", 500),
    "workflow JSON": ("workflows", "shapes", 2000),
    "workflows that are run": ("workflows", "runs", 500),
    "server answers": ("servers", "answers", 400),
    "training YAML": ("texts", "configs", 900),
    "manifests, receipts, recipes": ("texts", "records", 1200),
    "output names": ("texts", "names", 1000),
    "node tensors": ("tensors", "tensors", 800),
}
"""Kind -> module here, function in it, and cases of a whole campaign."""

Case = Callable[[Random], object]
"""Draws one case and tries it; what it returns is told apart only by being a `Told`."""


def prepared(kind: str, room: "Room") -> Case:
    """Builds what all cases of a kind share."""
    module, function, _ = KINDS[kind]
    return getattr(import_module(f"{__name__}.{module}"), function)(room)
