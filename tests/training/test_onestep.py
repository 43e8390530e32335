"""The one-step stage: the same recipe on a tiny nano pair and on an SD-like net at 512 px."""

import copy
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml
from facewright.core.checkpoint import make_metadata, read_tensors, save_safetensors
from facewright.core.diffusion.backbone import DiffusersBackbone, Model
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.diffusion.vae import Vae
from facewright.core.lora.merge import merge_lora
from facewright.core.methods.osdface import VisualRepresentationEmbedder, VREConfig
from facewright.core.modules.autoencoder import AutoencoderConfig, AutoencoderKL
from facewright.core.modules.identity import IdentityConfig, IdentityEncoder
from facewright.core.modules.iresnet import IResNet
from facewright.core.restorer import restore_one_step
from facewright.training import methods
from facewright.training._lora import LORA_TARGETS, MergedCall, add_lora, lora_layers
from facewright.training.losses.latent_discriminator import LatentDiscriminator
from facewright.training.methods.onestep import OneStepConfig, OneStepRecipe
from facewright.training.recipe import Progress
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
    ch=4, ch_mult=(1, 2), num_res_blocks=1, attn_levels=(), mid_attn=False, z_channels=4, groups=1
)


def vre_file(path, proj_out, input_size=16, num_tokens=5):
    encoder = AutoencoderConfig(
        ch=4, ch_mult=(1, 2), num_res_blocks=1, attn_levels=(), z_channels=8, groups=1
    )
    config = VREConfig(
        encoder=encoder,
        num_codes=16,
        num_tokens=num_tokens,
        input_size=input_size,
        proj_hidden=8,
        proj_out=proj_out,
        double_norm=False,
    )
    VisualRepresentationEmbedder(config).save(path)
    return path


def random_unet():
    torch.manual_seed(1)
    return diffusers_classes()[0](**UNET)


@pytest.fixture
def files(tmp_path):
    torch.manual_seed(0)
    unet, vae = random_unet(), AutoencoderKL(VAE)
    config = {k: v for k, v in unet.config.items() if not k.startswith("_")}
    save_safetensors(
        tmp_path / "unet.safetensors", unet.state_dict(), make_metadata("nano-unet", config)
    )
    save_safetensors(
        tmp_path / "vae.safetensors", vae.state_dict(), make_metadata("nano-vae", asdict(VAE))
    )
    IdentityEncoder(IdentityConfig(ch=(8, 8, 8), dim=8, input_size=16)).save(
        tmp_path / "identity.safetensors"
    )
    vre_file(tmp_path / "vre.safetensors", 12)
    return tmp_path


def config_of(files: Path, **changes):
    nano = {"kind": "nano", "path": files / "identity.safetensors"}
    values = {
        "backbone": {
            "source": "nano",
            "unet": files / "unet.safetensors",
            "vae": files / "vae.safetensors",
        },
        "vre": files / "vre.safetensors",
        "rank": 2,
        "alpha": 2,
        "extractor": nano,
        "recogniser": {**nano, "crop": "full"},
        "discriminator": {"rank": 2, "hidden": 32},
        "metric_encoder": files / "identity.safetensors",
    }
    return OneStepConfig(**{**values, **changes})


def start(config):
    torch.manual_seed(0)
    recipe = OneStepRecipe(config)
    nets = recipe.build()
    recipe.trained = tuple(nets)
    frozen = recipe.frozen()
    for net in frozen.values():
        net.requires_grad_(False).eval()
    recipe.nets = {**frozen, **nets}
    return recipe


def batch(b=2, size=32):
    generator = torch.Generator().manual_seed(3)
    gt = torch.rand(b, 3, size, size, generator=generator)
    lq = (gt + 0.2 * torch.randn(gt.shape, generator=generator)).clamp(0, 1)
    return {"gt": gt, "lq": lq, "box": torch.tensor([[4.0, 4.0, 27.0, 27.0]] * b)}


def trainable(net):
    return {n: p for n, p in net.named_parameters() if p.requires_grad}


def step(recipe, phase, data, progress):
    active = recipe.phases()[phase]
    kept = {name: list(trainable(recipe.nets[name]).values()) for name in recipe.trained}
    for name, parameters in kept.items():
        for p in parameters:
            p.grad = None
            p.requires_grad_(name in active)
    terms = recipe.losses(phase, data, progress)
    torch.stack([*terms.values()]).sum().backward()
    grads = {
        name: [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in parameters]
        for name, parameters in kept.items()
    }
    for parameters in kept.values():
        for p in parameters:
            p.requires_grad_(True)
    return terms, grads


