"""Reading and writing weight files: no code from a file ever runs, nothing loads half.

A file is judged by its first bytes, never by its suffix.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .errors import CheckpointError, listed, shorten
from .files.json_text import JsonError, parse_json
from .files.pickles import AGAIN, read_pickle
from .files.writing import written_whole

FORMAT_KEY = "facewright.format"
CONFIG_KEY = "facewright.config"

_LONGEST_HEADER = 16 * 2**20
"""Bytes that describe the tensors of a safetensors file."""
_SLACK = 4
"""Times the size of its file that tensors may take: several may share their numbers."""


def read_tensors(
    path: str | os.PathLike[str], *, again: str = AGAIN
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read every tensor of a safetensors file or of a torch pickle, onto the CPU.

    Args:
        path: the file, a pickle as `core.files.pickles` takes it. A Lightning checkpoint's
            tensors are taken from its "state_dict".
        again: a sentence on how to get the file anew, for one that is damaged.

    Returns:
        tensors by name as stored (dtype kept; possibly memory-mapped, so copy before writing
        into them), and the safetensors metadata ({} for a pickle).

    Raises:
        CheckpointError: missing, empty, truncated, unsafe, or not a weight file at all.
    """
    path = Path(path)
    kind = _sniff(path, again)
    if kind == "safetensors":
        with _opened(path, again) as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    content = read_pickle(path, zipped=kind == "zip", again=again, mapped=True)
    return _tensors_in(content, path), {}


def read_content(path: str | os.PathLike[str], *, again: str) -> object:
    """Whatever a file of `torch.save` holds, read as `read_tensors` reads it.

    Raises:
        CheckpointError: as `read_tensors`.
    """
    path = Path(path)
    kind = _sniff(path, again)
    if kind == "safetensors":
        raise CheckpointError(f"{path.name} is a safetensors file, which was not expected. {again}")
    return read_pickle(path, zipped=kind == "zip", again=again)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of a safetensors file, without its tensors; {} for a pickle.

    Raises:
        CheckpointError: as `read_tensors`.
    """
    path = Path(path)
    if _sniff(path, AGAIN) != "safetensors":
        return {}
    with _opened(path, AGAIN) as file:
        return file.metadata() or {}


@contextmanager
def _opened(path: Path, again: str) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, AttributeError, KeyError, RuntimeError, ValueError) as error:
        # A kind of number that this torch does not have raises whatever torch makes of it.
        raise CheckpointError(
            f"{path.name} starts like a safetensors file but cannot be read "
            f"({shorten(error, 160)}). It is probably incomplete. {again}"
        ) from error


def _sniff(path: Path, again: str) -> str:
    """ "safetensors", "zip" or "pickle"; anything else is refused with its own sentence."""
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; a weight file was expected.")
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}.")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise CheckpointError(f"{path.name} is empty (0 bytes). {again}")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path.name} is a Git LFS pointer, not the file itself. Run `git lfs pull` in the "
            "repository it came from, or download the file from its web page."
        )
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise CheckpointError(
            f"{path.name} is a web page: the download gave an error or a login page. "
            "Open the link in a browser and save the file itself."
        )
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head[8:9] == b"{":
        length = int.from_bytes(head[:8], "little")
        if length > _LONGEST_HEADER:
            raise CheckpointError(
                f"{path.name} starts like a safetensors file, but its list of tensors would be "
                f"{length / 2**20:.0f} MB long; that of the largest models is 1 MB. {again}"
            )
        return "safetensors"
    if head[0] == 0x80:
        return "pickle"
    raise CheckpointError(
        f"{path.name} is neither a safetensors file nor a PyTorch checkpoint "
        f"(it starts with {head[:8]!r}). Check that it is the right file. {again}"
    )


def _tensors_in(content: object, path: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path.name} holds a {type(content).__name__}; a mapping of named tensors was "
            "expected. Save the model's state_dict() instead."
        )
    tensors = {k: v.detach() for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path.name} holds no tensors. Check that it is a weight file.")
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise CheckpointError(
                f"{path.name} holds a tensor under the {type(name).__name__} "
                f"{shorten(repr(name))}; names are text. Save the model's state_dict() instead."
            )
        if not _is_plain(tensor):
            raise CheckpointError(
                f"{path.name} holds {shorten(name)} of {shorten(tuple(tensor.shape))} in a form "
                "that takes no room in the file (sparse, quantised, repeated or without numbers). "
                "Save dense tensors instead."
            )
    if sum(t.numel() * t.element_size() for t in tensors.values()) > _room(path):
        raise CheckpointError(
            f"{path.name} holds tensors that take more than {_SLACK} times the room of the file: "
            "they were made to overlap. Save each tensor by itself, preferably as safetensors."
        )
    return tensors


def _is_plain(tensor: Tensor) -> bool:
    """Whether every number of a tensor lies in memory that was read from the file."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _room(path: Path) -> int:
    return _SLACK * path.stat().st_size + 2**20


