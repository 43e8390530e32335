"""Requests to a ComfyUI, with the standard library only.

Whatever is behind an address answers what it likes. An answer is bounded in size and time, has to
be JSON of the shape asked for, and never sends the request on to another address.

The package `requests` would read an answer that redirects to its end, however long, unpack what is
compressed, add the passwords of ~/.netrc and hold an upload in memory; to keep it from all that
takes as many lines.
"""

import json
import time
import uuid
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib import error, parse, request

from ...core.errors import shorten
from ...core.files.json_text import JsonError, parse_json
from ...core.files.shapes import words
from ..workflows.workflow_file import WorkflowError
from .answers import AnswerError, SavedFile, Uploaded, checked

T = TypeVar("T")
_PATIENCE = 15.0
_PAUSE = 0.5
_MOST_JSON = 128 * 2**20
_MOST_FILE = 4 * 2**30
_MOST_SECONDS = 300.0
"""Of an answer in JSON, from its first byte to its last."""
_PIECE = 2**20


class UnreachableError(WorkflowError):
    """Nobody answers at an address."""


class RefusedError(WorkflowError):
    """The server answered, but not with what was asked for."""

    def __init__(self, url: str, status: int, answer: Any) -> None:
        super().__init__(f"{shorten(url, 200)} answered {status}: {words(answer, 500)}")
        self.answer = answer


class _NoRedirects(request.HTTPRedirectHandler):
    """Pictures are for the address that was given."""

    def redirect_request(self, *args: Any) -> None:
        return None


_OPENER = request.build_opener(_NoRedirects)


def server_url(server: str) -> str:
    """An address as people write it, such as localhost:8188, in full.

    Raises:
        WorkflowError: it is no address of a web server.
    """
    url = server.strip()
    url = (url if "://" in url else f"http://{url}").rstrip("/")
    try:
        parts = parse.urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not url.isascii() or not url.isprintable() or set(" ?#@\\") & set(url):
        raise WorkflowError(
            f"{shorten(server)!r} is no address of a ComfyUI. Write it as http://127.0.0.1:8188; "
            "user names and passwords cannot be part of it."
        )
    return url


def get(url: str, shape: type[T], timeout: float = 30) -> T:
    """JSON found at an address.

    Raises:
        UnreachableError, RefusedError, AnswerError: as said there.
    """
    return _json(request.Request(url), shape, timeout)


def get_patiently(url: str, shape: type[T]) -> T:
    """`get`, which waits up to 15 s for a server or a line that is gone for a moment."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return get(url, shape)
        except UnreachableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def post(url: str, body: Any, shape: type[T]) -> T:
    """What a server answers to JSON.

    Raises:
        UnreachableError, RefusedError, AnswerError: as said there.
    """
    return _json(_posted(url, body), shape)


def tell(url: str, body: Any) -> None:
    """`post`, whatever the answer is."""
    _read(_posted(url, body), 30, _MOST_JSON)


def _posted(url: str, body: Any) -> request.Request:
    data = json.dumps(body, default=str).encode()
    return request.Request(url, data, {"Content-Type": "application/json"})


def upload(server: str, path: Path) -> str:
    """Send a picture to the input folder of a server; returns the name it has there.

    Raises:
        WorkflowError: unreadable, unreachable or refused.
    """
    boundary = uuid.uuid4().hex
    name = parse.quote(path.name, errors="surrogateescape")
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="subfolder"\r\n\r\nfacewright\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; '
        f'filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    end = f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    try:
        headers["Content-Length"] = str(len(head) + path.stat().st_size + len(end))
        file = path.open("rb")
    except OSError as failed:
        raise _unreadable(path, failed) from failed
    with file:
        data = chain([head], _pieces(file), [end])
        asked = request.Request(f"{server}/upload/image", data, headers)
        answer = _json(asked, Uploaded)
    return "/".join(p for p in (answer.subfolder, answer.name) if p)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """A file as it is sent: videos may be larger than memory."""
    try:
        while piece := file.read(_PIECE):
            yield piece
    except OSError as failed:
        raise _unreadable(file.name, failed) from failed


def _unreadable(path: str | Path, failed: OSError) -> WorkflowError:
    return WorkflowError(f"{path} cannot be read ({failed}).")


def view(server: str, file: SavedFile) -> bytes:
    """The content of a file that a server tells of in its history.

    Raises:
        UnreachableError, RefusedError, AnswerError: as said there.
    """
    query = parse.urlencode(file.model_dump())
    return _read(request.Request(f"{server}/view?{query}"), 60, _MOST_FILE)[0]


def _json(req: request.Request, shape: type[T], timeout: float = 30) -> T:
    content, kind = _read(req, timeout, _MOST_JSON, time.monotonic() + _MOST_SECONDS)
    try:
        return checked(parse_json(content), shape, req.full_url)
    except JsonError as wrong:
        page = content.lstrip()[:1] == b"<" or "html" in kind
        what = "a web page, perhaps of a login," if page else "something"
        raise AnswerError(
            f"{shorten(req.full_url, 200)} answers, but with {what} that is not ComfyUI's JSON: "
            f"{wrong}. Is that the address of a ComfyUI, without anything before it?"
        ) from wrong


def _read(
    req: request.Request, timeout: float, most: int, deadline: float | None = None
) -> tuple[bytes, str]:
    """The content of an answer, and what it says it is."""
    try:
        with _OPENER.open(req, timeout=timeout) as response:
            content = _content(response, req.full_url, most, deadline)
            return content, response.headers.get_content_type()
    except error.HTTPError as refused:
        raise _refusal(req.full_url, refused) from refused
    except WorkflowError:
        raise
    except (error.URLError, HTTPException, OSError, ValueError) as failed:
        raise UnreachableError(
            f"No ComfyUI answers at {shorten(req.full_url, 200)} ({shorten(failed, 200)}). Start "
            "it, or run with --embedded."
        ) from failed


def _content(response: HTTPResponse, url: str, most: int, deadline: float | None) -> bytes:
    pieces, size = [], 0
    # `read1` gives back what has come: `read` waits for a whole piece, however slowly it drips.
    while piece := response.read1(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > most or (deadline is not None and time.monotonic() > deadline):
            much = f"more than {most >> 20} MiB" if size > most else "for minutes"
            raise AnswerError(f"{shorten(url, 200)} answers {much}, which no ComfyUI does here.")
    declared = response.headers.get("Content-Length", "")
    if declared.isdecimal() and size < int(declared[:20]):
        raise OSError(f"the answer ended after {size} of {shorten(declared, 20)} bytes")
    return b"".join(pieces)


def _refusal(url: str, refused: error.HTTPError) -> WorkflowError:
    if 300 <= refused.code < 400:
        to = shorten(refused.headers.get("Location", "elsewhere"), 200)
        return AnswerError(
            f"{shorten(url, 200)} sends on to {to}, and nothing is sent there unasked. If your "
            "ComfyUI is there, give that address."
        )
    try:
        content = refused.read(_PIECE)
    except (HTTPException, OSError, ValueError):
        content = b""
    try:
        answer = parse_json(content)
    except JsonError:
        answer = content[:500].decode(errors="replace")
    return RefusedError(url, refused.code, answer if answer != "" else "nothing more")
