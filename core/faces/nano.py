"""Two small networks that find rendered faces and their 68 landmarks; not made for photographs."""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Conv2d, Linear

from ..architecture import CLOSED, Between, SavedNetwork
from ..errors import FacewrightError
from ..files import known
from ..geometry.face import Face, check_crops
from ..geometry.heatmaps import gaussian_heatmaps
from ..geometry.landmarks import five_points
from ..geometry.warp import centered_map, invert, pixel_grid, transform, warp

FORMAT = "nano-faces"
FILE = "nano_faces.safetensors"
STRIDE = 8
"""Pixels per cell of the detector's maps."""
FACE = 32.0
"""Face size in pixels at which the detector's size output is 0."""
CONTEXT = 1.5
"""Side of the landmark network's crop, in sides of the face box."""
_LARGEST_LEVEL = 640
_SMALLEST_LEVEL = 40
_PROPOSALS = 64
_ALIGNED = 128
_MEAN_SQUARE = (63.6, 74.1, 77.6)
"""Centre x, y and size of rendered faces in FFHQ-aligned crops of `_ALIGNED` px, on average."""
_OVERSAMPLE = 3
"""Samples per axis and pixel of the landmark network's crop: faces up to 128 px do not alias."""


_Width = Annotated[int, Between(1, 4096)]


@dataclass(frozen=True, kw_only=True)
class NanoFacesConfig:
    """Widths of the two networks."""

    __pydantic_config__ = CLOSED

    detector_ch: Annotated[tuple[_Width, ...], Between(4, 4)] = (16, 32, 48, 64)
    """Stem at stride 2, then strides 4 and 8, then the context blocks at stride 8."""
    landmark_ch: Annotated[tuple[_Width, ...], Between(1, 8)] = (16, 32, 64, 96)
    """Every stage halves the crop."""
    landmark_size: Annotated[int, Between(8, 512)] = 64
    """Side of the crop in pixels."""

    def __post_init__(self) -> None:
        if self.landmark_size % 2 ** len(self.landmark_ch):
            raise FacewrightError(
                f"its landmark_size {self.landmark_size} cannot be halved {len(self.landmark_ch)} "
                "times"
            )


def _block(c_in: int, c_out: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    # BatchNorm: at inference it is a constant factor, so one picture's content cannot shift another
    # part of the picture, and levels of any size behave alike.
    conv = Conv2d(c_in, c_out, 3, stride, dilation, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True))


class FaceDetectorNet(nn.Module):
    """Pictures (b, 3, h, w) in [0, 1] -> maps (b, 4, ceil(h / 8), ceil(w / 8)).

    Channels: logit of a face centred in the cell, shift of its centre from the cell's in cells
    (x, y), and log2 of its size over `FACE`. It sees faces of about 20 to 56 px; a pyramid supplies
    the other sizes.
    """

    def __init__(self, config: NanoFacesConfig) -> None:
        super().__init__()
        a, b, c, d = config.detector_ch
        self.body = nn.Sequential(
            _block(3, a, 2),
            _block(a, b, 2),
            _block(b, b),
            _block(b, c, 2),
            _block(c, c),
            _block(c, d, dilation=2),
            _block(d, d, dilation=2),
            _block(d, d),
        )
        self.head = Conv2d(d, 4, 1)
        nn.init.constant_(self.head.get_parameter("bias")[:1], -4.0)  # faces are rare

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x * 2 - 1))


class LandmarkNet(nn.Module):
    """Face crops (b, 3, s, s) in [0, 1] -> 68 points (b, 68, 2) in crop sides, 0 at the centre."""

    def __init__(self, config: NanoFacesConfig) -> None:
        super().__init__()
        widths = (3, *config.landmark_ch)
        stages = [_block(a, b, 2) for a, b in pairwise(widths)]
        self.body = nn.Sequential(*stages, _block(widths[-1], widths[-1]))
        cells = config.landmark_size // 2 ** len(config.landmark_ch)
        self.head = Linear(widths[-1] * cells * cells, 136)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x * 2 - 1).flatten(1)).view(-1, 68, 2)


