"""The claims of experiments/claims.yaml: read strictly, decided as registered, shown as decided."""

import copy
import json
import math
import re

import numpy as np
import pytest
import yaml
from facewright.benchmarks import _claims
from facewright.benchmarks import claims as claims_of
from facewright.benchmarks._arms import METHODS, SEEDS
from facewright.benchmarks._claims_scores import RESULTS, read_scores, write_scores
from facewright.core.errors import FacewrightError
from facewright.core.metrics.crossed import crossed_difference
from facewright.core.metrics.significance import holm
from facewright.training.settings.strict import ConfigError
from PIL import Image

GOOD = {
    "schema": 1,
    "metrics": {
        "psnr": {"label": "PSNR", "unit": "dB", "better": "higher", "matters": 0.1, "why": "so"},
    },
    "experiments": {
        "toy": {
            "method": "Toy", "about": "Toys.", "people": 40, "seeds": 3, "command": "run toy",
            "conditions": {"a": "one", "b": "another", "c": "a third"},
        }
    },
    "claims": [
        {
            "id": "toy-1", "experiment": "toy", "metric": "psnr", "first": "a", "second": "b",
            "source": "Toy, Table 1", "claim": "a beats b.", "paper_result": "Better.",
            "expected": "supported", "prediction": "Supported.",
        }
    ],
}  # fmt: skip


def written(tmp_path, change=None):
    """The file GOOD with one change."""
    data = copy.deepcopy(GOOD)
    if change:
        change(data)
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def test_the_claims_are_those_that_were_asked_for():
    found = _claims.read_claims()
    assert len(found.claims) >= 14
    asked = {(c.experiment, c.first, c.second) for c in found.claims}
    assert {
        ("osdface", "vre", "learned"), ("osdface", "learned", "zeros"),
        ("osdface", "zeros", "shuffled"), ("osdface", "associated", "unassociated"),
        ("osdface", "vre", "no-id"), ("osdface", "vre", "no-gan"), ("bundled", "own", "other"),
        ("honestface", "full", "full-none"), ("honestface", "full-none", "full-wrong"),
        ("hidden", "both", "on-the-fly"), ("landmarks", "a_ld", "l2_ld"),
    } <= asked  # fmt: skip
    trained = [e for name, e in found.experiments.items() if name not in ("bundled", "landmarks")]
    assert all(e.seeds >= 5 for e in trained)
    for claim in found.claims:
        words = claim.prediction.lower()
        assert words.startswith(claim.expected), claim.id
        page = claim.registered
        assert page is None or (_claims.FILE.parents[1] / page).is_file()


def test_conditions_are_arms_or_an_arm_used_otherwise():
    found = _claims.read_claims().experiments
    untrained = {"coverage": {"preset-train"}}
    for name, method in (
        ("osdface", "osdface"), ("flipnet", "flipnet"), ("hidden", "flipnet"),
        ("coverage", "flipnet"), ("honestface", "honestface"), ("marks", "honestface"),
    ):  # fmt: skip
        assert found[name].seeds == len(SEEDS)
        for condition in found[name].conditions.keys() - untrained.get(name, set()):
            used = r"-(none|wrong|random-eyes|farthest-eyes|phi-[0-9.]+|other)"
            arm = re.fullmatch(rf"(.+?)({used})?", condition)
            arms = METHODS[method].arms
            assert condition in arms or (arm and arm[1] in arms), condition


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["claims"][0].pop("prediction"), r"claims\.0\.prediction: is missing"),
        (lambda d: d["claims"][0].update(hope="much"), r"claims\.0\.hope: is no key"),
        (lambda d: d["claims"][0].update(expected="sure"), r"claims\.0\.expected: .*supported"),
        (lambda d: d["claims"][0].update(second="z"), "'toy-1': toy has no condition 'z'"),
        (lambda d: d["claims"][0].update(second="a"), "are the same condition"),
        (lambda d: d["claims"][0].update(metric="ssim"), "there is no metric 'ssim'"),
        (lambda d: d["claims"][0].update(experiment="t"), "there is no experiment 't'"),
        (lambda d: d["claims"][0].update(id="../x"), "the id should be letters"),
        (lambda d: d["claims"].append(d["claims"][0]), "another claim has the same id"),
        (
            lambda d: d["claims"].append(
                {**d["claims"][0], "id": "n", "first": "b", "second": "a"}
            ),
            "another claim compares the same conditions",
        ),
        (lambda d: d["metrics"]["psnr"].update(matters=0), r"metrics\.psnr\.matters: .*greater"),
        (lambda d: d["experiments"]["toy"].update(seeds=True), r"seeds: .*a number"),
        (lambda d: d.update(schema=2), r"schema: .*1 \(line 1\)"),
    ],
)  # fmt: skip
def test_a_file_that_says_something_else_is_refused_with_the_place(tmp_path, change, said):
    with pytest.raises(ConfigError, match=said):
        _claims.read_claims(written(tmp_path, change))


