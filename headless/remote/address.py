"""Where a ComfyUI is, and what opens its door."""

import base64
import math
import re
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib import parse, request

from ...core.errors import shorten
from ..workflows.endings import LateError
from ..workflows.workflow_file import WorkflowError
from .connection import opener

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = {"content-length", "content-type", "transfer-encoding", "connection", "upgrade"}


@dataclass(frozen=True)
class Server:
    """A ComfyUI's address. Passwords are in `headers` alone, which nothing shows."""

    url: str
    """Without a slash at its end, and without a user's name and password."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent along with every request."""
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    """Which certificates are trusted; None: those that the system trusts."""
    until: float = math.inf
    """When nothing is waited for any more, by `time.monotonic()`."""

    @classmethod
    def of(
        cls,
        given: "str | Server",
        headers: Iterable[str] = (),
        *,
        ca_file: Path | None = None,
        insecure: bool = False,
    ) -> "Server":
        """A server by its address as people write it, such as localhost:8188.

        Args:
            given: may begin with a user's name and password, https://ada:secret@host; they are sent
                by HTTP's basic authentication.
            headers: "Name: value" each.
            ca_file: certificates (PEM) that are trusted besides the system's.
            insecure: any certificate is trusted.

        Raises:
            WorkflowError: no address of a web server, no header, or no certificates.
        """
        if isinstance(given, Server):
            return given
        url, login = _parted(given)
        found = _headers(headers)
        if login is not None:
            if "Authorization" in found:
                raise WorkflowError(
                    "The address has a user name, and a header Authorization is given, too. Leave "
                    "one of them out."
                )
            found["Authorization"] = f"Basic {base64.b64encode(login).decode()}"
        return cls(url, found, _tls(ca_file, insecure=insecure))

    def __str__(self) -> str:
        return self.url

    @cached_property
    def opener(self) -> request.OpenerDirector:
        return opener(parse.urlsplit(self.url).hostname or "", self.tls)

    def patience(self, seconds: float) -> float:
        """As many seconds, or as there are left.

        Raises:
            LateError: none are.
        """
        left = self.until - time.monotonic()
        if left <= 0:
            raise LateError(f"The ComfyUI at {self} gave no result in time.")
        return min(seconds, left)


def _parted(given: str) -> tuple[str, bytes | None]:
    """The address alone, and "user:password" where it has them."""
    url = given.strip()
    url = (url if "://" in url else f"http://{url}").rstrip("/")
    scheme, _, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    url = f"{scheme}://{place}"
    try:
        parts = parse.urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    # A password with a slash or a sharp in it has to be written with %2F and %23.
    good = good and not set("/?#\\") & set(user) and not set(" ?#\\") & set(url)
    if not good or not url.isascii() or not url.isprintable():
        shown = f"{scheme}://...@{place}" if at else given
        raise WorkflowError(
            f"{shorten(shown)!r} is no address of a ComfyUI. Write it as http://127.0.0.1:8188 or "
            "https://user:password@host; other than letters and digits in a password are written "
            "as % and two digits, / as %2F."
        )
    return url, parse.unquote_to_bytes(user if ":" in user else f"{user}:") if at else None


def _headers(given: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in given:
        name, colon, value = line.partition(":")
        name, value = name.strip(), value.strip()
        shown = shorten(name, 40) if colon else "without a colon"  # a value may be a secret
        wrong = ""
        if not colon or not _TOKEN.fullmatch(name):
            wrong = "is no header. Write it as 'Name: value'"
        elif name.lower() in _OURS:
            wrong = "is set by the request itself. Leave it out"
        elif not value.isascii() or not value.isprintable():
            wrong = "has characters in its value that no header can hold"
        elif name.title() in found:
            wrong = "is given twice. Leave one of them out"
        if wrong:
            raise WorkflowError(f"The header {shown} {wrong}.")
        found[name.title()] = value
    return found


def _tls(ca_file: Path | None, *, insecure: bool) -> ssl.SSLContext | None:
    if ca_file is None and not insecure:
        return None
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # also of a file that holds no certificate
            raise WorkflowError(
                f"{shorten(ca_file, 200)} cannot be used as certificates ({error.strerror or error}"
                "). It has to be a PEM file: -----BEGIN CERTIFICATE----- and so on."
            ) from error
    return context
