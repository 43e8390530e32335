"""What lies around the models: loading them, pasting many faces, scores of many pictures.

    python bootstrap.py bench around [--only load,paste,ranks,sets] [--tiny]

Each part against the plain way of doing it, in processor seconds, which other programs hardly
stretch; `load` in peaks of memory too, each way in a process of its own, on random half-precision
weights of Stable Diffusion 2.1's UNet (1.7 GB, deleted afterwards) with a LoRA on every attention.
Plain is: a file read whole, cast whole and copied for its LoRA; every face held against every other
one; each picture's rank worked out alone; sums of single pictures as if they were batches.

Adds its figures to benchmarks/results/around.json (`--tiny` writes nothing).
"""

import argparse
import hashlib
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from facewright.core.checkpoint import read_tensors
from facewright.core.diffusion.backbone import Model, build
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.diffusion.loading import _Stored, quickest
from facewright.core.faces import Face
from facewright.core.geometry import paste
from facewright.core.geometry.align import align_faces
from facewright.core.geometry.warp import invert, scale_of, transform
from facewright.core.metrics import FrechetStatistics, identity_rank
from safetensors.torch import save_file

from .onestep import TINY_UNET, UNET

RESULT = Path(__file__).parent / "results" / "around.json"


def seconds(function):
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


# ---------------------------------------------------------------- loading


def write_weights(folder, config):
    """A UNet of random float16 weights, and a LoRA of rank 16 on its attentions."""
    with torch.device("meta"):
        shapes = {
            k: v.shape for k, v in diffusers_classes()[0].from_config(config).state_dict().items()
        }
    tensors, lora = {}, {}
    for name, shape in shapes.items():
        scale = 0.5 / math.sqrt(max(1, math.prod(shape[1:])))
        tensors[name] = (torch.randn(shape) * scale).half()
        if re.search(r"attn\d\.to_(q|k|v|out\.0)\.weight$", name):
            module = name.removesuffix(".weight")
            lora[f"{module}.lora_A.weight"] = torch.randn(16, shape[1]) * 0.01
            lora[f"{module}.lora_B.weight"] = torch.randn(shape[0], 16) * 0.01
    save_file(tensors, folder / "unet.safetensors")
    save_file(lora, folder / "lora.safetensors")
    return sum(t.nbytes for t in tensors.values())


def load_here(way, folder, config):
    """Peak of this process in MB above what it has with everything imported, seconds, a mark."""
    kind = diffusers_classes()[0]
    path, place = Path(folder) / "unet.safetensors", quickest()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # peaks count from here

    def ours():
        stored = _Stored(path, read_tensors(path)[0], dict)
        model = Model(stored.built(kind, config, "random", place), config, "random")
        return model.with_lora(*read_tensors(Path(folder) / "lora.safetensors"), in_place=True)[0]

    def plain():
        about = {"source": "random", "dtype": place.dtype, "device": place.device}
        model = Model(build(kind, config, read_tensors(path)[0], **about), config, "random")
        return model.with_lora(*read_tensors(Path(folder) / "lora.safetensors"))[0]

    taken, model = seconds({"ours": ours, "plain": plain}[way])
    peak, digest = _status("VmHWM") - before, hashlib.sha256()
    for _, value in sorted(model.tensors().items()):
        digest.update(
            value.flatten().view(torch.int16 if value.itemsize == 2 else torch.int32).numpy()
        )
    return {"peak_mb": peak, "s": taken, "mark": digest.hexdigest()}


