"""Results that are kept with a workflow: what the server takes out, and what the script says."""

import copy
import re
from pathlib import Path

import pytest
from facewright.nodes._all import all_nodes
from facewright.nodes._results import KEPT, without_results

SCRIPT = (Path(__file__).parents[2] / "web" / "js" / "results.js").read_text("utf-8")


def request(kept):
    """A request with a score node outside and one in a subgraph."""
    properties = {"Node name for S&R": "FacewrightImageScore", **kept}
    node = {"id": 3, "type": "FacewrightImageScore", "properties": properties, "widgets_values": []}
    graphs = {"subgraphs": [{"id": "a", "nodes": [copy.deepcopy(node)]}]}
    workflow = {"nodes": [copy.deepcopy(node), {"id": 4}], "definitions": graphs, "links": []}
    return {"prompt": {"3": {}}, "extra_data": {"extra_pnginfo": {"workflow": workflow}}}


def test_pictures_do_not_hold_texts_of_earlier_runs():
    assert without_results(request({KEPT: "PSNR 27 dB"})) == request({})


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"prompt": {}},
        {"extra_data": []},
        {"extra_data": {"extra_pnginfo": {"workflow": [1]}}},
        {"extra_data": {"extra_pnginfo": {"workflow": {"nodes": {"1": 2}, "definitions": []}}}},
        {
            "extra_data": {
                "extra_pnginfo": {
                    "workflow": {"nodes": [7, {"properties": 3}], "definitions": {"subgraphs": [1]}}
                }
            }
        },
    ],
)
def test_anything_else_passes_as_it_came(content):
    assert without_results(copy.deepcopy(content)) == content


def test_script_and_server_mean_the_same_property():
    assert re.findall(r"const NAME = '(\w+)'", SCRIPT) == [KEPT]


def test_nodes_whose_text_is_not_kept_exist():
    (names,) = re.findall(r"const PRIVATE = \[(.*?)\]", SCRIPT)
    kinds = {node.GET_SCHEMA().node_id for node in all_nodes()}
    assert set(re.findall(r"'(\w+)'", names)) <= kinds and "FacewrightDoctor" in names


def test_texts_never_become_markup():
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", SCRIPT)
