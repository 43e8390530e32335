"""BoostHubs on a diffusers UNet, as attention processors around each self-attention's own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import shorten
from ..methods.flipnet import (
    BoostHubs,
    Condition,
    Conditioning,
    check_condition,
    check_sites,
    find_sites,
)
from ..sampling import check_prompt
from .branches import Rows, looking_at, side_by_side
from .overflow import overflowed, widen

if TYPE_CHECKING:
    from .backbone import Model

Predict = Callable[[Tensor, int, Tensor], Tensor]
"""(z_t (b, c, h, w), t, tokens (1 or b, n, d)) -> eps, where and as z_t is."""


class BoostHubProcessor:
    """Runs the self-attention as before, then adds F_ro (`BoostHubs.joined`).

    No nn.Module on purpose: the UNet's parameters stay the UNet's own.
    """

    def __init__(self, site: str, hubs: BoostHubs, state: Conditioning, inner: Any) -> None:
        self.site, self.hubs, self.state, self.inner = site, hubs, state, inner

    def __call__(self, attn: nn.Module, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out = self.inner(attn, hidden_states, *args, **kwargs)
        return self.hubs.joined(self.site, hidden_states, out, self.state)


def attach_boosthubs(unet: nn.Module, hubs: BoostHubs, state: Conditioning) -> None:
    """Put `hubs` beside the self-attentions of a diffusers UNet, all watching one `state`."""
    for site in hubs.config.sites:
        attn = _attention(unet, site)
        attn.set_processor(BoostHubProcessor(site, hubs, state, attn.processor))


def detach_boosthubs(unet: nn.Module, hubs: BoostHubs) -> None:
    """Give each self-attention its own processor back."""
    for site in hubs.config.sites:
        attn = _attention(unet, site)
        if isinstance(attn.processor, BoostHubProcessor):
            attn.set_processor(attn.processor.inner)


def _attention(unet: nn.Module, site: str) -> Any:
    """diffusers' own `Attention`."""
    return unet.get_submodule(f"{site}.attn1")


@contextmanager
def with_boosthubs(unet: nn.Module, hubs: BoostHubs, state: Conditioning) -> Iterator[None]:
    """`hubs` beside the UNet's self-attentions inside a `with` block, for one call or many.

    Afterwards the UNet is as it was, whatever happened inside. A backward pass that computes
    activations again (gradient checkpointing) has to be inside too.
    """
    attach_boosthubs(unet, hubs, state)
    try:
        yield
    finally:
        detach_boosthubs(unet, hubs)


@dataclass(frozen=True)
class AppliedBoostHub:
    """What Apply BoostHub puts on a MODEL of the headless host."""

    hubs: BoostHubs
    condition: Condition


def check_fits(hubs: BoostHubs, unet: nn.Module, name: str) -> None:
    """Raise CheckpointError where `hubs` belong to another architecture than a diffusers UNet."""
    sites = find_sites(unet.state_dict())
    heads = {site: _attention(unet, site).heads for site in sites}
    check_sites(hubs.config, sites, heads, model=name)


@contextmanager
def predicting(model: "Model", positive: Tensor) -> Iterator[Predict]:
    """The noise prediction of a MODEL, its BoostHub included, for one run of a sampler.

    Args:
        model: with or without a BoostHub. Several of one UNet may be in use at once.
        positive: (1 or b, n, d) tokens, which the condition branch sees too unless it has its own.

    Raises:
        FacewrightError: the prompt, or the images of the condition, do not fit.
    """
    applied = model.boosthub
    if applied is None or applied.condition.phi == 0:
        yield _within_range(model, lambda z_t, t, tokens: _eps(model, z_t, t, tokens))
        return
    condition = applied.condition
    z_y, tokens = condition.branch(condition.latent.float() * model.scaling_factor, positive)
    t_y = condition.timestep
    state = Conditioning(condition.phi)

    def branch(z_t: Tensor, t: int | Tensor, cond: Tensor) -> Tensor:
        with with_boosthubs(model.unet, applied.hubs, state):
            return _eps(model, z_t, t, cond)

    def run() -> Tensor:
        return branch(z_y, t_y, tokens)

    def cached(z_t: Tensor, t: int, cond: Tensor) -> Tensor:
        check_condition(len(z_y), len(z_t))
        return branch(z_t, t, cond)

    def joint(z_t: Tensor, t: int, cond: Tensor) -> Tensor:
        check_condition(len(z_y), len(z_t))
        rows = len(z_t)
        mine = Rows(z_t, torch.tensor([t] * rows), cond.expand(rows, -1, -1))
        return side_by_side(state, branch, mine, Rows(z_y, torch.tensor([t_y]), tokens), run=run)

    def look_again() -> None:
        state.phase = "capture"
        run()
        state.phase = "read"

    if condition.mode == "joint":
        yield _within_range(model, joint)
        return
    with looking_at(state, run):
        yield _within_range(model, cached, look_again)


def _within_range(
    model: "Model", predict: Predict, before_again: Callable[[], object] = lambda: None
) -> Predict:
    """`predict`, once more with the UNet in float32 where float16 was too short."""

    def checked(z_t: Tensor, t: int, tokens: Tensor) -> Tensor:
        eps = predict(z_t, t, tokens)
        if overflowed(eps, model.unet) and torch.isfinite(z_t).all():
            widen(model.unet, what=f"The UNet of {shorten(model.name)}")
            before_again()
            eps = predict(z_t, t, tokens)
        return eps

    return checked


@torch.no_grad()
def _eps(model: "Model", z_t: Tensor, t: int | Tensor, cond: Tensor) -> Tensor:
    check_prompt(cond, model.config["cross_attention_dim"], model=model.name)
    first = next(model.unet.parameters())
    z = z_t.to(first.device, first.dtype, memory_format=torch.channels_last)
    if isinstance(t, Tensor):
        t = t.to(first.device)
    cond = cond.to(first.device, first.dtype).expand(len(z), -1, -1)
    return model.unet(z, t, encoder_hidden_states=cond).sample.to(z_t)
