"""Controls of the prompt: what each is, that it trains, and that its files restore the same."""

import pytest
import torch
from facewright.core.checkpoint import read_tensors, save_safetensors
from facewright.core.diffusion.backbone import DiffusersBackbone, Model
from facewright.core.diffusion.vae import Vae
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.lora.merge import merge_lora
from facewright.core.methods.osdface import VisualRepresentationEmbedder, other_tokens
from facewright.core.restorer import restore_one_step
from facewright.training.loop.engine import Engine
from facewright.training.methods import onestep
from facewright.training.methods.vre import VQAutoencoder, load_embedder
from facewright.training.recipe import Progress
from facewright.training.settings.config import load_config

CONTROLS = ("vre", "learned", "zeros", "shuffled")
PLAIN = {"perceptual": 0, "identity": 0, "gan": 0, "features": 0}


def start(tiny, prompt, **changes):
    return tiny.start("onestep", prompt=prompt, weights=PLAIN, sample_latents=False, **changes)


def trained(tiny, prompt, steps=6, lr=1e-2):
    recipe, seen = start(tiny, prompt), []
    net = recipe.nets["generator"].train()
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr)
    for i in range(steps):
        terms = recipe.losses("generator", tiny.batch("onestep"), Progress(i, 0.0))
        torch.stack([*terms.values()]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(terms["mse"].item())
    net.eval()
    return recipe, seen


def prompts(recipe, data):
    with torch.no_grad():
        return recipe.nets["generator"](*recipe._inputs(data, sample=False))[1]


@pytest.mark.parametrize("prompt", CONTROLS)
def test_a_control_trains_and_its_files_restore_the_same(tiny, tmp_path, prompt):
    recipe, seen = trained(tiny, prompt)
    assert seen[-1] < seen[0]
    data = tiny.batch("onestep")
    with torch.no_grad():
        expected, cond = recipe.restore(data), prompts(recipe, data)
    lora, embedder = recipe.export(tmp_path, {})
    vre = VisualRepresentationEmbedder.from_files(embedder)
    assert vre.config.prompt == prompt
    torch.testing.assert_close(vre(data["lq"]), cond)
    torch.testing.assert_close(vre.embed(vre.select(data["lq"]).tokens), cond)  # as the node does
    unet = recipe.backbone.unet  # a fresh one, the LoRA merged into it
    base = {
        k.replace(".base_layer.", "."): v.clone()
        for k, v in unet.state_dict().items()
        if ".lora_" not in k
    }
    merge_lora(base, *[read_tensors(lora)[0]], 1.0, read_tensors(lora)[1])
    plain = tiny.flip.unet()
    plain.load_state_dict(base)
    backbone = DiffusersBackbone(
        Model(plain.eval(), plain.config, "nano", 1.0), Vae(recipe.backbone.codec.vae)
    )
    restored, _ = restore_one_step(data["lq"], vre(data["lq"]), backbone)
    torch.testing.assert_close(restored, expected, rtol=1e-4, atol=1e-4)


def test_learned_and_zero_prompts_do_not_see_the_picture(tiny):
    other = {**tiny.batch("onestep"), "lq": torch.rand(2, 3, 32, 32)}
    own = start(tiny, "vre")
    assert not torch.equal(prompts(own, tiny.batch("onestep")), prompts(own, other))
    for prompt in ("learned", "zeros"):
        recipe = start(tiny, prompt)
        cond = prompts(recipe, tiny.batch("onestep"))
        assert torch.equal(cond, prompts(recipe, other)) and torch.equal(cond[0], cond[1])
        assert cond.shape == (2, 5, 12) and bool(cond.any()) == (prompt == "learned")
        names = [n for n, p in recipe.nets["generator"].named_parameters() if p.requires_grad]
        extra = [n for n in names if "lora_" not in n]
        assert extra == (["embedding_change.tokens"] if prompt == "learned" else [])


def test_the_learned_prompt_learns(tiny):
    before = prompts(start(tiny, "learned"), tiny.batch("onestep"))
    after = prompts(trained(tiny, "learned")[0], tiny.batch("onestep"))
    assert (after - before).abs().max() > 1e-3


def test_shuffled_gives_the_tokens_of_other_pictures(tiny):
    """A picture a step: each is told what an earlier one was, and never what it is itself."""
    recipe = start(tiny, "shuffled")
    vre = recipe.nets["vre"]
    recipe.nets["generator"].train()
    earlier = []
    for i in range(6):
        torch.manual_seed(i)
        lq = torch.rand(1, 3, 32, 32)
        own = vre.tokenize(lq)
        rows = recipe._rows({"lq": lq})
        assert not torch.equal(rows, vre.quantize.lookup(own))
        among = [torch.equal(rows, vre.quantize.lookup(t)) for t in earlier]
        assert any(among) if earlier else not rows.any()
        earlier.append(own)
    assert torch.equal(recipe.others.codes, torch.cat(earlier))
    recipe.nets["generator"].eval()
    again = recipe._rows({"lq": lq})
    assert torch.equal(again, recipe._rows({"lq": lq}))
    chosen = earlier[int(own.sum()) % 6]
    assert torch.equal(again, vre.quantize.lookup(chosen))


def test_the_others_of_a_batch_are_its_neighbours_at_first_and_no_more_are_kept_than_told(tiny):
    recipe = start(tiny, "shuffled")
    tokens = torch.arange(15).view(3, 5)
    assert recipe.others.drawn(tokens).tolist() == tokens.roll(1, 0).tolist()
    for _ in range(40):
        drawn = recipe.others.drawn(tokens + 1)
    assert recipe.others.codes.shape == (64, 5) and drawn.shape == (3, 5)
    state = recipe.extra_state()
    other = start(tiny, "shuffled")
    other.load_extra_state(state)
    assert torch.equal(other.others.codes, recipe.others.codes)
    assert start(tiny, "vre").extra_state() == {}


def test_other_tokens_is_its_formula():
    tokens, others = torch.tensor([[3, -1, 4], [0, 0, 1]]), torch.arange(12).view(4, 3)
    expected = [others[(3 - 1 + 4) % 4].tolist(), others[1].tolist()]
    assert other_tokens(tokens, others).tolist() == expected
    assert (other_tokens(tokens, others[:0]) == -1).all()


def test_dape_reads_the_tags_beside_the_pictures(tiny, tmp_path, monkeypatch, flipnet_setup):
    monkeypatch.setattr(onestep, "TextEncoder", lambda folder: flipnet_setup.Words())
    recipe = start(tiny, "dape", text=tmp_path)
    data = {**tiny.batch("onestep"), "caption": ["hat", "a beard"]}
    cond = prompts(recipe, data)
    assert cond[:, 0, 0].tolist() == [3, 7]
    with pytest.raises(FacewrightError, match=r"data\.captions: true"):
        recipe.restore(tiny.batch("onestep"))
    (lora,) = recipe.export(tmp_path, {})
    assert lora.name == "onestep_lora.safetensors"
    assert recipe.workflow == "" and len(recipe.settings) == 1
    assert "no embedder" in recipe.remarks[0]
    assert onestep.OneStepRecipe.workflow  # of other runs


def test_what_makes_no_sense_is_refused_in_a_sentence(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"SeeSR's code on the degraded pictures"):
        tiny.recipe("onestep", prompt="dape")
    with pytest.raises(ValueError, match="leave it out"):
        tiny.recipe("onestep", text=tmp_path)
    with pytest.raises(ValueError, match="prompt"):
        tiny.recipe("honestface", prompt="zeros")
    _, control = trained(tiny, "zeros", steps=1)[0].export(tmp_path, {})
    for stage in ("onestep", "honestface"):
        with pytest.raises(CheckpointError, match=r"`prompt: zeros`.*own tokens"):
            tiny.recipe(stage, vre=control).build()
    honest = tiny.start("honestface")
    data = tiny.batch("honestface")
    vre = VisualRepresentationEmbedder.from_files(control)
    with pytest.raises(CheckpointError, match="HonestFace needs"):
        honest.ide.condition(vre, data["lq"], honest.look_at(data))


def test_a_file_whose_other_pictures_are_none_of_its_dictionary_is_refused(tiny, tmp_path):
    _, path = trained(tiny, "shuffled", steps=1)[0].export(tmp_path, {})
    tensors, metadata = read_tensors(path)
    tensors["others"][0, 0] = 16
    save_safetensors(path, tensors, metadata)
    with pytest.raises(CheckpointError, match="dictionary of 16 lacks"):
        VisualRepresentationEmbedder.from_files(path)


def test_an_embedder_that_was_never_associated_is_read_from_its_autoencoder(tiny):
    path = tiny.folder / "vq_lq.safetensors"
    vre, within = load_embedder(path), VQAutoencoder.read(path)
    assert type(vre) is VisualRepresentationEmbedder
    lq = torch.rand(2, 3, 16, 16)
    features = within.eval()(lq).features
    torch.testing.assert_close(vre.encode(lq), features)
    assert not any(p.requires_grad for p in vre.parameters())
    recipe = tiny.start("onestep", vre=path)
    assert recipe.losses("generator", tiny.batch("onestep"), Progress(0, 0.0))


@pytest.mark.parametrize("prompt", ["learned", "shuffled"])
def test_a_stopped_run_goes_on_with_the_same_prompts(tiny, folder_of_people, tmp_path, prompt):
    def run(name, steps, resume=False):
        recipe = tiny.recipe("onestep", prompt=prompt, weights=PLAIN)
        config = tiny.run(
            "onestep", folder_of_people, tmp_path / name, recipe=recipe.config,
            budget={"max_steps": steps}, checkpoint_every=1, optimizers={"generator": {"lr": 1e-2}},
        )  # fmt: skip
        Engine(recipe, config).run(resume=resume)
        embedder = VisualRepresentationEmbedder.from_files(
            tmp_path / name / "export" / "onestep_vre.safetensors"
        )
        return embedder.state_dict()

    run("parts", 1)
    parts, whole = run("parts", 3, resume=True), run("whole", 3)
    key = "learned" if prompt == "learned" else "others"
    assert parts[key].any()
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_a_shipped_config_takes_each_control_by_one_line():
    config = "package:training/configs/onestep_paper.yaml"
    for prompt in CONTROLS:
        read = load_config(config, onestep.OneStepConfig, [f"recipe.prompt={prompt}"])
        assert read.recipe.prompt == prompt
