"""The parts of the benchmark of what lies around the models, at sizes that measure nothing."""

import pytest
from facewright.benchmarks import around


@pytest.mark.parametrize("part", ["paste", "ranks", "sets"])
def test_both_ways_agree(part):
    found = around.PARTS[part](tiny=True)
    for row in found if isinstance(found, list) else [found]:
        assert row["agree"] and row["ratio"] > 0


@pytest.mark.slow
def test_a_model_loads_the_same_in_either_way():
    found = around.load(tiny=True)
    assert found["agree"] and found["ours"]["peak_mb"] > 0
