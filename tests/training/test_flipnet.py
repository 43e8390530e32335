"""FLIPNET's two training modes on a tiny UNet: what moves, what is minimised, what is written."""

import copy
import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml
from facewright.core.checkpoint import make_metadata, read_tensors, save_safetensors
from facewright.core.errors import CheckpointError
from facewright.core.lora import merge_lora
from facewright.core.methods.flipnet import BoostHubConfig, BoostHubs, find_sites
from facewright.core.modules.autoencoder import AutoencoderConfig, AutoencoderKL
from facewright.core.modules.face_encoder import FaceEncoder, FaceEncoderConfig
from facewright.core.modules.identity import IdentityConfig, IdentityEncoder
from facewright.core.schedule import alpha_bar
from facewright.headless.backbone import diffusers_classes
from facewright.training import methods
from facewright.training._lora import ATTENTION_TARGETS, add_lora, lora_layers
from facewright.training._text import TextEncoder
from facewright.training.checkpoints import trained_state
from facewright.training.config import load_config
from facewright.training.methods import flipnet as stage
from facewright.training.recipe import Progress
from facewright.training.train import stages, train
from torch import nn

UNET = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 12,
    "use_linear_projection": True,
    "norm_num_groups": 4,
}
VAE = AutoencoderConfig(
    ch=4, ch_mult=(1, 2, 2), num_res_blocks=1, attn_levels=(), mid_attn=False, z_channels=4,
    groups=1,
)  # fmt: skip
FACE = AutoencoderConfig(
    ch=4, ch_mult=(1, 2), num_res_blocks=1, attn_levels=(), z_channels=5, groups=1
)
START = Progress(0, 0.0)
MODES = {"restore": stage.RestoreRecipe, "degrade": stage.DegradeRecipe}


@pytest.fixture
def files(tmp_path):
    torch.manual_seed(0)
    unet, vae = diffusers_classes()[0](**UNET), AutoencoderKL(VAE)
    config = {k: v for k, v in unet.config.items() if not k.startswith("_")}
    save_safetensors(
        tmp_path / "unet.safetensors", unet.state_dict(), make_metadata("nano-unet", config)
    )
    save_safetensors(
        tmp_path / "vae.safetensors", vae.state_dict(), make_metadata("nano-vae", asdict(VAE))
    )
    FaceEncoder(FaceEncoderConfig(encoder=FACE, input_size=8, hidden=6, width=12)).save(
        tmp_path / "face.safetensors"
    )
    IdentityEncoder(IdentityConfig(ch=(8, 8, 8), dim=8, input_size=16)).save(
        tmp_path / "identity.safetensors"
    )
    return tmp_path


def values_of(files, mode, **changes):
    values = {
        "backbone": {
            "source": "nano",
            "unet": files / "unet.safetensors",
            "vae": files / "vae.safetensors",
        },
        "tokens": 5,
        "rank": 2,
        "alpha": 4,
        "sampling": {"steps": 2},
        "metric_encoder": files / "identity.safetensors",
    }
    if mode == "restore":
        values |= {
            "face_encoder": files / "face.safetensors",
            "extractor": {"kind": "nano", "path": files / "identity.safetensors"},
        }
    return {**values, **changes}


def start(files, mode, **changes):
    torch.manual_seed(0)
    cls = MODES[mode]
    recipe = cls(cls.Config(**values_of(files, mode, **changes)))
    nets = recipe.build()
    recipe.trained = tuple(nets)
    frozen = recipe.frozen()
    for net in frozen.values():
        net.requires_grad_(False).eval()
    recipe.nets = {**frozen, **nets}
    return recipe


