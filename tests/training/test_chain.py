"""Every stage as its nano YAML is shipped, one after the other, and what comes out in the nodes."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from facewright.core.weights import nano
from facewright.headless.runner import run_workflow
from facewright.headless.workflows.workflow import read_workflow
from facewright.training.train import train
from PIL import Image

pytestmark = pytest.mark.slow

STAGES = {
    "vre_hq_nano": ("vre-hq", {"hq_psnr": 5.0}),
    "vre_lq_nano": ("vre-lq", {"lq_psnr": 1.0}),
    "vre_associate_nano": ("vre-associate", {"retrieval": 0.3}),
    "onestep_nano": ("onestep", {"restored/identity": 0.08, "restored/features": -0.05}),
    "honestface_nano": ("honestface", {"restored/identity": 0.02, "restored/features": -0.01}),
    "face_autoencoder_hq_nano": ("face-autoencoder", {"hq_psnr": 8.0}),
    "face_autoencoder_lq_nano": ("face-autoencoder", {"lq_psnr": 2.0}),
    "face_associate_nano": ("face-associate", {"retrieval": 0.05}),
    # Noise errors hardly move in so few steps; the sampled pictures do.
    "flipnet_degrade_nano": (
        "flipnet-degrade",
        {"degraded/features": -0.03, "degraded/identity": 0.03},
    ),
    "flipnet_restore_nano": (
        "flipnet-restore",
        {"eps_mse_t50": -0.005, "eps_mse_t400": -0.003, "restored/identity": 0.01},
    ),
}
"""Config -> its stage, and how far held-out metrics go at least: up, or where negative down.
In this order each finds what it starts from."""


@pytest.fixture(scope="module")
def own_weights():
    spec = importlib.util.spec_from_file_location(
        "facewright_test_own_weights", Path(__file__).with_name("own_weights.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Facts of each run, in a folder that holds nothing else: the configs bring what they need."""
    here, folder = Path.cwd(), tmp_path_factory.mktemp("chain")
    threads = torch.get_num_threads()
    os.chdir(folder)
    try:
        facts = {
            name: train(stage, f"package:training/configs/{name}.yaml")
            for name, (stage, _) in STAGES.items()
        }
    finally:
        os.chdir(here)
        torch.set_num_threads(threads)
    for found in facts.values():
        found["files"] = [folder / f for f in found["files"]]
    return folder, facts


@pytest.mark.parametrize("name", STAGES)
def test_each_stage_gets_better_at_people_it_has_not_seen(chain, name):
    folder, facts = chain
    lines = (folder / "runs" / name / "metrics.jsonl").read_text().splitlines()
    seen = [line for line in map(json.loads, lines) if "held_out" in line]
    assert seen[0]["step"] == 0 and seen[-1]["step"] == facts[name]["steps"]
    for metric, least in STAGES[name][1].items():
        change = seen[-1]["held_out"][metric] - seen[0]["held_out"][metric]
        assert change >= least if least > 0 else change <= least, (metric, change)
    assert facts[name]["finished"] and all(f.is_file() for f in facts[name]["files"])


def test_onestep_restores_what_it_was_given(chain):
    metrics = chain[1]["onestep_nano"]["metrics"]
    assert metrics["restored/psnr"] > metrics["lq/psnr"] + 0.5
    assert metrics["restored/ssim"] > metrics["lq/ssim"] + 0.05
    assert metrics["restored/identity"] > metrics["lq/identity"] + 0.05
    assert metrics["restored/features"] < 0.8 * metrics["lq/features"]


def pictures(prompt, folder):
    """What a workflow saves, by name."""
    run_workflow(prompt, output_dir=folder)
    return {p.stem: np.asarray(Image.open(p)) for p in sorted(folder.rglob("*.png"))}


def far(own_weights, a, b):
    assert a.keys() == b.keys() and a
    return max(own_weights.differ(a[k], b[k]) for k in a)


@pytest.mark.parametrize("stage", ["onestep", "honestface", "flipnet-restore", "flipnet-degrade"])
def test_what_a_stage_exports_changes_the_picture_in_the_nodes(
    chain, own_weights, stage, tmp_path, models_in
):
    _, facts = chain
    stem = f"{stage.replace('-', '_')}_nano"
    # Its adapter is trained with the restoration; before, the node refuses it.
    encoder = next(f for f in facts["flipnet_restore_nano"]["files"] if "encoder" in f.name)
    own_weights.put(tmp_path / "models", facts[stem]["files"], encoder)
    models_in(tmp_path / "models")
    name = own_weights.GRAPHS[stage][0]
    bundled = read_workflow(own_weights.WORKFLOWS / f"api/{name}.api.json")
    for node in bundled.values():
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = 4
    mine = pictures(own_weights.workflow(stage, stem), tmp_path / "mine")
    base = pictures(own_weights.workflow(stage, stem, strength=0.0), tmp_path / "base")
    theirs = pictures(bundled, tmp_path / "bundled")
    assert far(own_weights, mine, base) > 0.2
    assert far(own_weights, mine, theirs) > 0.2


def test_the_vre_of_the_chain_is_what_onestep_went_on_from(chain):
    """Its dictionary is frozen, its projection trained."""
    from facewright.core.methods.osdface import VisualRepresentationEmbedder

    (vre,) = (
        f for f in chain[1]["vre_associate_nano"]["files"] if f.name == "vre_nano.safetensors"
    )
    (trained,) = (f for f in chain[1]["onestep_nano"]["files"] if f.stem.endswith("_vre"))
    first, last = (VisualRepresentationEmbedder.from_files(f).state_dict() for f in (vre, trained))
    bundled = nano.load_vre().state_dict()
    for key, value in first.items():
        if not key.startswith("embedding_change."):
            assert torch.equal(value, last[key]), key
    moved = [k for k in first if not torch.equal(first[k], last[k])]
    assert moved and any(not torch.equal(first[k], bundled[k]) for k in first)
