"""What the presets draw, against the published numbers, and how settings change it."""

import numpy as np
import pytest
from facewright.core.degradation import PRESETS, Degradation
from facewright.core.errors import FacewrightError

# scale, sigma, noise / 255, quality, taps, passes: the published numbers
TABLE = {
    "gfpgan": ((0.8, 8), (0.1, 10), (0, 20), (60, 100), {41}, 1),
    "vqfr": ((0.8, 8), (0.1, 10), (0, 20), (60, 100), {41}, 1),
    "vqfr2": ((1, 30), (1, 15), (0, 20), (30, 90), {41}, 1),
    "codeformer": ((4, 30), (1, 15), (0, 20), (30, 79), {41}, 1),
    "daefr": ((0.8, 30), (0.1, 15), (0, 20), (30, 100), {39, 41}, 1),
    "flipnet": ((0.8, 32), (0.1, 15), (0, 20), (30, 95), {41}, 2),
    "osdface": ((0.8, 32), (0.1, 15), (0, 20), (30, 95), {41}, 2),
    "honestface": ((0.8, 8), (0.1, 10), (0, 20), (60, 100), {41}, 1),
    "diffbir": ((0.8, 8), (0.1, 10), (0, 20), (60, 99), {41}, 1),
    "diffbir2": ((1, 12), (0.1, 12), (0, 15), (30, 99), {41}, 1),
}
LATER = ["codeformer3", "diffbir", "diffbir2", "real-esrgan"]
LARGE = 10**5  # so that sizes tell the reduction exactly; nothing of this size is carried out


def recipes(count=200, name="flipnet", **overrides):
    degradation = Degradation.preset(name, **overrides)
    return [degradation.draw(seed, LARGE, LARGE)["steps"] for seed in range(count)]


def test_the_order_of_presets_is_for_ever():
    own = ["mild", "moderate", "severe", "train"]
    first = [name for name in TABLE if name not in LATER]
    assert Degradation.presets() == [*own, *first, *LATER] == list(PRESETS)
    for name, preset in PRESETS.items():
        assert preset.source and preset.summary and "\n" not in preset.summary
        assert (preset.evidence == "own") == (name in own)
    grades = {name: PRESETS[name].evidence for name in ("gfpgan", "flipnet", "osdface")}
    assert grades == {"gfpgan": "code", "flipnet": "paper", "osdface": "inferred"}


@pytest.mark.parametrize("name", TABLE)
def test_published_ranges(name):
    *ranges, taps, passes = TABLE[name]
    drawn = recipes(name=name)
    steps = [s for one in drawn for s in one]
    blurs = [s for s in steps if s["op"] == "blur"]
    down = [s for s in steps if s["op"] == "resize" and s["size"] != [LARGE, LARGE]]
    values = (
        [LARGE / s["size"][0] for s in down],
        [v for s in blurs for v in (s["sigma"], s.get("sigma_y", s["sigma"]))],
        [255 * s["sigma"] for s in steps if s["op"] == "noise"],
        [s["quality"] for s in steps if s["op"] == "jpeg"],
    )
    for found, (low, high) in zip(values, ranges, strict=True):
        assert low * 0.999 <= min(found) < low + 0.1 * (high - low)
        assert high * 1.001 >= max(found) > high - 0.1 * (high - low)
        assert abs(np.mean(found) - (low + high) / 2) < 0.06 * (high - low)
    assert {s["taps"] for s in blurs} == taps
    assert 0.42 < np.mean(["angle" in s for s in blurs]) < 0.58
    assert len(blurs) == passes * len(drawn)
    modes = {s["mode"] for s in down}
    assert modes == ({"area", "bilinear", "bicubic"} if passes == 2 else {"bilinear"})
    ops = ["blur", "resize", "noise", "jpeg", "resize"]
    assert all([s["op"] for s in one[:5]] == ops for one in drawn)
    assert all(one[-1] == {"op": "round"} for one in drawn)
    if passes == 2:
        assert all(one[9]["size"] == one[4]["size"] == [LARGE, LARGE] for one in drawn)
        assert len({tuple(s["op"] for s in one[5:9]) for one in drawn}) == 24
    elif name != "gfpgan":
        assert all(len(one) == 6 for one in drawn)


