"""Drawn damage to LoRA files: the sum by hand, or a refusal with the base untouched bit by bit."""

import json
import math
import random

import pytest
import torch
from facewright.core.errors import CheckpointError, LoraError
from facewright.core.lora.merge import merge_lora, parse_lora
from facewright.core.lora.styles import LORA_STYLES, restyle_lora
from facewright.core.lora.unet_names import sd_modules, sd_table

from .lora_files import LDM, RANK, STYLES, by_hand, matrices, small_base

ADAPTER = "lora_adapter_metadata"
VALUES = [
    *(0, 1, 2, -1, 0.5, "2", "", "x", "nan", "1e999", None, True, [], {}, [1], {"a": 1}, 10**400),
    *(float("inf"), "LORA", "none", "(a+)+$", "a" * 5000, "\x00", {"conv_in": 3}, {"to_q": "x"}),
    *({".*": 2}, {"(.*)*": 1}, {"^conv": 2}, {"conv_in": {"a": 1}}, {"[": 1}),
]
KEYS = [
    *("lora_alpha", "r", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "bias"),
    *("peft_type", "modules_to_save", "fan_in_fan_out", "init_lora_weights", "target_modules"),
]
SPOILED = [
    lambda t: t * torch.nan,
    lambda t: torch.full_like(t, torch.inf),
    lambda t: t.flatten(),
    lambda t: t[:1],
    lambda t: t[..., :0],
    lambda t: t.sum(),
    lambda t: t.to(torch.int8),
    lambda t: t.to(torch.complex64),
    lambda t: t.transpose(0, 1),
    lambda t: t[None],
    lambda t: t * 1e30,
]


def spoil_key(draw, key):
    at = draw.randrange(len(key))
    return draw.choice(
        [
            lambda: key[:at] + key[at + 1 :],
            lambda: key[:at] + draw.choice("._0xé\n/(*") + key[at:],
            lambda: key.replace("lora_", draw.choice(["hada_", "lokr_", "Lora_", "lora."]), 1),
            lambda: key.replace(
                ".weight", draw.choice(["", ".bias", ".diff", ".diff_b", ".alpha"])
            ),
            lambda: draw.choice(["unet.", "lora_unet_", "transformer.", "lora_te_", "x."]) + key,
            lambda: key.replace("0", draw.choice(["1", "3", "99"]), 1),
            lambda: key * draw.randint(2, 60),
            lambda: "",
        ]
    )()


def a_case(draw, base):
    """A file in some style, perhaps damaged, and what it adds if it is not: factor by module."""
    modules = draw.sample(sorted(LDM), draw.randint(1, 4))
    pairs, tensors, scales, metadata = matrices(base, draw.randrange(99)), {}, {}, {}
    for module in modules:
        style = draw.choice(sorted(STYLES))
        names = STYLES[style](module)
        tensors |= dict(zip(names, pairs[module], strict=True))
        scales[module] = 1.0
        if "kohya" in style and draw.random() < 0.5:
            alpha = draw.choice([0.0, 1.0, 3.0, -2.0])
            tensors[names[0].replace(".lora_down.weight", ".alpha")] = torch.tensor(alpha)
            scales[module] = alpha / RANK
    harm = draw.choice(["none", "key", "key", "tensor", "tensor", "metadata", "metadata", "lost"])
    if harm in ("key", "tensor", "lost"):
        key = draw.choice(sorted(tensors))
        value = tensors.pop(key)
        if harm == "key":
            tensors[spoil_key(draw, key)] = value
        if harm == "tensor":
            tensors[key] = draw.choice(SPOILED if value.ndim else SPOILED[:2])(value)
    if harm == "metadata":
        config = {draw.choice(KEYS): draw.choice(VALUES) for _ in range(draw.randint(1, 4))}
        text = json.dumps(config)
        metadata = draw.choice(
            [
                {ADAPTER: text},
                {ADAPTER: text[: draw.randrange(len(text))]},
                {"alpha": str(draw.choice(VALUES[:-1]))[:300]},
                {"ss_network_alpha": draw.choice(["Dynamic", "None", "", "1", "inf"])},
            ]
        )
    return tensors, metadata, {m: (pairs[m], scales[m]) for m in modules}, harm


@pytest.mark.parametrize("cases", [120, pytest.param(5000, marks=pytest.mark.slow)])
def test_drawn_damage_is_refused_or_what_is_added_is_right(cases):
    draw = random.Random(13)
    others = {f"{m}.weight": torch.zeros(1, 1) for m in sd_modules() - set(LDM)}
    outcomes = {"right": 0, "refused": 0}
    for _ in range(cases):
        dtype = draw.choice([torch.float32, torch.float16])
        base = small_base(dtype)
        before = {k: v.clone() for k, v in base.items()}
        strength = draw.choice([1.0, 0.3, -1.0, 0.0, 1e4, math.inf])
        tensors, metadata, truth, harm = a_case(draw, base)
        try:
            report = merge_lora(base | others, tensors, strength, metadata)
        except (LoraError, CheckpointError) as error:
            outcomes["refused"] += 1
            assert all(torch.equal(v, base[k]) for k, v in before.items()), "touched"
            assert 20 < len(str(error)) < 900 and "\n" not in str(error), error
            assert harm != "none" or abs(strength) in (1e4, math.inf)
            continue
        assert all(v.isfinite().all() for v in base.values())
        changed = {k for k, v in before.items() if not torch.equal(v, base[k])}
        assert changed <= {f"{m}.weight" for m in report.applied} | {
            f"{m}.bias" for m in report.applied
        }
        assert report.applied and len(tensors) >= len(report.unused)
        if harm == "none":
            outcomes["right"] += 1
            assert set(report.applied) == truth.keys()
            for module, (pair, scale) in truth.items():
                expected = by_hand(before[f"{module}.weight"], *pair, strength * scale)
                close = {torch.float32: 1e-5, torch.float16: 4e-3}[dtype]
                torch.testing.assert_close(
                    base[f"{module}.weight"].double(),
                    expected,
                    rtol=close,
                    atol=close * max(1, abs(strength)),
                )
    assert min(outcomes.values()) > cases / 20, outcomes


@pytest.mark.parametrize("cases", [120, pytest.param(5000, marks=pytest.mark.slow)])
def test_a_damaged_file_becomes_only_names_of_the_real_unet(cases):
    draw = random.Random(17)
    base, converted = small_base(), 0
    flat = {f"lora_unet_{m.replace('.', '_')}" for m in sd_modules()}
    for _ in range(cases):
        tensors, metadata, _, _ = a_case(draw, base)
        try:
            weights = parse_lora(tensors, metadata)
            renamed = restyle_lora(weights, draw.choice(LORA_STYLES))[0]
        except (LoraError, CheckpointError):
            continue
        converted += 1
        for key in renamed:
            stem = key.removeprefix("unet.").removeprefix("base_model.model.")
            name = stem.split(".lora_")[0].removesuffix(".alpha")
            name = name.removesuffix(".diff").removesuffix(".diff_b")
            assert name in flat or sd_table().get(name) == name, key
    assert converted > cases / 10
