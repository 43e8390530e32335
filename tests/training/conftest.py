import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder_of_people(tmp_path):
    """Six people with three small pictures each, one folder a person."""
    rng = np.random.default_rng(0)
    root = tmp_path / "people"
    for person in range(6):
        (root / f"p{person}").mkdir(parents=True)
        for photo in range(3):
            pixels = rng.integers(0, 256, (36, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"p{person}" / f"{photo}.png")
    return root
