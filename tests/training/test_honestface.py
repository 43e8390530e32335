"""HonestFace's training stage and losses, against float64 re-creations."""

import copy
import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facewright.core.checkpoint import read_tensors
from facewright.core.faces import load_analyzer
from facewright.core.methods.honestface import IdentityEmbedder
from facewright.core.methods.osdface import VisualRepresentationEmbedder
from facewright.core.modules.identity import IdentityEncoder
from facewright.core.modules.reference_tokens import Standardise
from facewright.core.modules.vgg import VGG16
from facewright.core.people.recogniser import nano_recogniser
from facewright.training._lora import add_lora, lora_layers, save_lora
from facewright.training.data import Batches
from facewright.training.losses.masked import (
    MaskedFaceAlignment,
    MeanSquaredError,
    attention_mask,
)
from facewright.training.losses.perceptual import FeatureLpips
from facewright.training.methods.honestface import HonestFaceConfig, HonestFaceRecipe
from facewright.training.recipe import Progress
from facewright.training.settings.config import ConfigError, FolderData, TrainConfig
from torch import nn

_spec = importlib.util.spec_from_file_location(
    "facewright_test_onestep", Path(__file__).with_name("test_onestep.py")
)
onestep = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(onestep)
files = onestep.files


def start(files, **changes):
    nano = files / "identity.safetensors"
    embedder = {
        "recogniser": nano,
        "extractor": nano,
        "landmarker": {"kind": "nano"},
        "eye_size": 16,
        "hidden": 8,
        "drop_references": 0.0,
        **changes.pop("embedder", {}),
    }
    values = onestep.config_of(files).model_dump() | {
        "recogniser": None,
        "recognisers": [nano],
        "mfa_distance": "features",
        "embedder": embedder,
        "weights": {"perceptual": 0, "gan": 0},
        **changes,
    }
    torch.manual_seed(0)
    recipe = HonestFaceRecipe(HonestFaceConfig(**values))
    nets = recipe.build()
    recipe.trained = tuple(nets)
    frozen = recipe.frozen()
    for net in frozen.values():
        net.requires_grad_(False).eval()
    recipe.nets = {**frozen, **nets}
    return recipe


def batch(references=2):
    data = onestep.batch()
    generator = torch.Generator().manual_seed(5)
    photos = torch.rand(2, references, 3, 32, 32, generator=generator)
    return {**data, "references": photos, "valid": torch.ones(2, references).bool()}


# ---- the stage


def test_the_first_step_is_osdfaces(files):
    """Whatever the references, the untrained embedder restores as the one-step stage does."""
    plain = onestep.start(onestep.config_of(files, sample_latents=False))
    mine = start(files, sample_latents=False)
    plain.nets["generator"].load_state_dict(
        {k: v for k, v in mine.nets["generator"].state_dict().items() if "ide." not in k}
    )
    data = batch()
    assert torch.equal(mine.restore(data), plain.restore(data))


def test_what_is_trained(files):
    recipe = start(files)
    names = onestep.trainable(recipe.nets["generator"]).keys()
    kinds = {n.split(".")[0] if "lora_" not in n else "lora" for n in names}
    assert kinds == {"lora", "embedding_change", "ide"}
    for net in ("ide_recogniser", "ide_extractor", "codec", "vre", "mfa", "identity"):
        assert not onestep.trainable(recipe.nets[net]), net


@pytest.mark.parametrize("present", [True, False])
def test_every_weight_takes_part_in_every_step(files, present):
    """Training on several processes hangs on weights that a step leaves out."""
    recipe = start(files)
    data = batch() if present else onestep.batch()
    terms, _ = onestep.step(recipe, "generator", data, Progress(0, 0.0))
    assert terms.keys() == {"mse", "identity", "mfa"}
    without = [n for n, p in onestep.trainable(recipe.nets["generator"]).items() if p.grad is None]
    assert without == []


def test_references_reach_the_picture_after_a_few_steps(files):
    recipe = start(files, sample_latents=False, weights={"perceptual": 0, "gan": 0, "identity": 0})
    data = batch()
    optimizer = torch.optim.Adam(onestep.trainable(recipe.nets["generator"]).values(), 1e-2)
    for i in range(4):
        onestep.step(recipe, "generator", dict(data), Progress(i, 0.0))
        optimizer.step()
    recipe.nets["generator"].eval()
    shown = recipe.evaluate([data]).images
    assert not torch.equal(shown["restored"], shown["wrong references"])
    assert not torch.equal(shown["restored"], shown["no references"])


def test_forgotten_references_are_no_references(files):
    recipe = start(files, embedder={"drop_references": 1.0})
    with torch.no_grad():
        recipe.nets["generator"].ide.fusion.extra.normal_(0, 1)
    data = batch()
    z_dropped = recipe.nets["generator"](*recipe._inputs(data, sample=False))[0]
    recipe.nets["generator"].eval()  # in use nothing is dropped
    z_used = recipe.nets["generator"](*recipe._inputs(data, sample=False))[0]
    nobody = {**data, "valid": torch.zeros_like(data["valid"])}
    z_nobody = recipe.nets["generator"](*recipe._inputs(nobody, sample=False))[0]
    torch.testing.assert_close(z_dropped, z_nobody)
    assert not torch.allclose(z_used, z_nobody)


