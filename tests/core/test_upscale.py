"""Whole pictures enlarged in tiles, against the network that sees all at once."""

import logging
import math

import pytest
import torch
import torch.nn.functional as F
from facewright.core.errors import CheckpointError, FacewrightError, NonFiniteError
from facewright.core.geometry.warp import warp
from facewright.core.host import running
from facewright.core.modules.spandrel import load_image_model
from facewright.core.pipeline import upscale
from facewright.core.pipeline.upscale import load_upscaler
from facewright.core.weights.model_folders import ModelFolders
from facewright.headless.host.host import HeadlessHost

from .. import image_models

pytest.importorskip("spandrel")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def esrgan(tmp_path_factory):
    return image_models.esrgan(tmp_path_factory.mktemp("models") / "x4.pth")


@pytest.fixture
def upscaler(esrgan):
    return load_upscaler(str(esrgan))


def picture(height, width, channels=3, seed=0):
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(seed))


def whole(path, x):
    """The network by itself, on all of the picture."""
    return load_image_model(path)(x[None])[0]


def test_tiles_give_what_the_whole_picture_gives(esrgan, upscaler):
    """This ESRGAN looks 18 pixels far, less than the 24 between a tile's border and its part."""
    x = picture(30, 110)
    expected = whole(esrgan, x)
    made = upscaler.enlarged(x, CPU, tile=96)
    assert made.shape == (3, 120, 440)
    assert (made - expected).abs().max() < 2e-6
    assert expected.std() > 0.05 and expected.min() > 0 and expected.max() < 1
    assert torch.equal(upscaler.enlarged(x, CPU, tile=110), expected)


def test_what_looks_farther_has_no_seam(esrgan, upscaler, monkeypatch):
    """A mean over the picture differs from tile to tile; nowhere does it jump."""

    def shaded(network, x):
        return F.interpolate(x, scale_factor=4.0) * 0.1 + x.mean()

    monkeypatch.setattr(upscaler.model, "_call_fn", shaded)
    ramp = torch.linspace(0, 0.5, 300).expand(3, 20, -1)
    made = upscaler.enlarged(ramp, CPU, tile=128)
    step = (made.diff(dim=2).mean((0, 1)) - made.diff(dim=2).mean()).abs()
    across = ramp[:, :, :128].mean() - ramp[:, :, 64:192].mean()  # what a hard seam would jump
    assert step[8:-8].max() < 0.1 * across.abs()


@pytest.mark.parametrize("by", [1.0, 1.5, 5.0])
def test_another_size_is_resampled_from_what_the_network_makes(esrgan, upscaler, by):
    x = picture(31, 103)
    large = whole(esrgan, x)
    height, width = round(31 * by), round(103 * by)
    ratio = torch.tensor([width / (4 * 103), height / (4 * 31)], dtype=torch.float64)
    matrix = torch.cat([torch.diag(ratio), (ratio / 2 - 0.5)[:, None]], 1)
    expected = warp(large, matrix, (0, 0, width, height))
    made = upscaler.enlarged(x, CPU, by=by, tile=96)
    assert made.shape == (3, height, width)
    assert (made - expected).abs().max() < 1e-4
    # Where the picture lies is not moved: an independent resampling of the same.
    plain = F.interpolate(large[None], (height, width), mode="area")[0]
    assert (F.avg_pool2d(made, 7) - F.avg_pool2d(plain, 7)).abs().mean() < 0.02


def test_alpha_is_resampled(upscaler):
    x = picture(40, 30, 4)
    x[3, :, :15] = 1
    x[3, :, 15:] = 0.25
    made = upscaler.enlarged(x, CPU)
    assert made.shape == (4, 160, 120)
    assert torch.equal(made[:3], upscaler.enlarged(x[:3], CPU))
    assert (made[3, :, :50] - 1).abs().max() < 1e-6 and (made[3, :, 70:] - 0.25).abs().max() < 1e-6


@pytest.mark.parametrize("size", [(1, 1), (1, 150), (3, 2)])
def test_tiny_pictures(esrgan, upscaler, size):
    x = picture(*size)
    made = upscaler.enlarged(x, CPU, tile=128)
    assert made.shape == (3, 4 * size[0], 4 * size[1])
    assert (made - whole(esrgan, x)).abs().max() < 2e-6


