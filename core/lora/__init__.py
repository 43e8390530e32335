"""LoRA files of any style, read and merged; `merge_lora` is the entry."""

from ..errors import LoraError
from .merge import LoraReport, merge_lora, parse_lora

__all__ = ["LoraError", "LoraReport", "merge_lora", "parse_lora"]
