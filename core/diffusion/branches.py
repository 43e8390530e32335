"""FLIPNET's two branches as calls of one denoiser, whoever owns the network.

A host or a trainer gives functions that call its network; in which order they are called, on which
rows, and what the BoostHubs read then, is the same for all and stands here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from ..methods.flipnet import Conditioning, rows_for


class Rows(NamedTuple):
    """What one branch gives the network."""

    z: Tensor
    """(b, c, h, w) latents."""
    t: Tensor
    """(1,) or (b,) timesteps."""
    tokens: Tensor
    """(b, n, d) prompt."""


@contextmanager
def looking_at(state: Conditioning, run: Callable[[], object]) -> Iterator[None]:
    """Call the network on the condition alone, and let the BoostHubs read that inside the block.

    Keys and values last as long as the block: hundreds of MB at SD 2.1's size.

    Args:
        state: of the BoostHubs on the network.
        run: calls the network on the condition branch.
    """
    state.phase = "capture"
    try:
        run()
        state.phase = "read"
        yield
    finally:
        state.kept.clear()


def side_by_side(
    state: Conditioning,
    call: Callable[[Tensor, Tensor, Tensor], Tensor],
    mine: Rows,
    condition: Rows,
    *,
    run: Callable[[], object],
    chunks: int = 1,
    apart: bool = False,
) -> Tensor:
    """What the network makes of `mine` while its BoostHubs read the condition of the same call.

    Args:
        state: of the BoostHubs on the network.
        call: the network, on the rows of both branches or on `mine`.
        mine: the rows of the input branch.
        condition: one row for all images, or one for each.
        run: as for `looking_at`; where no tensor holds both branches, one runs after the other.
        chunks: groups of rows that each hold the whole batch (positive and negative prompt).
        apart: whether the branches cannot share a call for reasons of the host's.

    Returns:
        (b, c, h, w), for the rows of `mine` alone.
    """
    pairs = ((mine.z, condition.z), (mine.tokens, condition.tokens))
    if apart or any(a.shape[1:] != b.shape[1:] for a, b in pairs):
        with looking_at(state, run):
            return call(*mine)
    state.phase, state.rows = "joint", len(mine.z)
    theirs = (rows_for(b.to(a), len(mine.z), chunks) for a, b in zip(mine, condition, strict=True))
    both = (torch.cat(pair) for pair in zip(mine, theirs, strict=True))
    return call(*both)[: len(mine.z)]
