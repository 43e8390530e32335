"""Runs of FLIPNET's training on a tiny UNet: what helps, what is written, what is read again."""

import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from facewright.core.checkpoint import read_tensors
from facewright.core.errors import CheckpointError
from facewright.core.methods.flipnet import BoostHubConfig, BoostHubs
from facewright.core.modules.face_encoder import FaceEncoder
from facewright.training import methods
from facewright.training._lora import lora_layers
from facewright.training._text import TextEncoder
from facewright.training.recipe import Progress
from facewright.training.settings.config import load_config
from facewright.training.train import stages, train

START = Progress(0, 0.0)
MODES = ("restore", "degrade")


@pytest.mark.parametrize("mode", MODES)
def test_a_few_steps_help_and_the_files_hold_what_was_trained(flip, mode):
    recipe, data = flip.start(mode, half=True, drop_text=0, name="f"), flip.batch()
    parameters = flip.trainable(recipe.nets["denoiser"])
    optimizer = torch.optim.Adam(parameters.values(), 5e-3)
    losses = []
    for _ in range(25):
        torch.manual_seed(1)
        terms = recipe.losses("main", data, START)
        optimizer.zero_grad()
        torch.stack([*terms.values()]).sum().backward()
        optimizer.step()
        losses.append(sum(v.item() for v in terms.values()))
    assert losses[-1] < 0.95 * losses[0]

    recipe.nets["denoiser"].eval()
    with torch.no_grad():
        evaluation = recipe.evaluate([data, data])
    made = "restored" if mode == "restore" else "degraded"
    assert {"eps_mse_t50", "eps_mse_t800_alone", f"{made}/psnr", "lq/identity"} <= (
        evaluation.metrics.keys()
    )
    assert evaluation.images[made].shape == data["gt"].shape
    assert all(math.isfinite(v) for v in evaluation.metrics.values())

    lora, hubs, *rest = recipe.export(flip.folder, {"steps": 25})
    tensors, metadata = read_tensors(lora)
    assert (metadata["rank"], metadata["alpha"], metadata["mode"]) == ("2", "4.0", mode)
    assert len(tensors) == 2 * 2 * 4 * len(recipe.nets["denoiser"].hubs.config.sites)
    assert all(v.dtype == torch.float16 for v in tensors.values())
    loaded = BoostHubs.from_file(hubs)
    assert loaded.config.mode == mode and loaded.config.base == "unet"
    for name, value in recipe.nets["denoiser"].hubs.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name].float(), value, rtol=1e-3, atol=1e-4)
    if mode == "restore":
        encoder = FaceEncoder.from_file(rest[0])
        torch.testing.assert_close(
            encoder(data["lq"]),
            recipe.nets["denoiser"].adapter(recipe.nets["face_encoder"].latents(data["lq"])),
            rtol=1e-2, atol=1e-2,
        )  # fmt: skip
        fresh = FaceEncoder.from_file(flip.folder / "face.safetensors")
        assert (encoder(data["lq"]) - fresh(data["lq"])).abs().max() > 1e-2


