"""docs/papers.md: every command, option, metric, preset, arm and link that it names is there."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from facewright.core.degradation import PRESETS
from facewright.core.metrics import METRICS
from facewright.headless.cli import app

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "papers.md").read_text(encoding="utf-8")
COMMANDS = dict(typer.main.get_command(app).commands)


def quoted():
    """(command, arguments) of each command line in a block or between backticks."""
    blocks = re.findall(r"^```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(
        r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^```.*?^```", "", PAGE, flags=re.DOTALL | re.MULTILINE)
    )
    for line in lines:
        for part in line.split("&&"):
            words = shlex.split(part.partition("  #")[0].replace(" ... ", " "))
            words = words[1:] if words[:1] == ["facewright"] else words
            if len(words) > 1 and words[0] in COMMANDS:
                yield words[0], words[1:]


def options_of(command):
    found = getattr(command, "commands", None)
    if found:
        return {o for sub in found.values() for o in options_of(sub)}
    own = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
    return own | {"--phi"} if command.name == "restore" else own  # of a method


def test_the_page_quotes_many_commands():
    names = {name for name, _ in quoted()}
    assert names >= {
        "restore",
        "evaluate",
        "stats",
        "coverage",
        "degrade",
        "train",
        "cost",
        "split",
    }


@pytest.mark.parametrize(("name", "words"), list(quoted()))
def test_options_exist(name, words):
    given = {word for word in words if re.match(r"-{1,2}[a-z]", word)}
    assert given <= options_of(COMMANDS[name]), (name, given - options_of(COMMANDS[name]))
    for option, value in pairwise(words):
        if option == "--preset":
            assert value in PRESETS
        if option == "--metrics":
            assert set(value.split(",")) <= {metric.name for metric in METRICS.values()}
        if option == "--config" and value.endswith(("_paper", "_24gb")):
            assert (DOCS.parent / "training/configs" / f"{value}.yaml").is_file()


def test_every_table_and_figure_has_a_row():
    parts = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    sections = {part.split("\n")[0]: part for part in parts}
    for paper, figures, tables in (
        ("OSDFace", range(1, 7), ["1", "2", "3", "4", "5"]),
        ("HonestFace", range(1, 8), ["1", "2", "3a", "3b", "3c", "3d"]),
        ("FLIPNET", range(1, 8), ["1", "2"]),
    ):
        rows = [line.split("|")[1] for line in sections[paper].splitlines() if line[:2] == "| "]
        cells = " ".join(rows).replace("Fig. 1 to 4", "Fig. 1, Fig. 2, Fig. 3, Fig. 4")
        for figure in figures:
            assert f"Fig. {figure}" in cells, (paper, figure)
        for table in tables:
            assert re.search(rf"Tables? (\d and )?{table}\b", cells), (paper, table)


def test_links_and_arms():
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGE):
        assert (DOCS / target).exists(), target
    for page, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", PAGE):
        text = (DOCS / page).read_text(encoding="utf-8") if page else PAGE
        heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
        assert anchor in slugs, (page, anchor)
    training = (DOCS / "training.md").read_text(encoding="utf-8")
    named = {
        arm for line in PAGE.splitlines() if "arm" in line for arm in re.findall(r"`([^`]+)`", line)
    }
    arms = {line.split("|")[1].strip() for line in training.splitlines() if line[:2] == "| "}
    wanted = {
        a for a in named if re.match(r"(without|FFE|FIE|MFA|ArcFace tokens|face embeddings)", a)
    }
    missing = {a for a in wanted if not any(arm.startswith(a) for arm in arms)}
    assert len(wanted) > 8 and not missing
