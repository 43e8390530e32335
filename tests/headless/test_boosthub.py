"""BoostHubs on a diffusers UNet: against forward hooks, and beside everything else on it."""

import math
from dataclasses import replace

import pytest
import torch
from facewright.core.diffusion.backbone import DiffusersBackbone, Model
from facewright.core.diffusion.boosthub import predicting, with_boosthubs
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.methods.flipnet import (
    BoostHubConfig,
    BoostHubs,
    Condition,
    Conditioning,
    find_sites,
)
from facewright.headless.host.host import HeadlessHost

CONFIG = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": (2, 4),
    "cross_attention_dim": 24,
    "use_linear_projection": True,
    "norm_num_groups": 8,
}
HOST = HeadlessHost()


def tiny_unet(seed=0):
    torch.manual_seed(seed)
    return diffusers_classes()[0].from_config(CONFIG).eval().requires_grad_(False)


def hubs_for(unet, seed=1):
    torch.manual_seed(seed)
    sites = find_sites(unet.state_dict())
    hubs = BoostHubs.beside(unet.state_dict(), BoostHubConfig(sites=sites, dim_head=16))
    for site in sites:
        torch.nn.init.normal_(hubs[site].to_out.weight, std=0.3)
        torch.nn.init.normal_(hubs[site].to_out.bias, std=0.3)
    return hubs.requires_grad_(False)


@pytest.fixture(scope="module")
def model():
    return Model(tiny_unet(), CONFIG, "tiny", scaling_factor=0.5)


@pytest.fixture(scope="module")
def hubs(model):
    return hubs_for(model.unet)


def apply(model, hubs, latent, **how):
    return HOST.apply_boosthub(model, hubs, Condition(latent=latent, **how))


def run(model, z, t, cond, positive=None):
    with predicting(model, cond if positive is None else positive) as predict:
        return predict(z, t, cond)


def by_hooks(unet, hubs, z_x, t_x, cond_x, z_y, t_y, cond_y, phi):
    """eps of the input branch from Eq. 4-5: record F_y, then add to every self-attention."""
    recorded = {}

    def attention(hub, f_x, f_y):
        q, k, v = f_x @ hub.to_q.weight.T, f_y @ hub.to_k.weight.T, f_y @ hub.to_v.weight.T
        d, parts = f_x.shape[-1] // hub.heads, []
        for h in range(hub.heads):
            s = slice(h * d, (h + 1) * d)
            weights = (q[..., s] @ k[..., s].transpose(1, 2) / math.sqrt(d)).softmax(-1)
            parts.append(weights @ v[..., s])
        return torch.cat(parts, -1) @ hub.to_out.weight.T + hub.to_out.bias

    def with_hooks(hook, *args):
        handles = [
            unet.get_submodule(f"{site}.attn1").register_forward_hook(
                lambda m, a, out, site=site: hook(site, a[0], out)
            )
            for site in hubs.config.sites
        ]
        out = unet(*args[:2], encoder_hidden_states=args[2]).sample
        for handle in handles:
            handle.remove()
        return out

    def add(site, f_x, out):
        f_y = recorded[site].expand(len(f_x), -1, -1)
        return out + phi * attention(hubs[site], f_x, f_y)

    with_hooks(lambda site, f, out: recorded.update({site: f}), z_y, t_y, cond_y)
    return with_hooks(add, z_x, t_x, cond_x)


@pytest.mark.parametrize("mode", ["cached", "joint"])
@pytest.mark.parametrize(
    ("images", "size", "tokens"), [(1, 8, 5), (2, 8, 5), (1, 12, 5), (2, 8, 7)]
)
def test_both_modes_are_equations_4_and_5(model, hubs, mode, images, size, tokens):
    z, cond = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 24)
    y, prompt = torch.randn(images, 4, size, size), torch.randn(1, tokens, 24)
    patched = apply(model, hubs, y, phi=0.8, mode=mode, tokens=prompt)
    got = run(patched, z, 500, cond)
    expected = by_hooks(
        model.unet, hubs, z, 500, cond, y * 0.5, 0, prompt.expand(images, -1, -1), 0.8
    )
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert (got - run(model, z, 500, cond)).abs().max() > 1e-2


