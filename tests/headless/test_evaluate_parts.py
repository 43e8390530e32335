"""Pairing, ranking, wording, and the metrics that read faces or whole sets."""

import dataclasses
import json
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces import Face
from facewright.core.faces.nano import NanoAnalyzer
from facewright.core.geometry.align import align_faces
from facewright.core.images import Picture, write_picture
from facewright.core.metrics import METRICS, frechet_distance, metric
from facewright.core.metrics.statistics import paired_difference
from facewright.core.weights import nano
from facewright.headless.evaluation import faces as evaluation_faces
from facewright.headless.evaluation import pair_folders, score_all, summarize
from facewright.headless.evaluation.cases import extremes
from facewright.headless.evaluation.comparison import Comparison, number, with_unit
from facewright.headless.evaluation.glossary import MEANING
from facewright.headless.evaluation.scoring import choose_metrics
from facewright.training.world.faces3d import photos
from PIL import Image


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(path)
    return root


def test_pairs_are_by_name_never_by_place(tmp_path):
    """Same number of files, one name apart: sorted lists would pair b with c."""
    a = touch(tmp_path / "a", "a.png", "b.png", "x/d.webp", ".hidden.png", ".cache/e.png")
    gt = touch(tmp_path / "gt", "a.jpg", "c.png", "x/d.png")
    pairing = pair_folders([a], gt)
    assert {c.name: (c.versions["a"].name, c.gt.name) for c in pairing.cases} == {
        "a": ("a.png", "a.jpg"), "x/d": ("d.webp", "d.png")
    }  # fmt: skip
    assert [u.file.name for u in pairing.unmatched] == ["b.png", "c.png"]


def test_lq_and_missing_versions(tmp_path):
    one = touch(tmp_path / "one", "a.png", "b.png")
    two = touch(tmp_path / "two", "b.png")
    gt = touch(tmp_path / "gt", "a.png", "b.png")
    lq = touch(tmp_path / "lq", "b.png", "z.png")
    pairing = pair_folders([one, two], gt, lq)
    assert list(pairing.methods) == ["LQ", "one", "two"] and pairing.restored == ["one", "two"]
    assert [list(case.versions) for case in pairing.cases] == [["one"], ["LQ", "one", "two"]]
    assert [(u.file.parent.name, u.file.name) for u in pairing.unmatched] == [
        ("lq", "z.png"), ("one", "a.png"), ("one", "a.png")
    ]  # fmt: skip


def paired(pairing):
    return {
        case.name: (case.gt.name, sorted(file.name for file in case.versions.values()))
        for case in pairing.cases
    }


def record(folder, *lines):
    """(output, input, copy) as `facewright degrade` records them."""
    keys = ("output", "input", "copy")
    text = "".join(json.dumps(dict(zip(keys, line, strict=True))) + "\n" for line in lines)
    (folder / "manifest.jsonl").write_text(text)


def test_before_and_after_pictures_are_left_aside(tmp_path):
    names = ("a.webp", "a_compare.png", "x/b.png", "x/b_compare.png", "c_compare.png")
    m = touch(tmp_path / "m", *names, "d.png", "d_compare.png")
    gt = touch(tmp_path / "gt", "a.png", "x/b.png", "d.png", "d_compare.png")
    pairing = pair_folders([m], gt)
    assert list(paired(pairing)) == ["a", "d", "d_compare", "x/b"]  # an exact name comes first
    assert [file.name for file in pairing.aside] == ["a_compare.png", "b_compare.png"]
    assert [u.file.name for u in pairing.unmatched] == ["c_compare.png"]  # no c beside it
    assert "2 before/after pictures of restore --compare" in pairing.notes[0]


def test_copies_by_the_manifest_of_the_degraded_pictures(tmp_path):
    names = ("a.png", "a_2.png", "x/b.png", "x/b_2.png", "c_2.png", "e_2.png")
    m = touch(tmp_path / "m", *names, "a_2_compare.png")
    lq = touch(tmp_path / "lq", *names, "a_3.png")
    gt = touch(tmp_path / "gt", "a.jpg", "x/b.png", "c.png", "c_2.png", "e.png")
    record(
        lq, ("a.png", "a.jpg", 1), ("a_2.png", "a.jpg", 2), ("a_3.png", "a.jpg", 3),
        ("x/b_2.png", "x/b.png", 2), ("c_2.png", "c.png", 2), ("e_2.png", "e_2.png", 1),
    )  # fmt: skip
    pairing = pair_folders([m], gt, lq)
    assert paired(pairing) == {
        "a": ("a.jpg", ["a.png"] * 2), "a_2": ("a.jpg", ["a_2.png"] * 2),
        "c_2": ("c_2.png", ["c_2.png"] * 2),  # an exact name comes first
        "x/b": ("b.png", ["b.png"] * 2), "x/b_2": ("b.png", ["b_2.png"] * 2),
    }  # fmt: skip
    assert [case.copy_of for case in pairing.cases] == [None, "a", None, None, "x/b"]
    assert [file.name for file in pairing.aside] == ["a_2_compare.png"]
    assert [(u.file.parent.name, u.file.name) for u in pairing.unmatched] == [
        ("lq", "a_3.png"), ("lq", "e_2.png"), ("m", "e_2.png"), ("gt", "c.png"), ("gt", "e.png")
    ]  # fmt: skip
    assert "2 of the 5 pictures are further copies of 2 originals" in pairing.notes[1]


