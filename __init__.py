"""facewright: face restoration for ComfyUI. Nothing heavy is imported until ComfyUI asks."""

import sys

# ComfyUI itself starts with Python 3.10, which would only meet a name it does not know further on.
if sys.version_info < (3, 11):  # noqa: UP036
    raise ImportError(
        f"facewright needs Python 3.11 or newer, and this is {sys.version.split()[0]}. Install "
        "ComfyUI with a newer Python: every supported version of it runs on one."
    )

WEB_DIRECTORY = "web"
"""ComfyUI serves this folder: the nodes' help pages and the editor's scripts."""


async def comfy_entrypoint():
    """Called by ComfyUI when it loads custom nodes; returns the extension that lists ours."""
    from .nodes import FacewrightExtension

    return FacewrightExtension()