def test_the_noise_level_and_the_positive_prompt_reach_the_condition_branch(model, hubs):
    z, y = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    positive, negative = torch.randn(1, 5, 24), torch.randn(1, 3, 24)
    condition = Condition(latent=y, timestep=200, seed=3)
    z_y, _ = condition.branch(y * 0.5, positive)
    expected = by_hooks(model.unet, hubs, z, 700, negative, z_y, 200, positive, 1.0)
    for mode in ("cached", "joint"):
        patched = HOST.apply_boosthub(model, hubs, replace(condition, mode=mode))
        got = run(patched, z, 700, negative, positive)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_a_fresh_boosthub_and_phi_0_change_nothing_bit_for_bit(model, hubs):
    z, cond = torch.randn(2, 4, 8, 8), torch.randn(1, 5, 24)
    base = run(model, z, 300, cond)
    fresh = BoostHubs.beside(model.tensors(), hubs.config)
    assert torch.equal(run(apply(model, fresh, torch.randn(1, 4, 8, 8)), z, 300, cond), base)
    for mode in ("cached", "joint"):
        for y in (torch.randn(2, 4, 8, 8), torch.full((1, 4, 8, 8), torch.nan)):
            assert torch.equal(run(apply(model, hubs, y, phi=0.0, mode=mode), z, 300, cond), base)


def test_two_patched_models_are_alive_at_once_and_the_plain_one_stays(model, hubs):
    z, cond = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 24)
    base = run(model, z, 300, cond)
    one = apply(model, hubs, torch.randn(1, 4, 8, 8))
    two = apply(model, hubs_for(model.unet, seed=2), torch.randn(1, 4, 8, 8), mode="joint")
    alone = [run(m, z, 300, cond) for m in (one, two)]
    processors = dict(model.unet.attn_processors)
    with predicting(one, cond) as first, predicting(two, cond) as second:
        assert torch.equal(first(z, 300, cond), alone[0])
        assert torch.equal(second(z, 300, cond), alone[1])
        assert torch.equal(run(model, z, 300, cond), base)
        assert torch.equal(first(z, 300, cond), alone[0])
    assert all(p is processors[k] for k, p in model.unet.attn_processors.items())


def test_what_is_kept_is_freed_after_an_error_too(model, hubs, monkeypatch):
    state = Conditioning()
    before = dict(model.unet.attn_processors)
    with pytest.raises(KeyboardInterrupt), with_boosthubs(model.unet, hubs, state):
        raise KeyboardInterrupt
    assert all(p is before[k] for k, p in model.unet.attn_processors.items())
    kept = []
    original = hubs.joined

    def watched(site, f, out, state, **kwargs):
        kept.append(state)
        return original(site, f, out, state, **kwargs)

    monkeypatch.setattr(hubs, "joined", watched)
    patched = apply(model, hubs, torch.randn(1, 4, 8, 8))
    cond = torch.randn(1, 5, 24)
    with pytest.raises(KeyboardInterrupt), predicting(patched, cond) as predict:
        predict(torch.randn(1, 4, 8, 8), 300, cond)
        assert len(kept[-1].kept) == len(hubs.config.sites)
        raise KeyboardInterrupt
    assert kept[-1].kept == {}


def lora_for(model, rank=2):
    tensors = {}
    for key, weight in model.tensors().items():
        if key.endswith((".to_q.weight", ".to_v.weight")):
            name = f"unet.{key.removesuffix('.weight')}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, weight.shape[1]) * 0.2
            tensors[f"{name}.lora_B.weight"] = torch.randn(weight.shape[0], rank) * 0.2
    return tensors


