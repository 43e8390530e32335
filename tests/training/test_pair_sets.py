"""Data sets of real pairs as they are downloaded, and what reaches the trainer of their pixels."""

import itertools
import logging
import os
import shutil
import tarfile

import numpy as np
import pytest
import torch
from facewright.training.data import Batches
from facewright.training.data.damage import UnreadableError
from facewright.training.data.opening import open_source
from facewright.training.data.pack import pack
from facewright.training.data.pairing import find_pairs
from facewright.training.settings.config import ConfigError, TrainConfig, load_config
from facewright.training.settings.data_sections import PairFolders
from facewright.training.settings.strict import Strict
from PIL import Image
from pydantic import ValidationError

CPU = torch.device("cpu")
LAYOUTS = {
    "dense-haze": [("GT/01_GT.png", "hazy/01_hazy.png"), ("05_GT.png", "05_hazy.png")],
    "lol": [
        ("our485/high/2.png", "our485/low/2.png"),
        ("eval15/high/2.png", "eval15/low/2.png"),
        ("Train/Normal/normal00001.png", "Train/Low/low00001.png"),
    ],
    "sidd": [
        ("0001_001_S6/0001_GT_SRGB_010.PNG", "0001_001_S6/0001_NOISY_SRGB_010.PNG"),
        ("0001_001_S6/0001_GT_SRGB_011.PNG", "0001_001_S6/0001_NOISY_SRGB_011.PNG"),
        ("0002_001_S6/GT_SRGB_010.PNG", "0002_001_S6/NOISY_SRGB_010.PNG"),
    ],
    "realblur-j": [
        ("scene001/gt/gt_1.png", "scene001/blur/blur_1.png"),
        ("scene002/gt/gt_1.png", "scene002/blur/blur_1.png"),
    ],
    "beside": [("a.png", "a.lq.jpg"), ("x/b.c.png", "x/b.c.lq.png")],
    "same-name": [("HQ/a/1.png", "LQ/a/1.jpg"), ("HQ/2.png", "LQ/2.png")],
}


def save(path, width=40, height=36, color=(9, 9, 9)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), color).save(path)
    return path


def layout(folder, rule):
    for pair in LAYOUTS[rule]:
        for name in pair:
            save(folder / name)
    return folder


def config(*folders, batch_size=4, **changes):
    data = {"source": "pairs", "folders": folders, "size": 32, "workers": 0, "held_out": 0.2}
    return TrainConfig(output="unused", budget={"max_steps": 1}, batch_size=batch_size,
                       optimizers={"main": {}}, data=data | changes)  # fmt: skip


def batches(run, count):
    return [b for (b,) in itertools.islice(Batches(run, CPU).train(first_step=0), count)]


def pairs_of(*folders, **changes):
    train, held_out = open_source(config(*folders, **changes).data)
    return train.pairs, held_out.pairs


@pytest.mark.parametrize("rule", LAYOUTS)
def test_each_data_set_is_paired_as_it_comes(rule, tmp_path):
    folder = layout(tmp_path / "set", rule)
    wanted = {(folder / good, folder / bad) for good, bad in LAYOUTS[rule]}
    for entry in (folder, PairFolders(folder=folder, rule=rule)):
        found = find_pairs(entry)
        assert found.rule == rule and set(found.pairs.values()) == wanted
        assert not found.alone and not found.others
    assert sum(map(len, pairs_of(folder))) == len(wanted)


def test_a_picture_of_neither_side_is_told_and_one_alone_is_refused(tmp_path, caplog):
    folder = layout(tmp_path / "blur", "realblur-j")
    save(folder / "scene001/avg_blur/avg_blur_1.png")
    with caplog.at_level(logging.WARNING):
        pairs_of(folder)
    assert "1 picture of neither side, left out; the first is" in caplog.text
    (folder / "scene002/gt/gt_1.png").unlink()
    with pytest.raises(ConfigError, match=r"blur_1\.png has no counterpart by the rule realblur-j"):
        pairs_of(folder)


