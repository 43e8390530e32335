"""Albums: whose faces they hold, what they are worth, and files that come back bit by bit."""

import dataclasses
import json

import pytest
import torch
from facewright.core.checkpoint import CONFIG_KEY, read_tensors, save_safetensors
from facewright.core.drawing.album import album_sheet
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.faces import load_analyzer
from facewright.core.people.album import make_person, photo_quality, sharpness
from facewright.core.people.matching import SAME_PERSON
from facewright.core.people.person import Person, join_people
from facewright.core.people.recogniser import nano_recogniser
from facewright.core.weights import nano
from facewright.training.world.faces3d import photos
from facewright.training.world.scenes import group_scene
from safetensors.torch import save_file

PARTS = ("crops", "embeddings", "landmarks", "quality")


@pytest.fixture(scope="module")
def analyzer():
    return load_analyzer("nano")


@pytest.fixture(scope="module")
def recogniser():
    return nano_recogniser(nano.load_identity("loss"))


@pytest.fixture(scope="module")
def make(analyzer, recogniser):
    def make(pictures, sources=None, name="alice", add_to=None, faces=None):
        sources = sources or [f"{i}.png" for i in range(len(pictures))]
        return make_person(
            pictures,
            name=name,
            sources=sources,
            analyzer=analyzer,
            recogniser=recogniser,
            crop_size=128,
            add_to=add_to,
            faces=faces,
        )

    return make


def portraits(person, *shots, size=256):
    return list(photos(person, list(shots), size=size, aligned=False).pixels)


@pytest.fixture(scope="module")
def seven():
    return portraits(7, 1, 2, 3)


@pytest.fixture(scope="module")
def album(make, seven):
    return make(seven, ["/home/someone/a.png", "C:\\photos\\b.png", "photo 3"])[0]


def same(a, b):
    return all(torch.equal(getattr(a, k), getattr(b, k)) for k in PARTS)


def test_crops_are_aligned_and_measured_as_they_are_stored(album, recogniser, analyzer):
    assert album.crops.shape == (3, 3, 128, 128) and album.landmarks.shape == (3, 68, 2)
    levels = album.crops * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    torch.testing.assert_close(album.embeddings, recogniser(album.crops), rtol=0, atol=1e-5)
    torch.testing.assert_close(album.landmarks, analyzer.landmarks(album.crops), rtol=0, atol=1e-3)
    # The eyes lie where the FFHQ template has them, at 0.38 and 0.62 across and 0.47 down.
    eyes = torch.stack([album.landmarks[:, 36:42].mean(1), album.landmarks[:, 42:48].mean(1)], 1)
    goal = torch.tensor([[0.376, 0.469], [0.624, 0.469]]) * 128
    assert (eyes - goal).norm(dim=-1).max() < 5
    assert album.sources == ("a.png", "b.png", "photo 3")
    assert album.recogniser == recogniser.id
    assert "3 photographs at 128 px" in album.info


def test_the_template_is_the_weighted_mean(album):
    quality = torch.tensor([0.0, 0.5, 1.0])
    mixed = dataclasses.replace(album, quality=quality)
    mean = sum(q * e for q, e in zip(quality.double(), album.embeddings.double(), strict=True))
    torch.testing.assert_close(mixed.template.double(), mean / mean.norm(), rtol=0, atol=1e-6)
    nothing = dataclasses.replace(album, quality=torch.zeros(3))
    even = dataclasses.replace(album, quality=torch.ones(3))
    torch.testing.assert_close(nothing.template, even.template)


def test_a_face_that_fills_the_picture_is_found(make):
    close = photos(7, 4, size=128).pixels[0][:, 22:112, 20:108]  # cut at brows, chin and ears
    person, _ = make([close])
    assert len(person) == 1


def test_what_cannot_be_used_is_left_out_and_named(make, seven):
    broken = seven[1].clone()
    broken[0, 5, 5] = torch.nan
    pictures = [seven[0], torch.rand(3, 80, 60), broken, seven[0].clone()]
    person, report = make(pictures, ["a.png", "wall.png", "broken.png", "copy.png"])
    assert person.sources == ("a.png",)
    text = "\n".join(report)
    assert "wall.png: left out, no face was found" in text
    assert "broken.png: left out, it holds NaN" in text
    assert "copy.png: the same picture as a.png, counted once" in text
    with pytest.raises(FacewrightError, match=r"wall.png: left out, no face was found"):
        make(pictures[1:3], ["wall.png", "broken.png"])
    with pytest.raises(FacewrightError, match="there are none"):
        make([])


