"""What saves memory or time changes no result: recomputing, halves, accumulation, compilation."""

import shutil
from collections import Counter

import pytest
import torch
from accelerate.state import AcceleratorState
from facewright.core.schedule import add_noise
from facewright.training.loop.engine import Engine
from facewright.training.losses.latent_discriminator import LatentDiscriminator
from facewright.training.settings.config import ConfigError

FAST = ("onestep", "flipnet-restore", "face-autoencoder")
SLOW = ("honestface", "flipnet-degrade", "vre-hq", "vre-lq", "vre-associate", "face-associate")
STAGES = [*FAST, *(pytest.param(stage, marks=pytest.mark.slow) for stage in SLOW)]


@pytest.fixture(autouse=True)
def own_precision():
    """Accelerate keeps one precision per process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def trained(engine):
    return {
        f"{n}.{k}": p for n, net in engine.bare.items() for k, p in net.named_parameters()
        if any(p is q for q in engine.trainable[n])
    }  # fmt: skip


def run(tiny, stage, people, output, recipe=None, **changes):
    """Gradients of every optimiser step, by phase and name, and the engine afterwards."""
    recipe = tiny.recipe(stage, **(recipe or {}))
    engine = Engine(recipe, tiny.run(stage, people, output, **changes))
    steps, named = [], trained(engine)

    def note(*_):
        steps.append({k: p.grad.clone() for k, p in named.items() if p.grad is not None})

    for optimizers in engine.optimizers.values():
        for optimizer in optimizers:
            optimizer.register_step_pre_hook(note)
    engine.run()
    return steps, engine


def calls(train):
    """How often layers run with gradients while `train()` does, and what it returns."""
    counts = Counter()

    def count(module, *_):
        if torch.is_grad_enabled() and not any(module.children()):
            counts[module] += 1

    hook = torch.nn.modules.module.register_module_forward_hook(count)
    try:
        steps, engine = train()
    finally:
        hook.remove()
    nets = engine.recipe.nets.items()
    return {name: sum(counts[m] for m in net.modules()) for name, net in nets}, steps


RECOMPUTED = {
    "onestep": {"generator", "discriminator", "codec"},
    "honestface": {"generator", "discriminator", "codec"},
    "flipnet-restore": {"denoiser", "codec"},
    "flipnet-degrade": {"denoiser"},
    "vre-hq": {"hq"},
    "vre-lq": {"lq"},
    "vre-associate": {"hq", "lq"},
    "face-autoencoder": {"lq"},
    "face-associate": {"hq", "lq"},
}


@pytest.mark.parametrize("stage", STAGES)
def test_recomputed_activations_give_the_same_gradients(tiny, stage, folder_of_people, tmp_path):
    (once, kept), (twice, recomputed) = (
        calls(
            lambda on=on: run(
                tiny, stage, folder_of_people, tmp_path / str(on), gradient_checkpointing=on
            )
        )
        for on in (False, True)
    )
    assert {name for name in once if twice[name] > once[name]} == RECOMPUTED[stage]
    if "discriminator" in once:  # its residual blocks, too: nearly all of it runs twice
        assert twice["discriminator"] > 1.7 * once["discriminator"]
    assert len(kept) == len(recomputed) > 0
    for a, b in zip(kept, recomputed, strict=True):
        assert a.keys() == b.keys()
        for k in a:
            torch.testing.assert_close(b[k], a[k], rtol=1e-5, atol=1e-8, msg=k)


def test_a_lora_merged_in_every_call_cannot_be_recomputed(tiny, folder_of_people, tmp_path):
    with pytest.raises(ConfigError, match=r"recipe\.merged"):
        run(tiny, "onestep", folder_of_people, tmp_path / "run", {"merged": True},
            gradient_checkpointing=True)  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_in_bf16_trains_float32_weights(tiny, stage, folder_of_people, tmp_path):
    half = {"precision": "bf16", "frozen_precision": "bf16", "budget": {"max_steps": 1}}
    steps, engine = run(tiny, stage, folder_of_people, tmp_path / "run", **half)
    assert len(steps) == len(engine.phases)
    named = trained(engine)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in named.values())
    assert all(g.dtype == torch.float32 for step in steps for g in step.values())
    ours = {id(p) for p in named.values()}
    places = [name.partition(".") for name in engine.recipe.large]
    large = [engine.recipe.nets[name].get_submodule(path) for name, _, path in places]
    frozen = [p for net in large for p in net.parameters() if id(p) not in ours]
    assert bool(frozen) == bool(large) and all(p.dtype == torch.bfloat16 for p in frozen)
    halves = {id(p) for p in frozen}
    for net in engine.recipe.nets.values():
        assert all(p.dtype == torch.float32 for p in net.parameters() if id(p) not in halves)


def same_noise(self, z_0, cond):
    eps = torch.linspace(-2, 2, z_0[0].numel()).sin().view_as(z_0[:1]).expand_as(z_0)
    t = torch.full((len(z_0),), 300)
    return self.head(self.encoder(add_noise(z_0, eps, self.alpha_bar[t]), t, cond))


def test_two_batches_of_two_are_a_batch_of_four(tiny, folder_of_people, tmp_path, monkeypatch):
    """The noise of the discriminator is drawn batch by batch, so all get the same here; `features`
    is in units of a batch's variance."""
    monkeypatch.setattr(LatentDiscriminator, "forward", same_noise)
    recipe = {"sample_latents": False, "weights": {"features": 0}}
    gradients = [
        run(tiny, "onestep", folder_of_people, tmp_path / f"{b}", recipe, batch_size=b,
            accumulate=4 // b, budget={"max_steps": 1})[0]
        for b in (4, 2, 1)
    ]  # fmt: skip
    assert len(gradients[0]) == 2
    for others in gradients[1:]:
        # The first step of either phase: from the second on Adam has made more of the rounding.
        for a, b in zip(gradients[0], others, strict=True):
            assert a.keys() == b.keys()
            for k in a:
                # Sums in another order: small beside the largest of the same weight.
                assert (b[k] - a[k]).abs().max() <= 2e-3 * a[k].abs().max() + 1e-7, k


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("stage", ["face-autoencoder", "onestep"])
def test_compiled_networks_have_the_same_gradients(
    tiny, stage, folder_of_people, tmp_path, monkeypatch
):
    """Those of the first step: from the second on Adam has made more of the rounding. Compiled code
    draws random numbers of its own, so the discriminator's noise is replaced."""
    monkeypatch.setattr(LatentDiscriminator, "forward", same_noise)
    eager, compiled = (
        run(tiny, stage, folder_of_people, tmp_path / str(on), compile=on, budget={"max_steps": 1})
        for on in (False, True)
    )
    assert len(eager[0]) == len(compiled[0]) == 2
    for a, b in zip(eager[0], compiled[0], strict=True):
        assert a.keys() == b.keys()
        for k in a:
            assert (b[k] - a[k]).abs().max() <= 1e-2 * a[k].abs().max() + 1e-6, k
