"""Tables for papers, slices by folder and by damage, and the documented fields of results.json."""

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import facewright
import numpy as np
import pytest
from facewright.core.degradation import Degradation
from facewright.headless.cli import app
from PIL import Image
from typer.testing import CliRunner

from .evaluate_runs import clean, evaluate, make, noisy, results, rows, save


def of(out, name):
    return (out / name).read_text()


def test_markdown_and_latex_hold_the_means_and_all_pairs(tmp_path):
    make(tmp_path, 8, a=2, b=5, **{"c_1 & 50%": 9})
    evaluate(
        tmp_path / "a", tmp_path / "b", tmp_path / "c_1 & 50%", "--gt", tmp_path / "gt",
        "--metrics", "psnr,msswd", "-o", tmp_path / "out",
    )  # fmt: skip
    found = results(tmp_path / "out")
    markdown, latex = of(tmp_path / "out", "tables.md"), of(tmp_path / "out", "tables.tex")
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert (
        table[0]
        == "| method | pictures | PSNR (dB) \N{UPWARDS ARROW} | MS-SWD \N{DOWNWARDS ARROW} |"
    )
    assert table[1] == "| --- | ---: | ---: | ---: |"
    mean = found["means"]["a"]["psnr"]
    cell = f"{mean['mean']:.2f} \\[{mean['low']:.2f}, {mean['high']:.2f}\\]"
    assert table[2].startswith(f"| a | 8 | **{cell}** | **0.")
    assert table[3].startswith("| b | 8 | ") and "**" not in table[3]
    assert table[4].startswith("| c\\_1 & 50% | 8 |")
    assert len(table) == 2 + 3 + 2 + 6  # three methods; three pairs in two metrics
    worst = next(c for c in found["comparisons"] if c["method"] == "b" and c["metric"] == "psnr")
    assert f"| {worst['p']:.3f} | {worst['p_holm']:.3f} | worse |" in table[7]
    lines = latex.splitlines()
    assert lines.count(r"\toprule") == lines.count(r"\end{tabular}") == 2
    assert r"method & pictures & PSNR (dB) $\uparrow$ & MS-SWD $\downarrow$ \\" in lines
    assert rf"\textbf{{{mean['mean']:.2f} {{[}}{mean['low']:.2f}" in latex
    assert r"c{\_}1" not in latex and r"c\_1 \& 50\% & 8 &" in latex
    for line in lines:
        if line.endswith(r"\\"):
            cells = len(re.findall(r"(?<!\\)&", line)) + 1
            assert cells in (4, 9), line
    if pdflatex := shutil.which("pdflatex"):
        head = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
        page = head + latex + r"\end{document}"
        (tmp_path / "page.tex").write_text(page)
        subprocess.run([pdflatex, "-halt-on-error", "page.tex"], cwd=tmp_path, check=True)


def test_slices_by_subfolder(tmp_path):
    for i in range(13):
        name = f"{('hard', 'easy')[i < 6]}/{i:02}.png"
        save(tmp_path / "gt" / name, clean(i))
        save(tmp_path / "a" / name, noisy(i, 3 if i < 6 else 12))
    evaluate(
        tmp_path / "a", "--gt", tmp_path / "gt", "--metrics", "psnr", "-o", tmp_path / "out",
        "--slice-by", "subfolder",
    )  # fmt: skip
    (slices,) = results(tmp_path / "out")["slices"]
    assert [g["name"] for g in slices["groups"]] == ["easy", "hard"] and slices["levels"] == {}
    for g in slices["groups"]:
        mine = [
            float(r["psnr"]) for r in rows(tmp_path / "out") if r["picture"].startswith(g["name"])
        ]
        mean = g["means"]["a"]["psnr"]
        assert mean["mean"] == pytest.approx(np.mean(mine)) and mean["count"] == len(mine)
        assert mean["low"] < mean["mean"] < mean["high"]
    page = of(tmp_path / "out", "report.html")
    assert "<h2>By subfolder</h2>" in page and page.count("<img class=plot") == 2
    assert np.asarray(Image.open(tmp_path / "out/slices_subfolder.png")).std() > 5
    assert "| easy | a | 6 |" in of(tmp_path / "out", "tables.md")
    # The next report without slices leaves no plot of this one.
    evaluate(tmp_path / "a", "--gt", tmp_path / "gt", "--metrics", "psnr", "-o", tmp_path / "out")
    assert not (tmp_path / "out/slices_subfolder.png").exists()
    assert results(tmp_path / "out")["slices"] == []


