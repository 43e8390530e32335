"""Frames that are in memory go to the restorer as they are, and through a codec once."""

from fractions import Fraction

import pytest
import torch
from facewright.core.video.clip import Clip
from facewright.core.video.files import frame_count, read_frames, rewrite_video

av = pytest.importorskip("av")


def frames(count=11, height=48, width=64):
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(3))


def clip(**about):
    # As hosts hold them: channels last, seen as channels first.
    return Clip(frames(**about).movedim(-1, 1), Fraction(25))


def in_8_bits(x):
    return (x * 255).round() / 255


def test_it_is_read_as_it_is():
    source = clip()
    read = list(read_frames(source))
    assert frame_count(source) == len(read) == 11
    assert all(torch.equal(a, b) for a, b in zip(read, source.frames, strict=True))
    assert all(x.is_contiguous() for x in read)
    beyond = Clip(torch.tensor([-1.0, 2.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4), Fraction(8))
    assert [float(x.mean()) for x in read_frames(beyond)] == [0.0, 1.0]


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_at_0_not_a_bit_is_lost(tmp_path, size):
    source, seen = clip(height=size[0], width=size[1]), []

    def change(first, some):
        seen.append((first, some))
        return [1 - x if (first + i) % 2 else None for i, x in enumerate(some)]

    notes = rewrite_video(source, tmp_path / "a.mp4", change, crf=0)
    assert [(first, len(some)) for first, some in seen] == [(0, 8), (8, 3)]
    assert torch.equal(torch.stack([x for _, some in seen for x in some]), source.frames)
    for i, (got, was) in enumerate(
        zip(read_frames(tmp_path / "a.mp4"), source.frames, strict=True)
    ):
        want = in_8_bits(1 - was if i % 2 else was)
        assert (got - want).abs().max() < 1e-6
    assert len(notes) == 1 and "without any loss" in notes[0]
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].average_rate == 25


def test_below_that_every_player_shows_it(tmp_path):
    coarse = torch.rand(5, 3, 4, 5, generator=torch.Generator().manual_seed(6))
    smooth = torch.nn.functional.interpolate(coarse, (48, 64), mode="bilinear")
    notes = rewrite_video(
        Clip(smooth, Fraction(25)), tmp_path / "a.mp4", lambda i, x: [None] * len(x), crf=10
    )
    got = torch.stack(list(read_frames(tmp_path / "a.mp4")))
    assert (got - smooth).square().mean() < 1e-4
    assert len(notes) == 1 and "4:2:0" in notes[0]
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].pix_fmt == "yuv420p"


def test_sound_goes_along_and_what_is_not_kept_is_told(tmp_path):
    tone = torch.sin(torch.arange(8000) / 4)[None]
    source = Clip(frames().movedim(-1, 1), Fraction(25), sound=(tone, 16000), depth=10, alpha=True)
    notes = rewrite_video(source, tmp_path / "a.mp4", lambda i, x: [None] * len(x), crf=0)
    assert "Transparency" in notes[0] and "10 bits" in notes[1]
    with av.open(str(tmp_path / "a.mp4")) as container:
        sound = torch.cat([torch.from_numpy(f.to_ndarray()) for f in container.decode(audio=0)], 1)
    assert sound.shape[1] >= 8000
    heard = torch.nn.functional.conv1d(sound[None, :1, :8000], tone[None, :, 2000:6000]).amax()
    assert heard > 0.8 * tone[:, 2000:6000].square().sum()
