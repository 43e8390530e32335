"""`facewright evaluate` and `score`, run as a user runs them, on pictures of a few pixels."""

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from facewright.core.images import Picture, read_picture, write_picture
from facewright.headless.cli import app
from facewright.headless.evaluation.scoring import DEFAULT_METRICS
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from typer.testing import CliRunner

runner = CliRunner()
NAMES = ["anna", "bo", "sub/cyril", "dora", "emil", "fay"]


def clean(seed, size=24):
    """Smooth colours with an edge, uint8 (size, size, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    waves = np.stack(
        [np.sin(6 * x * rng.uniform(0.5, 2) + 4 * y + p) for p in rng.uniform(0, 6, 3)]
    )
    picture = 0.5 + 0.3 * waves.transpose(1, 2, 0)
    picture[size // 3 :, size // 2 :] *= 0.6
    return (picture * 255).round().astype(np.uint8)


def noisy(picture, amount, seed):
    noise = np.random.default_rng(seed).normal(0, amount, picture.shape)
    return (picture + noise).clip(0, 255).round().astype(np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


@pytest.fixture
def folders(tmp_path):
    """gt; good (noise 4), poor (noise 12) and lq (noise 20) of it."""
    for i, name in enumerate(NAMES):
        gt = clean(i)
        save(tmp_path / f"gt/{name}.png", gt)
        for at, (folder, amount) in enumerate({"good": 4, "poor": 12, "lq": 20}.items()):
            save(tmp_path / f"{folder}/{name}.png", noisy(gt, amount, 10 * i + at))
    return tmp_path


def evaluate(*args, code=0):
    result = runner.invoke(app, ["evaluate", *map(str, args)], catch_exceptions=False)
    assert result.exit_code == code, result.stderr
    return result


def rows(out):
    with open(out / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def strict_json(text):
    def refuse(token):
        raise AssertionError(f"{token} is no JSON")

    return json.loads(text, parse_constant=refuse)


def read(path):
    return np.asarray(Image.open(path)).astype(np.float64) / 255


def test_the_table_holds_what_skimage_measures(folders):
    gt = folders / "gt"
    evaluate(folders / "good", "--gt", gt, "--metrics", "psnr,ssim", "--lq", folders / "lq")
    out = folders / "good_evaluation"
    found = rows(out)
    assert [(r["picture"], r["method"]) for r in found] == [
        (name, method) for name in sorted(NAMES) for method in ("LQ", "good")
    ]
    for row in found:
        a = read(folders / {"LQ": "lq", "good": "good"}[row["method"]] / f"{row['picture']}.png")
        b = read(gt / f"{row['picture']}.png")
        psnr = peak_signal_noise_ratio(b, a, data_range=1)
        ssim = structural_similarity(
            a, b, data_range=1, channel_axis=2, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )  # fmt: skip
        assert float(row["psnr"]) == pytest.approx(psnr, abs=1e-4)
        assert float(row["ssim"]) == pytest.approx(ssim, abs=1e-4)
    names = sorted(p.name for p in out.iterdir())
    files = ["plot.png", "report.html", "results.csv", "results.json", "scores.jsonl", "sheet.png"]
    files += ["tables.md", "tables.tex"]
    assert names == files


def test_the_summary_follows_from_the_table(folders):
    result = evaluate(
        folders / "poor", folders / "good", "--gt", folders / "gt", "--lq", folders / "lq",
        "--metrics", "psnr,msswd,edges", "-o", folders / "out", "--json",
    )  # fmt: skip
    summary = strict_json(result.stdout)
    full = strict_json((folders / "out/results.json").read_text())
    assert {k: full[k] for k in summary if k != "report"} == {
        k: v for k, v in summary.items() if k != "report"
    }
    values = {(r["picture"], r["method"]): float(r["psnr"]) for r in rows(folders / "out")}
    for method in ("LQ", "poor", "good"):
        mine = [values[name, method] for name in NAMES]
        mean = summary["means"][method]["psnr"]
        assert mean["mean"] == pytest.approx(np.mean(mine), abs=1e-9)
        assert mean["low"] < mean["mean"] < mean["high"] and mean["count"] == 6
    pairs = {(c["method"], c["against"], c["metric"]): c for c in summary["comparisons"]}
    assert [(a, b) for a, b, m in pairs if m == "psnr"] == [
        ("poor", "LQ"), ("good", "LQ"), ("good", "poor")
    ]  # fmt: skip
    gain = np.array([values[n, "good"] - values[n, "poor"] for n in NAMES])
    c = pairs["good", "poor", "psnr"]
    assert c["mean"] == pytest.approx(gain.mean(), abs=1e-9) and c["wins"] == (gain > 0).mean() == 1
    # Noise of 4 instead of 12 grey levels: 20 log10(3) dB, but for rounding and clipping.
    assert c["mean"] == pytest.approx(20 * np.log10(3), abs=0.5)
    assert c["verdict"] == "better" and "better in 6 of 6 pictures" in c["sentence"]
    assert pairs["good", "poor", "msswd"]["verdict"] == "better"
    assert pairs["good", "poor", "msswd"]["mean"] < 0
    assert pairs["poor", "LQ", "edges"]["verdict"] == "better"  # noise is no sharpness


class Page(HTMLParser):
    """Every address a page would load, and its text."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.text, self.images, self.headings = [], "", 0, 0
        self.tags, self.attributes = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.images += tag == "img"
        self.headings += tag == "h2"
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data):
        self.text += data


