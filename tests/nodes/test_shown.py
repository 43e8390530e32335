"""Nodes that show something are sent again where ComfyUI remembers their results."""

import inspect

import facewright.headless  # noqa: F401  (runs the nodes)
from facewright.nodes import all_nodes

SHOW = ("ui=", "found_faces(", "album_shown(")


def test_each_node_that_shows_something_is_an_output_or_says_so():
    for node in all_nodes():
        schema, source = node.GET_SCHEMA(), inspect.getsource(node)
        shows = any(word in source for word in SHOW)
        assert shows == (schema.is_output_node or schema.has_intermediate_output), schema.node_id
