"""Albums, whose face is whose, and receipts: in a running ComfyUI, and here."""

import json
import random
import re

import numpy as np
import pytest
import torch
from facewright.core import demo
from facewright.core.degradation import Degradation
from facewright.core.faces import load_analyzer, select_faces
from facewright.core.images import Picture, read_picture, write_picture
from facewright.core.people.person import Person
from facewright.docs.graphs.demo_picture import ADA, BO, STRANGER
from facewright.docs.graphs.graph import FOLDER
from facewright.headless.remote.server import run_on_server
from facewright.headless.runner import run_workflow
from facewright.headless.workflows.workflow import WorkflowError, read_workflow
from facewright.training.world.scenes import group_scene
from PIL import Image

pytestmark = pytest.mark.comfyui
NAMES = {ADA: "Ada", BO: "Bo", STRANGER: "nobody"}
SCENE_SEED = 7000


def api(name):
    """A shipped workflow, and its node ids by title."""
    prompt = read_workflow(FOLDER / f"api/{name}.api.json")
    return prompt, {node["_meta"]["title"]: k for k, node in prompt.items()}


def ask(server, prompt, folder, **given):
    """Texts by title, or by node id where there is none, and the saved files."""
    texts = {}
    files = run_on_server(
        prompt,
        server.address,
        input_dir=folder,
        output_dir=folder / "there",
        on_text=lambda node_id, title, text: texts.update({title: text, node_id: text}),
        timeout=240,
        **given,
    ).saved
    return texts, files


def numbers(text):
    return [float(n) for n in re.findall(r"-?\d+\.\d+", text)]


def words(text):
    return re.sub(r"-?\d+\.\d+", "#", text)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (
            "nano_honestface_restore",
            ("Landmarks with photographs", "Landmarks without photographs"),
        ),
        ("nano_group_people", ("Who is who", "Whose photographs", "Receipts in words")),
    ],
)
def test_the_reports_say_the_same(server, tmp_path, name, shown):
    there, _ = ask(server, read_workflow(FOLDER / f"{name}.json"), tmp_path)
    here = {}
    run_workflow(
        FOLDER / f"{name}.json",
        output_dir=tmp_path / "here",
        on_text=lambda node_id, title, text: here.update({title: text}),
    )
    for title in shown:
        assert words(there[title]) == words(here[title])
        np.testing.assert_allclose(numbers(there[title]), numbers(here[title]), atol=0.03)


def test_receipts_lie_in_the_png_beside_the_workflow(server, tmp_path):
    source = read_workflow(FOLDER / "nano_group_people.json")
    _, files = ask(server, source, tmp_path)
    (path,) = (p for p in files if "compare" not in p.name)
    texts = Image.open(path).info
    prompt = {k: node["inputs"] for k, node in json.loads(texts["prompt"]).items()}
    assert prompt == {k: node["inputs"] for k, node in api("nano_group_people")[0].items()}
    assert json.loads(texts["workflow"]) == source
    faces = json.loads(texts["facewright_receipts"])["faces"]
    assert [face["person"] for face in faces] == ["person 1", "person 2", None]
    (other,) = (p for p in files if "compare" in p.name)
    assert "facewright_receipts" not in Image.open(other).info


def test_picture_guard_takes_back_what_may_not_change_at_all(server, tmp_path):
    prompt, ids = api("nano_group_people")
    inputs = prompt[ids["Picture Guard"]]["inputs"]
    inputs |= {"max_drift": 0.0, "false_match_rate": 0.0, "action": "fall back"}
    del inputs["matches"]  # compared with what they were
    texts, files = ask(server, prompt, tmp_path)
    lines = texts["Receipts in words"].splitlines()
    told = [line for line in lines if line.startswith("face ")]
    assert len(told) == 3 and all("fell back" in line for line in told)
    (path,) = (p for p in files if "compare" not in p.name)
    content = json.loads(Image.open(path).info["facewright_receipts"])
    assert content["version"] == 2 and content["measured"] == "delivered"
    assert [face["strength"] for face in content["faces"]] == [0, 0, 0]
    assert [face["drift"] for face in content["faces"]] == [pytest.approx(0, abs=1e-5)] * 3
    back = read_picture(path).pixels - demo.picture("three people")[0][0]
    assert back.abs().max() < 0.5 / 255 + 1e-4  # as 8 bits hold it


