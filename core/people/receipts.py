"""A receipt for a restored face: what became of it, measured against what came in."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..color import rgb_to_lab, wavelet_low
from ..devices import widened
from ..errors import FacewrightError, shorten
from ..files import json_text
from ..geometry.eyes import EYES
from ..geometry.landmarks import affine_landmark_distance, region_points
from ..geometry.paste import soft_box
from ..geometry.warp import pixel_grid
from ..metrics.similarity import edge_ratio

REGIONS = ("eyes", "mouth")
FORMAT = "facewright.receipts"
VERSION = 1
KEYWORD = "facewright_receipts"
"""Of the text chunk in PNGs."""

_FEATHER = 0.12
"""Border of the paste, as Paste Faces has it by default."""
_FINEST = 16
"""Low-pass colours: what is smaller than this share, 1/16, of the crop does not count."""


Verdict = Literal["kept", "lowered", "fell back", "too far"]


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

    def share(self, region: str) -> float:
        """A-LD in eye distances, which do not depend on the size of the crop."""
        return self.ald[region] / self.eye_distance if self.eye_distance > 0 else math.nan


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One face: how far it drifted, what was done about it, and what changed."""

    face: int
    person: str | None
    """Whose album the references are from; None without one."""
    anchor: Literal["references", "input"]
    """What the drift is measured from."""
    verdict: Verdict
    strength: float
    """Share of the restored face in the result: 1 as it came, 0 the input."""
    max_drift: float
    drift: float
    """1 - cosine(result, anchor)."""
    drift_restored: float
    """1 - cosine(restored, anchor), before anything was done about it."""
    cosine_input: float
    """Of the result and the input."""
    cosine_references: float
    """Of the result and the references; NaN without any."""
    measured: Measured

    def entry(self) -> dict[str, Any]:
        """For JSON: finite numbers or None."""
        m = self.measured
        content = {
            "face": self.face,
            "person": self.person,
            "anchor": self.anchor,
            "verdict": self.verdict,
            "strength": self.strength,
            "max_drift": self.max_drift,
            "drift": self.drift,
            "drift_restored": self.drift_restored,
            "cosine": {"input": self.cosine_input, "references": self.cosine_references},
            "a_ld": {
                region: {"px": m.ald[region], "eye_distances": m.share(region)}
                for region in REGIONS
            },
            "color_difference": m.color,
            "seam": m.seam,
            "sharpness": m.sharpness,
        }
        return json_text.strict(content, digits=6)

    def line(self) -> str:
        """For people."""
        who = f"face {self.face}" + (f" ({self.person})" if self.person else "")
        return f"{who}: {self._what()}; {', '.join(self._numbers())}"

    def _what(self) -> str:
        source = "the references" if self.anchor == "references" else "the input"
        over = (
            f"drift from {source} {number(self.drift_restored)} is more than {self.max_drift:.2f}"
        )
        now = f"drift {number(self.drift)}"
        if self.verdict == "kept":
            return f"kept, {now} from {source}"
        if self.verdict == "lowered":
            return f"strength lowered to {self.strength:.1f}, as {over}; now {now}"
        if self.verdict == "too far":
            return f"kept although {over}"
        even = ""
        if not self.drift <= self.max_drift:
            even = f", whose own is {number(self.drift)}"
        return f"fell back to the input{even}, as {over}"

    def _numbers(self) -> list[str]:
        m = self.measured
        moved = ", ".join(f"{region} {number(m.share(region))}" for region in REGIONS)
        return [
            f"A-LD {moved} eye distances",
            f"colour {number(m.color, 1)}",
            f"seam {number(m.seam)}",
            f"sharpness {number(m.sharpness)}",
        ]


