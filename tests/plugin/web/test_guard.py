"""Requests that no browser sends, over raw sockets; and Rasa's CORS kept away from the desk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from sanic import Sanic
from sanic.response import text
from sanic_cors import CORS

from plugin.bootstrap import Services
from plugin.web import connections, desk_blueprint

from .conftest import Site, eventually, serve, stop

HOST = b"Host: localhost\r\n"


async def send(site: Site, data: bytes, seconds: float = 5) -> bytes:
    """What the server says to these bytes until it closes or is silent for long."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    try:
        writer.write(data)
        await writer.drain()
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = await asyncio.wait_for(reader.read(65536), seconds)
            if not piece:
                break
            answer += piece
        return answer
    finally:
        writer.close()


def request(*lines: bytes, path: bytes = b"/desk/api/v1/session", method: bytes = b"POST", body: bytes = b"") -> bytes:
    return method + b" " + path + b" HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


BAD = {
    "negative length": request(b"Content-Length: -1", body=b"hello"),
    "plus sign": request(b"Content-Length: +5", body=b"hello"),
    "not a number": request(b"Content-Length: five", body=b"hello"),
    "hexadecimal": request(b"Content-Length: 0x5", body=b"hello"),
    "underscore": request(b"Content-Length: 1_0", body=b"hello"),
    "empty length": request(b"Content-Length:", body=b"hello"),
    "list of lengths": request(b"Content-Length: 5, 5", body=b"hello"),
    "huge length": request(b"Content-Length: " + b"9" * 19),
    "two lengths": request(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"),
    "two equal lengths": request(b"Content-Length: 5", b"content-length: 5", body=b"hello"),
    "length and chunked": request(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "two codings": request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n"),
    "unknown coding": request(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "coding in capitals": request(b"Transfer-Encoding: CHUNKED", body=b"0\r\n\r\n"),
    "space before colon": request(b"Content-Length : 5", body=b"hello"),
    "folded line": request(b"X-A: b", b" Content-Length: 5", body=b"hello"),
    "bare line feed": request(b"X-A: b\nContent-Length: 5", body=b"hello"),
    "bare carriage return": request(b"X-A: b\rContent-Length: 5", body=b"hello"),
    "NUL": request(b"X-A: b\0c"),
    "no colon": request(b"hello"),
    "no name": request(b": value"),
    "two hosts": request(b"Host: other"),
    "name with a tab": request(b"X\tA: b"),
    "unknown version": b"GET /desk/health HTTP/9.9\r\n" + HOST + b"\r\n",
    "bytes that are no UTF-8": request(method=b"GET", path=b"/desk/\xff"),
    "bytes that are UTF-8": request(method=b"GET", path=b"/desk/\xc3\xa9"),
    "control byte in the address": request(method=b"GET", path=b"/desk/\x07"),
    "delete in the address": request(method=b"GET", path=b"/desk/\x7f"),
    "address of another site": request(method=b"GET", path=b"http://evil.example/desk/health"),
    "broken address": request(method=b"GET", path=b"http://[/desk/health"),
    "address without a slash": request(method=b"GET", path=b"desk"),
    "method that is none": request(method=b"G(T", path=b"/desk/health"),
    "long method": request(method=b"G" * 40, path=b"/desk/health"),
    "two spaces": request(method=b"GET ", path=b"/desk/health"),
    "no version": b"GET /desk/health\r\n" + HOST + b"\r\n",
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
async def test_a_malformed_head_gets_400_and_the_server_lives_on(
    site: Site, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await send(site, data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert "Traceback" not in caplog.text
    assert b"connection: close" in answer.lower()
    assert (await site.client().get("/desk/health")).json() == {"status": "ok"}


@pytest.mark.parametrize(
    "data", [b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 4000]
)
async def test_garbage_is_answered_with_an_error_or_silence_and_the_server_lives_on(site: Site, data: bytes) -> None:
    answer = await send(site, data)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert (await site.client().get("/desk/health")).status_code == 200


async def test_ordinary_heads_pass(site: Site) -> None:
    for data in (
        request(method=b"GET", path=b"/desk/health"),
        request(b"Content-Length: 0", method=b"GET", path=b"/desk/health"),
        request(b"X-Odd!#$%&'*+-.^_`|~: value: with: colons", b"Accept:", method=b"GET", path=b"/desk/health"),
    ):
        assert (await send(site, data)).startswith(b"HTTP/1.1 200 ")


async def test_a_chunked_body_is_read(site: Site) -> None:
    body = b'17\r\n{"link":"not a token"}\n\r\n0\r\n\r\n'
    answer = await send(site, request(b"Transfer-Encoding: chunked", b"Content-Type: application/json", body=body))
    assert answer.startswith(b"HTTP/1.1 401 ")


# --------------------------------------------------------------------------- connections
@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(connections, "_SWEEP_EVERY", 0.05)


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Send a byte now and then until the server answers or closes; what it said."""
    writer.write(b"GET /desk/health HTTP/1.1\r\nX: ")
    said = asyncio.create_task(reader.read(4096))
    until = asyncio.get_running_loop().time() + 10
    while not said.done() and asyncio.get_running_loop().time() < until:
        writer.write(b"a")
        await asyncio.wait({said}, timeout=0.05)
    said.cancel()
    return await said


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("earlier", [0, 1, 3])
async def test_a_head_that_drips_in_is_given_up(site: Site, earlier: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    for _ in range(earlier):
        writer.write(b"GET /desk/health HTTP/1.1\r\n" + HOST + b"\r\n")
        await reader.readuntil(b'{"status":"ok"}')
    said = await drip(reader, writer)
    writer.close()
    assert said.startswith(b"HTTP/1.1 408 ")


@pytest.mark.usefixtures("impatient")
async def test_a_connection_that_says_nothing_is_closed(site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()


@pytest.mark.usefixtures("impatient")
async def test_slow_bodies_and_kept_connections_owe_no_head(site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    body = b'{"link":"not a token"}'
    for pause in (0.8, 0.0):  # the first body takes longer than a head may; the second head comes after a rest
        length = str(len(body)).encode()
        writer.write(request(b"Content-Type: application/json", b"Content-Length: " + length))
        await asyncio.sleep(pause)
        writer.write(body)
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 401 ")
        await reader.readuntil(b"}")
        await asyncio.sleep(pause)
    writer.close()


async def test_a_server_with_too_many_connections_refuses_more_and_recovers(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    held = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(3)]
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 503 ")
    writer.close()
    for _, one in held:
        one.close()

    async def answers() -> bool:
        try:
            return (await site.client().get("/desk/health")).status_code == 200
        except httpx.HTTPError:
            return False

    await eventually(answers)


# --------------------------------------------------------------------------- CORS
@pytest.fixture
async def open_site(site: Site) -> AsyncIterator[Site]:
    """The desk on a server with Rasa's `--cors "*"` (rasa/server.py: the same call) and a route that isn't ours."""
    services: Services = site.services
    app = Sanic("desk_test_cors", configure_logging=False)
    CORS(app, resources={r"/*": {"origins": "*"}}, automatic_options=True, expose_headers=["filename"])
    app.blueprint(desk_blueprint(lambda: services))

    @app.get("/foreign")
    async def foreign(_: object) -> object:
        return text("hello")

    app.add_route(foreign, "/deskless")
    running = await serve(app, services, site.scenario)
    yield running
    await stop(running)


@pytest.mark.parametrize(
    "path", ["/desk/health", "/desk/api/v1/session", "/desk/api/v1/nothing", "/desk/login", "/desk"]
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "POST"])
async def test_no_other_origin_may_read_the_desk(open_site: Site, path: str, method: str) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = await open_site.client().request(method, path, headers=headers)
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize("path", ["/foreign", "/deskless"])
async def test_the_servers_other_routes_keep_their_cors(open_site: Site, path: str) -> None:
    answer = await open_site.client().get(path, headers={"Origin": "https://friend.example"})
    assert answer.headers["access-control-allow-origin"]
    assert "content-security-policy" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/desk/health", "/desk/login", "/desk/api/v1/nothing", "/desk/nothing", "/desk/static/desk.css"]
)
async def test_every_answer_carries_the_security_headers(site: Site, path: str) -> None:
    answer = await site.client().get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == ("no-cache" if "static" in path else "no-store")
