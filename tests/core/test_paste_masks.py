"""Masks of faces: multiplied with the soft box before anything is decided."""

import math

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces import Face
from facewright.core.geometry import paste
from facewright.core.geometry.align import FaceCrops, Tracks, align_faces
from facewright.core.geometry.paste import paste_faces, soft_box

SIDE = 24
SHIFTS = ((3, 4), (16, 6), (15, 14))
"""Where three crops lie in the picture: on whole pixels, so that nothing is resampled."""


def overlapping(seed=0):
    g = torch.Generator().manual_seed(seed)
    picture = torch.rand(1, 3, 44, 48, generator=g)
    matrix = torch.stack(
        [torch.tensor([[1, 0, -x], [0, 1, -y]], dtype=torch.float64) for x, y in SHIFTS]
    )
    crops = FaceCrops(
        matrix=matrix,
        image_index=torch.zeros(3, dtype=torch.int64),
        landmarks=None,
        boxes=torch.tensor([[x, y, x + SIDE, y + SIDE] for x, y in SHIFTS]).float(),
        scores=torch.ones(3),
        pixels=torch.stack([picture[0, :, y : y + SIDE, x : x + SIDE] for x, y in SHIFTS]),
        image_sizes=[(44, 48)],
        report=[],
    )
    return picture, crops, torch.rand(3, 3, SIDE, SIDE, generator=g)


def naive(picture, restored, masks, shown, feather):
    """Pixel by pixel in float64, by the equations of `paste_faces` and `soft_box`."""
    out, used = picture[0].double().clone(), torch.zeros(44, 48, dtype=torch.float64)
    middle, half, radius = (SIDE - 1) / 2, SIDE / 2 - 0.5, SIDE / 4
    for y in range(44):
        for x in range(48):
            faces, free = [], 1.0
            for i, (left, top) in enumerate(SHIFTS):
                u, v = x - left, y - top
                a, b = abs(u - middle) - (half - radius), abs(v - middle) - (half - radius)
                d = radius - math.hypot(max(a, 0), max(b, 0)) - min(max(a, b), 0)
                t = min(max(d / (feather * SIDE), 0), 1)
                m = t * t * (3 - 2 * t)
                if m > 0:
                    m *= float(masks[i, v, u])
                    r2 = ((u - middle) ** 2 + (v - middle) ** 2) / SIDE**2
                    faces.append((i, m * math.exp(-r2 / (2 * 0.12**2)), u, v))
                    free *= 1 - m
            total = sum(near for _, near, _, _ in faces)
            before = out[:, y, x].clone()
            for i, near, u, v in faces:
                if near > 0:
                    w = shown[i] * (1 - free) * near / total
                    out[:, y, x] += w * (restored[i, :, v, u].double() - before)
                    used[y, x] += w
    return out, used


def test_overlapping_faces_with_masks_and_fading_equal_a_naive_paste():
    picture, crops, restored = overlapping()
    masks = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    masks = torch.where(masks < 0.3, 0, masks)
    crops.tracks = Tracks(
        torch.arange(3), 0.0, torch.tensor([1.0, 0.25, 0.6], dtype=torch.float64), torch.arange(3)
    )
    out, used = paste_faces(picture, crops, restored, masks=masks, strength=0.8, feather=0.2)
    shown = [0.8 * w for w in (1.0, 0.25, 0.6)]
    want, want_used = naive(picture, restored, masks, shown, 0.2)
    torch.testing.assert_close(out[0].double(), want, atol=5e-5, rtol=0)
    torch.testing.assert_close(used[0].double(), want_used, atol=5e-5, rtol=0)
    untouched = used[0] == 0
    assert torch.equal(untouched, want_used == 0) and untouched.sum() > 100
    assert torch.equal(out[0][:, untouched], picture[0][:, untouched])


def test_what_lies_over_one_face_leaves_its_place_to_the_other():
    """Where the nearer face is covered, the pixels are the other's, not its input."""
    picture, crops, restored = overlapping()
    masks = torch.ones(3, SIDE, SIDE)
    masks[1] = 0
    out, _ = paste_faces(picture, crops, restored, masks=masks)
    keep = [0, 2]
    crops.matrix, crops.pixels = crops.matrix[keep], crops.pixels[keep]
    crops.image_index = crops.image_index[keep]
    want, _ = paste_faces(picture, crops, restored[keep])
    torch.testing.assert_close(out, want, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (256, 256), (192, 128)])
