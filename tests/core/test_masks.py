"""Masks of faces: ovals and parsed parts against naive geometry and rendered faces."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facewright.core.drawing.masks import draw_masks
from facewright.core.errors import FacewrightError
from facewright.core.faces import Face, parsing
from facewright.core.faces.parsing import BiSeNet, FaceParser, ParseNet
from facewright.core.geometry.align import align_faces
from facewright.core.geometry.landmarks import five_points
from facewright.core.geometry.oval import DIRECTIONS, depth_in, mean_outline, outlines_of
from facewright.core.geometry.paste import paste_faces
from facewright.core.geometry.regions import depth_of, soft_region
from facewright.core.pipeline.masks import face_masks, mask_report
from facewright.core.pipeline.options import MaskOptions, RestoreOptions
from facewright.training.world.faces3d import photos
from facewright.training.world.pose import to_plane, turn_back
from facewright.training.world.shapes import Field, Scene
from facewright.training.world.skin import face_radius
from scipy.spatial import ConvexHull

# --- regions


def naive_depth(region, most):
    out = torch.zeros(region.shape)
    h, w = region.shape
    for y in range(h):
        for x in range(w):
            distances = [
                math.hypot(x - u, y - v)
                for v in range(h)
                for u in range(w)
                if bool(region[v, u]) != bool(region[y, x])
            ]
            depth = min([most, *distances]) - 0.5
            out[y, x] = depth if region[y, x] else -depth
    return out


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_depths_are_those_of_a_loop(share):
    region = torch.rand(9, 13, generator=torch.Generator().manual_seed(3)) < share
    torch.testing.assert_close(depth_of(region, 39), naive_depth(region, 40))


def test_depths_beyond_what_is_asked_for_are_not_told_apart():
    region = torch.zeros(9, 60, dtype=torch.bool)
    region[:, :30] = True
    depth = depth_of(region, 5)
    assert depth[0, :24].unique().tolist() == [5.5] and depth[0, 27:33].tolist() == [
        2.5, 1.5, 0.5, -0.5, -1.5, -2.5,
    ]  # fmt: skip
    assert (depth_of(torch.ones(4, 4, dtype=torch.bool), 3) > 3).all()
    assert (depth_of(torch.zeros(4, 4, dtype=torch.bool), 3) < -3).all()


def test_a_soft_region_is_closed_and_grows_and_shrinks():
    depth = torch.tensor([-3.0, -0.5, 0, 1, 2, 4, 9])
    assert soft_region(depth, 0, 4).tolist() == [0, 0, 0, 0.15625, 0.5, 1, 1]
    assert soft_region(depth, 2, 4).tolist()[:3] == pytest.approx([0, 0.31640625, 0.5])
    assert soft_region(depth, -2, 0).tolist() == [0, 0, 0, 0, 0, 1, 1]


# --- ovals


@pytest.fixture(scope="module")
def rendered():
    """Six aligned rendered faces, and which pixels are on the head's surface facing the camera."""
    size = 128
    shown = photos(list(range(1000, 1006)), list(range(6)), size, supersample=1)
    u, v = turn_back(*to_plane(shown.camera, size, size), shown.nuisances)
    pixel = torch.linalg.det(shown.camera[:, :, :2]).abs().rsqrt()[:, None, None]
    scene = Scene(shown.identities.broadcast(2), shown.nuisances.broadcast(2))
    return shown, face_radius(Field(u, v, pixel), scene) < 1


SAME = torch.eye(2, 3, dtype=torch.float64)


def test_an_outline_is_the_hull_of_jaw_and_forehead(rendered):
    marks = rendered[0].landmarks[:3].double()
    turned = torch.tensor([[0.8, -0.6, 9.0], [0.6, 0.8, -4.0]], dtype=torch.float64)
    points = marks @ torch.linalg.inv(turned[:, :2]).T
    points = points - (torch.linalg.inv(turned[:, :2]) @ turned[:, 2])
    outlines = outlines_of(points, turned.expand(3, -1, -1), 128)
    for outline, own in zip(outlines, marks.numpy(), strict=True):
        brows, left, right = own[17:27], own[0], own[16]
        top = brows.mean(0) + 0.7 * (brows.mean(0) - own[33])
        x = np.linspace(-1, 1, 2001)[:, None]
        y = (1 - abs(x) ** 2.5) ** 0.4
        middle = (left + right) / 2
        forehead = middle + x * (right - left) / 2 + y * (top - middle)
        hull = ConvexHull(np.concatenate([own[:17], brows, forehead]))
        at = torch.stack(torch.meshgrid(*[torch.arange(128.0)] * 2, indexing="xy"), -1).double()
        facets = torch.from_numpy(hull.equations)  # n . x + c <= 0 inside
        want = -(at @ facets[:, :2].T + facets[:, 2]).amax(-1)
        got = depth_in(outline, 128) * 128
        inside = want > 0
        # Straight edges bulge between two directions: in the middle of 25 pixels by 0.4.
        assert (got - want)[inside].abs().max() < 0.5 and (got - want)[inside].mean() < 0.2
        assert ((got > 0) == inside).double().mean() > 0.998


