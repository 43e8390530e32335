"""Faces followed and steadied over frames, against dense algebra and made-up tracks."""

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces import Face
from facewright.core.geometry.align import align_faces, place_faces
from facewright.core.geometry.smooth import smooth_path
from facewright.core.geometry.templates import template
from facewright.core.geometry.warp import fit_similarity, invert, transform
from facewright.core.video.smoothing import smooth_faces, smooth_places
from facewright.core.video.tracking import FrameChange, find_cuts, follow_faces
from numpy.testing import assert_allclose

SIZE = 64
FFHQ = template(SIZE)


def points_at(x, y, side=80.0, angle=0.0):
    """Five points of a face whose crop of `side` pixels has its middle at (x, y)."""
    c, s = np.cos(angle) * side / SIZE, np.sin(angle) * side / SIZE
    turn = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    return (FFHQ - (SIZE - 1) / 2) @ turn.T + torch.tensor([x, y], dtype=torch.float64)


def face_of(points):
    low, high = points.amin(0).tolist(), points.amax(0).tolist()
    return Face((*low, *high), 0.9, points, torch.cat([points, points + 1]))


def places_of(frames):
    """Frames of lists of five points."""
    return place_faces([[face_of(p) for p in points] for points in frames], SIZE)


def middles(places):
    middle = torch.full((1, 2), (SIZE - 1) / 2, dtype=torch.float64)
    return transform(invert(places.matrix), middle)[:, 0].numpy()


@pytest.mark.parametrize("period", [2.0, 7.5, 20.0])
@pytest.mark.parametrize("missing", [(), (3, 4, 11)])
def test_a_path_is_the_penalised_least_squares_solution(period, missing):
    rng = np.random.default_rng(0)
    y, seen = rng.normal(size=(16, 5)), np.ones(16, bool)
    seen[list(missing)] = False
    second = np.diff(np.eye(16), 2, axis=0)
    stiffness = 1 / (2 - 2 * np.cos(2 * np.pi / period)) ** 2
    # Least squares of the stacked residuals, by an SVD.
    system = np.concatenate([np.eye(16)[seen], np.sqrt(stiffness) * second])
    goal = np.concatenate([y[seen], np.zeros((14, 5))])
    expected = np.linalg.lstsq(system, goal, rcond=None)[0]
    y[~seen] = np.nan  # not to be read
    assert_allclose(smooth_path(y, seen, period), expected, atol=1e-9)


def test_a_movement_of_the_period_is_halved_without_delay():
    t = np.arange(401.0)
    wave = np.sin(2 * np.pi * (t - 200) / 20)[:, None]
    smooth = smooth_path(wave, np.ones(401, bool), 20.0)
    assert_allclose(smooth[150:251], wave[150:251] / 2, atol=1e-6)
    line = np.stack([3 * t - 7, 100 - t], 1)
    assert_allclose(smooth_path(line, np.ones(401, bool), 40.0), line, atol=1e-7)


@pytest.mark.parametrize("count", [1, 2])
def test_paths_too_short_to_bend_are_kept(count):
    path = np.random.default_rng(1).normal(size=(count, 4))
    assert_allclose(smooth_path(path, np.ones(count, bool), 20.0), path)


def shaking(frames=120, jitter=1.0, nod=0.0):
    """A face that walks and nods (once a second of 25 frames), its points found with an error."""
    torch.manual_seed(3)
    t = np.arange(frames)
    true = np.stack([100 + 0.8 * t, 120 + nod * np.sin(2 * np.pi * t / 25)], 1)
    points = [[points_at(x, y) + jitter * torch.randn(5, 2)] for x, y in true.tolist()]
    return true, places_of(points)


def shake(path):
    return np.sqrt((np.diff(path, 2, axis=0) ** 2).sum(1).mean())


def test_jitter_goes_and_the_walk_stays():
    true, found = shaking()
    steady, tracks, report = smooth_places(found, SIZE, 120, strength=0.5)
    before, after = middles(found), middles(steady)
    assert shake(after) < shake(before) / 20
    assert (
        np.linalg.norm(after - true, axis=1).mean()
        < 0.5 * np.linalg.norm(before - true, axis=1).mean()
    )
    assert set(tracks.number.tolist()) == {0} and bool((tracks.weight == 1).all())
    assert f"{shake(before):.2f} px before, {shake(after):.2f} px now" in report[0]


def test_smoothing_crops_is_smoothing_landmarks_before_the_fit():
    """Independent of how it is stored: smooth the fitted template points, fit again."""
    _, found = shaking(60, nod=3.0)
    in_picture = transform(invert(found.matrix), FFHQ.expand(60, 5, 2))
    smooth = smooth_path(in_picture.reshape(60, 10).numpy(), np.ones(60, bool), 20.0)
    refit = fit_similarity(torch.from_numpy(smooth).view(60, 5, 2), FFHQ)
    steady, _, _ = smooth_places(found, SIZE, 60, strength=0.5)
    assert_allclose(steady.matrix.numpy(), refit.numpy(), atol=1e-9)
    landmarks = smooth_path(found.landmarks.flatten(1).numpy(), np.ones(60, bool), 20.0)
    assert_allclose(steady.landmarks.flatten(1).numpy(), landmarks, atol=1e-4)


def test_a_nod_is_followed_to_within_a_twentieth_of_the_crop_or_so():
    true, found = shaking(jitter=0.0, nod=30.0)
    steady, _, _ = smooth_places(found, SIZE, 120, strength=1.0)
    assert np.abs(middles(steady) - true).max() < 1.5 * 0.05 * 80


