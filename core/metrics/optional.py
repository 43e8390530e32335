"""Scores that need other people's packages or weights.

Everything is imported inside functions, and nothing is ever downloaded: what is missing is named
with its source, its licence and the folder it belongs in.
"""

import contextlib
import hashlib
import importlib.util
import io
import os
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..checkpoint import load_strict, read_tensors
from ..devices import seeded
from ..errors import CheckpointError, FacewrightError
from ..files.search import find_file, model_roots

_LPIPS_FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
_INCEPTION_FILE = "inception-2015-12-05.pt"
_INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
_INCEPTION_ROOM = 200 * 2**20
"""Bytes that are read of the file at the most; it has about 96 million."""
BASICSR_FILE = "pt_inception-2015-12-05-6726825d.pth"
BASICSR_LICENCE = "Apache-2.0, as the code of pytorch-fid that it comes with"
INCEPTION_LICENCE = (
    "the weights are Apache-2.0, the TorchScript around them is under the NVIDIA Source Code "
    "License (non-commercial use only)"
)
IQA_LICENCE = (
    "PolyForm Noncommercial 1.0.0 and S-Lab License 1.0, with further terms of each model's "
    "weights: for non-commercial use only"
)
LPIPS_LICENCE = (
    "BSD-2-Clause; its backbone is torchvision's (BSD-3-Clause), trained on ImageNet, whose "
    "pictures are for non-commercial research"
)


def lpips_missing(net: str) -> str | None:
    """What `lpips_distance` lacks, in a sentence, or None. Imports nothing."""
    missing = [p for p in ("lpips", "torchvision") if importlib.util.find_spec(p) is None]
    if missing:
        return (
            f"LPIPS needs the package{'s' * (len(missing) > 1)} {' and '.join(missing)} "
            f"({LPIPS_LICENCE}): pip install {' '.join(missing)}"
        )
    file = _LPIPS_FILES[net]
    if find_weights(file) is None:
        return (
            f"LPIPS needs torchvision's {file}, found neither in {_hub() / 'checkpoints'} nor in "
            f"a models folder. Get https://download.pytorch.org/models/{file} and put it into "
            f"models/facewright ({LPIPS_LICENCE}); nothing is downloaded here."
        )
    return None


def lpips_distance(restored: Tensor, gt: Tensor, net: str) -> Tensor:
    """LPIPS v0.1 (Zhang et al., arXiv:1801.03924), (n,); `net` is "alex" or "vgg"."""
    model = _lpips_model(net, _found(_LPIPS_FILES[net]), restored.device)
    values = [
        model(x[None].float(), y[None].float(), normalize=True).flatten()
        for x, y in zip(restored, gt, strict=True)
    ]
    return torch.cat(values)


@cache
def _lpips_model(net: str, backbone: Path, device: torch.device) -> torch.nn.Module:
    return lpips_network(net, backbone).to(device)


def lpips_network(net: str, backbone: Path | None = None) -> torch.nn.Module:
    """The `lpips` package's network with the user's backbone, frozen; differentiable in its inputs.

    Args:
        net: "alex" or "vgg".
        backbone: file of torchvision's weights; None searches the models folders.

    Raises:
        FacewrightError: the package cannot be imported.
        CheckpointError: the backbone does not fit it.
    """
    try:
        import lpips
    except (ImportError, RuntimeError, OSError) as error:
        raise _broken("lpips", error) from error

    with warnings.catch_warnings():
        # lpips calls torchvision in a way that torchvision has deprecated.
        warnings.simplefilter("ignore", UserWarning)
        # The package would download the backbone; its own small heads come with it.
        model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    path = backbone or _found(_LPIPS_FILES[net])
    tensors = {k: v for k, v in read_tensors(path)[0].items() if k.startswith("features.")}
    # lpips cuts `features` into slices whose children keep their numbers.
    names = {k.split(".", 1)[1]: k for k in model.net.state_dict()}
    renamed = {names.get(k.removeprefix("features."), k): v for k, v in tensors.items()}
    load_strict(model.net, renamed, source=str(path))
    return model.eval().requires_grad_(False)


