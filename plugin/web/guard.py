"""What protects the server before any handler of ours runs.

Sanic 21.12 (Rasa's pin) reads request heads leniently: a negative Content-Length freezes the connection, duplicate
lengths and length plus chunked are accepted. And Rasa's `--cors "*"` answers every origin with credentials allowed,
on every route of the server. Both are closed here, from inside a blueprint, without touching Rasa's code.
"""

from __future__ import annotations

import re
from typing import Any

from httptools import HttpParserError, parse_url
from sanic import Sanic
from sanic.exceptions import InvalidUsage
from sanic.request import Request

from plugin.web.connections import Connections

# RFC 9112 §3, without the forms that only proxies are asked with. Other bytes than ASCII must be percent-encoded.
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} (/[\x21-\x7e]*|\*) HTTP/1\.[01]")
# RFC 9110 §5.6.2 (token); a length of more than 18 digits is an attack, not a file.
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_FORBIDDEN_BYTES = re.compile(rb"[\r\n\0]")

#: Every answer under the prefix carries these. No inline script or style, nothing from or to another host.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def check_head(head: bytes) -> None:
    """Refuse a request head that isn't one, or whose body length two servers could read differently (RFC 9112 §6.3,
    §11.2).

    Raises:
        InvalidUsage: answered with 400, and the connection closes.
    """
    first, *lines = head.split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise InvalidUsage("Bad Request")
    try:
        parse_url(line[1])
    except HttpParserError:
        raise InvalidUsage("Bad Request") from None
    lengths: list[bytes] = []
    codings: list[bytes] = []
    hosts = 0
    for field in lines:
        name, colon, value = field.partition(b":")
        if not colon or not _NAME.fullmatch(name) or _FORBIDDEN_BYTES.search(field):
            raise InvalidUsage("Bad Request")
        name, value = name.lower(), value.strip(b" \t")
        if name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
        elif name == b"host":
            hosts += 1
    if len(lengths) + len(codings) > 1 or hosts > 1:
        raise InvalidUsage("Bad Request")
    # Sanic compares the coding literally: anything but this spelling would be read as "no body".
    if (lengths and not _LENGTH.fullmatch(lengths[0])) or (codings and codings[0] != b"chunked"):
        raise InvalidUsage("Bad Request")


def under(path: str, prefix: str) -> bool:
    """Whether `path` is the prefix or below it."""
    return path == prefix or path.startswith(prefix + "/")


def install(app: Sanic, prefix: str) -> None:
    """Register the guards with the server: connections and heads for all its routes, the CORS isolation for ours."""
    connections = Connections()

    async def begin(**_: Any) -> None:
        connections.begin()

    async def guard_head(head: bytes = b"", **_: Any) -> None:
        http = connections.head_is_complete()
        try:
            check_head(head)
        except InvalidUsage:
            if http is not None:
                http.url = None  # its answer is built around the address, which may be what is wrong with the head
            raise

    async def isolate(request: Request | None = None, **_: Any) -> None:
        # sanic-cors leaves a request alone that it believes to have handled: the names are its own (core.py).
        if request is not None and under(request.path, prefix):
            request.ctx._sanic_cors_e = "1"
            request.ctx._sanic_cors_srm = True

    app.signal("http.lifecycle.begin")(begin)
    app.signal("http.lifecycle.read_head")(guard_head)
    # Before routing: after it would miss the preflight.
    app.signal("http.routing.before")(isolate)
