"""Sentences that list names, refusals of batches, and numbers as JSON takes them."""

import importlib.util
import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from facewright.core import errors
from facewright.core.errors import FacewrightError, check_counts, first_of, listed, not_finite
from facewright.core.files.json_text import strict


def test_long_lists_are_cut_and_counted():
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(iter("abcde")) == "a, b, c and 2 more"
    assert listed(map(str, range(30)), 2, between="; ") == "0; 1 and 28 more"
    assert listed([]) == ""
    long = listed(["x" * 500, 7])
    assert len(long) < 200 and long.endswith(", 7")
    assert listed(["a\nb"]) == "a\N{REPLACEMENT CHARACTER}b"


def test_sentences_call_folders_as_their_host_does(monkeypatch):
    monkeypatch.setattr(errors, "_CALLED", {})
    errors.call_folders({"/home/ada": "~", "/home/ada/ComfyUI": "", "D:\\big models": "models"})
    for given, told in {
        "Put it into /home/ada/ComfyUI/models/loras.": "Put it into models/loras.",
        "Neither /home/ada/x nor '/home/ada/ComfyUI2/y'.": "Neither ~/x nor '~/ComfyUI2/y'.",
        "D:\\big models\\loras\\a b.pth is damaged.": "models\\loras\\a b.pth is damaged.",
        "/home/adam/x, /mnt/home/ada/x": "/home/adam/x, /mnt/home/ada/x",
    }.items():
        assert str(errors.CheckpointError(given)) == told


def test_the_first_sentences_and_the_number_of_the_rest():
    assert first_of(["A.", "B."]) == ["A.", "B."]
    assert first_of(["A.", "B.", "C."], most=1) == ["A.", "And 2 more."]
    assert first_of(["a", "b"], "{} left", 1) == ["a", "1 left"]


@pytest.mark.parametrize("count", [1, 3])
def test_one_picture_or_as_many_go_with_a_batch(count):
    check_counts(torch.zeros(3, 1), torch.zeros(count, 1), names=("restored", "gt"))


@pytest.mark.parametrize("count", [0, 2, 4])
def test_other_counts_are_refused(count):
    words = f"`restored` holds 3 pictures and `gt` {count}. Connect as many .* single `gt` for all"
    with pytest.raises(FacewrightError, match=words):
        check_counts(torch.zeros(3, 1), torch.zeros(count, 1), names=("restored", "gt"))


def test_entries_without_numbers_are_found():
    x = torch.zeros(5, 2, 3)
    x[1, 0, 2], x[4, 1, 0] = math.nan, -math.inf
    assert not_finite(x) == [1, 4]
    assert not_finite(x[:0]) == []


def test_strict_json_holds_no_number_that_json_does_not_know():
    value = {1: math.nan, "deep": [{"x": (math.inf, 0.123456789, 3)}], "none": None, "yes": True}
    plain = strict(value, digits=6)
    assert plain == {
        "1": None, "deep": [{"x": [None, 0.123457, 3]}], "none": None, "yes": True
    }  # fmt: skip
    assert strict([math.inf, -math.inf, math.nan], infinity=True) == ["inf", "-inf", None]
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert strict(0.1 + 0.2) == 0.1 + 0.2


def test_loaded_by_its_path_an_error_bears_the_name_of_the_product_alone():
    """ComfyUI shows module, class and sentence; other processes find the class by its module."""
    file = Path(errors.__file__)
    spec = importlib.util.spec_from_file_location("/me/custom_nodes/facewright.core.errors", file)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    own = type("PatternError", (loaded.LoraError,), {"__module__": "/me/custom_nodes/facewright.x"})
    for kind in (loaded.FacewrightError, loaded.CheckpointError, own):
        assert f"{kind.__module__}.{kind.__qualname__}" == f"facewright.{kind.__qualname__}"
    assert pickle.loads(pickle.dumps(errors.LoraError("no"))).args == ("no",)
    assert errors.LoraError.__module__ == errors.__name__