def test_a_file_that_cannot_be_read_is_said(tmp_path):
    with pytest.raises(ConfigError, match="could not be read"):
        _claims.read_claims(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="the file: "):
        _claims.read_claims(tmp_path / "list.yaml")
    assert _claims.read_claims(written(tmp_path)).size(
        _claims.read_claims(written(tmp_path)).claims[0]
    ) == 0.1  # fmt: skip


def scores(folder, conditions, people=40, seeds=None, **fields):
    """A file of scores of the experiment `toy`."""
    content = {
        "schema": 1, "experiment": "toy", "people": seeds or list(range(people)), "damage": "none",
        "settings": {}, "versions": {}, "conditions": conditions,
    } | fields  # fmt: skip
    path = folder / "scores_toy.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def table(mean, *, seeds=("1", "2", "3"), people=40, spread=0.3, rng=None):
    """Values of a condition by training seed, on the same people each time."""
    rng = rng or np.random.default_rng(0)
    person = np.random.default_rng(9).normal(20, 3, people)  # much larger than any difference
    return {
        s: {"psnr": (person + mean + spread * rng.standard_normal(people)).tolist()} for s in seeds
    }


def decided(tmp_path, conditions, change=None, **fields):
    claims = _claims.read_claims(written(tmp_path, change))
    people = fields.pop("people", 40)
    scores(tmp_path, conditions, people, **fields)
    return claims, claims_of.decide(claims, tmp_path)


@pytest.mark.parametrize(
    ("gap", "better", "verdict", "size"),
    [
        (0.5, "higher", "supported", "reached"),
        (-0.5, "higher", "contradicted", "reached"),
        (0.5, "lower", "contradicted", "reached"),
        (-0.5, "lower", "supported", "reached"),
        (0.0, "higher", "not established", "open"),
    ],
)
def test_the_verdict_follows_the_interval_and_the_direction(tmp_path, gap, better, verdict, size):
    rng = np.random.default_rng(1)
    conditions = {"a": table(gap, rng=rng), "b": table(0, rng=rng)}
    _, (found,) = decided(
        tmp_path, conditions, lambda d: d["metrics"]["psnr"].update(better=better)
    )
    assert (found.verdict, found.size, found.seeds) == (verdict, size, ("1", "2", "3"))
    assert found.as_expected == (verdict == "supported")
    d = found.difference
    a, b = (np.array([v["psnr"] for v in conditions[c].values()]) for c in "ab")
    assert d == crossed_difference(a, b)
    assert d.mean == pytest.approx((a - b).mean()) and d.runs == pytest.approx((a - b).mean(1))


def test_a_difference_can_be_sure_and_too_small_to_matter(tmp_path):
    rng = np.random.default_rng(2)
    conditions = {"a": table(0.04, spread=0.01, rng=rng), "b": table(0, spread=0.01, rng=rng)}
    claims, (found,) = decided(tmp_path, conditions)
    assert (found.verdict, found.size) == ("supported", "not reached")
    assert "smaller than what matters" in claims_of.section(claims, [found])


