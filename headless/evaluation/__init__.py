"""Restored pictures against their originals: pair, score, compare, report."""

from .comparison import Result, summarize
from .pairing import Pairing, pair_folders
from .report import write_report
from .scoring import Scores, Settings, score_all, score_files

__all__ = [
    "Pairing",
    "Result",
    "Scores",
    "Settings",
    "pair_folders",
    "score_all",
    "score_files",
    "summarize",
    "write_report",
]
