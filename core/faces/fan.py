"""AWing FAN: 98 landmarks of aligned faces, with the user's own package and weights.

Adaptive Wing Loss (arXiv:1904.07399) on four stacked hourglasses, trained on WFLW (Wu et al., CVPR
2018). HonestFace measures A-LD and L2-LD with it; the network itself is facexlib's.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checkpoint import load_strict, read_tensors
from ..devices import without_autocast
from ..errors import FacewrightError
from ..geometry.face import check_crops
from ..geometry.heatmaps import cells_to_pixels

POINTS = 98
_SIZE = 256
_STEP = 0.25
_AT_ONCE = 8
"""Faces per pass: four hourglasses hold about 100 MB for each."""


class FanLandmarker:
    """The landmarker of one weight file; `landmarks` and `heatmaps` follow `DenseLandmarker`."""

    points = POINTS

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        """
        Raises:
            CheckpointError: the file is something else.
            FacewrightError: the package is not installed.
        """
        try:
            from facexlib.alignment.awing_arch import FAN
        except ImportError as error:
            raise FacewrightError(
                f"The landmarks of the face analyzer 'facexlib' need its package, which cannot be "
                f"imported ({error}). Install it with `pip install facexlib`."
            ) from error
        self._device = torch.device(device)
        net = FAN(num_modules=4, num_landmarks=POINTS, device=self._device)
        tensors = {k.removeprefix("module."): v for k, v in read_tensors(path)[0].items()}
        # Files of old PyTorch versions lack these counters, which only training reads.
        counters = {k: v for k, v in net.state_dict().items() if k.endswith("num_batches_tracked")}
        load_strict(net, counters | tensors, source=str(path))
        self._net = net.eval().requires_grad_(False).to(self._device)

    @torch.no_grad()
    def heatmaps(self, crops: Tensor) -> Tensor:
        """FFHQ-aligned faces (n, 3, s, s) in [0, 1] -> (n, 98, 64, 64), 0 to about 1.

        The last hourglass's maps without the boundary channel, for RGB in [0, 1] at 256 px.
        """
        size = check_crops(crops)
        parts = [crops.new_zeros(0, POINTS, _SIZE // 4, _SIZE // 4, dtype=torch.float32)]
        for part in crops.split(_AT_ONCE) if len(crops) else ():
            # Up to 512 px exactly facexlib's cv2.resize; beyond, that would skip pixels.
            x = F.interpolate(
                part.float().to(self._device),
                (_SIZE, _SIZE),
                mode="bilinear",
                align_corners=False,
                antialias=size > 2 * _SIZE,
            )
            with without_autocast(self._device):
                stacks, _ = self._net(x)
            parts.append(stacks[-1][:, :-1].to(crops.device))
        return torch.cat(parts)

    def landmarks(self, crops: Tensor) -> Tensor:
        """FFHQ-aligned faces (n, 3, s, s) in [0, 1] -> (n, 98, 2) in pixels of the crop."""
        return cells_to_pixels(peaks(self.heatmaps(crops)), crops.shape[-1])


def peaks(heatmaps: Tensor) -> Tensor:
    """Positions of the largest cells, (n, k, h, w) -> (n, k, 2) xy in cells, 0 at the first.

    A quarter of a cell towards the larger neighbour along each axis, as FAN's decoders have it;
    none where the neighbours are equal or the largest cell lies at the border. (facexlib reads
    cells of other rows there. Its + 1/2 counts from the edge of the map instead of the first
    cell's centre; `cells_to_pixels` adds the same.)
    """
    n, k, height, width = heatmaps.shape
    if not n:
        return heatmaps.new_zeros(0, k, 2)
    best = heatmaps.flatten(2).argmax(2)
    x, y = best % width, best // width
    # A border of the maps' own edge cells: every cell has four neighbours.
    framed = F.pad(heatmaps, (1, 1, 1, 1), "replicate").flatten(2)
    middle = (y + 1) * (width + 2) + x + 1

    def towards(stride: int, at_border: Tensor) -> Tensor:
        after, before = (
            framed.gather(2, (middle + s)[..., None])[..., 0] for s in (stride, -stride)
        )
        return torch.where(at_border, 0.0, (after - before).sign() * _STEP)

    dx = towards(1, (x == 0) | (x == width - 1))
    dy = towards(width + 2, (y == 0) | (y == height - 1))
    return torch.stack([x + dx, y + dy], 2)
