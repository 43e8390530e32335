"""Whose gradients flow where: phases, ablations and sums of terms, stage by stage."""

import copy
import re

import pytest
import torch
from facewright.training.loop.engine import Engine
from facewright.training.recipe import Progress

LATE = Progress(9, 0.6)
STAGES = (
    "onestep", "honestface", "flipnet-restore", "flipnet-degrade", "vre-hq", "vre-lq",
    "vre-associate", "face-autoencoder", "face-associate",
)  # fmt: skip
SILENT = {
    # A prompt of zeros and no text encoder: keys and values are zeros whatever their weights.
    "flipnet-degrade": r"attn2\.",
    # Stands in for references that are missing; here all people have some.
    "honestface": r"ide\.\w+\.nobody$",
    # While all logits are within the hinge, real and fake faces pull equally at the last bias.
    "vre": r"d_\w\w\.net\.5\.bias$",
    "face": r"d_\w\w\.net\.5\.bias$",
}
"""Trained weights whose gradient is there and may be zero through all steps, and why."""
WEIGHTS = {
    "onestep": {
        k: {"weights": dict.fromkeys(k.split("|"), 0)}
        for k in ("perceptual", "identity", "gan", "latent", "features", "mse|edges", "l1|chroma")
    },
    "flipnet-restore": {"mse": {"mse": 0}, "perceptual": {"perceptual": 0}},
    "flipnet-degrade": {},
    "vre-hq": {"hq_perceptual": {"perceptual": 0}, "hq_gan": {"gan": 0}},
    "vre-lq": {"lq_perceptual": {"perceptual": 0}, "lq_gan": {"gan": 0}},
    "face-autoencoder": {
        "lq_perceptual": {"perceptual": 0}, "lq_gan": {"gan": 0}, "lq_kl": {"kl": 0},
    },
}  # fmt: skip
"""What takes a term out of a stage's loss."""
WEIGHTS["honestface"] = {k: {"weights": {k: 0}} for k in ("mfa", "identity", "gan")}
BOTH = {"[hl]q_perceptual": {"perceptual": 0}, "[hl]q_gan": {"gan": 0},
        "association": {"association": 0}}  # fmt: skip
WEIGHTS["vre-associate"] = BOTH
WEIGHTS["face-associate"] = {**BOTH, "[hl]q_kl": {"kl": 0}}


@pytest.mark.parametrize("stage", STAGES)
def test_a_phase_moves_its_own_networks_and_touches_no_other(
    tiny, stage, folder_of_people, tmp_path
):
    """Seen from the optimisers of real runs, at every one of their steps."""
    engine = Engine(tiny.recipe(stage), tiny.run(stage, folder_of_people, tmp_path / "run"))
    trained = {id(p) for params in engine.trainable.values() for p in params}
    nets = {**engine.bare, **engine.frozen}
    everything = {f"{n}.{k}": p for n, net in nets.items() for k, p in net.named_parameters()}
    own = {
        phase: {
            f"{n}.{k}" for n in names for k, p in engine.bare[n].named_parameters()
            if id(p) in trained
        }
        for phase, names in engine.phases.items()
    }  # fmt: skip
    before, steps, reached = {}, [], set()

    def watch(phase, optimizer):
        def about_to_step(*_):
            steps.append(phase)
            # Not one weight is left out: several processes would wait for its gradient.
            assert {k for k, p in everything.items() if p.grad is not None} == own[phase]
            reached.update(k for k in own[phase] if everything[k].grad.any())
            before.update({k: p.detach().clone() for k, p in everything.items()})

        def stepped(*_):
            moved = {k for k, p in everything.items() if not torch.equal(p, before[k])}
            assert moved and moved <= own[phase]

        optimizer.register_step_pre_hook(about_to_step)
        optimizer.register_step_post_hook(stepped)

    for phase, (optimizer,) in engine.optimizers.items():
        watch(phase, optimizer)
    engine.run()
    assert steps == [*own] * 2
    pattern = SILENT.get(stage) or SILENT.get(stage.split("-")[0], "(?!)")
    assert not [k for k in set.union(*own.values()) - reached if not re.search(pattern, k)]
    assert all(p.grad is None for p in everything.values())


def terms_of(recipe, data, seed=7):
    torch.manual_seed(seed)
    phase = next(iter(recipe.phases()))
    return recipe.losses(phase, dict(data), LATE)


@pytest.mark.parametrize("stage", [s for s in STAGES if WEIGHTS[s]])
def test_a_term_that_is_left_out_changes_no_other(tiny, stage):
    whole, data = tiny.start(stage), tiny.batch(stage)
    weights = {n: copy.deepcopy(whole.nets[n].state_dict()) for n in whole.trained}
    full = terms_of(whole, data)
    for term, changes in WEIGHTS[stage].items():
        less = tiny.start(stage, **changes)
        for name in less.trained:
            less.nets[name].load_state_dict(weights[name])
        rest = terms_of(less, data)
        gone = {k for k in full if re.fullmatch(term, k)}
        assert gone and all(full[k] != 0 for k in gone), term
        assert all(k not in rest or rest[k] == 0 for k in gone), term
        assert rest.keys() | gone == full.keys(), term
        # A branch's GAN term is weighed to pull as hard as its reconstruction (VQGAN, Eq. 7): with
        # less to reconstruct by, it pulls less.
        balanced = {k for k in full if k.endswith("q_gan")} if "perceptual" in term else set()
        for k in full.keys() - gone - balanced:
            assert torch.equal(full[k], rest[k]), (term, k)
        assert all(0 < abs(rest[k]) < abs(full[k]) for k in balanced), term


@pytest.mark.parametrize("stage", STAGES)
def test_the_gradient_is_the_sum_of_the_terms_gradients(tiny, tiny_recipes, stage, monkeypatch):
    recipe, data = tiny.start(stage), tiny.batch(stage)
    exact = stage != "honestface"  # whose landmarks are found in float32 whatever comes
    if exact:
        monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
        for net in recipe.nets.values():
            net.double()
        data = {k: v.double() if torch.is_tensor(v) else v for k, v in data.items()}
    first = next(iter(recipe.phases()))
    active = recipe.phases()[first]
    params = {
        f"{n}.{k}": p for n in active for k, p in tiny_recipes.trainable(recipe.nets[n]).items()
    }
    for name in set(recipe.trained) - set(active):
        recipe.nets[name].requires_grad_(False)
    terms = terms_of(recipe, data)
    total = torch.stack([*terms.values()]).sum()
    summed = {k: torch.zeros_like(p) for k, p in params.items()}
    for term in terms.values():
        grads = torch.autograd.grad(term, params.values(), retain_graph=True, allow_unused=True)
        for k, grad in zip(params, grads, strict=True):
            summed[k] += 0 if grad is None else grad
    whole = torch.autograd.grad(total, params.values())
    for (k, expected), grad in zip(summed.items(), whole, strict=True):
        close = {"rtol": 1e-9, "atol": 1e-12} if exact else {"rtol": 1e-3, "atol": 1e-5}
        torch.testing.assert_close(grad, expected, **close, msg=k)