class NanoFaces(SavedNetwork):
    """Both networks, as one file."""

    format = FORMAT
    config_type = NanoFacesConfig
    what = "a face detector"
    stored = torch.float16
    config: NanoFacesConfig

    def __init__(self, config: NanoFacesConfig | None = None) -> None:
        super().__init__()
        self.config = config or NanoFacesConfig()
        self.detector = FaceDetectorNet(self.config)
        self.landmarker = LandmarkNet(self.config)


class NanoAnalyzer:
    """Detector on a pyramid, then landmarks twice: in the box, and in the crop set upright."""

    name = "nano"
    points = 68

    def __init__(self, nets: NanoFaces, *, min_score: float = 0.6) -> None:
        self.nets = nets.eval()
        self.min_score = min_score

    @classmethod
    def from_folder(cls, folder: str | Path | None = None) -> "NanoAnalyzer":
        """The shipped networks, or those of another folder or file.

        Raises:
            CheckpointError: the file is missing or something else.
        """
        path = known.NANO_DIR if folder is None else Path(folder)
        return cls(NanoFaces.from_file(path / FILE if path.is_dir() else path))

    @torch.no_grad()
    def detect(self, image: Tensor) -> list[Face]:
        """Faces of a (3, h, w) picture in [0, 1], best first; scores in [0, 1].

        The picture is searched at up to 640 px, so faces smaller than a thirtieth of its longer
        side are not seen. Boxes surround the landmarks, the forehead included.
        """
        image = image.float().to(next(self.nets.parameters()).device)
        squares = self._propose(image)
        if len(squares) == 0:
            return []
        landmarks = self._landmarks(image, squares)
        faces = []
        for square, points in zip(squares.tolist(), landmarks.cpu(), strict=True):
            low, high = points.amin(0), points.amax(0)
            low[1] -= 0.2 * (high[1] - low[1])
            box = (*low.tolist(), *high.tolist())
            faces.append(Face(box, square[3], five_points(points[None])[0], points))
        return sorted(faces, key=lambda face: (-face.score, *face.center))

    @torch.no_grad()
    def landmarks(self, crops: Tensor) -> Tensor:
        """FFHQ-aligned faces (n, 3, s, s) in [0, 1] -> (n, 68, 2) in pixels of the crop.

        As `detect` does, but from the place where the mean face lies, and for all crops at once.
        Crops larger than 128 px are reduced to that first: the network sees 64.
        """
        size = check_crops(crops)
        if not len(crops):
            return crops.new_zeros(0, self.points, 2, dtype=torch.float32)
        pictures = crops.float().to(next(self.nets.parameters()).device)
        if size > _ALIGNED:
            shape = (_ALIGNED, _ALIGNED)
            pictures = F.interpolate(pictures, shape, mode="bilinear", antialias=True)
        scale = pictures.shape[-1] / _ALIGNED
        x, y, extent = _MEAN_SQUARE
        x, y = ((v + 0.5) * scale - 0.5 for v in (x, y))
        side = self.nets.config.landmark_size
        maps = crop_map(x, y, extent * scale, 0.0, side).expand(len(crops), -1, -1)
        points = self._look(pictures, maps)
        maps = torch.stack([upright_map(face, side) for face in points])
        points = self._look(pictures, maps)
        back = size / pictures.shape[-1]
        return ((points + 0.5) * back - 0.5).float().to(crops.device)

    def heatmaps(self, crops: Tensor) -> Tensor:
        """Gaussians around `landmarks`, all of one width: the network gives points."""
        return gaussian_heatmaps(self.landmarks(crops), crops.shape[-1])

    def _look(self, pictures: Tensor, maps: Tensor) -> Tensor:
        """Landmarks (n, 68, 2) in pixels of `pictures` (n, 3, h, w), whose faces `maps` cut out."""
        side = self.nets.config.landmark_size
        grid = pixel_grid((0, 0, side, side), _OVERSAMPLE)
        source = transform(invert(maps), grid.flatten(0, 1)).view(len(maps), *grid.shape)
        height, width = pictures.shape[-2:]
        source = (source + 0.5) / torch.tensor([width, height]) * 2 - 1
        sampled = F.grid_sample(
            pictures, source.to(pictures), mode="bicubic", padding_mode="reflection",
            align_corners=False,
        )  # fmt: skip
        crops = F.avg_pool2d(sampled, _OVERSAMPLE).clamp(0, 1)
        local = self.nets.landmarker(crops).cpu().double() * side + (side - 1) / 2
        return transform(invert(maps), local)

    def _propose(self, image: Tensor) -> Tensor:
        """(n, 4) centre x, y, size and score, overlaps removed."""
        found = []
        for level, factor in pyramid(image):
            found.append(decode(self.nets.detector(level[None])[0], self.min_score))
            found[-1][:, :2] = (found[-1][:, :2] + 0.5) * factor - 0.5
            found[-1][:, 2] *= factor.mean()
        return suppress(torch.cat(found))

    def _landmarks(self, image: Tensor, squares: Tensor) -> Tensor:
        """(n, 68, 2) in picture pixels."""
        side = self.nets.config.landmark_size
        rough = [crop_map(x, y, size, 0.0, side) for x, y, size, _ in squares.tolist()]
        upright = [upright_map(points, side) for points in self._seen(image, rough)]
        return self._seen(image, upright).float()

    def _seen(self, image: Tensor, maps: list[Tensor]) -> Tensor:
        side = self.nets.config.landmark_size
        crops = torch.stack([warp(image, m, (0, 0, side, side)) for m in maps])
        local = self.nets.landmarker(crops).cpu().double() * side + (side - 1) / 2
        return torch.stack([transform(invert(m), p) for m, p in zip(maps, local, strict=True)])


