"""Files of statistics of three programs, and files that only look like them."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.metrics import FrechetStatistics, frechet_distance
from facewright.core.metrics.inception import FidInception, basicsr_features, load_inception
from facewright.core.metrics.moments import load_moments, save_moments

X = np.random.RandomState(3).standard_normal((9, 5))
MEAN, COV = X.mean(0), np.cov(X.T)


def holds(path, convention, count=None):
    found = load_moments(path)
    np.testing.assert_array_equal(found.statistics.mean, MEAN)
    np.testing.assert_allclose(found.statistics.covariance, COV, rtol=1e-15)
    assert (found.convention, found.count) == (convention, count)
    return found.statistics


def test_our_file_gives_the_same_distance(tmp_path):
    statistics = FrechetStatistics()
    statistics.update(torch.from_numpy(X))
    save_moments(tmp_path / "s.npz", statistics, "clean-fid")
    found = load_moments(tmp_path / "s.npz")
    assert (found.convention, found.count) == ("clean-fid", 9)
    other = torch.rand(7, 5, dtype=torch.float64)
    mine = FrechetStatistics()
    mine.update(other)
    assert float(mine.distance(found.statistics)) == pytest.approx(
        float(frechet_distance(other, torch.from_numpy(X))), abs=1e-12
    )


def test_files_of_clean_fid(tmp_path):
    np.savez(tmp_path / "s.npz", mu=MEAN, sigma=COV)
    holds(tmp_path / "s.npz", None)
    np.savez_compressed(tmp_path / "f.npz", mu=MEAN, sigma=np.asfortranarray(COV), other="x")
    holds(tmp_path / "f.npz", None)


@pytest.mark.parametrize("zipped", [False, True])
def test_files_of_basicsr(tmp_path, zipped):
    content = {"name": "FFHQ", "size": 512, "mean": MEAN, "cov": COV}
    path = tmp_path / "inception_FFHQ_512.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    holds(path, "basicsr")
    tensors = {"mean": torch.from_numpy(MEAN), "cov": torch.from_numpy(COV)}
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    holds(path, "basicsr")


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [False, True])
def test_nothing_in_a_file_is_run(tmp_path, zipped):
    path, ran = tmp_path / "s.pth", tmp_path / "ran"
    torch.save({"mean": Runs(ran), "cov": COV}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(FacewrightError, match=r"asks to run `(posix|nt)\.mkdir`"):
        load_moments(path)
    np.savez(tmp_path / "s.npz", mu=np.array([Runs(ran)], dtype=object), sigma=COV)
    with pytest.raises(FacewrightError, match="array of object"):
        load_moments(tmp_path / "s.npz")
    assert not ran.exists()


def npy(shape, content=b""):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + content


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"mu": np.zeros(3)}, "neither `sigma` nor `cov`"),
        ({"mu": np.zeros(3), "sigma": np.eye(4)}, "belong together"),
        ({"mu": np.array([np.nan, 0]), "sigma": np.eye(2)}, "NaN"),
        ({"mu": np.zeros(2), "sigma": np.array([[1.0, 2], [0, 1]])}, "not symmetric"),
        ({"mu": np.zeros(2), "sigma": -np.eye(2)}, "negative"),
        ({"mu": np.zeros(2), "sigma": np.eye(2), "count": np.array(1)}, "got 1"),
        ({"mu": np.zeros(2), "sigma": np.eye(2), "count": np.array(np.inf)}, "inf pictures"),
        ({"mu": np.array("text"), "sigma": np.eye(2)}, "no statistics"),
    ],
)
def test_numbers_that_cannot_be_statistics(tmp_path, arrays, words):
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(FacewrightError, match=words):
        load_moments(tmp_path / "s.npz")


def test_arrays_larger_than_their_file_are_not_made(tmp_path):
    with zipfile.ZipFile(tmp_path / "s.npz", "w") as archive:
        archive.writestr("mu.npy", npy("(1000000, 1000000)"))
    with pytest.raises(FacewrightError, match=r"an array of float64 \(1000000, 1000000\)"):
        load_moments(tmp_path / "s.npz")
    with pytest.raises(FacewrightError, match="There is no file"):
        load_moments(tmp_path / "none.npz")
    (tmp_path / "p.pth").write_bytes(pickle.dumps([1, 2], 2))
    with pytest.raises(FacewrightError, match="no statistics that can be used"):
        load_moments(tmp_path / "p.pth")


def weights(network):
    """The same for ever, every layer of them felt."""
    random, made = np.random.RandomState(0), {}
    for name, value in sorted(network.state_dict().items()):
        numbers = random.standard_normal(value.shape)
        if name.endswith("conv.weight"):
            numbers *= np.sqrt(2 / np.prod(value.shape[1:]))
        elif name.endswith("bn.weight"):
            numbers = 1 + 0.2 * np.tanh(numbers)
        elif name.endswith("running_var"):
            numbers = 1 + 0.5 * np.tanh(numbers)
        elif not name.endswith("num_batches_tracked"):
            numbers *= 0.1
        made[name] = torch.from_numpy(np.asarray(numbers)).to(value.dtype)
    return {k: v for k, v in made.items() if not k.endswith("num_batches_tracked")}


def test_inception_is_that_of_pytorch_fid(tmp_path, monkeypatch):
    """Recorded from pytorch-fid 0.3.0 with the weights above and a classifier beside them."""
    network = FidInception()
    assert sum(p.numel() for p in network.parameters()) == 21_785_568
    state = weights(network)
    file = tmp_path / "facewright/pt_inception-2015-12-05-6726825d.pth"
    file.parent.mkdir()
    torch.save({**state, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, file)
    monkeypatch.setenv("FACEWRIGHT_MODELS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    y, x = torch.meshgrid(torch.linspace(0, 1, 90), torch.linspace(0, 1, 120), indexing="ij")
    picture = torch.stack([x, y, (x * 9).sin() * 0.5 + 0.5])[None]
    features = basicsr_features(picture)
    assert features.shape == (1, 2048) and features.dtype == torch.float64
    np.testing.assert_allclose(features[0, ::256], RECORDED, rtol=2e-4)
    del state["Mixed_7c.branch_pool.bn.bias"]
    with pytest.raises(FacewrightError, match=r"Mixed_7c\.branch_pool\.bn\.bias"):
        load_inception(state, "some file")


RECORDED = [
    3.2093873, 2.7279656, 0.0, 0.19580635, 1.3444495, 0.1927175, 2.0742266, 4.6849003,
]  # fmt: skip
