"""The doctor inside ComfyUI: its folders, nodes, devices and number formats."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths

from ._all import all_nodes, file_inputs
from ._comfy_files import model_folders


class ComfyDoctor:
    """The part of `nodes._host.Host` that looks around."""

    def diagnose(self, hashes: bool, cls: type) -> tuple[str, str]:
        from ..core.doctor import diagnose, report_lines

        prompt = cls.hidden and cls.hidden.prompt  # absent where nobody but a test calls the node
        bar = comfy.utils.ProgressBar(100)

        def on_bytes(path: Path, done: int, total: int) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            bar.update_absolute(100 * done // max(total, 1))

        report = diagnose(_surroundings(), prompt, hash_files=hashes, on_bytes=on_bytes)
        return "\n".join(report_lines(report)), json.dumps(report, indent=2)


def _surroundings() -> Any:
    import comfyui_version

    from ..core.doctor import Surroundings
    from ..core.weights.model_folders import ModelFolders

    ours = {node.GET_SCHEMA().node_id: node for node in all_nodes()}
    comfy_nodes = import_module("nodes")  # ComfyUI's, whatever lies beside this package
    return Surroundings(
        places=model_folders,
        base=ModelFolders().base,
        has_node=comfy_nodes.NODE_CLASS_MAPPINGS.__contains__,
        title=comfy_nodes.NODE_DISPLAY_NAME_MAPPINGS.get,
        files=lambda kind: file_inputs(ours[kind]) if kind in ours else {},
        everywhere=lambda: [
            p for f in folder_paths.folder_names_and_paths for p in model_folders(f)
        ],
        inputs=Path(folder_paths.get_input_directory()),
        inside=True,
        comfyui=Path(str(comfy_nodes.__file__)).parent,
        version=comfyui_version.__version__,
        custom_nodes=tuple(map(Path, folder_paths.get_folder_paths("custom_nodes"))),
        dtypes=_dtypes(),
        warnings=tuple(_taken(ours, comfy_nodes.NODE_CLASS_MAPPINGS)),
    )


def _dtypes() -> dict[str, str]:
    manage = comfy.model_management
    device = manage.get_torch_device()
    formats = {"diffusion": manage.unet_dtype(device), "vae": manage.vae_dtype(device)}
    return {"device": str(device)} | {k: str(v).removeprefix("torch.") for k, v in formats.items()}


def _taken(ours: dict[str, type], registered: dict[str, type]) -> list[str]:
    """Ids of ours that another pack has taken, and a list of folders that was replaced."""
    taken = [
        f"The node {name} is another pack's ({registered[name].__module__}), which was loaded "
        "later under the same id. Take one of the two packs out."
        for name, node in ours.items()
        if name in registered and registered[name].__module__ != node.__module__
    ]
    own = Path(folder_paths.models_dir) / "facewright"
    if own not in model_folders("facewright"):
        taken.append(
            f"Another node pack replaced the list of folders for models/facewright: {own} is not "
            "searched any more."
        )
    return taken
