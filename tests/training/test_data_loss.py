"""Files that are damaged or vanish while a run is under way."""

import io
import itertools
import json
import logging
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from facewright.core.errors import DataLostError
from facewright.training.data import Batches
from facewright.training.data.damage import MOST_IN_A_ROW, Careful, UnreadableError
from facewright.training.data.samples import TrainSamples
from facewright.training.data.sources import Photo
from facewright.training.loop.checkpoints import list_checkpoints
from facewright.training.loop.engine import Engine
from facewright.training.recipe import Evaluation, Recipe
from facewright.training.settings.config import Strict, TrainConfig
from PIL import Image
from torch.nn import Conv2d

CPU = torch.device("cpu")


def config(folder, output="unused", **changes) -> TrainConfig:
    data = {"source": "folder", "folder": folder, "size": 32, "workers": 0, "identity": "parent",
            "held_out": 0.3, **changes.pop("data", {})}  # fmt: skip
    values = {"output": output, "budget": {"max_steps": 6}, "batch_size": 4, "data": data}
    return TrainConfig(**{**values, "optimizers": {"main": {}}, **changes})


def take(batches, steps=6, first=0):
    return [b for s in itertools.islice(batches.train(first_step=first), steps) for b in s]


def same(a, b):
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)
        for x, y in zip(a, b, strict=True)
    )


def halve(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def training_files(folder):
    batches = Batches(config(folder), CPU)
    return batches.train_photos.files, batches.validation_photos.files


def truncated_png(path):
    halve(path)


def truncated_jpeg(path):
    pixels = np.random.default_rng(9).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "JPEG")  # Pillow goes by content, whatever the name
    halve(path)


def bad_checksum(path):
    data = bytearray(path.read_bytes())
    data[20] ^= 255  # in PNG's header
    path.write_bytes(data)


