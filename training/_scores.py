"""Scores of held-out faces during training."""

from torch import Tensor

from ..core.metrics import edge_ratio, feature_distance, psnr, ssim
from ..core.modules.identity import IdentityEncoder


def face_scores(
    picture: Tensor, gt: Tensor, mask: Tensor, encoder: IdentityEncoder | None
) -> dict[str, Tensor]:
    """(b,) per score.

    Args:
        picture, gt: (b, 3, h, w) in [0, 1].
        mask: (b, 1, h, w), the face; features and identity see the whole picture.
        encoder: adds "features" and "identity" (a cosine).
    """
    scores = {
        "psnr": psnr(picture, gt, mask),
        "ssim": ssim(picture, gt, mask),
        "edges": edge_ratio(picture, gt, mask),
    }
    if encoder:
        a, b = encoder.features(picture), encoder.features(gt)
        scores["features"] = feature_distance(a[:3], b[:3])
        scores["identity"] = (encoder.embed(a[-1]) * encoder.embed(b[-1])).sum(1)
    return scores
