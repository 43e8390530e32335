"""`facewright export`: merging against peft's own forward pass, key styles, rounding, the CLI."""

import json
import shutil

import pytest
import torch
from facewright.core.checkpoint import read_config, read_metadata, read_tensors, save_safetensors
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.diffusion.loading import load_checkpoint
from facewright.core.errors import CheckpointError, FacewrightError, LoraError
from facewright.core.lora.merge import merge_lora, parse_lora
from facewright.core.lora.styles import LORA_STYLES
from facewright.core.methods.flipnet import BoostHubs
from facewright.core.methods.honestface import nano_ide
from facewright.core.methods.osdface import VisualRepresentationEmbedder
from facewright.core.weights import nano
from facewright.core.weights.convert import convert
from facewright.headless.cli import app
from facewright.headless.make.export import MERGED_KEY, merge, recast, restyle
from safetensors.torch import load_file
from typer.testing import CliRunner

MODULES = (
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv"),
    "time_emb_proj",
)
ALPHA, RANK, STRENGTH = 5, 2, 0.7
TRAINING = {"method": "osdface", "facewright.training": '{"steps": 3}'}


def random_lora(unet):
    """A LoRA on every layer that the onestep stage trains, as diffusers names them."""
    tensors = {}
    for name, weight in unet.state_dict().items():
        module = name.removesuffix(".weight")
        if weight.ndim < 2 or not module.endswith(MODULES):
            continue
        out, features, *kernel = weight.shape
        down = torch.randn(RANK, features, *kernel) * weight[0].numel() ** -0.5
        tensors[f"unet.{module}.lora_A.weight"] = down
        tensors[f"unet.{module}.lora_B.weight"] = torch.randn(out, RANK, *[1] * len(kernel)) * 0.2
    return tensors


@pytest.fixture(scope="module")
def made(tmp_path_factory, ldm_files):
    """A base of SD 2.1's block structure, a tenth as wide, and a LoRA for all of its layers."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("export")
    base = folder / "thin.safetensors"
    shape = {"widths": (32, 64, 96, 96), "attention": (True, True, True, False), "per_level": 2}
    tensors = ldm_files.checkpoint(**shape)
    # A wide spread of this bias is what tells v-prediction.
    tensors["model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"] *= 0
    tensors["cond_stage_model.position_ids"] = torch.arange(77)[None]
    save_safetensors(base, tensors, {"modelspec.title": "thin"})
    unet = load_checkpoint(base)[0].unet
    lora = folder / "x_lora.safetensors"
    save_safetensors(lora, random_lora(unet), {"alpha": str(ALPHA), "rank": str(RANK), **TRAINING})
    return base, lora, unet


def ask(unet):
    torch.manual_seed(2)
    z, cond = torch.randn(1, 4, 16, 16), torch.randn(1, 3, 1024)
    with torch.no_grad():
        return unet(z, 399, encoder_hidden_states=cond).sample


@pytest.fixture(scope="module")
def expected(made):
    """What peft's adapters beside the weights make of it, at STRENGTH."""
    _, lora, unet = made
    tensors, _ = read_tensors(lora)
    wrapped = type(unet).from_config(unet.config)
    wrapped.load_state_dict(unet.state_dict())
    modules = {k.removeprefix("unet.").rpartition(".lora_")[0] for k in tensors}
    config = {"r": RANK, "lora_alpha": ALPHA, "target_modules": sorted(modules)}
    config |= {"rank_pattern": {}, "alpha_pattern": {}}  # older versions of diffusers ask for them
    metadata = {f"unet.{k}": v for k, v in config.items()}
    wrapped.load_lora_adapter(tensors, prefix="unet", metadata=metadata, adapter_name="x")
    wrapped.set_adapters(["x"], STRENGTH)
    return ask(wrapped.eval())


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-4)


