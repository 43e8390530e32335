"""Pairs, captions and off-shelf pictures as training data."""

import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from facewright.training.data import Batches
from facewright.training.data.batches import degrade
from facewright.training.data.damage import UnreadableError
from facewright.training.data.files import read_caption, read_picture
from facewright.training.data.opening import open_source
from facewright.training.loop.engine import Engine
from facewright.training.recipe import Recipe
from facewright.training.settings.config import ConfigError, TrainConfig
from PIL import Image
from torch.nn import Linear

CPU = torch.device("cpu")


def picture(path, width=40, height=36, seed=0, smooth=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    shape = (6, 8, 3) if smooth else (height, width, 3)
    image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
    image.resize((width, height), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def pairs(tmp_path):
    """Six pairs whose LQ is the HQ at half brightness, captions beside the HQ pictures."""
    root = tmp_path / "pairs"
    for i in range(6):
        hq = root / "HQ" / "sub" / f"{i}.png"
        picture(hq, 40 + i, 36, seed=i, smooth=True)
        hq.with_suffix(".txt").write_text(f"picture {i}\n")
        dark = Image.fromarray(np.array(Image.open(hq)) // 2)
        (root / "LQ" / "sub").mkdir(parents=True, exist_ok=True)
        dark.save(root / "LQ" / "sub" / f"{i}.bmp")
    return root


def config(data, **changes):
    values = {"output": "unused", "budget": {"max_steps": 1}, "batch_size": 4, "data": data}
    return TrainConfig(**{**values, "optimizers": {"main": {}}, **changes})


def pair_data(*folders, **changes):
    return {"source": "pairs", "folders": folders, "size": 32, "largest": 48, "workers": 0,
            "held_out": 0.2, **changes}  # fmt: skip


def first(batches, count=3):
    return [b for step in itertools.islice(batches.train(first_step=0), count) for b in step]


def test_pairs_are_cut_and_mirrored_alike(pairs):
    for batch in first(Batches(config(pair_data(pairs)), CPU), 5):
        assert batch["gt"].shape == (4, 3, 32, 32)
        # Resizing rounds each picture by itself: half a level here, one there.
        assert (batch["lq"] - batch["gt"] / 2).abs().max() < 3 / 255
        assert (batch["gt"] - batch["gt"].flip(3)).abs().mean() > 0.02
        assert all(c.startswith("picture ") for c in batch["caption"])


def test_crops_move_between_rounds_and_repeat_for_a_number(pairs):
    run = config(pair_data(pairs))
    a, b = (first(Batches(run, CPU), 6) for _ in range(2))
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x["gt"], y["gt"]) and torch.equal(x["lq"], y["lq"])
    crops = [g for batch in a for g, c in zip(batch["gt"], batch["caption"], strict=True)
             if c == a[0]["caption"][0]]  # fmt: skip
    assert len(crops) > 2
    assert not any(torch.equal(x, y) for x, y in itertools.combinations(crops, 2))


def test_two_folders_of_other_names_are_pairs_too(pairs, tmp_path):
    (pairs / "HQ").rename(tmp_path / "good")
    (pairs / "LQ").rename(tmp_path / "bad")
    data = pair_data({"hq": tmp_path / "good", "lq": tmp_path / "bad"})
    train, held_out = open_source(config(data).data)
    assert len(train.pairs) == 5 and len(held_out.pairs) == 1
    assert not set(train.pairs) & set(held_out.pairs)
    assert train.name(0).startswith("sub/")


def test_faces_are_mixed_in_and_degraded_on_the_fly(pairs, folder_of_people):
    data = pair_data(pairs, faces=folder_of_people, faces_limit=10)
    run = config(data, degradation={"presets": ["severe"]}, batch_size=13, validate_images=9)
    batches = Batches(run, CPU)
    (batch,) = first(batches, 1)  # 5 pairs + 8 faces, all once
    paired = [bool(c) for c in batch["caption"]]
    assert sum(paired) == 5 and len(set(batch["identity"].tolist())) == 13
    dark = (batch["lq"] - batch["gt"] / 2).abs().amax((1, 2, 3)) < 3 / 255
    assert dark.tolist() == paired
    faces = [i for i, p in enumerate(paired) if not p]
    seeds = [int(batch["seed"][i]) for i in faces]
    assert torch.equal(batch["lq"][faces], degrade(batch["gt"][faces], seeds, ("severe",)))
    assert sum(len(b["gt"]) for b in batches.validation()) == 3


def test_pairs_without_faces_need_no_degradation(pairs):
    class NeedsLq(Recipe):
        stage, needs_lq = "x", True

        def build(self):
            return {"net": Linear(1, 1)}

        losses = evaluate = export = None

    Engine(NeedsLq(None), config(pair_data(pairs), cpu=True))
    with pytest.raises(ConfigError, match="degradation"):
        Engine(NeedsLq(None), config(pair_data(pairs, faces=pairs / "HQ"), cpu=True))


def test_a_folder_without_pairs_is_told_what_belongs_there(tmp_path, pairs):
    with pytest.raises(ConfigError, match=r"no pictures in .*HQ.*HQ/<name>"):
        open_source(config(pair_data(tmp_path / "nothing")).data)
    for file in (pairs / "LQ").rglob("*.bmp"):
        file.unlink()
    with pytest.raises(ConfigError, match=r"no pictures in .*LQ"):
        open_source(config(pair_data(pairs)).data)


def test_a_picture_without_its_counterpart_is_named(pairs):
    (pairs / "LQ" / "sub" / "3.bmp").unlink()
    with pytest.raises(ConfigError, match=r"sub/3 is in only one of .*HQ and .*LQ"):
        open_source(config(pair_data(pairs)).data)


def test_pairs_of_different_sizes_are_named(pairs):
    picture(pairs / "LQ" / "sub" / "2.bmp", 21, 18)
    with pytest.raises(ConfigError, match=r"sub/2 differs in size: .*42 x 36.*21 x 18"):
        open_source(config(pair_data(pairs)).data)


def turned(path, orientation=6):
    """Stores a picture on its side, as cameras do."""
    upright = Image.open(path).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


def test_pairs_are_turned_upright_before_they_are_compared_and_cut(pairs):
    for file in (pairs / "HQ").rglob("*.png"):
        turned(file)
    for batch in first(Batches(config(pair_data(pairs)), CPU), 2):
        assert (batch["lq"] - batch["gt"] / 2).abs().max() < 3 / 255
    Image.open(pairs / "HQ/sub/1.png").save(pairs / "HQ/sub/1.png")  # without the entry
    with pytest.raises(ConfigError, match=r"sub/1 differs in size: .*36 x 41.*41 x 36"):
        open_source(config(pair_data(pairs)).data)


def test_deep_pictures_keep_their_greys(tmp_path):
    cv2 = pytest.importorskip("cv2")
    ramp = np.linspace(0, 65535, 40 * 40).reshape(40, 40).astype(np.uint16)
    for kind in ("png", "tif"):
        cv2.imwrite(str(tmp_path / f"a.{kind}"), ramp)
        image = np.array(read_picture(tmp_path / f"a.{kind}"))
        expected = np.round(ramp.astype(np.float64) / 65535 * 255)[..., None].repeat(3, 2)
        assert np.abs(image - expected).max() == 0


def test_a_single_pair_is_refused(pairs):
    for i in range(1, 6):
        (pairs / f"HQ/sub/{i}.png").unlink()
        (pairs / f"LQ/sub/{i}.bmp").unlink()
    with pytest.raises(ConfigError, match=r"single pair, .*0\.png, and at least 2"):
        open_source(config(pair_data(pairs)).data)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_both_sides_of_the_split_have_pictures(pairs, folder_of_people, share):
    folder = {"source": "folder", "folder": folder_of_people, "size": 32, "held_out": share}
    for data in (pair_data(pairs, held_out=share), folder):
        assert all(photos.by_identity for photos in open_source(config(data).data))


def test_the_split_knows_names_not_where_the_folder_lies(pairs, tmp_path, monkeypatch):
    def held_out(folder):
        return [p.name for p in open_source(config(pair_data(folder, held_out=0.5)).data)[1].pairs]

    absolute = held_out(pairs)
    monkeypatch.chdir(tmp_path)
    assert held_out(Path("pairs")) == absolute
    monkeypatch.chdir(pairs)
    assert held_out(Path(".")) == absolute and held_out(Path("../pairs")) == absolute
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    pairs.rename(tmp_path / "elsewhere" / "pairs")
    assert held_out(tmp_path / "elsewhere" / "pairs") == absolute
    ranked = sorted((f"sub/{i}" for i in range(6)),
                    key=lambda n: hashlib.sha256(f"pairs/{n}".encode()).hexdigest())  # fmt: skip
    assert sorted(ranked[:3]) == sorted(absolute)


def test_captions_that_are_missing_or_unreadable_are_named(folder_of_people, pairs):
    data = {"source": "folder", "folder": folder_of_people, "size": 32, "captions": True}
    with pytest.raises(ConfigError, match=r"none of the \d+ pictures .*\.txt was expected"):
        open_source(config(data).data)
    some = next(folder_of_people.rglob("*.png"))
    some.with_suffix(".txt").write_text("one of them")
    open_source(config(data).data)
    (pairs / "HQ/sub/0.txt").write_bytes("Zoë".encode("latin-1"))
    with pytest.raises(UnreadableError, match=r"0\.txt is not in UTF-8"):
        read_caption(pairs / "HQ/sub/0.png")


def shelf_for(folder, shelf, k=3):
    for file in folder.rglob("*.png"):
        name = file.relative_to(folder).with_suffix("")
        for i in range(k):
            path = shelf / f"{name}_{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (10 * i, 200, 0)).save(path)


def test_half_of_the_samples_come_from_the_shelf(folder_of_people, tmp_path):
    shelf_for(folder_of_people, tmp_path / "shelf")
    data = {"source": "folder", "folder": folder_of_people, "size": 32, "workers": 0}
    run = config(data, degradation={"presets": ["mild"]}, batch_size=50,
                 off_shelf={"folder": tmp_path / "shelf"})  # fmt: skip
    taken = []
    for batch in first(Batches(run, CPU), 8):
        flat = batch["lq"].std((2, 3)).amax(1) == 0
        taken += (batch["lq"][flat][:, 0, 0, 0] * 255).round().tolist()
    assert 160 < len(taken) < 240  # 200 of 400 expected
    assert set(taken) == {0, 10, 20}
    held_out = next(Batches(run, CPU).validation())
    assert (held_out["lq"].std((2, 3)).amax(1) > 0).all()


def test_photos_the_shelf_lacks_are_degraded_on_the_fly(folder_of_people, tmp_path):
    shelf_for(folder_of_people / "p0", tmp_path / "shelf" / "p0")
    data = {"source": "folder", "folder": folder_of_people, "size": 32, "workers": 0}
    run = config(data, degradation={"presets": ["mild"]}, batch_size=17,
                 off_shelf={"folder": tmp_path / "shelf", "share": 1})  # fmt: skip
    (batch,) = first(Batches(run, CPU), 1)
    assert 2 <= (batch["lq"].std((2, 3)).amax(1) == 0).sum() <= 3


def test_a_shelf_of_other_pictures_is_refused(folder_of_people, tmp_path):
    picture(tmp_path / "shelf" / "someone_0.png")
    data = {"source": "folder", "folder": folder_of_people, "size": 32}
    with pytest.raises(ConfigError, match=r"None of the 17 .*_1\.png was expected"):
        Batches(config(data, off_shelf={"folder": tmp_path / "shelf"}), CPU)


def test_hidden_damage_is_one_of_the_presets(folder_of_people):
    from facewright.training.data.real_damage import real_damage

    data = {"source": "folder", "folder": folder_of_people, "size": 32, "workers": 0}
    run = config(data, degradation={"presets": ["mild"], "validation": "hidden"})
    batch = next(Batches(run, CPU).validation())
    lq, _ = real_damage(batch["gt"], batch["seed"].tolist())
    assert torch.equal(batch["lq"], lq)


def test_a_digest_holds_both_sides_of_a_pair_and_the_faces(pairs, folder_of_people):
    def digest(**changes):
        return open_source(config(pair_data(pairs, **changes)).data)[0].digest()

    plain = digest()
    assert plain == digest()
    mixed = digest(faces=folder_of_people)
    assert mixed not in (plain, digest(faces=folder_of_people, faces_limit=4))
    name = open_source(config(pair_data(pairs)).data)[0].name(0)
    with (pairs / "LQ" / f"{name}.bmp").open("ab") as file:
        file.write(b"x")
    assert digest() != plain
