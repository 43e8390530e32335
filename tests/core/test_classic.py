"""Faces through GFPGAN, RestoreFormer and CodeFormer: what spandrel's networks make of them."""

import types

import pytest
import torch
from facewright.core.errors import CheckpointError, FacewrightError, NonFiniteError
from facewright.core.methods import classic, spec_of, specs
from facewright.core.methods.classic import (
    ClassicFaces,
    ClassicOptions,
    load_face_model,
    restore_with_model,
)
from facewright.core.modules.spandrel import load_image_model

from ..image_models import esrgan, gfpgan, restoreformer

spandrel = pytest.importorskip("spandrel")


@pytest.fixture
def small(monkeypatch):
    """RestoreFormer takes any multiple of 64, and is quick there."""
    monkeypatch.setattr(classic, "SIDE", 64)


class Network:
    """As spandrel describes one; remembers what its module saw."""

    purpose, scale, device, dtype = "FaceSR", 1, torch.device("cpu"), torch.float32

    def __init__(self, arch, answer=lambda x: x):
        self.architecture = types.SimpleNamespace(id=arch, name=arch)
        self.answer, self.seen = answer, []

    def model(self, x, **more):
        self.seen.append((x, more))
        return self.answer(x), "logits"

    __call__ = classic.replace  # never called for those trained on [-1, 1]


def test_faces_are_what_spandrel_makes_of_each(tmp_path, small):
    path = restoreformer(tmp_path / "r.pth")
    lq, told = torch.rand(3, 3, 64, 64), []
    restored = restore_with_model(load_face_model(path), lq, on_face=told.append)
    theirs = spandrel.ModelLoader().load_from_file(path)  # which knows RestoreFormer's range
    for face, came in zip(lq.split(1), restored.split(1), strict=True):
        assert torch.equal(theirs(face), came)
    assert told == [1, 1, 1] and not torch.equal(restored[0], restored[1])


def test_networks_see_the_range_that_they_were_trained_on():
    lq = torch.rand(2, 3, 512, 512)
    for name, more in (("GFPGAN", {}), ("CodeFormer", {"weight": 0.5})):
        network = Network(name, lambda x: x / 2)
        restored = restore_with_model(network, lq)
        torch.testing.assert_close(restored, ((lq * 2 - 1) / 2 + 1) / 2)
        assert torch.equal(network.seen[1][0], lq[1:] * 2 - 1) and network.seen[1][1] == more


def test_crops_of_other_sizes_are_resized_and_back():
    network = Network("GFPGAN")
    smooth = torch.linspace(0, 1, 256).expand(1, 3, 256, 256)
    restored = restore_with_model(network, smooth)
    assert network.seen[0][0].shape == (1, 3, 512, 512)
    torch.testing.assert_close(restored, smooth, atol=2e-3, rtol=0)
    assert restore_with_model(network, torch.rand(0, 3, 512, 512)).shape == (0, 3, 512, 512)


def test_pictures_of_a_host_have_their_channels_last_and_networks_first():
    network = Network("GFPGAN", lambda x: x.view(1, -1).view(x.shape))
    lq = torch.rand(2, 512, 512, 3).movedim(-1, 1)
    torch.testing.assert_close(restore_with_model(network, lq), lq)


def test_noise_comes_from_the_seed_and_not_from_the_batch():
    draws = Network("GFPGAN", lambda x: torch.rand(x.shape) - 0.5)
    lq = torch.rand(3, 3, 512, 512)
    before = torch.get_rng_state()

    def run(faces, seed=None):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return restore_with_model(draws, faces, generator=generator)

    assert torch.equal(run(lq), run(lq)) and torch.equal(run(lq)[2:], run(lq[2:]))
    assert torch.equal(run(lq, 5), run(lq, 5)) and not torch.equal(run(lq, 5), run(lq, 6))
    assert not torch.equal(run(lq, 5)[0], run(lq, 5)[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_fidelity_is_codeformers_alone():
    lq = torch.rand(1, 3, 512, 512)
    network = Network("CodeFormer")
    ClassicFaces(model=network).restore(lq, [None], options=ClassicOptions(fidelity=0.9))
    assert network.seen[0][1] == {"weight": 0.9}
    with pytest.raises(FacewrightError, match="`fidelity` is an option of CodeFormer, and these"):
        ClassicFaces(model=Network("GFPGAN")).restore(
            lq, [None], options=ClassicOptions(fidelity=0.9)
        )
    with pytest.raises(FacewrightError, match=r"from 0\.0 to 1.0"):
        ClassicOptions(fidelity=1.5)


def test_what_a_network_gives_is_looked_at():
    lq = torch.rand(1, 3, 512, 512)
    with pytest.raises(NonFiniteError, match="GFPGAN gave NaN"):
        restore_with_model(Network("GFPGAN", lambda x: x * torch.nan), lq)
    with pytest.raises(FacewrightError, match="a face restorer keeps the size"):
        restore_with_model(Network("GFPGAN", lambda x: x[..., ::2]), lq)
    with pytest.raises(FacewrightError, match=r"square.*640 x 480.*crops of Detect Faces"):
        restore_with_model(Network("GFPGAN"), torch.rand(1, 3, 480, 640))


def test_an_upscaler_is_refused_by_name(tmp_path):
    path = esrgan(tmp_path / "4x_foo.pth")
    with pytest.raises(CheckpointError, match=r"4x_foo.pth is an upscaler \(ESRGAN, 4x\), and no"):
        load_face_model(path)
    with pytest.raises(CheckpointError, match=r"The model is an upscaler \(ESRGAN, 4x\)"):
        restore_with_model(load_image_model(path), torch.rand(1, 3, 512, 512))


def test_a_file_takes_the_place_of_a_name(tmp_path, monkeypatch):
    restoreformer(tmp_path / "mine.pth")
    monkeypatch.chdir(tmp_path)
    assert spec_of("mine.pth").files[0].names == (str(tmp_path / "mine.pth"),)
    known = spec_of("elsewhere/GFPGANv1.3.pth")
    assert known.files[0].licence == classic.GFPGAN.licence
    assert known.files[0].names == ("elsewhere/GFPGANv1.3.pth",)
    assert spec_of("classic") is specs()["classic"]
    with pytest.raises(FacewrightError, match=r"known: osdface.*classic.*such as GFPGANv1.4.pth"):
        spec_of("gfpgan")


@pytest.mark.slow
def test_gfpgan_with_its_noise_is_what_its_own_network_gives(tmp_path):
    path = gfpgan(tmp_path / "GFPGANv1.4.pth")
    lq = torch.rand(1, 3, 512, 512)
    restored = restore_with_model(load_face_model(path), lq)
    network = spandrel.ModelLoader().load_from_file(path).model.eval()
    torch.manual_seed(0)
    with torch.no_grad():
        expected = network((lq - 0.5) / 0.5)[0].clamp(-1, 1)
    torch.testing.assert_close(restored, (expected + 1) / 2, atol=1e-6, rtol=0)
    assert restored.std() > 0.05
