"""Reports of `facewright evaluate`: what is drawn never costs the numbers, and what is claimed."""

import math
import re

import numpy as np
import pytest
import scipy.stats
from facewright.core.errors import FacewrightError
from facewright.core.metrics.significance import EXACT, holm, sign_flip_p
from facewright.headless.evaluation import pair_folders, score_all, summarize, write_report
from facewright.headless.evaluation.scoring import choose_metrics

from .evaluate_runs import evaluate, make, results, rows


def text_of(out):
    return (out / "report.html").read_text()


def test_broken_files_among_the_shown_cases_cost_no_report(tmp_path):
    """In LQ, in the second method, and in the first."""
    make(tmp_path, 4, a=3, b=6, lq=9)
    for broken in ("b/01", "lq/02", "a/03"):
        (tmp_path / f"{broken}.png").write_bytes(b"x")
    result = evaluate(
        tmp_path / "a", tmp_path / "b", "--gt", tmp_path / "gt", "--lq", tmp_path / "lq",
        "--metrics", "psnr", "-o", tmp_path / "out", code=1,
    )  # fmt: skip
    assert "01 (b)" in result.stderr and "02 (LQ)" in result.stderr
    assert len(rows(tmp_path / "out")) == 12 and (tmp_path / "out/sheet.png").exists()
    failed = {(f["picture"], f["method"]) for f in results(tmp_path / "out")["failed"]}
    assert failed == {("01", "b"), ("02", "LQ"), ("03", "a")}
    page = text_of(tmp_path / "out")
    # All three cases that a has are shown: 3 x (LQ, a, b, GT) without the two that were refused.
    assert page.count("<figure>") == 12 and page.count("could not be scored") == 2
    assert page.count('src="data:image') == 1 + 10


def scored(root, names, metrics=("psnr",)):
    pairing = pair_folders([root / name for name in names], root / "gt")
    return summarize(score_all(pairing, choose_metrics(metrics, None, True)))


def test_a_picture_that_vanishes_after_scoring_leaves_a_report(tmp_path):
    result = scored(make(tmp_path, 3, a=3), ["a"])
    (tmp_path / "a/00.png").unlink()
    (tmp_path / "gt/01.png").write_bytes(b"")
    write_report(result, tmp_path / "out")
    assert text_of(tmp_path / "out").count("cannot be read") == 2


def test_numbers_are_there_when_drawing_fails(tmp_path, monkeypatch):
    result = scored(make(tmp_path, 3, a=3), ["a"])
    draw = "facewright.headless.evaluation.report.draw_plot"
    monkeypatch.setattr(draw, lambda result: next(iter({}.values())))
    write_report(result, tmp_path / "out")
    assert "plot.png could not be drawn (StopIteration" in text_of(tmp_path / "out")
    assert len(rows(tmp_path / "out")) == 3 and not (tmp_path / "out/plot.png").exists()


def copy(root, source, target, *names):
    for name in names:
        (root / target / name).write_bytes((root / source / name).read_bytes())


def test_identical_pictures_are_not_dropped_in_favor_of_the_loser(tmp_path):
    """a equals the original in two pictures and is worse in the others."""
    make(tmp_path, 10, a=6, b=3)
    copy(tmp_path, "gt", "a", "00.png", "01.png")
    result = scored(tmp_path, ["a", "b"], ("psnr", "ssim"))
    psnr, ssim = result.comparisons
    assert psnr.difference.infinite == 2 and psnr.difference.low > 0  # of what is left, b is better
    assert psnr.verdict == "no verdict (infinite values)" and math.isnan(psnr.difference.p)
    assert psnr.sentence().endswith("(not in the mean); no verdict (infinite values).")
    assert "is better than" not in psnr.sentence() and result.best(psnr.metric) == set()
    assert ssim.verdict in ("better", "no clear difference") and not math.isnan(ssim.p_holm)


def bold(out):
    return re.findall(r"<td><b>(.*?)</b>", text_of(out))


