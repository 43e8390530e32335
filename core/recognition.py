"""Who a face is: recognisers turn aligned faces into vectors whose cosine compares people."""

import hashlib
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import check_image
from .modules.identity import IdentityEncoder

Crop = Literal["full", "arcface"]

# The best similarity from the FFHQ five-point template (512 px) to ArcFace's (112 px) has scale
# 0.2921 and no rotation worth mentioning, so on FFHQ-aligned faces ArcFace's alignment is a crop.
_ARCFACE_BOX = (64.8 / 512, 61.2 / 512, 448.2 / 512, 444.7 / 512)
_ARCFACE_SIZE = 112


def arcface_crop(faces: Tensor) -> Tensor:
    """(b, 3, s, s) FFHQ-aligned faces -> (b, 3, 112, 112) as ArcFace aligns them; differentiable.

    The box x in [64.8, 448.2], y in [61.2, 444.7] of 512, resampled bilinearly with antialiasing.
    """
    size = faces.shape[-1]
    x0, y0, x1, y1 = (round(v * size) for v in _ARCFACE_BOX)
    return F.interpolate(
        faces[..., y0:y1, x0:x1],
        (_ARCFACE_SIZE, _ARCFACE_SIZE),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )


def fingerprint(net: nn.Module) -> str:
    """16 hexadecimal digits that change with any weight of `net`."""
    digest = hashlib.sha256()
    for key, value in sorted(net.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()[:16]


class Recogniser(nn.Module):
    """A frozen face recogniser with all it wants to know about its input.

    Embeddings of two recognisers cannot be compared: `id` names the very weights, and albums and
    identity embedders remember it.
    """

    def __init__(self, net: nn.Module, *, name: str, dim: int, crop: Crop = "full") -> None:
        """
        Args:
            net: (n, 3, h, w) in [0, 1] RGB, cropped as `crop` says -> (n, dim).
            name: of the kind, such as "arcface-r50".
            dim: length of the embeddings.
            crop: "full" hands over the whole FFHQ-aligned face, "arcface" cuts it as ArcFace does.
        """
        super().__init__()
        self.net = net.eval().requires_grad_(False)
        self.name, self.dim, self.crop = name, dim, crop
        self.id = f"{name}:{fingerprint(net)}"

    def forward(self, faces: Tensor) -> Tensor:
        """FFHQ-aligned faces (n, 3, s, s) in [0, 1] -> (n, dim) float32 of length 1; n may be 0."""
        check_image(faces, name="faces")
        if not len(faces):
            return faces.new_zeros(0, self.dim, dtype=torch.float32)
        x = arcface_crop(faces) if self.crop == "arcface" else faces
        with torch.autocast(faces.device.type, enabled=False):
            return F.normalize(self.net(x.float()), dim=1)


def nano_recogniser(net: IdentityEncoder) -> Recogniser:
    """The recogniser of rendered faces."""
    return Recogniser(net, name="nano-identity", dim=net.config.dim)
