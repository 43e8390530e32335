import dataclasses

import pytest
import torch
from facewright.core.diffusion.source import DiffusersModels
from facewright.core.errors import FacewrightError
from facewright.core.faces import load_analyzer
from facewright.core.methods import spec_of
from facewright.core.methods._flipnet_faces import NanoFlipnetOptions
from facewright.headless.runner import run_workflow
from facewright.workflows.graph import FOLDER


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
