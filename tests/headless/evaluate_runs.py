"""Pictures of a few pixels, and `facewright evaluate` as a user runs it on them."""

import csv
import json

import numpy as np
from facewright.headless.cli import app
from PIL import Image
from typer.testing import CliRunner


def evaluate(*args, code=0):
    result = CliRunner().invoke(app, ["evaluate", *map(str, args)], catch_exceptions=False)
    assert result.exit_code == code, result.stderr
    return result


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array).clip(0, 255).round().astype(np.uint8)).save(path)
    return path


def clean(seed, size=16):
    """Smooth colors, (size, size, 3)."""
    y, x = np.mgrid[:size, :size][..., None] / size
    phases = np.random.default_rng(seed).uniform(0, 6, 3)
    return 128 + 70 * np.sin(5 * x + 3 * y + phases)


def noisy(seed, amount, size=16, draw=1):
    noise = np.random.default_rng([seed, draw]).normal(0, amount, (size, size, 3))
    return clean(seed, size) + noise


def make(root, count=8, **methods):
    """gt/00.png and so on, and for each method a folder of them with so much noise."""
    for i in range(count):
        save(root / f"gt/{i:02}.png", clean(i))
        for draw, (name, amount) in enumerate(methods.items()):
            save(root / name / f"{i:02}.png", noisy(i, amount, draw=draw))
    return root


def rows(out):
    with open(out / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def results(out):
    return json.loads((out / "results.json").read_text())
