"""Base models of strangers: what a folder's JSON says and what a file's names count is checked."""

import json
import os
import random

import pytest
import torch
from facewright.core.checkpoint.identify import identify
from facewright.core.diffusion.loading import load_checkpoint, load_vae
from facewright.core.diffusion.text import check_encoder
from facewright.core.errors import CheckpointError
from safetensors.torch import save_file

from ..core.hostile_files import mutated, no_hang, outcome

UNET = {
    "_class_name": "UNet2DConditionModel", "in_channels": 4, "out_channels": 4, "sample_size": 64,
    "block_out_channels": [64, 128], "layers_per_block": 1, "cross_attention_dim": 1024,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "norm_num_groups": 32,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "attention_head_dim": [1, 2],
    "use_linear_projection": True, "transformer_layers_per_block": 1, "act_fn": "silu",
    "mid_block_type": "UNetMidBlock2DCrossAttn", "class_embed_type": None,
}  # fmt: skip
VAE = {
    "_class_name": "AutoencoderKL", "in_channels": 3, "out_channels": 3, "latent_channels": 4,
    "block_out_channels": [32, 64], "layers_per_block": 1, "norm_num_groups": 32,
    "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
    "sample_size": 64, "scaling_factor": 0.18215,
}  # fmt: skip


def check_base(path):
    identify(path).check_base()


def _folder(root, unet=UNET, vae=VAE):
    for part, config in (("unet", unet), ("vae", vae)):
        (root / part).mkdir(exist_ok=True)
        (root / part / "config.json").write_text(json.dumps(config))
        path = root / part / "diffusion_pytorch_model.safetensors"
        if not path.exists():
            save_file({"conv_in.weight": torch.zeros(64, 4, 3, 3)}, path)
    return root


def _fuzz(root, cases, seed):
    rng = random.Random(seed)
    for i in range(cases):
        if i % 2:
            _folder(root, unet=mutated(UNET, rng))
            assert isinstance(outcome(load_checkpoint, root), str)
            outcome(check_base, root)
        else:
            _folder(root, vae=mutated(VAE, rng))
            assert isinstance(outcome(load_vae, root / "vae"), str)


@pytest.mark.filterwarnings("ignore")
def test_mutated_descriptions_of_base_models(tmp_path):
    with no_hang():
        _fuzz(tmp_path, 24, 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_thousands_of_descriptions_of_base_models(tmp_path):
    with no_hang(1800):
        _fuzz(tmp_path, 5000, 2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layers_per_block", 10**6),
        ("layers_per_block", [1, 10**6]),
        ("transformer_layers_per_block", 10**6),
        ("transformer_layers_per_block", [1] * 10**4),
        ("block_out_channels", [64] * 1000),
        ("down_block_types", "CrossAttnDownBlock2D"),
        ("attention_head_dim", 0),
        ("norm_num_groups", 0),
        ("in_channels", "4"),
        ("in_channels", True),
        ("cross_attention_dim", {}),
        ("cross_attention_dim", [1024]),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_would_build_for_minutes_or_break_is_refused(tmp_path, field, value):
    _folder(tmp_path, unet={**UNET, field: value})
    with (
        no_hang(),
        pytest.raises(CheckpointError, match=r"in_channels|config\.json|that cannot be"),
    ):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"', "{", "[" * 10**5, "", "\x00", "NaN"])
@pytest.mark.parametrize("place", ["unet/config.json", "vae/config.json"])
def test_json_that_is_no_object(tmp_path, text, place):
    _folder(tmp_path)
    (tmp_path / place).write_text(text)
    read = load_checkpoint if place.startswith("unet") else lambda p: load_vae(p / "vae")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read(tmp_path)


def _names(seed):
    rng = random.Random(seed)
    prefix = "model.diffusion_model."
    numbers = ("0", "1", "9", "10", "99", "100", "1000000000", "9" * 4000, "-1", "x", "")
    parts = (
        "input_blocks.{}.0.in_layers.2.weight", "input_blocks.{}.0.op.weight",
        "input_blocks.{}.1.proj_in.weight", "input_blocks.{}.1.attn2.to_k.weight", "out.{}.weight",
        "input_blocks.0.{}.weight", "output_blocks.{}.1.conv.weight", "middle_block.{}.in_layers.0",
        "label_emb.{}", "output_blocks.{}", "input_blocks.{}.",
    )  # fmt: skip
    shapes = ((), (0,), (4,), (64, 4), (4, 4, 3, 3), (64, 1024), (1,) * 9)
    tensors = {}
    for _ in range(rng.randrange(1, 9)):
        name = prefix + rng.choice(parts).format(rng.choice(numbers))
        tensors[name] = torch.zeros(rng.choice(shapes))
    tensors[f"{prefix}input_blocks.0.0.weight"] = torch.zeros(rng.choice(shapes))
    tensors[f"first_stage_model.encoder.down.{rng.choice(numbers)}.block.0.conv1.weight"] = (
        torch.zeros(rng.choice(shapes))
    )
    tensors["first_stage_model.post_quant_conv.weight"] = torch.zeros(rng.choice(shapes))
    return tensors


@pytest.mark.filterwarnings("ignore")
def test_single_files_whose_names_count_strangely(tmp_path):
    path = tmp_path / "x.safetensors"
    with no_hang():
        for seed in range(40):
            save_file(_names(seed), path)
            for read in (load_checkpoint, load_vae, check_base):
                result = outcome(read, path)
                assert result is None or isinstance(result, str)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_base_models_of_nan_are_refused(tmp_path, ldm_files, value):
    tensors = ldm_files.checkpoint()
    tensors["model.diffusion_model.out.2.bias"][1] = value
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"NaN or infinite weights in 1 of .*conv_out\.bias"):
        load_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"num_hidden_layers": 10**9}, "`num_hidden_layers`: input should be"),
        ({"hidden_size": True}, "`hidden_size`: input should be"),
        ({"vocab_size": -1}, "`vocab_size`: input should be"),
        ([], "should hold a JSON object"),
        ({}, "asks to run"),
    ],
)
def test_a_text_encoder_is_checked_before_transformers_sees_it(config, words, tmp_path):
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(canary),)

    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save({"x": Payload()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=words):
        check_encoder(tmp_path)
    assert not canary.exists()
