"""LoRA merging against peft on a small diffusers UNet, in every key style."""

import json
import re
from pathlib import Path

import pytest
import torch
from facewright.core.checkpoint import detect_format, read_tensors, save_safetensors
from facewright.core.errors import CheckpointError, LoraError
from facewright.core.lora.lacking import lacking
from facewright.core.lora.merge import merge_lora, parse_lora, to_kohya
from facewright.core.weights.convert import VRE_NAME, convert

# The module kinds OSDFace trains (linear and convolution), which is every kind but the ends.
TARGETS = (
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv"),
    "time_emb_proj",
)
RANK, ALPHA = 4, 6.0


@pytest.fixture(scope="module")
def trained():
    """base weights, peft's adapter tensors by module, and peft's own merged weights."""
    peft = pytest.importorskip("peft")
    diffusers_unets = pytest.importorskip("diffusers.models.unets.unet_2d_condition")
    torch.manual_seed(0)
    unet = diffusers_unets.UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=2,
        norm_num_groups=4,
        use_linear_projection=True,
    )
    base = {k: v.clone() for k, v in unet.state_dict().items()}
    config = peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS), init_lora_weights=False
    )
    model = peft.get_peft_model(unet, config)
    adapter = peft.get_peft_model_state_dict(model)
    pairs = {}
    for key, tensor in adapter.items():
        module, part = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", key).groups()
        pairs.setdefault(module, {})[part] = tensor.clone()
    merged = model.merge_and_unload().state_dict()
    return base, pairs, {k: v.clone() for k, v in merged.items()}


def peft_name(module):
    return f"{module}.lora_A.weight", f"{module}.lora_B.weight"


def diffusers_name(module):
    return f"unet.{module}.lora.down.weight", f"unet.{module}.lora.up.weight"


def processor_name(module):
    if ".attn" not in module:
        return diffusers_name(module)
    parent, leaf = re.fullmatch(r"(.+)\.(to_\w+)(?:\.0)?", module).groups()
    stem = f"unet.{parent}.processor.{leaf}_lora"
    return f"{stem}.down.weight", f"{stem}.up.weight"


def kohya_name(module):
    stem = "lora_unet_" + module.replace(".", "_")
    return f"{stem}.lora_down.weight", f"{stem}.lora_up.weight"


def mixed_name(module):
    # What diffusers' own converter leaves behind: attention renamed, the rest not.
    return diffusers_name(module) if ".attn" in module else [f"unet.{k}" for k in peft_name(module)]


STYLES = {
    "peft": peft_name,
    "peft unet.": lambda m: [f"unet.{k}" for k in peft_name(m)],
    "peft wrapped": lambda m: [f"base_model.model.{k}" for k in peft_name(m)],
    "peft wrapped unet.": lambda m: [f"base_model.model.unet.{k}" for k in peft_name(m)],
    "peft adapter name": lambda m: [k.replace(".weight", ".default.weight") for k in peft_name(m)],
    "diffusers": diffusers_name,
    "processor": processor_name,
    "kohya": kohya_name,
    "mixed": mixed_name,
    "mixed with kohya": lambda m: (kohya_name if "resnets" in m else mixed_name)(m),
}


def file_of(pairs, style):
    tensors = {}
    for module, pair in pairs.items():
        down, up = STYLES[style](module)
        tensors[down], tensors[up] = pair["A"], pair["B"]
    return dict(sorted(tensors.items()))


def peft_metadata(prefix="", **values):
    config = {"lora_alpha": ALPHA, "r": RANK, **values}
    text = json.dumps({f"{prefix}{k}": v for k, v in config.items()})
    return {"format": "pt", "lora_adapter_metadata": text}


@pytest.mark.parametrize("style", STYLES)
def test_merge_equals_peft_in_every_style(trained, style):
    base, pairs, merged = trained
    weights = {k: v.clone() for k, v in base.items()}
    before = dict(weights)
    report = merge_lora(weights, file_of(pairs, style), metadata=peft_metadata())
    assert sorted(report.applied) == sorted(pairs)
    assert len(pairs) > 60
    assert report.unused == []
    for key, expected in merged.items():
        assert weights[key] is before[key], "not in place"
        torch.testing.assert_close(weights[key], expected, atol=2e-6, rtol=0)
    changed = {k.removesuffix(".weight") for k in base if not torch.equal(weights[k], base[k])}
    assert changed == set(pairs)


