"""Face parsing: both networks against facexlib's own, what is looked for, and what a class is."""

import importlib.util
import sys
import types
import zlib
from pathlib import Path

import pytest
import torch
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.faces import parsing
from facewright.core.faces.parsing import BiSeNet, FaceParser, ParseNet, load_parser
from torch.nn import Conv2d

FILES = {ParseNet: "parsing_parsenet.pth", BiSeNet: "parsing_bisenet.pth"}


def fill(net):
    """Weights that hang on their names and shapes only."""
    state = net.state_dict()
    for key, value in state.items():
        g = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        if key.endswith("running_var"):
            value.uniform_(0.5, 2, generator=g)
        elif value.ndim == 1 and key.endswith("weight"):
            value.uniform_(0.5, 1.5, generator=g)
        elif value.is_floating_point():
            most = 0.2 if value.ndim == 1 else (3 / value[0].numel()) ** 0.5
            value.uniform_(-most, most, generator=g)
    return net.eval().requires_grad_(False)


def picture(size):
    g = torch.Generator().manual_seed(7)
    return torch.randn(1, 3, size, size, generator=g)


# What the classes of facexlib 0.3.0 give for `fill` and `picture(64)`: logits of some classes at
# some pixels.
AT = ((0, 0, 0), (1, 5, 60), (3, 31, 32), (9, 40, 13), (13, 63, 63), (18, 20, 44))
RECORDED = {
    ParseNet: (83.8204, -29.5478, 18.3312, -80.3521, 18.1174, 23.8104),
    BiSeNet: (1.40768, 1.28776, -2.17939, -0.86353, -0.087126, -1.72195),
}


@pytest.mark.parametrize("kind", [ParseNet, BiSeNet])
def test_networks_give_what_was_recorded_of_facexlib(kind):
    out = fill(kind())(picture(64))[0]
    got = torch.stack([out[place] for place in AT])
    want = torch.tensor(RECORDED[kind])
    assert out.shape == (19, 64, 64)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))


