"""The VRE stages on random pictures: gradients where they belong, and a file the nodes load."""

import json
import math

import pytest
import torch
from facewright.core.errors import CheckpointError
from facewright.core.methods.osdface import VisualRepresentationEmbedder
from facewright.training.loop.engine import Engine
from facewright.training.methods import vre as stage
from facewright.training.recipe import Progress
from safetensors import safe_open

SHAPE = {
    "encoder": {
        "ch": 8,
        "ch_mult": (1, 2),
        "num_res_blocks": 1,
        "attn_levels": (1,),
        "z_channels": 16,
        "groups": 1,
    },
    "num_codes": 32,
    "num_tokens": 9,
    "input_size": 16,
    "proj_hidden": 8,
    "proj_out": 12,
}
COMMON = {
    "shape": SHAPE,
    "perceptual": 0,
    "gan_start": 0.5,
    "gan_ch": 8,
    "gan_layers": 1,
    "gan_norm": "group",
}


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


def run_phase(recipe, phase, data, progress):
    """One phase as the engine runs it: networks of other phases frozen."""
    active = recipe.phases()[phase]
    kept = {name: list(recipe.nets[name].parameters()) for name in recipe.trained}
    trainable = {name: [p.requires_grad for p in ps] for name, ps in kept.items()}
    for name, ps in kept.items():
        for p, on in zip(ps, trainable[name], strict=True):
            p.grad = None
            p.requires_grad_(on and name in active)
    terms = recipe.losses(phase, data, progress)
    if terms is not None:
        torch.stack([*terms.values()]).sum().backward()
    for name, ps in kept.items():
        for p, on in zip(ps, trainable[name], strict=True):
            p.requires_grad_(on)
    return terms


def has_grad(net):
    return any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_each_phase_moves_only_its_own_networks():
    recipe = start(stage.HQRecipe(stage.SingleConfig(**COMMON)))
    data, late = batch(), Progress(step=9, fraction=0.6)
    terms = run_phase(recipe, "autoencoder", data, late)
    assert {"hq_l1", "hq_gan", "hq_vq"} == terms.keys()
    assert has_grad(recipe.nets["hq"]) and not has_grad(recipe.nets["d_hq"])
    terms = run_phase(recipe, "discriminator", data, late)
    assert terms.keys() == {"hq_hinge"}
    assert has_grad(recipe.nets["d_hq"]) and not has_grad(recipe.nets["hq"])


def test_discriminator_waits_for_its_start():
    recipe = start(stage.HQRecipe(stage.SingleConfig(**COMMON)))
    data, early = batch(), Progress(step=0, fraction=0.1)
    assert "hq_gan" not in run_phase(recipe, "autoencoder", data, early)
    assert run_phase(recipe, "discriminator", data, early) is None


def test_gan_term_pulls_as_hard_as_the_reconstruction():
    """|d(gan term)/d(last weight)| = gan * |d(rec)/d(last weight)|: that is the adaptive weight."""
    recipe = start(stage.HQRecipe(stage.SingleConfig(**COMMON, gan=0.5)))
    terms = recipe.losses("autoencoder", batch(), Progress(9, 0.6))
    last = recipe.nets["hq"].decoder.conv_out.weight
    rec, gan = (
        torch.autograd.grad(terms[k], last, retain_graph=True)[0].norm()
        for k in ("hq_l1", "hq_gan")
    )
    assert gan.item() == pytest.approx(0.5 * rec.item(), rel=0.05)


def test_features_are_those_of_the_embedder():
    """Training and inference must tokenise alike, resize included."""
    recipe = start(stage.HQRecipe(stage.SingleConfig(**COMMON)))
    net = recipe.nets["hq"].eval()
    images = torch.rand(2, 3, 40, 40)
    out = net(images)
    embedder = net.without_decoder()
    torch.testing.assert_close(out.features, embedder.encode(images))
    assert out.target.shape == (2, 3, 16, 16) and out.target.min() >= -1


