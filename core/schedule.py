"""The noise schedule of Stable Diffusion 2.1-base and the algebra between z_t, eps and x_0."""

import torch
from torch import Tensor

from .devices import narrowed, wide_device, widened

NUM_TRAIN_TIMESTEPS = 1000


def alpha_bar() -> Tensor:
    """Cumulative product of 1 - beta_t for SD 2.1-base.

    "scaled_linear": sqrt(beta) runs linearly from sqrt(0.00085) to sqrt(0.012)
    (SD 2.1-base scheduler_config.json).

    Returns:
        (1000,) float64, falling from 0.99915 to 0.0047.
    """
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, NUM_TRAIN_TIMESTEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - beta, 0)


def sigma_of(alpha_bar_t: Tensor) -> Tensor:
    """sigma = sqrt((1 - alpha_bar) / alpha_bar), the k-diffusion noise level of a timestep."""
    return ((1 - alpha_bar_t) / alpha_bar_t).sqrt()


def _per_image(alpha_bar_t: Tensor, like: Tensor) -> Tensor:
    """In float64, beside what `widened(like)` gives."""
    a = widened(torch.as_tensor(alpha_bar_t)).to(wide_device(like.device))
    return a.reshape(a.shape + (1,) * (like.ndim - a.ndim))


def eps_to_x0(z_t: Tensor, eps: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """Recover the clean latent from a noise prediction.

    x_0 = (z_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t)
    (Ho et al. 2020, arXiv:2006.11239, Eq. 15; OSDFace, arXiv:2411.17163, Eq. 2).

    Args:
        z_t: (b, c, h, w) latent at timestep t, scaled to about unit variance.
        eps: (b, c, h, w) predicted noise.
        alpha_bar_t: (b,) or (1,) in (0, 1].

    Returns:
        (b, c, h, w) in the dtype of `z_t`. Computed in float64, as the released inference does.
    """
    a = _per_image(alpha_bar_t, z_t)
    return narrowed((widened(z_t) - (1 - a).sqrt() * widened(eps)) / a.sqrt(), z_t)


def add_noise(x_0: Tensor, eps: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """z_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps (arXiv:2006.11239, Eq. 4).

    Shapes as in `eps_to_x0`; differentiable; keeps the dtype of `x_0`.
    """
    a = _per_image(alpha_bar_t, x_0)
    return narrowed(a.sqrt(), x_0) * x_0 + narrowed((1 - a).sqrt(), x_0) * eps