_IQA_FILES = {
    "dists": ("pyiqa/DISTS_weights-f5e65c96.pth", "checkpoints/vgg16-397923af.pth"),
    "musiq": ("pyiqa/musiq_koniq_ckpt-e95806b9.pth",),
    "maniqa": ("pyiqa/ckpt_koniq10k.pt",),
    "maniqa-pipal": ("pyiqa/MANIQA_PIPAL-ae6d356b.pth",),
    "clipiqa": (),
    "niqe": ("pyiqa/niqe_modelparameters.mat",),
    "msswd": ("pyiqa/msswd_weights.pth",),
}
"""What pyiqa 0.1.16 opens for each of its metrics, below torch.hub's folder."""


def iqa_missing(name: str) -> str | None:
    """What pyiqa's metric `name` lacks, in a sentence, or None. Imports nothing."""
    if importlib.util.find_spec("pyiqa") is None:
        return (
            f"This score needs the package pyiqa ({IQA_LICENCE}). It brings about 80 packages, so "
            "a virtual environment of its own is wise: pip install pyiqa"
        )
    lacking = [str(_hub() / file) for file in _IQA_FILES[name] if not (_hub() / file).is_file()]
    if name == "clipiqa" and not (_home() / ".cache" / "clip" / "RN50.pt").is_file():
        lacking.append(str(_home() / ".cache" / "clip" / "RN50.pt"))
    timm = "models--timm--vit_base_patch8_224.*"
    if name.startswith("maniqa") and not any(_huggingface().glob(f"{timm}/snapshots/*/*")):
        lacking.append(f"{_huggingface()}/{timm}")
    if not lacking:
        return None
    return (
        f"pyiqa's '{name}' would download what it lacks: {', '.join(lacking)}. Let pyiqa fetch it "
        f"once with `python -c \"import pyiqa; pyiqa.create_metric('{name}')\"`, or copy the files "
        "there; pyiqa's own are at https://huggingface.co/chaofengc/IQA-PyTorch-Weights "
        f"({IQA_LICENCE})."
    )


def iqa_score(name: str, restored: Tensor, gt: Tensor | None = None) -> Tensor:
    """pyiqa's metric `name` with its default settings, (n,), each picture by itself."""
    model = _iqa_model(name, restored.device)
    values = []
    for i, picture in enumerate(restored):
        # Some of its models crop at random: the same picture gets the same score.
        with seeded(restored.device, 0):
            pair = [picture] if gt is None else [picture, gt[i]]
            values.append(model(*(x[None].float().clamp(0, 1) for x in pair)).flatten()[:1])
    return torch.cat(values)


@cache
def _iqa_model(name: str, device: torch.device) -> Callable[..., Tensor]:
    try:
        import pyiqa
    except (ImportError, RuntimeError, OSError) as error:
        raise _broken("pyiqa", error) from error

    # It prints where it loads from; standard output belongs to the caller's results.
    with contextlib.redirect_stdout(io.StringIO()), _weights_only():
        try:
            return pyiqa.create_metric(name, device=device)
        except pickle.UnpicklingError as error:
            raise FacewrightError(
                f"A weight file of pyiqa's '{name}' holds more than weights and was refused, as it "
                f"could run code ({str(error).splitlines()[0]}). Get the file from its authors."
            ) from error


