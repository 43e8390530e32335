"""Released weight files to safetensors: what `facewright convert` does."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..checkpoint import identify
from ..errors import CheckpointError
from ..lora.files import read_weights
from ..lora.merge import parse_lora
from ..lora.styles import save_lora_as
from ..methods.osdface import VisualRepresentationEmbedder

VRE_NAME = "osdface_vre.safetensors"
_PAIR = {"osdface-associate", "osdface-embedding-change"}


def convert(
    paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]
) -> dict[Path, str]:
    """Convert OSDFace's released pair into one VRE file, and LoRAs into names every host applies.

    A LoRA becomes `<name>_comfyui.safetensors` with kohya names and alphas: ComfyUI's stock loader
    drops the attention modules of the released file, but applies this one whole.

    Args:
        paths: `associate_2.ckpt` with `embedding_change_weights.pth`, LoRAs (files, or the folders
            that peft saves), or all of them.
        out: folder for the results, made if needed.

    Returns:
        every file written, with a sentence on what it holds.

    Raises:
        CheckpointError: a file that is none of these, or half of the pair. Nothing is written.
        LoraError: a LoRA that cannot be understood completely.
    """
    out = Path(out)
    kinds = {}
    for path in map(Path, paths):
        tensors, metadata = read_weights(path)
        found = identify(path, tensors, metadata)
        if found.kind not in {*_PAIR, "lora"}:
            raise found.unsuitable(
                "expected associate_2.ckpt with embedding_change_weights.pth, or a LoRA."
            )
        kinds[path] = (found.kind, tensors, metadata)
    pair = [p for p, (kind, _, _) in kinds.items() if kind in _PAIR]
    embedder = VisualRepresentationEmbedder.from_files(*pair) if pair else None
    loras = {
        path: (parse_lora(tensors, metadata), metadata)
        for path, (kind, tensors, metadata) in kinds.items()
        if kind == "lora"
    }
    targets = {path: out / f"{path.stem}_comfyui.safetensors" for path in loras}
    for path, target in targets.items():
        twin = next(p for p, t in targets.items() if t == target)
        if twin != path:
            raise CheckpointError(
                f"{twin} and {path} would both become {target}. Convert them into two folders."
            )
    written = {}
    if embedder is not None:
        embedder.save(out / VRE_NAME)
        written[out / VRE_NAME] = "OSDFace's visual representation embedder, float32"
    for path, (weights, metadata) in loras.items():
        said = save_lora_as(targets[path], weights, "kohya", metadata)
        written[targets[path]] = f"{said}, which ComfyUI knows"
    return written
