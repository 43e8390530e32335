"""How well the bundled nano models restore rendered faces of people they never saw.

    python bootstrap.py bench nano_quality [--identities 256] [--preset severe]

Writes benchmarks/results/nano_<preset>.json and .png. The people are drawn from seeds that neither
training nor any decision during training used; every number is taken inside the face box (landmark
box with 20 % more forehead) at the shipped 128 x 128 pixels. `feature` and `identity` come from the
metric encoder, which no loss contains. Numbers of these toys say nothing about photographs.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from facewright.core.degradation import Degradation
from facewright.core.images import Picture, write_picture
from facewright.core.metrics import (
    edge_ratio,
    face_box_mask,
    feature_distance,
    psnr,
    ssim,
)
from facewright.core.metrics.statistics import bootstrap_interval
from facewright.core.restorer import restore_one_step
from facewright.core.weights import nano
from facewright.headless.host.host import HeadlessHost
from facewright.training.world.faces3d import photos

RESULTS = Path(__file__).parent / "results"
FIRST_IDENTITY = 2**40 + 2**39
"""Far from the seeds of training and of its validation (training/data/world.py)."""
COLUMNS = ("psnr", "ssim", "edges", "feature", "identity", "rank1")
BATCH = 16
SHEET_PEOPLE = 8
"""The sheet shows the first ones, whoever they are."""


def people(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two photos of each identity, and the face box of the first."""
    seeds = [FIRST_IDENTITY + i for i in range(count)]
    chunks = [seeds[i : i + BATCH] for i in range(0, count, BATCH)]
    # Every photo has its own pose, light, expression, background and alignment error.
    first, other = (
        [photos(c, [2 * s + k for s in c], nano.NANO_SIZE, jitter=1.0) for c in chunks]
        for k in (0, 1)
    )
    landmarks = torch.cat([p.landmarks for p in first])
    gt, gallery = (torch.cat([p.pixels for p in group]) for group in (first, other))
    return gt, gallery, face_box_mask(landmarks, nano.NANO_SIZE)


def by_batches(function, *tensors: torch.Tensor) -> torch.Tensor:
    return torch.cat(
        [function(*parts) for parts in zip(*(t.split(BATCH) for t in tensors), strict=True)]
    )


def score(
    x: torch.Tensor, gt: torch.Tensor, gallery: torch.Tensor, mask: torch.Tensor
) -> dict[str, np.ndarray]:
    """One value per image for every column."""
    encoder = nano.load_identity("metric")

    def embed(images: torch.Tensor) -> torch.Tensor:
        return by_batches(encoder, images)

    mine, same, others = embed(x), embed(gt), embed(gallery)
    feature = by_batches(
        lambda a, b: feature_distance(encoder.features(a)[:3], encoder.features(b)[:3]), x, gt
    )
    # Rank 1: is the most similar face among another photo of everybody the right person's?
    best = (mine @ others.T).argmax(1)
    values = {
        "psnr": psnr(x, gt, mask),
        "ssim": by_batches(ssim, x, gt, mask),
        "edges": edge_ratio(x, gt, mask),
        "feature": feature,
        "identity": F.cosine_similarity(mine, same),
        "rank1": (best == torch.arange(len(x))).double(),
    }
    return {k: v.double().numpy() for k, v in values.items()}


def sheet(rows: list[torch.Tensor]) -> torch.Tensor:
    picture = torch.cat([torch.cat(list(row[:SHEET_PEOPLE]), 2) for row in rows], 1)
    return F.interpolate(picture[None], scale_factor=2, mode="nearest")[0]


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--identities", type=int, default=256)
    parser.add_argument("--preset", default="severe", choices=Degradation.presets())
    options = parser.parse_args(arguments)

    gt, gallery, mask = people(options.identities)
    lq, _ = Degradation.preset(options.preset)(gt, seed=FIRST_IDENTITY)
    backbone = HeadlessHost().backbone(*HeadlessHost().load_nano(lora=True))
    vre = nano.load_vre()
    cond = by_batches(vre, lq)

    def through_vae(images: torch.Tensor) -> torch.Tensor:
        return backbone.decode(backbone.encode(images * 2 - 1)).add(1).div(2).clamp(0, 1)

    def restore(images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return restore_one_step(images, tokens, backbone)[0]

    candidates = {
        "LQ": lq,
        "VAE(LQ)": by_batches(through_vae, lq),
        "restored": by_batches(restore, lq, cond),
        "restored, tokens of somebody else": by_batches(restore, lq, cond.roll(1, 0)),
        "VAE(GT), the ceiling": by_batches(through_vae, gt),
    }
    scores = {name: score(x, gt, gallery, mask) for name, x in candidates.items()}

    print(f"{options.identities} unseen people, preset {options.preset}, means in the face box\n")
    print("| | PSNR dB | SSIM | edges | feature distance | identity cosine | rank 1 |")
    print("|---|---|---|---|---|---|---|")
    digits = {"psnr": 2, "rank1": 2}
    for name, values in scores.items():
        cells = [f"{values[c].mean():.{digits.get(c, 3)}f}" for c in COLUMNS]
        print(f"| {name} | " + " | ".join(cells) + " |")
    gains = {c: scores["restored"][c] - scores["LQ"][c] for c in COLUMNS}
    print("\nrestored minus LQ, 95 % bootstrap interval over people:")
    for column, values in gains.items():
        low, high = bootstrap_interval(values)
        print(f"  {column:9s} {values.mean():+.3f}  [{low:+.3f}, {high:+.3f}]")
    ratio = scores["restored"]["feature"].mean() / scores["LQ"]["feature"].mean()
    better = float((gains["psnr"] > 0).mean())
    print(f"  feature distance x{ratio:.2f}; PSNR higher than LQ in {better:.0%} of the pictures")

    report = {
        "preset": options.preset,
        "identities": options.identities,
        "first_identity": FIRST_IDENTITY,
        "means": {n: {c: float(v[c].mean()) for c in COLUMNS} for n, v in scores.items()},
        "gain": {
            c: {"mean": float(v.mean()), "interval": bootstrap_interval(v)}
            for c, v in gains.items()
        },
        "feature_ratio": float(ratio),
        "share_of_pictures_with_higher_psnr": better,
    }
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"nano_{options.preset}"
    stem.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    rows = sheet([candidates["LQ"], candidates["restored"], candidates["VAE(GT), the ceiling"], gt])
    write_picture(stem.with_suffix(".png"), rows, Picture(rows))
    print(f"\n{stem}.json, {stem}.png (rows: LQ, restored, VAE(GT), GT)")


if __name__ == "__main__":
    main()
