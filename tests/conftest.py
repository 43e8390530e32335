"""Shared fixtures: one thread, fixed seeds, and a backbone that needs no weights."""

import contextlib
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facewright.core.devices import mend_torchvision
from facewright.core.schedule import alpha_bar, eps_to_x0
from PIL import Image

torch.set_num_threads(1)


mend_torchvision()


class IdentityBackbone:
    """Predicts zero noise; its VAE is average pooling and nearest-neighbour enlargement."""

    factor = 8

    def encode(self, pixels, generator=None):
        z = F.avg_pool2d(pixels, self.factor)
        if generator is not None:
            z = z + torch.randn(z.shape, generator=generator)
        return z

    def denoise(self, z_t, t, cond):
        return eps_to_x0(z_t, torch.zeros_like(z_t), alpha_bar()[t][None])

    def decode(self, z_0, *, full_precision=False):
        return F.interpolate(z_0, scale_factor=float(self.factor))


@pytest.fixture
def folder_of_people(tmp_path):
    """Six people with three small pictures each, one folder a person."""
    rng = np.random.default_rng(0)
    root = tmp_path / "people"
    for person in range(6):
        (root / f"p{person}").mkdir(parents=True)
        for photo in range(3):
            pixels = rng.integers(0, 256, (36, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"p{person}" / f"{photo}.png")
    return root


@pytest.fixture
def backbone():
    return IdentityBackbone()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def models_in():
    """Give it a models folder, and what this test runs looks for weights there alone."""
    from facewright.core.host import running
    from facewright.core.weights.model_folders import ModelFolders
    from facewright.headless.host.host import HeadlessHost

    with contextlib.ExitStack() as stack:
        yield lambda folder: stack.enter_context(running(HeadlessHost(ModelFolders([folder]))))
