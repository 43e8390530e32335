"""Adversarial objectives on patch logits, and the weight that balances them in a VQGAN."""

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Conv2d, GroupNorm


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating loss -E[log sigmoid(D(fake))] (OSDFace, arXiv:2411.17163, Eq. 15)."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E[log sigmoid(D(real))] - E[log(1 - sigmoid(D(fake)))], halved (OSDFace, Eq. 16)."""
    return (F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()) / 2


def hinge_generator_loss(fake_logits: Tensor) -> Tensor:
    """-E[D(fake)] (Lim & Ye 2017, arXiv:1705.02894)."""
    return -fake_logits.mean()


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[max(0, 1 - D(real))] + E[max(0, 1 + D(fake))], halved (arXiv:1705.02894)."""
    return (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()) / 2


def saturating_generator_loss(fake_logits: Tensor) -> Tensor:
    """E[log(1 - sigmoid(D(fake)))], what both networks share in Eq. 7 of OSDFace as it is printed.

    The gradient vanishes where the discriminator is sure (Goodfellow et al. 2014, arXiv:1406.2661,
    Sec. 3), which `generator_loss` mends.
    """
    return -F.softplus(fake_logits).mean()


GanLoss = Literal["hinge", "log", "log-saturating"]
GAN_LOSSES = {
    "hinge": (hinge_generator_loss, hinge_discriminator_loss),
    "log": (generator_loss, discriminator_loss),
    "log-saturating": (saturating_generator_loss, discriminator_loss),
}
"""Name in a config -> the loss of the generator (fake) and of the discriminator (real, fake)."""


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_weight: Tensor) -> Tensor:
    """lambda = |d L_rec / d w| / (|d L_gan / d w| + 1e-4) at the decoder's last weight, detached.

    Both pulls on the decoder become equally strong (VQGAN, arXiv:2012.09841, Eq. 7); at most 1e4.
    """
    (rec,) = torch.autograd.grad(reconstruction, last_weight, retain_graph=True)
    (gan,) = torch.autograd.grad(adversarial, last_weight, retain_graph=True)
    return (rec.norm() / (gan.norm() + 1e-4)).clamp(max=1e4).detach()


class PatchDiscriminator(nn.Module):
    """Strided 4x4 convolutions to a map of logits (pix2pix, arXiv:1611.07004, Sec. 3.2.2).

    Args:
        ch: channels of the first layer.
        layers: strided layers; 3 sees 70x70 pixels.
        norm: "batch" as in the paper, "group" where batches are small.
    """

    def __init__(self, ch: int = 64, layers: int = 3, norm: str = "batch") -> None:
        super().__init__()
        widths = [ch * min(2**i, 8) for i in range(layers + 1)]
        modules = [Conv2d(3, ch, 4, 2, 1), nn.LeakyReLU(0.2)]
        for i, (a, b) in enumerate(pairwise(widths)):
            modules += [
                Conv2d(a, b, 4, 2 if i < layers - 1 else 1, 1, bias=False),
                nn.BatchNorm2d(b) if norm == "batch" else GroupNorm(8, b),
                nn.LeakyReLU(0.2),
            ]
        modules.append(Conv2d(widths[-1], 1, 4, 1, 1))
        self.net = nn.Sequential(*modules)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.02)

    def forward(self, *batches: Tensor) -> tuple[Tensor, ...]:
        """(b, 3, h, w) in [-1, 1] -> (b, 1, h', w') logits, for each batch on its own.

        Several batches in one call, because in multi-process training every call of a wrapped
        network expects a backward; apart, because batch norm would mix real and fake.
        """
        return tuple(self.net(images) for images in batches)
