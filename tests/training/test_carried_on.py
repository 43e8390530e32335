"""HonestFace's discriminator goes on from the checkpoints of an OSDFace run."""

import pytest
import torch
from facewright.core.errors import CheckpointError
from facewright.training.loop.checkpoints import list_checkpoints, trained_state
from facewright.training.loop.engine import Engine
from facewright.training.loop.state import put_down
from facewright.training.settings.config import ConfigError, load_config
from facewright.training.settings.inputs import check_inputs
from facewright.training.train import stages


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """The folder of a onestep run that stands at step 2, its discriminator moved since step 1."""
    folder = tmp_path_factory.mktemp("onestep") / "run"
    engine = Engine(tiny.recipe("onestep"), tiny.run("onestep", folder / "people", folder))
    for engine.step in (1, 2):
        with torch.no_grad():
            for p in engine.trainable["discriminator"]:
                p.add_(torch.randn_like(p))
        put_down(engine)
    return folder


def held(run):
    newest = list_checkpoints(run / "checkpoints")[-1]
    return torch.load(newest, weights_only=True)["nets"]["discriminator"]


def going_on(tiny, stage, place, **changes):
    values = {**tiny.values(stage)["discriminator"], "carry_on": place, **changes}
    return tiny.recipe(stage, discriminator=values).build()


@pytest.mark.parametrize(
    ("stage", "place"),
    [
        ("honestface", "."),
        ("onestep", "checkpoints"),
        ("onestep", "checkpoints/step-00000002.pt"),
    ],
)
def test_it_goes_on_with_the_weights_of_the_newest_checkpoint(tiny, run, stage, place):
    mine = trained_state(going_on(tiny, stage, run / place)["discriminator"])
    assert mine.keys() == held(run).keys()
    assert all(torch.equal(mine[k], v) for k, v in held(run).items())
    before = torch.load(list_checkpoints(run / "checkpoints")[0], weights_only=True)
    assert not torch.equal(mine["head.0.weight"], before["nets"]["discriminator"]["head.0.weight"])


@pytest.mark.parametrize("merged", [False, True])
def test_how_it_is_computed_makes_no_difference(tiny, run, merged):
    recipe = tiny.recipe(
        "honestface", merged=merged, discriminator={"rank": 2, "hidden": 32, "carry_on": run}
    )
    judge = recipe.build()["discriminator"]
    plain = {k.replace("encoder.module.", "encoder."): v for k, v in trained_state(judge).items()}
    assert all(torch.equal(plain[k], v) for k, v in held(run).items())


def test_another_discriminator_is_refused_with_what_both_are(tiny, run):
    told = r"has rank 2 and 32 hidden channels, the config's rank 3 and 64 hidden channels"
    with pytest.raises(CheckpointError, match=told):
        going_on(tiny, "honestface", run, rank=3, hidden=64)


def test_what_holds_none_is_refused(tiny, run, tmp_path):
    with pytest.raises(CheckpointError, match=r"files step-\*.pt were expected, .*carry_on: null"):
        going_on(tiny, "onestep", tmp_path)
    state = torch.load(list_checkpoints(run / "checkpoints")[-1], weights_only=True)
    for nets in ({}, {"discriminator": {"head.0.weight": "text"}}, [], None):
        torch.save({**state, "nets": nets}, tmp_path / "step-1.pt")
        with pytest.raises(CheckpointError, match="holds no discriminator"):
            going_on(tiny, "onestep", tmp_path)
    (tmp_path / "step-1.pt").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="carry_on"):
        going_on(tiny, "onestep", tmp_path)


def test_without_its_generator_weight_none_is_read(tiny, tmp_path):
    recipe = tiny.recipe("honestface", weights={"gan": 0},
                         discriminator={"carry_on": tmp_path / "gone"})  # fmt: skip
    assert "discriminator" not in recipe.build()


def test_a_config_names_the_run_that_makes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known, path = stages(), "package:training/configs/honestface_24gb.yaml"
    config = load_config(path, known["honestface"].Config)
    place = r"discriminator\.carry_on: runs.onestep_24gb.checkpoints"
    with pytest.raises(ConfigError, match=place + r" \(.* --config onestep_24gb makes it"):
        check_inputs(config, list(known))
