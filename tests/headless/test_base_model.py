"""Which Stable Diffusion a file on the disk is, told without loading it."""

import json

import pytest
import torch
from facewright.core.checkpoint import read_header
from facewright.core.checkpoint.identify import identify
from facewright.core.diffusion.loading import load_checkpoint
from facewright.core.errors import CheckpointError
from safetensors.torch import save_file

PREFIX = "model.diffusion_model."
BIAS = f"{PREFIX}output_blocks.11.1.transformer_blocks.0.norm1.bias"


def check_base(path):
    identify(path).check_base()


@pytest.fixture
def write(tmp_path, ldm_files):
    def write(name="sd.safetensors", metadata=None, bias=None, **options):
        tensors = ldm_files.checkpoint(**options)
        if bias is not None:
            tensors[BIAS] = bias
        if name.endswith(".ckpt"):
            torch.save({"state_dict": tensors}, tmp_path / name)
        else:
            save_file(tensors, tmp_path / name, metadata=metadata)
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", ["sd.safetensors", "sd.ckpt", "any name at all.safetensors"])
def test_the_base_passes_whatever_it_is_called(write, name):
    check_base(write(name, bias=torch.linspace(-0.1, 0.1, 64)))


def test_shapes_are_read_without_the_tensors(write, ldm_files):
    path = write()
    header = read_header(path, ["nowhere", f"{PREFIX}out.2.bias"])
    assert {k: v.shape for k, v in header.shapes.items()} == {
        k: tuple(v.shape) for k, v in ldm_files.checkpoint().items()
    }
    assert {k: v.shape for k, v in header.tensors.items()} == {f"{PREFIX}out.2.bias": (4,)}


VELOCITY = {
    "the spread of a bias": {"bias": torch.linspace(-1, 1, 64)},
    "modelspec": {"metadata": {"modelspec.prediction_type": "v"}},
    "modelspec's architecture": {
        "metadata": {"modelspec.architecture": "stable-diffusion-v2-768-v"}
    },
    "a trainer's metadata": {"metadata": {"ss_v_parameterization": "True"}},
    "a pickle's bias": {"name": "sd.ckpt", "bias": torch.linspace(-1, 1, 64)},
}


@pytest.mark.parametrize("how", VELOCITY)
def test_v_prediction_is_told_by(write, how):
    path = write(**VELOCITY[how])
    for look in (check_base, load_checkpoint):
        with pytest.raises(CheckpointError, match=f"{path.name} is a v-prediction model .*768"):
            look(path)


@pytest.mark.parametrize(
    ("line", "velocity"),
    [
        ('parameterization: "v"', True),
        ("parameterization: v # 768", True),
        ("# parameterization: v", False),
        ('parameterization: "eps"', False),
    ],
)
def test_v_prediction_is_told_by_the_yaml_beside_the_file(write, line, velocity):
    path = write()
    path.with_suffix(".yaml").write_text(
        f"model:\n  params:\n    {line}\n    linear_start: 0.00085\n"
    )
    if velocity:
        with pytest.raises(CheckpointError, match="v-prediction"):
            check_base(path)
    else:
        check_base(path)


def test_metadata_of_the_base_is_no_objection(write):
    check_base(write(metadata={"modelspec.architecture": "stable-diffusion-v2-512"}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"context": 768}, "Stable Diffusion 1.x"),
        ({"channels": 9}, "inpainting"),
        ({"context": 2048}, "XL"),
    ],
)
def test_other_versions_are_named(write, options, words):
    with pytest.raises(CheckpointError, match=words):
        check_base(write(**options))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("model.diffusion_model.joint_blocks.0.x", "Stable Diffusion 3"),
        ("model.diffusion_model.double_blocks.0.x", "Flux"),
        ("unet.down_blocks.0.x.lora_A.weight", "a LoRA"),
        ("vqvae_LQ.encoder.conv_in.weight", "associate_2.ckpt"),
    ],
)
def test_what_is_no_stable_diffusion_at_all_is_named(tmp_path, key, words):
    path = tmp_path / "x.safetensors"
    save_file({key: torch.zeros(1)}, path)
    for look in (check_base, load_checkpoint):
        with pytest.raises(CheckpointError, match=f"holds no Stable Diffusion UNet .*{words}"):
            look(path)


@pytest.fixture
def folder(tmp_path):
    def make(prediction="epsilon", context=1024, channels=4, bias=None, **config):
        parts = {
            "unet/config.json": {"cross_attention_dim": context, "in_channels": channels, **config},
            "scheduler/scheduler_config.json": {"prediction_type": prediction},
        }
        for name, content in parts.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(json.dumps(content))
        key = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"
        tensors = {key: torch.zeros(320) if bias is None else bias}
        save_file(tensors, tmp_path / "unet/diffusion_pytorch_model.safetensors")
        return tmp_path

    return make


def test_a_diffusers_folder_passes_by_any_name(folder):
    check_base(folder())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prediction": "v_prediction"}, "v-prediction"),
        ({"bias": torch.linspace(-1, 1, 320)}, "v-prediction"),
        ({"context": 768}, "Stable Diffusion 1.x"),
        ({"context": 2048, "addition_embed_type": "text_time"}, "Stable Diffusion XL"),
        ({"channels": 9}, "inpainting"),
    ],
)
def test_other_diffusers_folders_are_named(folder, options, words):
    path = folder(**options)
    with pytest.raises(CheckpointError, match=words):
        check_base(path)
    (path / "scheduler/scheduler_config.json").unlink()
    if options != {"prediction": "v_prediction"}:  # the weights tell without the scheduler's word
        with pytest.raises(CheckpointError, match=words):
            check_base(path)


def test_an_incomplete_or_broken_folder_is_named(folder):
    path = folder()
    (path / "scheduler/scheduler_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"scheduler_config\.json cannot be read"):
        check_base(path)
    (path / "unet/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"should hold config\.json and diffusion_pytorch"):
        check_base(path)
