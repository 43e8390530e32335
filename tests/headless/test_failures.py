"""How commands end: by sentence and exit code, whatever the system, the console or a user does."""

import errno
import io
import os
import signal
import subprocess
import sys

import pytest
import torch
import typer
from facewright.core.errors import FacewrightError, os_sentence
from facewright.core.files.writing import written_whole
from facewright.headless.cli import app
from facewright.headless.cli._failures import run_app, sentences
from facewright.headless.jobs.batch import Job, run_jobs
from safetensors.torch import save_file
from typer.testing import CliRunner


def ended(action):
    """Exit code and standard error of a command that does `action`."""
    small = typer.Typer()

    @small.command()
    @sentences
    def command() -> None:
        action()

    result = CliRunner().invoke(small)
    return result.exit_code, " ".join(result.stderr.split())


def raises(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize("number", [*errno.errorcode, 99999])
def test_every_error_of_the_operating_system_is_a_sentence(number):
    error = OSError(number, os.strerror(number), "holiday/a.png")
    if isinstance(error, BrokenPipeError):
        pytest.skip("a closed pipe is silent")
    code, said = ended(raises(error))
    assert code == 1 and said.startswith("holiday/a.png: ") and said.endswith("again.")
    assert "Errno" not in said


def test_a_rename_names_both_files_and_hostile_names_stay_on_their_line():
    said = os_sentence(OSError(errno.EACCES, "x", "a\nb.png", None, b"c.png"))
    assert "a\N{REPLACEMENT CHARACTER}b.png to c.png: " in said and "permissions" in said


def test_a_picture_that_meets_one_leaves_the_others(tmp_path):
    jobs = [Job(tmp_path / n, tmp_path / f"{n}.out") for n in "ab"]

    def work(job):
        if job.source.name == "a":
            raise PermissionError(errno.EACCES, "denied", "a")
        return {}

    summary = run_jobs(jobs, work)
    assert len(summary.done) == 1
    assert summary.failed[jobs[0].source].startswith("a: This user may not do that.")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_lack_of_memory_is_a_sentence(error):
    code, said = ended(raises(error))
    assert code == 1 and "not enough memory" in said and "--workers" in said


def test_a_bug_is_not_dressed_up_as_a_users_fault():
    code, said = ended(raises(RuntimeError("a bug")))
    assert code == 1 and not said


def test_only_ctrl_c_is_130():
    assert ended(raises(KeyboardInterrupt())) == (
        130,
        "Interrupted. What is finished stays; run the same command again to go on.",
    )
    assert ended(raises(FacewrightError("Not so."))) == (1, "Not so.")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
def test_sigterm_says_a_word_and_gives_the_handler_back():
    before = signal.getsignal(signal.SIGTERM)
    code, said = ended(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert code == 143 and said.startswith("Stopped by SIGTERM.")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture
def doctor(tmp_path, monkeypatch):
    """Arguments for a report with an umlaut in it."""
    models = tmp_path / "mödels" / "loras"
    models.mkdir(parents=True)
    (models / "pytorch_lora_weights.safetensors").touch()
    monkeypatch.setenv("COLUMNS", "200")
    return ["doctor", "--no-hash", "--models", str(models.parent)]


def run_with(stdout, arguments, monkeypatch):
    """Exit code of the whole command line in this process, and what it said."""
    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["facewright", *arguments])
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", said)
    with pytest.raises(SystemExit) as end:
        run_app(app)
    said.flush()
    return end.value.code, said.buffer.getvalue()


@pytest.mark.parametrize("encoding", ["cp932", "gbk", "ascii", "utf-8"])
def test_doctor_can_be_pasted_from_any_console(doctor, monkeypatch, encoding):
    console = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    code, said = run_with(console, doctor, monkeypatch)
    assert code in (0, None), said
    shown = console.buffer.getvalue()
    assert b"dels" in shown and b"pytorch_lora_weights.safetensors (0 bytes)" in shown


def test_doctor_can_be_pasted_from_a_machine_without_a_language(doctor):
    without = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = subprocess.run(
        [sys.executable, "-m", "facewright", *doctor],
        env={**os.environ, **without},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert b"dels" in result.stdout


@pytest.mark.parametrize("encoding", ["cp932", "gbk", "cp1252"])
@pytest.mark.parametrize(
    "name", sorted(c.name or c.callback.__name__ for c in app.registered_commands)
)
def test_help_of_every_command_fits_every_console(name, encoding):
    result = CliRunner(charset=encoding).invoke(app, [name, "--help"])
    assert result.exit_code == 0, result.exception


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_a_sentence(doctor, monkeypatch):
    with open("/dev/full", "w") as full:
        code, said = run_with(full, [*doctor, "--json"], monkeypatch)
    assert code == 1 and b"disk is full" in said and b"Traceback" not in said


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_nor_does_the_interpreter_complain_while_it_ends():
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "facewright", "train", "--help"]
        result = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE)
    assert result.returncode == 1
    assert b"disk is full" in result.stderr and b"Traceback" not in result.stderr
    assert b"Exception ignored" not in result.stderr


def test_libraries_that_hide_the_systems_error_do_not_hide_it_here(tmp_path):
    """safetensors and torch.save raise errors of their own when a disk is full."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")

    def save_to_full(write):
        with written_whole(tmp_path / "x") as temporary:
            temporary.unlink()
            temporary.symlink_to("/dev/full")
            write(temporary)

    tensors = {"a": torch.zeros(10_000)}
    for write in (lambda p: torch.save(tensors, p), lambda p: p.write_bytes(bytes(10**6))):
        with pytest.raises(OSError) as caught:
            save_to_full(write)
        assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError) as caught, written_whole(tmp_path / "y") as temporary:
        save_file(tensors, temporary / "below-a-file")
    assert caught.value.errno in {errno.ENOTDIR, errno.ENOENT}
    assert not list(tmp_path.iterdir())