def wake(recipe):
    """Trained weights that start at zero get values, so that they count."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, p in recipe.nets["denoiser"].named_parameters():
            if "lora_B" in name or ("to_out" in name and "hubs" in name):
                p.normal_(0, 0.2)


def batch(b=3, size=32):
    generator = torch.Generator().manual_seed(3)
    gt = torch.rand(b, 3, size, size, generator=generator)
    lq = (gt + 0.2 * torch.randn(gt.shape, generator=generator)).clamp(0, 1)
    return {"gt": gt, "lq": lq, "box": torch.tensor([[4.0, 4.0, 27.0, 27.0]] * b)}


def trainable(net):
    return {n: p for n, p in net.named_parameters() if p.requires_grad}


def sd21_unet():
    with torch.device("meta"):
        return diffusers_classes()[0](
            sample_size=64,
            cross_attention_dim=1024,
            attention_head_dim=(5, 10, 20, 20),
            use_linear_projection=True,
        )


def test_sizes_at_the_shape_of_sd21():
    """LoRA of rank 64 on 16 blocks x 2 attentions x 4 projections: 13.28 M; BoostHubs 49.6 M."""
    unet = sd21_unet()
    sites = find_sites(unet.state_dict())
    with torch.device("meta"):
        hubs = BoostHubs(BoostHubConfig(sites=sites, dim_head=64))
        add_lora(unet, 64, 64, ATTENTION_TARGETS)
        adapter = FaceEncoder().adapter
    assert len(sites) == 16 and len(lora_layers(unet)) == 128
    assert sum(p.numel() for p in trainable(unet).values()) == 13_279_232
    assert round(sum(p.numel() for p in hubs.parameters()) / 1e6, 1) == 49.6
    assert [m.out_features for m in adapter.layers if isinstance(m, nn.Linear)] == [512, 1024]


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_only_lora_boosthubs_and_adapter_move(files, mode, merged):
    recipe, data = start(files, mode, merged=merged, drop_text=0), batch()
    wake(recipe)
    # Zeros would leave nothing for the cross-attention's projections to learn from.
    recipe.nets["text"] = Words()
    data["caption"] = ["one", "twenty", "three hundred"]
    terms = recipe.losses("main", data, START)
    pixels = {"mse", "perceptual"} if mode == "restore" else set()
    assert terms.keys() == {"eps_input", "eps_condition"} | pixels
    torch.stack([*terms.values()]).sum().backward()
    for name, net in recipe.nets.items():
        for key, p in net.named_parameters():
            moved = p.grad is not None and bool(p.grad.abs().sum() > 0)
            kind = next((k for k in ("lora_", "hubs.", "adapter.") if k in key), None)
            assert moved == (name == "denoiser" and kind is not None), (name, key)
    kinds = {"lora_", "hubs."} | ({"adapter."} if mode == "restore" else set())
    names = trainable(recipe.nets["denoiser"])
    assert all(any(k in n for n in names) for k in kinds)
    assert all(any(k in n for k in kinds) for n in names)
    # A checkpoint holds these and no UNet.
    assert trained_state(recipe.nets["denoiser"]).keys() == names.keys()


@pytest.mark.parametrize("mode", MODES)
def test_step_0_is_the_base_network(files, mode):
    recipe = start(files, mode)
    base = diffusers_classes()[0](**UNET)
    base.load_state_dict(read_tensors(files / "unet.safetensors")[0])
    z, t = torch.randn(6, 4, 8, 8), torch.tensor([3, 400, 999, 0, 20, 700])
    text = torch.randn(3, 5, 12)
    with torch.no_grad():
        eps = recipe.nets["denoiser"](z, t, text, None, None, 1.0)
        expected = base(z, t, encoder_hidden_states=text.repeat(2, 1, 1)).sample
    torch.testing.assert_close(eps, expected, rtol=0, atol=0)


def reference(recipe, z, t, cond, phi):
    """Both branches by Eq. 4-5 with hooks: plain attention beside each self-attention, float64."""
    denoiser = recipe.nets["denoiser"]
    unet = diffusers_classes()[0](**UNET)
    base = dict(read_tensors(recipe.config.backbone.unet)[0])
    lora, metadata = recipe.lora_file
    merge_lora(base, lora, metadata=metadata)
    unet.load_state_dict(base)
    unet, half = unet.double(), len(z) // 2
    hubs = copy.deepcopy(denoiser.hubs).double()

    def beside(site):
        hub = hubs[site]
        w = {k: v.double() for k, v in hub.state_dict().items()}

        def hook(module, args, out):
            f = args[0]
            result = out.clone()
            for i in range(half):
                q = f[i] @ w["to_q.weight"].T
                k, v = (f[half + i] @ w[f"to_{x}.weight"].T for x in "kv")
                heads = []
                for h in range(hub.heads):
                    part = slice(h * q.shape[1] // hub.heads, (h + 1) * q.shape[1] // hub.heads)
                    scores = q[:, part] @ k[:, part].T / math.sqrt(q.shape[1] // hub.heads)
                    heads.append(scores.softmax(1) @ v[:, part])
                read = torch.cat(heads, 1) @ w["to_out.weight"].T + w["to_out.bias"]
                result[i] = out[i] + phi * read
            return result

        return hook

    for site in hubs.config.sites:
        unet.get_submodule(f"{site}.attn1").register_forward_hook(beside(site))

    with torch.no_grad():
        return unet(z.double(), t, encoder_hidden_states=cond.double()).sample


@pytest.mark.parametrize("merged", [False, True])
def test_the_joint_call_is_eq_4_and_5(files, merged):
    recipe = start(files, "restore", merged=merged)
    wake(recipe)
    path, *_ = recipe.export(files, {})
    recipe.lora_file = read_tensors(path)
    z, t = torch.randn(4, 4, 8, 8), torch.tensor([3, 400, 999, 20])
    text, faces = torch.randn(2, 5, 12), torch.randn(2, 16, 5)
    denoiser = recipe.nets["denoiser"]
    with torch.no_grad():
        eps = denoiser(z, t, text, faces, None, 0.7)
        cond = torch.cat([text, denoiser.adapter(faces)], 1).repeat(2, 1, 1)
    expected = reference(recipe, z, t, cond, 0.7)
    torch.testing.assert_close(eps.double(), expected, rtol=1e-4, atol=1e-5)
    base = reference(recipe, z, t, cond, 0.0)
    assert (expected - base)[:2].abs().max() > 1e-2, "the condition counts"
    assert (expected - base)[2:].abs().max() == 0, "and nothing flows back"


def test_dropped_faces_leave_no_token_behind(files):
    recipe = start(files, "restore")
    wake(recipe)
    denoiser = recipe.nets["denoiser"]
    z, t = torch.randn(6, 4, 8, 8), torch.randint(0, 1000, (6,))
    text, faces = torch.randn(3, 5, 12), torch.randn(3, 16, 5)
    kept = torch.tensor([True, False, False])
    with torch.no_grad():
        mixed = denoiser(z, t, text, faces, kept, 1.0)
        without = denoiser(z, t, text, None, None, 1.0)
        with_faces = denoiser(z, t, text, faces, None, 1.0)
        others = denoiser(z, t, text, torch.randn(3, 16, 5), ~kept & False, 1.0)
    dropped = [1, 2, 4, 5]  # input and condition rows alike
    torch.testing.assert_close(mixed[dropped], without[dropped], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mixed[[0, 3]], with_faces[[0, 3]], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(others, without, rtol=1e-5, atol=1e-6)
    assert (mixed[0] - without[0]).abs().max() > 1e-3


def drawn(recipe, data):
    """What one call of `losses` draws and predicts, seen from outside."""
    seen = {}
    denoiser = recipe.nets["denoiser"]
    hook = denoiser.register_forward_hook(
        lambda _, args, out: seen.update(z_t=args[0], t=args[1], text=args[2], kept=args[4],
                                         eps_hat=out)
    )  # fmt: skip
    torch.manual_seed(11)
    terms = recipe.losses("main", data, START)
    hook.remove()
    return terms, {k: v.detach() if torch.is_tensor(v) else v for k, v in seen.items()}


@pytest.mark.parametrize("pixel_weight", ["alpha_bar", "none"])
def test_terms_are_eq_7_and_8(files, pixel_weight):
    recipe = start(
        files, "restore", sample_latents=False, decoded=2, mse=3, perceptual=0.5,
        pixel_weight=pixel_weight,
    )  # fmt: skip
    wake(recipe)
    data = batch()
    terms, seen = drawn(recipe, data)
    vae = recipe.backbone.codec.vae.double()
    a = alpha_bar()[seen["t"]].view(-1, 1, 1, 1)
    with torch.no_grad():
        z_0 = torch.cat([vae.encode(data[k].double() * 2 - 1) for k in ("gt", "lq")])
        eps = (seen["z_t"].double() - a.sqrt() * z_0) / (1 - a).sqrt()
        assert eps.mean().abs() < 0.1 and abs(float(eps.std()) - 1) < 0.1
        errors = (seen["eps_hat"].double() - eps) ** 2
        # The mean over both branches is the sum of these.
        assert terms["eps_input"].item() == pytest.approx(float(errors[:3].mean()) / 2, rel=1e-3)
        assert terms["eps_condition"].item() == pytest.approx(
            float(errors[3:].mean() / 2), rel=1e-3
        )

        x_0 = (seen["z_t"].double() - (1 - a).sqrt() * seen["eps_hat"].double()) / a.sqrt()
        restored = (vae.decode(x_0[:2]) + 1) / 2
        weight = a[:2] if pixel_weight == "alpha_bar" else torch.ones_like(a[:2])
        mse = (weight * (restored - data["gt"][:2].double()) ** 2).mean()
        assert terms["mse"].item() == pytest.approx(3 * float(mse), rel=1e-3)
        encoder = recipe.nets["extractor"].double()
        total = 0.0
        for i in range(2):
            x, y = (encoder.features(p[None]) for p in (restored[i], data["gt"][i].double()))
            stages = [float(((f - g) ** 2).mean()) for f, g in zip(x, y, strict=True)]
            total += float(weight[i]) * sum(stages) / len(stages) / 2
    assert terms["perceptual"].item() == pytest.approx(0.5 * total, rel=1e-3)


def test_degradation_denoises_the_lq_and_has_the_gt_as_condition(files):
    recipe = start(files, "degrade", sample_latents=False)
    wake(recipe)
    data = batch()
    terms, seen = drawn(recipe, data)
    assert terms.keys() == {"eps_input", "eps_condition"} and seen["kept"] is None
    vae = recipe.backbone.codec.vae
    a = alpha_bar()[seen["t"]].view(-1, 1, 1, 1).float()
    with torch.no_grad():
        z_0 = torch.cat([vae.encode(data[k] * 2 - 1) for k in ("lq", "gt")])
    eps = (seen["z_t"] - a.sqrt() * z_0) / (1 - a).sqrt()
    total = ((seen["eps_hat"] - eps) ** 2).mean()
    ours = terms["eps_input"] + terms["eps_condition"]
    assert ours.item() == pytest.approx(total.item(), rel=1e-3)


def test_branches_draw_apart_and_dropouts_have_their_shares(files):
    recipe = start(files, "restore", decoded=0, drop_text=0.5, drop_face=0.3)
    recipe.nets["text"] = Words()
    recipe.nets["denoiser"] = Recorder()
    data = {k: v.repeat(40, *[1] * (v.ndim - 1)) for k, v in batch(b=5, size=16).items()}
    data["caption"] = ["a face"] * 200
    recipe.losses("main", data, START)
    z_t, t, text, faces, kept, phi = recipe.nets["denoiser"].args
    assert (t[:200] != t[200:]).float().mean() > 0.95 and t.min() < 60 and t.max() > 940
    assert len(z_t) == 400 and len(faces) == 200 and phi == 1
    assert 0.4 < (text[:, 0, 0] == 6).float().mean() < 0.6, "captions; the others are empty"
    assert set(text.unique().tolist()) == {0, 6}
    assert 0.6 < kept.float().mean() < 0.8
    recipe.config = recipe.config.model_copy(update={"clean_condition": 0.5})
    recipe.losses("main", data, START)
    t = recipe.nets["denoiser"].args[1]
    assert 0.4 < (t[200:] == 0).float().mean() < 0.6 and (t[:200] == 0).float().mean() < 0.05


def test_a_clean_condition_has_no_noise_and_no_error(files):
    recipe = start(files, "degrade", sample_latents=False, clean_condition=1)
    terms, seen = drawn(recipe, batch())
    vae = recipe.backbone.codec.vae
    with torch.no_grad():
        torch.testing.assert_close(seen["z_t"][3:], vae.encode(batch()["gt"] * 2 - 1))
    assert terms["eps_condition"].item() == 0 and terms["eps_input"].item() > 0


def test_v_weighting_is_the_error_of_v(files):
    recipe = start(files, "degrade", sample_latents=False, weighting="v")
    terms, seen = drawn(recipe, batch())
    a = alpha_bar()[seen["t"]].view(-1, 1, 1, 1)
    vae = recipe.backbone.codec.vae.double()
    with torch.no_grad():
        z_0 = torch.cat([vae.encode(batch()[k].double() * 2 - 1) for k in ("lq", "gt")])
    z_t, eps_hat = seen["z_t"].double(), seen["eps_hat"].double()
    eps = (z_t - a.sqrt() * z_0) / (1 - a).sqrt()
    x_hat = (z_t - (1 - a).sqrt() * eps_hat) / a.sqrt()
    v, v_hat = (a.sqrt() * e - (1 - a).sqrt() * x for e, x in ((eps, z_0), (eps_hat, x_hat)))
    total = terms["eps_input"] + terms["eps_condition"]
    assert total.item() == pytest.approx(((v_hat - v) ** 2).mean().item(), rel=1e-3)


class Words(nn.Module):
    """Prompts that say how long the caption is."""

    def forward(self, captions):
        prompts = torch.tensor([float(len(c)) for c in captions])[:, None, None].expand(-1, 5, 12)
        return prompts * torch.tensor([1.0, 1, 1, 1, 0])[:, None]


class Recorder(nn.Module):
    def forward(self, *args):
        self.args = args
        return torch.zeros_like(args[0])


@pytest.mark.parametrize("mode", MODES)
def test_a_few_steps_help_and_the_files_hold_what_was_trained(files, mode):
    recipe, data = start(files, mode, half=True, drop_text=0, name="f"), batch()
    parameters = trainable(recipe.nets["denoiser"])
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

    lora, hubs, *rest = recipe.export(files, {"steps": 25})
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
        fresh = FaceEncoder.from_file(files / "face.safetensors")
        assert (encoder(data["lq"]) - fresh(data["lq"])).abs().max() > 1e-2


def test_look_at_and_denoise_give_what_the_joint_call_gives(files):
    recipe = start(files, "restore")
    wake(recipe)
    denoiser, b = recipe.nets["denoiser"], 2
    z_x, z_y = torch.randn(b, 4, 8, 8), torch.randn(b, 4, 8, 8)
    text, faces = torch.randn(b, 5, 12), torch.randn(b, 16, 5)
    with torch.no_grad():
        prompt = denoiser.prompt(text, faces)
        denoiser.look_at(z_y, prompt)
        cached = denoiser.denoise(z_x, 500, prompt, phi=1.5)
        t = torch.tensor([500, 500, 0, 0])
        joint = denoiser(torch.cat([z_x, z_y]), t, text, faces, None, 1.5)
    torch.testing.assert_close(cached, joint[:b], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(files, mode, folder_of_people):
    def run(name, steps, resume=False):
        values = {
            "output": str(files / name),
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
            "recipe": yaml.safe_load(yaml.safe_dump(plain(values_of(files, mode, merged=True)))),
        }  # fmt: skip
        path = files / f"{name}-{steps}.yaml"
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
def test_one_mode_can_start_from_the_others_files(files, merged):
    degrade = start(files, "degrade", name="d")
    wake(degrade)
    lora, boosthub = degrade.export(files, {})
    chosen = {"lora": lora, "boosthub": boosthub}
    restore = start(files, "restore", start=chosen, merged=merged)
    ours, theirs = restore.nets["denoiser"], degrade.nets["denoiser"]
    assert ours.hubs.config.mode == "restore"
    z, t, text = torch.randn(4, 4, 8, 8), torch.tensor([3, 400, 999, 20]), torch.randn(2, 5, 12)
    with torch.no_grad():
        a, b = (net(z, t, text, None, None, 1.0) for net in (ours, theirs))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert all(p.requires_grad for n, p in ours.named_parameters() if "lora_" in n or "hubs" in n)
    with pytest.raises(CheckpointError, match="another rank"):
        start(files, "restore", start=chosen, rank=3)
    fresh = start(files, "restore", start={"boosthub": boosthub}, lora_layers="all")
    layers = lora_layers(fresh.nets["denoiser"].bare_unet)
    assert any(name.endswith("conv1") for name in layers)
    assert all(p.abs().max() == 0 for n, p in fresh.nets["denoiser"].named_parameters()
               if "lora_B" in n)  # fmt: skip
    for name, value in fresh.nets["denoiser"].hubs.state_dict().items():
        assert torch.equal(value, theirs.hubs.state_dict()[name])
    other = BoostHubs(BoostHubConfig(sites={"mid_block": 8}, dim_head=4))
    other.save(files / "other.safetensors")
    with pytest.raises(CheckpointError, match="1 self-attentions"):
        start(files, "restore", start={"lora": lora, "boosthub": files / "other.safetensors"})


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
        assert (config.batch_size * 8, config.budget.max_steps) == (16, 90000)
        assert config.optimizers["main"].lr == 5e-5
        assert config.recipe.weighting == "eps" and config.recipe.clean_condition == 0
