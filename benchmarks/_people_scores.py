"""Landmark scores of the right and of another person, of turned and of mirrored faces."""

import torch
from facewright.benchmarks._people_world import (
    SIZE,
    analyzer,
    crops_of,
    damaged,
    looks_of,
    mean_by,
    people_of,
    seeds,
    share,
)
from facewright.core.faces import Face
from facewright.core.geometry.landmarks import affine_landmark_distance, region_points
from facewright.core.scores.landmarks import score_landmarks
from facewright.headless import RestoreOptions, load_restorer
from facewright.training.world.faces3d import render

TRIPLES, TURNED, MIRRORED = 240, 120, 60
YAWS = (0, 10, 20, 30, 40)
_KINDS = ("mild", "moderate", "severe")


def triples() -> list[dict]:
    """A restored face and another person's in the same pose against the original."""
    restorer = load_restorer("nano")
    numbers = seeds(6, TRIPLES)
    gt = crops_of(people_of(numbers), numbers)
    others = crops_of(people_of(seeds(6, TRIPLES, 30_000)), numbers)
    beats, verdicts, cannot, flagged = [], [], [], []
    for k in range(0, TRIPLES, 20):
        part = slice(k, k + 20)
        lq = damaged(gt[part], _KINDS[k // 20 % 3], numbers[part])
        restored = restorer.renewed(lq, [None] * len(lq), RestoreOptions())
        for right, other, truth in zip(restored, others[part], gt[part], strict=True):
            scores = score_landmarks(torch.stack([right, other]), truth[None], analyzer())
            first, second = scores.values["ald_eyes"]
            if not first >= 0 or not second >= 0:
                continue
            beats.append(second < first)
            tell = getattr(scores, "can_tell", lambda *which: True)("ald_eyes", 0, 1)
            cannot.append(not tell)
            verdicts.append(second < first and bool(tell))
            flagged.append(any(getattr(face, "mirror", "") for face in scores.faces))
    return [
        share("another person's eyes score lower than the right one's", beats),
        share("the same, and nothing says that it cannot be told", verdicts, goal="5 % at most"),
        share("right and other one: said that it cannot be told", cannot, goal="a third or more"),
        share("faces that are no mirror images, flagged as one", flagged, goal="0"),
    ]


def turned() -> list[dict]:
    """The found landmarks against the true ones, by how far the face is turned."""
    numbers = seeds(7, TURNED)
    rows, eyes = [], region_points(68, "eyes")
    for yaw in YAWS:
        faces = render(people_of(numbers), looks_of(numbers, yaw), SIZE, jitter=1.0)
        found, true = analyzer().landmarks(faces.pixels).double(), faces.landmarks.double()
        apart = (true[:, 36:42].mean(1) - true[:, 42:48].mean(1)).norm(dim=1)
        ald = affine_landmark_distance(found[:, eyes], true[:, eyes]) / apart
        points = (found - true).norm(dim=2).mean(1) / apart
        for what, values in (("A-LD eyes", ald), ("points", points)):
            figure = f"{what} off the truth at {yaw} degrees, eye distances"
            rows.append(mean_by(figure, values.tolist(), numbers))
    return rows


class _Told:
    """An analyzer that was told the landmarks of the only face."""

    name, points = "nano", 68

    def __init__(self):
        self.told = []

    def detect(self, image):
        return [Face((0, 0, 9, 9), 0.9, landmarks=self.told.pop(0))]

    def landmarks(self, crops):
        return torch.zeros(len(crops), 68, 2)


def mirror_images() -> list[dict]:
    """Exact landmarks, mirrored without exchanging left and right."""
    numbers = seeds(8, MIRRORED)
    true = render(people_of(numbers), looks_of(numbers), SIZE, jitter=1.0).landmarks
    picture, told = torch.zeros(1, 3, SIZE, SIZE), _Told()
    zero, flagged = [], []
    for points in true:
        told.told = [points, points * torch.tensor([-1.0, 1]) + torch.tensor([SIZE - 1.0, 0])]
        scores = score_landmarks(picture, picture, told)
        zero.append(scores.mean("ald_all") < 0.01)
        flagged.append("mirror" in scores.report())
    return [
        share("mirrored faces that score below 0.01 px", zero),
        share("mirrored faces that are named as such", flagged, goal="100 %"),
    ]