def test_what_was_not_run_is_listed_and_says_why(tmp_path):
    claims = _claims.read_claims(written(tmp_path))
    (nothing,) = claims_of.decide(claims, tmp_path)
    assert (nothing.verdict, nothing.why) == ("not run", "no scores yet")
    for conditions, why in (
        ({"a": table(0)}, "`b` was not scored"),
        ({"a": table(0), "b": {"1": {"ssim": [0.0] * 40}}}, "`b` has no `psnr`"),
        (
            {"a": table(0, seeds=("1", "2")), "b": table(0, seeds=("3", "4"))},
            "no training seed in common",
        ),
    ):
        _, (found,) = decided(tmp_path, conditions)
        assert (found.verdict, found.why) == ("not run", why)
        text = claims_of.section(claims, [found])
        assert "Of 1 claim: 1 not run." in text and why in text and "| toy-1 |" in text


def test_seeds_are_paired_by_their_numbers_and_deviations_are_said(tmp_path):
    values = table(0, seeds=("1", "2", "10"), people=30)
    other = {s: {"psnr": [x - int(s) for x in values[s]["psnr"]]} for s in ("10", "2")}
    claims, (found,) = decided(tmp_path, {"a": values, "b": other}, people=30)
    assert found.seeds == ("2", "10") and found.difference.runs == pytest.approx((2, 10))
    text = claims_of.section(claims, [found])
    assert "2 × 30 people; 3 seeds were registered; 30 people, 40 were registered" in text


def test_what_is_not_trained_and_what_was_not_measured(tmp_path):
    bare = {"-": table(0)["1"]}
    bare["-"]["psnr"][7] = None
    claims, (found,) = decided(tmp_path, {"a": table(1), "b": bare})
    assert found.verdict == "supported" and found.difference.count == 39
    assert "3 × 39 people; 1 without a value" in claims_of.section(claims, [found])
    _, (alone,) = decided(tmp_path, {"a": {"-": table(1)["1"]}, "b": bare})
    assert alone.seeds == ("-",) and "| 39 people; 1 without" in claims_of.section(claims, [alone])
    few = {c: {"-": {"psnr": [1.0] * 4 + [None] * 36}} for c in "ab"}
    _, (few,) = decided(tmp_path, few)
    assert few.verdict == "too few people" and not few.decided


def test_p_values_are_corrected_over_all_claims_that_ran(tmp_path):
    def three(d):
        d["claims"] += [
            {**d["claims"][0], "id": "toy-2", "second": "c"},
            {**d["claims"][0], "id": "toy-3", "first": "b", "second": "c"},
        ]

    rng = np.random.default_rng(3)
    conditions = {"a": table(0.1, rng=rng), "b": table(0, rng=rng)}
    _, found = decided(tmp_path, conditions, three)
    assert [o.verdict == "not run" for o in found] == [False, True, True]
    assert found[0].p_holm == found[0].difference.p and math.isnan(found[1].p_holm)
    conditions["c"] = table(0.05, rng=rng)
    _, found = decided(tmp_path, conditions, three)
    assert [o.p_holm for o in found] == holm([o.difference.p for o in found])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "`schema` should be 1"),
        ({"experiment": "other"}, "of the experiment 'other'"),
        ({"seeds": [1, 1]}, "nobody twice"),
        ({"more": 1}, "unknown or missing: more"),
        ({"conditions": {}}, "`conditions` should be an object"),
        ({"conditions": {"a": {"x": {"psnr": [0] * 40}}}}, "a training seed is a number"),
        ({"conditions": {"a": {"1": {"psnr": [0] * 39}}}}, "should hold 40 values"),
        ({"conditions": {"a": {"1": {"psnr": ["0"] * 40}}}}, "which is no number"),
        ({"conditions": {"a": {"1": {"psnr": [True] * 40}}}}, "which is no number"),
        ({"conditions": {"a": {"1": {"psnr": [1e99] * 40}}}}, "which is no number"),
        (
            {"conditions": {"a": {s: {"psnr": [0] * 40} for s in "-1"}}},
            "is both trained and not",
        ),
    ],
)
def test_scores_that_are_wrong_are_refused_in_words(tmp_path, change, said):
    scores(tmp_path, **({"conditions": {}} | change))
    with pytest.raises(FacewrightError, match=said):
        read_scores("toy", tmp_path)
    (tmp_path / "scores_toy.json").write_text("{")
    with pytest.raises(FacewrightError, match="could not be read: it is not JSON"):
        read_scores("toy", tmp_path)