def test_networks_with_wishes_for_sizes(tmp_path):
    """SwinIR wants multiples of 16 here; one of 1x keeps the size."""
    from spandrel.architectures.SwinIR import SwinIR

    torch.manual_seed(0)
    how = {"img_size": 16, "window_size": 8, "depths": [2], "embed_dim": 12, "num_heads": [2]}
    network = SwinIR(upscale=2, upsampler="pixelshuffledirect", **how)
    torch.save({"params": network.state_dict()}, tmp_path / "swin.pth")
    swin = load_upscaler(str(tmp_path / "swin.pth"))
    assert not swin.model.size_requirements.none
    x = picture(21, 130)
    made = swin.enlarged(x, CPU, tile=96)
    assert made.shape == (3, 42, 260) and torch.isfinite(made).all()
    assert (made - whole(tmp_path / "swin.pth", x)).abs().mean() < 0.02

    cleaner = load_upscaler(str(image_models.esrgan(tmp_path / "x1.pth", scale=1)))
    assert cleaner.enlarged(x, CPU).shape == x.shape


def test_a_network_for_one_channel_sees_each(tmp_path):
    image_models.esrgan(tmp_path / "grey.pth", scale=2, channels=1)
    upscaler = load_upscaler(str(tmp_path / "grey.pth"))
    x = picture(20, 30)
    made = upscaler.enlarged(x, CPU)
    for channel, of in zip(made, x, strict=True):
        assert torch.allclose(channel, whole(tmp_path / "grey.pth", of[None])[0], atol=1e-6)


def test_less_memory_means_smaller_tiles(upscaler, monkeypatch, caplog):
    monkeypatch.setattr(upscale, "SMALLEST_TILE", 96)
    x = picture(10, 170)
    expected = upscaler.enlarged(x, CPU, tile=128)
    own, seen = upscaler._run, []

    def poor(tile):
        seen.append(tile.shape[-1])
        if tile.shape[-1] > 96:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return own(tile)

    monkeypatch.setattr(upscaler, "_run", poor)
    monkeypatch.setattr(upscaler, "_fitting", lambda device: 384)
    with caplog.at_level(logging.WARNING):
        assert (upscaler.enlarged(x, CPU) - expected).abs().max() < 2e-6
    assert "ran out of memory with tiles of 384 pixels; going on with 192" in caplog.text
    assert "going on with 96" in caplog.text
    seen.clear()
    upscaler.enlarged(x, CPU)
    assert max(seen) <= 96, "the next picture starts with what fitted"

    monkeypatch.setattr(upscaler, "_run", lambda tile: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(FacewrightError, match="even with tiles of 96 pixels"):
        upscaler.enlarged(x, CPU)
    monkeypatch.setattr(upscaler, "_run", lambda tile: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        upscaler.enlarged(x, CPU)


def test_tiles_are_as_large_as_memory_allows(upscaler, monkeypatch):
    sides = []
    for memory in (2**20, 2**26, 2**28, 2**40):
        monkeypatch.setattr(upscale, "MEMORY", memory)
        sides.append(upscaler._fitting(CPU))
    assert sides[0] == 128 and sides[-1] == 1024 and sides == sorted(sides)
    # A layer takes and gives 8 channels at four times the size, 2 of such at a time.
    assert sides[2] == math.isqrt(2**28 // (2 * 2 * 8 * 16 * 4)) // 64 * 64


def test_what_is_no_upscaler_is_refused_by_name(tmp_path, upscaler, monkeypatch):
    face = image_models.restoreformer(tmp_path / "RestoreFormer.pth")
    with pytest.raises(CheckpointError, match=r"RestoreFormer.pth is a face restorer .*--weights"):
        load_upscaler(str(face))
    with pytest.raises(FacewrightError, match=r"32000 x 24000, 768 megapixels, .* at most 1.93"):
        upscaler.enlarged(torch.empty(3, 6000, 1).expand(-1, -1, 8000), CPU)
    assert upscaler.size(6000, 8000, 1.93) == (11580, 15440)
    monkeypatch.setattr(upscaler.model, "_call_fn", lambda network, x: x * math.nan)
    upscaler.model.scale = 1
    with pytest.raises(NonFiniteError, match=r"x4.pth made NaN"):
        upscaler.enlarged(picture(9, 9), CPU)
    monkeypatch.setattr(upscaler.model, "_call_fn", lambda network, x: x[..., ::2])
    with pytest.raises(FacewrightError, match=r"should make 9 x 9 .* made 5 x 9"):
        upscaler.enlarged(picture(9, 9), CPU)


def test_a_name_is_looked_for_in_the_models_folder(esrgan, tmp_path, monkeypatch):
    (tmp_path / "upscale_models").mkdir()
    (tmp_path / "upscale_models" / "mine.pth").write_bytes(esrgan.read_bytes())
    with running(HeadlessHost(ModelFolders([tmp_path]))):
        assert load_upscaler("mine.pth").name == "mine.pth"
        with pytest.raises(CheckpointError, match=r"no nothing.pth in the upscale_models folder"):
            load_upscaler("nothing.pth")
    monkeypatch.chdir(esrgan.parent)
    assert upscale.find_upscaler("x4.pth") == esrgan
