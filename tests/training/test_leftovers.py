"""What kills, full disks and edited files leave in a run's folders, and what a rerun does."""

import contextlib
import json
import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from facewright.core.checkpoint.identify import TRAINING_KEY
from facewright.core.errors import FacewrightError
from facewright.core.files.writing import written_whole
from facewright.headless.cli import app
from facewright.training import train
from facewright.training.data import world
from facewright.training.data.shard_files import expand_braces
from facewright.training.data.tar_index import read_index
from facewright.training.log.curves import curve_sheet
from facewright.training.log.records import keep_lines, read_lines
from facewright.training.loop.checkpoints import list_checkpoints
from facewright.training.loop.engine import Engine
from facewright.training.recipe import Evaluation, Recipe
from facewright.training.results import provenance
from facewright.training.settings.config import ConfigError, Strict, TrainConfig, WorldData
from torch.nn import Conv2d
from typer.testing import CliRunner


class Copy(Recipe):
    stage = "copy"
    Config = Strict

    def build(self):
        return {"net": Conv2d(3, 3, 1)}

    def losses(self, phase, batch, progress):
        return {"mse": (self.nets["net"](batch["gt"]) - batch["gt"]).square().mean()}

    def evaluate(self, batches):
        return Evaluation({"n": 1.0}, {"gt": next(iter(batches))["gt"]})

    def export(self, folder, facts):
        path = folder / "net.pt"
        with written_whole(path) as temporary:
            torch.save(self.nets["net"].state_dict(), temporary)
        return [path]


def config(people, output, **changes):
    values = {
        "output": output, "budget": {"max_steps": 2}, "batch_size": 2, "cpu": True, "threads": 1,
        "data": {"source": "folder", "folder": people, "size": 32, "workers": 0},
        "optimizers": {"main": {}}, "trackers": [], "log_every": 1, "validate_images": 1,
    }  # fmt: skip
    return TrainConfig(**{**values, **changes})


def run(settings, recipe=None, **kwargs):
    return Engine(recipe or Copy(Strict()), settings).run(**kwargs)


def test_a_rerun_clears_what_a_kill_left_and_nothing_else(folder_of_people, tmp_path):
    output = tmp_path / "run"
    run(config(folder_of_people, output))
    ours = ["config.yaml", "facts.json", "curves.png", "metrics.jsonl", "grids/step-00000002.png",
            "grids/step-00000077.png", "export/net.pt", "export/README.md", "export/samples.png",
            "export/curves.png", "nonfinite/step-00000003-main-process-0.safetensors",
            "nonfinite/step-00000003-main-process-0.png"]  # fmt: skip
    others = ["notes.txt", "grids/mine.png", "export/other.pt", "nonfinite/step-by-step.png"]
    with contextlib.ExitStack() as stack:  # left open: as a kill leaves them
        for name in ours + others:
            stack.enter_context(written_whole(output / name))
        (output / "checkpoints" / "step-00000002.123.partial").touch()
        (output / "metrics.partial").touch()
        foreign = [".x.tmp", "curves.png.tmp", ".curves.png.tmp", ".curves.png.1.tmp", "a.partial"]
        for name in foreign:
            (output / name).touch()
        assert len(list(output.rglob("*.tmp"))) == len(ours + others) + 4
        run(config(folder_of_people, output), resume=True)
        left = {p.relative_to(output).as_posix() for p in output.rglob("*")}
        left = {p for p in left if p.endswith((".tmp", ".partial"))}
        assert {p for p in left if p not in foreign} == {
            p for p in left if any(p.split("/")[-1].startswith(f".{Path(o).name}.") for o in others)
        }
        assert len(left) == len(others) + len(foreign)
        for name in ours + others:  # so that leaving the contexts finds its files
            for path in output.glob(f"{Path(name).parent}/.{Path(name).name}.*.tmp"):
                path.unlink()
        stack.pop_all()


def test_a_drawing_that_was_killed_is_cleared_by_the_next(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "main/eps": 0.5, "main/grad_norm": 1}\n')
    stray = tmp_path / ".curves.png.abcd_123.tmp"
    stray.touch()
    curve_sheet(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curves.png", "metrics.jsonl"]


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere/run", "x" * 300])
def test_an_output_that_cannot_be_written_is_told_before_training(
    folder_of_people, tmp_path, place, monkeypatch
):
    (tmp_path / "file").write_text("mine")
    settings = config(folder_of_people, tmp_path / place)
    for resume in (False, True):
        with pytest.raises(ConfigError, match=r"The run's folder .* cannot be (written|read)"):
            run(settings, resume=resume)
    assert (tmp_path / "file").read_text() == "mine"
    monkeypatch.setattr(train, "stages", lambda: {"copy": Copy})
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(settings.model_dump(mode="json")))
    result = CliRunner().invoke(app, ["train", "copy", "--config", str(path)])
    assert result.exit_code == 2 and "cannot be " in " ".join(result.stderr.split())


