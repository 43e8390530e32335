"""Weight files of strangers: a sentence for each, no code, no more memory than the file holds."""

import json
import pickle
import random
import struct
import zipfile

import pytest
import torch
from facewright.core.checkpoint import (
    CONFIG_KEY,
    load_strict,
    make_metadata,
    read_metadata,
    read_tensors,
    save_safetensors,
)
from facewright.core.errors import CheckpointError
from facewright.core.faces.nano import NanoAnalyzer, NanoFaces
from facewright.core.files import pickles
from facewright.core.methods.flipnet import BoostHubs
from facewright.core.methods.honestface import IdentityEmbedder, load_eye_extractor
from facewright.core.methods.osdface import VisualRepresentationEmbedder
from facewright.core.modules.face_encoder import FaceEncoder
from facewright.core.modules.identity import IdentityEncoder
from facewright.core.people.person import Person
from facewright.core.people.recogniser import load_recogniser, nano_recogniser
from facewright.core.weights import nano
from torch import nn
from torch.nn import Linear

from .hostile_files import HOSTILE, mutated, no_hang, outcome, with_header

FOLDER = nano.NANO_DIR


def _ide(path):
    encoder = nano.load_identity("loss")
    return IdentityEmbedder.from_file(
        path,
        recogniser=nano_recogniser(encoder),
        extractor=encoder,
        landmarker=NanoAnalyzer.from_folder(),
    )


READERS = {
    "vre": ("nano_vre", VisualRepresentationEmbedder.from_files),
    "face encoder": ("nano_face_encoder", FaceEncoder.from_file),
    "boosthub": ("nano_flipnet_restore_boosthub", BoostHubs.from_file),
    "identity": ("nano_identity_loss", IdentityEncoder.from_file),
    "recogniser": ("nano_identity_loss", load_recogniser),
    "eye extractor": ("nano_identity_loss", load_eye_extractor),
    "faces": ("nano_faces", NanoFaces.from_file),
    "vae": ("nano_vae", nano.load_vae),
    "unet": ("nano_unet", nano.unet_config),
    "ide": ("nano_honestface_ide", _ide),
}


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    n = 2
    path = tmp_path_factory.mktemp("album") / "someone.person"
    Person(
        name="someone",
        crops=torch.rand(n, 3, 16, 16),
        embeddings=nn.functional.normalize(torch.randn(n, 8), dim=1),
        landmarks=torch.rand(n, 68, 2),
        quality=torch.rand(n),
        recogniser="nano-identity:0",
        sources=("a.png", "b.png"),
    ).save(path)
    return path


@pytest.fixture
def frugal(monkeypatch):
    """Fails where room is made for more than a few times what the bundled files hold."""
    original = nn.Module.to_empty

    def to_empty(self, **options):
        size = sum(t.numel() * 4 for t in self.state_dict().values())
        assert size < 2**26, f"room for {size} bytes was asked for"
        return original(self, **options)

    monkeypatch.setattr(nn.Module, "to_empty", to_empty)


def _with_config(content, config):
    def change(header):
        text = config if isinstance(config, str) else json.dumps(config)
        header["__metadata__"][CONFIG_KEY] = text
        return header

    return with_header(content, change)


def _file_of(kind, album):
    if kind == "person":
        return album, Person.from_file
    name, read = READERS[kind]
    return FOLDER / f"{name}.safetensors", read


def _fuzz(kind, album, path, cases, seed):
    source, read = _file_of(kind, album)
    content = source.read_bytes()
    config = json.loads(read_metadata(source)[CONFIG_KEY])
    rng = random.Random(seed)
    refused = 0
    for _ in range(cases):
        path.write_bytes(_with_config(content, mutated(config, rng)))
        refused += isinstance(outcome(read, path), str)
    return refused


@pytest.mark.parametrize("kind", [*READERS, "person"])
def test_mutated_descriptions_are_refused_in_words(kind, album, tmp_path, frugal):
    with no_hang():
        assert _fuzz(kind, album, tmp_path / "x.safetensors", 16, 1) > 4


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*READERS, "person"])
def test_thousands_of_mutated_descriptions(kind, album, tmp_path, frugal):
    with no_hang(1800):
        assert _fuzz(kind, album, tmp_path / "x.safetensors", 500, 2) > 100


