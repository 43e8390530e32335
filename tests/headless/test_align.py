"""`facewright align`: what is kept lies on the template, what is not has its reason."""

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facewright.core.errors import FacewrightError
from facewright.core.faces import load_analyzer
from facewright.core.geometry.templates import template
from facewright.core.geometry.warp import warp_square
from facewright.core.images import read_picture, to_array
from facewright.core.people.album import sharpness
from facewright.core.people.curation import (
    HASH_BITS,
    Limits,
    estimate_yaw,
    find_duplicates,
    outside_share,
    perceptual_hash,
    usual_sharpness,
)
from facewright.headless.cli import app
from facewright.headless.make.align import AlignRun
from facewright.headless.make.align_photo import AlignOptions
from facewright.training.world.scenes import group_scene
from PIL import Image
from typer.testing import CliRunner

SIZE = 96
LOOSE = Limits(min_side=48, min_sharpness=0.3, max_outside=0.1)


def save(pixels, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(to_array(pixels)).save(path, **options)


def resized(pixels, factor, mode="bicubic"):
    size = [round(side * factor) for side in pixels.shape[1:]]
    return F.interpolate(pixels[None], size, mode=mode, antialias=factor < 1)[0].clamp(0, 1)


@pytest.fixture(scope="module")
def scenes():
    """One rendered person each, and a group of two."""
    made = {
        name: group_scene(seed, [seed], width=260, height=220).pixels
        for seed, name in enumerate(("anna", "bert", "cleo"), 1)
    }
    return made | {"group": group_scene(8, 2, width=420, height=220).pixels}


@pytest.fixture(scope="module")
def drawn(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    for name in ("anna/1", "bert/1", "group"):
        save(scenes[name.partition("/")[0]], folder / f"{name}.png")
    return folder


@pytest.fixture
def photos(drawn, tmp_path):
    return Path(shutil.copytree(drawn, tmp_path / "photos"))


def run(photos, out, *, workers=1, **options):
    given = {"analyzer": "nano", "size": SIZE, "limits": LOOSE} | options
    todo = AlignRun([str(photos)], out, AlignOptions(**given))
    return todo.carry_out(workers=workers)


def records(out):
    lines = (out / "align_manifest.jsonl").read_text().splitlines()
    return {record["output"]: record for record in map(json.loads, lines)}


def pictures(out):
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png"))


def contents(folder):
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in files.items()}


def why(out, name):
    """Kinds of the reasons against everything of one photo."""
    record = records(out)[name]
    found = record["reasons"] + [r for face in record["faces"] for r in face["reasons"]]
    assert all(r["words"] and {"value", "limit"} <= r.keys() for r in found)
    return [r["kind"] for r in found]


def cli(*args):
    return CliRunner().invoke(app, ["align", *map(str, args)])


def similarity(source, target):
    """Least squares for a, b, tx, ty of x' = a x - b y + tx, y' = b x + a y + ty; (2, 3)."""
    rows, goal = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        goal += [u, v]
    a, b, tx, ty = np.linalg.lstsq(np.array(rows), np.array(goal), rcond=None)[0]
    return np.array([[a, -b, tx], [b, a, ty]])


def test_faces_land_on_the_template_and_folders_stay(photos, tmp_path):
    (photos / "anna/1.txt").write_text("ein Gesicht, größer\n", encoding="utf-8")
    (photos / "bert/1.txt").write_bytes(b"\xff\xfe\xff")
    summary = run(photos, tmp_path / "out")
    assert not summary.failed
    names = ["anna/1.png", "bert/1.png", "group.png"]
    assert pictures(tmp_path / "out") == names
    goal = template(SIZE).numpy()
    nano = load_analyzer("nano")
    for name in names:
        record = records(tmp_path / "out")[name.removesuffix(".png")]
        (face,) = [face for face in record["faces"] if face["kept"]]
        crop = read_picture(tmp_path / "out" / name).pixels
        assert crop.shape == (3, SIZE, SIZE)
        matrix = similarity(face["landmarks"], goal)
        assert face["side"] == pytest.approx(SIZE / math.hypot(*matrix[:, 0]), abs=0.01)
        fitted = np.array(face["landmarks"]) @ matrix[:, :2].T + matrix[:, 2]
        points = nano.landmarks(crop[None])[0].double().numpy()
        eyes = points[36:42].mean(0), points[42:48].mean(0)
        found = np.stack([*eyes, points[30], points[48], points[54]])
        assert np.abs(found - fitted).max() < 0.025 * SIZE
        assert np.abs(found - goal).max() < 0.09 * SIZE, "rendered faces have their own shapes"
        # The pixels lie where the matrix says: sample the photo there, one by one.
        photo = read_picture(photos / record["input"]).pixels
        u, v = 40, 50
        x, y = np.linalg.solve(matrix[:, :2], np.array([u, v]) - matrix[:, 2])
        nearby = photo[:, round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].flatten(1)
        assert (
            (crop[:, v, u] > nearby.amin(1) - 0.06) & (crop[:, v, u] < nearby.amax(1) + 0.06)
        ).all()
        import hashlib

        data = (tmp_path / "out" / name).read_bytes()
        assert face["sha256"] == hashlib.sha256(data).hexdigest()
    caption = (tmp_path / "out/anna/1.txt").read_text(encoding="utf-8")
    assert caption.strip() == "ein Gesicht, größer"
    assert not (tmp_path / "out/bert/1.txt").exists()
    assert "UTF-8" in records(tmp_path / "out")["bert/1"]["notes"][0]


def test_largest_or_all(photos, tmp_path):
    (photos / "group.txt").write_text("two people")
    (photos / "anna/1.txt").write_text("anna")
    run(photos, tmp_path / "one")
    largest, other = records(tmp_path / "one")["group"]["faces"]
    areas = [(f["box"][2] - f["box"][0]) * (f["box"][3] - f["box"][1]) for f in (largest, other)]
    assert areas[0] > areas[1] and largest["kept"] and not other["kept"]
    assert why(tmp_path / "one", "group") == ["not the largest"]
    run(photos, tmp_path / "all", faces="all")
    assert {"anna/1_1.png", "group_1.png", "group_2.png"} <= set(pictures(tmp_path / "all"))
    left, right = records(tmp_path / "all")["group"]["faces"]
    assert left["box"][0] < right["box"][0]
    texts = {p.name for p in (tmp_path / "all").rglob("*.txt")}
    assert texts == {"1_1.txt"}, "a caption of two faces is nobody's"


@pytest.mark.parametrize(
    ("damage", "limits", "reason"),
    [
        (lambda x: x, {"min_side": 400}, "size"),
        (lambda x: resized(resized(x, 0.15), 1 / 0.15), {"min_sharpness": 0.5}, "sharpness"),
        (lambda x: x[:, :, 115:], {"max_outside": 0.1}, "outside"),
        (lambda x: x, {"min_score": 0.9999}, "score"),
        (lambda x: x, {"max_yaw": 0.001}, "yaw"),
        (lambda x: x.mean(0, keepdim=True).expand(3, -1, -1), {"min_color": 2.0}, "grey"),
        (lambda x: torch.full_like(x, 0.5), {}, "no face"),
    ],
)
def test_each_reason(scenes, tmp_path, damage, limits, reason):
    save(damage(scenes["anna"]), tmp_path / "photos/x.png")
    run(tmp_path / "photos", tmp_path / "out", limits=Limits(**limits))
    assert why(tmp_path / "out", "x") == [reason]
    assert pictures(tmp_path / "out") == []
    if reason == "no face":
        return
    (face,) = records(tmp_path / "out")["x"]["faces"]
    (given,) = limits.values()
    assert face["reasons"][0]["limit"] == given
    run(tmp_path / "photos", tmp_path / "out", limits=Limits())
    assert pictures(tmp_path / "out") == ["x.png"] and why(tmp_path / "out", "x") == []


def test_landmarks_in_one_point_lose_a_face_but_not_the_others(scenes, tmp_path, monkeypatch):
    from facewright.core.faces import Face
    from facewright.headless.make import align_photo

    good = load_analyzer("nano").detect(scenes["anna"])

    class Confused:
        def detect(self, image):
            return [*good, Face((10.0, 10.0, 60.0, 60.0), 0.9, points5=torch.full((5, 2), 30.0))]

    monkeypatch.setattr(align_photo, "ready_analyzer", lambda name: Confused())
    save(scenes["anna"], tmp_path / "photos/x.png")
    run(tmp_path / "photos", tmp_path / "out", faces="all")
    assert why(tmp_path / "out", "x") == [] and len(pictures(tmp_path / "out")) == 1
    (note,) = records(tmp_path / "out")["x"]["notes"]
    assert "1 of 2 faces where there can be none" in note


def test_the_share_outside_is_counted():
    shift = torch.tensor([[1.0, 0, 30], [0, 1.0, -20]], dtype=torch.float64)
    # A picture 50 wide and 80 high lies at x 30 to 80 and y -20 to 60 of a crop of 100.
    assert outside_share(shift, 100, (80, 50)) == pytest.approx(1 - 50 * 60 / 100**2)


@pytest.mark.parametrize("degrees", [0, 20, 45, 70])
@pytest.mark.parametrize("roll", [0, 35])
def test_yaw_of_a_canonical_head(degrees, roll):
    # x right, y down, z to the viewer: eyes (lid corners' middle), nose tip, mouth corners of
    # MediaPipe's canonical face model, in centimetres.
    head = np.array(
        [[-3.15, -2.62, 3.47], [3.15, -2.62, 3.47], [0, 1.13, 7.48], [-2.46, 4.34, 4.28],
         [2.46, 4.34, 4.28]]
    )  # fmt: skip
    t, r = np.deg2rad(degrees), np.deg2rad(roll)
    turned = head @ np.array([[np.cos(t), 0, np.sin(t)], [0, 1, 0], [-np.sin(t), 0, np.cos(t)]]).T
    flat = turned[:, :2] @ np.array([[np.cos(r), -np.sin(r)], [np.sin(r), np.cos(r)]]).T
    assert estimate_yaw(torch.from_numpy(flat) * 20 + 300) == pytest.approx(degrees, abs=3)


def test_shrinking_makes_no_false_patterns():
    """Stripes finer than the crop can hold become grey, those it can hold stay."""
    for step in (1.5, 2.6, 5.0, 9.0):
        for cycles, low, high in ((0.2, 0.97, 1.03), (0.8, 0.0, 0.03), (1.7, 0.0, 0.03)):
            if cycles / step > 0.45:
                continue  # the photo itself cannot hold them
            side = round(64 * step)
            x = torch.arange(side, dtype=torch.float32)
            stripes = 0.5 + 0.4 * torch.cos(2 * math.pi * cycles / step * x)
            picture = stripes.expand(3, side, side).contiguous()
            matrix = torch.tensor([[1 / step, 0, 0], [0, 1 / step, 0]], dtype=torch.float64)
            crop = warp_square(picture, matrix, 64)
            amplitude = float(crop[:, 16:48, 16:48].std()) * 2**0.5 / 0.4
            assert low <= amplitude <= high, (step, cycles)


@pytest.mark.parametrize("step", [0.6, 1.5, 3.9, 4.1, 9.3])
def test_pixels_lie_where_the_map_says(step):
    """A slope stays the same slope, read off at the places the inverse map gives."""
    side, size = 400, 32
    y, x = np.mgrid[:side, :side].astype(np.float64)
    picture = torch.from_numpy(0.1 + 0.0012 * x + 0.0008 * y).float().expand(3, -1, -1)
    c, s = np.cos(0.4) / step, np.sin(0.4) / step
    linear = np.array([[c, s], [-s, c]])
    shift = np.array([15.3, 16.1]) - linear @ [199.0, 201.0]
    matrix = torch.from_numpy(np.column_stack([linear, shift]))
    crop = warp_square(picture.contiguous(), matrix, size)[0].numpy()
    v, u = np.mgrid[:size, :size].astype(np.float64)
    at = np.linalg.solve(linear, np.stack([u.ravel() - shift[0], v.ravel() - shift[1]]))
    expected = (0.1 + 0.0012 * at[0] + 0.0008 * at[1]).reshape(size, size)
    inside = ((at > 4 * step) & (at < side - 1 - 4 * step)).all(0).reshape(size, size)
    assert inside.sum() > 250
    assert np.abs(crop - expected)[inside].max() < 1e-4


def test_shrinking_by_a_whole_number_is_pillow_s_lanczos(scenes):
    """Without rotation and at the picture's own grid, an independent program gives the same."""
    plane = scenes["anna"][0, :180, :180].contiguous()
    expected = np.asarray(Image.fromarray(plane.numpy()).resize((90, 90), Image.Resampling.LANCZOS))
    matrix = torch.tensor([[0.5, 0, -0.25], [0, 0.5, -0.25]], dtype=torch.float64)
    expected = expected.clip(float(plane.min()), float(plane.max()))
    found = warp_square(plane[None], matrix, 90)[0].numpy()
    assert np.abs(found - expected)[4:-4, 4:-4].max() < 1e-3


def test_the_usual_sharpness_tells_soft_from_sharp(scenes):
    for size in (128, 512):
        matrix = torch.tensor([[size / 160, 0, 0], [0, size / 160, 0]], dtype=torch.float64)
        small = min(1.0, 160 / size)
        crops = [
            warp_square(scenes[name][:, 30:190, 50:210], matrix, size) for name in ("anna", "bert")
        ]
        for crop in crops:
            soft = resized(resized(crop, small / 8), 8 / small)
            middle = slice(size // 4, -size // 4)
            sharp, blurred = sharpness(torch.stack([crop, soft])[..., middle, middle]).tolist()
            assert blurred < usual_sharpness(size) < sharp


def test_hashes_know_a_photo_again(scenes, tmp_path):
    hashes = {}
    for name in ("anna", "bert", "cleo"):
        crop = scenes[name][:, 20:200, 40:220]
        save(crop, tmp_path / "x.jpg", quality=40)
        versions = (crop, resized(crop, 0.6), read_picture(tmp_path / "x.jpg").pixels, crop * 0.9)
        hashes[name] = [perceptual_hash(version) for version in versions]
    apart = {
        (a, b): [(int(h, 16) ^ int(g, 16)).bit_count() for h in hashes[a] for g in hashes[b]]
        for a in hashes
        for b in hashes
    }
    assert all(max(bits) <= 16 for (a, b), bits in apart.items() if a == b)
    assert all(min(bits) > 40 for (a, b), bits in apart.items() if a != b)


def test_duplicates_are_those_of_a_naive_loop():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2, (40, HASH_BITS))
    copies = base[rng.integers(0, 40, 1500)] ^ (rng.random((1500, HASH_BITS)) < 0.06)
    hashes = [np.packbits(bits).tobytes().hex() for bits in copies]
    kept, gone = [], {}
    for i, mine in enumerate(copies):
        bits = (copies[kept] != mine).sum(1)
        if len(kept) and bits.min() <= 24:
            gone[i] = (kept[bits.argmin()], int(bits.min()))
        else:
            kept.append(i)
    assert find_duplicates(hashes, 24) == gone
    assert 40 < len(kept) < 1400, "some are closer than the limit, some are not"
    assert find_duplicates([], 24) == {}


def test_of_one_photo_saved_twice_the_better_one_stays(photos, scenes, tmp_path):
    out = tmp_path / "out"
    save(resized(scenes["anna"], 0.6), photos / "anna/0.jpg", quality=90)
    (photos / "anna/0.txt").write_text("small")
    run(photos, out)
    assert "anna/1.png" in pictures(out) and "anna/0.png" not in pictures(out)
    (reason,) = records(out)["anna/0"]["faces"][0]["reasons"]
    assert reason["kind"] == "duplicate" and "anna/1.png" in reason["words"]
    assert not (out / "anna/0.txt").exists()
    again = run(photos, out)
    assert not again.done and len(again.skipped) == 4
    # The better one goes: the other is made after all.
    (photos / "anna/1.png").unlink()
    (out / "anna/1.png").unlink()
    run(photos, out)
    assert "anna/0.png" in pictures(out) and (out / "anna/0.txt").exists()
    assert why(out, "anna/0") == []
    # It comes back.
    save(scenes["anna"], photos / "anna/1.png")
    run(photos, out)
    assert "anna/1.png" in pictures(out) and "anna/0.png" not in pictures(out)
    run(photos, out, duplicates="keep")
    assert {"anna/0.png", "anna/1.png"} <= set(pictures(out))


def test_finished_photos_are_not_done_again_and_other_options_do_all_again(photos, tmp_path):
    out = tmp_path / "out"
    run(photos, out)
    before, times = contents(out), {p: p.stat().st_mtime_ns for p in out.rglob("*.png")}
    summary = run(photos, out)
    assert not summary.done and len(summary.skipped) == 3
    assert contents(out) == before
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.png")} == times
    (out / "bert/1.png").unlink()
    assert [entry["input"] for entry in run(photos, out).done] == [str(photos / "bert/1.png")]
    assert contents(out) == before
    summary = run(photos, out, format="jpg", quality=50)
    assert len(summary.done) == 3 and pictures(out) == [], "the PNGs of the other options go"
    assert Image.open(out / "anna/1.jpg").format == "JPEG"
    small = (out / "anna/1.jpg").stat().st_size
    run(photos, out, format="jpg", quality=95)
    assert (out / "anna/1.jpg").stat().st_size > 1.3 * small
    run(photos, out, limits=Limits(min_side=4000))
    assert not list(out.rglob("*.jpg")) and not pictures(out)
    run(photos, out)
    assert contents(out) == before


def test_what_others_made_is_left_alone(photos, scenes, tmp_path):
    out = tmp_path / "out"
    save(scenes["anna"], out / "mine.png")
    with pytest.raises(FacewrightError, match="not made by this command"):
        run(photos, out)
    (out / "mine.png").unlink()
    run(photos, out)
    edited = scenes["bert"][:, :SIZE, :SIZE]
    save(edited, out / "anna/1.png")
    run(photos, out, limits=Limits(min_side=4000))
    assert pictures(out) == ["anna/1.png"], "somebody changed it: it is not deleted"
    run(photos, tmp_path / "b")
    save(scenes["cleo"], photos / "bert/1.png")
    with pytest.raises(FacewrightError, match="another photo"):
        run(photos, tmp_path / "b")
    with pytest.raises(FacewrightError, match=r"size 96 there, 64 now.*cannot be made again"):
        run(photos / "anna", tmp_path / "b", size=64)
    with pytest.raises(FacewrightError, match="name of a picture"):
        run(photos, tmp_path / "x.png")


def test_another_photo_in_place_of_one_that_was_left_out(photos, scenes, tmp_path):
    save(torch.full((3, 90, 90), 0.5), photos / "bert/1.png")
    run(photos, tmp_path / "out")
    assert why(tmp_path / "out", "bert/1") == ["no face"]
    save(scenes["bert"], photos / "bert/1.png")
    assert len(run(photos, tmp_path / "out").done) == 1
    assert "bert/1.png" in pictures(tmp_path / "out")


def test_names_that_differ_in_their_suffix(photos, scenes, tmp_path):
    save(scenes["cleo"], photos / "anna/1.jpg")
    run(photos, tmp_path / "out", duplicates="keep")
    assert {"anna/1_png.png", "anna/1_jpg.png"} <= set(pictures(tmp_path / "out"))


@pytest.mark.slow
def test_workers_change_nothing(photos, tmp_path):
    run(photos, tmp_path / "one", faces="all")
    run(photos, tmp_path / "two", faces="all", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_command_line(photos, scenes, tmp_path):
    out = tmp_path / "out"
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    save(scenes["bert"], photos / "bert/1.png", exif=exif)
    args = (photos, "-o", out, "--analyzer", "nano", "--size", SIZE, "--min-score", 0.5)
    result = cli(*args, "--json")
    assert result.exit_code == 1 and "broken.jpg" in result.stderr
    told = json.loads(result.stdout)
    assert told["crops"] == 3 and told["reasons"] == {"not the largest": 1}
    assert [entry["input"] for entry in told["failed"]] == [str(photos / "broken.jpg")]
    done = {Path(entry["input"]).name: entry for entry in told["done"]}
    assert done["group.png"]["crops"] == [str(out / "group.png")]
    assert "another face" in done["group.png"]["left_out"][0]
    assert b"taken at home" not in (out / "bert/1.png").read_bytes()
    sheet = Image.open(tmp_path / "out_align_sheet.png")
    assert str(tmp_path / "out_align_sheet.png") == told["sheet"]
    assert sheet.width == 8 * 192 + 7 * 4 and sheet.height > 2 * 192
    # The crops are on it: the first cell under the first heading.
    cell = np.asarray(sheet)[28 : 28 + 192, :192].astype(float)
    crop = Image.open(out / "anna/1.png").resize((192, 192), Image.Resampling.BICUBIC)
    assert np.abs(cell - np.asarray(crop, dtype=float)).mean() < 3
    (photos / "broken.jpg").unlink()
    result = cli(*args)
    assert result.exit_code == 0 and "3 were finished before" in result.stderr
    assert cli(photos, "-o", out, "--analyzer", "who").exit_code == 2
    assert cli(tmp_path / "nothing", "-o", out, "--analyzer", "nano").exit_code == 2
    result = cli(photos, "-o", out, "--analyzer", "skimage", "--max-yaw", 30)
    assert result.exit_code == 2 and "boxes only" in result.stderr


def test_a_sheet_among_the_photos_is_no_photo(photos, tmp_path):
    args = ("--analyzer", "nano", "--size", SIZE)
    assert cli(photos, "-o", photos / "aligned", *args).exit_code == 0
    before = contents(photos / "aligned")
    assert (photos / "aligned_align_sheet.png").exists()
    assert cli(photos, "-o", photos / "aligned", *args).exit_code == 0
    assert contents(photos / "aligned") == before


@pytest.mark.slow
def test_photographs_are_aligned_by_the_box(tmp_path):
    data = pytest.importorskip("skimage.data")
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    save(photo, tmp_path / "photos/me/astronaut.jpg", quality=95)
    save(photo[:, 60:300, 150:400], tmp_path / "photos/me/tight.png")
    save(
        torch.from_numpy(data.coffee()).permute(2, 0, 1).float() / 255, tmp_path / "photos/cup.png"
    )
    run(tmp_path / "photos", tmp_path / "out", analyzer="skimage", size=128, limits=LOOSE)
    assert pictures(tmp_path / "out") == ["me/astronaut.png"]
    (face,) = records(tmp_path / "out")["me/astronaut"]["faces"]
    assert face["landmarks_from"] == "box" and face["yaw"] is None
    # Her eyes in the photo, seen by hand, come to the template's within a tenth of the crop.
    matrix = similarity(face["landmarks"], template(128).numpy())
    eyes = np.array([[206, 111], [246, 111]]) @ matrix[:, :2].T + matrix[:, 2]
    assert np.abs(eyes - template(128).numpy()[:2]).max() < 12.8
    assert why(tmp_path / "out", "me/tight") == ["outside"]
    assert why(tmp_path / "out", "cup") == ["no face"]


@pytest.mark.slow
def test_a_killed_run_goes_on(scenes, tmp_path):
    for i in range(24):
        save(scenes[("anna", "bert", "cleo")[i % 3]].roll(i, 2), tmp_path / f"photos/{i:02}.png")
    photos, out = tmp_path / "photos", tmp_path / "out"
    options = ["--analyzer", "nano", "--size", str(SIZE), "--duplicates", "keep"]
    command = [sys.executable, "-m", "facewright", "align", str(photos), "-o", str(out), *options]
    for how in (signal.SIGKILL, signal.SIGINT):
        before = len(pictures(out))
        process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=tmp_path)
        while len(pictures(out)) < before + 3 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(how)
        process.wait()
    assert 6 <= len(pictures(out)) < 24
    assert process.returncode == 1 and b"run the same command again" in process.stderr.read()
    subprocess.run(command, check=True, cwd=tmp_path)
    assert cli(photos, "-o", tmp_path / "whole", *options).exit_code == 0
    assert contents(out) == contents(tmp_path / "whole")
