"""A process that is killed in the middle of a video loses what it had not finished, and no more."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .restore_doubles import video

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here"),
]


def restore(kill_at, *args):
    """Its exit code, and what it printed."""
    script = str(Path(__file__).with_name("killed.py"))
    return subprocess.run(
        [sys.executable, script, str(kill_at), "restore", *map(str, args), "--weights", "nano"],
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_a_killed_run_goes_on_and_comes_out_as_if_it_had_not_been(tmp_path):
    source = video(tmp_path / "in/clip.mp4", frames=30, size=(96, 128))
    args = (source.parent, "--receipts", "--max-drift", "0.2", "--crf", "20", "-o")
    once = tmp_path / "once"
    assert restore(0, *args, once).returncode == 0
    out = tmp_path / "out"
    for kill_at in (12, 11):  # in the second segment, and in the third
        killed = restore(kill_at, *args, out)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not (out / "clip.mp4").exists() and (out / ".clip.mp4.parts").is_dir()
    parts = {path.stem for path in (out / ".clip.mp4.parts").iterdir()}
    assert {"segment-000000", "segment-000001"} <= parts
    told = restore(0, *args, out, "--json")
    notes = json.loads(told.stdout)["done"][0]["notes"]
    # 30 frames looked at and 16 restored.
    assert any("46 of its steps, two for each frame, were done" in note for note in notes), notes
    files = sorted(path.name for path in out.iterdir())
    assert files == sorted(path.name for path in once.iterdir())
    assert all((out / name).read_bytes() == (once / name).read_bytes() for name in files)


def test_with_other_options_it_begins_anew(tmp_path):
    source = video(tmp_path / "in/clip.mp4", frames=20, size=(96, 128))
    out = tmp_path / "out"
    assert restore(12, source.parent, "-o", out).returncode == -signal.SIGKILL
    told = restore(0, source.parent, "-o", out, "--strength", "0.5", "--json")
    notes = json.loads(told.stdout)["done"][0]["notes"]
    assert any("made otherwise (other: settings); it was begun anew" in note for note in notes)
    assert not any(path.name.startswith(".") for path in out.iterdir())
    once = tmp_path / "once"
    assert restore(0, source.parent, "-o", once, "--strength", "0.5").returncode == 0
    assert (out / "clip.mp4").read_bytes() == (once / "clip.mp4").read_bytes()
    assert restore(12, source.parent, "-o", out, "--overwrite").returncode == -signal.SIGKILL
    told = restore(0, source.parent, "-o", out, "--overwrite", "--json")
    assert "Went on" not in told.stdout and not (out / ".clip.mp4.parts").exists()
