"""Recognisers: files of others, forward passes re-created layer by layer, refusals."""

import pickle
import re

import pytest
import torch
import torch.nn.functional as F
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.modules import adaface, iresnet
from facewright.core.people.recogniser import arcface_crop, load_recogniser, nano_recogniser
from facewright.core.weights import nano
from torch import nn
from torch.nn import Linear

SMALL = (2, 2, 2, 2)


def randomised(net):
    """Weights at which every layer matters, batch statistics included."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.2)
        elif isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0.05, 0.5)
    return net.eval()


def norm(x, weights, name):
    """Batch normalisation at its stored statistics, written out."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    mean, var = (weights[f"{name}.running_{k}"].view(shape) for k in ("mean", "var"))
    x = (x - mean) / (var + 1e-5).sqrt()
    if f"{name}.weight" in weights:
        x = x * weights[f"{name}.weight"].view(shape) + weights[f"{name}.bias"].view(shape)
    return x


def leak(x, slope):
    return torch.where(x > 0, x, slope.view(1, -1, 1, 1) * x)


def naive_arcface(faces, weights, blocks):
    """RGB in [0, 1], 112 px; from the names of arcface_torch alone, in float64."""
    w = {k: v.double() for k, v in weights.items()}
    x = F.conv2d(faces.double() * 2 - 1, w["conv1.weight"], padding=1)
    x = leak(norm(x, w, "bn1"), w["prelu.weight"])
    for stage, count in enumerate(blocks, start=1):
        for i in range(count):
            p, stride = f"layer{stage}.{i}", 2 if i == 0 else 1
            h = F.conv2d(norm(x, w, f"{p}.bn1"), w[f"{p}.conv1.weight"], padding=1)
            h = leak(norm(h, w, f"{p}.bn2"), w[f"{p}.prelu.weight"])
            h = norm(F.conv2d(h, w[f"{p}.conv2.weight"], None, stride, 1), w, f"{p}.bn3")
            if i == 0:
                x = F.conv2d(x, w[f"{p}.downsample.0.weight"], None, stride)
                x = norm(x, w, f"{p}.downsample.1")
            x = x + h
    x = norm(x, w, "bn2").reshape(len(x), -1)
    x = norm(x @ w["fc.weight"].T + w["fc.bias"], w, "features")
    return x / x.norm(dim=1, keepdim=True)


