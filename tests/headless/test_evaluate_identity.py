"""`evaluate --recogniser` and `--aligned` against what is worked out apart."""

import json
import math

import numpy as np
import pytest
import torch
from facewright.core.faces import load_analyzer
from facewright.core.images import Picture, write_picture
from facewright.core.metrics import identity, identity_cosine, identity_rank
from facewright.core.modules.iresnet import IResNet
from facewright.core.people.recogniser import load_recogniser
from facewright.headless.cli import app
from facewright.headless.evaluation import pair_folders, score_all
from facewright.headless.evaluation.faces import Looks
from facewright.headless.evaluation.scoring import choose_metrics
from facewright.nodes.recognition import IdentityScore
from facewright.training.world.faces3d import photos
from PIL import Image
from typer.testing import CliRunner

runner = CliRunner()
PEOPLE = [11, 12, 13]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Aligned crops and whole scenes of three people, degraded ones beside, and an ArcFace."""
    root = tmp_path_factory.mktemp("identity")
    for kind, size in (("crops", 128), ("scenes", 192)):
        gt = photos(PEOPLE, [1, 2, 3], size, aligned=kind == "crops").pixels
        soft = torch.nn.functional.avg_pool2d(gt, 5, 1, 2).roll(1, 3)
        for i in range(3):
            write_picture(root / kind / f"gt/{i}.png", gt[i], Picture(gt[i]))
            write_picture(root / kind / f"m/{i}.png", soft[i], Picture(soft[i]))
    torch.manual_seed(0)
    net = IResNet((2, 2, 2, 2)).eval()
    torch.save(net.state_dict(), root / "backbone.pth")
    return root


def read(path):
    return torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1).float() / 255


def evaluate(root, kind, *options, code=0):
    given = [root / kind / "m", "--gt", root / kind / "gt", "-o", root / "out", "--json", *options]
    result = runner.invoke(app, ["evaluate", *map(str, given)], catch_exceptions=False)
    assert result.exit_code == code, result.stderr
    return json.loads((root / "out/results.json").read_text()) if code == 0 else result.stderr


def by_node(root, kind, recogniser, analyzer=None):
    """Cosine and degrees of each picture from Identity Score's JSON."""
    batches = [
        torch.stack([read(root / kind / f / f"{i}.png") for i in range(3)]).permute(0, 2, 3, 1)
        for f in ("m", "gt")
    ]
    return json.loads(IdentityScore.execute(*batches, recogniser, analyzer).result[3])["pictures"]


def test_aligned_crops_are_scored_as_they_are(root):
    file = root / "backbone.pth"
    found = evaluate(root, "crops", "--recogniser", file, "--aligned", "--metrics", "deg,cosine")
    recogniser = load_recogniser(file)
    node = by_node(root, "crops", recogniser)
    for i, row in enumerate(found["pictures"]):
        values = row["values"]
        assert values["deg"] == pytest.approx(node[i]["degrees"], abs=2e-6)
        assert values["cosine"] == pytest.approx(node[i]["cosine"], abs=2e-6)
        a, b = (  # ArcFace's window of FFHQ's template, by hand
            recogniser.net(
                torch.nn.functional.interpolate(
                    read(root / f"crops/{f}/{i}.png")[None, :, 15:111, 16:112], (112, 112),
                    mode="bilinear", antialias=True,
                )
            )[0].detach().double().numpy()
            for f in ("m", "gt")
        )  # fmt: skip
        cosine = a @ b / math.sqrt((a @ a) * (b @ b))
        assert values["cosine"] == pytest.approx(cosine, abs=1e-6)
        assert values["deg"] == pytest.approx(math.degrees(math.acos(cosine)), abs=1e-3)
    assert any(recogniser.id in note and "as it is" in note for note in found["notes"])


def test_whole_pictures_are_fed_as_the_node_feeds_them(root):
    """With the recogniser of rendered faces their landmarker is taken, and landmarks come along."""
    found = evaluate(root, "scenes", "--recogniser", "nano")
    usual = ["ald", "ald_eyes", "ald_mouth", "ald_lips", "lmd", "deg", "cosine", "rank", "rank1"]
    assert list(found["metrics"])[4:-1] == usual and found["settings"]["faces"] == "nano"
    from facewright.core.people.recogniser import nano_recogniser
    from facewright.core.weights.nano import load_identity

    node = by_node(root, "scenes", nano_recogniser(load_identity("loss")), load_analyzer("nano"))
    for i, row in enumerate(found["pictures"]):
        assert row["values"]["deg"] == pytest.approx(node[i]["degrees"], abs=2e-6)
        assert row["values"]["rank"] == row["values"]["rank1"] == 1