def test_a_lora_on_top_acts_and_keeps_the_boosthub(model, hubs):
    z, cond, y = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 24), torch.randn(1, 4, 8, 8)
    lora = lora_for(model)
    after, _ = HOST.apply_lora(apply(model, hubs, y), lora, {}, 1.0)
    before = apply(HOST.apply_lora(model, lora, {}, 1.0)[0], hubs, y)
    assert torch.equal(run(after, z, 300, cond), run(before, z, 300, cond))
    assert (run(after, z, 300, cond) - run(apply(model, hubs, y), z, 300, cond)).abs().max() > 1e-3


def test_the_single_step_looks_at_the_condition_too(model, hubs):
    class Vae:
        factor = 8

    z, cond, y = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 24), torch.randn(1, 4, 8, 8)
    plain, looking = (
        DiffusersBackbone(m, Vae()).denoise(z, 399, cond) for m in (model, apply(model, hubs, y))
    )
    assert (plain - looking).abs().max() > 1e-2


def test_refusals(model, hubs):
    y, cond = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 24)
    with pytest.raises(FacewrightError, match=r"the model takes .images, 4"):
        apply(model, hubs, torch.randn(1, 8, 8, 8))
    with pytest.raises(FacewrightError, match="through an Apply BoostHub already"):
        apply(apply(model, hubs, y), hubs, y)
    sites = {site: 2 * dim for site, dim in hubs.config.sites.items()}
    with pytest.raises(CheckpointError, match="tiny has"):
        apply(model, BoostHubs(BoostHubConfig(sites=sites, dim_head=16)), y)
    with pytest.raises(CheckpointError, match="heads"):
        apply(model, BoostHubs(BoostHubConfig(sites=hubs.config.sites, dim_head=8)), y)
    for mode in ("cached", "joint"):
        three = apply(model, hubs, torch.randn(3, 4, 8, 8), mode=mode)
        with pytest.raises(FacewrightError, match="holds 3 images, but 2 are sampled"):
            run(three, torch.randn(2, 4, 8, 8), 300, cond)
    with pytest.raises(FacewrightError, match="128 channels"):
        run(model, y, 300, torch.randn(1, 5, 128))


def test_training_the_joint_form_reaches_every_part():
    pytest.importorskip("peft")
    from facewright.training._lora import MergedCall, add_lora, lora_layers

    unet = tiny_unet()
    hubs = hubs_for(unet).requires_grad_(True)
    add_lora(unet, rank=2, alpha=2)
    for layer in lora_layers(unet).values():
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.1)
    z, t, cond = torch.randn(4, 4, 8, 8), torch.tensor([500, 20, 3, 900]), torch.randn(4, 5, 24)
    results = {}
    for name in ("adapters", "merged"):
        call = unet if name == "adapters" else MergedCall(unet)
        hubs.zero_grad()
        unet.zero_grad()
        with with_boosthubs(unet, hubs, Conditioning(1.0, "joint", rows=2)):
            eps = call(z, t, encoder_hidden_states=cond).sample
            eps.square().mean().backward()
        results[name] = [eps.detach()] + [p.grad.clone() for p in hubs.parameters()]
        lora = [p for n, p in unet.named_parameters() if "lora_" in n]
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in lora)
    assert all(g.abs().max() > 0 for g in results["adapters"][1:])
    for a, b in zip(*results.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_the_gradient_is_right():
    """Autograd against a difference quotient, in float64, through the whole UNet."""
    unet = tiny_unet().double()
    hubs = hubs_for(unet).double().requires_grad_(True)
    z = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    t, cond = torch.tensor([500, 20]), torch.randn(2, 5, 24, dtype=torch.float64)
    weight = hubs[next(iter(hubs.config.sites))].to_k.weight

    def loss():
        with with_boosthubs(unet, hubs, Conditioning(1.0, "joint", rows=1)):
            return unet(z, t, encoder_hidden_states=cond).sample[:1].square().mean()

    (gradient,) = torch.autograd.grad(loss(), weight)
    direction = torch.randn_like(weight)
    step = 1e-5
    with torch.no_grad():
        weight += step * direction
        high = loss()
        weight -= 2 * step * direction
        low = loss()
    slope = (high - low) / (2 * step)
    torch.testing.assert_close(slope, (gradient * direction).sum(), rtol=1e-5, atol=1e-10)
