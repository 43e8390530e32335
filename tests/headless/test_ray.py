"""Folders shared out with Ray: nothing lost, nothing done twice, the bytes of a run without it.

The slow ones start clusters of their own, on this machine.
"""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from facewright.core.errors import FacewrightError
from facewright.headless.cli import app
from facewright.headless.jobs import cluster
from facewright.headless.jobs.batch import Job, run_jobs
from facewright.headless.jobs.cluster import ATTEMPTS, RayTeam
from facewright.headless.jobs.staging import Staged, place, remove_staging
from PIL import Image
from typer.testing import CliRunner

NO_RAY = 'ray is not installed: pip install "facewright[ray]"'


def slow(test):
    here = importlib.util.find_spec("ray") is not None and sys.platform == "linux"
    return pytest.mark.slow(pytest.mark.skipif(not here, reason=NO_RAY + ", on Linux")(test))


def pictures(folder, count, side=24):
    folder.mkdir(parents=True)
    for i in range(count):
        data = np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(data).save(folder / f"{i:03}.png")
    return folder


def faces(folder, count):
    from facewright.training.world.faces3d import photos

    folder.mkdir(parents=True)
    shown = photos(list(range(count)), list(range(count)), 128).pixels
    for i, picture in enumerate(shown):
        data = picture.mul(255).round().byte().movedim(0, -1).numpy()
        Image.fromarray(data).save(folder / f"{i}.png")
    return folder


def contents(folder):
    """Every file, hidden ones too, with its bytes."""
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in files.items()}


