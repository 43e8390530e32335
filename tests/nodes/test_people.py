"""Albums and Match People on the headless host, alone and in a workflow."""

import pytest
import torch
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.faces import load_analyzer
from facewright.core.people.album import photo_names
from facewright.core.people.person import Person
from facewright.core.people.recogniser import nano_recogniser
from facewright.core.weights import nano
from facewright.headless import runner
from facewright.nodes._host import host, io
from facewright.nodes.faces import DetectFaces
from facewright.nodes.people import LoadPerson, MatchPeople, PersonAlbum, SavePerson
from facewright.nodes.people_edit import EditPerson
from facewright.training.world.faces3d import photos
from facewright.training.world.scenes import group_scene


@pytest.fixture(scope="module")
def analyzer():
    return load_analyzer("nano")


@pytest.fixture(scope="module")
def recogniser():
    return nano_recogniser(nano.load_identity("loss"))


@pytest.fixture
def models(tmp_path, models_in):
    models_in(tmp_path)
    return tmp_path


def image(pixels):
    return pixels.movedim(-3, -1).reshape(-1, *pixels.shape[-2:], 3)


def portraits(person, *shots, size=256):
    return photos(person, list(shots), size=size, aligned=False).pixels


@pytest.fixture(scope="module")
def make(analyzer, recogniser):
    def make(references, name, people=None):
        """As ComfyUI calls a node whose inputs are lists."""
        return PersonAlbum.execute(
            references=references,
            name=[name],
            analyzer=[analyzer],
            recogniser=[recogniser],
            crop_size=[128],
            **({} if people is None else {"people": [people]}),
        ).result

    return make


def detect(pixels, analyzer):
    result = DetectFaces.execute(
        image(pixels),
        analyzer,
        crop_size=128,
        order="left to right",
        pick="",
        min_size=0,
        min_score=0.0,
        max_faces=0,
        padding=0.0,
    )
    return result[0]


def test_references_of_different_sizes(make):
    assert PersonAlbum.GET_SCHEMA().is_input_list
    batch = image(portraits(7, 1, 2))
    person, people, picture, report = make([batch, image(portraits(7, 3, size=200))], "alice")
    assert len(person) == 3 and person.sources == ("photo 0", "photo 1", "photo 2")
    assert people == [person] and picture.shape[0] == 1 and picture.shape[-1] == 3
    assert report == person.info
    other, both, _, _ = make([image(portraits(9, 4, 5))], "bob", people)
    assert both == [person, other] and people == [person]
    with pytest.raises(FacewrightError, match="more than one album with the name bob"):
        make([batch], "bob", both)


def test_an_album_travels_through_a_file(make, models):
    assert "Save Person" in LoadPerson.GET_SCHEMA().inputs[0].default
    assert "no .person files" in LoadPerson.validate_inputs(
        LoadPerson.GET_SCHEMA().inputs[0].default
    )
    person = make([image(portraits(7, 1, 2))], "alice/../: bob?")[0]
    (name,) = SavePerson.execute(person, filename="", overwrite=False).result
    assert name == "alice_..__ bob_.person"
    assert [p.name for p in (models / "facewright/people").iterdir()] == [name]
    (combo, _) = LoadPerson.GET_SCHEMA().inputs
    assert combo.options == [f"people/{name}"]
    assert LoadPerson.validate_inputs(album=combo.default) is True
    loaded, people, picture, info = LoadPerson.execute(album=combo.default).result
    assert people == [loaded] and info == person.info and picture.shape[-1] == 3
    for key in ("crops", "embeddings", "landmarks", "quality"):
        assert torch.equal(getattr(loaded, key), getattr(person, key))
    assert "nobody.person" in LoadPerson.validate_inputs(album="nobody.person")


def test_an_album_of_two_people_says_so_when_it_is_loaded(make, models):
    pair = torch.cat([portraits(7, 1, 2), portraits(9, 4, 5)])
    person = make([image(pair)], "both")[0]
    SavePerson.execute(person, filename="both", overwrite=False)
    info = LoadPerson.execute(album="people/both.person").result[3]
    assert info.startswith(person.info) and "may show another person than" in info


def test_albums_and_weights_do_not_show_up_as_each_other(models):
    (models / "facewright").mkdir()
    for name in ("alice.person", "vre.safetensors"):
        (models / "facewright" / name).write_bytes(b"x")
    assert host.model_files("facewright") == ["vre.safetensors"]
    assert host.person_files() == ["alice.person"]


def test_saving_replaces_nothing_unasked(make, models):
    alice, bob = (make([image(portraits(p, 1))], "alice")[0] for p in (7, 9))
    mark = LoadPerson.fingerprint_inputs
    SavePerson.execute(alice, filename="x.person", overwrite=False)
    before = mark(album="people/x.person")
    shown = SavePerson.execute(alice, filename="x", overwrite=False).ui.as_dict()["text"][0]
    assert shown == "x.person was there already, just so"
    with pytest.raises(FacewrightError, match=r"another x\.person.*`overwrite`"):
        SavePerson.execute(bob, filename="x", overwrite=False)
    assert mark(album="people/x.person") == before
    SavePerson.execute(bob, filename="x", overwrite=True)
    assert mark(album="people/x.person") != before
    path = models / "facewright/people/x.person"
    assert torch.equal(Person.from_file(path).crops, bob.crops)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"x\.person is empty"):
        LoadPerson.execute(album="people/x.person")
    assert SavePerson.execute(bob, "con", overwrite=False)[0] == "_con.person"  # a device's name
    with pytest.raises(FacewrightError, match="cannot be the name of a file"):
        SavePerson.execute(bob, "...", overwrite=False)