@pytest.mark.parametrize(
    ("tensors_alpha", "metadata", "scale", "source"),
    [
        (None, {}, 1.0, "taken equal to the rank"),
        (None, peft_metadata(), ALPHA / RANK, "peft"),
        (None, peft_metadata("unet."), ALPHA / RANK, "peft"),
        (None, peft_metadata(use_rslora=True), ALPHA / RANK**0.5, "peft"),
        (None, peft_metadata(alpha_pattern={"attn1.to_q": 1.0}), 1 / RANK, "peft"),
        (None, {"rank": str(RANK), "alpha": "2.0"}, 2 / RANK, "metadata"),
        (None, {"ss_network_alpha": "8.0"}, 8 / RANK, "kohya"),
        (None, {"ss_network_alpha": "None"}, 1.0, "taken equal"),
        (3.0, {"ss_network_alpha": "8.0"}, 3 / RANK, ".alpha tensors"),
    ],
)
def test_alpha_from_tensors_metadata_or_rank(trained, tensors_alpha, metadata, scale, source):
    base, pairs, _ = trained
    module = next(m for m in pairs if m.endswith("attn1.to_q"))
    tensors = file_of({module: pairs[module]}, "kohya")
    if tensors_alpha is not None:
        tensors[kohya_name(module)[0].replace("lora_down.weight", "alpha")] = torch.tensor(3.0)
    weights = {k: v.clone() for k, v in base.items()}
    report = merge_lora(weights, tensors, 0.5, metadata)
    delta = 0.5 * scale * pairs[module]["B"] @ pairs[module]["A"]
    key = f"{module}.weight"
    torch.testing.assert_close(weights[key], base[key] + delta, atol=1e-6, rtol=0)
    assert source in str(report)
    assert f"rank {RANK}, alpha" in str(report)


def test_alpha_pattern_misses_other_modules(trained):
    _, pairs, _ = trained
    metadata = peft_metadata(alpha_pattern={"attn1.to_q": 1.0})
    weights = parse_lora(file_of(pairs, "mixed"), metadata)
    alphas = {m: w.alpha for m, w in weights.items()}
    assert {a for m, a in alphas.items() if m.endswith("attn1.to_q")} == {1.0}
    assert {a for m, a in alphas.items() if not m.endswith("attn1.to_q")} == {ALPHA}


def test_half_precision_weights_are_summed_in_float32(trained):
    base, pairs, merged = trained
    weights = {k: v.half() for k, v in base.items()}
    tensors = {k: v.half() for k, v in file_of(pairs, "diffusers").items()}
    merge_lora(weights, tensors, metadata=peft_metadata())
    for key, expected in merged.items():
        assert weights[key].dtype == torch.float16
        torch.testing.assert_close(weights[key].float(), expected, atol=4e-3, rtol=2e-3)


def test_strength_zero_and_its_negative_undo(trained):
    base, pairs, _ = trained
    weights = {k: v.clone() for k, v in base.items()}
    tensors = file_of(pairs, "peft")
    merge_lora(weights, tensors, 0.0)
    assert all(torch.equal(v, base[k]) for k, v in weights.items())
    merge_lora(weights, tensors, 0.7)
    merge_lora(weights, tensors, -0.7)
    for key, expected in base.items():
        torch.testing.assert_close(weights[key], expected, atol=1e-6, rtol=0)


def test_pointwise_convolution_adapter_on_a_linear_layer():
    down, up = torch.randn(2, 5, 1, 1), torch.randn(3, 2, 1, 1)
    weights = {"proj_in.weight": torch.zeros(3, 5)}
    merge_lora(weights, {"proj_in.lora_A.weight": down, "proj_in.lora_B.weight": up})
    torch.testing.assert_close(weights["proj_in.weight"], up[..., 0, 0] @ down[..., 0, 0])


def test_text_encoder_keys_are_reported_not_fatal(trained):
    base, pairs, _ = trained
    module = next(iter(pairs))
    extra = {
        "text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight": torch.zeros(1, 1),
        "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha": torch.tensor(1.0),
        "lora_te2_text_model_x.lora_up.weight": torch.zeros(1, 1),
    }
    tensors = {**file_of({module: pairs[module]}, "peft"), **extra}
    report = merge_lora({k: v.clone() for k, v in base.items()}, tensors)
    assert report.applied == [module]
    assert report.unused == list(extra)
    assert "3 text-encoder keys unused" in str(report)
    with pytest.raises(LoraError, match="only for text encoders"):
        parse_lora(extra)


def assert_refused(base, tensors, match, metadata=None):
    weights = {k: v.clone() for k, v in base.items()}
    with pytest.raises(LoraError, match=match):
        merge_lora(weights, tensors, metadata=metadata)
    assert all(torch.equal(v, base[k]) for k, v in weights.items()), "half applied"


