import dataclasses

import pytest
import torch
from facewright.core.diffusion.source import DiffusersModels
from facewright.core.diffusion.text import Clip
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.faces import load_analyzer
from facewright.core.methods import spec_of
from facewright.core.methods._flipnet_faces import FlipnetOptions, NanoFlipnetOptions
from facewright.docs.graphs.graph import FOLDER
from facewright.headless import load_restorer
from facewright.headless.runner import run_workflow


def test_the_nano_models_give_what_the_shipped_workflow_gives(tmp_path):
    path = FOLDER / "api/nano_flipnet_restore.api.json"
    given = {"FacewrightDemoPicture.picture": "face", "KSampler.seed": 7, "KSampler.steps": 2}
    look = {"phi": 1.2, "lq_timestep": 50, "lq_seed": 3}
    given |= {f"FacewrightApplyBoostHub.{name}": value for name, value in look.items()}
    results = run_workflow(path, given, output_dir=tmp_path)
    crops, expected = results["3"][1].movedim(-1, 1), results["8"][0].movedim(-1, 1)

    source, spec = DiffusersModels(), spec_of("nano-flipnet")
    restorer = spec.build(spec.find(source), source, load_analyzer("nano"))
    assert restorer.size == crops.shape[-1] == 128 and not restorer.takes_people
    options = NanoFlipnetOptions(steps=2, **look)
    seeded = torch.Generator().manual_seed(7)
    made = restorer.restore(crops, [None], options=options, generator=seeded)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-4)
    with pytest.raises(FacewrightError, match="reads no text, but the prompt is 'a cat'"):
        restorer.restore(crops, [None], options=dataclasses.replace(options, prompt="a cat"))


def test_on_stable_diffusion_it_reads_prompts(flipnet_sd21, monkeypatch):
    """Thin weights in the layout of the real ones; the text encoder is stood in for."""
    asked = []

    def encode(self, text):
        asked.append(text)
        return torch.full((1, 77, 1024), len(text) / 1000)

    monkeypatch.setattr(Clip, "encode", encode)
    single = flipnet_sd21 / "checkpoints/v2-1_512-ema-pruned.safetensors"
    with pytest.raises(CheckpointError, match=r"2\.1-base as a diffusers folder with its text"):
        load_restorer("flipnet", flipnet_sd21)
    monkeypatch.setenv("FACEWRIGHT_BASE", str(single))
    restorer = load_restorer("flipnet", flipnet_sd21)
    assert restorer.method.size == 512 and asked == [FlipnetOptions().prompt]
    lq = torch.rand(1, 3, 64, 64)

    def made(**other):
        options = FlipnetOptions(steps=1, **other)
        return restorer.method.restore(lq, [None], options=options)

    plain = made()
    assert plain.shape == lq.shape and torch.isfinite(plain).all()
    assert asked[1:] == [FlipnetOptions().prompt, FlipnetOptions().negative]
    for other in ({"prompt": "a"}, {"negative": ""}):
        assert not torch.equal(made(**other), plain), other


def test_files_of_the_other_direction_are_refused(flipnet_sd21, monkeypatch):
    monkeypatch.setattr(Clip, "encode", lambda self, text: torch.zeros(1, 77, 1024))
    base = flipnet_sd21 / "checkpoints/v2-1_512-ema-pruned.safetensors"
    monkeypatch.setenv("FACEWRIGHT_BASE", str(base))
    folder = flipnet_sd21 / "facewright"
    (folder / "flipnet_degrade_boosthub.safetensors").rename(
        folder / "flipnet_restore_boosthub.safetensors"
    )
    with pytest.raises(CheckpointError, match="was trained to degrade, not to restore"):
        load_restorer("flipnet", flipnet_sd21)
