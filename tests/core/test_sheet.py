import pytest
import torch
from facewright.core.drawing.paint import fitting, font_of, lay_over, mark, pixels_of, plate
from facewright.core.drawing.sheet import (
    GAP,
    contact_sheet,
    resized,
    stacked,
    within,
    write_label,
)
from facewright.core.errors import FacewrightError
from PIL import Image, ImageDraw


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


def test_stacked_pictures_keep_their_bits_on_white():
    a, b = torch.rand(3, 4, 6) * 0.9, torch.rand(3, 5, 2) * 0.9
    down, across = stacked([a, b], gap=3), stacked([a, b], across=True, gap=3)
    assert down.shape == (3, 12, 6) and across.shape == (3, 5, 11)
    assert torch.equal(down[:, :4], a) and torch.equal(down[:, 7:, :2], b)
    assert torch.equal(across[:, :4, :6], a) and torch.equal(across[..., 9:], b)
    for sheet in (down, across):
        assert (sheet == 1).all(0).sum() == sheet[0].numel() - 4 * 6 - 5 * 2


def test_pictures_are_brought_to_a_size():
    ramp = torch.linspace(0, 1, 12).expand(3, 6, 12)
    assert resized(ramp, 6, 12) is ramp
    assert within(ramp, 4).shape == (3, 2, 4) and within(ramp, 30).shape == (3, 15, 30)
    half = resized(ramp, 3, 6)
    torch.testing.assert_close(half[..., 2:-2], ramp.view(3, 3, 2, 6, 2).mean((2, 4))[..., 2:-2],
                               atol=2e-3, rtol=0)  # fmt: skip
    assert resized(torch.ones(3, 2, 2), 9, 9).max() == 1
    stripes = torch.arange(96).remainder(2).float().expand(3, 96, 96)
    assert (resized(stripes, 10, 10)[..., 1:-1] - 0.5).abs().max() < 0.06  # not one of them alone


def test_text_that_is_too_long_loses_its_middle():
    font = font_of(12)
    name = "a_long_name_of_a_file_0123456789.png"
    assert fitting(name, 1000, font) == name
    short = fitting(name, 90, font)
    assert font.getlength(short) <= 90 and "..." in short
    assert name.startswith(short.split("...")[0]) and name.endswith(short.split("...")[1])
    head, tail = short.split("...")
    assert len(tail) - len(head) in (0, 1) and len(head) > 2


def test_a_plate_holds_its_text():
    bare = plate("", 60, 20, 12, ground=(255, 0, 0))
    assert bare.shape == (3, 20, 60) and torch.equal(
        bare.flatten(1)[:, 0], torch.tensor([1.0, 0, 0])
    )
    ink = (plate("name", 60, 20, 12, at=(10, 2), ground=(255, 0, 0)) != bare).any(0)
    assert ink.any() and not ink[:, :10].any() and not ink[:2].any()
    long, font = "name" * 9, font_of(12)
    assert torch.equal(plate(long, 60, 20, 12), plate(fitting(long, 60, font), 60, 20, 12))
    assert not torch.equal(plate(long, 60, 20, 12), plate(long, 600, 20, 12)[..., :60])


def test_only_what_is_painted_changes_a_picture():
    picture = torch.rand(3, 20, 30)
    before, sheet = picture.clone(), Image.new("RGBA", (6, 8))
    ImageDraw.Draw(sheet).rectangle((0, 0, 2, 7), fill=(255, 0, 0, 255))
    ImageDraw.Draw(sheet).rectangle((3, 0, 3, 7), fill=(0, 0, 255, 51))
    lay_over(picture, sheet, (20, 10))
    assert torch.equal(picture[:, 10:18, 20], torch.tensor([1.0, 0, 0])[:, None].expand(3, 8))
    mixed = before[:, 10:18, 23] * 0.8 + 0.2 * torch.tensor([0, 0, 1.0])[:, None]
    torch.testing.assert_close(picture[:, 10:18, 23], mixed)
    picture[:, 10:18, 20:24] = before[:, 10:18, 20:24]
    assert torch.equal(picture, before)


def test_marks_differ_by_their_shape_alone():
    drawn = {}
    for shape in ("disc", "ring", "triangle", "square"):
        sheet = Image.new("RGB", (21, 21))
        mark(ImageDraw.Draw(sheet), (10, 10), 8, (255, 255, 255), shape)
        drawn[shape] = pixels_of(sheet)[0] > 0
    filled = {shape: int(ink.sum()) for shape, ink in drawn.items()}
    assert filled["square"] == 17 * 17 > filled["disc"] > filled["triangle"] > 0
    assert not drawn["ring"][10, 10] and drawn["ring"][10, 2] and drawn["disc"][10, 10]