_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def _weights_only() -> Iterator[None]:
    """pyiqa reads its files with unrestricted pickle; torch lets the environment overrule that."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    with _one_at_a_time:
        before = os.environ.get(name)
        os.environ[name] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before


def inception_missing() -> str | None:
    """What `inception_features` lacks, in a sentence, or None. Imports nothing."""
    if find_weights(_INCEPTION_FILE) is not None:
        return None
    return (
        f"FID needs the Inception network {_INCEPTION_FILE}, found {files_place()}. Get https://nvlabs-fi-cdn.nvidia.com/"
        f"stylegan2-ada-pytorch/pretrained/metrics/{_INCEPTION_FILE} ({INCEPTION_LICENCE}) and "
        "put it into models/facewright; nothing is downloaded here."
    )


def basicsr_missing() -> str | None:
    """What `basicsr_features` lacks, in a sentence, or None. Imports nothing."""
    if find_weights(BASICSR_FILE) is not None:
        return None
    return (
        f"FID as BasicSR's scripts take it needs {BASICSR_FILE}, found {files_place()}. Get it "
        f"from the releases of github.com/mseitzer/pytorch-fid ({BASICSR_LICENCE}) and put it into "
        "models/facewright; nothing is downloaded here."
    )


def inception_features(pictures: Tensor) -> Tensor:
    """Inception pool3 features as clean-fid takes them (arXiv:2104.11222), for the metric `fid`.

    Pictures are resized to 299x299 by Pillow's antialiased bicubic filter in floating point, each
    channel by itself, and clipped; the network sees (255 x - 128) / 128.

    Args:
        pictures: (n, 3, h, w) in [0, 1].

    Returns:
        (n, 2048) float64 on the CPU.

    Raises:
        FacewrightError: the network's file is missing or cannot be used.
    """
    reason = inception_missing()
    if reason:
        raise FacewrightError(reason)
    layers = _inception(_found(_INCEPTION_FILE), pictures.device)
    rows = []
    for picture in pictures:
        with torch.no_grad():
            x = (_resize_clean(picture).to(pictures.device) - 128) / 128
            rows.append(layers(x[None]).flatten(1).cpu().double())
    return torch.cat(rows) if rows else torch.zeros(0, 2048, dtype=torch.float64)


@cache
def _inception(path: Path, device: torch.device) -> torch.nn.Module:
    content = path.read_bytes() if path.stat().st_size <= _INCEPTION_ROOM else b""
    # TorchScript is a program, which could write any file as soon as it is loaded: only the very
    # bytes that NVIDIA publishes are, the ones just read and no others.
    if hashlib.sha256(content).hexdigest() != _INCEPTION_SHA256:
        raise FacewrightError(
            f"{path} is not the Inception network of FID, whose SHA-256 is "
            f"{_INCEPTION_SHA256}; it was not opened. Download it again."
        )
    return torch.jit.load(io.BytesIO(content), map_location=device).eval().layers


def _resize_clean(picture: Tensor) -> Tensor:
    """(3, h, w) in [0, 1] -> (3, 299, 299) float32 in [0, 255]."""
    from PIL import Image

    planes = (picture.detach().float() * 255).cpu().numpy()
    resized = [Image.fromarray(p).resize((299, 299), Image.Resampling.BICUBIC) for p in planes]
    return torch.from_numpy(np.stack([np.asarray(p) for p in resized])).clamp(0, 255)


def _broken(package: str, error: Exception) -> FacewrightError:
    return FacewrightError(
        f"The package {package} is installed but cannot be imported ({error}). Often its torch or "
        "torchvision is of another version; reinstall the two together."
    )


def files_place() -> str:
    """Where a weight file was not found, for a sentence."""
    return f"neither in {_hub() / 'checkpoints'} nor in a models folder"


def find_weights(file: str) -> Path | None:
    """In torch's own cache, or in a models folder where the user put it."""
    cached = _hub() / "checkpoints"
    return find_file([cached, *model_roots(None)], ("facewright",), (file,))


def _found(file: str) -> Path:
    path = find_weights(file)
    if path is None:
        raise CheckpointError(f"{file} is not there any more. Put it into models/facewright again.")
    return path


def _hub() -> Path:
    return Path(torch.hub.get_dir())


def _home() -> Path:
    return Path("~").expanduser()


def _huggingface() -> Path:
    home = Path(os.environ.get("HF_HOME", _home() / ".cache" / "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