def album_of(kind, source, name="Ada"):
    """Nodes 1 to 3: an album of the photographs that node "photos" gives."""
    return {
        "1": {"class_type": "FacewrightLoadNanoHonestface", "inputs": {}},
        "2": {"class_type": "FacewrightDemoPicture", "inputs": {"picture": source}},
        "sizes": {"class_type": "FacewrightTestSizes", "inputs": {"image": ["2", 1]}},
        "3": {
            "class_type": "FacewrightPerson",
            "inputs": {
                "references": ["sizes", 0] if kind == "list" else ["2", 1],
                "name": name,
                "analyzer": ["1", 4],
                "recogniser": ["1", 5],
                "crop_size": 128,
            },
        },
    }


def save_person(overwrite=False):
    inputs = {"person": ["3", 0], "filename": "", "overwrite": overwrite}
    return {"4": {"class_type": "FacewrightSavePerson", "inputs": inputs}}


def test_an_album_of_a_list_of_sizes_saved_and_loaded(server, home, tmp_path):
    texts, _ = ask(server, album_of("list", "photos of Ada") | save_person(), tmp_path)
    file = home / "models/facewright/people/Ada.person"
    person = Person.from_file(file)
    assert person.name == "Ada" and len(person) == 4 and "Ada.person" in texts["4"]
    # The cut photographs show the same faces, so the album is that of the whole ones.
    whole = run_workflow(
        album_of("batch", "photos of Ada")
        | {"9": {"class_type": "PreviewAny", "inputs": {"source": ["3", 3]}}}
        | {"sizes": {"class_type": "PreviewImage", "inputs": {"images": ["2", 1]}}},
        output_dir=tmp_path,
    )["3"][0]
    assert person.recogniser == whole.recogniser and person.crops.shape == whole.crops.shape
    assert torch.einsum("nd,nd->n", person.embeddings, whole.embeddings).min() > 0.97
    assert not torch.equal(person.crops, whole.crops)

    inputs = {"album": "people/Ada.person"}
    load = {
        "1": {"class_type": "FacewrightLoadPerson", "inputs": inputs},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 3]}},
        "3": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 2], "filename_prefix": "facewright/album"},
        },
    }
    texts, (sheet,) = ask(server, load, tmp_path)
    assert texts["2"] == person.info
    assert read_picture(sheet).pixels.shape[-1] > 2 * 128
    info = server.get("/object_info/FacewrightLoadPerson")["FacewrightLoadPerson"]
    combo = info["input"]["required"]["album"]
    options = combo[0] if isinstance(combo[0], list) else combo[1]["options"]
    assert options == ["people/Ada.person"]

    # Another Ada under the same name is kept apart until the artist says otherwise.
    other = album_of("batch", "photos of Bo")
    with pytest.raises(WorkflowError, match="overwrite"):
        ask(server, other | save_person(), tmp_path)
    assert Person.from_file(file).crops.equal(person.crops)
    ask(server, other | save_person(overwrite=True), tmp_path)
    assert not Person.from_file(file).crops.equal(person.crops)
    again, _ = ask(server, load, tmp_path)
    assert again["2"] == Person.from_file(file).info


def test_image_batch_is_comfyuis(server, tmp_path):
    rng = np.random.default_rng(0)
    for name, size in (("one", (40, 60)), ("two", (33, 31))):
        pixels = torch.from_numpy(rng.random((3, *size), dtype=np.float32))
        write_picture(tmp_path / f"{name}.png", pixels, Picture(pixels))
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "one.png"}},
        "2": {"class_type": "LoadImage", "inputs": {"image": "two.png"}},
        "3": {"class_type": "ImageBatch", "inputs": {"image1": ["1", 0], "image2": ["2", 0]}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "both"}},
    }
    _, there = ask(server, prompt, tmp_path)
    run_workflow(prompt, input_dir=tmp_path, output_dir=tmp_path / "here")
    here = sorted((tmp_path / "here").glob("*.png"))
    assert len(here) == len(there) == 2
    for a, b in zip(sorted(there), here, strict=True):
        one, two = (np.asarray(Image.open(p), dtype=np.int16) for p in (a, b))
        assert np.abs(one - two).max() <= 1  # ComfyUI rounds down where it should round


