"""Targets and crops of the nano face stage describe the same places in the picture."""

import pytest
import torch
from facewright.core.faces.nano import decode
from facewright.training.methods import nano_faces
from facewright.training.methods.nano_faces import (
    PATCH_CONTEXT,
    NanoFacesRecipe,
    NanoFacesRecipeConfig,
)


@pytest.fixture
def recipe():
    config = NanoFacesRecipeConfig(
        scenes=2, portraits=1, held_out=1, width=160, height=96, windows=2, crops=6, degraded=0
    )
    torch.manual_seed(0)
    recipe = NanoFacesRecipe(config)
    recipe.nets = recipe.build()
    return recipe


def test_decoding_the_targets_gives_the_faces_back():
    squares = torch.tensor([[37.0, 50.5, 30.0], [90.2, 41.0, 55.0]])
    heat, _, *shape = nano_faces._targets(squares, 128)
    found = decode(torch.stack([torch.logit(heat.clamp(1e-4, 1 - 1e-4)), *shape]), 0.9)
    found = found[found[:, 0].argsort()]
    torch.testing.assert_close(found[:, :3], squares, atol=1e-3, rtol=0)


def test_sizes_out_of_reach_are_ignored_or_background():
    ignored = nano_faces._targets(torch.tensor([[64.0, 64.0, 16.0]]), 128)
    assert ignored[0].max() == 0 and ignored[1].max() == 1
    background = nano_faces._targets(torch.tensor([[64.0, 64.0, 200.0]]), 128)
    assert background.abs().max() == 0


def test_mirroring_is_an_involution_that_swaps_sides():
    mirror = torch.tensor(nano_faces._MIRROR)
    assert mirror[mirror].tolist() == list(range(68))
    for left, right in ((36, 45), (39, 42), (48, 54), (0, 16), (17, 26), (31, 35), (60, 64)):
        assert mirror[left] == right
    assert [int(mirror[i]) for i in (8, 27, 30, 33, 51, 57, 62, 66)] == [
        8, 27, 30, 33, 51, 57, 62, 66,
    ]  # fmt: skip


def test_crops_carry_their_landmarks_along(recipe, monkeypatch):
    """Patches whose colours are coordinates: the crop must show at a landmark its own place."""
    monkeypatch.setattr(nano_faces, "_worse", lambda x, share: x)
    n = recipe.patches.shape[-1]
    ramp = (torch.arange(n) + 0.5) / n
    patch = torch.stack([ramp.expand(n, n), ramp[:, None].expand(n, n), torch.zeros(n, n)])
    recipe.patches = (patch * 255)[None]
    points = (torch.rand(1, 68, 2) - 0.5) * 0.8
    recipe.points = points
    monkeypatch.setattr(nano_faces, "_MIRROR", tuple(range(68)))
    crops, local = recipe._crops()
    read = torch.nn.functional.grid_sample(crops, local[:, :, None] * 2, align_corners=False)
    got = (read[:, :2, :, 0].mT - 0.5) * PATCH_CONTEXT
    assert (got - points).abs().max() < 0.03


def test_windows_show_the_faces_where_the_targets_say(recipe, monkeypatch):
    monkeypatch.setattr(nano_faces, "_worse", lambda x, share: x)
    scene = recipe.scenes[0]
    picture = torch.zeros_like(scene.pixels)
    x, y, size = recipe.squares[0][0].tolist()
    picture[:, round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2] = 1
    recipe.scenes = [type(scene)(picture, scene.landmarks, scene.boxes, scene.identity_seeds)]
    recipe.squares = [recipe.squares[0][:1]]
    checked = 0
    for _ in range(60):
        window, target = recipe._window()
        places = decode(torch.stack([target[0] * 8 - 4, *target[2:]]), 0.9)
        if len(places) == 0 or window.max() < 0.02:
            continue
        row, column = divmod(int(window[0].argmax()), window.shape[-1])
        scale = float(places[0, 2]) / size
        assert abs(float(places[0, 0]) - column) < 2 + 2 * scale
        assert abs(float(places[0, 1]) - row) < 2 + 2 * scale
        checked += 1
    assert checked > 10


def test_a_step_gives_finite_losses_and_reaches_every_weight(recipe):
    from facewright.training.recipe import Progress

    losses = recipe.losses("main", {}, Progress(0, 0.0))
    assert set(losses) == {"heat", "shape", "landmarks"}
    sum(losses.values()).backward()
    for name, weight in recipe.nets["faces"].named_parameters():
        assert weight.grad is not None and torch.isfinite(weight.grad).all(), name


def test_scores_of_a_perfect_analyzer(recipe):
    from facewright.core.faces import Face

    class Perfect:
        def detect(self, picture):
            return [
                Face(tuple(box.tolist()), 1.0, landmarks=points)
                for box, points in zip(
                    recipe.scenes[1].boxes, recipe.scenes[1].landmarks, strict=True
                )
            ]

    scene = recipe.scenes[1]
    got = nano_faces._score(Perfect(), [scene.pixels], [scene])
    assert got == {"recall": 1, "precision": 1, "landmark_error": 0}
