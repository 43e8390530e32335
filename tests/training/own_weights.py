"""Shipped nano workflows with weights of one's own in the loaders' places."""

import os
import shutil
from pathlib import Path

import numpy as np
from facewright.core.weights import nano
from facewright.headless.workflows.workflow import read_workflow

WORKFLOWS = Path(nano.__file__).parents[2] / "workflows"
RECOGNISER = "nano_identity_loss.safetensors"
LOADER = "1"
"""The node of the shipped workflows that loads everything bundled."""


def _node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}


def _base(lora, strength):
    return {
        "base": _node("FacewrightLoadNano", weights="base"),
        "lora": _node(
            "FacewrightLoadLoRA", model=["base", 0], lora=f"{lora}_lora.safetensors",
            strength=strength,
        ),
    }  # fmt: skip


def _vre(stem):
    return _node("FacewrightLoadVRE", embedder=f"{stem}_vre.safetensors", projector="none")


def _flipnet(mode):
    def nodes(stem, strength):
        return {
            **_base(stem, strength),
            "hubs": _node(
                "FacewrightLoadBoostHub", boosthub=f"{stem}_boosthub.safetensors", mode=mode
            ),
            "encoder": _node(
                "FacewrightLoadFaceEncoder", face_encoder="face_encoder.safetensors"
            ),
        }, [["lora", 0], ["base", 1], ["hubs", 0], ["encoder", 0], ["base", 3]]  # fmt: skip

    return nodes


def _onestep(stem, strength):
    places = [["lora", 0], ["base", 1], ["vre", 0], ["base", 3]]
    return {**_base(stem, strength), "vre": _vre(stem)}, places


def _honestface(stem, strength):
    nodes = {
        **_base(stem, strength),
        "vre": _vre(stem),
        "recogniser": _node("FacewrightLoadRecogniser", recogniser_file=RECOGNISER),
        "ide": _node(
            "FacewrightLoadIDE", embedder=f"{stem}_ide.safetensors", eye_extractor=RECOGNISER,
            recogniser=["recogniser", 0], analyzer=["base", 3],
        ),
    }  # fmt: skip
    places = [["lora", 0], ["base", 1], ["vre", 0], ["ide", 0], ["base", 3], ["recogniser", 0]]
    return nodes, places


GRAPHS = {
    "onestep": ("nano_restore", _onestep),
    "honestface": ("nano_honestface_restore", _honestface),
    "flipnet-restore": ("nano_flipnet_restore", _flipnet("restore")),
    "flipnet-degrade": ("nano_flipnet_degrade", _flipnet("degrade")),
}
"""Stage -> shipped workflow, and the loaders that take the place of its one, with their sockets."""


def workflow(stage, stem, *, strength=1.0, steps=4):
    """API form of the stage's workflow with the files `<stem>_lora.safetensors` and so on.

    Args:
        strength: of the LoRA; 0 leaves the base model as it is.
        steps: of the sampler, where there is one.
    """
    name, loaders = GRAPHS[stage]
    prompt = read_workflow(WORKFLOWS / f"api/{name}.api.json")
    nodes, places = loaders(stem, strength)
    del prompt[LOADER]
    for node in prompt.values():
        for key, value in node["inputs"].items():
            if isinstance(value, list) and value[0] == LOADER:
                node["inputs"][key] = places[value[1]]
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = steps
    return prompt | nodes


def put(models, files, face_encoder):
    """What training exported, and what it needs beside, in ComfyUI's model folders."""
    for folder in ("loras", "facewright"):
        (models / folder).mkdir(parents=True, exist_ok=True)
    for file in map(Path, files):
        shutil.copy(file, models / ("loras" if file.stem.endswith("_lora") else "facewright"))
    shutil.copy(nano.NANO_DIR / RECOGNISER, models / "facewright")
    shutil.copy(face_encoder, models / "facewright" / "face_encoder.safetensors")
    # ComfyUI lists a folder anew when its time has changed, which coarse clocks may not show.
    for folder in ("loras", "facewright"):
        os.utime(models / folder)


def differ(a, b):
    """How far pictures with values from 0 to 255 are from each other, on average."""
    return float(np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)).mean())
