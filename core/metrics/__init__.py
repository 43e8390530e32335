"""Scores of restored faces."""

from .regions import face_box_mask
from .similarity import edge_ratio, feature_distance, psnr, ssim

__all__ = ["edge_ratio", "face_box_mask", "feature_distance", "psnr", "ssim"]
