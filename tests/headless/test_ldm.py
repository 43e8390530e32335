"""Single files against diffusers' own converter, and refusals of other models."""

import pytest
import torch
from facewright.core.checkpoint.identify import PREFIX, identify
from facewright.core.diffusion import ldm
from facewright.core.diffusion.backbone import build
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.errors import CheckpointError
from safetensors.torch import save_file

CPU = torch.device("cpu")
# The tensor by which ComfyUI (comfy/supported_models.py, SD20.model_type) tells v-prediction.
BIAS = "output_blocks.11.1.transformer_blocks.0.norm1.bias"


def check_base(unet):
    identify("m.safetensors", {PREFIX + k: v for k, v in unet.items()}).check_base()


def test_unet_keys_equal_diffusers_converter(ldm_files):
    diffusers_classes()
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    tensors = ldm_files.unet(per_level=2, widths=(64, 64, 128), attention=(True, True, False))
    config = ldm.unet_config(tensors, source="x")
    expected = convert_ldm_unet_checkpoint(
        {f"model.diffusion_model.{k}": v for k, v in tensors.items()}, config
    )
    ours = ldm.unet_to_diffusers(tensors, config)
    assert ours.keys() == expected.keys()
    assert all(ours[k] is expected[k] for k in ours)
    unet_class, _ = diffusers_classes()
    unet = build(unet_class, config, ours, source="x", dtype=torch.float32, device=CPU)
    assert torch.isfinite(unet(torch.randn(1, 4, 8, 8), 399, torch.randn(1, 77, 1024)).sample).all()


def test_vae_keys_equal_diffusers_converter(ldm_files):
    diffusers_classes()
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    tensors = ldm_files.vae(widths=(32, 64, 64), per_level=2)
    config = ldm.vae_config(tensors, source="x")
    expected = convert_ldm_vae_checkpoint(dict(tensors), config)
    ours = ldm.vae_to_diffusers(tensors, config)
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[k], expected[k]) for k in ours)
    _, vae_class = diffusers_classes()
    build(vae_class, config, ours, source="x", dtype=torch.float32, device=CPU)


def test_full_size_config_is_stable_diffusion_2_1(ldm_files):
    """Shapes of the released model, as empty tensors."""
    with torch.device("meta"):
        tensors = ldm_files.unet(
            widths=(320, 640, 1280, 1280), attention=(True, True, True, False), per_level=2
        )
    config = ldm.unet_config(tensors, source="x")
    assert config["block_out_channels"] == (320, 640, 1280, 1280)
    assert config["attention_head_dim"] == (5, 10, 20, 20)
    assert config["layers_per_block"] == 2
    assert config["down_block_types"][-1] == "DownBlock2D"
    assert config["up_block_types"][0] == "UpBlock2D"
    assert config["cross_attention_dim"] == 1024 and config["use_linear_projection"]
    assert sum(t.numel() for t in tensors.values()) == 865_910_724


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"context": 768}, "Stable Diffusion 1.x"),
        ({"channels": 9}, "inpainting"),
        ({"channels": 5}, "depth"),
        ({"context": 1280}, "refiner"),
        ({"context": 2048}, "XL .* 2048 channels"),
        ({"context": 640}, "640 channels"),
        ({"channels": 7}, "upscaler .* 7 channels"),
    ],
)
def test_other_models_are_named(ldm_files, options, words):
    with torch.device("meta"):
        tensors = ldm_files.unet(**options)
    with pytest.raises(CheckpointError, match=words):
        check_base(tensors)


def test_v_prediction_is_named(ldm_files):
    tensors = ldm_files.unet()
    tensors[BIAS] = torch.linspace(-1, 1, 64)
    with pytest.raises(CheckpointError, match=r"v-prediction .* 768 pixels"):
        check_base(tensors)


@pytest.mark.parametrize(
    ("context", "words"), [(2048, "Stable Diffusion XL;"), (1280, "XL's refiner"), (1024, "unCLIP")]
)
def test_models_with_a_class_embedding_are_named(ldm_files, context, words):
    with torch.device("meta"):
        tensors = ldm_files.unet(context=context)
    tensors["label_emb.0.0.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=words):
        check_base(tensors)


def test_a_file_without_a_unet_is_refused(tmp_path):
    from facewright.core.diffusion.loading import load_checkpoint

    save_file({"x": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"a\.safetensors holds no Stable Diffusion UNet"):
        load_checkpoint(tmp_path / "a.safetensors")


def test_a_missing_tensor_is_named(ldm_files, tmp_path):
    from facewright.core.diffusion.loading import load_checkpoint

    tensors = ldm_files.checkpoint()
    del tensors["model.diffusion_model.middle_block.1.proj_in.weight"]
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"mid_block\.attentions\.0\.proj_in\.weight"):
        load_checkpoint(tmp_path / "a.safetensors")


def test_tiny_preview_vae_is_refused():
    with pytest.raises(CheckpointError, match="TAESD"):
        ldm.vae_config({"taesd_decoder.1.weight": torch.zeros(1)}, source="v")
