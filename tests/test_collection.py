"""Tests are called the same in every process: parallel workers refuse to run otherwise."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHANGING = {"time", "datetime", "random", "uuid", "urandom", "tempfile", "mkdtemp", "id", "hash",
            "getpid", "SystemRandom", "token_hex", "set", "frozenset"}  # fmt: skip
"""Names whose values differ from process to process, or come in another order."""


def unsteady(source):
    """Lines of parametrizations whose values may differ between two processes."""
    for node in ast.parse(source).body:  # tests are functions of a module
        decorators = getattr(node, "decorator_list", [])
        for part in (p for d in decorators for p in ast.walk(d)):
            if isinstance(part, (ast.Set, ast.SetComp)):
                yield part.lineno
            if not isinstance(part, ast.Call):
                continue
            names = {n.id for n in ast.walk(part.func) if isinstance(n, ast.Name)}
            names |= {n.attr for n in ast.walk(part.func) if isinstance(n, ast.Attribute)}
            ordered = isinstance(part.func, ast.Name) and part.func.id == "sorted"
            compressed = {"gzip", "compress"} <= names and "mtime" not in {
                k.arg for k in part.keywords
            }
            if (names & CHANGING and not ordered) or compressed:
                yield part.lineno


def test_no_parametrization_looks_at_the_clock_or_draws():
    found = set()
    for file in sorted(HERE.rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        lines = source.splitlines()
        found |= {
            f"{file.relative_to(HERE)}:{line}"
            for line in unsteady(source)
            if "sorted(" not in lines[line - 1]
        }
    assert not found


@pytest.mark.parametrize(
    "decorator",
    ["time.time()", "[gzip.compress(b'x')[2:]]", "{1, 2}", "list(set('ab'))", "random.random()"],
)
def test_what_changes_is_found(decorator):
    assert list(unsteady(f"@parametrize('a', {decorator})\ndef test(a): ..."))
    assert not list(unsteady("@parametrize('a', [gzip.compress(b'x', mtime=0)])\ndef test(a): ..."))


COLLECT = """
import random, sys, time
ahead = float(sys.argv[1])
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + ahead
time.time_ns = lambda: real_ns() + int(ahead * 1e9)
random.seed(ahead)
import pytest
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""


@pytest.mark.slow  # each imports torch and every test file: 15 seconds
def test_two_processes_collect_the_same_tests():
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COLLECT, ahead, "-m", "slow or not slow", str(HERE)],
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            cwd=HERE.parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        for ahead, seed in (("0", "1"), ("90061.7", "2"))
    ]
    found = [
        [line for line in p.communicate(timeout=600)[0].splitlines() if "::" in line]
        for p in processes
    ]
    assert all(p.returncode == 0 for p in processes)
    assert found[0] == found[1] and len(found[0]) > 1000
