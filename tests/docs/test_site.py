"""The documentation site: every page has its place, and the references are whole."""

import ast
import json
import re
import subprocess

import pytest
import yaml
from facewright.docs import build, reference, site
from facewright.docs.build import ROOT

PUBLISHED = ROOT / "tests" / "headless" / "cli_options.json"


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    work = tmp_path_factory.mktemp("site")
    return site.collect(work).parent


def named(menu):
    if isinstance(menu, str):
        return [menu]
    return [p for e in (menu.values() if isinstance(menu, dict) else menu) for p in named(e)]


def test_the_menu_has_every_page_once(collected):
    config = (collected / "mkdocs.yml").read_text(encoding="utf-8")
    menu = named(yaml.safe_load(config.partition("nav: ")[2]))
    assert len(set(menu)) == len(menu)
    pages = collected / "pages"
    assert set(menu) == {p.relative_to(pages).as_posix() for p in pages.rglob("*.md")}
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= set(menu)
    help_pages = {f"web/docs/{schema.node_id}.md" for schema in build.schemas()}
    assert help_pages <= set(menu)


def test_a_page_that_nobody_named_is_a_guide(tmp_path):
    root = tmp_path / "repository"
    (root / "docs" / "contributing").mkdir(parents=True)
    (root / "docs" / "contributing" / "style.md").write_text("# Style\n")
    (guides,) = (entry["Guides"] for entry in site.pages(root) if "Guides" in entry)
    assert guides[-1] == "docs/contributing/style.md"


def test_links_lead_to_pages_and_files_that_came_along(collected):
    pages = collected / "pages"
    for page in pages.rglob("*.md"):
        text = re.sub(r"(?s)```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"))
        for link in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text):
            assert ":" in link or (page.parent / link).resolve().is_file(), (page, link)


def test_nothing_of_the_site_lands_in_the_tree(collected):
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert f"{site.WORK.relative_to(ROOT).parts[0]}/" in ignored


@pytest.mark.parametrize("command", json.loads(PUBLISHED.read_text(encoding="utf-8")))
def test_every_option_of_every_command_is_in_its_reference(command):
    page = reference.command_line()[command.split()[0]]
    heading = re.search(rf"(?m)^#+ {command}$", page)
    part = re.split(r"(?m)^#+ ", page[heading.end() :])[0]
    for name, option in json.loads(PUBLISHED.read_text(encoding="utf-8"))[command].items():
        written = option["names"] if name.startswith("-") else [name.upper()]
        for one in written:
            assert f"`{one}`" in part, (command, one)
    for line in part.splitlines():
        assert not line.startswith("|") or len(re.findall(r"(?<!\\)\|", line)) == 5, line


def test_options_of_methods_are_in_the_reference_of_commands():
    page = reference.command_line()["restore"]
    assert "`--phi`" in page and "`--help`" not in page


def test_every_public_module_is_in_the_reference_of_python():
    listed = re.findall(r"(?m)^::: (.+)$", "\n".join(reference.python().values()))
    assert len(set(listed)) == len(listed)
    for package in reference.PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            there = f"facewright.{'.'.join(parts)}" in listed
            assert there == (path.stem[0] != "_" and parts[:2] != ("headless", "cli")), path


def test_parameters_that_share_an_entry_are_told_apart():
    source = (
        'def f(a, b):\n    """Do.\n\n    Args:\n        a, b: (n,)\n            alike.\n    """\n'
    )
    apart = reference.with_parameters_apart(source)
    assert "        a: (n,)\n            alike.\n        b: (n,)\n            alike.\n" in apart
    code = "def f(\n    a, /, b: int\n):\n    return g(\n        a, lambda: b\n    )\n"
    assert reference.with_parameters_apart(code) == code


def test_only_docstrings_change():
    """The signatures that the reference shows are those of the code."""
    text = (ROOT / "core" / "people" / "guard.py").read_text(encoding="utf-8")
    before, after = ast.parse(text), ast.parse(reference.with_parameters_apart(text))
    assert ast.dump(before) != ast.dump(after)
    signatures = [
        [ast.dump(n.args) for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
        for tree in (before, after)
    ]
    assert signatures[0] == signatures[1]


@pytest.mark.slow
def test_the_site_builds_without_a_warning():
    pytest.importorskip("mkdocs", reason="python bootstrap.py docs --build does the same")
    assert site.main(["--build"]) == 0


@pytest.mark.parametrize(
    ("given", "code", "ran"),
    [(["--build"], 0, ["mkdocs"]), ([], 0, ["mkdocs", "http.server"]), ([], 1, ["mkdocs"])],
)
def test_it_is_built_strictly_and_served_if_that_went_well(monkeypatch, given, code, ran):
    commands = []

    def run(command, **_):
        commands.append(command[2:])
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(site, "collect", lambda: site.WORK / "mkdocs.yml")
    monkeypatch.setattr(site.subprocess, "run", run)
    assert site.main(given) == code
    assert [command[0] for command in commands] == ran and "--strict" in commands[0]
