import hashlib
import itertools
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from facewright.training.data import Batches
from facewright.training.data.batches import degrade, leave_signals_to_main
from facewright.training.data.damage import UnreadableError
from facewright.training.data.opening import open_source
from facewright.training.data.world import face_boxes, world_arrays, world_folder
from facewright.training.losses.masks import box_mask
from facewright.training.settings.config import ConfigError, FolderData, TrainConfig, WorldData
from pydantic import ValidationError

CPU = torch.device("cpu")


def config(folder, **changes) -> TrainConfig:
    data = {"source": "folder", "folder": folder, "size": 32, "workers": 0,
            "identity": "parent", "held_out": 0.3, **changes.pop("data", {})}  # fmt: skip
    values = {"output": "unused", "budget": {"max_steps": 1}, "batch_size": 4, "data": data}
    return TrainConfig(**{**values, "optimizers": {"main": {}}, **changes})


def take(batches: Batches, first_step: int, steps: int) -> list[dict]:
    return [
        b for step in itertools.islice(batches.train(first_step=first_step), steps) for b in step
    ]


def test_people_are_in_one_split_only_and_stay_there(folder_of_people):
    def names(photos):
        return {f.parent.name for f in photos.files}

    data = FolderData(source="folder", folder=folder_of_people, identity="parent", held_out=0.3)
    train, held_out = open_source(data)
    assert len(names(train)) == 4 and len(names(held_out)) == 2
    assert not names(train) & names(held_out)
    # A person's photos share a number, other people's do not.
    assert [len(g) for g in train.by_identity] == [3] * 4
    photo = train.load(0)
    assert photo.pixels.shape == (3, 512, 512) and photo.pixels.dtype == torch.uint8
    assert photo.box.tolist() == [0, 0, 511, 511]


def test_a_folder_without_people_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="0 people"):
        open_source(FolderData(source="folder", folder=tmp_path))


def test_an_unreadable_picture_is_named(folder_of_people):
    bad = folder_of_people / "p0" / "0.png"
    bad.write_bytes(b"not a picture")
    data = FolderData(source="folder", folder=folder_of_people, held_out=0.01)
    with pytest.raises(UnreadableError, match=r"0\.png could not be read"):
        for photos in open_source(data):
            for index in range(len(photos.files)):
                photos.load(index)


def test_samples_depend_on_their_number_alone(folder_of_people):
    run = config(folder_of_people, degradation={"presets": ["mild", "severe"]})
    straight = take(Batches(run, CPU), 0, 6)
    later = take(Batches(run, CPU), 3, 3)
    for a, b in zip(straight[3:], later, strict=True):
        assert all(torch.equal(a[k], b[k]) for k in a)
    # Two processes together see what one process sees.
    pairs = [take(Batches(run, CPU, process=p, processes=2), 0, 3) for p in (0, 1)]
    merged = [b for both in zip(*pairs, strict=True) for b in both]
    for a, b in zip(straight, merged, strict=True):
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_mirroring_can_be_left_out_and_changes_nothing_else(folder_of_people):
    run, upright = (
        config(folder_of_people, data={"mirror": on}, degradation={"presets": ["mild"]})
        for on in (True, False)
    )
    both = [take(Batches(c, CPU), 0, 6) for c in (run, upright)]
    flipped = 0
    for a, b in zip(*both, strict=True):
        assert torch.equal(a["seed"], b["seed"]) and torch.equal(a["identity"], b["identity"])
        for mine, plain in zip(a["gt"], b["gt"], strict=True):
            flipped += not torch.equal(mine, plain)
            assert torch.equal(mine, plain) or torch.equal(mine, plain.flip(2))
    assert 6 <= flipped <= 18  # of 24
    photos = Batches(upright, CPU).train_photos
    known = {photos.load(i).pixels.numpy().tobytes() for i in range(len(photos.files))}
    shown = (picture for b in both[1] for picture in (b["gt"] * 255).round().to(torch.uint8))
    assert all(picture.numpy().tobytes() in known for picture in shown)


