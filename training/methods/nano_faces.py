"""Detector and landmark net of the nano models, trained on rendered group pictures."""

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...core.degradation import Degradation, jpeg
from ...core.faces.nano import (
    CONTEXT,
    FACE,
    FILE,
    STRIDE,
    NanoAnalyzer,
    NanoFaces,
    NanoFacesConfig,
    face_square,
)
from ..recipe import EXPORT_ONLY, Batch, Evaluation, Progress, Recipe, as_metadata
from ..settings.config import Strict
from ..world.faces3d import photos
from ..world.scenes import GroupScene, group_scene

_SMALL, _LARGE = 18.0, 60.0
"""Face sizes in pixels the detector answers for; a tenth beyond them it may say what it likes."""
_HELD_OUT = 10**6
"""Seeds from here on belong to held-out scenes."""
_MIRROR = (
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1),
)  # fmt: skip
"""iBUG number of the point that takes each point's place in a mirrored picture."""


class NanoFacesRecipeConfig(Strict):
    scenes: int = Field(200, ge=2, description="rendered group pictures")
    portraits: int = Field(1200, ge=0, description="further faces for the landmarks alone")
    held_out: int = Field(16, ge=1, description="group pictures to score on")
    width: int = Field(560, ge=64)
    height: int = Field(320, ge=64)
    window: int = Field(128, ge=64, description="pixels; what the detector sees at a time")
    windows: int = Field(12, ge=1, description="windows per step")
    crops: int = Field(48, ge=1, description="landmark crops per step")
    degraded: float = Field(0.6, ge=0, le=1, description="share of the windows and crops")
    landmark_weight: float = 30.0
    size_weight: float = 1.0


class NanoFacesRecipe(Recipe):
    """Centre heat map with focal loss, size and shift by L1 (CenterNet, arXiv:1904.07850);
    landmarks by L1 in crop sides.

    The group pictures are rendered when the run starts; of the engine's batches nothing is read.
    """

    stage = "nano_faces"
    changeable = EXPORT_ONLY
    Config = NanoFacesRecipeConfig
    config: NanoFacesRecipeConfig

    def build(self) -> dict[str, nn.Module]:
        c = self.config
        self.scenes = [_scene(i, c) for i in range(c.scenes)]
        self.squares = [_squares(scene) for scene in self.scenes]
        self.patches, self.points = _patches(self.scenes, c.portraits)
        return {"faces": _Both(NanoFaces(NanoFacesConfig()))}

    def losses(self, phase: str, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        c = self.config
        drawn = [self._window() for _ in range(c.windows)]
        windows = torch.stack([w for w, _ in drawn]).to(self.device)
        target = torch.stack([t for _, t in drawn]).to(self.device)
        crops, points = (x.to(self.device) for x in self._crops())
        maps, guess = self.nets["faces"](windows, crops)
        heat, ignore, at = target[:, 0], target[:, 1], target[:, 0] > 0.6
        shape = (maps[:, 1:] - target[:, 2:]).abs().sum(1)
        return {
            "heat": _focal(maps[:, 0], heat, ignore),
            "shape": c.size_weight * (shape * at).sum() / at.sum().clamp(min=1),
            "landmarks": c.landmark_weight * (guess - points).abs().mean(),
        }

    def _window(self) -> tuple[Tensor, Tensor]:
        """A window of a scene at a random scale, and its target maps (5, h, w)."""
        c = self.config
        k = int(torch.randint(len(self.scenes), ()))
        pixels, squares = self.scenes[k].pixels, self.squares[k]
        one = squares[int(torch.randint(len(squares), ()))]
        wanted = _SMALL * (_LARGE / _SMALL) ** float(torch.rand(()))
        scale = float(one[2]) / wanted  # scene pixels per window pixel
        span = max(8, round(c.window * scale))
        # Most windows hold the face somewhere; the rest lie anywhere in the picture.
        height, width = pixels.shape[-2:]
        if float(torch.rand(())) < 0.75:
            x, y = (float(v) - span * float(torch.rand(())) for v in one[:2])
        else:
            x = (width - span / 2) * float(torch.rand(())) - span / 4
            y = (height - span / 2) * float(torch.rand(())) - span / 4
        x0, y0 = round(x), round(y)
        part = _cut(pixels, x0, y0, span)
        window = F.interpolate(part[None], (c.window, c.window), mode="bilinear", antialias=True)[0]
        scale = span / c.window
        moved = torch.cat(
            [
                (squares[:, :2] + 0.5 - torch.tensor([x0, y0])) / scale - 0.5,
                squares[:, 2:] / scale,
            ],
            1,
        )
        if float(torch.rand(())) < 0.5:
            window = window.flip(2)
            moved[:, 0] = c.window - 1 - moved[:, 0]
        return _worse(window[None], c.degraded)[0], _targets(moved, c.window)

    def _crops(self) -> tuple[Tensor, Tensor]:
        """Crops with the errors a detector makes, and their landmarks in crop sides."""
        n, side = self.config.crops, 64
        index = torch.randint(len(self.patches), (n,))
        patches, points = self.patches[index].float() / 255, self.points[index]
        # Patches are upright; a first look comes with the head's roll, a second one without.
        angle = torch.randn(n) * torch.where(torch.rand(n) < 0.5, 0.16, 0.05)
        size = CONTEXT * torch.exp(0.10 * torch.randn(n))
        shift = 0.07 * torch.randn(n, 2)
        c, s = torch.cos(angle), torch.sin(angle)
        rotation = torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], 1)
        # crop sides -> patch coordinates in face sizes: p = size R q + shift
        theta = torch.cat([rotation * size[:, None, None], shift[..., None]], 2) / PATCH_CONTEXT
        theta[:, :, 2] *= 2  # affine_grid runs from -1 to 1
        grid = F.affine_grid(theta, [n, 3, side, side], align_corners=False)
        crops = F.grid_sample(patches, grid, padding_mode="reflection", align_corners=False)
        local = (
            torch.einsum("nji,nkj->nki", rotation, points - shift[:, None]) / size[:, None, None]
        )
        flip = torch.rand(n) < 0.5
        mirrored = local[:, list(_MIRROR)] * torch.tensor([-1.0, 1.0])
        local = torch.where(flip[:, None, None], mirrored, local)
        crops = torch.where(flip[:, None, None, None], crops.flip(3), crops)
        return _worse(crops, self.config.degraded), local

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """Found and wrong faces and landmark error on held-out scenes, clean and degraded."""
        analyzer = NanoAnalyzer(self.nets["faces"].nets)
        scenes = [_scene(_HELD_OUT + i, self.config) for i in range(self.config.held_out)]
        metrics = {}
        for name in ("clean", "moderate", "severe"):
            pictures = [scene.pixels for scene in scenes]
            if name != "clean":
                worse = Degradation.preset(name)
                pictures = [worse(p[None], _HELD_OUT + i)[0][0] for i, p in enumerate(pictures)]
            metrics |= {f"{name}_{k}": v for k, v in _score(analyzer, pictures, scenes).items()}
        return Evaluation(metrics)

    def export(self, folder: Path, facts: dict) -> list[Path]:
        path = folder / FILE
        self.nets["faces"].nets.save(path, **as_metadata(facts))
        return [path]


