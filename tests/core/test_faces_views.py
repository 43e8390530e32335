"""What detectors put out, and what they are shown, against loops."""

import math

import numpy as np
import pytest
import torch
from facewright.core.faces.detection_grid import FULL, SHORT, decode
from facewright.core.faces.views import sample, tiles, view, whole
from facewright.core.geometry.warp import transform

# --- the detectors' outputs


def naive_anchors(side, strides, each):
    found = []
    for stride, count in zip(strides, each, strict=True):
        for row in range(side // stride):
            for column in range(side // stride):
                found += [((column + 0.5) * stride / side, (row + 0.5) * stride / side)] * count
    return found


@pytest.mark.parametrize(
    ("grid", "count", "naive"),
    [(SHORT, 896, (128, (8, 16), (2, 6))), (FULL, 2304, (192, (4,), (1,)))],
)
def test_anchors_are_those_of_a_loop(grid, count, naive):
    assert grid.count == count == len(grid.anchors())
    torch.testing.assert_close(grid.anchors(), torch.tensor(naive_anchors(*naive)))


def test_raw_outputs_are_decoded_as_by_hand():
    g = torch.Generator().manual_seed(1)
    raw = torch.randn(2, 896, 16, generator=g) * 20
    logits = torch.full((2, 896, 1), -500.0)
    raw[:, :, 2:4] = 40
    logits[0, 700], logits[0, 3], logits[1, 5] = 2.0, 400.0, 1.0
    raw[1, 5, 7] = torch.nan
    (boxes, scores, points), nothing = decode(SHORT, raw, logits)
    assert [len(t) for t in nothing] == [0, 0, 0]
    assert scores.tolist() == pytest.approx([1.0, 1 / (1 + math.exp(-2.0))])
    for n, k in enumerate((3, 700)):
        v = [float(x) / 128 for x in raw[0, k]]
        ax, ay = naive_anchors(128, (8, 16), (2, 6))[k]
        x, y = v[0] + ax, v[1] + ay
        half_w, half_h = v[2] / 2, v[3] / 2
        want = [x - half_w, y - half_h, x + half_w, y + half_h]
        assert boxes[n].tolist() == pytest.approx(want, abs=1e-6)
        keys = [(v[4 + 2 * i] + ax, v[5 + 2 * i] + ay) for i in range(6)]
        torch.testing.assert_close(points[n], torch.tensor(keys))


def test_a_score_on_the_threshold_counts():
    raw = torch.full((1, 2304, 16), 30.0)
    logits = torch.full((1, 2304, 1), -9.0)
    logits[0, 7] = math.log(0.61 / 0.39)
    assert len(decode(FULL, raw, logits)[0][1]) == 1
    logits[0, 7] = math.log(0.59 / 0.41)  # the full range's threshold is 0.6
    assert len(decode(FULL, raw, logits)[0][1]) == 0


# --- views


def naive_sample(image, x, y, border):
    """Bilinear, pixel i at i; beyond the picture its edge or black."""
    _, h, w = image.shape
    total = np.zeros(3)
    for i in (0, 1):
        for j in (0, 1):
            px, py = math.floor(x) + i, math.floor(y) + j
            weight = (1 - abs(x - px)) * (1 - abs(y - py))
            if border == "border":
                px, py = min(max(px, 0), w - 1), min(max(py, 0), h - 1)
            elif not (0 <= px < w and 0 <= py < h):
                continue
            total += weight * image[:, py, px].numpy()
    return total


@pytest.mark.parametrize("border", ["border", "zeros"])
def test_views_are_sampled_as_the_official_graphs_do(border):
    image = torch.rand(3, 20, 31, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    around = view(torch.tensor([[15.0, 11.0]]), torch.tensor([[40.0, 24.0]]), torch.tensor([0.3]))
    views = torch.cat([around, whole(20, 31)])
    seen = sample(image[None], views, 8, border=border)
    assert seen.shape == (2, 8, 8, 3) and seen.dtype == torch.float32
    c, s = math.cos(0.3), math.sin(0.3)
    for row in range(8):
        for column in range(8):
            u, v = (column / 8 - 0.5) * 40, (row / 8 - 0.5) * 24
            spots = (15 + c * u - s * v, 11 + s * u + c * v), (column / 8 * 31, row / 8 * 31 - 5.5)
            for n, (x, y) in enumerate(spots):
                want = naive_sample(image, x, y, border)
                assert seen[n, row, column].numpy() == pytest.approx(want, abs=0.51 / 255)
    assert ((seen * 255 - (seen * 255).round()).abs() < 1e-3).all()  # 8 bits
    each = sample(image[None].expand(2, -1, -1, -1), views, 8, border=border)
    torch.testing.assert_close(each, seen)


@pytest.mark.parametrize("size", [(900, 60), (700, 1100), (3000, 4000), (8000, 6000), (500, 20000)])
def test_tiles_cover_large_pictures_with_overlap(size):
    height, width = size
    views = tiles(height, width)
    assert 0 < len(views) <= 36
    corners = transform(views, torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64))
    side = corners[0, 1, 0] - corners[0, 0, 0]
    assert side >= 640 and max(size) <= 6 * side
    # Whatever is smaller than a fifth of a tile lies in one of them, wherever it is.
    g = torch.Generator().manual_seed(3)
    faces = torch.rand(500, 2, generator=g).double() * torch.tensor([width, height]).double()
    reach = side / 10
    limit = torch.tensor([width, height]).double()
    low, high = (faces - reach).clamp(min=0), torch.minimum(faces + reach, limit)
    inside = (low[:, None] >= corners[:, 0] - 1e-6) & (high[:, None] <= corners[:, 1] + 1e-6)
    assert inside.all(2).any(1).all()


def test_other_pictures_have_no_tiles():
    assert len(tiles(512, 512)) == len(tiles(896, 896)) == 0