def test_what_cannot_be_applied_completely_is_refused(trained):
    base, pairs, _ = trained
    good = file_of(pairs, "mixed")
    module = next(m for m in pairs if m.endswith("attn1.to_q"))
    down, up = diffusers_name(module)
    alien = {
        "unet.nowhere.to_q.lora_A.weight": good[down],
        "unet.nowhere.to_q.lora_B.weight": good[up],
    }
    assert_refused(base, {**good, **alien}, r"1 of \d+ modules .*nowhere.to_q does not exist")
    assert_refused(base, {k: v for k, v in good.items() if k != up}, r"lacks its up \(lora_B\)")
    assert_refused(base, {**good, up: torch.zeros(16, RANK + 1)}, "do not share a rank")
    assert_refused(
        base, {**good, up: torch.zeros(17, RANK)}, r"should be \(16, 16\), came \(17, 16\)"
    )
    assert_refused(base, {**good, f"unet.{module}.lora_magnitude_vector": good[up]}, "DoRA")
    assert_refused(base, {**good, f"unet.{module}.bias": good[up]}, "not part of a plain LoRA")
    assert_refused(base, {"unet.conv_in.weight": torch.zeros(1)}, "not part of a plain LoRA")
    assert_refused(base, {**good, f"{module}.lora_A.weight": good[down]}, "second down matrix")
    assert_refused(base, {}, "holds no LoRA")
    assert_refused(base, good, "DoRA", peft_metadata(use_dora=True))
    assert_refused(base, good, "a number was expected", {"ss_network_alpha": "many"})
    assert_refused(base, good, "not a JSON object", {"lora_adapter_metadata": "[1]"})


def test_a_kernel_of_another_size_is_refused():
    tensors = {
        "c.lora_A.weight": torch.zeros(2, 4, 1, 1),
        "c.lora_B.weight": torch.zeros(4, 2, 1, 1),
    }
    with pytest.raises(LoraError, match=r"should be \(4, 4, 3, 3\), came \(4, 4, 1, 1\)"):
        merge_lora({"c.weight": torch.zeros(4, 4, 3, 3)}, tensors)


def test_every_sd21_module_survives_a_trip_through_kohya_names():
    path = Path(__file__).parents[1] / "goldens" / "sd21_unet_diffusers_manifest.json"
    shapes = json.loads(path.read_text())
    modules = [k.removesuffix(".weight") for k, s in shapes.items() if len(s) >= 2]
    assert len(modules) > 280
    pair = torch.zeros(1, 1), torch.zeros(1, 1)
    tensors = {k: t for m in modules for k, t in zip(kohya_name(m), pair, strict=True)}
    assert set(parse_lora(tensors)) == set(modules)


def test_convert_writes_the_pair_and_loras_as_safetensors(trained, released, tmp_path):
    _, pairs, merged = trained
    lora = tmp_path / "pytorch_lora_weights.safetensors"
    save_safetensors(lora, file_of(pairs, "mixed"), peft_metadata())
    written = convert([lora, *released], tmp_path / "out")
    vre, kohya = tmp_path / "out" / VRE_NAME, tmp_path / "out" / f"{lora.stem}_comfyui.safetensors"
    assert set(written) == {vre, kohya}
    assert detect_format(*read_tensors(vre)) == "osdface-vre"
    tensors, metadata = read_tensors(kohya)
    assert tensors.keys() == to_kohya(parse_lora(tensors, metadata)).keys()
    weights = {k: v.clone() for k, v in trained[0].items()}
    merge_lora(weights, tensors, metadata=metadata)
    for key, expected in merged.items():
        torch.testing.assert_close(weights[key], expected, atol=2e-6, rtol=0)


def test_convert_refuses_half_a_pair_and_strangers(released, tmp_path):
    save_safetensors(tmp_path / "x.safetensors", {"x": torch.zeros(1)})
    out = tmp_path / "out"
    with pytest.raises(CheckpointError, match=r"x.safetensors is none of the files"):
        convert([*released, tmp_path / "x.safetensors"], out)
    with pytest.raises(CheckpointError, match="Missing: all 4 tensors"):
        convert([released[0]], out)
    assert not out.exists()


def test_what_the_lora_of_a_model_seems_to_lack():
    block = "diffusion_model.input_blocks.1.1.transformer_blocks.0"
    convolutions = [f"{block}.proj_in.weight", "diffusion_model.out.2.weight"]
    assert "No LoRA" in lacking(False, [])
    assert "attention" in lacking(False, convolutions)
    assert lacking(False, [*convolutions, f"{block}.attn2.to_q.weight"]) == ""
    assert lacking(True, convolutions) == lacking(True, []) == ""