def from_file(name="nano_group_people"):
    """The workflow with its picture from LoadImage, as "picture.png"."""
    prompt, ids = api(name)
    prompt[ids["Demo Picture"]] = {
        "class_type": "LoadImage",
        "inputs": {"image": "picture.png"},
        "_meta": {"title": "Demo Picture"},
    }
    return prompt, ids


def test_a_group_without_a_face_passes_through(server, tmp_path):
    flat = Image.new("RGB", (128, 96), (90, 120, 90))
    flat.save(tmp_path / "picture.png")
    texts, files = ask(server, from_file()[0], tmp_path)
    assert texts["Who is who"].splitlines()[0] == "there are no faces"
    (path,) = (p for p in files if "compare" not in p.name)
    assert Image.open(path).convert("RGB").tobytes() == flat.tobytes()


def shuffled_scene(number, damage="moderate"):
    """Ada, Bo and the stranger in any order, in new poses and another light, degraded."""
    order = random.Random(number).sample([ADA, BO, STRANGER], 3)
    scene = group_scene(SCENE_SEED + number, order, width=480, height=320)
    return scene, Degradation.preset(damage)(scene.pixels[None], seed=[SCENE_SEED + number])[0][0]


def count_people(server, folder, scenes, damage="moderate"):
    """What became of the people in scenes that were run through nano_group_people's graph.

    A person is right where the name, and whose photographs it is restored with, are its own:
    nobody's for the stranger. What the detector takes for a face and is none counts as "no face",
    and must be nobody; with an album it is wrong.
    """
    prompt, ids = from_file()
    prompt["found"] = {"class_type": "PreviewAny", "inputs": {"source": [ids["Detect Faces"], 3]}}
    analyzer = load_analyzer("nano")
    counts = dict.fromkeys(("right", "wrong", "not found", "no face"), 0)
    for number in scenes:
        scene, lq = shuffled_scene(number, damage)
        path = folder / f"{damage}_{number}.png"
        write_picture(path, lq, Picture(lq))
        prompt[ids["Demo Picture"]]["inputs"]["image"] = path.name
        texts, _ = ask(server, prompt, folder)
        # Who was found at which number: the detector here is the one there.
        found = select_faces(analyzer.detect(read_picture(path).pixels))
        assert texts["found"] == str(len(found))
        who = [_person_at(face, scene) for face in found]
        known = [seed for seed in who if seed is not None]
        assert len(set(known)) == len(known)
        named, used = (
            re.findall(r"face \d+: (\w+)", texts[title])
            for title in ("Who is who", "Whose photographs")
        )
        for seed, name, album in zip(who, named, used, strict=True):
            good = name == NAMES.get(seed, "nobody") and album == name.replace("nobody", "no")
            counts["wrong" if not good else "no face" if seed is None else "right"] += 1
        counts["not found"] += len(scene.identity_seeds) - len(known)
    return counts


def _person_at(face, scene):
    """Whose face that is, or None: the boxes have to share half of both."""
    x0, y0, x1, y1 = scene.boxes.unbind(1)
    a0, b0, a1, b1 = face.box
    wide = (x1.clamp(max=a1) - x0.clamp(min=a0)).clamp(min=0)
    high = (y1.clamp(max=b1) - y0.clamp(min=b0)).clamp(min=0)
    shared = wide * high
    share = shared / ((x1 - x0) * (y1 - y0) + (a1 - a0) * (b1 - b0) - shared)
    best = int(share.argmax())
    return scene.identity_seeds[best] if share[best] > 0.5 else None


