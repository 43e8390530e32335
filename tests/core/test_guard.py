"""The identity guard on rendered people, and receipts against numbers worked out apart."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facewright.core.drawing.receipts import draw_receipts
from facewright.core.errors import FacewrightError
from facewright.core.faces import load_analyzer
from facewright.core.people.guard import guard_faces, references_for
from facewright.core.people.judging import STRENGTHS
from facewright.core.people.measured import measure
from facewright.core.people.person import Person
from facewright.core.people.receipts import parse_json, png_texts
from facewright.core.people.recogniser import nano_recogniser
from facewright.core.weights import nano
from facewright.training.world.faces3d import photos


@pytest.fixture(scope="module")
def recogniser():
    return nano_recogniser(nano.load_identity("loss"))


@pytest.fixture(scope="module")
def analyzer():
    return load_analyzer("nano")


@pytest.fixture(scope="module")
def people():
    """Four people: soft pictures of them, the same pictures sharp, and other photos of them."""
    ids = [9001, 9002, 9003, 9004]
    sharp, other = (photos(ids, [seed] * 4, 128).pixels for seed in (1, 2))
    soft = F.interpolate(F.avg_pool2d(sharp, 4), scale_factor=4.0, mode="bilinear")
    return soft, sharp, other


def album(name, crops, recogniser, made_by=None):
    return Person(
        name=name,
        crops=crops,
        embeddings=recogniser(crops),
        landmarks=torch.rand(len(crops), 68, 2),
        quality=torch.ones(len(crops)),
        recogniser=made_by or recogniser.id,
        sources=tuple(f"photo {i}" for i in range(len(crops))),
    )


def test_the_same_people_pass_bit_for_bit(people, recogniser, analyzer):
    lq, restored, _ = people
    result = guard_faces(lq, restored, recogniser=recogniser, landmarker=analyzer)
    assert torch.equal(result.restored, restored)
    assert result.restored.data_ptr() != restored.data_ptr()
    for i, receipt in enumerate(result.receipts):
        assert (receipt.face, receipt.verdict, receipt.strength) == (i, "kept", 1.0)
        assert receipt.anchor == "input" and receipt.person is None
        a, b = recogniser(lq[i : i + 1])[0].double(), recogniser(restored[i : i + 1])[0].double()
        assert receipt.drift == pytest.approx(1 - float(a @ b), abs=1e-5)
        assert receipt.drift == receipt.drift_restored < 0.5
        assert receipt.cosine_input == pytest.approx(1 - receipt.drift)
        assert math.isnan(receipt.cosine_references)


def test_an_unchanged_face_has_a_receipt_of_nothing(people, recogniser, analyzer):
    lq, _, _ = people
    for receipt in guard_faces(
        lq, lq, recogniser=recogniser, landmarker=analyzer, max_drift=0.0
    ).receipts:
        assert receipt.verdict == "kept" and receipt.drift == 0
        assert receipt.measured.ald == {"eyes": 0.0, "mouth": 0.0}
        assert (receipt.measured.color, receipt.measured.seam) == (0.0, 1.0)
        assert receipt.measured.sharpness == 1


@pytest.mark.parametrize("with_album", [False, True])
def test_the_wrong_persons_face_is_caught_and_the_input_comes_back(
    people, recogniser, analyzer, with_album
):
    lq, restored, other = people
    wrong = restored.clone()
    wrong[2] = restored[0]
    references = None
    if with_album:
        references = [album(f"p{i}", other[i : i + 1], recogniser) for i in range(4)]
    result = guard_faces(
        lq,
        wrong,
        recogniser=recogniser,
        landmarker=analyzer,
        action="fall back",
        references=references,
    )
    assert [r.verdict for r in result.receipts] == ["kept", "kept", "fell back", "kept"]
    assert torch.equal(result.restored[2], lq[2])
    assert torch.equal(result.restored[[0, 1, 3]], restored[[0, 1, 3]])
    caught = result.receipts[2]
    assert caught.drift_restored > 0.5 >= caught.drift and caught.strength == 0
    assert caught.person == ("p2" if with_album else None)
    assert "fell back to the input" in result.report.splitlines()[2]


def test_the_strength_is_the_first_that_passes_and_falls_with_the_limit(
    people, recogniser, analyzer
):
    lq, restored, _ = people
    wrong = restored.roll(1, 0)
    own = recogniser(lq).double()
    chosen = []
    for limit in (1.5, 0.9, 0.6, 0.3, 0.1, 0.01, 0.0):
        result = guard_faces(lq, wrong, recogniser=recogniser, landmarker=analyzer, max_drift=limit)
        for i, receipt in enumerate(result.receipts):
            passing = [
                s
                for s in (1.0, *STRENGTHS, 0.0)
                if 1 - float(own[i] @ recogniser((lq + s * (wrong - lq))[i : i + 1])[0].double())
                <= limit + 1e-9
            ]
            assert receipt.strength == passing[0]
            expected = lq[i] + receipt.strength * (wrong[i] - lq[i])
            torch.testing.assert_close(result.restored[i], expected, rtol=0, atol=1e-6)
            assert receipt.drift <= limit + 1e-9
        chosen.append([r.strength for r in result.receipts])
    assert all(a >= b for before, after in pairwise(chosen)
               for a, b in zip(before, after, strict=True))  # fmt: skip
    assert len({s for row in chosen for s in row}) >= 4
    assert (
        "strength lowered to"
        in guard_faces(lq, wrong, recogniser=recogniser, landmarker=analyzer, max_drift=0.3).report
    )


def test_report_only_changes_nothing_and_says_so(people, recogniser, analyzer):
    lq, restored, _ = people
    wrong = restored.roll(1, 0)
    result = guard_faces(
        lq, wrong, recogniser=recogniser, landmarker=analyzer, action="report only"
    )
    assert torch.equal(result.restored, wrong)
    assert {r.verdict for r in result.receipts} == {"too far"}
    assert result.report.count("kept although drift from the input") == 4


def test_even_the_input_may_be_too_far_from_the_references(people, recogniser, analyzer):
    lq, restored, other = people
    result = guard_faces(
        lq[:1],
        restored[:1],
        recogniser=recogniser,
        landmarker=analyzer,
        references=[album("someone else", other[1:2], recogniser)],
    )
    (receipt,) = result.receipts
    assert receipt.verdict == "fell back" and receipt.drift > 0.5
    assert torch.equal(result.restored, lq[:1])
    assert "fell back to the input, whose own is" in result.report


def test_receipts_hold_no_nan_whatever_comes(people, recogniser, analyzer):
    lq, restored, _ = people
    broken = restored.clone()
    broken[0, :, 40:60] = torch.nan
    broken[1] = 0
    lq = lq.clone()
    lq[3] = 0.5
    result = guard_faces(lq, broken, recogniser=recogniser, landmarker=analyzer)
    assert result.receipts[0].verdict == "fell back"
    assert torch.equal(result.restored[0], lq[0]) and result.restored.isfinite().all()
    assert json.loads(result.json)["faces"][0]["drift_restored"] is None
    assert "NaN" not in result.json and "nan" not in result.report
    sheet = draw_receipts(lq, result.restored, result.receipts)
    assert sheet.isfinite().all() and sheet.min() >= 0 and sheet.max() <= 1
    kept = guard_faces(lq, broken, recogniser=recogniser, landmarker=analyzer, action="report only")
    assert kept.receipts[0].verdict == "too far" and "NaN" not in kept.json
    assert draw_receipts(lq, kept.restored, kept.receipts).isfinite().all()


def test_more_faces_than_a_chunk_are_the_same_faces(people, recogniser, analyzer):
    lq, restored, _ = (x.repeat(5, 1, 1, 1) for x in people)
    seen = []
    result = guard_faces(
        lq, restored, recogniser=recogniser, landmarker=analyzer, on_faces=seen.append
    )
    assert [r.face for r in result.receipts] == list(range(20)) and sum(seen) == 20
    numbers = [r.entry() | {"face": 0} for r in result.receipts]
    for i in range(4, 20):
        assert numbers[i]["drift"] == pytest.approx(numbers[i % 4]["drift"], abs=1e-6)
        assert numbers[i]["seam"] == pytest.approx(numbers[i % 4]["seam"], abs=1e-4)


def test_no_faces_pass(recogniser, analyzer):
    none = torch.zeros(0, 3, 128, 128)
    result = guard_faces(none, none, recogniser=recogniser, landmarker=analyzer)
    assert result.restored.shape == none.shape and result.report == "no faces"
    assert json.loads(result.json)["faces"] == []
    assert draw_receipts(none, none, []).shape == (1, 3, 256, 776)


def test_inputs_of_another_size_are_brought_to_the_restored_one(people, recogniser, analyzer):
    lq, restored, _ = people
    small = F.interpolate(lq, (64, 64), mode="bilinear", antialias=True)
    result = guard_faces(small, restored, recogniser=recogniser, landmarker=analyzer, max_drift=0.0)
    expected = F.interpolate(small, (128, 128), mode="bilinear", antialias=True)
    assert torch.equal(result.restored, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lq": torch.rand(2, 3, 128, 128)}, "2 input crops came with 1 restored"),
        ({"restored": torch.rand(1, 3, 128, 96)}, "no aligned face crop"),
        ({"landmarker": load_analyzer("skimage")}, "skimage gives no dense landmarks"),
        ({"max_drift": 2.5}, "1 - cosine"),
        ({"action": "delete"}, "lower strength, fall back, report only"),
        ({"references": []}, "0 references came for 1 faces"),
        ({"references": [torch.rand(3, 7)]}, r"embeddings \(k, 128\)"),
    ],
)
def test_what_does_not_belong_together_is_refused(recogniser, analyzer, changes, message):
    values = {
        "lq": torch.rand(1, 3, 128, 128),
        "restored": torch.rand(1, 3, 128, 128),
        "recogniser": recogniser,
        "landmarker": analyzer,
    } | changes
    with pytest.raises(FacewrightError, match=message):
        guard_faces(values.pop("lq"), values.pop("restored"), **values)


def test_an_album_of_another_recogniser_is_refused(people, recogniser, analyzer):
    lq, restored, other = people
    foreign = album("ann", other[:1], recogniser, made_by="arcface-r50:0123")
    with pytest.raises(FacewrightError, match=r"album of ann was made with .*arcface-r50"):
        guard_faces(
            lq[:1], restored[:1], recogniser=recogniser, landmarker=analyzer, references=[foreign]
        )


class _Matches:
    def __init__(self, people):
        self.people = people

    def __len__(self):
        return len(self.people)

    def person_of(self, face):
        return self.people[face]


def test_references_go_to_their_faces(people, recogniser):
    _, _, other = people
    ann = album("ann", other[:1], recogniser)
    assert references_for(2) == [None, None]
    assert references_for(2, person=ann) == [ann, ann]
    assert references_for(2, matches=_Matches([None, ann])) == [None, ann]
    template = recogniser(other[:1])[0]
    assert [r.shape for r in references_for(2, template=template)] == [(1, 128)] * 2
    with pytest.raises(FacewrightError, match="`person` and by `references`"):
        references_for(2, person=ann, template=template)
    with pytest.raises(FacewrightError, match="who 1 faces are, but 2 crops"):
        references_for(2, matches=_Matches([ann]))


def naive_low(x, levels):
    """A-trous smoothing of an (h, w) array by direct sums, borders replicated."""
    for level in range(levels):
        gap = 2**level
        for axis in (0, 1):
            index = np.arange(x.shape[axis])
            before = np.take(x, np.clip(index - gap, 0, len(index) - 1), axis)
            after = np.take(x, np.clip(index + gap, 0, len(index) - 1), axis)
            x = x / 2 + (before + after) / 4
    return x


def naive_lab(rgb):
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    matrix = np.array(
        [[0.412453, 0.35758, 0.180423], [0.212671, 0.71516, 0.072169],
         [0.019334, 0.119193, 0.950227]]
    )  # fmt: skip
    t = np.einsum("ij,jhw->ihw", matrix, linear) / np.array([0.95047, 1, 1.08883])[:, None, None]
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_colour_and_seam_are_those_of_a_plain_computation():
    size = 64
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 5, 5, generator=generator)
    lq, result = F.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)[:, None]
    points = torch.rand(1, 68, 2) * size
    (got,) = measure(lq, result, points, points)

    mask = np.zeros((size, size))
    for y in range(size):
        for x in range(size):
            # Distance inwards from the border of a rounded square, corner radius size / 4.
            half, radius, middle = size / 2 - 0.5, size / 4, (size - 1) / 2
            ox, oy = abs(x - middle) - (half - radius), abs(y - middle) - (half - radius)
            inside = radius - math.hypot(max(ox, 0), max(oy, 0)) - min(max(ox, oy), 0)
            t = min(max(inside / (0.12 * size), 0), 1)
            mask[y, x] = t * t * (3 - 2 * t)
    a, b = lq[0].double().numpy(), result[0].double().numpy()
    pasted = a + mask * (b - a)
    lab_a, lab_b, lab_pasted = (
        naive_lab(np.stack([naive_low(c, 2) for c in x])) for x in (a, b, pasted)
    )
    difference = np.sqrt(((lab_b - lab_a) ** 2).sum(0))
    assert got.color == pytest.approx((mask * difference).sum() / mask.sum(), rel=1e-4)

    gy, gx = np.gradient(mask)
    steep = np.hypot(gy, gx)
    band = (steep > 0) & (mask > 0) & (mask < 1)

    def across(lab):
        slopes = [np.gradient(channel) for channel in lab]
        along = np.stack([(dy * gy + dx * gx)[band] / steep[band] for dy, dx in slopes])
        return np.sqrt((along**2).sum(0)).mean() + 1 / (0.12 * size)

    assert got.seam == pytest.approx(across(lab_pasted) / across(lab_a), rel=1e-4)


def test_a_colour_cast_is_a_difference_and_a_seam():
    lq = torch.full((1, 3, 128, 128), 0.5)
    points = torch.rand(1, 68, 2) * 128
    (got,) = measure(lq, lq + 0.1, points, points)
    lighter = naive_lab(np.full((3, 1, 1), 0.6)) - naive_lab(np.full((3, 1, 1), 0.5))
    assert got.color == pytest.approx(np.sqrt((lighter**2).sum()), rel=1e-3)
    assert got.seam > 3


def test_landmarks_are_compared_in_pixels_and_eye_distances(people, analyzer):
    _, sharp, other = people
    a, b = analyzer.landmarks(sharp), analyzer.landmarks(other)
    for i, got in enumerate(measure(sharp, other, a, b)):
        eyes = [a[i, 36:42].mean(0), a[i, 42:48].mean(0)]
        distance = float((eyes[0] - eyes[1]).norm())
        assert got.eye_distance == pytest.approx(distance, rel=1e-5)
        for region, index in (("eyes", [*range(17, 27), *range(36, 48)]), ("mouth", range(48, 68))):
            x = np.c_[b[i, list(index)].double().numpy(), np.ones(len(index))]
            y = a[i, list(index)].double().numpy()
            rest = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
            assert got.ald[region] == pytest.approx(math.sqrt((rest**2).sum()), rel=1e-6)
            assert got.share(region) == pytest.approx(got.ald[region] / distance, rel=1e-5)


def test_the_sheet_shows_both_crops_and_the_verdict(people, recogniser, analyzer):
    lq, restored, _ = people
    wrong = restored.clone()
    wrong[1] = restored[0]
    result = guard_faces(lq, wrong, recogniser=recogniser, landmarker=analyzer, action="fall back")
    sheet = draw_receipts(lq, result.restored, result.receipts)
    assert sheet.shape == (4, 3, 256, 3 * 256 + 8)
    big = F.interpolate(result.restored, (256, 256), mode="bicubic").clamp(0, 1)
    torch.testing.assert_close(sheet[:, :, :200, 260:516], big[:, :, :200], rtol=0, atol=1e-6)
    band = sheet[:, :, 32:52, 700:760].mean((2, 3))
    assert band[0, 1] > band[0, 0] and band[1, 0] > 2 * band[1, 1]  # green, red


def test_receipts_go_to_the_pictures_of_their_faces(people, recogniser, analyzer):
    lq, restored, _ = people
    text = guard_faces(lq, restored, recogniser=recogniser, landmarker=analyzer).json
    assert text.isascii()
    assert [t["facewright_receipts"] for t in png_texts(text, 2)] == [text, text]
    parts = png_texts(text, 3, torch.tensor([2, 0, 0, 2]))
    faces = [[f["face"] for f in parse_json(t["facewright_receipts"])["faces"]] for t in parts]
    assert faces == [[1, 2], [], [0, 3]]
    assert png_texts(" ", 2, torch.tensor([0])) == [{}, {}]
    with pytest.raises(FacewrightError, match="4 faces, but `faces` holds 1"):
        png_texts(text, 1, torch.tensor([0]))
    for bad in ("{", "[]", '{"format": "other"}', '{"format": "facewright.receipts"}'):
        with pytest.raises(FacewrightError, match="JSON that Picture Guard or Identity Guard"):
            png_texts(bad, 1)