def test_a_mask_of_any_size_lies_where_its_crop_does(shape):
    picture = torch.zeros(1, 3, 90, 120)
    crops = align_faces(picture, [[Face((30, 20, 70, 60), 1.0, angle=0.4)]], 64)

    def wave(u, v):
        return 0.5 + 0.4 * torch.sin(u * 0.15 + v * 0.08)

    at_x, at_y = ((torch.arange(n) + 0.5) * 64 / n - 0.5 for n in (shape[1], shape[0]))
    _, used = paste_faces(
        picture, crops, torch.ones(1, 3, 64, 64), masks=wave(at_x[None], at_y[:, None])[None]
    )
    y, x = torch.meshgrid(torch.arange(90.0), torch.arange(120.0), indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], -1).double() @ crops.matrix[0].T
    want = soft_box(points, 64, 0.12) * wave(points[..., 0], points[..., 1])
    # Half a pixel of the crop beside it would be off by 0.03.
    assert (used[0].double() - want).abs().max() < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_mask_of_nothing_leaves_every_bit_and_one_of_all_changes_nothing(dtype):
    picture, crops, restored = overlapping()
    picture = torch.cat([picture, picture[:, :1]], 1).to(dtype)
    out, used = paste_faces(picture, crops, restored, masks=torch.zeros(3, 7, 7), color="lab")
    assert torch.equal(out, picture) and not used.any()
    plain = paste_faces(picture, crops, restored)
    full = paste_faces(picture, crops, restored, masks=torch.ones(3, 9, 9))
    assert torch.equal(plain[0], full[0]) and torch.equal(plain[1], full[1])


def test_covered_pixels_stay_bit_identical_beside_a_hard_edge():
    """The bicubic kernel rings at an edge; what it does there must not reach covered pixels."""
    g = torch.Generator().manual_seed(2)
    picture = torch.rand(1, 3, 200, 200, generator=g)
    crops = align_faces(picture, [[Face((50, 50, 150, 150), 1.0)]], 64)
    mask = torch.ones(1, 64, 64)
    mask[:, :, 32:] = 0
    out, used = paste_faces(picture, crops, torch.rand(1, 3, 64, 64, generator=g), masks=mask)
    # Two pixels of the crop beyond the edge nothing is left of the mask.
    edge = int((torch.linalg.inv(crops.matrix[0][:, :2])[0, 0]) * 2 + 101)
    assert torch.equal(out[..., edge:], picture[..., edge:]) and not used[..., edge:].any()
    assert used[0, 100, 80] == 1


def test_strips_make_no_seam_in_masks(monkeypatch):
    picture, crops, restored = overlapping()
    masks = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(1))
    whole, used = paste_faces(picture, crops, restored, masks=masks)
    monkeypatch.setattr(paste, "_STRIP", 5)
    strips, strip_used = paste_faces(picture, crops, restored, masks=masks)
    torch.testing.assert_close(strips, whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(strip_used, used, atol=1e-5, rtol=0)


def test_no_faces_take_no_masks():
    picture = torch.rand(1, 3, 9, 9)
    crops = align_faces(picture, [[]], 16)
    out, used = paste_faces(picture, crops, crops.pixels, masks=torch.zeros(0, 16, 16))
    assert torch.equal(out, picture) and not used.any()


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        (torch.ones(2, 8, 8), "The crops are of 3 faces, but 2 masks came"),
        (torch.ones(3, 1, 8, 8), "one per crop, got float32"),
        (torch.ones(3, 0, 8), "one per crop, got float32"),
        (torch.ones(3, 8, 8, dtype=torch.bool), "got bool"),
        (torch.full((3, 8, 8), 1.5), "lie in"),
        (torch.full((3, 8, 8), -0.1), "lie in"),
        (torch.full((3, 8, 8), math.nan), "lie in"),
    ],
)
def test_masks_that_fit_no_crops_get_a_sentence(masks, words):
    picture, crops, restored = overlapping()
    with pytest.raises(FacewrightError, match=words):
        paste_faces(picture, crops, restored, masks=masks)
