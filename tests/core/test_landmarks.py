"""A-LD and L2-LD against per-pair least squares, naive loops and their own invariances."""

import math

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.geometry.landmarks import (
    affine_landmark_distance,
    best_affine,
    landmark_distance,
    region_points,
)


def faces(pairs, points, seed=0):
    g = torch.Generator().manual_seed(seed)
    gt = torch.rand(pairs, points, 2, generator=g, dtype=torch.float64) * 512
    return gt + 3 * torch.randn(gt.shape, generator=g, dtype=torch.float64), gt


def reference(restored, gt, weights=None):
    """Eq. 14 pair by pair with numpy.linalg.lstsq on homogeneous points, minimum norm."""
    values = []
    for i, (source, target) in enumerate(zip(restored.numpy(), gt.numpy(), strict=True)):
        w = np.ones(len(source)) if weights is None else np.broadcast_to(weights, gt.shape[:2])[i]
        # Centred about the weighted means; the translation is free.
        x = source - (w[:, None] * source).sum(0) / w.sum()
        y = target - (w[:, None] * target).sum(0) / w.sum()
        root = np.sqrt(w)[:, None]
        solution = np.linalg.lstsq(root * x, root * y, rcond=1e-6)[0]
        values.append(((root * (x @ solution - y)) ** 2).sum())
    return np.array(values)


@pytest.mark.parametrize("points", [5, 34, 68, 98])
def test_is_the_least_squares_residual(points):
    restored, gt = faces(300, points)  # more than one chunk
    got = affine_landmark_distance(restored, gt, squared=True)
    np.testing.assert_allclose(got, reference(restored, gt), rtol=1e-12)
    np.testing.assert_allclose(affine_landmark_distance(restored, gt), got.sqrt(), rtol=1e-15)


def test_is_the_printed_equation_where_that_is_well_conditioned():
    restored, gt = faces(4, 20)
    weights = torch.rand(20, dtype=torch.float64)
    expected = []
    for source, target in zip(restored, gt, strict=True):
        l, h, w = torch.cat([source, torch.ones(20, 1)], 1).T, target.T, torch.diag(weights)  # noqa: E741
        a = h @ w @ l.T @ torch.linalg.inv(l @ w @ l.T)
        expected.append((weights * (a @ l - h).square().sum(0)).sum())
    got = affine_landmark_distance(restored, gt, weights, squared=True)
    np.testing.assert_allclose(got, torch.stack(expected), rtol=1e-7)


def test_weights_are_those_of_least_squares():
    restored, gt = faces(9, 30)
    g = torch.Generator().manual_seed(1)
    shared = torch.rand(30, generator=g, dtype=torch.float64)
    own = torch.rand(9, 30, generator=g, dtype=torch.float64)
    for weights in (shared, own):
        got = affine_landmark_distance(restored, gt, weights, squared=True)
        np.testing.assert_allclose(got, reference(restored, gt, weights.numpy()), rtol=1e-12)
    scaled = affine_landmark_distance(restored, gt, 7 * own, squared=True)
    np.testing.assert_allclose(scaled, 7 * got, rtol=1e-13)


def test_weight_zero_is_leaving_out():
    restored, gt = faces(6, 30)
    weights = torch.ones(30)
    weights[[0, 4, 17]] = 0
    keep = weights > 0
    np.testing.assert_allclose(
        affine_landmark_distance(restored, gt, weights),
        affine_landmark_distance(restored[:, keep], gt[:, keep]),
        rtol=1e-12,
    )


def affine(seed):
    g = torch.Generator().manual_seed(seed)
    return torch.eye(2, dtype=torch.float64) + 0.4 * torch.randn(
        2, 2, generator=g, dtype=torch.float64
    )


def test_affine_maps_of_the_restored_points_are_free():
    restored, gt = faces(5, 68)
    expected = affine_landmark_distance(restored, gt)
    moved = restored @ affine(1) + torch.tensor([30.0, -7.0])
    np.testing.assert_allclose(affine_landmark_distance(moved, gt), expected, rtol=1e-11)
    # An affine image of the truth itself: nothing is left but rounding.
    assert (affine_landmark_distance(gt @ affine(2) + 11, gt) < 1e-10).all()
    assert torch.equal(affine_landmark_distance(gt, gt), torch.zeros(5).double())


