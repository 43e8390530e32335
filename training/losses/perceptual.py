"""Perceptual distances over any feature extractor, plain and edge-aware.

An extractor is a module with `features(images) -> list of (b, c_i, h_i, w_i)`, fine to coarse, for
images (b, 3, h, w) in [0, 1]: `core.modules.vgg.VGG16` on photographs, the nano identity encoder on
rendered faces.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import FacewrightError

_SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))


class FeatureExtractor(Protocol):
    """What the perceptual terms compare images by."""

    def features(self, images: Tensor, /) -> list[Tensor]:
        """Maps (b, c_i, h_i, w_i), fine to coarse, of images (b, 3, h, w) in [0, 1]."""
        ...


def sobel_magnitude(images: Tensor) -> Tensor:
    """Edge strength S(x) = sqrt(g_x^2 + g_y^2 + 1e-6) of the grey image, repeated to 3 channels.

    Grey is the channel mean, kernels are the 3x3 Sobel pair, borders are padded with zeros, and
    the result (0.001 to about 5.7) is neither clamped nor scaled (edge_aware_dists_demo.py of the
    OSDFace release; the operator of arXiv:2411.17163, Eq. 14).

    Args:
        images: (b, 3, h, w) in [0, 1].

    Returns:
        (b, 3, h, w).
    """
    kernel = torch.tensor(_SOBEL, dtype=images.dtype, device=images.device)
    grey = images.mean(1, keepdim=True)
    gradient = F.conv2d(grey, torch.stack([kernel, kernel.T])[:, None], padding=1)
    return gradient.square().sum(1, keepdim=True).add(1e-6).sqrt().expand(-1, 3, -1, -1)


def _average(maps: Tensor) -> Tensor:
    """(b, c, h, w) -> (b, c).

    The gradient of `mean` is a whole map, and never in channels-last layout, which slows all that
    follows; that of a sum is a view.
    """
    return maps.sum((2, 3)) / maps[0, 0].numel()


class Dists(nn.Module):
    """Deep image structure and texture similarity (Ding et al. 2020, arXiv:2004.07728, Eq. 6-8).

    D(x, y) = 1 - sum_ij [alpha_ij l(x_ij, y_ij) + beta_ij s(x_ij, y_ij)] over stages i (stage 0 is
    the image itself) and channels j, where over the positions of a channel

        l = (2 mu_x mu_y + c) / (mu_x^2 + mu_y^2 + c)       texture: equal means
        s = (2 sigma_xy + c) / (sigma_x^2 + sigma_y^2 + c)  structure: correlation

    and alpha, beta >= 0 sum to 1 together. 0 for equal images.

    Args:
        extractor: see the module docstring.
        alpha, beta: (channels of all stages, image first,) learned weights, normalised here. None
            weighs every stage alike, and the channels within it.
    """

    _C = 1e-6

    def __init__(
        self, extractor: FeatureExtractor, alpha: Tensor | None = None, beta: Tensor | None = None
    ) -> None:
        super().__init__()
        if (alpha is None) != (beta is None):
            raise FacewrightError("DISTS weights come in pairs: give both alpha and beta or none.")
        self.extractor = extractor
        self.alpha: Tensor | None
        self.beta: Tensor | None
        self.register_buffer("alpha", None if alpha is None else alpha.flatten().clamp(min=0))
        self.register_buffer("beta", None if beta is None else beta.flatten().clamp(min=0))

    def _stages(self, images: Tensor) -> list[Tensor]:
        return [images, *self.extractor.features(images)]

    def _weights(self, channels: Sequence[int], like: Tensor) -> tuple[Tensor, Tensor]:
        if self.alpha is None or self.beta is None:
            uniform = torch.cat([like.new_full((c,), 0.5 / (c * len(channels))) for c in channels])
            return uniform, uniform
        if len(self.alpha) != sum(channels):
            raise FacewrightError(
                f"The DISTS weights cover {len(self.alpha)} channels but the extractor gives "
                f"{sum(channels)} (the image's 3 included). They belong to another extractor."
            )
        total = self.alpha.sum() + self.beta.sum()
        return (self.alpha / total).to(like), (self.beta / total).to(like)

    def _similarity(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        mu_x, mu_y = _average(x), _average(y)
        # Centred first: E[x^2] - E[x]^2 loses most digits where maps are nearly constant. Detached,
        # as deviations sum to 0: what would flow through the mean is 0.
        dx, dy = x - mu_x.detach()[..., None, None], y - mu_y.detach()[..., None, None]
        var_x, var_y = _average(dx.square()), _average(dy.square())
        cov = _average(dx * dy)
        texture = (2 * mu_x * mu_y + self._C) / (mu_x.square() + mu_y.square() + self._C)
        return texture, (2 * cov + self._C) / (var_x + var_y + self._C)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(b,) distances of images (b, 3, h, w) in [0, 1]."""
        pairs = [
            self._similarity(fx, fy)
            for fx, fy in zip(self._stages(x), self._stages(y), strict=True)
        ]
        alpha, beta = self._weights([texture.shape[1] for texture, _ in pairs], x)
        texture, structure = (torch.cat(parts, 1) for parts in zip(*pairs, strict=True))
        return 1 - texture @ alpha - structure @ beta


