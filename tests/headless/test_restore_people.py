"""Restoring with photographs of people: `facewright restore --person ...` and the Python behind."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces import detect_faces, load_analyzer
from facewright.core.geometry.align import align_faces
from facewright.core.geometry.paste import paste_faces
from facewright.core.images import Picture, read_picture, write_picture
from facewright.core.people.album import make_person
from facewright.core.people.receipts import KEYWORD
from facewright.core.people.unnamed import in_pictures
from facewright.core.restorer import restore_in_chunks
from facewright.core.weights import nano
from facewright.headless.cli import app
from facewright.headless.make import restore_files
from facewright.headless.make.restore import RestoreOptions, load_restorer
from facewright.training.world.faces3d import photos
from facewright.training.world.scenes import group_scene
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

runner = CliRunner()
ALICE, BOB, EVE = 2**40 + 3, 2**40 + 4, 2**40 + 5


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")
    monkeypatch.setenv("FACEWRIGHT_MODELS", str(tmp_path / "models"))


@pytest.fixture(scope="module")
def restorer():
    return load_restorer("nano-honestface")


def portraits(seed, *shots):
    return list(photos(seed, list(shots), size=192, aligned=False).pixels)


def album(restorer, seed, name, shots=(1, 2, 3)):
    return make_person(
        portraits(seed, *shots),
        name=name,
        sources=[f"{shot}.png" for shot in shots],
        analyzer=restorer.analyzer,
        recogniser=restorer.recogniser,
        crop_size=nano.NANO_SIZE,
    )[0]


@pytest.fixture(scope="module")
def albums(restorer):
    return {"alice": album(restorer, ALICE, "alice"), "bob": album(restorer, BOB, "bob")}


@pytest.fixture(scope="module")
def group():
    """Bob, a stranger and Alice, from left to right."""
    return group_scene(11, [BOB, EVE, ALICE], width=480, height=270).pixels


@pytest.fixture(scope="module")
def folder(tmp_path_factory, albums, group):
    """alice.person, bob.person, group.png, photos of Eve, and a wall."""
    folder = tmp_path_factory.mktemp("people")
    for name, person in albums.items():
        person.save(folder / f"{name}.person")
    pictures = {"group": group, "wall": torch.full((3, 60, 80), 0.4)}
    pictures |= {f"eve/{i}": pixels for i, pixels in enumerate(portraits(EVE, 1, 2))}
    for name, pixels in pictures.items():
        write_picture(folder / f"{name}.png", pixels, Picture(pixels))
    return folder


def crops_of(picture, restorer, numbers=(0, 1, 2)):
    """Numbered from left to right."""
    faces = sorted(detect_faces(restorer.analyzer, picture), key=lambda face: face.box[0])
    return align_faces(picture[None], [[faces[i] for i in numbers]], restorer.method.size)


def cli(*args, weights="nano"):
    chosen = ("--weights", weights) if weights else ()
    return runner.invoke(app, ["restore", *map(str, args), *chosen])


def people(folder):
    return ("--person", folder / "alice.person", "--person", folder / "bob.person")


# ---- who gets whose photographs


def test_each_face_of_a_group_gets_its_own_album(folder, tmp_path, restorer, albums):
    out = tmp_path / "out"
    result = cli(folder / "group.png", "-o", out, *people(folder), "--json")
    assert result.exit_code == 0, result.stderr
    (entry,) = json.loads(result.stdout)["done"]
    assert [m["person"] for m in entry["matches"]] == ["bob", None, "alice"]
    assert entry["matches"][0]["cosines"].keys() == {"alice", "bob"}
    assert "receipts" not in entry

    # Python does the same, whatever the order of the albums
    picture = read_picture(folder / "group.png").pixels
    options = RestoreOptions(people=[albums["bob"], albums["alice"]])
    mine = restorer.restore(picture, options)
    assert mine.matches.names == ["bob", "nobody", "alice"]
    torch.testing.assert_close(
        read_picture(out / "group.png").pixels, mine.pixels, rtol=0, atol=0.51 / 255
    )


def test_every_face_is_restored_as_it_would_be_with_its_album_alone(group, restorer, albums):
    mine = restorer.restore(group, RestoreOptions(people=list(albums.values())))
    alone = [
        restorer.restore(group, RestoreOptions(person=person)).pixels
        for person in (albums["bob"], None, albums["alice"])
    ]
    third = group.shape[-1] // 3  # people stand in thirds of the picture
    for i, pixels in enumerate(alone):
        own = slice(i * third + 30, (i + 1) * third - 30)
        torch.testing.assert_close(mine.pixels[..., own], pixels[..., own], rtol=0, atol=1e-5)
    assert not torch.equal(alone[0][..., :third], alone[1][..., :third])
    assert not torch.equal(alone[2][..., -third:], alone[1][..., -third:])


@pytest.mark.slow
def test_a_face_of_a_video_is_one_person_by_all_its_frames(
    folder, group, tmp_path, restorer, albums, monkeypatch
):
    """Bob, unrecognizable in one frame of four, has his album there, too: by command and node."""
    pytest.importorskip("av")
    from facewright.core.methods import _onestep
    from facewright.core.video.clip import Clip
    from facewright.core.video.files import write_video
    from facewright.nodes.frames import RestoreVideo
    from facewright.nodes.honestface import LoadNanoHonestface

    third = group.shape[-1] // 3
    frames = [group.clone() for _ in range(4)]
    # Somebody else's face in his place, for one frame.
    frames[2][..., :third] = group_scene(11, [EVE, BOB, ALICE], width=480, height=270).pixels[
        ..., :third
    ]
    alone = restorer.restore(frames[2], RestoreOptions(people=list(albums.values())))
    assert alone.matches.names[0] == "nobody", "frame by frame he would not have it"

    given, restore = [], _onestep.OneStepFaces.restore

    def watched(self, lq, people, **more):
        given.extend(person.name if person else None for person in people)
        return restore(self, lq, people, **more)

    monkeypatch.setattr(_onestep.OneStepFaces, "restore", watched)
    write_video(tmp_path / "clip.mp4", frames, 25, crf=0)
    guarded = ("--receipts", "--max-drift", 0.9, "--cut-threshold", 1)
    out = tmp_path / "out"
    result = cli(tmp_path / "clip.mp4", "-o", out, *people(folder), *guarded, "--json")
    assert result.exit_code == 0, result.stderr
    (entry,) = json.loads(result.stdout)["done"]
    assert sorted(str(m["person"]) for m in entry["matches"]) == ["None", "alice", "bob"]
    assert all(m["frames"] == {"first": 0, "last": 3, "count": 4} for m in entry["matches"])
    assert entry["who"][0].count(" in frames 0 to 3") == 3
    assert sorted(map(str, given)) == ["None"] * 4 + ["alice"] * 4 + ["bob"] * 4
    assert [r["frames"]["count"] for r in entry["receipts"]] == [4, 4, 4]
    assert {r["person"] for r in entry["receipts"]} == {None, "alice", "bob"}

    given.clear()
    model, vae, vre, ide, analyzer = LoadNanoHonestface.execute().result[:5]
    values = {i.id: getattr(i, "default", None) for i in RestoreVideo.define_schema().inputs}
    values |= {"crop_size": nano.NANO_SIZE, "cut_threshold": 1.0, "guard": "lower strength"}
    values |= {"model": model, "vae": vae, "vre": vre, "ide": ide, "analyzer": analyzer}
    values |= {"people": list(albums.values()), "video": Clip(torch.stack(frames), Fraction(25))}
    _, report, receipts = RestoreVideo.execute(**values).result
    assert sorted(map(str, given)) == ["None"] * 4 + ["alice"] * 4 + ["bob"] * 4
    assert "bob (" in report
    assert [r["frames"]["count"] for r in json.loads(receipts)["faces"]] == [4, 4, 4]


def test_the_report_says_who_was_found(folder, tmp_path):
    result = cli(folder / "group.png", "-o", tmp_path, *people(folder))
    line = next(line for line in result.stderr.splitlines() if "group.png: 3 faces" in line)
    assert "3 faces: bob (0." in line and "nobody (best: " in line and ", alice (0." in line


def test_nobody_known_is_nobody_given(group, restorer, albums):
    plain = restorer.restore(group, RestoreOptions())
    stranger = album(restorer, 2**40 + 6, "carol")
    strangers = restorer.restore(group, RestoreOptions(people=[stranger]))
    none = restorer.restore(group, RestoreOptions(people=[albums["alice"]], threshold=1.0))
    assert strangers.matches.known == none.matches.known == 0 and plain.matches is None
    assert torch.equal(strangers.pixels, plain.pixels) and torch.equal(none.pixels, plain.pixels)


def test_osdface_stays_as_it_was(group):
    """Without people: bit for bit what its parts give, one after the other."""
    restorer = load_restorer("nano")
    crops = crops_of(group, restorer)
    faces, _ = restore_in_chunks(
        crops.pixels, nano.load_vre()(crops.pixels), restorer.method.backbone, chunk_size=4
    )
    expected, _ = paste_faces(group[None], crops, faces, feather=0.12, color="none", strength=1.0)
    result = restorer.restore(group)
    assert torch.equal(result.pixels, expected[0])
    assert result.matches is None and result.guard is None


def test_references_are_an_album_for_all_faces(folder, tmp_path, restorer):
    args = (folder / "group.png", "-o", tmp_path / "a.png", "--reference", folder / "eve")
    result = cli(*args, "--receipts", "--json")
    assert result.exit_code == 0, result.stderr
    (entry,) = json.loads(result.stdout)["done"]
    assert [face["person"] for face in entry["receipts"]] == ["references"] * 3
    person = album(restorer, EVE, "eve", shots=(1, 2))
    mine = restorer.restore(
        read_picture(folder / "group.png").pixels, RestoreOptions(person=person)
    )
    # the photos went through 8-bit files
    written = read_picture(tmp_path / "a.png").pixels
    torch.testing.assert_close(written, mine.pixels, rtol=0, atol=4 / 255)


def test_references_without_a_face_are_named_and_the_others_count(folder, tmp_path):
    args = ("--reference", folder / "wall.png", "--reference", folder / "eve/0.png")
    result = cli(folder / "group.png", "-o", tmp_path / "a.png", *args)
    assert result.exit_code == 0 and "wall.png: left out, no face was found" in result.stderr


def test_an_unreadable_reference_is_named_and_the_others_count(folder, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    args = ("--reference", tmp_path / "bad.png", "--reference", folder / "eve/0.png")
    result = cli(folder / "group.png", "-o", tmp_path / "a.png", *args)
    assert result.exit_code == 1 and "bad.png is no picture" in result.stderr
    assert "1 reference could not be read" in result.stderr and (tmp_path / "a.png").is_file()


# ---- receipts and the guard


def test_receipts_lie_beside_the_picture_and_in_pngs(folder, tmp_path):
    for name in ("group.png", "wall.png"):
        pixels = read_picture(folder / name).pixels
        for suffix in ("png", "jpg"):
            write_picture(tmp_path / f"in/{name[:-4]}.{suffix}", pixels, Picture(pixels))
    out = tmp_path / "out"
    result = cli(tmp_path / "in", "-o", out, *people(folder), "--receipts")
    assert result.exit_code == 0, result.stderr
    for name, faces in (("group.png", 3), ("wall.png", 0), ("group.jpg", 3), ("wall.jpg", 0)):
        text = (out / f"{name}.receipts.json").read_text()
        content = json.loads(text, parse_constant=pytest.fail)  # neither NaN nor Infinity
        assert content["action"] == "report only" and len(content["faces"]) == faces
        if faces:
            assert [f["person"] for f in content["faces"]] == ["bob", None, "alice"]
            assert [f["anchor"] for f in content["faces"]] == ["references", "input", "references"]
        inside = Image.open(out / name).info.get(KEYWORD)
        assert inside == (in_pictures(text) if name.endswith("png") else None)
        assert not faces or inside is None or ("person 1" in inside and "alice" not in inside)
    named = ("--receipts", "--names")
    assert (
        cli(tmp_path / "in/group.png", "-o", tmp_path / "b", *people(folder), *named).exit_code == 0
    )
    assert "alice" in Image.open(tmp_path / "b/group.png").info[KEYWORD]
    assert not list(out.glob("*.tmp"))


def test_receipts_that_are_not_there_yet_are_made(folder, tmp_path):
    args = (folder / "group.png", "-o", tmp_path, *people(folder), "--json")
    cli(*args)
    assert json.loads(cli(*args).stdout)["done"] == []
    again = json.loads(cli(*args, "--receipts").stdout)
    assert len(again["done"]) == 1 and len(again["done"][0]["receipts"]) == 3
    assert json.loads(cli(*args, "--receipts").stdout)["done"] == []


def test_receipts_alone_change_no_pixel(group, restorer):
    plain, measured = (
        restorer.restore(group, RestoreOptions(receipts=receipts)) for receipts in (False, True)
    )
    assert torch.equal(plain.pixels, measured.pixels) and len(measured.guard.receipts) == 3


@pytest.mark.parametrize(
    ("action", "verdict"), [("fall back", "fell back"), ("report only", "too far")]
)
def test_a_face_of_the_wrong_person_is_held_back(folder, tmp_path, action, verdict):
    out = tmp_path / "out.png"
    wrong = ("--reference", folder / "eve", "--pick", 2)  # Alice
    args = (*wrong, "--max-drift", 0.2, "--on-drift", action, "--receipts")
    result = cli(folder / "group.png", "-o", out, *args)
    assert result.exit_code == 0, result.stderr
    (face,) = json.loads((tmp_path / "out.png.receipts.json").read_text())["faces"]
    assert face["verdict"] == verdict and face["drift_restored"] > 0.2
    # Restored with Eve's photos Alice is no more like her than she came, so the input is kept.
    assert 0.2 < face["drift_input"] < face["drift_restored"] and face["within"] is False
    kept = {"fall back": (0, face["drift_input"]), "report only": (1, face["drift_restored"])}
    assert (face["strength"], face["drift"]) == kept[action]
    words = {"fall back": "fell back to the input", "report only": "kept although drift"}
    words = words[action]
    assert f"face 0 (references): {words}" in result.stderr


def test_what_falls_back_is_the_input(group, restorer, albums):
    options = RestoreOptions(max_drift=0.0, on_drift="fall back", pick="2")
    result = restorer.restore(group, options)
    assert torch.equal(result.guard.restored, crops_of(group, restorer, [2]).pixels)
    assert torch.equal(result.pixels, group) and not result.mask.any()
    (receipt,) = result.guard.receipts
    assert (receipt.verdict, receipt.strength, receipt.drift) == ("fell back", 0, 0)
    assert receipt.measured.color == 0 and receipt.drift_restored > 0


def test_osdface_can_be_guarded_too(folder, tmp_path):
    args = (folder / "group.png", "-o", tmp_path / "a.png", "--max-drift", 2, "--json")
    (entry,) = json.loads(cli(*args).stdout)["done"]
    assert [face["anchor"] for face in entry["receipts"]] == ["input"] * 3
    assert "matches" not in entry and not list(tmp_path.glob("*.receipts.json"))
    result = cli(*args, "--analyzer", "skimage", "--overwrite")
    assert result.exit_code == 1 and "no dense landmarks" in result.stderr


# ---- what people give it


@pytest.fixture
def unloaded(monkeypatch):
    """Nothing may be loaded, nor any picture touched."""

    def refuse(*args, **kwargs):
        pytest.fail("models were loaded")

    monkeypatch.setattr(restore_files, "load_restorer", refuse)


def foreign(path):
    save_file({"embeddings": torch.zeros(1, 8)}, path)


def cut_off(path):
    data = (path.parent.parent / "whole.person").read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b""), "x.person"),
        (foreign, "x.person"),
        (cut_off, "x.person"),
        (lambda path: path.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x051.9.0" * 40), "x.person"),
        (lambda path: None, "x.person"),
    ],
    ids=["empty", "foreign safetensors", "cut off", "ONNX", "missing"],
)
def test_broken_albums_are_wrong_usage(unloaded, folder, tmp_path, albums, make, words):
    albums["alice"].save(tmp_path / "whole.person")
    (tmp_path / "given").mkdir()
    make(tmp_path / "given/x.person")
    args = ("--person", folder / "alice.person", "--person", tmp_path / "given/x.person")
    result = cli(folder / "group.png", "-o", tmp_path / "out", *args)
    assert result.exit_code == 2 and words in result.stderr, result.stderr
    assert "Traceback" not in result.stderr and not (tmp_path / "out").exists()


def test_all_broken_albums_are_named(unloaded, folder, tmp_path):
    for name in ("x", "y"):
        (tmp_path / f"{name}.person").write_bytes(b"")
    args = [part for n in "xy" for part in ("--person", tmp_path / f"{n}.person")]
    result = cli(folder / "group.png", "-o", tmp_path / "out", *args)
    assert result.exit_code == 2 and "x.person" in result.stderr and "y.person" in result.stderr


def test_two_albums_of_one_name(unloaded, folder, tmp_path, albums):
    replace(albums["bob"], name="alice").save(tmp_path / "other.person")
    args = ("--person", folder / "alice.person", "--person", tmp_path / "other.person")
    result = cli(folder / "group.png", "-o", tmp_path / "out", *args)
    assert result.exit_code == 2 and "more than one album with the name alice" in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_album_of_another_recogniser_is_refused_before_any_picture(folder, tmp_path, albums):
    other = replace(albums["bob"], recogniser="arcface-r50:0123456789abcdef")
    other.save(tmp_path / "bob.person")
    args = ("--person", folder / "alice.person", "--person", tmp_path / "bob.person")
    result = cli(folder / "group.png", "-o", tmp_path / "out", *args)
    assert result.exit_code == 2 and not (tmp_path / "out").exists()
    for words in ("album of bob", "arcface-r50:0123", "nano-identity:"):
        assert words in result.stderr


def test_an_album_of_other_landmarks_is_refused(group, restorer, albums):
    other = replace(albums["bob"], landmarks=torch.zeros(3, 98, 2))
    with pytest.raises(FacewrightError, match="album of bob holds 98 landmarks"):
        restorer.restore(group, RestoreOptions(people=[other]))


def test_options_that_do_not_go_together(unloaded, folder, tmp_path):
    person = ("--person", folder / "alice.person")
    reference = ("--reference", folder / "eve")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    for args, weights, words in (
        ((*person, *reference), "nano", "--person and --reference both"),
        (person, "osdface", "--person has no use with --weights osdface"),
        (reference, "osdface", "--reference has no use"),
        (("--threshold", 0.5), "nano", "--threshold"),
        (("--on-drift", "fall back"), "nano", "give --max-drift"),
        (("--max-drift", 0.5, "--on-drift", "cry"), "nano", "'cry' is not one of"),
        (("--max-drift", 3), "nano", "--max-drift"),
        (("--reference", tmp_path / "none.png"), "nano", "none.png"),
        (("--reference", tmp_path / "bad.png"), "nano", "bad.png is no picture"),
        (("--analyzer", "magic"), "nano", "'magic' is not one of"),
    ):
        result = cli(folder / "group.png", "-o", tmp_path / "out", *args, weights=weights)
        assert result.exit_code == 2, (args, result.stderr)
        assert words in " ".join(
            result.stderr.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split()
        ), result.stderr
    assert not (tmp_path / "out").exists()


def test_references_that_show_nobody_are_refused(folder, tmp_path):
    args = ("--reference", folder / "wall.png")
    result = cli(folder / "group.png", "-o", tmp_path / "out", *args)
    assert result.exit_code == 2 and "wall.png: left out, no face" in result.stderr
    assert not (tmp_path / "out").exists()


def test_python_says_what_does_not_fit(group, albums):
    with pytest.raises(FacewrightError, match="Both `people` and `person`"):
        RestoreOptions(people=[albums["alice"]], person=albums["bob"])
    with pytest.raises(FacewrightError, match="more than one album"):
        RestoreOptions(people=[albums["alice"], albums["alice"]])
    plain = load_restorer("nano")
    with pytest.raises(FacewrightError, match=r"no use for photographs.*: honestface"):
        plain.restore(group, RestoreOptions(people=[albums["alice"]]))
    with pytest.raises(FacewrightError, match="has none"):
        plain.restore(group, RestoreOptions(receipts=True))


def test_a_picture_without_a_face_passes_through(folder, tmp_path):
    args = (*people(folder), "--max-drift", 0.3, "--json")
    result = cli(folder / "wall.png", "-o", tmp_path, *args)
    (entry,) = json.loads(result.stdout)["done"]
    assert result.exit_code == 0 and entry["matches"] == [] and entry["receipts"] == []
    before, after = (np.asarray(Image.open(f / "wall.png")) for f in (folder, tmp_path))
    np.testing.assert_array_equal(after, before)


def test_albums_in_the_models_folder(folder, tmp_path, albums):
    place = tmp_path / "models/facewright/people"
    place.mkdir(parents=True)
    albums["alice"].save(place / "ally.person")
    args = ("--models", tmp_path / "models", "--person", "ally.person", "--json")
    result = cli(folder / "group.png", "-o", tmp_path / "a.png", *args)
    assert result.exit_code == 0, result.stderr
    (entry,) = json.loads(result.stdout)["done"]
    assert [m["person"] for m in entry["matches"]] == [None, None, "alice"]


class Crowd:
    """Knows where 20 copies of one face are in each row."""

    name, columns, side = "crowd", 20, 64

    def __init__(self, pixels, rows):
        (self.face,) = load_analyzer("nano").detect(pixels)
        self.rows, self.picture = rows, pixels.repeat(1, rows, self.columns)

    def detect(self, image):
        places = [(x, y) for y in range(self.rows) for x in range(self.columns)]
        return [self.face.shifted(x * self.side, y * self.side) for x, y in places]


@pytest.mark.parametrize("faces", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_crowd_in_one_picture(restorer, albums, backbone, monkeypatch, faces):
    """A few at a time, whichever network looks at them; one of them is Alice."""
    crowd = Crowd(photos(ALICE, 1, size=64).pixels[0], faces // Crowd.columns)
    seen = []
    forward = type(restorer.recogniser).forward

    def counted(self, faces):
        seen.append(len(faces))
        return forward(self, faces)

    monkeypatch.setattr(type(restorer.recogniser), "forward", counted)
    method = replace(restorer.method, backbone=backbone)
    many = replace(restorer, analyzer=crowd, method=method)
    options = RestoreOptions(people=list(albums.values()), receipts=True, size=64, margin=0)
    result = many.restore(crowd.picture, options)
    assert result.faces == len(result.guard.receipts) == faces
    assert result.matches.known == 1 and result.matches.names.count("alice") == 1
    assert result.pixels.isfinite().all() and max(seen) <= 16


def test_a_false_match_rate_sets_both_limits_and_given_ones_win(folder, tmp_path):
    def said(name, *more):
        args = (*people(folder), "--receipts", *more)
        result = cli(folder / "group.png", "-o", tmp_path / f"{name}.png", *args)
        assert result.exit_code == 0, result.stderr
        receipts = json.loads((tmp_path / f"{name}.png.receipts.json").read_text())
        return result.stderr, receipts["limit"]["max_drift"], receipts["action"]

    text, drift, action = said("a", "--false-match-rate", 0.01)
    assert "people from cosine 0.70: 1 % of strangers, rendered faces" in text
    assert abs(drift - (1 - 0.7024)) < 1e-4 and action == "lower strength"
    text, drift, _ = said("b", "--false-match-rate", 0.01, "--max-drift", 0.9, "--threshold", 0.3)
    assert "people from cosine 0.30" in text and drift == 0.9
