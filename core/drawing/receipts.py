"""Receipts as pictures: what came in, what goes out, and the numbers beside them."""

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..people.receipts import Receipt, number, strength_text
from .paint import AMBER, BLACK, GREEN, GREY, RED, Color, fitting, font_of, mark, pixels_of
from .sheet import GAP, resized, write_label

_SMALLEST = 256
"""Smaller crops are enlarged, or nobody could read the panel."""
_GROUND, _TEXT = (28, 28, 30), (235, 235, 235)
_SHAPES = {AMBER: "triangle", RED: "square"}
"""Of marks, beside discs: not everybody tells red from green."""
_VERDICTS = {"kept": GREEN, "lowered": AMBER, "fell back": RED, "too far": RED, "nearest": RED}

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
            picture = crop.float().nan_to_num(0, 0, 0).clamp(0, 1)
            cell.copy_(resized(picture, side, side))
            write_label(cell, label)
        out[i, :, :, 2 * (side + GAP) :] = _panel(receipt, side)
    return out


def _panel(receipt: Receipt, side: int) -> Tensor:
    sheet = Image.new("RGB", (side, side), _GROUND)
    draw = ImageDraw.Draw(sheet)
    rows = _rows(receipt)
    step = side / (len(rows) + 3)
    font = font_of(round(step * 0.62))
    margin = round(step / 2)
    who = f"face {receipt.face}" + (f": {receipt.person}" if receipt.person else "")
    large = font_of(round(step * 0.62), who)
    who = fitting(who, side - 2 * margin, large)
    draw.text((margin, step * 0.75), who, _TEXT, large, anchor="lm")
    draw.rectangle((0, step * 1.35, side, step * 2.45), fill=_VERDICTS[receipt.verdict])
    draw.text((margin, step * 1.9), _headline(receipt), BLACK, font, anchor="lm")
    for i, (label, value, color) in enumerate(rows):
        y = step * (i + 3.2)
        mark(draw, (margin + step * 0.25, y), step * 0.25, color, _SHAPES.get(color, "disc"))
        draw.text((margin + step * 0.8, y), label, _TEXT, font, anchor="lm")
        draw.text((side - margin, y), value, color, font, anchor="rm")
    return pixels_of(sheet)


def _rows(receipt: Receipt) -> list[tuple[str, str, Color]]:
    m, top = receipt.measured, receipt.max_drift
    drift = _grade(receipt.drift, (_NEARLY * top, top))
    on_input = receipt.anchor == "input"
    softer = 1 / m.sharpness if m.sharpness else float("inf")
    return [
        (f"drift (at most {top:.2f})", number(receipt.drift), drift),
        ("like the input", number(receipt.cosine_input), drift if on_input else GREY),
        (
            "like the references",
            "none" if on_input else number(receipt.cosine_references),
            GREY if on_input else drift,
        ),
        ("A-LD eyes", number(m.share("eyes")), _grade(m.share("eyes"), _ALD)),
        ("A-LD mouth", number(m.share("mouth")), _grade(m.share("mouth"), _ALD)),
        ("colour", number(m.color, 1), _grade(m.color, _COLOR)),
        ("seam", number(m.seam), _grade(m.seam, _SEAM)),
        ("sharpness", number(m.sharpness), _grade(softer, _SOFTER)),
    ]


def _headline(receipt: Receipt) -> str:
    if receipt.verdict == "lowered":
        lowered = strength_text(receipt.strength)
        return f"lowered to {lowered} (was {number(receipt.drift_restored)})"
    if receipt.verdict == "nearest":
        return f"none within; {strength_text(receipt.strength)} is nearest"
    if receipt.verdict == "fell back":
        return f"fell back to input ({number(receipt.drift_restored)})"
    return receipt.verdict


def _grade(value: float, limits: tuple[float, float]) -> Color:
    """Red also for NaN."""
    return GREEN if value <= limits[0] else AMBER if value <= limits[1] else RED