@pytest.mark.parametrize("condition", [1, 30, 1e3, 1e5])
def test_so_are_squeezed_mirrored_and_far_ones(condition):
    restored, gt = faces(50, 34)
    expected = affine_landmark_distance(restored, gt, squared=True)
    g = torch.Generator().manual_seed(6)
    turns = [torch.linalg.qr(torch.randn(50, 2, 2, generator=g).double())[0] for _ in range(2)]
    squeeze = torch.diag(torch.tensor([3.0, -3.0 / condition], dtype=torch.float64))
    moved = restored @ (turns[0] @ squeeze @ turns[1]).mT + torch.tensor([900.0, -700.0])
    got = affine_landmark_distance(moved, gt, squared=True)
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_equals_homogeneous_least_squares_pair_by_pair():
    restored, gt = faces(100, 98)
    expected = []
    for source, target in zip(restored.numpy(), gt.numpy(), strict=True):
        l = np.concatenate([source, np.ones((98, 1))], 1)  # noqa: E741
        expected.append(np.linalg.lstsq(l, target, rcond=None)[1].sum())
    got = affine_landmark_distance(restored, gt, squared=True)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_what_motion_of_the_truth_does():
    restored, gt = faces(5, 68)
    expected = affine_landmark_distance(restored, gt)
    c, s = math.cos(0.7), math.sin(0.7)
    rotation = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    mirror = torch.tensor([[-1.0, 0], [0, 1]], dtype=torch.float64)
    for matrix in (rotation, mirror):
        moved = affine_landmark_distance(restored, gt @ matrix - 40)
        np.testing.assert_allclose(moved, expected, rtol=1e-11)
    np.testing.assert_allclose(affine_landmark_distance(restored, 2.5 * gt), 2.5 * expected)
    shear = torch.tensor([[1.0, 0.5], [0, 1]], dtype=torch.float64)
    assert ((affine_landmark_distance(restored, gt @ shear) / expected - 1).abs() > 0.01).all()


def test_has_a_direction():
    restored, gt = faces(5, 68)
    there, back = affine_landmark_distance(restored, gt), affine_landmark_distance(gt, restored)
    assert ((there - back).abs() > 1e-6).all()


def test_order_and_batch_do_not_matter():
    restored, gt = faces(300, 20)
    order = torch.randperm(20)
    expected = affine_landmark_distance(restored, gt)
    shuffled = affine_landmark_distance(restored[:, order], gt[:, order])
    np.testing.assert_allclose(shuffled, expected, rtol=1e-12)
    single = [affine_landmark_distance(r[None], h[None]) for r, h in zip(restored, gt, strict=True)]
    np.testing.assert_allclose(torch.cat(single), expected, rtol=1e-12)


def test_no_map_is_better_than_doing_nothing_is_bad():
    restored, gt = faces(50, 12)
    still = (restored - gt).square().sum((1, 2))
    assert (affine_landmark_distance(restored, gt, squared=True) <= still).all()
    flat = restored @ torch.tensor([[1.0, 0], [0, 0]], dtype=torch.float64)
    assert (affine_landmark_distance(flat, gt) >= affine_landmark_distance(restored, gt)).all()


def eyebrow(thickness):
    g = torch.Generator().manual_seed(3)
    x = torch.linspace(100, 180, 9, dtype=torch.float64)
    y = 200 + thickness * torch.rand(9, generator=g, dtype=torch.float64)
    restored = torch.stack([x, y], 1)
    return restored, restored + torch.randn(9, 2, generator=g, dtype=torch.float64)


def printed(restored, gt, dtype):
    """Eq. 15 as it stands in the paper: A = H L^T (L L^T)^-1 on homogeneous points."""
    l = torch.cat([restored, torch.ones(len(restored), 1)], 1).T.to(dtype)  # noqa: E741
    h = gt.T.to(dtype)
    try:
        a = h @ l.T @ torch.linalg.inv(l @ l.T)
    except RuntimeError:  # found singular
        return math.nan
    return float((a @ l - h).square().sum())


@pytest.mark.parametrize("thickness", [0.5, 0.05, 5e-4])
def test_nearly_collinear_points(thickness):
    restored, gt = eyebrow(thickness)
    (expected,) = reference(restored[None], gt[None])
    got = float(affine_landmark_distance(restored[None], gt[None], squared=True))
    assert got == pytest.approx(expected, rel=1e-11)
    # The printed equation is of no use here in float32.
    assert not abs(printed(restored, gt, torch.float32) / expected - 1) < 10


def test_float64_does_not_save_the_printed_equation():
    restored, gt = eyebrow(2e-4)
    (expected,) = reference(restored[None], gt[None])
    got = float(affine_landmark_distance(restored[None], gt[None], squared=True))
    assert got == pytest.approx(expected, rel=1e-9)
    assert not abs(printed(restored, gt, torch.float64) / expected - 1) < 0.05
    line = torch.stack([restored[:, 0], restored[:, 0] / 2 + 3], 1)
    (expected,) = reference(line[None], gt[None])
    got = float(affine_landmark_distance(line[None], gt[None], squared=True))
    assert got == pytest.approx(expected, rel=1e-11)
    assert not abs(printed(line, gt, torch.float64) / expected - 1) < 10


@pytest.mark.parametrize("direction", [(1, 0), (0, 1), (3, -2)])
def test_collinear_points_take_the_minimum_norm(direction):
    _, gt = faces(4, 10)
    along = torch.rand(4, 10, 1, dtype=torch.float64) * 100
    line = along * torch.tensor(direction, dtype=torch.float64) + 50
    got = affine_landmark_distance(line, gt, squared=True)
    np.testing.assert_allclose(got, reference(line, gt), rtol=1e-9)