def test_scores_are_written_as_they_are_read(tmp_path):
    values = {"a": {"1": {"psnr": [1 / 3, math.nan, math.inf]}}, "b": {"-": {"psnr": [1, 2, 3]}}}
    about = {"damage": "none", "settings": {}, "versions": {}, "folder": tmp_path}
    path = write_scores("toy", [5, 6, 7], values, **about)
    assert json.loads(path.read_text())["conditions"]["a"]["1"]["psnr"] == [0.33333, None, None]
    found = read_scores("toy", tmp_path)
    assert found and found.people == 3 and not found.missing("a", "psnr")
    seeds, a, b = found.pairs("a", "b", "psnr")
    assert seeds == ["1"] and a.shape == b.shape == (1, 3) and np.isnan(a[0]).tolist()[1:] == [1, 1]
    with pytest.raises(FacewrightError, match="3 values, one per person"):
        write_scores("toy", [5, 6, 7], {"a": {"1": {"psnr": [1.0]}}}, **about)
    assert read_scores("toy", tmp_path) is not None


def test_the_command_writes_table_plot_and_numbers(tmp_path, capsys):
    rng = np.random.default_rng(5)
    claims = written(tmp_path)
    scores(tmp_path, {"a": table(0.5, rng=rng), "b": table(0, rng=rng)})
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{claims_of.BEGIN}old\n{claims_of.END}\nrest\n")
    arguments = ["--claims", str(claims), "--results", str(tmp_path), "--page", str(page)]
    claims_of.main(arguments)
    once = page.read_text()
    assert once.startswith("# Page\n") and once.endswith("\nrest\n") and "old" not in once
    assert "**supported**; a size that matters (p < 0.001); as predicted" in once
    assert "| Supported. |" in once and "(../benchmarks/results/claims_toy.png)" in once
    assert (
        "The verdict was the predicted one in 1 of 1." in once
        and "toy-1" in capsys.readouterr().out
    )
    with Image.open(tmp_path / "claims_toy.png") as picture:
        assert len(set(picture.convert("RGB").resize((90, 30)).get_flattened_data())) > 5
    row = json.loads((tmp_path / "claims.json").read_text())["claims"][0]
    assert row["verdict"] == "supported" and row["by_seed"].keys() == {"1", "2", "3"}
    assert f"[{row['low']:+.2f}, {row['high']:+.2f}]; by seed {row['by_seed']['1']:+.2f}," in once
    claims_of.main(arguments)
    assert page.read_text() == once
    page.write_text("no markers")
    with pytest.raises(FacewrightError, match="Put them back"):
        claims_of.main(arguments)


def test_the_table_in_the_docs_is_what_the_scores_give():
    claims = _claims.read_claims()
    found = claims_of.decide(claims, RESULTS)
    page = claims_of.PAGE.read_text(encoding="utf-8")
    command = "draw it anew: python bootstrap.py bench claims"
    assert claims_of.renewed(page, claims_of.section(claims, found)) == page, command
    kept = json.loads((RESULTS / "claims.json").read_text())
    assert kept == json.loads(json.dumps(claims_of.as_json(claims, found))), command
    for name, mine in claims_of.by_method(claims, found).items():
        drawn = (RESULTS / claims_of.plot_name(name)).is_file()
        assert drawn == any(outcome.decided for outcome in mine), command
