"""The translations against the nodes: complete, nothing left over, and true to the English."""

import json
import re
from pathlib import Path

import pytest
from facewright.docs.build import LOCALES, english, schemas

ENGLISH = {schema.node_id: english(schema) for schema in schemas()}
LANGUAGES = ("zh", "ja", "es")
# ComfyUI's own nodes that the texts name, by the titles its languages give them.
CORE = json.loads(Path(__file__).with_name("core_nodes.json").read_text("utf-8"))
# What is the same in every language.
TERMS = re.compile(
    r"OSDFace|HonestFace|FLIPNET|BoostHub|LoRA|VAE|VRE\b|IDE\b|JPEG|JSON|PNG|MP4|SHA-256|A-LD"
    r"|SD 2\.1|Stable Diffusion|ComfyUI|ArcFace|AdaFace|scikit-image|insightface|facexlib|nano\b"
    r"|models/\w+|[\w-]+\.(?:ckpt|pth|safetensors)|\.person|latent_image|facewright [a-z ]+(?=`)"
)
# vue-i18n, which older editors pass every text through, would take these for instructions.
INSTRUCTIONS = re.compile(r"[@${}|%\\]")


def load(language, name="nodeDefs"):
    return json.loads((LOCALES / language / f"{name}.json").read_text("utf-8"))


def leaves(tree, path=()):
    if isinstance(tree, str):
        yield path, tree
        return
    for key, value in tree.items():
        yield from leaves(value, (*path, key))


def title(name):
    """Without what stands in brackets behind it, which texts may leave out."""
    return re.sub(r"\s*\(.*\)$", "", name)


def named_nodes(text):
    """Node ids and titles of core nodes that an English text names."""
    titles = {title(entry["display_name"]): node_id for node_id, entry in ENGLISH.items()}
    known = sorted([*titles, *CORE], key=len, reverse=True)
    found = re.findall(rf"\b(?:{'|'.join(map(re.escape, known))})\b", text)
    return {titles.get(name, name) for name in found}


def pairs(language):
    """Path, English text and translation of every text that has one."""
    theirs = dict(leaves(load(language)))
    return [(path, text, theirs[path]) for path, text in leaves(ENGLISH) if path in theirs]


def describe(path):
    return "/".join(path)


def test_every_language_is_there():
    assert sorted(path.name for path in LOCALES.iterdir()) == sorted(("en", *LANGUAGES))
    assert load("en") == ENGLISH


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_missing_left_over_or_empty(language):
    theirs = dict(leaves(load(language)))
    ours = dict(leaves(ENGLISH))
    assert sorted(map(describe, ours.keys() - theirs.keys())) == [], "to be translated"
    assert sorted(map(describe, theirs.keys() - ours.keys())) == [], "no longer in the schemas"
    assert [describe(path) for path, text in theirs.items() if not text.strip()] == []
    assert [describe(path) for path, text in theirs.items() if INSTRUCTIONS.search(text)] == []
    categories = {schema.category.removeprefix("facewright/") for schema in schemas()}
    assert load(language, "main").keys() == {"nodeCategories"}
    assert load(language, "main")["nodeCategories"].keys() == categories


def test_english_texts_hold_no_instructions_either():
    assert [describe(path) for path, text in leaves(ENGLISH) if INSTRUCTIONS.search(text)] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_long_texts_are_translated(language):
    same = [
        describe(path) for path, text, theirs in pairs(language) if " " in text and text == theirs
    ]
    assert same == []
    if language != "es":
        script = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
        assert [
            p for p, text, t in pairs(language) if len(text) > 25 and not script.search(t)
        ] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_tell_nodes_and_their_sockets_apart(language):
    nodes = load(language)
    titles = [node["display_name"] for node in nodes.values()]
    assert len(set(titles)) == len(titles)
    for node_id, node in nodes.items():
        for part in ("inputs", "outputs"):
            names = [socket["name"] for socket in node[part].values()]
            assert len(set(names)) == len(names), node_id


@pytest.mark.parametrize("language", LANGUAGES)
def test_numbers_terms_and_options_are_kept(language):
    options = {
        (schema.node_id, "inputs", i.id): i.options
        for schema in schemas()
        for i in schema.inputs
        if i.io_type == "COMBO" and not getattr(i, "of_files", False)
    }
    wrong = []
    for path, text, theirs in pairs(language):
        number = re.compile(r"\d+(?:\.\d+)?")
        if not set(number.findall(text)) <= set(number.findall(theirs)):
            wrong.append((describe(path), "number"))
        lost = [term for term in TERMS.findall(text) if term not in theirs]
        lost += [
            option
            for option in options.get(path[:-1], ())
            if re.search(rf"\b{re.escape(option)}:", text) and option not in theirs
        ]
        wrong += [(describe(path), term) for term in lost]
    assert wrong == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_nodes_and_sockets_are_called_by_the_names_they_bear(language):
    nodes = load(language)
    number = LANGUAGES.index(language)
    sockets = {}
    for node_id, entry in ENGLISH.items():
        for part in ("inputs", "outputs"):
            for key, socket in entry[part].items():
                theirs = nodes.get(node_id, entry)[part].get(key, socket)
                sockets.setdefault(socket["name"], set()).add(theirs["name"])
    wrong = []
    for path, text, theirs in pairs(language):
        if path[-1] == "display_name":
            continue
        for node in named_nodes(text) & {*CORE, *nodes}:
            name = (
                CORE[node][number] if node in CORE else nodes.get(node, {}).get("display_name", "")
            )
            if title(name) not in theirs:
                wrong.append((describe(path), name))
        for word in re.findall(r"`(\w+)`", text):
            if not any(f"`{name}`" in theirs for name in sockets.get(word, {word})):
                wrong.append((describe(path), word))
    assert wrong == []