def test_a_folder_that_two_rules_fit_asks_which(tmp_path):
    folder = layout(layout(tmp_path / "mixed", "lol"), "sidd")
    with pytest.raises(ConfigError, match=r"More than one rule .*lol \(pairs: 3\), sidd \(pairs"):
        find_pairs(folder)
    assert len(find_pairs(PairFolders(folder=folder, rule="sidd")).pairs) == 3
    with pytest.raises(ConfigError, match=r"rule dense-haze .* finds no pair among the 12"):
        find_pairs(PairFolders(folder=folder, rule="dense-haze"))


def test_a_limit_draws_by_names_and_leaves_the_split_even(tmp_path, caplog):
    for i in range(200):
        for side in ("high", "low"):
            path = tmp_path / "lol" / side / f"{i}.png"
            save(path) if i == 0 else path.symlink_to(tmp_path / "lol" / side / "0.png")
        for side in ("HQ", "LQ"):
            path = tmp_path / "other" / side / f"{i}.png"
            save(path) if i == 0 else path.symlink_to(tmp_path / "other" / side / "0.png")
    few = {"folder": tmp_path / "lol", "limit": 20}
    train, held_out = pairs_of(few, tmp_path / "other", held_out=0.2)
    kept = {p.key for p in [*train, *held_out] if p.key.startswith("lol/")}
    assert len(kept) == 20 and len(train) + len(held_out) == 220
    # A tenth of the pairs, and so about a tenth of the 44 held out, were limited.
    assert 1 <= sum(p.key.startswith("lol/") for p in held_out) <= 12
    for i in range(5):
        (tmp_path / "lol" / "high" / f"new{i}.png").symlink_to(tmp_path / "lol/high/0.png")
        (tmp_path / "lol" / "low" / f"new{i}.png").symlink_to(tmp_path / "lol/low/0.png")
    again = {p.key for side in pairs_of(few) for p in side}
    assert len(again) == 20 and len(again & kept) >= 15
    with caplog.at_level(logging.WARNING):
        pairs_of({"folder": tmp_path / "lol", "limit": 1000})
    assert "limit 1000, and there are 205 pairs: all are taken" in caplog.text


def chart(path, width, height, negative=False):
    """Each pixel tells its place: red is x, green is y."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([x, y, np.zeros_like(x)], 2).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(255 - pixels if negative else pixels).save(path)


def charts(folder, *sizes):
    for i, (width, height) in enumerate(sizes):
        chart(folder / f"HQ/{i}.png", width, height)
        chart(folder / f"LQ/{i}.png", width, height, negative=True)
    return folder


def test_pairs_are_cut_without_resizing_and_at_one_place(tmp_path):
    folder = charts(tmp_path / "p", (120, 90), (90, 120), (200, 64))
    train, _ = open_source(config(folder).data)
    places = set()
    for index, seed in itertools.product(range(2), range(40)):
        photo = train.load(index, seed)
        left, top = (int(v) for v in photo.pixels[:2, 0, 0])
        places.add((left, top))
        columns = torch.arange(left, left + 32).expand(32, 32)
        rows = torch.arange(top, top + 32)[:, None].expand(32, 32)
        assert torch.equal(photo.pixels[0].long(), columns)
        assert torch.equal(photo.pixels[1].long(), rows)
        assert torch.equal(photo.lq, 255 - photo.pixels)
    assert len(places) > 60 and max(left for left, _ in places) > 50


def test_resizing_is_where_it_is_stated(tmp_path):
    plain, haze = (charts(tmp_path / n, (320, 256), (320, 256)) for n in ("plain", "haze"))
    run = config(plain, {"folder": haze, "largest": 64})
    slopes = {"plain": set(), "haze": set()}
    train, _ = open_source(run.data)
    for pair, seed in itertools.product(range(len(train.pairs)), range(5)):
        red = train.load(pair, seed).pixels[0].float().mean(0)
        slope = float((red[24] - red[8]) / 16) % 16
        slopes[train.pairs[pair].key.split("/")[0]].add(round(slope, 1))
    # From 256 pixels to 32 to 64: 4 to 8 pixels of the file for each of the crop.
    assert slopes["plain"] == {1.0} and len(slopes["haze"]) > 2
    assert all(p.largest == 64 for p in pairs_of(plain, largest=64)[0])


def test_pairs_smaller_than_a_crop_are_enlarged_and_told(tmp_path, caplog):
    folder = charts(tmp_path / "small", (40, 20), (20, 40), (64, 64))
    with caplog.at_level(logging.WARNING):
        train, held_out = open_source(config(folder).data)
    assert "2 pairs of 3 smaller than 32 pixels: enlarged until a crop fits" in caplog.text
    for photos in (train, held_out):
        assert photos.load(0, 5).pixels.shape == (3, 32, 32)


def test_a_pair_whose_sizes_differ_by_the_time_it_is_read_is_left_out(tmp_path):
    folder = charts(tmp_path / "p", (64, 64), (64, 64), (64, 64))
    train, _ = open_source(config(folder).data)
    chart(train.pairs[0].files[1], 50, 64)
    with pytest.raises(UnreadableError, match=r"differ in size \(50 x 64 and 64 x 64 pixels\)"):
        train.load(0, 1)


SIGMA = 20.0


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Two pairs of 4000 x 3000 pixels: flat grey, and the same with the noise of a sensor."""
    folder = tmp_path_factory.mktemp("noise") / "sidd"
    clean = np.full((3000, 4000, 3), 128, np.uint8)
    tile = np.rint(128 + np.random.default_rng(0).normal(0, SIGMA, (600, 500, 3))).clip(0, 255)
    for name, pixels in (("GT", clean), ("NOISY", np.tile(tile.astype(np.uint8), (5, 8, 1)))):
        first = folder / f"0001_{name}_SRGB_010.BMP"
        first.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(first)
        os.link(first, folder / f"0002_{name}_SRGB_010.BMP")
    return folder


