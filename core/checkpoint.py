"""Reading and writing weight files: no code from a file ever runs, nothing loads half.

A file is judged by its first bytes, never by its suffix.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .errors import CheckpointError
from .files import written_whole

FORMAT_KEY = "facewright.format"
CONFIG_KEY = "facewright.config"

_SHOWN = 3
"""How many tensor names an error message spells out before it only counts."""

_HARMLESS_STDLIB = {
    *(f"builtins.{t.__name__}" for t in (bool, bytes, float, int, list, object, str, tuple)),
    "argparse.Namespace",
    "collections.defaultdict",
    "datetime.timedelta",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
}
_HARMLESS_NUMPY = re.compile(
    r"numpy\.(dtype|ndarray|(_?core)\.multiarray\.(scalar|_reconstruct)|dtypes\.\w+)$"
)


class _Inert:
    """Takes the place of a class named in a pickle: any construction of it does nothing."""

    def __new__(cls, *_args: object, **_kwargs: object) -> Self:
        return object.__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...


class _InertMapping:
    """As `_Inert`, for subclasses of dict, which the file goes on to fill."""

    def __new__(cls, *_args: object, **_kwargs: object) -> dict:
        return {}


_AGAIN = "Download it again."
"""What to do about a damaged file of weights. Files that nobody downloads say something else."""


def read_tensors(
    path: str | os.PathLike[str], *, again: str = _AGAIN
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read every tensor of a safetensors file or of a torch pickle, onto the CPU.

    Pickles go through torch's restricted reader (`weights_only=True`) only. Lightning
    checkpoints name classes (callbacks, settings) that it refuses; those names are bound to an
    inert class, so they are neither imported nor called. A name that belongs to Python itself
    or that looks like a function is refused: weights have no use for it.

    Args:
        path: the file. A Lightning checkpoint's tensors are taken from its "state_dict".
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
    return _tensors_in(_unpickle(path, kind, again), path), {}


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of a safetensors file, without its tensors; {} for a pickle.

    Raises:
        CheckpointError: as `read_tensors`.
    """
    path = Path(path)
    if _sniff(path, _AGAIN) != "safetensors":
        return {}
    with _opened(path, _AGAIN) as file:
        return file.metadata() or {}


@contextmanager
def _opened(path: Path, again: str) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path.name} starts like a safetensors file but cannot be read ({error}). "
            f"It is probably incomplete. {again}"
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
        return "safetensors"
    if head[0] == 0x80:
        return "pickle"
    raise CheckpointError(
        f"{path.name} is neither a safetensors file nor a PyTorch checkpoint "
        f"(it starts with {head[:8]!r}). Check that it is the right file. {again}"
    )


def _unpickle(path: Path, kind: str, again: str) -> object:
    stubs: dict[str, type] = {}
    while True:
        try:
            return _load(path, kind, list(stubs.values()))
        except Exception as error:  # the reader raises a dozen kinds on damaged or hostile files
            name = _refused_global(str(error))
            if name and name not in stubs and _is_plain_class(name):
                stubs[name] = _stub(name)
                continue
            raise _unreadable(path, name, error, again) from error


def _load(path: Path, kind: str, stubs: list[type]) -> object:
    # torch before 2.5 has no `safe_globals`; there only checkpoints without classes can be read.
    allowed = torch.serialization.safe_globals(stubs) if stubs else nullcontext()
    with allowed, path.open("rb") as file:
        # Mapping spares gigabytes of optimiser state. It needs the path, whose suffix torch would
        # then believe.
        mapped = kind == "zip" and path.suffix != ".safetensors"
        source = str(path) if mapped else file
        return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)


def _refused_global(message: str) -> str | None:
    """The full name that torch's restricted reader refused, out of its error message."""
    found = re.search(r"(?:GLOBAL|global) ([\w.]+)", message)
    if not found:
        return None
    return found[1] if "." in found[1] else f"builtins.{found[1]}"


def _stub(name: str) -> type:
    """An inert class that the restricted reader takes for the class called `name`."""
    module, _, last = name.rpartition(".")
    base = _InertMapping if last.lower().endswith("dict") else _Inert
    return type(last, (base,), {"__module__": module, "__qualname__": last})


def _unreadable(path: Path, name: str | None, error: Exception, again: str) -> CheckpointError:
    if name:
        return CheckpointError(
            f"{path.name} was not opened: it asks to run `{name}`, which is not part of any "
            "weights. Nothing was executed. Get the file from its original source, preferably as "
            "safetensors."
        )
    # torch puts a page of advice around its reason.
    text = str(error).split("WeightsUnpickler error:")[-1].strip()
    reason = text.splitlines()[0] if text else type(error).__name__
    return CheckpointError(
        f"{path.name} cannot be read as PyTorch weights ({reason}). It is probably incomplete or "
        f"damaged. {again}"
    )


def _is_plain_class(name: str) -> bool:
    """Whether a global may be stubbed: a class of some package, not of Python or torch itself.

    Stubs are harmless whatever they are called. Functions are refused all the same, so that a
    file built to run one is reported as what it is.
    """
    if name in _HARMLESS_STDLIB or _HARMLESS_NUMPY.match(name):
        return True
    top, last = name.split(".")[0], name.rsplit(".", 1)[-1]
    if name.startswith("torch.optim.") and last[:1].isupper():
        return True
    # Training scripts save their own callbacks as classes of "__main__".
    foreign = top == "__main__" or top not in {*sys.stdlib_module_names, "torch", "numpy"}
    return foreign and last.lstrip("_")[:1].isupper()


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
    return tensors


def name_some(keys: Iterable[str]) -> str:
    """The first few of `keys` in words, and how many more there are."""
    keys = list(keys)
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more


def load_strict(module: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Copy `tensors` into `module`, which must match it key by key and shape by shape.

    Values are cast to the module's own dtype and device. The module is untouched on error.

    Raises:
        CheckpointError: listing what is missing, what is unexpected and which shapes differ.
    """
    expected = module.state_dict()
    missing = [k for k in expected if k not in tensors]
    unexpected = [k for k in tensors if k not in expected]
    shapes = [
        f"{k} should be {tuple(v.shape)}, came {tuple(tensors[k].shape)}"
        for k, v in expected.items()
        if k in tensors and tensors[k].shape != v.shape
    ]
    if not (missing or unexpected or shapes):
        module.load_state_dict(dict(tensors))
        return
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {len(expected)} tensors missing ({name_some(missing)})")
    if unexpected:
        problems.append(f"{len(unexpected)} unexpected ({name_some(unexpected)})")
    if shapes:
        problems.append(f"{len(shapes)} of another shape ({name_some(shapes)})")
    raise CheckpointError(
        f"{source} does not fit {type(module).__name__}: {'; '.join(problems)}. "
        f"The file looks like {describe_format(detect_format(tensors))}."
    )


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
            f"{json.dumps(found)}. {otherwise}"
        )
    try:
        config = json.loads(metadata[CONFIG_KEY])
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{source} lacks a readable {CONFIG_KEY} in its metadata; it was changed by another "
            "program. Use the original file."
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{source}: {CONFIG_KEY} should be a JSON object, got {config!r}.")
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
    if any(re.search(r"[._]lora[._]", k) for k in keys):
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
    return _FORMATS.get(name, f'a facewright "{name}" file')
