"""Large pictures measured in bands of rows, and luma in studio range."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from facewright.core.metrics import edge_ratio, metric, psnr, similarity, ssim
from PIL import Image
from skimage.metrics import structural_similarity


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(4)
    b = rng.integers(0, 256, (2, 3, 45, 37)) / 255
    a = (b + rng.normal(0, 0.1, b.shape)).clip(0, 1)
    a[:, :, 20:30] = 0.5 * a[:, :, 20:30] + 0.2  # so that bands differ
    return torch.from_numpy(a), torch.from_numpy(b)


@pytest.mark.parametrize("band", [1, 37 * 4, 37 * 7, 37 * 34, 37 * 44])
@pytest.mark.parametrize("masked", [False, True])
def test_bands_change_nothing(pair, monkeypatch, band, masked):
    mask = torch.rand(2, 1, 45, 37, generator=torch.Generator().manual_seed(1)) if masked else None
    scores = [
        lambda: psnr(*pair, mask),
        lambda: ssim(*pair, mask),
        lambda: ssim(*pair, mask, channels="y"),
        lambda: edge_ratio(*pair, mask),
    ]
    whole = [score() for score in scores]
    monkeypatch.setattr(similarity, "WHOLE", 45 * 37 - 1)
    monkeypatch.setattr(similarity, "BAND", band)
    for score, expected in zip(scores, whole, strict=True):
        torch.testing.assert_close(score(), expected, rtol=1e-11, atol=0)


def studio(picture):
    """Y of 8-bit values as BasicSR's `to_y_channel` has it, 16 to 235."""
    red, green, blue = (255 * picture).round()
    return (65.481 * red + 128.553 * green + 24.966 * blue) / 255 + 16


def test_studio_range_is_that_of_basicsr(pair):
    a, b = ((255 * x).round() / 255 for x in pair)
    for i in range(2):
        ya, yb = studio(a[i].numpy()), studio(b[i].numpy())
        expected = structural_similarity(
            ya, yb, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert float(metric("ssim_y_studio")(a, b)[i]) == pytest.approx(expected, abs=1e-9)
        expected = 10 * math.log10(255**2 / ((ya - yb) ** 2).mean())
        assert float(metric("psnr_y_studio")(a, b)[i]) == pytest.approx(expected, abs=1e-9)
        full = float(metric("psnr_y")(a, b)[i])
        assert expected - full == pytest.approx(20 * math.log10(255 / 219), abs=1e-3)
    # Flat dark pictures are where the two ranges differ most: 16/255 more on either side.
    dark = torch.full((1, 3, 16, 16), 0.01, dtype=torch.float64)
    full, narrow = (ssim(dark, 2 * dark, channels=c).item() for c in ("y", "y_studio"))
    assert narrow - full > 0.05


MEASURE = """
import os
os.environ["OMP_NUM_THREADS"] = "1"
import torch
torch.set_num_threads(1)
from facewright.headless.cli import main

try:
    main()
except SystemExit as end:
    assert not end.code
(line,) = (x for x in open("/proc/self/status") if x.startswith("VmHWM"))
print("peak", int(line.split()[1]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_pair_of_24_megapixels_stays_within_2_gb(tmp_path):
    tile = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    picture = np.tile(tile, (8, 12, 1))
    for name, pixels in {"gt": picture, "a": np.roll(picture, 1, 0)}.items():
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "p.png", compress_level=1)
    args = ["evaluate", str(tmp_path / "a"), "--gt", str(tmp_path / "gt")]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *args], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split("peak ")[1]) < 2e9
