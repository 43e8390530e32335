"""The one-step restore: ranges, padding, conditioning and what happens to NaN."""

import pytest
import torch
import torch.nn.functional as F
from facewright.core.errors import FacewrightError, NonFiniteError
from facewright.core.restorer import ONE_STEP_TIMESTEP, restore_one_step
from facewright.core.schedule import alpha_bar


class Recorder:
    """Keeps what it was given; pooled latents, and eps equal to the latent."""

    factor = 8

    def __init__(self, broken=()):
        self.broken = list(broken)
        self.seen = {}

    def encode(self, pixels, generator=None):
        self.seen.update(pixels=pixels, generator=generator)
        return F.avg_pool2d(pixels, 8)

    def denoise(self, z_t, t, cond):
        self.seen.update(z_t=z_t, t=t, cond=cond)
        a = alpha_bar()[t]
        return (z_t.double() * (1 - (1 - a).sqrt()) / a.sqrt()).to(z_t.dtype)

    def decode(self, z_0, *, full_precision=False):
        self.seen.setdefault("decodes", []).append(full_precision)
        pixels = F.interpolate(z_0, scale_factor=8.0)
        return pixels * float("nan") if full_precision in self.broken else pixels


COND = torch.zeros(1, 77, 4)


def test_step_follows_the_equation_with_pixels_in_the_right_ranges():
    lq = torch.rand(2, 3, 16, 24)
    backbone = Recorder()
    restored, z_0 = restore_one_step(lq, torch.zeros(2, 77, 4), backbone)
    torch.testing.assert_close(backbone.seen["pixels"], lq * 2 - 1)
    z_lq = F.avg_pool2d(lq * 2 - 1, 8)
    a = float(alpha_bar()[399])
    torch.testing.assert_close(z_0, (z_lq - (1 - a) ** 0.5 * z_lq) / a**0.5)
    expected = (F.interpolate(z_0, scale_factor=8.0) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(restored, expected)
    assert backbone.seen["t"] == ONE_STEP_TIMESTEP == 399
    assert backbone.seen["generator"] is None
    assert backbone.seen["decodes"] == [False]


def test_zero_noise_only_rescales_the_latent(backbone):
    lq = torch.rand(1, 3, 16, 16)
    _, z_0 = restore_one_step(lq, COND, backbone)
    expected = F.avg_pool2d(lq * 2 - 1, 8) / float(alpha_bar()[399]) ** 0.5
    torch.testing.assert_close(z_0, expected)


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (1, 1), (8, 9)])
def test_any_size_comes_back_with_replicated_edges_inside(size):
    lq = torch.rand(1, 3, *size)
    backbone = Recorder()
    restored, _ = restore_one_step(lq, COND, backbone)
    assert restored.shape == lq.shape
    padded = backbone.seen["pixels"]
    assert padded.shape[-1] % 8 == padded.shape[-2] % 8 == 0
    torch.testing.assert_close(padded[..., : size[0], : size[1]], lq * 2 - 1)
    edge = padded[..., :, size[1] - 1 :]
    torch.testing.assert_close(edge, edge[..., :1].expand_as(edge))


def test_one_conditioning_serves_a_batch_and_others_must_match():
    backbone = Recorder()
    restore_one_step(torch.rand(3, 3, 8, 8), COND, backbone)
    assert backbone.seen["cond"].shape == (3, 77, 4)
    with pytest.raises(FacewrightError, match="holds 2 faces but `image` holds 3"):
        restore_one_step(torch.rand(3, 3, 8, 8), torch.zeros(2, 77, 4), backbone)


def test_no_face_gives_an_empty_result(backbone):
    restored, z_0 = restore_one_step(torch.empty(0, 3, 16, 16), torch.empty(0, 77, 4), backbone)
    assert restored.shape == (0, 3, 16, 16)
    assert len(z_0) == 0


def test_generator_reaches_the_vae_and_repeats(backbone):
    lq = torch.rand(1, 3, 16, 16)

    def run(seed):
        return restore_one_step(lq, COND, backbone, generator=torch.Generator().manual_seed(seed))[
            0
        ]

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_other_timesteps_are_passed_on():
    backbone = Recorder()
    restore_one_step(torch.rand(1, 3, 8, 8), COND, backbone, timestep=200)
    assert backbone.seen["t"] == 200


def test_nan_is_decoded_again_in_full_precision():
    backbone = Recorder(broken=[False])
    restored, _ = restore_one_step(torch.rand(1, 3, 8, 8), COND, backbone)
    assert backbone.seen["decodes"] == [False, True]
    assert torch.isfinite(restored).all()


def test_nan_that_stays_is_an_error_that_says_where():
    with pytest.raises(NonFiniteError, match="coming from the VAE decoder"):
        restore_one_step(torch.rand(1, 3, 8, 8), COND, Recorder(broken=[False, True]))
    lq = torch.full((1, 3, 8, 8), float("nan"))
    with pytest.raises(NonFiniteError, match="coming from the latent"):
        restore_one_step(lq, COND, Recorder())


@pytest.mark.parametrize(
    ("lq", "message"),
    [
        (torch.rand(3, 8, 8), r"should be \(b, 3, h, w\)"),
        (torch.rand(1, 8, 8, 3), "looks like a ComfyUI IMAGE"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "floating point"),
    ],
)
def test_images_of_another_layout_are_refused(lq, message, backbone):
    with pytest.raises(FacewrightError, match=message):
        restore_one_step(lq, COND, backbone)
