"""Scores of the miniature experiments: their file, and what each number is."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from facewright.benchmarks import _arms_before, _nano_osdface, nano_flipnet, scores
from facewright.benchmarks._arms import METHODS, SHELF, Places
from facewright.benchmarks._claims import read_claims
from facewright.benchmarks._claims_scores import read_scores
from facewright.benchmarks._marks import FALSE_POSITIVE, HIT, Measured
from facewright.benchmarks._scoring import Experiment, Task, by_batches, heavy, measured, people
from facewright.benchmarks.nano_honestface_marks import by_person
from facewright.core.errors import FacewrightError
from facewright.core.metrics.manifolds import recall
from facewright.training.data.off_shelf import OffShelf
from facewright.training.data.sources import WorldPhotos
from facewright.training.settings.config import OffShelfConfig


def test_experiments_are_those_of_the_claims():
    claims = read_claims().experiments
    assert scores.EXPERIMENTS.keys() == claims.keys() - {"landmarks"}
    for name, about in scores.EXPERIMENTS.items():
        assert about.people == claims[name].people, name
        assert (
            set(about.arms) <= set(METHODS[about.method].arms) if about.arms else not about.method
        )
        assert claims[name].command.endswith(f"bench scores --experiment {name}")
        assert len(set(about.seeds(5))) == 5
        if name not in ("bundled", "marks"):
            made = {*about.arms, *("preset-train",) * (name == "coverage")}
            # Beside arms there are the same files told or asked otherwise: faces-phi-2, full-none.
            assert all(any(c.startswith(a) for a in made) for c in claims[name].conditions), name


def test_seeds_come_first_and_arms_that_are_scored_together_are_one_task():
    about = Experiment(2, "", list, lambda *a: {}, ("input",), "osdface", ("vre", "zeros"))
    assert about.tasks((1, 2)) == [
        Task("input"),
        Task("vre", (1,)), Task("zeros", (1,)),
        Task("vre", (2,)), Task("zeros", (2,)),
    ]  # fmt: skip
    together = replace(about, together=True, arms=("vre",))
    assert together.tasks((1, 2)) == [Task("input"), Task("vre", (1, 2))]


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """One arm of two runs, and what is asked of the scorer."""
    asked = []

    def score(count, arm, exports):
        asked.append((arm, tuple(exports)))
        values = {"psnr": np.array([20.123456, math.nan, math.inf][:count])}
        return {arm: {str(seed): values for seed in exports} or {"-": values}}

    about = Experiment(
        3, "as told", lambda n: list(range(7, 7 + n)), score, ("input",), "osdface", ("vre",)
    )
    monkeypatch.setitem(scores.EXPERIMENTS, "osdface", about)
    monkeypatch.setattr(scores, "ProcessPoolExecutor", lambda n, *rest: ThreadPoolExecutor(n))
    for seed in (1, 2):
        export = tmp_path / "arms" / "osdface" / f"vre-{seed}" / "export"
        export.mkdir(parents=True)
        (export / "a.safetensors").write_bytes(bytes([seed]))

    def run(count=3, seeds=(1, 2)):
        asked.clear()
        path = scores.score("osdface", count, tmp_path, seeds=seeds, workers=1, results=tmp_path)
        return json.loads(path.read_text()), sorted(asked)

    return run


def test_the_file_is_what_the_claims_read(experiment, tmp_path):
    data, asked = experiment()
    assert asked == [("input", ()), ("vre", (1,)), ("vre", (2,))]
    assert data["schema"] == 1 and data["people"] == [7, 8, 9] and data["damage"] == "as told"
    assert data["conditions"]["vre"]["2"]["psnr"] == [20.123, None, None]
    read = read_scores("osdface", tmp_path)
    assert read is not None and read.people == 3
    seeds, first, second = read.pairs("vre", "input", "psnr")
    assert seeds == ["1", "2"] and first.shape == (2, 3) and second.shape == (1, 3)
    assert np.isnan(first[:, 1:]).all()


def test_only_what_is_new_is_scored_again(experiment, tmp_path):
    experiment(seeds=(1,))
    _, asked = experiment()
    assert asked == [("vre", (2,))]
    (tmp_path / "arms/osdface/vre-1/export/a.safetensors").write_bytes(b"trained anew")
    data, asked = experiment()
    assert asked == [("vre", (1,))] and data["conditions"]["vre"].keys() == {"1", "2"}
    data, asked = experiment(count=2)
    assert len(asked) == 3 and len(data["conditions"]["vre"]["1"]["psnr"]) == 2


def test_scores_of_other_bundled_weights_go(experiment, monkeypatch):
    experiment()
    monkeypatch.setattr(scores, "bundled", lambda about: "others")
    data, asked = experiment(seeds=(1,))
    assert ("vre", (1,)) in asked and data["conditions"]["vre"].keys() == {"1"}


def test_without_runs_it_is_said_what_makes_them(tmp_path):
    with pytest.raises(FacewrightError, match="bench arms --method osdface"):
        scores.score("osdface", 2, tmp_path, results=tmp_path)


@pytest.fixture(scope="module")
def two():
    return people(2, heavy)


def test_of_the_truth_itself_nothing_is_missing(two):
    found = measured(two.gt, two, masked=True)
    assert np.allclose(found["identity"], 1, atol=1e-5) and np.allclose(found["edges"], 1)
    for name in ("feature", "eyes_colour", "masked_feature"):
        assert np.allclose(found[name], 0, atol=1e-6), name
    assert found["rank1"].tolist() == [1, 1] and (found["psnr"] > 90).all()
    assert measured(two.gt, two).keys() == found.keys() - {"masked_feature", "masked_edges"}


def test_psnr_is_of_the_box_and_people_are_damaged_one_by_one(two):
    x = (two.gt + 0.1).clone()
    x[:, :, :4] = 0  # above every face
    assert np.allclose(measured(x, two)["psnr"], 20, atol=1e-3)
    alone = heavy(two.gt[1:], [two.seeds[1]])
    assert torch.equal(alone, two.lq[1:])
    # 16 times smaller: what is left of 128 pixels are 8.
    assert torch.nn.functional.mse_loss(two.lq, two.gt) > 0.005


def test_a_metric_moves_with_what_it_is_named_after(two):
    worse = measured(two.lq, two, masked=True, colour=True)
    better = measured(0.9 * two.gt + 0.1 * two.lq, two, masked=True, colour=True)
    for name in ("psnr", "ssim", "edges", "identity", "masked_edges"):
        assert (better[name] > worse[name]).all(), name
    for name in ("feature", "eyes_colour", "masked_feature", "colour"):
        assert (better[name] < worse[name]).all(), name


def test_others_are_told_of_the_face_before_them():
    run = _nano_osdface.OneStep.__new__(_nano_osdface.OneStep)
    run.vre = lambda lq: lq.mean((2, 3))
    lq = torch.arange(3.0)[:, None, None, None].expand(3, 2, 4, 4)
    told = {name: prompt[:, 0].tolist() for name, prompt in run.told(lq).items()}
    assert told == {"own": [0, 1, 2], "other": [2, 0, 1], "zeros": [0, 0, 0]}


def test_who_is_covered_adds_up_to_recall():
    g = torch.Generator().manual_seed(0)
    real, made = (torch.randn(40, 5, generator=g, dtype=torch.float64) for _ in range(2))
    inside = nano_flipnet.covered(real, made)
    assert inside.mean() == recall(real, made) and set(inside.tolist()) == {0.0, 1.0}
    distance = [sorted(math.dist(a, b) for b in made.tolist())[3] for a in made.tolist()]
    naive = [
        any(math.dist(r, m) <= d for m, d in zip(made.tolist(), distance, strict=True))
        for r in real.tolist()
    ]
    assert inside.tolist() == naive


def test_people_without_a_mark_have_no_value():
    found = Measured(
        mark=np.array(["mole", "mole", "mole", "iris"]),
        test=np.array([HIT, HIT, FALSE_POSITIVE, HIT]),
        person=np.array([5, 5, 6, 6]),
        amount={"a": np.array([0.9, 0.1, 0.8, 0.2])},
    )
    values = by_person(found, [5, 6], "a")
    assert values["hits_mole"][0] == 0.5 and math.isnan(values["hits_mole"][1])
    assert math.isnan(values["false_mole"][0]) and values["false_mole"][1] == 1
    assert values["hits_iris"][1] == 0 and np.isnan(values["false_iris"]).all()


def test_training_finds_every_picture_of_the_shelf(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    photos = WorldPhotos(images, np.zeros((5, 4)), np.array([1, 1, 2, 2, 2]), "made up")
    made = []

    class Negative:
        @staticmethod
        def batch(good, seed, phi):
            made.append((len(good), seed, phi))
            return 1 - good

    monkeypatch.setattr(_arms_before, "open_source", lambda data: (photos, photos))
    monkeypatch.setattr(_arms_before.Flipnet, "bundled", lambda mode, steps: Negative)
    monkeypatch.setattr(_arms_before, "BATCH", 2)
    places, said = Places(tmp_path), []
    _arms_before.shelf(places, said.append)
    assert made == [(2, 9000, 1.0), (2, 9002, 1.0), (1, 9004, 1.0)]
    assert said[-1] == "shelf: 5 of 5 pictures"
    off = OffShelf(photos, OffShelfConfig(folder=places.path(SHELF), share=1))
    for i in range(5):
        lq = off.lq(i, photos.load(i), rng)
        assert lq is not None and torch.equal(lq, 255 - torch.from_numpy(images[i]))
    (places.path(SHELF) / "000003_1.png").unlink()
    made.clear()
    _arms_before.shelf(places, said.append)
    assert made == [(2, 9002, 1.0)]


def test_batches_come_in_order():
    x = torch.arange(40.0)
    assert torch.equal(by_batches(lambda a: a * 2, x), x * 2)