@pytest.fixture(scope="module")
def degraded(tmp_path_factory):
    """Pictures, what `degrade` made of them, and a method that gives back what it got."""
    root = tmp_path_factory.mktemp("degraded")
    for i in range(12):
        save(root / f"gt/{i:02}.png", clean(i, 32))
    arguments = ["degrade", str(root / "gt"), "-o", str(root / "lq"), "--preset", "severe"]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    shutil.copytree(root / "lq", root / "a", ignore=shutil.ignore_patterns("manifest.jsonl"))
    (root / "lq/11.png").unlink()  # its recipe stays in the manifest
    return root


def sliced(root, out, by, code=0):
    evaluate(
        root / "a", "--gt", root / "gt", "--lq", root / "lq", "--metrics", "psnr", "-o", out,
        "--slice-by", by, code=code,
    )  # fmt: skip
    return {s["by"]: s for s in results(out)["slices"]}


def test_slices_by_the_damage_that_was_drawn(degraded, tmp_path):
    found = sliced(degraded, tmp_path, "noise,scale,blur,quality", code=1)
    recipes = {}
    for line in of(degraded / "lq", "manifest.jsonl").splitlines():
        record = json.loads(line)
        recipes[record["output"][:2]] = record["recipe"]["steps"]
    for name, steps in recipes.items():
        by = {op: [step for step in steps if step["op"] == op] for op in ("noise", "blur", "jpeg")}
        sizes = [step["size"] for step in steps if step["op"] == "resize"]
        expected = {
            "noise": 255 * max(step["sigma"] for step in by["noise"]),
            "blur": max(max(s["sigma"], s.get("sigma_y", 0)) for s in by["blur"]),
            "quality": min(step["quality"] for step in by["jpeg"]),
            "scale": max(32 / side for size in sizes for side in size),
        }
        for one, level in expected.items():
            assert found[one]["levels"][name] == pytest.approx(level), (one, name)
    values = {(r["picture"], r["method"]): float(r["psnr"]) for r in rows(tmp_path)}
    groups = found["noise"]["groups"]
    assert sorted(name for g in groups for name in g["pictures"]) == sorted(recipes)
    assert [len(g["pictures"]) for g in groups] == [3, 3, 3, 3]
    for lower, higher in itertools.pairwise(groups):
        assert lower["low"] <= lower["high"] < higher["low"]
    for g in groups:
        mine = [values[name, "a"] for name in g["pictures"]]
        assert g["means"]["a"]["psnr"]["mean"] == pytest.approx(np.mean(mine))
    for by in found:
        assert np.asarray(Image.open(tmp_path / f"slices_{by}.png")).std() > 5


