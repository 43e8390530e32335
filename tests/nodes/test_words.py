"""Nodes are found by the words that artists use; test_search.py asks the editors themselves."""

import dataclasses

import facewright.headless  # noqa: F401  (runs the nodes)
import pytest
from facewright.docs.build import schemas
from facewright.nodes import _words

SCHEMAS = {schema.node_id.removeprefix("Facewright"): schema for schema in schemas()}
RESTORE = {"RestoreWithModel", "OneStepRestore", "RestoreVideo"}
FOUND = {
    "face restoration": RESTORE,
    "restore face": RESTORE,
    "face enhance": RESTORE,
    "deblur": RESTORE,
    "upscale face": RESTORE,
    "old photo": RESTORE - {"RestoreVideo"},
    "photo restoration": RESTORE - {"RestoreVideo"},
    "repair face": RESTORE - {"RestoreVideo"},
    "sharpen face": RESTORE - {"RestoreVideo"},
    "unblur": RESTORE - {"RestoreVideo"},
    "blurry face": RESTORE,
    "face detailer": RESTORE | {"DetectFaces", "PasteFaces"},
    "gfpgan": {"RestoreWithModel"},
    "codeformer": {"RestoreWithModel"},
    "restoreformer": {"RestoreWithModel"},
    "lora": {"LoadLoRA"},
    "lora loader": {"LoadLoRA"},
    "osdface": {"OneStepRestore", "VREEncode", "LoadVRE"},
    "honestface": {"OneStepRestore", "IDEEncode", "LoadIDE", "LoadNanoHonestface"},
    "flipnet": {"ApplyBoostHub", "LoadBoostHub", "FaceTokens", "LoadFaceEncoder"},
    "crop face": {"DetectFaces"},
    "paste face": {"PasteFaces"},
    "insightface": {"LoadFaceAnalyzer", "LoadRecogniser"},
    "mediapipe": {"LoadFaceAnalyzer", "AnalyzerFromModel"},
    "face recognition": {"LoadRecogniser", "MatchPeople"},
    "reference photo": {"Person", "IDEEncode"},
    "same person": {"IdentityGuard", "PictureGuard", "IdentityScore"},
    "missing models": {"Doctor"},
    "compare images": {"Compare"},
    "save image": {"SaveWithReceipts"},
}


def found(words):
    """Nodes with all words in their name, or all in one phrase: less than the editor finds."""
    return {
        node
        for node, schema in SCHEMAS.items()
        for text in (schema.display_name, *schema.search_aliases)
        if all(word in text.lower() for word in words.split())
    }


@pytest.mark.parametrize("words", FOUND)
def test_words_find_their_nodes(words):
    assert found(words) >= FOUND[words]


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_every_node_has_phrases_and_says_nothing_twice(schema):
    phrases = schema.search_aliases
    assert phrases and len(set(phrases)) == len(phrases)
    assert [p for p in phrases if p != p.lower().strip() or p == schema.display_name.lower()] == []


def test_names_fit_on_a_node():
    """At 14 pixels a title of 40 letters is as wide as the narrowest nodes of the workflows."""
    assert [s.display_name for s in SCHEMAS.values() if len(s.display_name) > 40] == []


def test_an_older_schema_is_given_no_phrases(monkeypatch):
    field = "search_aliases"
    assert field in {f.name for f in dataclasses.fields(_words.io.Schema)}
    assert _words.found_by("a", "b") == {field: ["a", "b"]}
    monkeypatch.setattr(_words, "_KNOWN", False)
    assert _words.found_by("a", "b") == {}