def test_qualities_that_a_code_cuts_off_never_reach_their_upper_end():
    """CodeFormer and DiffBIR give int(uniform(low, high)) to the encoder: `high` never occurs."""
    rng = np.random.default_rng(0)
    for name, low, high in (("codeformer", 30, 80), ("diffbir", 60, 100), ("diffbir2", 30, 100)):
        theirs = {int(q) for q in rng.uniform(low, high, 10**5)}
        drawn = {s["quality"] for one in recipes(1500, name) for s in one if s["op"] == "jpeg"}
        assert drawn == theirs and max(drawn) == high - 1
    # The earlier reading, with the upper end, is an override.
    drawn = {one[3]["quality"] for one in recipes(1500, "codeformer", quality=(30, 80))}
    assert max(drawn) == 80


def test_the_third_stage_of_codeformer_damages_both_ways():
    drawn = recipes(400, "codeformer3")
    scales = np.array([LARGE / one[1]["size"][0] for one in drawn])
    qualities = np.array([one[3]["quality"] for one in drawn])
    small = np.array([one[2]["sigma"] for one in drawn]) * 255
    assert scales.max() > 28 and (scales < 4).any()
    assert small[scales > 12.1].max() > 15 and small[scales < 3.9].max() <= 15
    assert qualities[scales < 3.9].min() >= 60 and qualities[scales > 12.1].max() <= 79
    assert abs(np.mean(qualities >= 80) - 0.25) < 0.06


