"""What shrinking takes from a large face comes back, and damage does not."""

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces import Face
from facewright.core.geometry import detail as module
from facewright.core.geometry.align import align_faces
from facewright.core.geometry.detail import lost_detail
from facewright.core.geometry.paste import paste_faces

BOX = (60.0, 40.0, 200.0, 180.0)


def textured(height=240, width=280, seed=0):
    """Lines, dots and flat places: what a face has, and sharp to the pixel."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 9, 11, generator=g)
    picture = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    lines = ((x + 2 * y) % 37 < 2) | ((3 * x - y) % 53 < 2)
    dots = torch.rand(height, width, generator=g) < 0.01
    return (picture * 0.6 + 0.2 - 0.35 * lines + 0.3 * dots * (y > 120)).clamp(0, 1)


def cut(picture, size=64, box=BOX, angle=0.0):
    return align_faces(picture[None], [[Face(box, 1.0, angle=angle)]], size)


def error(result, gt, mask):
    return float((result - gt)[0][:, mask[0] > 0.99].square().mean())


# What follows knows nothing of torch and of `warp`.


def shrunk(x, k):
    c, h, w = x.shape
    return x.reshape(c, h // k, k, w // k, k).mean((2, 4))


def keys(t, a=-0.75):
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def mirrored(i, n):
    i = i % (2 * n)
    return i if i < n else 2 * n - 1 - i


def enlarged(x, k):
    """Keys' cubic convolution, pixel by pixel along each side, cut to the range of `x`."""
    n = x.shape[-1]
    rows = np.zeros((n * k, n))
    for i in range(n * k):
        at = (i + 0.5) / k - 0.5
        for j in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            rows[i, mirrored(j, n)] += keys(at - j)
    return np.clip(np.einsum("ij,cjk,lk->cil", rows, x, rows), x.min(), x.max())


def smooth(x, levels):
    """Binomials with holes of 0, 1, ... pixels, borders repeated: (h, w)."""
    for gap in (2**i for i in range(levels)):
        for axis in (0, 1):
            wide = np.pad(x, [(gap, gap) if a == axis else (0, 0) for a in (0, 1)], "edge")
            n = x.shape[axis]
            first, middle, last = (wide.take(range(s, s + n), axis) for s in (0, gap, 2 * gap))
            x = (first + 2 * middle + last) / 4
    return x


