"""Adapters to optional packages, with stand-ins for packages and weights: nothing is downloaded."""

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.metrics import METRICS, frechet_distance, metric, optional
from torch import nn
from torch.nn import Conv2d

IQA = {"dists": "dists", "musiq": "musiq", "maniqa": "maniqa", "clipiqa": "clipiqa", "niqe": "niqe",
       "msswd_learned": "msswd", "maniqa_pipal": "maniqa-pipal"}  # fmt: skip
CACHES = (optional._lpips_model, optional._iqa_model, optional._inception)


@pytest.fixture(autouse=True)
def nobody_home(monkeypatch, tmp_path):
    """No weights anywhere, no network, and nothing remembered from another test."""
    for name in ("COMFYUI_PATH", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("FACEWRIGHT_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(optional, "_home", lambda: tmp_path / "home")

    def no_network(*_arguments):
        pytest.fail("something tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    for cache in CACHES:
        cache.cache_clear()
    yield
    for cache in CACHES:
        cache.cache_clear()


def pretend(monkeypatch, name, **contents):
    """A module that can be found and imported, or with no contents one that cannot be found."""
    if contents:
        module = ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    else:
        found = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda n, *a: None if n == name else found(n, *a)
        )


def write(path, data=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


class FakeLPIPS(nn.Module):
    """Slices whose children keep their number in `features`, as in the package."""

    def __init__(self, net, pnet_rand, verbose):
        super().__init__()
        assert pnet_rand and not verbose
        self.net = nn.Module()
        self.net.slice1 = nn.Sequential()
        self.net.slice1.add_module("0", Conv2d(3, 2, 1))
        self.net.slice2 = nn.Sequential()
        self.net.slice2.add_module("3", Conv2d(2, 1, 1))

    def forward(self, a, b, normalize):
        assert normalize
        difference = self.net.slice2(self.net.slice1(a)) - self.net.slice2(self.net.slice1(b))
        return difference.abs().mean((1, 2, 3), keepdim=True)


@pytest.fixture
def fake_lpips(monkeypatch, tmp_path):
    pretend(monkeypatch, "lpips", LPIPS=FakeLPIPS)
    pretend(monkeypatch, "torchvision", found=True)
    state = {
        "features.0.weight": torch.ones(2, 3, 1, 1), "features.0.bias": torch.zeros(2),
        "features.3.weight": torch.ones(1, 2, 1, 1), "features.3.bias": torch.zeros(1),
        "classifier.1.weight": torch.zeros(4, 4),
    }  # fmt: skip
    folder = tmp_path / "models" / "facewright"
    folder.mkdir(parents=True)
    torch.save(state, folder / "alexnet-owt-7be5be79.pth")
    return folder


def test_lpips_loads_the_users_backbone_and_scores(fake_lpips):
    m = metric("lpips")
    assert m.missing() is None
    a, b = torch.rand(2, 3, 3, 40, 40)
    expected = 2 * (a - b).sum(1).abs().mean((1, 2))
    np.testing.assert_allclose(m(a, b), expected, rtol=1e-5)
    assert torch.equal(m(a, a), torch.zeros(3).double())
    assert m(a, b).dtype == torch.float64


def test_lpips_model_is_made_once(fake_lpips):
    a = torch.rand(1, 3, 40, 40)
    metric("lpips")(a, a)
    file = fake_lpips / "alexnet-owt-7be5be79.pth"
    first = optional._lpips_model("alex", file, a.device)
    metric("lpips")(a, a)
    assert optional._lpips_model("alex", file, a.device) is first


def test_lpips_refuses_another_file(fake_lpips):
    torch.save({"features.0.weight": torch.ones(1)}, fake_lpips / "alexnet-owt-7be5be79.pth")
    with pytest.raises(CheckpointError, match="alexnet-owt"):
        metric("lpips")(torch.rand(1, 3, 40, 40), torch.rand(1, 3, 40, 40))


def test_lpips_finds_torchs_own_cache(fake_lpips, tmp_path):
    file = fake_lpips / "alexnet-owt-7be5be79.pth"
    write(tmp_path / "torch/hub/checkpoints" / file.name, file.read_bytes())
    file.unlink()
    assert metric("lpips").missing() is None
    reason = metric("lpips_vgg").missing()
    assert "vgg16-397923af.pth" in reason and "models/facewright" in reason
    assert "https://download.pytorch.org/models/vgg16-397923af.pth" in reason
    assert str(tmp_path / "torch") in reason and "BSD" in reason


@pytest.mark.parametrize(("name", "package"), [("lpips", "lpips"), ("musiq", "pyiqa")])
def test_a_package_that_cannot_be_imported(name, package, fake_lpips, fake_pyiqa, monkeypatch):
    # As a torchvision built for another torch does.
    def refuse(self, fullname, path=None, target=None):
        if fullname == package:
            raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, package)
    monkeypatch.setattr(sys, "meta_path", [type("Finder", (), {"find_spec": refuse})()])
    a = torch.rand(1, 3, 40, 40)
    with pytest.raises(FacewrightError, match=r"cannot be imported.*nms.*reinstall"):
        metric(name).compute(a, a)


def test_lpips_without_its_package(monkeypatch):
    pretend(monkeypatch, "lpips")
    reason = metric("lpips").missing()
    assert "pip install lpips" in reason and "BSD-2-Clause" in reason
    with pytest.raises(FacewrightError, match="pip install lpips"):
        metric("lpips")(torch.rand(1, 3, 40, 40), torch.rand(1, 3, 40, 40))


@pytest.mark.slow  # the package makes whole networks first
@pytest.mark.parametrize(("name", "net"), [("lpips", "alexnet"), ("lpips_vgg", "vgg16")])
def test_lpips_is_the_packages_own(name, net, tmp_path):
    """With random weights in torchvision's layout, where the package is installed."""
    lpips = pytest.importorskip("lpips")
    models = pytest.importorskip("torchvision.models")
    features = getattr(models, net)(num_classes=1)
    state = {k: v for k, v in features.state_dict().items() if k.startswith("features.")}
    file = optional._LPIPS_FILES[METRICS[name].missing.args[0]]
    (tmp_path / "models").mkdir()
    torch.save(state, tmp_path / "models" / file)

    own = lpips.LPIPS(net={"alexnet": "alex", "vgg16": "vgg"}[net], pnet_rand=True, verbose=False)
    for part in own.net.children():
        for number, layer in part.named_children():
            source = features.features[int(number)].state_dict()
            layer.load_state_dict(source)
    smallest = METRICS[name].smallest
    a, b = torch.rand(2, 2, 3, smallest, smallest + 5)
    expected = own(a, b, normalize=True).flatten().detach()
    assert expected.min() > 0
    np.testing.assert_allclose(metric(name)(a, b), expected, rtol=1e-5)


@pytest.fixture
def fake_pyiqa(monkeypatch, tmp_path):
    made = []

    def create_metric(name, device):
        sys.stdout.write("Loading pretrained model\n")
        made.append(name)

        def score(picture, *truth):
            # As some real ones, it looks at random places.
            noise = torch.rand(1)
            value = (picture - truth[0]).abs().mean() if truth else picture.mean()
            return (value + 0 * noise).reshape(1, 1) if name != "maniqa" else noise.reshape(1, 1)

        return score

    pretend(monkeypatch, "pyiqa", create_metric=create_metric)
    hub = tmp_path / "torch" / "hub"
    for file in (
        "pyiqa/DISTS_weights-f5e65c96.pth", "checkpoints/vgg16-397923af.pth",
        "pyiqa/musiq_koniq_ckpt-e95806b9.pth", "pyiqa/ckpt_koniq10k.pt",
        "pyiqa/niqe_modelparameters.mat", "pyiqa/msswd_weights.pth",
        "pyiqa/MANIQA_PIPAL-ae6d356b.pth",
    ):  # fmt: skip
        write(hub / file)
    write(tmp_path / "home/.cache/clip/RN50.pt")
    timm = "models--timm--vit_base_patch8_224.augreg2_in21k_ft_in1k/snapshots/abc/model.safetensors"
    write(tmp_path / "home/.cache/huggingface/hub" / timm)
    return made


@pytest.mark.parametrize("name", IQA)
def test_pyiqa_scores(name, fake_pyiqa, capsys):
    m = metric(name)
    assert m.missing() is None
    a, b = torch.rand(2, 3, 3, 224, 224)
    values = m(a, b) if m.needs == "gt" else m(a)
    assert values.shape == (3,) and values.dtype == torch.float64
    assert fake_pyiqa == [IQA[name]]
    assert capsys.readouterr().out == ""
    if name == "maniqa":  # crops at random, yet each picture has one score
        assert torch.equal(values, values[:1].expand(3))
        return
    expected = (a - b).abs().mean((1, 2, 3)) if m.needs == "gt" else a.mean((1, 2, 3))
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_pyiqa_leaves_the_callers_random_numbers_alone(fake_pyiqa):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    picture = torch.full((2, 3, 224, 224), 0.5)
    metric("maniqa")(picture)
    assert torch.equal(torch.rand(3), expected)
    metric("maniqa")(picture)
    assert fake_pyiqa == ["maniqa"]  # loaded once


def test_code_in_pyiqas_weight_files_is_refused(fake_pyiqa, monkeypatch, tmp_path):
    ran = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return Path.touch, (ran,)

    torch.save({"params": Hostile()}, tmp_path / "hostile.pth")

    def create_metric(name, device):
        return torch.load(tmp_path / "hostile.pth", weights_only=False)

    pretend(monkeypatch, "pyiqa", create_metric=create_metric)
    with pytest.raises(FacewrightError, match="more than weights"):
        metric("musiq")(torch.rand(1, 3, 224, 224))
    assert not ran.exists() and "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_scores_without_reference_read_no_truth(fake_pyiqa):
    a = torch.rand(2, 3, 224, 224)
    assert torch.equal(metric("musiq")(a, torch.rand(5, 1)), metric("musiq")(a))


def test_pictures_below_maniqas_crop(fake_pyiqa):
    with pytest.raises(FacewrightError, match="at least 224 x 224"):
        metric("maniqa")(torch.rand(1, 3, 128, 300))


@pytest.mark.parametrize("name", IQA)
def test_pyiqas_missing_files_are_named(name, fake_pyiqa, tmp_path):
    for path in [*(tmp_path / "torch").rglob("*"), *(tmp_path / "home").rglob("*")]:
        if path.is_file():
            path.unlink()
    reason = metric(name).missing()
    files = {
        "dists": ["DISTS_weights-f5e65c96.pth", "vgg16-397923af.pth"], "clipiqa": ["RN50.pt"],
        "maniqa": ["ckpt_koniq10k.pt", "models--timm--vit_base_patch8_224"],
        "maniqa_pipal": ["MANIQA_PIPAL-ae6d356b.pth", "models--timm--vit_base_patch8_224"],
        "musiq": ["musiq_koniq_ckpt"], "niqe": ["niqe_modelparameters.mat"],
        "msswd_learned": ["msswd_weights.pth"],
    }[name]  # fmt: skip
    assert all(file in reason for file in files)
    assert f"create_metric('{IQA[name]}')" in reason and "non-commercial" in reason
    with pytest.raises(FacewrightError, match="would download"):
        metric(name)(torch.rand(1, 3, 224, 224), torch.rand(1, 3, 224, 224))
    assert fake_pyiqa == []


@pytest.mark.parametrize("name", IQA)
def test_without_pyiqa(name, monkeypatch):
    pretend(monkeypatch, "pyiqa")
    reason = metric(name).missing()
    assert "pip install pyiqa" in reason and "PolyForm Noncommercial" in reason


class TinyInception(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool2d(299 // 2), nn.Flatten())


@pytest.fixture
def fake_inception(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "inception-2015-12-05.pt"
    torch.jit.script(TinyInception()).save(str(path))
    known = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(optional, "_INCEPTION_SHA256", known)
    return path


class Writer(nn.Module):
    """A program that writes a file as soon as it is loaded."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    @torch.jit.export
    def __getstate__(self):
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path = state[0]
        self.training = state[1]
        torch.save(torch.zeros(1), state[0])

    def forward(self, x):
        return x


def test_fid_features_are_resized_as_clean_fid_does(fake_inception):
    from PIL import Image

    assert metric("fid").missing() is None
    pictures = torch.rand(2, 3, 310, 350)
    expected = []
    for picture in pictures:
        planes = [
            np.asarray(Image.fromarray(p * 255).resize((299, 299), Image.Resampling.BICUBIC))
            for p in picture.numpy()
        ]
        x = torch.from_numpy((np.stack(planes).clip(0, 255) - 128) / 128)
        expected.append(torch.nn.functional.avg_pool2d(x[None], 149).flatten())
    features = metric("fid").extract(pictures)
    assert features.dtype == torch.float64
    np.testing.assert_allclose(features, torch.stack(expected), rtol=1e-4, atol=1e-6)


def test_fid_features_of_other_pictures_are_refused(fake_inception):
    with pytest.raises(FacewrightError, match="index 1"):
        metric("fid").extract(
            torch.tensor([0, float("nan")])[:, None, None, None].expand(2, 3, 9, 9)
        )
    with pytest.raises(FacewrightError, match="alpha"):
        metric("fid").extract(torch.rand(1, 4, 9, 9))


def test_fid_is_the_distance_of_features():
    # The distance itself reads features; the network is asked for where pictures become features.
    a, b = torch.rand(6, 8), torch.rand(6, 8)
    write(Path(optional._hub()) / "checkpoints" / "inception-2015-12-05.pt")
    assert metric("fid")(a, b) == frechet_distance(a, b)


def test_fid_without_its_network():
    with pytest.raises(FacewrightError, match=r"inception-2015-12-05\.pt.*non-commercial"):
        metric("fid").extract(torch.rand(2, 3, 32, 32))
    with pytest.raises(FacewrightError, match=r"inception-2015-12-05\.pt.*non-commercial"):
        metric("fid")(torch.rand(2, 4), torch.rand(2, 4))


def test_fid_refuses_another_file(fake_inception):
    fake_inception.write_bytes(b"<!doctype html>")
    with pytest.raises(FacewrightError, match="Download it again"):
        metric("fid").extract(torch.rand(1, 3, 32, 32))


def test_fid_opens_no_program_but_the_known_one(fake_inception, tmp_path):
    written = tmp_path / "written"
    torch.jit.script(Writer(str(written))).save(str(fake_inception))
    with contextlib.suppress(RuntimeError):
        torch.jit.load(str(fake_inception))
    assert written.exists()  # the program does what it is made for
    written.unlink()
    with pytest.raises(FacewrightError, match="was not opened"):
        metric("fid").extract(torch.rand(1, 3, 32, 32))
    assert not written.exists()


def test_asking_what_is_available_imports_nothing():
    script = (
        "import json, sys, torch\n"
        "from facewright.core.metrics import METRICS\n"
        "before = set(sys.modules)\n"
        "[m.missing() for m in METRICS.values()]\n"
        "print(json.dumps([sorted(set(sys.modules) - before), 'kornia' in sys.modules]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    new, kornia = json.loads(done.stdout)
    assert not {n.split(".")[0] for n in new} & {"lpips", "torchvision", "pyiqa", "timm", "scipy"}
    assert not kornia
