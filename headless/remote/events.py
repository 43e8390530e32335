"""What a ComfyUI tells over its websocket while it runs a workflow."""

import contextlib
import math
import time
from typing import Any

from pydantic import ValidationError

from ...core.errors import shorten
from ...core.files import shapes
from ...core.files.json_text import JsonError, parse_json
from ...core.files.shapes import Shape
from ..workflows.workflow import ApiWorkflow, node_title
from .address import Server

_RETRY_SECONDS = 1.0


class Events:
    """Messages to one client. A lost connection is made again; meanwhile there are none.

    Without the websocket-client package there never are any: results do not depend on them. For the
    same reason what is no message, or not of the shape one has, is passed over.
    """

    def __init__(self, server: Server, client_id: str) -> None:
        self._url = f"ws{server.url.removeprefix('http')}/ws?clientId={client_id}"
        self._more: dict[str, Any] = {"header": dict(server.headers)}
        if server.tls is not None:
            self._more["sslopt"] = {"context": server.tls}
        self._socket: Any = None
        self._retry_at = 0.0
        self._connect()

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def next(self, seconds: float) -> dict[str, Any] | None:
        """The next message, or None where there is none within so many seconds."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._socket is None and time.monotonic() >= self._retry_at:
                self._connect()
            if self._socket is None:
                time.sleep(min(left, 0.1))
                continue
            message = self._receive(left)
            if message is not None:
                return message
        return None

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(Exception):  # of a socket that is of no use any more
                self._socket.close(timeout=1)
            self._socket = None

    def _connect(self) -> None:
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        try:
            import websocket
        except ImportError:
            self._retry_at = float("inf")
            return
        try:
            self._socket = websocket.create_connection(
                self._url, timeout=5, redirect_limit=0, **self._more
            )
        except (websocket.WebSocketException, OSError, ValueError):
            self._socket = None  # whether the server is there at all is for the requests to say

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        import websocket

        try:
            self._socket.settimeout(seconds)
            content = self._socket.recv()
        except websocket.WebSocketTimeoutException:
            return None
        except (websocket.WebSocketException, OSError, ValueError):
            self._socket = None
            return None
        if not isinstance(content, str):
            return None  # previews of what is being made
        try:
            message = parse_json(content)
        except JsonError:
            return None
        return message if isinstance(message, dict) else None


class _State(Shape):
    """How far a node is."""

    state: shapes.TEXT
    value: shapes.NUMBER = 0
    max: shapes.NUMBER | None = None
    display_node_id: shapes.ID | None = None

    @property
    def share(self) -> float:
        share = self.value / self.max if self.max else 0.0
        return min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0


class Progress:
    """How far one run is, as told by `Events`."""

    def __init__(self, api: ApiWorkflow, prompt_id: str) -> None:
        self.api, self.prompt_id = api, prompt_id
        self.ended = False
        """The server said so; its results may take another moment."""
        self.now: str | None = None
        """Title of the node that is running."""
        self.share = 0.0
        self.cached: set[str] = set()
        """Nodes whose outputs the server still had."""
        self._started: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._inside: dict[str, float] = {}
        self._shown_as: dict[str, str] = {}

    def take(self, event: dict[str, Any]) -> None:
        data = event.get("data")
        if not isinstance(data, dict) or data.get("prompt_id") != self.prompt_id:
            return
        kind, nodes = str(event.get("type")), data.get("nodes")
        if kind == "execution_cached" and isinstance(nodes, list):
            self.cached.update(str(n) for n in nodes if isinstance(n, str | int))
        elif kind == "progress_state" and isinstance(nodes, dict):
            for node, state in nodes.items():
                with contextlib.suppress(ValidationError):
                    self._take_state(node, _State.model_validate(state))
        elif kind in {"execution_success", "execution_error", "execution_interrupted"}:
            self.ended = True
        done = len((self.cached | self._ended.keys()) & self.api.keys())
        self.share = min((done + sum(self._inside.values())) / max(len(self.api), 1), 1.0)

    def _take_state(self, node: str, state: _State) -> None:
        # A node that becomes a graph of its own is shown as one.
        shown = self._shown_as[node] = shorten(state.display_node_id or node)
        if state.state == "running":
            self._started.setdefault(node, time.monotonic())
            self._inside[node] = state.share
            if shown in self.api:
                self.now = node_title(self.api, shown)
        elif state.state in {"finished", "error"}:
            self._inside.pop(node, None)
            self._ended.setdefault(node, time.monotonic())

    @property
    def seconds(self) -> dict[str, float]:
        """How long each node took whose start and end were told, in the order they ended in."""
        taken: dict[str, float] = {}
        for node, ended in self._ended.items():
            if node in self._started:
                shown = self._shown_as[node]
                taken[shown] = taken.get(shown, 0.0) + ended - self._started[node]
        return taken
