"""What Windows and macOS would not do, as far as it can be seen elsewhere."""

import ast
import itertools
from pathlib import Path

import pytest
import torch
from facewright.core.checkpoint.values import load_values, save_values
from facewright.core.files import writing
from facewright.headless.jobs import workers

ROOT = Path(__file__).parents[1]
SOURCES = [path for room in ("core", "headless", "nodes", "training")
           for path in (ROOT / room).rglob("*.py")]  # fmt: skip
POSIX_ONLY = {"fcntl", "grp", "posix", "pwd", "resource", "termios", "tty"}
POSIX_NAMES = {
    *("os." + name for name in (
        "fork", "forkpty", "geteuid", "getuid", "kill", "killpg", "mkfifo", "sched_getaffinity",
        "setsid", "statvfs", "uname", "wait", "waitpid",
    )),
    *("signal." + name for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "alarm")),
}  # fmt: skip
"""Not there on Windows, or another thing: `os.kill(process, 0)` sends Ctrl-C."""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_a_file_that_is_written_again_is_not_mapped_by_what_was_read(tmp_path):
    """Windows refuses to replace or delete it."""
    save_values(tmp_path / "part.safetensors", [torch.rand(64, 64)])
    kept = load_values(tmp_path / "part.safetensors", list[torch.Tensor])
    assert kept[0].shape == (64, 64)
    assert "part.safetensors" not in Path("/proc/self/maps").read_text()


def busy_for(monkeypatch, attempts):
    """As Windows while another program has the file open for that many attempts to replace it."""
    replace, tried = Path.replace, itertools.count(1)

    def replaced(self, target):
        if next(tried) <= attempts:
            raise PermissionError(13, "in use", str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replaced)
    monkeypatch.setattr(writing, "_PAUSES", (0, 0))


def test_a_file_that_is_open_for_a_moment_is_replaced_all_the_same(tmp_path, monkeypatch):
    busy_for(monkeypatch, 2)
    with writing.written_whole(tmp_path / "a.txt") as temporary:
        temporary.write_bytes(b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"new"]


def test_a_file_that_stays_open_is_an_error_and_stays(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(b"old")
    busy_for(monkeypatch, 3)
    with (
        pytest.raises(PermissionError, match="in use"),
        writing.written_whole(tmp_path / "a.txt") as temporary,
    ):
        temporary.write_bytes(b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_no_more_processes_than_windows_can_wait_for(monkeypatch):
    monkeypatch.setattr(workers, "_MOST_PROCESSES", 2)
    with workers.Processes(5).gathered(print) as room:
        assert room == 2


def uses_of_one_system(path):
    """Modules and functions that Windows does not have, unless their lack is expected."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    expected = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        and any("suppress(ImportError" in ast.unparse(item) for item in node.items)
        for inner in ast.walk(node)
    }
    for node in set(ast.walk(tree)) - expected:
        said = f"{path.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import) and {a.name for a in node.names} & POSIX_ONLY:
            yield said
        if isinstance(node, ast.Attribute) and ast.unparse(node) in POSIX_NAMES:
            yield f"{said} {ast.unparse(node)}"
        starts = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("get_context")
        if starts and ast.unparse(node.args[0]) != "'spawn'":
            yield f"{said} starts processes otherwise than by spawn"


def test_nothing_needs_what_only_posix_has():
    assert [use for path in SOURCES for use in uses_of_one_system(path)] == []


def test_names_of_the_repository_fit_every_system():
    """No two differ in case alone, and none is a device or has a letter that Windows refuses."""
    for folder in {path.parent for path in SOURCES} | {ROOT / "docs", ROOT / "workflows"}:
        names = [path.name for path in folder.iterdir()]
        assert len({name.casefold() for name in names}) == len(names), folder
        for name in names:
            assert not set(name) & set('<>:"\\|?*') and name[-1] not in ". ", name
            assert name.split(".")[0].casefold() not in {"con", "prn", "aux", "nul"}, name