DAMAGES = {
    "truncated png": truncated_png,
    "truncated jpeg": truncated_jpeg,
    "bad checksum": bad_checksum,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not found"),
    "gone": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_picture_gives_its_place_to_the_next(folder_of_people, caplog, damage):
    whole = take(Batches(config(folder_of_people), CPU))
    bad = training_files(folder_of_people)[0][5]
    batches, again, later = (Batches(config(folder_of_people), CPU) for _ in range(3))
    DAMAGES[damage](bad)
    with caplog.at_level(logging.WARNING):
        run = take(batches)
    assert list(batches.skipped) == [str(bad)] and batches.skipped[str(bad)]
    lines = [r.message for r in caplog.records if str(bad) in r.message]
    assert len(lines) == 1  # of two rounds
    assert all(
        set(b) == {"gt", "box", "identity", "seed"} for b in run
    )  # recipes see nothing of it
    gt, now = (torch.cat([b["gt"] for b in x]) for x in (whole, run))
    # 12 photos a round: each sample but the bad photo's is what it was.
    changed = [i for i in range(24) if not torch.equal(gt[i], now[i])]
    assert len(changed) == 2 and changed[0] < 12 <= changed[1]
    # What came in its place is the next of the round, mirrored or not.
    for i in changed:
        following = gt[i + 1 if i % 12 < 11 else i - 11]
        assert any(torch.equal(now[i], f) for f in (following, following.flip(2)))
    # The same each time, also from the middle on.
    assert same(run, take(again)) and same(run[3:], take(later, 3, first=3))


def test_views_stay_one_person(folder_of_people):
    shutil.copytree(folder_of_people / "p0", folder_of_people / "p9")
    run = config(folder_of_people, batch_size=6, data={"views": 3})
    train, _ = training_files(folder_of_people)
    halve(train[0])  # one photo of a person: the others stand in
    person = sorted({f.parent for f in train})[1]
    for file in person.iterdir():
        halve(file)  # all photos of another: somebody else does
    batches = Batches(run, CPU)
    for batch in take(batches, 12):
        people = batch["identity"].view(-1, 3)
        assert (people == people[:, :1]).all()
    assert len(batches.skipped) == 4
    assert same(take(batches, 4), take(Batches(run, CPU), 4))


class Pictures:
    """`per` photos of each person, all of one colour; some cannot be read."""

    def __init__(self, people, per, bad):
        self.by_identity = [list(range(p * per, p * per + per)) for p in range(people)]
        self.per, self.bad = per, bad

    def load(self, index, seed=0):
        if index in self.bad:
            raise UnreadableError(index, "bad")
        pixels = torch.full((3, 2, 2), index % 256, dtype=torch.uint8)
        return Photo(pixels, torch.zeros(4), index // self.per)


def test_spare_photos_of_the_person_stand_in_before_doubles():
    # Views 0 to 2 of 8 photos; whichever 5 are bad, the 3 others are shown, each once.
    for bad in itertools.combinations(range(8), 5):
        samples = TrainSamples(Pictures(1, 8, bad), 1, 8)
        shown = {int(samples[n].photo.pixels.max()) for n in range(8)}
        assert shown == set(range(8)) - set(bad)
    for bad in range(8):
        samples = TrainSamples(Pictures(1, 8, {bad}), 1, 3)
        for n in range(0, 30, 3):
            shown = [int(samples[n + v].photo.pixels.max()) for v in range(3)]
            assert bad not in shown and len(set(shown)) == 3


def test_a_person_without_a_readable_photo_does_not_stop_a_run():
    photos = Pictures(5, 100, set(range(100)))
    samples = TrainSamples(photos, 1, 2)
    people = [samples[n].photo.identity for n in range(40)]
    assert set(people) == {1, 2, 3, 4} and people[::2] == people[1::2]
    # Ten photos, eight of them tried, one readable: the views agree on whether it was found.
    photos = Pictures(5, 10, set(range(50)) - {0, 13, 29, 34, 41})
    samples = TrainSamples(photos, 1, 2)
    people = [samples[n].photo.identity for n in range(100)]
    assert people[::2] == people[1::2]
    per_round = [people[i : i + 10 : 2] for i in range(0, 100, 10)]
    assert any(len(set(r)) < 5 for r in per_round) and any(len(set(r)) == 5 for r in per_round)


def test_references_that_cannot_be_read_are_left_out(folder_of_people):
    run = config(folder_of_people, data={"references": 2}, validate_images=8)
    train, held_out = training_files(folder_of_people)
    whole = take(Batches(run, CPU))
    bad = train[4]
    halve(bad)
    batches = Batches(run, CPU)
    damaged = take(batches)
    assert list(batches.skipped) == [str(bad)]
    a, b = (sum(int(x["valid"].sum()) for x in r if "valid" in x) for r in (whole, damaged))
    assert b < a
    # Of the held-out ones, too.
    before = list(batches.validation())
    assert all((x["valid"].sum(1) == 2).all() for x in before)
    halve(held_out[0])
    after = torch.cat([x["valid"].sum(1) for x in batches.validation()])
    assert sorted(after.tolist()) == [1, 1, 2, 2, 2]


def test_held_out_pictures_that_cannot_be_read_are_left_out(folder_of_people):
    run = config(folder_of_people, validate_images=5, grid_images=2, batch_size=2,
                 degradation={"presets": ["mild"]})  # fmt: skip
    _, held_out = training_files(folder_of_people)
    batches = Batches(run, CPU)
    whole = list(batches.validation())
    halve(held_out[0])
    left = list(batches.validation())
    assert [len(b["gt"]) for b in whole] == [2, 2, 1] and [len(b["gt"]) for b in left] == [2, 2]
    rows = [torch.cat([b[k] for b in x]) for k in ("gt", "lq") for x in (whole, left)]
    assert torch.equal(rows[0][1:], rows[1]) and torch.equal(rows[2][1:], rows[3])
    assert same(left, list(Batches(run, CPU).validation()))
    assert list(batches.skipped) == [str(held_out[0])]
    for file in held_out[1:]:
        halve(file)
    with pytest.raises(DataLostError, match=r"None of the 5 held-out pictures .*--resume"):
        list(batches.validation())


def test_shelf_pictures_that_cannot_be_read_are_made_on_the_fly(folder_of_people, tmp_path):
    shelf = tmp_path / "shelf"
    for file in folder_of_people.rglob("*.png"):
        target = shelf / file.parent.name / f"{file.stem}_1.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (0, 200, 0)).save(target)
    run = config(folder_of_people, degradation={"presets": ["mild"]}, batch_size=12,
                 off_shelf={"folder": shelf, "share": 1})  # fmt: skip
    batches = Batches(run, CPU)
    trained = {f"{f.parent.name}/{f.stem}_1.png" for f in batches.train_photos.files}
    bad = shelf / min(trained)
    halve(bad)
    (batch,) = take(batches, 1)
    assert (batch["lq"].std((2, 3)).amax(1) == 0).sum() == 11
    assert list(batches.skipped) == [str(bad)]
    for file in shelf.rglob("*.png"):
        halve(file)
    with pytest.raises(DataLostError, match=f"{MOST_IN_A_ROW} times in a row"):
        take(batches, 9)
    shutil.rmtree(shelf)
    with pytest.raises(DataLostError, match=re.escape(f"folder {shelf} is not there any more")):
        take(batches, 1)


def test_pairs_and_captions_that_cannot_be_read_are_left_out(tmp_path):
    for i in range(8):
        for side in ("HQ", "LQ"):
            (tmp_path / side).mkdir(exist_ok=True)
            pixels = np.random.default_rng(i).integers(0, 256, (36, 36, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / side / f"{i}.png")
    data = {"source": "pairs", "folders": [tmp_path], "size": 32, "largest": 36, "workers": 0}
    pairs = Batches(TrainConfig(**base(data)), CPU).train_photos.pairs
    names = [pair.name for pair in pairs]
    (tmp_path / "LQ" / f"{names[0]}.png").write_bytes(b"")  # found when the pairs are compared
    halve(tmp_path / "HQ" / f"{names[1]}.png")
    (tmp_path / "HQ" / f"{names[2]}.txt").write_bytes(b"\xff")
    batches = Batches(TrainConfig(**base(data)), CPU)
    assert [len(b["gt"]) for b in take(batches, 4)] == [4] * 4
    found = {tuple(f.rsplit("/", 2)[1:]) for f in batches.skipped}
    assert found == {("LQ", f"{names[0]}.png"), ("HQ", f"{names[1]}.png"),
                     ("HQ", f"{names[2]}.txt")}  # fmt: skip


def base(data):
    return {"output": "unused", "budget": {"max_steps": 1}, "batch_size": 4, "data": data,
            "optimizers": {"main": {}}}  # fmt: skip


def test_a_shard_that_is_damaged_or_cut_during_a_run(folder_of_people, tmp_path):
    files = sorted(folder_of_people.rglob("*.png"))
    for name, chosen in (("a", files[:9]), ("b", files[9:])):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as tar:
            for file in chosen:
                tar.add(file, file.relative_to(folder_of_people).as_posix())
    data = {"source": "shards", "shards": f"{tmp_path}/*.tar", "cache": tmp_path / "cache",
            "size": 32, "workers": 0, "identity": "parent"}  # fmt: skip
    batches = Batches(TrainConfig(**base(data)), CPU)
    shard = tmp_path / "b.tar"
    raw = bytearray(shard.read_bytes())
    sample = next(s for s in batches.train_photos.samples if s.shard == shard)
    raw[sample.picture.offset + 50 : sample.picture.offset + 900] = bytes(850)
    shard.write_bytes(raw)
    take(batches, 6)
    assert list(batches.skipped) == [f"{shard}: {sample.picture.name}"]
    halve(shard)
    take(batches, 6)
    cut = [why for why in batches.skipped.values() if why == "the shard has become shorter"]
    assert 3 <= len(cut) <= 6
    shard.unlink()  # one line, not one for each of its pictures
    count = len(batches.skipped)
    take(batches, 6)
    assert len(batches.skipped) == count + 1 and "No such file" in batches.skipped[str(shard)]
    (tmp_path / "a.tar").unlink()
    with pytest.raises(DataLostError, match=r"a picture could not be read.*a\.tar|b\.tar"):
        take(batches, 6)


def test_what_can_be_read_ends_the_row():
    careful = Careful()

    def bad():
        raise UnreadableError("x", "bad")

    for _ in range(3):
        assert all(careful(bad) is None for _ in range(MOST_IN_A_ROW - 1))
        assert careful(lambda: 5) == 5
    assert careful.found() == {"x": "bad"} and careful.found() == {}
    with pytest.raises(DataLostError, match=r"32 times in a row .* x: bad\. .*--resume"):
        for _ in range(MOST_IN_A_ROW):
            careful(bad)


def test_too_many_damaged_pictures_end_the_run(folder_of_people):
    batches = Batches(config(folder_of_people), CPU)
    take(batches, 1)
    for file in folder_of_people.rglob("*.png"):  # as an unmounted disk leaves its empty folder
        file.unlink()
    with pytest.raises(DataLostError, match=r"32 times in a row .*still mounted.*--resume"):
        take(batches, 1)


class Tiny(Recipe):
    """One convolution; calls `at` when step number `step` is done."""

    stage = "tiny"
    at = step = None

    def build(self):
        return {"net": Conv2d(3, 3, 1)}

    def losses(self, phase, batch, progress):
        made = self.nets["net"](batch["gt"] + 0.1 * torch.randn_like(batch["gt"]))
        return {"mse": (made - batch["gt"]).square().mean()}

    def after_step(self, progress):
        if progress.step == self.step:
            self.at()

    def evaluate(self, batches):
        return Evaluation({"n": float(sum(len(b["gt"]) for b in batches))})

    def export(self, folder, facts):
        torch.save(self.nets["net"].state_dict(), folder / "net.pt")
        return [folder / "net.pt"]


def trained(run, *, step=None, at=None, resume=False):
    recipe = Tiny(Strict())
    recipe.step, recipe.at = step, at
    Engine(recipe, run).run(resume=resume)
    net = torch.load(run.output / "export" / "net.pt", weights_only=True)
    lines = map(json.loads, (run.output / "metrics.jsonl").read_text().splitlines())
    return net, [line["main/mse"] for line in lines if "main/mse" in line]


def test_a_folder_that_vanishes_ends_the_run_which_resumes_exactly(folder_of_people, tmp_path):
    # No checkpoint is due: the one that is resumed was written because the data are gone.
    often = {"cpu": True, "checkpoint_every": 99, "log_every": 1, "validate_every": 9}
    straight = trained(config(folder_of_people, tmp_path / "straight", **often))
    away = tmp_path / "away"
    broken = config(folder_of_people, tmp_path / "broken", **often)
    shutil.copytree(folder_of_people, away)
    with pytest.raises(DataLostError) as caught:
        trained(broken, step=2, at=lambda: shutil.rmtree(folder_of_people))
    sentence = str(caught.value)
    assert f"folder {folder_of_people} is not there any more" in sentence
    assert "--resume" in sentence
    (saved,) = list_checkpoints(broken.output / "checkpoints")
    assert saved.stem == "step-00000003"
    shutil.copytree(away, folder_of_people)
    net, losses = trained(broken, resume=True)
    assert losses == straight[1] and all(torch.equal(net[k], straight[0][k]) for k in net)


def test_a_run_over_a_damaged_picture_resumes_exactly(folder_of_people, tmp_path):
    often = {"cpu": True, "checkpoint_every": 1, "log_every": 1, "validate_every": 9}
    halve(training_files(folder_of_people)[0][3])
    straight = trained(config(folder_of_people, tmp_path / "straight", **often))

    def stop():
        raise RuntimeError("stop here")

    broken = config(folder_of_people, tmp_path / "broken", **often)
    with pytest.raises(RuntimeError, match="stop here"):
        trained(broken, step=2, at=stop)
    net, losses = trained(broken, resume=True)
    assert losses == straight[1] and all(torch.equal(net[k], straight[0][k]) for k in net)
    facts = json.loads((tmp_path / "straight" / "facts.json").read_text())
    (bad,) = facts["unreadable"]
    assert Path(bad) == training_files(folder_of_people)[0][3]
    card = (tmp_path / "straight" / "export" / "README.md").read_text()
    assert str(tmp_path) not in card


@pytest.mark.slow  # processes that start anew take seconds to import torch
def test_worker_processes_report_what_they_could_not_read(folder_of_people):
    bad = training_files(folder_of_people)[0][5]
    halve(bad)
    alone = take(Batches(config(folder_of_people), CPU))
    batches = Batches(config(folder_of_people, data={"workers": 2}), CPU)
    stream = batches.train(first_step=0)
    assert same(alone, [b for step in itertools.islice(stream, 6) for b in step])
    assert list(batches.skipped) == [str(bad)]
    shutil.rmtree(folder_of_people)
    with pytest.raises(DataLostError) as caught:
        next(itertools.islice(stream, 99, None))
    assert str(caught.value).startswith(f"The data folder {folder_of_people} is not there any more")


def test_bytes_are_judged_as_files_are(folder_of_people, tmp_path):
    """Folder and shard say the same of the same damage."""
    from facewright.training.data.files import decode_picture, read_picture

    file = next(folder_of_people.rglob("*.png"))
    halve(file)
    sentences = []
    for read in (lambda: read_picture(file), lambda: decode_picture(file.read_bytes(), str(file))):
        with pytest.raises(UnreadableError) as caught:
            read()
        sentences.append(str(caught.value))
    assert sentences[0] == sentences[1] and "damaged or incomplete" in sentences[0]
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(buffer, "WEBP", lossless=True)
    assert decode_picture(buffer.getvalue(), "a").getpixel((0, 0)) == (1, 2, 3)
