"""Fixtures of the headless tests."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def ldm_files():
    """The module beside this file; test folders are no packages, so it cannot be imported."""
    path = Path(__file__).with_name("ldm_files.py")
    spec = importlib.util.spec_from_file_location("facewright_test_ldm_files", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
