"""Where to compute and in which format, and numbers wider than some devices have."""

import functools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, autocast, nn

from .errors import FacewrightError, shorten

M = TypeVar("M", bound=nn.Module)

VARIABLE = "FACEWRIGHT_DEVICE"
"""Environment variable in which the user names the device."""
AUTO = "auto"
PREFERRED = ("cuda", "mps", "xpu")
"""Kinds that are taken by themselves, the first that is there."""
_BRANDS = {"cuda": "CUDA", "mps": "Apple's MPS", "xpu": "Intel's XPU"}
_WITH_FLOAT64 = ("cpu", "cuda", "meta")

DTYPE_VARIABLE = "FACEWRIGHT_DTYPE"
"""Environment variable in which the user names the number format of diffusion models."""
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

_asked: ContextVar[str | None] = ContextVar("facewright_device", default=None)
_asked_format: ContextVar[str | None] = ContextVar("facewright_dtype", default=None)


@contextmanager
def computing_on(name: str | None, number_format: str | None = None) -> Iterator[None]:
    """What is done in here computes there, and diffusion models in this format.

    Args:
        name: of the device, whatever `FACEWRIGHT_DEVICE` says; None: as it says.
        number_format: one of `DTYPES` or "auto", whatever `FACEWRIGHT_DTYPE` says; None: as it
            says.
    """
    token, of_format = _asked.set(name), _asked_format.set(number_format)
    try:
        yield
    finally:
        _asked.reset(token)
        _asked_format.reset(of_format)


def compute_on(name: str) -> None:
    """As `computing_on`, for the rest of a command or of the life of a process."""
    _asked.set(name)


def asked_device() -> str:
    """The name that `computing_on` or `FACEWRIGHT_DEVICE` gives; "auto" where neither does."""
    return (_asked.get() or os.environ.get(VARIABLE) or AUTO).strip().lower()


def compute_in(number_format: str) -> None:
    """Hold diffusion models in this format for the rest of a command or of a process's life."""
    _asked_format.set(number_format)


def asked_format() -> str:
    """What `computing_on`, `compute_in` or `FACEWRIGHT_DTYPE` asks for; else "auto"."""
    return (_asked_format.get() or os.environ.get(DTYPE_VARIABLE) or AUTO).strip().lower()


def asked_dtype(device: torch.device) -> torch.dtype | None:
    """The `asked_format` for diffusion models on `device`; None where it is "auto".

    Raises:
        FacewrightError: there is no such format, or the device does not compute in it.
    """
    name = asked_format()
    if name == AUTO:
        return None
    if name not in DTYPES:
        raise FacewrightError(
            f"{shorten(name)} is no number format. Choose {', '.join((AUTO, *DTYPES))}."
        )
    if why := _refusal(DTYPES[name], device):
        raise FacewrightError(
            f"{device} does not compute in {name} with torch {torch.__version__} ({why}). Choose "
            f"another format, or {AUTO}, which takes what suits the device."
        )
    return DTYPES[name]


@functools.cache
def _refusal(dtype: torch.dtype, device: torch.device) -> str:
    """Why layers of a diffusion model do not run there in `dtype`; empty where they do."""
    try:
        x = torch.ones(1, 8, 4, 4).to(device, dtype)
        y = F.group_norm(F.conv2d(x, x[:, :, :3, :3].expand(8, -1, -1, -1)), 2)
        rows = y.flatten(2)[:, None]
        F.silu(F.scaled_dot_product_attention(rows, rows, rows)).float().cpu()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        return shorten(str(error).strip().partition("\n")[0], 160)
    return ""


def compute_device() -> torch.device:
    """The `asked_device`; of itself CUDA, Apple's MPS, Intel's XPU or CPU.

    Raises:
        FacewrightError: it is not there.
    """
    return find_device(asked_device())


