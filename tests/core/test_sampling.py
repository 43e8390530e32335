"""Euler and DDIM against each other, against the closed form, and against plain loops."""

import math

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.sampling import (
    SCHEDULERS,
    ddim,
    ddim_timesteps,
    euler,
    guided,
    is_all_noise,
    noisy,
    sigmas,
    timestep_of,
)

BETA = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
A = (1 - BETA).cumprod(0)
SIGMA = ((1 - A) / A).sqrt()


def predict(z, t):
    return torch.tanh(z * (1 + t / 500)) * 0.7 + 0.1


def test_ddim_is_the_papers_equation_12():
    z = torch.randn(2, 3, 4, 4)
    seen = []
    out = ddim(predict, z, steps=7, on_step=lambda i, x_0: seen.append((i, x_0.shape)))
    expected = z.double()
    times = [1 + 142 * i for i in reversed(range(7))]
    for t, s in zip(times, [*times[1:], 0], strict=True):
        eps = predict(expected.float(), t).double()
        x_0 = (expected - (1 - A[t]).sqrt() * eps) / A[t].sqrt()
        expected = A[s].sqrt() * x_0 + (1 - A[s]).sqrt() * eps
    assert ddim_timesteps(7) == times
    assert seen == [(i, z.shape) for i in range(1, 8)]
    torch.testing.assert_close(out, expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_fresh_noise_is_the_papers_equation_16(eta):
    z = torch.randn(2, 3, 4, 4)
    out = ddim(predict, z, steps=7, eta=eta, generator=torch.Generator().manual_seed(5))
    again = torch.Generator().manual_seed(5)
    expected = z.double()
    times = [1 + 142 * i for i in reversed(range(7))]
    for t, s in zip(times, [*times[1:], 0], strict=True):
        eps = predict(expected.float(), t).double()
        x_0 = (expected - (1 - A[t]).sqrt() * eps) / A[t].sqrt()
        u = eta * ((1 - A[s]) / (1 - A[t])).sqrt() * (1 - A[t] / A[s]).sqrt()
        noise = torch.randn(z.shape, generator=again)
        expected = A[s].sqrt() * x_0 + (1 - A[s] - u**2).sqrt() * eps + u * noise
    torch.testing.assert_close(out, expected.float(), rtol=1e-5, atol=1e-5)


def test_euler_recovers_a_known_picture():
    """For one picture the right prediction is (x - picture) / sigma, at any number of steps."""
    picture, noise = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)

    def exact(z, t):
        return (z - A[t].sqrt() * picture) / (1 - A[t]).sqrt()

    levels = sigmas("simple", 9)
    x = euler(exact, picture + levels[0] * noise, levels)
    torch.testing.assert_close(x, picture, rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 3, 20, 37, 50])
def test_schedules_are_what_they_say(steps):
    last = torch.linspace(999, 0, steps)
    position = {
        "normal": last,
        "simple": torch.tensor([999 - int(i * 1000 / steps) for i in range(steps)]),
        "sgm_uniform": torch.linspace(999, 0, steps + 1)[:-1],
        "ddim_uniform": torch.arange(1, 1000, 1000 // steps).flip(0),
    }
    for name, timesteps in position.items():
        levels = sigmas(name, steps)
        expected = [math.exp(_interpolated(float(t))) for t in timesteps]
        torch.testing.assert_close(levels, torch.tensor([*expected, 0.0]), rtol=1e-5, atol=0)
    ends = [float(SIGMA[-1]) ** (1 / 7), float(SIGMA[0]) ** (1 / 7)]
    share = [i / max(steps - 1, 1) for i in range(steps)]
    expected = [(ends[0] + s * (ends[1] - ends[0])) ** 7 for s in share]
    torch.testing.assert_close(
        sigmas("karras", steps), torch.tensor([*expected, 0.0]), rtol=1e-4, atol=0
    )


def _interpolated(t):
    low, high = math.log(SIGMA[math.floor(t)]), math.log(SIGMA[math.ceil(t)])
    return low + (t - math.floor(t)) * (high - low)


def test_a_share_of_the_noise_is_the_end_of_a_longer_run():
    for name in SCHEDULERS:
        assert torch.equal(sigmas(name, 8, 0.4), sigmas(name, 20)[-9:])


def test_levels_find_their_timestep():
    for t in (0, 1, 500, 998, 999):
        assert timestep_of(float(SIGMA[t])) == t
    assert timestep_of(100.0) == 999
    assert is_all_noise(float(SIGMA[999])) and not is_all_noise(float(SIGMA[998]))


def test_guidance_moves_away_from_the_negative():
    calls = []

    def one(z, t):
        calls.append(t)
        return z + 1

    def other(z, t):
        return z - 1

    z = torch.zeros(1)
    assert guided(one, other, 3.0)(z, 5) == -1 + 3 * 2
    assert guided(one, other, 1.0) is one and guided(one, None, 3.0) is one
    assert calls == [5]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("beta", 5), "no scheduler 'beta' here; known: normal, karras"),
        (("normal", 0), "steps has to be 1"),
        (("normal", 5, 0.0), "denoise above 0"),
    ],
)
def test_what_is_not_there_is_refused(arguments, words):
    with pytest.raises(FacewrightError, match=words):
        sigmas(*arguments)
    with pytest.raises(FacewrightError, match="1 to 1000 steps"):
        ddim_timesteps(0)


def test_the_highest_level_is_filled_with_noise_alone():
    """z_t of the last timestep then has unit variance: x = z + sqrt(1 + sigma^2) n."""
    highest = float(SIGMA[-1])
    z = torch.zeros(1, 4, 8, 8)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(noisy(z, 3, highest), noise * (1 + highest**2) ** 0.5)
    assert torch.allclose(noisy(z + 2, 3, highest / 2), 2 + noise * highest / 2)


def test_the_nearest_timestep_is_nearest_in_the_logarithm():
    """Between the geometric and the arithmetic mean of two levels the upper one is nearer."""
    low, high = float(SIGMA[0]), float(SIGMA[1])
    between = ((low * high) ** 0.5 + (low + high) / 2) / 2
    assert timestep_of(between) == 1
