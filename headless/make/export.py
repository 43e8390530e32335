"""Trained weights in the form somebody needs: merged into their base, renamed, or rounded."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ...core.checkpoint import FORMAT_KEY, identify, read_tensors, save_safetensors
from ...core.checkpoint.identify import PEFT_CONFIG, PEFT_WEIGHTS
from ...core.devices import DTYPES
from ...core.diffusion import ldm
from ...core.diffusion.loading import read_unet_folder
from ...core.errors import CheckpointError, LoraError, shorten
from ...core.files.writing import written_whole
from ...core.lora.files import lora_file, read_lora, read_weights
from ...core.lora.merge import LoraReport, check_strength, merge_lora, parse_lora
from ...core.lora.styles import LoraStyle, adapter_config, cast, save_lora_as
from ...core.weights.nano import UNET_FORMAT

MERGED_KEY = "facewright.merged"
"""Metadata entry of a merged base: a JSON list, one entry for each LoRA that was added."""
_WEIGHTS = {".bin", ".ckpt", ".onnx", ".pb", ".pt", ".pth", ".safetensors"}
_UNET_FILE = "diffusion_pytorch_model.safetensors"


def merge(
    lora: Path, base: Path, out: Path, *, strength: float = 1.0, dtype: torch.dtype | None = None
) -> tuple[Path, str]:
    """Write a base model with a LoRA in its weights: W + strength * (alpha / rank) B A.

    What comes out is of the kind of the base: a single file in the original layout, a UNet file
    under diffusers' names (the nano base is one), or a diffusers folder.

    Args:
        lora: file in any key style, or the folder that peft saves; every key has to fit.
        base: SD 2.1-base, or the nano UNet.
        out: a file, or a folder that a single file is put in; of a diffusers folder, the folder
            to make.
        strength: 1 is what the LoRA was trained for.
        dtype: of everything in a single file, or of a folder's UNet (its other parts are copied);
            None keeps what the base has. The sum is formed in float32.

    Returns:
        what was written, and a sentence on it.

    Raises:
        CheckpointError: `base` is no such model, or `out` is in the way.
        LoraError: not a LoRA, or one with a key that the base has no place for.
        FacewrightError: weights that do not fit into float16.
    """
    check_strength(strength)
    add = _Addition(lora, strength, dtype)
    target = out if base.is_dir() else _target(out, f"{base.stem}_{lora.stem}")
    report = (_merge_folder if base.is_dir() else _merge_file)(base, target, add)
    return target, f"{base.name} with {lora.name} merged in: {report}"


class _Addition:
    """A LoRA that is ready to be added to a UNet."""

    def __init__(self, lora: Path, strength: float, dtype: torch.dtype | None) -> None:
        self.name, self.strength, self.dtype = lora.name, strength, dtype
        self.tensors, self.metadata = read_lora(lora)

    def to(self, unet: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], LoraReport]:
        """The weights that change, by diffusers' names; `unet` itself stays as it is."""
        weights = parse_lora(self.tensors, self.metadata, unet.keys())
        if weights.unused:
            raise LoraError(
                f"{self.name} changes a text encoder, too ({shorten(weights.unused[0])} and the "
                "like), and only a UNet's LoRA can be merged here. Merge it with the program that "
                "trained it."
            )
        # Copies: what is read from a file is mapped memory. In float32, to be rounded only once.
        found = {n: unet[n] for n in weights.changes if n in unet}
        changed = {
            n: t.to(torch.float32 if t.is_floating_point() else t.dtype, copy=True)
            for n, t in found.items()
        }
        report = merge_lora({**unet, **changed}, self.tensors, self.strength, self.metadata)
        rounded = {n: cast(n, t, self.dtype or unet[n].dtype) for n, t in changed.items()}
        return rounded, report

    def recorded(self, metadata: Mapping[str, str], report: LoraReport) -> dict[str, str]:
        """The base's metadata with this LoRA in it."""
        modules = len(report.applied)
        record = {"lora": self.name, "strength": self.strength, "modules": modules}
        record["metadata"] = self.metadata
        try:
            earlier = json.loads(metadata.get(MERGED_KEY, "[]"))
        except (ValueError, RecursionError):  # another program's text: kept, as it is
            earlier = metadata[MERGED_KEY]
        earlier = earlier if isinstance(earlier, list) else [earlier]
        # diffusers refuses a file that does not say "pt".
        return {"format": "pt", **metadata, MERGED_KEY: json.dumps([*earlier, record])}


def _merge_file(base: Path, out: Path, add: _Addition) -> LoraReport:
    _check_new(out, base)
    tensors, metadata = read_tensors(base)
    names = _unet_names(base, tensors, metadata)
    changed, report = add.to({name: tensors[key] for name, key in names.items()})
    renamed = {names[n]: t for n, t in changed.items()}
    others = {k: cast(k, t, add.dtype or t.dtype) for k, t in tensors.items() if k not in renamed}
    save_safetensors(out, others | renamed, add.recorded(metadata, report))
    return report


