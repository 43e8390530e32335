"""Finding the ComfyUI that `run --comfy` starts, and what is said where there is none."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from facewright.core.errors import FacewrightError
from facewright.headless.remote import launch
from facewright.headless.remote.launch import (
    comfyui_folder,
    comfyui_python,
    installed_as,
    started_comfyui,
)

PACK = Path(launch.__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("COMFYUI_PATH", "COMFYUI_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def comfyui(folder):
    (folder / "custom_nodes").mkdir(parents=True)
    (folder / "main.py").write_text("import sys; sys.exit('no such luck')\n")
    return folder


def test_the_environment_comes_before_comfy_clis_default_before_the_usual_place(home, monkeypatch):
    with pytest.raises(FacewrightError, match=r"none was found.*comfy install"):
        comfyui_folder()
    usual = comfyui(home / "comfy" / "ComfyUI")
    assert comfyui_folder() == usual
    noted, gone = comfyui(home / "elsewhere"), home / "gone"
    config = home / ".config" / "comfy-cli" / "config.ini"
    config.parent.mkdir(parents=True)
    config.write_text(
        f"[DEFAULT]\ndefault_workspace = {gone}\nrecent_workspace = {noted}\nx = 5%\n"
    )
    assert comfyui_folder() == noted
    config.write_text("no configuration")
    assert comfyui_folder() == usual
    named = comfyui(home / "named")
    monkeypatch.setenv("COMFYUI_PATH", str(named))
    assert comfyui_folder() == named
    monkeypatch.setenv("COMFYUI_PATH", str(gone))
    with pytest.raises(FacewrightError, match=r"gone, which has no main.py"):
        comfyui_folder()


def test_its_own_python_comes_before_ours(home, monkeypatch):
    folder = comfyui(home / "c")
    assert comfyui_python(folder) == sys.executable
    own = folder / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.touch()
    assert comfyui_python(folder) == str(own)
    monkeypatch.setenv("COMFYUI_PYTHON", "/named")
    assert comfyui_python(folder) == "/named"


def test_the_pack_is_found_under_any_name(home):
    folder = comfyui(home / "c")
    with pytest.raises(FacewrightError, match=r"not among the custom nodes.*comfy node install"):
        installed_as(folder)
    (folder / "custom_nodes" / "other").mkdir()
    (folder / "custom_nodes" / "a copy").mkdir()
    (folder / "custom_nodes" / "a copy" / "pyproject.toml").write_bytes(
        (PACK / "pyproject.toml").read_bytes()
    )
    assert installed_as(folder) == "a copy"


def test_a_comfyui_that_ends_at_once_has_its_last_words(home, monkeypatch):
    folder = comfyui(home / "c")
    (folder / "custom_nodes" / "ours").symlink_to(PACK, target_is_directory=True)
    monkeypatch.setenv("COMFYUI_PATH", str(folder))
    told = []
    with (
        pytest.raises(FacewrightError, match=r"did not start. Its last words:\nno such luck"),
        started_comfyui({"LoadImage"}, ["--cpu"], told.append),
    ):
        pass
    assert told == [f"Starting the ComfyUI in {folder}"]


def test_what_was_started_is_stopped_and_the_signal_is_for_whoever_takes_it():
    taken = []
    before = signal.signal(signal.SIGTERM, lambda *args: taken.append(args))
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with launch._stopped_in_the_end(process):
            os.kill(os.getpid(), signal.SIGTERM)
            assert taken and process.poll() is None
        assert process.poll() is not None
    finally:
        signal.signal(signal.SIGTERM, before)
        process.kill()


def test_a_second_interrupt_leaves_nothing_running(monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setattr(process, "terminate", lambda: os.kill(os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), launch._stopped_in_the_end(process):
            pass
        assert process.poll() is not None
    finally:
        signal.signal(signal.SIGINT, before)
        process.kill()