def facexlib(module, name):
    """A class of the package, without its __init__, which imports half of the world."""
    spec = importlib.util.find_spec("facexlib")
    if spec is None:
        pytest.skip("facexlib is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "parsing"
    package = types.ModuleType("facexlib_parsing")
    package.__path__ = [str(folder)]
    sys.modules["facexlib_parsing"] = package
    return getattr(importlib.import_module(f"facexlib_parsing.{module}"), name)


@pytest.mark.parametrize(
    ("kind", "module", "given"),
    [
        (ParseNet, "parsenet", {"in_size": 512, "out_size": 512, "parsing_ch": 19}),
        (BiSeNet, "bisenet", {"num_class": 19}),
    ],
)
def test_networks_are_facexlibs(kind, module, given):
    theirs = fill(facexlib(module, kind.__name__)(**given))
    ours = kind()
    ours.load_state_dict(theirs.state_dict())  # every key, strictly
    ours.eval()
    for size in (64, 96):
        want = theirs(picture(size))[0]
        torch.testing.assert_close(ours(picture(size)), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [ParseNet, BiSeNet])
def test_every_class_belongs_to_one_part(kind):
    listed = [name for names in parsing._SEVERAL.values() for name in names]
    assert sorted(listed) == sorted(kind.classes) and len(set(listed)) == 19


class Small(torch.nn.Module):
    """A few weights in the place of one of facexlib's networks."""

    width = 2

    def __init__(self):
        super().__init__()
        self.conv = Conv2d(3, self.width, 1)
        self.bn = torch.nn.BatchNorm2d(self.width)


@pytest.fixture
def nets(monkeypatch):
    pair = type("ParseNet", (Small,), {}), type("BiSeNet", (Small,), {"width": 3})
    for net in pair:
        monkeypatch.setattr(parsing, net.__name__, net)
    return pair


# By the networks' outputs, as GPEN and face-parsing.PyTorch list them in words.
NUMBERS = {
    ParseNet: {
        "skin": [1], "nose": [2], "glasses": [3], "eyes": [4, 5], "brows": [6, 7], "ears": [8, 9],
        "mouth": [10, 11, 12], "hair": [13], "hat": [14], "earrings": [15], "necklace": [16],
        "neck": [17], "clothes": [18],
    },
    BiSeNet: {
        "skin": [1], "brows": [2, 3], "eyes": [4, 5], "glasses": [6], "ears": [7, 8],
        "earrings": [9], "nose": [10], "mouth": [11, 12, 13], "neck": [14], "necklace": [15],
        "clothes": [16], "hair": [17], "hat": [18],
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", [ParseNet, BiSeNet])
def test_parts_have_the_numbers_that_were_published(kind):
    class Rows(torch.nn.Module):
        """Row i of what it is shown is class i."""

        classes, mean, std = kind.classes, (0.5,) * 3, (0.5,) * 3

        def __init__(self):
            super().__init__()
            self.one = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return torch.eye(19)[None, ..., None].expand(-1, -1, -1, 19)

    parser = FaceParser(Rows(), "rows")
    for part in parsing.PARTS:
        shown = parser.shows(torch.zeros(1, 3, 19, 19), (part,))[0, :, 0]
        assert shown.nonzero()[:, 0].tolist() == NUMBERS[kind][part]


@pytest.mark.parametrize("folder", ["facedetection", "facexlib", "facewright", "."])
def test_weights_are_found_where_other_files_of_facexlib_are(nets, tmp_path, folder):
    parse, bise = nets
    (tmp_path / folder).mkdir(exist_ok=True)
    state = bise().state_dict()
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / folder / FILES[BiSeNet])
    found = load_parser(tmp_path)
    assert found.name == FILES[BiSeNet] and isinstance(found.net, bise)
    assert torch.equal(found.net.conv.weight, state["conv.weight"]) and not found.net.training
    torch.save(parse().state_dict(), tmp_path / FILES[ParseNet])
    assert isinstance(load_parser(tmp_path).net, parse)


def test_what_is_missing_or_wrong_is_said(nets, tmp_path):
    parse, bise = nets
    with pytest.raises(CheckpointError) as error:
        load_parser(tmp_path)
    for word in (*FILES.values(), str(tmp_path), "models/facedetection", "xinntao", "CelebAMask"):
        assert word in str(error.value)
    torch.save(parse().state_dict(), tmp_path / FILES[BiSeNet])
    with pytest.raises(CheckpointError, match="does not fit BiSeNet"):
        load_parser(tmp_path)
    broken = bise().state_dict()
    broken["conv.weight"][0] = torch.nan
    torch.save(broken, tmp_path / FILES[BiSeNet])
    with pytest.raises(CheckpointError, match="NaN"):
        load_parser(tmp_path)


class Colors(torch.nn.Module):
    """Red is skin, green hair, anything else background."""

    classes = parsing._PARSENET_CLASSES
    mean = std = (0.5, 0.5, 0.5)

    def __init__(self):
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        assert x.shape[1:] == (3, 512, 512) and x.abs().max() < 1.00001
        out = x.new_full((len(x), 19, *x.shape[2:]), -9.0)
        out[:, 0] = 0
        out[:, 1], out[:, 13] = 4 * x[:, 0], 4 * x[:, 1]
        return out


@pytest.mark.parametrize("size", [64, 512, 1100])
def test_parts_are_told_at_the_size_of_the_crops(size):
    crop = torch.zeros(2, 3, size, size)
    crop[0, 0, :, : size // 2], crop[0, 1, :, size // 2 :] = 1, 1
    parser = FaceParser(Colors(), "colors")
    skin = parser.shows(crop, ("skin", "nose"))
    assert skin.shape == (2, size, size) and skin.dtype == torch.bool
    assert skin[0, :, : size // 2].all() and not skin[0, :, size // 2 :].any()
    assert parser.shows(crop, ("skin", "hair"))[0].all() and not skin[1].any()
    assert not parser.shows(crop, ()).any()
    assert parser.shows(crop[:0], ("skin",)).shape == (0, size, size)


def test_crops_that_are_not_square_are_refused():
    with pytest.raises(FacewrightError, match="square"):
        FaceParser(Colors(), "colors").shows(torch.zeros(1, 3, 8, 9), ("skin",))