def test_exported_files_condition_as_the_trainer_does(files):
    recipe = start(files, sample_latents=False)
    with torch.no_grad():
        recipe.nets["generator"].ide.fusion.extra.normal_(0, 0.1)
    recipe.nets["generator"].eval()
    data = batch()
    with torch.no_grad():
        _, expected = recipe.nets["generator"](*recipe._inputs(data, sample=False))
    out = {p.name: p for p in recipe.export(files, {"steps": 0})}
    assert out.keys() == {f"onestep_{k}.safetensors" for k in ("lora", "vre", "ide")}
    assert read_tensors(out["onestep_lora.safetensors"])[1]["method"] == "honestface"
    encoder = IdentityEncoder.from_file(files / "identity.safetensors")
    ide = IdentityEmbedder.from_file(
        out["onestep_ide.safetensors"],
        recogniser=nano_recogniser(encoder),
        extractor=encoder,
        landmarker=load_analyzer("nano"),
    )
    vre = VisualRepresentationEmbedder.from_files(out["onestep_vre.safetensors"])
    identity = ide.look_at(data["references"], data["valid"], data["lq"])
    cond = ide.condition(vre, data["lq"], identity)
    torch.testing.assert_close(cond, expected, rtol=1e-5, atol=1e-6)


def test_an_embedder_that_cannot_be_built_is_told_in_the_configs_words(files):
    with pytest.raises(ConfigError, match=r"`recipe\.embedder` .* multiples of the 4 heads"):
        start(files, embedder={"identity_values": "linear", "hidden": 6})
    with pytest.raises(ConfigError, match=r"11 tokens of references would leave none .* 5 where"):
        start(files, embedder={"fusion": "append"})


READINGS = {
    "append": {"fusion": "append"},
    "linear": {"identity_values": "linear"},
    "layers": {"eye_features": "layers"},
}


@pytest.mark.parametrize("reading", READINGS)
def test_other_readings_train_wholly_and_are_exported_as_they_were_trained(files, reading):
    embedder = dict(READINGS[reading])
    extractor = IdentityEncoder.from_file(files / "identity.safetensors")
    if reading == "layers":
        torch.manual_seed(4)
        extractor = VGG16("max")
        weights = {k.replace("features_", "features"): v for k, v in extractor.state_dict().items()}
        torch.save(weights, files / "vgg16.pth")
        embedder["extractor"] = files / "vgg16.pth"
    vre = onestep.vre_file(files / "longer.safetensors", 12, num_tokens=13)
    recipe = start(files, vre=vre, sample_latents=False, embedder=embedder)
    assert recipe.ide.config.eye_features == embedder.get("eye_features", "stages")
    for data in (batch(), onestep.batch()):
        for p in recipe.nets["generator"].parameters():
            p.grad = None
        onestep.step(recipe, "generator", data, Progress(0, 0.0))
        named = onestep.trainable(recipe.nets["generator"])
        assert [n for n, p in named.items() if p.grad is None] == []
    with torch.no_grad():  # as training moves what begins at zero
        for name, p in onestep.trainable(recipe.nets["generator"].ide).items():
            p.add_(torch.randn_like(p) * (0 if name == "fusion.own" else 0.1))
    recipe.nets["generator"].eval()
    data = batch()
    with torch.no_grad():
        _, expected = recipe.nets["generator"](*recipe._inputs(data, sample=False))
    out = {p.name: p for p in recipe.export(files, {"steps": 0})}
    ide = IdentityEmbedder.from_file(
        out["onestep_ide.safetensors"],
        recogniser=nano_recogniser(IdentityEncoder.from_file(files / "identity.safetensors")),
        extractor=extractor.eval(),
        landmarker=load_analyzer("nano"),
    )
    cond = ide.condition(
        VisualRepresentationEmbedder.from_files(out["onestep_vre.safetensors"]),
        data["lq"],
        ide.look_at(data["references"], data["valid"], data["lq"]),
    )
    torch.testing.assert_close(cond, expected, rtol=1e-5, atol=1e-6)
    others = ide.look_at(data["references"].flip(0) * 0.5, data["valid"], data["lq"])
    other = ide.condition(recipe.vre, data["lq"], others)
    assert not torch.allclose(other, cond), "the references count"


def test_training_goes_on_from_a_lora_of_any_alpha(files):
    unet = onestep.random_unet()
    add_lora(unet, 2, 6)
    for name, p in onestep.trainable(unet).items():
        if "lora_B" in name:
            nn.init.normal_(p, 0, 0.1)
    save_lora(files / "start.safetensors", unet, base="", dtype=torch.float32, facts={})
    recipe = start(files, start=files / "start.safetensors", alpha=2)
    z, cond = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 12)
    theirs = recipe.nets["generator"].unet(z, 399, encoder_hidden_states=cond).sample
    torch.testing.assert_close(theirs, unet(z, 399, encoder_hidden_states=cond).sample)
    assert lora_layers(unet).keys() == lora_layers(recipe.nets["generator"].unet).keys()


