"""HonestFace's identity embedder against loops written from the paper."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facewright.core.checkpoint import read_tensors, save_safetensors
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.faces import load_analyzer
from facewright.core.geometry.eyes import eye_crops
from facewright.core.geometry.landmarks import region_points
from facewright.core.methods.honestface import (
    IDEConfig,
    IdentityEmbedder,
    IdentityTokens,
    eye_channels,
    load_eye_extractor,
)
from facewright.core.modules.eye_extractor import eye_maps
from facewright.core.modules.reference_tokens import (
    AppendFusion,
    AttentionFusion,
    FaceIdentityEncoder,
    FacialFeatureExtractor,
    LearnedValuesEncoder,
    MixingFusion,
)
from facewright.core.modules.vgg import VGG16
from facewright.core.people.person import Person
from facewright.core.people.recogniser import fingerprint, nano_recogniser
from facewright.core.weights import nano
from facewright.training.world.faces3d import photos
from torch import nn

SIZE = 128


@pytest.fixture(scope="module")
def parts():
    """The frozen networks of rendered faces."""
    extractor = nano.load_identity("loss")
    return {
        "recogniser": nano_recogniser(extractor),
        "extractor": extractor,
        "landmarker": load_analyzer("nano"),
    }


@pytest.fixture(scope="module")
def config(parts):
    colour, structure = eye_channels(parts["extractor"])
    return IDEConfig(
        width=96,
        hidden=16,
        eye_size=32,
        colour_channels=colour,
        structure_channels=structure,
        recogniser_dim=parts["recogniser"].dim,
        recogniser=parts["recogniser"].id,
        extractor=fingerprint(parts["extractor"]),
    )


@pytest.fixture(scope="module")
def ide(parts, config):
    torch.manual_seed(0)
    model = IdentityEmbedder(config, **parts)
    with torch.no_grad():  # as after training: the references reach the prompt
        model.learned.fusion.extra.normal_(0, 0.1)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def faces():
    """Two people with four photos each: (2, 4, 3, s, s)."""
    people = [2**40 + 7, 2**40 + 8]
    made = photos([p for p in people for _ in range(4)], list(range(50, 58)), SIZE, jitter=1.0)
    return made.pixels.view(2, 4, 3, SIZE, SIZE)


def randomised(module):
    torch.manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    return module


# ---- the face identity encoder


def pooled_by_loop(encoder, embeddings, valid):
    queries = encoder.queries.detach().double().numpy()
    weight, bias = (p.detach().double().numpy() for p in (encoder.key.weight, encoder.key.bias))
    out = np.zeros((len(embeddings), len(queries), embeddings.shape[-1]))
    for b, row in enumerate(embeddings.double().numpy()):
        known = [e for e, v in zip(row, valid[b], strict=True) if v]
        for q, query in enumerate(queries):
            keys = [weight @ (e * math.sqrt(len(e))) + bias for e in known]
            scores = [math.exp(k @ query / math.sqrt(len(query))) for k in keys]
            for e, s in zip(known, scores, strict=True):
                out[b, q] += s / sum(scores) * e
    return out


def test_pooling_equals_a_loop_and_stays_among_the_embeddings():
    torch.manual_seed(1)
    encoder = FaceIdentityEncoder(dim=12, queries=7, hidden=6, width=20)
    embeddings = F.normalize(torch.randn(3, 5, 12), dim=-1)
    valid = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 0, 1, 0, 0]]).bool()
    pooled = encoder.pool(embeddings, valid).detach().double().numpy()
    np.testing.assert_allclose(pooled, pooled_by_loop(encoder, embeddings, valid), atol=1e-6)
    # one reference: nothing but it can be pooled
    np.testing.assert_allclose(pooled[2], np.tile(embeddings[2, 2].numpy(), (7, 1)), atol=1e-6)


def test_learned_values_are_attention_of_four_heads():
    torch.manual_seed(1)
    encoder = randomised(LearnedValuesEncoder(dim=12, queries=3, hidden=8, width=20))
    embeddings = F.normalize(torch.randn(2, 4, 12), dim=-1)
    valid = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 1]]).bool()
    key, value = (
        [p.detach().double().numpy() for p in (layer.weight, layer.bias)]
        for layer in (encoder.key, encoder.value)
    )
    queries = encoder.queries.detach().double().numpy()
    expected = np.zeros((2, 3, 12))
    for b, row in enumerate(embeddings.double().numpy() * math.sqrt(12)):
        known = [e for e, v in zip(row, valid[b], strict=True) if v]
        for q, head in itertools.product(range(3), range(4)):
            two, three = slice(2 * head, 2 * head + 2), slice(3 * head, 3 * head + 3)
            scores = [(key[0] @ e + key[1])[two] @ queries[q, two] / math.sqrt(2) for e in known]
            total = sum(map(math.exp, scores))
            for e, s in zip(known, scores, strict=True):
                expected[b, q, three] += math.exp(s) / total * (value[0] @ e + value[1])[three]
    pooled = encoder.pool(embeddings, valid).detach().double().numpy()
    np.testing.assert_allclose(pooled, expected, atol=1e-5)


ENCODERS = pytest.mark.parametrize("kind", [FaceIdentityEncoder, LearnedValuesEncoder])


@ENCODERS
def test_order_and_padding_of_references_change_nothing(kind):
    torch.manual_seed(1)
    encoder = randomised(kind(dim=12, queries=7, hidden=8, width=20))
    embeddings, valid = F.normalize(torch.randn(2, 4, 12), dim=-1), torch.ones(2, 4).bool()
    tokens = encoder(embeddings, valid)
    shuffled = encoder(embeddings[:, [2, 0, 3, 1]], valid)
    torch.testing.assert_close(shuffled, tokens, rtol=0, atol=2e-6)
    junk = torch.full((2, 3, 12), float("nan"))
    padded = encoder(torch.cat([junk, embeddings], 1), F.pad(valid, (3, 0)))
    torch.testing.assert_close(padded, tokens, rtol=0, atol=2e-6)


@ENCODERS
@pytest.mark.parametrize("places", [0, 1, 3])
def test_no_reference_gives_the_learned_tokens_and_finite_gradients(places, kind):
    encoder = randomised(kind(dim=12, queries=7, hidden=8, width=20))
    tokens = encoder(torch.zeros(2, places, 12), torch.zeros(2, places).bool())
    assert torch.equal(tokens, encoder.nobody.expand(2, -1, -1))
    tokens.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


def test_each_face_of_a_batch_gets_what_it_gets_alone():
    encoder = randomised(FaceIdentityEncoder(dim=12, queries=7, hidden=6, width=20))
    embeddings = F.normalize(torch.randn(3, 4, 12), dim=-1)
    valid = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]]).bool()
    together = encoder(embeddings, valid)
    for i in range(3):
        n = max(1, int(valid[i].sum()))
        alone = encoder(embeddings[i : i + 1, :n], valid[i : i + 1, :n])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=2e-6)


# ---- the facial feature extractor


def test_eye_statistics_are_means_deviations_and_a_4x4_average():
    torch.manual_seed(0)
    first, third = torch.randn(2, 5, 9, 9), torch.randn(2, 3, 8, 8)
    colour, structure = FacialFeatureExtractor.statistics(first, third)
    np.testing.assert_allclose(colour[:, :5], first.numpy().mean((2, 3)), atol=1e-6)
    np.testing.assert_allclose(colour[:, 5:], first.numpy().std((2, 3)), atol=1e-6)
    blocks = third.numpy().reshape(2, 3, 4, 2, 4, 2).mean((3, 5))
    np.testing.assert_allclose(structure, blocks.reshape(2, -1), atol=1e-6)


def test_four_tokens_tell_colour_from_structure_and_left_from_right():
    module = randomised(FacialFeatureExtractor(colour=5, structure=3, hidden=8, width=20)).eval()
    colour, structure = torch.randn(1, 2, 10), torch.randn(1, 2, 48)
    known = torch.ones(1).bool()
    tokens = module(colour, structure, known)
    assert tokens.shape == (1, 4, 20)
    changed = colour.clone()
    changed[:, 1] += 1  # the right eye's colour
    moved = (module(changed, structure, known) - tokens).abs().sum(2)[0] > 1e-6
    assert moved.tolist() == [False, True, False, False]
    unknown = module(colour, structure, ~known)
    assert torch.equal(unknown[0], module.nobody)


def sampled_by_hand(picture, x, y):
    """Bilinear value of (3, s, s) at pixel coordinates, borders repeated."""
    s = picture.shape[-1]
    x0, y0 = math.floor(x), math.floor(y)
    total = np.zeros(3)
    for yy, wy in ((y0, 1 - (y - y0)), (y0 + 1, y - y0)):
        for xx, wx in ((x0, 1 - (x - x0)), (x0 + 1, x - x0)):
            total += wx * wy * picture[:, min(max(yy, 0), s - 1), min(max(xx, 0), s - 1)]
    return total


@pytest.mark.parametrize("count", [68, 98])
def test_eye_crops_are_squares_about_the_lids(count):
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    landmarks = torch.zeros(1, count, 2, dtype=torch.float64)
    left, right = (range(36, 42), range(42, 48)) if count == 68 else (range(60, 68), range(68, 76))
    boxes = []
    for contour, (cx, cy, w) in ((left, (20.0, 30.0, 6.0)), (right, (61.0, 31.5, 1.0))):
        angles = torch.linspace(0, 2 * math.pi, len(contour) + 1, dtype=torch.float64)[:-1]
        landmarks[0, list(contour), 0] = cx + w * angles.cos()
        landmarks[0, list(contour), 1] = cy + 0.4 * w * angles.sin()
        # both contours have points at 0 and 180 degrees, so half the width is w
        boxes.append((cx, cy, max(1.4 * w, 28 * 64 / 512)))
    crops = eye_crops(picture, landmarks, 8)
    assert crops.shape == (1, 2, 3, 8, 8)
    for eye, (cx, cy, half) in enumerate(boxes):
        for row, column in ((0, 0), (3, 5), (7, 7)):
            x = cx - half + (column + 0.5) * half / 4
            y = cy - half + (row + 0.5) * half / 4
            expected = sampled_by_hand(picture[0].numpy(), x, y)
            np.testing.assert_allclose(crops[0, eye, :, row, column], expected, atol=1e-9)


def test_eyes_of_other_point_sets_are_refused():
    with pytest.raises(FacewrightError, match="68 and 98 landmarks, got 5"):
        eye_crops(torch.rand(1, 3, 8, 8), torch.zeros(1, 5, 2), 8)


# ---- choosing the reference


def ald_by_lstsq(reference, lq):
    points = region_points(68, "eyes")
    a = np.concatenate([reference[points], np.ones((len(points), 1))], 1)
    solution, *_ = np.linalg.lstsq(a, lq[points], rcond=None)
    return math.sqrt(((a @ solution - lq[points]) ** 2).sum())


def test_the_chosen_reference_has_the_least_affine_distance(ide):
    rng = np.random.default_rng(0)
    lq = rng.normal(0, 20, (2, 68, 2)) + 64
    references = lq[:, None] + rng.normal(0, 2, (2, 3, 68, 2)) * np.array([3, 1, 2])[:, None, None]
    # an affine copy of the face is a perfect match, wherever it lies
    references[1, 2] = lq[1] @ np.array([[0.8, 0.1], [-0.3, 1.2]]) + [400, -30]
    valid = torch.ones(2, 3).bool()
    chosen, distance = ide.choose(torch.tensor(references), valid, torch.tensor(lq))
    assert chosen.tolist() == [1, 2]
    expected = [
        [ald_by_lstsq(r, face) for r in of] for of, face in zip(references, lq, strict=True)
    ]
    np.testing.assert_allclose(distance, expected, atol=1e-6)


def test_invalid_references_are_never_chosen(ide):
    landmarks = torch.rand(3, 2, 68, 2)
    valid = torch.tensor([[False, True], [False, False], [True, True]])
    chosen, distance = ide.choose(landmarks, valid, landmarks[:, 0])
    assert chosen.tolist() == [1, -1, 0]
    assert distance[1].isinf().all() and distance[0, 0].isinf()
    none, _ = ide.choose(torch.rand(2, 0, 68, 2), torch.zeros(2, 0).bool(), torch.rand(2, 68, 2))
    assert none.tolist() == [-1, -1]


def test_unknown_landmarks_cost_only_their_own_face(ide):
    """A landmarker that finds a face first may see none in a crop."""
    landmarks = torch.rand(4, 3, 68, 2, generator=torch.Generator().manual_seed(0)) * 64
    lq = landmarks[:, 2].clone()
    lq[1], landmarks[2, 2], landmarks[3] = math.nan, math.nan, math.nan
    valid = torch.tensor([[True] * 3, [False, True, True], [True] * 3, [True] * 3])
    chosen, distance = ide.choose(landmarks, valid, lq)
    assert chosen.tolist()[:2] == [2, 1] and chosen[2] in (0, 1) and chosen[3] == -1
    assert distance.isinf().tolist() == [[False] * 3, [True] * 3, [False, False, True], [True] * 3]


# ---- fusion


@pytest.mark.parametrize("fusion", [MixingFusion(77, 11), AttentionFusion(96)])
def test_an_untrained_fusion_leaves_the_prompt_as_it_is_bit_for_bit(fusion):
    vre, ide = torch.randn(2, 77, 96) * 1e-3, torch.randn(2, 11, 96) * 50
    assert torch.equal(fusion(vre, ide), vre)


def test_mixing_is_one_matrix_on_tokens_of_equal_length():
    fusion = randomised(MixingFusion(5, 2))
    fusion.scale.fill_(0.01)
    vre, ide = torch.randn(1, 5, 8), torch.randn(1, 2, 8)
    w = torch.cat([fusion.own, fusion.extra], 1).detach().double().numpy()
    rows = ide[0].double().numpy()
    rows = rows / np.sqrt((rows**2).mean(1, keepdims=True)) * 0.01
    stacked = np.concatenate([vre[0].double().numpy(), rows])
    np.testing.assert_allclose(fusion(vre, ide)[0].detach(), w @ stacked, atol=1e-6)


def test_appending_drops_the_least_confident_tokens():
    fusion = AppendFusion(5, 2)
    fusion.scale.fill_(0.01)
    vre, ide = torch.randn(2, 5, 8), torch.randn(2, 2, 8) * 50
    made = fusion(vre, ide)
    assert torch.equal(made[:, :3], vre[:, :3]) and made.shape == (2, 5, 8)
    rows = ide.double().numpy()
    rows = rows / np.sqrt((rows**2).mean(-1, keepdims=True)) * 0.01
    np.testing.assert_allclose(made[:, 3:], rows, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": "append", "vre_tokens": 11}, "leave none of the embedder's 11"),
        ({"identity_values": "linear", "hidden": 6}, "`hidden`, 6, .* multiples of the 4 heads"),
        ({"identity_values": "linear", "recogniser_dim": 10}, "10 numbers should be multiples"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, message):
    with pytest.raises(FacewrightError, match=message):
        IDEConfig(**changes)


CHOICES = [{"fusion": "append"}, {"identity_values": "linear"}, {"fusion": "attention"}]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda c: next(iter(c.values())))
def test_a_file_says_what_was_chosen_and_gives_the_same_prompt(
    parts, config, faces, tmp_path, choice
):
    model = randomised(IdentityEmbedder(replace(config, **choice), **parts).learned)
    made = IdentityEmbedder(replace(config, **choice), **parts)
    made.learned.load_state_dict(model.state_dict())
    made.save(tmp_path / "ide.safetensors")
    again = IdentityEmbedder.from_file(tmp_path / "ide.safetensors", **parts)
    assert again.config == made.config
    vre, lq = nano.load_vre(), faces[:, 0]
    identity = again.look_at(faces[:, 1:], torch.ones(2, 3).bool(), lq)
    with torch.no_grad():
        prompts = [ide.eval().condition(vre, lq, identity) for ide in (made, again)]
    assert torch.equal(*prompts) and not torch.equal(prompts[0], vre(lq))
    tensors, metadata = read_tensors(tmp_path / "ide.safetensors")
    assert ("identity.value.weight" in tensors) == (choice == {"identity_values": "linear"})
    assert ("fusion.own" in tensors) == ("fusion" not in choice)
    values = json.loads(metadata["facewright.config"])
    assert choice.items() <= values.items()


def test_files_from_before_the_choices_load_with_what_there_was(ide, parts, tmp_path):
    ide.save(tmp_path / "new.safetensors")
    tensors, metadata = read_tensors(tmp_path / "new.safetensors")
    values = json.loads(metadata["facewright.config"])
    for key in ("eye_features", "identity_values"):
        del values[key]
    metadata = {**metadata, "facewright.config": json.dumps(values)}
    save_safetensors(tmp_path / "old.safetensors", tensors, metadata)
    old = IdentityEmbedder.from_file(tmp_path / "old.safetensors", **parts)
    assert old.config == ide.config
    assert (old.config.eye_features, old.config.identity_values) == ("stages", "embeddings")


def test_the_papers_fusion_has_77_times_88_weights():
    tokens = IdentityTokens(IDEConfig())
    assert sum(p.numel() for p in tokens.fusion.parameters()) == 77 * 88


def test_the_untrained_embedder_reproduces_osdface(parts, config, faces):
    vre = nano.load_vre()
    fresh = IdentityEmbedder(config, **parts).requires_grad_(False)
    lq = faces[:, 0]
    references = fresh.look_at(faces[:, 1:], torch.ones(2, 3).bool(), lq)
    assert torch.equal(fresh.condition(vre, lq, references), vre(lq))


# ---- the whole embedder


@pytest.mark.parametrize("count", [0, 1, 8])
def test_any_number_of_references(ide, faces, count):
    lq = faces[:, 0]
    references = faces[:, 1:].repeat(1, 3, 1, 1, 1)[:, :count]
    tokens = ide(references, torch.ones(2, count).bool(), lq)
    assert tokens.shape == (2, 11, 96) and tokens.isfinite().all()


def test_padding_and_order_of_whole_photographs_change_nothing(ide, faces):
    lq, references = faces[:, 0], faces[:, 1:]
    tokens = ide(references, torch.ones(2, 3).bool(), lq)
    padding = torch.full_like(references[:, :1], 0.5)
    padded = torch.cat([padding, references.flip(1)], 1)
    valid = torch.tensor([[False, True, True, True]] * 2)
    torch.testing.assert_close(ide(padded, valid, lq), tokens, rtol=0, atol=1e-5)


def album(parts, faces, **changes):
    values = {
        "name": "Ada",
        "crops": faces,
        "embeddings": parts["recogniser"](faces),
        "landmarks": parts["landmarker"].landmarks(faces),
        "quality": torch.ones(len(faces)),
        "recogniser": parts["recogniser"].id,
        "sources": tuple(f"photo {i}" for i in range(len(faces))),
    }
    return Person(**{**values, **changes})


def test_albums_say_what_their_photographs_say(ide, parts, faces):
    lq = faces[:, 0]
    direct = ide(faces[:, 1:], torch.tensor([[True] * 3, [False] * 3]), lq)
    identity = ide.of_people([album(parts, faces[0, 1:]), None], lq)
    torch.testing.assert_close(ide.learned.tokens(identity), direct, rtol=0, atol=1e-5)
    assert identity.chosen[1] == -1 and identity.chosen[0] >= 0


def test_albums_of_other_sizes_and_lengths_go_together(ide, parts, faces):
    small = F.interpolate(faces[1, :2], (96, 96), mode="bilinear", antialias=True)
    people = [album(parts, faces[0, 1:]), album(parts, small)]
    together = ide.learned.tokens(ide.of_people(people, faces[:, 0]))
    for i, person in enumerate(people):
        alone = ide.learned.tokens(ide.of_people([person], faces[i : i + 1, 0]))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-5)


def test_albums_that_do_not_belong_here_are_refused(ide, parts, faces):
    foreign = album(parts, faces[0, :2], recogniser="arcface-r50:0123456789abcdef")
    with pytest.raises(FacewrightError, match=r"Ada was made with the recogniser arcface-r50"):
        ide.of_people([foreign], faces[:1, 0])
    other = album(parts, faces[0, :2], landmarks=torch.rand(2, 98, 2))
    with pytest.raises(FacewrightError, match="98 landmarks"):
        ide.of_people([other], faces[:1, 0])
    with pytest.raises(FacewrightError, match="2 faces but albums for 1"):
        ide.of_people([None], faces[:, 0])


def test_another_face_embedder_is_refused(parts, config, faces):
    odd = IdentityEmbedder(replace(config, width=64), **parts)
    identity = odd.look_at(faces[:1, 1:], torch.ones(1, 3).bool(), faces[:1, 0])
    with pytest.raises(FacewrightError, match="77 tokens of 64 channels"):
        odd.condition(nano.load_vre(), faces[:1, 0], identity)


def test_parts_that_are_left_out_do_not_see_the_references(parts, config, faces):
    lq, valid = faces[:, 0], torch.ones(2, 3).bool()
    for use_eyes, use_identity, dead in ((False, True, slice(0, 4)), (True, False, slice(4, 11))):
        torch.manual_seed(0)
        half = IdentityEmbedder(
            replace(config, use_eyes=use_eyes, use_identity=use_identity), **parts
        )
        mine = half(faces[:, 1:], valid, lq)
        others = half(faces.flip(0)[:, 1:], valid, lq)
        assert torch.equal(mine[:, dead], others[:, dead])
        assert not torch.equal(mine, others)


# ---- files


def test_a_saved_embedder_says_the_same(ide, parts, faces, tmp_path):
    path = tmp_path / "ide.safetensors"
    ide.save(path)
    loaded = IdentityEmbedder.from_file(path, **parts)
    valid = torch.ones(2, 3).bool()
    assert torch.equal(
        loaded(faces[:, 1:], valid, faces[:, 0]), ide(faces[:, 1:], valid, faces[:, 0])
    )
    assert not any(p.requires_grad for p in loaded.parameters())


def test_other_weights_than_it_was_trained_with_are_refused(ide, parts, tmp_path):
    path = tmp_path / "ide.safetensors"
    ide.save(path)
    metric = nano.load_identity("metric")
    with pytest.raises(CheckpointError, match="trained with the recogniser nano-identity"):
        IdentityEmbedder.from_file(path, **{**parts, "recogniser": nano_recogniser(metric)})
    with pytest.raises(CheckpointError, match="trained with the eye extractor"):
        IdentityEmbedder.from_file(path, **{**parts, "extractor": metric})
    with pytest.raises(CheckpointError, match="honestface-ide"):
        IdentityEmbedder.from_file(nano.NANO_DIR / "nano_vre.safetensors", **parts)


def test_eye_extractors_are_told_by_their_tensors(tmp_path):
    torch.save(
        {f"features.{k[10:]}": v for k, v in VGG16().state_dict().items()}, tmp_path / "vgg16.pth"
    )
    extractor = load_eye_extractor(tmp_path / "vgg16.pth")
    maps = extractor.features(torch.rand(1, 3, 32, 32))
    assert (maps[0].shape[1], maps[2].shape[1]) == eye_channels(extractor) == (64, 256)
    assert eye_channels(extractor, "layers") == (64, 64)
    with pytest.raises(CheckpointError, match="VGG-16 was expected"):
        load_eye_extractor(nano.NANO_DIR / "nano_vae.safetensors")


def test_layers_are_the_first_two_convolutions_before_their_relus():
    torch.manual_seed(0)
    vgg, eyes = VGG16("max").eval(), torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in
                 ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # fmt: skip
    w = {k: v.double() for k, v in vgg.state_dict().items()}
    first = F.conv2d(((eyes - mean) / std).double(), w["features_.0.weight"],
                     w["features_.0.bias"], padding=1)  # fmt: skip
    second = F.conv2d(first.clamp(min=0), w["features_.2.weight"], w["features_.2.bias"],
                      padding=1)  # fmt: skip
    with torch.no_grad():
        maps = eye_maps(vgg, eyes, "layers")
        stages = eye_maps(vgg, eyes)
    for ours, expected in zip(maps, (first, second), strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-5)
        assert ours.min() < 0, "before the ReLU"
    torch.testing.assert_close(stages[0], maps[1].clamp(min=0))
    assert [s.shape[1:] for s in stages] == [(64, 32, 32), (256, 8, 8)]


def test_layers_of_an_identity_encoder_are_refused(parts):
    with pytest.raises(CheckpointError, match="two layers of VGG-16"):
        eye_channels(parts["extractor"], "layers")


def test_a_file_whose_eyes_have_other_channels_than_its_extractor_is_refused(
    parts, config, tmp_path
):
    IdentityEmbedder(replace(config, structure_channels=8), **parts).save(
        tmp_path / "a.safetensors"
    )
    with pytest.raises(CheckpointError, match="its own extractor does not give"):
        IdentityEmbedder.from_file(tmp_path / "a.safetensors", **parts)