def crossing(frames=41, missing=()):
    """Two faces walking through each other, one a little higher; `missing`: only one is found."""
    a = [(40 + 6 * t, 100.0) for t in range(frames)]
    b = [(40 + 6 * (frames - 1 - t), 112.0) for t in range(frames)]
    found = []
    for t in range(frames):
        both = [points_at(*a[t]), points_at(*b[t])]
        both = both[:1] if t in missing else both
        # Numbered from left to right, as Detect Faces does: the numbers swap midway.
        found.append(sorted(both, key=lambda p: float(p[:, 0].mean())))
    return found


@pytest.mark.parametrize("missing", [(), (19, 20, 21)])
def test_people_who_cross_keep_their_tracks(missing):
    found = places_of(crossing(missing=missing))
    number = follow_faces(found, SIZE, max_gap=3)
    y = middles(found)[:, 1]
    assert number.max() == 1
    for k in (0, 1):
        assert len(set(np.round(y[number.numpy() == k]))) == 1


def test_a_cut_ends_tracks_and_smoothing_does_not_reach_over_it():
    frames = [[points_at(100, 100)]] * 10 + [[points_at(108, 100)]] * 10
    found = places_of(frames)
    joined, tracks, _ = smooth_places(found, SIZE, 20, strength=0.5)
    assert tracks.number.max() == 0 and not torch.allclose(joined.matrix, found.matrix, atol=1e-3)
    apart, tracks, report = smooth_places(found, SIZE, 20, [10], strength=0.5)
    assert tracks.number.tolist() == [0] * 10 + [1] * 10
    assert torch.allclose(apart.matrix, found.matrix, atol=1e-9)
    assert bool((tracks.weight == 1).all()) and "cuts before 10" in report[0]


def test_faces_that_were_missed_are_filled_in_up_to_the_longest_gap():
    walk = [[points_at(50 + 2 * t, 90)] for t in range(20)]
    for t in (5, 6, 7, 12, 13, 14, 15):
        walk[t] = []
    found = places_of(walk)
    full, tracks, report = smooth_places(found, SIZE, 20, strength=0.0, fill_gaps=3, fade=0)
    assert full.image_index.tolist() == [t for t in range(20) if t not in (12, 13, 14, 15)]
    assert_allclose(middles(full)[:, 0], 50 + 2 * full.image_index.numpy(), atol=1e-6)
    assert tracks.number.tolist() == [0] * 12 + [1] * 4 and "3 missed ones" in report[0]
    was_found = torch.tensor([t not in (5, 6, 7) for t in full.image_index.tolist()])
    for name in ("matrix", "landmarks", "boxes", "scores"):
        assert torch.equal(getattr(full, name)[was_found], getattr(found, name))
    assert float(full.scores[5]) == pytest.approx(0.9)


def test_faces_fade_where_they_come_and_go_within_a_scene():
    frames = [[]] * 4 + [[points_at(80, 80)]] * 10 + [[]] * 6
    _, tracks, _ = smooth_places(places_of(frames), SIZE, 20, fade=3)
    ramp = [0.25, 0.5, 0.75]
    assert_allclose(tracks.weight.numpy(), [*ramp, 1, 1, 1, 1, *ramp[::-1]])
    _, tracks, _ = smooth_places(places_of(frames), SIZE, 20, [4, 14], fade=3)
    assert bool((tracks.weight == 1).all())


def test_cuts_are_found_and_a_pan_is_none():
    torch.manual_seed(0)
    scenes = [torch.rand(3, 8, 8) for _ in range(3)]
    change = FrameChange()
    for t in range(30):
        scene = torch.nn.functional.interpolate(scenes[t // 10][None], (48, 64))[0]
        change.see((scene + 0.02 * torch.rand(3, 48, 64)).clamp(0, 1))
    assert find_cuts(change.differences, 0.1) == [10, 20]
    assert find_cuts(change.differences, 1.0) == []
    pan = FrameChange()
    wide = torch.rand(3, 48, 400)
    for t in range(20):
        pan.see(wide[:, :, 16 * t : 16 * t + 64])
    assert find_cuts(pan.differences, 0.01) == []


def test_crops_are_cut_out_again_and_strength_0_keeps_them_bit_for_bit():
    torch.manual_seed(1)
    images = torch.rand(6, 3, 120, 160)
    faces = [[face_of(points_at(60 + t, 60) + torch.randn(5, 2)), face_of(points_at(110, 50))]
             for t in range(6)]  # fmt: skip
    faces[2] = []
    crops = align_faces(images, faces, SIZE)
    same, _ = smooth_faces(images, crops, strength=0.0, fill_gaps=0, cut_threshold=1)
    assert torch.equal(same.pixels, crops.pixels) and torch.equal(same.matrix, crops.matrix)
    seen = []
    steady, report = smooth_faces(images, crops, cut_threshold=1, on_frame=seen.append)
    assert sum(seen) == 6 and steady.image_index.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert len(steady) == 12 and steady.tracks.number.tolist() == [0, 1] * 6
    assert "2 missed ones" in report and steady.image_sizes == crops.image_sizes
    with pytest.raises(FacewrightError, match="6 pictures of 160 x 120 pixels"):
        smooth_faces(images[:5], crops)


def test_no_faces_at_all_and_numbers_out_of_range():
    images = torch.rand(4, 3, 40, 40)
    crops = align_faces(images, [[]] * 4, SIZE)
    same, report = smooth_faces(images, crops)
    assert len(same) == 0 and same.pixels.shape == (0, 3, SIZE, SIZE) and "0 faces" in report
    with pytest.raises(FacewrightError, match="`strength` should lie in"):
        smooth_faces(images, crops, strength=1.5)
    with pytest.raises(FacewrightError, match="`fade` is a number of frames"):
        smooth_faces(images, crops, fade=-1)
