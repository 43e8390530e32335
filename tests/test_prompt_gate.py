import numpy as np
import pytest
from facewright.benchmarks.prompt_gate import LATE, passes, ratio_interval


def test_ratio_against_a_loop_and_its_interval():
    rng = np.random.default_rng(0)
    own = rng.uniform(1, 2, 64)
    other = own * rng.normal(1.08, 0.05, 64)
    found = ratio_interval(own, other)
    total = sum(b - a for a, b in zip(own, other, strict=True)) / sum(own)
    assert found["mean"] == pytest.approx(total)
    # The error of a ratio of sums by the delta method.
    error = np.std(other - (1 + total) * own) / own.mean() / 8
    assert found["low"] == pytest.approx(total - 1.96 * error, abs=0.3 * error)
    assert found["high"] == pytest.approx(total + 1.96 * error, abs=0.3 * error)


def test_the_gate_asks_for_the_lower_end():
    def table(low):
        return {"good face": {LATE: {"somebody else's": {"mean": 0.2, "low": low}}}}

    assert passes(table(0.06)) and not passes(table(0.05))
