"""Restored pictures against their originals: pair, score, compare, report."""

from .comparison import summarize
from .pairing import pair_folders
from .report import write_report
from .scoring import score_all, score_files

__all__ = ["pair_folders", "score_all", "score_files", "summarize", "write_report"]
