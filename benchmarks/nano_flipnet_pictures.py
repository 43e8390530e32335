"""Draw the manual's pictures of the bundled nano FLIPNET.

    python bootstrap.py bench nano_flipnet_pictures [--steps 30]

Writes docs/images/flipnet_degradations.jpg (rendered people that no training saw, and what the
degradation mode makes of them) and docs/images/flipnet_phi.jpg (one noise, enhance weight 0, 1 and
2). The first people of a fixed list and the first seeds, whatever they look like.
"""

import argparse
from pathlib import Path

import torch
from facewright.benchmarks._flipnet_sampling import Flipnet
from facewright.benchmarks.nano_quality import FIRST_IDENTITY, people
from facewright.core.degradation import Degradation
from facewright.core.drawing.sheet import contact_sheet
from facewright.core.images import Picture, write_picture

FOLDER = Path(__file__).parents[1] / "docs" / "images"
PEOPLE = 6
COPIES = 5


def degradations(steps: int) -> dict[str, torch.Tensor]:
    gt, _, _ = people(PEOPLE)
    flipnet = Flipnet.bundled("degrade", steps)
    made = {f"seed {seed}": flipnet.sample(gt, seed, 1.0) for seed in range(COPIES)}
    return {"good": gt} | made


def enhance_weights(steps: int) -> dict[str, torch.Tensor]:
    gt, _, _ = people(PEOPLE)
    lq, _ = Degradation.preset("severe")(gt, seed=FIRST_IDENTITY)
    flipnet = Flipnet.bundled("restore", steps)
    made = {f"phi {phi}": flipnet.sample(lq, 0, phi) for phi in (0, 1, 2)}
    return {"degraded": lq, **made, "original": gt}


PICTURES = {"degradations": degradations, "phi": enhance_weights}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--only", choices=list(PICTURES))
    options = parser.parse_args(arguments)
    for name, make in PICTURES.items():
        if options.only in (None, name):
            rows = make(options.steps)
            labels = [row if i == 0 else "" for row in rows for i in range(PEOPLE)]
            sheet = contact_sheet([p for x in rows.values() for p in x], labels, PEOPLE)
            path = FOLDER / f"flipnet_{name}.jpg"
            write_picture(path, sheet, Picture(sheet))
            print(f"written: {path}")


if __name__ == "__main__":
    main()
