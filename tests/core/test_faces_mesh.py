"""The mesh's points as iBUG's, and detections of several looks merged, against loops."""

import json
import os
from pathlib import Path

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces.merging import merge_weighted, one_of_each, overlaps
from facewright.core.faces.mesh import IBUG_OF_MESH, mesh_to_5, mesh_to_68
from facewright.core.geometry.templates import template
from facewright.core.geometry.warp import fit_similarity, transform

# iBUG's pairs under a mirror.
MIRROR = (
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
)  # fmt: skip


def official_meshes():
    folder = os.environ.get("FACEWRIGHT_MEDIAPIPE")
    if not folder:
        pytest.skip("name the folder of MediaPipe's files and answers in FACEWRIGHT_MEDIAPIPE")
    answers = json.loads((Path(folder) / "photos.json").read_text(encoding="utf-8"))
    crops = [v["mesh"][0] for name, v in answers.items() if name.startswith("crop_0")]
    return torch.tensor(crops, dtype=torch.float64)


def test_every_point_is_taken_from_the_mesh_once():
    assert len(set(IBUG_OF_MESH)) == len(IBUG_OF_MESH) == 68 and max(IBUG_OF_MESH) < 468
    mesh = torch.arange(478.0)[None, :, None].expand(2, 478, 2)
    assert mesh_to_68(mesh)[1, :, 0].tolist() == list(map(float, IBUG_OF_MESH))
    assert mesh_to_68(mesh[:, :468]).shape == mesh_to_68(mesh).shape == (2, 68, 2)
    five = mesh_to_5(mesh)[0, :, 0].tolist()
    assert five[2:] == [1, 61, 291]
    assert five[0] == pytest.approx(sum((33, 160, 158, 133, 153, 144)) / 6)
    assert mesh_to_68(torch.zeros(0, 478, 2)).shape == (0, 68, 2)


@pytest.mark.parametrize("shape", [(478, 2), (1, 478, 3), (1, 68, 2)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(FacewrightError, match="face mesh should be"):
        mesh_to_68(torch.zeros(shape))


def test_official_meshes_have_ibugs_shape():
    meshes = official_meshes()
    points = mesh_to_68(meshes)
    upright = transform(fit_similarity(mesh_to_5(meshes), template(512)), points).mean(0)
    # The mean face is nearly its own mirror image: each point's partner is the right one.
    mirrored = upright[list(MIRROR)] * torch.tensor([-1.0, 1.0]) + torch.tensor([511.0, 0])
    assert (upright - mirrored).norm(dim=1).max() < 40
    gaps = torch.cdist(upright, mirrored)
    assert (gaps.argmin(1) == torch.arange(68)).float().mean() > 0.85
    x, y = upright.unbind(1)
    assert (x[:16].diff()[1:] > 0).all() and (y[:9].diff() > 0).all() and (y[8:17].diff() < 0).all()
    for row in (range(17, 27), range(31, 36), range(36, 40), range(42, 46), range(48, 55)):
        assert (x[list(row)].diff() > 0).all()
    assert (y[27:31].diff() > 0).all() and (x[27:31] - 256).abs().max() < 20
    lids = ((37, 41), (38, 40), (43, 47), (44, 46))
    lips = ((50, 61), (51, 62), (62, 66), (66, 57), (61, 67), (67, 58))
    assert all(y[above] < y[below] for above, below in (*lids, *lips))
    assert (y[17:27] < y[36:48].min() - 20).all()


def test_official_meshes_lie_as_the_template_has_them():
    five = mesh_to_5(official_meshes())  # photographs that were aligned to it
    assert (five.mean(0) - template(512)).abs().max() < 12


# --- merging


def naive_share(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area_a, area_b = ((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    shared = width * height
    return shared / (area_a + area_b - shared), shared / min(area_a, area_b)


def naive_merge(boxes, scores, points, overlap):
    rows = sorted(zip(scores, boxes, points, strict=True), key=lambda row: -row[0])
    found = []
    while rows:
        group = [row for row in rows if naive_share(rows[0][1], row[1])[0] > overlap]
        rows = [row for row in rows if row not in group]
        total = sum(row[0] for row in group)
        mean = [sum(r[0] * r[1][i] for r in group) / total for i in range(4)]
        spots = [[sum(r[0] * r[2][k][i] for r in group) / total for i in (0, 1)] for k in range(3)]
        found.append((mean, group[0][0], spots))
    return found


def some_detections(n=60, seed=0):
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=g, dtype=torch.float64) * 3
    size = 0.5 + torch.rand(n, 2, generator=g, dtype=torch.float64)
    points = torch.rand(n, 3, 2, generator=g, dtype=torch.float64)
    return torch.cat([corner, corner + size], 1), torch.rand(n, generator=g).double(), points


def test_shares_are_those_of_a_loop():
    boxes, _, _ = some_detections(20)
    union, smaller = overlaps(boxes, boxes[:7])
    for i, a in enumerate(boxes.tolist()):
        for j, b in enumerate(boxes[:7].tolist()):
            assert (union[i, j], smaller[i, j]) == pytest.approx(naive_share(a, b))
    nothing = torch.zeros(2, 4)
    assert overlaps(nothing, nothing)[0].tolist() == [[0, 0], [0, 0]]


def test_weighted_merging_is_that_of_a_loop():
    boxes, scores, points = some_detections()
    found = merge_weighted(boxes, scores, points, 0.3)
    wanted = naive_merge(boxes.tolist(), scores.tolist(), points.tolist(), 0.3)
    assert 5 < len(wanted) < 40
    for got, want in zip(found, zip(*wanted, strict=True), strict=True):
        torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))
    empty = merge_weighted(boxes[:0], scores[:0], points[:0])
    assert [tuple(t.shape) for t in empty] == [(0, 4), (0,), (0, 3, 2)]
    assert len(merge_weighted(torch.zeros(2, 4), torch.ones(2), torch.zeros(2, 3, 2))[0]) == 2


def test_no_face_counts_twice():
    boxes = torch.tensor(
        [[0, 0, 10, 10], [2, 2, 12, 12], [20, 0, 30, 10], [22, 1, 27, 6], [9, 9, 19, 19]]
    ).float()
    scores = torch.tensor([0.7, 0.9, 0.6, 0.8, 0.5])
    # 0 and 1 overlap, 3 lies in 2, 4 only touches its neighbours.
    assert one_of_each(boxes, scores).tolist() == [1, 3, 4]
    assert one_of_each(boxes[:0], scores[:0]).tolist() == []
