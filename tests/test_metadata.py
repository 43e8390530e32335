"""What the registry and PyPI are told, and what goes into the registry's archive."""

import ast
import fnmatch
import posixpath
import re
import runpy
import sys
import tomllib
import unittest.mock
from pathlib import Path

import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[1]
RAW = "raw.githubusercontent.com"
ABOUT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, COMFY = ABOUT["project"], ABOUT["tool"]["comfy"]
# https://docs.comfy.org/registry/specifications
ACCELERATORS = {
    "GPU :: NVIDIA CUDA", "GPU :: AMD ROCm", "GPU :: Intel Arc", "NPU :: Huawei Ascend",
    "GPU :: Apple Metal",
}  # fmt: skip
# Modules whose package has another name.
PACKAGES = {
    "PIL": "pillow", "cv2": "opencv-python-headless", "skimage": "scikit-image", "yaml": "pyyaml",
    "websocket": "websocket-client", "pydantic_core": "pydantic", "sklearn": "scikit-learn",
}  # fmt: skip
# ComfyUI itself; and packages that only who brings their weights installs, or that are looked for.
COMFYUI = {
    "comfy", "comfy_api", "comfy_execution", "comfyui_version", "folder_paths", "nodes", "server",
}  # fmt: skip
BROUGHT = {"insightface", "facexlib", "torchvision", "spandrel_extra_arches"}


def test_the_project_is_named_as_the_registry_wants_it():
    assert re.fullmatch(r"[a-z](?:[._-]?[a-z0-9])*", PROJECT["name"]) and len(PROJECT["name"]) < 100
    assert "comfyui" not in PROJECT["name"].lower()
    assert re.fullmatch(r"\d+\.\d+\.\d+", PROJECT["version"])
    assert PROJECT["description"] and PROJECT["license"] == "Apache-2.0"
    assert {"Repository", "Documentation", "Issues", "Bug Tracker"} <= PROJECT["urls"].keys()
    assert all(url.startswith("https://") for url in PROJECT["urls"].values())


def test_systems_and_accelerators_are_ones_the_registry_knows():
    marks = PROJECT["classifiers"]
    assert "Operating System :: OS Independent" in marks
    shown = {m.removeprefix("Environment :: ") for m in marks if m.startswith("Environment ::")}
    assert shown and shown <= ACCELERATORS


def test_the_registry_entry_is_complete():
    known = {"PublisherId", "DisplayName", "Icon", "Banner", "requires-comfyui", "includes"}
    assert known <= COMFY.keys() and all(COMFY[k] for k in known)
    assert re.fullmatch(r">=\d+\.\d+\.\d+", COMFY["requires-comfyui"])
    requirements = (ROOT / "requirements.txt").read_text().splitlines()
    ours = {re.split(r"[>=<]", r)[0] for r in PROJECT["dependencies"]}
    assert ours == {line for line in requirements if not line.startswith("#")}


@pytest.mark.parametrize(("key", "fits"), [("Icon", (1, 1, 400)), ("Banner", (21, 9, 4000))])
def test_pictures_lie_where_their_address_says(key, fits):
    base = f"{PROJECT['urls']['Repository'].replace('github.com', RAW)}/main/"
    assert COMFY[key].startswith(base)
    width, height = Image.open(ROOT / COMFY[key].removeprefix(base)).size
    wide, high, largest = fits
    assert width * high == height * wide and width <= largest


