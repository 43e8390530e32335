"""The identity loss of several recognisers against float64, and what it does with gradients."""

import math

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.modules.adaface import AdaFaceIR
from facewright.core.modules.iresnet import IResNet
from facewright.core.people.recogniser import Recogniser, load_recogniser, nano_recogniser
from facewright.core.weights import nano
from facewright.training.losses.identity import IdentityEnsemble
from facewright.training.methods.onestep import RecogniserConfig
from facewright.training.world.faces3d import photos
from pydantic import ValidationError
from torch import nn

BLOCKS = (2, 2, 2, 2)


class Means(nn.Module):
    """Mean colours of the four quarters as an embedding."""

    def __init__(self, gain):
        super().__init__()
        self.register_buffer("gain", torch.tensor(gain))

    def forward(self, faces):
        return nn.functional.adaptive_avg_pool2d(faces, 2).flatten(1) * self.gain - 0.3


def naive_means(face, gain):
    """One (3, h, w) float64, by slices."""
    h, w = face.shape[1] // 2, face.shape[2] // 2
    quarters = [face[:, :h, :w], face[:, :h, w:], face[:, h:, :w], face[:, h:, w:]]
    return torch.stack([q.mean((1, 2)) for q in quarters], 1).flatten() * gain - 0.3


def test_is_the_sum_over_recognisers_of_the_mean_over_faces():
    generator = torch.Generator().manual_seed(0)
    restored, gt = torch.rand(2, 3, 3, 32, 32, generator=generator)
    gains = (1.0, 2.5)
    ensemble = IdentityEnsemble(
        [Recogniser(Means(gain), name=f"means{gain}", dim=12) for gain in gains]
    )
    expected = 0.0
    for gain in gains:
        terms = []
        for a, b in zip(restored.double(), gt.double(), strict=True):
            a, b = naive_means(a, gain), naive_means(b, gain)
            terms.append(1 - float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)))
        expected += sum(terms) / len(terms)
    assert float(ensemble(restored, gt)) == pytest.approx(expected, abs=1e-6)
    assert float(ensemble(gt, gt)) == pytest.approx(0, abs=1e-6)


def test_the_same_person_costs_less_than_another():
    ensemble = IdentityEnsemble([nano_recogniser(nano.load_identity("loss"))])
    gt = photos([1, 2, 3], [10, 11, 12]).pixels
    same, other = photos([1, 2, 3], [20, 21, 22]).pixels, photos([7, 8, 9], [10, 11, 12]).pixels
    assert float(ensemble(same, gt)) < 0.5 < float(ensemble(other, gt))


def test_gradients_reach_the_restored_faces_from_every_recogniser(tmp_path):
    torch.save(IResNet(BLOCKS).state_dict(), tmp_path / "backbone.pth")
    torch.save(AdaFaceIR(BLOCKS).state_dict(), tmp_path / "adaface.ckpt")
    recognisers = [load_recogniser(tmp_path / name) for name in ("backbone.pth", "adaface.ckpt")]
    faces, gt = torch.rand(2, 1, 3, 64, 64)
    grads = []
    for some in (recognisers[:1], recognisers[1:], recognisers):
        restored, truth = faces.clone().requires_grad_(), gt.clone().requires_grad_()
        IdentityEnsemble(some)(restored, truth).backward()
        assert truth.grad is None and restored.grad.abs().max() > 0
        grads.append(restored.grad)
    torch.testing.assert_close(grads[0] + grads[1], grads[2], rtol=1e-4, atol=1e-8)


def test_overshooting_pixels_still_feel_their_error():
    ensemble = IdentityEnsemble([Recogniser(Means(1.0), name="means", dim=12)])
    restored = torch.full((1, 3, 8, 8), 1.5)
    restored[:, 0] = 0.1
    restored.requires_grad_()
    ensemble(restored, torch.rand(1, 3, 8, 8)).backward()
    assert restored.grad[:, 1:].abs().min() > 0


def test_none_or_one_of_them_twice_is_refused():
    with pytest.raises(FacewrightError, match="got none"):
        IdentityEnsemble([])
    one = Recogniser(Means(1.0), name="means", dim=12)
    with pytest.raises(FacewrightError, match=r"means:\w{16} twice"):
        IdentityEnsemble([one, one])


def test_the_config_loads_a_file_and_runs_no_program(tmp_path):
    torch.save(IResNet(BLOCKS).state_dict(), tmp_path / "backbone.pth")
    loss = RecogniserConfig(path=tmp_path / "backbone.pth").load()
    assert [r.name for r in loss.recognisers] == ["arcface-r18"]
    file = nano.NANO_DIR / "nano_identity_loss.safetensors"
    gt, other = photos([1, 2], [5, 5]).pixels[:, None]
    as_nano = RecogniserConfig(kind="nano", crop="full", path=file)
    as_file = RecogniserConfig(path=file)
    torch.testing.assert_close(as_nano.load()(gt, other), as_file.load()(gt, other))
    with pytest.raises(ValidationError, match="knows its crop"):
        RecogniserConfig(path=file, crop="full")
    with pytest.raises(ValidationError, match="'file' or 'nano'"):
        RecogniserConfig(kind="torchscript", path=file)
