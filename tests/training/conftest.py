import importlib.util
from pathlib import Path

import pytest


def _load(name):
    """A module of this folder; tests here are no package to import from."""
    path = Path(__file__).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"facewright_test_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def flipnet_setup():
    """The module flipnet_setup.py."""
    return _load("flipnet_setup")


@pytest.fixture
def flip(flipnet_setup, tmp_path):
    """Files of a tiny FLIPNET, and recipes that train it."""
    return flipnet_setup.Flip(tmp_path)


@pytest.fixture(scope="session")
def tiny_recipes():
    """The module tiny_recipes.py."""
    return _load("tiny_recipes")


@pytest.fixture(scope="session")
def tiny(tiny_recipes, flipnet_setup, tmp_path_factory):
    """Files of tiny networks, and recipes of all stages."""
    return tiny_recipes.Tiny(flipnet_setup.Flip(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session")
def ldm_files():
    """The module ldm_files.py of the headless tests."""
    return _load("../headless/ldm_files")


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """Drawing takes longer than most of the runs here; see `results.draw_curves` for a test."""
    monkeypatch.setattr("facewright.training.loop.engine.draw_curves", lambda output: None)
