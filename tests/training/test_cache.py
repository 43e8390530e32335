"""Latents and tokens of pictures that come back: what a run learns with them and without is one."""

import json

import pytest
import torch
from facewright.training.data import Batches
from facewright.training.data.batches import _Collate
from facewright.training.data.cache import FrozenCache, picture_digest
from facewright.training.data.samples import Sample
from facewright.training.data.sources import Photo
from facewright.training.loop.engine import Engine
from facewright.training.methods.onestep import OneStepConfig
from facewright.training.settings.config import ConfigError, load_config
from torch.nn import Linear


class Counting:
    def __init__(self):
        self.asked = []

    def __call__(self, pictures):
        self.asked.append(len(pictures))
        return pictures.mean((2, 3)) * 100


def test_only_what_is_new_is_computed(tmp_path):
    net, look = Linear(2, 2), Counting()
    pictures = torch.rand(4, 3, 8, 8)
    digests = [picture_digest(p) for p in pictures]
    cache = FrozenCache(tmp_path, "no-no")
    first = cache.get("means", net, pictures[:3], digests[:3], look)
    # Half precision: ten bits behind the first.
    again = cache.get("means", net, pictures.flip(0), digests[::-1], look)
    assert look.asked == [3, 1]
    torch.testing.assert_close(again.flip(0)[:3], first, rtol=2**-10, atol=0)
    torch.testing.assert_close(again[0], pictures[3].mean((1, 2)) * 100)

    cache.get("means", net, pictures, [None] * 4, look)  # these will not come back
    cache.get("means", Linear(2, 2), pictures, digests, look)  # another network
    FrozenCache(tmp_path, "bf16-bf16").get("means", net, pictures, digests, look)
    assert look.asked == [3, 1, 4, 4, 4]
    assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 3


def test_whole_numbers_stay_and_damaged_files_are_made_anew(tmp_path):
    net, pictures = Linear(2, 2), torch.rand(2, 3, 8, 8)
    digests = [picture_digest(p) for p in pictures]
    tokens = torch.tensor([[70000, -1], [3, 2]])
    cache = FrozenCache(tmp_path, "no-no")

    def tokenize(x):
        return tokens[-len(x) :]

    assert cache.get("tokens", net, pictures, digests, tokenize).equal(tokens)
    files = sorted(tmp_path.rglob("*.safetensors"))
    assert len(files) == 2
    for file in files:
        file.write_bytes(file.read_bytes()[:20])
    assert cache.get("tokens", net, pictures, digests, tokenize).equal(tokens)
    assert cache.get("tokens", net, pictures, digests, None).equal(tokens)


def test_a_full_disk_is_said_once_and_ends_nothing(tmp_path, caplog, monkeypatch):
    from facewright.training.data import cache as module

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_safetensors", full)
    cache, look, pictures = FrozenCache(tmp_path, "no-no"), Counting(), torch.rand(2, 3, 8, 8)
    for _ in range(2):
        cache.get("means", Linear(2, 2), pictures, ["ab", "cd"], look)
    assert look.asked == [2, 2] and caplog.text.count("No space left") == 1


def engine_of(tiny, people, output, **changes):
    # Without the discriminator and with a small rate: Adam's first steps are signs, which would
    # make much of the last bits.
    small = {"optimizers": {"generator": {"lr": 1e-4}}, "budget": {"max_steps": 12}}
    run = tiny.run("onestep", people, output, **small, validate_every=6, **changes)
    return Engine(tiny.recipe("onestep", sample_latents=False, weights={"gan": 0}), run)


def curve(run):
    lines = [json.loads(x) for x in (run.output / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "held_out" not in line]


def test_a_run_with_a_cache_learns_what_it_learns_without(tiny, folder_of_people, tmp_path):
    damage = {"degradation": {"presets": ["mild"], "variants": 1}}
    kept = {**damage, "cache": {"folder": tmp_path / "cache"}}
    plain = engine_of(tiny, folder_of_people, tmp_path / "plain", **damage)
    plain.run()

    def run_counted(name):
        engine = engine_of(tiny, folder_of_people, tmp_path / name, **kept)
        codec, asked = engine.frozen["codec"], []
        moments = codec.moments
        codec.moments = lambda x: asked.append(len(x)) or moments(x)
        engine.run()
        return engine, sum(asked)

    cached, asked = run_counted("cached")
    # 24 samples of two pictures each, of people upright or mirrored and damaged alike.
    assert 0 < asked < 48
    for a, b in zip(curve(plain.config), curve(cached.config), strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert b[key] == pytest.approx(a[key], rel=0.01, abs=1e-4), key  # half precision
    assert run_counted("again")[1] == 0


def test_each_picture_has_so_many_degraded_versions(folder_of_people, tmp_path, tiny):
    def versions(variants):
        damage = {"presets": ["severe"], "variants": variants}
        run = tiny.run(
            "onestep", folder_of_people, tmp_path / "run",
            degradation=damage, cache={"folder": tmp_path / "cache"}, batch_size=120,
        )  # fmt: skip
        (batch,) = next(Batches(run, torch.device("cpu")).train(first_step=0))
        seen = {}
        for gt, lq in zip(batch["gt_digest"], map(picture_digest, batch["lq"]), strict=True):
            seen.setdefault(gt, set()).add(lq)
        return seen, batch

    few, batch = versions(2)
    assert {len(v) for v in few.values()} == {1, 2} and len(few) > 10
    assert None not in batch["lq_digest"]
    many, batch = versions(None)
    assert sum(map(len, many.values())) == 120
    assert set(batch["lq_digest"]) == {None}
    assert few.keys() == many.keys()


def test_pairs_are_cut_anew_each_time_and_take_no_cache(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "output: x\nbudget: {max_steps: 1}\noptimizers: {}\ncache: {folder: c}\n"
        "data: {source: pairs, folders: [a]}\n"
    )
    with pytest.raises(ConfigError, match="leave `cache` out"):
        load_config(
            path,
            OneStepConfig,
            [
                "recipe={vre: x, backbone: {source: random}, perceptual: none}",
                "recipe.weights={identity: 0}",
            ],
        )


def test_no_digest_of_what_was_never_made():
    photo = Photo(torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(4), 0)
    there = photo._replace(lq=photo.pixels)
    batch = _Collate(None, 0, cached=True, fixed=True)([Sample(photo, 1), Sample(there, 2)])
    assert "lq" not in batch
    assert batch["lq_digest"] == [None, picture_digest(batch["gt"][1])]