def test_98_points_tell_what_68_do(rendered):
    marks = rendered[0].landmarks[:4]
    jaw = F.interpolate(marks[:, :17].mT, 33, mode="linear", align_corners=True).mT
    wflw = torch.zeros(4, 98, 2)
    wflw[:, :33], wflw[:, 57] = jaw, marks[:, 33]
    for first, ours in ((33, 17), (42, 22)):  # upper edges, then lower ones
        wflw[:, first : first + 5] = marks[:, ours : ours + 5]
        wflw[:, first + 5 : first + 9] = marks[:, ours : ours + 4]
    few = outlines_of(marks, SAME.expand(4, -1, -1), 128)
    many = outlines_of(wflw, SAME.expand(4, -1, -1), 128)
    assert (few - many).abs().max() < 0.012


def iou(a, b):
    return float((a & b).sum() / (a | b).sum())


def test_ovals_are_where_rendered_faces_are(rendered):
    """Below the brows; what is above them is hair in some and forehead in others."""
    shown, truth = rendered
    outlines = outlines_of(shown.landmarks, SAME.expand(6, -1, -1), 128)
    brows = shown.landmarks[:, 17:27, 1].mean(1)
    found = {"landmarks": [], "mean": []}
    for outline, face, top in zip(outlines, truth, brows.tolist(), strict=True):
        for name, given in (("landmarks", outline), ("mean", mean_outline())):
            found[name].append(iou((depth_in(given, 128) > 0)[int(top) :], face[int(top) :]))
    assert min(found["landmarks"]) > 0.93 and sum(found["landmarks"]) / 6 > 0.96
    assert min(found["mean"]) > 0.8 and sum(found["mean"]) / 6 > 0.88


@pytest.mark.parametrize("count", [None, 5, 106])
def test_without_jaw_and_brows_the_mean_face_is_taken(count):
    points = None if count is None else torch.rand(2, count, 2)
    outlines = outlines_of(points, SAME.expand(2, -1, -1), 64)
    assert torch.equal(outlines, mean_outline().expand(2, -1)) and outlines.shape == (2, DIRECTIONS)
    depth = depth_in(mean_outline(), 200)
    x, y = (torch.arange(200) + 0.5) / 200 - 0.5, (torch.arange(200)[:, None] + 0.5) / 200 - 0.5
    ellipse = (x / 0.285) ** 2 + (y / torch.where(y > 0, 0.405, 0.29)) ** 2 < 1
    assert ((depth > 0) == ellipse).float().mean() > 0.999


# --- what lies over a face


def over_paint(picture, landmarks, shape):
    """A blue microphone before the mouth, or a hand on the cheek: the picture, and where it is."""
    height, width = picture.shape[-2:]
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    chin, mouth, ear = landmarks[8], landmarks[48:].mean(0), landmarks[3]
    unit = float((landmarks[16] - landmarks[0]).norm())
    there = torch.zeros(height, width, dtype=torch.bool)

    def stick(a, b, radius):
        step = b - a
        t = ((x - a[0]) * step[0] + (y - a[1]) * step[1]) / step.square().sum().clamp(min=1e-9)
        t = t.clamp(0, 1)
        near = (x - a[0] - t * step[0]) ** 2 + (y - a[1] - t * step[1]) ** 2
        return near < radius**2

    def at(right, down):
        return torch.tensor([right, down]) * unit

    if shape == "microphone":
        there |= stick(mouth, mouth, 0.3 * unit) | stick(mouth, chin + at(0.2, 0.8), 0.13 * unit)
    else:
        there |= stick(ear + at(-0.1, 0.2), ear + at(0.1, 0.5), 0.25 * unit)
        for finger in range(4):
            start = ear + at(-0.1, 0.1 * finger)
            there |= stick(start, start + at(0.65, -0.25), 0.06 * unit)
    out = torch.where(there, torch.tensor([0.0, 0.0, 1.0])[:, None, None], picture)
    return out, there


