"""Where the face is, as a mask over pixels."""

import torch
from torch import Tensor


def box_mask(box: Tensor, height: int, width: int) -> Tensor:
    """(b, 4) boxes x0 y0 x1 y1 in pixels -> (b, 1, height, width) of 0 and 1.

    A pixel counts where its centre lies inside; pixel i is centred at i.
    """
    x = torch.arange(width, device=box.device)
    y = torch.arange(height, device=box.device)
    x0, y0, x1, y1 = box[:, :, None].unbind(1)
    columns = (x >= x0) & (x <= x1)
    rows = (y >= y0) & (y <= y1)
    return (rows[:, None, :, None] & columns[:, None, None, :]).float()
