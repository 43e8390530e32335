"""Limits of recognisers: tables, their files, and what is measured on people."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.people.calibration import calibrate, needed, supported
from facewright.core.people.limits import (
    Limits,
    Rate,
    limits_beside,
    limits_file,
    limits_of,
    percent,
    read_limits,
    threshold_of,
)
from facewright.core.people.person import Person

TABLE = tuple(
    Rate(rate, cosine, cosine - 0.1, cosine + 0.1, 0.0)
    for rate, cosine in ((0.1, 0.2), (0.01, 0.4), (0.001, 0.5))
)
KNOWN = Limits(
    same_person=0.4, margin=0.02, false_match_rate=0.01, faces="toys", source="Here.", table=TABLE
)
UNKNOWN = replace(KNOWN, table=(), false_match_rate=None)


def test_between_two_rates_the_logarithm_counts():
    assert [KNOWN.cosine_at(row.rate) for row in TABLE] == [0.2, 0.4, 0.5]
    assert KNOWN.cosine_at(math.sqrt(0.1 * 0.01)) == pytest.approx(0.3)


def test_what_is_not_known_is_not_invented():
    for rate, came in ((0.2, "20 %"), (0.00005, "0.005 %")):
        words = rf"has to be 0\.001 \(0\.1 %\) to 0\.1 \(10 %\), .*\(toys\)\. Came {came}\."
        with pytest.raises(FacewrightError, match=words):
            KNOWN.cosine_at(rate)
    with pytest.raises(FacewrightError, match=r"has to be 0\.1 \(10 %\) alone"):
        replace(KNOWN, table=TABLE[:1]).cosine_at(0.5)
    with pytest.raises(FacewrightError, match="person calibrate"):
        UNKNOWN.cosine_at(0.01)


def test_a_cosine_is_told_by_how_many_strangers_reach_it():
    assert KNOWN.told(0.4) == "0.40: 1 % of strangers, toys"
    assert KNOWN.told(0.3) == "0.30: 3.2 % of strangers, toys"
    assert KNOWN.told(0.1) == "0.10: more than 10 % of strangers, toys"
    assert KNOWN.told(0.9) == "0.90: less than 0.1 % of strangers, toys"
    assert UNKNOWN.told(0.4) == "0.40: strangers not measured"
    assert [percent(r) for r in (1, 0.1, 0.0492, 0.001, 0.00005)] == [
        "100 %", "10 %", "4.9 %", "0.1 %", "0.005 %",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["nano-identity", "arcface-r50", "adaface-ir50"])
def test_shipped_limits_agree_with_their_own_table(name):
    limits = limits_of(f"{name}:00")
    assert threshold_of(name) == limits.same_person and limits.source.endswith(".")
    assert limits.told(limits.same_person)
    rows = limits.table
    for before, after in pairwise(rows):
        assert before.rate > after.rate and before.cosine < after.cosine
        assert before.missed <= after.missed and before.low <= before.cosine <= before.high
    assert all(limits.cosine_at(row.rate) == row.cosine for row in rows)
    if rows:
        assert abs(limits.cosine_at(limits.false_match_rate) - limits.same_person) < 0.005


def test_a_file_comes_back_and_is_found_beside_the_weights(tmp_path):
    weights = tmp_path / "backbone.pth"
    assert limits_beside(weights, "r:1") == limits_of("r:1")
    assert limits_file(weights) == tmp_path / "backbone.limits.json"
    KNOWN.save(limits_file(weights), "r:1", measured={"people": 3})
    assert limits_beside(weights, "r:1") == KNOWN
    assert json.loads(limits_file(weights).read_text())["measured"] == {"people": 3}


def changed(**changes):
    return lambda content: content | changes


def row_changed(**changes):
    return lambda content: content | {"table": [content["table"][0] | changes]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (changed(format="other"), "not of the format"),
        (changed(version=2), "format version 2"),
        (changed(version=True), "format version True"),
        (changed(recogniser="r:2"), "of the recogniser r:2, and the weights there are r:1"),
        (changed(same_person="0.5"), "entries same_person"),
        (changed(same_person=math.nan), "entries same_person"),
        (changed(margin=-0.1), "entries margin"),
        (changed(false_match_rate=True), "entries false_match_rate"),
        (changed(faces="x" * 5000, source=None), "entries faces, source"),
        (changed(table=[]), "entries table"),
        (changed(table=[1]), "entries table"),
        (lambda c: c | {"table": c["table"][::-1]}, "entries table"),
        (row_changed(rate=0), "entries table"),
        (row_changed(cosine=2), "entries table"),
        (row_changed(extra=1), "entries table"),
        (lambda content: [content], "not of the format"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_by_name(change, says, tmp_path):
    path = tmp_path / "backbone.limits.json"
    KNOWN.save(path, "r:1")
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(CheckpointError, match=rf"backbone\.limits\.json.*{says}.*delete the file"):
        read_limits(path, "r:1")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{", b"[" * 5000, b" " * (1 << 21)])
def test_a_file_that_is_no_json_is_refused_by_name(content, tmp_path):
    path = tmp_path / "backbone.limits.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"backbone\.limits\.json, which .* cannot be used"):
        read_limits(path, "r:1")


def album(seed, photos, noise=0.5, dim=16, recogniser="r:1"):
    g = torch.Generator().manual_seed(seed)
    middle = F.normalize(torch.randn(dim, generator=g), dim=0)
    embeddings = middle + noise * torch.randn(photos, dim, generator=g) / dim**0.5
    return Person(
        name=f"p{seed}",
        crops=torch.zeros(photos, 3, 4, 4),
        embeddings=F.normalize(embeddings, dim=1),
        landmarks=torch.zeros(photos, 68, 2),
        quality=torch.rand(photos, generator=g),
        recogniser=recogniser,
        sources=("a",) * photos,
    )


def naive(people):
    """All comparisons by loops: (with another's album, with the other photos of one's own)."""
    foreign, own = [], []
    for i, person in enumerate(people):
        for k, face in enumerate(person.embeddings.double()):
            foreign += [float(face @ p.template.double()) for j, p in enumerate(people) if j != i]
            rest = [j for j in range(len(person)) if j != k]
            if rest:
                mean = sum(person.quality[j].double() * person.embeddings[j].double() for j in rest)
                own.append(float(face @ mean / mean.norm()))
    return foreign, own


def test_limits_are_those_that_loops_find():
    people = [album(i, 1 + i % 3) for i in range(30)]
    found = calibrate(people, rate=0.02)
    foreign, own = naive(people)
    assert (found.impostors, found.genuine) == (len(foreign), len(own))
    assert (found.pairs, found.photos) == (30 * 29 // 2, 60)
    for row in found.limits.table:
        reached = sum(value >= row.cosine - 1e-6 for value in foreign) / len(foreign)
        assert row.rate - 1 / len(foreign) <= reached <= row.rate
        assert row.missed == pytest.approx(sum(v < row.cosine - 1e-6 for v in own) / len(own))
        assert row.low <= row.cosine <= row.high
    at = [row.cosine for row in found.limits.table if row.rate == 0.02]
    assert at == [found.limits.same_person] and found.limits.false_match_rate == 0.02


def test_the_interval_holds_the_cosine_of_many_more_people():
    """Of random directions in space the cosine is uniform, so 1 - 2 rate is reached."""
    rate = 0.05
    inside = 0
    for start in range(0, 800, 100):
        people = [album(start + i, 2, noise=1e-6, dim=3) for i in range(30)]
        row = next(r for r in calibrate(people, rate=rate).limits.table if r.rate == rate)
        inside += row.low <= 1 - 2 * rate <= row.high
    assert inside >= 6  # of 8


def test_rates_take_their_number_of_people():
    assert [needed(rate) for rate in (0.01, 0.001, 0.0001)] == [(300, 25), (3000, 78), (30000, 246)]
    for people in (25, 78, 246):
        rate = {25: 0.01, 78: 0.001, 246: 0.0001}[people]
        assert supported(people) <= rate < supported(people - 1)
    few = [album(i, 2) for i in range(12)]
    with pytest.raises(FacewrightError, match="1 % takes 300 pairs of people, which are 25 people"):
        calibrate(few)
    with pytest.raises(FacewrightError, match=r"here are 12, enough for 4\.6 % or more"):
        calibrate(few, rate=0.01)
    assert calibrate(few, rate=0.046).limits.false_match_rate == 0.046
    assert min(r.rate for r in calibrate(few, rate=0.2).limits.table) == 0.05


def test_people_of_one_photo_are_strangers_only():
    with pytest.raises(FacewrightError, match="No person has two photos"):
        calibrate([album(i, 1) for i in range(30)])
    found = calibrate([album(i, 1 + (i < 2)) for i in range(30)])
    assert (found.genuine, found.photos) == (4, 32)


def test_who_is_not_told_apart_is_said():
    """Photos of a person that are no more alike than those of others."""
    found = calibrate([album(i, 3, noise=100) for i in range(25)])
    assert any("does not tell these people apart" in line for line in found.report)
    assert not any(line.startswith("warning") for line in calibrate(
        [album(i, 3, noise=0.1) for i in range(25)]).report)  # fmt: skip


def test_the_margin_is_the_lead_of_the_wrong_of_two_albums_of_one_person():
    people = [album(i, 2 + i % 3) for i in range(30)]
    leads = []
    for person in people:
        pairs = list(zip(person.quality.double(), person.embeddings.double(), strict=True))
        for k, face in enumerate(person.embeddings.double()):
            rest = pairs[:k] + pairs[k + 1 :]
            if len(rest) > 1:
                halves = [sum(q * e for q, e in rest[start::2]) for start in (0, 1)]
                one, other = (float(face @ half / half.norm()) for half in halves)
                leads += [one - other, other - one]
    leads.sort(reverse=True)
    margin = calibrate(people, rate=0.05).limits.margin
    assert margin == pytest.approx(leads[math.ceil(0.05 * len(leads)) - 1], abs=1e-6) and margin > 0
    assert calibrate([album(i, 2) for i in range(30)]).limits.margin == limits_of("r:1").margin


def test_albums_of_two_recognisers_are_not_mixed():
    with pytest.raises(FacewrightError, match="2 recognisers"):
        calibrate([*(album(i, 2) for i in range(30)), album(99, 2, recogniser="r:2")])
    with pytest.raises(FacewrightError, match="between 0 and 1"):
        calibrate([album(i, 2) for i in range(30)], rate=1.0)
