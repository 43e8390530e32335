"""Marks of rendered people: found where they are drawn, and by how much they are there."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from facewright.benchmarks._marks import (
    FALSE_POSITIVE,
    HIT,
    TOLERANCE,
    Measured,
    Signature,
    measure,
    probes,
)
from facewright.benchmarks._marks_changes import APART, LARGE, MEAN_OF, changes
from facewright.benchmarks._marks_sheet import CELL, close_ups
from facewright.core.drawing.sheet import GAP
from facewright.core.errors import FacewrightError
from facewright.training.world.faces3d import photos, render
from facewright.training.world.identities import sample_identities
from scipy.ndimage import gaussian_filter

PEOPLE = list(range(100, 124))
SHOTS = [7 * p for p in PEOPLE]
WRONG = PEOPLE[1:] + PEOPLE[:1]
SIZE = 128


@pytest.fixture(scope="module")
def gt():
    return photos(PEOPLE, SHOTS, SIZE, jitter=1.0)


@pytest.fixture(scope="module")
def asked():
    return list(probes(PEOPLE, SHOTS, WRONG, SIZE))


def one_each(asked):
    return list({(p.mark, p.test): p for p in asked}.values())


def test_every_mark_is_asked_for_both_ways(asked):
    kinds = {(p.mark, p.test) for p in asked}
    assert kinds == {(mark, test) for mark in TOLERANCE for test in (HIT, FALSE_POSITIVE)}


def test_presence_is_exact_on_mixtures_under_gain_and_offset(asked):
    gain = torch.tensor([0.7, 1.0, 1.2])[:, None, None]
    offset = torch.tensor([0.1, -0.05, 0.0])[:, None, None]
    for p in one_each(asked):
        mixtures = torch.stack([p.without, (p.without + p.having) / 2, p.having]).double()
        expected = torch.tensor([0, 0.5, 1], dtype=torch.float64)
        assert torch.allclose(p.signature.presence(mixtures), expected, atol=2e-3), p.mark
        # What little of the blurred signature lies outside the window enters the gain.
        cast = p.signature.presence(mixtures * gain + offset)
        assert torch.allclose(cast, expected, atol=0.02), p.mark


def test_presence_hardly_moves_with_noise_blur_and_shading(asked):
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(-0.1, 0.1, SIZE).expand(3, SIZE, SIZE)
    for p in asked:
        both = torch.stack([p.without, p.having])
        expected = torch.tensor([0.0, 1.0], dtype=torch.float64)
        noisy = both + 0.02 * torch.randn(both.shape, generator=generator)
        assert (p.signature.presence(noisy) - expected).abs().max() < 0.25, p.mark
        assert (p.signature.presence(both + ramp) - expected).abs().max() < 0.25, p.mark
        soft = torch.from_numpy(gaussian_filter(p.without.double().numpy(), (0, 2, 2)))
        limit = 0.3 if p.mark == "freckles" else 0.1  # they lie on the edges of everything else
        assert p.signature.presence(soft[None]).abs() < limit, p.mark


def test_presence_is_the_joint_least_squares_solution(asked, gt):
    """One system with all unknowns, blurred by scipy, against the projection."""

    def blur(x, share):
        sigma = share * SIZE
        return np.stack(
            [gaussian_filter(c, sigma, mode="nearest", radius=max(1, round(3 * sigma))) for c in x]
        )

    generator = torch.Generator().manual_seed(1)
    for p in one_each(asked):
        picture = 0.9 * gt.pixels[p.picture] + 0.1 * torch.rand(3, SIZE, SIZE, generator=generator)
        tolerance = TOLERANCE[p.mark]
        base, having, r = (
            blur(x.double().numpy(), tolerance) for x in (p.without, p.having, picture)
        )
        inside = p.signature.window.numpy()
        for k in range(3):
            gain, offset = np.polyfit(base[k][~inside], r[k][~inside], 1)
            r[k] = (r[k] - offset) / gain
        edges = [base - blur(base, share) for share in (0.01, 0.025, 0.05)]
        rows, values = [], []
        for k in range(3):
            for y, x in np.argwhere(inside):
                plane = np.zeros((3, 3))
                plane[k] = 1, x / SIZE, y / SIZE
                delta = having[k, y, x] - base[k, y, x]
                rows.append([delta, *plane.ravel(), *(e[k, y, x] for e in edges)])
                values.append(r[k, y, x] - base[k, y, x])
        expected = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0][0]
        assert float(p.signature.presence(picture[None])) == pytest.approx(expected, abs=1e-7)


def test_moles_are_sought_where_the_renderer_says_they_are(asked, gt):
    points, there = gt.moles()
    found = [p for p in asked if p.mark == "mole" and p.test == HIT]
    assert len(found) > 10
    apart = []
    for p in found:
        assert torch.equal(p.having, gt.pixels[p.picture])
        change = (p.having - p.without).abs().sum(0)
        change = change * (change > 0.1 * change.max())  # relief moves the exposure a little
        ys, xs = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        centre = torch.stack([(change * xs).sum(), (change * ys).sum()]) / change.sum()
        distance = (points[p.picture] - centre).norm(dim=-1)
        apart.append(distance[there[p.picture]].min())
    # Where hair, beard or glasses cut a mole, what can be seen of it lies to one side.
    assert torch.stack(apart).quantile(0.8) < 0.7 and max(apart) < 6
    # Each large one once: no more questions than moles.
    large = there & (gt.identities.moles[..., 2] >= LARGE)
    for i in range(len(PEOPLE)):
        assert sum(p.picture == i for p in found) <= int(large[i].sum())


def test_the_wrong_persons_things_are_drawn_onto_the_right_person(asked, gt):
    people, others = gt.identities, sample_identities(WRONG)
    for p in asked:
        own, other = people.take([p.picture]), others.take([p.picture])
        if p.test == FALSE_POSITIVE:
            assert torch.equal(p.without, gt.pixels[p.picture])
        worn = {"glasses": "glasses", "earring": "earring", "lips": "lipstick"}.get(p.mark)
        if worn is not None:
            had, theirs = float(getattr(own, worn)), float(getattr(other, worn))
            assert (had > 0) == (p.test == HIT) and (had > 0) != (theirs > 0)
        looks = {
            "earring": ("earring", "earring_ring", "earring_radius", "earring_rgb"),
            "lips": ("lipstick", "lipstick_rgb"),
        }.get(p.mark)
        if looks is not None and p.test == FALSE_POSITIVE:
            painted = replace(own, **{name: getattr(other, name) for name in looks})
            drawn = render(painted, gt.nuisances.take([p.picture]), SIZE, jitter=1.0)
            assert torch.allclose(p.having, drawn.pixels[0], atol=1e-5)
        if p.mark == "freckles":
            more = float(own.freckles - other.freckles)
            assert (more if p.test == HIT else -more) >= 0.25
        if p.mark == "iris" and p.test == FALSE_POSITIVE:
            drawn = render(
                replace(own, iris_rgb=other.iris_rgb),
                gt.nuisances.take([p.picture]),
                SIZE,
                jitter=1.0,
            )
            assert torch.allclose(p.having, drawn.pixels[0], atol=1e-5)


def test_a_mole_beside_an_own_one_is_nobodys():
    people, wrong = sample_identities([1, 2]), sample_identities([3, 4])
    moles = torch.tensor([[0.1, 0.3, 0.04, 1.0]] + [[0.0, 0.8, 0.04, 0.0]] * 3).expand(2, -1, -1)
    theirs = moles.clone()
    theirs[:, 0, 0] += torch.tensor([0.05, 0.15])
    both = replace(people, moles=moles), replace(wrong, moles=theirs)
    rows = [
        (test, index.tolist(), changed.moles)
        for mark, test, index, changed in changes(*both)
        if mark == "mole" and len(index)
    ]
    (hit, all_rows, without), (false_positive, far, having) = rows
    assert (hit, all_rows, false_positive, far) == (HIT, [0, 1], FALSE_POSITIVE, [1])
    assert without[:, 0, 3].tolist() == [0, 0] and torch.equal(without[:, 1:], moles[:, 1:])
    assert torch.equal(having[0], torch.cat([moles[1], theirs[1, :1]]))


def test_small_moles_are_not_asked_for():
    people, wrong = sample_identities([1]), sample_identities([3])
    moles = torch.tensor([[[0.1, 0.3, 0.02, 1.0], [-0.3, 0.3, 0.04, 1.0]]])
    theirs = moles + torch.tensor([0.0, 0.4, 0.0, 0.0])
    rows = [
        (test, len(index), changed.moles)
        for mark, test, index, changed in changes(
            replace(people, moles=moles), replace(wrong, moles=theirs)
        )
        if mark == "mole" and len(index)
    ]
    assert [(test, count) for test, count, _ in rows] == [(HIT, 1), (FALSE_POSITIVE, 1)]
    assert rows[0][2][0, :, 3].tolist() == [1, 0]
    assert torch.equal(rows[1][2][0, 2], theirs[0, 1])


def test_scars_are_asked_for_one_by_one():
    """Pale and red alike; and a strange one is drawn beside the own if that is far enough."""
    people, wrong = sample_identities([1, 2, 3]), sample_identities([4, 5, 6])
    own = torch.tensor([0.3, 0.3, 0.0, 0.1, 0.02, 0.0, 1.0]).repeat(3, 1, 1)
    own[:, 0, 6] = torch.tensor([1.0, -1.0, 0.0])
    strange = own.clone()
    strange[:, 0, 6] = -1
    strange[:, 0, 0] += torch.tensor([0.5, 0.9, 0.5]) * APART["scar"]
    strange[1, 0, 1] += 0.9 * APART["scar"]
    rows = [
        (test, index.tolist(), changed.scars)
        for mark, test, index, changed in changes(
            replace(people, scars=own), replace(wrong, scars=strange)
        )
        if mark == "scar"
    ]
    (hit, had, without), (false_positive, far, having) = rows
    assert (hit, had, false_positive, far) == (HIT, [0, 1], FALSE_POSITIVE, [1, 2])
    assert without[:, 0, 6].tolist() == [0, 0]
    assert torch.equal(having, torch.cat([own, strange], 1)[1:])


def test_glasses_are_asked_for_where_one_of_the_two_wears_them():
    people, wrong = sample_identities([1, 2, 3, 4]), sample_identities([5, 6, 7, 8])
    people = replace(people, glasses=torch.tensor([1.0, 1, 0, 0]))
    wrong = replace(wrong, glasses=torch.tensor([1.0, 0, 1, 0]))
    rows = {
        test: (index.tolist(), changed)
        for mark, test, index, changed in changes(people, wrong)
        if mark == "glasses"
    }
    assert rows[HIT][0] == [1] and rows[HIT][1].glasses.tolist() == [0]
    assert rows[FALSE_POSITIVE][0] == [2]
    assert torch.equal(rows[FALSE_POSITIVE][1].glasses_rgb[0], wrong.glasses_rgb[2])
    assert torch.equal(rows[FALSE_POSITIVE][1].eye_x[0], people.eye_x[2])


def test_covered_moles_are_not_asked_for(asked, gt):
    """A mole drawn in the hair, under a beard or beside the face changes next to nothing."""
    moles = gt.identities.moles
    count = int(((moles[..., 3] > 0) & (moles[..., 2] >= LARGE)).sum())
    found = [p for p in asked if p.mark == "mole" and p.test == HIT]
    assert 0 < len(found) < count
    for p in found:
        assert (p.having - p.without).abs().max() > 0.05


@pytest.fixture(scope="module")
def measured(gt):
    people, others = gt.identities, sample_identities(WRONG)
    n, nuisances = len(people), gt.nuisances
    bare_moles = people.moles.clone()
    bare_moles[..., 3] = 0
    nobody = replace(
        people,
        moles=bare_moles,
        scars=torch.zeros_like(people.scars),
        **{name: torch.zeros(n) for name in ("earring", "lipstick", "glasses", "freckles")},
        iris_rgb=sample_identities(list(range(MEAN_OF))).iris_rgb.mean(0).expand(n, -1),
    )

    def worn(field, start):
        """Theirs on those who have none."""
        names = [name for name in vars(people) if name.startswith(start)]
        values = {name: getattr(people, name).clone() for name in names}
        index = (getattr(others, field) > 0) & (getattr(people, field) == 0)
        for name, value in values.items():
            value[index] = getattr(others, name)[index]
        return values

    painted = {
        "mole": {"moles": torch.cat([people.moles, others.moles], 1)},
        "scar": {"scars": torch.cat([people.scars, others.scars], 1)},
        "earring": worn("earring", "earring"),
        "lips": worn("lipstick", "lipstick"),
        "iris": {"iris_rgb": others.iris_rgb},
        "glasses": worn("glasses", "glasses"),
        "freckles": {"freckles": torch.maximum(people.freckles, others.freckles)},
    }
    everybody = {"nobody": nobody} | {k: replace(people, **v) for k, v in painted.items()}
    pictures = {
        name: render(x, nuisances, SIZE, jitter=1.0).pixels for name, x in everybody.items()
    }
    return measure(PEOPLE, SHOTS, WRONG, {"GT": gt.pixels, **pictures})


def test_rates_of_pictures_whose_marks_are_known(measured):
    table = measured.table()
    for mark in TOLERANCE:
        assert table["GT"][mark][HIT]["mean"] == 1, mark
        assert table["GT"][mark][HIT]["amount"] == pytest.approx(1, abs=2e-3)
        assert table["GT"][mark][FALSE_POSITIVE]["mean"] == 0, mark
        assert table["nobody"][mark][HIT]["mean"] <= 0.1, mark
        # Everything else in a picture with the wrong person's mark is the person's own.
        # But where two strange moles touch, one by itself is not what was drawn.
        assert table[mark][mark][FALSE_POSITIVE]["mean"] > 0.98, mark
        for other in set(TOLERANCE) - {mark}:
            assert table[mark][other][FALSE_POSITIVE]["mean"] <= 0.1, (mark, other)
    for mark in set(TOLERANCE) - {"iris"}:
        assert table["nobody"][mark][FALSE_POSITIVE]["mean"] <= 0.1, mark
        assert table[mark][mark][HIT]["mean"] == 1, mark
    assert table["iris"]["iris"][HIT]["mean"] < 0.7  # the other colour is mostly farther off


def test_scores_are_one_value_for_each_person():
    one = Measured(
        mark=np.array(["mole", "mole", "mole", "iris"]),
        test=np.array([HIT, HIT, HIT, FALSE_POSITIVE]),
        person=np.array([5, 5, 3, 4]),
        amount={"a": np.array([0.9, 0.1, 0.8, 0.7])},
    )
    scores = one.scores("a", [3, 4, 5])
    assert set(scores) == {f"{kind}_{mark}" for kind in ("hits", "false") for mark in TOLERANCE}
    assert scores["hits_mole"] == pytest.approx([1, np.nan, 0.5], nan_ok=True)
    assert scores["false_iris"] == pytest.approx([np.nan, 1, np.nan], nan_ok=True)
    assert np.isnan(scores["hits_lips"]).all()


def test_a_person_counts_once_however_many_photos_and_moles():
    amounts = {"a": np.array([0.9, 0.9, 0.1, 0.2, 0.6]), "b": np.array([0.4, 0.9, 0.1, 0.7, 0.6])}
    one = Measured(
        mark=np.array(["mole"] * 4 + ["iris"]),
        test=np.array([HIT] * 5),
        person=np.array([3, 3, 3, 5, 5]),
        amount=amounts,
    )
    assert one.by_person("a", "mole", HIT).tolist() == pytest.approx([2 / 3, 0])
    cell = one.table()["a"]["mole"][HIT]
    assert cell["mean"] == pytest.approx(1 / 3)
    assert cell["amount"] == pytest.approx((1.9 / 3 + 0.2) / 2)
    assert (cell["people"], cell["marks"]) == (2, 4)
    assert np.isnan(cell["low"])  # two people tell nothing about others
    nothing = one.table()["a"]["glasses"][FALSE_POSITIVE]
    assert nothing["people"] == 0 and np.isnan(nothing["mean"])
    difference = one.difference("mole", HIT, "b", "a")
    assert difference.mean == pytest.approx(((1 / 3 - 2 / 3) + (1 - 0)) / 2)
    assert (difference.count, difference.wins, difference.losses) == (2, 0.5, 0.5)
    assert one.difference("mole", HIT, "b", "a", amount=True).mean == pytest.approx(
        (-0.5 / 3 + 0.5) / 2
    )


def test_intervals_are_over_people(measured):
    cell = measured.table()["iris"]["iris"][HIT]
    values = measured.by_person("iris", "iris", HIT)
    assert len(values) == cell["people"] >= 6
    assert cell["low"] <= cell["mean"] == values.mean() <= cell["high"]


def test_close_ups_show_the_marks(gt):
    count = 16
    dark = torch.zeros(count, 3, SIZE, SIZE)
    lists = PEOPLE[:count], SHOTS[:count], WRONG[:count]
    sheet = close_ups(*lists, {"GT": gt.pixels[:count], "dark": dark}, each=1)
    assert sheet.shape == (3, len(TOLERANCE) * (CELL + GAP) - GAP, 8 * (CELL + GAP) - GAP)
    # GT shows the mark of the hit's last column, and lacks that of the false positive's.
    above = slice(0, CELL // 2)  # the label lies below
    cells = [sheet[:, above, i * (CELL + GAP) : i * (CELL + GAP) + CELL] for i in range(8)]
    assert torch.equal(cells[1], cells[3]) and not torch.equal(cells[1], cells[0])
    assert torch.equal(cells[5], cells[4]) and not torch.equal(cells[5], cells[7])
    assert cells[2].max() == 0


def test_lists_that_do_not_fit_are_refused(gt):
    one = {"GT": gt.pixels[:1]}
    with pytest.raises(FacewrightError, match="1, 2 and 1 seeds"):
        list(probes([1], [1, 2], [2], 64))
    with pytest.raises(FacewrightError, match="person 1 stands twice"):
        measure([1], [1], [1], one)
    with pytest.raises(FacewrightError, match="one per seed"):
        measure([1, 2], [1, 2], [2, 1], one)
    with pytest.raises(FacewrightError, match="one per seed"):
        measure([1], [1], [2], {})
    with pytest.raises(FacewrightError, match="one size"):
        measure([1], [1], [2], {**one, "small": torch.zeros(1, 3, 64, 64)})


def test_drawings_that_cannot_be_told_apart_are_refused(gt):
    picture = gt.pixels[0]
    with pytest.raises(FacewrightError, match="equal"):
        Signature(picture, picture, 0.005)
    with pytest.raises(FacewrightError, match="one size"):
        Signature(picture, picture[:, 1:], 0.005)
    with pytest.raises(FacewrightError, match="to compare"):
        Signature(picture, picture + torch.rand(3, SIZE, SIZE), 0.005).presence(
            picture[None, :, 1:]
        )
