"""`facewright run` and comfy-cli's `comfy run` with a real ComfyUI."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from facewright.docs.graphs.graph import FOLDER
from facewright.headless.cli import app
from PIL import Image
from typer.testing import CliRunner

pytestmark = pytest.mark.comfyui
HERE = Path(__file__).parent
PACK = HERE.parents[1]


def facewright(*words):
    result = CliRunner().invoke(app, ["run", *map(str, words)])
    assert not result.exception or isinstance(result.exception, SystemExit), result.exception
    return result


def shipped(name):
    return json.loads((FOLDER / "api" / f"{name}.api.json").read_text())


@pytest.fixture
def photos(tmp_path):
    """A folder of two pictures, and nano_restore with Load Image in place of the demo picture."""
    prompt = shipped("nano_restore")
    (demo,) = (n for n in prompt.values() if n["class_type"] == "FacewrightDemoPicture")
    demo |= {"class_type": "LoadImage", "inputs": {"image": "group.png"}}
    demo["_meta"] = {"title": "Photo"}
    (tmp_path / "photos.json").write_text(json.dumps(prompt))
    (tmp_path / "in/sub").mkdir(parents=True)
    shutil.copy(FOLDER / "nano_group_lq.png", tmp_path / "in" / "group.png")
    shutil.copy(FOLDER / "nano_face_lq.png", tmp_path / "in" / "sub" / "one face.png")
    return tmp_path


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"), dtype=np.int16)


@pytest.mark.parametrize("name", ["nano_restore.json", "api/nano_restore.api.json"])
def test_both_forms_run_on_a_server_and_are_reported(server, tmp_path, name):
    words = ["--server", server.address, "-o", tmp_path / "out", "--json"]
    result = facewright(FOLDER / name, "--set", "Detect Faces.max_faces=1", *words)
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert len(told["saved"]) == 2 and all(Path(p).is_file() for p in told["saved"])
    titles = {n["title"] for n in told["nodes"]}
    assert {"Detect Faces", "One-Step Restore (OSDFace, HonestFace)"} <= titles, (
        "the display names people know"
    )
    # Those that the server still has from another test took no time.
    ran = [n for n in told["nodes"] if not n["cached"]]
    assert all(n["seconds"] >= 0 for n in ran)
    assert list(told["seeds"].values()) == [0]


def test_a_wrong_choice_is_refused_in_words(server, tmp_path):
    words = ["--server", server.address, "-o", tmp_path / "out"]
    result = facewright(FOLDER / "nano_restore.json", "--set", "Paste Faces.color=lba", *words)
    assert result.exit_code in {1, 4}  # older ones look at choices only when the node runs
    assert "(Paste Faces): " in result.stderr and "'lba'" in result.stderr
    assert "wavelet" in result.stderr, "what it could have been"


def test_a_folder_through_a_server(server, photos):
    (photos / "in" / "broken.png").write_bytes(b"\x89PNG and then nothing")
    words = [photos / "photos.json", "--batch", photos / "in", "-o", photos / "out", "--json"]
    result = facewright(*words, "--server", server.address)
    assert result.exit_code == 1 and "1 of 3 pictures failed" in result.stderr
    told = json.loads(result.stdout)
    assert [Path(f["input"]).name for f in told["failed"]] == ["broken.png"]
    saved = sorted(p.relative_to(photos / "out").as_posix() for p in photos.rglob("out/**/*.png"))
    assert saved == [
        "group_nano_restore.png",
        "group_nano_restore_compare.png",
        "sub/one face_nano_restore.png",
        "sub/one face_nano_restore_compare.png",
    ]
    (photos / "in" / "broken.png").unlink()
    again = json.loads(facewright(*words, "--server", server.address).stdout)
    assert again["done"] == [] and len(again["skipped"]) == 2
    # The same in this process, but for where ComfyUI rounds.
    words[words.index("-o") + 1] = photos / "here"
    result = facewright(*words, "--embedded")
    assert result.exit_code == 0, result.stderr
    for name in saved[::2]:
        assert np.abs(pixels(photos / "out" / name) - pixels(photos / "here" / name)).max() <= 4


@pytest.fixture
def long_run(tmp_path):
    """A workflow that takes minutes."""
    nano = {"class_type": "FacewrightLoadNano", "inputs": {"weights": "onestep"}}
    empty = {"width": 128, "height": 128, "batch_size": 4096, "color": 0}
    restore = {
        "model": ["1", 0], "vae": ["1", 1], "conditioning": ["4", 0], "image": ["2", 0],
        "timestep": 399, "posterior": "mean", "seed": 0, "faces_at_once": 1,
    }  # fmt: skip
    one = {"width": 128, "height": 128, "batch_size": 1, "color": 0}
    prompt = {
        "1": nano,
        "2": {"class_type": "EmptyImage", "inputs": empty},
        "3": {"class_type": "EmptyImage", "inputs": one},
        "4": {"class_type": "FacewrightVREEncode", "inputs": {"vre": ["1", 2], "image": ["3", 0]}},
        "5": {"class_type": "FacewrightOneStepRestore", "inputs": restore},
        "6": {"class_type": "PreviewImage", "inputs": {"images": ["5", 0]}},
    }
    (tmp_path / "long.json").write_text(json.dumps(prompt))
    return tmp_path / "long.json"


@contextmanager
def started(server, workflow, in_queue):
    """`run` in a process of its own, once the server has it; yields the process and its number."""
    words = [sys.executable, "-m", "facewright", "run", workflow, "--server", server.address]
    known = {item[1] for part in server.get("/queue").values() for item in part}
    process = subprocess.Popen([*map(str, words)], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not (new := [i[1] for i in server.get("/queue")[in_queue] if i[1] not in known]):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        yield process, new[0]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGINT, "Interrupted"), (signal.SIGTERM, "Stopped by SIGTERM")],
)
def test_ctrl_c_and_sigterm_interrupt_the_server(server, long_run, number, words):
    """Somebody's run that waits is taken from the queue, and the one before it goes on."""
    with started(server, long_run, "queue_running") as (process, prompt_id):
        with started(server, long_run, "queue_pending") as (waiting, _):
            waiting.send_signal(number)
            waiting.communicate(timeout=60)
            assert waiting.returncode == 128 + number
        queue = server.get("/queue")
        assert [i[1] for i in queue["queue_running"]] == [prompt_id] and not queue["queue_pending"]
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number and words in told
    kinds = [kind for kind, _ in server.wait(prompt_id)["status"]["messages"]]
    assert kinds[-1] == "execution_interrupted"


