"""How far restored faces in bfloat16 and float16 are from those in float32.

    python bootstrap.py bench number_formats [--faces 8] [--size 128] [--tiny]

Two parts, each in one process on the CPU, which computes all three formats whatever it is quick in:
seconds say nothing here, and a GPU sums in another order. The bundled models restore the same
degraded faces in each format. OSDFace's flow runs at SD 2.1's true width on random weights, one
face of `--size` pixels, part by part on the same input and as a whole. The embedder is in float32
always, so its tokens are those of float32.

Writes benchmarks/results/number_formats.json (nothing with --tiny, which measures nothing).
"""

import argparse
import json
import platform
import sys
from pathlib import Path

import torch
from facewright.core.degradation import Degradation
from facewright.core.devices import DTYPES, computing_on
from facewright.core.diffusion.backbone import DiffusersBackbone, Model, build
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.diffusion.vae import Vae
from facewright.core.methods._flipnet_faces import NanoFlipnetOptions
from facewright.core.restorer import ONE_STEP_TIMESTEP, restore_one_step
from facewright.headless import load_restorer

from .nano_quality import FIRST_IDENTITY, people
from .onestep import TINY_UNET, TINY_VAE, UNET, VAE, agreement, random_module

RESULT = Path(__file__).parent / "results" / "number_formats.json"
SHORT = ("bf16", "fp16")
CPU = torch.device("cpu")


def apart(found, exact):
    """Of pictures in [0, 1] (n, 3, h, w): PSNR of each face in dB, and the largest difference."""
    error = (found.double() - exact.double()).square().flatten(1).mean(1)
    db = -10 * error.log10()
    return {
        "psnr_db_mean": db.mean().item(),
        "psnr_db_lowest": db.min().item(),
        "levels_of_255_largest": (255 * (found - exact).abs().max()).item(),
    }


def bundled(faces, steps):
    """Each bundled restorer in each format, against itself in float32."""
    gt, _, _ = people(faces)
    lq, _ = Degradation.preset("severe")(gt, seed=FIRST_IDENTITY)
    rows = {}
    for name, options in (
        ("nano", None),
        ("nano-honestface", None),
        ("nano-flipnet", NanoFlipnetOptions(steps=steps)),
    ):
        made = {}
        for number_format in DTYPES:
            with computing_on("cpu", number_format):
                method = load_restorer(name, analyzer="nano").method
                made[number_format] = method.restore(lq, [None] * faces, options=options)
        rows[name] = {short: apart(made[short], made["fp32"]) for short in SHORT}
        print(name, rows[name], file=sys.stderr, flush=True)
    return rows


def true_width(size, unet_config, vae_config):
    """OSDFace's flow on random weights: each part on what float32 gave it, and the whole."""
    unet_class, vae_class = diffusers_classes()
    torch.manual_seed(0)
    coarse = torch.rand(1, 3, size // 32, size // 32)
    lq = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    cond = 0.1 * torch.randn(1, 77, unet_config["cross_attention_dim"])
    weights = [
        (cls, config, random_module(cls, config).state_dict())
        for cls, config in ((unet_class, unet_config), (vae_class, vae_config))
    ]
    exact, rows = None, {}
    for number_format in ("fp32", *SHORT):
        of = {"source": "random", "dtype": DTYPES[number_format], "device": CPU}
        unet, vae = (build(cls, config, tensors, **of) for cls, config, tensors in weights)
        backbone = DiffusersBackbone(Model(unet, unet_config, "random"), Vae(vae))
        z = backbone.encode(lq * 2 - 1)
        x_0 = backbone.denoise(z if exact is None else exact["encode"], ONE_STEP_TIMESTEP, cond)
        pixels = backbone.decode(x_0 if exact is None else exact["denoise"])
        whole, _ = restore_one_step(lq, cond, backbone)
        found = {"encode": z, "denoise": x_0, "decode": pixels, "whole": whole}
        if exact is None:
            exact = found
            continue
        rows[number_format] = {part: agreement(found[part], exact[part]) for part in found}
        rows[number_format]["kept_its_format"] = unet.dtype == vae.dtype == of["dtype"]
        print(number_format, rows[number_format], file=sys.stderr, flush=True)
    return rows


@torch.no_grad()
def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10, help="of nano-flipnet")
    parser.add_argument("--size", type=int, default=128, help="of the face at true width")
    parser.add_argument("--tiny", action="store_true", help="small networks: whether it runs")
    args = parser.parse_args(arguments)
    if args.tiny:
        args.faces, args.steps, args.size = 2, 2, 64
    configs = (TINY_UNET, TINY_VAE) if args.tiny else (UNET, VAE)
    found = {
        "faces": args.faces,
        "steps": args.steps,
        "size": args.size,
        "torch": torch.__version__,
        "processor": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
    }
    for name, part in (
        ("bundled", lambda: bundled(args.faces, args.steps)),
        ("true_width", lambda: true_width(args.size, *configs)),
    ):
        found[name] = part()
        if not args.tiny:
            RESULT.write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    main()
