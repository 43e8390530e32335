"""Alignment against least squares, scikit-image and SciPy."""

import math

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces import Face
from facewright.core.geometry.align import align_faces, box_points
from facewright.core.geometry.landmarks import five_points
from facewright.core.geometry.templates import template
from facewright.core.geometry.warp import (
    corners,
    fit_similarity,
    invert,
    transform,
    warp,
    warp_square,
)


def face_at(points):
    return Face((0, 0, 9, 9), 1.0, points5=points)


def similarity(scale, angle, x, y):
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return torch.tensor([[c, -s, x], [s, c, y]], dtype=torch.float64)


def smooth_picture(height, width, seed=0):
    g = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, height // 12 + 2, width // 12 + 2, generator=g)
    big = torch.nn.functional.interpolate(small, (height, width), mode="bicubic")
    return big[0].clamp(0, 1)


def test_similarity_is_the_least_squares_solution():
    g = torch.Generator().manual_seed(1)
    source = torch.rand(7, 5, 2, generator=g, dtype=torch.float64) * 300
    target = torch.rand(7, 5, 2, generator=g, dtype=torch.float64) * 100
    got = fit_similarity(source, target)
    for s, t, m in zip(source.numpy(), target.numpy(), got.numpy(), strict=True):
        rows = [[x, -y, 1, 0] for x, y in s] + [[y, x, 0, 1] for x, y in s]
        a, b, tx, ty = np.linalg.lstsq(np.array(rows), t.T.ravel(), rcond=None)[0]
        np.testing.assert_allclose(m, [[a, -b, tx], [b, a, ty]], atol=1e-9)


def test_similarity_equals_umeyama_of_scikit_image():
    transforms = pytest.importorskip("skimage.transform")
    g = torch.Generator().manual_seed(2)
    source = torch.rand(1, 5, 2, generator=g, dtype=torch.float64) * 200
    target = template(512)
    reference = transforms.estimate_transform("similarity", source[0].numpy(), target.numpy())
    got = fit_similarity(source, target)[0].numpy()
    np.testing.assert_allclose(got, reference.params[:2], atol=1e-8)


@pytest.mark.parametrize("bad", [torch.ones(1, 5, 2), torch.full((1, 5, 2), torch.nan)])
def test_impossible_landmarks_are_refused(bad):
    with pytest.raises(FacewrightError):
        fit_similarity(bad, template(512))


def test_template_scales_about_pixel_edges():
    half = template(256)
    torch.testing.assert_close((template(512) + 0.5) / 2, half + 0.5)


def test_identity_warp_keeps_every_pixel():
    picture = torch.rand(3, 17, 23)
    unit = torch.eye(2, 3, dtype=torch.float64)
    torch.testing.assert_close(warp(picture, unit, (0, 0, 23, 17)), picture, atol=2e-5, rtol=0)


def test_enlarging_agrees_with_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    picture = smooth_picture(60, 80)
    matrix = similarity(2.3, 0.4, 5.0, -20.0)
    got = warp(picture, matrix, (20, 10, 90, 70))
    xy = transform(
        invert(matrix),
        torch.stack(
            torch.meshgrid(torch.arange(20.0, 90), torch.arange(10.0, 70), indexing="xy"), -1
        )
        .double()
        .flatten(0, 1),
    )
    coordinates = xy.flip(1).T.reshape(2, 60, 70).numpy()
    for c in range(3):
        want = ndimage.map_coordinates(picture[c].numpy(), coordinates, order=3, mode="reflect")
        assert np.abs(got[c].numpy() - want).max() < 0.01


@pytest.mark.parametrize("factor", [2, 3, 4, 6, 8])
def test_shrinking_by_whole_factors_is_the_block_mean(factor):
    picture = torch.rand(3, 30 * factor, 24 * factor)
    matrix = torch.tensor([[1, 0, 0.5], [0, 1, 0.5]], dtype=torch.float64) / factor
    matrix[:, 2] -= 0.5
    want = torch.nn.functional.avg_pool2d(picture[None], factor)[0]
    got = warp(picture, matrix, (0, 0, 24, 30))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


def test_shrinking_does_not_alias():
    # A checkerboard of single pixels: sampled it flickers, averaged it is grey.
    rows, columns = torch.meshgrid(torch.arange(300), torch.arange(300), indexing="ij")
    board = ((rows + columns) % 2).float().expand(3, -1, -1)
    for scale in (0.31, 0.62, 0.13):
        got = warp(board, similarity(scale, 0.3, 40.0, 0.0), (35, 25, 45, 35))
        assert (got - 0.5).abs().max() < 0.3 if scale > 0.5 else (got - 0.5).abs().max() < 0.08