def pyramid(image: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Copies of a (3, h, w) picture, each half as large as the one before, and their factors.

    The first has a longer side of at most 640 px. A factor holds picture pixels per copy pixel
    along x and y.
    """
    height, width = image.shape[-2:]
    reduction = max(1.0, max(height, width) / _LARGEST_LEVEL)
    levels = []
    while True:
        size = (max(1, round(height / reduction)), max(1, round(width / reduction)))
        level = F.interpolate(image[None], size, mode="area")[0] if reduction > 1 else image
        levels.append((level, image.new_tensor([width / size[1], height / size[0]])))
        if max(size) < 2 * _SMALLEST_LEVEL:
            return levels
        reduction *= 2


def decode(maps: Tensor, min_score: float) -> Tensor:
    """Detector maps (4, h, w) of one picture -> (n, 4) centre x, y, size in pixels, and score.

    Only local maxima of the score count.
    """
    score = maps[0].sigmoid()
    peak = F.max_pool2d(score[None, None], 3, 1, 1)[0, 0]
    rows, columns = torch.nonzero((score == peak) & (score >= min_score), as_tuple=True)
    dx, dy, size = maps[1:, rows, columns]
    x, y = (columns + 0.5 + dx) * STRIDE - 0.5, (rows + 0.5 + dy) * STRIDE - 0.5
    return torch.stack([x, y, FACE * torch.exp2(size), score[rows, columns]], 1)


def suppress(squares: Tensor) -> Tensor:
    """Keep the best of squares whose centres are closer than 0.55 of the larger one's side."""
    squares = squares[squares[:, 3].argsort(descending=True, stable=True)][:_PROPOSALS]
    kept: list[Tensor] = []
    for square in squares:
        near = [
            float((square[:2] - other[:2]).norm()) < 0.55 * float(max(square[2], other[2]))
            for other in kept
        ]
        if not any(near):
            kept.append(square)
    return torch.stack(kept) if kept else squares[:0]


def crop_map(x: float, y: float, size: float, angle: float, side: int) -> Tensor:
    """Map to a crop of `side` px around a face of `size` px, rolled back by `angle` radians."""
    return centered_map(x, y, angle, side / (CONTEXT * size), side)


def face_square(points: Tensor) -> tuple[float, float, float]:
    """Centre x, y and size of the square that stands for 68 landmarks (68, 2)."""
    low, high = points.amin(0), points.amax(0)
    low = low - torch.stack([low[0] * 0, 0.2 * (high[1] - low[1])])
    middle, extent = (low + high) / 2, high - low
    return float(middle[0]), float(middle[1]), math.sqrt(max(float(extent.prod()), 1e-6))


def upright_map(points: Tensor, side: int) -> Tensor:
    """Map to the crop of a face whose landmarks (68, 2) are roughly known, eyes level."""
    eyes = five_points(points[None].float())[0, :2]
    across = eyes[1] - eyes[0]
    x, y, size = face_square(points)
    return crop_map(x, y, size, math.atan2(float(across[1]), float(across[0])), side)
