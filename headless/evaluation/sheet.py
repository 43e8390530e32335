"""The worst and best cases as one picture, for mail and slides."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core.drawing.paint import pixels_of, plate
from ...core.drawing.sheet import stacked
from ...core.images import to_array
from .cases import Extremes, Shown, small
from .comparison import direction
from .pairing import GT

_CELL = 256
_GAP = 10
_GUTTER = 40
"""Between the worst and the best."""
_TEXT = 15
_LINE = _TEXT + 7
_NARROWEST = 420
_INK, _FAINT, _EMPTY = (17, 17, 17), (85, 85, 85), (230, 230, 230)


def draw_sheet(ends: Extremes, order: Sequence[str]) -> bytes:
    """PNG: the worst cases at the left, the best at the right, each a row from LQ to GT with the
    names and values written above the pictures.

    Args:
        ends: which cases.
        order: of the versions: LQ and the methods.
    """
    blocks = [(heading, cases) for heading, cases in ends.headings if cases]
    names = {v for _, cases in blocks for shown in cases for v in shown.versions}
    versions = [name for name in (*order, GT) if name in names]
    width = max(len(versions) * (_CELL + _GAP) - _GAP, _NARROWEST)
    columns = []
    for heading, cases in blocks:
        text = f"{heading} ({direction(ends.metric)})"
        parts = [plate(text, width, 2 * _LINE, _TEXT + 5, color=_INK)]
        for place, shown in enumerate(cases, 1):
            parts.append(plate(f"{place}. {shown.case.name}", width, _LINE, _TEXT, color=_INK))
            cells = [_cell(shown, version) for version in versions]
            parts += [stacked(cells, across=True, gap=_GAP), torch.ones(3, 2 * _GAP, width)]
        columns.append(stacked(parts))
    sheet = torch.nn.functional.pad(
        stacked(columns, across=True, gap=_GUTTER), (_GAP, _GAP, _GAP, 0), value=1.0
    )
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(to_array(sheet))).save(buffer, "PNG")
    return buffer.getvalue()


def _cell(shown: Shown, version: str) -> Tensor:
    """One version of a case, its name and value above it."""
    value = shown.values.get(version)
    label = version if value is None else f"{version}: {value}"
    drawn = small(shown, version, _CELL)
    if isinstance(drawn, str):
        cell = plate(drawn, _CELL, 64, _TEXT, at=(8, 20), color=_FAINT, ground=_EMPTY)
    else:
        cell = pixels_of(drawn)
    return stacked([plate(label, _CELL, _LINE, _TEXT, color=_FAINT), cell])
