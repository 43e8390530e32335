"""A seed that nothing is drawn with is no reason for ComfyUI to work again."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.comfyui

NANO = Path(__file__).parents[2] / "workflows" / "api" / "nano_restore.api.json"


def worked(server, posterior, seed):
    """Classes of the nodes that ran, of the shipped demo with these values in it."""
    prompt = json.loads(NANO.read_text())
    (restore,) = (n for n in prompt.values() if n["class_type"] == "FacewrightOneStepRestore")
    restore["inputs"] |= {"posterior": posterior, "seed": seed}
    status = server.run(prompt)["status"]
    assert status["status_str"] == "success", status
    told = dict(map(tuple, status["messages"]))
    return {
        n["class_type"] for k, n in prompt.items() if k not in told["execution_cached"]["nodes"]
    }


def test_another_seed_is_no_reason_to_restore_again(server):
    worked(server, "mean", 1)
    assert "FacewrightOneStepRestore" not in worked(server, "mean", 2)
    assert "FacewrightOneStepRestore" in worked(server, "sample", 2)
    assert "FacewrightOneStepRestore" in worked(server, "sample", 3)
