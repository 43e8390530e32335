"""What a dry run says, against counts made by hand and what a real run then takes."""

import json
import mmap

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.training.loop.checkpoints import list_checkpoints
from facewright.training.loop.dry_run import dry_run, peak_memory
from facewright.training.loop.engine import Engine
from PIL import Image


def start(tiny, stage, people, output, **changes):
    return Engine(tiny.recipe(stage), tiny.run(stage, people, output, **changes))


def test_onestep_dry_run_counts_what_is_there(tiny, folder_of_people, tmp_path):
    changes = {"budget": {"max_steps": 1000}, "ema": 0.99, "accumulate": 2, "validate_every": 300}
    engine = start(tiny, "onestep", folder_of_people, tmp_path / "run", **changes)
    said = []
    facts = dry_run(engine, 1, tmp_path / "sheet.png", lambda text, share: said.append(share))
    json.dumps(facts)

    # Counted anew by name, on networks that nobody trained.
    recipe = tiny.recipe("onestep")
    nets = recipe.build()
    recipe.trained = tuple(nets)
    generator = nets["generator"]
    lora = [p for n, p in generator.named_parameters() if "lora_" in n]
    found = facts["networks"]["generator"]
    parameters = list(generator.parameters())
    assert found["trained"] == sum(p.numel() for p in parameters if p.requires_grad) > 0
    assert found["lora_modules"] * 2 == len(lora)
    assert found["trained"] + found["frozen"] == sum(p.numel() for p in parameters)
    assert facts["networks"]["codec"]["trained"] == 0 < facts["networks"]["codec"]["frozen"]
    assert facts["networks"].keys() == engine.recipe.nets.keys()

    trained = {name: net["trained"] for name, net in facts["networks"].items()}
    memory = facts["memory"]
    of_phase = {phase: sum(trained[n] for n in names) for phase, names in recipe.phases().items()}
    assert memory["gradients"] == 4 * max(of_phase.values())
    assert memory["ema"] == 4 * of_phase["generator"]
    # AdamW: two moments and a float32 step count for each tensor.
    tensors = sum(len(params) for params in engine.trainable.values())
    assert memory["optimizer"] == 8 * sum(of_phase.values()) + 4 * tensors
    assert memory["total"] >= sum(memory[k] for k in ("weights", "gradients", "optimizer", "ema"))

    assert facts["speed"]["samples_per_step"] == 4  # batches of 2, accumulated twice
    assert facts["budget"]["steps"] == 1000
    assert facts["budget"]["validations"] == 5  # 0, 300, 600, 900, 1000
    assert facts["data"] == {
        "train": {"people": 4, "pictures": 12}, "held_out": {"people": 2, "pictures": 6},
    }  # fmt: skip
    assert all(p["runs"] and p["finite"] for p in facts["phases"].values())
    assert Image.open(tmp_path / "sheet.png").size == (72 + 2 * 32, 2 * 32)  # lq above gt
    assert not (tmp_path / "run").exists()
    assert said == sorted(said) and len(said) == 3


def test_a_dry_run_leaves_a_run_alone_and_foretells_its_checkpoint(
    tiny, folder_of_people, tmp_path
):
    changes = {"budget": {"max_steps": 2}, "ema": 0.9}
    start(tiny, "vre-hq", folder_of_people, tmp_path / "run", **changes).run()
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    facts = dry_run(start(tiny, "vre-hq", folder_of_people, tmp_path / "run", **changes), 1)
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before

    written = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    assert facts["disk"]["checkpoint"] == tensor_bytes(torch.load(written, weights_only=True))
    assert facts["disk"]["kept"] == 3 * facts["disk"]["checkpoint"]  # keep_last 2, and a new one


def tensor_bytes(value):
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        value = list(value.values())
    return sum(map(tensor_bytes, value)) if isinstance(value, list | tuple) else 0


@pytest.mark.parametrize("budget", [{"max_steps": 100}, {"max_minutes": 1}])
def test_what_starts_late_is_at_work(tiny, folder_of_people, tmp_path, budget):
    recipe = tiny.recipe("face-autoencoder", gan_start=0.95)
    config = tiny.run("face-autoencoder", folder_of_people, tmp_path / "run", budget=budget)
    facts = dry_run(Engine(recipe, config), 1)
    assert facts["phases"]["discriminator"]["runs"]
    # A run of two steps ends before it: half of its budget is spent when the last step begins.
    config = tiny.run(
        "face-autoencoder", folder_of_people, tmp_path / "run", budget={"max_steps": 2}
    )
    facts = dry_run(Engine(tiny.recipe("face-autoencoder", gan_start=0.95), config), 1)
    assert facts["phases"]["autoencoder"]["runs"]
    assert not facts["phases"]["discriminator"]["runs"]


@pytest.mark.parametrize(
    "stage",
    [
        "flipnet-restore",
        *(
            pytest.param(stage, marks=pytest.mark.slow)
            for stage in ("honestface", "flipnet-degrade", "vre-associate", "face-associate")
        ),
    ],
)
def test_other_stages(tiny, folder_of_people, tmp_path, stage):
    facts = dry_run(start(tiny, stage, folder_of_people, tmp_path / "run"), 1)
    assert all(phase["runs"] for phase in facts["phases"].values())
    assert not (tmp_path / "run").exists()


def test_too_little_memory_is_a_sentence(tiny, folder_of_people, tmp_path, monkeypatch):
    engine = start(tiny, "vre-hq", folder_of_people, tmp_path / "run")

    def no_room(*args):
        raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB")

    monkeypatch.setattr(engine.recipe, "losses", no_room)
    with pytest.raises(FacewrightError, match=r"2.00 GiB.*gradient_checkpointing"):
        dry_run(engine, 1)


def test_peak_sees_what_is_gone_again():
    with peak_memory(torch.device("cpu")) as peak:
        held = mmap.mmap(-1, 64 * 2**20)  # fresh, which an allocator's memory may not be
        held.write(b"x" * 64 * 2**20)
        during = peak()
        held.close()
        assert peak() >= during > 50 * 2**20
