"""Receipts as JSON: as their schema says, and read in every version."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces import load_analyzer
from facewright.core.files.own_version import own_version
from facewright.core.people import receipts as receipts_file
from facewright.core.people.guard import guard_faces
from facewright.core.people.receipts import About, PictureFacts, parse_json, png_texts, utc_now
from facewright.core.people.recogniser import nano_recogniser
from facewright.core.pipeline.tracks import TrackReceipts
from facewright.core.weights import nano
from facewright.training.world.faces3d import photos

SCHEMA = json.loads((Path(receipts_file.__file__).parent / "receipts.schema.json").read_text())
TYPES = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
    "integer": int, "number": int | float,
}  # fmt: skip
KNOWN = {
    "$schema", "$id", "$defs", "$ref", "title", "description", "type", "required", "properties",
    "additionalProperties", "items", "minItems", "maxItems", "enum", "const", "pattern", "minimum",
    "maximum", "oneOf", "anyOf", "allOf",
}  # fmt: skip


def faults(value, schema, at="$"):
    """What of JSON Schema 2020-12 the schema uses, word by word; other words are a fault."""
    assert schema.keys() <= KNOWN, schema.keys() - KNOWN
    found = []
    if "$ref" in schema:
        found += faults(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], at)
    for word, least in (("allOf", len(schema.get("allOf", ()))), ("anyOf", 1), ("oneOf", 1)):
        parts = [faults(value, part, at) for part in schema.get(word, ())]
        fit = sum(not part for part in parts)
        if parts and (fit < least or (word == "oneOf" and fit > 1)):
            found += [f"{at}: {word}", *(fault for part in parts for fault in part)]
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if types and not any(
        isinstance(value, TYPES[t]) and (t not in ("integer", "number") or is_number) for t in types
    ):
        found.append(f"{at}: {value!r} is no {types}")
    if ("enum" in schema and value not in schema["enum"]) or value != schema.get("const", value):
        found.append(f"{at}: {value!r}")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        found.append(f"{at}: {value!r}")
    if is_number and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{at}: {value!r}")
    if isinstance(value, dict):
        found += [f"{at}: no {name}" for name in schema.get("required", ()) if name not in value]
        for name, item in value.items():
            own = schema.get("properties", {}).get(name, schema.get("additionalProperties", {}))
            found += faults(item, own, f"{at}.{name}")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
            found.append(f"{at}: {len(value)} items")
        for i, item in enumerate(value):
            found += faults(item, schema.get("items", {}), f"{at}[{i}]")
    return found


@pytest.fixture(scope="module")
def guard():
    lq = photos([9001, 9002, 9003], [1, 1, 1], 64).pixels
    wrong = torch.stack([lq[0], lq[0], torch.full_like(lq[0], torch.nan)])
    recogniser = nano_recogniser(nano.load_identity("loss"))
    how = {"recogniser": recogniser, "landmarker": load_analyzer("nano"), "action": "report only"}
    return guard_faces(lq, wrong, **how)


def test_receipts_are_as_their_schema_says(guard, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    file = PictureFacts(name="a.png", sha256="0" * 64, width=80, height=60)
    models = [{"name": "x.pth", "sha256": "f" * 64}]
    about = About(measured="delivered", pictures=[file], models=models, options={"color": "lab"})
    placed = [replace(r, picture=0, box=(1.0, 2.0, 3.0, 4.0)) for r in guard.receipts]
    full = replace(guard, receipts=placed, about=about)
    for result in (guard, full, replace(guard, receipts=[])):
        content = json.loads(result.json)
        assert faults(content, SCHEMA) == []
        assert content["facewright"] == own_version()
    content = json.loads(full.json)
    assert content["date"] == "2023-11-14T22:13:20Z" and content["pictures"][0]["name"] == "a.png"
    assert content["models"] == models and content["faces"][1]["box"] == [1, 2, 3, 4]
    tracks = TrackReceipts(guard.recogniser, guard.action, about)
    tracks.add(full, [0, 1, 0], [0, 0, 1])
    assert faults(json.loads(tracks.json), SCHEMA) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"version": 1}, "$.version"),
        ({"measured": "both"}, "$.measured"),
        ({"date": "yesterday"}, "$.date"),
        ({"pictures": [{}]}, "no sha256"),
        ({"faces": [{"face": 0}]}, "no verdict"),
    ],
)
def test_the_schema_refuses_other_things(guard, change, fault):
    assert any(fault in found for found in faults(json.loads(guard.json) | change, SCHEMA))


def test_every_entry_is_described(guard):
    content, defs = json.loads(guard.json), SCHEMA["$defs"]
    assert content.keys() == set(defs["about"]["required"]) | {"format"}
    assert content["faces"][0].keys() == set(defs["face"]["required"])
    assert set(defs["face"]["required"]) == defs["face"]["properties"].keys()


def test_version_1_is_still_read_and_a_later_one_not(guard):
    old = {"format": "facewright.receipts", "version": 1, "faces": [{"face": 0}, {"face": 1}]}
    first, second = png_texts(json.dumps(old), 2, torch.tensor([1, 0]))
    assert json.loads(first["facewright_receipts"])["faces"] == [{"face": 1}]
    assert json.loads(second["facewright_receipts"]) == {**old, "faces": [{"face": 0}]}
    with pytest.raises(FacewrightError, match=r"of version 3, .* up to version 2\. Update"):
        parse_json(json.dumps(old | {"version": 3}))


def test_a_picture_of_a_batch_carries_its_own_alone(guard):
    sizes = [PictureFacts(width=w, height=8) for w in (10, 20)]
    index = torch.tensor([1, 0, 1])
    placed = [replace(r, picture=int(b)) for r, b in zip(guard.receipts, index, strict=True)]
    both = replace(guard, receipts=placed, about=About(pictures=sizes)).json
    first, second = (json.loads(t["facewright_receipts"]) for t in png_texts(both, 2, index))
    assert [p["width"] for p in first["pictures"]] == [10] and len(first["faces"]) == 1
    assert [p["width"] for p in second["pictures"]] == [20]
    assert [(f["face"], f["picture"]) for f in second["faces"]] == [(0, 0), (2, 0)]
    assert faults(first, SCHEMA) == faults(second, SCHEMA) == []


@pytest.mark.parametrize("wrong", ["yesterday", "1e400", "9" * 40])
def test_a_date_that_is_none_gets_a_sentence(monkeypatch, wrong):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", wrong)
    with pytest.raises(FacewrightError, match="seconds since 1970"):
        utc_now()