def test_a_disk_full_from_the_start_is_a_sentence(folder_of_people, tmp_path, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("facewright.training.settings.config.written_whole", full)
    with pytest.raises(ConfigError, match="No space left"):
        run(config(folder_of_people, tmp_path / "run"))


def test_a_run_whose_folder_vanishes_writes_it_anew(folder_of_people, tmp_path):
    output = tmp_path / "run"
    recipe = Copy(Strict())
    recipe.after_step = lambda progress: progress.step or shutil.rmtree(output)
    assert run(config(folder_of_people, output, checkpoint_every=1), recipe)["finished"]
    assert len(list_checkpoints(output / "checkpoints")) == 2
    assert (output / "export" / "net.pt").is_file()


def test_checkpoints_that_have_no_place_are_told_as_what_they_are(folder_of_people, tmp_path):
    output = tmp_path / "run"
    output.mkdir()
    (output / "checkpoints").write_text("a file")
    recipe = Copy(Strict())
    engine = Engine(recipe, config(folder_of_people, output))
    recipe.after_step = lambda progress: setattr(engine, "stopped_by", "SIGTERM")
    with pytest.raises(FacewrightError, match=r"could not be written .*mend that"):
        engine.run()


def test_data_that_cannot_be_opened_are_a_sentence(folder_of_people, tmp_path):
    (tmp_path / "file").touch()
    data = {"source": "world", "cache": tmp_path / "file" / "cache", "size": 32}
    with pytest.raises(FacewrightError, match=r"data\.source: world.* could not be opened"):
        run(config(folder_of_people, tmp_path / "run", data=data))


def test_a_rendered_world_that_is_damaged_is_told(tmp_path):
    settings = WorldData(source="world", cache=tmp_path, size=32)
    folder = world.world_folder(settings)
    folder.mkdir()
    for name in ("images", "boxes", "identities"):
        (folder / f"train_{name}.npy").write_bytes(b"\x93NUMPY\x01\x00v")
    with pytest.raises(ConfigError, match=r"not whole.*Delete that folder"):
        world.world_arrays(settings)
    gone = folder.with_name(f"{folder.name}.999999999.partial")
    under_way = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    gone.mkdir(), under_way.mkdir()
    world._remove_partial(folder)
    assert not gone.exists() and under_way.exists()


LINES = [{"step": s, "main/eps": s / 7, "main/grad_norm": 1.0} for s in range(1, 6)]
STRANGE = ["[]", "3", "null", '{"step": "2"}', '{"step": null}', '{"step": -1}', '{"step": 1.5}',
           '{"step": NaN}', '{"step": 1e999}', '{"step": true}', '{"step": 3, "main/eps": "x"}',
           '{"step": 3, "held_out": [1]}', '{"step": 3, "held_out": {"a": {}}}', "\\x00",
           "[" * 9999,
           '{"step": 3, "main/eps": ' + "9" * 400 + "}", '{"step": ' + "9" * 5000 + "}",
           '{"step": 3, "main/eps": null}', '{"step": 3, "seconds": [1]}']  # fmt: skip


@pytest.mark.parametrize("strange", STRANGE)
def test_edited_records_are_read_without_their_strange_lines(tmp_path, strange, caplog):
    path = tmp_path / "metrics.jsonl"
    texts = [json.dumps(line) for line in LINES]
    path.write_text("\n".join([*texts[:2], strange, *texts[2:]]) + "\n")
    assert read_lines(path) == LINES and "line 3 is nothing that a run writes" in caplog.text
    assert keep_lines(path, 4) == LINES[:4]
    assert path.read_text() == "".join(f"{t}\n" for t in texts[:4])


@pytest.mark.parametrize("cases", [60, pytest.param(5000, marks=pytest.mark.slow)])
def test_records_with_anything_in_them_are_read(tmp_path, cases):
    rng = random.Random(3)
    path = tmp_path / "metrics.jsonl"
    plain = "".join(json.dumps(line) + "\n" for line in LINES).encode()
    for _ in range(cases):
        data = bytearray(plain)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(0, 4)] = rng.choice(
                [b"", b"\xff", b"null", b"[", b"NaN", b"-", b"1e999", b"\n", b"}", b'"', b"9" * 400]
            )
        path.write_bytes(data)
        for line in read_lines(path):
            assert 0 <= line["step"] < 2**53
            assert all(isinstance(v, (int, float)) for v in line.values())
        keep_lines(path, 3)


def test_an_edited_index_of_a_shard_is_made_anew(tmp_path):
    import tarfile

    shard = tmp_path / "a.tar"
    with tarfile.open(shard, "w") as tar:
        tar.add(__file__, "a.png")
    index = read_index(shard, tmp_path)
    (file,) = tmp_path.glob("a-*.json")
    size = shard.stat().st_size
    for member in ([1, 2, 3], ["a", -1, 3], ["a", 0, size + 1], ["a", size, 1], ["a", 0, 1.5],
                   ["a", True, 1], ["a", 1], "a", ["a", 1, 2, 3], ["a", 10**30, 1]):  # fmt: skip
        file.write_text(json.dumps({"members": [member], "damage": ""}))
        assert read_index(shard, tmp_path) == index, member
        assert json.loads(file.read_text())["members"] == [list(m) for m in index.members]
    for text in ("[]", "{}", "null", '{"members": 3, "damage": ""}', "[" * 9999, "\x00"):
        file.write_text(text)
        assert read_index(shard, tmp_path) == index, text


@pytest.mark.parametrize(
    "pattern", ["a-{0..999999999}.tar", pytest.param("{a,b}" * 40, marks=pytest.mark.slow)]
)
def test_a_pattern_for_more_shards_than_there_can_be_is_refused(pattern):
    with pytest.raises(ConfigError, match="more than 100000 shards"):
        expand_braces(pattern)


@pytest.mark.parametrize(
    "facts",
    ['{"licences": "abc"}', '{"licences": [{}, 5, null]}', '{"licences": {}}', "[1]", "[" * 9999,
     '{"licences": ["' + "x" * 99999 + '\\u001b[31m"], "stage": 7}'],
)  # fmt: skip
def test_what_a_file_says_of_its_training_is_taken_as_text_alone(tmp_path, facts, monkeypatch):
    path = tmp_path / "w.safetensors"
    monkeypatch.setattr(provenance, "_metadata", lambda path: {TRAINING_KEY: facts})
    terms = provenance._terms("recipe.vre", path)
    assert terms and all(isinstance(t, str) and len(t) < 999 and t.isprintable() for t in terms)
    assert provenance._input("recipe.vre", path)["stage"] is None