def naive_adaface(faces, weights, blocks):
    """RGB in [0, 1], 112 px; from the names of AdaFace's net alone, in float64."""
    w = {k: v.double() for k, v in weights.items()}
    bgr = torch.stack([faces[:, 2], faces[:, 1], faces[:, 0]], 1).double()
    x = F.conv2d((bgr - 0.5) / 0.5, w["input_layer.0.weight"], padding=1)
    x = leak(norm(x, w, "input_layer.1"), w["input_layer.2.weight"])
    at = 0
    for count in blocks:
        for i in range(count):
            p, stride = f"body.{at}", 2 if i == 0 else 1
            h = F.conv2d(norm(x, w, f"{p}.res_layer.0"), w[f"{p}.res_layer.1.weight"], padding=1)
            h = leak(norm(h, w, f"{p}.res_layer.2"), w[f"{p}.res_layer.3.weight"])
            h = norm(F.conv2d(h, w[f"{p}.res_layer.4.weight"], None, stride, 1), w,
                     f"{p}.res_layer.5")  # fmt: skip
            if f"{p}.shortcut_layer.0.weight" in w:
                x = norm(F.conv2d(x, w[f"{p}.shortcut_layer.0.weight"], None, stride), w,
                         f"{p}.shortcut_layer.1")  # fmt: skip
            else:
                x = x[..., ::stride, ::stride]
            x = x + h
            at += 1
    x = norm(x, w, "output_layer.0").reshape(len(x), -1)
    x = norm(x @ w["output_layer.3.weight"].T + w["output_layer.3.bias"], w, "output_layer.4")
    return x / x.norm(dim=1, keepdim=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Small networks as files, under the names of others, and their weights."""
    folder = tmp_path_factory.mktemp("recognisers")
    torch.manual_seed(0)
    arc, ada = randomised(iresnet.IResNet(SMALL)), randomised(adaface.AdaFaceIR(SMALL))
    torch.save(arc.state_dict(), folder / "backbone.pth")
    lightning = {f"model.{k}": v for k, v in ada.state_dict().items()}
    lightning |= {"head.kernel": torch.zeros(512, 3), "head.t": torch.zeros(1)}
    extra = {"epoch": 3, "hyper_parameters": {"arch": "ir_18"}, "callbacks": {}}
    torch.save({"state_dict": lightning, **extra}, folder / "adaface.ckpt")
    return folder, arc.state_dict(), ada.state_dict()


def test_the_networks_have_the_published_numbers_of_parameters():
    def millions(net):
        return round(sum(p.numel() for p in net.parameters()) / 1e6, 2)

    with torch.device("meta"):
        r50, r100 = iresnet.IResNet((3, 4, 14, 3)), iresnet.IResNet((3, 13, 30, 3))
        ir50, ir101 = adaface.AdaFaceIR((3, 4, 14, 3)), adaface.AdaFaceIR((3, 13, 30, 3))
    assert (millions(r50), millions(r100)) == (43.59, 65.16)
    assert (millions(ir50), millions(ir101)) == (43.59, 65.15)


def test_arcface_equals_a_forward_pass_written_out(files):
    folder, weights, _ = files
    recogniser = load_recogniser(folder / "backbone.pth")
    assert (recogniser.name, recogniser.dim, recogniser.crop) == ("arcface-r18", 512, "arcface")
    faces = torch.rand(2, 3, 128, 128)
    expected = naive_arcface(arcface_crop(faces), weights, SMALL)
    torch.testing.assert_close(recogniser(faces).double(), expected, rtol=0, atol=1e-5)


def test_adaface_equals_a_forward_pass_written_out_and_reads_bgr(files):
    folder, _, weights = files
    recogniser = load_recogniser(folder / "adaface.ckpt")
    assert (recogniser.name, recogniser.dim, recogniser.crop) == ("adaface-ir18", 512, "arcface")
    faces = torch.rand(2, 3, 128, 128)
    expected = naive_adaface(arcface_crop(faces), weights, SMALL)
    torch.testing.assert_close(recogniser(faces).double(), expected, rtol=0, atol=1e-5)
    assert (recogniser(faces.flip(1)).double() - expected).abs().max() > 1e-3


def test_the_second_result_of_adaface_is_the_length(files):
    net = adaface.AdaFaceIR(SMALL)
    net.load_state_dict(files[2])
    feature, length = net.eval()(torch.rand(2, 3, 112, 112) * 2 - 1)
    assert length.shape == (2, 1) and (length > 0).all()
    torch.testing.assert_close(feature.norm(dim=1), torch.ones(2))


def test_the_bare_network_of_adaface_is_the_same_recogniser(files, tmp_path):
    folder, _, weights = files
    torch.save(weights, tmp_path / "bare.pt")
    assert load_recogniser(tmp_path / "bare.pt").id == load_recogniser(folder / "adaface.ckpt").id


@pytest.mark.slow
def test_the_deep_ones_are_told_apart_by_their_blocks(tmp_path):
    for net, name in (
        (iresnet.IResNet((3, 4, 14, 3)), "arcface-r50"),
        (iresnet.IResNet((3, 13, 30, 3)), "arcface-r100"),
        (adaface.AdaFaceIR((3, 4, 14, 3)), "adaface-ir50"),
        (adaface.AdaFaceIR((3, 13, 30, 3)), "adaface-ir101"),
    ):
        torch.save(net.state_dict(), tmp_path / "net.pth")
        assert load_recogniser(tmp_path / "net.pth").name == name


def test_the_nano_file_is_the_nano_recogniser():
    recogniser = load_recogniser(nano.NANO_DIR / "nano_identity_loss.safetensors")
    assert recogniser.id == nano_recogniser(nano.load_identity("loss")).id
    assert recogniser.id != nano_recogniser(nano.load_identity("metric")).id
    assert recogniser.crop == "full"


def test_weights_are_frozen_but_gradients_reach_the_faces(files):
    folder, _, _ = files
    for name in ("backbone.pth", "adaface.ckpt"):
        recogniser = load_recogniser(folder / name)
        assert not any(p.requires_grad for p in recogniser.parameters())
        faces = torch.rand(1, 3, 64, 64, requires_grad=True)
        recogniser(faces)[:, :8].sum().backward()
        assert faces.grad.isfinite().all()
        assert faces.grad[..., 8:56, 8:55].abs().amax() > 0
        assert faces.grad[..., :7, :].abs().amax() == 0  # outside ArcFace's crop


def test_half_precision_is_only_the_pictures(files):
    faces = torch.rand(2, 3, 128, 128).bfloat16()
    recogniser = load_recogniser(files[0] / "backbone.pth")
    torch.testing.assert_close(recogniser(faces), recogniser(faces.float()), rtol=0, atol=0)


def test_training_mode_never_reaches_the_batch_statistics(files):
    recogniser = load_recogniser(files[0] / "backbone.pth")
    before = recogniser(torch.zeros(2, 3, 64, 64))
    nn.Sequential(recogniser).train()
    recogniser(torch.rand(4, 3, 64, 64))
    torch.testing.assert_close(recogniser(torch.zeros(2, 3, 64, 64)), before, rtol=0, atol=0)


def test_no_faces_give_no_embeddings(files):
    assert load_recogniser(files[0] / "backbone.pth")(torch.zeros(0, 3, 64, 64)).shape == (0, 512)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("layer4.0.conv1.weight"), "1 of .* tensors missing"),
        (lambda w: w.update(other=torch.zeros(1)), "1 unexpected .other."),
        (lambda w: w.update({"bn1.bias": torch.zeros(3)}), "bn1.bias should be"),
        (lambda w: w.update({"layer3.2.bn1.weight": torch.zeros(256)}), r"\(2, 2, 3, 2\) blocks"),
    ],
)
def test_every_tensor_of_arcface_is_accounted_for(files, tmp_path, change, message):
    weights = dict(files[1])
    change(weights)
    torch.save(weights, tmp_path / "backbone.pth")
    with pytest.raises(CheckpointError, match=message):
        load_recogniser(tmp_path / "backbone.pth")


@pytest.mark.parametrize("key", ["body.0.se_block.weight", "module.more", "model.more"])
def test_every_tensor_of_adaface_is_accounted_for(files, tmp_path, key):
    weights = {f"model.{k}": v for k, v in files[2].items()} | {key: torch.zeros(1)}
    torch.save({"state_dict": weights}, tmp_path / "adaface.ckpt")
    with pytest.raises(CheckpointError, match=f"unexpected .*{key.removeprefix('model.')}"):
        load_recogniser(tmp_path / "adaface.ckpt")


class _Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_programs_and_foreign_files_are_refused_with_what_to_use_instead(tmp_path):
    torch.jit.script(Linear(2, 2)).save(str(tmp_path / "arcface.pt"))
    (tmp_path / "w600k_r50.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    for name, first in (
        ("arcface.pt", "TorchScript program"),
        ("w600k_r50.onnx", "ONNX"),
        ("other.pth", "no face recogniser"),
    ):
        with pytest.raises(CheckpointError) as error:
            load_recogniser(tmp_path / name)
        text = str(error.value)
        assert first in text and "backbone.pth" in text and "non-commercial" in text
        assert not re.search(r"\s\s|\.\.", text)
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"layer1.0.conv1.weight": _Bomb()}, 2))
    with pytest.raises(CheckpointError, match=r"was not opened|cannot be read"):
        load_recogniser(tmp_path / "bomb.pth")
    with pytest.raises(FacewrightError, match="no file"):
        load_recogniser(tmp_path / "nowhere.pth")


def test_missing_recognisers_are_named_with_source_and_terms(tmp_path):
    from facewright.core.weights.model_folders import ModelFolders

    folders = ModelFolders([tmp_path])
    for name in ("backbone.pth", "adaface_ir50_ms1mv2.ckpt"):
        with pytest.raises(CheckpointError, match=rf"{name} into .*Source: .*Licence: .*research"):
            folders.path("facewright", name)


def test_crowds_are_embedded_a_few_at_a_time():
    recogniser, faces = nano_recogniser(nano.load_identity("loss")), torch.rand(19, 3, 32, 32)
    sizes = []
    recogniser.net.register_forward_hook(lambda net, given, out: sizes.append(len(given[0])))
    found = recogniser.embed(faces)
    assert sizes == [16, 3]
    torch.testing.assert_close(found, recogniser(faces))
    assert recogniser.embed(faces[:0]).shape == (0, recogniser.dim)
    assert not found.requires_grad and found.device == torch.device("cpu")
    recogniser.device = torch.device("cpu")  # as ComfyUI does with what it loads