def command(*args, **more):
    """Started; its words go to files, which never fill up as pipes do."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "facewright", *map(str, args)]
    said = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115
    process = subprocess.Popen(line, env=environment, stdout=said[0], stderr=said[1], **more)
    return process, said


def finish(process, said, code=0):
    """(standard output, standard error)"""
    process.wait(600)
    texts = []
    for file in said:
        with file:
            file.seek(0)
            texts.append(file.read())
    assert process.returncode == code, texts[1]
    return texts


def run(*args, code=0):
    return finish(*command(*args), code)


def descendants(pid):
    """(pid, command) of the processes below one."""
    below: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        below.setdefault(parent, []).append(int(status.parent.name))
    found, waiting = [], [pid]
    while waiting:
        for child in below.get(waiting.pop(), ()):
            waiting.append(child)
            try:
                words = Path(f"/proc/{child}/cmdline").read_bytes()
            except OSError:
                continue
            found.append((child, words.replace(b"\0", b" ").decode()))
    return found


def workers(pid):
    return [child for child, words in descendants(pid) if words.startswith("ray::_Seat")]


def written(out):
    """Name -> what changes whenever a file is put down again."""
    there = {}
    for path in out.glob("*.png"):
        status = path.stat()
        there[path.name] = status.st_ino, status.st_mtime_ns
    return there


# Without a cluster


def test_a_missing_ray_is_a_sentence_and_nothing_else_asks_for_it(tmp_path, monkeypatch):
    pictures(tmp_path / "in", 2)
    monkeypatch.setitem(sys.modules, "ray", None)
    line = ["degrade", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*line, "--ray", "local"])
    assert result.exit_code == 2
    assert 'pip install "facewright[ray]"' in result.stderr.replace("\n", " ")
    assert not (tmp_path / "out").exists()
    assert CliRunner().invoke(app, line).exit_code == 0


def test_gpus_are_for_ray(tmp_path):
    pictures(tmp_path / "in", 1)
    line = ["restore", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--weights", "nano"]
    result = CliRunner().invoke(app, [*line, "--gpus-per-worker", "1"])
    assert result.exit_code == 2 and "--ray" in result.stderr


def two_files(job):
    job.target.parent.mkdir(parents=True, exist_ok=True)
    job.target.with_name(f"{job.target.name}.json").write_text("about")
    job.target.write_text("result")
    return {"faces": 1}


def broken(job):
    two_files(job)
    raise FacewrightError("no")


def test_staged_files_appear_when_they_are_placed(tmp_path):
    job = Job(tmp_path / "a", tmp_path / "sub/b.png")
    facts, again = Staged(two_files)(job), Staged(two_files)(job)
    assert not job.target.exists()
    assert place(job.target, facts) == {"faces": 1}
    names = {p.name for p in job.target.parent.iterdir()} - {again["staged"][0]}
    assert names == {"b.png", "b.png.json"}
    before = written(job.target.parent)
    remove_staging([job.target])
    assert written(job.target.parent) == before
    assert set(contents(tmp_path)) == {"sub/b.png", "sub/b.png.json"}
    with pytest.raises(FacewrightError):
        Staged(broken)(Job(tmp_path / "a", tmp_path / "c.png"))
    assert set(contents(tmp_path)) == {"sub/b.png", "sub/b.png.json"}
    assert "No such file" in place(job.target, again)


def test_workers_say_what_they_do_not_see(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    (tmp_path / "mark").write_text("word")
    setting = cluster._Setting.here([Path("a.png")], (Path("mark"), "word"))
    assert setting.problem() is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "mark"]
    wrong = {
        "has no folder": {"folder": str(tmp_path / "nowhere")},
        "does not see b.png": {"reads": [Path("a.png"), Path("b.png")]},
        "cannot write to": {"mark": (Path("mark"), "another")},
        "Install the same version": {"version": "0.0.0"},
    }
    for words, change in wrong.items():
        assert words in replace(setting, **change).problem()


# With one


@slow
def test_500_pictures_whose_workers_are_killed(tmp_path):
    """Nothing is lost and nothing repeated: each file is put down once, with the bytes it has
    without Ray, though both workers are killed while they work.
    """
    gt, out = pictures(tmp_path / "gt", 500), tmp_path / "out"
    line = ("degrade", gt, "--preset", "severe", "--seed", 3)
    run(*line, "-o", tmp_path / "plain")
    process, said = command(*line, "-o", out, "--ray", "local", "--workers", 2, "--json")
    first_seen, killed = {}, []
    while process.poll() is None:
        there = written(out) if out.exists() else {}
        first_seen = there | first_seen
        if len(killed) < 2 and len(there) >= 100 * (1 + len(killed)):
            victim = next(pid for pid in workers(process.pid) if pid not in killed)
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
        time.sleep(0.05)
    stdout, stderr = finish(process, said)
    assert len(killed) == 2 and len(first_seen) >= 200
    summary = json.loads(stdout)
    assert len({entry["output"] for entry in summary["done"]}) == len(summary["done"]) == 500
    assert not summary["failed"] and not summary["skipped"]
    assert written(out).items() >= first_seen.items(), "a finished picture was put down again"
    assert contents(out) == contents(tmp_path / "plain")
    assert "raylet" not in stdout + stderr

    before = written(out)
    stdout, _ = run(*line, "-o", out, "--ray", "local", "--workers", 2, "--json")
    assert len(json.loads(stdout)["skipped"]) == 500 and written(out) == before


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A module whose work writes down what it does, that workers can import too."""
    (tmp_path / "workshop.py").write_text(
        "import functools, os, signal\n"
        "from dataclasses import dataclass\n"
        "from pathlib import Path\n"
        "from facewright.core.files.writing import written_whole\n"
        "def once(path):\n"
        "    try:\n"
        "        path.touch(exist_ok=False)\n"
        "    except FileExistsError:\n"
        "        return False\n"
        "    return True\n"
        "def die():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "@dataclass(frozen=True)\n"
        "class Work:\n"
        "    log: Path\n"
        "    def say(self, *words):\n"
        "        with self.log.open('a') as file:\n"
        "            print(*words, os.getpid(), file=file)\n"
        "    @functools.cached_property\n"
        "    def model(self):\n"
        "        self.say('load', '-')\n"
        "        if once(self.log.with_name('load.died')):\n"
        "            die()\n"
        "        return 1\n"
        "    def __call__(self, job):\n"
        "        self.model\n"
        "        name = job.source.name\n"
        "        self.say('begin', name)\n"
        "        if name == 'poison':\n"
        "            die()\n"
        "        with written_whole(job.target) as file:\n"
        "            file.write_text(f'{name} by {os.getpid()}')\n"
        "        if name == 'unheard' and once(self.log.with_name('unheard.died')):\n"
        "            die()\n"
        "        return {'pid': os.getpid()}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    import workshop

    return workshop


@slow
def test_each_kind_of_loss(tmp_path, workshop):
    """A worker dies while it loads models, after its work but before its answer, and over a
    picture that kills every worker.
    """
    names = ["unheard", "poison", *map(str, range(30))]
    jobs = [Job(tmp_path / name, tmp_path / "out" / name) for name in names]
    team, told = RayTeam("local", 2, writes=tmp_path / "out"), []
    work = workshop.Work(tmp_path / "log")
    summary = run_jobs(jobs, work, workers=team, on_job=lambda job, why: told.append((job, why)))
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    begun = [name for verb, name, _ in lines if verb == "begin"]
    loads = [pid for verb, _, pid in lines if verb == "load"]

    [(path, why)] = summary.failed.items()
    assert path.name == "poison" and f"{ATTEMPTS} times on different workers" in why
    assert "perhaps for lack of memory" in why
    assert begun.count("poison") == ATTEMPTS and begun.count("unheard") == 2
    assert all(begun.count(name) == 1 for name in names[2:])
    assert [Path(entry["input"]).name for entry in summary.done] == ["unheard", *names[2:]]
    for entry in summary.done:  # what lies there is what was answered for
        expected = f"{Path(entry['input']).name} by {entry['pid']}"
        assert Path(entry["output"]).read_text() == expected
    assert len(contents(tmp_path / "out")) == 31, "leftovers"
    assert len(told) == 32 and sum(why is not None for _, why in told) == 1
    assert len(loads) == len(set(loads)), "models were loaded twice in one worker"
    assert team.alive == 0

    # What is finished is not begun again.
    again = run_jobs(jobs, work, workers=RayTeam("local", 2, writes=tmp_path / "out"))
    assert len(again.skipped) == 31 and list(again.failed) == [path]


@slow
def test_ctrl_c_leaves_what_is_finished_and_nothing_else(tmp_path):
    gt, out = pictures(tmp_path / "gt", 150), tmp_path / "out"
    line = ("degrade", gt, "--preset", "severe")
    line_ray = (*line, "-o", out, "--ray", "local", "--workers", 2)
    process, said = command(*line_ray, start_new_session=True)
    while process.poll() is None and len(list(out.glob("*.png"))) < 20:
        time.sleep(0.05)
    cluster_processes = [pid for pid, _ in descendants(process.pid)]
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = finish(process, said, code=130)
    assert "run the same command again" in stderr
    left = contents(out)
    assert 20 <= len(left) - 1 < 150
    assert not [name for name in left if name.startswith(".")]
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in cluster_processes):
        assert time.monotonic() < deadline, "Ray goes on"
        time.sleep(0.2)
    stdout, _ = run(*line_ray, "--json")
    assert len(json.loads(stdout)["skipped"]) == len(left) - 1
    run(*line, "-o", tmp_path / "plain")
    assert contents(out) == contents(tmp_path / "plain")


