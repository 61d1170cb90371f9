"""Claim, pace, send, settle — for as long as this process holds the database's dispatch lease.

Order of things for each row: a free slot, a place in the number's pace, the claim (committed), the send, the
settlement. So at most `window` rows are `sending` at any instant, and that is what a crash can leave unknown.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import orjson

from plugin.bootstrap import Services, open_connectors
from plugin.connector import Connector
from plugin.dispatch.pace import Pace
from plugin.domain.delivery import DeliveryState
from plugin.domain.template import Template
from plugin.store.database import new_id
from plugin.usecases.dispatch import Settlement, send_delivery, send_message
from plugin.usecases.receive import sweep
from plugin.usecases.redirect import Texts

log = logging.getLogger(__name__)

T = TypeVar("T")

LEASE = "dispatch"
LEASE_SECONDS = 6.0
RENEW_EVERY = 2.0
#: How far ahead rows are claimed, in seconds of the number's pace.
HORIZON = 0.25
IDLE = 0.15
HOUSEKEEPING = 1.0
#: Uploads whose reader died are dropped after so many seconds: far above what any real file takes.
ABANDONED = 12 * 3600
#: Longest wait for sends in flight when the process is asked to stop.
DRAIN_SECONDS = 10.0


class Dispatcher:
    """One dispatching process. `run` returns when `stop` is set and everything in flight is settled."""

    def __init__(self, services: Services, connectors: Mapping[str, Connector]) -> None:
        self._store = services.store
        self._settings = services.settings
        self._key = services.key
        self._connectors = connectors
        self._holder = f"{socket.gethostname()}.{os.getpid()}.{new_id()[-8:]}"
        self._epoch: int | None = None
        self._installation = services.store.installation()
        self._paces: dict[str, Pace] = {}
        self._templates: dict[str, Template] = {}
        self._flying: set[asyncio.Task[None]] = set()
        self._settled: list[Settlement] = []
        self._settled_messages: list[Settlement] = []
        self._blocked: dict[str, str] = {}
        self._claimed_any = False
        self._texts = Texts(self._settings.text_handoff, self._settings.text_opt_out, self._settings.text_notification)

    # ------------------------------------------------------------------ life
    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then drain: claim nothing new, settle what is in flight, give the lease back."""
        keeper = asyncio.create_task(self._keep_lease())
        keeping_house = 0.0
        try:
            while not stop.is_set():
                try:
                    if self._epoch is None:
                        await self._wait(stop, 0.1)
                        continue
                    await self._settle()  # before anything new is claimed: what is answered must be known first
                    worked = await self._send_what_is_due()
                    if time.monotonic() - keeping_house >= HOUSEKEEPING:
                        keeping_house = time.monotonic()
                        await self._keep_house()
                except Exception:
                    # The database is away, most likely. Rows in `sending` are safe: they settle or become unknown.
                    log.exception("The dispatcher will try again in a second")
                    worked = False
                    await self._wait(stop, 1.0)
                if not worked:
                    await self._wait(stop, IDLE)
        finally:
            await self._drain()
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await self._call(self._store.drop_lease, LEASE, self._holder)

    async def _keep_lease(self) -> None:
        while True:
            try:
                epoch = await self._call(self._store.take_lease, LEASE, self._holder, LEASE_SECONDS)
                if epoch is not None and epoch != self._epoch:
                    left = await self._call(self._store.recover_sending, LEASE, epoch)
                    if left:
                        log.warning("%d sends were cut off by a crash: unknown until the provider reports them", left)
                self._epoch = epoch
            except Exception:
                log.exception("The dispatch lease could not be renewed")
                self._epoch = None
            await asyncio.sleep(RENEW_EVERY if self._epoch else 0.5)

    async def _drain(self) -> None:
        if self._flying:
            await asyncio.wait(self._flying, timeout=DRAIN_SECONDS)
        await self._settle()

    # ------------------------------------------------------------------ sending
    async def _send_what_is_due(self) -> bool:
        """Messages to people in conversation first, then broadcasts in turn. Returns whether anything was claimed."""
        epoch = self._epoch
        if epoch is None:
            return False
        worked = False
        free = self._free()
        if free > 0:
            for queued in await self._call(self._store.claim_messages, min(free, 8), LEASE, epoch):
                worked = True
                self._pace(queued.sender).reserve()  # counts against the number's rate, but does not queue behind bulk
                connector = self._connectors.get(queued.channel)
                if connector is None:
                    self._settled_messages.append(_no_channel(queued.id, queued.claimed_at, queued.channel))
                    continue
                self._fly(self._one_message(connector, queued))
        broadcasts = await self._call(self._store.running_broadcasts)
        self._claimed_any = False
        for position, broadcast in enumerate(broadcasts):
            free = self._free()
            pace = self._pace(broadcast["sender"])
            # Broadcasts that wait behind this one get their share of the slots.
            share = max(1, free // (len(broadcasts) - position)) if free > 0 else 0
            limit = min(share, pace.available(HORIZON))
            connector = self._connectors.get(broadcast["channel"])
            if connector is None:
                reason = f"O canal {broadcast['channel']} não está configurado."
                await self._call(self._store.pause_broadcast, broadcast["id"], reason)
                continue
            if limit <= 0:
                continue
            for claimed in await self._call(self._store.claim_deliveries, broadcast["id"], limit, LEASE, epoch):
                worked = self._claimed_any = True
                self._fly(self._one_delivery(connector, broadcast, claimed, pace.reserve()))
        return worked or bool(self._flying or self._settled or self._settled_messages)

    def _free(self) -> int:
        """Places in the window: a row counts from its claim until its settlement is committed."""
        return self._settings.window - len(self._flying) - len(self._settled) - len(self._settled_messages)

    async def _one_delivery(self, connector: Connector, broadcast: dict[str, str], claimed: Any, wait: float) -> None:
        if wait > 0:
            await asyncio.sleep(wait)
        settlement = await send_delivery(connector, self._template(broadcast), claimed, self._key, self._installation)
        self._settled.append(settlement)
        if settlement.slow_down:
            self._pace(claimed.sender).slow_down(settlement.slow_down)
        if settlement.blocked:
            self._blocked[claimed.broadcast_id] = settlement.blocked

    async def _one_message(self, connector: Connector, queued: Any) -> None:
        settlement = await send_message(connector, queued, self._installation)
        self._settled_messages.append(settlement)
        if settlement.slow_down:
            self._pace(queued.sender).slow_down(settlement.slow_down)

    def _fly(self, coroutine: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(coroutine)
        self._flying.add(task)
        task.add_done_callback(self._flying.discard)

    async def _settle(self) -> None:
        deliveries, self._settled = self._settled, []
        messages, self._settled_messages = self._settled_messages, []
        blocked, self._blocked = self._blocked, {}
        try:
            if deliveries:
                await self._call(self._store.settle_deliveries, deliveries)
                deliveries = []
            if messages:
                await self._call(self._store.settle_messages, messages)
                messages = []
            for broadcast_id, reason in list(blocked.items()):
                await self._call(self._store.pause_broadcast, broadcast_id, reason)
                del blocked[broadcast_id]
        finally:  # what could not be written now is written next time
            self._settled[:0] = deliveries
            self._settled_messages[:0] = messages
            self._blocked = {**blocked, **self._blocked}

    # ------------------------------------------------------------------ beside sending
    async def _keep_house(self) -> None:
        try:
            await self._sweep()
        finally:
            # Nothing is at its end while rows are still being claimed, and looking costs a scan.
            if not self._claimed_any:
                await self._finish()

    async def _sweep(self) -> None:
        swept = await self._call(
            lambda: sweep(
                self._store,
                key=self._key,
                texts=self._texts,
                talk_button=self._settings.talk_button,
                older_than=self._settings.sweep_after,
            )
        )
        if swept:
            log.warning("%d replies were redirected without the bot", swept)

    async def _finish(self) -> None:
        if dropped := await self._call(self._store.drop_abandoned_uploads, ABANDONED):
            log.info("%d uploads that nobody finished reading were dropped", dropped)
        for broadcast_id in await self._call(self._store.finish_broadcasts):
            log.info("Broadcast %s has nothing left to send", broadcast_id)
            self._templates.pop(broadcast_id, None)

    def _template(self, broadcast: dict[str, str]) -> Template:
        found = self._templates.get(broadcast["id"])
        if found is None:
            found = self._templates[broadcast["id"]] = Template.from_meta(orjson.loads(broadcast["template"]))
        return found

    def _pace(self, sender: str) -> Pace:
        if sender not in self._paces:
            self._paces[sender] = Pace(self._settings.rate)
        return self._paces[sender]

    @staticmethod
    async def _call(function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.to_thread(function, *arguments)

    @staticmethod
    async def _wait(stop: asyncio.Event, seconds: float) -> None:
        try:
            await asyncio.wait_for(stop.wait(), seconds)
        except asyncio.TimeoutError:
            return


def _no_channel(row: int, claimed_at: int, channel: str) -> Settlement:
    return Settlement(
        row, claimed_at, DeliveryState.FAILED, error_code="channel", error=f"the channel {channel} is not configured"
    )


async def run_worker(services: Services, stop: asyncio.Event) -> None:
    """Dispatch until `stop`, with connectors of this event loop's own."""
    connectors = open_connectors(services.settings)
    try:
        await Dispatcher(services, connectors).run(stop)
    finally:
        for connector in connectors.values():
            await connector.aclose()
