"""Restore with Model as a node, with what the embedded host's Load Upscale Model gives it."""

import pytest
import torch
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.methods import classic
from facewright.headless.host.builtin import UpscaleModelLoader
from facewright.headless.runner import run_workflow
from facewright.nodes.classic import RestoreWithModel

from ..image_models import esrgan, restoreformer

spandrel = pytest.importorskip("spandrel")


@pytest.fixture
def models(tmp_path, models_in, monkeypatch):
    """A face restorer where packs for them keep it, and an upscaler; faces of 64 pixels."""
    monkeypatch.setattr(classic, "SIDE", 64)
    for folder in ("facerestore_models", "upscale_models"):
        (tmp_path / "models" / folder).mkdir(parents=True)
    restoreformer(tmp_path / "models/facerestore_models/mine.pth")
    esrgan(tmp_path / "models/upscale_models/4x.pth")
    models_in(tmp_path / "models")
    return tmp_path / "models"


def test_each_crop_is_what_spandrel_makes_of_it(models):
    image = torch.rand(2, 64, 64, 4)
    model = UpscaleModelLoader.execute("mine.pth")[0]
    (restored,) = RestoreWithModel.execute(upscale_model=model, image=image).result
    theirs = spandrel.ModelLoader().load_from_file(models / "facerestore_models/mine.pth")
    lq = image.movedim(-1, 1)[:, :3].contiguous()  # another layout rounds otherwise
    expected = torch.cat([theirs(x).clone() for x in lq.split(1)])
    assert torch.equal(restored, expected.movedim(1, -1))
    (none,) = RestoreWithModel.execute(upscale_model=model, image=image[:0]).result
    assert none.shape == (0, 64, 64, 3)


def test_an_upscaler_and_files_from_elsewhere_are_refused(models, tmp_path):
    model = UpscaleModelLoader.execute("4x.pth")[0]
    with pytest.raises(CheckpointError, match=r"`upscale_model` is an upscaler \(ESRGAN, 4x\)"):
        RestoreWithModel.execute(upscale_model=model, image=torch.rand(1, 64, 64, 3))
    with pytest.raises(CheckpointError, match="`upscale_model` is another kind of network, and no"):
        RestoreWithModel.execute(upscale_model=object(), image=torch.rand(1, 64, 64, 3))
    with pytest.raises(CheckpointError, match=r"the face restorer GFPGAN is missing"):
        UpscaleModelLoader.execute("GFPGANv1.4.pth")
    with pytest.raises(FacewrightError, match="The name of a file should be text"):
        UpscaleModelLoader.execute(["mine.pth"])
    elsewhere = restoreformer(tmp_path / "elsewhere.pth")
    prompt = {
        "1": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": str(elsewhere)}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    with pytest.raises(FacewrightError, match="no file in a models folder"):
        run_workflow(prompt)
