"""Pasting touches the masked pixels and nothing else."""

import math

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces import Face
from facewright.core.geometry import align, paste
from facewright.core.geometry.align import align_faces
from facewright.core.geometry.paste import Pasting, paste_faces, soft_box


def scene(height=90, width=120, channels=3, faces=(((30, 20, 70, 60), 0.2),), seed=0, size=64):
    g = torch.Generator().manual_seed(seed)
    picture = torch.rand(1, channels, height, width, generator=g)
    found = [Face(box, 1.0, angle=angle) for box, angle in faces]
    return picture, align_faces(picture, [found], size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_outside_the_mask_bits_stay(dtype):
    picture, _ = scene(channels=5)
    picture = (picture * 3 - 1).to(dtype)  # HDR values and negatives too
    crops = align_faces(picture, [[Face((30, 20, 70, 60), 1.0)]], 64)
    out, mask = paste_faces(picture, crops, torch.rand(1, 3, 64, 64).to(dtype))
    outside = mask[0] == 0
    assert outside.any() and not outside.all()
    assert torch.equal(out[0][:, outside], picture[0][:, outside])
    assert torch.equal(out[:, 3:], picture[:, 3:])
    assert not torch.equal(out[0, :3][:, ~outside], picture[0, :3][:, ~outside])
    assert out.dtype == dtype


def test_a_flat_face_blends_by_the_mask():
    picture, crops = scene()
    out, mask = paste_faces(picture, crops, torch.full((1, 3, 64, 64), 0.25))
    want = picture + mask[:, None] * (0.25 - picture)
    torch.testing.assert_close(out, want, atol=1e-6, rtol=0)
    assert mask.max() == 1


def test_strength_scales_and_zero_changes_nothing():
    picture, crops = scene()
    face = torch.rand(1, 3, 64, 64)
    full, mask = paste_faces(picture, crops, face)
    half, half_mask = paste_faces(picture, crops, face, strength=0.5)
    torch.testing.assert_close(half, (picture + full) / 2, atol=1e-6, rtol=0)
    torch.testing.assert_close(half_mask, mask / 2)
    none, no_mask = paste_faces(picture, crops, face, strength=0.0)
    assert torch.equal(none, picture) and not no_mask.any()


PAIR = (((10, 20, 50, 60), 0.2), ((35, 30, 75, 70), -0.1), ((170, 40, 200, 70), 0.0))
"""Two faces that overlap, and one apart."""


def test_every_face_may_have_its_own_strength():
    picture, crops = scene(width=240, faces=PAIR)
    faces = torch.rand(3, 3, 64, 64)
    alone = []  # what each face changes, worked out one by one
    for i in range(3):
        one = torch.eye(3)[i]
        alone.append(paste_faces(picture, crops, faces, strength=one)[0] - picture)
    share = torch.tensor([0.3, 1.0, 0.6])
    out, mask = paste_faces(picture, crops, faces, strength=share)
    want = picture + sum(s * change for s, change in zip(share, alone, strict=True))
    torch.testing.assert_close(out, want, atol=1e-6, rtol=0)
    assert mask.max() == 1
    same = paste_faces(picture, crops, faces, strength=torch.full((3,), 0.5))
    for a, b in zip(same, paste_faces(picture, crops, faces, strength=0.5), strict=True):
        assert torch.equal(a, b)
    for wrong, said in ((torch.rand(2), "one per crop"), (share * 2, "should lie")):
        with pytest.raises(FacewrightError, match=said):
            paste_faces(picture, crops, faces, strength=wrong)


@pytest.mark.parametrize("detail", [0.0, 0.7])
def test_faces_put_in_again_leave_no_trace_of_before(detail):
    picture, crops = scene(width=240, faces=PAIR, channels=4)
    faces, masks = torch.rand(3, 3, 48, 48), torch.rand(3, 20, 20)
    how = {"feather": 0.2, "color": "lab", "masks": masks, "detail": detail}
    pasting = Pasting(picture, crops, faces, **how)
    pasting.put(1.0)
    assert pasting.meeting([0]) == pasting.meeting([1]) == [0, 1] and pasting.meeting([2]) == [2]
    for changed, share in ([0], [0.4, 1, 1]), ([1, 2], [0.4, 0.2, 0]), ([0], [0, 0.2, 0]):
        pasting.put(torch.tensor(share), changed)
        fresh = paste_faces(picture, crops, faces, strength=torch.tensor(share), **how)
        assert torch.equal(pasting.pictures, fresh[0]) and torch.equal(pasting.weights, fresh[1])
    pasting.put(torch.zeros(3))
    assert torch.equal(pasting.pictures, picture)


def grid_of(count, pitch):
    """Faces of 12 px in rows of ten, rolled this way and that."""
    return tuple(
        ((10 + i % 10 * pitch, 10 + i // 10 * pitch, 22 + i % 10 * pitch, 22 + i // 10 * pitch), a)
        for i, a in enumerate(torch.linspace(-1, 1, count).tolist())
    )


def test_who_is_beside_whom_by_comparing_all_with_all():
    g = torch.Generator().manual_seed(1)
    low, size = (
        torch.randint(0, 90, (60, 2), generator=g),
        torch.randint(0, 25, (60, 2), generator=g),
    )
    windows = [tuple(w) for w in torch.cat([low, low + size], 1).tolist()]
    _, crops = scene(faces=grid_of(60, 4))
    crops.image_index = torch.arange(60) % 3
    found = paste.beside(windows, crops)
    for i, (x0, y0, x1, y1) in enumerate(windows):
        want = [
            j
            for j, (a0, b0, a1, b1) in enumerate(windows)
            if j != i and j % 3 == i % 3 and x0 < a1 and a0 < x1 and y0 < b1 and b0 < y1
        ]
        assert found[i] == want
    assert any(found)


@pytest.mark.parametrize("feather", [0.0, 0.12])
@pytest.mark.parametrize("masked", [False, True])
def test_who_is_not_beside_a_face_has_no_say_in_it(monkeypatch, feather, masked):
    picture, crops = scene(100, 240, faces=grid_of(30, 20), size=16)
    faces, masks = torch.rand(30, 3, 16, 16), torch.rand(30, 8, 8) if masked else None
    out = paste_faces(picture, crops, faces, feather=feather, masks=masks)
    everyone = [[j for j in range(30) if j != i] for i in range(30)]
    monkeypatch.setattr(paste, "beside", lambda *_: everyone)
    monkeypatch.setattr(paste, "_overlap", lambda *_: True)
    for a, b in zip(
        out, paste_faces(picture, crops, faces, feather=feather, masks=masks), strict=True
    ):
        assert torch.equal(a, b)


def test_work_grows_with_the_faces_not_with_their_pairs(monkeypatch):
    boxes, warps, box, warp = [], [], paste.soft_box, align.warp
    monkeypatch.setattr(paste, "soft_box", lambda *args: boxes.append(0) or box(*args))
    monkeypatch.setattr(align, "warp", lambda *args: warps.append(args) or warp(*args))
    picture, crops = scene(300, 600, faces=grid_of(40, 50), size=16)
    paste_faces(picture, crops, torch.rand(40, 3, 16, 16))
    assert len(boxes) == 40  # one look at each mask
    assert len({id(within[0]) for *_, within in warps}) == 1  # and one through the picture


def test_round_trip_of_a_smooth_picture():
    small = torch.rand(1, 3, 8, 10, generator=torch.Generator().manual_seed(3))
    picture = torch.nn.functional.interpolate(small, (200, 250), mode="bicubic").clamp(0, 1)
    faces = [Face((20, 30, 90, 100), 1.0, angle=0.3), Face((150, 60, 230, 140), 1.0)]
    for size in (64, 128, 512):  # shrinks and enlarges
        crops = align_faces(picture, [faces], size)
        out, mask = paste_faces(picture, crops, crops.pixels)
        assert (out - picture).abs()[0][:, mask[0] > 0].mean() < 2 / 255


def test_a_photograph_survives_align_and_paste():
    data = pytest.importorskip("skimage.data")
    picture = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float() / 255
    crops = align_faces(picture, [[Face((173, 66, 279, 172), 1.0)]], 512)
    out, mask = paste_faces(picture, crops, crops.pixels)
    inside = mask[0] > 0
    assert torch.equal(out[0][:, ~inside], picture[0][:, ~inside])
    assert (out - picture).abs()[0][:, inside].mean() < 2 / 255


def test_overlapping_faces_do_not_depend_on_order_and_are_not_blended_twice():
    picture = torch.zeros(1, 3, 100, 160)
    faces = [Face((30, 30, 70, 70), 1.0), Face((65, 30, 105, 70), 1.0)]
    white = torch.ones(2, 3, 64, 64)
    a, mask = paste_faces(picture, align_faces(picture, [faces], 64), white)
    b, _ = paste_faces(picture, align_faces(picture, [faces[::-1]], 64), white)
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    torch.testing.assert_close(a[:, 0], mask, atol=1e-6, rtol=0)
    assert mask.max() <= 1 + 1e-6
    alone = [paste_faces(picture, align_faces(picture, [[f]], 64), white[:1])[1] for f in faces]
    want = 1 - (1 - alone[0]) * (1 - alone[1])
    torch.testing.assert_close(mask, want, atol=1e-6, rtol=0)
    # Two faces of one colour meet without a seam of another one; each keeps its own middle.
    colours = torch.stack([torch.full((3, 64, 64), 0.2), torch.full((3, 64, 64), 0.8)])
    out, _ = paste_faces(picture, align_faces(picture, [faces], 64), colours)
    assert out[0, 0, 50, 50] == pytest.approx(0.2, abs=0.01)
    assert out[0, 0, 50, 85] == pytest.approx(0.8, abs=0.01)


def test_faces_go_back_to_their_own_picture():
    pictures = torch.zeros(3, 3, 60, 60)
    face = Face((15, 15, 45, 45), 1.0)
    crops = align_faces(pictures, [[face], [], [face]], 32)
    colours = torch.stack([torch.full((3, 32, 32), 0.3), torch.full((3, 32, 32), 0.6)])
    out, mask = paste_faces(pictures, crops, colours)
    assert out[:, 0, 30, 30].tolist() == pytest.approx([0.3, 0, 0.6])
    assert not mask[1].any()


def test_pictures_of_different_sizes_come_back_as_a_list():
    pictures = [torch.rand(3, 40, 60), torch.rand(4, 50, 30)]
    crops = align_faces(pictures, [[Face((5, 5, 30, 30), 1.0)], []], 32)
    out, masks = paste_faces(pictures, crops, crops.pixels)
    assert [tuple(o.shape) for o in out] == [(3, 40, 60), (4, 50, 30)]
    assert [tuple(m.shape) for m in masks] == [(40, 60), (50, 30)]
    assert torch.equal(out[1], pictures[1])


@pytest.mark.parametrize("box", [(-20, -15, 15, 20), (100, 70, 140, 110), (300, 300, 340, 340)])
def test_faces_at_and_beyond_the_border(box):
    picture, crops = scene(faces=((box, 0.1),))
    out, mask = paste_faces(picture, crops, torch.rand(1, 3, 64, 64))
    outside = mask[0] == 0
    assert torch.equal(out[0][:, outside], picture[0][:, outside])
    assert torch.isfinite(out).all()


def test_one_pixel_picture():
    picture = torch.rand(1, 3, 1, 1)
    crops = align_faces(picture, [[Face((-0.5, -0.5, 0.5, 0.5), 1.0)]], 16)
    out, mask = paste_faces(picture, crops, crops.pixels)
    torch.testing.assert_close(out, picture)
    assert mask.shape == (1, 1, 1)


def test_no_faces_return_the_picture():
    picture = torch.rand(2, 4, 9, 9)
    crops = align_faces(picture, [[], []], 16)
    out, mask = paste_faces(picture, crops, crops.pixels, color="wavelet")
    assert torch.equal(out, picture) and not mask.any()
    none = paste_faces(picture[:0], align_faces(picture[:0], [], 16), crops.pixels)
    assert none[0].shape == (0, 4, 9, 9) and none[1].shape == (0, 9, 9)


def test_restored_faces_may_be_larger_than_the_crops():
    picture, crops = scene()
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    big = torch.nn.functional.interpolate(ramp, scale_factor=4, mode="bilinear")
    a, mask = paste_faces(picture, crops, ramp)
    b, same = paste_faces(picture, crops, big)
    assert torch.equal(mask, same)
    assert (a - b).abs().max() < 0.01
    matched, _ = paste_faces(picture, crops, big, color="adain")
    assert (matched - b).abs().max() > 0.05


def waves(x, y):
    """A textured picture as a function of places in it, 7 and 11 pixels from crest to crest."""
    one, two = torch.sin(x * 0.9 + y * 0.3), torch.cos(y * 0.57 - x * 0.2)
    return torch.stack([0.5 + 0.4 * one, 0.5 + 0.4 * two, 0.5 + 0.2 * (one + two)])


@pytest.mark.parametrize("growth", [1, 2, 4])
@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_larger_restored_faces_land_exactly_where_they_were(growth, angle):
    y, x = torch.meshgrid(torch.arange(90.0), torch.arange(120.0), indexing="ij")
    picture = waves(x, y)[None]
    crops = align_faces(picture, [[Face((30, 20, 70, 60), 1.0, angle=angle)]], 64)
    # Pixel i of a face `growth` times as large lies at (i + 1/2) / growth - 1/2 of the crop.
    at = (torch.arange(64 * growth, dtype=torch.float64) + 0.5) / growth - 0.5
    v, u = torch.meshgrid(at, at, indexing="ij")
    to_picture = torch.linalg.inv(
        torch.cat([crops.matrix[0], torch.tensor([[0, 0, 1.0]])]).double()
    )
    places = torch.einsum("ij,jhw->ihw", to_picture, torch.stack([u, v, torch.ones_like(u)]))
    out, mask = paste_faces(picture, crops, waves(places[0], places[1]).float()[None])
    inside = mask[0] == 1
    # The shift by half a pixel of either grid left out is three times this at least.
    assert inside.sum() > 500
    assert (out - picture)[0][:, inside].abs().max() < 0.035


def test_the_inputs_stay_as_they_were():
    picture, crops = scene()
    before, matrix = picture.clone(), crops.matrix.clone()
    paste_faces(picture, crops, torch.rand(1, 3, 128, 128), color="lab")
    assert torch.equal(picture, before) and torch.equal(crops.matrix, matrix)


def test_strips_make_no_seam(monkeypatch):
    from facewright.core.geometry import paste

    picture, crops = scene()
    face = torch.rand(1, 3, 64, 64)
    whole, mask = paste_faces(picture, crops, face)
    monkeypatch.setattr(paste, "_STRIP", 7)
    strips, strip_mask = paste_faces(picture, crops, face)
    torch.testing.assert_close(strips, whole, atol=1e-5, rtol=0)
    assert torch.equal(mask, strip_mask)


def test_soft_box_is_smooth_and_closed():
    line = torch.stack([torch.linspace(-3, 66, 500), torch.full((500,), 31.5)], 1)
    mask = soft_box(line, 64, 0.2)
    assert mask[0] == 0 and mask[-1] == 0 and mask[250] == 1
    assert mask.diff().abs().max() < 0.03
    assert (mask.diff()[:240] >= 0).all()
    grid = torch.cartesian_prod(torch.arange(-2.0, 67), torch.arange(-2.0, 67))
    whole = ((grid >= 0) & (grid <= 63)).all(1)
    assert torch.equal(soft_box(grid, 64, 0.0), whole.float())
    edge = soft_box(torch.tensor([[0.0, 31.5], [0.0, 0.0], [63.0, 63.0]]), 64, 0.1)
    assert edge.max() == 0


def test_wrong_input_gets_a_sentence():
    picture, crops = scene()
    face = torch.rand(1, 3, 64, 64)
    for change, words in (
        ({"restored": face[:0]}, "restored faces came back"),
        ({"restored": face[0]}, "should be"),
        ({"images": torch.rand(1, 3, 90, 121)}, "same pictures"),
        ({"images": torch.rand(1, 1, 90, 120)}, "RGB"),
        ({"feather": -0.1}, "feather"),
        ({"strength": 1.5}, "strength"),
        ({"strength": math.nan}, "strength"),
        ({"color": "vivid"}, "adain"),
    ):
        arguments = {"images": picture, "crops": crops, "restored": face} | change
        with pytest.raises(FacewrightError, match=words):
            paste_faces(**arguments)


@pytest.mark.parametrize("size", [(180, 240), (270, 360), (137, 183)])
def test_faces_are_put_into_the_enlarged_picture(size):
    """As if they had been cut out of it: where they were, as many times as large."""
    picture, crops = scene()
    red = torch.tensor([0.9, 0.1, 0.1]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    larger = torch.zeros(1, 3, *size)
    out, mask = paste_faces(larger, crops, red)
    _, expected = paste_faces(picture, crops, red)
    y, x = (n / m for n, m in zip(size, picture.shape[-2:], strict=True))
    assert float(mask.sum()) == pytest.approx(float(expected.sum()) * x * y, rel=0.01)
    rows, columns = torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5
    small_rows, small_columns = torch.arange(90) + 0.5, torch.arange(120) + 0.5
    for weights, at, small, small_at, factor in (
        (mask.sum((0, 2)), rows, expected.sum((0, 2)), small_rows, y),
        (mask.sum((0, 1)), columns, expected.sum((0, 1)), small_columns, x),
    ):
        center = (weights * at).sum() / weights.sum() / factor
        assert abs(center - (small * small_at).sum() / small.sum()) < 0.02
    assert torch.equal(out[:, :, mask[0] == 0], larger[:, :, mask[0] == 0])


def test_enlarged_pictures_have_to_be_of_the_same_shape():
    _, crops = scene()
    for size in ((180, 220), (90, 120 * 2), (45, 60)):
        with pytest.raises(FacewrightError, match="same pictures"):
            paste_faces(torch.rand(1, 3, *size), crops, torch.rand(1, 3, 64, 64))
