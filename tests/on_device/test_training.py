"""Two steps, validation, checkpoint and export of every training stage on the device."""

import math

import pytest
import torch

STAGES = [
    "onestep", "honestface", "flipnet-restore", "flipnet-degrade", "vre-hq", "vre-lq",
    "vre-associate", "face-autoencoder", "face-associate",
]  # fmt: skip
FAST = "vre-hq"


def marked(stage):
    return stage if stage == FAST else pytest.param(stage, marks=pytest.mark.slow)


@pytest.mark.parametrize("stage", [marked(s) for s in STAGES])
def test_two_steps_of(stage, tiny, folder_of_people, tmp_path, device, monkeypatch):
    from facewright.training.loop import engine
    from facewright.training.loop.checkpoints import list_checkpoints, read_checkpoint

    monkeypatch.setattr(engine, "draw_curves", lambda output: None)
    config = tiny.run(stage, folder_of_people, tmp_path / "run", trackers=())
    run = engine.Engine(tiny.recipe(stage), config)
    assert run.device.type == device.type and not run.config.cpu
    before = {k: v.detach().cpu().clone() for k, v in weights(run).items()}
    facts = run.run()
    assert facts["finished"] and facts["steps"] == 2
    assert {p.device.type for p in weights(run).values()} == {device.type}
    assert any(not torch.equal(before[k], v.detach().cpu()) for k, v in weights(run).items())
    assert all(v.isfinite().all() for v in weights(run).values())
    assert all(math.isfinite(v) for v in facts["metrics"].values())
    saved = read_checkpoint(list_checkpoints(run.checkpoints)[-1])
    assert saved["step"] == 2


@pytest.mark.parametrize("pixel_weight", ["alpha_bar", "none"])
def test_pixel_terms_of_flipnet_are_where_the_faces_are(tiny, on_cpu, device, pixel_weight):
    def terms(where):
        recipe = tiny.recipe("flipnet-restore", pixel_weight=pixel_weight, perceptual=0)
        torch.manual_seed(0)
        nets = recipe.build() | recipe.frozen()
        recipe.nets, recipe.device = {k: net.to(where) for k, net in nets.items()}, where
        batch = {k: v.to(where) for k, v in tiny.batch("flipnet-restore").items()}
        z = torch.full((2, 4, 8, 8), 0.3).to(where)
        return recipe._pixel_terms(z, z / 3, torch.tensor([0.2, 0.7]).double(), batch)["mse"]

    found = terms(device)
    assert found.device.type == device.type
    wanted = on_cpu(lambda: terms(torch.device("cpu")))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4)


def weights(run):
    return {
        f"{name}.{key}": p
        for name, net in run.bare.items()
        for key, p in net.named_parameters()
        if p.requires_grad
    }
