"""Every style, every kind of layer, every dtype: the sum by hand, or a refusal that names why."""

import json

import pytest
import torch
from facewright.core.checkpoint import read_tensors, save_safetensors
from facewright.core.errors import CheckpointError, FacewrightError, LoraError
from facewright.core.lora.alphas import ADAPTER_KEY, Alphas
from facewright.core.lora.merge import merge_lora, parse_lora
from facewright.core.lora.unet_names import sd_modules, sd_table, table
from facewright.core.weights.convert import convert

from .lora_files import LDM, RANK, STYLES, by_hand, matrices, small_base


def file_of(style, pairs, alpha=None):
    tensors = {}
    for module, (down, up) in pairs.items():
        names = STYLES[style](module)
        tensors |= dict(zip(names, (down, up), strict=True))
        if alpha is not None:
            tail = next(t for t in (".lora_", "_lora.", ".lora.") if t in names[0])
            tensors[names[0].rpartition(tail)[0] + ".alpha"] = torch.tensor(alpha)
    return tensors


def refused(base, tensors, match, strength=1.0, metadata=None):
    before = {k: v.clone() for k, v in base.items()}
    with pytest.raises((LoraError, CheckpointError), match=match) as caught:
        merge_lora(base, tensors, strength, metadata)
    for key, value in before.items():
        same = (value == base[key]) | (value.isnan() & base[key].isnan())
        assert same.all(), "the base was touched"
    assert len(str(caught.value)) < 800
    return str(caught.value)


def one(style="kohya", module="conv_in"):
    base = small_base()
    return base, file_of(style, {module: matrices(base)[module]})


def test_the_names_are_those_of_the_real_unet(manifest):
    real = {k.removesuffix(".weight") for k in manifest if k.endswith(".weight")}
    assert sd_modules() == real
    assert {LDM[m]: m for m in LDM}.items() <= sd_table().items()
    assert set(sd_table().values()) == real


