"""Values in files: back bit by bit, and nothing that is not what was expected."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import torch
from facewright.core.checkpoint.values import load_values, save_values
from facewright.core.errors import CheckpointError
from facewright.core.pipeline.tracks import TrackReceipts
from safetensors.torch import save_file
from torch import Tensor


@dataclass(frozen=True)
class Inner:
    box: tuple[float, float]
    points: Tensor | None = None


@dataclass
class Outer:
    found: list[list[Inner]]
    count: Counter[str]
    shown: dict[int, tuple[int, float]]
    kind: Literal["a", "b"]
    about: dict[str, Any] = field(default_factory=dict)
    number: Tensor = field(default_factory=lambda: torch.tensor(3.5, dtype=torch.float64))
    texts: tuple[str, ...] = ()
    _ranges: list[list[int]] = field(default_factory=list)


def value():
    def points(k):
        return torch.rand(5, 2, generator=torch.Generator().manual_seed(k))

    return Outer(
        [[Inner((0.1, math.inf), points(1)), Inner((1 / 3, 2.0))], [], [Inner((0, 1), points(2))]],
        Counter({"kept": 3}), {7: (1, 0.1 + 0.2)}, "b", {"x": [1, {"y": None}]},
        texts=("ä", ""), _ranges=[[1, 2]],
    )  # fmt: skip


def test_values_come_back_bit_by_bit(tmp_path):
    save_values(tmp_path / "a", value())
    back, was = load_values(tmp_path / "a", Outer), value()
    assert torch.equal(back.found[0][0].points, was.found[0][0].points)
    assert torch.equal(back.found[2][0].points, was.found[2][0].points)
    assert back.found[0][1] == was.found[0][1] and back.found[0][0].box == (0.1, math.inf)
    assert back.number.shape == () and back.number.dtype == torch.float64
    for name in ("count", "shown", "kind", "texts", "about", "_ranges"):
        assert getattr(back, name) == getattr(was, name)
    assert isinstance(back.count, Counter) and back.shown[7][1] == 0.1 + 0.2
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"a"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1, str), ("1", int), (True, int), (1.5, int), ("nine", float), (None, int),
        ("c", Literal["a"]),
        ([1, "2"], list[int]), ([1, 2, 3], tuple[int, int]), ({"x": 1}, Inner), (["t"], Tensor),
        ([0, 0, 5], Tensor), ([[1, 2, 3]], dict[int, int]), (3, list[int]), ([0, -1, 1], Tensor),
        (Inner((1.0, "2")), Inner), ({"a": 1}, dict[str, str]),
    ],
)  # fmt: skip
def test_anything_else_is_refused(tmp_path, given, expected):
    save_values(tmp_path / "a", given)
    with pytest.raises(CheckpointError, match="a cannot be used"):
        load_values(tmp_path / "a", expected)


def test_a_file_that_is_not_as_it_was_written_is_refused(tmp_path):
    path = tmp_path / "a"
    save_values(path, value())
    whole = bytearray(path.read_bytes())
    for at in (len(whole) - 3, len(whole) // 2, 20):
        changed = whole.copy()
        changed[at] ^= 1
        path.write_bytes(changed)
        with pytest.raises(CheckpointError):
            load_values(path, Outer)
    for part in (whole[:-5], b"", b"\x80\x04."):
        path.write_bytes(part)
        with pytest.raises(CheckpointError):
            load_values(path, Outer)
    save_file({"text": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not as it was written"):
        load_values(path, Outer)
    with pytest.raises(TypeError, match="no file holds a set"):
        save_values(path, {"a": {1}})


def test_receipts_of_videos_are_such_values(tmp_path):
    save_values(tmp_path / "a", TrackReceipts("r", "report only"))
    assert load_values(tmp_path / "a", TrackReceipts | None).json
