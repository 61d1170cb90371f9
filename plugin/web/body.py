"""Reading request bodies ourselves: counted, with a deadline, and only after the caller is known.

Sanic would buffer up to 100 MB before any handler runs, so every route with a body is declared `stream=True`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import orjson
from sanic.exceptions import InvalidUsage, SanicException
from sanic.request import Request

from plugin.errors import Invalid

T = TypeVar("T")

JSON_LIMIT = 256 * 1024
JSON_SECONDS = 15.0
UPLOAD_SECONDS = 600.0
_WRITE_AT = 1024 * 1024
_SUFFIX = ".upload"
#: Files of a process that died are kept at most so long (seconds).
STALE_AFTER = 24 * 3600
#: RFC 9112 §7.1; Sanic's own `int(size, 16)` would also take "+5", "0x5", "1_0" and a sign.
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}(?:[ \t]*;[^\r\n]*)?")
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
        WrongType, TooLarge, TooSlow; the file is gone then, as it is when the caller hangs up.
    """
    spool = _Spool(folder)
    pending = bytearray()
    try:
        await settled(run(spool.open))
        async for chunk in _chunks(request, limit, seconds):
            pending += chunk
            if len(pending) >= _WRITE_AT:
                await settled(run(spool.write, bytes(pending)))
                pending.clear()
        return await settled(run(spool.finish, bytes(pending)))
    except BaseException:
        await settled(run(spool.discard))
        raise


async def settled(work: Awaitable[T]) -> T:
    """The result of `work`. Whoever is cancelled meanwhile stays until it is over: a thread can't be called back,
    and what it works on must not be closed, removed or counted as free under its hands.
    """
    job = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        while not job.done():
            try:
                await asyncio.wait({job})
            except asyncio.CancelledError:
                continue
        if not job.cancelled():
            job.exception()  # seen; the cancellation is what goes on
        raise


def remove_stale(folder: Path) -> int:
    """Delete what uploads of a dead process left behind; returns how many files."""
    removed = 0
    for path in folder.glob(f"*{_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # another worker was quicker
            if path.stat().st_mtime < time.time() - STALE_AFTER:
                path.unlink()
                removed += 1
    return removed


class _Spool:
    """A new file and its checksum. One job at a time works on it; only the last of them closes it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{secrets.token_hex(16)}{_SUFFIX}"
        self._digest = hashlib.sha256()
        self._size = 0
        self._file: BinaryIO | None = None

    def open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    def write(self, data: bytes) -> None:
        assert self._file is not None
        self._digest.update(data)
        self._size += len(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def finish(self, data: bytes) -> Received:
        self.write(data)
        self._close()
        return Received(self.path, self._digest.hexdigest(), self._size)

    def discard(self) -> None:
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()


async def refuse(request: Request) -> None:
    """Give up on the rest of the body; the connection closes after the answer, unread megabytes stay unread."""
    stream = request.stream
    if stream is None or not stream.request_body:
        return
    if stream.expecting_continue:
        # Reading would invite the client to send, and so would the 100 that Sanic puts before a final answer.
        stream.expecting_continue = False
    else:
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
            chunk = await asyncio.wait_for(_read(stream), max(0.0, until - loop.time()))
        except asyncio.TimeoutError:
            raise TooSlow(f"The body took more than {seconds:g} s to arrive.", "Try a faster connection.") from None
        if chunk is None:
            return
        read += len(chunk)
        if read > limit:
            raise too_large
        yield chunk


async def _read(stream: Any) -> bytes | None:
    """`stream.read()`, the size of a chunk checked beforehand.

    Only the desk's own routes come by here. Those of Rasa read chunks as leniently as Sanic does: a proxy in front of
    the server should hand on bodies with a length.
    """
    if stream.expecting_continue:
        stream.expecting_continue = False
        await stream.protocol.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    if stream.request_body == "chunked" and not stream.request_bytes_left:
        head = stream.recv_buffer  # CRLF, size, CRLF
        while (end := head.find(b"\r\n", 3)) < 0 and len(head) <= 64:
            await stream._receive_more()
        if end < 0 or not head.startswith(b"\r\n") or not _CHUNK_SIZE.fullmatch(head[2:end]):
            stream.keep_alive, stream.request_body = False, None
            raise InvalidUsage("Bad chunked encoding")
    data: bytes | None = await stream.read()
    return data


def _size(limit: int) -> str:
    return f"{limit // (1024 * 1024)} MB" if limit >= 1024 * 1024 else f"{limit // 1024} kB"
