"""Every YAML of the package fits its stage; the 24 GB ones differ where they say so."""

import re
from pathlib import Path

import pytest
import yaml
from facewright.training import methods
from facewright.training.settings.config import PACKAGE, load_config
from facewright.training.train import stages

CONFIGS = Path(methods.__path__[0]).parent / "configs"
KINDS = ("paper", "24gb", "nano")
NAMES = (
    "vre_hq", "vre_lq", "vre_associate", "onestep", "honestface", "face_autoencoder_hq",
    "face_autoencoder_lq", "face_associate", "flipnet_degrade", "flipnet_restore",
)  # fmt: skip
LEANER = {
    "output", "batch_size", "precision", "gradient_checkpointing",
    "frozen_precision", "cache.folder", "recipe.gan_norm",
}  # fmt: skip
"""What a 24 GB config may change of the paper's, besides paths of what other stages exported."""


def shipped(kind):
    return {p.stem.removesuffix(f"_{kind}"): p for p in CONFIGS.glob(f"*_{kind}.yaml")}


def read(path):
    known, name = stages(), path.stem.replace("_", "-")
    if name.startswith(("nano-identity", "nano-base")):
        stage = "_".join(path.stem.split("_")[:2])
    elif path.stem in known:
        stage = path.stem
    else:
        stage = next(s for s in sorted(known, key=len, reverse=True) if name.startswith(s))
    return load_config(path, known[stage].Config)


def flat(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_every_stage_of_the_papers_has_all_three():
    for kind in KINDS:
        assert set(shipped(kind)) == set(NAMES), kind


@pytest.mark.parametrize(
    "path",
    sorted(CONFIGS.rglob("*.yaml")),
    ids=lambda p: str(p.relative_to(CONFIGS).with_suffix("")),
)
def test_it_fits_its_stage(path):
    config = read(path)
    cls = next(c for c in stages().values() if c.Config is type(config.recipe))
    cls(config.recipe).check_data(config)
    if path.parent.name != "bundled":
        assert config.output == Path("runs") / path.stem.removesuffix("_paper")


@pytest.mark.parametrize("name", NAMES)
def test_24gb_differs_from_the_paper_where_it_says_so(name):
    paper, lean = (CONFIGS / f"{name}_{kind}.yaml" for kind in ("paper", "24gb"))
    a, b = (dict(flat(yaml.safe_load(p.read_text()))) for p in (paper, lean))
    changed = {k for k in a.keys() | b.keys() if a.get(k) != b.get(k)}
    for key in changed - LEANER:
        assert b[key] == re.sub(r"^runs/(\w+)/", r"runs/\1_24gb/", a[key]), key
    config, published = read(lean), read(paper)
    assert config.total_batch == published.total_batch
    for processes in (1, 2):
        assert published.total_batch % processes == 0, "one to two GPUs, whatever the paper had"
    assert config.batch_size <= 2 and config.precision == "bf16" and config.gradient_checkpointing
    text = lean.read_text()
    for key in changed & LEANER - {"output"}:
        name = key.removesuffix(".folder").split(".")[-1]
        line = re.search(rf"(^ *#.*\n)*^ *{name}:.*", text, re.MULTILINE)
        assert "24 GB" in line[0], key


@pytest.mark.parametrize("name", NAMES)
def test_nano_needs_nothing_but_the_package_and_the_stages_before(name):
    config = yaml.safe_load((CONFIGS / f"{name}_nano.yaml").read_text())
    before = [f"runs/{n}_nano/export/" for n in NAMES]
    before = before[: NAMES.index(name)] if name != "flipnet_restore" else before[:-1]
    for key, value in flat(config["recipe"]):
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str) or not text.endswith(".safetensors"):
                continue
            if text.startswith(PACKAGE):
                assert (CONFIGS.parents[1] / text.removeprefix(PACKAGE)).is_file(), key
            else:
                assert any(text.startswith(b) for b in before), (key, text)
    assert config["budget"].keys() == {"max_steps"} and config["cpu"]
    assert config["budget"]["max_steps"] % config["validate_every"] == 0
