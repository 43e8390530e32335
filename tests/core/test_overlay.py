import torch
from facewright.core.drawing.faces import draw_faces
from facewright.core.faces import Face
from facewright.core.geometry.align import align_faces


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