@pytest.mark.parametrize("kind", ["vre", "face encoder", "identity", "faces", "boosthub"])
@pytest.mark.parametrize("value", [10**5, 10**9, -1, 0, True, "2", 2.0, None, [2], {}])
def test_every_field_keeps_to_its_kind_and_bounds(kind, value, album, tmp_path, frugal):
    source, read = _file_of(kind, album)
    content = source.read_bytes()
    config = json.loads(read_metadata(source)[CONFIG_KEY])
    # No picture of somebody else is a rightful number of them.
    numbers = [k for k, v in config.items() if type(v) is int and (k, value) != ("others", 0)]
    path = tmp_path / "x.safetensors"
    with no_hang():
        for key in numbers:
            path.write_bytes(_with_config(content, {**config, key: value}))
            text = outcome(read, path)
            assert isinstance(text, str) and key in text, (key, text)


def test_a_description_that_would_build_for_minutes_is_refused_at_once(tmp_path):
    source = FOLDER / "nano_vre.safetensors"
    config = json.loads(read_metadata(source)[CONFIG_KEY])
    config["encoder"]["num_res_blocks"] = 100_000
    path = tmp_path / "x.safetensors"
    path.write_bytes(_with_config(source.read_bytes(), config))
    with no_hang(), pytest.raises(CheckpointError, match=r"`encoder.num_res_blocks`.*got 100000"):
        VisualRepresentationEmbedder.from_files(path)


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("groups", 7, "multiples of its 7 groups"),
        ("attn_levels", [11], "attn_levels"),
        ("ch_mult", [], "ch_mult"),
        ("ch_mult", [1] * 40, "ch_mult"),
        ("ch", 2**40, "ch"),
    ],
)
def test_what_does_not_go_together_is_named(field, value, word, tmp_path):
    source = FOLDER / "nano_vre.safetensors"
    config = json.loads(read_metadata(source)[CONFIG_KEY])
    config["encoder"][field] = value
    path = tmp_path / "x.safetensors"
    path.write_bytes(_with_config(source.read_bytes(), config))
    with pytest.raises(CheckpointError, match=word):
        VisualRepresentationEmbedder.from_files(path)


