import pytest
import torch
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.methods._onestep import OneStepFaces, trained_timestep
from facewright.core.restorer import restore_in_chunks, restore_one_step


class Recorder:
    """A backbone that remembers how many images it was given at once."""

    factor = 4

    def __init__(self):
        self.batches = []

    def encode(self, pixels, generator=None):
        self.batches.append(len(pixels))
        z = torch.nn.functional.avg_pool2d(pixels, 4)
        return z if generator is None else z + torch.randn(z.shape, generator=generator)

    def denoise(self, z_t, t, cond):
        return z_t * 0.5 + cond.mean((1, 2))[:, None, None, None]

    def decode(self, z_0, *, full_precision=False):
        return torch.nn.functional.interpolate(z_0, scale_factor=4.0)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 50])
def test_chunks_give_what_one_batch_gives(chunk):
    lq, cond = torch.rand(7, 3, 16, 24), torch.rand(7, 5, 6)
    one, many = Recorder(), Recorder()
    expected = restore_one_step(lq, cond, one)
    seen = []
    got = restore_in_chunks(lq, cond, many, chunk_size=chunk, on_chunk=seen.append)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)
    assert many.batches == seen and sum(seen) == 7 and max(seen) == min(chunk, 7)


def test_a_sampled_posterior_does_not_depend_on_the_chunks():
    lq, cond = torch.rand(5, 3, 16, 16), torch.rand(1, 5, 6)
    runs = [
        restore_in_chunks(
            lq, cond, Recorder(), chunk_size=n, generator=torch.Generator().manual_seed(4)
        )[0]
        for n in (1, 2, 5)
    ]
    assert torch.equal(runs[0], runs[1]) and torch.equal(runs[0], runs[2])
    assert not torch.equal(runs[0], restore_in_chunks(lq, cond, Recorder(), chunk_size=5)[0])


def test_no_faces_ask_no_model():
    recorder = Recorder()
    none = torch.zeros(0, 3, 18, 18)
    restored, z_0 = restore_in_chunks(none, torch.rand(0, 5, 6), recorder, chunk_size=4)
    assert restored.shape == (0, 3, 18, 18)
    assert z_0.shape[0] == 0 and z_0.shape[2:] == (5, 5)
    assert recorder.batches == []


@pytest.mark.parametrize(("faces", "conds"), [(4, 2), (2, 4), (1, 0), (3, 2)])
def test_a_conditioning_of_other_faces_is_refused_before_any_work(faces, conds):
    recorder = Recorder()
    with pytest.raises(
        FacewrightError, match=f"`conditioning` holds {conds}.*`image` holds {faces}"
    ):
        restore_in_chunks(
            torch.rand(faces, 3, 8, 8), torch.rand(conds, 5, 6), recorder, chunk_size=2
        )
    assert recorder.batches == []


def test_an_exception_of_the_caller_ends_the_work():
    recorder = Recorder()

    def stop(n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_in_chunks(
            torch.rand(6, 3, 8, 8), torch.rand(1, 5, 6), recorder, chunk_size=2, on_chunk=stop
        )
    assert recorder.batches == [2]


class Late(Recorder):
    def denoise(self, z_t, t, cond):
        return z_t * 0 + t / 1000


def test_faces_are_restored_at_the_timestep_the_weights_were_trained_at():
    lq, cond = torch.rand(3, 3, 16, 16), torch.rand(3, 5, 6)
    for said, t in (({}, 399), ({"timestep": "250"}, 250)):
        faces = OneStepFaces(
            backbone=Late(),
            embed=lambda lq, people: cond,
            size=16,
            timestep=trained_timestep(said),
        )
        torch.testing.assert_close(
            faces.restore(lq, [None] * 3), torch.full_like(lq, 0.5 + t / 2000)
        )
    for said in ("1000", "-1", "soon", "9" * 5000):
        with pytest.raises(CheckpointError, match="from 0 to 999 only"):
            trained_timestep({"timestep": said})
