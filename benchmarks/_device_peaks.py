"""What a device is and the most that it does: products, convolutions, attention, copies."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch
import torch.nn.functional as F
from facewright.core.modules.fast import fast_dtype

from ._device_models import tensor_cores
from ._device_run import Bench, Row
from .training import _processor

PACKAGES = ("torch", "triton", "diffusers", "transformers", "peft", "accelerate", "numpy", "kornia")
FORMATS = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
SHORT = 0.4
"""Seconds for one figure; the large parts come later."""
ASKED = "name,driver_version,memory.total,clocks.sm,clocks.mem,power.limit,temperature.gpu"


def measure(bench: Bench) -> None:
    """Rows: the machine; TFLOP/s of matrix products, 3x3 convolutions and attention; GB/s."""
    bench.row("machine", lambda: machine(bench.device))
    for name, dtype in FORMATS.items():
        bench.row(f"products, {name}", lambda d=dtype: products(bench, d))
        bench.row(f"convolutions, {name}", lambda d=dtype: convolutions(bench, d))
    for what, work in (("products", products), ("convolutions", convolutions)):
        bench.row(f"{what}, float32 as TF32", lambda w=work: w(bench, torch.float32, tf32=True))
    bench.row("attention", lambda: attention(bench))
    bench.row("copies", lambda: copies(bench))
    bench.row("clocks after", nvidia_smi)


def machine(device: torch.device) -> Row:
    """What the figures hang on."""
    row: Row = {
        "device": _processor(),
        "type": device.type,
        "system": platform.system(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "fast_dtype": str(fast_dtype(device)).removeprefix("torch."),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
    }
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        row |= {
            "device": about.name,
            "capability": f"{about.major}.{about.minor}",
            "multiprocessors": about.multi_processor_count,
            "memory_mb": round(about.total_memory / 2**20),
            "cudnn": torch.backends.cudnn.version(),
            "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "tf32_convolutions_by_default": torch.backends.cudnn.allow_tf32,
            "tf32_products_by_default": torch.backends.cuda.matmul.allow_tf32,
            **nvidia_smi(),
        }
    return row


def nvidia_smi() -> Row:
    """Driver, clocks, power limit and temperature, as NVIDIA's tool tells them; only read."""
    command = ["nvidia-smi", f"--query-gpu={ASKED}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {"driver": None}
    cells = [cell.strip() for cell in done.stdout.splitlines()[0].split(",")]
    found = dict(zip(ASKED.split(","), cells, strict=False))
    return {"driver": found.pop("driver_version", None), "nvidia_smi": found}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Of the checkout; None for one that came without its history."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _random(bench: Bench, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    # Random, not zeros: a GPU takes less power for zeros and is quicker.
    return torch.randn(shape, device=bench.device).to(dtype)


def products(bench: Bench, dtype: torch.dtype, *, tf32: bool = False) -> Row:
    """TFLOP/s of one large square matrix product."""
    n = 256 if bench.tiny else 8192
    a, b = (_random(bench, dtype, n, n) for _ in range(2))
    with tensor_cores(products=tf32, convolutions=tf32):
        row = bench.timed(lambda: a @ b, seconds=SHORT)
    return {"tflops": 2 * n**3 / row["ms"] / 1e9, **row}


def convolutions(bench: Bench, dtype: torch.dtype, *, tf32: bool = False) -> Row:
    """TFLOP/s of a 3x3 convolution of the VAE's kind, 256 channels, in channels-last layout."""
    b, c, side = (1, 32, 16) if bench.tiny else (8, 256, 256)
    layout = torch.channels_last
    x = _random(bench, dtype, b, c, side, side).contiguous(memory_format=layout)
    w = _random(bench, dtype, c, c, 3, 3).contiguous(memory_format=layout)
    with tensor_cores(products=tf32, convolutions=tf32):
        row = bench.timed(lambda: F.conv2d(x, w, padding=1), seconds=SHORT)
    return {"tflops": 2 * b * side**2 * c**2 * 9 / row["ms"] / 1e9, **row}


def attention(bench: Bench) -> Row:
    """TFLOP/s of the UNet's largest self-attention: 4,096 tokens, 5 heads of 64, in half."""
    tokens, dtype = (64, torch.float32) if bench.tiny else (4096, torch.float16)
    q, k, v = (_random(bench, dtype, 2, 5, tokens, 64) for _ in range(3))
    row = bench.timed(lambda: F.scaled_dot_product_attention(q, k, v), seconds=SHORT)
    return {"tflops": 4 * 2 * 5 * tokens**2 * 64 / row["ms"] / 1e9, **row}


def copies(bench: Bench) -> Row:
    """GB/s within the device, read and written counted, and between it and the host."""
    size = 2**16 if bench.tiny else 2**28
    there = torch.randint(256, (size,), dtype=torch.uint8, device=bench.device)
    here, other = there.to("cpu", copy=True), there.clone()
    within = bench.timed(lambda: other.copy_(there), seconds=SHORT)
    rates = {"within": 2 * size / within["ms"] / 1e6}
    hosts = {"pageable": here}
    if bench.device.type == "cuda":
        hosts["pinned"] = here.pin_memory()
    for kind, host in hosts.items():
        to = bench.timed(lambda h=host: there.copy_(h), seconds=SHORT)
        back = bench.timed(lambda h=host: h.copy_(there), seconds=SHORT)
        rates |= {f"to_device_{kind}": size / to["ms"] / 1e6}
        rates |= {f"to_host_{kind}": size / back["ms"] / 1e6}
    return {"gb_per_s": rates, "mb": round(size / 2**20, 2)}