@pytest.mark.parametrize(
    "text",
    ["", "[", "[" * 100_000, '{"a":' * 100_000, "1" * 10_000, "nul", '"', "\ufeff{}", "{} {}"],
    ids=lambda text: f"{text[:5]!r}x{len(text)}",
)
def test_descriptions_that_are_no_json(text, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(_with_config((FOLDER / "nano_vre.safetensors").read_bytes(), text))
    assert isinstance(outcome(VisualRepresentationEmbedder.from_files, path), str)


def test_the_files_that_ship_are_read():
    for name, read in READERS.values():
        assert not isinstance(outcome(read, FOLDER / f"{name}.safetensors"), str)


def _headers():
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    yield "overlap", {"a": tensor, "b": tensor}
    yield "hole", {"a": tensor, "b": {**tensor, "data_offsets": [100, 108]}}
    yield "backwards", {"a": {**tensor, "data_offsets": [8, 0]}}
    yield "beyond", {"a": {**tensor, "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}
    yield "more than its bytes", {"a": {**tensor, "shape": [10**6]}}
    yield "unknown numbers", {"a": {**tensor, "dtype": "F4"}}
    yield "numbers of 6 bits", {"a": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}
    yield "negative", {"a": {**tensor, "shape": [-2]}}
    yield "huge", {"a": {**tensor, "shape": [2**62, 2**62]}}
    yield "no shape", {"a": {"dtype": "F32"}}
    yield "a list", []
    yield "metadata that is no text", {"__metadata__": {"facewright.format": 3}, "a": tensor}


@pytest.mark.parametrize("header", [pytest.param(h, id=kind) for kind, h in _headers()])
def test_headers_that_lie(header, tmp_path):
    text = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    with pytest.raises(CheckpointError):
        read_tensors(path)


@pytest.mark.parametrize("length", [17 * 2**20, 2**40, 2**63, 2**64 - 1])
def test_headers_that_are_too_long(length, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b'{"a":')
    with pytest.raises(CheckpointError, match="list of tensors would be"):
        read_tensors(path)


TENSORS = {
    "a scalar": torch.tensor(1.0),
    "nothing": torch.zeros(0),
    "whole numbers": torch.ones(3, 2, dtype=torch.int64),
    "bytes": torch.ones(3, 2, dtype=torch.uint8),
    "truth": torch.ones(3, 2, dtype=torch.bool),
    "complex": torch.ones(3, 2, dtype=torch.complex64),
    "NaN": torch.full((3, 2), torch.nan),
    "infinity": torch.full((3, 2), torch.inf),
    "one NaN in half": torch.tensor([[1, 2], [3, torch.nan], [5, 6]]).half(),
    "one infinity in bfloat16": torch.tensor([[1, 2], [3, -torch.inf], [5, 6]]).bfloat16(),
    "many axes": torch.zeros((1,) * 40),
    "other way round": torch.ones(2, 3),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_weights_of_another_kind_leave_the_network_alone(kind):
    layer = Linear(2, 3)
    before = layer.weight.clone()
    with pytest.raises(CheckpointError, match="weight"):
        load_strict(layer, {"weight": TENSORS[kind], "bias": torch.zeros(3)}, source="file")
    assert torch.equal(layer.weight, before)


def test_eight_bit_weights_and_counters_in_half_are_fine():
    layer = nn.BatchNorm1d(2)
    state = {k: v.half() for k, v in layer.state_dict().items()}
    load_strict(layer, state, source="file")
    small = Linear(2, 2)
    weights = {"weight": torch.eye(2).to(torch.float8_e4m3fn), "bias": torch.zeros(2)}
    load_strict(small, weights, source="file")
    assert torch.equal(small.weight, torch.eye(2))


def test_names_longer_than_a_line_are_shortened():
    layer = Linear(2, 3)
    name = "\x1b[31m" + "a" * 100_000
    with pytest.raises(CheckpointError) as error:
        load_strict(layer, {name: torch.zeros(1)}, source="file")
    assert len(str(error.value)) < 600 and "\x1b" not in str(error.value)


@pytest.mark.parametrize("key", [1, None, (1, 2), 2.5, b"weight"])
def test_names_that_are_no_text(key, tmp_path):
    torch.save({key: torch.zeros(2), "a": torch.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="names are text"):
        read_tensors(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(10**6, 10**6),
        torch.zeros(2, 2).to_sparse(),
        torch.zeros(10**6, 10**6, device="meta"),
    ],
    ids=["repeated", "sparse", "without numbers"],
)
def test_tensors_without_numbers_of_their_own(tensor, tmp_path):
    torch.save({"a": tensor}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="takes no room"):
        read_tensors(tmp_path / "x.pth")


def test_tensors_that_share_their_numbers_many_times(tmp_path):
    one = torch.zeros(2**20)
    torch.save({f"t{i}": one.view(2**20) for i in range(64)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="overlap"):
        read_tensors(tmp_path / "x.pth")
    torch.save({"tied": one, "as well": one}, tmp_path / "x.pth")
    assert len(read_tensors(tmp_path / "x.pth")[0]) == 2


@pytest.mark.parametrize(
    "keys",
    [
        ("layer1.0.conv1.weight", f"layer1.{'9' * 5000}.conv1.weight"),
        ("input_layer.0.weight", "body.0.res_layer.4.weight"),
        ("features.0.weight",),
    ],
)
def test_networks_known_by_their_names_alone(keys, tmp_path):
    save_safetensors(tmp_path / "x.safetensors", dict.fromkeys(keys, torch.tensor(1.0)))
    for read in (load_recogniser, load_eye_extractor):
        assert isinstance(outcome(read, tmp_path / "x.safetensors"), str)


def _zip(path, data, *, compressed=False, extra=()):
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
        for name, content in extra:
            archive.writestr(name, content)


def _globals(count):
    """A pickle that asks for `count` classes of packages nobody has."""
    return b"\x80\x02" + _asking(count) + b"}."


def _asking(count):
    return b"]" + b"".join(b"cpackage%d\nClass%d\na" % (i, i) for i in range(count))


def _nested(depth):
    """Tuples of the same tuple twice, as the key of a dict: 2 ** depth values to hash."""
    return b"\x80\x02}K\x01" + b"q\x00h\x00\x86" * depth + b"K\x01s."


PICKLES = {
    "many classes": (_globals(2000), "names more classes"),
    "many instructions": (b"\x80\x02]" + b"Na" * 3000 + b"}.", "instructions"),
    "tuples in tuples": (_nested(60), "nests values"),
    "a terabyte": (b"\x80\x02cbuiltins\nbytearray\nK\x01\x85R.", "bytearray"),
    "a terabyte, in Python 2": (b"\x80\x02c__builtin__\nbytearray\nK\x01\x85R.", "bytearray"),
    "cut off": (b"\x80\x02}q\x00X\xff\xff\xff\x7f", "cannot be read"),
    "empty stack": (b"\x80\x02000.", "cannot be read"),
    "nothing": (b"", "cannot be read"),
    "a name with a zero": (b"\x80\x02cpack\0age\nClass\n.", "asks to run|cannot be read"),
}


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_that_would_never_end(kind, zipped, tmp_path, monkeypatch):
    if kind == "many instructions":
        monkeypatch.setattr(pickles, "_MOST_INSTRUCTIONS", 5000)
    data, words = PICKLES[kind]
    path = tmp_path / "x.pth"
    if zipped:
        _zip(path, data)
    else:
        path.write_bytes(data or b"\x80")
    with no_hang(), pytest.raises(CheckpointError, match=words):
        read_tensors(path)


def test_an_archive_that_unpacks_to_more_than_itself(tmp_path):
    _zip(tmp_path / "x.pth", b"\x80\x02}.", compressed=True, extra=[("archive/b", bytes(10**7))])
    with pytest.raises(CheckpointError, match="unpacks to more"):
        read_tensors(tmp_path / "x.pth")


def test_a_program_is_not_opened(tmp_path):
    _zip(tmp_path / "x.pth", b"\x80\x02}.", extra=[("archive/constants.pkl", b"\x80\x02).")])
    with pytest.raises(CheckpointError, match="TorchScript program"):
        read_tensors(tmp_path / "x.pth")


def test_a_checkpoint_with_many_classes_is_read_once(tmp_path, monkeypatch):
    """As many as any training script has; one reading, whatever their number."""
    path = tmp_path / "x.ckpt"
    torch.save({"w": torch.ones(2)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {i.filename: archive.read(i) for i in archive.infolist()}
    name = next(n for n in parts if n.endswith("data.pkl"))
    parts[name] = parts[name][:2] + _asking(60) + parts[name][2:]
    with zipfile.ZipFile(path, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    calls = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: calls.append(1) or load(*a, **k))
    assert torch.equal(read_tensors(path)[0]["w"], torch.ones(2))
    assert len(calls) == 1


def _damaged(content, rng):
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(content) or 1)
        kind = rng.random()
        if kind < 0.6 and content:
            content[at] = rng.randrange(256)
        elif kind < 0.8:
            del content[at : at + rng.choice((1, 8, 200))]
        else:
            content[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 8, 100))))
    return bytes(content)


def _byte_fuzz(path, cases, seed):
    state = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor(1)}
    seeds = []
    for zipped in (True, False):
        torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=zipped)
        seeds.append(path.read_bytes())
    save_safetensors(path, state, make_metadata("person", {"version": 1}))
    seeds += [path.read_bytes(), pickle.dumps(state["b"].item(), 2)]
    rng = random.Random(seed)
    for i in range(cases):
        path.write_bytes(_damaged(seeds[i % len(seeds)], rng))
        outcome(read_tensors, path)
        outcome(read_metadata, path)


@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_anywhere(tmp_path):
    with no_hang():
        _byte_fuzz(tmp_path / "x.pth", 400, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_thousands_of_damaged_files(tmp_path):
    with no_hang(1800):
        _byte_fuzz(tmp_path / "x.pth", 5000, 4)


def test_hostile_values_are_of_every_kind():
    assert {type(v) for v in HOSTILE} >= {int, float, str, bool, list, dict, type(None)}
