"""The session cookie. Sanic's own parser unquotes and decodes what anybody sends; ours reads one name and one shape."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from sanic.request import Request

# 32 random bytes as URL-safe base64 without padding.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


def is_secure(public_url: str) -> bool:
    return urlsplit(public_url).scheme == "https"


def cookie_name(public_url: str) -> str:
    """`__Host-` (which browsers accept over https only) wherever possible."""
    return "__Host-vamos" if is_secure(public_url) else "vamos"


def read_token(request: Request, public_url: str) -> str | None:
    """The session token, or None. Two different ones mean that somebody planted a cookie: then there is none."""
    wanted = cookie_name(public_url)
    found: set[str] = set()
    for header in request.headers.getall("cookie", []):
        for part in header.split(";"):
            name, equals, value = part.strip(" \t").partition("=")
            if equals and name == wanted and _TOKEN.fullmatch(value):
                found.add(value)
    return found.pop() if len(found) == 1 else None


def set_cookie(public_url: str, token: str, seconds: int) -> str:
    """The Set-Cookie header; an empty token with 0 seconds removes it."""
    secure = "; Secure" if is_secure(public_url) else ""
    return f"{cookie_name(public_url)}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
