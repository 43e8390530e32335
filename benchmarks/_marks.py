"""Are a person's marks in a restored picture? Moles, scars, earrings, lips, irises and others.

    measured = measure(people, shots, wrong, {"LQ": lq, "right references": restored, ...})
    measured.table()                          rates with intervals over people
    measured.difference("mole", HIT, "right references", "no references")

The rendered world can draw a photo again with one thing about the person changed. What the two
drawings differ in is the mark's signature, pixel by pixel, and `Signature.presence` says how much
of it a restored picture holds: 1 as in the drawing with the mark, 0 as in the one without. A hit is
a mark of the person that is there by more than half. A false positive is a mark of somebody else,
of the person whose photos were the wrong references, that was painted on: present by more than half
of what drawing it there would add. Both are asked of every picture, whatever references it had, so
that the false positives of a restoration without references are what chance alone gives, and the
hits of VAE(GT) are what the autoencoder leaves possible.

The iris is asked for in the same way: is it closer to its own colour than to the mean colour of all
people (hit), and closer to the other person's colour than to its own (false positive)?
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from facewright.benchmarks._marks_changes import FALSE_POSITIVE, HIT, changes
from facewright.core.errors import FacewrightError
from facewright.core.metrics.statistics import Difference, mean_interval, paired_difference
from facewright.training.world.faces3d import photos, render
from facewright.training.world.identities import sample_identities
from torch import Tensor

TOLERANCE = {
    "mole": 0.0055,
    "scar": 0.0055,
    "earring": 0.0055,
    "lips": 0.008,
    "iris": 0.0055,
    "glasses": 0.008,
    "freckles": 0.008,
}
"""Sigma of the blur that drawings and pictures are compared under, in sides of the picture: 0.7
and 1 pixel of 128. Marks are some 2 to 5 pixels wide, which no autoencoder keeps as sharp; dots and
rims out of place by more than that still do not count."""
THRESHOLD = 0.5
"""Nearer to the drawing with the mark than to the one without."""
CLEAR = 0.3
"""A mark is asked for only where `Signature.clearness` is as much: fainter ones, under a beard or
behind the cheek, drown in the errors of a restoration."""
BATCH = 16
_FAINT = 0.1
"""Share of the largest change below which a pixel no longer belongs to the signature."""
_AROUND = 0.03
"""Margin of the window in sides of the picture."""
_BLURS = (0.01, 0.025, 0.05)
"""Sigmas of the high-passes in sides of the picture."""
_LEAST_GAIN = 0.25


class Signature:
    """What drawing a mark changes in a picture, and how much of it other pictures hold.

    With delta = having - without, all blurred by `tolerance`, the presence c is the least-squares
    solution over a window around the mark of

        r' - without ~ c delta + a_k + b_k x + d_k y + sum_i e_i H_i without

    The other terms are errors that restorations make anyway and that must not be taken for the
    mark: for each channel k a constant and a slope (casts, shading), for all channels three
    high-passes of the picture without the mark (edges that came out blurred, or too sharp).
    Before, r' = (r - o_k) / g_k undoes the gain and offset that fit everything outside the window
    best. So c is right on any mixture of the two drawings under any offset and gain above 0.25, to
    what little of the blurred signature reaches beyond the window.

    Args:
        without, having: the drawings, (3, s, s) in [0, 1].
        tolerance: sigma of the blur in sides of the picture.

    Raises:
        FacewrightError: the drawings differ in shape, or in nothing.
    """

    def __init__(self, without: Tensor, having: Tensor, tolerance: float) -> None:
        if without.shape != having.shape or without.ndim != 3:
            raise FacewrightError(
                "Two drawings (3, s, s) of one size are compared: got "
                f"{tuple(without.shape)} and {tuple(having.shape)}."
            )
        self.tolerance = tolerance
        self._base = _blur(without.double(), tolerance)
        delta = _blur(having.double(), tolerance) - self._base
        change, s = delta.abs().amax(0), delta.shape[-1]
        if not change.any():
            raise FacewrightError("The drawings with and without the mark are equal.")
        reach = max(2, round(_AROUND * s))
        there = (change > _FAINT * change.max()).double()[None, None]
        self.window = F.max_pool2d(there, 2 * reach + 1, stride=1, padding=reach)[0, 0] > 0
        """(s, s), True around the mark."""
        y, x = (i / s for i in self.window.nonzero(as_tuple=True))
        plane = torch.stack([torch.ones_like(x), x - x.mean(), y - y.mean()], 1).double()
        edges = [self._base - _blur(self._base, sigma) for sigma in _BLURS]
        edges = torch.stack([e[:, self.window].flatten() for e in edges], 1)
        others = torch.cat([torch.block_diag(plane, plane, plane), edges], 1)
        column = delta[:, self.window].reshape(-1, 1)
        # gelsd: in a flat window the edges' columns vanish.
        explained = torch.linalg.lstsq(others, column, driver="gelsd").solution
        rest = (column - others @ explained)[:, 0]
        self.clearness = float(rest.norm())
        """Length of the part of delta that no other term explains: the presence is as uncertain as
        the picture's unexplained errors along it are large, divided by this."""
        self._direction = rest / rest.square().sum().clamp(min=1e-12)

    def presence(self, restored: Tensor) -> Tensor:
        """(n, 3, s, s) -> (n,) float64: 1 as in `having`, 0 as in `without`; beyond them where the
        mark is overdone or its opposite.

        Raises:
            FacewrightError: pictures of another shape.
        """
        if restored.shape[1:] != self._base.shape:
            raise FacewrightError(
                f"The drawings are {tuple(self._base.shape)}; got pictures "
                f"{tuple(restored.shape)} to compare with them."
            )
        r = _undo_cast(_blur(restored.double(), self.tolerance), self._base, ~self.window)
        return (r - self._base)[:, :, self.window].flatten(1) @ self._direction


