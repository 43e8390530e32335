"""What the 3x3 convolutions of `core.modules.winograd` bring when one 512 x 512 face is restored.

    python bootstrap.py bench winograd [--threads 1] [--repeats 3]

Both arms run in this process, alternately, on the same random weights at the true shapes (Stable
Diffusion 2.1's autoencoder, float32, as it is loaded); everything but the convolutions is equal.
What is left of a restoration, OSDFace's embedder and one step of the UNet, is timed once and added
to both. Processor seconds are counted, which other programs hardly stretch. A processor with
AVX-512 plays one without if told so before Python starts:

    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2

Adds its figures to benchmarks/results/winograd.json.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
from pathlib import Path

import torch
from facewright.core.diffusion.backbone import build
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.diffusion.vae import Vae
from facewright.core.methods.osdface import VisualRepresentationEmbedder
from facewright.core.modules import winograd
from facewright.core.restorer import ONE_STEP_TIMESTEP

from .onestep import UNET, VAE, agreement, random_module

RESULT = Path(__file__).parent / "results" / "winograd.json"


def seconds(function, *args):
    start = time.process_time()
    result = function(*args)
    return time.process_time() - start, result


def loaded(cls, config):
    tensors = random_module(cls, config).state_dict()
    of = {"source": "random", "dtype": torch.float32, "device": torch.device("cpu")}
    return build(cls, config, tensors, **of)


def rest():
    """Seconds of what has no such convolutions: the embedder and the UNet."""
    vre = VisualRepresentationEmbedder().eval()
    vre(torch.rand(1, 3, 512, 512))
    embed, cond = seconds(vre, torch.rand(1, 3, 512, 512))
    unet = loaded(diffusers_classes()[0], UNET)
    z = torch.randn(1, 4, 64, 64).contiguous(memory_format=torch.channels_last)
    denoise = min(seconds(unet, z, ONE_STEP_TIMESTEP, cond)[0] for _ in range(2))
    return {"embed_s": embed, "denoise_s": denoise}


def measure(repeats):
    found = rest()
    vae = Vae(loaded(diffusers_classes()[1], VAE))
    arms = {"direct": math.inf, "winograd": winograd._MIN_PIXELS}
    for part, function, x in (
        ("encode", vae.encode, torch.rand(1, 3, 512, 512) * 2 - 1),
        ("decode", vae.decode, torch.randn(1, 4, 64, 64)),
    ):
        times, results = {arm: [] for arm in arms}, {}
        for turn in range(repeats + 1):  # the first one warms up
            for arm, fewest in arms.items():
                winograd._MIN_PIXELS = fewest
                took, results[arm] = seconds(function, x)
                times[arm] += [took] if turn else []
        for arm, taken in times.items():
            found[f"{part}_{arm}_s"] = statistics.median(taken)
        found[f"{part}_ratio"] = statistics.median(
            fast / direct for direct, fast in zip(*times.values(), strict=True)
        )
        found[f"{part}_agreement"] = agreement(results["winograd"], results["direct"])
        print(json.dumps(found, indent=1), file=sys.stderr, flush=True)
    other = found["embed_s"] + found["denoise_s"]
    whole = {a: other + found[f"encode_{a}_s"] + found[f"decode_{a}_s"] for a in arms}
    return {**found, "whole_ratio": whole["winograd"] / whole["direct"], "repeats": repeats}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    simd = torch.backends.cpu.get_cpu_capability()
    if os.environ.get("ATEN_CPU_CAPABILITY"):
        simd += " of a processor with more"
    with torch.inference_mode():
        found = measure(args.repeats)
    known = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    known[f"{simd}, threads: {args.threads}"] = {"torch": torch.__version__, **found}
    RESULT.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
