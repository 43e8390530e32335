"""OSDFace-shaped random weights and images, the same ones the golden values were made with."""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

GOLDENS = Path(__file__).parents[1] / "goldens"


def _seeded(key, seed=0):
    return torch.Generator().manual_seed(zlib.crc32(key.encode()) + seed * 1_000_003)


def random_weight(key, shape):
    """One tensor that depends on its name and shape only."""
    x = torch.randn(shape, generator=_seeded(key))
    if key.endswith("quantize.embedding.weight"):
        return 12 * x / x.norm(dim=1, keepdim=True)
    if key.endswith(".bias"):
        return 0.02 * x
    if key.split(".")[-2].startswith("norm"):
        return 1 + 0.1 * x
    return x / math.sqrt(math.prod(shape[1:]))


def random_image(name, height, width, seed=0):
    """(1, 3, h, w) in [0, 1]: bilinear colour fields at three scales, in exact integers."""
    total = np.zeros((height, width, 3), dtype=np.int64)
    fields = (("coarse", 64, 20, 160), ("middle", 32, 0, 40), ("fine", 8, 0, 56))
    for label, step, low, high in fields:
        size = (height // step + 2, width // step + 2, 3)
        g = _seeded(f"image:{name}:{label}", seed)
        grid = torch.randint(low, high, size, generator=g).numpy()
        y, x = np.arange(height), np.arange(width)
        fy, fx = (y % step)[:, None, None], (x % step)[None, :, None]
        y, x = y // step, x // step
        top = grid[y][:, x] * (step - fx) + grid[y][:, x + 1] * fx
        bottom = grid[y + 1][:, x] * (step - fx) + grid[y + 1][:, x + 1] * fx
        total += (top * (step - fy) + bottom * fy) // (step * step)
    return torch.from_numpy(total).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="session")
def golden():
    """Every golden tensor by name."""
    return load_file(GOLDENS / "osdface_golden.safetensors")


@pytest.fixture(scope="session")
def golden_image():
    """case name -> (1, 3, h, w) in [0, 1]."""
    cases = json.loads((GOLDENS / "osdface_golden.json").read_text())["cases"]

    def make(case):
        image = cases[case]["image"]
        if image["kind"] == "constant":
            return torch.full((1, 3, image["height"], image["width"]), image["value"] / 255)
        x = random_image(image["name"], image["height"], image["width"], image["seed"])
        corner = (x[0, :, 0, 0] * 255).round().int().tolist()
        assert corner == cases[case]["pixels_0_0"], "the test's image maker changed"
        return x

    return make


@pytest.fixture(scope="session")
def released(tmp_path_factory):
    """Paths of an `associate_2.ckpt` and an `embedding_change_weights.pth` of random weights."""
    folder = tmp_path_factory.mktemp("released")
    shapes = json.loads((GOLDENS / "osdface_manifest.json").read_text())
    encoder = {f"vqvae_LQ.{k}": random_weight(k, s) for k, s in shapes["vre"].items()}
    # The released file holds the whole second training stage.
    encoder["vqvae_LQ.decoder.conv_in.weight"] = torch.zeros(1)
    encoder["vqvae_LQ.post_quant_conv.weight"] = torch.zeros(1)
    encoder["vqvae_HQ.encoder.conv_in.weight"] = torch.zeros(1)
    projection = {k: random_weight(k, s) for k, s in shapes["embedding_change"].items()}
    paths = folder / "associate_2.ckpt", folder / "embedding_change_weights.pth"
    torch.save({"state_dict": encoder, "epoch": 2, "global_step": 7}, paths[0])
    torch.save(projection, paths[1])
    return paths
