"""httpx's API over aiohttp's connections: the one HTTP client of the connectors.

httpcore's pool is quadratic in the number of waiting requests (encode/httpcore#1035). With 100 in flight at a provider
that takes 100 ms, a core shared with others did 37 requests/s (13 ms of CPU each) through plain httpx and 450 (0.65 ms)
through this. The connectors keep httpx's client, exceptions and `MockTransport`; only the wire is aiohttp's.

It serves *configured* providers only: no cookies, no redirects, answers capped. Addresses given by operators (webhooks
out, media) don't belong here.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import ssl
import time
import weakref
import zlib
from collections import deque
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import aiohttp
import httpx
import yarl

#: Larger request bodies are written in pieces of this size, so that a peer that stops reading hits the write timeout.
#: A smaller body fits into the transport's buffer at once and has no write phase.
_PIECE = 64 * 1024

#: Idle connections are dropped before a provider's front end would do it (60 s and more are usual).
_KEEPALIVE = 30.0


class AnswerTooLarge(httpx.RemoteProtocolError):
    """The answer passed `max_answer` bytes, as sent or after decompression."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """An httpx transport that may be created anywhere and opens its connections on the loop that first uses it.

    Every failure is the httpx exception of its phase. `PoolTimeout`, `ConnectTimeout`, `ConnectError` and `ProxyError`
    mean that not one byte of the request left; every other `httpx.TransportError` means that some may have.

    Nothing is sent twice: a pooled connection that the peer has closed meanwhile is noticed and replaced *before* the
    request is written; once bytes have left, a lost connection is an error.

    The request's extension ``not_after`` (time.monotonic()) is looked at when a connection is at hand, right before
    the first byte: later, it is a `ConnectTimeout`. So a process that was frozen does not send what is no longer its.

    The read timeout is between two pieces of an answer: how long a whole exchange may take is its caller's to say (the
    dispatcher's `HANG_SECONDS`).

    Args:
        limit: connections, and so requests, at a time; further requests wait for `timeout["pool"]` seconds.
        tls: TLS context; None takes httpx's default (certifi, SSL_CERT_FILE).
        proxy: URL of an HTTP proxy, credentials included if it wants any.
        max_answer: bytes of an answer's body, also after decompression.
    """

    def __init__(
        self,
        *,
        limit: int = 100,
        tls: ssl.SSLContext | None = None,
        proxy: str | None = None,
        max_answer: int = 4 * 1024 * 1024,
    ) -> None:
        self._limit = limit
        self._tls = tls
        self._proxy = proxy
        self._max_answer = max_answer
        self._pool: _Pool | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and read the whole answer.

        Raises:
            httpx.TransportError: see the class.
        """
        content = await request.aread()
        timeout: dict[str, float | None] = request.extensions.get("timeout", {})
        pool = await self._current_pool()
        if not await pool.slots.take(timeout.get("pool")):
            raise httpx.PoolTimeout(f"No free connection within {timeout.get('pool')} s.", request=request)
        if pool.session.closed:
            pool.slots.give()
            raise httpx.PoolTimeout("The transport was closed while the request waited.", request=request)
        exchange = _Exchange(
            timeout.get("write"),
            timeout.get("read"),
            whole=len(content) <= _PIECE,
            not_after=request.extensions.get("not_after"),
        )
        token = _exchange.set(exchange)
        try:
            return await self._exchange(pool.session, request, content, exchange, timeout.get("connect"))
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise _translated(error, exchange, request) from error
        finally:
            _exchange.reset(token)
            exchange.stop()
            pool.slots.give()

    async def _exchange(
        self,
        session: aiohttp.ClientSession,
        request: httpx.Request,
        content: bytes,
        exchange: _Exchange,
        connect: float | None,
    ) -> httpx.Response:
        # `raw` rather than `items()`: httpx finds out the headers' encoding again for each of them.
        raw = request.headers.raw
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw if _passes(name)]
        if request.url.scheme == "https" and self._tls is None:
            self._tls = httpx.create_ssl_context()  # reads the certificates: 20 ms, so only once https is wanted
        data: Any = content or None
        if not exchange.whole:
            data = _pieces(content, exchange)
            headers.append(("Content-Length", str(len(content))))
        async with session.request(
            request.method,
            yarl.URL(str(request.url), encoded=True),
            headers=headers,
            data=data,
            allow_redirects=False,
            proxy=self._proxy,
            ssl=self._tls or True,
            timeout=aiohttp.ClientTimeout(total=None, connect=connect, sock_connect=connect),
        ) as answer:
            body = bytearray()
            async for piece in answer.content.iter_any():
                exchange.reading()
                body += piece
                if len(body) > self._max_answer:
                    answer.close()
                    raise AnswerTooLarge(f"The answer is larger than {self._max_answer} bytes.", request=request)
            # httpx's client would keep the cookies and give them back.
            fields = httpx.Headers([field for field in answer.raw_headers if field[0].lower() != b"set-cookie"])
            plain = self._decompressed(bytes(body), fields, request)
            return httpx.Response(answer.status, headers=fields, content=plain, request=request)

    def _decompressed(self, body: bytes, headers: httpx.Headers, request: httpx.Request) -> bytes:
        """`body` without its content coding. We ask for none; a front end that compresses anyway is capped too."""
        coding = headers.pop("content-encoding", "identity").strip().lower()
        if coding in ("identity", "") or not body:
            return body
        if coding not in ("gzip", "x-gzip", "deflate"):
            raise httpx.RemoteProtocolError(f"Content coding {coding!r} was not asked for.", request=request)
        decoder = zlib.decompressobj(wbits=47 if "gzip" in coding else zlib.MAX_WBITS)
        try:
            plain = decoder.decompress(body, self._max_answer + 1)
        except zlib.error as error:
            raise httpx.RemoteProtocolError(f"The answer's {coding} data is broken.", request=request) from error
        if len(plain) > self._max_answer:
            raise AnswerTooLarge(f"The answer unpacks to more than {self._max_answer} bytes.", request=request)
        headers.pop("content-length", None)
        return plain

    async def _current_pool(self) -> _Pool:
        """The pool of the running loop. A pool left by another loop is closed there, or dropped with its loop."""
        loop = asyncio.get_running_loop()
        if self._pool is not None and self._pool.loop is not loop:
            await self.aclose()
        if self._pool is None:
            self._pool = _Pool(loop, self._limit)
        return self._pool

    async def aclose(self) -> None:
        """Close all connections. A later request opens new ones."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        if pool.loop is asyncio.get_running_loop():
            await pool.session.close()
        elif pool.loop.is_closed():
            pool.session.detach()  # its sockets went with the loop
        else:
            asyncio.run_coroutine_threadsafe(pool.session.close(), pool.loop)


def _passes(name: bytes) -> bool:
    """aiohttp writes the others itself; compressed answers are not wanted."""
    return name.lower() not in (b"accept-encoding", b"content-length", b"transfer-encoding")


class _Pool:
    """What belongs to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        self.loop = loop
        self.slots = _Slots(limit)
        self.session = aiohttp.ClientSession(
            connector=_Connector(),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            headers={"Accept-Encoding": "identity"},
        )