def test_chain_of_stages_exports_an_embedder(tmp_path):
    hq = start(stage.HQRecipe(stage.SingleConfig(**COMMON)))
    (hq_file,) = hq.export(tmp_path, {})
    lq = start(stage.LQRecipe(stage.SingleConfig(**COMMON, init=hq_file)))
    for name, value in hq.nets["hq"].state_dict().items():
        assert torch.equal(value, lq.nets["lq"].state_dict()[name])
    with torch.no_grad():
        lq.nets["lq"].quantize.embedding.weight.add_(1)
    (lq_file,) = lq.export(tmp_path, {})

    both = start(
        stage.AssociateRecipe(stage.AssociateConfig(**COMMON, hq=hq_file, lq=lq_file, name="v"))
    )
    data, progress = batch(), Progress(9, 0.6)
    terms = run_phase(both, "autoencoder", data, progress)
    assert {"hq_l1", "lq_l1", "association"} <= terms.keys()
    assert has_grad(both.nets["hq"].encoder) and has_grad(both.nets["lq"].encoder)
    assert not any(v.requires_grad for v in data.values()), "a graph would outlive the step"
    run_phase(both, "discriminator", data, progress)

    evaluation = both.evaluate([batch(1), batch(2)])
    assert 0 <= evaluation.metrics["retrieval"] <= 1
    assert 1 <= evaluation.metrics["lq_perplexity"] <= evaluation.metrics["lq_codes"] <= 32
    assert all(math.isfinite(v) for v in evaluation.metrics.values())

    *_, embedder_file = both.export(tmp_path, {})
    with pytest.raises(CheckpointError, match="its prompt would be noise"):
        VisualRepresentationEmbedder.from_files(embedder_file)
    vre = VisualRepresentationEmbedder.from_files(embedder_file, untrained=True)
    assert vre.config.double_norm is False
    assert vre(batch()["lq"]).shape == (2, 9, 12)
    assert torch.equal(vre.quantize.embedding.weight, both.nets["lq"].quantize.embedding.weight)
    with safe_open(embedder_file, "pt") as file:
        assert not any(k.startswith("decoder") for k in file.keys())  # noqa: SIM118


def test_training_a_few_steps_fits_and_uses_many_codes():
    config = stage.SingleConfig(
        **{**COMMON, "gan": 0}, codebook_care={"init_step": 3, "revive_every": 5}
    )
    recipe = start(stage.HQRecipe(config))
    assert list(recipe.phases()) == ["autoencoder"]
    data = batch(b=8)
    optimizer = torch.optim.Adam(recipe.nets["hq"].parameters(), 3e-3)
    before = recipe.evaluate([data]).metrics
    for step in range(40):
        run_phase(recipe, "autoencoder", data, Progress(step, step / 40))
        optimizer.step()
        recipe.after_step(Progress(step, step / 40))
    after = recipe.evaluate([data]).metrics
    assert after["hq_psnr"] > before["hq_psnr"] + 1
    assert after["hq_codes"] > 8


def test_a_resumed_run_moves_the_codes_it_would_have_moved(tiny, folder_of_people, tmp_path):
    def trained(output, *steps):
        for i, budget in enumerate(steps):
            care = {"init_step": 1, "revive_every": 3}
            changes = {"budget": {"max_steps": budget}, "checkpoint_every": 100}
            run = tiny.run("vre-hq", folder_of_people, tmp_path / output, **changes)
            Engine(tiny.recipe("vre-hq", codebook_care=care), run).run(resume=i > 0)
        lines = (tmp_path / output / "metrics.jsonl").read_text().splitlines()
        logged = [json.loads(line) for line in lines]
        return {x["step"]: x for x in logged if "held_out" not in x}

    whole, cut = trained("whole", 10), trained("cut", 5, 10)
    assert "hq_moved_codes" in whole[7] and whole[7]["hq_moved_codes"] > 0
    for step in whole:
        assert cut[step]["autoencoder/hq_l1"] == whole[step]["autoencoder/hq_l1"], step
        assert cut[step].get("hq_moved_codes") == whole[step].get("hq_moved_codes"), step
