"""Folders that peft saves, against peft's own merge: in the core, the host, and each command."""

import json
import shutil

import pytest
import torch
from facewright.core.checkpoint import read_tensors, save_safetensors
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.errors import CheckpointError, LoraError
from facewright.core.host import host
from facewright.core.lora.files import read_lora
from facewright.core.lora.merge import merge_lora, parse_lora
from facewright.core.weights import nano
from facewright.core.weights.convert import convert
from facewright.headless.cli import app
from facewright.headless.make.export import merge, recast, restyle
from typer.testing import CliRunner

TARGETS = ["to_q", "to_out.0", "conv1", "conv_shortcut", "time_emb_proj", "proj_in"]
CONFIGS = {
    "plain": {"r": 4, "lora_alpha": 8},
    "half strength": {"r": 4, "lora_alpha": 2},
    "rslora": {"r": 4, "lora_alpha": 8, "use_rslora": True},
    "rank_pattern": {"r": 4, "lora_alpha": 8, "rank_pattern": {"to_q": 2, "^conv_in": 3}},
    "alpha_pattern": {"r": 4, "lora_alpha": 8, "alpha_pattern": {"attn1.to_q": 1, "conv1": 3}},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "use_rslora": True,
        "rank_pattern": {r".*attn2\.to_[qk]": 2, "resnets.0.conv1": 3},
        "alpha_pattern": {r"down_blocks\.\d+\..*to_q": 2, "to_q|conv1": 16},
    },
    "fan in": {"r": 4, "lora_alpha": 2, "fan_in_fan_out": True},
}


def nano_unet():
    unet = diffusers_classes()[0](**nano.unet_config())
    unet.load_state_dict(nano.unet_tensors())
    return unet.eval()


OFTEN = ("plain", "patterns", "fan in")
"""Between them they use all that the others do."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(k, marks=[] if k in OFTEN else pytest.mark.slow) for k in CONFIGS],
)
def saved(request, tmp_path_factory):
    """A folder of peft's, and the weights that peft merges it into."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(5)
    config = peft.LoraConfig(
        target_modules=TARGETS, init_lora_weights=False, **CONFIGS[request.param]
    )
    model = peft.get_peft_model(nano_unet(), config)
    folder = tmp_path_factory.mktemp("peft") / "face"
    model.save_pretrained(folder)
    return folder, model.merge_and_unload().state_dict()


def same(weights, expected):
    assert weights.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(weights[key], value, atol=1e-5, rtol=1e-5)


def test_the_folder_and_its_file_are_merged_as_peft_does(saved, tmp_path):
    folder, expected = saved
    for path in (folder, folder / "adapter_model.safetensors"):
        weights = {k: v.float() for k, v in nano.unet_tensors().items()}
        tensors, metadata = read_lora(path)
        merge_lora(weights, tensors, metadata=metadata)
        same(weights, expected)
        patched, report = host.apply_lora(host.load_nano(lora=False)[0], tensors, metadata, 1.0)
        same(patched.tensors(), expected)
        assert "from its peft metadata" in str(report)
        base = nano.NANO_DIR / "nano_unet.safetensors"
        out, said = merge(path, base, tmp_path / f"{path.stem}.safetensors", dtype=torch.float32)
        same(read_tensors(out)[0], expected)
        assert "from its peft metadata" in said


def test_every_way_on_from_the_folder_keeps_its_strength(saved, tmp_path):
    folder, expected = saved
    ways = {
        "convert": lambda: next(iter(convert([folder], tmp_path / "c"))),
        "kohya": lambda: next(iter(restyle(folder, tmp_path / "k", "kohya"))),
        "diffusers": lambda: next(iter(restyle(folder, tmp_path / "d", "diffusers"))),
        "peft": lambda: restyle(folder, tmp_path / "p", "peft") and tmp_path / "p",
        "dtype": lambda: recast(folder, tmp_path / "r", torch.float32)[0],
        "renamed": lambda: recast(folder / "adapter_model.safetensors", tmp_path, torch.float32)[0],
    }
    for way in ways.values():
        weights = {k: v.float() for k, v in nano.unet_tensors().items()}
        tensors, metadata = read_lora(way())
        merge_lora(weights, tensors, metadata=metadata)
        same(weights, expected)


def test_names_go_around_all_styles_and_come_back(saved, tmp_path):
    before = parse_lora(*read_lora(saved[0]))
    path = saved[0]
    for number, style in enumerate(("kohya", "diffusers", "peft", "kohya", "peft", "diffusers")):
        out = tmp_path / str(number)
        written = restyle(path, out, style)
        path = next(p for p in written if p.suffix == ".safetensors")
    after = parse_lora(*read_lora(path))
    assert before.keys() == after.keys()
    for module, weight in before.items():
        assert torch.equal(after[module].down, weight.down)
        assert torch.equal(after[module].up, weight.up)
        assert after[module].scale == pytest.approx(weight.scale)


