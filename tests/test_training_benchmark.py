"""The loop by hand and the engine do the same work, and the benchmark would notice if not."""

import pytest
import torch
from facewright.benchmarks._training_loops import OurLoop, PlainLoop
from facewright.benchmarks._training_setup import SHAPES, logical_noise, run_config, write_files
from facewright.benchmarks.training import largest_difference


@pytest.mark.parametrize("steps", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_losses_and_gradients_of_both_loops_agree(tmp_path, steps):
    shape = SHAPES["tiny"]
    write_files(tmp_path, shape, pictures=3)
    plain = PlainLoop(tmp_path, shape, run_config(tmp_path, shape, "plain", "cpu"))
    ours = OurLoop(run_config(tmp_path, shape, "ours", "cpu"), 2)
    with logical_noise():
        found = [ours.step() for _ in range(steps)]
        torch.manual_seed(plain.seed)  # both draw from the same generator
        wanted = [plain.step() for _ in range(steps)]
    assert wanted[0].keys() == {
        *(f"generator/{k}" for k in ("mse", "perceptual", "identity", "gan", "grad_norm")),
        *(f"discriminator/{k}" for k in ("bce", "grad_norm")),
    }
    assert largest_difference(found[:1], wanted[:1]) < 1e-3
    assert largest_difference(found, wanted) < 5e-3
    assert steps == 1 or wanted[0] != wanted[1]


def test_other_losses_or_other_terms_are_noticed():
    losses = [{"a": 1.0, "b": 2.0}, {"a": 1.0, "b": -2.0}]
    assert largest_difference(losses, losses) == 0
    other = [losses[0], {"a": 1.0, "b": -1.8}]
    assert largest_difference(other, losses) == pytest.approx(0.1)
    with pytest.raises(SystemExit, match="different work"):
        largest_difference([{"a": 1.0}, losses[1]], losses)
