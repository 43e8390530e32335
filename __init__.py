"""facewright: face restoration for ComfyUI. Nothing heavy is imported until ComfyUI asks."""

WEB_DIRECTORY = "web"
"""What ComfyUI serves of this folder: the nodes' help pages. There is no script in it."""


async def comfy_entrypoint():
    """Called by ComfyUI when it loads custom nodes; returns the extension that lists ours."""
    from .nodes import FacewrightExtension

    return FacewrightExtension()
