"""One 512 x 512 face through all of OSDFace, against a plain version of the official flow.

    python bootstrap.py bench onestep [--batch 4] [--repeats 3] [--threads 1] [--tiny]

Both run in this process, alternately, on the same random weights at the true shapes (Stable
Diffusion 2.1 UNet and VAE, OSDFace's embedder), so the ratios are comparable although the seconds
depend on the machine. `plain` follows the released inference: float32, contiguous tensors, one face
at a time, tokens chosen in a Python loop, all encoder activations and copies of the attention maps
kept. UNet and VAE are diffusers' own modules, as there. Left out are its garbage collections, and
its random latent is replaced by the posterior mean so that results can be compared.

Writes benchmarks/results/onestep.json and .png (`_tiny` where asked for, which measures nothing).
"""

import argparse
import copy
import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from facewright.core.devices import widened
from facewright.core.diffusion.backbone import (
    DiffusersBackbone,
    Model,
    build,
)
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.diffusion.vae import Vae
from facewright.core.methods.osdface import VisualRepresentationEmbedder, VREConfig
from facewright.core.modules.autoencoder import AutoencoderConfig
from facewright.core.modules.fast import fast_dtype
from facewright.core.restorer import ONE_STEP_TIMESTEP
from facewright.core.schedule import alpha_bar

RESULTS = Path(__file__).parent / "results"
PARTS = ("embed", "encode", "denoise", "decode")
LABELS = {"embed": "VRE", "encode": "VAE encode", "denoise": "UNet", "decode": "VAE decode"}
SCALING = 0.18215

UNET = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
}
TINY_UNET = {
    **UNET,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [32, 64],
    "attention_head_dim": [2, 2],
    "cross_attention_dim": 16,
}
TINY_VAE = {**VAE, "block_out_channels": [32, 32, 32, 32], "layers_per_block": 1}
TINY_VRE = VREConfig(
    encoder=AutoencoderConfig(ch=32, ch_mult=(1, 1, 2), num_res_blocks=1, attn_levels=(2,)),
    input_size=64,
    proj_hidden=8,
    proj_out=16,
)


# ---------------------------------------------------------------- the plain flow


def plain_attention(block, x):
    b, c, h, w = x.shape
    n = block.norm1(x)
    q, k, v = (f(n).reshape(b, c, h * w) for f in (block.q, block.k, block.v))
    weights = torch.softmax(torch.bmm(q.transpose(1, 2) * c**-0.5, k), dim=2)
    kept = [copy.deepcopy(weights) for _ in range(3)]
    out = torch.bmm(v, weights.transpose(1, 2)).reshape(b, c, h, w)
    return x + block.proj_out(out), kept


def plain_res_block(block, x):
    h = block.conv1(F.silu(block.norm1(x)))
    h = block.conv2(F.silu(block.norm2(h)))
    return (block.nin_shortcut(x) if hasattr(block, "nin_shortcut") else x) + h


def plain_encoder(encoder, x):
    hs = [encoder.conv_in(x)]
    for level in encoder.down:
        for i, block in enumerate(level.block):
            h = plain_res_block(block, hs[-1])
            if len(level.attn):
                h, _ = plain_attention(level.attn[i], h)
            hs.append(h)
        if hasattr(level, "downsample"):
            hs.append(level.downsample.conv(F.pad(hs[-1], (0, 1, 0, 1))))
    h = plain_res_block(encoder.mid.block_1, hs[-1])
    h, _ = plain_attention(encoder.mid.attn_1, h)
    h = plain_res_block(encoder.mid.block_2, h)
    return encoder.conv_out(F.silu(encoder.norm_out(h)))


def plain_embed(vre, lq):
    """(1, 3, h, w) -> prompt and tokens, one position after the other."""
    z = vre.quant_conv(plain_encoder(vre.encoder, vre.prepare(lq)))
    z = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
    codebook = vre.quantize.embedding.weight
    d = z.pow(2).sum(1, keepdim=True) + codebook.pow(2).sum(1) - 2 * z @ codebook.t()
    distances, codes = d.min(dim=1)
    chosen = []
    for position in torch.sort(distances).indices:
        code = codes[position].item()
        if code not in chosen:
            chosen.append(code)
        if len(chosen) == vre.config.num_tokens:
            break
    one_hot = codebook.new_zeros(vre.config.num_tokens, len(codebook))
    for row, code in enumerate(chosen):
        one_hot[row, code] = 1
    prompt = vre.embedding_change((one_hot @ codebook)[None])
    tokens = codes.new_tensor(chosen + [-1] * (vre.config.num_tokens - len(chosen)))
    return prompt, tokens[None]


