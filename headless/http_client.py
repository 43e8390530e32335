"""Requests to a ComfyUI, with the standard library only."""

import json
import time
import uuid
from pathlib import Path
from typing import Any
from urllib import error, parse, request

from .workflow import WorkflowError

_PATIENCE = 15.0
_PAUSE = 0.5


class UnreachableError(WorkflowError):
    """Nobody answers at an address."""


class RefusedError(WorkflowError):
    """The server answered, but not with what was asked for."""

    def __init__(self, url: str, status: int, answer: Any) -> None:
        super().__init__(f"{url} answered {status}: {answer}")
        self.answer = answer


def get(url: str, timeout: float = 30) -> Any:
    """JSON found at an address.

    Raises:
        UnreachableError, RefusedError: as said there.
    """
    return _json(request.Request(url), timeout)


def get_patiently(url: str) -> Any:
    """`get`, which waits up to 15 s for a server or a line that is gone for a moment."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return get(url)
        except UnreachableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def post(url: str, body: Any) -> Any:
    """What a server answers to JSON: JSON, or None.

    Raises:
        UnreachableError, RefusedError: as said there.
    """
    data = json.dumps(body, default=str).encode()
    return _json(request.Request(url, data, {"Content-Type": "application/json"}))


def upload(server: str, path: Path) -> str:
    """Send a picture to the input folder of a server; returns the name it has there.

    Raises:
        WorkflowError: unreadable, unreachable or refused.
    """
    boundary = uuid.uuid4().hex
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="subfolder"\r\n\r\nfacewright\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; '
        f'filename="{parse.quote(path.name)}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    try:
        content = path.read_bytes()
    except OSError as failed:
        raise WorkflowError(f"{path} cannot be read ({failed}).") from failed
    data = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    answer = _json(request.Request(f"{server}/upload/image", data, {"Content-Type": kind}))
    return "/".join(p for p in (answer.get("subfolder"), answer["name"]) if p)


def view(server: str, image: dict[str, str]) -> bytes:
    """The file of a picture that a server tells of in its history."""
    query = parse.urlencode({k: image[k] for k in ("filename", "subfolder", "type")})
    return _read(request.Request(f"{server}/view?{query}"), 60)


def _json(req: request.Request, timeout: float = 30) -> Any:
    content = _read(req, timeout)
    return json.loads(content) if content else None


def _read(req: request.Request, timeout: float) -> bytes:
    try:
        with request.urlopen(req, timeout=timeout) as response:
            return response.read()
    except error.HTTPError as refused:
        text = refused.read().decode(errors="replace")
        try:
            answer = json.loads(text)
        except ValueError:
            answer = text[:500]
        raise RefusedError(req.full_url, refused.code, answer) from refused
    except (error.URLError, OSError) as failed:
        raise UnreachableError(
            f"No ComfyUI answers at {req.full_url} ({failed}). Start it, or run with --embedded."
        ) from failed
