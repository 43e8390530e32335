"""BoostHubs against Eq. 4-5 written out, their file, and what they refuse."""

import math
import re
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from facewright.core.checkpoint import make_metadata, read_tensors, save_safetensors
from facewright.core.errors import CheckpointError, FacewrightError, LoraError
from facewright.core.methods.flipnet import (
    BOOSTHUB_FORMAT,
    BoostHubConfig,
    BoostHubs,
    Condition,
    Conditioning,
    check_sites,
    find_sites,
)
from facewright.core.modules.boosthub import check_loras
from facewright.core.modules.face_encoder import append_tokens

SITES = {
    "down_blocks.0.attentions.0.transformer_blocks.0": 16,
    "mid_block.attentions.0.transformer_blocks.0": 32,
}
FIRST = next(iter(SITES))
CONFIG = BoostHubConfig(sites=SITES, dim_head=8, base="tiny")


def random_hubs(config=CONFIG):
    hubs = BoostHubs(config)
    for p in hubs.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return hubs.requires_grad_(False)


def reference(hub, f_x, f_y):
    """F_ro of Eq. 4, one query at a time, in float64."""
    w = {k: v.double() for k, v in hub.state_dict().items()}
    f_x, f_y = f_x.double(), f_y.double()
    d = f_x.shape[-1] // hub.heads
    out = torch.zeros_like(f_x)
    for b in range(len(f_x)):
        k, v = f_y[b] @ w["to_k.weight"].T, f_y[b] @ w["to_v.weight"].T
        for i, row in enumerate(f_x[b]):
            q = w["to_q.weight"] @ row
            gathered = []
            for h in range(hub.heads):
                part = slice(h * d, (h + 1) * d)
                scores = [float(q[part] @ k_j[part]) / math.sqrt(d) for k_j in k]
                highest = max(scores)
                weights = torch.tensor([math.exp(s - highest) for s in scores]).double()
                gathered.append((weights / weights.sum()) @ v[:, part])
            out[b, i] = w["to_out.weight"] @ torch.cat(gathered) + w["to_out.bias"]
    return out


def test_one_boosthub_is_equation_4():
    hub = random_hubs()[FIRST]
    f_x, f_y = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    torch.testing.assert_close(hub(f_x, f_y).double(), reference(hub, f_x, f_y), rtol=0, atol=1e-5)


