"""The face autoencoders on random pictures, up to the file the face-token nodes load."""

import math
import re

import pytest
import torch
from facewright.core.checkpoint import read_tensors, save_safetensors
from facewright.core.errors import CheckpointError
from facewright.core.modules.face_encoder import FaceEncoder
from facewright.training.methods import flipnet_faces as stage
from facewright.training.recipe import Progress
from pydantic import ValidationError
from torch import nn

SHAPE = {
    "encoder": {
        "ch": 8,
        "ch_mult": (1, 2),
        "num_res_blocks": 1,
        "attn_levels": (1,),
        "z_channels": 6,
        "groups": 1,
    },
    "input_size": 16,
    "hidden": 8,
    "width": 12,
}
COMMON = {
    "shape": SHAPE,
    "perceptual": 0,
    "gan_start": 0.5,
    "gan_ch": 8,
    "gan_layers": 1,
    "gan_norm": "group",
}
LATE = Progress(9, 0.6)


def batch(seed=0, b=2):
    generator = torch.Generator().manual_seed(seed)
    gt = torch.rand(b, 3, 16, 16, generator=generator)
    return {"gt": gt, "lq": (gt + 0.1 * torch.randn(gt.shape, generator=generator)).clamp(0, 1)}


def start(recipe):
    torch.manual_seed(0)
    nets = recipe.build()
    recipe.trained = tuple(nets)
    recipe.nets = {**recipe.frozen(), **nets}
    return recipe


def single(branch="hq", **changes):
    config = stage.FaceAutoencoderConfig(**{**COMMON, "branch": branch, **changes})
    return start(stage.FaceAutoencoderRecipe(config))


def has_grad(net):
    return any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_the_shape_of_the_paper_is_latent_diffusions_kl_f32():
    with torch.device("meta"):
        net = stage.FaceAutoencoder(stage.FaceShape().to_core())
    assert net.config.num_tokens == 256
    assert net.config.encoder.z_channels == 64 and net.config.width == 1024
    # The checkpoint's own parameter names.
    names = {k.replace("attn_1.norm1", "attn_1.norm") for k in net.state_dict()}
    assert {"encoder.down.5.attn.1.q.weight", "decoder.up.4.attn.2.proj_out.bias",
            "encoder.mid.attn_1.norm.weight", "post_quant_conv.weight"} <= names  # fmt: skip


@pytest.mark.parametrize("branch", ["hq", "lq"])
def test_each_branch_reproduces_its_own_input(branch):
    recipe, data = single(branch), batch()
    assert recipe.needs_lq == (branch == "lq")
    terms = recipe.losses("autoencoder", data, LATE)
    net = recipe.nets[branch]
    x = (data["gt"] if branch == "hq" else data["lq"]) * 2 - 1
    mean = net.quant_conv(net.encoder(x))[:, :6]
    l1 = (net.decoder(net.post_quant_conv(mean)).double() - x).abs().mean()
    assert terms[f"{branch}_l1"].item() == pytest.approx(float(l1.detach()), rel=1e-5)
    assert terms.keys() == {f"{branch}_l1", f"{branch}_gan"}


def test_the_discriminator_phase_moves_the_discriminator_alone():
    recipe, data = single(), batch()
    for phase, moved in (("autoencoder", "hq"), ("discriminator", "d_hq")):
        for name, net in recipe.nets.items():
            net.zero_grad()
            net.requires_grad_(name in recipe.phases()[phase])
        torch.stack([*recipe.losses(phase, data, LATE).values()]).sum().backward()
        assert {name for name, net in recipe.nets.items() if has_grad(net)} == {moved}
    assert "hq_gan" not in recipe.losses("autoencoder", data, Progress(0, 0.1))


def test_the_optional_kl_is_that_of_a_gaussian():
    recipe, data = single(kl=0.25), batch()
    terms = recipe.losses("autoencoder", data, Progress(0, 0.0))
    out = recipe.nets["hq"](data["gt"])
    posterior = torch.distributions.Normal(out.features, (out.logvar / 2).exp())
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    assert terms["hq_kl"].item() == pytest.approx(0.25 * kl.sum((1, 2, 3)).mean().item(), rel=1e-4)


