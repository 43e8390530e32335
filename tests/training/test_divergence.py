"""Runs that diverge: whatever becomes NaN, a good checkpoint stays and is named."""

import re

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from facewright.core.errors import CheckpointError, NonFiniteError
from facewright.training.loop.checkpoints import list_checkpoints, non_finite, read_checkpoint
from facewright.training.loop.engine import Engine
from facewright.training.loop.guard import MAX_BAD_STEPS, MAX_OVERFLOWS
from facewright.training.losses.vq import CodebookCare
from facewright.training.recipe import Evaluation, Recipe
from facewright.training.settings.config import ConfigError, Strict, TrainConfig
from torch import nn
from torch.nn import Conv2d, Embedding

NAN, INF = float("nan"), float("inf")
FIRST = 5
"""Step from which on things go wrong."""


class Painter(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        self.codebook = nn.Parameter(torch.zeros(4, 3))

    def forward(self, x):
        return self.norm(self.conv(x)) + self.codebook.mean() * 0


class Diverging(Recipe):
    """Goes wrong in the way called `how`, at the steps `when`."""

    stage = "diverging"

    def __init__(self, how, when=None):
        super().__init__(Strict())
        self.how, self.when = how, when or range(FIRST, 999)

    def build(self):
        return {"painter": Painter(), "judge": Conv2d(3, 1, 3)}

    def phases(self):
        return {"generator": ("painter",), "discriminator": ("judge",)}

    def losses(self, phase, batch, progress):
        bad = progress.step in self.when
        x = batch["gt"]
        if phase == "discriminator":
            scale = NAN if bad and self.how == "discriminator" else 1.0
            return {"hinge": scale * self.nets["judge"](x).square().mean()}
        if bad and self.how == "input":  # poisons what batch norm counts as well
            x = x * NAN
        loss = (self.nets["painter"](x) - batch["gt"]).square().mean()
        if bad and self.how == "gradient":  # the value is fine: sqrt's slope at 0 is not
            weight = self.bare.conv.weight.flatten()[0]
            loss = (
                loss
                + (weight - weight.detach()).abs().sqrt() * 0
                + ((weight - weight.detach()) ** 2).sqrt()
            )
        if bad and self.how in ("loss nan", "loss inf"):
            loss = loss * (NAN if self.how == "loss nan" else INF)
        return {"mse": loss}

    @property
    def bare(self):
        net = self.nets["painter"]
        return getattr(net, "module", net)

    def after_step(self, progress):
        if progress.step not in self.when:
            return
        with torch.no_grad():
            if self.how == "weights":
                self.bare.conv.weight.fill_(INF)
            if self.how == "huge weights":  # finite, and saved; every loss from here on is not
                self.bare.conv.weight.fill_(1e30)
                self.bare.norm.weight.fill_(1e30)
            if self.how == "codebook":
                self.bare.codebook[2, 1] = NAN
            if self.how == "averages":
                self.engine.ema.averages[0].fill_(NAN)
            if self.how == "optimiser":
                state = self.engine.optimizers["generator"][0].state
                next(iter(state.values()))["exp_avg"].fill_(INF)

    def evaluate(self, batches):
        return Evaluation({"n": float(sum(len(b["gt"]) for b in batches))})

    def export(self, folder, facts):
        return []


def config(people, output, **changes):
    values = {
        "output": output, "budget": {"max_steps": 40}, "batch_size": 2, "cpu": True, "threads": 1,
        "data": {"source": "folder", "folder": people, "size": 32, "workers": 0},
        "optimizers": {"generator": {}, "discriminator": {}}, "trackers": [], "ema": 0.9,
        "validate_every": 999, "validate_images": 1, "checkpoint_every": 1, "log_every": 99,
    }  # fmt: skip
    return TrainConfig(**{**values, **changes})


def run(recipe, settings, **kwargs):
    recipe.engine = Engine(recipe, settings)
    return recipe.engine.run(**kwargs)


def saved(settings):
    return list_checkpoints(settings.output / "checkpoints")


@pytest.mark.parametrize("keep_last", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "how",
    ["loss nan", "loss inf", "input", "gradient", "discriminator", "weights", "huge weights",
     "codebook", "averages", "optimiser"],
)  # fmt: skip
def test_a_good_checkpoint_stays_and_is_named(folder_of_people, tmp_path, how, keep_last):
    settings = config(folder_of_people, tmp_path / "run", keep_last=keep_last)
    with pytest.raises(NonFiniteError) as caught:
        run(Diverging(how), settings)
    sentence = str(caught.value)
    left = saved(settings)
    for path in left:
        assert non_finite(torch.load(path, weights_only=True)) is None
    named = [p for p in left if p.name in sentence]
    # Good is one whose weights a step has gone on from: from before all that went wrong.
    good = [p for p in named if int(p.stem[5:]) <= FIRST]
    assert good and "--resume" in sentence, sentence
    for path in set(left) - set(good):
        assert path in named and "delete it" in sentence
        path.unlink()
    facts = run(Diverging("nothing"), settings, resume=True)
    assert facts["finished"] and non_finite(torch.load(saved(settings)[-1])) is None


def test_infinite_gradients_that_no_scale_cures_end_the_run(folder_of_people, tmp_path):
    settings = config(folder_of_people, tmp_path / "run", budget={"max_steps": 99})
    recipe = Diverging("gradient")
    engine = recipe.engine = Engine(recipe, settings)
    engine.accelerator.scaler = torch.amp.GradScaler("cpu")
    for phase, optimizers in engine.optimizers.items():
        engine.prepared[phase] = [
            AcceleratedOptimizer(o, scaler=engine.accelerator.scaler) for o in optimizers
        ]
    engine.accelerator._optimizers = [o for found in engine.prepared.values() for o in found]
    with pytest.raises(NonFiniteError, match=rf"{MAX_OVERFLOWS} times in a row, however small"):
        engine.run()
    assert engine.step == FIRST + MAX_OVERFLOWS - 1
    assert engine.accelerator.scaler.get_scale() < 1e-6


def test_nothing_is_written_in_a_bad_row_and_spikes_cost_their_steps_alone(
    folder_of_people, tmp_path, caplog
):
    settings = config(folder_of_people, tmp_path / "run", keep_last=99, budget={"max_steps": 20})
    bad = {3, 6, 7, 8, *range(10, 10 + MAX_BAD_STEPS - 1)}
    assert run(Diverging("input", bad), settings)["finished"]
    steps = {int(p.stem[5:]) for p in saved(settings)}
    assert steps == set(range(1, 21)) - {step + 1 for step in bad}
    state = torch.load(saved(settings)[-1], weights_only=True)
    assert state["nets"]["painter"]["norm.running_mean"].isfinite().all()


def test_a_run_that_is_stopped_in_a_bad_row_keeps_what_was_good(folder_of_people, tmp_path):
    settings = config(folder_of_people, tmp_path / "run")
    recipe = Diverging("loss nan")
    step = Diverging.after_step

    def stop(progress):
        step(recipe, progress)
        if progress.step == FIRST + 3:
            recipe.engine.stopped_by = "SIGTERM"

    recipe.after_step = stop
    assert not run(recipe, settings)["finished"]
    assert [int(p.stem[5:]) for p in saved(settings)] == [FIRST - 1, FIRST, FIRST + 4]
    with pytest.raises(NonFiniteError, match=rf"step-0*{FIRST + 4}\.pt in .*delete it.*step-0*5"):
        run(Diverging("loss nan"), settings, resume=True)


def test_a_checkpoint_with_nan_is_refused_by_name(folder_of_people, tmp_path):
    settings = config(folder_of_people, tmp_path / "run", budget={"max_steps": 3})
    run(Diverging("nothing"), settings)
    before, newest = saved(settings)
    for part in ("nets", "ema", "optimizers"):
        state = torch.load(newest, weights_only=True)
        whole = newest.read_bytes()
        tensor = {
            "nets": lambda s: s["nets"]["judge"]["bias"],
            "ema": lambda s: s["ema"]["averages"][1],
            "optimizers": lambda s: s["optimizers"]["discriminator"][0]["state"][0]["exp_avg"],
        }[part](state)
        tensor.fill_(INF)
        torch.save(state, newest)
        words = rf"{re.escape(newest.name)} holds NaN .*\({part}\..*{re.escape(before.name)}"
        with pytest.raises(CheckpointError, match=words):
            run(Diverging("nothing"), settings, resume=True)
        newest.write_bytes(whole)
    before.unlink()
    newest.write_bytes(b"PK\x03\x04" + bytes(99))
    with pytest.raises(CheckpointError, match=r"none before it") as caught:
        read_checkpoint(newest)
    assert "weights_only" not in str(caught.value)


def test_weights_to_start_from_are_finite(folder_of_people, tmp_path):
    recipe = Diverging("nothing")
    recipe.frozen = lambda: {"judge of before": Conv2d(3, 3, 1)}
    nets = recipe.frozen()
    nets["judge of before"].weight.data[0, 0] = NAN
    recipe.frozen = lambda: nets
    with pytest.raises(ConfigError, match=r"start from hold NaN .*judge of before\.weight"):
        Engine(recipe, config(folder_of_people, tmp_path / "run"))


def test_no_code_is_revived_with_what_is_no_number():
    class Quantizer(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = Embedding(8, 2)

    quantizer = Quantizer()
    care = CodebookCare(quantizer, init_step=1)
    features = torch.ones(6, 2)
    features[::2, 0] = NAN
    care.observe(features, torch.zeros(6, dtype=torch.long))
    assert care.after_step(1, 0.0) == 8
    assert quantizer.embedding.weight.detach().equal(torch.ones(8, 2))
    care.observe(features * NAN, torch.zeros(6, dtype=torch.long))
    care.after_step(20, 0.0)
    assert quantizer.embedding.weight.isfinite().all()
