"""Every example of docs/headless.md, run as it stands there but for the server's address."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from facewright.docs.graphs.graph import FOLDER

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
TEXT = (Path(__file__).parents[2] / "docs" / "headless.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```(bash|python)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path):
    """A reader's folder: the workflows, photographs, and a workflow that loads one."""
    (tmp_path / "workflows").symlink_to(FOLDER, target_is_directory=True)
    (tmp_path / "photos").mkdir()
    shutil.copy(FOLDER / "nano_face_lq.png", tmp_path / "photos" / "a.png")
    shipped = (FOLDER / "api" / "nano_restore.api.json").read_text()
    mine = shipped.replace("FacewrightDemoPicture", "LoadImage").replace('"picture"', '"image"')
    (tmp_path / "my_workflow.json").write_text(mine)
    return tmp_path


@pytest.mark.skipif(os.name == "nt", reason="the examples are for a POSIX shell")
@pytest.mark.parametrize(
    "example", range(len(EXAMPLES)), ids=[code.split("\n")[0][:50] for _, code in EXAMPLES]
)
def test_the_example_runs(example, server, folder):
    kind, code = EXAMPLES[example]
    port = server.address.rpartition(":")[2]
    code = code.replace("http://127.0.0.1:8188", server.address).replace(
        "--port 8188", f"--port {port}"
    )
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if code.startswith("comfy "):
        tool = os.environ.get("COMFY_CLI") or shutil.which("comfy")
        if tool is None:
            pytest.skip("comfy-cli is not here")
        path = os.pathsep.join([str(Path(tool).parent), path])
    env = {**os.environ, "PATH": path, "HOME": str(folder), "DO_NOT_TRACK": "1"}
    command = [sys.executable, "-c", code] if kind == "python" else ["bash", "-euc", code]
    done = subprocess.run(
        command, check=False, cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = [p for name in ("restored", "fetched") for p in (folder / name).rglob("*.png")]
    assert made or code.startswith("comfy ")


def test_there_are_examples_of_each_way():
    text = "".join(code for _, code in EXAMPLES)
    for way in (
        "facewright run",
        "--batch",
        "comfy run",
        "run_workflow(",
        "run_on_server(",
        "curl",
    ):
        assert way in text
