"""Requests to a ComfyUI.

Whatever is behind an address answers what it likes. An answer is bounded in size and time, has to
be JSON of the shape asked for, and never sends the request on to another address.
"""

import json
import re
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib import error, parse, request

from ...core.errors import shorten
from ...core.files.editor_form import in_folder
from ...core.files.json_text import JsonError, parse_json
from ...core.files.shapes import words
from ..workflows.endings import UnfitError, UnreachableError
from ..workflows.workflow_file import WorkflowError
from .address import Server
from .answers import AnswerError, Uploaded, checked

T = TypeVar("T")
_PATIENCE = 15.0
_PAUSE = 0.5
_MOST_JSON = 128 * 2**20
_MOST_FILE = 64 * 2**30
_MOST_SECONDS = 300.0
"""Of an answer in JSON, from its first byte to its last."""
_PIECE = 2**20
_STALLED = 60.0
"""Seconds in which a server takes or gives something of a file, else nobody is there."""
_BYTES_PER_SECOND = 10_000_000
"""What a server does with a file at the least, once it has it: hold it against others, store it."""


class RefusedError(UnfitError):
    """The server answered, but not with what was asked for."""

    def __init__(self, url: str, status: int, answer: Any, advice: str = "") -> None:
        said = words(answer, 500)
        super().__init__(f"{shorten(url, 200)} answered {status}: {said}{advice}")
        self.answer = answer
        self.by_login = status in {401, 403}


def get(server: Server, path: str, shape: type[T], timeout: float = 30) -> T:
    """JSON found at a server.

    Args:
        path: from the server's address on, such as /queue.

    Raises:
        UnreachableError, RefusedError, AnswerError, LateError: as said there.
    """
    return _json(server, request.Request(server.url + path), shape, timeout)


def get_patiently(server: Server, path: str, shape: type[T]) -> T:
    """`get`, which waits up to 15 s for a server or a line that is gone for a moment."""
    return patiently(server, lambda: get(server, path, shape))


def patiently(server: Server, ask: Callable[[], T]) -> T:
    """What `ask` returns; for up to 15 s it is called again where nobody answers."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return ask()
        except UnreachableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(server.patience(_PAUSE))


def post(server: Server, path: str, body: Any, shape: type[T]) -> T:
    """What a server answers to JSON.

    Raises:
        UnreachableError, RefusedError, AnswerError, LateError: as said there.
    """
    return _json(server, _posted(server, path, body), shape)


def tell(server: Server, path: str, body: Any, timeout: float = 30) -> None:
    """`post`, whatever the answer is."""
    asked = _posted(server, path, body)
    for _ in _pieces(server, _opened(server, asked, timeout), asked.full_url, _MOST_JSON):
        pass


def _posted(server: Server, path: str, body: Any) -> request.Request:
    data = json.dumps(body, default=str).encode()
    return request.Request(server.url + path, data, {"Content-Type": "application/json"})


def upload(server: Server, path: Path) -> str:
    """Send a file to the input folder of a server; returns the name it has there.

    It is sent as it is read. A server that takes none of it for a minute is given up.

    Raises:
        WorkflowError: unreadable, unreachable, refused, or not within the server's time.
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
        size = path.stat().st_size
        file = path.open("rb")
    except OSError as failed:
        raise _unreadable(path, failed) from failed
    headers["Content-Length"] = str(len(head) + size + len(end))
    with file:
        data = chain([head], _sent(server, file, size), [end])
        asked = request.Request(f"{server.url}/upload/image", data, headers)
        try:
            answer = _json(server, asked, Uploaded, _STALLED + size / _BYTES_PER_SECOND)
        except UnreachableError as failed:
            raise UnreachableError(
                f"{shorten(path, 200)} ({size / 1e6:.1f} MB) could not be sent to the ComfyUI. "
                f"{failed} If it takes no files so large, start it with --max-upload-size."
            ) from failed
    return "/".join(p for p in (answer.subfolder, answer.name) if p)


def _sent(server: Server, file: BinaryIO, size: int) -> Iterator[bytes]:
    """A file as it is sent: videos may be larger than memory."""
    left = size
    try:
        while left and (piece := file.read(min(_PIECE, left))):
            server.patience(1)
            left -= len(piece)
            yield piece
    except OSError as failed:
        raise _unreadable(file.name, failed) from failed
    if left:
        raise WorkflowError(f"{file.name} became smaller while it was sent. Try again.")


def _unreadable(path: str | Path, failed: OSError) -> WorkflowError:
    return WorkflowError(f"{path} cannot be read ({failed}).")


def view(server: Server, file: Mapping[str, str]) -> Iterator[bytes]:
    """The content of a file that a server tells of in its history, in pieces.

    Args:
        file: `filename`, `subfolder` and `type`.

    Raises:
        UnreachableError, RefusedError, AnswerError: as said there.
    """
    query = parse.urlencode(file)
    asked = request.Request(f"{server.url}/view?{query}")
    return _pieces(server, _opened(server, asked, _STALLED), asked.full_url, _MOST_FILE)


