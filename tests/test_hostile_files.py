"""The campaign of hostile files: it counts what it says it counts, and some cases of it hold."""

import json
import os
import subprocess
import sys

import pytest
from facewright.benchmarks import hostile_files
from facewright.benchmarks._hostile import KINDS, prepared
from facewright.benchmarks._hostile.child import _tried
from facewright.benchmarks._hostile.watch import MARK, Room, Told, Wrong
from facewright.core.errors import FacewrightError
from facewright.core.files.writing import expand_path

CHEAP = ["pictures", "LoRA files", "safetensors bytes", "pickles", "output names"]


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path)


def outcome(room, function):
    return _tried(lambda rng: room.watch(function), "1/x/0", room)


def raising(error):
    def function():
        raise error

    return function


def test_outcomes_are_told_apart(room):
    found = [
        outcome(room, f)["outcome"]
        for f in (
            lambda: 1,
            lambda: expand_path("$NOT_SET_ANYWHERE/x"),
            raising(FacewrightError("Torn \x1b[31m.")),
            raising(FacewrightError("")),
            raising(KeyError("x")),
            raising(MemoryError()),
            raising(Wrong("x")),
        )
    ]
    assert found == ["result", "sentence", "wrong", "wrong", "traceback", "traceback", "wrong"]
    assert isinstance(room.watch(open, room.given / "no"), Told)

    def torn():
        (room.out / "x.tmp").touch()
        raise FacewrightError("Refused.")

    assert outcome(room, torn)["outcome"] == "wrong"


@pytest.mark.parametrize(
    "run",
    [
        lambda: os.system(""),
        lambda: subprocess.run([sys.executable, "-V"], check=False, capture_output=True),
        lambda: eval(f"1 # {MARK}"),  # noqa: S307
    ],
)
def test_code_that_runs_is_counted(room, run):
    assert outcome(room, run)["code"]


def test_files_outside_are_counted(room):
    secret = room.secret / "x"
    secret.touch()
    for act in (
        lambda: (room.folder / "new").touch(),
        lambda: (room.given / "new").write_text("x"),
        lambda: (room.given / "folder").mkdir(),
        lambda: os.rename(room.given / "new", room.out / "new"),
        secret.read_bytes,
        secret.unlink,
    ):
        assert outcome(room, act)["outside"], act
    assert not outcome(room, lambda: (room.out / "new").write_text("x"))["outside"]


def test_a_hang_and_a_death_are_counted_and_the_rest_goes_on(monkeypatch, tmp_path):
    script = (
        "import sys, time, json; first = int(sys.argv[1]); print('ready', flush=True)\n"
        "for i in range(first, 5):\n"
        "    if i == 1: time.sleep(60)\n"
        "    if i == 3: sys.exit(9)\n"
        "    print(json.dumps({'outcome': 'result', 'seconds': 0}), flush=True)\n"
    )

    def started(kind, seed, first, end, folder):
        command = [sys.executable, "-S", "-c", script, str(first)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    monkeypatch.setattr(hostile_files, "started", started)
    outcomes = list(hostile_files.tried("x", 1, 5, tmp_path, patience=0.5))
    assert [o["outcome"] for o in outcomes] == ["result", "hang", "result", "death", "result"]
    row, faults = hostile_files.counted("x", outcomes)
    assert row["hangs"] == row["deaths"] == 1 and len(faults) == 2
    assert "| x | 5 | 3 |" in hostile_files.report([row])


@pytest.mark.parametrize("kind", CHEAP)
def test_a_few_cases(kind, room):
    case = prepared(kind, room)
    for number in range(5):
        found = _tried(case, f"test/{kind}/{number}", room)
        assert found["outcome"] in ("result", "sentence"), found
        assert not found["code"] and not found["outside"], found


def test_the_figures_in_the_docs_are_those_recorded():
    result = json.loads((hostile_files.RESULTS / "hostile_files.json").read_text())
    page = (hostile_files.RESULTS.parents[1] / "docs/robustness.md").read_text(encoding="utf-8")
    assert hostile_files.report(result["rows"]) in page
    assert [row["kind"] for row in result["rows"]] == list(KINDS)


@pytest.mark.slow
def test_some_cases_of_every_kind():
    _, faults = hostile_files.campaign(KINDS, 2, most=5, say=lambda text: None)
    assert not faults
