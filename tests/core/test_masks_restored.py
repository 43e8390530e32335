"""Masks in the chain from detecting to pasting: pictures, and faces followed over frames."""

import pytest
import torch
from facewright.core.errors import CheckpointError
from facewright.core.faces import Face
from facewright.core.geometry.align import align_faces
from facewright.core.geometry.oval import mean_outline, outlines_of
from facewright.core.geometry.paste import paste_faces
from facewright.core.pipeline import frames as frames_of_videos
from facewright.core.pipeline import pictures
from facewright.core.pipeline.frames import FrameRestorer
from facewright.core.pipeline.masks import face_masks
from facewright.core.pipeline.options import MaskOptions, RestoreOptions
from facewright.core.pipeline.pictures import Restorer
from facewright.training.world.faces3d import photos

SIDE = 64
SHOWN = photos(1003, 3, SIDE, aligned=False)
POINTS = SHOWN.landmarks[0]


class White:
    """A method whose faces are white: the pasted picture shows the weights."""

    size, landmarker, takes_people, recogniser = SIDE, None, False, None

    def restore(self, lq, people, **how):
        return torch.ones_like(lq)


class Told:
    """Finds what was written down for each picture, one after the other."""

    name, points = "told", 68

    def __init__(self, *faces):
        self.faces = list(faces)

    def detect(self, image):
        return self.faces.pop(0)


def face(points=POINTS, landmarks=True):
    five = torch.stack(
        [points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]]
    )
    low, high = points.amin(0).tolist(), points.amax(0).tolist()
    return Face((*low, *high), 1.0, points5=five, landmarks=points if landmarks else None)


@pytest.mark.parametrize("landmarks", [True, False])
def test_a_picture_is_pasted_through_its_oval(landmarks):
    picture = SHOWN.pixels[0]
    told = face(landmarks=landmarks)
    options = RestoreOptions(mask="oval", mask_grow=0.02, mask_feather=0.05, strength=0.7)
    done = Restorer(White(), Told([told])).restore(picture, options)
    crops = align_faces(picture[None], [[told]], SIDE)
    masks = face_masks(crops, MaskOptions(grow=0.02, feather=0.05), None)
    want, used = paste_faces(
        picture[None], crops, torch.ones_like(crops.pixels), masks=masks, strength=0.7
    )
    assert torch.equal(done.pixels, want[0]) and torch.equal(done.mask, used[0])
    assert torch.equal(done.pixels[:, done.mask == 0], picture[:, done.mask == 0])
    how = "by landmarks" if landmarks else "of the mean face"
    assert done.report.splitlines()[-1].startswith(f"mask of face 0: oval {how}, ")