def test_every_photo_once_per_round(folder_of_people):
    run = config(folder_of_people, batch_size=12)
    pictures = [b["gt"] for b in take(Batches(run, CPU), 0, 2)]
    assert len(pictures[0]) == 12  # 4 people x 3 photos
    sums = [sorted(round(p.sum().item(), 3) for p in batch) for batch in pictures]
    assert sums[0] == sums[1] and len(set(sums[0])) == 12


def test_views_stand_together_and_are_mirrored_together(folder_of_people):
    run = config(folder_of_people, batch_size=8, data={"views": 2})
    for batch in take(Batches(run, CPU), 0, 4):
        people = batch["identity"].view(-1, 2)
        assert (people[:, 0] == people[:, 1]).all()
        assert len(set(people[:, 0].tolist())) == 4
        assert not torch.equal(batch["gt"][0], batch["gt"][1])


def test_validation_is_fixed_and_uses_its_own_preset(folder_of_people):
    degradation = {"presets": ["mild"], "validation": "severe"}
    batches = Batches(
        config(folder_of_people, degradation=degradation, validate_images=5, grid_images=2), CPU
    )
    a, b = list(batches.validation()), list(batches.validation())
    assert [len(x["gt"]) for x in a] == [4, 1]
    assert all(torch.equal(x[k], y[k]) for x, y in zip(a, b, strict=True) for k in x)
    for batch, preset in ((take(batches, 0, 1)[0], "mild"), (a[0], "severe")):
        expected = degrade(batch["gt"], batch["seed"].tolist(), (preset,))
        assert torch.equal(batch["lq"], expected)
    assert a[0]["seed"].min() >= 2**39  # no seed that training draws from


@pytest.mark.parametrize(
    ("presets", "size", "told"),
    [
        (["flipnet", "codeformer"], 128, ["128 x 128 the damage is harder"]),
        (["flipnet", "mild"], 1024, ["1024 x 1024 the damage is milder"]),
        (["flipnet"], 512, []),
        (["mild", "real-esrgan"], 128, []),
    ],
)
def test_presets_made_for_another_size_are_remarked(folder_of_people, caplog, presets, size, told):
    wanted = config(folder_of_people, degradation={"presets": presets}, data={"size": size})
    Batches(wanted, CPU, process=1, processes=2)
    assert not caplog.messages
    Batches(wanted, CPU)
    assert len(caplog.messages) == len(told)
    assert all(words in line for words, line in zip(told, caplog.messages, strict=True))


def test_masks_hold_the_pixels_whose_centres_lie_in_the_box():
    mask = box_mask(torch.tensor([[1.0, 2.0, 3.5, 2.0], [0, 0, 4, 3]]), 4, 5)
    assert mask.shape == (2, 1, 4, 5)
    assert mask[0, 0].nonzero().tolist() == [[2, 1], [2, 2], [2, 3]]
    assert mask[1].all()


def test_face_boxes_hold_the_forehead():
    landmarks = np.array([[[10.0, 20.0], [30.0, 40.0], [20.0, 25.0]]])
    assert face_boxes(landmarks).tolist() == [[10, 16, 30, 40]]


@pytest.mark.slow
def test_the_world_is_rendered_once_and_alike(tmp_path):
    def arrays(name):
        return world_arrays(
            WorldData(source="world", cache=tmp_path / name, size=32, identities=3, photos=2,
                      held_out=2)
        )  # fmt: skip

    train, held_out = arrays("a")
    again, _ = arrays("b")
    assert (train[0] == again[0]).all() and (train[1] == again[1]).all()
    assert train[0].shape == (6, 3, 32, 32) and held_out[0].shape == (4, 3, 32, 32)
    assert not set(train[2].tolist()) & set(held_out[2].tolist())
    assert train[2][0] == train[2][1] != train[2][2]
    (folder,) = (tmp_path / "a").iterdir()
    stamp = (folder / "train_images.npy").stat().st_mtime_ns
    arrays("a")
    assert (folder / "train_images.npy").stat().st_mtime_ns == stamp


