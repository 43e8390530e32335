"""Released weight files to safetensors: what `facewright convert` does."""

import os
from collections.abc import Sequence
from pathlib import Path

from .checkpoint import describe_format, detect_format, read_tensors
from .errors import CheckpointError
from .lora import parse_lora
from .lora_styles import save_lora_as
from .methods.osdface import VisualRepresentationEmbedder

VRE_NAME = "osdface_vre.safetensors"
_PAIR = {"osdface-associate", "osdface-embedding-change"}


def convert(
    paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]
) -> dict[Path, str]:
    """Convert OSDFace's released pair into one VRE file, and LoRAs into names every host applies.

    A LoRA becomes `<name>_comfyui.safetensors` with kohya names and alphas: ComfyUI's stock loader
    drops the attention modules of the released file, but applies this one whole.

    Args:
        paths: `associate_2.ckpt` with `embedding_change_weights.pth`, LoRA files, or all of them.
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
        tensors, metadata = read_tensors(path)
        kinds[path] = (detect_format(tensors, metadata), tensors, metadata)
    for path, (kind, _, _) in kinds.items():
        if kind not in {*_PAIR, "lora"}:
            raise CheckpointError(
                f"{path.name} is {describe_format(kind)}; expected associate_2.ckpt with "
                "embedding_change_weights.pth, or a LoRA."
            )
    pair = [p for p, (kind, _, _) in kinds.items() if kind in _PAIR]
    embedder = VisualRepresentationEmbedder.from_files(*pair) if pair else None
    loras = {
        path: (parse_lora(tensors, metadata), metadata)
        for path, (kind, tensors, metadata) in kinds.items()
        if kind == "lora"
    }
    written = {}
    if embedder is not None:
        embedder.save(out / VRE_NAME)
        written[out / VRE_NAME] = "OSDFace's visual representation embedder, float32"
    for path, (weights, metadata) in loras.items():
        target = out / f"{path.stem}_comfyui.safetensors"
        save_lora_as(target, weights, "kohya", metadata)
        written[target] = f"LoRA of {len(weights)} UNet modules under names ComfyUI knows"
    return written
