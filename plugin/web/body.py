"""Reading request bodies ourselves: counted, with a deadline, and only after the caller is known.

Sanic would buffer up to 100 MB before any handler runs, so every route with a body is declared `stream=True`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from sanic.exceptions import SanicException
from sanic.request import Request

from plugin.errors import Invalid

JSON_LIMIT = 256 * 1024
JSON_SECONDS = 15.0
UPLOAD_SECONDS = 600.0
_WRITE_AT = 1024 * 1024
#: After a refusal this much is read and thrown away, so that the client gets to see the answer.
_LINGER_BYTES, _LINGER_SECONDS = 512 * 1024, 1.0


class TooLarge(Invalid):
    """The body has more bytes than allowed (413)."""

    code = "too_large"


class TooSlow(Invalid):
    """The body did not arrive in time (408)."""

    code = "too_slow"


class WrongType(Invalid):
    """The body's media type or coding is not the one the route takes (415)."""

    code = "unsupported_media_type"


@dataclass(frozen=True)
class Received:
    """A body on disk. The caller removes `path`."""

    path: Path
    sha256: str
    size: int


async def read_json(request: Request) -> dict[str, Any]:
    """The JSON object in the body.

    Raises:
        WrongType, TooLarge, TooSlow, Invalid.
    """
    media_type = request.headers.getone("content-type", "").split(";", 1)[0].strip().lower()
    if media_type != "application/json":
        # Also what stops a plain HTML form of another site.
        raise WrongType("The body must be JSON.", "Send Content-Type: application/json.")
    data = bytearray()
    async for chunk in _chunks(request, JSON_LIMIT, JSON_SECONDS):
        data += chunk
    try:
        value = orjson.loads(bytes(data))
    except orjson.JSONDecodeError as error:
        raise Invalid(f"The body is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise Invalid("The body must be a JSON object.")
    return value


async def read_nothing(request: Request) -> None:
    """Refuse a body where none belongs; read away an empty one."""
    async for _ in _chunks(request, 0, JSON_SECONDS):
        pass


async def receive_file(
    request: Request, folder: Path, limit: int, run: Callable[..., Awaitable[Any]], seconds: float = UPLOAD_SECONDS
) -> Received:
    """Stream the body into a new file of `folder`, readable by the owner only. Memory stays flat.

    Args:
        limit: bytes.
        run: runs a blocking call in a thread.

    Raises:
        WrongType, TooLarge, TooSlow; the file is gone then.
    """
    path = folder / f"{secrets.token_hex(16)}.upload"

    def create() -> int:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    descriptor = await run(create)
    digest, size, pending = hashlib.sha256(), 0, bytearray()

    def flush(data: bytes) -> None:
        digest.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    try:
        async for chunk in _chunks(request, limit, seconds):
            size += len(chunk)
            pending += chunk
            if len(pending) >= _WRITE_AT:
                await run(flush, bytes(pending))
                pending.clear()
        await run(flush, bytes(pending))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return Received(path, digest.hexdigest(), size)


async def refuse(request: Request) -> None:
    """Give up on the rest of the body; the connection closes after the answer, unread megabytes stay unread."""
    stream = request.stream
    if stream is None or not stream.request_body:
        return
    if not stream.expecting_continue:  # else reading would invite the client to send
        try:
            async for _ in _chunks(request, _LINGER_BYTES, _LINGER_SECONDS, strict=False):
                pass
        except (Invalid, SanicException):
            pass  # the refusal that brought us here is the one to report
    if stream.request_body:
        stream.keep_alive = False
        stream.request_body = None


async def _chunks(request: Request, limit: int, seconds: float, strict: bool = True) -> AsyncIterator[bytes]:
    stream = request.stream
    if stream is None:
        return
    if strict and request.headers.getone("content-encoding", "identity").lower() != "identity":
        raise WrongType("Compressed bodies are not accepted.", "Send it without Content-Encoding.")
    too_large = TooLarge(f"The body is larger than {_size(limit)}.", "Send less, or split it.", field="body")
    declared = request.headers.getone("content-length", "0")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    loop = asyncio.get_running_loop()
    until, read = loop.time() + seconds, 0
    while stream.request_body:
        try:
            chunk = await asyncio.wait_for(stream.read(), max(0.0, until - loop.time()))
        except asyncio.TimeoutError:
            raise TooSlow(f"The body took more than {seconds:g} s to arrive.", "Try a faster connection.") from None
        if chunk is None:
            return
        read += len(chunk)
        if read > limit:
            raise too_large
        yield chunk


def _size(limit: int) -> str:
    return f"{limit // (1024 * 1024)} MB" if limit >= 1024 * 1024 else f"{limit // 1024} kB"
