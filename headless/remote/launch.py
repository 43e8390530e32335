"""Starts a ComfyUI of this machine for a run of workflows, and stops it afterwards."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...core.errors import FacewrightError
from ...core.weights.model_folders import comfyui_path
from ..runner import node_classes
from ..workflows.workflow import WorkflowError
from .address import Server
from .http_client import get
from .server import answers

_START_SECONDS = 600.0
_STOP_SECONDS = 20.0
_PACK = Path(__file__).resolve().parents[2]
_HAS_ACCELERATOR = (
    "import torch; a = getattr(torch, 'accelerator', None); "
    "print(a.is_available() if a else torch.cuda.is_available() or "
    "torch.backends.mps.is_available())"
)


@contextmanager
def started_comfyui(
    kinds: Collection[str],
    arguments: Sequence[str] = (),
    on_wait: Callable[[str], None] = lambda text: None,
) -> Iterator[str]:
    """Yields the address of a ComfyUI that runs as long as the block does.

    It is the one `COMFYUI_PATH` names, else comfy-cli's, on a free port of this machine. Where all
    node classes are ours or ComfyUI's own, other packs are not loaded: they cost time and may fail.
    What it saves stays in a temporary folder.

    Args:
        kinds: classes of the nodes to run.
        arguments: more for its command line, such as --lowvram.
        on_wait: told what is being waited for.

    Raises:
        FacewrightError: no ComfyUI, not installed in it, or it does not start (its last words are
            told).
    """
    folder = comfyui_folder()
    python = comfyui_python(folder)
    pack = installed_as(folder)
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="facewright_run_") as scratch:
        command = [python, str(folder / "main.py"), "--listen", "127.0.0.1", "--port", str(port)]
        command += ["--disable-auto-launch", "--database-url", "sqlite:///:memory:"]
        command += ["--output-directory", scratch]
        if set(kinds) <= node_classes().keys():
            command += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", pack]
        if "--cpu" not in arguments and not _has_accelerator(python):
            command.append("--cpu")
        log = Path(scratch) / "comfyui.log"
        on_wait(f"Starting the ComfyUI in {folder}")
        with log.open("wb") as output:
            try:
                process = subprocess.Popen(
                    [*command, *arguments],
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    # Ctrl-C is for us, who then stop it: the first on POSIX, the other on Windows.
                    start_new_session=True,
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                )
            except OSError as error:
                raise _no_python(python, error) from error
        address = f"http://127.0.0.1:{port}"
        with _stopped_in_the_end(process):
            _wait(process, address, folder, log)
            yield address


def comfyui_folder() -> Path:
    """The ComfyUI of this machine.

    Raises:
        FacewrightError: there is none where `model_folders.comfyui_path` looks.
    """
    found = comfyui_path()
    if found is None:
        named = os.environ.get("COMFYUI_PATH")
        where = f"COMFYUI_PATH names {named}, which has no main.py" if named else "none was found"
        raise FacewrightError(
            f"There is no ComfyUI to start: {where}. Install one with comfy-cli (`comfy install`), "
            "or let COMFYUI_PATH name the folder that its main.py lies in."
        )
    return found


def comfyui_python(folder: Path) -> str:
    """The interpreter of a ComfyUI: `COMFYUI_PYTHON`, its own environment, else this one."""
    inside = ("bin/python", "Scripts/python.exe")
    own = [folder / env / path for env in (".venv", "venv") for path in inside]
    own += [folder.parent / "python_embeded" / "python.exe"]  # the portable Windows version
    found = next((str(path) for path in own if path.is_file()), sys.executable)
    return os.environ.get("COMFYUI_PYTHON") or found


def installed_as(folder: Path) -> str:
    """The name of this pack's folder among the custom nodes of a ComfyUI.

    Raises:
        FacewrightError: it is not there.
    """
    nodes = folder / "custom_nodes"
    for path in sorted(nodes.iterdir()) if nodes.is_dir() else ():
        about = path / "pyproject.toml"
        if path.resolve() == _PACK or (about.is_file() and 'name = "facewright"' in about.read_text(
            encoding="utf-8", errors="replace"
        )):  # fmt: skip
            return path.name
    raise FacewrightError(
        f"facewright is not among the custom nodes of the ComfyUI in {folder}. Put it there: "
        f"`comfy node install facewright`, or link or clone its folder into {nodes}."
    )


def _has_accelerator(python: str) -> bool:
    try:
        answer = subprocess.run(
            [python, "-c", _HAS_ACCELERATOR], check=False, capture_output=True, text=True
        )
    except OSError as error:
        raise _no_python(python, error) from error
    return answer.stdout.strip() != "False"  # where torch is broken, ComfyUI tells better


def _no_python(python: str, error: OSError) -> FacewrightError:
    return FacewrightError(
        f"ComfyUI's Python, {python}, cannot be started ({error.strerror}). Let COMFYUI_PYTHON "
        "name the interpreter of its environment."
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(process: subprocess.Popen, address: str, folder: Path, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            get(Server.of(address), "/system_stats", dict[str, Any], timeout=5)
            break
        except WorkflowError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise FacewrightError(
                f"The ComfyUI in {folder} did not start. Its last words:\n{_last_words(log)}"
            )
        time.sleep(0.3)
    if not answers(address, timeout=30):
        raise FacewrightError(
            f"The ComfyUI in {folder} started without facewright's nodes. Its log says why:\n"
            f"{_last_words(log, about='facewright')}"
        )


def _last_words(log: Path, about: str | None = None) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    told = [line for line in lines if about in line] if about else []
    return "\n".join((told or lines)[-15:])


@contextmanager
def _stopped_in_the_end(process: subprocess.Popen) -> Iterator[None]:
    """Also by a second Ctrl-C, and by a SIGTERM that nobody else turns into an exception."""

    def leave(number: int, frame: Any) -> None:
        sys.exit(128 + number)  # through the finally below, which a plain end would skip

    alone = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    alone = alone and threading.current_thread() is threading.main_thread()
    if alone:
        signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        try:
            process.terminate()
            process.wait(_STOP_SECONDS)
        except BaseException as error:
            process.kill()
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
        finally:
            if alone:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