def load_strict(module: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Copy `tensors` into `module`, which must match it key by key and shape by shape.

    Values are cast to the module's own dtype and device. The module is untouched on error.

    Raises:
        CheckpointError: as `check_fits`, or weights that are NaN or infinite.
    """
    check_fits(module, tensors, source=source)
    check_finite(tensors, source=source)
    module.load_state_dict(dict(tensors))


def check_fits(module: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Refuse tensors that do not match a module's in names, shapes and kind of number.

    Raises:
        CheckpointError: listing what is missing, what is unexpected and which shapes differ.
    """
    expected = module.state_dict()
    missing = [k for k in expected if k not in tensors]
    unexpected = [k for k in tensors if k not in expected]
    both = {k: (v, tensors[k]) for k, v in expected.items() if k in tensors}
    shapes = [
        f"{shorten(k)} should be {tuple(v.shape)}, came {shorten(tuple(given.shape), 40)}"
        for k, (v, given) in both.items()
        if given.shape != v.shape
    ]
    kinds = [
        f"{shorten(k)} should be {_kind(v)}, came {str(given.dtype)[6:]}"
        for k, (v, given) in both.items()
        if not _kind_fits(v, given)
    ]
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {len(expected)} tensors missing ({listed(missing)})")
    if unexpected:
        problems.append(f"{len(unexpected)} unexpected ({listed(unexpected)})")
    if shapes:
        problems.append(f"{len(shapes)} of another shape ({listed(shapes)})")
    if kinds:
        problems.append(f"{len(kinds)} of another kind of number ({listed(kinds)})")
    if not problems:
        return
    raise CheckpointError(
        f"{source} does not fit {type(module).__name__}: {'; '.join(problems)}. "
        f"The file looks like {describe_format(detect_format(tensors))}."
    )


def _kind(tensor: Tensor) -> str:
    return "floating point" if tensor.is_floating_point() else "whole numbers"


def _kind_fits(expected: Tensor, given: Tensor) -> bool:
    """Weights are floating point. Counters may be: half precision is written for all alike."""
    if given.is_complex() or given.dtype == torch.bool:
        return False
    return given.is_floating_point() or not expected.is_floating_point()


def check_finite(tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Raise CheckpointError, naming them, where weights are NaN or infinite."""
    broken = [k for k, v in tensors.items() if not _is_finite(v)]
    if broken:
        raise CheckpointError(
            f"{source} holds NaN or infinite weights in {len(broken)} of {len(tensors)} tensors "
            f"({listed(broken)}). The training that made it diverged, or the file is damaged: "
            "use an earlier one, or get it again."
        )


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    if tensor.element_size() < 2:  # torch has few functions for numbers of 8 bits
        tensor = tensor.float()
    low, high = tensor.aminmax()  # NaN comes through, and nothing as large as the weights is made
    return bool(low.isfinite() and high.isfinite())


def save_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file that is either complete or not there (temporary file, rename).

    Raises:
        OSError: the folder cannot be written.
    """
    path = Path(path)
    plain, seen = {}, set()
    for key, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous()
        # safetensors refuses two names for one memory; a copy keeps both names.
        storage = flat.untyped_storage().data_ptr()
        plain[key] = flat.clone() if storage in seen else flat
        seen.add(storage)
    with written_whole(path) as temporary:
        try:
            save_file(plain, temporary, metadata=dict(metadata or {}))
        except SafetensorError as error:  # how it tells of a full disk
            raise OSError(f"{path} could not be written: {error}") from error


def make_metadata(name: str, config: Mapping[str, Any], **extra: str) -> dict[str, str]:
    """Metadata of a file of ours: its format name and the architecture as JSON."""
    return {FORMAT_KEY: name, CONFIG_KEY: json.dumps(config), **extra}


def read_config(
    metadata: Mapping[str, str],
    name: str,
    *,
    source: str,
    otherwise: str = "Choose the right file or convert it (facewright convert).",
) -> dict[str, Any]:
    """The architecture stored with a file of ours, which must be of format `name`.

    Args:
        otherwise: a sentence on what to do about a file of another format.

    Raises:
        CheckpointError: another format, or no readable configuration.
    """
    found = metadata.get(FORMAT_KEY)
    if found != name:
        raise CheckpointError(
            f'{source} should be a facewright file of format "{name}"; its metadata says '
            f"{shorten(json.dumps(found))}. {otherwise}"
        )
    try:
        config = parse_json(metadata[CONFIG_KEY])
    except (KeyError, JsonError) as error:
        raise CheckpointError(
            f"{source} lacks a readable {CONFIG_KEY} in its metadata; it was changed by another "
            "program. Use the original file."
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{source}: {CONFIG_KEY} should be a JSON object, got {shorten(repr(config))}."
        )
    return config


_FORMATS = {
    "osdface-associate": "OSDFace's VRE checkpoint (associate_2.ckpt)",
    "osdface-embedding-change": "OSDFace's prompt projection (embedding_change_weights.pth)",
    "lora": "a LoRA",
    "sd-checkpoint": "a whole Stable Diffusion checkpoint",
    "diffusers-unet": "a diffusers UNet",
    "diffusers-vae": "a diffusers VAE",
    "ldm-vae": "an autoencoder (VAE)",
    "unknown": "none of the files facewright knows",
}
_LORA = re.compile(
    r"[._]lora[._]|^(lora_unet|lora_te\d?|lycoris)_"
    r"|\.(diff|diff_b|dora_scale|hada_w[12]_[ab]|lokr_w[12](_[ab])?)$"
)
"""In the keys of adapters: plain LoRA, and the kinds that are refused as what they are."""
_PROJECTION = {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"}


def detect_format(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """Name what a file holds: its `facewright.format`, else a key of the formats known by sight.

    Returns "unknown" where nothing matches.
    """
    if metadata and FORMAT_KEY in metadata:
        return metadata[FORMAT_KEY]
    keys = set(tensors)

    def any_with(prefix: str) -> bool:
        return any(k.startswith(prefix) for k in keys)

    if any_with("vqvae_LQ."):
        return "osdface-associate"
    if any(re.search(_LORA, k) for k in keys):
        return "lora"
    if keys & _PROJECTION and keys <= _PROJECTION:
        return "osdface-embedding-change"
    if any_with("model.diffusion_model."):
        return "sd-checkpoint"
    if any_with("time_embedding.") and any_with("down_blocks."):
        return "diffusers-unet"
    if any_with("encoder.down_blocks."):
        return "diffusers-vae"
    if any_with("encoder.down.") and any_with("decoder.up."):
        return "ldm-vae"
    return "unknown"


def describe_format(name: str) -> str:
    """A format name in words, for messages."""
    return _FORMATS.get(name, f'a facewright "{shorten(name)}" file')
