import pytest
import torch
from facewright.core.drawing.compare import compare
from facewright.core.errors import FacewrightError


def test_side_by_side_keeps_both_pictures_bit_identical():
    before, after = torch.rand(2, 3, 40, 30), torch.rand(2, 3, 40, 30)
    out = compare(before, after, labels=("", ""))
    assert out.shape == (2, 3, 40, 64)
    assert torch.equal(out[..., :30], before)
    assert torch.equal(out[..., 34:], after)
    assert (out[..., 30:34] == 1).all()


def test_split_takes_left_of_before_and_right_of_after():
    before, after = torch.rand(1, 3, 20, 31), torch.rand(1, 3, 20, 31)
    out = compare(before, after, "split", labels=("", ""))
    assert torch.equal(out[..., :14], before[..., :14])
    assert torch.equal(out[..., 16:], after[..., 16:])
    assert (out[..., 14:16] == 1).all()


def test_before_takes_the_size_of_after():
    gray = torch.full((1, 3, 10, 10), 0.25)
    out = compare(gray, torch.zeros(1, 3, 40, 60), labels=("", ""))
    assert out.shape == (1, 3, 40, 124)
    torch.testing.assert_close(out[..., :60], torch.full((1, 3, 40, 60), 0.25))


def test_one_picture_serves_a_whole_batch():
    out = compare(torch.zeros(1, 3, 8, 8), torch.rand(3, 3, 8, 8), labels=("", ""))
    assert len(out) == 3
    assert (out[..., :8] == 0).all()


def test_labels_touch_only_the_lower_corners():
    after = torch.full((1, 3, 96, 96), 0.5)
    plain, labelled = (compare(after, after, labels=x) for x in (("", ""), ("before", "after")))
    changed = (plain != labelled).any(1)[0]
    assert changed[-20:, :40].any() and changed[-20:, -40:].any()
    assert not changed[:70].any()
    assert labelled.max() == 1  # white ink


@pytest.mark.parametrize("size", [1, 2, 5])
def test_tiny_pictures_do_not_break_the_labels(size):
    tiny = torch.rand(1, 3, size, size)
    assert compare(tiny, tiny).shape == (1, 3, size, 2 * size + 4)
    assert compare(tiny, tiny, "split").shape == (1, 3, size, size)


def test_no_pictures_give_no_pictures():
    none, some = torch.zeros(0, 3, 8, 8), torch.rand(2, 3, 8, 8)
    assert len(compare(none, none)) == len(compare(some, none)) == len(compare(none, some)) == 0


def test_mismatched_batches_and_modes_are_refused():
    with pytest.raises(FacewrightError, match="holds 2 pictures and `after` 3"):
        compare(torch.rand(2, 3, 8, 8), torch.rand(3, 3, 8, 8))
    with pytest.raises(FacewrightError, match="side by side, split"):
        compare(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8), "diagonal")
