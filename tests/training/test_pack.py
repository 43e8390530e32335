"""`facewright shards`: folders packed into tar shards."""

import itertools
import json
import re
import shutil
import subprocess

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.headless.cli import app
from facewright.training.data import Batches
from facewright.training.data.pack import pack
from facewright.training.settings.config import TrainConfig
from PIL import Image
from typer.testing import CliRunner

CPU = torch.device("cpu")


def batches(data, **changes):
    values = {"output": "unused", "budget": {"max_steps": 1}, "batch_size": 4, "data": data}
    found = Batches(TrainConfig(**{**values, "optimizers": {"main": {}}, **changes}), CPU)
    return found, [b for s in itertools.islice(found.train(first_step=0), 6) for b in s]


@pytest.fixture
def people(folder_of_people):
    """With captions, counterparts, and a name with dots."""
    for file in sorted(folder_of_people.rglob("*.png")):
        shutil.copy(file, file.with_suffix(".lq.png"))
        file.with_suffix(".txt").write_text(f"{file.parent.name} {file.stem}")
    for kind in ("png", "lq.png", "txt"):
        (folder_of_people / f"p0/0.{kind}").rename(folder_of_people / f"p0/0.of.1.{kind}")
    return folder_of_people


def test_a_packed_folder_trains_as_the_folder(folder_of_people, tmp_path):
    run = CliRunner().invoke(app, ["shards", str(folder_of_people), "-o", str(tmp_path / "out"),
                                   "--size-mb", "1"])  # fmt: skip
    assert run.exit_code == 0, run.stderr
    assert "18 pictures in 1 shard" in run.stderr
    pattern = re.search(r'shards: "(.*?)"', run.stderr)[1]
    common = {"size": 32, "workers": 0, "identity": "parent", "held_out": 0.3}
    folder = {"source": "folder", "folder": folder_of_people, **common}
    shards = {"source": "shards", "shards": pattern, "cache": tmp_path / "cache", **common}
    (a, x), (b, y) = batches(folder), batches(shards)
    assert all(torch.equal(s[k], t[k]) for s, t in zip(x, y, strict=True) for k in s)
    assert a.train_photos.digest() == b.train_photos.digest()


def test_captions_and_counterparts_go_along(people, tmp_path):
    packed = pack(people, tmp_path / "out", megabytes=0.05)
    assert packed.pictures == 18 and not packed.left_out
    sizes = [shard.stat().st_size for shard in packed.shards]
    assert len(sizes) > 2 and max(sizes) < 60_000 + 10_240
    names = [f"people-{i:06d}.tar" for i in range(len(sizes))]
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["manifest.jsonl", *names]
    lines = [json.loads(x) for x in (tmp_path / "out/manifest.jsonl").read_text().splitlines()]
    assert len(lines) == 54
    for line in lines:
        tar = tmp_path / "out" / line["shard"]
        out = subprocess.check_output(["tar", "-xOf", str(tar), line["member"]])
        assert out == (people / line["file"]).read_bytes()
    assert {"p0/0_of_1.png", "p0/0_of_1.lq.png", "p0/0_of_1.txt"} < {x["member"] for x in lines}
    data = {"source": "shards", "shards": f"{tmp_path}/out/*.tar", "cache": tmp_path / "cache",
            "size": 32, "workers": 0, "identity": "parent", "lq": True,
            "captions": True}  # fmt: skip
    _, run = batches(data)
    assert all(torch.equal(b["lq"], b["gt"]) and all(b["caption"]) for b in run)


def test_the_same_files_give_the_same_bytes(people, tmp_path):
    a, b = (pack(people, tmp_path / name, megabytes=0.05).shards for name in "ab")
    assert [x.read_bytes() for x in a] == [x.read_bytes() for x in b]


def test_names_that_meet_are_told_apart(people, tmp_path):
    shutil.copy(people / "p1/0.png", people / "p1/0.jpg")
    shutil.copy(people / "p1/0.png", people / "p0/0_of_1.png")
    pack(people, tmp_path / "out", megabytes=10)
    lines = [json.loads(x) for x in (tmp_path / "out/manifest.jsonl").read_text().splitlines()]
    members = [x["member"] for x in lines]
    assert len(set(members)) == len(members)
    first = [
        m.partition(".")[0] for m in members if m.endswith((".png", ".jpg")) and ".lq" not in m
    ]
    assert len(set(first)) == len(first) == 20


def test_what_cannot_be_packed_is_said(people, tmp_path):
    (people / "p3/2.png").unlink()  # its counterpart stays
    (people / "p4/1.png").unlink()
    (people / "p4/1.png").mkdir()
    run = CliRunner().invoke(app, ["shards", str(people), "-o", str(tmp_path / "out")])
    assert run.exit_code == 1
    assert "16 pictures in 1 shard" in run.stderr and "2 files left out" in run.stderr
    assert "p3/2.lq.png: it is a degraded counterpart, and there is no 2.*" in run.stderr
    assert "p4/1.lq.png: " in run.stderr  # p4/1.png is a folder now


def test_sets_do_not_mix(people, tmp_path):
    with pytest.raises(FacewrightError, match="no pictures"):
        pack(tmp_path / "nothing", tmp_path / "out", megabytes=1)
    out = tmp_path / "out"
    out.mkdir()
    (out / "people-000000.tar").write_bytes(b"of a run that was interrupted")
    pack(people, out, megabytes=1)
    with pytest.raises(FacewrightError, match=r"already holds manifest\.jsonl"):
        pack(people, out, megabytes=1)
    (out / "manifest.jsonl").rename(out / "people-000009.tar")
    with pytest.raises(FacewrightError, match=r"already holds people-000009\.tar"):
        pack(people, out, megabytes=1)


def test_pairs_are_packed_by_the_command(tmp_path):
    for name in ("GT/1_GT", "hazy/1_hazy", "GT/2_GT", "hazy/2_hazy", "odd"):
        (tmp_path / "haze" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "haze" / f"{name}.png")
    arguments = ["shards", str(tmp_path / "haze"), "-o", str(tmp_path / "out")]
    run = CliRunner().invoke(app, [*arguments, "--pairs", "auto"])
    words = " ".join(run.output.split())
    assert run.exit_code == 0 and "2 pictures in 1 shard" in words
    assert "lq: true, crop: true" in words and "1 picture of neither side" in words
    run = CliRunner().invoke(app, [*arguments, "--pairs", "sidd"])
    assert run.exit_code == 2 and "finds no pair" in run.output
