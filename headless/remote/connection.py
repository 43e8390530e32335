"""How requests reach a web server, with the standard library only.

The package `requests` would read an answer that redirects to its end, however long, unpack what is
compressed, add the passwords of ~/.netrc and hold an upload in memory; to keep it from all that
takes as many lines.
"""

import http.client
import ipaddress
import ssl
from collections.abc import Mapping
from typing import Any
from urllib import request


def opener(host: str, tls: ssl.SSLContext | None) -> request.OpenerDirector:
    """What sends requests to a host. They go to no other one, whatever is answered.

    Proxies are those of the system and of the environment (`https_proxy`, `no_proxy` ...); this
    machine itself is reached without.
    """
    direct = [request.ProxyHandler({})] if _is_here(host) else []
    return request.build_opener(_NoRedirects, _Plain, _Tls(context=tls), *direct)


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _NoRedirects(request.HTTPRedirectHandler):
    """Pictures and passwords are for the address that was given."""

    def redirect_request(self, *args: Any) -> None:
        return None


class _HeardOut:
    """A server may refuse a large upload before it has all of it: what it says counts then."""

    _hung_up = False

    def send(self, data: Any) -> None:
        if self._hung_up:
            return
        try:
            super().send(data)  # type: ignore[misc]
        except (BrokenPipeError, ConnectionResetError):
            self._hung_up = True


class _PlainConnection(_HeardOut, http.client.HTTPConnection):
    pass


class _TlsConnection(_HeardOut, http.client.HTTPSConnection):
    pass


class _Plain(request.HTTPHandler):
    def http_open(self, req: request.Request) -> http.client.HTTPResponse:
        return self.do_open(_PlainConnection, req)


class _Tls(request.HTTPSHandler):
    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__(context=context)
        self._more: Mapping[str, Any] = {} if context is None else {"context": context}

    def https_open(self, req: request.Request) -> http.client.HTTPResponse:
        return self.do_open(_TlsConnection, req, **self._more)