def _undo_cast(r: Tensor, base: Tensor, outside: Tensor) -> Tensor:
    """Remove each channel's gain and offset, fitted to `base` over the pixels `outside`."""
    a, b = r[:, :, outside], base[:, outside]
    a_mean, b_mean = a.mean(-1, keepdim=True), b.mean(-1, keepdim=True)
    spread = (b - b_mean).square().sum(-1).clamp(min=1e-12)
    gain = ((a - a_mean) * (b - b_mean)).sum(-1) / spread
    gain = gain.clamp(min=_LEAST_GAIN)[..., None, None]
    return (r - a_mean[..., None]) / gain + b_mean[..., None]


def _blur(x: Tensor, share: float) -> Tensor:
    """Gaussian blur of (..., s, s), sigma in sides of the picture, borders replicated."""
    sigma = share * x.shape[-1]
    reach = max(1, round(3 * sigma))
    taps = torch.arange(-reach, reach + 1, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (taps / sigma).square())
    kernel = kernel / kernel.sum()
    flat = F.pad(x.reshape(-1, 1, *x.shape[-2:]), (reach,) * 4, mode="replicate")
    flat = F.conv2d(F.conv2d(flat, kernel[None, None, None]), kernel[None, None, :, None])
    return flat.reshape(x.shape)


@dataclass(frozen=True)
class Probe:
    """One question to a picture."""

    mark: str
    test: str
    picture: int
    without: Tensor
    having: Tensor
    signature: Signature


def probes(
    people: Sequence[int],
    shots: Sequence[int],
    wrong: Sequence[int],
    size: int,
    *,
    jitter: float = 1.0,
) -> Iterator[Probe]:
    """The questions to the pictures `photos(people, shots, size, jitter=jitter)`.

    Args:
        people, shots, wrong: seeds, one each per picture: who it shows, which photo it is, and
            whose marks must not be on it.

    Raises:
        FacewrightError: lists of different lengths, or a picture of somebody with themselves as
            the wrong person.
    """
    if not len(people) == len(shots) == len(wrong):
        raise FacewrightError(
            f"Each picture has a person, a photo and a wrong person: got {len(people)}, "
            f"{len(shots)} and {len(wrong)} seeds."
        )
    same = [p for p, w in zip(people, wrong, strict=True) if p == w]
    if same:
        raise FacewrightError(f"The wrong person is somebody else; person {same[0]} stands twice.")
    for start in range(0, len(people), BATCH):
        part = slice(start, start + BATCH)
        faces = photos(list(people[part]), list(shots[part]), size, jitter=jitter)
        others = sample_identities(list(wrong[part]))
        for mark, test, index, changed in changes(faces.identities, others):
            if len(index) == 0:
                continue
            again = render(changed, faces.nuisances.take(index), size, jitter=jitter).pixels
            for i, drawn in zip(index.tolist(), again, strict=True):
                gt = faces.pixels[i]
                if torch.equal(drawn, gt):  # covered by something
                    continue
                pair = (drawn, gt) if test == HIT else (gt, drawn)
                signature = Signature(*pair, TOLERANCE[mark])
                if signature.clearness >= CLEAR:
                    yield Probe(mark, test, start + i, *pair, signature)


