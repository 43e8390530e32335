import pytest
import torch
from facewright.core.drawing.faces import FRAME, draw_faces
from facewright.core.drawing.names import BY_HAND, NOBODY, UNSURE, draw_matches
from facewright.core.faces import Face
from facewright.core.geometry.align import align_faces
from facewright.core.people.matching import match_people
from facewright.core.people.person import Person


def faces_at(*centres):
    return [Face((x - 15.0, y - 15.0, x + 15.0, y + 15.0), 1.0) for x, y in centres]


def test_frames_are_drawn_around_faces_and_nothing_else_changes():
    images = torch.rand(2, 3, 120, 160)
    crops = align_faces(images, [faces_at((50, 60), (110, 60)), []], 64)
    out = draw_faces(images, crops)
    assert torch.equal(out[1], images[1])
    changed = (out[0] != images[0]).any(0)
    assert 0 < changed.float().mean() < 0.3
    assert not changed[55:65, 46:54].any()  # the middle of a face stays visible
    # The frame runs where the crop's own border maps to.
    border = torch.tensor([[-0.5, -0.5], [63.5, -0.5], [63.5, 63.5], [-0.5, 63.5]])
    for matrix in crops.matrix:
        inverse = torch.linalg.inv(torch.cat([matrix, matrix.new_tensor([[0, 0, 1]])]))
        corners = (torch.cat([border, torch.ones(4, 1)], 1).double() @ inverse.T)[:, :2]
        for a, b in zip(corners, corners.roll(-1, 0), strict=True):
            x, y = ((a + b) / 2).round().long().tolist()
            if 0 <= x < 160 and 0 <= y < 120:
                assert changed[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].any()


def test_no_faces_no_paint():
    images = torch.rand(1, 3, 30, 30)
    assert torch.equal(draw_faces(images, align_faces(images, [[]], 64)), images)


def test_names_stay_inside_the_picture():
    images = torch.full((1, 3, 120, 160), 0.5)
    crops = align_faces(images, [faces_at((8, 8), (150, 110))], 64)  # corners far outside
    plain = draw_faces(images, crops, ["", ""])
    named = draw_faces(images, crops, ["somebody", "me"])
    ink = (named != plain).any(1)[0]
    columns = ink.nonzero()[:, 1]
    left = columns < 80
    # All of both names: letters are at least 4 pixels wide here.
    assert columns[left].max() - columns[left].min() > 8 * 4
    assert columns[~left].max() - columns[~left].min() > 2 * 4
    assert not torch.equal(named, draw_faces(images, crops))


def person(name, embedding):
    return Person(
        name=name, crops=torch.zeros(1, 3, 4, 4), embeddings=embedding[None],
        landmarks=torch.zeros(1, 68, 2), quality=torch.ones(1), recogniser="r:1", sources=("a",),
    )  # fmt: skip


@pytest.mark.parametrize("times", [1, 8])
def test_names_lie_at_the_faces_in_a_color_that_says_how_sure_they_are(times):
    """Of four faces in a row one is clear, one unsure, one told by hand and one nobody's; the
    letters are as large a part of a picture eight times the size."""
    h, w = 120 * times, 400 * times
    images = torch.full((1, 3, h, w), 0.5)
    centres = [(x * times, 60 * times) for x in (50, 150, 250, 350)]
    half = 15 * times
    found = [Face((x - half, y - half, x + half, y + half), 1.0) for x, y in centres]
    crops = align_faces(images, [found], 64)
    albums = [person(name, torch.eye(5)[i]) for i, name in enumerate(("Ada", "Bo", "Cy", "Di"))]
    looks = torch.tensor([[0.9, 0, 0, 0], [0, 0.62, 0.61, 0], [0, 0, 0, 0.1], [0.0, 0, 0, 0]])
    rest = (1 - (looks**2).sum(1, keepdim=True)).sqrt()
    matches = match_people(
        torch.cat([looks, rest], 1), torch.zeros(4).long(), albums, 0.5, recogniser="r:1",
        assign={2: "Di"},
    )  # fmt: skip
    assert matches.names == ["Ada", "Bo or Cy", "Di", "nobody"]
    out = draw_matches(images, crops, matches)[0]
    below = out[:, (60 + 15) * times :]
    for (x, _), color in zip(centres, (FRAME, UNSURE, BY_HAND, NOBODY), strict=True):
        plate = below[:, :, x - 50 * times : x + 50 * times]
        painted = ((plate - torch.tensor(color).view(3, 1, 1) / 255).abs() < 0.01).all(0)
        assert int(painted.sum()) > 300 * times
        # As high as a plate with letters is, at the middle of the face.
        column = painted[:, 50 * times - 20 * times : 50 * times + 20 * times].any(1)
        assert column.sum() >= max(13, 6 * times)
        assert (plate < 0.2).all(0).sum() > 15 * times, "letters"
    assert torch.equal(out[:, : 5 * times], images[0, :, : 5 * times])


def test_names_that_would_lie_over_one_another_are_moved_apart():
    images = torch.full((1, 3, 120, 120), 0.5)
    crops = align_faces(images, [faces_at((50, 60), (60, 60), (70, 60))], 64)
    albums = [person("somebody", torch.eye(4)[0])]
    matches = match_people(torch.eye(4)[:3], torch.zeros(3).long(), albums, 0.5, recogniser="r:1")
    out = draw_matches(images, crops, matches)[0]
    grey = ((out - torch.tensor(NOBODY).view(3, 1, 1) / 255).abs() < 0.01).all(0)
    yellow = ((out - torch.tensor(FRAME).view(3, 1, 1) / 255).abs() < 0.01).all(0)
    assert grey.sum() > 2 * 400 and yellow.sum() > 400  # none of the three is covered