def test_a_face_is_chosen_by_its_number_from_the_left(make, seven):
    """The one photo of all three would be an album of whoever is largest in it."""
    group = group_scene(5, [8, 7, 9]).pixels
    for number, seed in enumerate((8, 7, 9)):
        chosen, report = make([group], ["group.png"], faces={0: number})
        alone, _ = make(list(photos(seed, [1, 2], size=256, aligned=False).pixels))
        assert float(chosen.template @ alone.template) > SAME_PERSON["nano-identity"]
        assert not any("was taken" in line for line in report)
    # What is told decides over the other photos, which show person 7.
    pair = group_scene(6, [7, 10]).pixels
    both, _ = make([group, pair], ["group.png", "pair.png"], faces={1: 1})
    ten, _ = make(list(photos(10, [1, 2], size=256, aligned=False).pixels))
    assert float(both.embeddings[1] @ ten.template) > SAME_PERSON["nano-identity"]
    # So it does where the photo came twice and the repetition is told of.
    again, _ = make([pair, group, pair], ["pair.png", "group.png", "copy.png"], faces={2: 1})
    assert torch.equal(again.embeddings[0], both.embeddings[1])
    with pytest.raises(FacewrightError, match=r"Both face 0 and face 1 of pair.png, which came"):
        make([pair, pair], ["pair.png", "copy.png"], faces={0: 0, 1: 1})
    for faces, words in (
        ({0: 3}, r"Face 3 of group.png is chosen, but it has faces 0 to 2, counted from the left"),
        ({1: 1}, "but it has one, 0"),
        ({2: 0}, "there are 2 photos, numbered from 0"),
    ):
        with pytest.raises(FacewrightError, match=words):
            make([group, seven[0]], ["group.png", "a.png"], faces=faces)


def test_the_person_of_the_album_is_found_among_others_in_any_order(make, seven):
    pictures = [
        *seven[:2],
        *(group_scene(s, who).pixels for s, who in ((5, [8, 7, 9]), (6, [7, 10]))),
    ]
    sources = ["a", "b", "c", "d"]
    whole, report = make(pictures, sources)
    assert (whole.embeddings @ whole.embeddings.T).min() > SAME_PERSON["nano-identity"]
    text = "\n".join(report)
    assert "c: 3 faces; number 1, counted from 0 and from the left, was taken, most like" in text
    assert "d: 2 faces; number 0, counted from 0" in text and "warning" not in text
    for order in ((3, 2, 1, 0), (2, 0, 3, 1), (1, 3, 0, 2)):
        other, said = make([pictures[i] for i in order], [sources[i] for i in order])
        place = [other.sources.index(s) for s in sources]
        torch.testing.assert_close(other.crops[place], whole.crops, rtol=0, atol=0)
        assert sorted(said) == sorted(report)


def test_two_people_in_every_photo_are_pointed_out(make):
    pictures = [group_scene(s, who).pixels for s, who in ((5, [7, 8, 9]), (6, [9, 10, 7]))]
    person, report = make(pictures)
    assert (person.embeddings[0] @ person.embeddings[1]) > SAME_PERSON["nano-identity"]
    text = "\n".join(report)
    assert "warning: all these photos show a second person too" in text
    source, number = text.split("`--face ")[1].split("`")[0].split("=")
    told, _ = make(pictures, faces={["0.png", "1.png"].index(source): int(number)})
    # What the warning says to write takes the other one.
    assert (told.embeddings @ person.embeddings.T).max() < SAME_PERSON["nano-identity"]
    _, report = make(pictures[:1])
    assert "the largest" in "\n".join(report)


def test_an_album_of_two_people_is_kept_with_a_warning(make, seven):
    person, report = make([*seven, *portraits(9, 4)], ["a", "b", "c", "stranger"])
    assert len(person) == 4
    (warning,) = [line for line in report if line.startswith("warning")]
    assert warning.startswith("warning: stranger may show another person than a, b, c:")
    assert make(seven)[1] == [person.info.replace("4 ph", "3 ph")]


def test_an_analyzer_without_dense_landmarks_is_refused(make, seven, recogniser):
    class Boxes:
        name = "skimage"

        def detect(self, image):
            raise AssertionError("asked for faces first")

    with pytest.raises(FacewrightError, match=r"'skimage' gives no dense landmarks.*facexlib"):
        make_person(seven, name="a", sources=["x"] * 3, analyzer=Boxes(), recogniser=recogniser)
    with pytest.raises(FacewrightError, match="name of the person"):
        make(seven, name="  ")