def test_bold_is_what_the_verdicts_support(tmp_path):
    make(tmp_path, 8, a=2, b=8, c=8)
    write_report(scored(tmp_path, ["a", "b", "c"]), tmp_path / "clear")
    write_report(scored(tmp_path, ["b", "c"]), tmp_path / "unclear")
    means = results(tmp_path / "clear")["means"]
    assert bold(tmp_path / "clear") == [f"{means['a']['psnr']['mean']:.2f}"]
    assert bold(tmp_path / "unclear") == []
    # Both are better than a third one, but neither is the best.
    make(tmp_path, 8, d=40)
    third = scored(tmp_path, ["b", "c", "d"])
    assert {c.verdict for c in third.comparisons} == {"no clear difference", "worse"}
    assert third.best(third.picture_metrics[0]) == set()
    # Two names for one method: both are better than the third.
    copy(tmp_path, "a", "c", *(f"{i:02}.png" for i in range(8)))
    twice = scored(tmp_path, ["a", "b", "c"])
    assert twice.best(twice.picture_metrics[0]) == {"a", "c"}
    # Five pictures give no verdict, so nothing is bold, however far apart the means are.
    few = make(tmp_path / "few", 5, a=2, b=8)
    write_report(scored(few, ["a", "b"]), few / "out")
    assert bold(few / "out") == []


def test_all_pairs_with_holm(tmp_path):
    make(tmp_path, 8, a=2, b=4, c=4.2)
    make(tmp_path, 8, lq=12)
    evaluate(
        *(tmp_path / name for name in "abc"), "--gt", tmp_path / "gt", "--lq", tmp_path / "lq",
        "--metrics", "psnr,edges", "-o", tmp_path / "out",
    )  # fmt: skip
    found = results(tmp_path / "out")["comparisons"]
    mine = {(c["method"], c["against"]): c for c in found if c["metric"] == "psnr"}
    assert list(mine) == [
        ("a", "LQ"), ("b", "LQ"), ("c", "LQ"), ("b", "a"), ("c", "a"), ("c", "b")
    ]  # fmt: skip
    values = {
        name: np.array([float(r["psnr"]) for r in rows(tmp_path / "out") if r["method"] == name])
        for name in ("LQ", "a", "b", "c")
    }
    for (one, other), c in mine.items():
        assert c["p"] == pytest.approx(exact(values[one] - values[other]), abs=1e-12)
    by_hand, most = {}, 0.0
    for rank, (pair, c) in enumerate(sorted(mine.items(), key=lambda item: item[1]["p"])):
        most = max(most, min(1, c["p"] * (6 - rank)))
        by_hand[pair] = most
    assert {pair: c["p_holm"] for pair, c in mine.items()} == pytest.approx(by_hand)
    # The page says in words only what is compared with LQ and with the first method.
    said = re.search("<ul class=lead>(.*?)</ul>", text_of(tmp_path / "out"), re.DOTALL)[1]
    assert said.count("<li>") == 5
    assert text_of(tmp_path / "out").count("</b> compared with <b>") == 6


def exact(d):
    """By scipy, which goes through all choices of signs."""
    return scipy.stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    ).pvalue


def test_sign_flip_p_agrees_with_scipy():
    rng = np.random.default_rng(1)
    for n in (6, 9, EXACT):
        d = rng.normal(0.5, 1, n)
        assert sign_flip_p(d) == pytest.approx(exact(d), abs=1e-12)
        # Zeros change no sum, whatever sign they get.
        assert sign_flip_p([*d, 0.0, 0.0]) == sign_flip_p(d) == sign_flip_p(-d)
    d = rng.normal(0.35, 1, 40)
    drawn = scipy.stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=20_000, vectorized=True,
        random_state=np.random.default_rng(3),
    ).pvalue  # fmt: skip
    assert 0.005 < drawn < 0.2 and sign_flip_p(d) == pytest.approx(drawn, abs=0.01)
    assert sign_flip_p(np.ones(500)) == 1 / 20_000
    assert sign_flip_p([1.0, -1.0] * 4) == 1 == sign_flip_p([0.0] * 7)
    assert math.isnan(sign_flip_p([]))
    with pytest.raises(FacewrightError, match="finite"):
        sign_flip_p([math.inf])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, math.nan, 0.6])[::2] == [1, 1] and holm([]) == []