def test_lora_has_the_published_size_at_sd21_shape():
    """14 kinds of layers at rank 16: 278 modules, 16.94 M; discriminator 6.88 M and 52.48 M."""
    with torch.device("meta"):
        unet = diffusers_classes()[0](
            sample_size=64,
            cross_attention_dim=1024,
            attention_head_dim=(5, 10, 20, 20),
            use_linear_projection=True,
        )
        judge = LatentDiscriminator(copy.deepcopy(unet))
        add_lora(unet, 16, 16)
    assert len(LORA_TARGETS) == 14 and len(lora_layers(unet)) == 278
    assert sum(p.numel() for p in trainable(unet).values()) == 16_944_128
    sizes = {k: p.numel() for k, p in trainable(judge).items()}
    head = sum(n for k, n in sizes.items() if k.startswith("head"))
    assert (sum(sizes.values()) - head, head) == (6_875_136, 52_477_441)


def test_merged_call_equals_the_adapters_and_their_gradients():
    unet = random_unet()
    add_lora(unet, 2, 6)
    for name, p in trainable(unet).items():
        if "lora_B" in name:
            nn.init.normal_(p, 0, 0.1)
    merged = MergedCall(copy.deepcopy(unet))
    z, cond = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 12)
    outputs = [net(z, 399, encoder_hidden_states=cond).sample for net in (unet, merged)]
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
    for out in outputs:
        out.square().sum().backward()
    ours = {k.removeprefix("module."): p.grad for k, p in trainable(merged).items()}
    theirs = {k: p.grad for k, p in trainable(unet).items()}
    assert ours.keys() == theirs.keys()
    for name, grad in theirs.items():
        torch.testing.assert_close(ours[name], grad, rtol=1e-3, atol=1e-4)


def test_discriminator_is_the_unets_own_encoder():
    unet, z, cond = random_unet(), torch.randn(2, 4, 8, 8), torch.randn(2, 5, 12)
    seen = []
    unet.mid_block.register_forward_hook(lambda *a: seen.append(a[-1]))
    t = torch.tensor([10, 700])
    unet(z, t, encoder_hidden_states=cond)
    judge = LatentDiscriminator(copy.deepcopy(unet), rank=2, hidden=32)
    torch.testing.assert_close(judge.encoder(z, t, cond), seen[0], rtol=1e-4, atol=1e-5)
    assert "up_blocks" not in " ".join(judge.state_dict())


@pytest.mark.parametrize("merged", [False, True])
def test_each_phase_moves_only_its_own_network(files, merged):
    recipe = start(config_of(files, merged=merged))
    data = batch()
    terms, grads = step(recipe, "generator", data, Progress(0, 0.0))
    assert terms.keys() == {"mse", "perceptual", "identity", "gan"}
    assert any(grads["generator"]) and not any(grads["discriminator"])
    terms, grads = step(recipe, "discriminator", data, Progress(0, 0.0))
    assert any(grads["discriminator"]) and not any(grads["generator"])
    assert not any(torch.is_tensor(v) and v.requires_grad for v in data.values())


def test_only_lora_and_projection_are_trained(files):
    recipe = start(config_of(files))
    names = trainable(recipe.nets["generator"]).keys()
    assert names and all("lora_" in n or n.startswith("embedding_change.") for n in names)
    assert sum(n.startswith("embedding_change.") for n in names) == 4


def test_the_discriminator_starts_when_told_and_its_weight_ramps(files):
    weights = {"gan": 0.1}
    d = {"rank": 2, "hidden": 32, "start": 0.5, "ramp": 0.2}
    recipe = start(config_of(files, weights=weights, discriminator=d))
    terms, _ = step(recipe, "generator", batch(), Progress(0, 0.4))
    assert "gan" not in terms
    assert recipe.losses("discriminator", batch(), Progress(0, 0.4)) is None
    assert recipe._adversarial(Progress(0, 0.6)) == pytest.approx(0.05)
    assert recipe._adversarial(Progress(0, 0.9)) == pytest.approx(0.1)


def test_plain_terms_are_what_their_names_say(files):
    weights = {"mse": 2, "perceptual": 0, "identity": 0, "gan": 0, "l1": 3, "latent": 5}
    recipe = start(config_of(files, weights=weights, sample_latents=False))
    data = batch()
    terms = recipe.losses("generator", data, Progress(0, 0.0))
    restored = recipe.restore(data).double()
    assert terms.keys() == {"mse", "l1", "latent"}
    vae = recipe.backbone.codec.vae
    with torch.no_grad():
        z_0, _ = recipe.nets["generator"](*recipe._inputs(data, sample=False))
        restored = (vae.decode(z_0).double() + 1) / 2
        z_gt = vae.encode(data["gt"] * 2 - 1)
    error = restored - data["gt"]
    assert terms["mse"].item() == pytest.approx(2 * float((error**2).mean()), rel=1e-5)
    assert terms["l1"].item() == pytest.approx(3 * float(error.abs().mean()), rel=1e-5)
    assert terms["latent"].item() == pytest.approx(5 * float(((z_0 - z_gt) ** 2).mean()), rel=1e-5)


