"""Nodes run without ComfyUI here: the embedded host registers itself when it is imported."""

import facewright.headless  # noqa: F401