def sigma(batch):
    noise = (batch["lq"] - batch["gt"]) * 255
    assert batch["gt"].std() < 1e-6
    return float(noise.std())


def test_sensor_noise_of_a_large_photograph_arrives_as_it_is(noisy):
    run = config({"folder": noisy, "rule": "sidd"}, size=512, batch_size=1)
    (batch,) = batches(run, 1)
    assert batch["lq"].shape[-1] == 512 and abs(sigma(batch) / SIGMA - 1) < 0.02


@pytest.mark.slow
def test_sensor_noise_passes_through_workers_shards_and_validation(noisy, tmp_path):
    run = config(noisy, size=512, batch_size=1, workers=1)
    assert all(abs(sigma(b) / SIGMA - 1) < 0.02 for b in batches(run, 2))
    # What resizing makes of it, by the old reading, which is an option now.
    (resized,) = batches(config(noisy, size=512, largest=768, batch_size=1), 1)
    assert sigma(resized) < 8
    held_out = next(Batches(run, CPU).validation())
    assert abs(sigma(held_out) / SIGMA - 1) < 0.02
    packed = pack(noisy, tmp_path / "shards", megabytes=1000, pairs=find_pairs(noisy))
    data = {"source": "shards", "shards": str(packed.shards[0]), "cache": tmp_path / "cache",
            "lq": True, "size": 512, "workers": 0, "crop": True}  # fmt: skip
    run = TrainConfig(output="x", budget={"max_steps": 1}, batch_size=1, data=data,
                      optimizers={"main": {}})  # fmt: skip
    assert all(abs(sigma(b) / SIGMA - 1) < 0.02 for b in batches(run, 2))


def test_pairs_are_packed_as_they_come(tmp_path):
    folder = layout(tmp_path / "blur", "realblur-j")
    save(folder / "scene001/avg_blur/avg_blur_1.png")
    save(folder / "scene003/gt/gt_1.png")
    (folder / "scene002/gt/gt_1.txt").write_text("a street")
    packed = pack(folder, tmp_path / "out", megabytes=1, pairs=find_pairs(folder))
    assert packed.pictures == 2 and [f.name for f in packed.others] == ["avg_blur_1.png"]
    assert list(packed.left_out) == [str(folder / "scene003/gt/gt_1.png")]
    with tarfile.open(packed.shards[0]) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
    assert members.keys() == {
        "scene001/1.png", "scene001/1.lq.png", "scene002/1.png", "scene002/1.txt",
        "scene002/1.lq.png",
    }  # fmt: skip
    assert members["scene001/1.lq.png"] == (folder / "scene001/blur/blur_1.png").read_bytes()


