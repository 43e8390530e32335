"""Where on a face its prompt tokens come from, as a picture."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..errors import check_image

_SURE = torch.tensor([1.0, 0.85, 0.2])
_UNSURE = torch.tensor([0.15, 0.35, 1.0])
_TINT, _DIM = 0.45, 0.25


def token_map(lq: Tensor, positions: Tensor, grid_size: int, size: int = 512) -> Tensor:
    """Paint the cells a face's tokens were taken from, from confident (yellow) to doubtful (blue).

    Cells that gave no token, because their code was already taken or too doubtful, stay dim: a face
    of which much stays dim has little left that the embedder recognises.

    Args:
        lq: (b, 3, h, w) in [0, 1], what was embedded.
        positions: (b, n) int64 row-major cell per token, most confident first; -1 where none.
        grid_size: cells along one side.
        size: side of the picture in pixels.

    Returns:
        (b, 3, size, size) in [0, 1] on the CPU.
    """
    check_image(lq, name="lq")
    lq, positions = lq.float().cpu(), positions.cpu()
    if not len(lq):
        return lq.new_zeros(0, 3, size, size)
    # Painted one by one: large pictures, and five steps for each.
    out = lq.new_empty(len(lq), size, size, 3).permute(0, 3, 1, 2)
    for picture, face, cells in zip(out, lq, positions, strict=True):
        picture.copy_(_painted(face[None], cells[None], grid_size, size)[0])
    return out


def _painted(lq: Tensor, positions: Tensor, grid_size: int, size: int) -> Tensor:
    rank = torch.linspace(0, 1, positions.shape[1])
    colors = torch.lerp(_SURE, _UNSURE, rank[:, None]).expand(len(lq), -1, -1)
    cells = grid_size**2
    # One cell more than there is takes the tokens that have no position.
    target = torch.where(positions < 0, cells, positions)
    tint = torch.zeros(len(lq), cells + 1, 3).scatter(
        1, target[..., None].expand(-1, -1, 3), colors
    )
    used = torch.zeros(len(lq), cells + 1).scatter(1, target, 1.0)

    def enlarge(x: Tensor) -> Tensor:
        grid = rearrange(x[:, :cells], "b (h w) c -> b c h w", h=grid_size)
        return F.interpolate(grid, (size, size), mode="nearest")

    face = F.interpolate(lq, (size, size), mode="bilinear")
    lit = torch.lerp(face, enlarge(tint), _TINT)
    return torch.lerp(face * _DIM, lit, enlarge(used[..., None])).clamp(0, 1)