def plain_encode(vae, pixels):
    return vae.encode(pixels).latent_dist.mean * SCALING


def plain_decode(vae, x_0):
    return vae.decode(x_0 / SCALING).sample


def plain_denoise(unet, z, prompt):
    eps = unet(z, ONE_STEP_TIMESTEP, encoder_hidden_states=prompt).sample
    a = alpha_bar()[ONE_STEP_TIMESTEP]
    x_0 = (widened(z) - (1 - a).sqrt() * widened(eps)) / a.sqrt()
    return x_0.float().to(z.device)


# ---------------------------------------------------------------- measuring


class PeakMemory:
    """Growth of the resident memory inside a `with` block, in MB; None where it is unknown."""

    def __enter__(self):
        gc.collect()
        self.start = self.highest = _resident()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self):
        while self.start is not None and not self.done.wait(0.005):
            self.highest = max(self.highest, _resident())

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        self.mb = None if self.start is None else round((self.highest - self.start) / 2**20)


def _resident():
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def clock():
    """One thread is timed in processor seconds, which other programs do not stretch."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def seconds(function, *args):
    start = clock()
    function(*args)
    return clock() - start


def compare(plain, ours, batch_of, repeats):
    """Run both alternately.

    Args:
        plain, ours: (function, arguments) for one face.
        batch_of: arguments of `ours` for a batch of n faces -> those for n.

    Returns:
        the two results for one face, and the seconds and memory of each.
    """
    row, results = {}, {}
    times = {"plain": [], "ours": []}
    for name, (function, args) in (("plain", plain), ("ours", ours)):
        with PeakMemory() as memory:  # also warms up
            results[name] = function(*args)
        row[f"{name}_peak_mb"] = memory.mb
    for _ in range(repeats):
        for name, (function, args) in (("plain", plain), ("ours", ours)):
            times[name].append(seconds(function, *args))
    row.update({f"{name}_s": statistics.median(values) for name, values in times.items()})
    n, args = batch_of(ours[1])
    row["batch_s_per_face"] = seconds(ours[0], *args) / n
    row["ratio"] = row["ours_s"] / row["plain_s"]
    done = ", ".join(f"{key} {value:.4g}" for key, value in row.items() if value is not None)
    print(done, file=sys.stderr, flush=True)
    return results["plain"], results["ours"], row


def agreement(x, reference):
    """PSNR in dB against the range of `reference` (None: equal), and the largest difference."""
    mse = (x.double() - reference.double()).square().mean().item()
    span = (reference.max() - reference.min()).item()
    db = 10 * math.log10(span**2 / mse) if mse else None
    return {"psnr_db": db, "max_abs": (x - reference).abs().max().item(), "range": span}


def import_seconds(module):
    """Seconds that `import module` takes in a fresh interpreter that has torch already."""
    code = f"import torch, time; t = time.perf_counter(); import {module}; "
    code += "print(time.perf_counter() - t)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(out.stdout)


# ---------------------------------------------------------------- the comparison


def random_module(cls, config):
    torch.manual_seed(0)
    return cls.from_config(config).eval().requires_grad_(False)


def measure(tiny, batch, repeats):
    unet_class, vae_class = diffusers_classes()
    unet_config, vae_config = (TINY_UNET, TINY_VAE) if tiny else (UNET, VAE)
    device = torch.device("cpu")
    dtype = fast_dtype(device)
    torch.manual_seed(0)
    lq = torch.rand(1, 3, 16, 16)
    lq = F.interpolate(lq, (64, 64) if tiny else (512, 512), mode="bicubic").clamp(0, 1)
    rows = {}

    def repeated(args):
        return batch, tuple(a.expand(batch, *a.shape[1:]) for a in args)

    vre = VisualRepresentationEmbedder(TINY_VRE if tiny else VREConfig()).eval()
    plain_vre = copy.deepcopy(vre).to(memory_format=torch.contiguous_format)
    (plain_cond, plain_tokens), cond, rows["embed"] = compare(
        (partial(plain_embed, plain_vre), (lq,)), (vre, (lq,)), repeated, repeats
    )
    rows["embed"]["tokens_equal"] = torch.equal(plain_tokens, vre.tokenize(lq))
    del vre, plain_vre

    plain_vae = random_module(vae_class, vae_config)
    fast_vae = Vae(
        build(
            vae_class, vae_config, plain_vae.state_dict(), source="VAE", dtype=dtype, device=device
        )
    )
    pixels = lq * 2 - 1
    plain_z, z, rows["encode"] = compare(
        (partial(plain_encode, plain_vae), (pixels,)),
        (lambda x: fast_vae.encode(x) * SCALING, (pixels,)),
        repeated,
        repeats,
    )
    plain_unet = random_module(unet_class, unet_config)
    model = Model(
        build(
            unet_class,
            unet_config,
            plain_unet.state_dict(),
            source="UNet",
            dtype=dtype,
            device=device,
        ),
        unet_config,
        "random",
    )
    backbone = DiffusersBackbone(model, fast_vae)
    plain_x0, x_0, rows["denoise"] = compare(
        (partial(plain_denoise, plain_unet), (plain_z, plain_cond)),
        (lambda z, c: backbone.denoise(z, ONE_STEP_TIMESTEP, c), (z, cond)),
        repeated,
        repeats,
    )
    del plain_unet  # the decoder's memory is measured next
    plain_image, image, rows["decode"] = compare(
        (partial(plain_decode, plain_vae), (plain_x0,)),
        (backbone.decode, (x_0,)),
        repeated,
        repeats,
    )
    total = {
        key: sum(row[key] for row in rows.values())
        for key in rows["embed"]
        if key.endswith(("_s", "_per_face"))
    }
    total["ratio"] = total["ours_s"] / total["plain_s"]
    return {
        "tiny": tiny,
        "batch": batch,
        "repeats": repeats,
        "machine": {
            "threads": torch.get_num_threads(),
            "clock": "processor" if torch.get_num_threads() == 1 else "wall",
            "simd": torch.backends.cpu.get_cpu_capability(),
            "system": platform.system(),
            "torch": torch.__version__,
            "unet_and_vae_dtype": str(dtype).removeprefix("torch."),
        },
        "parts": rows,
        "total": total,
        "agreement": {
            "image": agreement(image, plain_image),
            "latent": agreement(x_0, plain_x0),
            "cond": agreement(cond, plain_cond),
        },
        "import_s": {
            m: import_seconds(m) for m in ("facewright", "facewright.core.methods.osdface")
        },
    }


def report(result):
    lines = [f"{'':12}{'plain s':>9}{'ours s':>9}{'ratio':>8}{'batch s/face':>14}{'MB':>14}"]
    for part in PARTS:
        row = result["parts"][part]
        lines.append(
            f"{LABELS[part]:12}{row['plain_s']:9.2f}{row['ours_s']:9.2f}{row['ratio']:8.2f}"
            f"{row['batch_s_per_face']:14.2f}"
            f"{row['plain_peak_mb'] or 0:7} {row['ours_peak_mb'] or 0:6}"
        )
    total = result["total"]
    lines.append(
        f"{'one face':12}{total['plain_s']:9.2f}{total['ours_s']:9.2f}{total['ratio']:8.2f}"
        f"{total['batch_s_per_face']:14.2f}"
    )
    image = result["agreement"]["image"]
    lines.append(
        f"agreement {image['psnr_db'] or math.inf:.1f} dB, "
        f"largest difference {image['max_abs']:.1e} in a range of {image['range']:.2f}; "
        f"same tokens: {result['parts']['embed']['tokens_equal']}"
    )
    return "\n".join(lines)


def plot(result, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
    colors = ("#4c78a8", "#72b7b2", "#f58518", "#e45756")
    bars = {
        "plain official flow": "plain_s",
        "facewright, 1 face": "ours_s",
        f"facewright, batch of {result['batch']}, per face": "batch_s_per_face",
    }
    left = [0.0] * len(bars)
    for part, color in zip(PARTS, colors, strict=True):
        widths = [result["parts"][part][key] for key in bars.values()]
        axis.barh(list(bars), widths, left=left, color=color, label=LABELS[part], height=0.6)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for y, x in enumerate(left):
        axis.text(x, y, f"  {x:.1f} s ({x / left[0]:.2f}x)", va="center", fontsize=9)
    axis.invert_yaxis()
    axis.set_xlim(0, max(left) * 1.25)
    machine = result["machine"]
    axis.set_xlabel(
        f"{machine['clock']} seconds for one 512 x 512 face, {machine['threads']} CPU thread(s), "
        f"{machine['simd']}, {machine['unet_and_vae_dtype']}",
        fontsize=9,
    )
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(ncols=4, frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.4, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument(
        "--threads", type=int, help="1 counts processor seconds: for a machine that is not idle"
    )
    parser.add_argument("--tiny", action="store_true", help="small shapes, to try the script")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    with torch.inference_mode():
        result = measure(args.tiny, args.batch, args.repeats)
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / ("onestep_tiny" if args.tiny else "onestep")
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    plot(result, stem.with_suffix(".png"))
    print(report(result))
    print(f"written: {stem.with_suffix('.json')} and {stem.with_suffix('.png').name}")


if __name__ == "__main__":
    main()
