"""Group pictures: where people are and who they are."""

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.geometry.landmarks import five_points
from facewright.training.world.faces3d import photos
from facewright.training.world.scenes import group_scene


@pytest.mark.parametrize("count", [1, 3, 6])
def test_everybody_is_inside_the_picture(count):
    scene = group_scene(5, count, width=480, height=300)
    assert scene.pixels.shape == (3, 300, 480)
    assert scene.pixels.min() >= 0 and scene.pixels.max() <= 1
    assert scene.landmarks.shape == (count, 68, 2) and len(set(scene.identity_seeds)) == count
    assert (scene.boxes[:, :2] >= 0).all()
    assert (scene.boxes[:, 2:] <= torch.tensor([480, 300])).all()
    assert (scene.boxes[1:, 0] > scene.boxes[:-1, 0]).all()  # left to right
    inner = scene.landmarks[:, 27:]
    assert (inner >= scene.boxes[:, None, :2]).all() and (inner <= scene.boxes[:, None, 2:]).all()


def test_pupils_are_where_the_landmarks_say_at_both_sharpnesses():
    for supersample in (1, 2):
        scene = group_scene(2, [10, 11, 12], width=420, height=280, supersample=supersample)
        width = scene.boxes[:, 2] - scene.boxes[:, 0]
        for eyes, reach in zip(five_points(scene.landmarks)[:, :2], width, strict=True):
            for x, y in eyes.round().long().tolist():
                r = max(2, int(0.05 * reach))
                patch = scene.pixels[:, y - r : y + r + 1, x - r : x + r + 1]
                # black, but for a reflection on glasses
                assert patch.mean(0).min() < 0.25


def test_a_scene_follows_from_its_arguments():
    first, again = (
        group_scene(3, 3, width=300, height=200),
        group_scene(3, 3, width=300, height=200),
    )
    assert torch.equal(first.pixels, again.pixels)
    other = group_scene(4, 3, width=300, height=200)
    assert not torch.equal(first.pixels, other.pixels)
    assert not set(first.identity_seeds) & set(other.identity_seeds)


def test_people_keep_their_identity():
    scene = group_scene(0, [21, 22, 23], width=480, height=300)
    assert scene.identity_seeds == [21, 22, 23]
    alone = photos([21, 22, 23], [0], 16).identities
    assert torch.equal(alone.eye_x, photos(scene.identity_seeds, [9], 16).identities.eye_x)


def test_it_is_one_picture_not_tiles():
    scene = group_scene(1, 4, width=640, height=360)
    top = scene.pixels[:, :4]  # above all heads: nothing but background
    assert (top[..., 1:] - top[..., :-1]).abs().max() < 0.03


def test_refusals():
    with pytest.raises(FacewrightError, match="1 to 8"):
        group_scene(0, 9)
    with pytest.raises(FacewrightError, match="at least 32"):
        group_scene(0, 6, width=120, height=300)