@pytest.mark.parametrize("phi", [0.5, 1.0, 2.0])
def test_cached_and_joint_are_equation_5(phi):
    hubs = random_hubs()
    f_x, f_y, out = torch.randn(2, 5, 16), torch.randn(2, 5, 16), torch.randn(2, 5, 16)
    expected = out.double() + phi * reference(hubs[FIRST], f_x, f_y)
    state = Conditioning(phi)
    assert torch.equal(hubs.joined(FIRST, f_y, f_y, state), f_y)  # capture changes nothing
    state.phase = "read"
    cached = hubs.joined(FIRST, f_x, out, state)
    joint = Conditioning(phi, "joint", rows=2)
    both = hubs.joined(FIRST, torch.cat([f_x, f_y]), torch.cat([out, f_y]), joint)
    torch.testing.assert_close(cached.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(both[:2].double(), expected, rtol=0, atol=1e-5)
    assert torch.equal(both[2:], f_y)  # nothing flows into the condition branch


def test_a_fresh_boosthub_starts_as_the_self_attention_and_changes_nothing():
    unet = {
        f"{site}.attn1.{name}.weight": torch.randn(dim, dim)
        for site, dim in SITES.items()
        for name in ("to_q", "to_k", "to_v")
    }
    assert find_sites(unet) == SITES
    hubs = BoostHubs.beside(unet, CONFIG)
    for site in SITES:
        for name in ("to_q", "to_k", "to_v"):
            assert torch.equal(
                getattr(hubs[site], name).weight, unet[f"{site}.attn1.{name}.weight"]
            )
    f, out = torch.randn(4, 5, 16), torch.randn(4, 5, 16)
    assert torch.equal(hubs.joined(FIRST, f, out, Conditioning(2.0, "joint", rows=2)), out)


def test_phi_0_gives_the_self_attention_whatever_the_condition():
    hubs, out = random_hubs(), torch.randn(2, 5, 16)
    state = Conditioning(0.0, "read", kept={FIRST: (torch.full((1, 5, 16), torch.nan),) * 2})
    assert hubs.joined(FIRST, torch.randn(2, 5, 16), out, state) is out


def test_one_condition_serves_all_rows_and_chunks_pair_up():
    hubs = random_hubs()
    f_y, f_x, out = torch.randn(2, 6, 16), torch.randn(4, 5, 16), torch.zeros(4, 5, 16)
    state = Conditioning()
    hubs.joined(FIRST, f_y, f_y, state)
    state.phase = "read"
    joined = hubs.joined(FIRST, f_x, out, state, chunks=2)
    for row in range(4):
        alone = reference(hubs[FIRST], f_x[row : row + 1], f_y[row % 2 : row % 2 + 1])
        torch.testing.assert_close(joined[row : row + 1].double(), alone, rtol=0, atol=1e-5)
    state.kept = {FIRST: tuple(x[:1] for x in state.kept[FIRST])}
    joined = hubs.joined(FIRST, f_x, out, state)
    last = reference(hubs[FIRST], f_x[3:], f_y[:1])
    torch.testing.assert_close(joined[3:].double(), last, rtol=0, atol=1e-5)


def test_weights_follow_the_features():
    hub = random_hubs()[FIRST]
    assert hub(*[torch.randn(1, 4, 16, dtype=torch.bfloat16)] * 2).dtype == torch.bfloat16
    assert hub.to_q.weight.dtype == torch.float32


def test_the_file_keeps_everything(tmp_path):
    hubs = random_hubs(replace(CONFIG, mode="degrade"))
    hubs.save(tmp_path / "a.safetensors", dtype=torch.float16)
    again = BoostHubs.from_file(tmp_path / "a.safetensors")
    assert again.config == hubs.config
    assert not any(p.requires_grad for p in again.parameters())
    for a, b in zip(hubs.parameters(), again.parameters(), strict=True):
        assert torch.equal(a.half().float(), b)
    assert f"{FIRST}.boosthub.to_q.weight" in read_tensors(tmp_path / "a.safetensors")[0]


def spoiled(tmp_path, change_tensors=None, **changes):
    random_hubs().save(tmp_path / "a.safetensors")
    tensors, _ = read_tensors(tmp_path / "a.safetensors")
    tensors = (change_tensors or dict)(tensors)
    config = {"sites": SITES, "dim_head": 8, "mode": "restore", "base": "tiny", **changes}
    save_safetensors(tmp_path / "b.safetensors", tensors, make_metadata(BOOSTHUB_FORMAT, config))
    return tmp_path / "b.safetensors"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "repaint"}, "`mode`: .*'restore' or 'degrade', got 'repaint'"),
        ({"colour": 1}, "Update facewright"),
        ({"dim_head": 7}, "multiples of its heads' 7"),
        ({"sites": {}}, "`sites`: .*at least 1"),
        ({"sites": {FIRST: 24}}, "of another shape"),
        ({"change_tensors": lambda t: dict(list(t.items())[1:])}, "1 of 10 tensors missing"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, changes, words):
    with pytest.raises(CheckpointError, match=words):
        BoostHubs.from_file(spoiled(tmp_path, **changes))


