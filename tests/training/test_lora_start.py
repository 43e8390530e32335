"""Training goes on from a LoRA of any layers: what the file has, and what is said of the rest."""

import logging

import pytest
import torch
from facewright.core.checkpoint import read_tensors, save_safetensors
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.errors import CheckpointError, LoraError
from facewright.core.lora.merge import merge_lora
from facewright.core.lora.styles import restyle_lora
from facewright.training._lora import (
    LORA_SETS,
    add_lora,
    begin_lora,
    lora_layers,
    lora_weights,
    save_lora,
)
from facewright.training.settings.config import ConfigError
from torch import nn


def unet_of(tiny):
    torch.manual_seed(1)
    return tiny.flip.unet()


def woken(unet):
    for layer in lora_layers(unet).values():
        nn.init.normal_(layer.lora_B["default"].weight, std=0.3)
    return unet


def ask(unet):
    torch.manual_seed(2)
    z, cond = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 12)
    with torch.no_grad():
        return unet.eval()(z, 399, encoder_hidden_states=cond).sample


@pytest.fixture
def mixed(tiny, tmp_path):
    """As the released file may be: some modules, two key styles side by side, no alpha; and
    convolutions of another rank than the rest."""
    unet = unet_of(tiny)
    names = [n for n, _ in unet.named_modules()]
    some = [n for n in names if n.endswith(("attn1.to_q", "attn2.to_out.0", "resnets.0.conv1"))]
    add_lora(unet, 2, 2, tuple(some))
    torch.manual_seed(3)
    tensors = {}
    for name, layer in lora_layers(woken(unet)).items():
        down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        old = "attn" in name
        if not old:
            down, up = torch.randn(3, *down.shape[1:]) * 0.1, torch.randn(len(up), 3, 1, 1)
        tails = ("lora.down", "lora.up") if old else ("lora_A", "lora_B")
        for tail, value in zip(tails, (down, up), strict=True):
            tensors[f"unet.{name}.{tail}.weight"] = value.detach().clone()
    path = tmp_path / "pytorch_lora_weights.safetensors"
    save_safetensors(path, tensors, {"format": "pt"})
    base = unet_of(tiny).state_dict()
    merge_lora(base, tensors)
    merged = unet_of(tiny)
    merged.load_state_dict(base)
    return path, sorted(some), ask(merged)


def test_from_file_trains_what_the_file_has_and_begins_where_it_ended(tiny, mixed):
    path, names, expected = mixed
    unet = unet_of(tiny)
    said = begin_lora(unet, "from file", rank=16, alpha=16, start=path)
    assert sorted(lora_layers(unet)) == names
    torch.testing.assert_close(ask(unet), expected, rtol=1e-4, atol=1e-5)
    ranks = {n.rpartition(".")[2]: layer.r["default"] for n, layer in lora_layers(unet).items()}
    assert ranks == {"to_q": 2, "0": 2, "conv1": 3}
    assert f"{len(names)} modules" in said[0] and "2 and 2, 3 and 3" in said[0]
    assert "`rank: 16`" in said[0]
    trained = [p for p in unet.parameters() if p.requires_grad]
    assert len(trained) == 2 * len(names)


def test_what_has_two_ranks_is_exported_so_that_everybody_reads_it_alike(tiny, mixed, tmp_path):
    path, _, expected = mixed
    unet = unet_of(tiny)
    begin_lora(unet, "from file", rank=16, alpha=16, start=path)
    for layer in lora_layers(unet).values():  # alpha apart from the rank, too
        layer.lora_alpha["default"] *= 3
        layer.lora_B["default"].weight.data /= 3
        layer.scaling["default"] *= 3
    out = tmp_path / "export" / "x_lora.safetensors"
    out.parent.mkdir()
    save_lora(out, unet, base="unet", dtype=torch.float32, facts={})
    plain = unet_of(tiny)
    tensors, metadata = read_tensors(out)
    base = plain.state_dict()
    merge_lora(base, tensors, 1.0, metadata)
    plain.load_state_dict(base)
    torch.testing.assert_close(ask(plain), expected, rtol=1e-4, atol=1e-5)
    theirs = unet_of(tiny)
    theirs.load_lora_adapter(out.parent, weight_name=out.name, prefix="unet")
    torch.testing.assert_close(ask(theirs), expected, rtol=1e-3, atol=1e-4)
    again = unet_of(tiny)
    begin_lora(again, "from file", rank=16, alpha=16, start=out)
    torch.testing.assert_close(ask(again), expected, rtol=1e-4, atol=1e-5)
    # Scale is a factor of the learning rate, too: each module goes on with its own.
    theirs, ours = (
        {n: layer.lora_alpha["default"] for n, layer in lora_layers(net).items()}
        for net in (unet, again)
    )
    assert ours == theirs and len({*ours.values()}) == 2


