"""Heatmaps of landmarks against a loop, and their cells against pixel averaging."""

import math

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.geometry.heatmaps import cells_to_pixels, gaussian_heatmaps, pixels_to_cells


def test_are_gaussians_cell_by_cell():
    points = torch.tensor([[[3.2, 40.0], [90.5, 17.0]], [[-8.0, 50.0], [60.0, 60.0]]]).double()
    got = gaussian_heatmaps(points, 96, size=12, sigma=1.3)
    assert got.shape == (2, 2, 12, 12)
    for i in range(2):
        for k in range(2):
            x, y = ((float(v) + 0.5) * 12 / 96 - 0.5 for v in points[i, k])
            for row in range(12):
                for column in range(12):
                    d2 = (column - x) ** 2 + (row - y) ** 2
                    expected = math.exp(-d2 / (2 * 1.3**2))
                    assert float(got[i, k, row, column]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("size", [64, 128, 512, 100])
def test_a_cell_is_where_its_pixels_are(size):
    cells = torch.arange(64.0)
    pixels = cells_to_pixels(cells, size)
    assert torch.allclose(pixels_to_cells(pixels, size), cells, atol=1e-4)
    if size % 64 == 0:  # the centre of a cell is the mean position of the pixels it averages
        mean = torch.arange(float(size)).view(64, -1).mean(1)
        assert torch.allclose(pixels, mean, atol=1e-4)


def test_a_point_at_a_cell_centre_gives_one():
    point = cells_to_pixels(torch.tensor([[[7.0, 30.0]]]), 512)
    maps = gaussian_heatmaps(point, 512)
    assert float(maps[0, 0, 30, 7]) == pytest.approx(1.0)
    assert float(maps.max()) == float(maps[0, 0, 30, 7])


def test_refusals():
    with pytest.raises(FacewrightError, match=r"\(n, k, 2\)"):
        gaussian_heatmaps(torch.zeros(68, 2), 128)
    with pytest.raises(FacewrightError, match="above 0"):
        gaussian_heatmaps(torch.zeros(1, 68, 2), 128, sigma=0.0)
    assert gaussian_heatmaps(torch.zeros(0, 68, 2), 128).shape == (0, 68, 64, 64)
