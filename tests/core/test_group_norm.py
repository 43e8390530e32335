"""GroupNorm in channels-last against a float64 computation, above all on smooth features."""

import pytest
import torch
from facewright.core.modules.autoencoder import AutoencoderConfig, Encoder
from facewright.core.modules.group_norm import GroupNorm, silu_


def exact(x, norm):
    x = x.double()
    groups = x.reshape(len(x), norm.num_groups, -1)
    mean, var = groups.mean(2, keepdim=True), groups.var(2, keepdim=True, correction=0)
    y = ((groups - mean) / (var + norm.eps).sqrt()).view_as(x)
    return y * norm.weight.double()[:, None, None] + norm.bias.double()[:, None, None]


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize(("b", "size"), [(1, (130, 97)), (3, (5, 6)), (1, (1, 2))])
def test_channels_last_is_exact_where_variance_is_small(offset, b, size):
    norm = GroupNorm(4, 8, eps=1e-6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    # Small steps around a large mean, as the features of an evenly grey picture have.
    steps = torch.randn(b, 8, *size)
    x = (0.25 * steps.round() + offset).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        y = norm(x)
    torch.testing.assert_close(y.double(), exact(x, norm), atol=2e-4, rtol=0)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_other_layouts_and_training_agree_with_it():
    norm = GroupNorm(2, 6)
    x = torch.randn(2, 6, 8, 8)
    expected = norm(x)
    last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(norm(last), expected)
    with torch.no_grad():
        torch.testing.assert_close(norm(last), expected)
    assert norm(last).requires_grad


def test_empty_batches_pass():
    with torch.no_grad():
        x = torch.empty(0, 4, 8, 8).contiguous(memory_format=torch.channels_last)
        assert GroupNorm(2, 4)(x).shape == (0, 4, 8, 8)


def test_silu_overwrites_only_without_gradient():
    x = torch.randn(4)
    expected = torch.nn.functional.silu(x)
    torch.testing.assert_close(silu_(x.clone()), expected)
    kept = x.clone().requires_grad_()
    silu_(kept * 1).sum().backward()
    assert kept.grad is not None
    with torch.no_grad():
        assert silu_(x) is x


def test_encoder_gives_the_same_in_both_memory_layouts():
    config = AutoencoderConfig(ch=8, ch_mult=(1, 2), attn_levels=(1,), z_channels=4, groups=2)
    encoder = Encoder(config).eval()
    x = torch.full((1, 3, 64, 64), 0.3)
    expected = encoder.double()(x.double())
    encoder = encoder.float().to(memory_format=torch.channels_last)
    with torch.no_grad():
        z = encoder(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(z.double(), expected, atol=1e-5, rtol=0)
