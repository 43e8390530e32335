import torch
from facewright.core.drawing.tokenmap import token_map


def test_used_cells_are_lit_by_confidence_and_the_rest_is_dim():
    lq = torch.full((1, 3, 32, 32), 0.5)
    positions = torch.tensor([[5, 0, -1]])
    out = token_map(lq, positions, grid_size=4, size=64)[0]
    cells = out.view(3, 4, 16, 4, 16).mean((2, 4)).flatten(1)
    lit = (cells.mean(0) > 0.2).nonzero()[:, 0].tolist()
    assert lit == [0, 5]
    torch.testing.assert_close(cells[:, 1], torch.full((3,), 0.125))
    assert cells[0, 5] > cells[2, 5]  # most confident: yellow
    assert cells[2, 0] > cells[2, 5]  # less so: more blue


def test_missing_tokens_light_nothing():
    out = token_map(torch.rand(2, 3, 16, 20), torch.full((2, 7), -1), grid_size=4, size=8)
    assert out.shape == (2, 3, 8, 8)
    assert out.max() <= 0.25


def test_each_face_has_its_own_map():
    lq = torch.full((1, 3, 8, 8), 0.5).expand(2, -1, -1, -1)
    both = token_map(lq, torch.tensor([[0], [3]]), grid_size=2, size=8)
    for i, position in enumerate((0, 3)):
        alone = token_map(lq[:1], torch.tensor([[position]]), grid_size=2, size=8)
        assert torch.equal(both[i], alone[0])


def test_no_faces():
    none = torch.zeros(0, 3, 8, 8)
    assert token_map(none, torch.zeros(0, 77, dtype=torch.int64), 4, 16).shape == (0, 3, 16, 16)
