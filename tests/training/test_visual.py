"""What is seen and kept of a run: bar and lines, trackers, and a disk without room."""

import io
import json
import logging
import resource
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, filter_trackers
from accelerate.utils import LoggerType
from facewright.training.log.records import LineFile, keep_lines, loss_terms, read_lines
from facewright.training.log.status import Bar, Status
from facewright.training.log.trackers import check_trackers, flat
from facewright.training.log.visual import RunLog
from facewright.training.loop.engine import Engine
from facewright.training.recipe import Evaluation
from facewright.training.settings.config import ConfigError
from PIL import Image
from rich.console import Console

LOSSES = {
    "generator/mse": 0.25, "generator/gan": -0.05, "generator/grad_norm": 3.0, "generator/lr": 1e-4,
    "discriminator/hinge": 1.5, "discriminator/grad_norm": 2.0, "discriminator/lr": 4e-6,
    "discriminator/real": 99.0, "moved_codes": 7.0,
}  # fmt: skip


@contextmanager
def no_room(bytes_per_file):
    """The operating system lets no file grow beyond so many bytes."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_per_file, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_what_a_recipe_monitors_is_no_loss():
    assert loss_terms({"step": 3, **LOSSES}) == {
        "generator": ["generator/mse", "generator/gan"],
        "discriminator": ["discriminator/hinge"],
    }


def test_lines_are_whole_or_wait_until_there_is_room(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    file = LineFile(path)
    file.write({"step": 1})
    with no_room(30):
        for step in range(2, 9):
            try:
                file.write({"step": step})
            except OSError:
                continue
            finally:
                assert path.read_bytes().endswith(b"}\n") and path.stat().st_size <= 30
    assert len(read_lines(path)) == 2
    file.write({"step": 9})
    assert read_lines(path) == [{"step": s} for s in range(1, 10)]


def test_a_torn_end_is_cut_off_without_room_for_a_copy(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    with no_room(0):
        assert keep_lines(path, 2) == [{"step": 1}, {"step": 2}]
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's
def test_a_full_disk_costs_no_run_its_log(tmp_path, caplog):
    from facewright.training.log.trackers import TensorBoard
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    evaluation = Evaluation({"psnr": 20.0}, {"gt": torch.rand(2, 3, 16, 16)})
    board = TensorBoard(tmp_path / "tensorboard", 0)
    with RunLog(tmp_path, main=True, trackers=[board]) as log:
        log.scalars(LOSSES, 1)
        board.writer.flush()
        caplog.clear()
        with no_room(0):
            for step in range(2, 5):
                log.scalars(LOSSES, step)
                log.evaluation(evaluation, step, 2, 1.0, 1.0)
        warned = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        log.evaluation(evaluation, 5, 2, 1.0, 1.0)
        log.scalars(LOSSES, 6)
    for what in ("metrics.jsonl", "grids", "tensorboard"):
        assert sum(f"{tmp_path / what} could not" in text for text in warned) == 1, warned
    assert len(warned) == 3

    steps = [line["step"] for line in read_lines(tmp_path / "metrics.jsonl")]
    assert steps == [1, 2, 2, 3, 3, 4, 4, 5, 6]
    assert [p.name for p in (tmp_path / "grids").iterdir()] == ["step-00000005.png"]
    Image.open(tmp_path / "grids" / "step-00000005.png").verify()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    # TensorBoard writes in a thread of its own, which may tell of the full disk a step late.
    steps = [e.step for e in events.Scalars("generator/mse")]
    assert steps[0] == 1 and set(steps) <= {1, 6}


def test_without_a_terminal_every_logged_step_and_validation_is_one_line(tmp_path, caplog):
    caplog.set_level(logging.INFO, "facewright")
    with RunLog(tmp_path, main=True) as log:
        log.start("vre-hq", 0.0, 4)
        log.evaluation(Evaluation({"psnr": 12.3456}), 0, 2, 0.0, 0.0)
        for step in range(1, 5):
            if step % 2 == 0:
                log.scalars(LOSSES, step)
            log.advance(step, step / 4, 8 * step, 0.5 * step)
        log.evaluation(Evaluation({"psnr": 14.0}), 4, 2, 0.0, 0.0)
        log.evaluation(Evaluation({"psnr": 14.0}), 4, 2, 0.0, 0.0)  # the end says it no second time
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 4 and not any("\r" in text or "\x1b" in text for text in said)
    assert said[0] == "step 0, held out: psnr 12.35"
    assert "vre-hq 50%" in said[1] and "step 2/4, 16 samples/s" in said[1]
    assert "generator 0.2, discriminator 1.5, lr 0.0001, 4e-06" in said[1]
    assert said[3] == "step 4, held out: psnr 14"
    rates = [line["discriminator/lr"] for line in read_lines(tmp_path / "metrics.jsonl")[1:3]]
    assert rates == [4e-6, 4e-6]


@pytest.mark.parametrize("width", [36, 60, 120])
def test_the_bar_is_two_lines_that_fit(width):
    status = Status()
    status.start("flipnet-restore", 100, 0.1, 1000)
    for step in range(101, 151):
        status.advance(step, step / 1000, step * 4, step * 2.0)
    status.scalars(LOSSES)
    status.since = time.monotonic() - 100
    out = io.StringIO()
    bar = Bar(Console(file=out, force_terminal=True, width=width, legacy_windows=False))
    bar.show(status)
    plain = Console(file=out, width=width)
    with plain.capture() as shown:
        plain.print(bar.get_renderable())
    lines = shown.get().splitlines()
    assert len(lines) == 2 and all(len(line) <= width for line in lines)
    assert "flipnet-restore" in lines[0] and "15%" in lines[0]
    assert lines[1].startswith("step 150/1000  2 samples/s")
    # 0.049 of the budget in 100 s since the first step: 0.85 of it is left.
    assert abs(status.seconds_left() - 100 * 0.85 / 0.049) < 1
    if width == 120:
        assert "left" in lines[0] and lines[1].rstrip().endswith("lr 0.0001, 4e-06")


class Fake(GeneralTracker):
    """Registered with accelerate as `register_tracker_class` does it."""

    name = "fake"
    requires_logging_directory = True
    made = None

    def __init__(self, run_name, logging_dir, **kwargs):
        super().__init__()
        self.calls, self.config, self.finished, self.broken = [], None, 0, False
        Fake.made, self.project, self.folder = self, run_name, logging_dir

    @property
    def tracker(self):
        return self

    def store_init_configuration(self, values):
        self.config = values

    def log(self, values, step=None, **kwargs):
        self.calls.append((step, values))
        if self.broken:
            raise ConnectionError("the service is down")

    def log_images(self, values, step=None, **kwargs):
        self.calls.append((step, values))

    def finish(self):
        self.finished += 1


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "fake", Fake)
    try:
        filter_trackers(["fake"])
    except ValueError:
        pytest.skip("this accelerate takes trackers from a list of its own")
    return Fake


def test_a_run_tells_trackers_that_accelerate_knows(fake, tiny, folder_of_people, tmp_path):
    config = tiny.run("vre-hq", folder_of_people, tmp_path / "run", trackers=("fake",))
    Engine(tiny.recipe("vre-hq"), config).run()
    made = fake.made
    assert made.project == "facewright" and made.finished == 1
    assert made.config["data.size"] == 32 and made.config["budget.max_steps"] == 2
    assert all(isinstance(v, str | int | float | bool) for v in made.config.values())
    scalars = {step: values for step, values in made.calls if "autoencoder/hq_l1" in values}
    assert list(scalars) == [1, 2] and scalars[1]["autoencoder/lr"] == 1e-2
    pictures = [
        values["held_out/pictures"] for _, values in made.calls if "held_out/pictures" in values
    ]
    assert len(pictures) == 2  # before the first step and at the end
    assert isinstance(pictures[0], list) and pictures[0][0].dtype == np.uint8
    assert not (tmp_path / "run" / "tensorboard").exists()  # only what `trackers` names


def test_a_tracker_that_breaks_breaks_no_run(fake, tmp_path, caplog):
    from facewright.training.log.trackers import Accelerated

    tracker = Accelerated(Fake("p", tmp_path))
    tracker.tracker.broken = True
    with RunLog(tmp_path, main=True, trackers=[tracker]) as log:
        for step in range(1, 4):
            log.scalars({"main/eps": 1.0, "main/grad_norm": 1.0}, step)
    assert len(read_lines(tmp_path / "metrics.jsonl")) == 3 and len(tracker.tracker.calls) == 3
    assert sum("the service is down" in r.getMessage() for r in caplog.records) == 1


def test_unknown_and_missing_trackers_are_sentences(monkeypatch, tiny, folder_of_people, tmp_path):
    with pytest.raises(ConfigError, match=r"no tracker `wandbb`.*tensorboard.*wandb"):
        check_trackers(("wandbb",))
    monkeypatch.setattr("facewright.training.log.trackers.get_available_trackers", list)
    with pytest.raises(ConfigError, match="pip install comet-ml"):
        check_trackers(("comet_ml",))
    config = tiny.run("vre-hq", folder_of_people, tmp_path / "run", trackers=("wandb",))
    with pytest.raises(ConfigError, match="pip install wandb"):
        Engine(tiny.recipe("vre-hq"), config)
    assert not (tmp_path / "run").exists()
    assert check_trackers(("tensorboard",)) == [] == check_trackers(())
    installed = [LoggerType.WANDB, LoggerType.TENSORBOARD]
    monkeypatch.setattr(
        "facewright.training.log.trackers.get_available_trackers", lambda: installed
    )
    assert check_trackers(("tensorboard", "wandb")) == ["wandb"]


def test_a_tracker_that_does_not_start_is_a_sentence(
    fake, monkeypatch, tiny, folder_of_people, tmp_path
):
    def no_login(self, values):
        raise RuntimeError("api_key not configured")

    monkeypatch.setattr(Fake, "store_init_configuration", no_login)
    config = tiny.run("vre-hq", folder_of_people, tmp_path / "run", trackers=("fake",))
    with pytest.raises(ConfigError, match=r"fake.*api_key not configured"):
        Engine(tiny.recipe("vre-hq"), config).run()


def test_a_config_becomes_single_values():
    nested = {"a": 1, "b": {"c": [1, 2], "d": {"e": None, "f": True}}}
    assert flat(nested) == {"a": 1, "b.c": "[1, 2]", "b.d.f": True}
    json.dumps(flat(nested))
