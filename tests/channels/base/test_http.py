"""The transport against real sockets: a hand-driven asyncio server that can be as rude as a network."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gzip
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from channels.base.http import AiohttpTransport, AnswerTooLarge

Handler = Callable[["Peer", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """A server whose behaviour for each connection is a coroutine of the test."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.connections = 0
        self.requests: list[bytes] = []
        self._server: asyncio.base_events.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.writers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self.handler(self, reader, writer)
        writer.close()

    async def read_request(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        body = await reader.readexactly(length)
        self.requests.append(head + body)
        return body

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


def answer(body: bytes = b"{}", extra: bytes = b"", status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\nContent-Length: " + str(len(body)).encode() + b"\r\n" + extra + b"\r\n" + body


async def polite(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Keep-alive; echoes the body."""
    while True:
        writer.write(answer(await peer.read_request(reader)))
        await writer.drain()


@contextlib.asynccontextmanager
async def peer_of(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    peer = Peer(handler)
    await peer.start(tls)
    try:
        yield peer
    finally:
        await peer.stop()


@contextlib.asynccontextmanager
async def client_of(transport: AiohttpTransport | None = None, **timeouts: float) -> AsyncIterator[httpx.AsyncClient]:
    timeout = httpx.Timeout(5, **timeouts)
    async with httpx.AsyncClient(transport=transport or AiohttpTransport(), timeout=timeout) as client:
        yield client


async def until(condition: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + 5
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "the condition never came true"
        await asyncio.sleep(0.005)


async def test_one_connection_serves_many_requests_and_says_what_httpx_said() -> None:
    async with peer_of(polite) as peer, client_of() as client:
        for number in range(5):
            got = await client.post(peer.url + "v23.0/1/messages?a=b%20c", json={"n": number}, headers={"X-A": "1"})
            assert got.json() == {"n": number}
        assert peer.connections == 1
        head = peer.requests[0].lower()
        assert head.startswith(b"post /v23.0/1/messages?a=b%20c http/1.1")
        assert head.count(b"content-length") == 1
        assert head.count(b"host:") == 1
        assert b"accept-encoding: identity" in head
        assert b"content-type: application/json" in head
        assert b"transfer-encoding" not in head


async def test_cookies_are_neither_kept_nor_returned_and_redirects_are_not_followed() -> None:
    async def handler(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await peer.read_request(reader)
            writer.write(answer(extra=b"Set-Cookie: a=b\r\nLocation: http://127.0.0.1:1/\r\n", status=b"302 Found"))

    async with peer_of(handler) as peer, client_of() as client:
        first = await client.get(peer.url)
        assert first.status_code == 302
        assert "set-cookie" not in first.headers
        await client.get(peer.url)
        assert not client.cookies
        assert b"cookie" not in peer.requests[1].lower()


async def test_a_connection_that_the_peer_closed_while_idle_is_replaced_before_a_byte_leaves() -> None:
    """Also when our loop has not yet seen the peer's goodbye: the case in which aiohttp alone loses the request."""

    async def handler(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(await peer.read_request(reader)))
        await writer.drain()

    listening = threading.Event()
    port: list[int] = []
    closed = threading.Event()

    def serve() -> None:  # in a thread: it closes while the client's loop is blocked
        with socket.create_server(("127.0.0.1", 0)) as server:
            port.append(server.getsockname()[1])
            listening.set()
            for _ in range(2):
                connection, _address = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer(b'{"ok":1}'))
                closed.set()

    thread = threading.Thread(target=serve)
    thread.start()
    assert listening.wait(5)
    async with client_of() as client:
        assert (await client.post(f"http://127.0.0.1:{port[0]}/", content=b"1")).status_code == 200
        assert closed.wait(5)  # blocks the loop on purpose
        assert (await client.post(f"http://127.0.0.1:{port[0]}/", content=b"2")).status_code == 200
    thread.join(5)


async def test_a_connection_lost_after_the_request_left_is_never_retried() -> None:
    async def handler(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.read_request(reader)
        if peer.connections == 1 and len(peer.requests) == 1:
            writer.write(answer())
            await peer.read_request(reader)

    async with peer_of(handler) as peer, client_of() as client:
        await client.post(peer.url, content=b"1")
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(peer.url, content=b"2")
        assert len(peer.requests) == 2


async def test_a_reset_after_the_request_left_is_a_read_error() -> None:
    async def handler(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.read_request(reader)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with peer_of(handler) as peer, client_of() as client:
        with pytest.raises(httpx.ReadError):
            await client.post(peer.url, content=b"1")


async def test_a_refused_connection_and_an_unknown_host_are_connect_errors() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        async with client_of() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://127.0.0.1:{port}/")
            with pytest.raises(httpx.ConnectError):
                await client.get("http://does-not-exist.invalid/")


async def test_a_handshake_that_never_answers_is_a_connect_timeout() -> None:
    async def mute(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    async with peer_of(mute) as peer, client_of(connect=0.1) as client:
        with pytest.raises(httpx.ConnectTimeout):
            await client.get(peer.url.replace("http:", "https:"))


async def test_a_silent_peer_is_a_read_timeout_and_its_connection_is_not_used_again() -> None:
    async def handler(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.read_request(reader)
        if peer.connections == 1:
            await reader.read(-1)
        writer.write(answer())

    async with peer_of(handler) as peer, client_of(read=0.15) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(peer.url, content=b"1")
        assert (await client.post(peer.url, content=b"2")).status_code == 200
        assert peer.connections == 2


async def test_the_read_timeout_counts_from_the_last_byte() -> None:
    async def handler(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        for _ in range(6):
            await asyncio.sleep(0.08)  # the behaviour under test, not a synchronisation
            writer.write(b"x")
            await writer.drain()

    async with peer_of(handler) as peer, client_of(read=0.3) as client:
        assert (await client.get(peer.url)).content == b"xxxxxx"


async def test_a_peer_that_stops_reading_a_large_body_is_a_write_timeout() -> None:
    async def handler(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.Event().wait()

    async with peer_of(handler) as peer, client_of(write=0.2) as client:
        with pytest.raises(httpx.WriteTimeout):
            await client.post(peer.url, content=b"x" * 30_000_000)


async def test_a_large_body_arrives_whole_even_when_it_takes_longer_than_the_read_timeout() -> None:
    async def handler(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 30000000" in head.lower()
        left = 30_000_000
        await asyncio.sleep(0.6)  # longer than the read timeout, while the body is still on its way
        while left:
            left -= len(await reader.read(1_000_000))
        writer.write(answer(b"whole"))

    async with peer_of(handler) as peer, client_of(read=0.4, write=3) as client:
        assert (await client.post(peer.url, content=b"x" * 30_000_000)).content == b"whole"


async def test_waiting_for_a_slot_is_a_pool_timeout_and_the_slot_comes_back() -> None:
    release = asyncio.Event()

    async def handler(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.read_request(reader)
        await release.wait()
        writer.write(answer())

    async with peer_of(handler) as peer, client_of(AiohttpTransport(limit=1), pool=0.1) as client:
        first = asyncio.create_task(client.get(peer.url))
        await until(lambda: len(peer.requests) == 1)
        with pytest.raises(httpx.PoolTimeout):
            await client.get(peer.url)
        release.set()
        assert (await first).status_code == 200
        assert (await client.get(peer.url)).status_code == 200


async def test_requests_that_wait_for_a_slot_while_the_transport_is_closed_were_not_sent() -> None:
    async def mute(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.read_request(reader)
        await reader.read(-1)

    transport = AiohttpTransport(limit=1)
    async with peer_of(mute) as peer, client_of(transport) as client:
        tasks = [asyncio.create_task(client.get(peer.url)) for _ in range(3)]
        await until(lambda: len(peer.requests) == 1)
        await transport.aclose()
        sent, *waiting = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(sent, httpx.RemoteProtocolError)
        assert [type(one) for one in waiting] == [httpx.PoolTimeout] * 2
        assert len(peer.requests) == 1


async def test_failures_are_told_in_words_without_pythons_objects() -> None:
    async def told(url: str, proxy: str | None = None) -> str:
        async with client_of(AiohttpTransport(proxy=proxy)) as client:
            with pytest.raises(httpx.TransportError) as caught:
                await client.get(url)
        return str(caught.value)

    def saying(noise: bytes) -> Handler:
        async def handler(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await peer.read_request(reader)
            writer.write(noise)
            await writer.drain()

        return handler

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{free.getsockname()[1]}"
    assert await told(f"http://{dead}/") == f"connection refused by {dead}"
    assert await told("http://graph.example/", proxy=f"http://{dead}") == f"connection refused by {dead}"
    assert await told("http://graph.example/", proxy="not an address") == "the proxy's address can't be used"
    assert (await told("http://no.invalid/")).startswith("the address of no.invalid was not found: ")

    async def no_tls(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer())
        await writer.drain()

    async with peer_of(no_tls) as peer:
        assert (await told(peer.url.replace("http:", "https:"))).startswith(
            f"no TLS connection to 127.0.0.1:{peer.port}"
        )
    async with peer_of(saying(b"")) as peer:
        assert await told(peer.url) == "the peer closed the connection without an answer"
    async with peer_of(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")) as peer:
        assert await told(peer.url) == "the answer ended early or is damaged"


async def test_cancelled_requests_give_their_slot_and_connection_back() -> None:
    async def handler(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            body = await peer.read_request(reader)
            if body == b"slow":
                await reader.read(-1)
                return
            writer.write(answer(body))

    async with peer_of(handler) as peer, client_of(AiohttpTransport(limit=2), pool=2) as client:
        tasks = [asyncio.create_task(client.post(peer.url, content=b"slow")) for _ in range(6)]
        await until(lambda: len(peer.requests) == 2)
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in done)
        got = await asyncio.gather(*(client.post(peer.url, content=b"fast") for _ in range(4)))
        assert [one.content for one in got] == [b"fast"] * 4


async def test_a_slot_handed_over_in_the_moment_of_cancellation_is_not_lost() -> None:
    transport = AiohttpTransport(limit=1)
    async with peer_of(polite) as peer, client_of(transport, pool=2) as client:
        await client.get(peer.url)
        assert transport._pool is not None
        slots = transport._pool.slots
        assert await slots.take(None)
        waiting = asyncio.create_task(slots.take(None))
        await asyncio.sleep(0)
        slots.give()  # settles the waiter's future …
        waiting.cancel()  # … and the waiter is cancelled before it runs
        await asyncio.gather(waiting, return_exceptions=True)
        assert (await client.get(peer.url)).status_code == 200


async def test_an_answer_beyond_the_cap_is_refused() -> None:
    async def handler(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await writer.drain()

    async with peer_of(handler) as peer, client_of(AiohttpTransport(max_answer=10_000)) as client:
        with pytest.raises(AnswerTooLarge):
            await client.get(peer.url)


async def test_an_answer_compressed_against_our_wish_is_unpacked_up_to_the_cap() -> None:
    async def handler(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = gzip.compress(b"x" * int(await peer.read_request(reader)))
        writer.write(answer(body, b"Content-Encoding: gzip\r\n"))

    async with peer_of(handler) as peer, client_of(AiohttpTransport(max_answer=10_000)) as client:
        assert (await client.post(peer.url, content=b"10000")).content == b"x" * 10_000
        with pytest.raises(AnswerTooLarge):
            await client.post(peer.url, content=b"10000000")


@pytest.mark.parametrize("noise", [b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"])
async def test_an_answer_that_is_not_http_or_ends_early_is_a_protocol_error(noise: bytes) -> None:
    async def handler(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.read_request(reader)
        writer.write(noise)
        await writer.drain()

    async with peer_of(handler) as peer, client_of() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(peer.url)


def test_a_transport_may_be_used_by_one_loop_after_another() -> None:
    transport = AiohttpTransport()

    async def once() -> int:
        async with peer_of(polite) as peer:
            client = httpx.AsyncClient(transport=transport)
            return (await client.post(peer.url, content=b"{}")).status_code

    assert asyncio.run(once()) == 200
    assert asyncio.run(once()) == 200
    asyncio.run(transport.aclose())


async def test_a_proxy_gets_the_request_and_a_dead_one_means_that_nothing_was_sent() -> None:
    async with peer_of(polite) as proxy:
        async with client_of(AiohttpTransport(proxy=proxy.url)) as client:
            await client.post("http://graph.example/v23.0/1/messages", content=b"{}")
        assert proxy.requests[0].startswith(b"POST http://graph.example/v23.0/1/messages HTTP/1.1")
    async with client_of(AiohttpTransport(proxy=f"http://127.0.0.1:{proxy.port}")) as client:
        with pytest.raises(httpx.ProxyError):
            await client.post("http://graph.example/", content=b"{}")


async def test_tls_is_checked_and_works(tmp_path: Path) -> None:
    certificate = _self_signed(tmp_path)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with peer_of(polite, server_side) as peer:
        url = f"https://localhost:{peer.port}/"
        async with client_of(AiohttpTransport(tls=trusting)) as client:
            for _ in range(3):
                assert (await client.post(url, content=b"secret")).content == b"secret"
        assert peer.connections == 1
        async with client_of() as client:
            with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
                await client.post(url, content=b"secret")
    assert len(peer.requests) == 3


def _self_signed(folder: Path) -> Path:
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def test_a_request_whose_time_is_over_when_it_has_its_connection_does_not_leave() -> None:
    async with peer_of(polite) as peer, httpx.AsyncClient(transport=AiohttpTransport()) as client:
        with pytest.raises(httpx.ConnectTimeout):
            await client.post(peer.url, content=b"late", extensions={"not_after": time.monotonic() - 0.001})
        in_time = await client.post(peer.url, content=b"in time", extensions={"not_after": time.monotonic() + 60})
        assert in_time.content == b"in time"
        assert len(peer.requests) == peer.connections == 1, "the connection was kept, and nothing was written on it"
