"""A provider on loopback that costs as little as it can: it answers like the Cloud API and remembers only how often."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection

_END = b"\r\n\r\n"
_LENGTH = b"content-length: "
_TO = b'"to":"+'


class _Answering(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        end = received.find(_END)
        if end < 0:
            return
        head = received[:end].lower()
        at = head.index(_LENGTH) + len(_LENGTH)
        length = int(head[at:].partition(b"\r\n")[0])
        if len(received) < end + 4 + length:
            return
        self._received = b""
        at = received.find(_TO, end) + len(_TO)
        answer = _answer(received[at : received.index(b'"', at)])
        if self._latency:
            self._loop.call_later(self._latency, self._write, answer)
        else:
            self._transport.write(answer)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


_answered = 0


def _answer(number: bytes) -> bytes:
    global _answered
    _answered += 1
    body = (
        b'{"messaging_product":"whatsapp","contacts":[{"input":"+%b","wa_id":"%b"}],"messages":[{"id":"wamid.'
        b'HBgNNTUzMTk5OTk5OTk5ORUCABEYEjA%024d","message_status":"accepted"}]}' % (number, number, _answered)
    )
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=UTF-8\r\nfacebook-api-version: v23.0\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )


@dataclass(frozen=True)
class Provider:
    """Where it listens. `answered` asks it how many messages it has accepted."""

    url: str
    _pipe: Connection

    def answered(self) -> int:
        self._pipe.send(None)
        return int(self._pipe.recv())


@contextlib.contextmanager
def provider(latency: float, core: int | None = None) -> Iterator[Provider]:
    """A provider in a process of its own, which ends with the block.

    Args:
        latency: seconds from the last byte of a request to the first one of its answer.
        core: the processor it keeps to.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, latency, core), daemon=True)
    process.start()
    try:
        yield Provider(f"http://127.0.0.1:{ours.recv()}", ours)
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, latency: float, core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    asyncio.run(_listen(pipe, latency))


async def _listen(pipe: Connection, latency: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Answering(latency), "127.0.0.1", 0)

    def tell() -> None:
        pipe.recv()
        pipe.send(_answered)

    pipe.send(server.sockets[0].getsockname()[1])
    loop.add_reader(pipe.fileno(), tell)
    await server.serve_forever()
