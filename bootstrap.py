"""Sets facewright up beside this file and runs it; needs nothing but Python 3.11 or newer.

    python bootstrap.py demo     restore a bundled picture with the bundled models
    python bootstrap.py test     lint, check types and test
    python bootstrap.py bench    list the benchmarks; with a NAME, run one
    python bootstrap.py docs     build the documentation and serve it; with --build, only build it

Works the same on Linux, macOS and Windows. Everything is installed into the folder .venv, pinned by
constraints.txt; delete that folder to start afresh. With --installed before the command nothing is
installed: it runs with the packages of the Python that you start this with.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
MIN_PYTHON = (3, 11)

INSTALLED = "--installed"
EXTRAS = {"demo": "headless", "test": "dev", "bench": "dev", "docs": "docs"}
"""What each command needs; "dev" contains "headless", but not "docs"."""
STEPS = {
    "demo": [["-m", "facewright", "demo"]],
    "test": [["-m", "ruff", "check", "."], ["-m", "ruff", "format", "--check", "."],
             ["-c", "from importlinter.cli import lint_imports_command as go; go()",
              "--no-cache", "--no-logo"],
             ["-m", "basedpyright", "--project", "pyproject.toml"],  # not one in a folder above
             ["-m", "pytest", "-q", "-n", "auto", "--dist", "loadfile"]],
    "docs": [["-m", "facewright.docs.site"]],
}  # fmt: skip
"""What each command runs, by the Python of .venv; further arguments go to the last step. Tests run
on all cores, a file on one: what its fixtures build is built once."""


def benchmarks(root: Path) -> list[str]:
    """Names that `bench` takes."""
    return sorted(p.stem for p in (root / "benchmarks").glob("*.py") if p.stem[0] != "_")


def venv_python(venv: Path) -> Path:
    """The interpreter inside a virtual environment of this platform."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def fingerprint(root: Path) -> str:
    """Changes whenever what has to be installed changes."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {root}".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def is_installed(venv: Path, extra: str, wanted: str) -> bool:
    """Whether `extra`, or "dev" where that contains it, was installed for this fingerprint."""
    if not venv_python(venv).is_file():
        return False
    within = {extra} if extra == "docs" else {extra, "dev"}
    stamps = (venv / f".facewright-{name}" for name in within)
    return any(s.is_file() and s.read_text() == wanted for s in stamps)


def set_up(extra: str, venv: Path = VENV, root: Path = ROOT) -> None:
    """Make the virtual environment and install into it, unless that was done before."""
    wanted = fingerprint(root)
    if is_installed(venv, extra, wanted):
        return
    if not venv_python(venv).is_file():
        say(f"Making {venv}")
        run([sys.executable, "-m", "venv", str(venv)], hint=VENV_HINT)
    say("Installing the packages (PyTorch is large; this can take some minutes the first time)")
    pip = [str(venv_python(venv)), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    run([*pip, "-c", str(root / "constraints.txt"), "-e", f"{root}[{extra}]"], hint=PIP_HINT)
    (venv / f".facewright-{extra}").write_text(wanted)


POINTER = """import sys
from importlib.util import module_from_spec, spec_from_file_location

spec = spec_from_file_location(__name__, {init!r}, submodule_search_locations=[{root!r}])
sys.modules[__name__] = module = module_from_spec(spec)
spec.loader.exec_module(module)
"""
"""A package that is another folder."""


def point_here(folder: Path) -> None:
    """Let what is started from now on import this folder as `facewright`, whatever it is called."""
    package = folder / "facewright" / "__init__.py"
    package.parent.mkdir()
    package.write_text(POINTER.format(init=str(ROOT / "__init__.py"), root=str(ROOT)), "utf-8")
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *([known] if known else [])])


VENV_HINT = (
    "Python could not make a virtual environment. On Debian and Ubuntu, install python3-venv."
)
PIP_HINT = (
    "pip could not install everything. Its message above tells why: mostly no network, a full "
    "disk, or a Python that PyTorch does not support yet. Run the same command again afterwards."
)


def run(command: Sequence[str], *, hint: str = "", cwd: Path | None = None) -> None:
    """Run a program; where it fails, end with its exit code after saying what may help."""
    code = subprocess.run(command, cwd=cwd, check=False).returncode
    if code:
        if hint:
            say(hint)
        raise SystemExit(code)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> None:
    if sys.version_info < MIN_PYTHON:
        have = ".".join(map(str, sys.version_info[:3]))
        raise SystemExit(f"facewright needs Python 3.11 or newer; this is {have}.")
    installed = list(arguments[:1]) == [INSTALLED]
    arguments = arguments[1:] if installed else arguments
    if not arguments or arguments[0] not in EXTRAS:
        say((__doc__ or "").strip())
        raise SystemExit(0 if arguments and arguments[0] in {"-h", "--help"} else 2)
    command, further = arguments[0], list(arguments[1:])
    if command == "bench":
        names = benchmarks(ROOT)
        if not further or further[0] not in names:
            say(f"python bootstrap.py bench NAME; benchmarks: {', '.join(names)}")
            raise SystemExit(2 if further else 0)
        steps = [["-m", f"facewright.benchmarks.{further.pop(0)}"]]
    else:
        steps = STEPS[command]
    # The demo writes where the user stands; lint, tests and benchmarks belong to the repository.
    cwd = None if command == "demo" else ROOT
    *first, last = steps
    steps = [*first, [*last, *further]]
    if installed:
        with tempfile.TemporaryDirectory() as folder:
            point_here(Path(folder))
            for step in steps:
                run([sys.executable, *step], cwd=cwd)
        return
    set_up(EXTRAS[command])
    for step in steps:
        run([str(venv_python(VENV)), *step], cwd=cwd)


if __name__ == "__main__":
    main(sys.argv[1:])
