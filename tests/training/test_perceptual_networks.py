"""Which network and which learned weights a perceptual term looks through, and what is refused."""

import math
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.modules.vgg import VGG16
from facewright.training.losses.extractors import ExtractorConfig
from facewright.training.losses.perceptual import sobel_magnitude
from facewright.training.methods.flipnet import DegradeRecipe, FlipConfig, RestoreConfig
from facewright.training.methods.honestface import HonestFaceConfig, HonestFaceRecipe
from facewright.training.methods.onestep import OneStepConfig
from facewright.training.methods.vre import SingleConfig
from facewright.training.settings.config import ConfigError
from facewright.training.settings.data_sections import FolderData
from pydantic import ValidationError
from safetensors.torch import save_file

STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
WIDTHS = (64, 128, 256, 512, 512)


def wave(shape, start, scale):
    """Numbers that every version of torch makes alike."""
    ramp = torch.arange(math.prod(shape), dtype=torch.float64).mul(0.7391).add(start)
    return ramp.sin().mul(scale).reshape(shape).float()


def pictures():
    first = wave((2, 3, 40, 48), 1.0, 0.5) + 0.5
    other = wave((2, 3, 40, 48), 7.3, 0.5) + 0.5
    return first, first * 0.8 + other.roll(5, 3) * 0.2


DISTS = {
    "alpha": wave((1, 1475, 1, 1), 0.3, 0.02).abs(),
    "beta": wave((1, 1475, 1, 1), 1.9, 0.01).abs(),
}
HEADS = {
    f"lin{i}.model.1.weight": wave((1, c, 1, 1), i + 0.7, 1.0).abs() for i, c in enumerate(WIDTHS)
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """torchvision's names, DISTS' and LPIPS' own files, with numbers of ours."""
    folder, tensors, c = tmp_path_factory.mktemp("vgg"), {}, 3
    for indices, width in zip(STAGES, WIDTHS, strict=True):
        for i in indices:
            tensors[f"features.{i}.weight"] = wave((width, c, 3, 3), i, (4 / (9 * c)) ** 0.5)
            tensors[f"features.{i}.bias"] = wave((width,), i + 0.5, 0.1)
            c = width
    save_file(tensors, folder / "vgg16.safetensors")
    torch.save(DISTS, folder / "weights.pt", _use_new_zipfile_serialization=False)
    torch.save(HEADS, folder / "heads.pth")
    return folder


def extractor(files, **values):
    return ExtractorConfig(path=files / "vgg16.safetensors", **values)


def test_dists_is_what_its_package_computes(files):
    """Recorded from DISTS_pt.py of dists-pytorch 0.1 with the very same numbers."""
    dists = extractor(files, dists=files / "weights.pt").load_perceptual("dists")
    assert dists(*pictures()).tolist() == pytest.approx([0.01264769, 0.01214409], abs=3e-7)


def test_lpips_is_what_its_package_computes(files):
    """Recorded from lpips 0.1.4, net vgg, version 0.1, with the very same numbers."""
    lpips = extractor(files, lpips=files / "heads.pth").load_perceptual("lpips")
    assert lpips(*pictures()).tolist() == pytest.approx([0.21725784, 0.20060670], abs=1e-6)


@pytest.mark.parametrize("name", ["dists", "lpips"])
def test_the_edges_distance_is_added(files, name):
    config = extractor(files, dists=files / "weights.pt", lpips=files / "heads.pth")
    x, y = pictures()
    plain, edges = config.load_perceptual(name), config.load_perceptual(f"ea-{name}")
    expected = (plain(x, y) + plain(sobel_magnitude(x), sobel_magnitude(y))).mean()
    assert edges(x, y).item() == pytest.approx(expected.item(), rel=1e-6)


def test_weights_in_the_networks_own_file_count_too(files, tmp_path):
    both = {**VGG16.from_file(files / "vgg16.safetensors")[0].state_dict(), **DISTS}
    save_file(
        {k.replace("features_.", "features."): v for k, v in both.items()}, tmp_path / "both.st"
    )
    dists = ExtractorConfig(path=tmp_path / "both.st").load_dists()
    assert dists(*pictures()).tolist() == pytest.approx([0.01264769, 0.01214409], abs=3e-7)


@pytest.mark.parametrize(("name", "key"), [("dists", "dists"), ("ea-lpips", "lpips")])
def test_learned_weights_that_are_missing_are_asked_for(files, name, key):
    with pytest.raises(ConfigError, match=f"`{key}: PATH`.*`weights: uniform`"):
        extractor(files).load_perceptual(name)
    uniform = extractor(files, weights="uniform").load_perceptual(name)
    assert (uniform(*pictures()) > 0).all()


def test_uniform_weights_are_half_texture_half_structure(files):
    dists = extractor(files, weights="uniform").load_dists()
    alpha, beta = dists._weights([3, *WIDTHS], torch.ones(1))
    assert alpha.sum().item() == beta.sum().item() == pytest.approx(0.5)
    assert alpha.split([3, *WIDTHS])[4].sum().item() == pytest.approx(1 / 12)


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"alpha": DISTS["alpha"]}, "no `beta`"),
        ({**DISTS, "beta": torch.ones(1, 1474, 1, 1)}, "`beta` .* should be 1475"),
        ({**DISTS, "alpha": torch.full((1, 1475, 1, 1), math.nan)}, "NaN"),
        ({**DISTS, "alpha": torch.ones(1, 1475, 1, 1, dtype=torch.int64)}, "int64"),
        ({k: torch.zeros(1, 1475, 1, 1) for k in DISTS}, "every channel by 0"),
    ],
)
def test_damaged_weights_of_dists(files, tmp_path, tensors, why):
    torch.save(tensors, tmp_path / "weights.pt")
    with pytest.raises(FacewrightError, match=why):
        extractor(files, dists=tmp_path / "weights.pt").load_dists()


