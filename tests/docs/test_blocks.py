"""Every Python block of the pages runs and every command of them exists; those for the toys run.

Files that nobody ships (photographs, weights, servers) are replaced by toys, so that each call is
made with the arguments that the page shows.
"""

import contextlib
import glob
import importlib
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest.mock import create_autospec

import pytest
import torch
import typer
from facewright.core.weights import nano
from facewright.docs.build import ROOT
from facewright.headless.cli import app
from facewright.headless.remote import server
from typer.testing import CliRunner

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = typer.main.get_command(app).commands


class Block(NamedTuple):
    """A fenced block of a page; `language` is "" where none is written."""

    page: str
    line: int
    language: str
    code: str

    @property
    def is_shell(self):
        """Without a language it may also be what a program printed."""
        begins = re.match(r"(\w+=\S+ )?(facewright|python|pip|cd|git|accelerate) ", self.code)
        return self.language == "bash" or (not self.language and bool(begins))


def blocks(path):
    text, page = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
    for found in re.finditer(r"(?ms)^( *)```(\w*)\n(.*?)^\1```", text):
        yield Block(page, text.count("\n", 0, found.start()) + 2, found[2], found[3])


BLOCKS = [block for page in PAGES for block in blocks(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
SHELL = [block for block in BLOCKS if block.is_shell]


def file(name):
    return repr(str(nano.NANO_DIR / name))


TOYS = {
    'load_restorer("osdface", "models")': 'load_restorer("nano")',
    '"group.jpg"': repr(str(ROOT / "workflows" / "nano_face_lq.png")),
    '"associate_2.ckpt", "embedding_change_weights.pth"': file("nano_vre.safetensors"),
    '"honestface_ide.safetensors"': file("nano_honestface_ide.safetensors"),
    '"backbone.pth"': file("nano_identity_loss.safetensors"),
    '"vgg16-397923af.pth"': file("nano_identity_loss.safetensors"),
    'load_analyzer("facexlib")': 'load_analyzer("nano")',
    '"runs/onestep_24gb/export/onestep_lora.safetensors"': file("nano_onestep_lora.safetensors"),
    "range(26)": "range(1)",
    "repeat(256, 1, 1, 1)": "repeat(2, 1, 1, 1)",
}
"""What the pages say -> what a test has instead."""


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A folder of a reader of the pages, in which names of bundled files mean something."""
    (tmp_path / "workflows").symlink_to(ROOT / "workflows", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def enter(code, name, here):
    exec(compile(code, name, "exec"), here)  # noqa: S102 (our own pages)


def of_reader(backbone):
    """What the pages take for granted: pictures, references and a backbone."""
    pictures = {name: torch.rand(3, 3, 128, 128) for name in ("lq", "gt", "restored")}
    valid = torch.tensor([[True, True], [True, False], [False, False]])
    return pictures | {
        "references": torch.rand(3, 2, 3, 128, 128), "valid": valid, "backbone": backbone,
    }  # fmt: skip


@pytest.fixture
def nothing_far(monkeypatch):
    """No server and no weights of others: calls are checked against the real signatures."""
    from diffusers import UNet2DConditionModel

    report = SimpleNamespace(saved=[], as_dict=lambda: {"nodes": {}})
    asked = create_autospec(server.run_on_server, return_value=report)
    monkeypatch.setattr(server, "run_on_server", asked)
    from_pretrained = create_autospec(UNet2DConditionModel.from_pretrained)
    from_pretrained.side_effect = lambda *_, **__: UNet2DConditionModel(**nano.unet_config())
    monkeypatch.setattr(UNet2DConditionModel, "from_pretrained", from_pretrained)


@pytest.mark.parametrize("page", sorted({block.page for block in PYTHON}))
def test_python_runs(page, reader, backbone, nothing_far):
    """The blocks of a page one after the other, as a reader would enter them."""
    here = of_reader(backbone)
    for block in (block for block in PYTHON if block.page == page):
        code = block.code
        for said, toy in TOYS.items():
            code = code.replace(said, toy)
        with contextlib.redirect_stdout(None):
            enter(code, f"{page}:{block.line}", here)


def test_every_toy_stands_for_something():
    code = "".join(block.code for block in PYTHON)
    assert [said for said in TOYS if said not in code] == []


def lines(block):
    """The commands of a block as lists of words, without comments and what a list tells of them."""
    for line in block.code.replace("\\\n", " ").splitlines():
        for part in re.split(r"(?:^|\s)# |\s{3,}(?=[^-\s])", line)[0].split(" && "):
            if re.match(r"facewright |cd |python \w+\.py", part):
                yield shlex.split(part)


def options_of(command):
    if found := getattr(command, "commands", None):
        return {o for sub in found.values() for o in options_of(sub)}
    shown = command.get_params(typer.Context(command))  # with the options of methods
    return {o for p in shown for o in (*p.opts, *p.secondary_opts)}


QUOTED = [(b, words) for b in SHELL for words in lines(b) if words[0] == "facewright"]


@pytest.mark.parametrize("page", sorted({block.page for block, _ in QUOTED}))
def test_commands_and_options_exist(page):
    for block, words in QUOTED:
        if block.page != page:
            continue
        command, where = COMMANDS.get(words[1]), f"{page}:{block.line}: {shlex.join(words)}"
        assert command or words[1] in {"--version", "--help"}, where
        inner = getattr(command, "commands", {})
        if inner and re.fullmatch("[a-z]+", words[2]):
            assert words[2] in inner, where
            command = inner[words[2]]
        given = {w for w in words[2:] if re.match(r"--?[a-z]", w)}
        assert given <= options_of(command), (where, given - options_of(command))


TOY = re.compile(r"nano|toys/|facewright_demo")
OWN = re.compile(
    r"photos/|(party|group)\.jpg|models/|originals/|person 03|people/ --albums$|calibrate people/"
)
"""Commands on photographs or weights of one's own, on pages that are about the toys otherwise."""
ELSEWHERE = {
    "docs/headless.md",  # tests/integration/test_headless_docs.py, with a real ComfyUI
    "docs/training.md",  # the nano configs: minutes to hours each
}
SEQUENCES = sorted({b.page for b, words in QUOTED if TOY.search(shlex.join(words))} - ELSEWHERE)


@pytest.mark.slow
@pytest.mark.parametrize("page", SEQUENCES)
def test_commands_for_the_toys_run(page, reader, monkeypatch):
    """All of a page in one folder, in its order: what a block makes, the next ones use."""
    saved, ran, failed = "", 0, []
    for block in (b for b in BLOCKS if b.page == page):
        if block.language == "python":
            saved = block.code
        if not block.is_shell:
            continue
        for words in lines(block):
            if words[0] == "cd":
                monkeypatch.chdir(words[1])
                Path("workflows").symlink_to(ROOT / "workflows", target_is_directory=True)
            elif words[0] == "python" and re.fullmatch(r"\w+\.py", words[1]):
                enter(saved, words[1], {})
            elif words[0] == "facewright" and not OWN.search(shlex.join(words)):
                found = [sorted(glob.glob(w)) if re.search(r"[?*]", w) else [w] for w in words[1:]]
                done = CliRunner().invoke(app, [name for names in found for name in names])
                ran += 1
                if done.exit_code:
                    failed.append((block.line, shlex.join(words), done.exit_code, done.output))
    assert ran and not failed


def inline(path):
    """Code between single backticks, outside fences."""
    text = re.sub(r"(?ms)^( *)```.*?^\1```", "", path.read_text(encoding="utf-8"))
    return [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]


def found(dotted):
    """Whether a dotted name of the package leads to something."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        with contextlib.suppress(ModuleNotFoundError):
            here = importlib.import_module(".".join(["facewright", *parts[:count]]))
            for part in parts[count:]:
                here = getattr(here, part, None)
            return here is not None
    return False


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_names_in_the_text_exist(path):
    """Modules and files of ours that a sentence names, and commands with their options."""
    for code in inline(path):
        name = re.match(r"(?:facewright\.)?((?:core|headless|training)\.[\w.]+\w)", code)
        assert not name or found(name[1]), code
        if re.fullmatch(
            r"(core|headless|nodes|training|docs|benchmarks|experiments)/[\w./]+", code
        ):
            assert (ROOT / code).exists() or list(ROOT.glob(f"{code}*")), code
        command = re.match(r"facewright ([a-z]+)\b", code)
        assert not command or command[1] in COMMANDS, code
        given = set(re.findall(r"(?<=\s)--[a-z][a-z-]*", code)) if command else set()
        assert given <= options_of(COMMANDS[command[1]]) if given else True, code
