"""Sampling in many steps, for hosts that bring no sampler of their own.

Two notations for one thing: z_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps of unit variance, which
networks see, and x = z_t / sqrt(a_t) = x_0 + sigma eps, in which deterministic DDIM is Euler's
method (Karras et al. 2022, arXiv:2206.00364, App. C). Schedules follow ComfyUI's to the last bit
that decides a timestep, so that a workflow gives the same picture in either host; diffusers' do
not. The exception is fresh noise (`eta`): ours starts from seed + 1 on the CPU, as that of newer
ComfyUI versions does there. ComfyUI 0.3.64 starts it from the seed itself, so on a CPU the first
fresh noise repeats the noise the run began with; a GPU draws other numbers. Pictures of these
differ from ours.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Generator, Tensor

from .devices import narrowed, widened
from .errors import FacewrightError
from .schedule import NUM_TRAIN_TIMESTEPS, alpha_bar, sigma_of

Predict = Callable[[Tensor, int], Tensor]
"""(z_t, t) -> eps, both (b, c, h, w)."""

SCHEDULERS = ("normal", "karras", "simple", "sgm_uniform", "ddim_uniform")
_RHO = 7.0
"""Karras et al. 2022, Eq. 5."""


def _log_sigmas() -> Tensor:
    # Rounded to float32 as ComfyUI holds them: halfway cases fall to the same timestep.
    return sigma_of(alpha_bar()).log().float()


def _sigma_at(timestep: Tensor) -> float:
    """Noise level at a timestep that may lie between two."""
    levels = _log_sigmas()
    low, high = levels[timestep.floor().long()], levels[timestep.ceil().long()]
    share = timestep.frac()
    return float(((1 - share) * low + share * high).exp())


def timestep_of(sigma: float) -> int:
    """The trained timestep whose noise level is nearest, on a logarithmic scale."""
    log_sigma = torch.tensor(sigma, dtype=torch.float32).log()
    return int((log_sigma - _log_sigmas()).abs().argmin())


def sigmas(scheduler: str, steps: int, denoise: float = 1.0) -> Tensor:
    """Noise levels of a run, falling, the last one 0.

    normal: timesteps evenly from 999 to 0. karras: even in sigma^(1/7) (arXiv:2206.00364, Eq. 5).
    simple: every (1000/steps)-th timestep from 999 down. sgm_uniform: as normal with one timestep
    more, the last left out. ddim_uniform: 1, 1 + s, 1 + 2 s, ... with s = floor(1000 / steps); one
    or two levels more than `steps` where s does not divide 999 evenly, as in ComfyUI.

    Args:
        scheduler: one of SCHEDULERS.
        steps: at least 1.
        denoise: share of the noise, in (0, 1]; below 1 the last `steps` of int(steps / denoise).

    Returns:
        (steps + 1,) float32.

    Raises:
        FacewrightError: another scheduler, no step, or a share that is none.
    """
    if scheduler not in SCHEDULERS:
        raise FacewrightError(
            f"There is no scheduler {scheduler!r} here; known: {', '.join(SCHEDULERS)}."
        )
    if not 1 <= steps <= NUM_TRAIN_TIMESTEPS or not 0 < denoise <= 1:
        raise FacewrightError(
            f"steps has to be 1 to {NUM_TRAIN_TIMESTEPS} and denoise above 0 and at most 1; got "
            f"{steps} and {denoise}."
        )
    if denoise > 0.9999:
        return _sigmas(scheduler, steps)
    return _sigmas(scheduler, int(steps / denoise))[-(steps + 1) :]


def _sigmas(scheduler: str, steps: int) -> Tensor:
    known = sigma_of(alpha_bar()).float()
    last = NUM_TRAIN_TIMESTEPS - 1
    if scheduler == "karras":
        ramp = torch.linspace(0, 1, steps)
        high, low = float(known[-1]) ** (1 / _RHO), float(known[0]) ** (1 / _RHO)
        return torch.cat([(high + ramp * (low - high)) ** _RHO, torch.zeros(1)])
    if scheduler == "simple":
        levels = [known[-(1 + int(i * NUM_TRAIN_TIMESTEPS / steps))] for i in range(steps)]
    elif scheduler == "ddim_uniform":
        levels = list(known[1 :: max(NUM_TRAIN_TIMESTEPS // steps, 1)].flip(0))
    elif scheduler == "sgm_uniform":
        levels = [_sigma_at(t) for t in torch.linspace(last, 0, steps + 1)[:-1]]
    else:
        levels = [_sigma_at(t) for t in torch.linspace(last, 0, steps)]
    return torch.tensor([*map(float, levels), 0.0])


def is_all_noise(sigma: float) -> bool:
    """Whether this is the highest noise level there is: z_T is then taken for pure noise."""
    highest = float(sigma_of(alpha_bar()[-1]))
    return sigma > highest * (1 - 1e-5)


def ddim_timesteps(steps: int) -> list[int]:
    """Timesteps of `steps` DDIM steps, falling: t = i floor(1000 / steps) + 1 (SD 2.1's offset).

    Raises:
        FacewrightError: not between 1 and 1000 steps.
    """
    if not 1 <= steps <= NUM_TRAIN_TIMESTEPS:
        raise FacewrightError(f"DDIM takes 1 to {NUM_TRAIN_TIMESTEPS} steps, got {steps}.")
    stride = NUM_TRAIN_TIMESTEPS // steps
    return [min(i * stride + 1, NUM_TRAIN_TIMESTEPS - 1) for i in reversed(range(steps))]


def check_prompt(tokens: Tensor, width: int, *, model: str) -> None:
    """Refuse a prompt (b, n, d) for another model before the network stumbles over it.

    Args:
        tokens: the prompt.
        width: d that the model's cross-attention takes.
        model: its name, for the message.

    Raises:
        FacewrightError: d is not `width`.
    """
    if tokens.shape[-1] != width:
        raise FacewrightError(
            f"The conditioning has {tokens.shape[-1]} channels, but {model} takes {width}. Use the "
            "embedder that belongs to this model."
        )


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


def noisy(z: Tensor, seed: int, sigma: float, *, one_noise: bool = False) -> Tensor:
    """x at the first noise level: what is there, and noise that `seed` and the shape decide.

    Args:
        z: (b, c, h, w).
        seed: of the noise, drawn on the CPU.
        sigma: the noise level.
        one_noise: the same noise for every image.
    """
    noise = _randn(z, Generator().manual_seed(seed), one_noise)
    # At the highest level sigma stands for no signal at all, so noise fills its share too.
    return z + noise * ((1 + sigma**2) ** 0.5 if is_all_noise(sigma) else sigma)


def _randn(like: Tensor, generator: Generator | None, one_noise: bool) -> Tensor:
    return torch.randn((like[:1] if one_noise else like).shape, generator=generator).to(like)


def euler(
    predict: Predict,
    x: Tensor,
    levels: Tensor,
    *,
    eta: float = 0.0,
    generator: Generator | None = None,
    one_noise: bool = False,
    on_step: Callable[[int, Tensor], None] = lambda i, x_0: None,
) -> Tensor:
    """Follow dx/dsigma = eps(x / sqrt(1 + sigma^2), t(sigma)) from the first level to the last.

    With eta, part of the noise is fresh in every step from sigma to s ("ancestral"):
    u = eta s sqrt(1 - s^2 / sigma^2);  x' = x_0 + sqrt(s^2 - u^2) eps + u n,  n ~ N(0, 1).

    Args:
        predict: the noise prediction, with guidance if wanted (`guided`).
        x: (b, c, h, w) = x_0 + levels[0] eps.
        levels: (n + 1,) falling noise levels, from `sigmas`.
        eta: 0 to 1, share of fresh noise. Where a network predicts badly at high noise, 1 keeps
            its early mistakes from staying in the picture.
        generator: of the fresh noise, on the CPU.
        one_noise: the same fresh noise for every image, so that none depends on the others.
        on_step: told the number of finished steps and the current x_0; what it raises ends the run.

    Returns:
        (b, c, h, w): x at the last level, which is x_0 where that is 0. Summed in float64.
    """
    like, x = x, widened(x)
    for i, (sigma, following) in enumerate(pairwise(levels.tolist())):
        z_t = narrowed(x / (1 + sigma**2) ** 0.5, like)
        eps = widened(predict(z_t, timestep_of(sigma)))
        x_0 = x - sigma * eps
        fresh = eta * following * max(1 - (following / sigma) ** 2, 0) ** 0.5
        x = x_0 + (following**2 - fresh**2) ** 0.5 * eps
        if fresh:
            x += fresh * _randn(x, generator, one_noise)
        on_step(i + 1, narrowed(x_0, like))
    return narrowed(x, like)


def ddim(
    predict: Predict,
    z_T: Tensor,  # noqa: N803 (the papers' name)
    *,
    steps: int,
    eta: float = 0.0,
    generator: Generator | None = None,
    on_step: Callable[[int, Tensor], None] = lambda i, x_0: None,
) -> Tensor:
    """DDIM (arXiv:2010.02502, Eq. 12 and 16) from pure noise to x_0; deterministic with eta 0.

    x_0 = (z_t - sqrt(1 - a_t) eps) / sqrt(a_t)
    u = eta sqrt((1 - a_s) / (1 - a_t)) sqrt(1 - a_t / a_s)
    z_s = sqrt(a_s) x_0 + sqrt(1 - a_s - u^2) eps + u n

    Args:
        predict: the noise prediction, with guidance if wanted (`guided`).
        z_T: (b, c, h, w) standard normal noise.
        steps: 1 to 1000.
        eta, generator: of the fresh noise n, as for `euler`.
        on_step: as for `euler`.

    Returns:
        (b, c, h, w). As in SD 2.1's scheduler the last step goes to alpha_bar at t = 0, not to 1.
    """
    a = alpha_bar()
    levels = sigma_of(a[[*ddim_timesteps(steps), 0]])
    x = widened(z_T) / a[ddim_timesteps(steps)[0]].sqrt()

    x = euler(
        lambda z_t, t: predict(narrowed(z_t, z_T), t),
        x,
        levels,
        eta=eta,
        generator=generator,
        on_step=lambda i, x_0: on_step(i, narrowed(x_0, z_T)),
    )
    return narrowed(x * a[0].sqrt(), z_T)