def test_shards_cut_at_random_as_pairs_do(tmp_path):
    folder = tmp_path / "set"
    for i in range(3):
        chart(folder / f"{i}.png", 120, 90)
        chart(folder / f"{i}.lq.png", 120, 90, negative=True)
    packed = pack(folder, tmp_path / "shards", megabytes=1)
    data = {"source": "shards", "shards": str(packed.shards[0]), "cache": tmp_path / "cache",
            "lq": True, "size": 32, "workers": 0}  # fmt: skip

    def run(**changes):
        return TrainConfig(output="x", budget={"max_steps": 1}, data=data | changes,
                           optimizers={"main": {}})  # fmt: skip

    cropped, _ = open_source(run(crop=True).data)
    for seed in range(5):
        photo = cropped.load(0, seed)
        assert torch.equal(photo.lq, 255 - photo.pixels)
        assert torch.equal(photo.pixels[0, 0].diff(), torch.ones(31, dtype=torch.uint8))
    whole, _ = open_source(run().data)
    assert whole.load(0).pixels[0].float().mean(0).diff().mean() > 2
    with pytest.raises(ValidationError, match="with `crop` pictures are cut anew each time"):
        TrainConfig(**run(crop=True).model_dump() | {"cache": {"folder": "c"}})


def test_an_entry_says_one_way_of_pairing(tmp_path):
    for wrong in ({}, {"hq": "a"}, {"folder": "a", "hq": "b", "lq": "c"}):
        with pytest.raises(ValidationError, match="either `folder`, or `hq` and `lq`"):
            PairFolders(**wrong)
    with pytest.raises(ValidationError, match="rule sidd is for `folder`"):
        PairFolders(hq="a", lq="b", rule="sidd")
    with pytest.raises(ValidationError, match="largest 32 is less than size 64"):
        config({"folder": tmp_path, "largest": 32}, size=64)
    # A run that began when these were all keys there were is compared with what it said then.
    assert PairFolders(hq="a", lq="b").model_dump(mode="json") == {"hq": "a", "lq": "b"}


def test_an_error_in_an_entry_is_told_alone(tmp_path):
    def told(folders, source="pairs", key="folders"):
        (tmp_path / "run.yaml").write_text(
            "output: x\nbudget: {max_steps: 1}\noptimizers: {main: {}}\n"
            f"data: {{source: {source}, {key}: {folders}}}\n"
        )
        with pytest.raises(ConfigError) as caught:
            load_config(tmp_path / "run.yaml", Strict)
        return str(caught.value).splitlines()[1:]

    (line,) = told("[{folder: a, rule: sid}]")
    assert line.startswith("  data.pairs.folders.0.rule: Input should be 'auto'")
    (line,) = told("[{folder: a, limt: 3}]")
    assert line == "  data.pairs.folders.0.limt: unknown key; did you mean limit? (line 4)"
    (line,) = told("[{folder: a, hq: b}]")
    assert line.startswith("  data.pairs.folders.0: give either `folder`, or `hq` and `lq`")
    (line,) = told("[a, 3]")
    assert line.startswith("  data.pairs.folders.1: Input is not a valid path")
    (line,) = told("[]", "folder", "folder")
    assert line.startswith("  data.folder.folder: Tuple should have at least 1 item")


def test_missing_captions_of_pairs_are_told(tmp_path, caplog):
    folder = charts(tmp_path / "p", (64, 64), (64, 64), (64, 64))
    with caplog.at_level(logging.WARNING):
        pairs_of(folder)
    assert "3 of 3 pictures in" in caplog.text and "facewright caption" in caplog.text
    with pytest.raises(ConfigError, match=r"none of the 3 pictures in .*HQ/0\.txt was expected"):
        pairs_of(folder, captions=True)
    (folder / "HQ/1.txt").write_text("a chart")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        train, held_out = open_source(config(folder, captions=True).data)
    assert "2 of 3 pictures in" in caplog.text
    texts = {photos.load(i, 0).caption for photos in (train, held_out)
             for i in range(len(photos.pairs))}  # fmt: skip
    assert texts == {"", "a chart"}
    train, held_out = open_source(config(folder, captions=False).data)
    assert not any(train.load(i, 0).caption for i in range(2)) and not held_out.load(0, 0).caption