def test_everyone_in_a_group_gets_the_right_album(make, analyzer, recogniser):
    _, people, _, _ = make([image(portraits(7, 1, 2, 3))], "alice")
    _, people, _, _ = make([image(portraits(9, 1, 2, 3))], "bob", people)
    scenes = [(5, [7, 8, 9]), (6, [9, 7, 8]), (7, [8, 9, 7])]
    pictures = torch.stack([group_scene(seed, who).pixels for seed, who in scenes])
    faces = detect(pictures, analyzer)
    for chain in (people, people[::-1]):
        matches, preview, report, known = MatchPeople.execute(
            image(pictures), faces, recogniser, 0.0, chain
        ).result
        expected = [{7: "alice", 8: "nobody", 9: "bob"}[p] for _, who in scenes for p in who]
        assert matches.names == expected and known == 6
        assert report.splitlines()[0].startswith("picture 0, face 0: alice (0.9")
        assert preview.shape == image(pictures).shape
        assert not torch.equal(preview, image(pictures))


def test_without_faces_or_albums_it_goes_on(make, analyzer, recogniser):
    wall = torch.rand(2, 3, 60, 80)
    people = make([image(portraits(7, 1))], "alice")[1]
    matches, preview, report, known = MatchPeople.execute(
        image(wall), detect(wall, analyzer), recogniser, 0.0, people
    ).result
    assert len(matches) == 0 and report.startswith("there are no faces\n") and known == 0
    assert not torch.equal(preview, image(wall))  # it says why, as Detect Faces does
    torch.testing.assert_close(preview[:, :25], image(wall)[:, :25])
    picture = group_scene(5, [7, 8, 9]).pixels[None]
    matches, _, report, known = MatchPeople.execute(
        image(picture), detect(picture, analyzer), recogniser, 0.0
    ).result
    assert known == 0 and matches.names == ["nobody"] * 3
    assert report.splitlines()[0] == "picture 0, face 0: nobody (there are no albums)"


def test_an_album_of_another_recogniser_is_refused(make, analyzer):
    people = make([image(portraits(7, 1))], "alice")[1]
    picture = group_scene(5, [7, 8, 9]).pixels[None]
    other = nano_recogniser(nano.load_identity("metric"))
    with pytest.raises(FacewrightError, match="album of alice was made with the recogniser nano"):
        MatchPeople.execute(image(picture), detect(picture, analyzer), other, 0.0, people)


def test_a_workflow_makes_saves_and_shows_an_album(models, analyzer, recogniser, monkeypatch):
    class Given(io.ComfyNode):
        """Hands out what the test has."""

        @classmethod
        def define_schema(cls):
            sockets = ("FACEWRIGHT_ANALYZER", "FACEWRIGHT_RECOGNISER")
            outputs = [io.Custom(socket).Output(socket.lower()) for socket in sockets]
            return io.Schema(node_id="Given", outputs=outputs)

        @classmethod
        def execute(cls):
            return io.NodeOutput(analyzer, recogniser)

    classes = {**runner.node_classes(), "Given": Given}
    monkeypatch.setattr(runner, "node_classes", lambda: classes)
    workflow = {
        "1": {"class_type": "Given", "inputs": {}},
        "2": {
            "class_type": "FacewrightPerson",
            "inputs": {
                "references": image(portraits(7, 1, 2)),
                "name": "alice",
                "analyzer": ["1", 0],
                "recogniser": ["1", 1],
                "crop_size": 128,
            },
        },
        "3": {
            "class_type": "FacewrightSavePerson",
            "inputs": {"person": ["2", 0], "filename": "", "overwrite": False},
        },
    }
    results = runner.run_workflow(workflow)
    assert results["3"][0] == "alice.person"
    assert len(Person.from_file(models / "facewright/people/alice.person")) == 2


def test_an_album_is_edited_in_a_graph(make):
    person = make([image(portraits(7, 1, 2, 3, 4))], "alice")[0]
    run = EditPerson.execute
    album, people, picture, report = run(person, remove="", name="", best=0).result
    assert album is person and people == [person] and report == person.info
    album, _, picture, report = run(person, remove="0, photo 2", name=" Bo ", best=0).result
    assert album.name == "Bo" and album.sources == ("photo 1", "photo 3")
    assert torch.equal(album.crops, person.crops[[1, 3]]) and picture.shape[-1] == 3
    assert report.splitlines() == [
        album.info, "photo 0: taken out", "photo 2: taken out", "alice is called Bo now",
    ]  # fmt: skip
    both, _, _, report = run(album, remove="", name="", best=0, merge=person).result
    assert both.name == "Bo" and sorted(both.sources) == sorted(person.sources)
    assert "photo 3: in the album already as photo 3, counted once" in report
    few, chain, _, report = run(person, remove="", name="", best=2, people=[both]).result
    assert len(few) == 2 and chain == [both, few] and report.count("kept") == 2
    with pytest.raises(FacewrightError, match="no photo 'x'"):
        run(person, remove="x", name="", best=0)
    other = make([image(portraits(9, 4))], "bob")[0]
    _, _, _, report = run(person, remove="", name="", best=0, merge=other).result
    (warning,) = [line for line in report.splitlines() if "may show another" in line]
    # What the warning says to write takes the stranger out, although the name is there twice.
    remove = warning.split("take it out with `")[1].split("`")[0]
    mixed = run(person, remove="", name="", best=0, merge=other)[0]
    assert run(mixed, remove=remove, name="", best=0)[0].sources == person.sources


def test_photos_without_a_name_get_free_numbers(make):
    person = make([image(portraits(7, 1, 2, 3))], "alice")[0]
    less = EditPerson.execute(person, remove="0", name="", best=0)[0]
    assert less.sources == ("photo 1", "photo 2")
    assert photo_names(2, less) == ["photo 3", "photo 4"]
