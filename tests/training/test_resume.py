"""What a config may change on resume: every key of every stage is honoured, or refused by name."""

import fnmatch
import itertools
import json
import shutil
import types
from pathlib import Path
from typing import Union, get_args, get_origin

import pytest
import torch
import yaml
from facewright.core.errors import FacewrightError
from facewright.training.log.records import read_lines
from facewright.training.loop.checkpoints import list_checkpoints
from facewright.training.loop.engine import Engine
from facewright.training.loop.resume import HONOURED, check_changes, defaults_of, settings_of
from facewright.training.recipe import Evaluation, Recipe
from facewright.training.settings.config import ConfigError, TrainConfig, load_config
from facewright.training.settings.strict import Strict
from facewright.training.train import stages
from pydantic import BaseModel
from torch import nn
from torch.nn import Conv2d

STAGES = stages()


def kinds(annotation):
    """The plain types that an annotation allows."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [k for a in get_args(annotation) for k in kinds(a)]
    if get_origin(annotation) is not None and get_origin(annotation).__name__ == "Annotated":
        return kinds(get_args(annotation)[0])
    return [annotation]


def keys(model, start=""):
    """Every key below a model with all the types it allows, sections walked through."""
    for name, field in model.model_fields.items():
        key = f"{start}{name}"
        if key == "recipe":
            continue
        sections = [k for k in kinds(field.annotation) if _is_model(k)]
        inner = [a for a in get_args(field.annotation) if _is_model(a)]
        if get_origin(field.annotation) is dict and inner:
            yield from keys(inner[0], f"{key}.main.")
        for section in sections:
            yield from keys(section, f"{key}.")
        if len(sections) < len(kinds(field.annotation)) and not (
            get_origin(field.annotation) is dict and inner
        ):
            yield key, field


def _is_model(kind):
    return isinstance(kind, type) and issubclass(kind, BaseModel)


EVERY = {
    (stage, key)
    for stage, recipe in STAGES.items()
    for key, _ in itertools.chain(keys(TrainConfig), keys(recipe.Config, "recipe."))
}


def test_every_key_of_every_stage_is_honoured_or_refused_with_both_values():
    assert len(EVERY) > 700 and len({key for _, key in EVERY}) > 150
    for stage, key in EVERY:
        before, now = {"data.source": "folder"}, {"data.source": "folder"}
        before[key], now[key] = ("folder", "world") if key == "data.source" else (3, 4)
        own = STAGES[stage].changeable
        assert "*" not in own
        allowed = any(
            fnmatch.fnmatchcase(key, p) for p in (*HONOURED, *(f"recipe.{o}" for o in own))
        )
        if allowed:
            assert check_changes(before, now, own) == [(key, before[key], now[key])]
            continue
        with pytest.raises(ConfigError) as caught:
            check_changes(before, now, own)
        assert f"{key}: {before[key]} before, {now[key]} now" in str(caught.value), stage


def test_what_is_honoured_is_there():
    """No pattern for a key that no config has."""
    names = {key for _, key in EVERY}
    sections = {"budget", "cache"}
    for pattern in set(HONOURED) - sections:
        assert any(fnmatch.fnmatchcase(name, pattern) for name in names), pattern


class Config(Strict):
    depth: int = 1
    file: Path | None = None
    weights: tuple[float, ...] = (1.0,)


class Copy(Recipe):
    stage = "copy"
    changeable = ()
    Config = Config

    def build(self):
        return {"net": nn.Sequential(*(Conv2d(3, 3, 1) for _ in range(2)))}

    def losses(self, phase, batch, progress):
        return {"mse": (self.nets["net"](batch["gt"]) - batch["gt"]).square().mean()}

    def evaluate(self, batches):
        return Evaluation({"n": float(sum(len(b["gt"]) for b in batches))})

    def export(self, folder, facts):
        (folder / "facts.json").write_text(json.dumps(facts))
        return []


@pytest.fixture
def begun(folder_of_people, tmp_path):
    """A config file of a run that has done two steps."""
    values = {
        "output": str(tmp_path / "run"), "budget": {"max_steps": 2}, "batch_size": 2, "cpu": True,
        "threads": 1, "trackers": [], "ema": 0.5, "log_every": 1, "validate_every": 99,
        "data": {"source": "folder", "folder": str(folder_of_people), "size": 32, "workers": 0},
        "degradation": {"presets": ["mild"]},
        "optimizers": {"main": {"lr": 1e-3}},
    }  # fmt: skip
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    engine_of(path).run()
    return path


def engine_of(path, *overrides):
    config = load_config(path, Config, list(overrides))
    return Engine(Copy(config.recipe), config)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed=7", "seed: 0 before, 7 now"),
        ("optimizers.main.kind=muon", "optimizers.main.kind: adamw before, muon now"),
        ("optimizers.main.rates={net: 2}", "optimizers.main.rates: {} before, {'net': 2.0} now"),
        ("data.size=64", "data.size: 32 before, 64 now"),
        ("data.held_out=0.5", "data.held_out: 0.02 before, 0.5 now"),
        ("data.identity=parent", "data.identity: file before, parent now"),
        ("data={source: world}", "data.source: folder before, world now"),
        ("degradation.presets=[severe]", "degradation.presets: ['mild'] before, ['severe'] now"),
        ("degradation.variants=3", "degradation.variants: nothing before, 3 now"),
        ("degradation.overrides={scale: [2, 3]}", "degradation.overrides: {} before"),
        ("degradation=null", "degradation.presets: ['mild'] before, nothing now"),
        ("off_shelf={folder: x}", "off_shelf.folder: nothing before, x now"),
        ("recipe.depth=2", "recipe.depth: 1 before, 2 now"),
        ("recipe.file=/x", "recipe.file: nothing before, /x now"),
    ],
)
def test_refusals_name_the_key_and_both_values_and_record_nothing(begun, override, words):
    output = load_config(begun, Config).output
    recorded = (output / "config.yaml").read_bytes()
    engine = engine_of(begun, override) if "off_shelf" not in override else engine_of(begun)
    if "off_shelf" in override:
        engine.config = load_config(begun, Config, [override])
    with pytest.raises(ConfigError) as caught:
        engine.run(resume=True)
    assert words in str(caught.value)
    assert (output / "config.yaml").read_bytes() == recorded


def test_the_optimiser_goes_on_with_what_the_config_says(begun):
    changes = ["lr=0.5", "betas=[0.5, 0.6]", "weight_decay=0.25", "clip=7", "warmup=3"]
    changes = [f"optimizers.main.{c}" for c in changes]
    engine = engine_of(begun, "budget.max_steps=4", "ema=0.25", *changes)
    engine.run(resume=True)
    (optimizer,) = engine.optimizers["main"]
    (group,) = optimizer.param_groups
    assert group["betas"] == (0.5, 0.6) and group["weight_decay"] == 0.25
    assert group["base_lr"] == 0.5 and engine.ema.decay == 0.25
    lines = [x for x in read_lines(engine.config.output / "metrics.jsonl") if "main/lr" in x]
    assert [x["main/lr"] for x in lines] == [1e-3, 1e-3, 0.5, 0.5]
    # The state of AdamW itself goes on: it has seen all four steps.
    assert {int(s["step"]) for s in optimizer.state.values()} == {4}
    told = json.loads((engine.config.output / "export" / "facts.json").read_text())["changes"]
    found = {c["key"]: (c["step"], c["before"], c["now"]) for c in told}
    assert found["optimizers.main.weight_decay"] == (2, 0.01, 0.25)
    card = (engine.config.output / "export" / "README.md").read_text()
    assert "`optimizers.main.weight_decay` was `0.01` up to step 2, then `0.25`." in card
    assert "seed" not in found and "`budget.max_steps` was `2`" in card
    # The next resume compares with these, and tells of them still.
    again = engine_of(begun, "budget.max_steps=4", "ema=0.25", *changes)
    again.run(resume=True)
    assert again.changes == engine.changes
    with pytest.raises(ConfigError, match="seed"):
        engine_of(begun, "seed=1").run(resume=True)


def test_betas_and_decay_change_what_is_learnt(begun):
    output = load_config(begun, Config).output
    found = {}
    changes = ["betas=[0.1, 0.2]", "weight_decay=30", "clip=0.0001", "schedule=cosine", "lr=0.1",
               "warmup=9"]  # fmt: skip
    for change in ("lr=0.001", *changes):
        copy = output.with_name("copy")
        shutil.copytree(output, copy)
        run = engine_of(begun, f"output={copy}", "budget.max_steps=5", f"optimizers.main.{change}")
        run.run(resume=True)
        found[change] = run.bare["net"][0].weight.detach().clone()
        shutil.rmtree(copy)
    for one, other in itertools.combinations(found, 2):
        assert not torch.equal(found[one], found[other]), (one, other)


def test_averages_may_be_switched_on_and_off(begun):
    engine = engine_of(begun, "ema=0")
    engine.run(resume=True)
    assert engine.ema is None
    engine = engine_of(begun, "ema=0.999", "budget.max_steps=3")
    engine.run(resume=True)
    assert all(a.isfinite().all() for a in engine.ema.averages)


def test_a_folder_that_was_moved_is_the_same_folder(begun, folder_of_people, tmp_path):
    elsewhere = tmp_path / "elsewhere" / folder_of_people.name
    elsewhere.parent.mkdir()
    folder_of_people.rename(elsewhere)
    engine = engine_of(begun, f"data.folder={elsewhere}", "budget.max_steps=3")
    assert engine.run(resume=True)["finished"]


def test_a_run_of_a_version_that_kept_no_settings_is_compared_with_its_config_yaml(begun):
    (newest,) = list_checkpoints(load_config(begun, Config).output / "checkpoints")
    state = torch.load(newest, weights_only=True)
    del state["settings"], state["changes"]
    torch.save(state, newest)
    with pytest.raises(ConfigError, match="seed: 0 before, 9 now"):
        engine_of(begun, "seed=9").run(resume=True)
    assert engine_of(begun).run(resume=True)["finished"]
    (load_config(begun, Config).output / "config.yaml").unlink()
    assert engine_of(begun).run(resume=True)["finished"]


def test_keys_of_other_versions_stop_nobody():
    before = {"a": 1, "recipe.gone": 3, "recipe.x": 1, "data.source": "world"}
    now = {"a": 1, "recipe.new": 5, "recipe.x": 1, "data.source": "world"}
    assert check_changes(before, now, ()) == []


def test_a_run_from_before_a_key_had_its_default(begun):
    """So a config that came with a newer version does not change the method half-way."""
    (newest,) = list_checkpoints(load_config(begun, Config).output / "checkpoints")
    state = torch.load(newest, weights_only=True)
    for key in ("data.mirror", "recipe.depth", "total_batch"):
        del state["settings"][key]
    torch.save(state, newest)
    with pytest.raises(ConfigError) as caught:
        engine_of(begun, "data.mirror=false", "recipe.depth=2").run(resume=True)
    assert "data.mirror: True before, False now" in str(caught.value)
    assert "recipe.depth: 1 before, 2 now" in str(caught.value)
    engine = engine_of(begun, "total_batch=2")
    assert engine.run(resume=True)["finished"]
    assert engine.changes == [{"step": 2, "key": "total_batch", "before": None, "now": 2}]


def test_defaults_are_plain_and_only_of_keys_that_have_one():
    config = TrainConfig(
        output="x", budget={"max_steps": 1}, data={"source": "world"}, optimizers={"main": {}}
    )
    found = defaults_of(config, Config(file="y"))
    json.dumps(found)
    assert found.keys() < settings_of(config, Config()).keys()
    assert not {"output", "data.source"} & found.keys()
    assert (found["recipe.file"], found["recipe.weights"]) == (None, [1.0])
    assert (found["data.cache"], found["optimizers.main.betas"]) == ("runs/world", [0.9, 0.999])


def test_a_term_of_the_loss_neither_comes_nor_goes():
    for old, new, allowed in ((0.1, 0.2, True), (0, 0.2, False), (0.2, 0.0, False)):
        before, now = {"recipe.weights.gan": old}, {"recipe.weights.gan": new}
        if allowed:
            assert check_changes(before, now, ("weights.*",))
            continue
        with pytest.raises(ConfigError, match=r"recipe\.weights\.gan: .* before"):
            check_changes(before, now, ("weights.*",))


def test_settings_are_plain_and_complete():
    config = TrainConfig(
        output="x", budget={"max_steps": 1}, data={"source": "world"}, optimizers={"main": {}}
    )
    found = settings_of(config, Config())
    json.dumps(found)
    assert {"optimizers.main.lr", "data.size", "recipe.depth", "budget.max_steps"} <= set(found)


def test_an_edited_checkpoint_is_a_sentence(begun):
    (newest,) = list_checkpoints(load_config(begun, Config).output / "checkpoints")
    whole = torch.load(newest, weights_only=True)
    wrong = [None, "x", {"a": [None]}]
    refused = 0
    for key, value in itertools.product([k for k in whole if k != "stage"], wrong):
        torch.save({**whole, key: value}, newest)
        try:
            engine_of(begun).run(resume=True)
        except FacewrightError as error:
            refused += 1
            assert str(error).endswith("."), key
    assert refused > 25
    for key in ("nets", "optimizers", "step", "rng", "ema", "spent", "extra"):
        torch.save({k: v for k, v in whole.items() if k != key}, newest)
        with pytest.raises(FacewrightError, match=newest.name):
            engine_of(begun).run(resume=True)
    for state in ([], 3, {"stage": 4}, {}, torch.zeros(2)):
        torch.save(state, newest)
        with pytest.raises(FacewrightError, match=r"no training state of"):
            engine_of(begun).run(resume=True)
