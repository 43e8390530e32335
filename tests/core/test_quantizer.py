"""Nearest codes and the choice of tokens, against loops written out."""

import pytest
import torch
from facewright.core.modules.quantizer import VectorQuantizer, select_tokens


def naive_selection(codes, distances, num_tokens):
    tokens, positions = [], []
    for row_codes, row_distances in zip(codes.tolist(), distances.tolist(), strict=True):
        order = sorted(range(len(row_codes)), key=lambda i: row_distances[i])  # sorted is stable
        kept, places = [], []
        for i in order:
            if row_codes[i] not in kept and len(kept) < num_tokens:
                kept.append(row_codes[i])
                places.append(i)
        fill = [-1] * (num_tokens - len(kept))
        tokens.append(kept + fill)
        positions.append(places + fill)
    return torch.tensor(tokens), torch.tensor(positions)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("num_codes", "levels"), [(1024, 0), (90, 0), (20, 4), (300, 1)])
def test_selection_equals_a_loop(seed, num_codes, levels):
    g = torch.Generator().manual_seed(seed)
    codes = torch.randint(num_codes, (3, 256), generator=g)
    distances = torch.rand(3, 256, generator=g)
    if levels:  # ties: few distinct distances, or only one
        distances = (distances * levels).floor()
    expected = naive_selection(codes, distances, 77)
    selection = select_tokens(codes, distances, 77)
    assert torch.equal(selection.tokens, expected[0])
    assert torch.equal(selection.positions, expected[1])


@pytest.mark.parametrize("n", [1, 5, 76, 77, 78])
def test_selection_of_few_positions_and_of_one_code(n):
    codes = torch.stack([torch.arange(n), torch.full((n,), 9)])
    distances = torch.arange(n).flip(0).expand(2, n).float()
    expected = naive_selection(codes, distances, 77)
    selection = select_tokens(codes, distances, 77)
    assert torch.equal(selection.tokens, expected[0])
    assert torch.equal(selection.positions, expected[1])
    assert (selection.tokens[1] >= 0).sum() == 1


def test_nearest_equals_a_float64_search():
    quantizer = VectorQuantizer(50, 8)
    torch.nn.init.normal_(quantizer.embedding.weight)
    z = torch.randn(4, 30, 8)
    d = (z.double().unsqueeze(2) - quantizer.embedding.weight.double()).square().sum(-1)
    codes, distances = quantizer.nearest(z)
    assert torch.equal(codes, d.argmin(-1))
    torch.testing.assert_close(distances.double(), d.amin(-1), atol=1e-4, rtol=0)


def test_equal_codes_resolve_to_the_lowest_index():
    quantizer = VectorQuantizer(6, 4)
    with torch.no_grad():
        quantizer.embedding.weight.copy_(torch.ones(6, 4))
    z = torch.randint(-3, 4, (2, 3, 4)).float()  # whole numbers: no rounding breaks the tie
    assert quantizer.nearest(z)[0].eq(0).all()


def test_lookup_gives_zero_rows_for_missing_tokens():
    quantizer = VectorQuantizer(5, 3)
    rows = quantizer.lookup(torch.tensor([[4, -1]]))
    assert torch.equal(rows[0, 0], quantizer.embedding.weight[4])
    assert rows[0, 1].eq(0).all()


def test_gradient_goes_straight_through_and_losses_move_their_own_side():
    quantizer = VectorQuantizer(5, 3)
    z = torch.randn(2, 7, 3, requires_grad=True)
    out = quantizer(z)
    e = quantizer.embedding.weight[out.codes]
    torch.testing.assert_close(out.z_q, e)
    (g,) = torch.autograd.grad(out.z_q.sum(), z, retain_graph=True)
    assert torch.equal(g, torch.ones_like(z))
    (g,) = torch.autograd.grad(out.commitment_loss, z)
    torch.testing.assert_close(g, 2 * (z - e) / z.numel())
    out.codebook_loss.backward()
    assert z.grad is None
    assert quantizer.embedding.weight.grad.abs().sum() > 0
