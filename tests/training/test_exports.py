"""What runs export: told apart by metadata, taken by every loader, and had from a stopped run."""

import json

import pytest
import torch
from facewright.core.checkpoint import CONFIG_KEY, FORMAT_KEY, read_metadata, read_tensors
from facewright.core.errors import CheckpointError
from facewright.core.faces import dense_landmarker, load_analyzer
from facewright.core.lora.merge import merge_lora, parse_lora
from facewright.core.methods.flipnet import BoostHubs
from facewright.core.methods.honestface import IdentityEmbedder
from facewright.core.methods.osdface import VisualRepresentationEmbedder
from facewright.core.modules.face_encoder import FaceEncoder
from facewright.core.modules.identity import IdentityEncoder
from facewright.core.people.recogniser import load_recogniser
from facewright.training._lora import add_lora, lora_layers, save_lora
from facewright.training.export import export_run
from facewright.training.loop.checkpoints import list_checkpoints
from facewright.training.loop.engine import Engine
from facewright.training.methods.flipnet_faces import FaceAutoencoder
from facewright.training.methods.vre import VQAutoencoder
from facewright.training.settings.config import ConfigError

STAGES = (
    *("onestep", "honestface", "flipnet-restore", "flipnet-degrade"),
    *("vre-hq", "vre-lq", "vre-associate", "face-autoencoder", "face-associate"),
)
FACTS = {"stage": "any", "steps": 3}


@pytest.mark.parametrize("stage", STAGES)
def test_every_file_tells_its_training_and_loads(tiny, stage, tmp_path):
    recipe = tiny.start(stage)
    files = recipe.export(tmp_path, FACTS)
    assert files
    names = {s.partition("=")[2].replace("{name}", "") for s in recipe.settings} - {"none"}
    name = getattr(recipe.config, "name", None)
    if recipe.workflow:
        assert {f.name.removeprefix(name) for f in files} == names
    for path in files:
        metadata = read_metadata(path)
        assert json.loads(metadata["facewright.training"]) == FACTS
        if FORMAT_KEY in metadata:
            assert json.loads(metadata[CONFIG_KEY])
            load(path, metadata[FORMAT_KEY], recipe)
        else:
            assert metadata["method"] == recipe.method and metadata["base"] == "unet"
            assert {w.rank for w in parse_lora(*read_tensors(path)).values()} == {2}


def load(path, kind, recipe):
    """As the nodes do."""
    if kind == "honestface-ide":
        embedder = recipe.config.embedder
        IdentityEmbedder.from_file(
            path,
            recogniser=load_recogniser(embedder.recogniser),
            extractor=IdentityEncoder.from_file(embedder.recogniser),
            landmarker=dense_landmarker(load_analyzer("nano")),
        )
        return
    {
        "osdface-vre": lambda p: VisualRepresentationEmbedder.from_files(p, untrained=True),
        "osdface-vq-autoencoder": VQAutoencoder.read,
        "flipnet-boosthub": BoostHubs.from_file,
        "flipnet-face-encoder": lambda p: FaceEncoder.from_file(p, untrained=True),
        "flipnet-face-autoencoder": FaceAutoencoder.read,
    }[kind](path)


@pytest.fixture
def lora(tiny, tmp_path):
    """A file with a LoRA on every layer of the tiny UNet, and alpha other than the rank."""
    torch.manual_seed(1)
    unet = tiny.flip.unet()
    add_lora(unet, 2, 5)
    for layer in lora_layers(unet).values():
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.3)
    path = tmp_path / "x_lora.safetensors"
    save_lora(path, unet, base="unet", dtype=torch.float32, facts={})
    return path


def ask(unet):
    torch.manual_seed(2)
    z, cond = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 12)
    with torch.no_grad():
        return unet.eval()(z, 399, encoder_hidden_states=cond).sample


def ours(tiny, path):
    torch.manual_seed(1)
    unet = tiny.flip.unet()
    plain = ask(unet)
    tensors, metadata = read_tensors(path)
    merge_lora(unet.state_dict(), tensors, 1.0, metadata)
    merged = ask(unet)
    assert (merged - plain).abs().max() > 0.05
    return merged


def theirs(tiny):
    torch.manual_seed(1)
    return tiny.flip.unet()


def test_diffusers_own_loader_gives_the_same_unet(tiny, lora):
    unet = theirs(tiny)
    unet.load_lora_adapter(lora.parent, weight_name=lora.name, prefix="unet")
    torch.testing.assert_close(ask(unet), ours(tiny, lora), rtol=1e-3, atol=1e-4)


