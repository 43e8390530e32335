"""A real ComfyUI for the tests that need one: found, given a home with random weights, started.

Set COMFYUI_PATH (else comfy-cli's default workspace is tried), COMFYUI_PYTHON where ComfyUI has a
Python of its own, and COMFYUI_FRONTEND, the folder of another frontend with its index.html (the
"static" of the package comfyui-frontend-package), to serve that one instead of ComfyUI's own.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PACK = HERE.parents[1]
PACKS = (HERE / "lists", HERE / "replaced")
"""Node packs of the tests, beside ours."""
NEEDS = "aiohttp alembic av einops requests scipy torch torchsde transformers yaml"
LACKS = "import importlib.util as i, sys; print(*(m for m in sys.argv[1:] if not i.find_spec(m)))"


def lacks(python, *modules):
    """Those that an interpreter cannot import, as text."""
    command = [python, "-c", LACKS, *modules]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="session")
def weights():
    """The module that writes random weight files."""
    spec = importlib.util.spec_from_file_location("facewright_weights", HERE / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def comfyui():
    """Folder of a ComfyUI and the Python that can run it."""
    from facewright.core.weights.model_folders import comfyui_path

    folder = comfyui_path()
    if folder is None:
        pytest.skip("no ComfyUI here: set COMFYUI_PATH, or install one with comfy-cli")
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    if lacking := lacks(python, *NEEDS.split()):
        pytest.skip(f"{python} lacks what ComfyUI needs ({lacking}): set COMFYUI_PYTHON")
    return folder, python


@pytest.fixture(scope="session")
def face_detector(comfyui):
    """For tests whose workflow finds faces in photographs; ComfyUI ships no package for that."""
    python = comfyui[1]
    if lacks(python, "skimage"):
        pytest.skip(f"{python} lacks scikit-image, which finds the faces: install it there")


@pytest.fixture(scope="session")
def home(tmp_path_factory, weights):
    """A base directory for ComfyUI: our pack, random weights, a photograph to restore."""
    home = tmp_path_factory.mktemp("comfyui")
    folders = ("custom_nodes", "input", "models/checkpoints", "models/facewright", "models/loras")
    for folder in folders:
        (home / folder).mkdir(parents=True)
    (home / "custom_nodes" / "facewright").symlink_to(PACK, target_is_directory=True)
    for pack in PACKS:
        (home / "custom_nodes" / pack.name).symlink_to(pack, target_is_directory=True)
    models = home / "models"
    weights.thin_checkpoint(models / "checkpoints" / "thin.safetensors", full_vae=False)
    weights.osdface_lora(models / "loras" / "pytorch_lora_weights.safetensors")
    weights.osdface_vre(models / "facewright")
    return home


class Client:
    """The few requests to a ComfyUI server that the tests make."""

    def __init__(self, address):
        self.address = address

    def get(self, path):
        with urllib.request.urlopen(f"{self.address}{path}", timeout=60) as answer:
            body = answer.read()
        return json.loads(body) if answer.headers.get_content_type().endswith("json") else body

    def post(self, path, **content):
        request = urllib.request.Request(
            f"{self.address}{path}",
            json.dumps(content).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                body = answer.read()
                return answer.status, json.loads(body) if body else None
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def queue(self, prompt):
        # Without a client_id newer servers leave out the pictures of a prompt they have cached.
        status, answer = self.post("/prompt", prompt=prompt, client_id="facewright-tests")
        assert status == 200, answer
        return answer["prompt_id"]

    def wait(self, prompt_id, seconds=240):
        """History entry of a finished prompt; it may come a little after the last event."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]
            time.sleep(0.3)
        raise TimeoutError(f"ComfyUI did not finish within {seconds} s")

    def run(self, prompt):
        return self.wait(self.queue(prompt))

    def picture(self, entry):
        query = "&".join(f"{k}={entry[k]}" for k in ("filename", "subfolder", "type"))
        return self.get(f"/view?{query}")


@pytest.fixture(scope="session")
def server(comfyui, home):
    """A running ComfyUI server; one for the whole session, as it takes seconds to start."""
    folder, python = comfyui
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = f"--cpu --listen 127.0.0.1 --port {port} --base-directory {home} "
    packs = " ".join(pack.name for pack in PACKS)
    options += f"--disable-all-custom-nodes --whitelist-custom-nodes facewright {packs} "
    options += "--disable-api-nodes --disable-auto-launch --database-url sqlite:///:memory:"
    arguments = options.split()
    if frontend := os.environ.get("COMFYUI_FRONTEND"):
        assert Path(frontend, "index.html").is_file(), f"COMFYUI_FRONTEND: no page in {frontend}"
        arguments += ["--front-end-root", frontend]
    log = home / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [python, str(HERE / "launch.py"), str(folder), *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    client = Client(f"http://127.0.0.1:{port}")
    try:
        deadline = time.monotonic() + 180
        while True:
            with contextlib.suppress(OSError):
                client.get("/system_stats")
                break
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail("ComfyUI did not start:\n" + log.read_text()[-3000:])
            time.sleep(0.5)
        yield client
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """What drives ComfyUI's editor: node, chromium and the folder with playwright-core.

    The first two are on the PATH. FACEWRIGHT_PLAYWRIGHT names the third (a node_modules), else npm
    fetches it.
    """
    found = [shutil.which("node"), shutil.which("chromium") or shutil.which("google-chrome")]
    if None in found:
        pytest.skip("needs node and chromium on the PATH")
    if given := os.environ.get("FACEWRIGHT_PLAYWRIGHT"):
        return *found, given
    folder = tmp_path_factory.mktemp("playwright")
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-save", "playwright-core"]
    if shutil.which("npm") is None or subprocess.call(command, cwd=folder):
        pytest.skip("npm cannot fetch playwright-core: set FACEWRIGHT_PLAYWRIGHT")
    return *found, str(folder / "node_modules")


@pytest.fixture(scope="session")
def drive(programs, tmp_path_factory):
    """Runs a script of this folder in a headless Chromium; returns what it saw."""
    node, chromium, playwright = programs

    def run(script, seconds, **job):
        path = tmp_path_factory.mktemp("job") / "job.json"
        path.write_text(json.dumps({"chromium": chromium, "playwright": playwright, **job}))
        command = [node, HERE / script, path]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.strip().splitlines()[-1])

    return run


@pytest.fixture(params=["classic", "vue"])
def mode(request, seen):
    """A node mode of what the module's `seen` saw."""
    if request.param not in seen:
        pytest.skip("this editor does not offer Vue nodes")
    return seen[request.param]


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory):
    """The folder that FACEWRIGHT_SCREENSHOTS names, else one of this session."""
    kept = os.environ.get("FACEWRIGHT_SCREENSHOTS")
    folder = Path(kept).absolute() if kept else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
