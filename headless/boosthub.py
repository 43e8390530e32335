"""BoostHubs on a diffusers UNet, as attention processors around each self-attention's own."""

from typing import Any

from torch import Tensor, nn

from ..core.methods.flipnet import BoostHubs, Conditioning


class BoostHubProcessor:
    """Runs the self-attention as before, then adds F_ro (`BoostHubs.joined`).

    No nn.Module on purpose: the UNet's parameters stay the UNet's own.
    """

    def __init__(self, site: str, hubs: BoostHubs, state: Conditioning, inner: Any) -> None:
        self.site, self.hubs, self.state, self.inner = site, hubs, state, inner

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        out = self.inner(attn, hidden_states, *args, **kwargs)
        return self.hubs.joined(self.site, hidden_states, out, self.state)


def attach_boosthubs(unet: nn.Module, hubs: BoostHubs, state: Conditioning) -> None:
    """Put `hubs` beside the self-attentions of a diffusers UNet, all watching one `state`."""
    for site in hubs.config.sites:
        attn = unet.get_submodule(f"{site}.attn1")
        attn.set_processor(BoostHubProcessor(site, hubs, state, attn.processor))


def detach_boosthubs(unet: nn.Module, hubs: BoostHubs) -> None:
    """Give each self-attention its own processor back."""
    for site in hubs.config.sites:
        attn = unet.get_submodule(f"{site}.attn1")
        if isinstance(attn.processor, BoostHubProcessor):
            attn.set_processor(attn.processor.inner)