class _Both(nn.Module):
    """Detector and landmark net in one `forward`."""

    def __init__(self, nets: NanoFaces) -> None:
        super().__init__()
        self.nets = nets

    def forward(self, windows: Tensor, crops: Tensor) -> tuple[Tensor, Tensor]:
        return self.nets.detector(windows), self.nets.landmarker(crops)


PATCH_CONTEXT = 2.1
"""Side of a stored face patch in face sizes."""
_PATCH = 96


def _scene(seed: int, config: NanoFacesRecipeConfig) -> GroupScene:
    people = 1 + seed % 5
    scale = (1.0, 0.8, 0.65)[seed % 3]
    width, height = round(config.width * scale), round(config.height * scale)
    return group_scene(seed, people, width=width, height=height)


def _squares(scene: GroupScene) -> Tensor:
    """(n, 3) centre and size of the faces."""
    return torch.tensor([face_square(points) for points in scene.landmarks])


def _patches(scenes: list[GroupScene], portraits: int) -> tuple[Tensor, Tensor]:
    """Upright faces (n, 3, 96, 96) uint8 and landmarks (n, 68, 2) in face sizes from the middle."""
    pictures = [(s.pixels, points) for s in scenes for points in s.landmarks]
    people = list(range(portraits))
    shots = photos(people, people, _PATCH + 8, aligned=True) if portraits else None
    if shots is not None:
        pictures += list(zip(shots.pixels, shots.landmarks, strict=True))
    patches, locals_ = [], []
    for pixels, points in pictures:
        x, y, size = face_square(points)
        eyes = points[42:48].mean(0) - points[36:42].mean(0)
        angle = torch.atan2(eyes[1], eyes[0])
        c, s = torch.cos(angle), torch.sin(angle)
        rotation = torch.stack([torch.stack([c, -s]), torch.stack([s, c])])
        middle = torch.tensor([x, y])
        height, width = pixels.shape[-2:]
        extent = torch.tensor([width, height])
        linear = rotation * (PATCH_CONTEXT * size) / extent[:, None]
        shift = (2 * middle + 1) / extent - 1
        theta = torch.cat([linear, shift[:, None]], 1)
        grid = F.affine_grid(theta[None], [1, 3, _PATCH, _PATCH], align_corners=False)
        patch = F.grid_sample(pixels[None], grid, padding_mode="reflection", align_corners=False)
        patches.append((patch[0] * 255).round().byte())
        locals_.append((points - middle) @ rotation / size)
    return torch.stack(patches), torch.stack(locals_)


