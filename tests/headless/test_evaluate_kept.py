"""Scores of `facewright evaluate` that outlast an interruption, and scores given from elsewhere."""

import csv
import json
import math

import pytest
from facewright.headless.evaluation import scoring

from .evaluate_runs import evaluate, make, noisy, results, rows, save


@pytest.fixture
def opened(monkeypatch):
    """Names of the pictures that are opened for scoring."""
    seen = []
    load = scoring.load

    def watched(path):
        seen.append(f"{path.parent.name}/{path.stem}")
        return load(path)

    monkeypatch.setattr(scoring, "load", watched)
    return seen


def lines(out):
    return [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]


def arguments(root, *more, metrics="psnr,ssim"):
    return [
        root / "a", "--gt", root / "gt", "--lq", root / "lq", "--metrics", metrics,
        "-o", root / "out", *more,
    ]  # fmt: skip


def test_an_interrupted_run_goes_on_and_gives_the_same_report(tmp_path, opened, monkeypatch):
    make(tmp_path, 4, a=3, lq=9)
    whole = evaluate(*arguments(tmp_path)[:-1], tmp_path / "whole")
    opened.clear()
    measure = scoring._value

    def stop(m, restored, *more):
        if len([name for name in opened if name.startswith("gt")]) == 3 and m.name == "ssim":
            raise KeyboardInterrupt
        return measure(m, restored, *more)

    monkeypatch.setattr(scoring, "_value", stop)
    cut = evaluate(*arguments(tmp_path), code=130)
    assert "goes on from them" in cut.stderr.replace("\n", " ")
    assert [line["output"] for line in lines(tmp_path / "out")] == [
        "LQ/00",
        "a/00",
        "LQ/01",
        "a/01",
    ]
    assert not (tmp_path / "out/report.html").exists()
    monkeypatch.setattr(scoring, "_value", measure)
    opened.clear()
    done = evaluate(*arguments(tmp_path))
    assert "4 pictures had scores" in done.stderr and "had scores" not in whole.stderr
    assert opened == ["gt/02", "lq/02", "a/02", "gt/03", "lq/03", "a/03"]
    for name in ("results.csv", "results.json", "scores.jsonl", "report.html"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    # A torn last line, of a process that was killed, costs that line alone.
    data = (tmp_path / "out/scores.jsonl").read_bytes()
    (tmp_path / "out/scores.jsonl").write_bytes(data[:-20])
    opened.clear()
    evaluate(*arguments(tmp_path))
    assert opened == ["gt/03", "a/03"]
    assert (tmp_path / "out/scores.jsonl").read_bytes() == data


def test_only_what_changed_or_was_not_asked_before_is_measured(tmp_path, opened, monkeypatch):
    make(tmp_path, 3, a=3, lq=9)
    evaluate(*arguments(tmp_path, metrics="psnr"))
    measured = []
    value = scoring._value
    monkeypatch.setattr(
        scoring, "_value", lambda m, *more: measured.append(m.name) or value(m, *more)
    )
    evaluate(*arguments(tmp_path, metrics="ssim,psnr"))
    assert measured == ["ssim"] * 6
    assert list(rows(tmp_path / "out")[0])[2:4] == ["ssim", "psnr"]
    before = {(r["picture"], r["method"]): r["psnr"] for r in rows(tmp_path / "out")}
    opened.clear()
    save(tmp_path / "a/01.png", noisy(1, 5))  # another picture under the same name
    evaluate(*arguments(tmp_path))
    assert opened == ["gt/01", "a/01"]
    after = {(r["picture"], r["method"]): r["psnr"] for r in rows(tmp_path / "out")}
    assert [key for key in before if before[key] != after[key]] == [("01", "a")]
    opened.clear()
    save(tmp_path / "gt/02.png", noisy(2, 1))
    evaluate(*arguments(tmp_path))
    assert opened == ["gt/02", "lq/02", "a/02"]
    opened.clear()
    evaluate(*arguments(tmp_path, "--overwrite"))
    assert len(opened) == 9
    opened.clear()
    monkeypatch.setattr("facewright.headless.evaluation.kept.own_version", lambda: "another")
    evaluate(*arguments(tmp_path))
    assert len(opened) == 9


def test_metrics_of_sets_read_the_pictures_again(tmp_path, opened, monkeypatch):
    """Their features are not kept; the values of single pictures are."""
    import dataclasses

    from facewright.core.metrics import METRICS

    fid = dataclasses.replace(
        METRICS["fid"], missing=lambda: None, extract=lambda x: x.mean((2, 3)).double()
    )
    monkeypatch.setitem(METRICS, "fid", fid)
    make(tmp_path, 4, a=3, lq=9)
    evaluate(*arguments(tmp_path, metrics="psnr"))
    opened.clear()
    evaluate(*arguments(tmp_path, metrics="psnr,fid"))
    assert len(opened) == 12
    first = results(tmp_path / "out")["means"]["a"]["fid"]
    assert first["mean"] > 0 and first["count"] == 4
    evaluate(*arguments(tmp_path, metrics="psnr,fid"))
    assert results(tmp_path / "out")["means"]["a"]["fid"] == first


def test_infinite_and_failed_scores_come_back_as_they_were(tmp_path, opened):
    make(tmp_path, 3, a=3, lq=9)
    (tmp_path / "a/00.png").write_bytes((tmp_path / "gt/00.png").read_bytes())
    (tmp_path / "a/01.png").write_bytes(b"x")
    evaluate(*arguments(tmp_path), code=1)
    first = results(tmp_path / "out")
    opened.clear()
    evaluate(*arguments(tmp_path), code=1)
    assert opened == ["gt/01", "a/01"]  # what failed is tried again
    assert results(tmp_path / "out") == first
    assert first["pictures"][1]["values"]["psnr"] == "inf"


def test_scores_are_kept_by_workers_too(tmp_path):
    make(tmp_path, 3, a=3, lq=9)
    evaluate(*arguments(tmp_path, "--workers", 2))
    assert len(lines(tmp_path / "out")) == 6
    again = evaluate(*arguments(tmp_path, "--workers", 2))
    assert "6 pictures had scores" in again.stderr


@pytest.mark.parametrize(
    "line", ["[1]", "{}", '{"output": "a/00"}', "x" * 20, '{"output": 3, "values": {}}', None]
)
def test_a_file_of_scores_that_holds_something_else_is_named(tmp_path, line):
    make(tmp_path, 2, a=3, lq=9)
    evaluate(*arguments(tmp_path))
    if line is None:  # a number that is none
        line = json.dumps(lines(tmp_path / "out")[0] | {"values": {"psnr": [1]}})
    (tmp_path / "out/scores.jsonl").write_text(f"{line}\n")
    said = evaluate(*arguments(tmp_path), code=2).stderr.replace("\n", " ")
    assert "Line 1 of" in said and "scores.jsonl" in said and "Delete that line" in said


def given(path, header, *lines):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    return path


def test_given_scores_stand_beside_measured_ones(tmp_path, opened):
    """LPIPS, whose package need not be here, and a metric that nobody knows."""
    make(tmp_path, 8, a=3, lq=9)
    values = {f"{i:02}": 0.1 + i / 100 for i in range(8)}
    table = [[f"{name}.png", "a", x, 50 - 10 * x] for name, x in values.items()]
    table += [[name, "LQ", x + 0.2, 20 + x] for name, x in values.items()]
    table[3][3] = ""
    file = given(
        tmp_path / "mine.csv", ["picture", "method", "lpips", "topiq:higher"],
        *table, ["99", "a", 1, 1],
    )  # fmt: skip
    done = evaluate(*arguments(tmp_path, "--scores", file, metrics="psnr"), code=1)
    found = results(tmp_path / "out")
    assert list(found["metrics"]) == ["psnr", "lpips", "topiq"]
    lpips = {(c["method"], c["metric"]): c for c in found["comparisons"]}
    assert lpips["a", "lpips"]["mean"] == pytest.approx(-0.2)
    assert lpips["a", "lpips"]["verdict"] == lpips["a", "topiq"]["verdict"] == "better"
    mine = {r["picture"]: r["lpips"] for r in rows(tmp_path / "out") if r["method"] == "a"}
    assert {name: float(x) for name, x in mine.items()} == values
    assert "03 (a): topiq: mine.csv holds no value of it" in done.stderr.replace("\n", " ")
    page = (tmp_path / "out/report.html").read_text()
    assert "LPIPS: 16 values taken as given in mine.csv, not measured here." in page
    assert "1 score line of mine.csv belongs to no picture here: 99 (a)." in page
    assert "lpips" not in lines(tmp_path / "out")[0]["values"]
    # Where everything is given no picture is opened.
    opened.clear()
    evaluate(*arguments(tmp_path, "--scores", file, metrics="lpips"), code=1)
    assert opened == []


def test_reports_and_kept_scores_can_be_given(tmp_path):
    make(tmp_path, 3, a=3, lq=9)
    (tmp_path / "a/00.png").write_bytes((tmp_path / "gt/00.png").read_bytes())
    evaluate(*arguments(tmp_path))
    first = rows(tmp_path / "out")
    for name in ("results.csv", "results.json"):
        (tmp_path / name).write_bytes((tmp_path / "out" / name).read_bytes())
        args = arguments(tmp_path, "--overwrite", "--scores", tmp_path / name, metrics="edges")
        evaluate(*args)
        second = rows(tmp_path / "out")
        assert [(r["psnr"], r["ssim"]) for r in second] == [(r["psnr"], r["ssim"]) for r in first]
        assert math.isinf(float(second[1]["psnr"]))
    one = [{"picture": r["picture"], "method": r["method"], "values": {"topiq:lower": 3}}
           for r in first]  # fmt: skip
    text = "".join(json.dumps(x) + "\n" for x in one)
    (tmp_path / "mine.jsonl").write_text(text)
    evaluate(*arguments(tmp_path, "--scores", tmp_path / "mine.jsonl", metrics="psnr"))
    assert results(tmp_path / "out")["metrics"]["topiq"]["better"] == "lower"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "should be a .csv, .json or .jsonl file"),
        ("a.csv", "", "should name its columns"),
        ("a.csv", "name,psnr\na,1\n", "one of them `picture`"),
        ("a.csv", "picture,topiq\n00,1\n", "topiq:higher"),
        ("a.csv", "picture,psnr:lower\n00,1\n", "of psnr higher is good"),
        ("a.csv", "picture,method,psnr\n00,a,x\n", "Line 2 of"),
        ("a.csv", "picture,method,psnr\n00,a\n", "has 2 cells"),
        ("a.csv", "picture,method,psnr\n00,a,1\n00,a,2\n", "two values of psnr for 00 (a)"),
        ("a.csv", "picture,psnr\n00,1\n", "do not say of which method"),
        ("a.csv", "picture,method,fid\n00,a,1\n", "one number for all"),
        ("a.csv", "picture,method,psnr\n77,a,1\n", "belongs to a picture here"),
        ("a.csv", b"picture,method\xff\n", "cannot be read as CSV"),
        ("a.json", "{", "cannot be read as JSON"),
        ("a.json", "{}", "no list `pictures`"),
        ("a.json", '{"pictures": [3]}', "Entry 1 of"),
        ("a.jsonl", '{"picture": "00"}', "`picture`, `method` and `values`"),
        ("a.jsonl", '{"picture": 0, "values": {"psnr": 1}}', "names no `picture`"),
        ("a.jsonl", '{"picture": "00", "method": 1, "values": {}}', "has 1 as `method`"),
        ("a.jsonl", '{"picture": "00", "method": "a", "values": {"psnr": true}}', "not a number"),
        ("a.jsonl", '{"picture": "00", "method": "a", "values": {"psnr": "nan"}}', "not a number"),
    ],
)
def test_given_scores_that_are_none_are_refused_before_anything_is_measured(
    tmp_path, name, text, message
):
    make(tmp_path, 1, a=3, lq=9)
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    said = evaluate(*arguments(tmp_path, "--scores", tmp_path / name), code=2).stderr
    assert message in " ".join(said.split()) and not (tmp_path / "out").exists()
