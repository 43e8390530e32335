"""extra_model_paths.yaml: read by ComfyUI and by the command line, with one result."""

import json
import subprocess

import pytest
from facewright.core.weights.model_folders import ModelFolders, extra_folders

pytestmark = pytest.mark.comfyui

READ = """
import json, sys
sys.argv, (comfyui, file) = sys.argv[:1], sys.argv[1:]
sys.path[0] = comfyui
import folder_paths
from utils.extra_config import load_extra_path_config
before = {k: list(v[0]) for k, v in folder_paths.folder_names_and_paths.items()}
load_extra_path_config(file)
after = {k: list(v[0]) for k, v in folder_paths.folder_names_and_paths.items()}
print(json.dumps({k: [p for p in v if p not in before.get(k, [])] for k, v in after.items()}))
"""


def test_extra_model_paths_are_read_as_comfyui_reads_them(comfyui, tmp_path, monkeypatch):
    folder, python = comfyui
    home = tmp_path / "ComfyUI"
    home.mkdir()
    (home / "main.py").touch()
    file = home / "extra_model_paths.yaml"
    file.write_text(
        "a111:\n    base_path: ../webui/\n    checkpoints: models/Stable-diffusion\n"
        "    loras: |\n        models/Lora\n        models/LyCORIS/\n"
        "disk:\n    base_path: $FACEWRIGHT_TEST_DISK/x\n    facewright: faces/../people\n"
        f"bare:\n    vae: {tmp_path / 'vae'}\n    loras: mine\n"
        "home:\n    base_path: ~/models\n    insightface: insightface/\n"
        "first:\n    is_default: true\n    loras: |\n        one\n        two\n    vae: one\n"
        "empty:\n"
    )
    monkeypatch.setenv("FACEWRIGHT_TEST_DISK", str(tmp_path / "disk"))
    command = [python, "-c", READ, str(folder), str(file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
    theirs = {k: v for k, v in json.loads(done.stdout.splitlines()[-1]).items() if v}
    monkeypatch.setenv("COMFYUI_PATH", str(home))
    monkeypatch.delenv("FACEWRIGHT_MODELS", raising=False)
    extra, own = extra_folders(home), str(home / "models" / "loras")
    assert {k: list(map(str, [*extra.before[k], *extra.after[k]])) for k in extra.after} == theirs
    loras = list(map(str, ModelFolders().folders("loras")))
    assert loras.index(own) == 2
    assert theirs["loras"] == [path for path in loras if path != own]