def find_device(name: str) -> torch.device:
    """A device by name: auto, cpu, cuda, cuda:1, mps, xpu or what a plug-in of torch's adds.

    Raises:
        FacewrightError: no such device here; the sentence says which there are.
    """
    name = name.strip().lower()
    if name == AUTO:
        return torch.device(next(filter(device_count, PREFERRED), "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise FacewrightError(
            f"{shorten(name)} is no device. Choose auto, cpu, cuda, cuda:1 (the second GPU), mps "
            f"or xpu; here there are {', '.join(device_names())}."
        ) from None
    if device.type == "cpu":
        return torch.device("cpu")
    count = device_count(device.type)
    if not count:
        raise FacewrightError(
            f"{device} cannot be used: {why_not(device.type)}. Choose one of "
            f"{', '.join((AUTO, *device_names()))}."
        )
    if device.index is not None and device.index >= count:
        raise FacewrightError(
            f"There is no {device}: {_brand(device.type)} has {count} "
            f"device{'' if count == 1 else 's'} here, numbered from 0. Choose one of "
            f"{', '.join((AUTO, *device_names()))}."
        )
    return device


def device_names() -> list[str]:
    """Those of this machine, such as "cuda:0", "cuda:1" and, always last, "cpu"."""
    found = []
    for kind in PREFERRED:
        count = device_count(kind)
        found += [kind] if kind == "mps" and count else [f"{kind}:{i}" for i in range(count)]
    return [*found, "cpu"]


def device_count(kind: str) -> int:
    """How many devices of a kind torch can use just now."""
    if kind == "cpu":
        return 1
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    module = getattr(torch, kind, None)
    if module is None or not hasattr(module, "is_available"):
        return 0
    return module.device_count() if module.is_available() else 0


def _brand(kind: str) -> str:
    return _BRANDS.get(kind, kind)


def why_not(kind: str) -> str:
    """Whether torch or the machine lacks it, to follow a colon."""
    built = {
        "cuda": lambda: torch.version.cuda or torch.version.hip,
        "mps": torch.backends.mps.is_built,
        "xpu": lambda: getattr(torch.version, "xpu", None),
    }
    if kind not in built:
        return f"torch {torch.__version__} has no backend for it here"
    if not built[kind]():
        return f"torch {torch.__version__} was installed without {_brand(kind)}"
    return f"torch finds no such device, or its driver does not suit torch {torch.__version__}"


@functools.cache
def mend_torchvision() -> object:
    """Make torchvision importable beside a torch that it was not built for.

    Its compiled part does not load then, and its Python part fails on the operators that this one
    would have declared. Without a body they stand here: diffusers, transformers and spandrel import
    torchvision, but what they use of it is Python. Costs the import, so call it before theirs.
    """
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return None
    except RuntimeError:  # operator torchvision::nms does not exist
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor")
        return library  # what it declares vanishes with it, and the cache keeps it
    return None


def wide_device(device: torch.device) -> torch.device:
    """Where float64 is computed for `device`: there, or on the CPU where it has none, as MPS."""
    return device if device.type in _WITH_FLOAT64 else torch.device("cpu")


def widened(x: Tensor) -> Tensor:
    """`x` in float64 on its `wide_device`; what is computed with it goes back by `narrowed`."""
    # Moved first: a device without float64 does not convert on the way either.
    return x.to(wide_device(x.device)).double()


def narrowed(x: Tensor, like: Tensor) -> Tensor:
    """What `widened` was taken from, with its number format and device."""
    return x.to(like.dtype).to(like.device)


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Computes in the formats of the tensors themselves, whatever autocast is on around it.

    Devices that autocast does not know, DirectML's for one, have none to leave.
    """
    try:
        return autocast(device.type, enabled=False)
    except (AssertionError, RuntimeError):
        return nullcontext()


def random_state(device: torch.device) -> Tensor | None:
    """Of the device's own random numbers; None where it is the CPU or keeps none."""
    module = None if device.type == "cpu" else getattr(torch, device.type, None)
    if module is None or not hasattr(module, "get_rng_state"):
        return None
    return module.get_rng_state(*_index(device))


def channels_last(module: M) -> M:
    """The module, its weights in the layout that convolutions like."""
    # torch's own annotations forget this argument of a module's `to`.
    return module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def set_random_state(device: torch.device, state: Tensor) -> None:
    """Go on from what `random_state` gave for a device of this kind."""
    getattr(torch, device.type).set_rng_state(state, *_index(device))


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Random numbers from `seed`, on the CPU and on `device`; those outside go on as they were."""
    cpu, own = torch.get_rng_state(), random_state(device)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        if own is not None:
            set_random_state(device, own)


def _index(device: torch.device) -> tuple[torch.device, ...]:
    return () if device.type == "mps" else (device,)  # MPS is one, and its functions take none
