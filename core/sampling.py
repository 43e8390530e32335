"""Sampling in many steps, for hosts that bring no sampler of their own."""

from collections.abc import Callable

from torch import Tensor

from .errors import FacewrightError
from .schedule import NUM_TRAIN_TIMESTEPS, alpha_bar

Predict = Callable[[Tensor, int], Tensor]
"""(z_t, t) -> eps, both (b, c, h, w)."""


def ddim_timesteps(steps: int) -> list[int]:
    """Timesteps of `steps` DDIM steps, falling: t = i floor(1000 / steps) + 1 (SD 2.1's offset).

    Raises:
        FacewrightError: not between 1 and 1000 steps.
    """
    if not 1 <= steps <= NUM_TRAIN_TIMESTEPS:
        raise FacewrightError(f"DDIM takes 1 to {NUM_TRAIN_TIMESTEPS} steps, got {steps}.")
    stride = NUM_TRAIN_TIMESTEPS // steps
    return [min(i * stride + 1, NUM_TRAIN_TIMESTEPS - 1) for i in reversed(range(steps))]


def guided(positive: Predict, negative: Predict | None, scale: float) -> Predict:
    """Classifier-free guidance: eps = eps_n + scale (eps_p - eps_n) (arXiv:2207.12598, Eq. 6).

    Scale 1 or no negative leaves the positive prediction alone.
    """
    if negative is None or scale == 1:
        return positive

    def predict(z_t: Tensor, t: int) -> Tensor:
        away = negative(z_t, t)
        return away + scale * (positive(z_t, t) - away)

    return predict


def ddim(
    predict: Predict,
    z_T: Tensor,  # noqa: N803 (the papers' name)
    *,
    steps: int,
    on_step: Callable[[int, Tensor], None] = lambda i, x_0: None,
) -> Tensor:
    """Deterministic DDIM (arXiv:2010.02502, Eq. 12 with sigma = 0) from pure noise to x_0.

    x_0 = (z_t - sqrt(1 - a_t) eps) / sqrt(a_t);  z_s = sqrt(a_s) x_0 + sqrt(1 - a_s) eps

    Args:
        predict: the noise prediction, with guidance if wanted (`guided`).
        z_T: (b, c, h, w) standard normal noise.
        steps: 1 to 1000.
        on_step: told the number of finished steps and the current x_0; what it raises ends the run.

    Returns:
        (b, c, h, w). As in SD 2.1's scheduler the last step goes to alpha_bar at t = 0, not to 1.
    """
    a = alpha_bar().to(z_T.device)
    times = ddim_timesteps(steps)
    z = z_T
    for i, t in enumerate(times):
        eps = predict(z, t).double()
        x_0 = (z.double() - (1 - a[t]).sqrt() * eps) / a[t].sqrt()
        following = a[times[i + 1]] if i + 1 < steps else a[0]
        z = (following.sqrt() * x_0 + (1 - following).sqrt() * eps).to(z_T.dtype)
        on_step(i + 1, x_0.to(z_T.dtype))
    return z