def test_200_faces_in_one_picture(seven, recogniser):
    from facewright.core.faces import Face

    class Many:
        name, points = "many", 68

        def detect(self, image):
            if image.shape[-1] == 640:
                return [Face((x, y, x + 30.0, y + 30.0), 1.0) for x in range(0, 640, 32)
                        for y in range(0, 320, 32)]  # fmt: skip
            return [Face((60.0, 60.0, 200.0, 220.0), 1.0)]

        def landmarks(self, crops):
            return torch.zeros(len(crops), 68, 2)

    person, report = make_person(
        [torch.rand(3, 320, 640), *seven],
        name="a",
        sources=["crowd", "a", "b", "c"],
        analyzer=Many(),
        recogniser=recogniser,
        crop_size=64,
    )
    assert len(person) == 4 and "crowd: 200 faces" in "\n".join(report)


def test_quality_falls_with_blur_and_enlargement():
    faces = photos([1, 2, 3], [4, 5, 6], size=128, supersample=2).pixels
    size = torch.tensor([200.0, 128.0, 64.0])
    sharp = sharpness(faces[:, :, 32:96, 32:96])
    got = photo_quality(faces, size)
    torch.testing.assert_close(got, sharp * torch.tensor([1.0, 1.0, 0.5]))
    assert (got >= 0).all() and (got <= 1).all()
    soft = torch.nn.functional.avg_pool2d(faces, 5, 1, 2)
    assert (photo_quality(soft, size) < got - 0.1).all()
    assert photo_quality(torch.full((1, 3, 64, 64), 0.5), torch.tensor([64.0])).item() == 0


def test_sharpness_is_the_published_blur_effect():
    picture = photos(3, 4, size=96).pixels[0]
    luma = (picture * torch.tensor([0.2125, 0.7154, 0.0721])[:, None, None]).sum(0).double().numpy()
    reference = 1.0
    for axis in (0, 1):
        lost = total = 0.0
        lines = luma.T if axis == 0 else luma
        for line in lines:
            n = len(line)
            blurred = [
                sum(line[min(max(i + k, 0), n - 1)] for k in range(-5, 6)) / 11 for i in range(n)
            ]
            for i in range(1, n):
                own = abs(line[i] - line[i - 1])
                lost += max(0.0, own - abs(blurred[i] - blurred[i - 1]))
                total += own
        reference = min(reference, lost / total)  # one minus the blur effect
    assert sharpness(picture[None]).item() == pytest.approx(reference, abs=1e-6)


def test_files_come_back_bit_by_bit(album, tmp_path):
    path = tmp_path / "alice.person"
    album.save(path)
    loaded = Person.from_file(path)
    assert same(album, loaded)
    assert (loaded.name, loaded.recogniser, loaded.sources) == (
        album.name,
        album.recogniser,
        album.sources,
    )
    loaded.save(tmp_path / "again.person")
    assert same(album, Person.from_file(tmp_path / "again.person"))
    stored = str(read_tensors(path)[1])
    assert "a.png" in stored and "home" not in stored and "C:" not in stored


def damage(tensors, config, how):
    """(tensors, config, words of the error) of one way to be wrong."""
    changed = dict(tensors)
    if how == "another version":
        return changed, {**config, "version": 2}, "version 2, and this facewright reads version 1"
    if how == "a number as a name":
        return changed, {**config, "name": 5}, "description is wrong at name"
    if how == "an unknown key":
        return changed, {**config, "age": 5}, "description is wrong at age"
    if how == "fewer sources":
        return changed, {**config, "sources": ["a"]}, "`crops` should be"
    if how == "no photos":
        empty = {k: v[:0] for k, v in tensors.items()}
        return empty, {**config, "sources": []}, "`crops` should be"
    if how == "no landmarks":
        del changed["landmarks"]
        return changed, config, "lacks landmarks"
    if how == "a stranger":
        return {**changed, "iris": torch.zeros(1)}, config, "holds iris"
    if how == "NaN":
        changed["landmarks"] = (
            tensors["landmarks"].clone().index_fill_(1, torch.tensor(3), torch.nan)
        )
        return changed, config, "landmarks holds NaN"
    if how == "fewer landmarks":
        changed["landmarks"] = tensors["landmarks"][:, :5]
        return changed, config, "`landmarks` should be"
    if how == "oblong crops":
        changed["crops"] = tensors["crops"][..., 1:]
        return changed, config, "`crops` should be"
    if how == "fewer embeddings":
        changed["embeddings"] = tensors["embeddings"][1:]
        return changed, config, "`embeddings` should be"
    if how == "long embeddings":
        changed["embeddings"] = tensors["embeddings"] * 2
        return changed, config, "not of length 1"
    changed["quality"] = tensors["quality"] * 3
    return changed, config, r"leaves \[0, 1\]"


