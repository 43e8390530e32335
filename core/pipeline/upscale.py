"""A whole picture enlarged by a network, tile by tile: no seams, and memory that is bounded."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..devices import without_autocast
from ..errors import CheckpointError, FacewrightError, NonFiniteError, shorten
from ..files.known import IMAGE_MODELS
from ..geometry.warp import warp
from ..host import host
from ..images import MAX_PIXELS
from ..modules.spandrel import describe_image_model, load_image_model

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

MEMORY = 2 * 2**30
"""Bytes that a network may take for one tile, where no size of tiles is given."""
SMALLEST_TILE = 128
_LARGEST_TILE = 1024
_CONTEXT = 32
"""Pixels that a network sees on each side of what is kept of a tile: its own borders spoil them."""
_BLEND = 8
"""Pixels on each side of a seam over which two tiles are mixed; within the context of both."""
_PROBE = 64
"""Side of the tile on which a network's need of memory is measured."""
_ALIVE = 2
"""How much more lives at a time than the largest input and output of one layer (residuals)."""
_LOG = logging.getLogger(__name__)


@dataclass
class Upscaler:
    """A network of spandrel's that takes whole pictures: it enlarges or, at 1x, cleans them."""

    model: "ImageModelDescriptor"
    name: str
    """Of its file."""
    _tile: int = field(default=0, init=False)
    """What was found to fit, 0 before the first picture."""

    def __post_init__(self) -> None:
        model = self.model
        if model.purpose == "FaceSR":
            raise CheckpointError(
                f"{self.name} is {describe_image_model(model)}: it restores single faces that "
                "were cut out, not whole pictures. Choose an upscaler for the picture, such as an "
                "ESRGAN or DAT file; a face restorer goes to --weights."
            )
        channels = (model.input_channels, model.output_channels)
        if channels not in ((3, 3), (1, 1)):
            raise CheckpointError(
                f"{self.name} is {describe_image_model(model)} that makes {channels[1]} channels "
                f"of {channels[0]}; pictures have 3. Choose an upscaler for RGB pictures."
            )

    @property
    def network(self) -> nn.Module:
        """What has to be where it computes."""
        return self.model.model

    def factor(self, by: float | None) -> float:
        """How many times as large pictures become: `by`, or else what the network was made for."""
        return by or float(self.model.scale)

    def size(self, height: int, width: int, by: float | None = None) -> tuple[int, int]:
        """Height and width of what `enlarged` gives.

        Raises:
            FacewrightError: so many pixels that no picture file of them could be read again.
        """
        factor = self.factor(by)
        found = round(height * factor), round(width * factor)
        if math.prod(found) > MAX_PIXELS:
            most = math.sqrt(MAX_PIXELS / (height * width))
            raise FacewrightError(
                f"{width} x {height} pixels enlarged {factor:g} times are {found[1]} x {found[0]}, "
                f"{math.prod(found) / 1e6:.0f} megapixels, and at most {MAX_PIXELS / 1e6:.0f} are "
                f"written. Ask for less with upscale_by (--upscale-by): at most "
                f"{math.floor(most * 100) / 100:g} for this picture."
            )
        return found

    def told(self, picture: Tensor) -> str:
        """A line on a picture that was made by `enlarged`."""
        height, width = picture.shape[-2:]
        return f"{width} x {height} pixels by {self.name}"

    @torch.no_grad()
    def enlarged(
        self,
        picture: Tensor,
        device: torch.device,
        *,
        by: float | None = None,
        tile: int | None = None,
    ) -> Tensor:
        """A picture made `by` times as large.

        Each tile is seen with some pixels around it and mixed into its neighbours over a narrow
        seam. Where the network looks no farther than 24 pixels the result is that of the whole
        picture at once; of others nothing is left of a tile's border. Alpha is resampled. Beside
        the result, memory is that of one tile; where a device has less, tiles become smaller.

        Args:
            picture: (3 or 4, h, w) in [0, 1].
            device: where `network` is.
            by: times; None as the network does. Another factor is resampled from what it makes.
            tile: side of what the network sees at a time, in pixels of the picture; None: as large
                as `MEMORY` allows.

        Returns:
            (3 or 4, round(h by), round(w by)) float32 in [0, 1] on the CPU.

        Raises:
            FacewrightError: as `size`; the network's result has another size than it says; or the
                memory does not do for the smallest tiles.
            NonFiniteError: the network gave NaN or infinity.
        """
        height, width = self.size(picture.shape[-2], picture.shape[-1], by)
        small = max(picture.shape[-2:]) <= SMALLEST_TILE
        side = tile or (SMALLEST_TILE if small else self._tile or self._fitting(device))
        while True:
            try:
                color = self._tiled(picture[:3], device, (height, width), side)
                break
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                if side <= SMALLEST_TILE:
                    raise FacewrightError(
                        f"{self.name} runs out of memory even with tiles of {side} pixels "
                        f"(a result of {width} x {height}). Close other programs, enlarge less "
                        "with --upscale-by, use --device cpu, or choose a smaller network."
                    ) from error
            # Outside `except`, which keeps the tensors of the failed attempt alive.
            _forget(device)
            smaller = max(SMALLEST_TILE, side // 2)
            _LOG.warning(
                "%s ran out of memory with tiles of %d pixels; going on with %d.",
                self.name,
                side,
                smaller,
            )
            side = smaller
        if not tile and not small:
            self._tile = side
        if len(picture) == 3:
            return color
        alpha = picture[3:].float().cpu()[None]
        # Opaque stays opaque: bicubic overshoots where it is not.
        alpha = F.interpolate(alpha, (height, width), mode="bicubic", antialias=True)[0]
        return torch.cat([color, alpha.clamp_(0, 1)])

    def _tiled(
        self, picture: Tensor, device: torch.device, size: tuple[int, int], side: int
    ) -> Tensor:
        height, width = picture.shape[-2:]
        if getattr(self.model.tiling, "name", "") == "INTERNAL":
            side = max(height, width)  # it sees to that itself
        out = torch.zeros(3, *size)
        for y in _spans(height, size[0], side):
            for x in _spans(width, size[1], side):
                made = self._run(picture[:, y.seen, x.seen].float()[None].to(device))[0]
                made = _resampled(made.cpu(), y, x, self.model.scale)
                out[:, y.target, x.target].addcmul_(made, y.weight[:, None] * x.weight)
        return out

    def _run(self, tile: Tensor) -> Tensor:
        """(1, 3, h, w) -> (1, 3, h scale, w scale), float32."""
        with without_autocast(tile.device):
            parts = tile.split(self.model.input_channels, 1)
            made = torch.cat([self.model(part) for part in parts], 1)
        expected = [side * self.model.scale for side in tile.shape[-2:]]
        if list(made.shape[-2:]) != expected:
            raise FacewrightError(
                f"{self.name} should make {expected[1]} x {expected[0]} pixels of "
                f"{tile.shape[-1]} x {tile.shape[-2]}, and made {made.shape[-1]} x "
                f"{made.shape[-2]}. It is another variant than spandrel knows; choose another file."
            )
        if not torch.isfinite(made).all():
            raise NonFiniteError(
                f"{self.name} made NaN or infinity of the picture, in float32. The file is damaged "
                "or was trained in a way that does not hold here; choose another upscaler."
            )
        return made

    def _fitting(self, device: torch.device) -> int:
        """Side of the tiles for which `MEMORY` does, by what the layers make of a small one."""
        largest = 0

        def measure(module: nn.Module, given: Sequence, made: object) -> None:
            nonlocal largest
            both = [x for x in (*given, made) if isinstance(x, Tensor)]
            largest = max(largest, sum(x.numel() * x.element_size() for x in both))

        hooks = [
            module.register_forward_hook(measure)
            for module in self.network.modules()
            if not any(module.children())
        ]
        try:
            self._run(torch.zeros(1, 3, _PROBE, _PROBE, device=device))
        finally:
            for hook in hooks:
                hook.remove()
        side = _PROBE * math.sqrt(MEMORY / max(1, _ALIVE * largest))
        return max(SMALLEST_TILE, min(_LARGEST_TILE, int(side) // 64 * 64))


def load_upscaler(name: str) -> Upscaler:
    """An upscaler by the path of its file, or its name in upscale_models.

    Raises:
        CheckpointError: there is none, or it is something else; the sentence says what.
        FacewrightError: spandrel is not installed.
    """
    path = find_upscaler(name)
    return Upscaler(load_image_model(path), shorten(path.name))


def find_upscaler(name: str) -> Path:
    """The file that `load_upscaler` reads.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path.absolute()
    if path.is_absolute():
        raise CheckpointError(f"There is no file {shorten(name)}, which should be an upscaler.")
    for folder in IMAGE_MODELS:  # a face restorer is found, too, and refused as what it is
        with suppress(CheckpointError):
            return Path(host.model_path(folder, name))
    return Path(host.model_path(IMAGE_MODELS[0], name))  # says what is missing


class _Span(NamedTuple):
    """A tile along one axis."""

    seen: slice
    """Pixels of the picture that the network gets."""
    target: slice
    """Pixels of the result that it has a share in."""
    weight: Tensor
    """That share, for each of them; those of all tiles sum to 1."""
    step: float
    """Picture pixels per pixel of the result."""


def _spans(length: int, target: int, side: int) -> Iterator[_Span]:
    """Tiles of at most `side` pixels along an axis of `length`, whose result has `target`."""
    count = 1 if length <= side else math.ceil(length / (side - 2 * _CONTEXT))
    edges = [round(i * length / count) for i in range(count + 1)]
    step = length / target
    for low, high in pairwise(edges):
        first, last = low == 0, high == length
        seen = slice(max(0, low - _CONTEXT), min(length, high + _CONTEXT))
        start = 0 if first else math.floor((low - _BLEND) / step)
        stop = target if last else math.ceil((high + _BLEND) / step)
        at = (torch.arange(start, stop, dtype=torch.float64) + 0.5) * step
        rises = torch.ones_like(at) if first else (at - low) / (2 * _BLEND) + 0.5
        falls = torch.ones_like(at) if last else (high - at) / (2 * _BLEND) + 0.5
        weight = torch.minimum(rises, falls).clamp(0, 1).float()
        yield _Span(seen, slice(start, stop), weight, step)


def _resampled(made: Tensor, y: _Span, x: _Span, scale: int) -> Tensor:
    """The part of the result for which a tile was `made`, `scale` times as large as the picture."""
    if y.step * scale == x.step * scale == 1:
        rows, columns = (
            slice(s.target.start - s.seen.start * scale, s.target.stop - s.seen.start * scale)
            for s in (y, x)
        )
        return made[:, rows, columns]
    matrix = torch.zeros(2, 3, dtype=torch.float64)
    for axis, span in enumerate((x, y)):
        ratio = 1 / (span.step * scale)
        matrix[axis, axis] = ratio
        matrix[axis, 2] = (0.5 + span.seen.start * scale) * ratio - 0.5
    window = (x.target.start, y.target.start, x.target.stop, y.target.stop)
    return warp(made, matrix, window)


def _is_out_of_memory(error: BaseException) -> bool:
    """Of a device, which has a class of its own, or of the machine, which has not."""
    said = str(error).lower()
    phrases = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(phrase in said for phrase in phrases)


def _forget(device: torch.device) -> None:
    """Give back what a device's allocator holds of the failed attempt."""
    empty = getattr(getattr(torch, device.type, None), "empty_cache", None)
    if empty is not None:
        empty()
