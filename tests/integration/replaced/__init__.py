"""A node pack of the tests: tells ComfyUI of a node that is no more, as the pack itself would."""

import importlib.util
from pathlib import Path

from comfy_api.latest import ComfyExtension, io

GONE = {
    "old_node_id": "FacewrightTestGone",
    "new_node_id": "FacewrightDemoPicture",
    "old_widget_ids": ["which"],
    "input_mapping": [{"new_id": "picture", "old_id": "which"}],
    "output_mapping": [{"new_idx": 1, "old_idx": 0}],
}


class Replaced(ComfyExtension):
    async def on_load(self):
        if not hasattr(io, "NodeReplace"):
            return
        path = Path(__file__).resolve().parents[3] / "nodes" / "_comfy_replaced.py"
        spec = importlib.util.spec_from_file_location("facewright_test_replaced", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        await module.offer([GONE])

    async def get_node_list(self):
        return []


async def comfy_entrypoint():
    return Replaced()
