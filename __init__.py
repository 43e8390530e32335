"""facewright: face restoration for ComfyUI. Nothing heavy is imported until ComfyUI asks."""


async def comfy_entrypoint():
    """Called by ComfyUI when it loads custom nodes; returns the extension that lists ours."""
    from .nodes import FacewrightExtension

    return FacewrightExtension()