def has(server: Server, name: str, usual: str = "input") -> bool:
    """Whether a server has a file that a workflow names: "sub/a.png", "a.png [output]".

    Args:
        usual: the folder where the name says none.

    Raises:
        UnreachableError, LateError: as said there.
    """
    path, kind = in_folder(name, usual)
    folder, _, file = path.replace("\\", "/").rpartition("/")
    query = parse.urlencode({"filename": file, "subfolder": folder, "type": kind})
    try:
        _opened(server, request.Request(f"{server.url}/view?{query}"), 30).close()
    except RefusedError:
        return False
    return True


def _json(server: Server, req: request.Request, shape: type[T], timeout: float = 30) -> T:
    response = _opened(server, req, timeout)
    deadline = min(time.monotonic() + _MOST_SECONDS, server.until)
    content = b"".join(_pieces(server, response, req.full_url, _MOST_JSON, deadline))
    try:
        return checked(parse_json(content), shape, req.full_url)
    except JsonError as wrong:
        kind = response.headers.get_content_type()
        page = content.lstrip()[:1] == b"<" or "html" in kind
        what = "a web page, perhaps of a login," if page else "something"
        raise AnswerError(
            f"{shorten(req.full_url, 200)} answers, but with {what} that is not ComfyUI's JSON: "
            f"{wrong}. Is that the address of a ComfyUI, without anything before it?"
        ) from wrong


def _opened(server: Server, req: request.Request, timeout: float) -> HTTPResponse:
    for name, value in server.headers.items():
        req.add_unredirected_header(name, value)
    with _in_words(server, req.full_url):
        try:
            return server.opener.open(req, timeout=server.patience(timeout))
        except error.HTTPError as refused:
            raise _refusal(server, req.full_url, refused) from refused


@contextmanager
def _in_words(server: Server, url: str) -> Iterator[None]:
    """Whatever fails on the way is a sentence."""
    try:
        yield
    except WorkflowError:
        raise
    except (error.URLError, HTTPException, OSError, ValueError) as failed:
        server.patience(1)  # it was not waited for any longer
        raise UnreachableError(_on_the_way(shorten(url, 200), failed)) from failed


def _on_the_way(url: str, failed: Exception) -> str:
    why = failed.reason if isinstance(failed, error.URLError) else failed
    if isinstance(why, ssl.SSLCertVerificationError):
        return (
            f"The certificate of {url} is not trusted ({shorten(why.verify_message, 200)}). If the "
            "server is yours, name its certificate with --ca-file, or trust any with --insecure."
        )
    if isinstance(why, ssl.SSLError):
        return (
            f"{url} does not speak TLS as it should ({shorten(why.reason or why, 200)}). Does its "
            "address begin with http:// instead?"
        )
    # Of a proxy whose address is wrong, the library shows all of it.
    shown = re.sub(r"\S*@", "...@", str(why))
    return f"No ComfyUI answers at {url} ({shorten(shown, 200)}). Start it, or run with --embedded."


def _pieces(
    server: Server, response: HTTPResponse, url: str, most: int, deadline: float = float("inf")
) -> Iterator[bytes]:
    """The content of an answer."""
    size = 0
    with response:
        while True:
            with _in_words(server, url):
                # `read1` gives back what has come: `read` waits for all, however slowly it drips.
                piece = response.read1(_PIECE)
            if not piece:
                break
            size += len(piece)
            if size > most or time.monotonic() > deadline:
                server.patience(1)
                much = f"more than {most >> 20} MiB" if size > most else "for minutes"
                raise AnswerError(
                    f"{shorten(url, 200)} answers {much}, which no ComfyUI does here."
                )
            yield piece
        declared = response.headers.get("Content-Length", "")
        if declared.isdecimal() and size < int(declared[:20]):
            with _in_words(server, url):
                raise OSError(f"the answer ended after {size} of {shorten(declared, 20)} bytes")


def _refusal(server: Server, url: str, refused: error.HTTPError) -> WorkflowError:
    shown = shorten(url, 200)
    if 300 <= refused.code < 400:
        # What stands behind a question mark there may open somebody's door.
        to = shorten(refused.headers.get("Location", "elsewhere").partition("?")[0], 200)
        return AnswerError(
            f"{shown} sends on to {to}, and nothing is sent there unasked. If your ComfyUI is "
            "there, give that address."
        )
    if refused.code in {502, 503, 504}:
        return UnreachableError(
            f"{shown} answered {refused.code}: what is before the ComfyUI cannot reach it just now."
        )
    try:
        content = refused.read(_PIECE)
    except (HTTPException, OSError, ValueError):
        content = b""
    try:
        answer = parse_json(content)
    except JsonError:
        answer = content[:500].decode(errors="replace")
    advice = ""
    if refused.code in {401, 403}:
        known = server.headers
        advice = (
            f" The server does not accept the {' and '.join(sorted(known))} that was sent."
            if known
            else " The server wants a login: give it as https://user:password@host, or with "
            "--header."
        )
    elif refused.code == 413:
        advice = " The file is larger than it takes: start the ComfyUI with --max-upload-size."
    return RefusedError(url, refused.code, answer if answer != "" else "nothing more", advice)
