"""Everything on an accelerator that is not there, and the choice of a device.

The tests of tests/on_device run in a process of their own, as the pretended device changes torch.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from facewright.core import devices
from facewright.core.errors import FacewrightError
from facewright.headless.cli import app
from typer.testing import CliRunner

HERE = Path(__file__).parent
COMPUTING = [
    ("restore",), ("align",), ("evaluate",), ("score",), ("person", "make"), ("run",),
    ("synthesize",), ("demo",), ("train",), ("doctor",),
]  # fmt: skip


def on_device(*words, timeout):
    environment = {**os.environ, "FACEWRIGHT_DEVICE": "privateuseone", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    done = subprocess.run(
        [*command, str(HERE / "on_device")],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        cwd=HERE.parent,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    return done.stdout


def test_the_essentials_run_on_the_pretended_device():
    assert " passed" in on_device("-m", "not slow", timeout=500)


@pytest.mark.slow
def test_all_the_rest_runs_on_the_pretended_device():
    assert " passed" in on_device("-m", "slow", timeout=3000)


@pytest.fixture
def machine(monkeypatch):
    """Pretends that torch finds so many devices of a kind."""
    monkeypatch.delenv(devices.VARIABLE, raising=False)

    def has(**counts):
        monkeypatch.setattr(devices, "device_count", lambda kind: counts.get(kind, 0))

    has()
    return has


@pytest.mark.parametrize(
    ("counts", "name", "found"),
    [
        ({}, "auto", "cpu"),
        ({}, "cpu", "cpu"),
        ({}, " CPU ", "cpu"),
        ({"cuda": 2}, "auto", "cuda"),
        ({"cuda": 2}, "cpu", "cpu"),
        ({"cuda": 2}, "cuda:1", "cuda:1"),
        ({"mps": 1}, "auto", "mps"),
        ({"mps": 1}, "mps", "mps"),
        ({"xpu": 1}, "auto", "xpu"),
        ({"xpu": 1, "cuda": 1}, "auto", "cuda"),
        ({"xpu": 1}, "xpu:0", "xpu:0"),
    ],
)
def test_devices_by_name(machine, monkeypatch, counts, name, found):
    machine(**counts)
    assert devices.find_device(name) == torch.device(found)
    monkeypatch.setenv(devices.VARIABLE, name)
    assert devices.compute_device() == torch.device(found)


@pytest.mark.parametrize(
    ("counts", "name", "words"),
    [
        ({"cuda": 1}, "cuda:7", "There is no cuda:7: CUDA has 1 device here"),
        ({"mps": 1}, "mps:1", "There is no mps:1"),
        ({}, "cuda", "cuda cannot be used: torch .* was installed without CUDA"),
        ({}, "mps", "mps cannot be used: torch .* was installed without Apple's MPS"),
        ({}, "xpu:0", "xpu:0 cannot be used"),
        ({}, "meta", "meta cannot be used"),
        ({}, "privateuseone", "privateuseone cannot be used"),
        ({}, "gpu", "gpu is no device. Choose auto, cpu, cuda"),
        ({}, "cuda:x", "cuda:x is no device"),
        ({}, "cuda:-1", "cuda:-1 is no device"),
        ({}, "cuda:" + "9" * 400, "is no device"),
        ({}, "\x1b[31mcuda", "is no device"),
    ],
)
def test_what_is_not_there_is_named(machine, monkeypatch, counts, name, words):
    if torch.version.cuda and "without CUDA" in words:
        pytest.skip("this torch knows CUDA")
    machine(**counts)
    with pytest.raises(FacewrightError, match=words) as refused:
        devices.find_device(name)
    assert "cpu" in str(refused.value) and "\x1b" not in str(refused.value)
    assert len(str(refused.value)) < 500


def help_of(*command):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [*command, "--help"]).output


@pytest.mark.parametrize("command", COMPUTING, ids=" ".join)
def test_every_command_that_computes_takes_a_device(command):
    assert "--device" in help_of(*command)


@pytest.mark.parametrize(
    "words",
    [("demo",), ("doctor", "--no-hash"), ("restore", "x.png", "-o", "o"), ("train", "onestep",
     "--config", "onestep_nano")],
)  # fmt: skip
@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_device_that_is_not_there_ends_a_command_with_2(machine, monkeypatch, words, by):
    more = ["--device", "mps:3"] if by == "option" else []
    if by == "environment":
        monkeypatch.setenv(devices.VARIABLE, "mps:3")
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*words, *more])
    assert done.exit_code == 2
    assert "mps:3" in done.output and "Traceback" not in done.output


def test_the_choice_ends_with_the_command(machine, monkeypatch):
    monkeypatch.setenv(devices.VARIABLE, "auto")
    assert CliRunner().invoke(app, ["doctor", "--no-hash", "--device", "cpu"]).exit_code == 0
    assert os.environ[devices.VARIABLE] == devices.asked_device() == "auto"


def test_the_doctor_says_why(machine, monkeypatch):
    from facewright.core.doctor import machine as of

    class Around:
        dtypes = None

    monkeypatch.setattr(of, "device_count", devices.device_count)
    assert of.dtypes(Around())["why"].startswith("cpu, because auto finds nothing faster (cuda: ")
    monkeypatch.setenv(devices.VARIABLE, "cpu")
    assert "FACEWRIGHT_DEVICE asks for cpu" in of.dtypes(Around())["why"]


def test_a_server_chooses_its_device_itself(machine, tmp_path):
    words = ["run", str(tmp_path), "--server", "x", "--device", "cpu"]
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, words)
    assert done.exit_code == 2 and "ComfyUI chooses its device itself" in done.output


def test_ray_gives_out_the_devices(machine, monkeypatch):
    from facewright.headless.cli._workers import Sharing
    from typer import Exit

    monkeypatch.setenv(devices.VARIABLE, "cuda:1")
    with pytest.raises(Exit):
        Sharing(ray="local", workers=2).team((), None)


def test_random_numbers_go_on_as_they_were():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with devices.seeded(torch.device("cpu"), 8):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected) and not torch.equal(inside, expected)


def test_wide_numbers_stay_where_they_can():
    for kind, wide in (("cpu", "cpu"), ("cuda", "cuda"), ("mps", "cpu"), ("xpu", "cpu")):
        assert devices.wide_device(torch.device(kind)).type == wide