def test_files_of_every_kind_are_fetched(server, home, tmp_path):
    def save(kind, name, link, **more):
        return {"class_type": kind, "inputs": {name: [link, 0], "filename_prefix": "k/x", **more}}

    image = {"width": 32, "height": 32, "batch_size": 2, "color": 9}
    api = {
        "1": {"class_type": "EmptyImage", "inputs": image},
        "2": save("SaveAnimatedWEBP", "images", "1", fps=6, lossless=True, quality=80,
                  method="default"),
        "3": save("SaveWEBM", "images", "1", codec="vp9", fps=6, crf=32),
        "4": {"class_type": "EmptyLatentImage",
              "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "5": save("SaveLatent", "samples", "4"),
        "6": {"class_type": "EmptyAudio",
              "inputs": {"duration": 0.1, "sample_rate": 44100, "channels": 1}},
        "7": save("SaveAudio", "audio", "6"),
        "8": {"class_type": "PreviewAudio", "inputs": {"audio": ["6", 0]}},
        "9": {"class_type": "PrimitiveString", "inputs": {"value": "words"}},
        "10": save("SaveText", "text", "9", format="md"),
    }  # fmt: skip
    known = server.get("/object_info")
    api = {k: node for k, node in api.items() if node["class_type"] in known}
    (tmp_path / "w.json").write_text(json.dumps(api))
    words = ["--server", server.address, "-o", tmp_path / "out", "--json"]
    result = facewright(tmp_path / "w.json", *words)
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    saved = {Path(p).suffix: Path(p) for p in told["saved"]}
    assert {".webp", ".webm", ".latent"} <= saved.keys() and told["previews"] == ("8" in api)
    for kind in {".flac": "7", ".md": "10"}.items():
        assert (kind[0] in saved) == (kind[1] in api)
    for path in saved.values():
        assert path.read_bytes() == (home / "output/k" / path.name).read_bytes()


def test_a_check_finds_what_the_server_would_refuse(server, tmp_path):
    base = shipped("nano_restore")
    ids = {node["class_type"]: node_id for node_id, node in base.items()}
    broken = [
        ("FacewrightPasteFaces", "color", "lba"),
        ("FacewrightPasteFaces", "strength", 7),
        ("FacewrightPasteFaces", "strength", "much"),
        ("FacewrightPasteFaces", "restored", None),
        ("FacewrightPasteFaces", "restored", [ids["FacewrightLoadNano"], 0]),
        ("FacewrightPasteFaces", "restored", [ids["FacewrightDemoPicture"], 9]),
        ("FacewrightPasteFaces", "restored", ["900", 0]),
        ("SaveImage", "images", [ids["SaveImage"], 0]),
        ("FacewrightDemoPicture", "picture", "nobody"),
    ]
    for kind, name, value in [*broken, (None, None, None)]:
        api = json.loads(json.dumps(base))
        for node in api.values():
            if node["class_type"] == kind:
                node["inputs"][name] = value
                if value is None:
                    del node["inputs"][name]
        (tmp_path / "w.json").write_text(json.dumps(api))
        result = facewright(tmp_path / "w.json", "--check", "--server", server.address)
        assert result.exit_code == (4 if kind else 0), (kind, name, value, result.stderr)
        # Older ones look at choices only when the node runs. What does not depend on the fault the
        # server runs all the same.
        if kind and value not in ("lba", "nobody"):
            status, answer = server.post("/prompt", prompt=api)
            assert status == 400 or answer["node_errors"], (kind, name, value)


@pytest.fixture
def workspace(comfyui, tmp_path, monkeypatch):
    """A copy of ComfyUI with the pack in it, started as a user's would be."""
    folder, python = comfyui
    copy = tmp_path / "ComfyUI"
    aside = {".git", ".venv", "venv", "models", "output", "input", "temp", "user", "custom_nodes"}

    def leave(path, names):
        return aside & set(names) if Path(path) == Path(folder) else ()

    shutil.copytree(folder, copy, ignore=leave)
    for name in ("models", "input", "custom_nodes"):
        (copy / name).mkdir()
    (copy / "custom_nodes" / "our faces").symlink_to(PACK, target_is_directory=True)
    # As the server of the other tests is started: see launch.py.
    start = tmp_path / "python"
    start.write_text(
        f'#!/bin/sh\ncase "$1" in -c) exec "{python}" "$@";; esac\n'
        f'shift\nexec "{python}" "{HERE / "launch.py"}" "{copy}" "$@"\n'
    )
    start.chmod(0o755)
    monkeypatch.setenv("COMFYUI_PATH", str(copy))
    monkeypatch.setenv("COMFYUI_PYTHON", str(start))
    return copy


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the interpreter is a shell script here")
def test_comfyui_is_started_for_a_batch_and_stopped(workspace, photos):
    words = [photos / "photos.json", "--batch", photos / "in", "-o", photos / "out", "--json"]
    result = facewright(*words, "--comfy")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert len(told["done"]) == 2 and len(list(photos.rglob("out/**/*.png"))) == 4
    assert not (workspace / "output").exists() or not list((workspace / "output").rglob("*.png"))
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert str(workspace) not in shown.stdout


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the interpreter is a shell script here")
def test_a_comfyui_that_does_not_start_says_why(workspace, tmp_path):
    result = facewright(FOLDER / "nano_restore.json", "--comfy", "--comfy-args", "--no-such")
    assert result.exit_code == 1
    assert "did not start" in result.stderr and "unrecognized arguments: --no-such" in result.stderr
    (workspace / "custom_nodes" / "our faces").unlink()
    result = facewright(FOLDER / "nano_restore.json", "--comfy")
    assert "not among the custom nodes" in result.stderr


@pytest.fixture(scope="session")
def comfy():
    found = os.environ.get("COMFY_CLI") or shutil.which("comfy")
    if found is None:
        pytest.skip("comfy-cli is not here: pip install comfy-cli, or let COMFY_CLI name it")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nano_restore.json", "api/nano_restore.api.json"])
def test_comfy_run_takes_both_forms(server, home, comfy, tmp_path, name):
    before = set((home / "output").rglob("*.png"))
    port = server.address.rpartition(":")[2]
    words = [comfy, "--skip-prompt", "run", "--workflow", FOLDER / name, "--wait"]
    words += ["--host", "127.0.0.1", "--port", port, "--timeout", "240"]
    env = {**os.environ, "HOME": str(tmp_path), "DO_NOT_TRACK": "1"}
    command = [*map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    after = set((home / "output").rglob("*.png")) - before
    assert after or "cached" in (done.stdout + done.stderr).lower()