@cache
def blue_is_background(kind):
    """A network by hand: skin everywhere but on pure blue, which is background.

    Colors go through at the coarsest step that the network has, by the middles of its kernels.
    """
    with torch.device("meta"):
        net = kind()
    net.to_empty(device="cpu")
    for value in net.state_dict().values():
        value.zero_()
    state = net.state_dict()
    for key, value in state.items():
        if key.endswith("running_var"):
            value.fill_(1)
    three = range(3)

    def carry(key, channels=three, gain=1.0):
        weight = state[key]
        middle = weight.shape[-1] // 2
        for c in channels:
            weight[c, c, middle, middle] = gain

    skin, rest = net.classes.index("skin"), [i for i in range(19) if i > 1]
    if isinstance(net, ParseNet):
        carry("encoder.0.conv2d.weight")
        for i in range(4):
            carry(f"encoder.{i + 1}.shortcut_func.conv2d.weight")
            carry(f"decoder.{i}.shortcut_func.conv2d.weight")
        # Colors come in [-1, 1], and twice: blue alone has b - r - g = 3.
        state["out_mask_conv.conv2d.weight"][0, :3, 1, 1] = torch.tensor([-0.5, -0.5, 0.5])
        state["out_mask_conv.conv2d.bias"][0] = -2.0
        state["out_mask_conv.conv2d.bias"][rest] = -99
        return net
    norms = [k.removesuffix(".running_var") for k in state if k.endswith("running_var")]
    carry("cp.resnet.conv1.weight")
    for norm in norms:
        if norm.endswith(("bn1", "downsample.1", "conv.bn", "convblk.bn")):
            state[f"{norm}.weight"].fill_(1)
    state["cp.resnet.bn1.weight"][:3] = torch.tensor(net.std)
    state["cp.resnet.bn1.bias"][:3] = torch.tensor(net.mean)
    for key in ("cp.resnet.layer2.0.downsample.0", "ffm.convblk.conv"):
        carry(f"{key}.weight")
    state["ffm.convblk.bn.bias"][3] = 1  # a one, to compare with
    carry("conv_out.conv.conv.weight", range(4))
    last = state["conv_out.conv_out.weight"]
    last[0, :4, 0, 0] = torch.tensor([-1, -1, 1, -0.5])
    last[rest, 3] = -99
    assert skin == 1
    return net


@pytest.fixture(scope="module")
def portraits():
    return photos([1003, 1007], [3, 7], 256, aligned=False, supersample=2)


def covered(portraits, i, shape, size=128):
    """A portrait with something before its face, its crop, and where that is in the picture."""
    points = portraits.landmarks[i]
    picture, there = over_paint(portraits.pixels[i], points, shape)
    low, high = points.amin(0), points.amax(0)
    face = Face(
        (*low.tolist(), *high.tolist()), 1.0, points5=five_points(points[None])[0], landmarks=points
    )
    return picture, there, align_faces(picture[None], [[face]], size)


@pytest.mark.parametrize("shape", ["microphone", "hand"])
@pytest.mark.parametrize(("kind", "least"), [(ParseNet, 0.5), (BiSeNet, 0.8)])
def test_parsed_masks_keep_what_lies_over_a_face(kind, least, shape, portraits, monkeypatch):
    """With weights by hand. The networks of facexlib see finer; how well has not been measured."""
    monkeypatch.setattr(parsing, "_SIZE", 128 if kind is ParseNet else 256)  # quicker
    parser = FaceParser(blue_is_background(kind), "by hand")
    picture, there, crops = covered(portraits, 0, shape)
    options = MaskOptions(mode="parsing", feather=0.0)
    mask = face_masks(crops, options, lambda: parser)
    white = torch.ones_like(crops.pixels)
    pasted, used = paste_faces(picture[None], crops, white, masks=mask)
    _, whole = paste_faces(picture[None], crops, white)
    reach = whole[0] > 0
    kept = (used[0] == 0) & reach
    assert torch.equal(pasted[0][:, used[0] == 0], picture[:, used[0] == 0])
    assert iou(kept, there & reach) > least
    if kind is ParseNet:  # every 16th pixel decides: exactly known
        blue = crops.pixels[0, :, ::16, ::16].mul(2).sub(1)
        free = blue[2] - blue[0] - blue[1] <= 2.0
        want = free.repeat_interleave(16, 0).repeat_interleave(16, 1)
        assert torch.equal(mask[0] > 0, want)


def test_ovals_keep_what_lies_beside_a_face(portraits):
    """What lies over it is restored: an oval does not see it. Outside not a bit changes."""
    picture, there, crops = covered(portraits, 1, "microphone")
    mask = face_masks(crops, MaskOptions(), None)
    white = torch.ones_like(crops.pixels)
    pasted, used = paste_faces(picture[None], crops, white, masks=mask)
    _, whole = paste_faces(picture[None], crops, white)
    kept = used[0] == 0
    assert torch.equal(pasted[0][:, kept], picture[:, kept])
    beside = there & kept & (whole[0] > 0)
    assert beside.sum() > 0.1 * (there & (whole[0] > 0)).sum()
    # Half of the soft box, and all of the face but its feathered rim.
    assert 0.3 < float(used.sum() / whole.sum()) < 0.6


