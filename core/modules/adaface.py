"""AdaFace's backbone IR-Net: ArcFace's residual net with other names and BGR input.

Kim et al., CVPR 2022, arXiv:2204.00964. Names of layers follow mk-minchul/AdaFace, whose
checkpoints load as they are. The margin of the loss is in the head, which is not needed here; the
length of an embedding before it is normalised tells how well the face could be seen.
"""

from torch import Tensor, nn
from torch.nn import Conv2d, Linear

from .iresnet import DIM, SIZE, WIDTHS

DEPTHS = {
    (2, 2, 2, 2): "ir18",
    (3, 4, 6, 3): "ir34",
    (3, 4, 14, 3): "ir50",
    (3, 13, 30, 3): "ir101",
}
"""Blocks per stage -> the name it goes by."""


class _Block(nn.Module):
    """As in IResNet, but the first block of the first stage only leaves out every other pixel."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        if c_in == c_out:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(c_in),
            Conv2d(c_in, c_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.PReLU(c_out),
            Conv2d(c_out, c_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class AdaFaceIR(nn.Module):
    """(n, 3, 112, 112) BGR in [-1, 1], aligned as ArcFace does -> (n, 512) of length 1, (n, 1).

    The second result is the length before normalising, larger for faces that are seen well.

    Args:
        blocks: per stage, see `DEPTHS`.
    """

    def __init__(self, blocks: tuple[int, ...] = (3, 4, 14, 3)) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(
            Conv2d(3, WIDTHS[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(WIDTHS[0]),
            nn.PReLU(WIDTHS[0]),
        )
        body, before = [], WIDTHS[0]
        for width, count in zip(WIDTHS, blocks, strict=True):
            body += [_Block(before, width, 2), *(_Block(width, width, 1) for _ in range(count - 1))]
            before = width
        self.body = nn.Sequential(*body)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.Dropout(0.4),
            nn.Flatten(),
            Linear(before * (SIZE // 2 ** len(WIDTHS)) ** 2, DIM),
            nn.BatchNorm1d(DIM, affine=False),
        )

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        x = self.output_layer(self.body(self.input_layer(faces)))
        length = x.norm(dim=1, keepdim=True)
        return x / length.clamp(min=1e-12), length