def test_the_page_has_every_part_and_loads_nothing(folders):
    evaluate(
        folders / "good", folders / "poor", "--gt", folders / "gt", "--lq", folders / "lq",
        "--cases", 2, "--sort", "ssim",
    )  # fmt: skip
    html = (folders / "good_evaluation/report.html").read_text()
    page = Page(html)
    for part in (
        "What came out", "good is better than LQ in PSNR: higher by", "Picture by picture",
        "Every picture", "Worst SSIM of good", "Best SSIM of good", "Left out",
        "every picture was paired and scored", "What the metrics mean", "How it was made",
        "higher is better", "lower is better", "closer to 1 is better", "fewer than 10 pictures",
        "about 1 in 20 looks clear",
    ):  # fmt: skip
        assert part in page.text, part
    assert page.images == 1 + 2 * 2 * 4  # the plot; two worst and two best in four versions
    assert all(a.startswith("data:image/") for a in page.addresses)
    styles = re.search("<style>(.*)</style>", html, re.DOTALL)[1]
    assert "url(" not in styles and "@import" not in html and "<script" not in html
    ssim = {r["picture"]: float(r["ssim"]) for r in rows(folders / "good_evaluation")
            if r["method"] == "good"}  # fmt: skip
    ranked = sorted(ssim, key=ssim.get)
    shown = re.findall(r"<h3>\d\. (\S+) <small>", html)
    assert shown == [*ranked[:2], *ranked[::-1][:2]]
    for name in ("plot.png", "sheet.png"):
        picture = np.asarray(Image.open(folders / "good_evaluation" / name))
        assert picture.std() > 5  # something is drawn


def test_names_of_files_are_no_markup_and_no_template(folders):
    method = '<b id="x">&{{ 7 * 7 }}'
    picture = "'\"><img src=x onerror=alert(1)>{% raw %}"
    save(folders / method / f"{picture}.png", noisy(clean(0), 4, 7))
    save(folders / "gt" / f"{picture}.png", clean(0))
    save(folders / method / "<i>alone.png", clean(0))
    evaluate(folders / method, "--gt", folders / "gt", "-o", folders / "out", code=1)
    page = Page((folders / "out/report.html").read_text())
    assert f"Evaluation of {method}" in page.text and f"1. {picture} " in page.text
    assert f"{folders / method / '<i>alone.png'}: no picture of this name" in page.text
    assert page.images == 1 + 2 and all(a.startswith("data:image/") for a in page.addresses)
    assert not {"i", "script"} & page.tags and not {"onerror", "id"} & page.attributes