def to_json(receipts: Sequence[Receipt], *, recogniser: str, action: str) -> str:
    """Receipts as strict JSON in ASCII, as it also goes into PNGs; null for unknown numbers."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "recogniser": recogniser,
        "action": action,
        "faces": [receipt.entry() for receipt in receipts],
    }
    return json.dumps(content, allow_nan=False)


def png_texts(
    receipts: str, pictures: int, image_index: Tensor | None = None
) -> list[dict[str, str]]:
    """Text chunks for each of a batch of PNGs.

    Args:
        receipts: from `to_json`; blank for none.
        pictures: how many.
        image_index: (n,) which picture each face is in; a picture then gets the receipts of its
            own faces, numbered as in the batch. None gives every picture all.

    Raises:
        FacewrightError: the text holds no receipts, or of another number of faces.
    """
    if not receipts.strip():
        return [{} for _ in range(pictures)]
    content = parse_json(receipts)
    faces = content["faces"]
    if image_index is None:
        return [{KEYWORD: json.dumps(content)} for _ in range(pictures)]
    if len(faces) != len(image_index):
        raise FacewrightError(
            f"`receipts` tells of {len(faces)} faces, but `faces` holds {len(image_index)}. "
            "Connect the Detect Faces whose crops the Identity Guard looked at."
        )
    where = image_index.tolist()
    own = [[f for f, b in zip(faces, where, strict=True) if b == i] for i in range(pictures)]
    return [{KEYWORD: json.dumps({**content, "faces": part})} for part in own]


def parse_json(receipts: str) -> dict[str, Any]:
    """Read what `to_json` wrote.

    Raises:
        FacewrightError: it is something else.
    """
    try:
        content = json_text.parse_json(receipts)
    except json_text.JsonError:
        content = None
    if (
        not isinstance(content, dict)
        or content.get("format") != FORMAT
        or not isinstance(content.get("faces"), list)
    ):
        raise FacewrightError(
            "`receipts` should be the JSON that Identity Guard puts out, got "
            f"{shorten(receipts, 40)!r}."
        )
    return content


@torch.no_grad()
def measure(lq: Tensor, result: Tensor, points_lq: Tensor, points: Tensor) -> list[Measured]:
    """Compare n crops with what came in.

    Args:
        lq, result: (n, 3, s, s) in [0, 1].
        points_lq, points: (n, 68 or 98, 2) their landmarks in pixels of the crops.
    """
    size = lq.shape[-1]
    grid = pixel_grid((0, 0, size, size))
    mask = soft_box(grid, size, _FEATHER).to(lq)[None, None]
    levels = max(1, round(math.log2(size / _FINEST)))
    pasted = lq + mask * (result - lq)
    before, after, whole = (rgb_to_lab(wavelet_low(x, levels)) for x in (lq, pasted, result))
    color = (mask * (whole - before).norm(dim=1, keepdim=True)).sum((1, 2, 3)) / mask.sum()
    seam = _seam(before, after, mask[0, 0])
    sharpness = edge_ratio(result, lq, mask.expand(len(lq), -1, -1, -1))
    ald = {region: _ald(points, points_lq, region) for region in REGIONS}
    first, second = (widened(points_lq[:, part]).mean(1) for part in EYES[points_lq.shape[1]])
    eyes = (first - second).norm(dim=1)
    return [
        Measured(
            ald={region: float(values[i]) for region, values in ald.items()},
            eye_distance=float(eyes[i]),
            color=float(color[i]),
            seam=float(seam[i]),
            sharpness=float(sharpness[i]),
        )
        for i in range(len(lq))
    ]


def _ald(points: Tensor, points_lq: Tensor, region: str) -> Tensor:
    """(n,) float64, NaN where a landmark is not finite."""
    index = region_points(points.shape[1], region)
    a, b = points[:, index], points_lq[:, index]
    good = (a.isfinite() & b.isfinite()).flatten(1).all(1)
    values = torch.full((len(a),), math.nan, dtype=torch.float64)
    if good.any():
        values[good.cpu()] = affine_landmark_distance(a[good], b[good]).cpu()
    return values


def _seam(before: Tensor, after: Tensor, mask: Tensor) -> Tensor:
    """(n,): mean |d Lab / d normal| of `after` over that of `before` where the mask rises.

    Both get one unit of Lab per width of the border on top: flat skies have no gradient to be
    compared with, and less than that nobody sees.
    """
    size = mask.shape[-1]
    if size < 2:  # a border needs two sides
        return torch.full((len(before),), math.nan)
    slope_y, slope_x = torch.gradient(mask)
    steep = torch.hypot(slope_x, slope_y)
    band = (steep > 0) & (mask > 0) & (mask < 1)
    normal = torch.stack([slope_y, slope_x])[:, band] / steep[band]

    def across(lab: Tensor) -> Tensor:
        dy, dx = torch.gradient(lab, dim=(2, 3))
        along = dy[..., band] * normal[0] + dx[..., band] * normal[1]
        return along.norm(dim=1).mean(1) + 1 / (_FEATHER * size)

    return across(after) / across(before)


def number(value: float, digits: int = 2) -> str:
    """A number for people, also where there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "unknown"