def test_masks_grow_shrink_and_feather(portraits):
    _, _, crops = covered(portraits, 0, "hand")
    area = {
        grow: float((face_masks(crops, MaskOptions(grow=grow, feather=0.0), None)).mean())
        for grow in (-0.05, 0.0, 0.05)
    }
    assert area[-0.05] < 0.85 * area[0.0] < 0.85 * 0.85 * area[0.05]
    soft = face_masks(crops, MaskOptions(feather=0.1), None)
    hard = face_masks(crops, MaskOptions(feather=0.0), None)
    assert ((soft > 0) == (hard > 0)).all() and set(hard.unique().tolist()) == {0, 1}
    assert soft.mean() < hard.mean() and (soft[0].diff(dim=0).abs() < 0.16).all()


class Sees:
    """Finds every part in the left half of what it is shown."""

    net = torch.nn.Identity()

    def shows(self, crops, parts):
        found = torch.zeros(len(crops), *crops.shape[-2:], dtype=torch.bool)
        found[..., : crops.shape[-1] // 2] = bool(parts)
        return found


def test_other_crops_are_parsed_where_they_are_given(portraits):
    _, _, crops = covered(portraits, 0, "hand")
    options = MaskOptions(mode="parsing", feather=0.1)
    own = face_masks(crops, options, Sees)
    other = face_masks(crops, options, Sees, crops=torch.rand(1, 3, 256, 256))
    assert own.shape == (1, 128, 128) and other.shape == (1, 256, 256)
    small = F.interpolate(other[None], (128, 128), mode="area")[0]
    assert (small - own).abs().max() < 0.02
    with pytest.raises(FacewrightError, match="1 faces, but 2 crops"):
        face_masks(crops, options, Sees, crops=torch.rand(2, 3, 256, 256))


def test_what_masks_say_of_themselves(portraits):
    _, _, crops = covered(portraits, 0, "hand")
    oval, nothing = MaskOptions(), MaskOptions(mode="parsing", parts="")
    (line,) = mask_report(crops, face_masks(crops, oval, None), oval)
    assert line.startswith("mask of face 0: oval by landmarks, ") and line.endswith("the crop")
    (line,) = mask_report(replace(crops, landmarks=None), torch.ones(1, 4, 4), oval)
    assert line == "mask of face 0: oval of the mean face, 100% of the crop"
    masks = face_masks(crops, nothing, Sees)
    assert mask_report(crops, masks, nothing) == [
        "mask of face 0: parsing (no part), nothing of it is restored"
    ]
    none = align_faces(torch.rand(1, 3, 9, 9), [[]], 16)
    for options in (oval, nothing):
        masks = face_masks(none, options, Sees)
        assert masks.shape == (0, 16, 16) and mask_report(none, masks, options) == []
        assert draw_masks(none.pixels, masks).shape == (0, 3, 16, 16)


def test_a_drawn_mask_leaves_what_is_restored_and_reddens_the_rest():
    crops = torch.rand(1, 3, 8, 8)
    mask = torch.zeros(1, 16, 16)
    mask[..., :8] = 1
    drawn = draw_masks(crops, mask)
    torch.testing.assert_close(drawn[..., :3], crops[..., :3])
    assert (drawn[0, 0, :, 5:] > 0.26).all() and (drawn[0, 1, :, 5:] < 0.49).all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mode": "none"}, "`mode` should be one of oval, parsing"),
        ({"grow": 0.3}, "`grow` should be from -0.2 to 0.2"),
        ({"feather": math.nan}, "`feather` should be from"),
        ({"parts": "skin, nos"}, "'nos' is none of skin, brows"),
    ],
)
def test_masks_that_cannot_be_meant(given, words):
    with pytest.raises(FacewrightError, match=words):
        MaskOptions(**given)
    if "mode" not in given:
        with pytest.raises(FacewrightError, match=words.replace("`", "", 1)):
            RestoreOptions(**{f"mask_{name}": value for name, value in given.items()})


def test_parts_are_those_that_a_network_tells_apart():
    every = MaskOptions(parts=", ".join(parsing.PARTS))
    assert every.part_names == parsing.PARTS
    assert MaskOptions(parts=" skin,skin ,, hat").part_names == ("skin", "hat")
    assert RestoreOptions().masks is None
    assert RestoreOptions(mask="parsing").masks == MaskOptions(mode="parsing")
