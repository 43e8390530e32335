"""A picture that says where it is, and networks that know its faces: MediaPipe without its files.

The picture's colors are its coordinates, so that stand-ins for the networks can tell from the
pixels alone which part of it they are shown, however it was turned and shrunk.
"""

import math
from dataclasses import dataclass

import torch
from facewright.core.faces.detection_grid import FULL, SHORT
from facewright.core.faces.mediapipe import MediapipeAnalyzer
from facewright.core.faces.mediapipe_networks import MediapipeNetworks
from torch import nn

_G = torch.Generator().manual_seed(0)
PATTERN = torch.rand(478, 2, generator=_G, dtype=torch.float64) * 1.6 - 0.8
PATTERN[[33, 263]] = torch.tensor([[-0.6, -0.3], [0.6, -0.3]], dtype=torch.float64)
KEYPOINTS = torch.tensor(
    [[-0.4, -0.2], [0.4, -0.2], [0, 0.15], [0, 0.45], [-0.9, 0], [0.9, 0]], dtype=torch.float64
)
REACH = math.radians(50)
"""Roll up to which the stand-in detectors see a face as it is."""


@dataclass
class Truth:
    """A face of the picture."""

    x: float
    y: float
    size: float
    roll: float = 0.0
    present: bool = True
    """Whether the mesh sees it."""
    score: float | None = None
    ranges: tuple = (SHORT, FULL)
    mistake: float = 0.0
    """What the detectors' keypoints are rolled too far."""
    shy: bool = False
    """Scores less than a flipped face where it is small in a view, and has a mesh either way."""
    near: float = 0.0
    """Share of a view that the face has to fill for the mesh to see it."""
    moved: "Truth | None" = None
    """The face onto which the mesh moves."""

    def at(self, points, mistake=0.0):
        """Points of a face with sides from -1 to 1 -> pixels."""
        c, s = math.cos(self.roll + mistake), math.sin(self.roll + mistake)
        turned = points @ torch.tensor([[c, s], [-s, c]], dtype=torch.float64)
        return turned * self.size / 2 + torch.tensor([self.x, self.y], dtype=torch.float64)


def picture(height, width):
    """(3, h, w): x, y, and 1 inside."""
    x = (torch.arange(width) / width).expand(height, width)
    y = (torch.arange(height) / height)[:, None].expand(height, width)
    return torch.stack([x, y, torch.ones(height, width)])


def shown(pixels, height, width):
    """(3, 2) float64 map from picture pixels and 1 to shares of a view, by least squares."""
    size = pixels.shape[0] / 3
    pixels = pixels[::3, ::3]
    inside = pixels[..., 2] > 0.999
    y, x = torch.nonzero(inside, as_tuple=True)
    colors = pixels[inside].double()[:, :2] * torch.tensor([width, height], dtype=torch.float64)
    rows = torch.cat([colors, torch.ones(len(colors), 1)], 1)
    return torch.linalg.lstsq(rows, torch.stack([x, y], 1).double() / size).solution


class Detector(nn.Module):
    """Puts out what a detector would: faces on the nearest anchor, as raw numbers."""

    def __init__(self, grid, faces, height, width):
        super().__init__()
        self.grid, self.faces, self.size, self.seen = grid, faces, (height, width), 0

    def forward(self, batch):
        anchors = self.grid.anchors().double()
        raw = torch.zeros(len(batch), len(anchors), 16)
        logits = torch.full((len(batch), len(anchors), 1), -9.0)
        self.seen += len(batch)
        for pixels, values, scores in zip((batch.cpu() + 1) / 2, raw, logits, strict=True):
            to_view = shown(pixels, *self.size)
            scale = float(torch.linalg.det(to_view[:2]).abs().sqrt())
            for face in self.faces:
                points, side = self.seen_as(face, to_view), face.size * scale
                middle = points[-1]
                if self.grid not in face.ranges or not 0.06 < side < 0.9:
                    continue
                if not ((middle > side * 0.3) & (middle < 1 - side * 0.3)).all():
                    continue
                k = int((anchors - middle).norm(dim=1).argmin())
                box = torch.cat([middle - anchors[k], torch.tensor([side, side])])
                rest = (points[:-1] - anchors[k]).flatten()
                values[k] = (torch.cat([box, rest]) * self.grid.side).float()
                eyes = points[1] - points[0]
                roll = abs(math.atan2(float(eyes[1]), float(eyes[0])))
                score = (face.score or 0.95 - roll / 5) if roll < REACH else 0.65
                if face.shy and roll < REACH and side < 0.3:
                    score = 0.62
                if roll >= REACH:  # taken for an upright one
                    flipped = torch.cat([middle + KEYPOINTS * side / 2])
                    values[k, 4:] = ((flipped - anchors[k]).flatten() * self.grid.side).float()
                scores[k] = math.log(score / (1 - score))
        return [raw.to(batch.device), logits.to(batch.device)]

    def seen_as(self, face, to_view):
        middle = torch.tensor([[face.x, face.y]], dtype=torch.float64)
        points = torch.cat([face.at(KEYPOINTS, face.mistake), middle])
        return torch.cat([points, torch.ones(7, 1)], 1) @ to_view


class Mesh(nn.Module):
    """The mesh of the face that lies nearest to the middle of a view."""

    def __init__(self, faces, height, width):
        super().__init__()
        self.faces, self.size, self.seen = faces, (height, width), 0

    def forward(self, batch):
        points, logits = torch.zeros(len(batch), 1434), torch.full((len(batch), 1), -8.0)
        self.seen += len(batch)
        for pixels, row, logit in zip(batch.cpu(), points, logits, strict=True):
            to_view = shown(pixels, *self.size)
            middles = torch.tensor([[f.x, f.y, 1] for f in self.faces], dtype=torch.float64)
            gap, k = (middles @ to_view - 0.5).norm(dim=1).min(0)
            face = self.faces[int(k)]
            filled = face.size * float(torch.linalg.det(to_view[:2]).abs().sqrt())
            present, face = face.present and filled > face.near, face.moved or face
            eyes = torch.cat([face.at(PATTERN[[33, 263]]), torch.zeros(2, 1)], 1) @ to_view
            roll = math.atan2(*(eyes[1] - eyes[0]).flip(0).tolist())
            mesh = torch.cat([face.at(PATTERN), torch.ones(478, 1)], 1) @ to_view
            row[:] = torch.cat([mesh * 256, torch.zeros(478, 1)], 1).flatten().float()
            row[:] += 30 * abs(roll)  # it is less exact the less upright a face is shown
            if gap < 0.15 and present and (abs(roll) < 1 or face.shy):
                logit[:] = 8.0
        return [points.to(batch.device), logits.to(batch.device)]


def world(faces, height, width, *, full=True, device="cpu", **options):
    """The analyzer over stand-ins, and the picture."""
    grids = (SHORT, FULL) if full else (SHORT,)
    detectors = {grid: Detector(grid, faces, height, width) for grid in grids}
    networks = MediapipeNetworks(
        detectors,
        Mesh(faces, height, width),
        torch.device(device),
        "" if full else "It is missing.",
    )
    analyzer = MediapipeAnalyzer(networks=networks, **options)
    analyzer.stand_ins = [*detectors.values(), networks._mesh]
    return analyzer, picture(height, width)
