import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from facewright.core.checkpoint import make_metadata, read_metadata, save_safetensors
from facewright.core.weights.nano import NANO_DIR
from facewright.training.methods.honestface import HonestFaceRecipe
from facewright.training.methods.onestep import OneStepConfig, OneStepRecipe
from facewright.training.methods.vre import AssociateRecipe
from facewright.training.results.provenance import provenance, shareable
from facewright.training.settings.config import TrainConfig

WORLD = {"source": "world"}


class Photos:
    by_identity = ((0, 1, 2), (3,))

    def __init__(self, error=None):
        self.error = error

    def digest(self):
        if self.error:
            raise self.error
        return "ab" * 32


def batches(**changes):
    photos = {"train_photos": Photos(), "validation_photos": Photos(), **changes}
    return SimpleNamespace(**photos)


def config(data, recipe, **changes):
    phase = {"generator": {"lr": 1e-4}}
    values = {"output": "runs/x", "budget": {"max_steps": 3}, "optimizers": phase, "data": data}
    return TrainConfig(**{**values, "recipe": recipe, **changes})


def onestep(folder, data=WORLD, **changes):
    values = {"backbone": {"source": "sd", "path": folder / "v2-1_512-ema-pruned.safetensors"}}
    values |= {"vre": NANO_DIR / "nano_vre.safetensors"}
    if "extractor" not in changes:
        values |= {"perceptual": "none", "weights": {"identity": 0}}
    section = OneStepConfig(**{**values, **changes})
    return config(data, section), OneStepRecipe(section)


def nano_backbone(folder=NANO_DIR):
    names = {part: folder / f"nano_{part}.safetensors" for part in ("unet", "vae")}
    return {"source": "nano", **names}


def test_no_folder_of_the_machine_is_told(tmp_path):
    secret = tmp_path / "anna-private"
    recogniser = {"kind": "file", "path": secret / "backbone.pth"}
    extractor = {"kind": "vgg16", "path": secret / "vgg16.safetensors"}
    data = {"source": "folder", "folder": secret / "faces"}
    c, recipe = onestep(
        secret, data, vre=secret / "vre.safetensors", recogniser=recogniser, extractor=extractor
    )
    facts = provenance(c.model_copy(update={"output": secret / "run"}), recipe, batches())
    text = json.dumps(facts)
    assert "anna-private" not in text and str(tmp_path) not in text
    assert facts["config"]["data"]["folder"] == "faces"
    assert facts["config"]["recipe"]["backbone"]["path"] == "v2-1_512-ema-pruned.safetensors"
    assert facts["config"]["recipe"]["rank"] == 16 and facts["config"]["seed"] == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Path("/home/anna/vre.safetensors"), "vre.safetensors"),
        (Path("."), "."),
        ("data/anna/{000..009}.tar", "{000..009}.tar"),
        (r"C:\Users\anna\my faces", "my faces"),
        ("~/my faces", "my faces"),
        ("https://anna:pw@host/bucket/x.tar?token=abc", "x.tar"),
        ("s3://bucket", "s3"),
        ("pipe:curl -H 'token: abc' https://host/x.tar", "pipe:"),
        ("blurry / noisy, low quality", "blurry / noisy, low quality"),
        ("moderate", "moderate"),
        ({"a": (1, 2.5, None, True, Path("x/y"))}, {"a": [1, 2.5, None, True, "y"]}),
    ],
)
def test_paths_and_addresses_are_cut_to_their_last_part(value, expected):
    assert shareable(value) == expected


def test_the_bundled_miniature_is_the_packages_own(tmp_path):
    c, recipe = onestep(tmp_path, backbone=nano_backbone())
    facts = provenance(c, recipe, batches())
    assert facts["licence"] == "apache-2.0" and facts["base"]["kind"] == "nano"
    assert any("Apache-2.0" in line for line in facts["licences"])

    c, recipe = onestep(tmp_path, backbone=nano_backbone(tmp_path))
    assert provenance(c, recipe, batches())["licence"] == "other"


def test_the_base_models_licence_binds(tmp_path):
    c, recipe = onestep(tmp_path)
    facts = provenance(c, recipe, batches())
    assert facts["licence"] == "openrail++"
    (terms,) = (line for line in facts["licences"] if "Open RAIL++-M" in line)
    assert "bind derivatives" in terms and facts["base"]["terms"] == terms


def test_everything_that_went_in_is_named_with_its_terms(tmp_path):
    arcface, other = tmp_path / "backbone.pth", tmp_path / "somebodys.safetensors"
    data = {"source": "folder", "folder": tmp_path}
    recipe = HonestFaceRecipe.Config(
        backbone={"source": "sd", "path": tmp_path / "sd"},
        vre=tmp_path / "associate_2.ckpt",
        start=None,
        perceptual="none",
        recognisers=(arcface, other),
        embedder={"recogniser": arcface, "extractor": NANO_DIR / "nano_identity_loss.safetensors"},
    )
    facts = provenance(config(data, recipe), HonestFaceRecipe(recipe), batches())
    text = "\n".join(facts["licences"])
    assert facts["licence"] == "other" and facts["method"] == "honestface"
    assert "backbone.pth, the face recogniser ArcFace" in text
    assert "non-commercial research only" in text
    assert "associate_2.ckpt" in text and "none stated by its authors" in text
    assert "somebodys.safetensors, `recipe.recognisers.1`" in text and "insightface" in text
    assert "FFHQ" in text
    assert len(facts["licences"]) == len(set(facts["licences"]))
    assert {e["key"] for e in facts["inputs"]} >= {"recipe.vre", "recipe.recognisers.0"}


def test_terms_of_earlier_stages_are_inherited(tmp_path):
    earlier = {"stage": "vre-associate", "licences": ["faces.zip: by its maker's leave."]}
    metadata = make_metadata("osdface-vre", {}, **{"facewright.training": json.dumps(earlier)})
    save_safetensors(tmp_path / "vre.safetensors", {"a": torch.zeros(1)}, metadata)
    c, recipe = onestep(tmp_path, vre=tmp_path / "vre.safetensors")
    facts = provenance(c, recipe, batches())
    assert "faces.zip: by its maker's leave." in facts["licences"] and facts["licence"] == "other"
    (entry,) = (e for e in facts["inputs"] if e["key"] == "recipe.vre")
    assert entry["stage"] == "vre-associate"
    content = (tmp_path / "vre.safetensors").read_bytes()
    assert entry["sha256"] == hashlib.sha256(content).hexdigest()


def test_data_are_counted_and_what_is_gone_loses_nothing(tmp_path):
    c, recipe = onestep(tmp_path)
    facts = provenance(c, recipe, batches(validation_photos=Photos(FileNotFoundError("gone"))))
    assert facts["data"] == {
        "source": "world",
        "train": {"people": 2, "pictures": 4, "sha256": "ab" * 32},
        "held_out": {"people": 2, "pictures": 4, "sha256": None},
    }
    assert provenance(c, recipe, None)["data"] == {"source": "world"}


def test_facts_come_back_from_a_files_metadata(tmp_path):
    section = AssociateRecipe.Config(hq=tmp_path / "hq", lq=tmp_path / "lq", perceptual=0)
    c = config({"source": "folder", "folder": tmp_path}, section)
    facts = provenance(c, AssociateRecipe(section), batches())
    assert facts["base"] is None and facts["method"] == "osdface"
    path = tmp_path / "x.safetensors"
    save_safetensors(path, {"a": torch.zeros(1)}, {"facewright.training": json.dumps(facts)})
    assert json.loads(read_metadata(path)["facewright.training"]) == facts