def test_real_esrgan_as_its_configuration_says():
    drawn = recipes(3000, "real-esrgan")
    firsts, seconds = [], []
    for one in drawn:
        assert one[-1] == {"op": "round"} and one[-2]["size"] == [LARGE, LARGE]
        cut = next(i for i, s in enumerate(one) if s["op"] == "jpeg") + 1
        firsts.append(one[:cut])
        seconds.append(one[cut:-2])
    kinds = {"iso": 0.45, "aniso": 0.25, "giso": 0.12, "ganiso": 0.03, "piso": 0.12, "paniso": 0.03}

    def kind(step):
        return step.get("shape", "")[:1] + ("aniso" if "angle" in step else "iso")

    for part, top, blurred, noise, poisson in (
        (firsts, 3, 1.0, 30, 3),
        (seconds, 1.5, 0.8, 25, 2.5),
    ):
        first = [s for one in part for s in one[:1] if s["op"] in ("blur", "sinc")]
        assert abs(len(first) / len(part) - blurred) < 0.03
        blurs = [s for s in first if s["op"] == "blur"]
        assert abs(1 - len(blurs) / len(first) - 0.1) < 0.02
        assert {s["taps"] for s in first} == {7, 9, 11, 13, 15, 17, 19, 21}
        found = [kind(s) for s in blurs]
        for name, share in kinds.items():
            assert abs(found.count(name) / len(found) - share) < 0.03
        assert all(0.2 <= s["sigma"] <= top for s in blurs)
        for name, low, high in (("generalized", 0.5, 4), ("plateau", 1, 2)):
            betas = np.array([s["beta"] for s in blurs if s.get("shape") == name])
            assert low <= betas.min() and high >= betas.max() > high - 0.3
            assert 0.4 < np.mean(betas > 1) < 0.6
        for s in first:
            if s["op"] == "sinc":
                assert np.pi / (3 if s["taps"] < 13 else 5) <= s["cutoff"] <= np.pi
        noises = [s for one in part for s in one if s["op"] in ("noise", "poisson")]
        assert abs(np.mean(["grey" in s for s in noises]) - 0.4) < 0.03
        counted = [s["scale"] for s in noises if s["op"] == "poisson"]
        assert abs(len(counted) / len(noises) - 0.5) < 0.03
        assert min(counted) >= 0.05 and poisson - 0.1 < max(counted) <= poisson
        levels = [255 * s["sigma"] for s in noises if s["op"] == "noise"]
        assert 1 <= min(levels) < 1.3 and noise - 0.3 < max(levels) <= noise
        qualities = {s["quality"] for one in part for s in one if s["op"] == "jpeg"}
        assert (min(qualities), max(qualities)) == (30, 95)
    for part, base, (low, high), odds in (
        (firsts, 1, (0.15, 1.5), (0.2, 0.7, 0.1)),
        (seconds, 4, (0.3, 1.2), (0.3, 0.4, 0.3)),
    ):
        sizes = [next(s for s in one if s["op"] == "resize")["size"][0] for one in part]
        factors = np.array(sizes) * base / LARGE
        assert low <= factors.min() + 1e-4 < low + 0.02 and high >= factors.max() > high - 0.02
        shares = np.mean(factors > 1.0001), np.mean(factors < 0.9999)
        assert np.abs(np.array(shares) - odds[:2]).max() < 0.03
    last = [[s["op"] for s in one[-3:]] for one in seconds]
    assert 0.46 < np.mean([ops[-1] == "jpeg" for ops in last]) < 0.54
    assert abs(np.mean(["sinc" in ops[1:] for ops in last]) - 0.8) < 0.03
    # Back at a fourth of the picture, and at its size in the end whatever is overridden.
    backs = [[s for s in one if s["op"] == "resize"][-1]["size"] for one in seconds]
    assert all(size == [LARGE // 4, LARGE // 4] for size in backs)
    overrides = {"passes": 1, "scale": (2, 3), "noise": (0, 0.01), "kernel_size": None,
                 "anisotropic": 1.0}  # fmt: skip
    orders = [{"order": "shuffled"}, {"order": "fixed"}]
    for override in [*orders, *({k: v} for k, v in overrides.items())]:
        for one in recipes(20, "real-esrgan", **override):
            resizes = [s["size"] for s in one if s["op"] == "resize"]
            assert resizes[-1] == [LARGE, LARGE]
            assert "noise" not in override or all(s["op"] != "poisson" for s in one)


def test_sizes_far_from_the_papers_faces_are_remarked():
    for name, preset in PRESETS.items():
        tied = name in TABLE or name == "codeformer3"
        assert (preset.side == 512) == tied and preset.remark(512, 512) is None
        assert bool(preset.remark(128, 128)) == bool(preset.remark(4000, 3000)) == tied
    assert "harder" in (PRESETS["flipnet"].remark(128, 128) or "")
    assert "512 x 512" in (PRESETS["flipnet"].remark(2048, 1024) or "")
    assert PRESETS["flipnet"].remark(400, 700) is None


def test_own_ranges():
    for name, low, high in (("mild", 2, 3), ("moderate", 4, 6), ("severe", 8, 8), ("train", 2, 8)):
        drawn = recipes(200, name)
        assert {tuple(s["op"] for s in one) for one in drawn} == {
            ("blur", "resize", "noise", "jpeg", "resize", "round")
        }
        scales = np.array([LARGE / one[1]["size"][0] for one in drawn])
        assert low * 0.999 <= scales.min() and scales.max() <= high * 1.001
        for one, scale in zip(drawn, scales, strict=True):
            assert 0.0999 <= one[0]["sigma"] / scale <= 0.4501 and one[1]["mode"] == "area"
        if name == "train":
            assert np.mean(scales > 7.9) > 0.3 and np.mean(scales < 4) > 0.1


def test_what_was_drawn_for_a_seed_is_for_ever():
    """The shipped benchmarks and models rest on these numbers."""
    steps = Degradation.preset("severe").draw(3, 128, 128)["steps"]
    known = [2.69315, 19, 0.027601, 350340022, 39]
    found = [steps[0]["sigma"], steps[0]["taps"], steps[2]["sigma"], steps[2]["seed"],
             steps[3]["quality"]]  # fmt: skip
    np.testing.assert_allclose(found, known, rtol=1e-3)


def test_gfpgan_changes_colors_as_often_as_its_configuration_says():
    drawn = recipes(600, "gfpgan")
    ops = [[s["op"] for s in one] for one in drawn]
    jitter = {"brightness", "contrast", "saturation", "hue"}
    assert 0.25 < np.mean(["shift" in o for o in ops]) < 0.35
    assert 0.25 < np.mean(["hue" in o for o in ops]) < 0.35
    assert 0 < np.mean(["grey" in o for o in ops]) < 0.03
    orders = {tuple(x for x in o if x in jitter) for o in ops} - {()}
    assert len(orders) == 24 and all(set(order) == jitter for order in orders)
    assert all(abs(v) <= 20 / 255 for one in drawn for s in one for v in s.get("rgb", ()))
    limits = {"brightness": (0.5, 1.5), "contrast": (0.5, 1.5), "saturation": (0, 1.5),
              "hue": (-0.1, 0.1)}  # fmt: skip
    for op, (low, high) in limits.items():
        found = [s["amount"] for one in drawn for s in one if s["op"] == op]
        assert low <= min(found) < low + 0.1 and high >= max(found) > high - 0.1
    assert all("hue" not in str(one) for one in recipes(50, "gfpgan", color=False))


# ---------------------------------------------------------------- overrides


def test_overrides_reach_every_pass():
    for one in recipes(
        60, scale=(2, 3), sigma=(1, 2), noise=(0.1, 0.2), quality=(10, 12), anisotropic=0.0,
        kernel_size=(7, 9), reduce="area", order="fixed", enlarge="bicubic", color=True,
    ):  # fmt: skip
        ops = [s["op"] for s in one[:10]]
        assert ops == ["blur", "resize", "noise", "jpeg", "resize"] * 2
        for blur, down, noise, jpeg, up in (one[:5], one[5:10]):
            assert 1 <= blur["sigma"] <= 2 and blur["taps"] in (7, 9) and "angle" not in blur
            assert 2 <= LARGE / down["size"][0] <= 3.001 and down["mode"] == "area"
            assert 0.1 <= noise["sigma"] <= 0.2 and 10 <= jpeg["quality"] <= 12
            assert up["mode"] == "bicubic"


def test_one_setting_leaves_the_other_draws_alone():
    plain = recipes(40)
    for other in (recipes(40, order="fixed"), recipes(40, reduce="area"), recipes(40, color=True)):
        for a, b in zip(plain, other, strict=True):
            for op, key in (("noise", "seed"), ("jpeg", "quality"), ("blur", "sigma")):
                assert [s[key] for s in a if s["op"] == op] == [s[key] for s in b if s["op"] == op]


def test_sigma_of_an_override_is_in_pixels_of_the_picture():
    blurs = [one[0] for one in recipes(50, "severe", sigma=(2, 3), kernel_size=None)]
    assert all(2 <= b["sigma"] <= 3 and b["taps"] == 2 * np.ceil(3 * b["sigma"]) + 1 for b in blurs)
    assert all(one[0]["taps"] == 1 for one in recipes(5, "severe", sigma=(0, 0)))


def test_passes_and_the_real_esrgan_order():
    assert all(len(one) == 6 for one in recipes(10, passes=1))
    two = recipes(10, "vqfr", passes=2)
    assert all([s["op"] for s in one[:5]] == [s["op"] for s in one[5:10]] for one in two)
    drawn = [[s["op"] for s in one[5:]] for one in recipes(200, order="real-esrgan")]
    last = ["blur", "resize", "noise", "jpeg", "resize", "round"]
    swapped = ["blur", "resize", "noise", "resize", "jpeg", "round"]
    assert all(one in (last, swapped) for one in drawn)
    assert 0.4 < np.mean([one == swapped for one in drawn]) < 0.6


def test_area_does_not_enlarge():
    for one in recipes(10, "severe", scale=(0.5, 0.9)):
        assert one[1]["mode"] == "bilinear" and one[1]["size"][0] > LARGE


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"quality": (0, 50)}, "1 to 100"),
        ({"quality": (50, 101)}, "1 to 100"),
        ({"quality": (30.5, 60)}, "whole numbers"),
        ({"sigma": (-1, 2)}, "0 to 200"),
        ({"sigma": (3, 2)}, "in this order"),
        ({"sigma": (1, float("nan"))}, "numbers"),
        ({"sigma": 3}, "two numbers"),
        ({"sigma": "12"}, "two numbers"),
        ({"noise": (-0.1, 0.1)}, "0 to 1"),
        ({"noise": (0, 20)}, "levels of 255, as on the command line, give 0 and 0.0784314"),
        ({"noise": (0, 300)}, "0 to 1"),
        ({"scale": (0, 8)}, "0.1 to"),
        ({"scale": (1, 2, 3)}, "two numbers"),
        ({"anisotropic": 1.5}, "0 to 1"),
        ({"anisotropic": True}, "numbers"),
        ({"kernel_size": 40}, "odd"),
        ({"kernel_size": (41, 0)}, "odd"),
        ({"kernel_size": ()}, "at least one"),
        ({"reduce": "nearest"}, "area, bilinear, bicubic"),
        ({"reduce": []}, "at least one"),
        ({"order": "random"}, "fixed, shuffled, real-esrgan"),
        ({"passes": 3}, "1 or 2"),
        ({"enlarge": "area"}, "bilinear, bicubic"),
        ({"color": "yes"}, "True, False"),
        ({"sigmas": (1, 2)}, "no setting 'sigmas'"),
    ],
)
def test_bad_overrides(override, words):
    with pytest.raises(FacewrightError, match=words):
        Degradation.preset("flipnet", **override)
