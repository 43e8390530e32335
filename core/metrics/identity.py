"""How far a restored face has drifted from the person, given any face recogniser's embeddings."""

import torch

from ..devices import widened
from ..errors import FacewrightError, listed


def identity_degrees(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Angle between two embeddings ("Deg."), arccos(a.b / |a||b|) in degrees.

    Computed as 2 atan2(|u - v|, |u + v|) for the unit vectors u and v, which keeps all digits near
    0 and 180 degrees, where arccos of a rounded cosine loses half of them or gives NaN. Every pair
    counts: VQFR's script leaves pairs below 1 degree out of its mean. Values depend on the
    recogniser and on how it is fed, so compare them only within one setting.

    Args:
        a, b: (n, d) embeddings of any length but 0.

    Returns:
        (n,) float64 in [0, 180]; exactly 0 for equal embeddings, symmetric.

    Raises:
        FacewrightError: shapes that differ, or an embedding that is zero or not finite.
    """
    if a.ndim != 2 or a.shape != b.shape:
        raise FacewrightError(
            "Two batches of embeddings (n, d) of one shape are compared, got "
            f"{tuple(a.shape)} and {tuple(b.shape)}."
        )
    u, v = _unit(a, "a"), _unit(b, "b")
    return torch.rad2deg(2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1)))


def _unit(x: torch.Tensor, name: str) -> torch.Tensor:
    x = widened(x)
    length = x.norm(dim=1, keepdim=True)
    bad = (~(length.isfinite() & (length > 0))).flatten().nonzero().flatten().tolist()
    if bad:
        raise FacewrightError(
            f"Embeddings of `{name}` at {listed(bad)} are zero, NaN or infinite and have no "
            "direction; check that the recogniser saw a face there."
        )
    return x / length
