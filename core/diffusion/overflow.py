"""float16 ends at 65504: what a network took beyond that is computed again, by it in float32."""

import logging

import torch
from torch import Tensor, nn

_LOG = logging.getLogger(__name__)


def dtype_of(module: nn.Module) -> torch.dtype:
    """The number format of a network's weights."""
    return next(module.parameters()).dtype


def overflowed(found: Tensor, module: nn.Module) -> bool:
    """Whether what a network made is not finite, and may be so for its format alone.

    Asks the device, which waits for it; in bfloat16, whose range is float32's, nobody asks.
    """
    return dtype_of(module) == torch.float16 and not bool(torch.isfinite(found).all())


def widen(*modules: nn.Module, what: str) -> None:
    """Hold networks in float32 from now on, which the log says; their weights keep their values.

    Where one picture leaves the range others do, too, and twice the work for each would be slower.
    """
    before = str(dtype_of(modules[0])).removeprefix("torch.")
    for layer in (layer for module in modules for layer in module.modules()):
        for name, weight in list(layer.named_parameters(recurse=False)):
            # New ones, layer by layer: other models may share the old, and one of each is enough.
            setattr(layer, name, nn.Parameter(weight.detach().float(), requires_grad=False))
    _LOG.warning(
        "%s left the range of %s. It computes in float32 from now on, until it is loaded again.",
        what,
        before,
    )