def _cut(pixels: Tensor, x0: int, y0: int, span: int) -> Tensor:
    """A square of a picture; beyond the border its edge goes on."""
    height, width = pixels.shape[-2:]
    rows = torch.arange(y0, y0 + span).clamp(0, height - 1)
    columns = torch.arange(x0, x0 + span).clamp(0, width - 1)
    return pixels[:, rows][:, :, columns]


def _targets(squares: Tensor, window: int) -> Tensor:
    """(5, h, w): heat, ignore, shift x, shift y, log2 of the size over FACE."""
    n = window // STRIDE
    centre = (torch.arange(n) + 0.5) * STRIDE - 0.5
    out = torch.zeros(5, n, n)
    for x, y, size in squares.tolist():
        dx, dy = (x - centre)[None, :] / STRIDE, (y - centre)[:, None] / STRIDE
        cells = size / STRIDE
        near = torch.exp(-(dx**2 + dy**2) / (2 * (0.22 * cells) ** 2))
        if _SMALL <= size <= _LARGE:
            closest = (dx.abs() <= 0.5) & (dy.abs() <= 0.5)
            near = torch.where(closest, torch.ones_like(near), near)
            mine = near > out[0]
            maps = (dx.expand(n, n), dy.expand(n, n), torch.full((n, n), size / FACE).log2())
            for channel, value in zip(out[2:], maps, strict=True):
                channel[mine] = value[mine]
            out[0] = torch.maximum(out[0], near)
        elif _SMALL * 0.75 <= size <= _LARGE * 1.3:
            out[1] = torch.maximum(out[1], (near > 0.1).float())
    return out


def _focal(logits: Tensor, heat: Tensor, ignore: Tensor) -> Tensor:
    """Penalty-reduced focal loss (CenterNet, Eq. 1), alpha 2, beta 4."""
    p = logits.sigmoid()
    positive = (heat == 1).float()
    hit = positive * (1 - p) ** 2 * F.logsigmoid(logits)
    miss = (1 - positive) * (1 - heat) ** 4 * p**2 * F.logsigmoid(-logits) * (1 - ignore)
    return -(hit + miss).sum() / positive.sum().clamp(min=1)


def _worse(x: Tensor, share: float) -> Tensor:
    """Light and colour vary; a share is reduced up to four times, noisy, and sometimes JPEG."""
    n = len(x)
    gain = 1 + 0.15 * torch.randn(n, 3, 1, 1) * 0.4 + 0.15 * torch.randn(n, 1, 1, 1)
    x = (x * gain).clamp(0, 1)
    out = []
    for one in x:
        if float(torch.rand(())) < share:
            size = one.shape[-1]
            small = max(8, round(size / float(1 + 3 * torch.rand(()))))
            one = F.interpolate(one[None], (small, small), mode="bilinear", antialias=True)
            one = (one + 0.05 * torch.rand(()) * torch.randn_like(one)).clamp(0, 1)
            if float(torch.rand(())) < 0.4:
                one = jpeg(one[0], int(torch.randint(35, 95, ())))[None]
            one = F.interpolate(one, (size, size), mode="bicubic", align_corners=False)[0]
        out.append(one)
    return torch.stack(out).clamp(0, 1)


def _score(
    analyzer: NanoAnalyzer, pictures: list[Tensor], scenes: list[GroupScene]
) -> dict[str, float]:
    """Recall, precision, and mean landmark error in % of the distance of the outer eye corners."""
    found = right = total = 0
    errors = []
    for picture, scene in zip(pictures, scenes, strict=True):
        faces = analyzer.detect(picture)
        found, total = found + len(faces), total + len(scene.landmarks)
        for truth in scene.landmarks:
            x, y, size = face_square(truth)
            gaps = [
                (max(abs(f.center[0] - x), abs(f.center[1] - y)) / size, i)
                for i, f in enumerate(faces)
            ]
            gap, best = min(gaps, default=(9.0, -1))
            if gap < 0.3 and (points := faces[best].landmarks) is not None:
                right += 1
                eyes = (truth[45] - truth[36]).norm()
                errors.append(float((points - truth).norm(dim=1).mean() / eyes))
    return {
        "recall": right / max(total, 1),
        "precision": right / max(found, 1),
        "landmark_error": 100 * sum(errors) / max(len(errors), 1),
    }
