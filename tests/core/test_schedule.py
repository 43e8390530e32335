"""The noise schedule against plain float64 arithmetic and the released one-step formula."""

import math

import numpy as np
import pytest
import torch
from facewright.core.schedule import add_noise, alpha_bar, eps_to_x0, sigma_of


def test_alpha_bar_equals_a_loop_in_float64():
    product, expected = 1.0, []
    for i in range(1000):
        root = math.sqrt(0.00085) + (math.sqrt(0.012) - math.sqrt(0.00085)) * i / 999
        product *= 1 - root**2
        expected.append(product)
    assert alpha_bar().dtype == torch.float64
    np.testing.assert_allclose(alpha_bar().numpy(), expected, rtol=1e-12)


def test_alpha_bar_matches_the_released_table(golden):
    torch.testing.assert_close(
        alpha_bar().float(), golden["step.alphas_cumprod"], rtol=2e-6, atol=0
    )


def test_sigma_of_the_one_step_timestep():
    assert float(sigma_of(alpha_bar()[399])) == pytest.approx(1.1605783, rel=1e-6)


def test_eps_to_x0_reproduces_the_released_step(golden):
    table = golden["step.alphas_cumprod"].double()
    x_0 = eps_to_x0(golden["step.z_L"], golden["step.eps"], table[399:400])
    assert x_0.dtype == torch.float32
    torch.testing.assert_close(x_0, golden["step.x0"], atol=1e-6, rtol=0)
    x_0 = eps_to_x0(golden["step.z_L"], golden["step.eps"], alpha_bar()[399:400])
    torch.testing.assert_close(x_0, golden["step.x0"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_add_noise_and_eps_to_x0_invert_each_other(dtype):
    x_0, eps = torch.randn(2, 3, 4, 5, 5, dtype=torch.float64).to(dtype)
    a = alpha_bar()[torch.tensor([10, 399, 800])]
    z_t = add_noise(x_0, eps, a)
    assert z_t.dtype == dtype
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 0.05}[dtype]
    torch.testing.assert_close(eps_to_x0(z_t, eps, a), x_0, atol=tolerance, rtol=0)
    one = add_noise(x_0[1:2], eps[1:2], a[1:2])
    assert torch.equal(one, z_t[1:2])


def test_add_noise_keeps_unit_variance_and_is_differentiable():
    x_0 = torch.randn(1, 1, 200, 200, requires_grad=True)
    z_t = add_noise(x_0, torch.randn(1, 1, 200, 200), alpha_bar()[399:400])
    assert float(z_t.detach().std()) == pytest.approx(1, abs=0.02)
    z_t.sum().backward()
    expected = torch.full_like(x_0, float(alpha_bar()[399].sqrt()))
    torch.testing.assert_close(x_0.grad, expected)