def test_a_pipelines_loader_gives_the_same_unet(tiny, lora):
    from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin as Pipeline

    unet = theirs(tiny)
    state, alphas, metadata = Pipeline.lora_state_dict(
        str(lora.parent), weight_name=lora.name, return_lora_metadata=True
    )
    Pipeline.load_lora_into_unet(state, alphas, unet, metadata=metadata)
    torch.testing.assert_close(ask(unet), ours(tiny, lora), rtol=1e-3, atol=1e-4)


@pytest.fixture
def stopped(tiny, folder_of_people, tmp_path, monkeypatch):
    """A run of six steps that was killed after four, with its engine as it was then."""
    recipe = tiny.recipe("vre-hq")
    config = tiny.run(
        "vre-hq", folder_of_people, tmp_path / "run", recipe=recipe.config,
        budget={"max_steps": 6}, checkpoint_every=2, validate_every=2, ema=0.5,
    )  # fmt: skip
    engine = Engine(recipe, config)
    train_step = engine.train_step

    def step(*args):
        if engine.step == 4:
            raise KeyboardInterrupt
        train_step(*args)

    monkeypatch.setattr(engine, "train_step", step)
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    return engine


def test_a_stopped_run_exports_its_averaged_weights(stopped, tmp_path):
    run = stopped.config.output
    assert not (run / "export").exists()
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    (path,) = export_run(run, tmp_path / "out")
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before

    with stopped.averaged():
        (expected,) = stopped.recipe.export(tmp_path, FACTS)
    tensors, metadata = read_tensors(path)
    averaged, _ = read_tensors(expected)
    assert all(torch.equal(tensors[k], averaged[k]) for k in averaged | tensors)
    raw = stopped.bare["hq"].state_dict()
    assert any(not torch.equal(tensors[k], raw[k]) for k in tensors)

    facts = json.loads(metadata["facewright.training"])
    assert (facts["stage"], facts["steps"], facts["finished"]) == ("vre-hq", 4, False)
    assert facts["metrics"].keys() == {"hq_psnr", "hq_codes", "hq_perplexity", "hq_codes_per_image"}
    assert facts["data"]["train"]["pictures"] == 12 and len(facts["data"]["train"]["sha256"]) == 64
    assert str(tmp_path) not in metadata["facewright.training"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "**The training was not finished**" in card and "| step 0 | step 4 |" in card


def test_a_moved_run_whose_data_are_gone_is_exported_all_the_same(
    stopped, folder_of_people, tmp_path
):
    folder_of_people.rename(tmp_path / "elsewhere")
    moved = stopped.config.output.rename(tmp_path / "moved")
    (path,) = export_run(moved)
    assert path.parent == moved / "export"
    facts = json.loads(read_metadata(path)["facewright.training"])
    assert facts["data"] == {"source": "folder"}
    # In whole precision, whatever it was trained in; what is told is how it was trained.
    assert facts["config"]["precision"] == "no" and facts["config"]["ema"] == 0.5


def test_a_finished_run_names_no_folder_in_its_exports(tiny, folder_of_people, tmp_path):
    recipe = tiny.recipe("vre-hq")
    config = tiny.run("vre-hq", folder_of_people, tmp_path / "run", recipe=recipe.config)
    facts = Engine(recipe, config).run()
    for file in facts["files"]:
        assert str(tmp_path) not in json.dumps(read_metadata(file))
    card = tmp_path / "run" / "export" / "README.md"
    assert str(tmp_path) not in card.read_text()


def test_what_is_no_run_is_refused_in_words(tmp_path):
    with pytest.raises(ConfigError, match="holds no run that can be exported"):
        export_run(tmp_path)
    (tmp_path / "config.yaml").write_text("{}")
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "step-00000001.pt"
    torch.save({"stage": "nothing"}, path)
    with pytest.raises(CheckpointError, match=r"no training state of .*: step, images"):
        export_run(tmp_path)
    numbers = dict.fromkeys(("step", "images", "spent", "cpu_spent"), 1)
    state = {"nets": {}, "optimizers": {}, "rng": [], "extra": {}}
    torch.save({"stage": "nothing", **numbers, **state}, path)
    assert list_checkpoints(tmp_path / "checkpoints")
    with pytest.raises(ConfigError, match="stage `nothing`, which this version lacks"):
        export_run(tmp_path)