def test_odd_pictures_are_named_and_the_others_scored(folders):
    """A broken file, another size, transparency, 16 bits, missing partners on both sides."""
    good = folders / "good"
    (good / "anna.png").write_bytes((good / "anna.png").read_bytes()[:60])
    save(good / "bo.png", clean(1, 30))
    alpha = np.concatenate([clean(3), np.full((24, 24, 1), 9, np.uint8)], 2)
    save(good / "dora.png", alpha)
    deep = Image.fromarray(clean(4)[..., 0].astype(np.uint16) * 257)
    deep.save(good / "emil.png")
    save(good / "stranger.png", clean(9))
    (good / "fay.png").unlink()
    (good / "notes.txt").write_text("no picture")
    result = evaluate(good, "--gt", folders / "gt", "--metrics", "psnr", code=1)
    for part in (
        "anna.png is damaged", "bo.png has 30 x 30 pixels and its original 24 x 24",
        "stranger.png: no picture of this name", "fay.png: no restored picture of this name",
    ):  # fmt: skip
        assert part in result.stderr, part
    full = strict_json((folders / "good_evaluation/results.json").read_text())
    assert [f["picture"] for f in full["failed"]] == ["anna", "bo"]
    assert [u["file"].split("/")[-1] for u in full["unmatched"]] == ["stranger.png", "fay.png"]
    by_name = {p["picture"]: p for p in full["pictures"]}
    assert by_name["dora"]["notes"] == ["its transparency was ignored"]
    assert by_name["dora"]["values"] == {"psnr": "inf"}  # its colours are those of the original
    grey = np.repeat(read(folders / "gt/emil.png")[..., :1], 3, 2)
    expected = peak_signal_noise_ratio(read(folders / "gt/emil.png"), grey, data_range=1)
    assert by_name["emil"]["values"]["psnr"] == pytest.approx(expected, abs=1e-4)
    assert by_name["sub/cyril"]["values"]["psnr"] > 30
    html = Page((folders / "good_evaluation/report.html").read_text()).text
    assert "stranger.png" in html and "anna (good)" in html and "is damaged" in html


def test_one_metric_that_cannot_be_taken_leaves_the_others(folders):
    save(folders / "good/bo.png", clean(1, 8))
    save(folders / "gt/bo.png", clean(1, 8))
    result = evaluate(folders / "good", "--gt", folders / "gt", "--metrics", "psnr,ssim", code=1)
    assert "bo (good): ssim: SSIM needs pictures of at least 11 x 11" in result.stderr
    bo = next(r for r in rows(folders / "good_evaluation") if r["picture"] == "bo")
    assert bo["psnr"] == "inf" and bo["ssim"] == "" and "at least 11" in bo["problems"]


def test_equal_pictures_are_ideal_and_said_to_be_infinite(folders):
    result = evaluate(folders / "gt", "--gt", folders / "gt", "-o", folders / "out", "--json")
    means = strict_json(result.stdout)["means"]["gt"]
    assert (means["psnr"]["mean"], means["psnr"]["infinite"]) == (None, 6)
    assert means["ssim"]["mean"] == pytest.approx(1, abs=1e-12)
    assert means["edges"]["mean"] == 1 and means["msswd"]["mean"] == 0
    assert all(r["psnr"] == "inf" for r in rows(folders / "out"))
    assert "\N{INFINITY} (6 identical)" in Page((folders / "out/report.html").read_text()).text
    shown = evaluate(
        folders / "gt", "--gt", folders / "gt", "--lq", folders / "gt", "-o", folders / "out"
    ).stderr
    assert "\N{INFINITY} (6 identical)" in shown and "inf" not in shown.lower().replace(
        "\N{INFINITY}", ""
    )
    found = strict_json((folders / "out/results.json").read_text())["comparisons"]
    assert [c["verdict"] for c in found] == ["equal"] * len(DEFAULT_METRICS)


def test_two_pictures_are_too_few_for_a_verdict(folders):
    for name in NAMES[2:]:
        for folder in ("good", "poor", "gt"):
            (folders / f"{folder}/{name}.png").unlink()
    both = folders / "good", folders / "poor"
    result = evaluate(*both, "--gt", folders / "gt", "--metrics", "psnr,ssim")
    assert "better in 0 of 2 pictures; too few pictures to tell." in result.stderr
    assert "is worse" not in result.stderr and "[" not in result.stderr
    found = strict_json((folders / "good_evaluation/results.json").read_text())
    for c in found["comparisons"]:
        assert (c["verdict"], c["clear"], c["low"]) == ("too few pictures to tell", None, None)
    page = Page((folders / "good_evaluation/report.html").read_text()).text
    assert "too few pictures to tell" in page and "need at least 6 pictures" in page
    assert "1 in 20" not in page and "In brackets" not in page  # nothing is claimed


