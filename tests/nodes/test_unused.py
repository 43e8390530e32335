"""Seeds that nothing is drawn with do not make ComfyUI work again."""

import copy

import pytest
from facewright.nodes import _unused, all_nodes
from facewright.nodes._unused import without_unused


def asked(kind, **inputs):
    return {"prompt": {"3": {"class_type": kind, "inputs": inputs}}, "client_id": "me"}


@pytest.mark.parametrize(
    ("kind", "decides", "off", "on", "seed"),
    [
        ("FacewrightOneStepRestore", "posterior", "mean", "sample", "seed"),
        ("FacewrightRestoreVideo", "posterior", "mean", "sample", "seed"),
        ("FacewrightApplyBoostHub", "lq_timestep", 0, 20, "lq_seed"),
    ],
)
def test_only_a_seed_without_use_becomes_another(kind, decides, off, on, seed):
    given = asked(kind, **{decides: off, seed: 77, "model": ["1", 0]})
    assert without_unused(given) == asked(kind, **{decides: off, seed: 0, "model": ["1", 0]})
    for inputs in (
        {decides: on, seed: 77},
        {decides: ["2", 0], seed: 77},
        {decides: off, seed: ["2", 0]},
        {decides: off},
    ):
        given = asked(kind, **inputs)
        assert without_unused(copy.deepcopy(given)) == given


def test_the_table_names_inputs_that_there_are():
    nodes = {n.GET_SCHEMA().node_id: n.GET_SCHEMA() for n in all_nodes()}
    for kind, (decides, value, unused) in _unused._UNUSED.items():
        inputs = {i.id: i for i in nodes[kind].inputs}
        assert inputs[decides].default == value and inputs[unused].default == 0


@pytest.mark.parametrize(
    "strange", [None, [], {}, {"prompt": 3}, {"prompt": {"1": None, "2": {"class_type": []}}}]
)
def test_whatever_else_is_asked_is_passed_on(strange):
    assert without_unused(copy.deepcopy(strange)) == strange
