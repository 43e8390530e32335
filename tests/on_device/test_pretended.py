"""The pretended device refuses what real ones refuse, or the tests on it would prove nothing."""

import pytest
import torch
from torch import autocast


@pytest.fixture
def x(device, nothing_refused):
    if nothing_refused is None:
        pytest.skip("a real device")
    yield torch.ones(3, device=device)
    nothing_refused.refused.clear()


@pytest.mark.parametrize(
    "do",
    [
        lambda x: x.double(),
        lambda x: x.to("cpu", torch.float64),
        lambda x: torch.zeros(3, dtype=torch.float64, device=x.device),
        lambda x: torch.zeros(3, dtype=torch.float64).to(x.device),
        lambda x: x.new_tensor([1.0], dtype=torch.float64),
        lambda x: x + torch.ones(3),
        lambda x: torch.cat([x, torch.ones(3)]),
        lambda x: torch.nn.functional.linear(x, torch.ones(2, 3)),
        lambda x: x.numpy(),
        lambda x: torch.randn(3, generator=torch.Generator(), device=x.device),
        lambda x: autocast(x.device.type, enabled=False),
    ],
)
def test_refused(x, do):
    with pytest.raises((RuntimeError, TypeError, AssertionError)):
        do(x)


def test_taken(x):
    assert x.cpu().double().to(torch.float32).to(x.device).tolist() == [1, 1, 1]
    assert (x * torch.tensor(2.0))[[0, 1]].device == x.device
    assert x.device.type == "privateuseone" and (x + 1).device == x.device
