"""Face parsing: which part of a face a pixel of an aligned crop shows, with the user's weights.

ParseNet (Chen et al., Progressive Semantic-Aware Style Transformation for Blind Face Restoration,
CVPR 2021) and BiSeNet (Yu et al., ECCV 2018) as xinntao/facexlib publishes them: 19 classes of
CelebAMask-HQ, RGB at 512 px. The networks are built here so that the package is not needed; the
tests hold them against facexlib's own.
"""

from collections import OrderedDict
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Conv2d

from ..checkpoint import load_strict, read_tensors
from ..devices import without_autocast
from ..errors import CheckpointError
from ..files.known import BISENET, PARSENET
from ..files.search import find_file
from ..geometry.face import check_crops
from .needs import roots_of

_SIZE = 512
_SEVERAL = {
    "background": ("background",),
    "skin": ("skin",),
    "brows": ("l_brow", "r_brow"),
    "eyes": ("l_eye", "r_eye"),
    "glasses": ("eye_g",),
    "nose": ("nose",),
    "mouth": ("mouth", "u_lip", "l_lip"),
    "ears": ("l_ear", "r_ear"),
    "earrings": ("ear_r",),
    "hair": ("hair",),
    "hat": ("hat",),
    "neck": ("neck",),
    "necklace": ("neck_l",),
    "clothes": ("cloth",),
}
"""Parts, and the classes of CelebAMask-HQ that are one. A hand or a microphone is background."""
PARTS = tuple(part for part in _SEVERAL if part != "background")
# fmt: off
_PARSENET_CLASSES = (
    "background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear",
    "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)
_BISENET_CLASSES = (
    "background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r",
    "nose", "mouth", "u_lip", "l_lip", "neck", "neck_l", "cloth", "hair", "hat",
)
# fmt: on
"""By the networks' outputs: ParseNet's are in the order of CelebAMask-HQ's attributes (its README,
chaofengc/PSFRGAN and facexlib's FaceRestoreHelper agree), BiSeNet's in that of
zllrunning/face-parsing.PyTorch, whose weights facexlib publishes."""


class _Padded(nn.Module):
    """A 3 x 3 convolution of mirrored borders, enlarged before ("up") or strided ("down")."""

    def __init__(self, c_in: int, c_out: int, scale: str = "", norm: bool = False) -> None:
        super().__init__()
        self.up = scale == "up"
        self.conv2d = Conv2d(c_in, c_out, 3, 2 if scale == "down" else 1, bias=not norm)
        parts = [("norm", nn.BatchNorm2d(c_out))] if norm else []
        self.norm = nn.Sequential(OrderedDict(parts))

    def forward(self, x: Tensor) -> Tensor:
        if self.up:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.norm(self.conv2d(F.pad(x, (1, 1, 1, 1), "reflect")))


class _Residual(nn.Module):
    def __init__(self, c_in: int, c_out: int, scale: str = "") -> None:
        super().__init__()
        first, second = {"down": ("", "down"), "up": ("up", ""), "": ("", "")}[scale]
        same = not scale and c_in == c_out
        self.shortcut_func = nn.Identity() if same else _Padded(c_in, c_out, scale)
        self.conv1 = _Padded(c_in, c_out, first, norm=True)
        self.conv2 = _Padded(c_out, c_out, second, norm=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut_func(x) + self.conv2(F.leaky_relu(self.conv1(x), 0.2))


class ParseNet(nn.Module):
    """facexlib's, at 512 px: (b, 3, 512, 512) in [-1, 1] -> (b, 19, 512, 512)."""

    classes = _PARSENET_CLASSES
    mean = std = (0.5, 0.5, 0.5)

    def __init__(self) -> None:
        super().__init__()
        down, up = (64, 128, 256, 256, 256), (256, 256, 256, 128, 64)
        steps = [_Residual(*pair, "down") for pair in pairwise(down)]
        self.encoder = nn.Sequential(_Padded(3, 64), *steps)
        self.body = nn.Sequential(*(_Residual(256, 256) for _ in range(10)))
        steps = [_Residual(*pair, "up") for pair in pairwise(up)]
        self.decoder = nn.Sequential(*steps)
        # A picture, which only training looks at; the file has its weights.
        self.out_img_conv = _Padded(64, 3)
        self.out_mask_conv = _Padded(64, len(self.classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(x)
        return self.out_mask_conv(self.decoder(x + self.body(x)))


class _ConvNorm(nn.Module):
    def __init__(self, c_in: int, c_out: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Basic(nn.Module):
    """A block of ResNet-18."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        stride = 1 if c_in == c_out else 2
        self.conv1 = Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        shortcut = Conv2d(c_in, c_out, 1, stride, bias=False)
        parts = [shortcut, nn.BatchNorm2d(c_out)] if stride == 2 else []
        self.downsample = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.downsample(x) + self.bn2(self.conv2(inner)))


class _ResNet18(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        widths = (64, 64, 128, 256, 512)
        for i, (a, b) in enumerate(pairwise(widths), 1):
            self.add_module(f"layer{i}", nn.Sequential(_Basic(a, b), _Basic(b, b)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """At an eighth, a sixteenth and a thirty-second of the size."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, padding=1)
        found = [x]
        for i in range(1, 5):
            found.append(self.get_submodule(f"layer{i}")(found[-1]))
        return found[2:]


class _Refine(nn.Module):
    """Channels weighted by the mean of the picture."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = _ConvNorm(c_in, c_out)
        self.conv_atten = Conv2d(c_out, c_out, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * torch.sigmoid(self.bn_atten(self.conv_atten(_mean(x))))


class _Context(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.resnet = _ResNet18()
        self.arm16, self.arm32 = _Refine(256, 128), _Refine(512, 128)
        self.conv_head32, self.conv_head16 = _ConvNorm(128, 128), _ConvNorm(128, 128)
        self.conv_avg = _ConvNorm(512, 128, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine, middle, coarse = self.resnet(x)
        up = self.arm32(coarse) + self.conv_avg(_mean(coarse))
        up = self.conv_head32(F.interpolate(up, middle.shape[2:]))
        up = self.arm16(middle) + up
        return fine, self.conv_head16(F.interpolate(up, fine.shape[2:]))


class _Fuse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convblk = _ConvNorm(256, 256, 1)
        self.conv1 = Conv2d(256, 64, 1, bias=False)
        self.conv2 = Conv2d(64, 256, 1, bias=False)

    def forward(self, fine: Tensor, context: Tensor) -> Tensor:
        x = self.convblk(torch.cat([fine, context], 1))
        return x + x * torch.sigmoid(self.conv2(F.relu(self.conv1(_mean(x)))))


class _Head(nn.Module):
    def __init__(self, c_in: int, c_middle: int, classes: int) -> None:
        super().__init__()
        self.conv = _ConvNorm(c_in, c_middle)
        self.conv_out = Conv2d(c_middle, classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


class BiSeNet(nn.Module):
    """facexlib's: (b, 3, h, w), normalised as for ImageNet -> (b, 19, h, w); sides from 32."""

    classes = _BISENET_CLASSES
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(self) -> None:
        super().__init__()
        self.cp, self.ffm = _Context(), _Fuse()
        self.conv_out = _Head(256, 256, len(self.classes))
        # Further outputs, which only training looks at; the file has their weights.
        self.conv_out16, self.conv_out32 = (_Head(128, 64, len(self.classes)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv_out(self.ffm(*self.cp(x)))
        return F.interpolate(out, x.shape[2:], mode="bilinear", align_corners=True)


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


class FaceParser:
    """A parsing network with its weights."""

    def __init__(self, net: ParseNet | BiSeNet, name: str) -> None:
        self.net, self.name = net.eval().requires_grad_(False), name

    @torch.no_grad()
    def shows(self, crops: Tensor, parts: tuple[str, ...]) -> Tensor:
        """Which pixels of FFHQ-aligned faces show one of the `PARTS`.

        Args:
            crops: (n, 3, s, s) in [0, 1], of any size; computed where the network is.

        Returns:
            (n, s, s) bool on the CPU: the likeliest class belongs to one of the parts.
        """
        size = check_crops(crops)
        names = {name for part in parts for name in _SEVERAL[part]}
        mine, others = (
            [i for i, name in enumerate(self.net.classes) if (name in names) == wanted]
            for wanted in (True, False)
        )
        found = torch.zeros(len(crops), size, size, dtype=torch.bool)
        like = next(self.net.parameters())
        mean, std = (torch.tensor(v).view(3, 1, 1).to(like) for v in (self.net.mean, self.net.std))
        for i in range(len(crops) if mine else 0):
            x = _resized(crops[i : i + 1].to(like).clamp(0, 1), _SIZE)
            with without_autocast(like.device):
                scores = self.net((x - mean) / std)
            # One channel is resized in place of 19: by how much one of the parts is ahead.
            ahead = scores[:, mine].amax(1, True) - scores[:, others].amax(1, True)
            found[i] = _resized(ahead, size)[0, 0].cpu() > 0
        return found


def load_parser(model_dir: str | Path | None = None) -> FaceParser:
    """The parsing network whose weights are there, ParseNet before BiSeNet; on the CPU.

    Raises:
        CheckpointError: neither file is there, or it is something else.
    """
    path, kind = find_parser(model_dir)
    net = kind()
    tensors = read_tensors(path)[0]
    # Files of old PyTorch versions lack these counters, which only training reads.
    state = net.state_dict()
    counters = {k: v for k, v in state.items() if k.endswith("num_batches_tracked")}
    load_strict(net, counters | tensors, source=str(path))
    return FaceParser(net, path.name)


def find_parser(model_dir: str | Path | None = None) -> tuple[Path, type["ParseNet | BiSeNet"]]:
    """The weights that `load_parser` reads, and their network.

    Raises:
        CheckpointError: neither file is there.
    """
    roots = roots_of("facexlib", model_dir)
    for file, kind in ((PARSENET, ParseNet), (BISENET, BiSeNet)):
        path = find_file(roots, file.folders, file.names)
        if path is not None:
            return path, kind
    searched = ", ".join(map(str, roots)) or "the models folders"
    raise CheckpointError(
        f"Masks by face parsing need the weights {PARSENET.names[0]} or {BISENET.names[0]}, and "
        f"neither is in {searched}. {PARSENET.where} The oval needs no weights."
    )


def _resized(x: Tensor, size: int) -> Tensor:
    if x.shape[-1] == size:
        return x
    return F.interpolate(
        x, (size, size), mode="bilinear", align_corners=False, antialias=x.shape[-1] > 2 * size
    )
