"""Start ComfyUI's main.py: `python launch.py COMFYUI_FOLDER ARGUMENTS...`.

A torchvision built for another torch cannot define its operators here; ComfyUI imports it but never
calls them, so empty definitions let tests run on such a machine.
"""

import os
import runpy
import sys


def define_missing_torchvision_ops():
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor")
        return library
    return None


if __name__ == "__main__":
    keep = define_missing_torchvision_ops()
    folder = os.path.abspath(sys.argv[1])
    os.chdir(folder)
    sys.path[0] = folder
    sys.argv = ["main.py", *sys.argv[2:]]
    runpy.run_path(os.path.join(folder, "main.py"), run_name="__main__")