def test_weights_of_another_unet_are_refused():
    heads = {site: dim // 8 for site, dim in SITES.items()}
    check_sites(CONFIG, SITES, heads, model="this one")
    with pytest.raises(CheckpointError, match=r"made for tiny \(2 self-att.*this one has no self"):
        check_sites(CONFIG, {}, {}, model="this one")
    with pytest.raises(CheckpointError, match="32, 64 channels"):
        check_sites(CONFIG, {**SITES, FIRST: 64}, heads, model="this one")
    # Stable Diffusion 1.5 has the same channels at the same places, in other heads.
    with pytest.raises(CheckpointError, match="8 heads"):
        check_sites(CONFIG, SITES, dict.fromkeys(SITES, 8), model="this one")


def test_merged_tokens_and_unmatched_batches_are_refused():
    hubs = random_hubs()
    with pytest.raises(FacewrightError, match="merges or drops tokens"):
        hubs.joined(FIRST, torch.randn(1, 5, 16), torch.randn(1, 4, 16), Conditioning())
    state = Conditioning(1.0, "read", kept={FIRST: (torch.randn(3, 5, 16),) * 2})
    with pytest.raises(FacewrightError, match="holds 3 images, but 2 are sampled"):
        hubs.joined(FIRST, *[torch.randn(4, 5, 16)] * 2, state, chunks=2)


def test_the_condition_branch_is_clean_at_0_and_seeded_above():
    z, tokens = torch.randn(1, 4, 6, 6), torch.randn(2, 3, 8)
    clean, prompt = Condition(latent=z, seed=1).branch(z, tokens)
    assert clean.shape == (2, 4, 6, 6) and torch.equal(clean[:1], z) and prompt.shape == (2, 3, 8)
    one, two, three = (
        Condition(latent=z, timestep=t, seed=s).branch(z, tokens)[0]
        for t, s in ((100, 1), (100, 1), (100, 2))
    )
    assert torch.equal(one, two) and not torch.equal(one, three)
    generator = torch.Generator().manual_seed(1)
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    a = float((1 - beta).cumprod(0)[100])
    expected = a**0.5 * z + (1 - a) ** 0.5 * torch.randn(z.shape, generator=generator)
    torch.testing.assert_close(one[:1], expected)


def test_a_condition_that_does_not_fit_is_refused():
    for shape in ((1, 4, 6, 6), (1, 8, 1, 6, 6), (8, 6, 6)):
        said = re.escape(f"shape {shape}, but the model takes (images, 8, height, width)")
        with pytest.raises(FacewrightError, match=said):
            Condition(latent=torch.randn(shape)).check_latent(8)
    Condition(latent=torch.randn(1, 8, 6, 6)).check_latent(8)
    for broken in (torch.nan, torch.inf, -torch.inf):
        latent = torch.randn(2, 8, 6, 6)
        latent[1, 3, 2, 5] = broken
        with pytest.raises(FacewrightError, match="`condition` of Apply BoostHub holds NaN"):
            Condition(latent=latent, phi=0.01).check_latent(8)
        Condition(latent=latent, phi=0.0).check_latent(8)
    condition = Condition(latent=torch.randn(2, 4, 6, 6), tokens=torch.randn(3, 2, 8))
    with pytest.raises(FacewrightError, match="2 images, but its prompt is for 3"):
        condition.branch(condition.latent, torch.randn(1, 2, 8))


def test_face_tokens_follow_the_text():
    text, faces = torch.randn(1, 77, 8), torch.randn(3, 4, 8)
    both = append_tokens(text, faces)
    assert both.shape == (3, 81, 8)
    assert torch.equal(both[2, :77], text[0]) and torch.equal(both[:, 77:], faces)
    with pytest.raises(FacewrightError, match="16 channels, the face tokens have 8"):
        append_tokens(torch.randn(1, 77, 16), faces)
    with pytest.raises(FacewrightError, match="for 2 images, but there are 3 faces"):
        append_tokens(text.expand(2, -1, -1), faces)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"method": "osdface"}, "trained for the method osdface, but these .* to restore"),
        ({"method": "flipnet", "mode": "degrade"}, "trained to degrade, but these .* to restore"),
        ({"method": "flipnet", "mode": "restore"}, None),
        ({"format": "pt"}, None),
    ],
)
def test_a_lora_of_another_training_is_refused(metadata, words):
    with pytest.raises(LoraError, match=words) if words else nullcontext():
        check_loras(CONFIG.mode, [{}, metadata])
