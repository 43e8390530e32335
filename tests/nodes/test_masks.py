"""Face Mask and what Paste Faces makes of its masks, as nodes."""

import pytest
import torch
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.faces import Face, parsing
from facewright.core.geometry.align import align_faces
from facewright.headless.host.host import HeadlessHost
from facewright.nodes.faces import PasteFaces
from facewright.nodes.masks import FaceMask


@pytest.fixture
def pictures():
    return torch.rand(2, 90, 120, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def faces(pictures):
    found = [[Face((30, 20, 70, 60), 1.0)], [Face((50, 30, 90, 70), 1.0, angle=0.2)]]
    return align_faces(pictures.permute(0, 3, 1, 2)[:, :3], found, 64)


def make(faces, **given):
    values = {"mode": "oval", "parts": "skin, hair", "grow": 0.0, "feather": 0.03} | given
    return FaceMask.execute(faces=faces, **values)


def paste(pictures, faces, **given):
    values = {"feather": 0.12, "color": "none", "strength": 1.0} | given
    restored = torch.ones(len(faces), 64, 64, 3)
    return PasteFaces.execute(image=pictures, faces=faces, restored=restored, **values).result[:2]


def test_an_oval_narrows_what_is_pasted(pictures, faces):
    masks, preview, report = make(faces).result
    assert masks.shape == (2, 64, 64) and preview.shape == (2, 64, 64, 3)
    assert report.splitlines()[1].startswith("mask of face 1: oval of the mean face, ")
    _, whole = paste(pictures, faces)
    pasted, used = paste(pictures, faces, masks=masks)
    assert (used <= whole + 1e-6).all() and 0 < used.sum() < 0.7 * whole.sum()
    assert torch.equal(pasted[used == 0], pictures[used == 0])
    assert torch.equal(pasted[..., 3], pictures[..., 3])


def test_the_parser_computes_where_the_host_says(pictures, faces, monkeypatch):
    class Reddish:
        net = torch.nn.Identity()

        def shows(self, crops, parts):
            self.seen = crops, parts
            return crops[:, 0] > 0.5

    parser, loaded = Reddish(), []
    monkeypatch.setattr(parsing, "load_parser", lambda: parser)
    monkeypatch.setattr(HeadlessHost, "load", lambda self, net: loaded.append(net))
    masks, _, report = make(faces, mode="parsing", feather=0.0).result
    assert loaded == [parser.net] and parser.seen[1] == ("skin", "hair")
    assert torch.equal(masks, (faces.pixels[:, 0] > 0.5).float()) and "skin, hair" in report
    other = torch.rand(2, 128, 128, 3)
    masks, preview, _ = make(faces, mode="parsing", feather=0.0, crops=other).result
    assert torch.equal(masks, (other[..., 0] > 0.5).float()) and preview.shape == (2, 64, 64, 3)
    with pytest.raises(FacewrightError, match="2 faces, but 1 crops"):
        make(faces, mode="parsing", crops=other[:1])


def test_missing_weights_are_a_sentence(faces, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEWRIGHT_MODELS", str(tmp_path))
    with pytest.raises(CheckpointError, match="The oval needs no weights"):
        make(faces, mode="parsing")


def test_without_a_face_all_passes_through(pictures):
    none = align_faces(pictures.permute(0, 3, 1, 2)[:, :3], [[], []], 64)
    for mode in ("oval", "parsing"):  # without weights
        masks, preview, report = make(none, mode=mode).result
        assert masks.shape == (0, 64, 64) and preview.shape == (0, 64, 64, 3) and report == ""
        pasted, used = paste(pictures, none, masks=masks)
        assert torch.equal(pasted, pictures) and not used.any()


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        (torch.ones(2, 90, 120), "masks of 120 x 90 pixels, but crops of faces are square"),
        (torch.ones(2, 64, 64, 3), "should be a MASK"),
        (torch.ones(64, 64), "should be a MASK"),
        ([1], "should be a MASK"),
        (torch.ones(1, 64, 64), "The crops are of 2 faces, but 1 mask came"),
        (torch.ones(2, 64, 64).long(), "got int64"),
        (torch.full((2, 64, 64), 2.0), "lie in"),
        (torch.full((2, 64, 64), torch.nan), "lie in"),
        (torch.ones(2, 0, 0), "one per crop"),
    ],
)
def test_what_is_no_mask_of_crops_is_said(masks, words, pictures, faces):
    with pytest.raises(FacewrightError, match=words):
        paste(pictures, faces, masks=masks)
