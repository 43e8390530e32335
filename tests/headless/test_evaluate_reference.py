"""FID without pairs: `facewright stats` and `evaluate --reference-set` against scipy."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.linalg
import torch
from facewright.core.faces.nano import NanoAnalyzer
from facewright.core.geometry.align import align_faces
from facewright.core.images import Picture, write_picture
from facewright.core.metrics import METRICS
from facewright.core.weights import nano
from facewright.headless.cli import app
from facewright.training.world.faces3d import photos
from PIL import Image
from typer.testing import CliRunner

runner = CliRunner()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three restored faces of one set of people, five originals of another, no pair among them."""
    root = tmp_path_factory.mktemp("sets")
    for folder, people in {"m": (5, 6, 7), "ref/a": (21, 22, 23), "ref/b": (24, 25)}.items():
        x = photos(list(people), [1] * len(people), nano.NANO_SIZE).pixels
        for i, picture in enumerate(x):
            write_picture(root / f"{folder}/{people[i]}.png", picture, Picture(picture))
    return root


def read(path):
    return torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1).float() / 255


def run(*args, code=0):
    result = runner.invoke(app, [str(a) for a in args], catch_exceptions=False)
    assert result.exit_code == code, result.stderr
    return " ".join(result.stderr.split())


def evaluated(root, reference, *options):
    out = root / "out"
    run("evaluate", root / "m", "--reference-set", reference, "-o", out, *options)
    return json.loads((out / "results.json").read_text())


def frechet(a, b):
    """As clean-fid: of means and covariances in float64, the root by scipy."""
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    covariances = np.cov(a.T), np.cov(b.T)
    root = np.trace(scipy.linalg.sqrtm(covariances[0] @ covariances[1])).real
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sum(covariances)) - 2 * root


def mean_colors(monkeypatch, name="fid"):
    """A stand-in for Inception that needs no weights."""
    for one in (name, f"{name}_set"):
        changed = dataclasses.replace(
            METRICS[one], missing=lambda: None, extract=lambda x: x.double().mean((2, 3))
        )
        monkeypatch.setitem(METRICS, one, changed)


def colors(folder):
    return np.stack(
        [read(file).double().mean((1, 2)).numpy() for file in sorted(folder.rglob("*.png"))]
    )


@pytest.mark.parametrize("name", ["fid", "fid_basicsr"])
def test_a_set_as_folder_and_as_file(root, tmp_path, monkeypatch, name):
    mean_colors(monkeypatch, name)
    expected = frechet(colors(root / "m"), colors(root / "ref"))
    file = tmp_path / "ref.npz"
    features = METRICS[name].convention
    run("stats", root / "ref", "-o", file, "--features", features)
    for reference, options in (
        (file, []), (root / "ref", ["--metrics", f"{name}_set"]),
    ):  # fmt: skip
        found = evaluated(root, reference, *options)
        assert list(found["metrics"]) == [f"{name}_set"]  # the usual one, and nothing else
        mean = found["means"]["m"][f"{name}_set"]
        assert mean["mean"] == pytest.approx(expected, abs=1e-9) and mean["count"] == 3
        assert any("5 pictures" in note for note in found["notes"])
    with np.load(file, allow_pickle=False) as saved:  # as clean-fid and pytorch-fid read it
        np.testing.assert_allclose(saved["mu"], colors(root / "ref").mean(0), rtol=1e-6)
        np.testing.assert_allclose(saved["sigma"], np.cov(colors(root / "ref").T), rtol=1e-5)
        assert saved["count"] == 5 and saved["convention"] == features


def test_originals_and_a_set_together(root, monkeypatch):
    mean_colors(monkeypatch)
    found = evaluated(root, root / "ref", "--gt", root / "m", "--metrics", "fid,fid_set,psnr")
    assert found["means"]["m"]["fid"]["mean"] == pytest.approx(0, abs=1e-12)
    assert found["means"]["m"]["fid_set"]["mean"] > 1e-4