@dataclass(frozen=True)
class Measured:
    """Answers to m questions: what was asked of whom, and each picture's answer by its name."""

    mark: np.ndarray
    test: np.ndarray
    person: np.ndarray
    amount: dict[str, np.ndarray]

    def by_person(self, name: str, mark: str, test: str, *, amount: bool = False) -> np.ndarray:
        """Each person's share of questions with a yes, or mean presence; in order of the people."""
        asked = (self.mark == mark) & (self.test == test)
        values = self.amount[name] if amount else self.amount[name] > THRESHOLD
        people = np.unique(self.person[asked])
        return np.array([values[asked & (self.person == p)].mean() for p in people])

    def scores(self, name: str, people: Sequence[int]) -> dict[str, list[float]]:
        """Rates as scores of people: `hits_mole`, `false_mole`, ..., one value for each of `people`
        in their order, NaN for those of whom that was not asked."""
        columns = {}
        for mark in TOLERANCE:
            for test, prefix in ((HIT, "hits"), (FALSE_POSITIVE, "false")):
                asked = (self.mark == mark) & (self.test == test)
                rates = self.by_person(name, mark, test)
                found = dict(
                    zip(np.unique(self.person[asked]).tolist(), rates.tolist(), strict=True)
                )
                columns[f"{prefix}_{mark}"] = [found.get(p, math.nan) for p in people]
        return columns

    def table(self) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
        """Picture -> mark -> test -> rate: mean over people with its 95 % interval (`mean`, `low`,
        `high`, NaN below six people), the mean `amount`, and the numbers of people and marks."""
        return {
            name: {
                mark: {t: self._cell(name, mark, t) for t in (HIT, FALSE_POSITIVE)}
                for mark in TOLERANCE
            }
            for name in self.amount
        }

    def _cell(self, name: str, mark: str, test: str) -> dict[str, float]:
        rate = mean_interval(self.by_person(name, mark, test))
        amounts = self.by_person(name, mark, test, amount=True)
        return {
            "mean": rate.mean,
            "low": rate.low,
            "high": rate.high,
            "amount": float(amounts.mean()) if len(amounts) else math.nan,
            "people": len(amounts),
            "marks": int(((self.mark == mark) & (self.test == test)).sum()),
        }

    def difference(
        self, mark: str, test: str, a: str, b: str, *, amount: bool = False
    ) -> Difference:
        """Rate of pictures `a` minus that of `b`, paired by person; of the presences themselves
        with `amount`, which tells apart what no threshold does."""
        values = [self.by_person(name, mark, test, amount=amount) for name in (a, b)]
        return paired_difference(*values, "higher" if test == HIT else "lower")


@torch.no_grad()
def measure(
    people: Sequence[int],
    shots: Sequence[int],
    wrong: Sequence[int],
    restored: Mapping[str, Tensor],
    *,
    jitter: float = 1.0,
) -> Measured:
    """Look for the marks of `people`, and of the wrong people, in restored pictures.

    Args:
        people, shots, wrong, jitter: as in `probes`; the pictures are restorations of
            `photos(people, shots, s, jitter=jitter).pixels`.
        restored: name -> (n, 3, s, s) in [0, 1], one picture per seed, all of one size.

    Raises:
        FacewrightError: as in `probes`; no pictures, or not one per seed.
    """
    stack = stacked(restored, len(people))
    marks, tests, asked, answers = [], [], [], []
    for probe in probes(people, shots, wrong, stack.shape[-1], jitter=jitter):
        marks.append(probe.mark)
        tests.append(probe.test)
        asked.append(people[probe.picture])
        answers.append(probe.signature.presence(stack[probe.picture]).numpy())
    table = np.stack(answers) if answers else np.zeros((0, len(restored)))
    return Measured(
        np.array(marks, dtype=str),
        np.array(tests, dtype=str),
        np.array(asked, dtype=np.int64),
        dict(zip(restored, table.T, strict=True)),
    )


def stacked(restored: Mapping[str, Tensor], count: int) -> Tensor:
    """Sets of `count` pictures (count, 3, s, s) -> (count, sets, 3, s, s) on the CPU.

    Raises:
        FacewrightError: sets of other or different sizes, or none.
    """
    shapes = {name: tuple(x.shape) for name, x in restored.items()}
    if len(set(shapes.values())) != 1 or any(shape[0] != count for shape in shapes.values()):
        raise FacewrightError(
            f"Each set holds {count} pictures (3, s, s) of one size, one per seed; got {shapes}."
        )
    return torch.stack(list(restored.values()), 1).cpu()
