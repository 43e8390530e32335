"""What lets large networks fit: recomputed activations, frozen weights in half precision."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...core.modules.autoencoder import AttnBlock, ResBlock
from .._lora import MergedCall
from ..settings.config import ConfigError

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""What the words for a precision in a config mean."""


class _Recomputed:
    """A block's forward that keeps its input alone and runs again in the backward pass."""

    def __init__(self, block: nn.Module) -> None:
        self.block = block

    def __call__(self, x: Tensor) -> Tensor:
        forward = type(self.block).forward
        if not torch.is_grad_enabled():
            return forward(self.block, x)
        return checkpoint(forward, self.block, x, use_reentrant=False)


def recompute_activations(net: nn.Module) -> None:
    """Gradient checkpointing (arXiv:1604.06174) of diffusers' networks and of our autoencoders.

    Gradients stay equal; a step costs one more forward pass of what is recomputed.

    Raises:
        ConfigError: the network merges its LoRA anew in every call, which a second pass would miss.
    """
    for module in net.modules():
        if isinstance(module, MergedCall):
            raise ConfigError(
                "`gradient_checkpointing: true` does not go with `recipe.merged: true`, which is "
                "for small networks. Set one of them to false."
            )
        if isinstance(module, ResBlock | AttnBlock):
            module.forward = _Recomputed(module)
        elif callable(enable := getattr(module, "enable_gradient_checkpointing", None)):
            enable()


def hold_in(dtype: torch.dtype, nets: dict[str, nn.Module], names: tuple[str, ...]) -> None:
    """Keep frozen weights in `dtype`; what is trained stays as it is.

    Args:
        nets: by name.
        names: networks, or parts of them as `name.path.of.the.part`.
    """
    for full in names:
        name, _, path = full.partition(".")
        if name not in nets:
            continue
        for p in nets[name].get_submodule(path).parameters():
            if not p.requires_grad and p.is_floating_point():
                p.data = p.data.to(dtype)


def compile_in_place(net: nn.Module) -> None:
    """torch.compile of `net`, which stays the same object."""
    from torch._functorch import config

    # Else a compiled backward frees what it read, and losses that weigh their terms by gradients
    # (`losses.adversarial.adaptive_weight`) go through it twice.
    config.donated_buffer = False
    net.compile()