def test_a_merged_single_file_is_base_and_lora(made, expected, tmp_path):
    base, lora, unet = made
    path, what = merge(lora, base, tmp_path, strength=STRENGTH)
    assert path == tmp_path / "thin_x_lora.safetensors"
    assert "278 modules" in what  # as many as the onestep stage trains in SD 2.1-base
    close(ask(load_checkpoint(path)[0].unet), expected)
    assert (ask(unet) - expected).abs().max() > 0.1

    before, after = load_file(base), load_file(path)
    assert before.keys() == after.keys()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert len(changed) == 278 and all(k.startswith("model.diffusion_model.") for k in changed)
    metadata = read_metadata(path)
    assert metadata["modelspec.title"] == "thin"
    (record,) = json.loads(metadata[MERGED_KEY])
    assert (record["lora"], record["strength"]) == ("x_lora.safetensors", STRENGTH)
    assert record["metadata"]["facewright.training"] == TRAINING["facewright.training"]


def test_a_merge_is_rounded_once_at_the_end(made, tmp_path):
    base, lora, _ = made
    whole = load_file(merge(lora, base, tmp_path / "whole.safetensors")[0])
    path, _ = merge(lora, base, tmp_path / "half.safetensors", dtype=torch.float16)
    half = load_file(path)
    for key, value in whole.items():
        if value.is_floating_point():
            assert torch.equal(half[key], value.half()), key
    assert half["cond_stage_model.position_ids"].dtype == torch.int64

    again, _ = merge(lora, path, tmp_path / "back.safetensors", strength=-1.0)
    assert len(json.loads(read_metadata(again)[MERGED_KEY])) == 2
    first = load_file(base)
    for key, value in load_file(again).items():
        torch.testing.assert_close(value.float(), first[key].float(), rtol=0.02, atol=8e-3)


@pytest.fixture
def folder(made, tmp_path):
    """A diffusers folder as people have it: old names, a second copy, whole files beside."""
    base = tmp_path / "sd21"
    made[2].save_pretrained(base / "unet")
    shutil.copy(
        base / "unet" / "diffusion_pytorch_model.safetensors",
        base / "unet" / "diffusion_pytorch_model.fp16.safetensors",
    )
    for name in ("scheduler/scheduler_config.json", "model_index.json"):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text("{}")
    (base / "vae").mkdir()
    (base / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"vae")
    (base / "v2-1_512-ema-pruned.ckpt").write_bytes(b"huge")
    (base / ".git").mkdir()
    return base


def test_a_merged_folder_is_one_that_diffusers_loads(made, expected, folder, tmp_path):
    out, _ = merge(made[1], folder, tmp_path / "merged", strength=STRENGTH)
    close(ask(diffusers_classes()[0].from_pretrained(out / "unet").eval()), expected)
    files = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert files == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }
    with pytest.raises(CheckpointError, match="new or empty"):
        merge(made[1], folder, out)


def test_the_nano_lora_merges_into_the_nano_unet(tmp_path):
    lora, base = (nano.NANO_DIR / f"nano_{n}.safetensors" for n in ("onestep_lora", "unet"))
    path, _ = merge(lora, base, tmp_path, dtype=torch.float32)
    matrices, merged = nano.lora_tensors()[0], load_file(path)
    for key, value in nano.unet_tensors().items():
        expected = value.double()
        name = f"unet.{key.removesuffix('.weight')}.lora_"
        if f"{name}A.weight" in matrices:  # alpha is the rank: scale 1
            up, down = (matrices[f"{name}{k}.weight"].double().flatten(1) for k in "BA")
            expected = expected + (up @ down).view_as(expected)
        torch.testing.assert_close(merged[key].double(), expected, rtol=1e-6, atol=1e-6)
    assert nano.unet_config(path) == nano.unet_config()


def spoiled(lora, target, **more):
    tensors, metadata = read_tensors(lora)
    save_safetensors(target, {**tensors, **more}, metadata)
    return target