def test_one_place_leaves_the_spread_of_the_truth():
    _, gt = faces(4, 10)
    got = affine_landmark_distance(torch.full_like(gt, 77), gt, squared=True)
    spread = 10 * gt.var(1, correction=0).sum(1)
    np.testing.assert_allclose(got, spread, rtol=1e-12)


@pytest.mark.parametrize("points", [1, 2, 3])
def test_up_to_three_points_always_fit(points):
    restored, gt = faces(20, points)
    assert (affine_landmark_distance(restored, gt, squared=True) < 1e-15).all()


def test_the_best_map_leaves_just_this():
    restored, gt = faces(20, 34)
    restored[3] = restored[3, :, :1] * torch.tensor([1.0, 0.5])  # a line
    restored[4] = 7.0  # one place
    matrix = best_affine(restored, gt)
    mapped = restored @ matrix[:, :, :2].mT + matrix[:, None, :, 2]
    left = (mapped - gt).square().sum((1, 2))
    expected = affine_landmark_distance(restored, gt, squared=True)
    np.testing.assert_allclose(left, expected, rtol=1e-10)
    assert best_affine(restored[:0], gt[:0]).shape == (0, 2, 3)
    with pytest.raises(FacewrightError, match="as many faces"):
        best_affine(restored, gt[:1])


def test_gradients_are_those_of_differences():
    restored, gt = faces(2, 6)
    weights = torch.rand(2, 6, dtype=torch.float64) + 0.1
    inputs = [t.requires_grad_() for t in (restored, gt, weights)]
    assert torch.autograd.gradcheck(affine_landmark_distance, inputs)
    assert torch.autograd.gradcheck(landmark_distance, inputs[:2])


@pytest.mark.parametrize("case", ["equal", "collinear", "one place", "two points"])
def test_gradients_stay_finite(case):
    restored, gt = faces(2, 6)
    if case == "equal":
        restored = gt.clone()
    elif case == "collinear":
        restored = restored[..., :1].repeat(1, 1, 2)
    elif case == "one place":
        restored = torch.zeros_like(gt)
    else:
        restored, gt = restored[:, :2], gt[:, :2]
    restored.requires_grad_()
    total = affine_landmark_distance(restored, gt).sum() + landmark_distance(restored, gt).sum()
    total.backward()
    assert restored.grad.isfinite().all()


def test_l2_is_the_mean_distance():
    restored, gt = faces(7, 98)
    expected = [
        np.mean([math.dist(p, q) for p, q in zip(a.tolist(), b.tolist(), strict=True)])
        for a, b in zip(restored, gt, strict=True)
    ]
    np.testing.assert_allclose(landmark_distance(restored, gt), expected, rtol=1e-14)
    assert torch.equal(landmark_distance(restored, gt), landmark_distance(gt, restored))
    assert torch.equal(landmark_distance(gt, gt), torch.zeros(7).double())


def test_float32_landmarks_are_computed_in_float64():
    restored, gt = (p.float() for p in faces(5, 68))
    got = affine_landmark_distance(restored, gt, squared=True)
    assert got.dtype == torch.float64
    np.testing.assert_allclose(got, reference(restored.double(), gt.double()), rtol=1e-12)


def test_no_faces():
    nothing = torch.zeros(0, 68, 2)
    assert affine_landmark_distance(nothing, nothing).shape == (0,)
    assert landmark_distance(nothing, nothing).shape == (0,)


def test_regions():
    assert region_points(68, "eyes") == [*range(17, 27), *range(36, 48)]
    assert len(region_points(98, "eyes")) == 34
    assert not {96, 97} & set(region_points(98, "eyes"))  # pupils
    assert region_points(98, "mouth") == list(range(76, 96))
    assert region_points(98, "outer_mouth") == list(range(76, 88))
    assert region_points(68, "outer_mouth") == list(range(48, 60))
    with pytest.raises(FacewrightError, match="98"):
        region_points(5, "eyes")
    with pytest.raises(FacewrightError, match="outer_mouth"):
        region_points(68, "nose")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"restored": torch.zeros(3, 4, 3)}, r"\(b, k, 2\)"),
        ({"restored": torch.zeros(4, 2)}, r"\(b, k, 2\)"),
        ({"restored": torch.zeros(3, 0, 2)}, r"\(b, k, 2\)"),
        ({"restored": torch.zeros(2, 5, 2)}, "as many faces"),
        ({"gt": torch.tensor([0, math.nan, 0])[:, None, None].repeat(1, 5, 2)}, r"`gt`.*faces 1;"),
        ({"weights": torch.ones(4)}, r"\(5,\) or \(3, 5\)"),
        ({"weights": torch.tensor([1.0, 1, -1, 1, 1])}, "zero or positive"),
        ({"weights": torch.zeros(5)}, "at least one positive"),
        ({"weights": torch.full((5,), math.inf)}, "zero or positive"),
    ],
)
def test_refusals(change, words):
    arguments = {"restored": torch.rand(3, 5, 2), "gt": torch.rand(3, 5, 2)} | change
    with pytest.raises(FacewrightError, match=words):
        affine_landmark_distance(**arguments)
