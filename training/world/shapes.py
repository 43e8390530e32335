"""Small drawing vocabulary: soft steps, compact bumps, coverage, windows, noise."""

from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace

import torch
import torch.nn.functional as F

Bound = torch.Tensor | float

_TEXELS = 256
FRACTAL, FRACTAL_2, FINE, FINE_2 = range(4)


def bump(d2: torch.Tensor) -> torch.Tensor:
    """(1 - d2/4)^4: close to exp(-d2), cheaper, and exactly 0 from d = 2 on, so it may be
    evaluated in a window alone."""
    x = (1 - 0.25 * d2).clamp_(0)
    x = x * x
    return x * x


def spot(
    u: torch.Tensor,
    v: torch.Tensor,
    u0: torch.Tensor | float,
    v0: torch.Tensor | float,
    width: torch.Tensor | float,
    height: torch.Tensor | float,
) -> torch.Tensor:
    """A bump about (u0, v0); `width` and `height` are its 1/e radii, it ends at twice those."""
    return bump(((u - u0) / width).square() + ((v - v0) / height).square())


def smoothstep(x: torch.Tensor, start: float, end: float) -> torch.Tensor:
    """0 before `start`, 1 after `end` (which may be smaller), 3t^2 - 2t^3 between."""
    t = ((x - start) * (1 / (end - start))).clamp_(0, 1)
    return t * t * (3 - 2 * t)


def coverage(distance: torch.Tensor, pixel: torch.Tensor | float) -> torch.Tensor:
    """How much of a pixel lies inside a shape, from the signed distance of its centre."""
    return (0.5 - distance / pixel).clamp_(0, 1)


@lru_cache(maxsize=4)
def _texture(device: torch.device) -> torch.Tensor:
    """(1, 4, n + 1, n + 1) periodic noise: two fractal channels and two of fine grain."""
    white = torch.randn(4, _TEXELS, _TEXELS, generator=torch.Generator().manual_seed(1234))
    f = torch.fft.fftfreq(_TEXELS) * _TEXELS
    radius = (f[:, None] ** 2 + f[None] ** 2).sqrt().clamp(min=1)
    spectrum = torch.fft.fft2(white)
    fractal = torch.fft.ifft2(spectrum / radius**1.1 * (radius > 2)).real
    fine = torch.fft.ifft2(spectrum * torch.exp(-((radius / (0.25 * _TEXELS)) ** 2))).real
    texture = torch.cat([fractal[:2], fine[2:]])
    texture = texture - texture.mean((1, 2), keepdim=True)
    texture = texture / texture.std((1, 2), keepdim=True)
    return F.pad(texture[None], (0, 1, 0, 1), mode="circular").to(device)


def noise(x: torch.Tensor, y: torch.Tensor, first: int, count: int = 1) -> torch.Tensor:
    """Channels of the noise texture at texel coordinates (b, h, w) -> (b, h, w) or, for more than
    one channel, (b, count, h, w). Mean 0, standard deviation 1."""
    texture = _texture(x.device)[:, first : first + count].expand(x.shape[0], -1, -1, -1)
    grid = torch.stack([x, y], -1).remainder_(_TEXELS).mul_(2 / _TEXELS).sub_(1)
    out = F.grid_sample(texture, grid, mode="bilinear", align_corners=True)
    return out[:, 0] if count == 1 else out


def fade(texels_per_unit: float, pixel: torch.Tensor) -> torch.Tensor:
    """Strength of a noise at this pixel size: 1 while a texel spans a pixel, 0 below a third, so
    that small pictures show smooth skin instead of aliasing."""
    return (1.5 - 0.5 * texels_per_unit * pixel).clamp(0, 1)


@dataclass
class Field:
    """Canonical coordinates of a block of pixels of a few photos.

    u, v: (b, h, w); pixel: (b, 1, 1) size of a pixel in canonical units.
    """

    u: torch.Tensor
    v: torch.Tensor
    pixel: torch.Tensor

    def window(
        self, left: Bound, top: Bound, right: Bound, bottom: Bound
    ) -> tuple[slice, slice] | None:
        """Rows and columns that hold all pixels with left < u < right and top < v < bottom; None
        when there are none. Bounds are (b, 1, 1) or numbers."""
        inside = (self.u > left) & (self.u < right) & (self.v > top) & (self.v < bottom)
        inside = inside.any(0)
        rows, columns = inside.any(1).nonzero(), inside.any(0).nonzero()
        if len(rows) == 0:
            return None
        return (
            slice(max(int(rows[0]) - 1, 0), int(rows[-1]) + 2),
            slice(max(int(columns[0]) - 1, 0), int(columns[-1]) + 2),
        )

    def crop(self, window: tuple[slice, slice]) -> "Field":
        """The part of the field inside a window."""
        return Field(self.u[:, *window], self.v[:, *window], self.pixel)


def over(
    canvas: torch.Tensor,
    colour: torch.Tensor,
    alpha: torch.Tensor,
    matte: torch.Tensor | None = None,
) -> None:
    """Paint `colour` (b, 3, h, w or 1, 1) with `alpha` (b, h, w) onto `canvas`, in place; `matte`
    (b, h, w) keeps count of what is covered."""
    canvas.lerp_(colour.expand_as(canvas), alpha[:, None].expand_as(canvas))
    if matte is not None:
        matte.add_(alpha * (1 - matte))


def tint(red: float, green: float, blue: float, like: torch.Tensor) -> torch.Tensor:
    """A colour as (1, 3, 1, 1)."""
    return torch.tensor([red, green, blue], device=like.device)[None, :, None, None]


@dataclass
class Scene:
    """What the painters share: the person and the photo broadcast to maps, and the light."""

    p: SimpleNamespace
    q: SimpleNamespace

    @property
    def light(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x, y and z of the light, (b, 1, 1) each."""
        return self.q.light[:, 0], self.q.light[:, 1], self.q.light[:, 2]