# ---- losses


def test_the_mask_is_the_papers():
    torch.manual_seed(0)
    heat = torch.rand(2, 5, 8, 8) * 0.2 - 0.02
    mask = attention_mask(heat, 16)[:, 0].double().numpy()
    for b in range(2):
        raw = np.clip(heat[b].double().numpy(), 0, None).mean(0)
        big = F.interpolate(torch.tensor(raw)[None, None], (16, 16), mode="bilinear")[0, 0].numpy()
        m = np.array([[1 - math.exp(-10 * v) for v in row] for row in big])
        expected = (m - m.min()) / (m.max() - m.min() + 1e-6)
        np.testing.assert_allclose(mask[b], expected, atol=1e-5)
    assert mask.min() == 0 and 0.999 < mask.max() <= 1


def test_constant_heatmaps_give_a_finite_mask_of_zeros():
    assert torch.equal(attention_mask(torch.full((1, 3, 4, 4), 0.3), 8), torch.zeros(1, 1, 8, 8))


def test_outside_the_mask_nothing_counts():
    x, y = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:5, 3:6] = 1
    mask[..., 6, 6] = 0.5
    loss = MaskedFaceAlignment(MeanSquaredError())
    squared = ((x - y).double() * mask.double()) ** 2
    assert loss(x, y, mask).item() == pytest.approx(float(squared.mean()), rel=1e-5)
    other = x.clone()
    other[..., 0, :] = 0.9
    assert loss(other, y, mask) == loss(x, y, mask)


def test_lpips_over_features_is_its_formula():
    class Two(nn.Module):
        def features(self, images):
            return [images * 2 - 0.5, F.avg_pool2d(images, 2)]

    x, y = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    expected = []
    for a, b in zip(x.double(), y.double(), strict=True):
        stages = []
        for f, g in zip(Two().features(a[None]), Two().features(b[None]), strict=True):
            f, g = f[0].permute(1, 2, 0).reshape(-1, 3), g[0].permute(1, 2, 0).reshape(-1, 3)
            u, v = f / f.norm(dim=1, keepdim=True), g / g.norm(dim=1, keepdim=True)
            stages.append(float(((u - v) ** 2).sum(1).mean()))
        expected.append(sum(stages) / 2)
    np.testing.assert_allclose(FeatureLpips(Two())(x, y), expected, rtol=1e-4)


def test_running_statistics_are_those_of_all_that_was_seen():
    torch.manual_seed(0)
    x = torch.randn(400, 5) * torch.tensor([1.0, 2, 3, 4, 5]) + 7
    module = Standardise(5)
    for part in x.split(8):
        module.observe(part)
    expected = (x.double() - x.double().mean(0)) / x.double().std(0, correction=0)
    torch.testing.assert_close(module(x).double(), expected, rtol=1e-2, atol=1e-2)
    before = copy.deepcopy(module.state_dict())
    module.observe(x[:0])
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


# ---- references in the data


def folder_config(folder, **changes):
    data = {"source": "folder", "folder": folder, "size": 32, "workers": 0, "identity": "parent",
            "held_out": 0.3, "references": 2, **changes}  # fmt: skip
    return TrainConfig(
        output="unused", budget={"max_steps": 1}, batch_size=4, data=data, optimizers={"main": {}}
    )


def test_references_are_other_photos_of_the_same_person(folder_of_people):
    batches = Batches(folder_config(folder_of_people), torch.device("cpu"))
    stream = batches.train(first_step=0)
    photos = batches.train_photos
    pictures = {}
    for group in photos.by_identity:
        for i in group:
            pixels = photos.load(i).pixels.float() / 255
            pictures |= {
                t.numpy().tobytes(): (photos.people[i], i) for t in (pixels, pixels.flip(2))
            }
    counts = set()
    for _ in range(6):
        (data,) = next(stream)
        for gt, identity, refs, valid in zip(
            data["gt"], data["identity"], data["references"], data["valid"], strict=True
        ):
            seen = [pictures[r.numpy().tobytes()] for r in refs[valid]]
            me = pictures[gt.numpy().tobytes()]
            assert {person for person, _ in seen} == {int(identity)} == {me[0]}
            assert me[1] not in [i for _, i in seen] and len({i for _, i in seen}) == len(seen)
            # mirrored together: a mirror image is another person to the recogniser
            counts.add(len(seen))
    assert counts == {1, 2}


def test_a_person_with_one_photo_has_no_references(folder_of_people):
    for person in folder_of_people.iterdir():
        for photo in sorted(person.iterdir())[1:]:
            photo.unlink()
    batches = Batches(folder_config(folder_of_people), torch.device("cpu"))
    (data,) = next(batches.train(first_step=0))
    assert "references" not in data
    assert FolderData(source="folder", folder=folder_of_people).references == 0


def test_validation_takes_the_other_photos_the_same_every_time(folder_of_people):
    batches = Batches(folder_config(folder_of_people), torch.device("cpu"))
    first, again = (next(iter(batches.validation())) for _ in range(2))
    assert torch.equal(first["references"], again["references"])
    assert first["valid"].all() and first["references"].shape[1] == 2
