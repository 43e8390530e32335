"""Training states of strangers: a sentence of ours, and nothing in them is run."""

import os
import pickle
import re

import pytest
import torch
from facewright.core.errors import CheckpointError
from facewright.training.loop.checkpoints import read_checkpoint, save_checkpoint

STATE = {
    "stage": "x", "step": 1, "images": 2, "spent": 0.5, "cpu_spent": 0.5, "nets": {"a": {}},
    "optimizers": {}, "ema": None, "scaler": None, "rng": [], "extra": {},
}  # fmt: skip


class Calls:
    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_state_is_refused_without_bad_advice(tmp_path, zipped):
    canary = tmp_path / "canary"
    path = tmp_path / "step-00000001.pt"
    content = {**STATE, "extra": {"x": Calls(os.system, f"touch {canary}")}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path)
    text = str(error.value)
    assert "asks to run `posix.system`" in text or "asks to run `nt.system`" in text
    assert "without --resume" in text and "weights_only" not in text and "\n" not in text
    assert not canary.exists()


@pytest.mark.parametrize("key", [k for k, v in STATE.items() if v is not None])
@pytest.mark.parametrize("value", [None, "text", torch.zeros(1)], ids=["none", "text", "tensor"])
def test_parts_of_another_kind_are_named(tmp_path, key, value):
    if isinstance(value, type(STATE[key])):
        value = 3
    path = save_checkpoint(tmp_path, 1, {**STATE, key: value}, 1)
    with pytest.raises(CheckpointError, match=f"facewright train`: {key} is missing"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x02}."])
def test_what_is_no_state_is_refused(tmp_path, content):
    (tmp_path / "step-00000001.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="without --resume"):
        read_checkpoint(tmp_path / "step-00000001.pt")


def test_a_state_comes_back(tmp_path):
    state = {
        **STATE,
        "nets": {"a": {"w": torch.arange(3)}},
        "rng": [{"cpu": torch.get_rng_state()}],
    }
    read = read_checkpoint(save_checkpoint(tmp_path, 1, state, 1))
    assert torch.equal(read["nets"]["a"]["w"], torch.arange(3))
    assert torch.equal(read["rng"][0]["cpu"], state["rng"][0]["cpu"])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_of_any_protocol_is_told_apart(tmp_path, protocol, recwarn):
    path = tmp_path / "step-00000003.pt"
    canary = tmp_path / "ran"
    hostile = {"x": Calls(os.system, f"touch {canary}")}
    path.write_bytes(pickle.dumps(hostile, protocol=protocol))
    with pytest.raises(CheckpointError) as refused:
        read_checkpoint(path)
    said = "asks to run `(posix|nt).system`" if protocol < 4 else f"protocol {protocol}, "
    assert re.search(said, str(refused.value)) and "damaged" not in str(refused.value)
    assert not canary.exists() and not recwarn.list
