"""Asks ComfyUI's editor anew what it sends for workflow files, for test_templates.py.

    python tests/headless/editor/record.py http://127.0.0.1:8188 [FILE.json ...]

A ComfyUI of the version in VERSIONS has to run there, with an empty models folder, all core nodes
and no others (`--base-directory EMPTY --front-end-root STATIC`); `comfyui-workflow-templates-json`
has to be installed here, chromium and node on the PATH, and FACEWRIGHT_PLAYWRIGHT has to name a
node_modules with playwright-core. It takes ten minutes. With files, their answers are printed
and nothing is written.
"""

import json
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = "comfyui-workflow-templates-json"
VERSIONS = {"comfyui": "0.33.0", "frontend": "1.58.1", PACKAGE: "0.1.50"}
OBJECT_INFO, TEMPLATES, MADE = (
    HERE / f"{name}.json.xz" for name in ("object_info", "templates", "made_answers")
)
_SHOWN_ONLY = {"description", "output_tooltips", "search_aliases"}


def kept(path):
    """What was recorded in an answers file or of the node classes."""
    return json.loads(lzma.decompress(path.read_bytes()))


def official():
    """The official templates by name, without the lists and settings beside them."""
    folder = Path(find_spec("comfyui_workflow_templates_json").origin).parent / "templates"
    found = {p.stem: json.loads(p.read_text("utf-8")) for p in sorted(folder.glob("*.json"))}
    return {k: v for k, v in found.items() if isinstance(v, dict) and "nodes" in v}


def made():
    """Workflows by hand for what no template has; their names say what."""
    return json.loads((HERE / "made.json").read_text("utf-8"))


def asked(address, workflows):
    """{name: {"output": API form} or {"error": text}}"""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "answers.json")
        job = {
            "address": address,
            "chromium": shutil.which("chromium") or shutil.which("google-chrome"),
            "playwright": os.environ["FACEWRIGHT_PLAYWRIGHT"],
            "workflows": workflows,
            "out": str(out),
        }
        Path(folder, "job.json").write_text(json.dumps(job))
        subprocess.run(["node", HERE / "record.mjs", f"{folder}/job.json"], check=True)
        return json.loads(out.read_text())


def bare(node):
    """A node class without texts that are only shown."""

    def untold(value):
        if isinstance(value, dict):
            told = {k for k, v in value.items() if k == "tooltip" and isinstance(v, str)}
            return {k: untold(v) for k, v in value.items() if k not in told}
        return [untold(v) for v in value] if isinstance(value, list) else value

    return untold({k: v for k, v in node.items() if k not in _SHOWN_ONLY})


def write(path, value):
    text = json.dumps(value, separators=(",", ":")).encode()
    path.write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))


def renew(address):
    installed = version(PACKAGE)
    if installed != VERSIONS[PACKAGE]:
        sys.exit(f"{PACKAGE} {installed} is installed: put that into VERSIONS, or install another.")
    with urllib.request.urlopen(f"{address}/object_info") as answer:
        info = json.loads(answer.read())
    ours = [kind for kind in info if kind.startswith("Facewright")]
    write(OBJECT_INFO, {k: bare(v) for k, v in info.items() if k not in ours})
    write(TEMPLATES, asked(address, official()))
    write(MADE, asked(address, made()))


if __name__ == "__main__":
    server, *some = sys.argv[1:]
    if some:
        json.dump(
            asked(server, {p: json.loads(Path(p).read_text("utf-8")) for p in some}), sys.stdout
        )
    else:
        renew(server)