def test_original_names_are_those_that_whole_checkpoints_use(manifest):
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    starts = ("input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "out.")
    dotted = [name for name in sd_table() if name.startswith(starts)]
    whole = {f"model.diffusion_model.{n}.{p}": n for p in ("weight", "bias") for n in dotted}
    renamed = convert_ldm_unet_checkpoint(whole, {"layers_per_block": 2, "class_embed_type": None})
    renamed = {k: v for k, v in renamed.items() if k.endswith(".weight")}
    assert len(dotted) > 380
    assert {n: f"{sd_table()[n]}.weight" for n in dotted} == {v: k for k, v in renamed.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("style", STYLES)
def test_every_style_adds_what_is_worked_out_by_hand(style, dtype):
    base = small_base(dtype)
    # The original layout is known only of a whole UNet, so its other modules are there, too.
    others = {f"{m}.weight": torch.zeros(1, 1) for m in sd_modules() - set(LDM)}
    pairs = matrices(base)
    expected = {
        f"{m}.weight": by_hand(base[f"{m}.weight"], *pair, 0.7 * 3 / RANK)
        for m, pair in pairs.items()
    }
    weights = {k: v.clone() for k, v in base.items()} | others
    report = merge_lora(weights, file_of(style, pairs, alpha=3.0), 0.7)
    assert sorted(report.applied) == sorted(LDM) and not report.unused
    tolerance = {torch.float32: 2e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    for key, value in base.items():
        close = expected.get(key, value.double())
        torch.testing.assert_close(weights[key].double(), close, atol=tolerance, rtol=tolerance)
        assert weights[key].dtype == dtype


@pytest.mark.parametrize("style", STYLES)
def test_convert_gives_names_of_the_real_unet_from_every_style(style, tmp_path):
    pairs = matrices(small_base())
    save_safetensors(tmp_path / "x.safetensors", file_of(style, pairs, alpha=3.0))
    (path,) = convert([tmp_path / "x.safetensors"], tmp_path / "out")
    tensors, metadata = read_tensors(path)
    names = {f"lora_unet_{m.replace('.', '_')}": m for m in LDM}
    assert {k.split(".")[0] for k in tensors} == set(names)
    for stem, module in names.items():
        assert torch.equal(tensors[f"{stem}.lora_down.weight"], pairs[module][0])
        assert torch.equal(tensors[f"{stem}.lora_up.weight"], pairs[module][1])
        assert tensors[f"{stem}.alpha"] == 3.0
    assert set(parse_lora(tensors, metadata)) == set(LDM)


@pytest.mark.parametrize(
    "stray",
    [
        "diffusion_model.input_blocks.10.1.proj_in.lora_{}.weight",
        "lora_unet_input_blocks_3_1_proj_in.lora_{}.weight",
        "lora_unet_down_blocks_3_attentions_0_proj_in.lora_{}.weight",
        "unet.down_blocks.0.attentions.2.proj_in.lora_{}.weight",
        "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q.lora_{}.weight",
        "diffusion_model.double_blocks.0.img_attn.qkv.lora_{}.weight",
        "transformer.single_transformer_blocks.0.attn.to_q.lora_{}.weight",
        "lora_unet_conv_in_.lora_{}.weight",
        "unet.conv_in.extra.lora_{}.weight",
    ],
)
def test_modules_that_no_unet_has_are_refused_by_name(stray, tmp_path):
    pairs = matrices(small_base())
    tensors = file_of("kohya", pairs)
    tensors |= {stray.format("down"): torch.ones(2, 5), stray.format("up"): torch.ones(6, 2)}
    if "lora_down" not in stray:
        tensors = {k.replace(".lora_down.", ".lora_A.").replace(".lora_up.", ".lora_B."): v
                   for k, v in tensors.items()}  # fmt: skip
    save_safetensors(tmp_path / "x.safetensors", tensors)
    with pytest.raises(LoraError, match=r"1 of 16 modules .* does not exist there.*architecture"):
        convert([tmp_path / "x.safetensors"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


FOREIGN = {
    "DoRA": "lora_unet_conv_in.dora_scale",
    "LoHa": "lora_unet_conv_in.hada_w1_a",
    "LoKr": "lycoris_conv_in.lokr_w1",
    "OFT": "lora_unet_conv_in.oft_blocks",
    "GLoRA": "lora_unet_conv_in.a1.weight",
    "biases of its own": "base_model.model.conv_in.lora_B.bias",
    "replaces weights": "diffusion_model.input_blocks.0.0.set_weight",
    "changes the shape": "diffusion_model.input_blocks.0.0.reshape_weight",
    "whole modules": "base_model.model.conv_in.modules_to_save.weight",
    "textual inversion": "bundle_emb.face.string_to_param.*",
    "not known here": "conv_in.weight",
}


@pytest.mark.parametrize("what", FOREIGN)
@pytest.mark.parametrize("alone", [True, False])
def test_what_is_no_plain_lora_is_called_what_it_is(what, alone, tmp_path):
    base, good = one()
    tensors = {**({} if alone else good), FOREIGN[what]: torch.ones(6, 2)}
    refused(base, tensors, rf"not part of a plain LoRA .*{what}")
    if what in ("DoRA", "LoHa", "LoKr"):
        save_safetensors(tmp_path / "x.safetensors", tensors)
        with pytest.raises(LoraError, match=what):
            convert([tmp_path / "x.safetensors"], tmp_path / "out")


def test_whole_differences_are_added_and_converted(tmp_path):
    base = small_base()
    base |= {"mid_block.resnets.0.norm1.weight": torch.ones(6)}
    others = {f"{m}.weight": torch.zeros(1) for m in sd_modules() if f"{m}.weight" not in base}
    tensors = {
        "diffusion_model.middle_block.0.in_layers.0.diff": torch.full((6,), 0.25),
        "diffusion_model.input_blocks.0.0.diff": torch.full((6, 5, 3, 3), 2.0),
        "diffusion_model.input_blocks.0.0.diff_b": torch.full((6,), -1.0),
    }
    for file in (tensors, None):
        if file is None:
            save_safetensors(tmp_path / "x.safetensors", tensors)
            (path,) = convert([tmp_path / "x.safetensors"], tmp_path / "out")
            file = read_tensors(path)[0]
            assert "lora_unet_mid_block_resnets_0_norm1.diff" in file
            assert "lora_unet_conv_in.diff_b" in file
        weights = {k: v.clone() for k, v in base.items()} | others
        report = merge_lora(weights, file, 0.5)
        assert sorted(report.applied) == ["conv_in", "mid_block.resnets.0.norm1"]
        assert torch.equal(weights["conv_in.weight"], base["conv_in.weight"] + 1.0)
        assert torch.equal(weights["conv_in.bias"], base["conv_in.bias"] - 0.5)
        assert (weights["mid_block.resnets.0.norm1.weight"] == 1.125).all()
    whole = {"lora_unet_conv_in.diff": torch.zeros(6, 5, 3, 3)}
    refused(base, {**whole, **one()[1]}, "both a LoRA and a whole difference")
    refused(base, {"lora_unet_conv_in.diff": torch.zeros(6, 5)}, "should be .* came")


def test_a_kernel_between_two_pointwise_matrices_is_folded_in(tmp_path):
    base = small_base()
    down, mid, up = torch.randn(2, 5, 1, 1), torch.randn(2, 2, 3, 3), torch.randn(6, 2, 1, 1)
    stem = "lora_unet_conv_in"
    tensors = {f"{stem}.lora_down.weight": down, f"{stem}.lora_mid.weight": mid}
    tensors |= {f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(1.0)}
    expected = base["conv_in.weight"].double().clone()
    for o, i, a, b in (
        (o, i, a, b) for o in range(6) for i in range(5) for a in (0, 1) for b in (0, 1)
    ):
        expected[o, i] += (
            0.5 * up[o, a, 0, 0].double() * mid[a, b].double() * down[b, i, 0, 0].double()
        )
    merge_lora(base, tensors)
    torch.testing.assert_close(base["conv_in.weight"].double(), expected, atol=2e-6, rtol=1e-6)
    save_safetensors(tmp_path / "x.safetensors", tensors)
    (path,) = convert([tmp_path / "x.safetensors"], tmp_path / "out")
    again = small_base()
    merge_lora(again, read_tensors(path)[0])
    torch.testing.assert_close(again["conv_in.weight"].double(), expected, atol=2e-6, rtol=1e-6)
    refused(small_base(), {**tensors, f"{stem}.lora_mid.weight": mid[:1]}, "do not belong together")


def test_a_flattened_convolution_is_what_it_was():
    # So does ComfyUI's own trainer write them.
    base, tensors = one()
    whole = {k: v.clone() for k, v in base.items()}
    merge_lora(base, tensors)
    merge_lora(whole, {k: v.flatten(1) for k, v in tensors.items()})
    torch.testing.assert_close(base["conv_in.weight"], whole["conv_in.weight"])


DOWN, UP = STYLES["kohya"]("conv_in")


def changed(**values):
    names = {"down": DOWN, "up": UP, "alpha": "lora_unet_conv_in.alpha"}
    return {names[k]: v for k, v in values.items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed(down=torch.zeros(())), "do not share a rank"),
        (changed(up=torch.zeros(())), "do not share a rank"),
        (changed(down=torch.zeros(0, 5, 3, 3), up=torch.zeros(6, 0, 1, 1)), "do not share a rank"),
        (changed(down=torch.zeros(2)), "do not share a rank"),
        (changed(down=torch.zeros(2, 5, 3)), "do not share a rank"),
        (changed(up=torch.zeros(6, 3, 1, 1)), "do not share a rank"),
        (changed(up=torch.zeros(6, 1, 2, 1)), "do not share a rank"),
        (changed(up=torch.zeros(3, 2, 1, 1)), "should be .* came"),
        (changed(down=torch.zeros(2, 5, 1, 1)), "should be .* came"),
        (changed(down=torch.zeros(2, 5, 3, 3, dtype=torch.int8)), "int8 values"),
        (changed(up=torch.zeros(6, 2, 1, 1, dtype=torch.complex64)), "complex64 values"),
        (changed(up=torch.full((6, 2, 1, 1), torch.nan)), "not finite"),
        (changed(down=torch.full((2, 5, 3, 3), torch.inf, dtype=torch.float16)), "not finite"),
        (changed(alpha=torch.tensor(torch.nan)), "not finite"),
        (changed(alpha=torch.tensor(1e300, dtype=torch.float64)), "not finite"),
        (changed(alpha=torch.ones(2)), "one number"),
        ({"unet.conv_in.lora_A.weight": torch.zeros(2, 5, 3, 3)}, "second down matrix"),
        ({"lora_unet_input_blocks_0_0.lora_up.weight": torch.zeros(1)}, "second up matrix"),
        ({"unet." + "x" * 9000 + ".lora_up.weight": torch.zeros(6, 2)}, "lacks its down"),
        ({"unet.a\nb.lora_up.weight": torch.zeros(6, 2)}, "lacks its down"),
        ({"lora_unet_conv_out.alpha": torch.tensor(1.0)}, "conv_out lacks its down"),
        ({7: torch.zeros(1)}, "a text was expected"),
        ({"": torch.zeros(1)}, "not part of a plain LoRA"),
        ({".lora_up.weight": torch.zeros(1)}, "not part of a plain LoRA"),
    ],
)
def test_a_spoiled_file_is_refused_and_the_base_untouched(change, words):
    base = small_base() | {f"{m}.weight": torch.zeros(1) for m in sd_modules() - set(LDM)}
    refused(base, {**one()[1], **change}, words)


@pytest.mark.parametrize("missing", [DOWN, UP])
def test_half_of_a_pair_is_refused(missing):
    base, tensors = one()
    del tensors[missing]
    refused(base, tensors, "lacks its")


@pytest.mark.parametrize(
    "alpha", [torch.tensor(0.0), torch.tensor(0), torch.zeros(1), torch.tensor(-2)]
)
def test_any_finite_alpha_is_taken_as_it_is(alpha):
    base, tensors = one()
    expected = by_hand(base["conv_in.weight"], tensors[DOWN], tensors[UP], float(alpha) / RANK)
    merge_lora(base, {**tensors, "lora_unet_conv_in.alpha": alpha})
    torch.testing.assert_close(base["conv_in.weight"].double(), expected, atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize("strength", [torch.nan, torch.inf, -torch.inf])
def test_a_strength_that_is_no_number_is_refused(strength):
    refused(*one(), "finite number", strength)


@pytest.mark.parametrize(
    ("dtype", "value", "factor", "fits"),
    [
        (torch.float16, 65504.0, 10.0, True),
        (torch.float16, 65504.0, 40.0, False),
        (torch.float16, 0.0, 65503.0, True),
        (torch.float16, 0.0, 70000.0, False),
        (torch.float16, -65504.0, -1e38, False),
        (torch.bfloat16, 0.0, 70000.0, True),
        (torch.float32, 3e38, 1e38, False),
        (torch.float32, 0.0, 3e38, True),
        (torch.float8_e4m3fn, 0.0, 500.0, False),
        (torch.float8_e4m3fn, 0.0, 16.0, True),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_what_a_dtype_cannot_hold_is_refused_before_anything_is_added(
    dtype, value, factor, fits, whole
):
    # The first module fits; the second may not.
    base = {
        "a.weight": torch.zeros(2, 2).to(dtype),
        "b.weight": torch.full((2, 2), value).to(dtype),
    }
    tensors = {}
    for name, size in (("a", 1.0), ("b", factor)):
        if whole:
            tensors[f"{name}.diff"] = torch.full((2, 2), size)
        else:
            tensors[f"{name}.lora_up.weight"] = torch.full((2, 1), size)
            tensors[f"{name}.lora_down.weight"] = torch.ones(1, 2)
    wide = {k: v.float() for k, v in base.items()}
    if fits:
        merge_lora(base, tensors)
        assert (base["a.weight"].float() == 1).all()
        assert base["b.weight"].float().isfinite().all()
    else:
        with pytest.raises(LoraError, match=r"makes b\.weight larger than"):
            merge_lora(base, tensors)
        assert all(torch.equal(v.float(), wide[k]) for k, v in base.items())


@pytest.mark.parametrize("strength", [0.0, 1e-30])
def test_a_change_beyond_float32_is_refused_whatever_the_strength(strength):
    # Nothing times infinity is no number.
    base, tensors = one()
    refused(base, tensors, "larger than", strength, {"alpha": "1e300"})
    refused(base, {k: v * 1e25 for k, v in tensors.items()}, "larger than", strength)


def test_a_base_that_is_not_finite_or_not_floating_is_refused():
    _, tensors = one()
    refused({"conv_in.weight": torch.full((6, 5, 3, 3), torch.inf)}, tensors, "model's conv_in")
    refused({"conv_in.weight": torch.ones(6, 5, 3, 3, dtype=torch.int8)}, tensors, "quantised")


def test_dynamic_alpha_is_fine_where_every_module_has_its_own():
    base, tensors = one()
    metadata = {"ss_network_alpha": "Dynamic"}
    alpha = {"lora_unet_conv_in.alpha": torch.tensor(1.0)}
    refused(base, tensors, "'Dynamic' as alpha; a number", metadata=metadata)
    expected = by_hand(base["conv_in.weight"], tensors[DOWN], tensors[UP], 1 / RANK)
    merge_lora(base, {**tensors, **alpha}, metadata=metadata)
    torch.testing.assert_close(base["conv_in.weight"].double(), expected, atol=2e-6, rtol=1e-6)


ADAPTER = "lora_adapter_metadata"


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"alpha": "nan"}, "a number"),
        ({"alpha": "1e999"}, "a number"),
        ({"alpha": "9" * 10_000}, "a number"),
        ({"alpha": ""}, "a number"),
        ({ADAPTER: "[" * 100_000}, "JSON object"),
        ({ADAPTER: "{"}, "JSON object"),
        ({ADAPTER: "\ud800"}, "JSON object"),
        *(
            ({ADAPTER: json.dumps(value)}, words)
            for value, words in (
                ({"lora_alpha": None}, "a number"),
                ({"lora_alpha": True}, "a number"),
                ({"lora_alpha": [1]}, "a number"),
                ({"lora_alpha": 10**400}, "a number"),
                ({"lora_alpha": float("nan")}, "a number"),
                ({"lora_alpha": 1, "r": 3}, "has rank 2"),
                ({"lora_alpha": 1, "r": 3, "rank_pattern": {"conv_in": 2}}, None),
                ({"lora_alpha": 1, "rank_pattern": {"conv_in": 5}}, "has rank 2"),
                ({"lora_alpha": 1, "alpha_pattern": [1]}, "alpha_pattern should name"),
                ({"lora_alpha": 1, "alpha_pattern": {"conv_in": "x"}}, "a number"),
                ({"lora_alpha": 1, "alpha_pattern": {"(a+)+$": 1}}, "regular expression"),
                ({"lora_alpha": 1, "rank_pattern": {"(.*)*x": 1}}, "regular expression"),
                ({"peft_type": "LOHA"}, "LOHA"),
                ({"peft_type": ["LORA"]}, "LORA"),
                ({"use_dora": True}, "DoRA"),
                ({"bias": "all"}, "bias"),
                ({"lora_bias": True}, "lora_bias"),
                ({"modules_to_save": ["conv_in"]}, "modules_to_save"),
                ({"init_lora_weights": "pissa_niter_4"}, "changes the base"),
                ({"init_lora_weights": "olora"}, "changes the base"),
                ({"init_lora_weights": "gaussian"}, None),
            )
        ),
    ],
)
def test_metadata_is_understood_or_refused_in_words(metadata, words):
    base, tensors = one()
    if words:
        refused(base, tensors, words, metadata=metadata)
    else:
        merge_lora(base, tensors, metadata=metadata)


def test_text_encoder_keys_are_kept_for_comfyui_and_named(tmp_path):
    text = {
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(2, 4),
        "lora_te1_text_model_encoder_layers_0_mlp_fc1.hada_w1_a": torch.ones(2, 4),
        "text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight": torch.ones(2, 4),
        "text_encoders.clip_h.transformer.text_model.x.lora_up.weight": torch.ones(2, 4),
        "base_model.model.text_model.encoder.layers.0.lora_B.weight": torch.ones(2, 4),
    }
    base, tensors = one()
    assert merge_lora(base, {**tensors, **text}).unused == list(text)
    save_safetensors(tmp_path / "x.safetensors", {**tensors, **text})
    ((path, said),) = convert([tmp_path / "x.safetensors"], tmp_path / "out").items()
    assert "5 text-encoder keys" in said and "kept" in said
    assert text.keys() <= read_tensors(path)[0].keys()


def test_two_files_of_one_name_are_not_written_over_each_other(tmp_path):
    paths = [tmp_path / folder / "x.safetensors" for folder in "ab"]
    for path in paths:
        path.parent.mkdir()
        save_safetensors(path, one()[1])
    with pytest.raises(CheckpointError, match="two folders"):
        convert(paths, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_table_of_names_needs_no_whole_unet():
    assert table(["c", "a.b"]) == {"c": "c", "a.b": "a.b", "a_b": "a.b"}
    pair = {"d.lora_A.weight": torch.ones(1, 2), "d.lora_B.weight": torch.ones(2, 1)}
    with pytest.raises(FacewrightError, match="does not exist"):
        merge_lora({"c.weight": torch.ones(2, 2)}, pair)


@pytest.fixture(scope="module")
def manifest():
    from pathlib import Path

    path = Path(__file__).parents[1] / "goldens" / "sd21_unet_diffusers_manifest.json"
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("unet.mid_block.to_q", 0.5),
        ("^unet.mid_block.to_q", 0.5),
        ("mid_block.to_q", 0.5),
        ("base_model.model.unet.mid_block.to_q", 2),  # peft's own names lack this, so it misses
    ],
)
def test_patterns_of_a_whole_pipeline_hit_as_in_peft(name, scale):
    config = {"r": 4, "lora_alpha": 8, "alpha_pattern": {name: 2}}
    alphas = Alphas({ADAPTER_KEY: json.dumps(config)})
    assert alphas.of("mid_block.to_q", 4) / 4 == scale


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({ADAPTER_KEY: '{"lora_alpha": 2, "lora_alpha": 16}'}, "two entries"),
        ({ADAPTER_KEY: json.dumps({"transformer.lora_alpha": 2})}, "transformer"),
        ({ADAPTER_KEY: json.dumps({"lora_alpha": 2, "use_rslora": "false"})}, "use_rslora"),
        ({ADAPTER_KEY: json.dumps({"lora_alpha": 2, "use_tomorrow": True})}, "use_tomorrow"),
        ({"ss_network_alpha": "32", "ss_network_dim": "64"}, "rank 4, but"),
    ],
)
def test_a_record_that_would_bake_in_another_strength_is_refused(metadata, words):
    with pytest.raises(LoraError, match=words):
        Alphas(metadata).of("mid_block.to_q", 4)
