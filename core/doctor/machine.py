"""Versions, devices, number formats and optional packages of this machine."""

import importlib.metadata
import importlib.util
import platform
from typing import Any

import torch

from ..devices import (
    AUTO,
    DTYPE_VARIABLE,
    PREFERRED,
    VARIABLE,
    asked_device,
    asked_dtype,
    asked_format,
    compute_device,
    device_count,
    why_not,
)
from ..files.own_version import PACK, distribution_version, own_version
from ..modules.fast import fast_dtype
from .surroundings import Surroundings

PACKAGES = (
    ("scikit-image", "skimage", "the face detector skimage"),
    ("insightface", "insightface", "the face detector insightface, with 68 landmarks"),
    ("onnxruntime onnxruntime-gpu", "onnxruntime", "runs insightface's models"),
    ("facexlib", "facexlib", "the face detector facexlib, with 98 landmarks"),
    ("diffusers", "diffusers", "restoring without ComfyUI"),
    ("spandrel", "spandrel", "face restorers from files, such as GFPGAN; upscalers"),
    ("spandrel_extra_arches", "spandrel_extra_arches", "CodeFormer (non-commercial use)"),
    ("kornia", "kornia", "SSIM and Lab colours"),
    ("opencv-python opencv-python-headless opencv-contrib-python", "cv2", "16-bit PNGs; drawings"),
    ("scipy", "scipy", "matching people to faces"),
    ("matplotlib", "matplotlib", "plots of `facewright evaluate` and `curves`"),
    ("peft", "peft", "training LoRAs"),
    ("accelerate", "accelerate", "training"),
    ("ray", "ray", "--ray: folders shared out among machines"),
    ("lpips", "lpips", "the score lpips"),
    ("pyiqa", "pyiqa", "musiq, maniqa, clipiqa, niqe, dists (non-commercial use)"),
)
"""Distributions that bring it, module, and what it enables."""


def versions(around: Surroundings) -> dict[str, Any]:
    comfyui = None
    if around.comfyui or around.version:
        comfyui = {"version": around.version, "path": str(around.comfyui or "")}
    return {
        "facewright": own_version(),
        "facewright_path": str(PACK),
        "python": platform.python_version(),
        "system": platform.platform(),
        "torch": torch.__version__,
        "numpy": distribution_version("numpy"),
        "comfyui": comfyui,
    }


def devices() -> list[dict[str, Any]]:
    """What torch can compute on, the best last resort, the CPU, at the end."""
    found = []
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        name = f"cuda:{index}"
        quick = fast_dtype(torch.device(name)) != torch.float32  # those before Volta are not
        found.append(_device(name, about.name, about.total_memory, float16=quick))
    if device_count("mps"):
        found.append(_device("mps", "Apple GPU", None, float16=True))
    for index in range(device_count("xpu")):
        about = torch.xpu.get_device_properties(index)
        found.append(_device(f"xpu:{index}", about.name, about.total_memory, float16=True))
    name = platform.processor() or platform.machine()
    return [*found, _device("cpu", f"{name}, {torch.get_num_threads()} threads", None)]


def _device(name: str, about: str, memory: int | None, *, float16: bool = False) -> dict[str, Any]:
    quick = fast_dtype(torch.device(name)) == torch.bfloat16
    return {
        "device": name,
        "name": about,
        "memory_bytes": memory,
        "bfloat16": quick,
        "float16": float16,
    }


def dtypes(around: Surroundings) -> dict[str, Any]:
    """Which number formats are used, and why."""
    embedder = {"embedder": "float32"}
    exact = "The embedder searches its dictionary in float32: other formats choose other entries."
    if around.dtypes:
        why = f"ComfyUI chooses them; its options --fp32-vae and the like change that. {exact}"
        return {**around.dtypes, **embedder, "why": why}
    device = compute_device()
    asked, quick = asked_dtype(device), fast_dtype(device)
    kind, name = device.type.upper(), str(asked or quick).removeprefix("torch.")
    if asked:
        why = f"--dtype or {DTYPE_VARIABLE} asks for {asked_format()}."
    elif quick == torch.bfloat16:
        why = f"this {kind} multiplies bfloat16 in hardware."
    elif quick == torch.float16:
        why = f"this {kind} multiplies float16 in hardware, and is not known to do so in bfloat16."
    else:
        why = f"this {kind} is not known to be quick in bfloat16 or float16."
    if (asked or quick) == torch.float16:
        why += " What overflows in it is computed again in float32."
    return {
        "device": str(device),
        "diffusion": name,
        "vae": name,
        **embedder,
        "why": f"{device}, because {_why_there(device)}. {name}, because {why} {exact}",
    }


def _why_there(device: torch.device) -> str:
    asked = asked_device()
    if asked != AUTO:
        return f"--device or {VARIABLE} asks for {asked}"
    if device.type == "cpu":
        why = "; ".join(f"{kind}: {why_not(kind)}" for kind in PREFERRED)
        return f"auto finds nothing faster ({why})"
    return f"auto takes the first of {', '.join(PREFERRED)} that is there, then the CPU"


def packages() -> list[dict[str, Any]]:
    """Optional packages, present or not."""
    found = []
    for distributions, module, enables in PACKAGES:
        names = distributions.split()
        installed = importlib.util.find_spec(module) is not None
        version = next(filter(None, map(distribution_version, names)), None) if installed else None
        entry = {"package": names[0], "installed": installed, "version": version}
        found.append({**entry, "enables": enables})
    return found
