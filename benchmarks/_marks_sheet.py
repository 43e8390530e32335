"""Details of restored pictures around a person's marks, enlarged, with what was measured there."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from facewright.benchmarks._marks import FALSE_POSITIVE, HIT, TOLERANCE, Probe, probes, stacked
from facewright.core.drawing.sheet import contact_sheet
from facewright.core.errors import FacewrightError
from torch import Tensor

CELL = 112
"""Side of the enlarged details in pixels."""


@torch.no_grad()
def close_ups(
    people: Sequence[int],
    shots: Sequence[int],
    wrong: Sequence[int],
    restored: Mapping[str, Tensor],
    *,
    each: int = 2,
    jitter: float = 1.0,
) -> Tensor:
    """A sheet (3, H, W) of details: the first `each` people per mark, a row each; hits to the left,
    false positives to the right. In a row: the drawing without the mark, the pictures with their
    presences, the drawing with the mark. Arguments and errors are those of `_marks.measure`.
    """
    stack = stacked(restored, len(people))
    found: dict[tuple[str, str], dict[int, Probe]] = {
        (mark, test): {} for mark in TOLERANCE for test in (HIT, FALSE_POSITIVE)
    }
    for probe in probes(people, shots, wrong, stack.shape[-1], jitter=jitter):
        group = found[probe.mark, probe.test]
        if len(group) < each:
            group.setdefault(people[probe.picture], probe)
        if all(len(g) == each for g in found.values()):
            break
    cells, labels = [], []
    for mark in TOLERANCE:
        sides = [list(found[mark, test].values()) for test in (HIT, FALSE_POSITIVE)]
        for row in range(max(map(len, sides))):
            for side in sides:
                texts = [f"{mark} 0", *restored, "1"]
                if row >= len(side):
                    cells += [torch.ones(3, CELL, CELL)] * len(texts)
                    labels += [""] * len(texts)
                    continue
                probe = side[row]
                shown = stack[probe.picture]
                amounts = probe.signature.presence(shown).tolist()
                texts[1:-1] = [f"{n} {c:+.2f}" for n, c in zip(restored, amounts, strict=True)]
                cells += _details([probe.without, *shown, probe.having], probe.signature.window)
                labels += texts
    if not cells:
        raise FacewrightError("None of these people has a mark that is clear enough to be shown.")
    return contact_sheet(cells, labels, 2 * (len(restored) + 2))


def _details(pictures: Sequence[Tensor], window: Tensor) -> list[Tensor]:
    """The square around a window, enlarged."""
    s = window.shape[-1]
    rows, columns = window.any(1).nonzero()[:, 0], window.any(0).nonzero()[:, 0]
    low = [int(i[0]) for i in (rows, columns)]
    high = [int(i[-1]) + 1 for i in (rows, columns)]
    side = min(s, max(s // 5, *(b - a for a, b in zip(low, high, strict=True))))
    top, left = (min(max((a + b - side) // 2, 0), s - side) for a, b in zip(low, high, strict=True))
    return [
        F.interpolate(x[None, :, top : top + side, left : left + side], CELL).clamp(0, 1)[0]
        for x in pictures
    ]
