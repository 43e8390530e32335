"""How far a restored face has drifted from the person, given any face recogniser's embeddings."""

from collections.abc import Sequence

import torch

from ..devices import widened
from ..errors import FacewrightError, listed

_AT_ONCE = 2**22
"""Cosines that are held at a time."""
_ROUNDING = 1e-12
"""By less than this a product of matrices does not tell which of two cosines is larger."""


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
    _check_pairs(a, b)
    u, v = _unit(a, "a"), _unit(b, "b")
    return torch.rad2deg(2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1)))


def identity_cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cosine of two embeddings, a.b / |a||b|: 1 the same direction, 0 unrelated.

    Args:
        a, b: (n, d) embeddings of any length but 0.

    Returns:
        (n,) float64 in [-1, 1]; exactly 1 for equal embeddings, symmetric.

    Raises:
        FacewrightError: as `identity_degrees`.
    """
    _check_pairs(a, b)
    # A sum of products would miss 1 for equal embeddings by a rounding.
    return 1 - (_unit(a, "a") - _unit(b, "b")).square().sum(1) / 2


def identity_rank(
    embeddings: torch.Tensor, gallery: torch.Tensor, own: Sequence[int] | None = None
) -> torch.Tensor:
    """Find each face's own original among all originals: 1 where no other has a higher cosine.

    rank_i = 1 + #{j : cos(e_i, g_j) > cos(e_i, g_own(i))}. An equal cosine goes to the own one.

    Args:
        embeddings: (n, d) of restored faces, of any length but 0.
        gallery: (m, d) of the originals.
        own: row of `gallery` of each embedding; None: the row of its own number.

    Returns:
        (n,) float64, whole numbers from 1 to m.

    Raises:
        FacewrightError: lengths that differ, or an embedding that is zero or not finite.
    """
    own = range(len(embeddings)) if own is None else own
    if embeddings.ndim != 2 or gallery.ndim != 2 or embeddings.shape[1] != gallery.shape[1]:
        raise FacewrightError(
            "Embeddings (n, d) are ranked among a gallery (m, d) of one recogniser, got "
            f"{tuple(embeddings.shape)} and {tuple(gallery.shape)}."
        )
    if len(own) != len(embeddings) or not all(0 <= i < len(gallery) for i in own):
        raise FacewrightError(
            f"Each of {len(embeddings)} embeddings needs its own row among the {len(gallery)} of "
            "the gallery."
        )
    u, v = _unit(embeddings, "embeddings"), _unit(gallery, "gallery")
    if not len(u):
        return u.new_zeros(0)
    ranks, places = [], torch.tensor(list(own), device=u.device)
    chunk = max(1, _AT_ONCE // len(v))
    for rows, at in zip(u.split(chunk), places.split(chunk), strict=True):
        about = rows @ v.T
        ahead = about - about.gather(1, at[:, None])
        rank = 1 + (ahead > _ROUNDING).sum(1)
        close = ahead.abs() <= _ROUNDING
        for i in (close.sum(1) > 1).nonzero().flatten().tolist():
            # Term by term: a picture's rank does not depend on who else is ranked.
            near = close[i].nonzero().flatten()
            cosines = (v[near] * rows[i]).sum(1)
            rank[i] += (cosines > cosines[near == at[i]]).sum()
        ranks.append(rank)
    return torch.cat(ranks).to(u)


def first_in_rank(
    embeddings: torch.Tensor, gallery: torch.Tensor, own: Sequence[int] | None = None
) -> torch.Tensor:
    """Tell where `identity_rank` is 1: 1.0 there, else 0.0. Its mean is the rank-1 rate."""
    ranks = identity_rank(embeddings, gallery, own)
    return (ranks == 1).to(ranks)


def _check_pairs(a: torch.Tensor, b: torch.Tensor) -> None:
    if a.ndim != 2 or a.shape != b.shape:
        raise FacewrightError(
            "Two batches of embeddings (n, d) of one shape are compared, got "
            f"{tuple(a.shape)} and {tuple(b.shape)}."
        )


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
