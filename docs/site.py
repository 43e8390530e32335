"""Build the documentation site and show it: `python bootstrap.py docs`.

The pages are collected in build/docs/pages under the paths that they have in the repository, so
that a link leads to the same page on GitHub and on the site. What a page shows or links to comes
along. Pages of the command line and of Python are written from the code. Every warning is an
error: a page that nothing leads to, a link or heading that is not there, a docstring that does not
fit its function.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from . import build, reference

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "docs"

# Pages in the order of the menu. A page of docs/ that is not named here comes after the guides.
GUIDES = ("faces", "people", "degrading_and_scoring", "honestface", "flipnet", "training", "python")
GUIDES += ("headless", "faq")
RESULTS = ("docs/results.md", "docs/robustness.md", "weights/nano/README.md")
PROJECT = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/licences.md")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s#]+)[^)]*\)")


def pages(root: Path = ROOT) -> list:
    """Return the menu as MkDocs wants it; every page of the repository is in it once."""
    apart = {"workflows", "nodes", "papers", *(Path(page).stem for page in (*RESULTS, *PROJECT))}
    found = sorted(p.relative_to(root).as_posix() for p in (root / "docs").rglob("*.md"))
    found = [p for p in found if not p.startswith("docs/graphs/")]
    named = [f"docs/{name}.md" for name in GUIDES]
    rest = [p for p in found if p not in named and Path(p).stem not in apart]
    experiments = sorted(p.relative_to(root).as_posix() for p in root.glob("experiments/*.md"))
    commands = [{name: f"reference/cli/{name}.md"} for name in reference.command_line()]
    modules = [{name: f"reference/python/{name}.md"} for name in reference.python(root)]
    return [
        {"Home": "README.md"},
        {"Guides": [*named, *rest]},
        {"Workflows": ["docs/workflows.md"]},
        {"Nodes": ["docs/nodes.md", *_help_pages()]},
        {"Command line": commands},
        {"Python": modules},
        {"Results": [*RESULTS, *experiments]},
        {"Papers": ["docs/papers.md"]},
        {"Project": list(PROJECT)},
    ]


def collect(work: Path = WORK, root: Path = ROOT) -> Path:
    """Write everything that MkDocs reads into `work` and return the path of its configuration.

    Raises:
        FileNotFoundError: a page of the menu is not there.
    """
    shutil.rmtree(work, ignore_errors=True)
    menu = pages(root)
    for page in _named(menu):
        if not page.startswith("reference/"):
            _copy_with_linked(root, work / "pages", page)
    for folder, made in (("cli", reference.command_line()), ("python", reference.python(root))):
        for name, text in made.items():
            _write(work / "pages" / "reference" / folder / f"{name}.md", text)
    # The package is the repository's folder, whatever a clone calls it.
    for package in reference.PACKAGES:
        for source in (root / package).rglob("*.py"):
            text = reference.with_parameters_apart(source.read_text(encoding="utf-8"))
            _write(work / "source" / "facewright" / source.relative_to(root), text)
    _write(work / "source" / "facewright" / "__init__.py", "")
    config = work / "mkdocs.yml"
    inherited = Path(os.path.relpath(root / "docs" / "mkdocs.yml", work)).as_posix()
    _write(config, f"INHERIT: {inherited}\nnav: {json.dumps(menu)}\n")
    return config


def main(arguments: list[str] | None = None) -> int:
    """Build the site into build/docs/site and serve it; return MkDocs' exit code."""
    parser = argparse.ArgumentParser(prog="bootstrap.py docs", description="Build the site.")
    parser.add_argument("--build", action="store_true", help="Only build it, into build/docs/site.")
    parser.add_argument("--port", type=int, default=8000, help="Of this machine, to serve it at.")
    given = parser.parse_args(arguments)
    command = ["mkdocs", "build", "--strict", "--config-file", str(collect())]
    code = subprocess.run([sys.executable, "-m", *command], check=False).returncode
    if given.build or code:
        return code
    serve = ["http.server", str(given.port), "--bind", "127.0.0.1", "--directory"]
    with contextlib.suppress(KeyboardInterrupt):
        subprocess.run([sys.executable, "-m", *serve, str(WORK / "site")], check=False)
    return 0


def _help_pages() -> list:
    """Return the help pages by category, as the reference of nodes has them."""
    groups: dict[str, list] = {title: [] for title in build.CATEGORIES.values()}
    for schema in build.schemas():
        key = schema.category.removeprefix("facewright/")
        path = build.page_path(schema.node_id).relative_to(ROOT).as_posix()
        groups.setdefault(build.CATEGORIES.get(key, key), []).append({schema.display_name: path})
    return [{title: found} for title, found in groups.items() if found]


def _named(menu: list | dict | str) -> list[str]:
    if isinstance(menu, str):
        return [menu]
    inner = menu.values() if isinstance(menu, dict) else menu
    return [page for entry in inner for page in _named(entry)]


def _copy_with_linked(root: Path, pages: Path, name: str) -> None:
    """Copy a page and the files beside it that it shows; pages that it leads to have their turn."""
    text = (root / name).read_text(encoding="utf-8")
    _write(pages / name, text)
    for link in _LINK.findall(re.sub(r"(?s)```.*?```", "", text)):
        source = ((root / name).parent / link).resolve()
        if ":" in link or source.suffix == ".md" or not source.is_file():
            continue
        if source.is_relative_to(root.resolve()):
            shown = pages / source.relative_to(root.resolve())
            shown.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, shown)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
