"""Scores of restored faces."""

from .color_difference import ms_swd
from .distribution import FrechetStatistics, frechet_distance
from .identity import identity_cosine, identity_degrees, identity_rank
from .regions import face_box_mask
from .registry import METRICS, Metric, metric, scoring_pictures
from .similarity import edge_ratio, feature_distance, psnr, ssim

__all__ = [
    "METRICS",
    "FrechetStatistics",
    "Metric",
    "edge_ratio",
    "face_box_mask",
    "feature_distance",
    "frechet_distance",
    "identity_cosine",
    "identity_degrees",
    "identity_rank",
    "metric",
    "ms_swd",
    "psnr",
    "scoring_pictures",
    "ssim",
]