def test_the_right_album_in_shuffled_groups(server, tmp_path):
    counts = count_people(server, tmp_path, range(5))
    assert counts == {"right": 15, "wrong": 0, "not found": 0, "no face": 0}


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["mild", "moderate"])
def test_the_right_album_in_fifty_shuffled_groups(server, tmp_path, damage):
    counts = count_people(server, tmp_path, range(50), damage)
    assert counts.pop("no face") < 5
    assert counts == {"right": 150, "wrong": 0, "not found": 0}


def test_a_match_is_corrected_by_hand(server, tmp_path):
    """Two albums of Ada and one of Bo: Ada is unsure until somebody says who she is."""
    prompt, ids = api("nano_group_people")
    match, (ada,) = ids["Match People"], [k for t, k in ids.items() if t == "Album of Ada"]
    twin = json.loads(json.dumps(prompt[ada]))
    twin["inputs"] |= {"name": "Twin", "people": prompt[match]["inputs"]["people"]}
    prompt["twin"] = twin
    prompt[match]["inputs"]["people"] = ["twin", 1]
    told, _ = ask(server, prompt, tmp_path)
    first, bo, stranger, *warnings = told["Who is who"].splitlines()
    assert "Ada or Twin (" in first and "Bo (" in bo and "nobody" in stranger
    assert "albums of Ada and Twin are nearly one person" in warnings[0]
    assert told["Whose photographs"].splitlines()[0] == "face 0: no references"
    prompt[match]["inputs"] |= {"assign": "0=Twin, 1=nobody, 2=Bo"}
    told, files = ask(server, prompt, tmp_path)
    lines = told["Who is who"].splitlines()[:3]
    assert "Twin (0." in lines[0] and all("by hand" in line for line in lines)
    used = [line.split(",")[0].split(";")[0] for line in told["Whose photographs"].splitlines()]
    assert used == ["face 0: Twin", "face 1: no references", "face 2: Bo"]
    (path,) = (p for p in files if "compare" not in p.name)
    faces = json.loads(Image.open(path).info["facewright_receipts"])["faces"]
    assert [face["person"] is not None for face in faces] == [True, False, True]
    prompt[match]["inputs"]["assign"] = "7=Bo"
    with pytest.raises(WorkflowError, match="has 3 faces, numbered from 0"):
        ask(server, prompt, tmp_path)


def test_an_album_is_corrected_in_a_graph(server, home, tmp_path):
    """Two albums merged; the warning says what to write, and that takes the stranger out."""
    second = album_of("batch", "photos of Bo", "Bo")
    albums = album_of("batch", "photos of Ada") | {
        "8": second["2"],
        "9": {
            **second["3"],
            "inputs": {**second["3"]["inputs"], "references": ["8", 1]},
        },
    }

    def edit(person, **given):
        inputs = {"person": person, "remove": "", "name": "", "best": 0, **given}
        return {"class_type": "FacewrightEditPerson", "inputs": inputs}

    def told(prompt, *nodes):
        shown = {
            f"text{n}": {"class_type": "PreviewAny", "inputs": {"source": [n, 3]}} for n in nodes
        }
        return ask(server, prompt | shown, tmp_path)[0]

    merged = albums | {"m": edit(["3", 0], merge=["9", 0])}
    merged["sheet"] = {"class_type": "PreviewImage", "inputs": {"images": ["m", 2]}}
    text = told(merged, "m")["textm"]
    assert "the album of Bo joined that of Ada" in text and "seem to show two people" in text
    remove = re.search(r"`([0-9, ]+)` in `remove` of Edit Person", text)[1]
    right = merged | {
        "r": edit(["m", 0], remove=remove, name="Ada L.", best=3),
        "s": {
            "class_type": "FacewrightSavePerson",
            "inputs": {"person": ["r", 0], "filename": "corrected", "overwrite": False},
        },
    }
    text = told(right, "r")["textr"]
    assert "Ada is called Ada L. now" in text and text.count(": kept, ") == 3
    assert "warning" not in text
    person = Person.from_file(home / "models/facewright/people/corrected.person")
    assert person.name == "Ada L." and len(person) == 3
