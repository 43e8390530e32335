"""Degrading 512 x 512 faces: this package against three chains that others train with.

    python bootstrap.py bench degradation [--images 96] [--preset flipnet] [--memory]

All four carry out the same drawn recipes in this process, in turns of a few images each, on one
thread; processor seconds are counted, so that other programs disturb little. Written anew from
descriptions of what these projects do:

GFPGAN-style   OpenCV: filter2D with the dense kernel also where it is round, np.random.randn,
               imencode and imdecode, then a tensor; the quality as an integer, without which it
               does not run on current versions
kornia         gaussian_blur2d (filter2d where the kernel is turned), resize, torch.randn,
               jpeg_codec_differentiable
BasicSR-style  F.conv2d with the dense kernel, F.interpolate, torch.randn, and a JPEG as matrix
               products of 8 x 8 blocks like DiffJPEG's

The two torch chains get one image at a time, because a batch of theirs shares one reduction, and
the borders of images smaller than the kernel folded for them, which they cannot pad.

`--memory` also degrades 10 000 images (128 and 512 pixels in turn) and records the resident memory.
Writes benchmarks/results/degradation.json and .png; without --memory the recorded curve is kept.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from facewright.core.color import YCBCR
from facewright.core.degradation import Degradation
from facewright.core.degradation.kernels import blur_kernel, reflect
from PIL import Image

RESULTS = Path(__file__).parent / "results"
SIZE = 512
TURN = 4
LABELS = {
    "ours": "facewright",
    "opencv": "GFPGAN-style, OpenCV",
    "kornia": "kornia",
    "basicsr": "BasicSR-style, torch",
}

# ---------------------------------------------------------------- the other chains


def opencv_chain(picture, recipe):
    """picture (h, w, 3) BGR float32 in [0, 1] -> (3, h, w) RGB tensor."""
    import cv2

    modes = {
        "area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC,
    }  # fmt: skip
    x = picture
    for step in recipe["steps"]:
        match step["op"]:
            case "blur":
                x = cv2.filter2D(x, -1, blur_kernel(step))
            case "resize":
                height, width = step["size"]
                x = cv2.resize(x, (width, height), interpolation=modes[step["mode"]])
            case "noise":
                if step["sigma"]:
                    x = x + np.float32(np.random.randn(*x.shape)) * np.float32(step["sigma"])
                x = np.clip(x, 0, 1)
            case "jpeg":
                quality = [int(cv2.IMWRITE_JPEG_QUALITY), step["quality"]]
                _, code = cv2.imencode(".jpg", np.clip(x, 0, 1) * 255.0, quality)
                x = np.float32(cv2.imdecode(code, 1)) / 255.0
            case "round":
                x = torch.from_numpy(cv2.cvtColor(x, cv2.COLOR_BGR2RGB).transpose(2, 0, 1))
                x = torch.clamp((x * 255.0).round(), 0, 255) / 255.0
    return x


def torch_chain(blur, resize, jpeg):
    """(1, 3, h, w) and a recipe -> (3, h, w)."""

    def chain(x, recipe):
        for step in recipe["steps"]:
            match step["op"]:
                case "blur":
                    x = blur(x, step)
                case "resize":
                    align = None if step["mode"] == "area" else False
                    x = resize(x, step["size"], step["mode"], align)
                case "noise":
                    x = (x + step["sigma"] * torch.randn_like(x)).clamp(0, 1)
                case "jpeg":
                    x = jpeg(x.clamp(0, 1), step["quality"])
                case "round":
                    x = (x * 255.0).round().clamp(0, 255) / 255.0
        return x[0]

    return chain


def folded(x, reach):
    """Reflected borders, also where the image is smaller than they."""
    ys, xs = (torch.from_numpy(reflect(np.arange(-reach, n + reach), n)) for n in x.shape[-2:])
    return x[:, :, ys][:, :, :, xs]


def kornia_chain():
    import kornia

    def blur(x, step):
        taps = step["taps"]
        if min(x.shape[-2:]) <= taps // 2:
            kernel = torch.from_numpy(blur_kernel(step)).float()[None]
            return kornia.filters.filter2d(folded(x, taps // 2), kernel, padding="valid")
        if "angle" in step:
            return kornia.filters.filter2d(x, torch.from_numpy(blur_kernel(step)).float()[None])
        return kornia.filters.gaussian_blur2d(x, (taps, taps), (step["sigma"], step["sigma"]))

    def resize(x, size, mode, align):
        return kornia.geometry.resize(x, tuple(size), interpolation=mode, align_corners=align)

    def jpeg(x, quality):
        quality = torch.tensor([float(quality)])
        return kornia.enhance.jpeg_codec_differentiable(x, quality)

    return torch_chain(blur, resize, jpeg)


def basicsr_chain():
    def blur(x, step):
        reach = step["taps"] // 2
        if min(x.shape[-2:]) <= reach:
            padded = folded(x, reach)
        else:
            padded = F.pad(x, (reach,) * 4, mode="reflect")
        kernel = torch.from_numpy(blur_kernel(step)).float().expand(3, 1, -1, -1)
        return F.conv2d(padded.contiguous(), kernel, groups=3)

    def resize(x, size, mode, align):
        return F.interpolate(x, tuple(size), mode=mode, align_corners=align)

    return torch_chain(blur, resize, BlockJpeg())


class BlockJpeg:
    """A JPEG as matrix products: 4:2:0, 8 x 8 cosine transforms, rounded coefficients."""

    def __init__(self):
        buffer = BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, "JPEG", quality=50)
        tables = Image.open(buffer).quantization
        self.tables = [torch.tensor(list(tables[i])).float().view(8, 8) for i in (0, 1)]
        n = torch.arange(8)
        cosine = torch.cos((2 * n[:, None] + 1) * n[None] * torch.pi / 16)
        cosine = cosine * torch.where(n == 0, 0.5**0.5, 1.0) / 2
        self.forward = torch.einsum("xu,yv->xyuv", cosine, cosine)
        self.backward = torch.einsum("xu,yv->uvxy", cosine, cosine)
        self.to_ycc = torch.tensor(YCBCR)
        self.to_rgb = torch.linalg.inv(self.to_ycc)

    def __call__(self, x, quality):
        height, width = x.shape[-2:]
        factor = (50 / quality) if quality < 50 else (2 - quality / 50)
        x = F.pad(x * 255, (0, -width % 16, 0, -height % 16))
        y, cb, cr = torch.tensordot(x.permute(0, 2, 3, 1), self.to_ycc.T, dims=1).unbind(3)
        chroma = (F.avg_pool2d(c[None], 2)[0] for c in (cb, cr))
        planes = [self.code(y - 128, self.tables[0] * factor) + 128]
        for plane in chroma:
            plane = self.code(plane, self.tables[1] * factor)
            planes.append(plane.repeat_interleave(2, 1).repeat_interleave(2, 2))
        rgb = torch.tensordot(torch.stack(planes, 3), self.to_rgb.T, dims=1).permute(0, 3, 1, 2)
        return rgb[..., :height, :width].clamp(0, 255) / 255

    def code(self, plane, table):
        _, height, width = plane.shape
        blocks = plane.view(-1, height // 8, 8, width // 8, 8).transpose(2, 3)
        table = table.clamp(min=1e-3)
        coefficients = torch.tensordot(blocks, self.forward, dims=2)
        coefficients = torch.round(coefficients / table) * table
        return (
            torch.tensordot(coefficients, self.backward, dims=2)
            .transpose(2, 3)
            .reshape(plane.shape)
        )


# ---------------------------------------------------------------- measuring


def pictures(count, size, seed=0):
    """(count, 3, size, size) in [0, 1] whose spectrum falls like a photograph's."""
    generator = torch.Generator().manual_seed(seed)
    x, octave = torch.zeros(count, 3, size, size), 4
    while octave <= size:
        detail = torch.randn(count, 3, octave, octave, generator=generator) / octave**0.6
        x += F.interpolate(detail, (size, size), mode="bicubic")
        octave *= 2
    return (0.5 + 0.25 * x / x.std()).clamp(0, 1)


