"""What shrinking a large face took away, given back where the restorer kept what was left of it.

Of a face with k picture pixels for one of the crop (k > 1) the crop holds nothing finer than its
own pixels. The rest is h = x - up(down(x)), x the picture, down and up the pipeline's own warps. In
it lie lashes and hair as well as grain, block edges and scratches. Which is which shows in the
crop, whose finest octave went through the restorer. With p(.) that octave, D = down(x) and F the
restored face,

    w    = rho2 max(0, 1 - 2 (1 - a) N / E)
    rho2 = max(0, <p(D) p(F)>)^2 / ((<p(D)^2> + eps) (<p(F)^2> + eps))
    E    = <down(h^2)>,  N = median of E over the face,  a = rho2 of all places with E <= N

and up(F) + detail up(w) h is pasted in place of up(F). <.> are means over a neighborhood and the
three colors.

rho2 in [0, 1] is the share of one octave that the other explains: 1 where the restorer kept what it
saw or only softened it; 0 where it took it out (a scratch), or drew or moved something, so that h
would be a second outline. The second factor is a Wiener filter (Wiener, 1949): N is what lies
everywhere, and as far as the restorer took away what lies in the crop's quiet places (1 - a), it is
noise. That is subtracted twice, as in spectral subtraction (Berouti et al., ICASSP 1979): grain
grows towards the fine and faces do not, so the crop's octave judges h mildly.
"""

from collections.abc import Callable

from torch import Tensor

from ..color import wavelet_low
from .warp import Range, Window, covered, invert, pixel_grid, scale_of, transform, warp

_EPS = 1 / 255**2
"""Energy that rounding to 8 bits makes up for: below it nothing is known of a place."""
_SUBTRACTED = 2.0
_FACE = 0.35
"""Radius, in sides of the crop, of the disc that is all face."""
_TILE = 1024
"""Picture pixels along a side for which h is held at a time."""


def lost_detail(
    picture: Tensor, matrix: Tensor, face: Tensor, within: Range | None = None
) -> Callable[[Window], Tensor] | None:
    """What of `picture` is finer than `face` and belongs to it: up(w) h.

    Args:
        picture: (3, h, w).
        matrix: (2, 3) picture -> face, as for `warp`.
        face: (3, s, s) in [0, 1], restored.
        within: value range of `picture`, where it is known.

    Returns:
        Of a window x0, y0, x1, y1 of the picture (3, y1 - y0, x1 - x0) float32, to be added to the
        face warped there. None where the face was not shrunk: then nothing was lost.
    """
    size = face.shape[-1]
    if scale_of(matrix) >= 1:
        return None
    down = warp(picture, matrix, (0, 0, size, size), within).float()
    energy, inside = _energy(picture, down, matrix), _inside(picture, matrix, size)
    weight = _kept(down, face.float(), energy, inside)
    up = invert(matrix)

    def of(window: Window) -> Tensor:
        return warp(weight, up, window) * _finer(picture, down, up, window)

    return of


def _finer(picture: Tensor, down: Tensor, up: Tensor, window: Window) -> Tensor:
    """h in a window of the picture."""
    x0, y0, x1, y1 = window
    return picture[:, y0:y1, x0:x1].float() - warp(down, up, window)


def _kept(down: Tensor, face: Tensor, energy: Tensor, inside: Tensor) -> Tensor:
    """w, (1, s, s); `inside` (s, s) says where the statistics of the face are taken."""

    def mean(of: Tensor) -> Tensor:
        return wavelet_low(of.mean(0, keepdim=True)[None], 2)[0]

    before, after = (x - wavelet_low(x[None], 1)[0] for x in (down, face))
    both, one, other = mean(before * after), mean(before**2), mean(after**2)
    share = both.clamp(min=0) ** 2 / ((one + _EPS) * (other + _EPS))
    energy = wavelet_low(energy[None], 1)[0]
    noise = energy[:, inside].median() if inside.any() else energy.new_zeros(())
    quiet = inside & (energy[0] <= noise)
    survived = both[:, quiet].sum().clamp(min=0) ** 2
    survived = survived / (one[:, quiet].sum() * other[:, quiet].sum()).clamp(min=1e-20)
    noise = _SUBTRACTED * (1 - survived.clamp(max=1)) * noise
    return share * (1 - noise / energy.clamp(min=1e-20)).clamp(min=0)


def _energy(picture: Tensor, down: Tensor, matrix: Tensor) -> Tensor:
    """down(h^2), mean over the colors, (1, s, s); in tiles, as h is as large as the face."""
    size, up = down.shape[-1], invert(matrix)
    step = scale_of(up)
    tile = max(16, int(_TILE / step))
    energy = down.new_zeros(1, size, size)
    for y0 in range(0, size, tile):
        for x0 in range(0, size, tile):
            window = (x0, y0, min(x0 + tile, size), min(y0 + tile, size))
            part = covered(up, window, *picture.shape[-2:], margin=4 + 2 * step)
            if part[0] >= part[2] or part[1] >= part[3]:
                continue
            moved = matrix.clone()
            moved[:, 2] += matrix[:, :2] @ matrix.new_tensor(part[:2])
            squares = _finer(picture, down, up, part).square().mean(0, keepdim=True)
            energy[:, window[1] : window[3], x0 : window[2]] = warp(squares, moved, window)
    return energy


def _inside(picture: Tensor, matrix: Tensor, size: int) -> Tensor:
    """(s, s) bool: the middle of the face, as far as it lies in the picture."""
    grid = pixel_grid((0, 0, size, size))
    height, width = picture.shape[-2:]
    at = transform(invert(matrix), grid.flatten(0, 1)).view(grid.shape)
    last = at.new_tensor([width - 1, height - 1])
    middle = (grid - (size - 1) / 2).square().sum(-1) <= (_FACE * size) ** 2
    return (middle & ((at >= 0) & (at <= last)).all(-1)).to(picture.device)
