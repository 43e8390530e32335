"""Weight files: damaged, disguised and hostile ones each get their sentence; no code runs."""

import collections
import os
import pickle
import sys
import types

import pytest
import torch
from facewright.core.checkpoint import (
    detect_format,
    files,
    load_strict,
    make_metadata,
    read_config,
    read_tensors,
    save_safetensors,
)
from facewright.core.errors import CheckpointError
from torch import nn
from torch.nn import Linear

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2])}


def assert_same(result, expected=None):
    expected = TENSORS if expected is None else expected
    assert result.keys() == expected.keys()
    assert all(
        torch.equal(result[k], v) and result[k].dtype == v.dtype for k, v in expected.items()
    )


def test_safetensors_round_trip_keeps_metadata(tmp_path):
    path = tmp_path / "new folder" / "x.safetensors"
    metadata = make_metadata("lora", {"alpha": 4}, note="hello")
    save_safetensors(path, TENSORS, metadata)
    tensors, found = read_tensors(path)
    assert_same(tensors)
    assert found == metadata
    assert read_config(found, "lora", source="x") == {"alpha": 4}
    assert os.listdir(path.parent) == ["x.safetensors"]


def test_shared_and_strided_tensors_are_saved_whole(tmp_path):
    x = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    save_safetensors(tmp_path / "x.safetensors", {"x": x, "again": x, "t": x.mT})
    assert_same(read_tensors(tmp_path / "x.safetensors")[0], {"x": x, "again": x, "t": x.mT})


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save_safetensors(path, TENSORS)

    def fail(tensors, filename, metadata):
        with open(filename, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(files, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_safetensors(path, {"other": torch.zeros(3)})
    assert_same(read_tensors(path)[0])
    assert os.listdir(tmp_path) == ["x.safetensors"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_plain_pickles_are_read(tmp_path, zipped, nested):
    content = {"state_dict": TENSORS, "epoch": 3} if nested else TENSORS
    path = tmp_path / "x.safetensors"  # the suffix does not matter
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    tensors, metadata = read_tensors(path)
    assert_same(tensors)
    assert metadata == {}


@pytest.fixture
def temporary_module():
    """Make classes as if from an installed package, which is gone when the file is read."""
    made = []

    def make(name, **attributes):
        packages = name.split(".")
        for i in range(1, len(packages) + 1):
            module = types.ModuleType(".".join(packages[:i]))
            sys.modules.setdefault(module.__name__, module)
            made.append(module.__name__)
        for key, value in attributes.items():
            value.__module__, value.__qualname__ = name, key
            setattr(module, key, value)
        return module

    yield make
    for name in made:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("zipped", [True, False])
def test_lightning_checkpoint_with_class_keys_is_read_without_lightning(
    tmp_path, temporary_module, zipped
):
    class ModelCheckpoint:
        pass

    class AttributeDict(dict):
        pass

    class SetupCallback:
        def __init__(self):
            self.x = 1

    name = "pytorch_lightning.callbacks.model_checkpoint"
    lightning = temporary_module(name, ModelCheckpoint=ModelCheckpoint)
    temporary_module("pytorch_lightning.utilities.parsing", AttributeDict=AttributeDict)
    temporary_module("somebodys_training", SetupCallback=SetupCallback)
    score = torch.zeros(1).numpy().mean()  # a numpy scalar, as callbacks keep their best score
    content = {
        "state_dict": TENSORS,
        "callbacks": {lightning.ModelCheckpoint: {"best": score, "path": "x"}},
        "hyper_parameters": AttributeDict(lr=1.0),
        "setup": SetupCallback(),
        "where": collections.defaultdict(list, a=[1]),
        "optimizer_states": [{"state": {0: {"step": 1}}}],
    }
    path = tmp_path / "associate_2.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    for module in [m for m in sys.modules if m.startswith(("pytorch_l", "somebodys"))]:
        del sys.modules[module]
    assert_same(read_tensors(path)[0])
    assert not any("lightning" in module for module in sys.modules)


class Calls:
    """Pickles into a call of `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("attack", ["os.system", "exec", "importlib", "function"])
def test_hostile_pickles_run_nothing_and_are_named(tmp_path, zipped, attack, temporary_module):
    canary = tmp_path / "canary"

    def payload(path):
        open(path, "w").close()

    evil = temporary_module("evil_package", payload=payload)
    calls = {
        "os.system": (Calls(os.system, f"touch {canary}"), r"(posix|nt)\.system"),
        "exec": (Calls(exec, f"open({str(canary)!r}, 'w')"), r"builtins\.exec"),
        "importlib": (Calls(__import__, "antigravity"), r"builtins\.__import__"),
        "function": (Calls(evil.payload, str(canary)), r"evil_package\.payload"),
    }
    hostile, name = calls[attack]
    path = tmp_path / "associate_2.ckpt"
    content = {"state_dict": TENSORS, "callbacks": hostile}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=f"asks to run `{name}`"):
        read_tensors(path)
    assert not canary.exists()
    assert "antigravity" not in sys.modules


def test_a_class_that_acts_when_imported_built_or_restored_stays_inert(tmp_path, monkeypatch):
    canary = tmp_path / "canary"
    source = f"""
def act(*_):
    open({str(canary)!r}, "w").close()
class Payload:
    def __new__(cls, *a): act(); return object.__new__(cls)
    def __init__(self, *a): act()
    def __setstate__(self, state): act()
    def __reduce__(self): return Payload, (1,), {{"state": 1}}
"""
    (tmp_path / "acting.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    import acting

    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": TENSORS, "p": acting.Payload()}, path)
    (tmp_path / "acting.py").write_text("act()\n" + source.replace("class", "act()\nclass", 1))
    del sys.modules["acting"]
    canary.unlink()
    assert_same(read_tensors(path)[0])
    assert not canary.exists()
    assert "acting" not in sys.modules


def test_stubs_do_not_outlive_the_read(tmp_path, temporary_module):
    class Callback:
        pass

    module = temporary_module("training_package", Callback=Callback)
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": TENSORS, "c": module.Callback()}, path)
    read_tensors(path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


def content_of(kind, tmp_path):
    torch.save({"w": torch.zeros(5000)}, tmp_path / "good.ckpt")
    save_safetensors(tmp_path / "good.safetensors", {"w": torch.zeros(5000)})
    legacy = tmp_path / "legacy.ckpt"
    torch.save({"w": torch.zeros(5000)}, legacy, _use_new_zipfile_serialization=False)
    return {
        "empty": b"",
        "html": b"\n<!DOCTYPE html><html>not found</html>",
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "text": b"hello, these are no weights",
        "short zip": (tmp_path / "good.ckpt").read_bytes()[:9000],
        "short pickle": legacy.read_bytes()[:9000],
        "short safetensors": (tmp_path / "good.safetensors").read_bytes()[:9000],
        "short header": (tmp_path / "good.safetensors").read_bytes()[:20],
        "one byte": b"\x80",
    }[kind]


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("empty", "is empty"),
        ("html", "is a web page"),
        ("lfs", "Git LFS pointer"),
        ("text", "neither a safetensors file nor a PyTorch checkpoint"),
        ("short zip", "incomplete or damaged"),
        ("short pickle", "incomplete or damaged"),
        ("short safetensors", "incomplete"),
        ("short header", "incomplete"),
        ("one byte", "incomplete or damaged"),
    ],
)
def test_damaged_files_each_get_their_sentence(tmp_path, kind, sentence):
    path = tmp_path / "associate_2.ckpt"
    path.write_bytes(content_of(kind, tmp_path))
    with pytest.raises(CheckpointError, match=sentence) as error:
        read_tensors(path)
    assert "associate_2.ckpt" in str(error.value)


def test_what_is_no_file_or_holds_no_tensors_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder"):
        read_tensors(tmp_path)
    with pytest.raises(CheckpointError, match="There is no file"):
        read_tensors(tmp_path / "nothing.ckpt")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        read_tensors(tmp_path / "list.pth")
    torch.save({"epoch": 1}, tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match="holds no tensors"):
        read_tensors(tmp_path / "bare.pth")


def test_strict_loading_copies_and_casts():
    layer = Linear(2, 1)
    load_strict(layer, {"weight": torch.ones(1, 2).half(), "bias": torch.ones(1)}, source="f")
    assert layer.weight.dtype == torch.float32
    assert torch.equal(layer.weight, torch.ones(1, 2))


def test_strict_loading_lists_every_problem_and_changes_nothing():
    net = nn.Sequential(Linear(2, 3), Linear(3, 4), Linear(4, 5))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    tensors = {"0.weight": torch.zeros(9, 2), "0.bias": torch.zeros(3), "extra": torch.zeros(1)}
    with pytest.raises(CheckpointError) as error:
        load_strict(net, tensors, source="file.pth")
    text = str(error.value)
    assert "file.pth does not fit Sequential" in text
    assert "4 of 6 tensors missing (1.weight, 1.bias, 2.weight and 1 more)" in text
    assert "1 unexpected (extra)" in text
    assert "0.weight should be (3, 2), came (9, 2)" in text
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (["vqvae_LQ.encoder.conv_in.weight", "vqvae_HQ.x"], "osdface-associate"),
        (["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"], "osdface-embedding-change"),
        (["unet.down_blocks.0.x.lora_A.weight"], "lora"),
        (["unet.down_blocks.0.x.lora.down.weight"], "lora"),
        (["mid_block.attn1.processor.to_q_lora.up.weight"], "lora"),
        (["lora_unet_mid_block_x.lora_down.weight", "lora_unet_mid_block_x.alpha"], "lora"),
        (["model.diffusion_model.input_blocks.0.0.weight"], "sd-checkpoint"),
        (["time_embedding.linear_1.weight", "down_blocks.0.x"], "diffusers-unet"),
        (["encoder.down_blocks.0.x"], "diffusers-vae"),
        (["encoder.down.0.x", "decoder.up.0.x"], "ldm-vae"),
        (["x"], "unknown"),
    ],
)
def test_formats_are_known_by_sight(keys, name):
    assert detect_format(dict.fromkeys(keys, torch.zeros(1))) == name


def test_own_formats_are_known_by_metadata():
    assert detect_format({}, make_metadata("nano-unet", {})) == "nano-unet"
    with pytest.raises(CheckpointError, match='of format "lora"; its metadata says "nano-unet"'):
        read_config(make_metadata("nano-unet", {}), "lora", source="x")
    with pytest.raises(CheckpointError, match="JSON object"):
        read_config({"facewright.format": "a", "facewright.config": "3"}, "a", source="x")
