"""Faces larger than the restorer's crop: what `detail` gives back, and what a larger crop does.

    python bootstrap.py bench large_faces [--seeds 5] [--people 6]

Rendered portraits of 512 px, whose faces have 3 to 4 picture pixels for one of the nano models' 128
px crop, damaged in the ways of `WAYS` and restored by the nano models. Numbers are taken where the
mask is above 0.9: PSNR against the truth, and the energy of the gradients as a share of the truth's
(1: as sharp as it). "plain" adds all that shrinking took, without a weight. The expectations stand
in experiments/large_faces.md. Writes
benchmarks/results/large_faces.json and .png.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from facewright.core.degradation import Degradation
from facewright.core.faces import Face
from facewright.core.files.json_text import strict
from facewright.core.geometry.align import align_faces
from facewright.core.geometry.landmarks import five_points
from facewright.core.geometry.paste import paste_faces
from facewright.core.geometry.warp import invert, warp
from facewright.core.images import Picture, write_picture
from facewright.core.metrics.statistics import mean_interval, paired_difference
from facewright.headless.make.restore import load_restorer
from facewright.training.world.faces3d import photos

RESULTS = Path(__file__).parent / "results"
FIRST_PERSON = 2**40 + 2**38
"""Far from the seeds of training, of its validation and of other benchmarks."""
SIDE = 512
DETAILS = (0.0, 0.5, 1.0)
CROPS = (128, 192, 256)
SHOWN = ("clean", "noise 12", "scratches")
COLUMNS = (
    "input",
    "crop 128, detail 0.0",
    "crop 128, detail 1.0",
    "plain",
    "crop 256, detail 0.0",
)
_ONE = {"scale": (1, 1), "sigma": (0, 0), "noise": (0, 0), "quality": (95, 95)}
_OWN = {"anisotropic": 0, "kernel_size": None, "color": False}


def _way(**changes):
    return Degradation.preset("gfpgan", **(_ONE | _OWN | changes))


def _noise(level):
    return {"noise": (level / 255, level / 255)}


WAYS = {
    "clean": None,
    "JPEG 75": _way(quality=(75, 75)),
    "JPEG 30": _way(quality=(30, 30)),
    "noise 6": _way(**_noise(6)),
    "noise 12": _way(**_noise(12)),
    "noise 25": _way(**_noise(25)),
    "blur 2 px": _way(sigma=(2, 2)),
    "blur 2 px, noise 6": _way(sigma=(2, 2), **_noise(6)),
    "blur 4 px, noise 12": _way(sigma=(4, 4), **_noise(12)),
    "scratches": None,
    "mild": Degradation.preset("mild"),
    "moderate": Degradation.preset("moderate"),
    "severe": Degradation.preset("severe"),
}


def scratched(gt, seed):
    """Twelve bright lines, 3 px wide, through random places."""
    rng = np.random.default_rng(seed)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    for turn, at_x, at_y in rng.uniform((0, 0, 0), (np.pi, SIDE, SIDE), (12, 3)):
        off = ((x - at_x) * np.cos(turn) + (y - at_y) * np.sin(turn)).abs()
        share = (1 - off / 1.5).clamp(0, 1).float()
        gt = gt * (1 - share) + 0.9 * share
    return gt


def damaged(gt, name, seed):
    if name == "scratches":
        return scratched(gt, seed)
    return gt if WAYS[name] is None else WAYS[name](gt, seed)[0]


def people(seed, count):
    seeds = [FIRST_PERSON + seed * count + i for i in range(count)]
    drawn = photos(seeds, seeds, SIDE, aligned=False, supersample=2)
    points = five_points(drawn.landmarks)
    boxes = torch.cat([drawn.landmarks.amin(1), drawn.landmarks.amax(1)], 1).tolist()
    found = [[Face(tuple(box), 1.0, points5=p)] for box, p in zip(boxes, points, strict=True)]
    return drawn.pixels, found


def gradients(x, inside):
    """Sum of squared differences between neighbors that are both inside."""
    across = (x[:, :, 1:] - x[:, :, :-1]).square().sum(0)[inside[:, 1:] & inside[:, :-1]]
    down = (x[:, 1:] - x[:, :-1]).square().sum(0)[inside[1:] & inside[:-1]]
    return float(across.sum() + down.sum())


def measured(result, gt, inside):
    error = float((result - gt)[:, inside].square().mean())
    return -10 * np.log10(error), gradients(result, inside) / gradients(gt, inside)


def unweighted(lq, crops, restored):
    """All of h added, (b, 3, h, w)."""
    out, mask = paste_faces(lq, crops, restored)
    window = (0, 0, lq.shape[-1], lq.shape[-2])
    coarse = [
        warp(face, invert(matrix), window)
        for face, matrix in zip(crops.pixels, crops.matrix, strict=True)
    ]
    return (out + mask[:, None] * (lq - torch.stack(coarse))).clamp(0, 1)


def run_seed(seed, count, restorer):
    """{way: {arm: [(psnr, gradients) of each face]}}, and the first face as a sheet."""
    gt, found = people(seed, count)
    values, shown = {}, []
    for name in WAYS:
        lq, results = damaged(gt, name, seed * count), {}
        for size in CROPS:
            crops = align_faces(lq, found, size)
            restored = restorer.method.restore(crops.pixels, [None] * count)
            if size == CROPS[0]:
                inside = paste_faces(lq, crops, restored)[1] > 0.9
                results["plain"] = unweighted(lq, crops, restored)
            for detail in DETAILS if size in (CROPS[0], CROPS[2]) else (0.0,):
                out, _ = paste_faces(lq, crops, restored, detail=detail)
                results[f"crop {size}, detail {detail}"] = out
        results["input"] = lq
        values[name] = {
            arm: [measured(*row) for row in zip(out, gt, inside, strict=True)]
            for arm, out in results.items()
        }
        if name in SHOWN:
            pictures = [results[arm][0] for arm in COLUMNS] + [gt[0]]
            shown.append(torch.cat([x[:, 170:470, 120:380] for x in pictures], 2))
    return values, torch.cat(shown, 1)


def summary(every):
    """Means over faces with 95 % intervals over seeds' faces, and differences to detail 0."""
    rows = {}
    for name in WAYS:
        faces = {
            arm: np.concatenate([np.array(s[name][arm]) for s in every]) for arm in every[0][name]
        }
        base = faces["crop 128, detail 0.0"]
        rows[name] = {
            arm: {
                "psnr": asdict(mean_interval(v[:, 0])),
                "psnr_minus_base": asdict(paired_difference(v[:, 0], base[:, 0])),
                "worst": float((v[:, 0] - base[:, 0]).min()),
                "gradients": asdict(mean_interval(v[:, 1])),
            }
            for arm, v in faces.items()
        }
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--people", type=int, default=6)
    given = parser.parse_args()
    restorer = load_restorer("nano")
    every, rows = [], {}
    for seed in range(given.seeds):
        values, pictures = run_seed(seed, given.people, restorer)
        every.append(values)
        rows = summary(every)
        result = strict({"seeds": seed + 1, "people": given.people, "ways": rows}, digits=4)
        (RESULTS / "large_faces.json").write_text(json.dumps(result, indent=1) + "\n")
        if not seed:
            write_picture(RESULTS / "large_faces.png", pictures, Picture(pictures))
    for name, arms in rows.items():
        for arm, v in arms.items():
            print(name, arm, v)


if __name__ == "__main__":
    main()
