import dataclasses
import math
from contextlib import contextmanager

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.methods._flipnet_faces import (
    FlipnetFaces,
    FlipnetOptions,
    NanoFlipnetOptions,
)
from facewright.core.options import options_of
from facewright.core.schedule import alpha_bar

from ..conftest import IdentityBackbone

FEW = FlipnetOptions(steps=3, fresh_noise=0.5, lq_timestep=100)


class Looking(IdentityBackbone):
    """Predicts a picture out of what is looked at, the prompt and the noise it is given."""

    def __init__(self, z_y=None, about=None):
        self.z_y, self.about = z_y, about

    def read(self, text):
        return torch.full((1, 4, 6), len(text) / 100)

    def looking_at(self, hubs, z, **about):
        assert about["one_noise"]
        noise = torch.randn(z[:1].shape, generator=torch.Generator().manual_seed(about["seed"]))
        return Looking(z + about["timestep"] / 1000 * noise, about)

    @contextmanager
    def predicting(self, positive):
        def predict(z_t, t, cond):
            said = cond.mean((1, 2))[:, None, None, None]
            x_0 = 0.2 * (self.about["phi"] * self.z_y + said + (1 + z_t).sin())
            a = float(alpha_bar()[t])
            return (z_t - math.sqrt(a) * x_0) / math.sqrt(1 - a)

        yield predict


class Encoder(torch.nn.Module):
    def forward(self, faces):
        return faces.mean((1, 2, 3))[:, None, None].expand(-1, 2, 6)


@pytest.fixture
def faces():
    parts = {"hubs": torch.nn.Identity(), "encoder": Encoder(), "options": FEW}
    return FlipnetFaces(backbone=Looking(), size=32, device=torch.device("cpu"), **parts)


OTHERS = {
    "phi": 0.5,
    "steps": 4,
    "guidance": 3.0,
    "prompt": "a cat",
    "negative": "",
    "face_tokens": False,
    "lq_timestep": 0,
    "lq_seed": 5,
    "scheduler": "karras",
    "fresh_noise": 1.0,
}


@pytest.mark.parametrize("name", options_of(FlipnetOptions))
def test_each_option_changes_the_faces(faces, name):
    lq = torch.rand(1, 3, 20, 32)
    before = faces.restore(lq, [None])
    after = faces.restore(lq, [None], options=dataclasses.replace(FEW, **{name: OTHERS[name]}))
    assert before.shape == lq.shape
    assert before.min() > 0 and before.max() < 1, "clamped pixels would tell nothing"
    assert (before - after).abs().max() > 1e-4


def test_a_face_is_restored_as_if_it_were_alone(faces):
    lq, done = torch.rand(3, 3, 32, 32), []
    alone = torch.cat([faces.restore(face[None], [None]) for face in lq])
    for chunk in (1, 2, 3):
        made = faces.restore(lq, [None] * 3, chunk_size=chunk, on_chunk=done.append)
        torch.testing.assert_close(made, alone)
    assert done == [1, 1, 1, 2, 1, 3]
    assert faces.restore(lq[:0], []).shape == (0, 3, 32, 32)


def test_the_seed_of_the_generator_decides_the_noise(faces):
    lq = torch.rand(1, 3, 32, 32)

    def made(seed):
        return faces.restore(lq, [None], generator=torch.Generator().manual_seed(seed))

    assert torch.equal(made(0), faces.restore(lq, [None]))
    assert not torch.allclose(made(1), made(2), atol=1e-3)


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(FacewrightError, match=r"`phi` should be from 0\.0 to 2\.0; came 3"):
        FlipnetOptions(phi=3)
    with pytest.raises(FacewrightError, match="`scheduler` should be one of normal, "):
        NanoFlipnetOptions(scheduler="linear")