def test_faces_of_the_bundled_networks(root, tmp_path):
    analyzer, encoder = NanoAnalyzer.from_folder(), nano.load_identity("metric")

    def features(folder):
        rows = []
        for file in sorted(folder.rglob("*.png")):
            picture = read(file)
            crop = align_faces(picture[None], [analyzer.detect(picture)[:1]], 128).pixels
            rows.append(encoder.features(crop)[-1].mean((2, 3))[0].double().numpy())
        return np.stack(rows)

    run("stats", root / "ref", "-o", tmp_path / "ref.npz", "--features", "nano")
    found = evaluated(root, tmp_path / "ref.npz", "--faces", "nano")
    # Fewer pictures than features: scipy's root is good to some digits only.
    a, b = features(root / "m"), features(root / "ref")
    values = scipy.linalg.eigvals(np.cov(a.T) @ np.cov(b.T)).real.clip(0)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T))
    expected -= 2 * np.sqrt(values).sum()
    assert found["means"]["m"]["frechet_set"]["mean"] == pytest.approx(expected, abs=1e-5)
    refused = run(
        "evaluate", root / "m", "--reference-set", tmp_path / "ref.npz", "--faces", "nano",
        "--aligned", code=2,
    )  # fmt: skip
    assert "'nano'" in refused and "'nano-aligned'" in refused


def test_broken_pictures_of_a_set_are_named(root, tmp_path, monkeypatch):
    mean_colors(monkeypatch)
    for i in range(3):
        picture = torch.full((3, 8, 8), i / 4)
        write_picture(tmp_path / f"ref/{i}.png", picture, Picture(picture))
    (tmp_path / "ref/x.png").write_text("x")
    words = run(
        "evaluate", root / "m", "--reference-set", tmp_path / "ref", "-o", tmp_path / "out", code=1
    )
    assert "x.png" in words and "of the reference set" in words
    words = run("stats", tmp_path / "ref", "-o", tmp_path / "s.npz", code=1)
    assert "1 picture left out" in words and np.load(tmp_path / "s.npz")["count"] == 3
    run("stats", tmp_path / "ref", "-o", tmp_path / "s.npz", "--limit", 2)
    assert np.load(tmp_path / "s.npz")["count"] == 2


def test_sets_that_do_not_fit(root, tmp_path, monkeypatch):
    mean_colors(monkeypatch)
    mean_colors(monkeypatch, "fid_basicsr")
    m, out = root / "m", tmp_path / "out"
    assert "--reference-set DIR" in run("evaluate", m, "--metrics", "fid_set", "-o", out, code=2)
    run("stats", root / "ref", "-o", tmp_path / "b.npz", "--features", "basicsr")
    words = run(
        "evaluate", m, "--reference-set", tmp_path / "b.npz", "--metrics", "fid_set", code=2
    )
    assert "'basicsr'" in words and "Measure fid_basicsr_set" in words
    np.savez(tmp_path / "c.npz", mu=np.zeros(5), sigma=np.eye(5))  # of another network
    words = run("evaluate", m, "--reference-set", tmp_path / "c.npz", "-o", out, code=1)
    assert "5 features and fid_set reads 3" in words
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 nothing")
    words = run("evaluate", m, "--reference-set", tmp_path / "d.npz", code=2)
    assert "no statistics that can be used" in words and "facewright stats" in words
    words = run("stats", root / "ref", "-o", tmp_path / "s.pth", code=2)
    assert ".npz" in words


@pytest.mark.slow
def test_processes_give_the_same_statistics(root, tmp_path):
    for workers in (1, 2):
        run(
            "stats", root / "ref", "-o", tmp_path / f"{workers}.npz", "--features", "nano",
            "--workers", workers,
        )  # fmt: skip
    one, two = (np.load(tmp_path / f"{workers}.npz") for workers in (1, 2))
    assert all(np.array_equal(one[name], two[name]) for name in one.files)