def test_looking_at_and_denoise_give_what_the_joint_call_gives(flip):
    recipe = flip.start("restore")
    flip.wake(recipe)
    denoiser, b = recipe.nets["denoiser"], 2
    z_x, z_y = torch.randn(b, 4, 8, 8), torch.randn(b, 4, 8, 8)
    text, faces = torch.randn(b, 5, 12), torch.randn(b, 16, 5)
    with torch.no_grad():
        prompt = denoiser.prompt(text, faces)
        with denoiser.looking_at(z_y, prompt):
            cached = denoiser.denoise(z_x, 500, prompt, phi=1.5)
        assert not denoiser.state.kept
        t = torch.tensor([500, 500, 0, 0])
        joint = denoiser(torch.cat([z_x, z_y]), t, text, faces, None, 1.5)
    torch.testing.assert_close(cached, joint[:b], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(flip, mode, folder_of_people):
    how = {"merged": True, "boosthub_train": "whole" if mode == "restore" else "lora"}

    def run(name, steps, resume=False):
        values = {
            "output": str(flip.folder / name),
            "budget": {"max_steps": steps},
            "batch_size": 2,
            "cpu": True,
            "ema": 0.9,
            "validate_images": 2,
            "checkpoint_every": 2,
            "data": {"source": "folder", "folder": str(folder_of_people), "size": 32,
                     "workers": 0},
            "degradation": {"presets": ["mild", "hidden"]},
            "optimizers": {"main": {"kind": "muon", "lr": 1e-3}},
            "recipe": yaml.safe_load(yaml.safe_dump(plain(flip.values(mode, **how)))),
        }  # fmt: skip
        path = flip.folder / f"{name}-{steps}.yaml"
        path.write_text(yaml.safe_dump(values))
        facts = train(f"flipnet-{mode}", path, resume=resume)
        return [read_tensors(f)[0] for f in facts["files"]]

    straight = run("straight", 4)
    run("broken", 2)
    again = run("broken", 4, resume=True)
    for a, b in zip(straight, again, strict=True):
        assert all(torch.equal(a[k], b[k]) for k in a)


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value if isinstance(value, int | float | bool | str) else str(value)


def test_captions_become_sd21s_prompt_tokens(tmp_path):
    transformers = pytest.importorskip("transformers")
    letters = [*"abc", *(f"{c}</w>" for c in "abc"), "<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "tokenizer").mkdir()
    vocabulary = {token: i for i, token in enumerate(letters)}
    (tmp_path / "tokenizer/vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "tokenizer/merges.txt").write_text("#version: 0.2\n")
    settings = {"model_max_length": 8, "pad_token": "a", "tokenizer_class": "CLIPTokenizer"}
    (tmp_path / "tokenizer/tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="no folder `text_encoder`"):
        TextEncoder(tmp_path)
    config = transformers.CLIPTextConfig(
        vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=8, bos_token_id=6, eos_token_id=7,
    )  # fmt: skip
    encoder = transformers.CLIPTextModel(config).eval()
    encoder.save_pretrained(tmp_path / "text_encoder")
    prompts = TextEncoder(tmp_path).eval()(["c b", "", "b " * 20])
    # Start, words, end, padding; what is too long is cut before its end.
    ids = [[6, 5, 4, 7, 0, 0, 0, 0], [6, 7, 0, 0, 0, 0, 0, 0], [6, 4, 4, 4, 4, 4, 4, 7]]
    with torch.no_grad():
        torch.testing.assert_close(prompts, encoder(torch.tensor(ids)).last_hidden_state)


@pytest.mark.parametrize("merged", [False, True])
def test_one_mode_can_start_from_the_others_files(flip, merged):
    degrade = flip.start("degrade", name="d")
    flip.wake(degrade)
    lora, boosthub = degrade.export(flip.folder, {})
    chosen = {"lora": lora, "boosthub": boosthub}
    restore = flip.start("restore", start=chosen, merged=merged)
    ours, theirs = restore.nets["denoiser"], degrade.nets["denoiser"]
    assert ours.hubs.config.mode == "restore"
    z, t, text = torch.randn(4, 4, 8, 8), torch.tensor([3, 400, 999, 20]), torch.randn(2, 5, 12)
    with torch.no_grad():
        a, b = (net(z, t, text, None, None, 1.0) for net in (ours, theirs))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert all(p.requires_grad for n, p in ours.named_parameters() if "lora_" in n or "hubs" in n)
    with pytest.raises(CheckpointError, match="rank 2, but the config says `rank: 3`"):
        flip.start("restore", start=chosen, rank=3)
    fresh = flip.start("restore", start={"boosthub": boosthub}, lora_layers="all")
    layers = lora_layers(fresh.nets["denoiser"].bare_unet)
    assert any(name.endswith("conv1") for name in layers)
    assert all(p.abs().max() == 0 for n, p in fresh.nets["denoiser"].named_parameters()
               if "lora_B" in n)  # fmt: skip
    for name, value in fresh.nets["denoiser"].hubs.state_dict().items():
        assert torch.equal(value, theirs.hubs.state_dict()[name])
    other = BoostHubs(BoostHubConfig(sites={"mid_block": 8}, dim_head=4))
    other.save(flip.folder / "other.safetensors")
    with pytest.raises(CheckpointError, match="1 self-attentions"):
        flip.start("restore", start={"lora": lora, "boosthub": flip.folder / "other.safetensors"})


CONFIGS = Path(methods.__path__[0]).parent / "configs"


@pytest.mark.parametrize(
    "path",
    sorted([*CONFIGS.glob("f*_nano.yaml"), *CONFIGS.glob("f*_paper.yaml")]),
    ids=lambda p: p.stem,
)
def test_the_shipped_configs_are_valid(path):
    name = path.stem.replace("flipnet_", "flipnet-").replace("face_", "face-")
    stage_name = next(s for s in sorted(stages(), key=len, reverse=True) if name.startswith(s))
    config = load_config(path, stages()[stage_name].Config)
    assert config.recipe.name if stage_name != "face-autoencoder" else config.recipe.branch in name
    if path.stem.startswith("flipnet"):
        published = (config.recipe.rank, config.recipe.alpha, config.recipe.drop_text)
        assert config.recipe.phi == 1
    if path.stem.startswith("flipnet") and path.stem.endswith("paper"):
        assert published == (64, 64, 0.5) and config.recipe.lora_layers == "attention"
        assert (config.total_batch, config.budget.max_steps) == (16, 90000)
        assert config.optimizers["main"].lr == 5e-5
        assert config.recipe.weighting == "eps" and config.recipe.clean_condition == 0
