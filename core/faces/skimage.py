"""Upright boxes from the LBP cascade inside scikit-image's wheel: no download, no landmarks."""

import math
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..color import luma
from ..errors import FacewrightError
from ..geometry.face import Face
from ..geometry.warp import centered_map, invert, pixel_grid, scale_of, transform, warp

_WINDOW = 24
"""Smallest window of the cascade, in pixels."""
_PASSES = (
    (960, 0.0, 1.2, 1.5),
    (420, 0.0, 1.2, 1.0),
    (340, -22.0, 1.2, 1.0),
    (340, 22.0, 1.2, 1.0),
)
"""Search passes: longer side in pixels, rotation in degrees, scale factor, step ratio."""
_ANGLES = (-40, -30, -20, -10, 0, 10, 20, 30, 40)
_PATCH_FACE, _PATCH = 30, 48
"""Face and patch size in pixels of the second look."""
_MIN_VOTES = {1: 24, 2: 10}
"""Votes needed by what one window proposed, and by what several did."""

_HALF_SURE = 30
"""Votes that make a score of one half."""
_SURE = 60
"""Votes beyond which a face is certain."""

Proposal = tuple[float, float, float, float, int]
"""x, y, side, roll in degrees, number of windows."""


class SkimageAnalyzer:
    """Frontal faces by a cascade of local binary patterns (Liao et al., ICB 2007).

    The cascade alone confuses arms, poker chips and lamps with faces. So it only proposes, in the
    picture and in two tilted copies; every proposal is then looked at again under several rolls and
    sizes, must collect enough votes, and must show two eyes and a mouth darker than the cheeks.
    Profiles and strongly tilted heads are missed.
    """

    name = "skimage"

    def __init__(self) -> None:
        """Raise FacewrightError where scikit-image is missing or carries no cascade."""
        try:
            from skimage.data import lbp_frontal_face_cascade_filename
            from skimage.feature import Cascade
        except ImportError as error:
            raise FacewrightError(
                "The face analyzer 'skimage' needs scikit-image 0.22 or newer, which ComfyUI does "
                f'not bring along. Install it with: "{sys.executable}" -m pip install scikit-image'
            ) from error
        self._cascade = Cascade(lbp_frontal_face_cascade_filename())

    def detect(self, image: Tensor) -> list[Face]:
        """Faces of a (3, h, w) picture in [0, 1], most votes first.

        Boxes are squares from above the brows to the chin; `angle` is the roll, in steps of some
        degrees; the score is votes / (votes + 30). The picture is searched at up to 960 px, so
        faces smaller than a fortieth of its longer side are not seen.
        """
        gray = luma(image)[0].float().cpu().clamp(0, 1)
        reduction = max(1.0, max(gray.shape) / _PASSES[0][0])
        gray = _resize(gray, reduction)
        if min(gray.shape) < _WINDOW:
            return []
        faces: list[Face] = []
        for proposal in self._propose(gray):
            face = None if _near(proposal, faces) else self._verify(gray, proposal)
            if face is not None:
                faces.append(face)
        return [_scaled(face, reduction) for face in _without_overlaps(faces)]

    def _hits(self, gray: Tensor, low: int, high: int, factor: float, step: float) -> np.ndarray:
        """Every window the cascade accepts: (n, 3) centre x, y and side."""
        found = self._cascade.detect_multi_scale(
            np.ascontiguousarray(gray.numpy()),
            factor,
            step,
            (low, low),
            (high, high),
            min_neighbor_number=1,
            intersection_score_threshold=2.0,  # above 1: no merging, which chains neighbours
        )
        half = [f["width"] / 2 - 0.5 for f in found]
        rows = [(f["c"] + h, f["r"] + h, f["width"]) for f, h in zip(found, half, strict=True)]
        return np.array(rows, dtype=np.float64).reshape(-1, 3)

    def _propose(self, gray: Tensor) -> list[Proposal]:
        squares = []
        limit = np.array([gray.shape[1] - 1, gray.shape[0] - 1])
        for side, degrees, factor, step in _PASSES:
            matrix, window = _rotation(gray, degrees, max(1.0, max(gray.shape) / side))
            # Plain corners of a tilted copy are passed over quickly.
            view = warp(gray[None], matrix, window)[0] * _shows(matrix, window, gray)
            hits = self._hits(view, _WINDOW, min(view.shape), factor, step)
            back = invert(matrix)
            hits[:, :2] = transform(back, torch.from_numpy(hits[:, :2])).numpy()
            hits[:, 2] *= scale_of(back)
            inside = ((hits[:, :2] >= 0) & (hits[:, :2] <= limit)).all(1)
            squares.append(np.column_stack([hits, np.full(len(hits), -degrees)])[inside])
        return _groups(np.concatenate(squares))

    def _verify(self, gray: Tensor, square: Proposal) -> Face | None:
        x, y, side, degrees, windows = square
        first_look = _features(gray, x, y, side, math.radians(degrees))
        if min(first_look["eyes"], first_look["mouth"], first_look["contrast"]) < 0.035:
            return None  # clearly no face: spares the second look
        nearby = [k for k, roll in enumerate(_ANGLES) if abs(roll - degrees) <= 12]
        looks = {k: self._look(gray, x, y, side, _ANGLES[k]) for k in nearby}
        if sum(map(len, looks.values())) < 2:
            return None
        for k in set(range(len(_ANGLES))) - set(nearby):
            looks[k] = self._look(gray, x, y, side, _ANGLES[k])
        votes = np.array([len(looks[k]) for k in range(len(_ANGLES))])
        total = votes.sum()
        if total < _MIN_VOTES[min(windows, 2)]:
            return None
        x, y, side = np.concatenate([looks[k] for k in sorted(looks)]).mean(0)
        weights = votes**2 / (votes**2).sum()
        angle = math.radians(float((weights * _ANGLES).sum()))
        if not _plausible(_features(gray, x, y, side, angle), total):
            return None
        half = side / 2
        # Into [0, 1) like the other analyzers' scores; 30 votes, a fair face, make one half.
        score = float(total / (total + _HALF_SURE))
        return Face((x - half, y - half, x + half, y + half), score, angle=angle)

    def _look(self, gray: Tensor, x: float, y: float, side: float, degrees: float) -> np.ndarray:
        """Windows accepted around a face that is set upright from this roll: (n, 3) x, y, side."""
        matrix = _patch(x, y, side, degrees, _PATCH_FACE, _PATCH)
        view = warp(gray[None], matrix, (0, 0, _PATCH, _PATCH))[0]
        hits = self._hits(view, _WINDOW, round(_PATCH_FACE * 1.5), 1.05, 1.0)
        hits = hits[(np.abs(hits[:, :2] - (_PATCH - 1) / 2) < _PATCH_FACE / 4).all(1)]
        back = transform(invert(matrix), torch.from_numpy(hits[:, :2])).numpy()
        return np.column_stack([back, hits[:, 2] * side / _PATCH_FACE])