def test_copies_by_their_names_only_where_all_are_named_so(tmp_path):
    gt = touch(tmp_path / "gt", "a.png", "b.png", "c.png")
    names = ["a.png", "a_2.png", "a_3.png", "b.png", "b_2.png", "b_3.png"]
    all_of_them = pair_folders([touch(tmp_path / "all", *names)], gt)
    assert len(all_of_them.cases) == 6 and [u.file.name for u in all_of_them.unmatched] == ["c.png"]
    for kept in (names[:5], [*names, "a_4.png"], names[:3], ["a.png", "b.png", "a_02.png"]):
        folder = touch(tmp_path / f"{len(list(tmp_path.iterdir()))}", *kept)
        pairing = pair_folders([folder], gt)
        assert not any(case.copy_of for case in pairing.cases)
        assert any("degrade --copies" in u.why for u in pairing.unmatched)
    # A manifest that says otherwise is believed; one of another program says nothing.
    strangers = [(name, name, 1) for name in names]
    record(tmp_path / "all", *strangers)
    assert len(pair_folders([tmp_path / "all"], gt).cases) == 2
    (tmp_path / "all/manifest.jsonl").write_text('{"file_name": "a.png"}\n')
    assert len(pair_folders([tmp_path / "all"], gt).cases) == 6


def test_methods_get_names_that_differ(tmp_path):
    folders = [touch(tmp_path / name, "a.png") for name in ("x/out", "y/out", "GT", "last")]
    assert list(pair_folders(folders).methods) == ["x/out", "y/out", "GT (2)", "last"]
    assert list(pair_folders([folders[3]] * 2).methods) == ["last", "last (2)"]


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Three rendered people: gt, a slightly blurred and shifted copy; and one without a face."""
    root = tmp_path_factory.mktemp("faces")
    gt = photos([5, 6, 7], [1, 2, 3], nano.NANO_SIZE).pixels
    soft = torch.nn.functional.avg_pool2d(gt, 3, 1, 1).roll(2, 3)
    for i in range(3):
        write_picture(root / f"gt/{i}.png", gt[i], Picture(gt[i]))
        write_picture(root / f"soft/{i}.png", soft[i], Picture(soft[i]))
    flat = torch.full((3, 128, 128), 0.5)
    write_picture(root / "gt/wall.png", flat, Picture(flat))
    write_picture(root / "soft/wall.png", flat, Picture(flat))
    return root


def saved(path):
    array = np.asarray(Image.open(path)).astype(np.float32) / 255
    return torch.from_numpy(array).permute(2, 0, 1)


def frechet(a, b):
    """|mean difference|^2 + tr(A + B - 2 (A B)^1/2), the root's trace from the eigenvalues."""
    a, b = np.array(a), np.array(b)
    covariances = np.cov(a.T), np.cov(b.T)
    eigenvalues = scipy.linalg.eigvals(covariances[0] @ covariances[1])
    root = np.sqrt(eigenvalues.real.clip(0)).sum()
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sum(covariances)) - 2 * root


