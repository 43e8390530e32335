import math

import torch
from facewright.training.loop.optim import (
    AveragedWeights,
    Muon,
    build_optimizers,
    orthogonalise,
    set_lr,
)
from facewright.training.settings.config import OptimizerConfig
from torch import nn
from torch.nn import Conv2d, Linear


def test_orthogonalise_keeps_singular_vectors_and_levels_values():
    torch.manual_seed(0)
    m = torch.randn(3, 8, 20, dtype=torch.float64)
    for wide in (m, m.transpose(1, 2)):
        out = orthogonalise(wide)
        u, _, vh = torch.linalg.svd(wide, full_matrices=False)
        core = u.transpose(1, 2) @ out @ vh.transpose(1, 2)
        values = core.diagonal(dim1=1, dim2=2)
        assert (core - torch.diag_embed(values)).abs().max() < 1e-9
        assert values.min() > 0.6 and values.max() < 1.3


def test_muon_equals_a_loop_over_single_weights():
    torch.manual_seed(0)
    weights = [torch.randn(6, 3, 3, 3), torch.randn(6, 3, 3, 3), torch.randn(10, 4)]
    params = [nn.Parameter(w.clone()) for w in weights]
    optimizer = Muon(params, lr=0.01, momentum=0.9)
    momenta = [torch.zeros_like(w) for w in weights]
    for _ in range(3):
        for p, w, m in zip(params, weights, momenta, strict=True):
            p.grad = torch.randn_like(p)
            m.mul_(0.9).add_(0.1 * p.grad)
            nesterov = 0.1 * p.grad + 0.9 * m
            matrix = nesterov.reshape(len(w), -1)
            step = orthogonalise(matrix[None])[0].reshape(w.shape)
            w -= 0.01 * 0.2 * math.sqrt(max(matrix.shape)) * step
        optimizer.step()
    for p, w in zip(params, weights, strict=True):
        torch.testing.assert_close(p.detach(), w, rtol=1e-4, atol=1e-6)


def test_muon_takes_channels_last_weights():
    torch.manual_seed(0)
    a = nn.Parameter(torch.randn(6, 3, 3, 3))
    b = nn.Parameter(a.detach().clone().contiguous(memory_format=torch.channels_last))
    grad = torch.randn_like(a)
    for p in (a, b):
        p.grad = grad.clone()
        Muon([p], lr=0.1).step()
    torch.testing.assert_close(a, b)


def test_only_matrices_away_from_the_ends_go_to_muon():
    net = nn.Sequential()
    net.add_module("conv_in", Conv2d(3, 4, 3))
    net.add_module("middle", Conv2d(4, 4, 3))
    net.add_module("frozen", Linear(4, 4).requires_grad_(False))
    muon, adamw = build_optimizers(
        net.named_parameters(), OptimizerConfig(kind="muon"), ("conv_in",)
    )
    assert [id(p) for p in muon.param_groups[0]["params"]] == [id(net.middle.weight)]
    assert len(adamw.param_groups[0]["params"]) == 3


def test_schedule():
    config = OptimizerConfig(lr=2.0, warmup=4, schedule="cosine", floor=0.1)
    optimizers = build_optimizers([("w", nn.Parameter(torch.zeros(1)))], config, ())
    rates = []
    for step, fraction in ((0, 0.0), (3, 0.0), (10, 0.5), (20, 1.0)):
        set_lr(optimizers, config, step, fraction)
        rates.append(optimizers[0].param_groups[0]["lr"])
    assert rates == [0.5, 2.0, 2 * 0.55, 2 * 0.1]


def test_averaged_weights_follow_the_formula_and_swap_back():
    p = nn.Parameter(torch.tensor([1.0]))
    average, expected = AveragedWeights([p], 0.5), 1.0
    for n in range(1, 6):
        p.data += n
        average.update()
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * p.item()
    trained = p.item()
    average.swap()
    assert math.isclose(p.item(), expected, rel_tol=1e-6)
    average.swap()
    assert p.item() == trained
