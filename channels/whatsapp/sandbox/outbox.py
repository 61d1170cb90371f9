"""Webhooks on their way out: signed, modestly batched, in order per phone, sent until they are acknowledged.

Meta retries for seven days with decreasing frequency and doesn't promise any order. The sandbox keeps the order of each
phone, so that a run can be understood, and retries faster, so that nobody waits for a demonstration.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import hmac
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import aiohttp
import orjson

logger = logging.getLogger(__name__)

_LANES = 4
_BATCH = 100
_TIMEOUT = aiohttp.ClientTimeout(total=20, sock_connect=3)
_BACKOFF = (0.2, 0.5, 1.0, 2.0, 4.0)
#: Refusals (any answer other than 200) after which items go one by one, and after which a single one is given up.
_SPLIT_AFTER, _DROP_AFTER = 2, 12


@dataclass(frozen=True)
class Item:
    """One status, message or preference. `key` names it in the ledger; `part` is its list in Meta's ``value``."""

    key: str
    account: str
    due: float
    field: str
    part: str
    body: dict[str, Any]
    contact: dict[str, Any] | None = None


@dataclass
class _Lane:
    """A share of the phones, served strictly one batch after another."""

    heap: list[tuple[float, int, Item]] = field(default_factory=list)
    in_flight: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, now: float) -> list[Item]:
        taken: list[Item] = []
        while self.heap and self.heap[0][0] <= now and len(taken) < _BATCH:
            taken.append(heapq.heappop(self.heap)[2])
        return taken


class Outbox:
    """Sends items when they are due.

    Args:
        url: where to, asked before each attempt; None: nobody listens, items count as acknowledged.
        metadata: Meta's ``metadata`` object of our number.
        now: the clock that `Item.due` goes by.
        on_left: called when items are due, before the first attempt.
        on_settled: called with the items of an acknowledged POST, and with those given up (False).
    """

    def __init__(
        self,
        *,
        url: Callable[[], str | None],
        waba_id: str,
        app_secret: str,
        metadata: dict[str, str],
        now: Callable[[], float],
        on_left: Callable[[Sequence[Item]], None],
        on_settled: Callable[[Sequence[Item], bool], None],
    ) -> None:
        self._url = url
        self._waba_id = waba_id
        self._secret = app_secret.encode()
        self._metadata = metadata
        self._now = now
        self._on_left = on_left
        self._on_settled = on_settled
        self._lanes = [_Lane() for _ in range(_LANES)]
        self._last_due: dict[str, float] = {}
        self._count = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.posts = 0
        self.refused = 0
        self.dropped = 0

    @property
    def pending(self) -> int:
        """Items that are not acknowledged, due or not."""
        return sum(len(lane.heap) + lane.in_flight for lane in self._lanes)

    def add(self, item: Item) -> None:
        """Queue `item`; it never overtakes an earlier one of the same phone."""
        due = max(item.due, self._last_due.get(item.account, 0.0))
        self._last_due[item.account] = due
        self._count += 1
        lane = self._lanes[hash(item.account) % _LANES]
        heapq.heappush(lane.heap, (due, self._count, item))
        lane.wake.set()

    def start(self) -> None:
        """Begin sending, on the running loop."""
        self._tasks = [asyncio.create_task(self._serve(lane)) for lane in self._lanes]

    async def stop(self) -> None:
        """Stop where it is. What was not acknowledged is known from the ledger."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, lane: _Lane) -> None:
        async with aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()) as session:
            while True:
                batch = lane.take(self._now())
                if batch:
                    lane.in_flight = len(batch)
                    self._on_left(batch)
                    await self._deliver(session, lane, batch)
                    continue
                lane.wake.clear()
                wait = max(0.0, lane.heap[0][0] - self._now()) if lane.heap else None
                try:
                    await asyncio.wait_for(lane.wake.wait(), wait)
                except asyncio.TimeoutError:
                    continue

    async def _deliver(self, session: aiohttp.ClientSession, lane: _Lane, batch: list[Item]) -> None:
        """Send `batch` until it is settled; after repeated refusals one by one, so that a bad item is found."""
        refusals = attempt = 0
        while True:
            answered = await self._post(session, batch)
            if answered == 200:
                self._settle(lane, batch, acked=True)
                return
            if answered is not None:
                refusals += 1
                self.refused += 1
                if refusals >= _SPLIT_AFTER and len(batch) > 1:
                    for item in batch:
                        await self._deliver(session, lane, [item])
                    return
                if refusals >= _DROP_AFTER:
                    logger.warning("webhook given up after %d refusals (HTTP %d)", refusals, answered)
                    self.dropped += 1
                    self._settle(lane, batch, acked=False)
                    return
            await asyncio.sleep(_BACKOFF[min(attempt, len(_BACKOFF) - 1)])
            attempt += 1

    def _settle(self, lane: _Lane, batch: list[Item], *, acked: bool) -> None:
        lane.in_flight -= len(batch)
        self._on_settled(batch, acked)

    async def _post(self, session: aiohttp.ClientSession, batch: Sequence[Item]) -> int | None:
        """The HTTP status of one attempt, or None when there was no answer."""
        url = self._url()
        if url is None:
            return 200
        body = orjson.dumps(self._envelope(batch))
        signature = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={signature}"}
        self.posts += 1
        try:
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            logger.debug("webhook not delivered: %s", error)
            return None

    def _envelope(self, batch: Sequence[Item]) -> dict[str, Any]:
        """Meta's body: one change for each run of items of one kind, in order."""
        changes = []
        for (name, part), run in groupby(batch, key=lambda item: (item.field, item.part)):
            items = list(run)
            value: dict[str, Any] = {"messaging_product": "whatsapp", "metadata": self._metadata}
            contacts = {item.account: item.contact for item in items if item.contact}
            if contacts:
                value["contacts"] = list(contacts.values())
            value[part] = [item.body for item in items]
            changes.append({"field": name, "value": value})
        return {"object": "whatsapp_business_account", "entry": [{"id": self._waba_id, "changes": changes}]}
