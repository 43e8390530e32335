"""The rendered world: seeds, framing, and landmarks that sit on what is drawn."""

import dataclasses

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.geometry.landmarks import five_points
from facewright.core.geometry.templates import template
from facewright.training.world.anatomy import canonical_landmarks, project
from facewright.training.world.faces3d import photos, render
from facewright.training.world.identities import sample_identities
from facewright.training.world.nuisances import sample_nuisances
from facewright.training.world.pose import aligned_camera, turn, turn_back

SIZE = 128


@pytest.fixture(scope="module")
def faces():
    return photos(range(12), range(50, 62), SIZE)


def luminance(rgb):
    return (rgb * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(-3)


def at(pixels, points):
    """Pixels (b, 3, h, w) at points (b, k, 2), rounded -> (b, k, 3)."""
    x, y = points.round().long().clamp(0, pixels.shape[-1] - 1).unbind(-1)
    return torch.stack([p[:, j, i].T for p, i, j in zip(pixels, x, y, strict=True)])


def with_fields(parameters, **values):
    return dataclasses.replace(
        parameters, **{k: torch.full_like(getattr(parameters, k), v) for k, v in values.items()}
    )


@pytest.mark.parametrize("sample", [sample_identities, sample_nuisances])
def test_parameters_follow_from_the_seed_alone(sample):
    together, alone, reordered = sample([3, 4, 5]), sample(4), sample([5, 2**40, 4])
    for field in dataclasses.fields(together):
        values = getattr(together, field.name)
        assert torch.equal(values[1:2], getattr(alone, field.name)), field.name
        assert torch.equal(values[1], getattr(reordered, field.name)[2]), field.name
        assert torch.isfinite(values).all(), field.name


def test_people_and_photos_differ():
    people = sample_identities(range(200))
    assert len(people.texture_offset.unique(dim=0)) == 200
    for binary in ("glasses", "bald", "hair_curl"):
        assert 0.02 < getattr(people, binary).mean() < 0.5
    assert 0.05 < (people.beard > 0).float().mean() < 0.5
    assert 0 < people.skin_tone.min() < 0.05 and people.skin_tone.max() > 0.9
    first, second = photos(7, [0, 1], 64).pixels
    assert (first - second).abs().mean() > 0.02


def test_pixels_do_not_depend_on_the_batch(faces):
    alone = photos(5, 55, SIZE)
    assert torch.allclose(alone.pixels[0], faces.pixels[5], atol=1e-4)
    assert torch.allclose(alone.landmarks[0], faces.landmarks[5], atol=1e-4)


def test_values_and_shapes(faces):
    assert faces.pixels.shape == (12, 3, SIZE, SIZE)
    assert faces.matte.shape == (12, 1, SIZE, SIZE)
    for x in (faces.pixels, faces.matte):
        assert torch.isfinite(x).all() and x.min() >= 0 and x.max() <= 1


def test_turning_there_and_back():
    pose = sample_nuisances(range(40))
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(40, 300, generator=generator) * 1.8 - 0.9
    v = torch.rand(40, 300, generator=generator) * 2.4 - 1.2
    u_back, v_back = turn_back(*turn(u, v, pose), pose)
    # A unit is 51 pixels at 128 px: half a tenth of a pixel at worst.
    assert (u_back - u).abs().max() < 1e-3 and (v_back - v).abs().max() < 1e-3
    assert (u_back - u).abs().mean() < 5e-5


def test_alignment_is_the_least_squares_similarity():
    people, pose = sample_identities(range(6)), sample_nuisances(range(6))
    points = five_points(canonical_landmarks(people, pose))
    matrix = aligned_camera(points, pose, 512, jitter=0.0)
    target = template(512).numpy()
    for p, m in zip(points.double().numpy(), matrix, strict=True):
        rows, values = [], []
        for (x, y), (tx, ty) in zip(p, target, strict=True):
            rows += [[x, -y, 1, 0], [y, x, 0, 1]]
            values += [tx, ty]
        a, b, c, d = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
        np.testing.assert_allclose(m, [[a, -b, c], [b, a, d]], rtol=1e-4, atol=1e-3)


def test_aligned_faces_sit_on_the_template(faces):
    error = (five_points(faces.landmarks) - template(SIZE).float()).norm(dim=-1)
    assert error.mean() < 0.04 * SIZE
    jittered = photos(range(12), range(50, 62), SIZE, jitter=1.0)
    moved = (jittered.landmarks - faces.landmarks).norm(dim=-1).mean()
    assert 0.005 * SIZE < moved < 0.05 * SIZE


def test_sizes_show_the_same_picture(faces):
    large = photos(range(5), range(50, 55), 2 * SIZE)
    halved = torch.nn.functional.avg_pool2d(large.pixels, 2)
    assert (halved - faces.pixels[:5]).abs().mean() < 0.012
    assert torch.allclose((large.landmarks + 0.5) / 2 - 0.5, faces.landmarks[:5], atol=1e-3)
    fine = photos(range(5), range(50, 55), SIZE, supersample=2)
    assert torch.allclose(fine.pixels, halved, atol=1e-4)
    assert torch.allclose(fine.landmarks, faces.landmarks[:5], atol=1e-3)


@pytest.mark.parametrize("aligned", [True, False])
def test_irises_are_drawn_where_they_are_said_to_be(aligned):
    people = with_fields(sample_identities(range(8)), glasses=0.0)
    pose = with_fields(sample_nuisances(range(8)), lids=1.0)
    people.iris_rgb[:] = torch.tensor([0.1, 0.9, 0.1])  # no skin is this green
    drawn = render(people, pose, 256, aligned=aligned)
    greenness = drawn.pixels[:, 1] - drawn.pixels[:, [0, 2]].amax(1)
    grid = torch.stack(torch.meshgrid(torch.arange(256), torch.arange(256), indexing="xy"), -1)
    for i in range(8):
        for centre in drawn.irises()[i]:
            near = (grid - centre).norm(dim=-1) < 0.06 * 256
            weight = (greenness[i] > 0.1) & near
            assert weight.sum() > 20
            found = grid[weight].float().mean(0)
            assert (found - centre).norm() < 0.012 * 256
            # and they lie in the eye that the landmarks outline
    eyes = five_points(drawn.landmarks)[:, :2]
    assert (eyes - drawn.irises()).norm(dim=-1).max() < 0.06 * 256


def test_lips_lie_between_their_landmarks(faces):
    people = with_fields(sample_identities(range(8)), lip_red=1.0, moustache=0.0, beard=0.0)
    pose = sample_nuisances(range(8))
    drawn = render(people, pose, 256)
    lower = (drawn.landmarks[:, 66] + drawn.landmarks[:, 57]) / 2
    chin = drawn.landmarks[:, 57].lerp(drawn.landmarks[:, 8], 0.5)

    def redness(rgb):
        return rgb[..., 0] / rgb[..., 1]

    lip, skin = at(drawn.pixels, lower[:, None]), at(drawn.pixels, chin[:, None])
    assert (redness(lip) > 1.15 * redness(skin)).all()


def test_an_open_mouth_is_dark_inside_its_landmarks():
    pose = with_fields(sample_nuisances(range(8)), mouth_open=1.0)
    drawn = render(sample_identities(range(8)), pose, 256)
    inside = drawn.landmarks[:, 66].lerp(drawn.landmarks[:, 62], 0.12)[:, None]
    assert at(drawn.pixels, inside).mean(-1).max() < 0.45


def test_moles_are_drawn_where_they_are_said_to_be():
    people = with_fields(sample_identities(range(8)), beard=0.0, moustache=0.0, glasses=0.0)
    people.moles[:, 1:, 3] = 0
    people.moles[:, 0] = torch.tensor([0.36, 0.35, 0.03, 1.0])
    pose = sample_nuisances(range(8))
    drawn = render(people, pose, 256)
    points, there = drawn.moles()
    assert torch.equal(there, torch.tensor([True] + [False] * 5).expand(8, -1))
    people.moles[..., 3] = 0
    clear = render(people, pose, 256)
    change = (clear.pixels - drawn.pixels).mean(1)
    grid = torch.stack(torch.meshgrid(torch.arange(256), torch.arange(256), indexing="xy"), -1)
    for one, point in zip(change, points[:, 0], strict=True):
        assert one.max() > 0.1
        mass = (one[..., None] * grid).sum((0, 1)) / one.sum()
        assert (mass - point).norm() < 1.0


def bare(people):
    """Nothing but the features that everybody has."""
    names = ("beard", "moustache", "glasses", "freckles", "lipstick", "earring", "hair_fringe")
    people = with_fields(people, **dict.fromkeys(names, 0.0))
    return with_fields(people, moles=0.0, scars=0.0)


def test_marks_are_as_common_as_they_should_be():
    people = sample_identities(range(800))
    large = people.moles[:, 4:, 3].sum(1)
    assert 0.55 < (large > 0).float().mean() < 0.65 and 0.1 < (large == 2).float().mean() < 0.3
    sizes = people.moles[:, 4:, 2] / people.moles[:, :4, 2].max()
    assert sizes.min() > 1.3
    assert 0.25 < people.moles[:, :4, 3].mean() < 0.35
    kinds = people.scars[:, 0, 6]
    assert 0.1 < (kinds > 0).float().mean() < 0.3 and 0.1 < (kinds < 0).float().mean() < 0.3
    assert 0.25 < people.earring.mean() < 0.5
    made_up = people.lipstick > 0
    assert 0.15 < made_up.float().mean() < 0.4
    assert not (made_up & ((people.beard > 0) | (people.moustache > 0))).any()
    # Irises spread over the hues: each third of the colour wheel holds its share.
    strongest = people.iris_rgb.argmax(1).bincount(minlength=3) / 800
    assert strongest.min() > 0.1


def test_older_parameters_do_not_hang_on_marks():
    """Values read before there were large moles, scars, earrings and lipsticks."""
    people = sample_identities([0, 7, 2**40])
    recorded = {
        "skin_tone": [0.419689, 0.351331, 0.274034],
        "eye_x": [0.302176, 0.273, 0.30297],
        "glasses_radius": [0.217034, 0.21536, 0.232503],
    }
    for name, values in recorded.items():
        assert getattr(people, name).tolist() == pytest.approx(values, abs=1e-5), name
    offset = people.texture_offset[:, 1].tolist()
    assert offset == pytest.approx([216.3776, 40.7136, 247.9581], abs=1e-3)  # read last


def drawn_mass(change):
    """Centre (x, y) and standard deviations along and across of changes (s, s)."""
    grid = torch.stack(torch.meshgrid(torch.arange(256), torch.arange(256), indexing="xy"), -1)
    weight = change / change.sum()
    centre = (weight[..., None] * grid).sum((0, 1))
    apart = (grid - centre).flatten(0, 1)
    spread = (weight.flatten()[:, None, None] * apart[:, :, None] * apart[:, None]).sum(0)
    return centre, torch.linalg.eigvalsh(spread).clamp(min=0).sqrt().flip(0)


@pytest.mark.parametrize("kind", [1.0, -1.0])
def test_scars_are_short_lines_where_they_should_be(kind):
    people, pose = bare(sample_identities(range(8))), sample_nuisances(range(8))
    clear = render(people, pose, 256)
    people.scars[:, 0] = torch.tensor([0.34, 0.36, 0.4, 0.12, 0.02, 0.0, kind])
    drawn = render(people, pose, 256)
    points = project(people.scars[..., :2], pose, drawn.camera)[:, 0]
    lighter = (drawn.pixels - clear.pixels).mean(1)
    for change, point in zip(lighter, points, strict=True):
        strong = change.abs() * (change.abs() > 0.02)
        centre, (along, across) = drawn_mass(strong)
        assert (centre - point).norm() < 2.5  # under a lens, with the light on one flank
        assert along > 2.5 * across
        inner = change[int(point[1]) - 1 : int(point[1]) + 3, int(point[0]) - 1 : int(point[0]) + 3]
        assert kind * inner.mean() > 0.02


@pytest.mark.parametrize("ring", [0.0, 1.0])
def test_earrings_hang_from_both_ears(ring):
    people = with_fields(bare(sample_identities(range(8))), hair_length=0.0, bald=1.0)
    pose = with_fields(sample_nuisances(range(8)), yaw=0.0)
    clear = render(people, pose, 256)
    people = with_fields(people, earring=1.0, earring_ring=ring, earring_radius=0.05 + 0.05 * ring)
    people.earring_rgb[:] = torch.tensor([0.1, 0.9, 0.1])
    drawn = render(people, pose, 256)
    change = (drawn.pixels - clear.pixels).abs().amax(1)
    for one, picture, landmarks in zip(change, drawn.pixels, drawn.landmarks, strict=True):
        rows, columns = (one > 0.1).nonzero(as_tuple=True)
        middle = landmarks[27, 0]
        for beside in (columns < middle, columns > middle):
            assert beside.sum() > 20
            # below the eyes and above the mouth, at the outline or beyond
            height = rows[beside].float().mean()
            assert landmarks[39, 1] < height < landmarks[57, 1]
        width = (landmarks[15, 0] - landmarks[1, 0]) / 2
        assert (columns - middle).abs().min() > 0.8 * width
        green = picture[1] - picture[[0, 2]].amax(0)
        assert (green[one > 0.1] > 0.1).float().mean() > 0.5


def test_lipstick_is_on_the_lips_alone():
    people = bare(sample_identities(range(8)))
    people.lipstick_rgb[:] = torch.tensor([0.1, 0.2, 0.9])
    pose = sample_nuisances(range(8))
    clear, drawn = (render(with_fields(people, lipstick=x), pose, 256) for x in (0.0, 0.9))
    lower = (drawn.landmarks[:, 66] + drawn.landmarks[:, 57]) / 2
    red, _, blue = at(drawn.pixels, lower[:, None])[:, 0].T
    assert (blue > 1.5 * red).all()
    changed = (drawn.pixels - clear.pixels).abs().amax(1) > 0.02
    for one, landmarks in zip(changed, drawn.landmarks, strict=True):
        low, high = landmarks[48:].amin(0) - 6, landmarks[48:].amax(0) + 6
        rows, columns = one.nonzero(as_tuple=True)
        assert columns.min() > low[0] and columns.max() < high[0]
        assert rows.min() > low[1] and rows.max() < high[1]


def test_the_matte_covers_the_face_and_leaves_the_background(faces):
    x, y = faces.landmarks[:, 27:].round().long().unbind(-1)
    for matte, i, j in zip(faces.matte, x, y, strict=True):
        assert (matte[0, j, i] > 0.99).all()
    clear = faces.matte == 0
    assert clear.flatten(1).float().mean(1).min() > 0.05
    # Behind the people nothing is fine-grained.
    step = (faces.pixels[..., 1:] - faces.pixels[..., :-1]).abs().amax(1, keepdim=True)
    assert step[clear[..., 1:] & clear[..., :-1]].max() < 0.05


def test_eyes_of_the_darkest_faces_are_readable():
    people = sample_identities(range(400))
    darkest = people.take(people.skin_tone.argsort()[-6:])
    darkest = with_fields(darkest, glasses=0.0)
    drawn = render(darkest, with_fields(sample_nuisances(range(6)), lids=1.0), 256)
    light = luminance(drawn.pixels)
    for picture, landmarks in zip(light, drawn.landmarks, strict=True):
        for eye in (landmarks[36:42], landmarks[42:48]):
            (x0, y0), (x1, y1) = eye.amin(0).long(), eye.amax(0).long() + 1
            box = picture[y0:y1, x0:x1]
            assert box.max() - box.min() > 0.45
    skin = light[:, 150:170, 100:110].mean((1, 2))
    assert skin.min() > 0.15


@pytest.mark.parametrize("name", ["glasses", "beard"])
def test_glasses_and_beards_stand_out(name):
    people, pose = (
        with_fields(sample_identities(range(12)), hair_length=0.0),
        sample_nuisances(range(12)),
    )
    on = render(with_fields(people, **{name: 1.0}), pose, SIZE).pixels
    off = render(with_fields(people, **{name: 0.0}), pose, SIZE).pixels
    changed = (on - off).abs().amax(1) > 0.1
    assert changed.flatten(1).float().mean(1).min() > 0.01


def test_edges_of_the_range():
    assert photos([], [], 32).pixels.shape == (0, 3, 32, 32)
    assert photos(1, 1, 1).pixels.shape == (1, 3, 1, 1)
    with pytest.raises(FacewrightError, match="one person"):
        photos([1, 2], [1, 2, 3], 32)
    with pytest.raises(FacewrightError, match="from 0 up"):
        photos([-1], [0], 32)
    with pytest.raises(FacewrightError, match="at least 1"):
        photos(1, 1, 0)
    with pytest.raises(FacewrightError, match="68"):
        five_points(torch.zeros(1, 5, 2))