def folder_data(*folders, **changes):
    data = {"source": "folder", "folder": folders, "size": 32, "workers": 0, "held_out": 0.3}
    return TrainConfig(output="x", budget={"max_steps": 1}, optimizers={"main": {}},
                       data=data | changes)  # fmt: skip


def test_retouched_faces_stay_on_the_side_of_their_originals(tmp_path):
    plain, retouched = tmp_path / "a/images", tmp_path / "b/images"
    for i in range(20):
        save(plain / f"{i:05}.png", color=(10 * i, 0, 0))
        save(retouched / f"{i:05}.jpg", color=(10 * i, 200, 0))
    sides = open_source(folder_data(plain, retouched).data)
    alone = open_source(folder_data(plain).data)
    for both, one in zip(sides, alone, strict=True):
        assert len(both.names) == 2 * len(one.names) and all(len(g) == 2 for g in both.by_identity)
        assert {n.split("/")[-1] for n in both.names} == set(one.names)
        assert {n.rsplit("/", 1)[0] for n in both.names} == {"a/images", "b/images"}
        for group in both.by_identity:  # two versions of one face
            first, second = (both.load(i).pixels[:, 0, 0].int() for i in group)
            assert abs(first[0] - second[0]) < 6 and abs(first[1] - second[1]) > 150
    assert sides[0].digest() != alone[0].digest()


def test_folders_of_people_each_have_people_of_their_own(tmp_path):
    for top, shade in (("one", 50), ("two", 200)):
        for person, photo in itertools.product(range(4), range(3)):
            save(tmp_path / top / f"{person}/{photo}.png", color=(shade, 0, 0))
    sides = open_source(folder_data(tmp_path / "one", tmp_path / "two", identity="parent").data)
    groups = [(side, group) for side in sides for group in side.by_identity]
    assert len(groups) == 8
    for side, group in groups:
        assert len(group) == 3 and len({int(side.load(i).pixels[0, 0, 0]) for i in group}) == 1


def test_faces_beside_pairs_come_from_several_folders(tmp_path):
    pairs = charts(tmp_path / "p", (64, 64), (64, 64), (64, 64))
    for top, i in itertools.product(("ffhq", "ffhqr"), range(5)):
        save(tmp_path / top / f"{i}.png")
    faces = [tmp_path / "ffhq", tmp_path / "ffhqr"]
    train, held_out = open_source(config(pairs, faces=faces, faces_limit=4).data)
    names = [s.name(i) for s in (train, held_out) for g in s.by_identity for i in g]
    assert len(names) == 3 + 2 * 4 and sum(n.startswith("ffhqr/") for n in names) == 4


def test_a_folder_within_another_is_refused(tmp_path):
    save(tmp_path / "a/b/1.png")
    for other in (tmp_path / "a/b", tmp_path / "a"):
        with pytest.raises(ConfigError, match="one lies in the other"):
            open_source(folder_data(tmp_path / "a", other).data)


def test_the_shelf_of_several_folders_bears_their_names(tmp_path):
    for top in ("one", "two"):
        for i in range(4):
            save(tmp_path / top / f"{i}.png")
            save(tmp_path / "shelf" / top / f"{i}_1.png", 32, 32, (0, 250, 0))
    run = folder_data(tmp_path / "one", tmp_path / "two")
    run = TrainConfig(**run.model_dump() | {"off_shelf": {"folder": tmp_path / "shelf", "share": 1},
                                            "degradation": {"presets": ["mild"]}})  # fmt: skip
    (batch,) = batches(run, 1)
    assert (batch["lq"][:, 1] > 0.9).all()
    shutil.rmtree(tmp_path / "shelf" / "one")
    with pytest.raises(ConfigError, match=r"one/\d_1\.png was expected"):
        shutil.rmtree(tmp_path / "shelf" / "two")
        Batches(run, CPU)
