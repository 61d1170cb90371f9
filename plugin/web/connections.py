"""Open connections of the server: not too many, and none that takes for ever to say what it wants.

Sanic's own REQUEST_TIMEOUT starts anew with every byte that arrives, so a client that sends one now and then holds a
connection as long as it likes; and it takes any number of them. This serves all routes of the server, Rasa's too.
"""

from __future__ import annotations

import asyncio
import inspect
import resource
from dataclasses import dataclass
from typing import Any

from sanic.exceptions import RequestTimeout
from sanic.http import Stage
from sanic.server.protocols.http_protocol import HttpProtocol

#: From the connection's (or on a kept one the head's first byte's) beginning to the empty line after the head.
HEAD_SECONDS = 20.0
_SWEEP_EVERY = 1.0
#: A quarter of the process's files is left for the database, uploads and outgoing connections.
MAX_CONNECTIONS = min(1000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4)

_FULL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"


@dataclass
class _Connection:
    protocol: Any
    since: float | None  # when it began to owe us a head; None: it owes none


class Connections:
    """The connections of one server."""

    def __init__(self) -> None:
        self._open: dict[asyncio.Task[Any], _Connection] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """A connection was made; called within its task (signal http.lifecycle.begin)."""
        task = asyncio.current_task()
        assert task is not None
        # The signal hands over no protocol, but its coroutine is the protocol's method.
        protocol: Any = inspect.getcoroutinelocals(task.get_coro()).get("self")  # type: ignore[arg-type]
        if not isinstance(protocol, HttpProtocol):
            return
        if len(self._open) >= MAX_CONNECTIONS:
            transport: Any = protocol.transport
            transport.write(_FULL)
            transport.close()
            return
        loop = asyncio.get_running_loop()
        self._open[task] = _Connection(protocol, loop.time())
        task.add_done_callback(self._end)
        if self._timer is None:
            self._timer = loop.call_later(_SWEEP_EVERY, self._sweep)

    def head_is_complete(self) -> Any:
        """A head arrived in full; called within its connection's task. Returns Sanic's `Http`, None when unknown."""
        task = asyncio.current_task()
        connection = self._open.get(task) if task else None
        if connection is None:
            return None
        connection.since = None
        return connection.protocol._http

    def _end(self, task: asyncio.Task[Any]) -> None:
        del self._open[task]
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_SWEEP_EVERY, self._sweep)
        for task, one in list(self._open.items()):
            http = one.protocol._http
            if http is None or http.stage not in (Stage.IDLE, Stage.REQUEST):
                one.since = None
            elif one.since is None:
                one.since = loop.time() if http.stage is Stage.REQUEST else None
            elif loop.time() - one.since > HEAD_SECONDS:
                http.exception = RequestTimeout("Request Timeout")  # what Sanic does: answered with 408, and closed
                task.cancel()