def test_what_does_not_fit_is_refused_and_writes_nothing(made, folder, tmp_path):
    base, lora, _ = made
    pair = {"A": torch.zeros(2, 32), "B": torch.zeros(32, 2)}
    stray = {f"unet.mid_block.nowhere.lora_{k}.weight": v for k, v in pair.items()}
    text = {f"text_encoder.q_proj.lora_{k}.weight": v for k, v in pair.items()}
    out = tmp_path / "out"
    for source in (base, folder):
        with pytest.raises(LoraError, match=r"mid_block\.nowhere does not exist"):
            merge(spoiled(lora, tmp_path / "stray.safetensors", **stray), source, out)
        with pytest.raises(LoraError, match="changes a text encoder"):
            merge(spoiled(lora, tmp_path / "text.safetensors", **text), source, out)
    with pytest.raises(CheckpointError, match="a base model was expected"):
        merge(lora, lora, out)
    tensors, _ = read_tensors(base)
    velocity = tmp_path / "velocity.safetensors"
    save_safetensors(velocity, tensors, {"modelspec.prediction_type": "v"})
    with pytest.raises(CheckpointError, match="is a v-prediction model"):
        merge(lora, velocity, out)
    with pytest.raises(CheckpointError, match="is what is read"):
        merge(lora, base, base)
    assert not out.exists() and not list(tmp_path.glob(".*"))


def test_an_interrupted_merge_leaves_nothing(made, folder, tmp_path, monkeypatch):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("facewright.core.checkpoint.files.save_file", interrupt)
    for source, out in ((made[0], tmp_path / "x.safetensors"), (folder, tmp_path / "merged")):
        with pytest.raises(KeyboardInterrupt):
            merge(made[1], source, out)
        assert not out.exists()
    assert {p.name for p in tmp_path.iterdir()} == {"sd21"}


@pytest.mark.parametrize("style", LORA_STYLES)
def test_every_style_holds_the_whole_lora(made, tmp_path, style):
    written = restyle(made[1], tmp_path, style)
    path = next(p for p in written if p.suffix == ".safetensors")
    before = parse_lora(*read_tensors(made[1]))
    tensors, metadata = read_tensors(path)
    after = parse_lora(tensors, metadata)
    assert len(after) == 278 and before.keys() == after.keys()
    for name, weight in before.items():
        assert torch.equal(after[name].down, weight.down)
        assert torch.equal(after[name].up, weight.up)
        assert after[name].scale == weight.scale == ALPHA / RANK
    assert metadata["method"] == "osdface" and "facewright.training" in metadata


TINY = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
    "norm_num_groups": 4,
}


@pytest.fixture
def tiny(tmp_path):
    """A maker of one UNet, a LoRA for it, and what the two of them give."""

    def unet():
        torch.manual_seed(3)
        return diffusers_classes()[0](**TINY).eval()

    lora, merged = tmp_path / "tiny.safetensors", unet()
    save_safetensors(lora, random_lora(merged), {"alpha": str(ALPHA)})
    plain = ask(merged)
    merge_lora(merged.state_dict(), read_tensors(lora)[0], 1.0, {"alpha": str(ALPHA)})
    expected = ask(merged)
    assert (expected - plain).abs().max() > 0.05
    return unet, lora, expected


def test_peft_loads_its_folder(tiny, tmp_path):
    peft = pytest.importorskip("peft")
    unet, lora, expected = tiny
    restyle(lora, tmp_path / "adapter", "peft")
    close(ask(peft.PeftModel.from_pretrained(unet(), tmp_path / "adapter").eval()), expected)


@pytest.mark.parametrize("style", ["diffusers", "kohya"])
def test_diffusers_loads_its_style_and_kohyas(tiny, tmp_path, style):
    from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin as Pipeline

    make, lora, expected = tiny
    (path,) = restyle(lora, tmp_path / style, style)
    state, alphas, metadata = Pipeline.lora_state_dict(
        str(path.parent), weight_name=path.name, return_lora_metadata=True
    )
    unet = make()
    Pipeline.load_lora_into_unet(state, alphas, unet, metadata=metadata)
    close(ask(unet), expected)


def test_a_mixed_lora_keeps_ranks_and_alphas_of_its_own(tmp_path):
    lora = {}
    for name, rank, alpha in (("conv1", 2, 4), ("conv2", 3, 4), ("conv_shortcut", 2, 8)):
        key = f"lora_unet_mid_block_resnets_0_{name}"
        lora[f"{key}.lora_down.weight"] = torch.randn(rank, 8, 1, 1)
        lora[f"{key}.lora_up.weight"] = torch.randn(8, rank, 1, 1)
        lora[f"{key}.alpha"] = torch.tensor(float(alpha))
    save_safetensors(tmp_path / "x.safetensors", lora, {})
    for style in LORA_STYLES:
        written = restyle(tmp_path / "x.safetensors", tmp_path / style, style)
        path = next(p for p in written if p.suffix == ".safetensors")
        weights = parse_lora(*read_tensors(path))
        scales = {m.rpartition(".")[2]: (w.rank, w.alpha) for m, w in weights.items()}
        assert scales == {"conv1": (2, 4), "conv2": (3, 4), "conv_shortcut": (2, 8)}


