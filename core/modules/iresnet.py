"""IResNet, the backbone of ArcFace: a residual net with normalisation first and PReLU between.

Improved residual blocks (Duta et al., arXiv:2004.04989) as ArcFace uses them (Deng et al.,
arXiv:1801.07698). Names of layers follow deepinsight/insightface's `arcface_torch`, whose files
load as they are.
"""

import torch
from torch import Tensor, nn
from torch.nn import Conv2d, Linear

WIDTHS = (64, 128, 256, 512)
"""Channels of the four stages; each halves the picture."""
SIZE = 112
"""Side of the faces in pixels."""
DIM = 512
"""Length of the embedding."""
DEPTHS = {
    (2, 2, 2, 2): "r18",
    (3, 4, 6, 3): "r34",
    (3, 4, 14, 3): "r50",
    (3, 13, 30, 3): "r100",
    (6, 26, 60, 6): "r200",
}
"""Blocks per stage -> the name it goes by."""


class _Block(nn.Module):
    """bn, conv, bn, PReLU, conv (with the stride), bn; plus the input, projected where it must."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.prelu = nn.PReLU(c_out)
        self.conv2 = Conv2d(c_out, c_out, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.downsample = None
        if stride != 1:  # in every stage the first block, and no other
            self.downsample = nn.Sequential(
                Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        h = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        h = self.bn3(self.conv2(h))
        return h + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    """(n, 3, 112, 112) RGB in [-1, 1], aligned as ArcFace does -> (n, 512), of any length.

    Args:
        blocks: per stage, see `DEPTHS`.
    """

    def __init__(self, blocks: tuple[int, ...] = (3, 4, 14, 3)) -> None:
        super().__init__()
        self.conv1 = Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.prelu = nn.PReLU(WIDTHS[0])
        before = WIDTHS[0]
        for i, (width, count) in enumerate(zip(WIDTHS, blocks, strict=True), start=1):
            rest = (_Block(width, width, 1) for _ in range(count - 1))
            setattr(self, f"layer{i}", nn.Sequential(_Block(before, width, 2), *rest))
            before = width
        self.bn2 = nn.BatchNorm2d(before)
        # Dropout stands between the two while training; recognisers here only ever evaluate.
        self.fc = Linear(before * (SIZE // 2 ** len(WIDTHS)) ** 2, DIM)
        self.features = nn.BatchNorm1d(DIM)

    def forward(self, faces: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(faces)))
        for i in range(len(WIDTHS)):
            x = self.get_submodule(f"layer{i + 1}")(x)
        return self.features(self.fc(torch.flatten(self.bn2(x), 1)))