def _unet_names(
    base: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> dict[str, str]:
    """diffusers' name -> key in the file, of every tensor of the UNet."""
    found = identify(base, tensors, metadata)
    if found.kind in ("diffusers-unet", UNET_FORMAT):
        return {key: key for key in tensors}
    if found.unet is None:
        raise found.unsuitable(
            "a base model was expected: SD 2.1-base as a single file or a diffusers folder, or a "
            "UNet under diffusers' names."
        )
    found.check_base()
    unet = ldm.part_of(tensors, ldm.UNET_PREFIX)
    config = ldm.unet_config(unet, source=base.name)
    renamed = ldm.unet_to_diffusers({key: key for key in unet}, config)
    return {name: ldm.UNET_PREFIX + key for name, key in renamed.items()}


def _merge_folder(base: Path, out: Path, add: _Addition) -> LoraReport:
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise CheckpointError(f"{out} is there already. Name a folder that is new or empty.")
    _, tensors, metadata = read_unet_folder(base)
    changed, report = add.to(tensors)
    others = {k: cast(k, t, add.dtype or t.dtype) for k, t in tensors.items() if k not in changed}
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        shutil.copytree(base, partial, ignore=_left_out(base))
        unet = partial / "unet" / _UNET_FILE
        save_safetensors(unet, others | changed, add.recorded(metadata, report))
        if out.is_dir():
            out.rmdir()  # not every system replaces a folder, even an empty one
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


def _left_out(base: Path) -> Callable[[str, list[str]], set[str]]:
    """Of a folder: the UNet's weights, single files of the whole model, and hidden things."""

    def ignore(folder: str, names: list[str]) -> set[str]:
        here = Path(folder)
        if here == base / "unet":
            return {n for n in names if n != "config.json"}
        heavy = {n for n in names if here == base and Path(n).suffix in _WEIGHTS}
        return heavy | {n for n in names if n.startswith(".")}

    return ignore


def restyle(
    lora: Path, out: Path, style: LoraStyle, *, dtype: torch.dtype | None = None
) -> dict[Path, str]:
    """Write a LoRA under the names another program looks for; see `core.lora.styles`.

    Args:
        lora: file in any key style, or the folder that peft saves.
        out: a file, or a folder that it is put in. peft's is a folder always: adapter_config.json
            and adapter_model.safetensors.

    Returns:
        every file written, with a sentence on it.

    Raises:
        LoraError: a LoRA that cannot be understood completely.
        CheckpointError: not readable, or `out` is the file itself.
    """
    tensors, metadata = read_lora(lora)
    weights = parse_lora(tensors, metadata)
    if style != "peft":
        target = _target(out, f"{lora.stem}_{style}")
        _check_new(target, lora_file(lora))
        return {target: save_lora_as(target, weights, style, metadata, dtype)}
    config, target = out / PEFT_CONFIG, out / PEFT_WEIGHTS[0]
    _check_new(target, lora_file(lora))
    said = save_lora_as(target, weights, style, metadata, dtype)
    base = metadata.get("base")
    values = {"peft_type": "LORA", "base_model_name_or_path": base, **adapter_config(weights)}
    with written_whole(config) as temporary:
        temporary.write_text(json.dumps(values, indent=2), encoding="utf-8")
    return {config: "rank, alpha and modules, for PeftModel.from_pretrained", target: said}


def recast(source: Path, out: Path, dtype: torch.dtype) -> tuple[Path, str]:
    """Write a file of ours, or any LoRA, with its floating-point weights in `dtype`.

    Names, metadata and whole numbers stay; so do scalars, which are settings rather than weights.
    Rounding the weights of a face embedder may change which tokens it finds.

    Raises:
        CheckpointError: another kind of file, or `out` is the file itself.
        FacewrightError: weights that do not fit into float16.
    """
    tensors, metadata = read_weights(source)
    found = identify(source, tensors, metadata)
    if FORMAT_KEY not in metadata and found.kind != "lora":
        raise found.unsuitable(
            "a file that facewright wrote, or a LoRA, was expected. Released OSDFace files become "
            "one with `facewright convert`."
        )
    name = next(k for k, v in DTYPES.items() if v == dtype)
    target = _target(out, f"{source.stem}_{name}")
    _check_new(target, lora_file(source))
    rounded = {k: cast(k, t, dtype) if t.ndim else t for k, t in tensors.items()}
    save_safetensors(target, rounded, metadata)
    return target, f"{source.name} in {name}"


def _target(out: Path, name: str) -> Path:
    return out if out.suffix == ".safetensors" else out / f"{name}.safetensors"


def _check_new(target: Path, *sources: Path) -> None:
    # The source is mapped memory while the target is written.
    if any(target.resolve() == source.resolve() for source in sources):
        raise CheckpointError(f"{target} is what is read. Give another name with -o.")
