"""The fast 3x3 convolution against PyTorch's in float64."""

import pytest
import torch
import torch.nn.functional as F
from facewright.core.modules import winograd
from facewright.core.modules.fast import fast_dtype, use_fast_layers
from facewright.core.modules.group_norm import GroupNorm
from torch import nn
from torch.nn import Conv2d
from torch.nn import GroupNorm as TorchGroupNorm


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (6, 5), (7, 13), (33, 18)])
@pytest.mark.parametrize(("b", "c_in", "c_out"), [(1, 3, 5), (3, 8, 4)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_equals_a_direct_convolution(size, b, c_in, c_out, with_bias, monkeypatch):
    monkeypatch.setattr(winograd, "_PATCHES", 8)
    x = torch.randn(b, c_in, *size)
    weight = torch.randn(c_out, c_in, 3, 3)
    bias = torch.randn(c_out) if with_bias else None
    expected = F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), 1, 1)
    for layout in (torch.contiguous_format, torch.channels_last):
        y = winograd.conv3x3(x.contiguous(memory_format=layout), weight, bias)
        assert y.shape == expected.shape
        torch.testing.assert_close(y.double(), expected, atol=3e-4, rtol=0)


def test_empty_batch():
    y = winograd.conv3x3(torch.empty(0, 4, 8, 8), torch.randn(2, 4, 3, 3), None)
    assert y.shape == (0, 2, 8, 8)


@pytest.fixture
def counted(monkeypatch):
    calls = []
    original = winograd.conv3x3
    monkeypatch.setattr(winograd, "conv3x3", lambda *a: calls.append(1) or original(*a))
    return calls


def test_layers_are_swapped_and_only_used_where_they_pay(counted):
    net = nn.Sequential(
        Conv2d(3, 64, 3, padding=1),
        TorchGroupNorm(8, 64),
        Conv2d(64, 64, 3, padding=1),
        Conv2d(64, 64, 3, stride=2, padding=1),
        Conv2d(64, 64, 3, padding=1),
        Conv2d(64, 4, 1),
    ).eval()
    x = torch.randn(1, 3, 64, 65)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    expected = net(x)
    assert use_fast_layers(net) is net
    assert isinstance(net[1], GroupNorm)
    with torch.no_grad():
        torch.testing.assert_close(net(x), expected)
    assert not counted
    use_fast_layers(net, convolutions=True)
    with torch.no_grad():
        torch.testing.assert_close(net(x), expected, atol=1e-4, rtol=1e-4)
    assert len(counted) == 1  # the second one; the others are thin, strided or small
    assert net(x).requires_grad  # with gradients PyTorch's own
    assert len(counted) == 1
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_half_precision_is_left_to_pytorch(counted):
    net = use_fast_layers(Conv2d(64, 64, 3, padding=1).bfloat16(), convolutions=True)
    with torch.no_grad():
        net(torch.randn(1, 64, 64, 64).bfloat16())
    assert not counted


@pytest.mark.parametrize("flag", ["_is_amx_tile_supported", "_is_avx512_bf16_supported"])
def test_cpu_format_follows_the_hardware(monkeypatch, flag):
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert fast_dtype(torch.device("cpu")) == torch.float32
    monkeypatch.setattr(torch.cpu, flag, lambda: True)
    assert fast_dtype(torch.device("cpu")) == torch.bfloat16
    assert fast_dtype(torch.device("mps")) == torch.float16