def _features(gray: Tensor, x: float, y: float, side: float, angle: float) -> dict[str, float]:
    """How much darker than the cheeks the fainter eye and the mouth are, and the contrast there."""
    from kornia.filters import gaussian_blur2d

    size = 64
    matrix = _patch(x, y, side, math.degrees(angle), size, size)
    patch = warp(gray[None], matrix, (0, 0, size, size))
    smooth, smoother = (
        gaussian_blur2d(patch[None], (taps, taps), (sigma, sigma))[0, 0]
        for sigma, taps in ((1.5, 11), (5.0, 31))
    )
    cheeks = torch.cat([smooth[34:46, 10:24].flatten(), smooth[34:46, 40:54].flatten()]).median()

    def darkness(rows: slice, columns: slice) -> float:
        darkest = smooth[rows, columns].flatten().quantile(0.1)
        return float(1 - darkest / cheeks.clamp(min=0.01))

    eyes = min(darkness(slice(16, 32), slice(8, 28)), darkness(slice(16, 32), slice(36, 56)))
    middle = (slice(10, 58), slice(8, 56))
    contrast = (smooth - smoother)[middle].std() / patch[0][middle].mean().clamp(min=0.01)
    return {
        "eyes": eyes,
        "mouth": darkness(slice(44, 58), slice(20, 44)),
        "contrast": float(contrast),
    }


