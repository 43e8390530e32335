"""The versions of ComfyUI that are promised, tested and written down are the same ones."""

import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from facewright.core.doctor import conflicts

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "versions.py"
about = runpy.run_path(str(SCRIPT))
COMFYUI = about["versions"]()


def numbers(version):
    return tuple(map(int, version.split(".")))


def test_the_oldest_tested_is_the_oldest_promised():
    assert list(COMFYUI) == sorted(COMFYUI, key=numbers)
    oldest = next(iter(COMFYUI))
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["comfy"]
    assert told["requires-comfyui"] == f">={oldest}"
    assert numbers(oldest) == conflicts.NEEDS_COMFYUI
    assert f"ComfyUI {oldest} or newer" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_pages_name_what_is_tested():
    for path in about["PAGES"]:
        page = path.read_text(encoding="utf-8")
        assert about["with_table"](page) == page, "python docs/versions.py"
    page = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
    for comfyui, frontends in COMFYUI.items():
        assert re.search(
            rf"^\| {re.escape(comfyui)} \| {', '.join(frontends)} \|$", page, re.MULTILINE
        )


def test_ci_runs_each_of_them():
    done = subprocess.run([sys.executable, SCRIPT, "--ci"], check=True, capture_output=True)
    listed = json.loads(done.stdout)
    assert {(one["comfyui"], one["frontend"]) for one in listed} == {
        (comfyui, frontend) for comfyui, names in COMFYUI.items() for frontend in names
    }
    path = ROOT / ".github" / "workflows" / "tests.yml"
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    lists = [step["run"] for step in jobs["versions"]["steps"] if "run" in step]
    assert any("docs/versions.py --ci" in run for run in lists)
    assert (
        jobs["comfyui"]["strategy"]["matrix"]["tried"]
        == "${{ fromJSON(needs.versions.outputs.pairs) }}"
    )
