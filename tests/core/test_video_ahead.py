"""Items made by another thread come as if made here."""

import threading

import pytest
import torch
from facewright.core.video.ahead import ahead
from facewright.core.video.files import read_frames, rewrite_video, write_video


def test_items_come_in_order_from_one_other_thread_and_not_too_early():
    made, makers = [], set()

    def items():
        for i in range(20):
            makers.add(threading.get_ident())
            made.append(i)
            yield i

    taken = []
    for item in ahead(items(), 3):
        taken.append(item)
        assert len(made) <= item + 1 + 3
    assert taken == list(range(20)) and makers != {threading.get_ident()} and len(makers) == 1
    assert list(ahead(iter(()), 2)) == []


def test_the_next_item_is_made_while_this_one_is_used():
    second = threading.Event()

    def items():
        yield 1
        second.set()
        yield 2

    for item in ahead(items(), 1):
        assert item == 2 or second.wait(10)


def test_an_error_takes_the_place_of_its_item():
    def items():
        yield from range(5)
        raise OSError("gone")

    taken = []
    with pytest.raises(OSError, match="gone"):
        taken.extend(ahead(items(), 3))
    assert taken == list(range(5))


def test_closed_early_nothing_is_made_any_more():
    made = []
    coming = ahead(iter(lambda: made.append(0) or len(made), None), 2)
    assert next(coming) == 1
    coming.close()
    count = len(made)
    assert count <= 3 and not [t for t in threading.enumerate() if t.name.startswith("ahead")]
    assert len(made) == count


def test_a_video_is_let_go_where_the_work_on_it_fails(tmp_path):
    """The thread has stopped before the file is closed, in both passes."""
    frames = [torch.full((3, 32, 32), i / 30) for i in range(30)]
    write_video(tmp_path / "a.mp4", iter(frames), 25)
    means = [float(frame.mean()) for frame in read_frames(tmp_path / "a.mp4")]
    assert means == pytest.approx([i / 30 for i in range(30)], abs=0.01)
    next(iter(read_frames(tmp_path / "a.mp4")))

    def change(first, seen):
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        rewrite_video(tmp_path / "a.mp4", tmp_path / "b.mp4", change)
    assert not [t for t in threading.enumerate() if t.name.startswith("ahead")]
    assert not (tmp_path / "b.mp4").exists()
