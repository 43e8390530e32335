"""What the editor does to texts when it sends them: random choices, comments, names of files."""

import random
import re
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from .stored_values import as_text
from .widgets import Nothing

if TYPE_CHECKING:
    from .graph import Node

_COMMENT = re.compile(r"/\*[\s\S]*?\*/|//.*")
_DATE = re.compile("yyyy|yy|d{1,2}|M{1,2}|h{1,2}|m{1,2}|s{1,2}")
_UNFIT = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')
_DEEPEST = 100
SAVERS = frozenset(
    {
        *("SaveImage", "SaveImageAdvanced", "SaveSVGNode", "SaveVideo", "SaveAnimatedWEBP"),
        *("SaveWEBM", "SaveAudio", "SaveAudioMP3", "SaveAudioOpus", "SaveAudioAdvanced", "SaveGLB"),
        *("Save3DAdvanced", "SaveGaussianSplat", "SavePointCloud", "SaveAnimatedPNG", "CLIPSave"),
        *("VAESave", "ModelSave", "LoraSave", "SaveLatent"),
    }
)
"""Nodes in whose `filename_prefix` the editor replaces names and dates."""


def chosen(prompt: str, depth: int = 0) -> str:
    """A prompt with one of each `{a|b}` and without comments, as the editor sends it.

    A backslash before a brace keeps it.
    """
    text = _COMMENT.sub("", prompt)
    result: list[str] = []
    at = 0
    while at < len(text):
        letter = text[at]
        at += 1
        if letter == "\\":
            result.append(letter + text[at : at + 1])
            at += 1
        elif letter == "{":
            options, at = _options(text, at)
            one = random.choice(options)
            result.append(chosen(one, depth + 1) if depth < _DEEPEST else one)
        else:
            result.append(letter)
    return re.sub(r"\\([{}|])", r"\1", "".join(result))


def _options(text: str, at: int) -> tuple[list[str], int]:
    """What stands between a brace and the one that closes it, and the place behind that."""
    options, choice, depth = [], "", 0
    while at < len(text):
        letter = text[at]
        at += 1
        if letter == "\\":
            choice += letter + text[at : at + 1]
            at += 1
            continue
        if letter == "{":
            depth += 1
        elif letter == "}":
            if not depth:
                break
            depth -= 1
        elif letter == "|" and not depth:
            options.append(choice)
            choice = ""
            continue
        choice += letter
    return [*options, choice], at


def replaced(text: str, nodes: Iterable["Node"]) -> str:
    """A text with `%date:yyyy-MM-dd%` and `%Node.widget%` replaced; others stay."""

    def one(match: re.Match[str]) -> str:
        parts = match[1].split(".")
        if len(parts) != 2:
            return _date(parts[0][5:]) if parts[0].startswith("date:") else match[0]
        known = list(nodes)
        found = [n for n in known if n.properties.get("Node name for S&R") == parts[0]]
        found = found or [n for n in known if _title(n) == parts[0]]
        widget = found[0].form.widget(parts[1]) if found else None
        if widget is None:
            return match[0]
        return _UNFIT.sub("_", "" if widget.value is Nothing else as_text(widget.value))

    return re.sub("%([^%]+)%", one, text)


def _title(node: "Node") -> str:
    return node.title or (node.spec and node.spec.title) or node.kind


def _date(form: str) -> str:
    now = datetime.now()
    parts = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def one(match: re.Match[str]) -> str:
        if match[0].startswith("y"):
            return f"{now.year}"[-len(match[0]) :]
        return f"{parts[match[0][0]]:0{len(match[0])}d}"

    return _DATE.sub(one, form)