def test_other_files_are_no_heads_of_lpips(files, tmp_path):
    short = {**HEADS, "lin4.model.1.weight": torch.ones(1, 256, 1, 1)}
    for tensors in (short, {**HEADS, "lin5.model.1.weight": torch.ones(1)}, DISTS):
        torch.save(tensors, tmp_path / "heads.pth")
        with pytest.raises(FacewrightError, match="five heads"):
            extractor(files, lpips=tmp_path / "heads.pth").load_lpips()


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"kind": "vgg19", "dists": "weights.pt"}, "`dists` is for kind vgg16 alone"),
        ({"kind": "nano", "lpips": "heads.pth"}, "`lpips` is for kind vgg16 alone"),
        ({"kind": "nano", "weights": "learned"}, "`weights: learned` is for kind vgg16"),
        ({"kind": "vgg19", "pooling": "l2"}, "`pooling` is for kind vgg16"),
        ({"weights": "uniform", "dists": "weights.pt"}, "would not read the file"),
    ],
)
def test_what_would_be_ignored_is_refused(files, values, why):
    with pytest.raises(ValidationError, match=why):
        extractor(files, **values)


def test_vgg19_has_no_learned_weights(files):
    config = ExtractorConfig(kind="vgg19", path=files / "vgg16.safetensors")
    with pytest.raises(ConfigError, match=r"of kind vgg19.*`weights: uniform`"):
        config.load_perceptual("ea-dists")


def test_pooling_is_the_l2_of_dists_or_the_maximum(files):
    x, _ = pictures()
    nets = {k: extractor(files, pooling=k).load() for k in (None, "l2", "max")}
    maps = {k: net.features(x)[1] for k, net in nets.items()}
    assert torch.equal(maps[None], maps["l2"]) and not torch.allclose(maps["max"], maps["l2"])


BACKBONE = {"source": "sd", "path": "sd"}
ONESTEP = {"backbone": BACKBONE, "vre": "vre.safetensors"}
EMBEDDER = {"recogniser": "r.pth", "extractor": "vgg.pth"}
NETWORK = {"extractor": {"path": "vgg.pth"}}


@pytest.mark.parametrize(
    ("config", "values", "why"),
    [
        (OneStepConfig, ONESTEP, "`weights.perceptual` is 1, .*`perceptual: none`"),
        (
            OneStepConfig,
            {**ONESTEP, "perceptual": "none", "weights": {"features": 2}},
            "`weights.features` is 2, .*`weights: {features: 0}`",
        ),
        (OneStepConfig, {**ONESTEP, **NETWORK}, "`weights.identity` is 0.1, .*{identity: 0}"),
        (
            HonestFaceConfig,
            {**ONESTEP, **NETWORK, "start": None, "embedder": EMBEDDER},
            "`weights.identity` is 0.1, .*{identity: 0}",
        ),
        (SingleConfig, {}, "`perceptual` is 1, .*`perceptual: 0`"),
        (
            RestoreConfig,
            {"backbone": BACKBONE, "text": None, "face_encoder": "f"},
            "`perceptual` is 0.01, .*`perceptual: 0`",
        ),
    ],
)
def test_a_term_with_a_weight_and_no_network_is_refused(config, values, why):
    with pytest.raises(ValidationError, match=why):
        config(**values)


def test_a_term_may_be_left_out_in_words():
    OneStepConfig(**ONESTEP, perceptual="none", weights={"identity": 0})
    OneStepConfig(**ONESTEP, weights={"perceptual": 0, "identity": 0})
    values = {**ONESTEP, **NETWORK, "embedder": EMBEDDER, "recognisers": ("a.pth",)}
    HonestFaceConfig(**values, start=None)
    with pytest.raises(ValidationError, match=r"`start: null`"):
        HonestFaceConfig(**values)
    with pytest.raises(ValidationError, match=r"`text: null`"):
        FlipConfig(backbone=BACKBONE)
    SingleConfig(perceptual=0)
    with pytest.raises(ValidationError, match="leave it out for lpips"):
        SingleConfig(**NETWORK, distance="lpips", relative_features=True)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"references": 0, "identity": "parent"}, "`references: 4` there"),
        ({"references": 4}, "`identity: parent` into the section"),
        ({"references": 4, "identity": "parent"}, ""),
    ],
)
def test_honestface_without_photographs_of_the_person_is_refused(data, why):
    values = {**ONESTEP, **NETWORK, "start": None, "recognisers": ("a.pth",)}
    shown = HonestFaceRecipe(HonestFaceConfig(**values, embedder=EMBEDDER))
    hidden = {**EMBEDDER, "drop_references": 1}
    forgetful = HonestFaceRecipe(HonestFaceConfig(**values, embedder=hidden))
    run = SimpleNamespace(data=FolderData(source="folder", folder="people", **data))
    forgetful.check_data(run)
    with pytest.raises(ConfigError, match=why) if why else nullcontext():
        shown.check_data(run)


@pytest.mark.parametrize(
    ("text", "data", "why"),
    [
        (None, {"captions": True}, "take `captions` out"),
        ("sd", {}, "`captions: false` to train with empty prompts"),
        (None, {}, ""),
        ("sd", {"captions": True}, ""),
        ("sd", {"captions": False}, ""),
    ],
)
def test_flipnet_is_told_whether_it_reads(text, data, why):
    recipe = DegradeRecipe(FlipConfig(backbone=BACKBONE, text=text))
    run = SimpleNamespace(data=FolderData(source="folder", folder="faces", **data))
    with pytest.raises(ConfigError, match=why) if why else nullcontext():
        recipe.check_data(run)