def test_a_known_similarity_is_undone():
    goal = template(128)
    picture = smooth_picture(200, 240, 3)
    points = transform(invert(similarity(1.4, -0.3, -30.0, 10.0)), goal)
    crops = align_faces(picture[None], [[face_at(points.float())]], 128)
    torch.testing.assert_close(
        crops.matrix[0], similarity(1.4, -0.3, -30.0, 10.0), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(transform(crops.matrix[0], points), goal, atol=1e-4, rtol=0)
    assert crops.pixels.shape == (1, 3, 128, 128)
    assert crops.landmarks.shape == (1, 5, 2)


def test_smaller_crops_are_reductions_of_larger_ones():
    picture = smooth_picture(300, 300, 4)
    face = face_at(template(512) * 0.4 + 20)
    big = align_faces(picture[None], [[face]], 512).pixels
    small = align_faces(picture[None], [[face]], 128).pixels
    want = torch.nn.functional.avg_pool2d(big, 4)
    assert (small - want).abs().mean() < 0.003


def test_batches_with_any_number_of_faces():
    pictures = [torch.rand(3, 40, 50), torch.rand(4, 64, 64), torch.rand(3, 1, 1)]
    one = face_at(torch.rand(5, 2) * 30)
    boxed = Face((5, 5, 30, 30), 0.5)
    crops = align_faces(pictures, [[], [one, boxed], []], 32)
    assert crops.pixels.shape == (2, 3, 32, 32)
    assert crops.image_index.tolist() == [1, 1]
    assert crops.image_sizes == [(40, 50), (64, 64), (1, 1)]
    assert "unchanged" in crops.report[0]
    assert "1 of them aligned by box" in crops.report[1]
    assert crops.landmarks is None


def test_no_face_at_all():
    crops = align_faces(torch.rand(2, 3, 8, 8), [[], []], 64)
    assert len(crops) == 0
    assert crops.pixels.shape == (0, 3, 64, 64)
    assert crops.matrix.shape == (0, 2, 3)
    assert crops.boxes.shape == (0, 4)
    empty = align_faces(torch.rand(0, 3, 8, 8), [], 64)
    assert empty.pixels.shape == (0, 3, 64, 64)
    assert empty.report == []


def test_batch_equals_one_by_one():
    pictures = torch.rand(2, 3, 50, 60)
    faces = [[Face((5, 5, 30, 30), 1.0)], [Face((20, 10, 50, 45), 1.0, angle=0.3)]]
    together = align_faces(pictures, faces, 48).pixels
    for i in range(2):
        alone = align_faces(pictures[i : i + 1], [faces[i]], 48).pixels
        assert torch.equal(alone[0], together[i])


def test_beyond_the_border_the_picture_is_mirrored():
    picture = smooth_picture(64, 64, 5)
    matrix = torch.eye(2, 3, dtype=torch.float64)
    got = warp(picture, matrix, (-10, 0, 10, 64))
    torch.testing.assert_close(got[:, :, :10], got[:, :, 10:].flip(2), atol=1e-5, rtol=0)


def test_a_huge_face_is_reduced_in_reasonable_memory():
    picture = torch.rand(1, 1, 1).expand(3, 3000, 4000)
    face = Face((500, 300, 3200, 2800), 1.0)
    crop = align_faces([picture], [[face]], 64).pixels
    torch.testing.assert_close(crop, picture[None, :, :64, :64].contiguous())


def test_box_points_turn_with_the_head():
    upright = box_points(Face((0, 0, 100, 100), 1.0))
    turned = box_points(Face((0, 0, 100, 100), 1.0, angle=math.pi / 2))
    want = torch.stack([50 - (upright[:, 1] - 50), upright[:, 0]], 1)
    torch.testing.assert_close(turned, want)


def test_wrong_input_gets_a_sentence():
    with pytest.raises(FacewrightError, match="greyscale"):
        align_faces(torch.rand(1, 1, 8, 8), [[]])
    with pytest.raises(FacewrightError, match="floating point"):
        align_faces(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), [[]])
    with pytest.raises(FacewrightError, match="face lists"):
        align_faces(torch.rand(2, 3, 8, 8), [[]])


def test_five_points_of_68():
    points = torch.arange(136.0).view(1, 68, 2)
    got = five_points(points)[0]
    assert got[2].tolist() == points[0, 30].tolist()
    assert got[0].tolist() == points[0, 36:42].mean(0).tolist()
    with pytest.raises(FacewrightError):
        five_points(torch.rand(1, 5, 2))


def test_corners_are_the_outer_edges():
    assert corners(2, 3).tolist() == [[-0.5, -0.5], [2.5, -0.5], [2.5, 1.5], [-0.5, 1.5]]


@pytest.mark.parametrize("step", [2.6, 3.4, 9.0])
def test_a_shrunk_square_shows_each_place_where_it_lies(step):
    """A long wave is kept as it is; half a fine pixel of shift would be seen."""
    size, wave = 24, 2 * math.pi / (9 * step)
    side = round(size * step) + 40
    y, x = torch.meshgrid(*[torch.arange(side, dtype=torch.float64)] * 2, indexing="ij")
    picture = (0.5 + 0.4 * torch.sin(wave * (x + 0.5 * y)))[None].float()
    matrix = torch.tensor([[1 / step, 0, -3.0], [0, 1 / step, -2.0]], dtype=torch.float64)
    at = torch.arange(size, dtype=torch.float64)
    v, u = torch.meshgrid(at, at, indexing="ij")
    expected = 0.5 + 0.4 * torch.sin(wave * step * ((u + 3) + 0.5 * (v + 2)))
    got = warp_square(picture, matrix, size)[0]
    assert (got - expected)[4:-4, 4:-4].abs().max() < 0.01