def test_metrics_of_faces_agree_with_numpy(faces):
    settings = choose_metrics(["ald", "lmd", "deg", "frechet"], "nano", True)
    scores = score_all(pair_folders([faces / "soft"], faces / "gt"), settings)
    analyzer, encoder = NanoAnalyzer.from_folder(), nano.load_identity("metric")
    features = {"soft": [], "gt": []}
    for row in scores.rows[:3]:
        pictures = {f: saved(faces / f / f"{row.case}.png") for f in features}
        found = {f: analyzer.detect(picture)[0] for f, picture in pictures.items()}
        a, b = (found[f].landmarks.double().numpy() for f in features)
        embeddings = []
        for folder, picture in pictures.items():  # both cut out where the original's face is
            maps = encoder.features(align_faces(picture[None], [[found["gt"]]], 128).pixels)
            embeddings.append(encoder.embed(maps[-1])[0].double().numpy())
            features[folder].append(maps[-1].double().numpy()[0].mean((1, 2)))
        cosine = embeddings[0] @ embeddings[1] / np.prod([np.linalg.norm(e) for e in embeddings])
        assert row.values["deg"] == pytest.approx(math.degrees(math.acos(cosine)), abs=1e-4)
        assert row.values["lmd"] == pytest.approx(np.hypot(*(a - b).T).mean(), abs=1e-6)
        homogeneous = np.c_[a, np.ones(68)]
        residual = homogeneous @ np.linalg.lstsq(homogeneous, b, rcond=None)[0] - b
        assert row.values["ald"] == pytest.approx(math.sqrt((residual**2).sum()), abs=1e-6)
        assert 1.5 < row.values["lmd"] < 4  # it was moved by 2 pixels
        assert row.values["deg"] > 1
    wall = scores.rows[3]
    assert set(wall.problems) == {"ald", "lmd", "deg", "frechet"}
    assert all("no face was found" in why for why in wall.problems.values())
    assert scores.set_counts["soft"]["frechet"] == 3
    assert scores.sets["soft"]["frechet"] == pytest.approx(frechet(*features.values()), abs=1e-5)
    assert any("computer-drawn" in note for note in scores.notes)
    same = score_all(pair_folders([faces / "gt"], faces / "gt"), settings)
    assert [r.values["deg"] for r in same.rows[:3]] == pytest.approx([0, 0, 0], abs=1e-3)
    assert same.sets["gt"]["frechet"] == pytest.approx(0, abs=1e-9)


class FivePoints:
    """Sees two faces in every picture: one that moves with its brightness, and a larger one that
    only originals have."""

    name = "facexlib"

    def detect(self, image):
        shift = float(image.mean() * 10)
        points = torch.tensor([[20.0, 20], [40, 20], [30, 32], [22, 44], [38, 44]]) + shift
        small = Face((10.0 + shift, 10.0, 50.0 + shift, 50.0), 0.9, points)
        far = Face((60.0, 60.0, 127.0, 127.0), 0.9, points + 60)
        return [small, far] if image.mean() > 0.5 else [small]


def test_analyzers_of_five_points(tmp_path, monkeypatch):
    """Landmarks are those five, and a face elsewhere is not taken for the original's."""
    monkeypatch.setattr(evaluation_faces, "load_analyzer", lambda name, **needs: FivePoints())
    for folder, levels in {"m": (0.2, 0.3, 0.4), "gt": (0.4, 0.4, 0.6)}.items():
        for name, level in zip("abc", levels, strict=True):
            picture = torch.full((3, 128, 128), level)
            write_picture(tmp_path / folder / f"{name}.png", picture, Picture(picture))
    settings = choose_metrics(None, "facexlib", True)
    assert [m.name for m in settings.metrics][-2:] == ["ald", "lmd"]
    scores = score_all(pair_folders([tmp_path / "m"], tmp_path / "gt"), settings)
    a, b, c = scores.rows
    assert a.values["lmd"] == pytest.approx(2 * math.sqrt(2), abs=0.06)
    assert b.values["lmd"] == pytest.approx(math.sqrt(2), abs=0.06)
    assert a.values["ald"] == pytest.approx(0, abs=1e-4)  # it only moved
    assert "no face was found in this picture" in c.problems["lmd"] and not c.error
    assert "five points" in scores.notes[0]


def test_analyzers_whose_landmark_weights_are_there(monkeypatch):
    class Dense(FivePoints):
        points = 98

        def landmarks(self, crops):
            return torch.zeros(len(crops), 98, 2)

    monkeypatch.setattr(evaluation_faces, "load_analyzer", lambda name, **needs: Dense())
    settings = choose_metrics(["ald_eyes", "ald_mouth"], "facexlib", True)
    assert [m.name for m in settings.metrics] == ["ald_eyes", "ald_mouth"]
    usual = [m.name for m in choose_metrics(None, "facexlib", True).metrics]
    assert usual[-5:] == ["ald", "ald_eyes", "ald_mouth", "ald_lips", "lmd"]
    note = evaluation_faces.FaceReader(evaluation_faces.Looks("facexlib")).note()
    assert "98 landmarks" in note and "five" not in note


def test_set_metrics_take_the_features_of_all_pictures(faces, monkeypatch):
    """A stand-in for Inception: mean colours; Fréchet's distance by scipy."""
    fid = dataclasses.replace(
        METRICS["fid"], missing=lambda: None, extract=lambda x: x.mean((2, 3)).double()
    )
    monkeypatch.setitem(METRICS, "fid", fid)
    scores = score_all(
        pair_folders([faces / "soft"], faces / "gt"), choose_metrics(["fid"], None, True)
    )
    a, b = (
        np.stack([saved(faces / f / f"{n}.png").mean((1, 2)).numpy() for n in (0, 1, 2, "wall")])
        for f in ("soft", "gt")
    )
    assert scores.sets["soft"]["fid"] == pytest.approx(frechet(a, b), abs=1e-6)
    assert scores.set_counts["soft"]["fid"] == 4
    assert not summarize(scores).comparisons


