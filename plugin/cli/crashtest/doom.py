"""A process that kills itself at a named point of the real code: its store, its connector and its sockets do it.

Nothing in the product knows of this. `Doom` counts; the wrappers around it tell it what goes by.
"""

from __future__ import annotations

import asyncio.selector_events
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from plugin.connector import Connector, Outbound, SendResult
from plugin.store import Store

#: What a transaction must have written for its inside to be one, by point.
_WRITES = {
    "claim.inside": re.compile(r"\s*UPDATE\s+delivery\b", re.IGNORECASE),
    "settle.inside": re.compile(r"\s*UPDATE\s+delivery\b", re.IGNORECASE),
    "webhook.inside": re.compile(r"\s*(UPDATE|INSERT)\b", re.IGNORECASE),
}


class Doom:
    """Kills this process at `point` once `after` rows (of a receiver: webhooks) have gone by there.

    Args:
        die: called with the point; it does not return.
    """

    def __init__(self, point: str, after: int, die: Callable[[str], None], *, armed: bool = True) -> None:
        self.point = point
        self.armed = armed
        self._after = after
        self._die = die
        self._gone_by = 0
        self._lock = threading.Lock()

    def arm(self) -> None:
        """Begin to count."""
        self.armed = True

    def passes(self, point: str, rows: int = 0) -> None:
        """The process is at `point`, with `rows` more than the last time."""
        if point != self.point or not self.armed:
            return
        with self._lock:  # two threads must not both think that they are the last
            self._gone_by += rows
            if self._gone_by >= self._after:
                self._die(point)

    def counts(self, point: str, rows: int) -> None:
        """`rows` went by `point`, which cannot be died at any more for them."""
        if point == self.point and self.armed:
            with self._lock:
                self._gone_by += rows


class _Inside(threading.local):
    """Which of our transactions this thread is in, and whether it has written anything."""

    point = ""
    wrote = False


def doomed_store(base: type[Store], url: str, doom: Doom) -> Store:
    """A store of class `base` that passes the points of claim, settlement and webhook."""
    inside = _Inside()

    @contextmanager
    def transaction(point: str) -> Iterator[None]:
        inside.point, inside.wrote = point, False
        try:
            yield
        finally:
            inside.point = ""

    class DoomedStore(base):  # type: ignore[misc, valid-type]
        def claim_deliveries(self, *arguments: Any, **named: Any) -> Any:
            doom.passes("claim.before")
            with transaction("claim.inside"):
                claim = super().claim_deliveries(*arguments, **named)
            if rows := len(claim.rows):
                doom.passes("claim.committed", rows)
                doom.counts("claim.before", rows)
                doom.counts("claim.inside", rows)
            return claim

        def settle_deliveries(self, settlements: Any, *arguments: Any, **named: Any) -> Any:
            with transaction("settle.inside"):
                done = super().settle_deliveries(settlements, *arguments, **named)
            if rows := len(settlements):
                doom.passes("settle.committed", rows)
                doom.counts("settle.inside", rows)
            return done

        def store_batch(self, *arguments: Any, **named: Any) -> Any:
            doom.passes("webhook.read", 1)
            with transaction("webhook.inside"):
                done = super().store_batch(*arguments, **named)
            doom.counts("webhook.inside", 1)
            doom.passes("webhook.committed", 1)
            return done

    store = DoomedStore(url)

    def executed(_connection: Any, cursor: Any, statement: str, *_rest: Any) -> None:
        if inside.point and cursor.rowcount and _WRITES[inside.point].match(statement):
            inside.wrote = True

    def committing(_connection: Any) -> None:
        if inside.point and inside.wrote:
            doom.passes(inside.point)

    event.listen(store.engine, "after_cursor_execute", executed)
    event.listen(store.engine, "commit", committing)  # fires while the transaction is still open
    return store


class DoomedConnector:
    """A connector whose answers are the last thing this process reads."""

    def __init__(self, connector: Connector, doom: Doom) -> None:
        self._connector = connector
        self._doom = doom

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connector, name)

    async def send(self, message: Outbound) -> SendResult:
        """See `plugin.connector.Connector.send`."""
        try:
            return await self._connector.send(message)
        finally:
            self._doom.passes("send.answered", 1)


def doom_sockets(doom: Doom) -> None:
    """Let every request that asyncio has handed to the kernel pass `send.bytes_out`.

    The one place where this can be seen whatever the HTTP client does. Head and body may come in one write or in two.
    """
    transport: Any = asyncio.selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
    write = transport.write
    heads: set[int] = set()

    def watched(self: Any, data: Any) -> None:
        write(self, data)
        begun = bytes(data[:5]) == b"POST "
        if begun and not bytes(data).partition(b"\r\n\r\n")[2]:
            heads.add(id(self))
        elif begun or id(self) in heads:
            heads.discard(id(self))
            doom.passes("send.bytes_out", 1)

    transport.write = watched
