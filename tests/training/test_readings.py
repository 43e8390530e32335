"""Where a paper can be read in several ways: what its configs choose; and they name the rest."""

from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from facewright.training import methods
from facewright.training.settings.config import load_config
from facewright.training.train import stages
from pydantic import BaseModel

CONFIGS = Path(methods.__path__[0]).parent / "configs"
CHOICES = {
    ("vre_hq", "recipe.gan_loss"): "log",
    ("vre_lq", "recipe.gan_loss"): "log",
    ("vre_associate", "recipe.gan_loss"): "log",
    ("face_autoencoder_hq", "recipe.gan_loss"): "hinge",
    ("face_autoencoder_lq", "recipe.gan_loss"): "hinge",
    ("face_associate", "recipe.gan_loss"): "hinge",
    ("flipnet_restore", "recipe.pixel_weight"): "none",
    ("flipnet_restore", "recipe.boosthub_train"): "whole",
    ("flipnet_degrade", "recipe.boosthub_train"): "whole",
    ("honestface", "recipe.embedder.eye_features"): "stages",
    ("honestface", "recipe.embedder.identity_values"): "embeddings",
    ("honestface", "recipe.embedder.fusion"): "mix",
}
DEFAULTS = {
    "recipe.gan_loss": "hinge",
    "recipe.pixel_weight": "alpha_bar",
    "recipe.boosthub_train": "whole",
    "recipe.embedder.eye_features": "stages",
    "recipe.embedder.identity_values": "embeddings",
    "recipe.embedder.fusion": "mix",
}
"""What a config of before, without the key, goes on to mean."""
BATCHES = {
    **dict.fromkeys(("vre_hq", "vre_lq", "vre_associate"), 32),
    **dict.fromkeys(("face_autoencoder_hq", "face_autoencoder_lq", "face_associate"), 32),
    **dict.fromkeys(("flipnet_degrade", "flipnet_restore"), 16),
    "onestep": 2,
    "honestface": 4,
}


def read(name, kind):
    stage = name.replace("_", "-")
    known = stages()
    stage = next(s for s in sorted(known, key=len, reverse=True) if stage.startswith(s))
    return load_config(CONFIGS / f"{name}_{kind}.yaml", known[stage].Config)


def at(config, key):
    """The section that `key` stands in, and its last part."""
    *sections, last = key.split(".")
    for section in sections:
        config = getattr(config, section)
    return config, last


def readings(section: BaseModel, name: str) -> set[str]:
    annotation = type(section).model_fields[name].annotation
    assert get_origin(annotation) is Literal
    return set(get_args(annotation))


@pytest.mark.parametrize("kind", ["paper", "24gb"])
@pytest.mark.parametrize(("name", "key"), CHOICES)
def test_a_papers_config_chooses_its_reading_and_names_the_others(name, key, kind):
    section, last = at(read(name, kind), key)
    assert getattr(section, last) == CHOICES[name, key]
    assert type(section).model_fields[last].default == DEFAULTS[key]
    text = (CONFIGS / f"{name}_{kind}.yaml").read_text()
    others = readings(section, last) - {CHOICES[name, key]}
    if name.startswith("face"):
        others -= {"log-saturating"}  # `log` stands for both
    assert others and all(f"`{other}`" in text for other in others), others


@pytest.mark.parametrize("name", BATCHES)
def test_a_papers_config_has_its_batch_and_says_whether_it_mirrors(name):
    for kind in ("paper", "24gb"):
        config = read(name, kind)
        assert config.total_batch == BATCHES[name]
        assert {"total_batch", "batch_size"} <= config.model_fields_set
        assert "accumulate" not in config.model_fields_set
        assert "mirror" in config.data.model_fields_set
        assert config.data.mirror == (name == "honestface")
    nano = read(name, "nano")
    assert nano.total_batch is None and nano.data.mirror


def test_honestfaces_discriminator_goes_on_from_the_stage_before():
    for kind, run in (("paper", "onestep"), ("24gb", "onestep_24gb")):
        before = read("onestep", kind)
        carried = read("honestface", kind).recipe.discriminator.carry_on
        assert before.output == Path("runs") / run and carried == before.output / "checkpoints"