def _left_out(name):
    lines = (ROOT / ".comfyignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    if any(name.split("/")[0] == part for part in COMFY["includes"]):
        return False
    return any(
        name.startswith(p) if p.endswith("/") else fnmatch.fnmatch(name, p) for p in patterns
    )


def test_the_archive_has_what_runs_and_not_what_tests_it():
    for name in (
        "__init__.py", "__main__.py", "nodes/faces.py", "core/restorer.py", "headless/cli/run.py",
        "training/recipe.py", "weights/nano/nano_unet.safetensors", "workflows/nano_restore.json",
        "workflows/api/nano_restore.api.json", "web/docs/FacewrightCompare.md", "web/js/results.js",
        "locales/en/nodeDefs.json", "subgraphs/Restore faces in photo.json", "LICENSE", "NOTICE",
        "README.md", "requirements.txt", "pyproject.toml",
    ):  # fmt: skip
        assert not _left_out(name), name
    for name in (
        "tests/test_metadata.py", "benchmarks/x.py", "setup.py", ".ci/x", "docs/x.json",
        "docs/mkdocs.yml", "CITATION.cff", ".pre-commit-config.yaml", ".github/dependabot.yml",
    ):  # fmt: skip
        assert _left_out(name), name


def _pages():
    """Pages for people that the archive has, by name from the root."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "web").rglob("*.md")]
    return {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in pages}


def test_no_page_of_the_archive_names_a_file_that_it_leaves_out():
    dangling = []
    for page, text in _pages().items():
        prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
        # The editor puts one folder before the pictures of help pages in every language.
        folder = re.sub("^web/docs/.*", "web/docs", posixpath.dirname(page))
        for target in re.findall(r"\]\((?!https?:)([^)#:\s]+)[^)]*\)", prose):
            name = posixpath.normpath(posixpath.join(folder, target))
            if _left_out(name) or not (ROOT / name).exists():
                dangling.append(f"{page}: {target}")
    assert not dangling


def test_what_the_readme_says_to_run_is_in_the_archive():
    commands = re.findall(r"python (\w+\.py)", _pages()["README.md"])
    assert commands and not any(map(_left_out, commands))


def test_windows_reads_the_sources_in_its_own_encoding():
    """What opens a file without naming an encoding there takes cp1252, and so do other packs."""
    for path in ROOT.rglob("*.py"):
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts):
            path.read_text(encoding="utf-8").encode("cp1252")  # raises: name it by \N{...}


def test_setup_finds_every_package():
    """What is listed by hand is forgotten by hand: a wheel without one imports nothing."""
    found = []
    with unittest.mock.patch("setuptools.setup", lambda **given: found.extend(given["packages"])):
        runpy.run_path(str(ROOT / "setup.py"), run_name="__main__")
    rooms = ("core", "headless", "nodes", "training")
    files = [path for room in rooms for path in (ROOT / room).rglob("__init__.py")]
    folders = {"facewright." + ".".join(f.parent.relative_to(ROOT).parts) for f in files}
    assert set(found) == {"facewright", *folders}
    for room in rooms:  # a folder without __init__.py would be left out silently
        for path in (ROOT / room).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), path


def _declared(extra):
    """Names of the packages that `pip install facewright[extra]` brings."""
    names = set()
    for one in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"].get(extra, ())]:
        name, others = re.match(r"([\w-]+)(?:\[([\w-]+)\])?", one).groups()
        names |= _declared(others) if name == PROJECT["name"] else {name}
    return names


@pytest.mark.parametrize(("room", "extras"), [
    ("core", ("headless", "faces", "people", "metrics-nc")), ("nodes", ("",)),
    ("headless", ("headless", "people", "ray")), ("training", ("train",)),
])  # fmt: skip
def test_every_package_that_is_imported_is_declared(room, extras):
    declared = set().union(*map(_declared, extras))
    known = set(sys.stdlib_module_names) | BROUGHT | (COMFYUI if room == "nodes" else set())
    missing = {}
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            whole = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            whole += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in {name.split(".")[0] for name in whole} - known:
                if PACKAGES.get(module, module) not in declared:
                    missing.setdefault(module, path.name)
    assert not missing


def test_type_checkers_are_told_of_our_types():
    patterns = ABOUT["tool"]["setuptools"]["package-data"]["facewright"]
    assert (ROOT / "py.typed").is_file() and "py.typed" in patterns
    assert not _left_out("py.typed")
    assert "py.typed" in (ROOT / "MANIFEST.in").read_text()


def test_what_has_to_be_in_the_archive_is_there():
    for folder in COMFY["includes"]:
        assert any((ROOT / folder).iterdir()), folder


def test_an_older_python_gets_a_sentence():
    """The file is read by Python 3.10 as ComfyUI would, up to its version check."""
    source = (ROOT / "__init__.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 10))
    with (
        unittest.mock.patch("sys.version_info", (3, 10, 13)),
        pytest.raises(ImportError, match=r"needs Python 3\.11 or newer"),
    ):
        runpy.run_path(str(ROOT / "__init__.py"))


def test_a_wheel_has_every_file_that_the_package_reads():
    patterns = ABOUT["tool"]["setuptools"]["package-data"]["facewright"]
    for folder in (*COMFY["includes"], "core", "headless", "nodes", "training"):
        for path in (p for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix != ".pyc"):
            name = path.relative_to(ROOT)
            inside = any(len(name.parts) == p.count("/") + 1 and name.match(p) for p in patterns)
            assert inside or path.suffix == ".py", name


def test_what_is_promised_about_versions_is_tested():
    path = ROOT / ".github" / "workflows" / "tests.yml"
    text = path.read_text(encoding="utf-8")
    matrix = yaml.safe_load(text)["jobs"]["tests"]["strategy"]["matrix"]
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert matrix["python"][0] == lowest
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "windows", "macos"}
    assert {(job["python"], job["versions"]) for job in matrix["include"]} == {
        (lowest, "lowest"),
        (lowest, "newest"),
    }
    said = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for option in ("--resolution lowest-direct", "-m pytest -q -n auto --dist loadfile"):
        assert option in text and option in said, option


def test_workflows_use_what_is_there():
    """Files and commands of the repository that .github names exist, and steps are whole."""
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        text = path.read_text(encoding="utf-8")
        for job in yaml.safe_load(text)["jobs"].values():
            if "uses" in job:
                assert (ROOT / job["uses"]).is_file()
                continue
            assert all(("run" in step) != ("uses" in step) for step in job["steps"])
        for name in re.findall(r"python3? (\S+\.py)", text):
            assert (ROOT / name).is_file(), name


def test_everything_that_pins_or_states_a_version_says_the_same():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    (ruff,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert f"\nruff=={ruff['rev'].removeprefix('v')}\n" in pins
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(cited["version"]) == PROJECT["version"]
    assert cited["license"] == PROJECT["license"]
    assert cited["repository-code"] == PROJECT["urls"]["Repository"]


def test_reports_bring_what_the_doctor_says():
    folder = ROOT / ".github"
    for path in (folder / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.stem != "config":
            asked = {part["attributes"].get("label") for part in form["body"]}
            assert "Output of `facewright doctor --json`" in asked
    assert "facewright doctor --json" in (folder / "pull_request_template.md").read_text("utf-8")


def test_the_site_needs_nothing_that_users_install():
    """What builds the site is an extra of its own: no other brings it."""
    makes = _declared("docs") - _declared("headless") - {"ruff"}  # which lays out signatures there
    assert makes >= {"mkdocs", "mkdocs-material"}
    for extra in ("", *PROJECT["optional-dependencies"].keys() - {"docs"}):
        assert not makes & _declared(extra), extra