def test_degradation_overrides_reach_the_training_pictures(folder_of_people):
    overrides = {"scale": [4, 4], "quality": [20, 20], "kernel_size": None}
    section = {"presets": ["mild", "flipnet"], "overrides": overrides}
    batches = Batches(config(folder_of_people, degradation=section), CPU)
    batch = take(batches, 0, 1)[0]
    seeds = batch["seed"].tolist()
    expected = degrade(batch["gt"], seeds, ("mild", "flipnet"), overrides)
    assert torch.equal(batch["lq"], expected)
    assert not torch.equal(expected, degrade(batch["gt"], seeds, ("mild", "flipnet")))


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"presets": ["mild", "severest"]}, "severest"),
        ({"presets": ["mild"], "validation": "worse"}, "worse"),
        ({"presets": ["mild"], "overrides": {"quality": [0, 50]}}, "1 to 100"),
        ({"presets": ["mild"], "overrides": {"qualities": [1, 50]}}, "qualities"),
    ],
)
def test_a_wrong_degradation_is_refused_when_the_file_is_read(folder_of_people, section, words):
    with pytest.raises(ValidationError, match=words):
        config(folder_of_people, degradation=section)


def digests(data) -> list[str]:
    return [photos.digest() for photos in open_source(data)]


def test_a_digest_tells_one_data_set_from_another(folder_of_people, tmp_path):
    data = config(folder_of_people, data={"captions": False}).data
    before = digests(data)
    assert before == digests(data) and len(set(before)) == 2
    assert all(len(d) == 64 and int(d, 16) for d in before)
    # By hand, of the split's own files.
    photos, _ = open_source(data)
    lines = sorted(f"{f.parent.name}/{f.name}\0{f.stat().st_size}\n" for f in photos.files)
    assert before[0] == hashlib.sha256("".join(lines).encode()).hexdigest()
    # Where the folder lies is no part of it; names and sizes are.
    moved = shutil.copytree(folder_of_people, tmp_path / "elsewhere")
    assert digests(data.model_copy(update={"folder": moved})) == before
    with photos.files[0].open("ab") as file:
        file.write(b"x")
    assert digests(data)[0] != before[0] and digests(data)[1] == before[1]
    (folder_of_people / "p0" / "0.txt").write_text("a caption")
    with_captions = data.model_copy(update={"captions": True})
    assert set(digests(with_captions)) - set(digests(data))
    photos.files[0].unlink()  # after the run has begun: still a digest, another one
    assert photos.digest() not in (before[0], digests(data)[0])


def test_a_rendered_world_has_the_digest_of_its_settings(tmp_path):
    def world(cache, **changes):
        values = {"size": 32, "identities": 2, "photos": 1, "held_out": 1, **changes}
        return WorldData(source="world", cache=tmp_path / cache, **values)

    for data in (world("a"), world("b"), world("a", seed=2)):
        folder = world_folder(data)
        folder.mkdir(parents=True)
        for split, count in (("train", 2), ("held_out", 1)):
            np.save(folder / f"{split}_images.npy", np.zeros((count, 3, 32, 32), np.uint8))
            np.save(folder / f"{split}_boxes.npy", np.zeros((count, 4)))
            np.save(folder / f"{split}_identities.npy", np.arange(count))
    a, b, other = (digests(d) for d in (world("a"), world("b"), world("a", seed=2)))
    assert a == b and len({*a, *other}) == 4


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that is sent to a group")
def test_workers_outlive_the_signals_that_end_a_run():
    kept = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        leave_signals_to_main(0)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # for one that hangs
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
