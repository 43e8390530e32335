"""Tables of scores: where marks lie, and what colors say."""

import math

import pytest
import torch
from facewright.core.drawing.paint import AMBER, GREEN, GREY, RED
from facewright.core.drawing.scores import Row, draw_identity_scores, draw_picture_scores, draw_rows
from facewright.core.scores.identity import IdentityScores
from facewright.core.scores.pictures import PictureScores, named_metrics

MANY = [5.0, 1.0, 2.0, 4.0, 3.0, 1.5, 4.5]


def row(values, better="higher", **more):
    return Row(
        label="score", better=better, words=lambda v, sign: f"{v:{sign}.2f}", values=values, **more
    )


def where(sheet, color):
    """x and y of every pixel of a color in (1, 3, h, w)."""
    wanted = torch.tensor(color).view(3, 1, 1)
    y, x = ((sheet[0] * 255).round() == wanted).all(0).nonzero(as_tuple=True)
    return x, y


def discs(sheet):
    """Centers of the green discs from left to right: columns that hang together."""
    columns = where(sheet, GREEN)[0].unique()
    groups = torch.tensor_split(columns, (columns.diff() > 1).nonzero()[:, 0] + 1)
    return [float(group.double().mean()) for group in groups]


@pytest.mark.parametrize(
    ("better", "goodness"),
    [("higher", lambda v: v), ("lower", lambda v: -v), ("one", lambda v: -abs(v - 1))],
)
def test_a_disc_lies_further_right_the_better_the_picture(better, goodness):
    values = [1.3, 0.1, 2.0, 3.4]
    good = sorted(map(goodness, values))
    centers = discs(draw_rows([row(values, better)]))
    assert len(centers) == 4
    for center, value in zip(centers, good, strict=True):
        share = (center - centers[0]) / (centers[-1] - centers[0])
        assert share == pytest.approx((value - good[0]) / (good[-1] - good[0]), abs=0.01)


def test_a_mean_lies_where_its_pictures_put_it():
    sheet = draw_rows([row(MANY)])
    x, y = where(sheet, (235, 235, 235))
    mean = x[(x < 360) & (y > 70)].double().mean()
    left, right = discs(sheet)[0], discs(sheet)[-1]
    assert float(mean) == pytest.approx(left + (right - left) * (3 - 1) / (5 - 1), abs=1.5)


@pytest.mark.parametrize(
    ("gain", "color"),
    [
        ([1.0, 1.1, 0.9, 1.2, 1.0, 0.8, 1.1], GREEN),
        ([-1.0, -1.1, -0.9, -1.2, -1.0, -0.8, -1.1], RED),
        ([3.0, -3.0, 2.0, -1.9, 1.0, -1.0, 0.2], AMBER),  # the interval holds 0
        ([0.001] * 7, GREY),  # reads +0.00
    ],
)
def test_the_color_of_a_gain_says_whether_it_is_one(gain, color):
    sheet = draw_rows([row(MANY, before=MANY, gain=gain)])
    last = sheet[..., 440:]
    for other in (GREEN, RED, AMBER):
        assert bool(len(where(last, other)[0])) == (other == color)


def test_words_are_enough_for_a_single_picture_without_one_before():
    assert len(draw_rows([row([1.0])])) == 0 and len(draw_rows([])) == 0
    assert len(draw_rows([row([])])) == 0
    assert len(draw_rows([row([1.0], before=[0.5], gain=[0.5])])) == 1
    assert len(draw_rows([row([1.0, 2.0])])) == 1


def test_what_is_no_number_is_left_out():
    sheet = draw_rows([row([1.0, math.nan, 2.0, math.inf])])
    assert len(discs(sheet)) == 2
    assert len(draw_rows([row([math.nan, math.nan])])) == 1  # says so
    assert len(draw_rows([row([math.inf, math.inf])])) == 1


def test_both_kinds_of_scores_are_drawn_whole():
    metrics = named_metrics("psnr, ssim, edges")
    values = {
        f"{one.name}{column}": [0.2, 0.5] for one in metrics for column in ("", " lq", " gain")
    }
    pictures = PictureScores(values=values, notes=["", ""], metrics=metrics)
    assert draw_picture_scores(pictures).shape[-1] == 558
    likeness = IdentityScores(
        values={"cosine": [0.5, 0.9], "degrees": [60.0, 25.8]}, notes=["", ""], recogniser="r"
    )
    sheet = draw_identity_scores(likeness)
    assert sheet.shape[0] == 1 and sheet.shape[-1] == 498
    assert float(sheet.min()) >= 0 and float(sheet.max()) <= 1 and sheet.dtype == torch.float32