def chains():
    import cv2

    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(
        cv2.utils.logging.LOG_LEVEL_ERROR
    )  # float input is noted each time
    kornia, basicsr = kornia_chain(), basicsr_chain()
    return {
        "ours": lambda gt, recipes: Degradation.replay(gt, recipes),
        "opencv": lambda gt, recipes: [
            opencv_chain(p, r) for p, r in zip(as_bgr(gt), recipes, strict=True)
        ],
        "kornia": lambda gt, recipes: [
            kornia(x[None], r) for x, r in zip(gt, recipes, strict=True)
        ],
        "basicsr": lambda gt, recipes: [
            basicsr(x[None], r) for x, r in zip(gt, recipes, strict=True)
        ],
    }


def as_bgr(gt):
    return [np.ascontiguousarray(x.permute(1, 2, 0).numpy()[..., ::-1]) for x in gt]


def measure(preset, images):
    degradation = Degradation.preset(preset)
    gt = pictures(TURN, SIZE)
    run = chains()
    times = {name: [] for name in run}
    for function in run.values():
        function(gt, [degradation.draw(10**6 + i, SIZE, SIZE) for i in range(TURN)])
    for turn in range(images // TURN):
        recipes = [degradation.draw(turn * TURN + i, SIZE, SIZE) for i in range(TURN)]
        names = list(run)
        for name in names[turn % 4 :] + names[: turn % 4]:
            start = time.process_time()
            run[name](gt, recipes)
            times[name].append((time.process_time() - start) / TURN)
        if turn % 8 == 7:
            done = ", ".join(f"{n} {1e3 * statistics.mean(t):.1f}" for n, t in times.items())
            print(f"{(turn + 1) * TURN} images, ms each: {done}", file=sys.stderr, flush=True)
    rows = {}
    for name, values in times.items():
        ratios = [a / b for a, b in zip(values, times["ours"], strict=True)]
        rows[name] = {
            "ms_mean": 1e3 * statistics.mean(values),
            "ms_median": 1e3 * statistics.median(values),
            "images_per_s": 1 / statistics.mean(values),
            "times_ours_total": sum(values) / sum(times["ours"]),
            "times_ours_median": statistics.median(ratios),
        }
    return rows


def parity(preset, images=12):
    """Differences from the OpenCV chain in levels of 1/255, with the noise left out."""
    degradation, gt = Degradation.preset(preset), pictures(1, SIZE, seed=1)
    run, differences = chains(), []
    for seed in range(images):
        recipe = degradation.draw(seed, SIZE, SIZE)
        steps = [{**s, "sigma": 0.0} if s["op"] == "noise" else s for s in recipe["steps"]]
        recipe = {**recipe, "steps": steps}
        ours, theirs = (run[name](gt, [recipe])[0] for name in ("ours", "opencv"))
        differences.append((ours - theirs).abs() * 255)
    x = torch.stack(differences)
    return {"mean_levels": x.mean().item(), "max_levels": x.max().item(),
            "equal_share": (x < 0.5).float().mean().item()}  # fmt: skip


def memory(preset, images=10_000, every=1000):
    """Resident MB after each `every` images; None where the system does not tell."""
    degradation = Degradation.preset(preset)
    sizes = {size: pictures(1, size) for size in (128, 512)}
    curve = []
    for image in range(images + 1):
        if image % every == 0:
            curve.append([image, resident_mb()])
            print(f"{image} images: {curve[-1][1]} MB", file=sys.stderr, flush=True)
        degradation(sizes[512 if image % 2 else 128], seed=[image])
    return curve


def resident_mb():
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def report(result):
    lines = [f"{'':24}{'mean ms':>9}{'median':>9}{'images/s':>10}{'x ours':>8}{'median':>8}"]
    for name, row in result["chains"].items():
        lines.append(
            f"{LABELS[name]:24}{row['ms_mean']:9.1f}{row['ms_median']:9.1f}"
            f"{row['images_per_s']:10.1f}{row['times_ours_total']:8.2f}"
            f"{row['times_ours_median']:8.2f}"
        )
    same = result["parity"]
    lines.append(
        f"without noise, against the OpenCV chain: mean difference {same['mean_levels']:.4f} "
        f"levels of 255, largest {same['max_levels']:.0f}, equal {same['equal_share']:.2%}"
    )
    if result["memory_mb"]:
        lines.append("resident MB: " + " ".join(f"{mb}" for _, mb in result["memory_mb"]))
    return "\n".join(lines)


def plot(result, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    curve = result["memory_mb"]
    figure, axes = plt.subplots(
        1, 2 if curve else 1, figsize=(9 if curve else 6, 2.6), layout="constrained",
        width_ratios=[3, 2] if curve else None, squeeze=False,
    )  # fmt: skip
    rows = result["chains"]
    axis = axes[0, 0]
    speeds = [row["images_per_s"] for row in rows.values()]
    colors = ["#4c78a8"] + ["#bab0ac"] * (len(rows) - 1)
    axis.barh([LABELS[n] for n in rows], speeds, color=colors, height=0.6)
    for y, row in enumerate(rows.values()):
        ratio = "" if y == 0 else f" (ours: {row['times_ours_total']:.1f}x)"
        axis.text(speeds[y], y, f" {speeds[y]:.0f}{ratio}", va="center", fontsize=9)
    axis.invert_yaxis()
    axis.set_xlim(0, max(speeds) * 1.35)
    axis.set_xlabel(
        f"images per second, {SIZE} px, preset {result['preset']}, one thread", fontsize=9
    )
    if curve:
        axis = axes[0, 1]
        axis.plot(*zip(*curve, strict=True), color="#4c78a8", marker="o", markersize=3)
        axis.set_ylim(0, max(mb for _, mb in curve) * 1.2)
        axis.set_xlabel("images degraded", fontsize=9)
        axis.set_ylabel("resident MB", fontsize=9)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--preset", default="flipnet", choices=Degradation.presets())
    parser.add_argument("--memory", action="store_true", help="10 000 images more")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    path = args.out / "degradation.json"
    with torch.inference_mode():
        curve = memory(args.preset) if args.memory else None
        result = {
            "preset": args.preset,
            "images": args.images,
            "size": SIZE,
            "machine": {
                "threads": 1,
                "clock": "processor",
                "simd": torch.backends.cpu.get_cpu_capability(),
                "system": platform.system(),
                "torch": torch.__version__,
            },
            "chains": measure(args.preset, max(args.images, TURN)),
            "parity": parity(args.preset),
            "memory_mb": curve,
        }
    if curve is None and path.is_file():
        result["memory_mb"] = json.loads(path.read_text())["memory_mb"]
    args.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    plot(result, path.with_suffix(".png"))
    print(report(result))
    print(f"written: {path} and {path.with_suffix('.png').name}")


if __name__ == "__main__":
    main()
