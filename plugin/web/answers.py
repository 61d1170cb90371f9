"""Values as JSON answers."""

from __future__ import annotations

import asyncio
import logging
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Any
from urllib.parse import quote

import orjson
from sanic.response import HTTPResponse

from plugin.web.endpoint import Call

log = logging.getLogger(__name__)

_TIME_FIELDS = ("at", "waiting_since")


def plain(value: Any, name: str = "") -> Any:
    """Dataclasses as objects, enums as their values, stored times (microseconds) as ISO 8601 in UTC."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name), f.name) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(plain(k)): plain(v, str(plain(k))) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and (name in _TIME_FIELDS or name.endswith("_at")):
        return datetime.fromtimestamp(value / 1_000_000, timezone.utc).isoformat().replace("+00:00", "Z")
    return value


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> HTTPResponse:
    return HTTPResponse(orjson.dumps(plain(value)), status=status, headers=headers, content_type="application/json")


async def stream_csv(call: Call, pieces: Iterable[bytes], filename: str) -> None:
    """Send `pieces` one by one as a download. They are made in a thread, some ahead of time, never all at once.

    The first piece is made before the answer starts: an object that doesn't exist is still a 404. What fails later
    can't become an error status any more: the connection is cut, so that no client takes half a file for the whole.
    """
    iterator: Iterator[bytes] = iter(pieces)
    first = await call.run(_take, iterator)
    response = await call.request.respond(
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": _attachment(filename)},
    )
    piece = first
    try:
        while piece:
            await response.send(piece)
            await asyncio.sleep(0)  # a fast client must not keep Rasa's loop to itself
            piece = await call.run(_take, iterator)
    except Exception:
        log.exception("the download %s broke off", call.request.path)
        cut: Any = call.request.transport
        cut.abort()
        return
    await response.eof()


def _take(iterator: Iterator[bytes], size: int = 64 * 1024) -> bytes:
    """At least `size` bytes of the rest, b"" at the end: one thread switch for many small pieces."""
    parts, length = [], 0
    for piece in iterator:
        parts.append(piece)
        length += len(piece)
        if length >= size:
            break
    return b"".join(parts)


def _attachment(filename: str) -> str:
    """RFC 6266: an ASCII name for old clients and the real one. Nothing of it reaches the header unescaped."""
    folded = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode()
    ascii_name = "".join(c for c in folded if c.isalnum() or c in " ._-")
    return f"attachment; filename=\"{ascii_name or 'download.csv'}\"; filename*=UTF-8''{quote(filename, safe='')}"
