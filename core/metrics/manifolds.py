"""How much of one set of features another covers, told from nearest neighbours."""

import torch
from torch import Tensor

from ..errors import FacewrightError, listed, not_finite

NEIGHBOURS = 3


def recall(real: Tensor, made: Tensor, neighbours: int = NEIGHBOURS) -> float:
    """Share of the real features that lie among the made ones.

    A real one does where it is within the distance of some made one to that one's k-th neighbour
    among the made (Kynkäänniemi et al., arXiv:1904.06991, Eq. 2). One made picture far from the
    rest covers much: see `coverage`, which outliers of the made do not help.

    Args:
        real: (n, d), scaled so that distances mean something.
        made: (m, d), m > `neighbours`.

    Returns:
        0 to 1.

    Raises:
        FacewrightError: another shape, too few rows, NaN or infinity.
    """
    real, made = _checked(real, made, neighbours)
    radius = _radius(made, neighbours)
    return float((torch.cdist(real, made) <= radius).any(1).double().mean())


def coverage(real: Tensor, made: Tensor, neighbours: int = NEIGHBOURS) -> float:
    """Share of the real features that have a made one in their neighbourhood.

    That is one within the distance of the real one to its k-th neighbour among the real (Naeem et
    al., arXiv:2002.09797, Eq. 6).

    Args:
        real: (n, d), n > `neighbours`, scaled so that distances mean something.
        made: (m, d).

    Returns:
        0 to 1.

    Raises:
        FacewrightError: another shape, too few rows, NaN or infinity.
    """
    real, made = _checked(real, made, neighbours)
    radius = _radius(real, neighbours)
    return float((torch.cdist(real, made).amin(1) <= radius).double().mean())


def _radius(x: Tensor, neighbours: int) -> Tensor:
    """(n,): each one's distance to its k-th neighbour; itself is the 0th."""
    return torch.cdist(x, x).kthvalue(neighbours + 1, 1).values


def _checked(real: Tensor, made: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    if real.ndim != 2 or made.ndim != 2 or real.shape[1] != made.shape[1]:
        raise FacewrightError(
            f"Features should be (n, d) and (m, d), got {tuple(real.shape)} and "
            f"{tuple(made.shape)}."
        )
    if neighbours < 1 or min(len(real), len(made)) <= neighbours:
        raise FacewrightError(
            f"Neighbourhoods of {neighbours} need more features than that on either side, got "
            f"{len(real)} and {len(made)}."
        )
    pair = real.detach().cpu().double(), made.detach().cpu().double()
    for x in pair:
        if bad := not_finite(x):
            raise FacewrightError(f"Features of pictures {listed(bad)} are NaN or infinite.")
    return pair