@pytest.fixture
def folder(tmp_path):
    """peft's folder made by hand: one module of the nano UNet, alpha a half of the rank."""
    folder = tmp_path / "mine"
    module = "base_model.model.down_blocks.0.resnets.0.conv1"
    tensors = {
        f"{module}.lora_A.weight": torch.randn(2, 64, 3, 3),
        f"{module}.lora_B.weight": torch.randn(64, 2, 1, 1),
    }
    save_safetensors(folder / "adapter_model.safetensors", tensors)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 1}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def cli(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_commands_take_the_folder_and_say_where_alpha_comes_from(folder, tmp_path):
    base = nano.NANO_DIR / "nano_unet.safetensors"
    result = cli("export", folder, "--base", base, "-o", tmp_path / "m.safetensors")
    assert result.exit_code == 0, result.output
    assert "alpha 1 from its peft metadata" in " ".join(result.output.split())
    assert cli("export", folder, "--to", "kohya", "-o", tmp_path / "k").exit_code == 0
    assert (tmp_path / "k" / "mine_kohya.safetensors").is_file()
    assert cli("convert", folder, "-o", tmp_path / "c").exit_code == 0
    assert (tmp_path / "c" / "mine_comfyui.safetensors").is_file()


def test_weights_without_their_config_are_refused(folder, tmp_path):
    (folder / "adapter_config.json").unlink()
    for path in (folder, folder / "adapter_model.safetensors"):
        with pytest.raises(LoraError, match=r"lacks the adapter_config\.json"):
            read_lora(path)
        result = cli("convert", path, "-o", tmp_path / "c")
        assert result.exit_code == 1 and "adapter_config.json" in result.output
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CheckpointError, match="a folder without a LoRA"):
        read_lora(empty)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, "\x00", "null"])
def test_a_config_that_is_none_is_refused(folder, text):
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(LoraError, match="not a JSON object"):
        read_lora(folder)
    (folder / "adapter_config.json").write_bytes(b"\xff\xfe{\x00}")
    with pytest.raises(LoraError, match="UTF-16"):
        read_lora(folder)


def test_a_torch_file_of_old_peft_is_read_with_its_config(folder):
    tensors, _ = read_tensors(folder / "adapter_model.safetensors")
    torch.save({k: v.clone() for k, v in tensors.items()}, folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()
    for path in (folder, folder / "adapter_model.bin"):
        (weight,) = parse_lora(*read_lora(path)).values()
        assert weight.scale == 0.5


def test_the_node_finds_the_config_beside_the_file(folder, tmp_path, models_in):
    from facewright.nodes.lora import LoadLoRA

    loras = tmp_path / "models" / "loras"
    shutil.copytree(folder, loras / "mine")
    models_in(tmp_path / "models")
    model = host.load_nano(lora=False)[0]
    patched, report = LoadLoRA.execute(model, "mine/adapter_model.safetensors", 1.0).args
    assert "alpha 1 from its peft metadata" in report
    tensors, _ = read_tensors(folder / "adapter_model.safetensors")
    up, down = (next(v for k, v in tensors.items() if f"lora_{x}" in k) for x in "BA")
    name = "down_blocks.0.resnets.0.conv1.weight"
    change = patched.tensors()[name] - model.tensors()[name]
    expected = 0.5 * (up.flatten(1) @ down.flatten(1)).view_as(change)
    torch.testing.assert_close(change, expected, atol=1e-5, rtol=1e-5)


def test_a_base_whose_own_record_is_broken_is_still_merged(folder, tmp_path):
    tensors, metadata = read_tensors(nano.NANO_DIR / "nano_unet.safetensors")
    base = tmp_path / "base.safetensors"
    for broken in ("{", "[" * 100_000, '"text"'):
        save_safetensors(base, tensors, {**metadata, "facewright.merged": broken})
        out, _ = merge(folder, base, tmp_path / "out.safetensors")
        earlier, mine = json.loads(read_tensors(out)[1]["facewright.merged"])
        assert earlier in (broken, "text") or (earlier == {} and mine["lora"] == "mine")


@pytest.mark.parametrize("strength", ["nan", "inf", "-inf", "1e39"])
def test_export_refuses_what_is_not_finite_and_writes_nothing(folder, tmp_path, strength):
    base = nano.NANO_DIR / "nano_unet.safetensors"
    out = tmp_path / "m.safetensors"
    result = cli("export", folder, "--base", base, "-o", out, f"--strength={strength}")
    assert result.exit_code == 1, result.output
    assert "finite" in result.output or "larger than" in result.output
    assert not out.exists()
