"""Turned copies and tiles of a picture, for a detector that sees upright faces of one size."""

import pytest
import torch
from facewright.core.faces import Face
from facewright.core.faces.search import search

RED, GREEN = 0, 1
ACROSS = 4
"""Pixels from a face's red dot to its green one, on its right."""


def look(image, largest=10**6, dense=True):
    """A face for every red dot with a green one on its right, in pictures that are small enough."""
    if max(image.shape[-2:]) > largest:
        return []
    faces = []
    for y, x in (image[RED] > 0.5).nonzero().tolist():
        if x + ACROSS < image.shape[2] and image[GREEN, y, x + ACROSS] > 0.5:
            dots = torch.tensor([[x, y], [x + ACROSS, y]]).float()
            box = (x - 3.0, y - 3.0, x + ACROSS + 3.0, y + 3.0)
            score = float(image[RED, y, x])
            faces.append(Face(box, score, dots, dots if dense else None))
    return faces


def picture(*faces, height=60, width=90):
    """Dots for faces (x, y, quarter turns, score)."""
    image = torch.zeros(3, height, width)
    for x, y, quarters, score in faces:
        dx, dy = ((ACROSS, 0), (0, ACROSS), (-ACROSS, 0), (0, -ACROSS))[quarters]
        image[RED, y, x], image[GREEN, y + dy, x + dx] = score, 1
    return image


FOUR = ((20, 15, 0, 0.9), (50, 12, 1, 0.8), (70, 40, 2, 0.7), (30, 45, 3, 0.6))


def test_faces_of_every_quarter_turn_come_back_to_where_they_are():
    found = search(picture(*FOUR), look, rotations=True)
    assert [round(f.score, 3) for f in found] == [0.9, 0.8, 0.7, 0.6]
    for face, (x, y, quarters, _) in zip(found, FOUR, strict=True):
        dx, dy = ((ACROSS, 0), (0, ACROSS), (-ACROSS, 0), (0, -ACROSS))[quarters]
        assert face.points5.tolist() == face.landmarks.tolist() == [[x, y], [x + dx, y + dy]]
        low, high = torch.tensor(face.box).view(2, 2)
        assert (low < high).all() and ((face.points5 > low) & (face.points5 < high)).all()
        assert tuple((high - low).tolist()) == ((10, 6) if quarters % 2 == 0 else (6, 10))
    assert [f.score for f in search(picture(*FOUR), look)] == [pytest.approx(0.9)]


@pytest.mark.parametrize("rotations", [False, True])
@pytest.mark.parametrize("size", [(1100, 800), (300, 1500)])
def test_small_faces_are_found_in_tiles_each_once(size, rotations):
    height, width = size
    spots = [(x, y) for y in range(4, height - 10, 97) for x in range(4, width - 10, 83)]
    scored = ((x, y, 0, 0.51 + 0.001 * i) for i, (x, y) in enumerate(spots))
    image = picture(*scored, height=height, width=width)

    def small(view):
        return look(view, largest=700)

    found = search(image, small, rotations=rotations)
    assert sorted(tuple(int(v) for v in f.points5[0]) for f in found) == sorted(spots)


def test_more_looks_count_only_what_has_landmarks():
    image = picture((20, 20, 0, 0.9), (60, 30, 1, 0.8))
    assert len(search(image, lambda view: look(view, dense=False), rotations=True)) == 1


def test_usual_pictures_are_looked_at_once():
    seen = []
    search(torch.zeros(3, 896, 700), lambda view: seen.append(tuple(view.shape)) or [])
    assert seen == [(3, 896, 700)]
