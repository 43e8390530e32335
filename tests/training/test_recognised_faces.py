"""Face tokens of a recogniser in place of FLIPNET's face encoder, and encoders not associated."""

from pathlib import Path

import pytest
import torch
from facewright.core.checkpoint import read_tensors, save_safetensors
from facewright.core.errors import CheckpointError
from facewright.core.methods._recognised_faces import (
    RECOGNISED_FORMAT,
    RecognisedFaces,
    RecognisedFacesConfig,
    load_face_encoder,
)
from facewright.core.modules.adaface import AdaFaceIR
from facewright.core.modules.face_encoder import FaceEncoder
from facewright.core.modules.iresnet import IResNet
from facewright.core.people.recogniser import load_recogniser
from facewright.training.methods import flipnet
from facewright.training.methods.flipnet_faces import FaceAutoencoder, encoder_within
from facewright.training.recipe import Progress


def by_recogniser(flip, **changes):
    chosen = {"path": flip.folder / "identity.safetensors", "tokens": 7, "hidden": 6}
    return flip.start("restore", face_encoder=None, face_recogniser=chosen, **changes)


def test_all_tokens_are_made_of_the_recognisers_vector(flip):
    recipe, data = by_recogniser(flip), flip.batch()
    recogniser = load_recogniser(flip.folder / "identity.safetensors")
    with torch.no_grad():
        vector = recogniser(data["lq"])
        prompt, _ = recipe._prompts(data)
        adapter = recipe.nets["denoiser"].adapter
        first, _, second, norm = adapter.layers
        h = torch.nn.functional.gelu(vector @ first.weight.T + first.bias)
        h = norm(h @ second.weight.T + second.bias)
        expected = h[:, None] + adapter.positions
    assert prompt.tokens.shape == (3, 5 + 7, 12)
    torch.testing.assert_close(prompt.tokens[:, 5:], expected)
    frozen = recipe.face_encoder.recogniser
    assert not any(p.requires_grad for p in frozen.parameters())


def test_a_dropped_face_leaves_no_token_behind(flip):
    recipe, data = by_recogniser(flip), flip.batch()
    text, faces = recipe._text(data), recipe._faces(data)
    there = recipe.nets["denoiser"].prompt(text, faces, torch.tensor([True, False, True])).there
    assert there.shape == (3, 12) and there.sum(1).tolist() == [12, 5, 12]


def test_it_trains_and_its_file_gives_the_same_tokens(flip):
    recipe = by_recogniser(flip, drop_face=0)
    data = flip.batch()
    flip.wake(recipe)
    trained = flip.trainable(recipe.nets["denoiser"])
    assert any(n.startswith("adapter.") for n in trained)
    torch.manual_seed(0)
    terms = recipe.losses("main", data, Progress(0, 0.0))
    torch.stack([*terms.values()]).sum().backward()
    assert trained["adapter.positions"].grad.abs().sum() > 0
    with torch.no_grad():
        for name, p in trained.items():
            if name.startswith("adapter."):
                p.sub_(0.5 * p.grad)
        expected = recipe.nets["denoiser"].adapter(recipe._faces(data))
    *_, path = recipe.export(flip.folder, {})
    assert path.name == "flipnet_face_encoder.safetensors"
    encoder = load_face_encoder(path)
    assert isinstance(encoder, RecognisedFaces) and encoder.config.width == 12
    torch.testing.assert_close(encoder(data["lq"]), expected)
    assert encoder.recogniser.id == recipe.face_encoder.recogniser.id
    assert load_face_encoder(flip.folder / "face.safetensors").config.num_tokens


@pytest.mark.parametrize("kind", ["arcface", "adaface"])
def test_the_file_holds_the_very_recogniser_also_in_half(tmp_path, kind):
    torch.manual_seed(0)
    net = {"arcface": IResNet, "adaface": AdaFaceIR}[kind]((2, 2, 2, 2))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    recogniser = load_recogniser(tmp_path / "net.pth")
    faces = RecognisedFaces(recogniser, RecognisedFacesConfig(num_tokens=3, hidden=4, width=8))
    faces.save(tmp_path / "x.safetensors", dtype=torch.float16)
    again = load_face_encoder(tmp_path / "x.safetensors")
    assert again.recogniser.id == recogniser.id and again.recogniser.name == recogniser.name
    lq = torch.rand(1, 3, 64, 64)
    assert torch.equal(again.latents(lq), faces.eval().latents(lq))
    torch.testing.assert_close(again(lq), faces(lq), rtol=0.01, atol=0.01)


def test_a_damaged_file_is_refused(flip):
    *_, path = by_recogniser(flip).export(flip.folder, {})
    tensors, metadata = read_tensors(path)
    assert metadata["facewright.format"] == RECOGNISED_FORMAT
    for lost in ("adapter.positions", "recogniser.head.weight"):
        fewer = {k: v for k, v in tensors.items() if k != lost}
        save_safetensors(path, fewer, metadata)
        with pytest.raises(CheckpointError, match="missing"):
            load_face_encoder(path)


def test_one_source_of_face_tokens_is_named(flip):
    values = flip.values("restore")
    both = {"face_recogniser": {"path": flip.folder / "identity.safetensors"}}
    for changes in ({"face_encoder": None}, both):
        with pytest.raises(ValueError, match="one of `face_encoder`"):
            flipnet.RestoreConfig(**{**values, **changes})


def test_an_encoder_that_was_never_associated_is_read_from_its_autoencoder(tiny):
    path = tiny.folder / "face_lq.safetensors"
    encoder, whole = encoder_within(path), FaceAutoencoder.read(path).eval()
    assert type(encoder) is FaceEncoder
    lq = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        features = whole(lq).features
    torch.testing.assert_close(encoder.latents(lq), features.flatten(2).transpose(1, 2))
    recipe = tiny.start("flipnet-restore", face_encoder=path)
    assert recipe.losses("main", tiny.batch("flipnet-restore"), Progress(0, 0.0))


def test_the_terms_of_the_recogniser_are_told(flip):
    from facewright.training.results.provenance import _terms

    path = Path("backbone.pth")
    (said,) = _terms("recipe.face_recogniser.path", path)
    assert "non-commercial" in said
