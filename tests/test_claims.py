"""The claims of experiments/claims.yaml: read strictly, decided as registered, shown as decided."""

import copy

import pytest
import yaml
from facewright.benchmarks import _claims
from facewright.training.settings.strict import ConfigError

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
        ("osdface", "zeros", "shuffled"), ("osdface", "vre", "unassociated"),
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
