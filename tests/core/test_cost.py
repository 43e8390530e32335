"""What networks cost, counted by hand layer by layer."""

import pytest
import torch
import torch.nn.functional as F
from facewright.core.modules.fast import use_fast_layers
from facewright.core.scores.cost import counting, seconds_of
from torch import nn


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2)
        self.norm = nn.GroupNorm(2, 8)
        self.line = nn.Linear(8, 6)

    def forward(self, x):
        x = self.norm(self.conv(x)).flatten(2).transpose(1, 2)
        q = self.line(x)[:, None]
        return F.scaled_dot_product_attention(q, q, q)


CONV, LINE = 8 * 6 * 5 * 2 * 9, 30 * 8 * 6
ATTENTION = 2 * 30 * 30 * 6
PARAMETERS = 8 * 2 * 9 + 8 + 16 + 8 * 6 + 6


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_products_of_a_small_network(device):
    network = Small().to(device).eval()
    other = nn.Linear(6, 3, device=device)
    with torch.no_grad(), counting() as counted:
        for _ in range(2):
            x = network(torch.zeros(1, 4, 12, 10, device=device))
        other(x)
        x[0, 0] @ x[0, 0].T
    first, second = counted.parts
    assert (first.name, first.calls, first.macs) == ("Small", 2, 2 * (CONV + LINE + ATTENTION))
    assert (second.name, second.macs) == ("Linear", 30 * 6 * 3)
    assert counted.outside == 30 * 30 * 6
    assert first.parameters == PARAMETERS and second.parameters == 3 * 6 + 3
    assert counted.macs == first.macs + second.macs + counted.outside


def test_shared_parameters_count_once():
    network = Small().eval()
    with torch.no_grad(), counting() as counted:
        network.line(torch.zeros(2, 8))
        network(torch.zeros(1, 4, 12, 10))
    assert counted.parameters == PARAMETERS
    assert counted.parts[0].macs == 2 * 8 * 6


def test_convolutions_with_fewer_products_count_as_they_are_defined():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1))
    macs = []
    for network in (plain, use_fast_layers(plain, convolutions=True)):
        with torch.no_grad(), counting() as counted:
            network(torch.rand(1, 32, 128, 128))
        macs.append(counted.macs)
    assert macs == [128 * 128 * 32 * 32 * 9] * 2


def test_nothing_stays_behind():
    network = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="why"), counting() as counted:
        network(torch.zeros(1, 2))
        raise ValueError("why")
    network(torch.zeros(1, 2))
    assert counted.macs == 4 and counted.parts[0].calls == 1


def test_runs_are_timed_after_the_first():
    calls = []
    assert seconds_of(lambda: calls.append(1), torch.device("cpu"), 3) >= 0
    assert len(calls) == 4