def test_the_best_edge_ratio_is_that_of_the_verdict(folders):
    """Half too sharp and half too soft is 1 on average, and no better for it."""
    for i, name in enumerate(NAMES):
        gt = clean(i)
        soft = gt.astype(float).mean((0, 1)) + 0.05 * (gt - gt.astype(float).mean((0, 1)))
        save(folders / f"even/{name}.png", (soft if i % 2 else noisy(gt, 2, i)).astype(np.uint8))
        save(folders / f"near/{name}.png", noisy(gt, 1, i))
    evaluate(
        folders / "even", folders / "near", "--gt", folders / "gt", "--metrics", "edges",
        "-o", folders / "out",
    )  # fmt: skip
    html = (folders / "out/report.html").read_text()
    found = strict_json((folders / "out/results.json").read_text())
    even, near = (found["means"][m]["edges"]["mean"] for m in ("even", "near"))
    distance = {
        method: np.mean([abs(float(r["edges"]) - 1) for r in rows(folders / "out")
                         if r["method"] == method])
        for method in ("even", "near")
    }  # fmt: skip
    assert distance["near"] < distance["even"]
    assert f"<b>{near:.3f}</b>" in html and f"<b>{even:.3f}</b>" not in html
    c = found["comparisons"][0]
    assert c["mean"] == pytest.approx(distance["even"] - distance["near"], abs=1e-9)
    assert re.search(r"<td>closer to 1 by \d", html) and "near better in" in html


def test_the_loop_of_degrade_copies_and_restore_compare(folders, monkeypatch):
    """What the other commands write is scored without a word about missing partners."""
    lq, gt = folders / "made", folders / "gt"
    arguments = ["degrade", str(gt), "-o", str(lq), "--copies", "2", "--preset", "mild"]
    assert runner.invoke(app, arguments, catch_exceptions=False).exit_code == 0
    for file in lq.rglob("*.png"):
        restored = folders / "restored" / file.relative_to(lq)
        save(restored, noisy(np.asarray(Image.open(file)), 1, 0))
        save(restored.with_name(f"{restored.stem}_compare.png"), clean(0))
    result = evaluate(folders / "restored", "--gt", gt, "--lq", lq, "--metrics", "psnr")
    assert "12 before/after pictures" in result.stderr
    assert "6 of the 12 pictures are further copies of 6 originals" in result.stderr
    page = Page((folders / "restored_evaluation/report.html").read_text()).text
    assert "12 pictures, compared with 6 originals" in page
    found = rows(folders / "restored_evaluation")
    assert len(found) == 24
    for row in found:
        name = row["picture"].removesuffix("_2")
        a, b = read(row["file"]), read(gt / f"{name}.png")
        assert row["file"].endswith(f"{row['picture']}.png")
        assert float(row["psnr"]) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=1))
    pictures = strict_json((folders / "restored_evaluation/results.json").read_text())["pictures"]
    assert {p["picture"]: p["copy_of"] for p in pictures}["sub/cyril_2"] == "sub/cyril"

    def stop(*args, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("facewright.headless.evaluation.score_all", stop)
    result = evaluate(folders / "restored", "--gt", gt, code=130)
    assert "goes on from them" in result.stderr.replace("\n", " ")


def test_nothing_in_common_names_both_sides(folders):
    for name in ("a1", "a2"):
        save(folders / f"other/{name}.png", clean(0))
    result = evaluate(folders / "other", "--gt", folders / "gt", code=2)
    assert "Without an original: a1, a2" in result.stderr
    assert "Originals not used: anna, bo, dora" in result.stderr.replace("\n", " ")
    assert not (folders / "other_evaluation").exists()


def test_two_methods_with_different_gaps_compare_what_they_share(folders):
    (folders / "good/anna.png").unlink()
    (folders / "poor/bo.png").unlink()
    result = evaluate(
        folders / "good", folders / "poor", "--gt", folders / "gt", "--metrics", "psnr", "--json",
        code=1,
    )  # fmt: skip
    summary = strict_json(result.stdout)
    assert summary["comparisons"][0]["count"] == 4
    assert {u["file"].rsplit("/", 2)[-2] for u in summary["unmatched"]} == {"good", "poor"}
    assert "not over the same pictures" in (folders / "good_evaluation/report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("@empty --gt @gt", "There are no pictures in"),
        ("@good --gt @empty", "There are no pictures in"),
        ("@nowhere --gt @gt", "There is no folder"),
        ("@good/bo.png --gt @gt", "facewright score A B"),
        ("@good/bo.png --gt @good", "facewright score A B"),
        ("@twice --gt @gt", "bo.jpg"),
        ("@good --gt @gt -o @good/report", "Choose another folder"),
        ("@good --gt @gt --lq @lq -o @lq", "Choose another folder"),
        ("@good --gt @gt --metrics psrn", "No metric 'psrn'"),
        ("@good --gt @gt --sort lmd", "Take one of: psnr"),
        ("@good --gt @gt --metrics lmd", "--faces: nano"),
        ("@good --gt @gt --faces skimage", "find landmarks"),
        ("@good", "metrics that need none"),
        ("@good --metrics psnr", "compares with an original"),
        ("@good --gt @gt --faces facexlib --metrics ald_eyes", "reads dense landmarks."),
        ("@good --gt @gt --faces facexlib --metrics deg", "no embedding"),
    ],
)
def test_wrong_usage_ends_with_a_sentence_and_nothing_written(folders, arguments, message):
    """@ stands for the folder of the folders."""
    (folders / "empty").mkdir()
    save(folders / "twice/bo.png", clean(1))
    save(folders / "twice/bo.jpg", clean(1))
    before = sorted(folders.rglob("*"))
    result = evaluate(*arguments.replace("@", f"{folders}/").split(), code=2)
    assert message in result.stderr.replace("\n", " ")
    assert sorted(folders.rglob("*")) == before