def ranked(tmp_path, values, name="psnr"):
    """A result whose pictures have these values."""
    folder = touch(tmp_path / "m", *(f"{chr(97 + i)}.png" for i in range(len(values))))
    scores = score_all(pair_folders([folder], folder), choose_metrics([name], None, True))
    for row, x in zip(scores.rows, values, strict=True):
        row.values[name] = x
    return summarize(scores)


def shown(ends):
    return [[case.case.name for case in cases] for cases in (ends.worst, ends.best)]


def test_worst_and_best_cases(tmp_path):
    result = ranked(tmp_path, [20.0, 30.0, math.inf, 10.0, math.nan, 20.0])
    assert shown(extremes(result, None, 2)) == [["d", "f"], ["c", "b"]]
    # Of five rankable pictures none is shown twice, and all are where asked for.
    worst, best = shown(extremes(result, "psnr", 9))
    assert len(worst) == 3 and sorted(worst + best) == ["a", "b", "c", "d", "f"]
    assert extremes(result, None, 0) is None
    with pytest.raises(FacewrightError, match="Take one of: psnr"):
        extremes(result, "ssim", 2)


def test_lower_and_one_rank_the_other_way(tmp_path):
    assert shown(extremes(ranked(tmp_path, [1.4, 0.9, 0.2], "edges"), None, 1)) == [["c"], ["b"]]
    values = [0.1, 0.3, 0.2]
    result = ranked(tmp_path, values, "edges")
    msswd = metric("msswd")
    result.scores.settings = dataclasses.replace(result.scores.settings, metrics=(msswd,))
    for row, x in zip(result.scores.rows, values, strict=True):
        row.values["msswd"] = x
    assert shown(extremes(result, None, 1)) == [["b"], ["a"]]


def test_sentences():
    psnr, deg, edges = metric("psnr"), metric("deg"), metric("edges")

    def sentence(a, b, m):
        difference = paired_difference(np.array(a), np.array(b), m.better)
        return Comparison("ours", "theirs", m, difference).sentence()

    base = np.arange(20.0, 40.0)
    assert sentence(base + 1.5, base, psnr) == (
        "ours is better than theirs in PSNR: higher by 1.50 dB [1.50, 1.50]; "
        "better in 20 of 20 pictures."
    )
    assert sentence(base + 2, base, deg).startswith("ours is worse than theirs in Deg.: higher by")
    far, near = [2, 2.5] * 3, [1, 1] * 3
    assert "worse than theirs in Edge ratio: farther from 1" in sentence(far, near, edges)
    unclear = sentence([1.1, 0.9, 1.0, 1.2, 0.8, 1.0], [1.1, 1.0, 0.9, 1.1, 1.1, 0.9], edges)
    assert "Edge ratio: farther from 1 by 0.017 [0.100 farther, 0.100 closer]; ours is" in unclear
    assert sentence([2, 2.5], [1, 1], edges) == (
        "ours against theirs in Edge ratio: farther from 1 by 1.250 on average, better in 0 of 2 "
        "pictures; too few pictures to tell."
    )
    even = sentence(base + [-1, 1] * 10, base, psnr)
    assert even.startswith(
        "No clear difference between ours and theirs in PSNR: +0.00 dB [\N{MINUS SIGN}0."
    )
    assert even.endswith("ours is better in 10 of 20 pictures.")
    assert "in the only picture" in sentence([3.0], [1.0], psnr)
    assert "no picture with PSNR in common" in sentence([math.nan], [1.0], psnr)
    assert sentence(base, base, psnr) == "ours and theirs are equal in PSNR in all 20 pictures."
    assert "equal in PSNR in the only picture" in sentence([math.inf], [math.inf], psnr)
    assert sentence([math.inf] * 8, base[:8], psnr) == (
        "ours against theirs in PSNR: better in 8 of 8 pictures; in 8 one of them is identical to "
        "its original (not in the mean); too few finite values to tell."
    )
    # An interval that leaves out 0 must not read as if it held it.
    tiny = sentence(base + 0.0004, base, psnr)
    assert "0.0004 dB [0.0004, 0.0004]" in tiny


def test_every_metric_is_explained():
    assert set(MEANING) == set(METRICS)
    assert {m.compute for m in METRICS.values() if m.reads == "set"} == {frechet_distance}


def test_numbers():
    psnr, deg, ssim = metric("psnr"), metric("deg"), metric("ssim")
    assert with_unit(21.456, psnr) == "21.46 dB" and with_unit(3.0, deg, signed=True) == "+3.00°"
    assert number(-0.5, ssim) == "\N{MINUS SIGN}0.500" and number(math.nan, ssim) == with_unit(
        math.nan, psnr
    )
    assert with_unit(math.inf, psnr) == "\N{INFINITY} dB"
