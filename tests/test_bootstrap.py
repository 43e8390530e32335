"""Set-up logic, without a network: what is installed when, and what is run with what."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "bootstrap.py"


@pytest.fixture
def bootstrap():
    spec = importlib.util.spec_from_file_location("facewright_bootstrap", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pyproject.toml").write_text("a")
    (tmp_path / "constraints.txt").write_text("b")
    return tmp_path


@pytest.fixture
def calls(bootstrap, monkeypatch):
    """Records what would be run; making an environment makes its interpreter's file."""
    seen = []

    def fake_run(command, **options):
        seen.append([str(c) for c in command])
        if command[1:3] == ["-m", "venv"]:
            python = bootstrap.venv_python(Path(command[3]))
            python.parent.mkdir(parents=True)
            python.touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(bootstrap.subprocess, "run", fake_run)
    return seen


def test_standard_library_only():
    tree = ast.parse(FILE.read_text())
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert imported <= set(sys.stdlib_module_names)


def test_installs_once_and_again_when_the_pins_change(bootstrap, project, calls):
    venv = project / ".venv"
    bootstrap.set_up("headless", venv, project)
    assert [c[1:3] for c in calls] == [["-m", "venv"], ["-m", "pip"]]
    assert calls[1][-4:] == [
        "-c", str(project / "constraints.txt"), "-e", f"{project}[headless]"
    ]  # fmt: skip
    bootstrap.set_up("headless", venv, project)
    assert len(calls) == 2
    (project / "constraints.txt").write_text("c")
    bootstrap.set_up("headless", venv, project)
    assert len(calls) == 3 and calls[2][1:3] == ["-m", "pip"]


def test_dev_contains_headless_but_not_the_other_way_round(bootstrap, project, calls):
    venv = project / ".venv"
    bootstrap.set_up("headless", venv, project)
    bootstrap.set_up("dev", venv, project)
    assert len(calls) == 3
    bootstrap.set_up("headless", venv, project)
    assert len(calls) == 3


def test_the_site_is_not_part_of_dev(bootstrap, project, calls):
    venv = project / ".venv"
    bootstrap.set_up("dev", venv, project)
    bootstrap.set_up("docs", venv, project)
    assert len(calls) == 3 and calls[-1][-1] == f"{project}[docs]"
    bootstrap.set_up("docs", venv, project)
    assert len(calls) == 3


def test_a_failed_installation_is_not_remembered(bootstrap, project, calls, monkeypatch):
    working = bootstrap.subprocess.run

    def failing(command, **options):
        code = 1 if "pip" in command else 0
        return subprocess.CompletedProcess(command, working(command).returncode or code)

    monkeypatch.setattr(bootstrap.subprocess, "run", failing)
    with pytest.raises(SystemExit):
        bootstrap.set_up("headless", project / ".venv", project)
    monkeypatch.setattr(bootstrap.subprocess, "run", working)
    bootstrap.set_up("headless", project / ".venv", project)
    assert sum("pip" in c for c in calls) == 2


def test_interpreter_per_platform(bootstrap):
    expected = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    assert bootstrap.venv_python(Path("v")).as_posix() == f"v/{expected}"


def test_further_arguments_reach_the_last_step(bootstrap, calls, monkeypatch):
    monkeypatch.setattr(bootstrap, "set_up", lambda extra: None)
    bootstrap.main(["test", "-k", "lora"])
    assert calls[0][1:4] == ["-m", "ruff", "check"]
    assert calls[-1][1:3] == ["-m", "pytest"] and calls[-1][-2:] == ["-k", "lora"]


def test_benchmarks_run_by_name(bootstrap, calls, monkeypatch, capsys):
    monkeypatch.setattr(bootstrap, "set_up", lambda extra: None)
    monkeypatch.setattr(bootstrap, "benchmarks", lambda root: ["speed"])
    bootstrap.main(["bench", "speed", "--faces", "2"])
    assert calls[-1][1:] == ["-m", "facewright.benchmarks.speed", "--faces", "2"]
    with pytest.raises(SystemExit) as stop:
        bootstrap.main(["bench", "nope"])
    assert stop.value.code == 2 and "speed" in capsys.readouterr().out


def test_installed_runs_this_python_and_this_folder(bootstrap, calls, monkeypatch):
    monkeypatch.setattr(bootstrap, "set_up", lambda extra: pytest.fail("installs"))
    monkeypatch.setattr(bootstrap, "benchmarks", lambda root: ["speed"])
    monkeypatch.setenv("PYTHONPATH", "kept")
    bootstrap.main(["--installed", "bench", "speed", "--faces", "2"])
    assert calls == [[sys.executable, "-m", "facewright.benchmarks.speed", "--faces", "2"]]
    assert os.environ["PYTHONPATH"].endswith(f"{os.pathsep}kept")


def test_a_folder_of_any_name_is_the_package(bootstrap, tmp_path, monkeypatch):
    checkout = tmp_path / "some 'place'-main"
    (checkout / "core").mkdir(parents=True)
    (checkout / "__init__.py").write_text("from .core import NAME\nHERE = __file__\n")
    (checkout / "core" / "__init__.py").write_text("NAME = 'found'\n")
    monkeypatch.setattr(bootstrap, "ROOT", checkout)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "pointer").mkdir()
    bootstrap.point_here(tmp_path / "pointer")
    code = "import facewright, facewright.core as c; print(facewright.HERE, c.__file__, c.NAME)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.count(str(checkout)) == 2 and done.stdout.strip().endswith("found")


def test_wrong_usage_shows_help(bootstrap, capsys):
    with pytest.raises(SystemExit) as stop:
        bootstrap.main(["dance"])
    assert stop.value.code == 2 and "bootstrap.py demo" in capsys.readouterr().out
