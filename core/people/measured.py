"""What changed between a face as it came in and as it goes out, in numbers for its receipt."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..color import rgb_to_lab, wavelet_low
from ..devices import widened
from ..faces.certainty import Certainty
from ..geometry.eyes import EYES, yaw_of
from ..geometry.landmarks import affine_landmark_distance, region_points
from ..geometry.paste import soft_box
from ..geometry.warp import pixel_grid
from ..metrics.similarity import edge_ratio

REGIONS = ("eyes", "mouth")

FEATHER = 0.12
"""Border of the paste, as Paste Faces has it by default."""
_FINEST = 16
"""Low-pass colours: what is smaller than this share, 1/16, of the crop does not count."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What changed between an input crop and what is to be pasted; NaN where it is unknown."""

    ald: dict[str, float]
    """Per region `affine_landmark_distance` of the landmarks, in pixels of the crop."""
    eye_distance: float
    """Between the eye centres of the input, in pixels of the crop."""
    color: float
    """Mean CIE76 difference of low-pass colours under the paste mask; 2.3 is just noticeable."""
    seam: float
    """Low-pass colour gradient across the paste border, relative to the input's; 1: no seam."""
    sharpness: float
    """`edge_ratio` to the input under the paste mask. Noise of the input counts as sharpness."""
    yaw: float = math.nan
    """Degrees that the face turned farther of the two is turned to a side."""
    error: dict[str, float] = field(default_factory=dict)
    """Per region how far the landmarker moves A-LD by itself, in eye distances; NaN: unknown."""

    def share(self, region: str) -> float:
        """A-LD in eye distances, which do not depend on the size of the crop."""
        return self.ald[region] / self.eye_distance if self.eye_distance > 0 else math.nan


@torch.no_grad()
def measure(
    lq: Tensor,
    result: Tensor,
    points_lq: Tensor,
    points: Tensor,
    shown: Tensor | None = None,
    feather: float = FEATHER,
    certainty: Certainty | None = None,
) -> list[Measured]:
    """Compare n crops with what came in.

    Args:
        lq, result: (n, 3, s, s) in [0, 1].
        points_lq, points: (n, 68 or 98, 2) their landmarks in pixels of the crops.
        shown: (n, 1, s, s) in [0, 1], where `result` was cut out of a finished picture: which
            pixels the restored face was put into. None: `result` is still to be pasted, and is
            taken to be, with the border `feather`.
        feather: width of that border as a share of the crop.
        certainty: what is known of the landmarker.
    """
    size = lq.shape[-1]
    if shown is None:
        mask = box_shown(size, feather).to(lq).expand(len(lq), 1, -1, -1)
        pasted = lq + mask * (result - lq)
    else:
        mask, pasted = shown.to(lq), result
    levels = max(1, round(math.log2(size / _FINEST)))
    before, after, whole = (rgb_to_lab(wavelet_low(x, levels)) for x in (lq, pasted, result))
    change = mask * (whole - before).norm(dim=1, keepdim=True)
    color = change.sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp(min=1e-6)
    sharpness = edge_ratio(result, lq, mask)
    ald = {region: _ald(points, points_lq, region) for region in REGIONS}
    first, second = (widened(points_lq[:, part]).mean(1) for part in EYES[points_lq.shape[1]])
    eyes = (first - second).norm(dim=1)
    nose = (certainty or Certainty(landmarker="", known="")).nose
    yaws = [max(yaw_of(p, nose) for p in both) for both in zip(points_lq, points, strict=True)]
    return [
        Measured(
            yaw=yaws[i],
            error={
                region: certainty.error(f"ald_{region}", yaws[i]) if certainty else math.nan
                for region in REGIONS
            },
            ald={region: float(values[i]) for region, values in ald.items()},
            eye_distance=float(eyes[i]),
            color=float(color[i]),
            seam=_seam(before[i], after[i], mask[i, 0], feather),
            sharpness=float(sharpness[i]),
        )
        for i in range(len(lq))
    ]


def box_shown(size: int, feather: float) -> Tensor:
    """(1, 1, s, s): which pixels of a crop are put in where nothing else masks them."""
    return soft_box(pixel_grid((0, 0, size, size)), size, feather)[None, None]


def _ald(points: Tensor, points_lq: Tensor, region: str) -> Tensor:
    """(n,) float64, NaN where a landmark is not finite."""
    index = region_points(points.shape[1], region)
    a, b = points[:, index], points_lq[:, index]
    good = (a.isfinite() & b.isfinite()).flatten(1).all(1)
    values = torch.full((len(a),), math.nan, dtype=torch.float64)
    if good.any():
        values[good.cpu()] = affine_landmark_distance(a[good], b[good]).cpu()
    return values


def _seam(before: Tensor, after: Tensor, mask: Tensor, feather: float) -> float:
    """Mean |d Lab / d normal| of `after` over that of `before` where the mask rises; NaN where it
    rises nowhere.

    Both get one unit of Lab per width of the border on top: flat skies have no gradient to be
    compared with, and less than that nobody sees.
    """
    size = mask.shape[-1]
    if size < 2:  # a border needs two sides
        return math.nan
    slope_y, slope_x = torch.gradient(mask)
    steep = torch.hypot(slope_x, slope_y)
    band = (steep > 0) & (mask > 0) & (mask < 1)
    normal = torch.stack([slope_y, slope_x])[:, band] / steep[band]

    def across(lab: Tensor) -> Tensor:
        dy, dx = torch.gradient(lab, dim=(1, 2))
        along = dy[..., band] * normal[0] + dx[..., band] * normal[1]
        return along.norm(dim=0).mean() + 1 / (feather * size)

    return float(across(after) / across(before))
