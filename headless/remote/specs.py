"""Node classes as a ComfyUI describes them."""

from collections.abc import Callable
from functools import cache
from typing import Any

from ...core.errors import shorten
from ..workflows.specs import Described, NodeSpec, UnknownNodeError
from .address import Server
from .answers import checked
from .http_client import get


def server_specs(server: str | Server) -> Callable[[str], NodeSpec]:
    """Node classes as a server describes them; it is asked once.

    Raises:
        UnknownNodeError: on asking for a class it does not have.
    """
    at = Server.of(server)

    @cache
    def known() -> dict[str, Any]:
        return get(at, "/object_info", dict[str, Any], timeout=60)

    @cache
    def spec(kind: str) -> NodeSpec:
        if kind not in known():
            raise UnknownNodeError(
                f"The ComfyUI at {at} has no node {shorten(kind)}. Install the node pack "
                "that brings it (for Facewright nodes: this package in custom_nodes) and restart "
                "it."
            )
        return checked(known()[kind], Described, f"{at}/object_info on {shorten(kind)}").spec()

    return spec