def test_trained_files_are_rounded_with_all_they_say(tmp_path):
    for name, load in (
        ("nano_vre", VisualRepresentationEmbedder.from_files),
        ("nano_flipnet_restore_boosthub", BoostHubs.from_file),
        ("nano_honestface_ide", nano_ide),
        ("nano_onestep_lora", lambda p: parse_lora(*read_tensors(p))),
    ):
        source = nano.NANO_DIR / f"{name}.safetensors"
        whole, what = recast(source, tmp_path, torch.float32)
        assert whole.name == f"{name}_fp32.safetensors" and "fp32" in what
        assert read_metadata(whole) == read_metadata(source)
        half, _ = recast(whole, tmp_path / "half", torch.float16)
        before, after = load_file(source), load_file(half)
        assert all(torch.equal(before[k], after[k]) for k in before | after)
        load(whole)


def test_rounding_refuses_strangers_and_values_beyond_float16(tmp_path):
    big, stranger = tmp_path / "big.safetensors", tmp_path / "stranger.safetensors"
    save_safetensors(big, {"a": torch.tensor([1e6])}, {"facewright.format": "x"})
    with pytest.raises(FacewrightError, match="beyond float16's 65504"):
        recast(big, tmp_path / "half", torch.float16)
    recast(big, tmp_path / "half", torch.bfloat16)
    save_safetensors(stranger, {"a": torch.ones(1)}, {})
    with pytest.raises(CheckpointError, match="facewright convert"):
        recast(stranger, tmp_path, torch.float16)


def cli(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_the_command_merges_renames_and_rounds(made, tmp_path):
    base, lora, _ = made
    merged = tmp_path / "merged.safetensors"
    result = cli(lora, "--base", base, "-o", merged, "--dtype", "fp16", "--json")
    assert result.exit_code == 0, result.output
    assert list(json.loads(result.stdout)) == [str(merged)]
    assert load_file(merged)["model.diffusion_model.out.2.weight"].dtype == torch.float16
    assert cli(lora, "--to", "kohya", "-o", tmp_path).exit_code == 0
    assert (tmp_path / "x_lora_kohya.safetensors").is_file()
    assert (
        cli(nano.NANO_DIR / "nano_vre.safetensors", "--dtype", "fp32", "-o", tmp_path).exit_code
        == 0
    )
    vre = tmp_path / "nano_vre_fp32.safetensors"
    assert read_config(read_metadata(vre), "osdface-vre", source="x")["num_codes"] == 512


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{lora}", "-o", "x"], "--base, --to or --dtype"),
        (["{lora}", "--to", "kohya"], "-o"),
        (["{lora}", "--to", "loha", "-o", "x"], "kohya"),
        (["{lora}", "--to", "kohya", "--base", "{base}", "-o", "x"], "one of them"),
        (["{lora}", "--to", "kohya", "--strength", "1", "-o", "x"], "--base"),
        (["{folder}", "--dtype", "fp16"], "a run is exported as its"),
    ],
)
def test_the_command_explains_what_does_not_go_together(made, tmp_path, arguments, words):
    names = {"lora": made[1], "base": made[0], "folder": tmp_path}
    result = cli(*(a.format(**names) for a in arguments))
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())


def test_the_command_tells_a_folder_that_is_no_run(tmp_path):
    result = cli(tmp_path)
    assert result.exit_code == 1 and "holds no run" in result.stderr


def test_convert_renames_a_lora_as_export_does(made, tmp_path):
    (converted,) = convert([made[1]], tmp_path)
    (exported,) = restyle(made[1], tmp_path / "exported.safetensors", "kohya")
    (ours, metadata), (theirs, others) = read_tensors(exported), read_tensors(converted)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert metadata == others and metadata["method"] == "osdface"
