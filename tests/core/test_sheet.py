import pytest
import torch
from facewright.core.drawing.sheet import GAP, contact_sheet, write_label
from facewright.core.errors import FacewrightError


def test_pictures_stand_in_rows_bit_identical_with_white_between():
    pictures = list(torch.rand(5, 3, 30, 20) * 0.9)
    sheet = contact_sheet(pictures, [""] * 5, columns=3)
    assert sheet.shape == (3, 2 * 30 + GAP, 3 * 20 + 2 * GAP)
    left = torch.ones_like(sheet)
    for i, picture in enumerate(pictures):
        top, x = divmod(i, 3)[0] * (30 + GAP), i % 3 * (20 + GAP)
        assert torch.equal(sheet[:, top : top + 30, x : x + 20], picture)
        left[:, top : top + 30, x : x + 20] = picture
    assert torch.equal(sheet, left)


def test_smaller_pictures_stand_in_the_middle_of_their_cell():
    sheet = contact_sheet([torch.zeros(3, 40, 40), torch.zeros(3, 20, 10)], ["", ""], columns=2)
    black = (sheet == 0).all(0)
    ys, xs = black[:, 40 + GAP :].nonzero().unbind(1)
    assert (ys.min(), ys.max()) == (10, 29) and (xs.min(), xs.max()) == (15, 24)


@pytest.mark.parametrize("count", [1, 2, 7, 13])
@pytest.mark.parametrize("size", [(64, 64), (30, 90), (90, 30)])
def test_a_sheet_has_the_shape_of_a_screen_where_it_can(count, size):
    sheet = contact_sheet([torch.zeros(3, *size)] * count, [""] * count)
    h, w = sheet.shape[-2:]
    assert (h + GAP) // (size[0] + GAP) * ((w + GAP) // (size[1] + GAP)) >= count
    if count == 13:
        assert 0.9 < w / h < 3.2


def test_a_label_stays_in_its_corner_of_its_picture():
    plain, labelled = (
        contact_sheet([torch.full((3, 96, 96), 0.5)] * 2, labels, columns=2)
        for labels in (["", ""], ["", "gfpgan"])
    )
    ys, xs = (plain != labelled).any(0).nonzero().unbind(1)
    assert xs.min() == 96 + GAP and xs.max() < 96 + GAP + 60 and ys.min() > 70
    assert labelled.max() == 1  # white ink


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("right", [False, True])
def test_a_label_larger_than_the_picture_is_cut(size, right):
    picture = torch.rand(3, size, size)
    write_label(picture, "a long label", right=right)
    assert picture.shape == (3, size, size) and torch.isfinite(picture).all()


def test_what_makes_no_sheet_is_refused():
    with pytest.raises(FacewrightError, match="got 0 pictures"):
        contact_sheet([], [])
    with pytest.raises(FacewrightError, match="1 pictures and 2 labels"):
        contact_sheet([torch.rand(3, 8, 8)], ["a", "b"])
    with pytest.raises(FacewrightError, match="at least one column"):
        contact_sheet([torch.rand(3, 8, 8)], ["a"], columns=0)