class _Slots:
    """A first-come semaphore with a timeout. asyncio's can lose a slot when a waiter is cancelled (Python < 3.11)."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: deque[asyncio.Future[bool]] = deque()

    async def take(self, timeout: float | None) -> bool:
        """Wait for a slot; False when `timeout` seconds passed first."""
        if self._free:
            self._free -= 1
            return True
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(mine)
        expiry = None if timeout is None else loop.call_later(timeout, _settle, mine, False)
        try:
            return await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled() and mine.result():
                self.give()  # the slot came in the same turn as the cancellation
            raise
        finally:
            if expiry is not None:
                expiry.cancel()

    def give(self) -> None:
        """Hand the slot to the longest waiting request, or keep it."""
        while self._waiting:
            if _settle(self._waiting.popleft(), True):
                return
        self._free += 1


def _settle(future: asyncio.Future[bool], value: bool) -> bool:
    if future.done():
        return False
    future.set_result(value)
    return True


class _Exchange:
    """How far one request got, and the timer of its present phase.

    aiohttp has no write timeout, and starts its read timeout before a body is written; so both are ours. When a timer
    fires the connection is aborted, and the error that aiohttp then raises is told apart by `expired`.
    """

    def __init__(self, write: float | None, read: float | None, *, whole: bool, not_after: float | None = None) -> None:
        self.whole = whole
        self.not_after = not_after
        self.connected = False
        self.written = False
        self.expired: str | None = None
        self._timeouts = {"write": write, "read": read}
        self._transport: asyncio.BaseTransport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def on_connected(self, transport: asyncio.BaseTransport) -> None:
        self.connected = True
        self._transport = transport
        if self.whole:
            self.on_written()
        else:
            self.writing()

    def on_written(self) -> None:
        self.written = True
        self._start("read")

    def writing(self) -> None:
        self._start("write")

    def reading(self) -> None:
        self._start("read")

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, phase: str) -> None:
        self.stop()
        seconds = self._timeouts[phase]
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._expire, phase)

    def _expire(self, phase: str) -> None:
        self.expired = phase
        if isinstance(self._transport, asyncio.WriteTransport):
            self._transport.abort()


_exchange: ContextVar[_Exchange] = ContextVar("vamos_http_exchange")


class _Connector(aiohttp.TCPConnector):
    """Hands out connections that are alive, and tells the exchange the moment before its first byte is written."""

    def __init__(self) -> None:
        # The limit is held by `_Slots`, where waiting can be told from connecting.
        super().__init__(limit=0, keepalive_timeout=_KEEPALIVE)
        self._used: weakref.WeakSet[Any] = weakref.WeakSet()

    async def connect(self, req: Any, traces: Any, timeout: aiohttp.ClientTimeout) -> aiohttp.connector.Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            transport, protocol = connection.transport, connection.protocol
            # An idle connection has nothing to read, except the peer's goodbye that our loop has not come to yet.
            if protocol in self._used and (transport is None or transport.is_closing() or _has_input(transport)):
                connection.close()
                continue
            if transport is None:
                connection.close()
                raise aiohttp.ClientConnectionError("The connection was lost while it was being opened.")
            self._used.add(protocol)
            exchange = _exchange.get()
            if exchange.not_after is not None and time.monotonic() > exchange.not_after:
                connection.release()
                raise asyncio.TimeoutError
            exchange.on_connected(transport)
            return connection


def _has_input(transport: asyncio.BaseTransport) -> bool:
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def _pieces(content: bytes, exchange: _Exchange) -> AsyncIterator[bytes]:
    view = memoryview(content)
    for start in range(0, len(view), _PIECE):
        exchange.writing()
        yield bytes(view[start : start + _PIECE])
    exchange.on_written()


def _translated(error: BaseException, exchange: _Exchange, request: httpx.Request) -> httpx.TransportError:
    """The httpx exception of the phase in which `error` came."""
    text = _in_words(error)
    if exchange.expired == "write":
        return httpx.WriteTimeout("The peer stopped reading the request.", request=request)
    if exchange.expired == "read":
        return httpx.ReadTimeout("No answer in time.", request=request)
    if not exchange.connected:
        if isinstance(error, asyncio.TimeoutError):
            return httpx.ConnectTimeout("No connection in time.", request=request)
        if isinstance(error, (aiohttp.ClientHttpProxyError, aiohttp.ClientProxyConnectionError)):
            return httpx.ProxyError(text, request=request)
        return httpx.ConnectError(text, request=request)
    if isinstance(error, OSError) and not isinstance(error, aiohttp.ServerDisconnectedError):
        broken = httpx.ReadError if exchange.written else httpx.WriteError
        return broken(text, request=request)
    return httpx.RemoteProtocolError(text, request=request)


def _in_words(error: BaseException) -> str:
    """What went wrong, for people: aiohttp's own texts hold tuples, objects and class names."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = error.certificate_error
        return (
            f"the certificate of {error.host}:{error.port} is not trusted: {getattr(reason, 'verify_message', reason)}"
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        cause, peer = error.os_error, f"{error.host}:{error.port}"
        if isinstance(cause, socket.gaierror):
            return f"the address of {error.host} was not found: {cause.strerror}"
        if cause.errno == errno.ECONNREFUSED:
            return f"connection refused by {peer}"
        if isinstance(cause, ssl.SSLError):
            return f"no TLS connection to {peer}: {cause.reason or 'the handshake failed'}"
        return f"no connection to {peer}: {os.strerror(cause.errno).lower() if cause.errno else cause}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the peer closed the connection without an answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer ended early or is damaged"
    if isinstance(error, aiohttp.ClientResponseError):
        return error.message.partition("\n")[0].rstrip(":") or "the answer is not HTTP"
    if isinstance(error, aiohttp.InvalidURL):  # the request's own was looked at by httpx
        return "the proxy's address can't be used"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__
