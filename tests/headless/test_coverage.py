"""`facewright coverage`: what is compared, what is written, and what happens to bad pictures."""

import csv
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facewright.core.degradation import Degradation
from facewright.core.degradation.descriptors import DESCRIPTORS, describe_damage
from facewright.core.images import Picture, read_picture, write_picture
from facewright.core.metrics import frechet_distance
from facewright.headless.cli import app
from facewright.headless.evaluation.coverage import THEMSELVES, TOGETHER, CoverageRun
from typer.testing import CliRunner

SIDE = 48


def cover(*args):
    return CliRunner().invoke(app, ["coverage", *map(str, args)])


def write(folder, x):
    for i, one in enumerate(x):
        write_picture(folder / f"{i:02}.png", one, Picture(one))


def faces(count, seed):
    rng = torch.Generator().manual_seed(seed)
    x = sum(
        F.interpolate(torch.rand(count, 3, s, s, generator=rng), (SIDE, SIDE), mode="bicubic")
        for s in (3, 6, 12, 24, 48)
    )
    return (0.5 + 1.2 * (x / 5 - 0.5)).clamp(0, 1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Photographs with noise and blur, pictures made the same way, and made another way."""
    there = tmp_path_factory.mktemp("coverage")
    write(there / "gt", faces(24, 1))

    def shaken(count, seed):
        lq, _ = Degradation.preset("mild", noise=(0, 0.2), sigma=(0, 3))(faces(count, seed), seed)
        return lq

    write(there / "lfw", shaken(44, 100))
    write(there / "wider", shaken(24, 200))
    write(there / "same", shaken(24, 300))
    write(there / "other", faces(24, 3) * 0.3)
    return there


@pytest.fixture(scope="module")
def report(folders):
    out = folders / "out"
    made = [folders / "same", folders / "other", "--gt", folders / "gt", "--preset", "mild"]
    real = ["--real", folders / "lfw", "--real", folders / "wider", "--preset", "flipnet"]
    result = cover(*made, *real, "--size", SIDE, "-o", out, "--draws", 4, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def cells(report):
    return {(cell["set"], cell["real"]): cell for cell in report["table"]}


def test_sets_made_alike_cover_and_others_do_not(report, folders):
    found = cells(report)
    names = ["same", "other", "preset mild", "preset flipnet", THEMSELVES]
    # wider has 24 photographs, and needs 20 on either side.
    assert set(found) == {(name, real) for name in names for real in (TOGETHER, "lfw")}
    assert any("wider has too few pictures" in note for note in report["notes"])
    assert any("512 x 512" in note for note in report["notes"]), "flipnet is made for larger faces"
    for real, count in ((TOGETHER, 24), ("lfw", 22)):
        means = {n: {m: found[n, real][m]["mean"] for m in ("recall", "coverage", "frechet")}
                 for n in names}  # fmt: skip
        assert {found[n, real]["pictures"] for n in names} == {count}
        best = means[THEMSELVES]
        assert means["same"]["coverage"] > 0.7 * best["coverage"] > 0.4
        assert means["same"]["recall"] > 0.7 * best["recall"] > 0.4
        assert means["other"]["coverage"] < 0.1 and means["other"]["recall"] < 0.1
        assert means["same"]["frechet"] < 2 * best["frechet"] < 0.2 * means["other"]["frechet"]
        assert all(len(found[n, real]["recall"]["draws"]) == 4 for n in names)
    out = folders / "out"
    written = {"coverage.md", "coverage.json", "descriptors.csv", "coverage.png", "examples.png"}
    assert {path.name for path in out.iterdir()} == written
    kept = json.loads((out / "coverage.json").read_text())
    assert kept == {key: report[key] for key in kept} and kept["schema"] == 1
    tables = (out / "coverage.md").read_text()
    cell = found["same", TOGETHER]["recall"]
    assert f"| same | off-shelf | {cell['mean']:.3f} ({min(cell['draws']):.3f} to" in tables
    assert "| preset mild | on-the-fly |" in tables and tables.index("## all") < tables.index("lfw")


def test_descriptors_are_those_of_the_pictures(report, folders):
    with (folders / "out/descriptors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 44 + 24 + 24 + 24 + 24 + 24
    for row in (rows[0], rows[50], rows[70]):
        x = read_picture(folders / row["set"] / row["picture"]).pixels[None]
        expected = describe_damage(x)[0].numpy()
        np.testing.assert_allclose([float(row[n]) for n in DESCRIPTORS], expected, rtol=1e-7)


def test_the_numbers_are_those_of_the_draws(report, folders):
    """The Fréchet distance of one draw, from the table of descriptors."""
    with (folders / "out/descriptors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    sets = {}
    for row in rows:
        values = [float(row[name]) for name in DESCRIPTORS]
        sets.setdefault(row["set"], []).append(values)
    sets = {name: np.array(values) for name, values in sets.items()}
    real = np.concatenate([sets["lfw"], sets["wider"]])
    scaled = {n: (x - real.mean(0)) / real.std(0, ddof=1) for n, x in sets.items()}
    rng = np.random.default_rng((0, 2))  # seed, draw
    order = rng.permutation(44)
    some = rng.choice(24, 22, replace=False)
    expected = frechet_distance(
        torch.from_numpy(scaled["lfw"][order[:22]]), torch.from_numpy(scaled["same"][some])
    )
    found = cells(report)["same", "lfw"]["frechet"]["draws"][2]
    assert found == pytest.approx(float(expected), rel=1e-6)


def test_a_preset_is_what_degrade_makes(report, folders):
    made = folders / "mild"
    args = ["degrade", str(folders / "gt"), "-o", str(made), "--preset", "mild", "--seed", "0"]
    assert CliRunner().invoke(app, args).exit_code == 0
    with (folders / "out/descriptors.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "preset mild"]
    for row in rows:
        x = read_picture(made / row["picture"]).pixels[None]
        expected = describe_damage(x)[0].numpy()
        np.testing.assert_allclose([float(row[n]) for n in DESCRIPTORS], expected, rtol=1e-7)


def test_bad_pictures_are_named_and_others_squared(folders, tmp_path):
    real = tmp_path / "real"
    write(real, faces(42, 7))
    (real / "00.png").write_bytes(b"x")
    wide = torch.nn.functional.pad(faces(1, 8)[0], (20, 20))
    write_picture(real / "01.png", wide, Picture(wide))
    out = tmp_path / "out"
    args = ["--real", real, "-o", out, "--size", SIDE, "--draws", 1, "--embedding", "tsne"]
    result = cover(folders / "same", *args)
    assert (
        result.exit_code == 1 and "00.png" in result.stderr and "1 of 66 pictures" in result.stderr
    )
    report = json.loads((out / "coverage.json").read_text())
    assert [one["pictures"] for one in report["sets"]] == [41, 24]
    assert report["sets"][0]["resized"] == 1
    assert report["table"][0]["pictures"] == 20
    with (out / "descriptors.csv").open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["picture"] == "01.png")
    expected = describe_damage(faces(1, 8).mul(255).round().div(255))[0, 0]
    assert float(row["light"]) == pytest.approx(float(expected), abs=1e-6)


def test_fewer_pictures_by_seed(folders):
    def names(seed):
        run = CoverageRun(
            [folders / "same"], [folders / "lfw"], folders / "x", most=42, seed=seed, side=SIDE
        )
        return [job.name for job in run.jobs if job.of == 0]

    assert len(names(0)) == 42 and names(0) == names(0) != names(1)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["same"], "at least 40 photographs"),
        (["same", "--preset", "mild"], "give their folder with --gt"),
        (["same", "--gt", "gt"], "give their folder with --gt"),
        (["--gt", "gt", "--preset", "nope"], "no degradation preset"),
        ([], "Give something to compare"),
        (["nowhere"], "There is no folder"),
        (["same", "same"], "given twice"),
        (["same", "--embedding", "umap"], "pca, tsne"),
    ],
)
def test_wrong_usage_is_code_2_with_a_sentence(folders, tmp_path, args, words):
    given = [folders / a if a in ("same", "gt", "nowhere") else a for a in args]
    real = "wider" if words.startswith("at least") else "lfw"
    result = cover(*given, "--real", folders / real, "-o", tmp_path / "out")
    assert result.exit_code == 2 and words in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_only_unreadable_photographs(folders, tmp_path):
    for i in range(40):
        (tmp_path / "real").mkdir(exist_ok=True)
        (tmp_path / f"real/{i}.png").write_bytes(b"x")
    result = cover(folders / "same", "--real", tmp_path / "real", "-o", tmp_path / "out")
    assert result.exit_code == 1 and "No two photographs could be read" in result.stderr
