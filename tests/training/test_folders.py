"""One reader of folders: good pictures, their counterparts and captions, and who is on them."""

import logging
import os
import sys

import pytest
from facewright.training.data.files import picture_folder
from facewright.training.data.opening import open_source
from facewright.training.data.pack import pack
from facewright.training.data.pairs import open_pairs
from facewright.training.data.shards import open_shards
from facewright.training.data.sources import open_folder
from facewright.training.settings.data_sections import FolderData, PairsData, ShardsData
from facewright.training.settings.strict import ConfigError
from PIL import Image


def save(folder, *names):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        form = "JPEG" if name.lower().endswith((".jpg", ".jpeg")) else "PNG"
        Image.new("RGB", (8, 8), (number * 7 % 256, 9, 9)).save(folder / name, form)
    return folder


def test_degraded_counterparts_are_no_pictures_of_their_own(tmp_path):
    names = [f"{n:03}{end}" for n in range(20) for end in (".png", ".lq.png")]
    folder = save(tmp_path / "in", *names, "alone.lq.jpg", "000.lq.jpg", "x.LQ.PNG", "x.png")
    train, held_out = open_folder(folder, 8, 0.2, "file")
    every = [*train.names, *held_out.names]
    assert sorted(every) == [*(f"{n:03}" for n in range(20)), "x"]
    assert sorted(os.path.basename(f) for f in train.damage()) == ["000.lq.png", "alone.lq.jpg"]


def names_of(photos):
    return [photos.name(index) for index in range(len(photos.people))]


def test_a_folder_and_its_shards_hold_the_same_photos_and_people(tmp_path):
    endings = ("png", "jpg", "webp")
    names = [f"{who}/{n}.{end}" for who in "abcde" for n in range(4) for end in endings]
    folder = save(tmp_path / "in", *names, "a/0.lq.png", "a/0.5.png", "a/0_5.png")
    packed = pack(folder, tmp_path / "out", megabytes=1000)
    assert packed.pictures == len(names) + 2 and not packed.left_out
    for identity in ("file", "parent"):
        both = {"size": 32, "identity": identity, "held_out": 0.3}
        sides = open_source(FolderData(source="folder", folder=folder, **both))
        where = {"shards": str(packed.shards[0]), "cache": tmp_path / "cache"}
        shards = open_shards(ShardsData(source="shards", **where, **both))
        for split, mark in ((sides, None), (shards, "~")):
            stems = [{name.split(mark)[0] for name in names_of(side)} for side in split]
            assert not stems[0] & stems[1]  # whatever the ending of the picture
            assert len(stems[0] | stems[1]) == 22
        if identity == "parent":
            assert [len(s.people) for s in sides] == [len(s.people) for s in shards]


def test_pictures_that_differ_in_their_endings_are_one_person(tmp_path):
    names = [f"{n}.{end}" for n in range(30) for end in ("png", "jpg")]
    folder = save(tmp_path / "in", *names)
    train, held_out = open_folder(folder, 8, 0.3, "file")
    assert not set(train.names) & set(held_out.names)
    assert len(set(train.people)) == 21 and all(len(g) == 2 for g in train.by_identity)


def test_a_person_of_one_picture_is_called_as_before(tmp_path):
    found = picture_folder(save(tmp_path / "in", "a/x.png", "a/y.jpg", "a/y.png"))
    assert [sample.person for sample in found.samples] == ["a/x.png", "a/y.jpg", "a/y.jpg"]


def test_pairs_of_one_name_are_refused(tmp_path):
    save(tmp_path / "d", "HQ/a.png", "HQ/a.jpg", "HQ/b.png", "LQ/a.png", "LQ/b.png")
    with pytest.raises(ConfigError, match="same name but for the ending"):
        open_pairs(PairsData(source="pairs", folders=(tmp_path / "d",), size=32))


@pytest.mark.skipif(sys.platform != "linux", reason="named pipes and names of bytes")
def test_what_is_no_picture_is_told_and_never_opened(tmp_path, caplog):
    folder = save(tmp_path / "in", "a.png", "b.png", "._a.png", "@eaDir/a.png")
    (folder / "v.mp4").touch()
    os.mkfifo(folder / "x.png")
    (folder / "loop").symlink_to(folder)
    os.rename(folder / "b.png", os.fsencode(folder) + b"/b\xff.png")
    with caplog.at_level(logging.WARNING):
        train, held_out = open_folder(folder, 8, 0.5, "file")
    assert len(train.files) == len(held_out.files) == 1 and len(train.digest()) == 64
    assert "1 .mp4 (a video)" in caplog.text and "a named pipe" in caplog.text
    packed = pack(folder, tmp_path / "out", megabytes=1)
    assert packed.pictures == 2 and "1 .mp4 (a video)" in packed.aside.sentence()
    config = {"source": "shards", "size": 32, "cache": tmp_path / "c", "held_out": 0.5}
    shards = open_shards(ShardsData(shards=str(tmp_path / "out/*.tar"), **config))
    assert [len(side.samples) for side in shards] == [1, 1] and shards[0].digest()


def test_shards_in_folders_called_like_patterns(tmp_path):
    folder = save(tmp_path / "in", "a.png", "b.png")
    for name in ("set [v2]", "{a,b}", "what?"):
        pack(folder, tmp_path / name, megabytes=1)
        config = {"source": "shards", "size": 32, "cache": tmp_path / "c", "held_out": 0.5}
        whole = str(tmp_path / name / "in-000000.tar")
        assert open_shards(ShardsData(shards=whole, **config))
        if "{" not in name:
            assert open_shards(ShardsData(shards=str(tmp_path / name / "*.tar"), **config))