@pytest.mark.parametrize("style", ["kohya", "diffusers", "peft"])
def test_a_wider_set_keeps_the_file_and_says_what_it_adds(tiny, tmp_path, style):
    unet = unet_of(tiny)
    add_lora(unet, 2, 6, LORA_SETS["attention"])
    expected = ask(woken(unet))
    tensors, metadata = restyle_lora(lora_weights(unet), style)
    path = tmp_path / "attention.safetensors"
    save_safetensors(path, tensors, metadata)
    wider = unet_of(tiny)
    (said,) = begin_lora(wider, "all", rank=2, alpha=2, start=path)
    torch.testing.assert_close(ask(wider), expected, rtol=1e-4, atol=1e-5)
    have, all_of_it = len(lora_layers(unet)), len(lora_layers(wider))
    assert 0 < have < all_of_it
    assert f"{have} modules; {all_of_it - have} more begin afresh" in said
    fresh = [layer for n, layer in lora_layers(wider).items() if n not in lora_layers(unet)]
    assert not any(layer.lora_B["default"].weight.any() for layer in fresh)
    assert all(layer.lora_A["default"].weight.any() for layer in fresh)


def test_nothing_is_said_where_file_and_config_agree(tiny, tmp_path):
    unet = unet_of(tiny)
    add_lora(unet, 2, 2)
    woken(unet)
    path = tmp_path / "x.safetensors"
    save_lora(path, unet, base="", dtype=torch.float32, facts={})
    assert begin_lora(unet_of(tiny), "all", rank=2, alpha=2, start=path) == []
    # The same layers in the same order: random numbers, too, are those of the set.
    nets = {}
    for layers in ("all", "from file"):
        nets[layers] = unet_of(tiny)
        torch.manual_seed(4)
        begin_lora(nets[layers], layers, rank=2, alpha=2, start=path)
        nets[layers].next = torch.rand(1)
    assert nets["all"].next == nets["from file"].next
    assert [*lora_layers(nets["all"])] == [*lora_layers(nets["from file"])]


def test_what_cannot_be_gone_on_from_is_refused_with_what_to_write(tiny, mixed, tmp_path):
    path, _, _ = mixed
    with pytest.raises(CheckpointError, match=r"leaves out .* of them .*`lora_layers: from file`"):
        begin_lora(unet_of(tiny), "attention", rank=2, alpha=2, start=path)
    with pytest.raises(CheckpointError, match="rank 3, but the config says `rank: 2`"):
        begin_lora(unet_of(tiny), "all", rank=2, alpha=2, start=path)
    with pytest.raises(ConfigError, match="`start` names none"):
        begin_lora(unet_of(tiny), "from file", rank=2, alpha=2, start=None)
    tensors, _ = read_tensors(path)
    whole = {**tensors, "lora_unet_conv_in.diff_b": torch.zeros(8)}
    save_safetensors(tmp_path / "whole.safetensors", whole, {})
    with pytest.raises(CheckpointError, match=r"as a whole .*conv_in\.bias"):
        begin_lora(unet_of(tiny), "all", rank=2, alpha=2, start=tmp_path / "whole.safetensors")
    wide = {k: torch.cat([v, v], 1) if "lora.down" in k else v for k, v in tensors.items()}
    save_safetensors(tmp_path / "wide.safetensors", wide, {})
    with pytest.raises(LoraError, match="another architecture"):
        begin_lora(unet_of(tiny), "from file", rank=2, alpha=2, start=tmp_path / "wide.safetensors")


def test_the_named_sets_have_the_published_sizes_at_sd21_shape():
    """Counted by hand: 16 transformer blocks with 2 attentions of 4; + 2 projections and 2 feed-
    forward layers each; + 22 residual blocks' convolutions, 14 shortcuts, 3 samplers each way."""
    with torch.device("meta"):
        unet = diffusers_classes()[0](
            sample_size=64, cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20),
            use_linear_projection=True,
        )  # fmt: skip
    names = [n for n, m in unet.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    found = {}
    for layers, ends in LORA_SETS.items():
        found[layers] = sum(any(f".{n}".endswith(f".{e}") for e in ends) for n in names)
    linear = 128 + 16 * 4
    convolutions = 2 * 22 + 14 + 3 + 3
    assert found == {
        "attention": 128,
        "linear": linear,
        "osediff": linear + convolutions + 2,
        "all": linear + convolutions + 22,
    }
    assert (linear, linear + convolutions + 2, linear + convolutions + 22) == (192, 258, 278)


@pytest.mark.parametrize("stage", ["onestep", "honestface", "flipnet-degrade"])
def test_every_stage_goes_on_from_a_file_and_its_card_says_so(tiny, tmp_path, stage, caplog):
    unet = unet_of(tiny)
    add_lora(unet, 3, 6, LORA_SETS["attention"])
    path = tmp_path / "start_lora.safetensors"
    save_lora(path, woken(unet), base="", dtype=torch.float32, facts={})
    start = path
    if stage.startswith("flipnet"):
        recipe = tiny.start(stage)
        start = {"lora": path, "boosthub": recipe.export(tmp_path, {})[1]}
    with caplog.at_level(logging.WARNING):
        recipe = tiny.recipe(stage, start=start, lora_layers="from file")
        recipe.build()
    assert recipe.remarks and recipe.remarks[0] in caplog.text
    taken, given = lora_weights(recipe.backbone.unet), lora_weights(unet)
    assert taken.keys() == given.keys()
    assert all(torch.equal(taken[n].up, given[n].up) for n in given)
