"""Receipts as pictures: what came in, what goes out, and the numbers beside them."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..people.receipts import Receipt, number
from .sheet import GAP, write_label

_SMALLEST = 256
"""Smaller crops are enlarged, or nobody could read the panel."""
_GREEN, _AMBER, _RED, _GREY = (84, 190, 108), (240, 170, 40), (226, 72, 60), (150, 150, 150)
_GROUND, _TEXT = (28, 28, 30), (235, 235, 235)
_VERDICTS = {"kept": _GREEN, "lowered": _AMBER, "fell back": _RED, "too far": _RED}

# Green up to the first, amber up to the second: rules of thumb, no part of any decision. A-LD: the
# best published restorers reach 0.11 (eyes) and 0.07 (mouth); colour: 2.3 is just noticeable.
_ALD = (0.12, 0.25)
_COLOR = (5.0, 10.0)
_SEAM = (1.5, 3.0)
_SOFTER = (1 / 0.95, 1 / 0.7)
_NEARLY = 0.8
"""Share of `max_drift` up to which a drift is green."""


def draw_receipts(lq: Tensor, result: Tensor, receipts: Sequence[Receipt]) -> Tensor:
    """Input crop, result and panel side by side, per face.

    Every number bears a mark: a green disc, an amber triangle, a red square.

    Args:
        lq: (n, 3, s', s') in [0, 1].
        result: (n, 3, s, s) in [0, 1].

    Returns:
        (n, 3, S, 3 S + 8) float32 in [0, 1] on the CPU with S = max(s, 256). Of no faces one
        picture that says so: hosts cannot show none.
    """
    side = max(result.shape[-1], _SMALLEST)
    out = torch.ones(max(len(result), 1), 3, side, 3 * side + 2 * GAP)
    if not len(result):
        write_label(out[0], "no faces")
    for i, receipt in enumerate(receipts):
        for at, (crop, label) in enumerate(((lq[i], "input"), (result[i], "result"))):
            cell = out[i, :, :, at * (side + GAP) : at * (side + GAP) + side]
            # NaN becomes black, or it would stay invisible in a picture of NaN.
            picture = crop.float().cpu().nan_to_num(0, 0, 0).clamp(0, 1)
            if picture.shape[-1] != side:
                picture = F.interpolate(picture[None], (side, side), mode="bicubic")[0].clamp(0, 1)
            cell.copy_(picture)
            write_label(cell, label)
        out[i, :, :, 2 * (side + GAP) :] = _panel(receipt, side)
    return out


def _panel(receipt: Receipt, side: int) -> Tensor:
    sheet = Image.new("RGB", (side, side), _GROUND)
    draw = ImageDraw.Draw(sheet)
    rows = _rows(receipt)
    step = side / (len(rows) + 3)
    font = ImageFont.load_default(size=round(step * 0.62))
    margin = round(step / 2)
    who = f"face {receipt.face}" + (f": {receipt.person}" if receipt.person else "")
    draw.text((margin, step * 0.75), _fitting(draw, who, side - 2 * margin, font), _TEXT, font,
              anchor="lm")  # fmt: skip
    draw.rectangle((0, step * 1.35, side, step * 2.45), fill=_VERDICTS[receipt.verdict])
    draw.text((margin, step * 1.9), _headline(receipt), (0, 0, 0), font, anchor="lm")
    for i, (label, value, color) in enumerate(rows):
        y = step * (i + 3.2)
        _mark(draw, (margin + step * 0.25, y), step * 0.25, color)
        draw.text((margin + step * 0.8, y), label, _TEXT, font, anchor="lm")
        draw.text((side - margin, y), value, color, font, anchor="rm")
    return torch.from_numpy(np.asarray(sheet, dtype=np.float32) / 255).permute(2, 0, 1)


def _rows(receipt: Receipt) -> list[tuple[str, str, tuple[int, int, int]]]:
    m, top = receipt.measured, receipt.max_drift
    drift = _grade(receipt.drift, (_NEARLY * top, top))
    on_input = receipt.anchor == "input"
    softer = 1 / m.sharpness if m.sharpness else float("inf")
    return [
        (f"drift (at most {top:.2f})", number(receipt.drift), drift),
        ("like the input", number(receipt.cosine_input), drift if on_input else _GREY),
        (
            "like the references",
            "none" if on_input else number(receipt.cosine_references),
            _GREY if on_input else drift,
        ),
        ("A-LD eyes", number(m.share("eyes")), _grade(m.share("eyes"), _ALD)),
        ("A-LD mouth", number(m.share("mouth")), _grade(m.share("mouth"), _ALD)),
        ("colour", number(m.color, 1), _grade(m.color, _COLOR)),
        ("seam", number(m.seam), _grade(m.seam, _SEAM)),
        ("sharpness", number(m.sharpness), _grade(softer, _SOFTER)),
    ]


def _headline(receipt: Receipt) -> str:
    if receipt.verdict == "lowered":
        return f"lowered to {receipt.strength:.1f} (was {number(receipt.drift_restored)})"
    if receipt.verdict == "fell back":
        return f"fell back to input ({number(receipt.drift_restored)})"
    return receipt.verdict


def _grade(value: float, limits: tuple[float, float]) -> tuple[int, int, int]:
    """Red also for NaN."""
    return _GREEN if value <= limits[0] else _AMBER if value <= limits[1] else _RED


def _mark(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], r: float, color: tuple[int, int, int]
) -> None:
    """A shape for each colour: not everybody tells red from green."""
    x, y = at
    if color == _AMBER:
        draw.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=color)
    elif color == _RED:
        draw.rectangle((x - r, y - r, x + r, y + r), fill=color)
    else:
        draw.ellipse((x - r, y - r, x + r, y + r), fill=color)


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: float, font: ImageFont.ImageFont) -> str:
    """`text`, cut with dots where it is too long."""
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(f"{text}...", font) > width:
        text = text[:-1]
    return f"{text}..."