def test_every_picture_failing_is_an_error_without_a_report(folders):
    for name in NAMES:
        (folders / f"poor/{name}.png").write_bytes(b"no picture")
    result = evaluate(folders / "poor", "--gt", folders / "gt", code=1)
    assert "Not a single picture" in result.stderr and "anna" in result.stderr
    assert not (folders / "poor_evaluation").exists()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A rendered face, what haze made of it, and a wall."""
    from facewright.core.degradation import Degradation
    from facewright.training.world.faces3d import photos

    folder = tmp_path_factory.mktemp("drawn")
    gt = photos([921], [1], 128).pixels
    lq, _ = Degradation.preset("severe")(gt, 3)
    wall = torch.linspace(0.2, 0.7, 128).expand(3, 128, 128)
    for name, picture in {"gt": gt[0], "restored": lq[0], "wall": wall}.items():
        write_picture(folder / f"{name}.png", picture, Picture(picture))
    return folder


@pytest.mark.parametrize(
    "options", ["--metric ald --analyzer nano", "--metrics ald,ald_eyes,ald_mouth,lmd --faces nano"]
)
def test_landmarks_of_two_files(drawn, options):
    from facewright.core.faces import load_analyzer
    from facewright.core.scores.landmarks import score_landmarks

    pair = [drawn / "restored.png", drawn / "gt.png"]
    result = runner.invoke(app, ["score", *map(str, pair), *options.split(), "--json"])
    assert result.exit_code == 0, result.stderr
    values = strict_json(result.stdout)["values"]
    pixels = [read_picture(path).pixels[None] for path in pair]
    expected = score_landmarks(*pixels, load_analyzer("nano"))
    names = {"ald": "ald_all", "lmd": "l2"}
    assert list(values) == options.split()[1].split(",")
    for name, value in values.items():
        assert value == pytest.approx(expected.mean(names.get(name, name)), rel=1e-5)


def test_landmarks_that_cannot_be_scored(drawn):
    gt = str(drawn / "gt.png")
    result = runner.invoke(app, ["score", gt, gt, "--metric", "ald"])
    assert result.exit_code == 2 and "--faces: nano" in result.stderr.replace("\n", " ")
    result = runner.invoke(app, ["score", gt, gt, "--metric", "ald", "--analyzer", "skimage"])
    assert result.exit_code == 2 and "find landmarks" in result.stderr.replace("\n", " ")
    wall = str(drawn / "wall.png")
    result = runner.invoke(app, ["score", wall, gt, "--metric", "ald", "--faces", "nano"])
    assert result.exit_code == 1 and "no face was found" in result.stderr.replace("\n", " ")


def test_score_of_two_files(folders):
    a, b = folders / "good/anna.png", folders / "gt/anna.png"
    result = runner.invoke(app, ["score", str(a), str(b), "--metrics", "psnr,ssim", "--json"])
    assert result.exit_code == 0, result.stderr
    values = strict_json(result.stdout)["values"]
    expected = peak_signal_noise_ratio(read(b), read(a), data_range=1)
    assert values["psnr"] == pytest.approx(expected, abs=1e-4) and set(values) == {"psnr", "ssim"}
    shown = runner.invoke(app, ["score", str(b), str(b)])
    assert shown.exit_code == 0 and "\N{INFINITY} dB" in shown.stderr and shown.stdout == ""
    save(folders / "small.png", clean(0, 20))
    failed = runner.invoke(app, ["score", str(a), str(folders / "small.png")])
    assert failed.exit_code == 1 and "24 x 24 pixels" in failed.stderr.replace("\n", " ")
    missing = runner.invoke(app, ["score", str(a), str(folders / "none.png")])
    assert missing.exit_code == 1 and "There is no file" in missing.stderr