class EdgeAwarePerceptual(nn.Module):
    """A perceptual distance on the images plus the same on their edges, with equal weight.

    L(x, y) = d(x, y) + d(S(x), S(y)), S = `sobel_magnitude`; EA-DISTS with d = `Dists`
    (OSDFace, arXiv:2411.17163, Eq. 14).
    """

    def __init__(self, distance: nn.Module) -> None:
        super().__init__()
        self.distance = distance

    def forward(self, restored: Tensor, gt: Tensor) -> Tensor:
        """Scalar mean over the batch; images (b, 3, h, w) in [0, 1]."""
        edges = self.distance(sobel_magnitude(restored), sobel_magnitude(gt))
        return (self.distance(restored, gt) + edges).mean()


class FeatureLpips(nn.Module):
    """LPIPS over any extractor (Zhang et al., arXiv:1801.03924, Eq. 1), with or without its heads.

    With f, g the feature maps of a stage, |.| along the channels, and w the stage's learned head,

        d(x, y) = sum over stages of the spatial mean of sum_c w_c (f_c/|f| - g_c/|g|)^2

    Without heads w is 1 and the stages are averaged: another distance, for rendered faces, which
    LPIPS never saw.

    Args:
        extractor: see the module docstring; `core.modules.vgg.VGG16` with maxima for LPIPS v0.1.
        heads: (1, c_i, 1, 1) for each of its stages, or None.
    """

    def __init__(self, extractor: FeatureExtractor, heads: Sequence[Tensor] | None = None) -> None:
        super().__init__()
        self.extractor = extractor
        self.learned = heads is not None
        for i, head in enumerate(heads or ()):
            self.register_buffer(f"head{i}", head)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(b,) distances of images (b, 3, h, w) in [0, 1]."""
        pairs = zip(self.extractor.features(x), self.extractor.features(y), strict=True)
        terms = []
        for i, (f, g) in enumerate(pairs):
            error = (_unit(f) - _unit(g)).square()
            weighted = error * self.get_buffer(f"head{i}") if self.learned else error
            terms.append(weighted.sum(1).mean((1, 2)))
        total = sum(terms[1:], terms[0])
        return total if self.learned else total / len(terms)


def _unit(maps: Tensor) -> Tensor:
    return maps / maps.square().sum(1, keepdim=True).add(1e-10).sqrt()


def feature_distance(x: list[Tensor], y: list[Tensor], *, relative: bool) -> Tensor:
    """Mean over stages of the squared difference of feature maps, ||Phi(x) - Phi(y)||^2.

    (OSDFace, arXiv:2411.17163, Eq. 7, L_per.)

    Args:
        x, y: lists of (b, c_i, h_i, w_i).
        relative: divide each stage by the variance of y's map, so that stages count alike.
    """
    scales = [fy.detach().var().clamp(min=1e-8) if relative else 1.0 for fy in y]
    terms = [F.mse_loss(fx, fy) / s for fx, fy, s in zip(x, y, scales, strict=True)]
    return torch.stack(terms).mean()
