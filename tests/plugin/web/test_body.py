"""Bodies: who may send one, how much, how long, and what is left behind."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from plugin.usecases import intake
from plugin.web import body, desk_blueprint

from .conftest import Site, eventually, serve, stop

UPLOADS = "/desk/api/v1/uploads"
MB = 1024 * 1024


def query(site: Site, **more: str) -> dict[str, str]:
    scenario = site.scenario
    return {"operation": scenario.operation, "template": scenario.templates["with_talk_button"], **more}


def left_behind(site: Site) -> list[str]:
    return names(Path(site.services.settings.uploads))


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


async def test_an_upload_is_read_and_its_file_is_gone(site: Site) -> None:
    client = await site.logged_in("operador")
    content = "telefone;nome\n(31) 9 9876-5432;Ana\n31998765432;Ana outra vez\n123;Ruim\n".encode("cp1252")
    answer = await client.post(UPLOADS, params=query(site, filename="lista março.csv"), content=content)
    assert answer.status_code == 201, answer.text
    upload = answer.json()
    assert (upload["rows"], upload["accepted"], upload["rejected"]) == (3, 1, 1)
    assert upload["skipped"] == {"duplicate": 1}
    assert upload["filename"] == "lista março.csv"
    assert left_behind(site) == []
    again = await client.get(answer.headers["location"])
    assert again.json() == upload


async def test_while_it_arrives_the_file_is_for_the_owner_only(site: Site) -> None:
    client = await site.logged_in("operador")
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"telefone;nome\n"
        await go_on.wait()
        yield b"+5531998765432;Ana\n"

    sending = asyncio.create_task(client.post(UPLOADS, params=query(site), content=slowly()))
    folder = Path(site.services.settings.uploads)
    for _ in range(500):
        if left_behind(site):
            break
        await asyncio.sleep(0.01)
    (name,) = left_behind(site)
    assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    go_on.set()
    assert (await sending).status_code == 201
    assert left_behind(site) == []


async def test_an_upload_of_nobody_is_refused_before_its_body(site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(
        b"POST /desk/api/v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Length: 40000000\r\nExpect: 100-continue\r\n\r\n"
    )
    answer = await asyncio.wait_for(reader.read(4096), 5)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 401 ")  # and no 100 that would invite 40 MB
    assert b"connection: close" in answer.lower()
    assert left_behind(site) == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_too_large_a_file_is_a_413_and_leaves_nothing(site: Site, chunked: bool) -> None:
    client = await site.logged_in("operador")
    size = MB + MB // 4

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(size // 65536):
            yield b"x" * 65536

    content = pieces() if chunked else b"x" * size
    answer = await client.post(UPLOADS, params=query(site), content=content)
    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"
    assert "1 MB" in answer.json()["detail"]
    assert left_behind(site) == []


async def test_a_body_that_never_ends_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "JSON_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(
        b"POST /desk/api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b'Content-Length: 100\r\n\r\n{"login":'
    )
    answer = await asyncio.wait_for(reader.read(4096), 10)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert await asyncio.wait_for(reader.read(4096), 5) == b""  # closed
    writer.close()


async def test_a_caller_who_hangs_up_leaves_nothing(site: Site) -> None:
    client = await site.logged_in("operador")
    cookie, csrf = client.cookies["vamos"], client.headers["X-CSRF-Token"]
    params = httpx.QueryParams(query(site))
    _, writer = await asyncio.open_connection("127.0.0.1", site.port)
    head = f"POST {UPLOADS}?{params} HTTP/1.1\r\nHost: x\r\nCookie: vamos={cookie}\r\nX-CSRF-Token: {csrf}\r\n"
    writer.write(head.encode() + b"Content-Length: 1000\r\n\r\ntelefone;nome\n")
    for _ in range(500):
        if left_behind(site):
            break
        await asyncio.sleep(0.01)
    assert left_behind(site)
    writer.transport.abort()
    for _ in range(500):
        if not left_behind(site):
            break
        await asyncio.sleep(0.01)
    assert left_behind(site) == []
    assert (await client.get("/desk/api/v1/session")).status_code == 200


async def test_two_uploads_of_one_person_run_at_once_and_a_third_waits(site: Site) -> None:
    client = await site.logged_in("operador")
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"telefone;nome\n"
        await go_on.wait()
        yield b"+5531998765432;Ana\n"

    running = [asyncio.create_task(client.post(UPLOADS, params=query(site), content=slowly())) for _ in range(2)]
    for _ in range(500):
        if len(left_behind(site)) == 2:
            break
        await asyncio.sleep(0.01)
    third = await client.post(UPLOADS, params=query(site), content=b"telefone;nome\n")
    assert third.status_code == 409
    go_on.set()
    assert [a.status_code for a in await asyncio.gather(*running)] == [201, 201]
    fourth = await client.post(UPLOADS, params=query(site), content=b"telefone;nome\n+5531998765432;Ana\n")
    assert fourth.status_code == 201


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"", 0), (b"nome\nAna\n", 1), (b'telefone;nome\n+5531998765432;"Ana\n+5531998765433;Bia\n', 2)],
)
async def test_an_unreadable_file_is_a_422_in_words(site: Site, content: bytes, line: int) -> None:
    client = await site.logged_in("operador")
    answer = await client.post(UPLOADS, params=query(site), content=content)
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["detail"]
    assert problem["remedy"]
    assert problem["line"] == line
    assert left_behind(site) == []


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
async def test_a_compressed_body_is_refused(site: Site, coding: str) -> None:
    client = await site.logged_in("operador")
    answer = await client.post(UPLOADS, params=query(site), content=b"x", headers={"Content-Encoding": coding})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b"", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"login=a", "application/x-www-form-urlencoded", 415),
        (b"{}", "text/plain", 415),
        (b'{"login":"' + b"a" * 300_000 + b'"}', "application/json", 413),
    ],
    ids=range(9),
)
async def test_a_body_that_is_not_a_small_json_object_is_refused(
    site: Site, content: bytes, kind: str, status: int
) -> None:
    answer = await site.client().post("/desk/api/v1/session", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_body_where_none_belongs_does_no_harm(site: Site) -> None:
    client = await site.logged_in("operador")
    got = await client.request("GET", "/desk/api/v1/session", content=b"x" * 100_000)
    assert got.status_code == 200
    assert (await client.get("/desk/api/v1/session")).status_code == 200
    posted = await client.post("/desk/api/v1/templates/sync", content=b"x" * 100)
    assert posted.status_code == 413


@pytest.mark.parametrize("missing", ["operation", "template"])
async def test_an_upload_says_which_parameter_is_missing(site: Site, missing: str) -> None:
    client = await site.logged_in("operador")
    given = query(site)
    del given[missing]
    answer = await client.post(UPLOADS, params=given, content=b"telefone\n")
    assert answer.status_code == 400
    assert answer.json()["field"] == missing


# --------------------------------------------------------------------------- callers who hang up
async def raw_upload(site: Site, client: httpx.AsyncClient, length: int, content: bytes) -> asyncio.StreamWriter:
    """The beginning of an upload over a socket of its own."""
    cookie, csrf = client.cookies["vamos"], client.headers["X-CSRF-Token"]
    _, writer = await asyncio.open_connection("127.0.0.1", site.port)
    head = f"POST {UPLOADS}?{httpx.QueryParams(query(site))} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
    writer.write(head.encode() + f"Cookie: vamos={cookie}\r\nX-CSRF-Token: {csrf}\r\n\r\n".encode() + content)
    return writer


async def test_who_hangs_up_during_a_write_does_not_make_it_write_elsewhere(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = await site.logged_in("operador")
    writing, go_on = threading.Event(), threading.Event()

    class Slow:
        """SHA-256 of a slow machine."""

        def __init__(self) -> None:
            self._real = hashlib.sha256()

        def update(self, data: bytes) -> None:
            writing.set()
            go_on.wait(20)
            self._real.update(data)

        def hexdigest(self) -> str:
            return self._real.hexdigest()

    monkeypatch.setattr(body, "hashlib", SimpleNamespace(sha256=Slow))
    monkeypatch.setattr(body, "_WRITE_AT", 1000)
    others = len(site.app.ctx.server.connections)
    writer = await raw_upload(site, client, 100_000, b"U" * 2000)
    await eventually(writing.is_set)
    writer.transport.abort()
    await eventually(lambda: len(site.app.ctx.server.connections) == others)
    for _ in range(100):  # the handler learns of it some turns of the loop later
        await asyncio.sleep(0)
    assert left_behind(site)
    # Files opened now get the lowest free descriptors: the upload's own, had it been closed already.
    victims = [os.open(tmp_path / f"victim{i}", os.O_WRONLY | os.O_CREAT) for i in range(8)]
    go_on.set()
    await eventually(lambda: left_behind(site) == [])
    assert [os.fstat(one).st_size for one in victims] == [0] * 8
    for one in victims:
        os.close(one)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_who_hangs_up_while_the_file_is_opened_leaves_none(tmp_path: Path) -> None:
    started, go_on = threading.Event(), threading.Event()
    over: list[Callable[..., Any]] = []

    def late(work: Callable[..., Any], *arguments: Any) -> Any:
        started.set()
        go_on.wait(20)
        try:
            return work(*arguments)
        finally:
            over.append(work)

    async def run(work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(late, work, *arguments)

    empty: Any = SimpleNamespace(stream=None, headers={})
    task = asyncio.create_task(body.receive_file(empty, tmp_path, 100, run))
    await eventually(started.is_set)
    opened = descriptors()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # and impatient ones
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: over != [])
    assert names(tmp_path) == []
    assert descriptors() <= opened


async def test_who_hangs_up_while_the_file_is_read_keeps_their_place_until_it_is(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await site.logged_in("operador")
    real, go_on, begun = intake.take_upload, threading.Event(), threading.Semaphore(0)

    def slow(*arguments: Any, **named: Any) -> Any:
        begun.release()
        go_on.wait(20)
        return real(*arguments, **named)

    monkeypatch.setattr(intake, "take_upload", slow)
    others = len(site.app.ctx.server.connections)
    content = b"telefone;nome\n+5531998765432;Ana\n"
    for _ in range(2):
        writer = await raw_upload(site, client, len(content), content)
        await eventually(lambda: begun.acquire(blocking=False))
        writer.transport.abort()
    await eventually(lambda: len(site.app.ctx.server.connections) == others)
    third = await client.post(UPLOADS, params=query(site), content=content)
    assert third.status_code == 409
    assert (await client.get("/desk/api/v1/session")).status_code == 200
    go_on.set()
    await eventually(lambda: left_behind(site) == [])
    monkeypatch.undo()

    async def taken() -> bool:
        return (await client.post(UPLOADS, params=query(site), content=content)).status_code == 201

    await eventually(taken)


async def test_files_that_a_dead_process_left_are_deleted_at_start(site: Site, tmp_path: Path) -> None:
    folder = Path(site.services.settings.uploads)
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    for name, age in (("old.upload", body.STALE_AFTER + 60), ("new.upload", 60), ("old.csv", body.STALE_AFTER + 60)):
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (time.time() - age,) * 2)
    app = site.app.__class__("desk_test_tidy", configure_logging=False)
    app.blueprint(desk_blueprint(lambda: site.services))
    again = await serve(app, site.services, site.scenario)
    await stop(again)
    assert left_behind(site) == ["new.upload", "old.csv"]


async def test_a_download_that_breaks_off_is_no_complete_file(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = await site.logged_in("operador")
    broadcast = await asyncio.to_thread(site.scenario.launch, [site.scenario.number()])

    def pieces(*_: Any, **__: Any) -> Any:
        yield b"a;b\r\n" * 20_000
        raise OSError("disk I/O error")

    monkeypatch.setattr("plugin.usecases.report.report_csv", pieces)
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        await client.get(f"/desk/api/v1/broadcasts/{broadcast}/report.csv")
    assert "broke off" in caplog.text
    assert (await client.get("/desk/api/v1/session")).status_code == 200


# --------------------------------------------------------------------------- chunks
@pytest.mark.parametrize("size", [b"+17", b"-17", b"0x17", b"1_7", b" 17", b"17 ", b"", b"zz", b"1" * 16, b"17;\nx"])
@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
async def test_a_chunk_size_that_another_server_could_read_differently_is_refused(
    site: Site, size: bytes, expect: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(
        b"POST /desk/api/v1/session HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + expect
        + b"Content-Type: application/json\r\n\r\n" + size + b'\r\n{"link":"not a token"}\n\r\n0\r\n\r\n'
    )  # fmt: skip
    answer = await asyncio.wait_for(reader.read(), 10)  # to the end: it is closed
    writer.close()
    assert answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").startswith(b"HTTP/1.1 400 ")
