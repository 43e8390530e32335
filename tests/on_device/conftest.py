"""What runs on an accelerator: the one that FACEWRIGHT_DEVICE names, and nowhere without it.

`tests/test_on_a_device.py` runs these files on the pretended device, in a process of their own. On
a machine with a GPU: FACEWRIGHT_DEVICE=cuda python -m pytest tests/on_device -m "slow or not slow"
"""

import importlib.util
import os
from pathlib import Path

import pytest
import torch

CHOSEN = os.environ.get("FACEWRIGHT_DEVICE", "cpu")
collect_ignore_glob = ["test_*.py"] if CHOSEN in ("cpu", "auto") else []


def load(path):
    """A module of the tests, which are no package to import from."""
    file = Path(__file__).parent / f"{path}.py"
    spec = importlib.util.spec_from_file_location(f"facewright_test_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pretended = None
if CHOSEN == "privateuseone":
    pretended = load("../pretended_device")
    pretended.install()


@pytest.fixture
def device():
    from facewright.core.devices import compute_device

    return compute_device()


@pytest.fixture(autouse=True)
def nothing_refused():
    """Also where the code went on without what the device refused."""
    if pretended is None:
        yield
        return
    with pretended.strict():
        yield pretended


@pytest.fixture
def on_cpu(monkeypatch):
    """Calls a function with everything computed on the CPU, as its independent twin."""

    def call(function):
        with monkeypatch.context() as patch:
            patch.setenv("FACEWRIGHT_DEVICE", "cpu")
            return function()

    return call


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    """Digits are compared with the CPU's."""
    from facewright.core.diffusion import loading

    monkeypatch.setattr(loading, "fast_dtype", lambda device: torch.float32)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Files of tiny networks, and recipes of all training stages."""
    setup = load("../training/flipnet_setup")
    return load("../training/tiny_recipes").Tiny(setup.Flip(tmp_path_factory.mktemp("tiny")))