def test_landmarks_of_aligned_crops(root):
    looks = Looks("nano", aligned=True)
    settings = choose_metrics(["lmd", "ald_lips"], looks, True)
    scores = score_all(pair_folders([root / "crops/m"], root / "crops/gt"), settings)
    analyzer = load_analyzer("nano")
    for i, row in enumerate(scores.rows):
        a, b = (
            analyzer.landmarks(read(root / f"crops/{f}/{i}.png")[None])[0].double().numpy()
            for f in ("m", "gt")
        )
        assert row.values["lmd"] == pytest.approx(np.hypot(*(a - b).T).mean(), abs=1e-6)
        homogeneous = np.c_[a[48:60], np.ones(12)]
        fit = homogeneous @ np.linalg.lstsq(homogeneous, b[48:60], rcond=None)[0]
        residual = math.sqrt(((fit - b[48:60]) ** 2).sum())
        assert row.values["ald_lips"] == pytest.approx(residual, abs=1e-6)


def test_ranks_are_taken_among_all_originals_once(root, tmp_path):
    """A picture named after another person is found where that person is."""
    for name, person in {"0": 0, "1": 0, "1_2": 1, "2": 2, "2_2": 2, "0_2": 0}.items():
        picture = read(root / f"crops/m/{person}.png")
        write_picture(tmp_path / f"m/{name}.png", picture, Picture(picture))
    looks = Looks(recogniser="nano", aligned=True)
    settings = choose_metrics(["rank", "rank1", "cosine"], looks, True)
    pairing = pair_folders([tmp_path / "m"], root / "crops/gt")
    alone = score_all(pairing, settings)
    assert [row.values["rank"] > 1 for row in alone.rows] == [row.case == "1" for row in alone.rows]
    assert max(row.values["rank"] for row in alone.rows) <= 3
    assert all(row.values["rank1"] == (row.values["rank"] == 1) for row in alone.rows)


@pytest.mark.slow
def test_processes_give_the_same_ranks(root):
    settings = choose_metrics(["rank", "deg"], Looks(recogniser="nano", aligned=True), True)
    pairing = pair_folders([root / "crops/m"], root / "crops/gt")
    alone, shared = (score_all(pairing, settings, workers=n).rows for n in (1, 2))
    assert [row.values for row in shared] == [row.values for row in alone]


def test_a_rank_by_sorting():
    torch.manual_seed(1)
    faces, gallery = torch.randn(5, 8), torch.randn(7, 8)
    own = [6, 0, 3, 3, 2]
    ranks = identity_rank(faces, gallery, own)
    for i, j in enumerate(own):
        cosines = [float(identity_cosine(faces[i : i + 1], g[None])) for g in gallery]
        order = sorted(range(7), key=lambda k: -cosines[k])
        assert ranks[i] == order.index(j) + 1
    assert identity_rank(gallery[[0, 0]], gallery[[0, 0]]).tolist() == [1, 1]  # ties are own


def test_ranks_do_not_depend_on_who_else_is_ranked(monkeypatch):
    """Nor on how many at a time, where originals are equal or nearly so."""
    torch.manual_seed(2)
    gallery = torch.randn(60, 16).double()
    gallery[:10], gallery[10] = gallery[20:30] * 3, gallery[11] * (1 + 1e-15)
    faces = gallery[:40] + 0.3 * torch.randn(40, 16)
    faces[:12] = gallery[:12]
    own = [*range(20, 30), 11, 10, *torch.randint(0, 60, (28,)).tolist()]
    monkeypatch.setattr(identity, "_AT_ONCE", 7 * 60)
    together = identity_rank(faces, gallery, own).tolist()
    unit = gallery / gallery.norm(dim=1, keepdim=True)
    for face, at, rank in zip(faces, own, together, strict=True):
        cosines = (unit * (face / face.norm())).sum(1)
        assert rank == 1 + int((cosines > cosines[at]).sum())
        assert rank == identity_rank(face[None], gallery, [at]).item()
    assert max(together) > 10


def test_what_cannot_be_read_is_said(root, tmp_path):
    wide = torch.rand(3, 64, 96)
    for folder in ("m", "gt"):
        write_picture(tmp_path / folder / "w.png", wide, Picture(wide))
    looks = Looks(recogniser="nano", aligned=True)
    settings = choose_metrics(["psnr", "deg", "rank"], looks, True)
    row = score_all(pair_folders([tmp_path / "m"], tmp_path / "gt"), settings).rows[0]
    assert math.isinf(row.values["psnr"]) and math.isnan(row.values["rank"])
    assert "square" in row.problems["deg"] and "96 x 64" in row.problems["rank"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--aligned"], "add --recogniser FILE for identity or --faces NAME"),
        (["--metrics", "cosine"], "ArcFace's or AdaFace's weights with --recogniser FILE"),
        (["--metrics", "ald", "--recogniser", "nano", "--aligned"], "--faces: nano"),
        (["--recogniser", "none.pth", "--aligned"], "none.pth"),
    ],
)
def test_wrong_usage(root, options, words):
    assert words in " ".join(evaluate(root, "crops", *options, code=2).split())