def _plausible(features: dict[str, float], votes: float) -> bool:
    """Feature limits; many votes excuse harsh contrast, which foliage and lace have too."""
    if min(features["eyes"] / 0.08, features["mouth"] / 0.1, features["contrast"] / 0.075) < 1:
        return False
    return features["contrast"] < 0.15 or votes >= _SURE


def _resize(gray: Tensor, reduction: float) -> Tensor:
    if reduction == 1:
        return gray
    height, width = (max(1, round(n / reduction)) for n in gray.shape)
    return F.interpolate(gray[None, None], (height, width), mode="area")[0, 0]


def _rotation(gray: Tensor, degrees: float, reduction: float) -> tuple[Tensor, tuple]:
    """Map to a smaller copy rotated by `degrees` that shows the whole picture."""
    h, w = gray.shape
    c, s = (f(math.radians(degrees)) / reduction for f in (math.cos, math.sin))
    width, height = round(abs(c) * w + abs(s) * h), round(abs(s) * w + abs(c) * h)
    linear = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    middle = torch.tensor([(w - 1) / 2, (h - 1) / 2], dtype=torch.float64)
    goal = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
    return torch.cat([linear, (goal - linear @ middle)[:, None]], 1), (0, 0, width, height)


def _shows(matrix: Tensor, window: tuple, gray: Tensor) -> Tensor:
    """1 where a pixel of the window shows the picture, 0 where it lies beyond its border."""
    source = transform(invert(matrix), pixel_grid(window).flatten(0, 1))
    limit = torch.tensor([gray.shape[1] - 0.5, gray.shape[0] - 0.5], dtype=torch.float64)
    inside = ((source > -0.5) & (source < limit)).all(1)
    return inside.view(window[3] - window[1], window[2] - window[0]).float()


def _patch(x: float, y: float, side: float, degrees: float, face: int, size: int) -> Tensor:
    """Map that shows a face of `side` and roll `degrees` upright, `face` px wide, in the middle."""
    return centered_map(x, y, math.radians(degrees), face / side, size)


def _groups(hits: np.ndarray) -> list[Proposal]:
    """Means of hits that resemble each other, most frequent first.

    Greedy: the hit with most neighbours takes them along, so that chains do not merge.
    """
    groups = []
    while len(hits):
        scale = np.minimum(hits[:, None, 2], hits[None, :, 2])
        apart = np.abs(hits[:, None, :3] - hits[None, :, :3])
        near = np.all(apart < 0.3 * scale[..., None], axis=-1)
        around = near[near.sum(1).argmax()]
        members = hits[around]
        groups.append((*members.mean(0).tolist(), len(members)))
        hits = hits[~around]
    return groups


def _near(proposal: Proposal, faces: list[Face]) -> bool:
    """Whether a proposal lies on a face found before, so that a second look is not worth it."""
    x, y = proposal[:2]
    return any(
        max(abs(x - face.center[0]), abs(y - face.center[1])) < 0.4 * face.size for face in faces
    )


def _without_overlaps(faces: list[Face]) -> list[Face]:
    """Of faces too close to be two, keep the one with more votes."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: (-face.score, *face.center)):
        x, y = face.center
        reach = [0.6 * max(face.size, other.size) for other in kept]
        gaps = [max(abs(x - o.center[0]), abs(y - o.center[1])) for o in kept]
        if all(gap >= limit for gap, limit in zip(gaps, reach, strict=True)):
            kept.append(face)
    return kept


def _scaled(face: Face, factor: float) -> Face:
    x0, y0, x1, y1 = ((v + 0.5) * factor - 0.5 for v in face.box)
    return Face((x0, y0, x1, y1), face.score, angle=face.angle)