def expected(picture, face, k):
    """The equation in float64, for a face that is the whole picture."""
    down = shrunk(picture, k)
    h = picture - enlarged(down, k)
    p_d, p_f = (np.stack([c - smooth(c, 1) for c in x]) for x in (down, face))
    both, one, other = (smooth(t.mean(0), 2) for t in (p_d * p_f, p_d**2, p_f**2))
    rho2 = np.maximum(both, 0) ** 2 / ((one + 255**-2) * (other + 255**-2))
    energy = smooth(shrunk(h**2, k).mean(0), 1)
    size = face.shape[-1]
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    face_only = np.hypot(x, y) <= 0.35 * size
    noise = np.sort(energy[face_only])[(face_only.sum() - 1) // 2]
    quiet = face_only & (energy <= noise)
    a = max(both[quiet].sum(), 0) ** 2 / (one[quiet].sum() * other[quiet].sum())
    weight = rho2 * np.maximum(0, 1 - 2 * (1 - a) * noise / energy)
    return enlarged(weight[None], k) * h, a


@pytest.mark.parametrize("k", [2, 3])
def test_it_is_the_equation(k, monkeypatch):
    size = 48
    clean = textured(size * k, size * k, k)
    generator = torch.Generator().manual_seed(k)
    picture = (clean + 0.08 * torch.randn(clean.shape, generator=generator)).clamp(0, 1)
    matrix = torch.tensor([[1, 0, 0.5], [0, 1, 0.5]], dtype=torch.float64) / k
    matrix[:, 2] -= 0.5
    shrunken = torch.from_numpy(shrunk(clean.double().numpy(), k)).float()
    face = (0.8 * shrunken + 0.1 * shrunken.flip(1)).clamp(0, 1)
    want, a = expected(picture.double().numpy(), face.double().numpy(), k)
    assert 0.05 < a < 0.95 and np.abs(want).max() > 0.05
    whole = (0, 0, size * k, size * k)
    for tile in (4096, 40):
        monkeypatch.setattr(module, "_TILE", tile)
        got = lost_detail(picture, matrix, face)
        assert np.abs(got(whole).numpy() - want).max() < 2e-4
        part = got((5, 11, 50, 60)).numpy()
        assert np.abs(part - want[:, 11:60, 5:50]).max() < 2e-4


@pytest.mark.parametrize("angle", [0.0, 0.5])
def test_a_faithful_restorer_gets_the_picture_back(angle):
    picture = textured()
    crops = cut(picture, angle=angle)
    soft, mask = paste_faces(picture[None], crops, crops.pixels)
    for detail, most in ((0.5, 0.4), (1.0, 0.12)):
        sharp, same = paste_faces(picture[None], crops, crops.pixels, detail=detail)
        assert torch.equal(mask, same)
        assert error(sharp, picture, mask) < most * error(soft, picture, mask)
        outside = mask[0] == 0
        assert torch.equal(sharp[0][:, outside], picture[:, outside])


def test_a_restorer_that_only_softens_gets_it_back_too():
    picture = textured()
    crops = cut(picture)
    blurred = torch.nn.functional.avg_pool2d(crops.pixels, 3, 1, 1, count_include_pad=False)
    softer = 0.6 * crops.pixels + 0.4 * blurred
    base, mask = paste_faces(picture[None], crops, softer)
    sharp, _ = paste_faces(picture[None], crops, softer, detail=1.0)
    assert error(sharp, picture, mask) < 0.5 * error(base, picture, mask)


def damages():
    """Of a picture that is soft already: what is finer than its crop is mostly damage."""
    gt = torch.nn.functional.avg_pool2d(textured()[None], 5, 1, 2, count_include_pad=False)[0]
    g = torch.Generator().manual_seed(4)
    y, x = torch.meshgrid(torch.arange(gt.shape[1]), torch.arange(gt.shape[2]), indexing="ij")
    scratches = ((x * 2 - y - 120).abs() < 2) | ((x + y - 240).abs() < 2)
    noise = torch.randn(gt.shape, generator=g)
    blocks = torch.rand(3, 30, 35, generator=g).repeat_interleave(8, 1).repeat_interleave(8, 2)
    return gt, {
        "noise": (gt + noise * 0.1).clamp(0, 1),
        "a scratch": torch.where(scratches, 0.95, gt),
        "blocks": (gt + 0.2 * (blocks - 0.5)).clamp(0, 1),
    }


@pytest.mark.parametrize("damage", ["noise", "a scratch", "blocks"])
def test_damage_does_not_come_back(damage):
    """The restorer gives the truth at the crop's size; added plainly, h would spoil it."""
    gt, damaged = damages()
    lq = damaged[damage]
    crops, true = cut(lq), cut(gt)
    base, mask = paste_faces(lq[None], crops, true.pixels)
    result, _ = paste_faces(lq[None], crops, true.pixels, detail=1.0)
    plain = base + mask[:, None] * (lq - paste_faces(lq[None], crops, crops.pixels)[0])
    assert error(result, gt, mask) < 1.02 * error(base, gt, mask)
    assert error(plain, gt, mask) > 1.5 * error(base, gt, mask)


def test_another_face_gets_no_second_outline():
    picture, other = textured(seed=1), textured(seed=2).flip(2)
    crops = cut(picture)
    base, mask = paste_faces(picture[None], crops, cut(other).pixels)
    result, _ = paste_faces(picture[None], crops, cut(other).pixels, detail=1.0)
    plain = paste_faces(picture[None], crops, crops.pixels)[0]
    inside = mask[0] > 0.99
    added = (result - base)[0][:, inside].square().mean()
    assert added < 0.1 * (picture[None] - plain)[0][:, inside].square().mean()


def test_nothing_where_the_crop_was_not_shrunk():
    picture = textured()
    crops = cut(picture, 512)
    plain, _ = paste_faces(picture[None], crops, crops.pixels)
    assert torch.equal(paste_faces(picture[None], crops, crops.pixels, detail=1.0)[0], plain)
    # A face restored larger than its crop holds what the crop could not.
    crops = cut(picture, 64)
    large = torch.nn.functional.interpolate(crops.pixels, scale_factor=8, mode="bicubic")
    plain, _ = paste_faces(picture[None], crops, large.clamp(0, 1))
    result, _ = paste_faces(picture[None], crops, large.clamp(0, 1), detail=1.0)
    assert torch.equal(result, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("box", [(-60.0, -40.0, 100.0, 120.0), (240.0, 200.0, 420.0, 380.0)])
def test_at_the_border_and_in_half_precision(box, dtype):
    picture = torch.cat([textured(), torch.rand(1, 240, 280)]).to(dtype)
    crops = align_faces(picture[None], [[Face(box, 1.0, angle=0.3)]], 64)
    result, mask = paste_faces(picture[None], crops, crops.pixels, detail=1.0)
    outside = mask[0] == 0
    assert result.dtype == dtype and torch.isfinite(result).all()
    assert torch.equal(result[0][:, outside], picture[:, outside])
    assert torch.equal(result[0, 3], picture[3])
    base, _ = paste_faces(picture[None], crops, crops.pixels)
    visible = mask[0] > 0
    errors = [(x[0, :3] - picture[:3])[:, visible].float().square().mean() for x in (result, base)]
    assert errors[0] < errors[1]


def test_no_share_is_refused():
    picture = textured()
    crops = cut(picture)
    for detail in (-0.1, 1.1, float("nan")):
        with pytest.raises(FacewrightError, match="`detail` should lie in"):
            paste_faces(picture[None], crops, crops.pixels, detail=detail)