@pytest.mark.parametrize("merged", [False, True])
def test_a_few_steps_help_and_the_exported_files_restore_the_same(files, merged):
    """Export -> merge the LoRA into the base -> core's restore equals the trainer's restore."""
    weights = {"perceptual": 0, "identity": 0, "gan": 0}
    config = config_of(files, merged=merged, weights=weights, sample_latents=False, alpha=6)
    recipe, data = start(config), batch()
    optimizer = torch.optim.Adam(trainable(recipe.nets["generator"]).values(), 4e-3)
    losses = []
    for i in range(12):
        terms, _ = step(recipe, "generator", dict(data), Progress(i, 0.0))
        optimizer.step()
        losses.append(terms["mse"].item())
    assert losses[-1] < 0.95 * losses[0]

    recipe.nets["generator"].eval()
    with torch.no_grad():
        expected = recipe.restore(data)
    evaluation = recipe.evaluate([data])
    assert {"lq/psnr", "restored/ssim", "VAE(gt)/identity"} <= evaluation.metrics.keys()
    assert evaluation.images["restored"].shape == data["gt"].shape

    lora_file, embedder_file = recipe.export(files, {"steps": 12})
    lora, metadata = read_tensors(lora_file)
    assert (metadata["rank"], metadata["base"], metadata["method"]) == ("2", "unet", "osdface")
    unet = random_unet()
    base = unet.state_dict()
    report = merge_lora(base, lora, metadata=metadata)
    assert not report.unused and len(report.applied) == len(lora_layers(recipe.backbone.unet))
    unet.load_state_dict(base)
    vae = Vae(recipe.backbone.codec.vae)
    backbone = DiffusersBackbone(Model(unet.eval(), unet.config, "nano", 1.0), vae)
    embedder = VisualRepresentationEmbedder.from_files(embedder_file)
    restored, _ = restore_one_step(data["lq"], embedder(data["lq"]), backbone)
    torch.testing.assert_close(restored, expected, rtol=1e-4, atol=1e-4)


def test_lora_tensors_carry_diffusers_paths(files):
    recipe = start(config_of(files))
    keys = read_tensors(recipe.export(files, {})[0])[0]
    assert "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0.lora_A.weight" in keys
    assert "unet.down_blocks.0.resnets.0.conv1.lora_B.weight" in keys


@pytest.mark.slow
def test_the_published_config_trains_an_sd_like_net_at_512_px(tmp_path):
    """onestep_paper.yaml as shipped, on a shallow random UNet and VAE and a folder of pictures."""
    from facewright.training.train import train
    from PIL import Image

    torch.manual_seed(0)
    (tmp_path / "faces").mkdir()
    for i in range(4):
        noise = (torch.rand(16, 16, 3) * 255).byte().numpy()
        Image.fromarray(noise).resize((512, 512)).save(tmp_path / "faces" / f"{i}.png")
    vre_file(tmp_path / "vre.safetensors", 1024, input_size=32)
    torch.save(IResNet((2, 2, 2, 2)).state_dict(), tmp_path / "backbone.pth")
    IdentityEncoder(IdentityConfig(ch=(8, 8), dim=8)).save(tmp_path / "features.safetensors")

    shipped = Path(methods.__path__[0]).parent / "configs" / "onestep_paper.yaml"
    values = yaml.safe_load(shipped.read_text())
    values |= {"output": str(tmp_path / "run"), "budget": {"max_steps": 2}, "cpu": True}
    values["data"] |= {"folder": str(tmp_path / "faces"), "workers": 0, "held_out": 0.25}
    values["recipe"] |= {
        "backbone": {"source": "random"},
        "vre": str(tmp_path / "vre.safetensors"),
        "extractor": {"kind": "nano", "path": str(tmp_path / "features.safetensors")},
        "recogniser": {"path": str(tmp_path / "backbone.pth")},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    facts = train("onestep", path)
    assert facts["steps"] == 2 and facts["finished"]
    assert {Path(f).name for f in facts["files"]} == {
        "onestep_lora.safetensors", "onestep_vre.safetensors"
    }  # fmt: skip
    lora, metadata = read_tensors(tmp_path / "run" / "export" / "onestep_lora.safetensors")
    assert metadata["rank"] == "16" and all(torch.isfinite(v).all() for v in lora.values())