@slow
def test_every_command_gives_the_bytes_it_gives_without_ray(tmp_path):
    gt = faces(tmp_path / "gt", 4)
    lines = {
        "lq": ("degrade", gt, "--preset", "mild"),
        "restored": ("restore", tmp_path / "lq", "--weights", "nano", "--receipts", "--compare"),
        "people": ("restore", tmp_path / "lq", "--weights", "nano", "--reference", gt),
        "made": ("synthesize", gt, "--weights", "nano", "--copies", 1, "--steps", 2),
        "report": (
            "evaluate", tmp_path / "restored", "--gt", gt, "--faces", "nano",
        ),
    }  # fmt: skip
    for name, line in lines.items():
        run(*line, "-o", tmp_path / name, "--workers", 1)
        run(*line, "-o", tmp_path / f"{name}_ray", "--ray", "local", "--workers", 2)
        mine, theirs = contents(tmp_path / name), contents(tmp_path / f"{name}_ray")
        assert mine.keys() == theirs.keys()
        assert [n for n in mine if mine[n] != theirs[n]] == [], name


@pytest.fixture
def head(tmp_path):
    """The address of a running cluster of one CPU, and what starts further machines of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    started = []
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}

    def start(*args):
        line = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
        kinds = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started.append(
            subprocess.Popen([*line, *args], env=environment, start_new_session=True, **kinds)
        )
        return started[-1]

    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as sockets:
        start(
            "--head", "--node-ip-address=127.0.0.1", f"--port={address.rpartition(':')[2]}",
            "--include-dashboard=false", f"--temp-dir={sockets}",
        )  # fmt: skip
        yield address, start
        for process in started:
            for pid, _ in [*descendants(process.pid), (process.pid, "")]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()


@slow
def test_a_cluster_that_runs_loses_a_machine(tmp_path, head, monkeypatch):
    address, start = head
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    gt, out = pictures(tmp_path / "gt", 600), tmp_path / "out"
    line = ("degrade", gt, "--preset", "severe")
    run(*line, "-o", tmp_path / "plain")
    host, _, port = address.rpartition(":")
    while socket.socket().connect_ex((host, int(port))):
        time.sleep(0.2)
    machine = start(f"--address={address}")
    process, said = command(*line, "-o", out, "--ray", address, "--workers", 2, "--json")
    lost = False
    while process.poll() is None:
        if not lost and len(list(out.glob("*.png"))) >= 20 and workers(machine.pid):
            time.sleep(0.5)  # so that it has work
            for pid, _ in descendants(machine.pid):
                os.kill(pid, signal.SIGKILL)
            lost = True
        time.sleep(0.05)
    stdout, _ = finish(process, said)
    assert lost
    assert len(json.loads(stdout)["done"]) == 600
    assert contents(out) == contents(tmp_path / "plain")


@slow
def test_an_address_where_nothing_is(tmp_path):
    gt = pictures(tmp_path / "gt", 2)
    args = ("degrade", gt, "-o", tmp_path / "out", "--ray", "127.0.0.1:9")
    _, stderr = run(*args, code=1)
    assert "No Ray cluster could be joined at 127.0.0.1:9" in stderr and "Traceback" not in stderr