@pytest.mark.parametrize(
    "how",
    [
        "another version", "a number as a name", "an unknown key", "fewer sources", "no photos",
        "no landmarks", "a stranger", "NaN", "fewer landmarks", "oblong crops",
        "fewer embeddings", "long embeddings", "high quality",
    ],
)  # fmt: skip
def test_files_that_do_not_hold_together_are_refused_by_name(album, tmp_path, how):
    path = tmp_path / "alice.person"
    album.save(path)
    tensors, metadata = read_tensors(path)
    tensors, config, words = damage(tensors, json.loads(metadata[CONFIG_KEY]), how)
    save_safetensors(path, tensors, {**metadata, CONFIG_KEY: json.dumps(config)})
    with pytest.raises(CheckpointError, match=rf"alice\.person .*{words}"):
        Person.from_file(path)


def test_what_is_no_album_at_all_is_refused_by_name(album, tmp_path):
    path = tmp_path / "alice.person"
    with pytest.raises(CheckpointError, match=r"no file .*alice\.person"):
        Person.from_file(path)
    album.save(path)
    whole = path.read_bytes()
    for content, words in (
        (b"", "is empty"),
        (whole[: len(whole) // 2], "starts like .* but cannot be read"),
        (b"\x89PNG\r\n\x1a\n" + b"0" * 600, "is neither a safetensors"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"alice\.person {words}") as error:
            Person.from_file(path)
        assert "make it again from the photos" in str(error.value)
        assert "ownload" not in str(error.value)
    save_file({"crops": torch.zeros(1)}, path)
    no_album = r'alice\.person should be .* format "person"'
    with pytest.raises(CheckpointError, match=no_album) as error:
        Person.from_file(path)
    assert "Save Person" in str(error.value) and "convert" not in str(error.value)
    torch.save({"crops": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=no_album):
        Person.from_file(path)


def test_what_does_not_hold_together_is_not_written(album, tmp_path):
    path = tmp_path / "alice.person"
    with pytest.raises(FacewrightError, match="album of alice cannot be saved: `quality`"):
        dataclasses.replace(album, quality=album.quality[:1]).save(path)
    assert not list(tmp_path.iterdir())


def test_a_chain_has_each_name_once(album):
    bob = dataclasses.replace(album, name="bob")
    chain = join_people(album, None)
    assert join_people(bob, chain) == [album, bob] and chain == [album]
    with pytest.raises(FacewrightError, match="more than one album with the name alice"):
        join_people(album, [bob, album])


def test_the_sheet_shows_every_photo(album):
    sheet = album_sheet(album)
    assert sheet.shape[0] == 3 and sheet.shape[1] >= 128 and sheet.shape[2] >= 128
    middle = album.crops[0, :, 20:100, 20:100]
    assert torch.equal(sheet[:, 20:100, 20:100], middle)


def test_photos_join_an_album_in_order_each_once(make, seven, album):
    more, report = make(portraits(7, 4, 5), add_to=album)
    assert more.sources == (*album.sources, "0.png", "1.png")
    assert torch.equal(more.crops[: len(album)], album.crops)
    assert len(more) == len(more.landmarks) == len(more.embeddings) == len(more.quality)
    again, _ = make(seven, add_to=album)
    assert same(again, album), "the same photographs again add nothing"
    assert more.info == report[0]


def test_a_group_photo_that_joins_gives_the_face_of_the_album(make, seven, album):
    """Even where somebody else's face is in all photos that come, and larger."""
    pictures = [group_scene(s, [9, 7, 9 + s]).pixels for s in (5, 6)]
    for who, first in ((7, album), (9, make(portraits(9, 1, 2))[0])):
        more, report = make(pictures, add_to=first)
        assert (more.embeddings[-2:] @ first.template).min() > SAME_PERSON["nano-identity"], who
        assert "number" in report[1] and report[1].endswith("was taken, most like the album")


def test_photos_of_somebody_else_join_with_a_warning(make, album):
    _, report = make(portraits(2**40 + 77, 1, 2), add_to=album)
    assert any("may show another person" in line for line in report)


def test_albums_of_other_makers_are_not_joined(make, seven, album):
    for changes, words in (
        ({"recogniser": "arcface-r50:0"}, "made with the recogniser arcface-r50:0"),
        ({"embeddings": album.embeddings[:, :8]}, "embeddings with a length of 8"),
        ({"landmarks": album.landmarks[:, :1].expand(-1, 98, -1)}, "landmarks per photo: 98"),
        ({"crops": album.crops[..., ::2, ::2]}, "side in pixels of 64"),
    ):
        with pytest.raises(FacewrightError, match=words):
            make(seven, add_to=dataclasses.replace(album, **changes))
