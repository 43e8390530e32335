"""TensorFlow Lite models, run with torch alone: the official MediaPipe files, as they are.

`read_task` opens a `.task` container, `read_tflite` a single file, `load_tflite` makes a module of
either's bytes. Nothing of a file is ever executed, and whatever it says is checked first.
"""

from .containers import read_task, read_tflite
from .graph import TensorInfo, TfliteGraph, load_tflite

__all__ = ["TensorInfo", "TfliteGraph", "load_tflite", "read_task", "read_tflite"]
