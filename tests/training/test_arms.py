"""The arms of the papers' ablations in docs/training.md: each row is a config, and trains."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from facewright.training import methods
from facewright.training.methods import onestep
from facewright.training.recipe import Progress
from facewright.training.settings.config import load_config
from facewright.training.settings.shipped import find_config
from facewright.training.train import stages

ROOT = Path(methods.__path__[0]).parents[1]
ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| `(\w+)` \| (`[^|]+`) \|$", re.MULTILINE)
SAME = {"prompt: VRE", "on-the-fly and off-shelf (+OF)"}
"""Rows that say what the config says anyway."""


def rows():
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    section = text.partition("\n## The papers' ablations\n")[2].partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("| ")][1:]
    found = [ROW.match(line) for line in table]
    assert all(found) and len(found) > 20, table
    return [(m[1], m[2], m[3], re.findall(r"`([^`]+)`", m[4])) for m in found]


def stage_of(config):
    return config.removesuffix("_paper").replace("_", "-")


@pytest.mark.parametrize(("arm", "after", "config", "lines"), rows(), ids=lambda v: str(v)[:40])
def test_every_arm_is_a_config_of_the_papers_with_other_values(arm, after, config, lines):
    of = stages()[stage_of(config)].Config
    before, now = (load_config(find_config(config), of, some) for some in ([], lines))
    assert (now.model_dump() == before.model_dump()) == (arm in SAME)
    assert re.fullmatch(r"control|(OSDFace|HonestFace|FLIPNET), (Tables? |Fig\. )\d.*", after)
    if "optimizers.discriminator=null" in lines:
        assert now.optimizers.keys() == {"generator"} and now.recipe.weights.gan == 0


def test_every_arm_of_the_papers_tables_is_there():
    """Rows and columns of OSDFace's Tables 4 and 5, HonestFace's 3b and 3c, FLIPNET's Fig. 4 and
    +O/+OF, counted there; the rows with everything on are the configs themselves."""
    counts = {}
    for _, after, _, _ in rows():
        counts[after] = counts.get(after, 0) + 1
    counts.pop("control")
    assert counts == {
        "OSDFace, Table 4": 4, "OSDFace, Table 5": 4, "HonestFace, Table 3b": 3,
        "HonestFace, Table 3c": 4, "FLIPNET, Fig. 4a": 1, "FLIPNET, Fig. 4b": 1,
        "FLIPNET, Tables 1, 2": 2,
    }  # fmt: skip


def test_a_phase_taken_out_is_null_and_no_other_value():
    for wrong in ("optimizers.discriminator=3", "optimizers=null"):
        with pytest.raises(Exception, match="optimizers"):
            load_config(find_config("onestep_paper"), stages()["onestep"].Config, [wrong])


def put(values, lines, files):
    """Give the section `recipe:` of a tiny run an arm's lines, with `files` for those they name."""
    for line in lines:
        key, _, text = line.partition("=")
        section, *path = key.split(".")
        if section != "recipe" or path[0] == "extractor":  # tiny ones have kind nano
            continue
        value = yaml.safe_load(text)
        for name, file in files.items():
            if isinstance(value, str) and name in value:
                value = file
        target = values
        for part in path[:-1]:
            target[part] = dict(target.get(part) or {})
            target = target[part]
        target[path[-1]] = value


@pytest.mark.slow
@pytest.mark.parametrize(("arm", "after", "config", "lines"), rows(), ids=lambda v: str(v)[:40])
def test_every_arm_takes_a_step(tiny, flipnet_setup, monkeypatch, arm, after, config, lines):
    monkeypatch.setattr(onestep, "TextEncoder", lambda folder: flipnet_setup.Words())
    stage, folder = stage_of(config), tiny.folder
    values = dict(tiny.values(stage))
    if "face_recogniser" in str(lines):
        values["face_recogniser"] = {"tokens": 4}
    put(values, lines, {
        "vq_lq": folder / "vq_lq.safetensors", "face_lq": folder / "face_lq.safetensors",
        "backbone": folder / "identity.safetensors", "adaface": folder / "identity.safetensors",
        "stable-diffusion": folder,
    })  # fmt: skip
    if "mfa_distance=dists" in str(lines) or "mfa_distance=mse" in str(lines):
        values["weights"] = {**values["weights"], "mfa": 1.0}
    recipe = stages()[stage](stages()[stage].Config(**values))
    torch.manual_seed(0)
    nets = recipe.build()
    recipe.trained = tuple(nets)
    frozen = recipe.frozen()
    for net in frozen.values():
        net.requires_grad_(False).eval()
    recipe.nets = {**frozen, **nets}
    data = {**tiny.batch(stage), "caption": ["a", "bb"]}
    phase = next(iter(recipe.phases()))
    terms = recipe.losses(phase, data, Progress(0, 0.5))
    torch.stack([t.float() for t in terms.values()]).sum().backward()
    assert all(torch.isfinite(t) for t in terms.values())
    for line, term in (("weights.gan=0", "gan"), ("weights.identity=0", "identity"),
                       ("weights.mfa=0", "mfa"), ("perceptual=none", "perceptual")):  # fmt: skip
        assert not any(line in given for given in lines) or term not in terms
    assert recipe.export(folder, {})