def _status(what):
    return int(re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def load(tiny):
    config = TINY_UNET if tiny else UNET
    with tempfile.TemporaryDirectory() as folder:
        size = write_weights(Path(folder), config) / 2**20
        row = {"weights_mb": size}
        for way in ("plain", "ours"):
            command = [sys.executable, "-m", "facewright.benchmarks.around", "--load", way, folder]
            done = subprocess.run(
                command + ["--tiny"] * tiny, check=True, capture_output=True, text=True
            )
            row[way] = json.loads(done.stdout)
    row["agree"] = row["plain"].pop("mark") == row["ours"].pop("mark")
    row["peak_over_weights"] = {way: row[way]["peak_mb"] / size for way in ("plain", "ours")}
    return row


# ---------------------------------------------------------------- many faces


def meets(crops):
    """Who may overlap whom, by the circles around all pairs of crops."""
    size, count = crops.pixels.shape[-1], len(crops)
    middle = torch.full((1, 2), (size - 1) / 2, dtype=torch.float64)

    def circles(i, j):
        one, other = invert(crops.matrix[i]), invert(crops.matrix[j])
        gap = float((transform(one, middle) - transform(other, middle)).norm())
        return gap < math.sqrt(0.5) * size * (scale_of(one) + scale_of(other))

    return [[j for j in range(count) if j != i and circles(i, j)] for i in range(count)]


def many_faces(tiny):
    """Rows of faces that do not touch, in a picture as large as it takes."""
    rows = []
    for count in (5, 10) if tiny else (50, 100, 200):
        boxes = [(20 + i % 10 * 160, 20 + i // 10 * 160) for i in range(count)]
        picture = torch.rand(1, 3, 160 * math.ceil(count / 10) + 40, 1640)
        found = [Face((x, y, x + 40, y + 40), 1.0, angle=0.1) for x, y in boxes]
        taken, crops = seconds(lambda p=picture, f=found: align_faces(p, [f], 64))
        faces, ours = crops.pixels.flip(1), paste.beside

        def put(p=picture, c=crops, f=faces):
            return paste.paste_faces(p, c, f)

        put()  # warms up
        quick, result = seconds(put)
        paste.beside = lambda windows, crops: meets(crops)
        try:
            slow, plain = seconds(put)
        finally:
            paste.beside = ours
        same = all(torch.equal(a, b) for a, b in zip(result, plain, strict=True))
        row = {"faces": count, "align_s": taken, "plain_s": slow, "ours_s": quick, "agree": same}
        rows.append({**row, "ratio": quick / slow, "ours_ms_a_face": 1000 * quick / count})
    return rows


# ---------------------------------------------------------------- many pictures


def ranks(tiny):
    count, alone = (200, 20) if tiny else (10_000, 20)
    gallery = torch.randn(count, 64 if tiny else 512)
    faces = gallery + 2 * torch.randn_like(gallery)
    own = list(range(count))

    def one(i):
        checked = gallery.double() / gallery.double().norm(dim=1, keepdim=True)
        cosines = (checked * (faces[i].double() / faces[i].double().norm())).sum(1)
        return 1 + int((cosines > cosines[i]).sum())

    slow, plain = seconds(lambda: [one(i) for i in range(alone)])
    quick, result = seconds(lambda: identity_rank(faces, gallery, own))
    row = {"pictures": count, "plain_ms": 1000 * slow / alone, "ours_ms": 1000 * quick / count}
    row["ratio"] = row["ours_ms"] / row["plain_ms"]
    return {**row, "agree": result[:alone].tolist() == plain}


def sets(tiny):
    features = torch.rand(8, 1, 64 if tiny else 2048, dtype=torch.float64)

    def plain():
        count, mean, scatter = (
            1,
            features[0, 0],
            torch.zeros(features.shape[-1], features.shape[-1]).double(),
        )
        for x in features[1:]:
            shift = x.mean(0) - mean
            centred = x - x.mean(0)
            scatter += centred.T @ centred
            scatter += torch.outer(shift, shift) * (count / (count + 1))
            count, mean = count + 1, mean + shift / (count + 1)
        return scatter / (count - 1)

    def ours():
        statistics = FrechetStatistics()
        for x in features:
            statistics.update(x)
        return statistics.covariance

    (slow, first), (quick, second) = seconds(plain), seconds(ours)
    row = {"plain_ms": 1000 * slow / len(features), "ours_ms": 1000 * quick / len(features)}
    return {**row, "ratio": quick / slow, "agree": torch.allclose(first, second, rtol=1e-12)}


PARTS = {"load": load, "paste": many_faces, "ranks": ranks, "sets": sets}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--tiny", action="store_true", help="small shapes, nothing is written")
    parser.add_argument("--load", nargs=2, metavar=("WAY", "FOLDER"), help="one way, here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.no_grad():
        if args.load:
            print(json.dumps(load_here(*args.load, TINY_UNET if args.tiny else UNET)))
            return
        found = {"torch": torch.__version__}
        for name in args.only.split(","):
            found[name] = PARTS[name](args.tiny)
            print(name, json.dumps(found[name], indent=1), file=sys.stderr, flush=True)
    if not args.tiny:
        known = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
        RESULT.write_text(json.dumps({**known, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
