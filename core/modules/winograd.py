"""3x3 convolution with four times fewer multiplications, for large pictures on the CPU.

PyTorch's CPU library computes float32 convolutions directly; an autoencoder spends nearly all its
time there. The minimal filtering algorithm F(4x4, 3x3) turns each 6x6 patch into a 4x4 patch of
output with 36 instead of 144 products per pair of channels (Lavin and Gray 2015, arXiv:1509.09308).
Rounding errors grow to about 1e-5 of the largest value: invisible in a picture, but not good enough
for a code search, so OSDFace's embedder does without.

On one thread of a Zen 4 a 512 x 512 face is restored in 0.75 of the time (SD 2.1's VAE decodes in
0.64 of it), on two in 0.83 (0.72), and in 0.74 (0.62) on one where its AVX-512 is out of use:
benchmarks/results/winograd.json.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_AT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)

_MIN_CHANNELS = 64
_MIN_PIXELS = 64 * 64
"""Below these, transforming weights and patches costs more than it saves."""
_PATCHES = 256
"""Patches worked on at a time: enough for matrix products at full speed, few enough to stay in
cache."""


class Conv2d(nn.Conv2d):
    """Drop-in for `nn.Conv2d` that uses F(4x4, 3x3) where it pays; elsewhere PyTorch's."""

    def forward(self, x: Tensor) -> Tensor:
        return conv3x3(x, self.weight, self.bias) if self._pays(x) else super().forward(x)

    def _pays(self, x: Tensor) -> bool:
        plain = (
            self.kernel_size == (3, 3)
            and self.stride == self.dilation == (1, 1)
            and self.padding == (1, 1)
            and self.padding_mode == "zeros"
            and self.groups == 1
        )
        return (
            plain
            and x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and x.ndim == 4
            and not torch.is_grad_enabled()
            and min(self.in_channels, self.out_channels) >= _MIN_CHANNELS
            and x.shape[-2] * x.shape[-1] >= _MIN_PIXELS
        )


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.conv2d(x, weight, bias, padding=1)` for a 3x3 kernel, without gradient.

    Y = A^T [ (G g G^T) * (B^T d B) ] A per 6x6 patch d (arXiv:1509.09308, Eq. 8), the products over
    channels being one matrix product for each of the 36 places.

    Args:
        x: (b, c_in, h, w), fastest in channels-last layout.
        weight: (c_out, c_in, 3, 3).
        bias: (c_out,) or None.

    Returns:
        (b, c_out, h, w) in channels-last layout.
    """
    b, c_in, h, w = x.shape
    c_out = len(weight)
    to_patch, g, from_patch = (x.new_tensor(m) for m in (_BT, _G, _AT))
    # Two-dimensional transforms as one matrix each: (M d M^T) flattened is (M kron M) d.
    to_patch, from_patch = torch.kron(to_patch, to_patch), torch.kron(from_patch, from_patch)
    kernels = torch.kron(g, g) @ weight.permute(2, 3, 0, 1).reshape(9, -1)
    kernels = kernels.view(36, c_out, c_in).mT

    rows, columns = -(-h // 4), -(-w // 4)
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 4 * columns + 1 - w, 1, 4 * rows + 1 - h))
    patches = padded.unfold(1, 6, 4).unfold(2, 6, 4).permute(0, 4, 5, 1, 2, 3)
    out = x.new_empty(b, 4 * rows, 4 * columns, c_out)
    cells = out.view(b, rows, 4, columns, 4, c_out).permute(0, 2, 4, 1, 3, 5)
    step = max(1, _PATCHES // columns)
    for i in range(b):
        for top in range(0, rows, step):
            part = patches[i, :, :, top : top + step].reshape(36, -1)
            part = (to_patch @ part).view(36, -1, c_in) @ kernels
            part = from_patch @ part.view(36, -1)
            target = cells[i, :, :, top : top + step]
            part = part.view(target.shape)
            torch.add(part, bias, out=target) if bias is not None else target.copy_(part)
    return out[:, :h, :w].permute(0, 3, 1, 2)
