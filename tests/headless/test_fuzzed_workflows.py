"""The shipped workflows, changed at random places: they can be run, or a sentence says why not."""

import copy
import json
import random
from pathlib import Path

import pytest
from facewright.core.doctor.needs import needs_of
from facewright.core.errors import FacewrightError
from facewright.core.weights.model_folders import ModelFolders
from facewright.headless.host.catalogue import plain_process
from facewright.headless.runner import check, input_specs
from facewright.headless.workflows.workflow import read_workflow, to_api

FOLDER = Path(__file__).parents[2] / "workflows"
SHIPPED = sorted(
    path for part in ("workflows", "workflows/api", "subgraphs")
    for path in (FOLDER.parent / part).glob("*.json")
)  # fmt: skip
STRANGE = [
    *(None, True, False, 0, -1, 1, 2, 4, 2**31, 10**30, 1.5, float("nan"), float("inf")),
    *("", " ", "x", "../x", "../../../x", "/etc/passwd", "a\0b", "x" * 100_000),
    *("\N{GRINNING FACE}" * 300, "SaveImage", "Reroute", "PrimitiveNode", "LoadImage"),
    *([], {}, [1], [[[]]], ["1", 0], ["1", 99], ["1", -1], ["nobody", 0]),
    *({"id": 1}, {"class_type": "SaveImage"}),
]


def places(value, way=()):
    """Ways to everything in a workflow but what only the editor draws."""
    stack, found = [(value, way)], []
    while stack:
        value, way = stack.pop()
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            drawn = key == "extra" and not (isinstance(inner, dict) and "groupNodes" in inner)
            if drawn or key in {"pos", "size", "groups", "color", "bgcolor"}:
                continue
            found.append((*way, key))
            if isinstance(inner, dict | list):
                stack.append((inner, (*way, key)))
    return found


def changed(workflow, rng):
    """A copy with one to three entries deleted, replaced, doubled, exchanged or made strange."""
    workflow = copy.deepcopy(workflow)
    for _ in range(rng.randint(1, 3)):
        ways = places(workflow)
        if not ways:
            break
        *way, last = rng.choice(ways)
        holder = workflow
        for key in way:
            holder = holder[key]
        kind = rng.choice(("delete", "strange", "strange", "double", "exchange", "widen"))
        if kind == "delete":
            del holder[last]
        elif kind == "strange":
            holder[last] = copy.deepcopy(rng.choice(STRANGE))
        elif kind == "double" and isinstance(holder, list):
            holder.insert(rng.randint(0, len(holder)), copy.deepcopy(holder[last]))
        elif kind == "widen" and isinstance(holder[last], int):
            holder[last] = holder[last] + rng.choice((-1, 1, 7))
        else:
            *other, end = rng.choice(ways)
            given = workflow
            for key in other:
                given = given[key]
            holder[last] = copy.deepcopy(given[end])
    return workflow


def outcome(text, around):
    """ "ready" or a sentence; any other exception is a fault."""
    try:
        workflow = read_workflow(text)
    except FacewrightError as error:
        said = str(error)
    else:
        report = needs_of(workflow, around)
        assert report["ok"] == (not report["lacks"])
        json.dumps(report)
        try:
            check(to_api(workflow, input_specs))
        except FacewrightError as error:
            said = str(error)
        else:
            return "ready"
    assert said and said.isprintable() and len(said) < 20_000
    return said


@pytest.fixture(scope="module")
def around(tmp_path_factory):
    return plain_process(ModelFolders([tmp_path_factory.mktemp("models")]))


@pytest.mark.parametrize(
    "count", [200, pytest.param(5000, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_a_changed_workflow_is_ready_or_a_sentence(count, around):
    rng = random.Random(13)
    workflows = [json.loads(path.read_text(encoding="utf-8")) for path in SHIPPED]
    assert len(workflows) > 20
    ready = 0
    for number in range(count):
        text = json.dumps(changed(rng.choice(workflows), rng))
        try:
            ready += outcome(text, around) == "ready"
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(f"case {number}: {type(error).__name__}: {error}") from error
    assert 0 < ready < count