def test_the_chain_exports_a_face_encoder(tmp_path):
    hq = single()
    assert not any(p.requires_grad for p in hq.nets["hq"].adapter.parameters())
    (hq_file,) = hq.export(tmp_path, {})
    lq = single("lq", init=hq_file)
    for name, value in hq.nets["hq"].state_dict().items():
        assert torch.equal(value, lq.nets["lq"].state_dict()[name])
    with torch.no_grad():
        lq.nets["lq"].quant_conv.weight.mul_(1.1)
    (lq_file,) = lq.export(tmp_path, {})

    config = stage.FaceAssociateConfig(**COMMON, hq=hq_file, lq=lq_file, name="f")
    both, data = start(stage.FaceAssociateRecipe(config)), batch()
    terms = both.losses("autoencoder", data, LATE)
    z = [both.nets[b](x).features.double() for b, x in (("hq", data["gt"]), ("lq", data["lq"]))]
    assert terms["association"].item() == pytest.approx(association(*z), rel=1e-4)
    torch.stack([*terms.values()]).sum().backward()
    assert has_grad(both.nets["hq"].encoder) and has_grad(both.nets["lq"].encoder)
    assert not any(v.requires_grad for v in data.values()), "a graph would outlive the step"

    metrics = both.evaluate([batch(1), batch(2)]).metrics
    assert 0 <= metrics["retrieval"] <= 1 and metrics.keys() == {"hq_psnr", "lq_psnr", "retrieval"}

    *_, path = both.export(tmp_path, {"steps": 1})
    with pytest.raises(CheckpointError, match="flipnet-restore exports beside its LoRA"):
        FaceEncoder.from_file(path)
    encoder = FaceEncoder.from_file(path, untrained=True)
    faces = torch.rand(2, 3, 40, 40)
    prepared = both.nets["lq"](faces)
    tokens = prepared.features.flatten(2).transpose(1, 2)
    torch.testing.assert_close(encoder.latents(faces), tokens)
    assert encoder(faces).shape == (2, 64, 12)
    assert not any(k.startswith("decoder") for k in read_tensors(path)[0])


def association(hq, lq):
    """Eq. 6 with loops: per image, each patch against the patches of the other branch."""
    total = []
    for x, y in zip(hq, lq, strict=True):
        x, y = (f.flatten(1).T / f.flatten(1).norm(dim=0)[:, None] for f in (x, y))
        m = (x @ y.T / 0.07).tolist()
        n = len(m)
        for i in range(n):
            row, column = m[i], [m[j][i] for j in range(n)]
            for scores in (row, column):
                total.append(math.log(sum(map(math.exp, scores))) - scores[i])
    return sum(total) / len(total)


def test_training_starts_from_latent_diffusions_file(tmp_path):
    net = single().nets["hq"]
    tensors = {k: v for k, v in net.state_dict().items() if not k.startswith("adapter.")}
    theirs = {re.sub(r"(attn\S*)\.norm1\.", r"\1.norm.", k): v for k, v in tensors.items()}
    assert sum(".norm." in k for k in theirs) == 2 * (1 + 1 + 1 + 2)  # levels and middles
    theirs["loss.logvar"] = torch.zeros(())
    save_safetensors(tmp_path / "ldm.safetensors", theirs, {})
    other = single("lq", init=tmp_path / "ldm.safetensors").nets["lq"]
    for name, value in tensors.items():
        assert torch.equal(value, other.state_dict()[name])
    tensors.pop("quant_conv.weight")
    save_safetensors(tmp_path / "less.safetensors", tensors, {})
    with pytest.raises(CheckpointError, match=r"quant_conv\.weight"):
        single(init=tmp_path / "less.safetensors")


def test_a_file_of_another_shape_and_one_file_for_both_are_refused(tmp_path):
    (path,) = single().export(tmp_path, {})
    with pytest.raises(CheckpointError, match="another shape"):
        single(init=path, shape={**SHAPE, "width": 24})
    with pytest.raises(ValidationError, match="two files"):
        stage.FaceAssociateConfig(**COMMON, hq=path, lq=path)


def test_a_few_steps_help():
    recipe, data = single(gan=0), batch(b=4)
    assert list(recipe.phases()) == ["autoencoder"]
    before = recipe.evaluate([data]).metrics["hq_psnr"]
    net: nn.Module = recipe.nets["hq"]
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        torch.stack([*recipe.losses("autoencoder", data, LATE).values()]).sum().backward()
        optimizer.step()
    assert recipe.evaluate([data]).metrics["hq_psnr"] > before + 1