class Parser:
    """Finds every part in the upper half."""

    def __init__(self):
        self.net = torch.nn.Identity()

    def shows(self, crops, parts):
        found = torch.zeros(len(crops), SIDE, SIDE, dtype=torch.bool)
        found[:, : SIDE // 2] = "skin" in parts
        return found


def test_the_parser_is_loaded_once_and_placed_before_use(monkeypatch):
    loaded, placed = [], []

    def load():
        loaded.append(Parser())
        return loaded[-1]

    monkeypatch.setattr(pictures, "load_parser", load)
    restorer = Restorer(
        White(), Told(*[[face()]] * 3), place=lambda net: placed.append(net) or torch.device("cpu")
    )
    options = RestoreOptions(mask="parsing", mask_feather=0.0)
    for _ in range(3):
        done = restorer.restore(SHOWN.pixels[0], options)
    assert len(loaded) == 1 and placed == [loaded[0].net] * 3
    crops = align_faces(SHOWN.pixels[:1], [[face()]], SIDE)
    masks = torch.zeros(1, SIDE, SIDE)
    masks[:, : SIDE // 2] = 1
    _, used = paste_faces(SHOWN.pixels[:1], crops, torch.ones_like(crops.pixels), masks=masks)
    assert torch.equal(done.mask, used[0])
    nothing = RestoreOptions(mask="parsing", mask_parts="hat")
    untouched = Restorer(White(), Told([face()])).restore(SHOWN.pixels[0], nothing)
    assert torch.equal(untouched.pixels, SHOWN.pixels[0]) and not untouched.mask.any()
    assert untouched.report.endswith("parsing (hat), nothing of it is restored")


def test_missing_weights_are_said_before_the_first_picture(tmp_path, monkeypatch):
    monkeypatch.setattr("facewright.core.faces.parsing.roots_of", lambda name, folder: [tmp_path])
    restorer = Restorer(White(), Told())
    with pytest.raises(CheckpointError, match=r"parsing_parsenet\.pth or parsing_bisenet\.pth"):
        restorer.settled(RestoreOptions(mask="parsing"))
    assert restorer.settled(RestoreOptions(mask="oval"))[1] == []


# --- videos


def followed(found, monkeypatch, **given):
    """The masks with which each face of a video was pasted."""
    used, real = [], frames_of_videos.delivered

    def delivered(restorer, pictures, crops, faces, people, options, masks, most):
        used.extend(masks)
        return real(restorer, pictures, crops, faces, people, options, masks, most)

    monkeypatch.setattr(frames_of_videos, "delivered", delivered)
    options = RestoreOptions(mask="oval", cut_threshold=1.0, **given)
    run = FrameRestorer(Restorer(White(), Told(*found)), options)
    frames = [SHOWN.pixels[0]] * len(found)
    for frame in frames:
        run.look(frame)
    run.settle()
    out = [new for t in range(0, len(frames), 4) for new in run.restore(t, frames[t : t + 4])]
    return torch.stack(used), out


def trembling(jaw):
    """The face with its chin pulled up and down, the five points staying."""
    points = POINTS.clone()
    points[4:13, 1] += jaw
    return face(points)


def test_ovals_of_a_video_do_not_tremble(monkeypatch):
    found = [[trembling(jaw)] for jaw in (0, 4, -4, 3, -3, 4, -4, 3, -3, 4, -4, 0)]
    masks, _ = followed(found, monkeypatch)
    raw, _ = followed(found, monkeypatch, smoothing=0.0)
    still, trembles = (m.diff(dim=0).abs().mean() for m in (masks, raw))
    assert 0 < still < 0.25 * trembles
    # Without smoothing each is its own frame's.
    crops = align_faces(SHOWN.pixels[:1], [found[1]], SIDE)
    own = outlines_of(crops.landmarks, crops.matrix, SIDE)
    want = face_masks(crops, MaskOptions(), None, outlines=own)[0]
    torch.testing.assert_close(raw[1], want, atol=1e-5, rtol=0)


def test_a_face_that_was_filled_in_is_masked_by_its_neighbors(monkeypatch):
    steady = [[trembling(0)], [trembling(0)], [], [trembling(0)], [trembling(0)]]
    for smoothing in (0.5, 0.0):
        masks, out = followed(steady, monkeypatch, smoothing=smoothing, fade=0)
        assert len(masks) == 5 and all(new is not None for new in out)
        if smoothing:
            torch.testing.assert_close(masks[2], masks[0], atol=1e-4, rtol=0)
    crops = align_faces(SHOWN.pixels[:1], [[face()]], SIDE)
    mean = face_masks(crops, MaskOptions(), None, outlines=mean_outline()[None])[0]
    assert torch.equal(masks[2], mean)


def test_a_face_without_landmarks_leaves_the_others_theirs(monkeypatch):
    apart = POINTS + torch.tensor([70.0, 0])
    alone, _ = followed([[face()]], monkeypatch, smoothing=0.0)
    pair = [[face(), face(apart, landmarks=False)]]
    masks, _ = followed(pair, monkeypatch, smoothing=0.0)
    assert len(masks) == 2 and torch.equal(masks[0], alone[0])


def test_in_a_picture_neither():
    apart = face(POINTS + torch.tensor([40.0, 0]), landmarks=False)
    options = RestoreOptions(mask="oval")
    done = Restorer(White(), Told([face(), apart])).restore(SHOWN.pixels[0], options)
    kinds = [line.partition(",")[0] for line in done.report.splitlines()[1:]]
    assert kinds == ["mask of face 0: oval by landmarks", "mask of face 1: oval of the mean face"]
    alone = Restorer(White(), Told([face()])).restore(SHOWN.pixels[0], options)
    assert torch.equal(done.mask[:, :20], alone.mask[:, :20]) and alone.mask[:, :20].any()