def test_few_levels_are_groups_of_their_own_and_equal_ones_stay_together(degraded, tmp_path):
    shutil.copytree(degraded, tmp_path / "d")
    manifest = tmp_path / "d/lq/manifest.jsonl"
    records = [json.loads(line) for line in manifest.read_text().splitlines()]
    for i, record in enumerate(records[:11]):
        steps = record["recipe"]["steps"]
        record["recipe"]["steps"] = [s for s in steps if s["op"] != "jpeg"]
        if i:
            record["recipe"]["steps"].append({"op": "jpeg", "quality": 30 + 20 * (i % 2)})
    manifest.write_text("".join(json.dumps(r) + "\n" for r in records[:11]))
    slices = sliced(tmp_path / "d", tmp_path / "out", "quality", code=1)["quality"]
    assert [(g["name"], len(g["pictures"])) for g in slices["groups"]] == [("30", 5), ("50", 5)]
    assert slices["without"] == ["00", "11"]  # saved without JPEG; no recipe
    page = of(tmp_path / "out", "report.html")
    assert "Without a level: 2 of the pictures" in page


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("weather", "grouped by 'weather'. Take some of: subfolder, scale"),
        ("subfolder", "all 3 lie in one"),
        ("noise", "holds no recipe of them (00, 01, 02)"),
        ("broken", "is not the record of a picture"),
        ("wrong", "A recipe should be an object"),
        ("nowhere", "give --lq with the folder"),
    ],
)
def test_pictures_that_cannot_be_grouped_are_refused_before_scoring(tmp_path, by, message):
    make(tmp_path, 3, a=3, lq=9)
    lq = () if by == "nowhere" else ("--lq", tmp_path / "lq")
    if by == "broken":
        (tmp_path / "lq/manifest.jsonl").write_text("[3]\n")
    if by == "wrong":
        (tmp_path / "lq/manifest.jsonl").write_text('{"output": "00.png", "recipe": 3}\n')
    asked = by if by in ("weather", "subfolder", "noise") else "noise"
    result = evaluate(
        tmp_path / "a", "--gt", tmp_path / "gt", *lq, "-o", tmp_path / "out", "--slice-by", asked,
        code=2,
    )  # fmt: skip
    assert message in " ".join(result.stderr.split()) and not (tmp_path / "out").exists()


def fields(value, names=()):
    """Every field of nested objects that is no name of a method, metric or picture."""
    if isinstance(value, list):
        for one in value:
            yield from fields(one, names)
    for key, inner in value.items() if isinstance(value, dict) else ():
        if key not in names:
            yield key
        yield from fields(inner, names)


def test_every_field_of_the_results_is_documented(degraded, tmp_path):
    """In docs/degrading_and_scoring.md, and what is documented is there."""
    sliced(degraded, tmp_path, "noise", code=1)
    found = results(tmp_path)
    assert found["schema"] == 1
    names = {f"{i:02}" for i in range(12)} | {"LQ", "a", "psnr"} | set(found["versions"])
    docs = (Path(facewright.__file__).parent / "docs/degrading_and_scoring.md").read_text()
    section = docs.split("## Fields of results.json")[1].split("\n## ")[0]
    documented = set(re.findall(r"`(\w+)`", section.split("scores.jsonl")[0]))
    assert set(fields(found, names)) == documented
    (line, *_) = of(tmp_path, "scores.jsonl").splitlines()
    about = set(re.findall(r"`(\w+)`", section.split("scores.jsonl")[1]))
    assert set(fields(json.loads(line), names)) <= about


def test_levels_of_every_preset(tmp_path):
    """Whatever order or passes a preset has, each recipe gives every level."""
    from facewright.headless.evaluation.pairing import Case, Pairing
    from facewright.headless.evaluation.slices import group

    folder = tmp_path / "lq"
    folder.mkdir()
    untouched = {"size": [8, 8], "steps": []}
    drawn = [Degradation.preset(name).draw(3, 512, 512) for name in Degradation.presets()]
    for recipe in [*drawn, untouched]:
        line = json.dumps({"output": "p.png", "recipe": recipe})
        (folder / "manifest.jsonl").write_text(line + "\n")
        case = Case("p", None, {"LQ": folder / "p.png"})
        pairing = Pairing({"LQ": folder}, None, [case])
        for grouping in group(pairing, ("scale", "blur", "noise")):
            assert grouping.levels["p"] >= 0 and len(grouping.groups) == 1
    assert [g.levels["p"] for g in group(pairing, ("scale", "blur", "noise"))] == [1, 0, 0]
