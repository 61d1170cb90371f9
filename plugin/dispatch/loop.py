"""Claim, pace, send, settle.

Any number of these run on one database. Each has an epoch that fences its claims; the number's pace is shared in the
database. Order of things for each row: a free slot, a place at the wire, the claim (committed), the send at its
moment, the settlement. So at most `window` rows of a process are `sending` at any instant, nearly all of them with
their bytes out, and that is what a crash can leave unknown.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import orjson

from plugin.bootstrap import Services, open_connectors
from plugin.connector import Connector
from plugin.dispatch.fence import Fence
from plugin.dispatch.house import Housekeeping
from plugin.dispatch.process import alive, this_process
from plugin.domain.delivery import DeliveryState
from plugin.domain.template import Template
from plugin.domain.why import Why
from plugin.usecases.dispatch import (
    Claim,
    Claimed,
    ClaimRules,
    QueuedMessage,
    Settlement,
    not_sent,
    send_delivery,
    send_message,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

#: A dispatcher that has not renewed itself for so many seconds is given up by the others.
LEASE_SECONDS = 6.0
RENEW_EVERY = 2.0
#: So many seconds before that, it stops sending what it has claimed: its clock may differ.
MARGIN = 1.0
#: How far ahead of its moment a row may be claimed, in microseconds: what is claimed should be on its way.
HORIZON = 10_000
#: Seconds between two looks for new broadcasts, and for messages of agents and of the system.
LOOK_FOR_BROADCASTS = 0.2
LOOK_FOR_MESSAGES = 0.05
#: The same for messages of agents and of the system. Further than from one look to the next, or a broadcast, which
#: looks at the very moment a place comes within reach, would take all of them.
HORIZON_FOR_MESSAGES = 80_000
HOUSEKEEPING = 1.0
#: A claim whose commit was not confirmed is looked for after so many seconds.
STRAY_SECONDS = 30.0
#: Longest wait in seconds before the database is asked again.
FURTHEST = 2.0
#: A send that has not ended after so many seconds is given up: its outcome is unknown.
HANG_SECONDS = 60.0
#: Longest wait for sends in flight when the process is asked to stop.
DRAIN_SECONDS = 10.0
DAY = 24 * 3600 * 1_000_000


@dataclass(frozen=True)
class _Tenure:
    """What a row was claimed under: the dispatcher's epoch, and the installation that its correlation names."""

    epoch: int
    installation: str


class Dispatcher:
    """One dispatching process. `run` returns when `stop` is set and everything in flight is settled."""

    def __init__(self, services: Services, connectors: Mapping[str, Connector]) -> None:
        settings = services.settings
        self._store = services.store
        self._window = settings.window
        self._key = services.key
        self._connectors = connectors
        self._rules = ClaimRules(
            rate=settings.rate,
            horizon=HORIZON,
            quiet=int(settings.conversation_minutes * 60_000_000),
            frequency=(settings.frequency_cap, settings.frequency_days * DAY),
            daily=settings.daily_recipients,
        )
        self._fence = Fence(services.store, Path(settings.fence))
        self._me = this_process()
        self._house = Housekeeping(services, connectors)
        self._epoch: int | None = None
        self._sends_until = 0.0  # time.monotonic() after which this process may have been given up
        self._wake = asyncio.Event()
        self._broadcasts: list[dict[str, Any]] = []
        self._templates: dict[str, Template] = {}
        self._claim_at: dict[str, float] = {}  # broadcast: time.monotonic() before which asking is pointless
        self._look_at = self._messages_at = 0.0
        self._turn = 0
        self._last: dict[str, float] = {}  # sending number: when the last message of this process really began
        self._flying: set[asyncio.Task[None]] = set()
        self._open: set[int] = set()  # deliveries claimed and not yet settled, and messages
        self._open_messages: set[int] = set()
        self._claiming = False
        self._settled: list[Settlement] = []
        self._settled_messages: list[Settlement] = []
        self._answers = 0

    # ------------------------------------------------------------------ life
    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then drain: claim nothing new, settle what is in flight, leave the list of dispatchers."""
        keeper = asyncio.create_task(self._keep_alive())
        house = asyncio.create_task(self._keep_house())
        stopper = asyncio.create_task(self._wake_on(stop))
        try:
            while not stop.is_set():
                self._wake.clear()
                try:
                    next_at = await self._round()
                except Exception:
                    # The database is away, most likely. Rows in `sending` are safe: they settle or become unknown.
                    log.exception("The dispatcher will try again in a second")
                    await self._sleep(stop, 1.0)
                    continue
                await self._until(next_at)
        finally:
            for task in (keeper, house, stopper):
                task.cancel()
            await asyncio.gather(keeper, house, stopper, return_exceptions=True)
            await self._drain()

    async def _round(self) -> float:
        """One turn of the loop. Returns when the next one is due if nothing happens before (time.monotonic())."""
        now = time.monotonic()
        ready = self._fence.mark is not None and self._epoch is not None
        # What is answered is written down before anything new is claimed: on the claim's way where one is due, but not
        # where its slot is wanted for a message to somebody in conversation.
        along = ready and self._goes_along() and self._due(now) and (now < self._messages_at or self._free() > 0)
        oldest = self._settled[0] if along else None
        if oldest is None:
            await self._settle()
        if not ready:
            return now + 0.1
        if now >= self._messages_at:
            await self._claim_messages(now)
        if now >= self._look_at:
            self._look_at = now + LOOK_FOR_BROADCASTS
            self._broadcasts = await self._call(self._store.running_broadcasts)
        await self._claim_in_turn(now)
        if oldest is not None and self._settled[:1] == [oldest]:  # no claim was made after all
            await self._settle()
        due = [self._look_at]
        if self._free() > 0:
            due += [self._messages_at]
            due += [self._claim_at.get(broadcast["id"], 0.0) for broadcast in self._broadcasts]
        return min(due)

    async def _keep_alive(self) -> None:
        """Register, renew, and turn what dead dispatchers left behind into unknown."""
        while True:
            try:
                asked = time.monotonic()
                if self._epoch is None or not await self._call(
                    self._store.renew_dispatcher, self._epoch, LEASE_SECONDS
                ):
                    me = self._me
                    self._epoch = await self._call(
                        self._store.register_dispatcher, me.host, me.pid, me.process, LEASE_SECONDS
                    )
                self._sends_until = asked + LEASE_SECONDS - MARGIN
                # Before the first claim, and before anything is recovered: is this the database we know?
                await self._call(self._fence.beat)
                await self._return_strays()
                if left := await self._call(self._store.recover_crashed, self._me.host, alive):
                    log.warning("%d sends were cut off by a crash: unknown until the provider reports them", left)
            except Exception:
                log.exception("This dispatcher could not renew itself in the database")
            await asyncio.sleep(RENEW_EVERY if time.monotonic() < self._sends_until else 0.5)

    async def _keep_house(self) -> None:
        """Beside sending, not between two rounds of it: a chore may take its time."""
        while True:
            await asyncio.sleep(HOUSEKEEPING)
            if self._epoch is None or self._fence.mark is None:
                continue
            try:
                await self._call(self._house.keep)
            except Exception:
                log.exception("Housekeeping will be tried again")

    async def _return_strays(self) -> None:
        if self._claiming or self._epoch is None:  # what a claim that still runs has committed is no stray
            return
        known = set(self._open), set(self._open_messages)
        if strays := await self._call(self._store.return_strays, self._epoch, *known, STRAY_SECONDS):
            log.warning("%d rows had been claimed without this dispatcher's knowing: queued again", strays)

    async def _drain(self) -> None:
        if self._flying:
            await asyncio.wait(self._flying, timeout=DRAIN_SECONDS)
        await self._settle()
        if self._fence.mark is not None:
            await self._call(self._fence.beat)  # what was sent since the last heartbeat is remembered, too
        if self._epoch is not None:
            if left := await self._call(self._store.end_dispatcher, self._epoch):
                log.warning("%d sends had no answer in time: unknown until the provider reports them", left)
            self._epoch = None

    # ------------------------------------------------------------------ sending
    def _free(self) -> int:
        """Places in the window: a row counts from its claim until its settlement is committed.

        A process that has just started, or whose connections failed, opens them one after the other: what is claimed
        while a connection is still being made would be unknown after a crash although nothing ever left.
        """
        open_slots = min(self._window, 1 + 2 * self._answers)
        return open_slots - len(self._open) - len(self._open_messages)

    def _due(self, now: float) -> bool:
        return any(now >= self._claim_at.get(broadcast["id"], 0.0) for broadcast in self._broadcasts)

    def _goes_along(self) -> int:
        """How many answers the next claim writes down on its way: all there are, or none.

        None after a failure: whether it stops its broadcast is to be seen before more is claimed. And none beside
        answers to messages: the next one to the same person waits for them.
        """
        if self._settled_messages or any(s.state is DeliveryState.FAILED for s in self._settled):
            return 0
        return len(self._settled)

    async def _claim_in_turn(self, now: float) -> None:
        """Test sends first, the others one after the other: a big broadcast does not keep the rest waiting."""
        first = self._turn % len(self._broadcasts) if self._broadcasts else 0
        turn = sorted(self._broadcasts[first:] + self._broadcasts[:first], key=lambda b: not b["test"])
        for position, broadcast in enumerate(turn):
            free = self._free() + self._goes_along()
            share = max(1, free // (len(turn) - position))
            if free <= 0 or now < self._claim_at.get(broadcast["id"], 0.0):
                continue
            try:
                if await self._claim_deliveries(broadcast, share):
                    self._turn += 1
            except Exception:
                log.exception("Nothing could be claimed of broadcast %s; the others go on", broadcast["id"])
                self._claim_at[broadcast["id"]] = time.monotonic() + 1.0

    async def _claim_messages(self, now: float) -> None:
        """Messages to people in conversation go before anything of a broadcast."""
        free = self._free()
        if free <= 0:  # the next slot is theirs
            return
        self._messages_at = now + LOOK_FOR_MESSAGES
        known, epoch = self._fence.mark, self._epoch
        if epoch is None or known is None:
            return
        rules = replace(self._rules, known=known, horizon=HORIZON_FOR_MESSAGES)
        self._claiming = True
        try:
            queued = await self._call(self._store.claim_messages, free, epoch, rules)
        finally:
            self._claiming = False
        if queued:  # there may be more
            self._messages_at = now
        for message in queued:
            self._open_messages.add(message.id)
            self._fly(self._one_message(message, self._moment(message.send_at), _Tenure(epoch, known.installation)))

    async def _claim_deliveries(self, broadcast: dict[str, Any], limit: int) -> int:
        connector = self._connectors.get(broadcast["channel"])
        if connector is None:
            why = Why("no_channel", {"channel": broadcast["channel"]})
            await self._call(self._store.pause_broadcast, broadcast["id"], why)
            return 0
        known, epoch = self._fence.mark, self._epoch
        if epoch is None or known is None:
            return 0
        try:
            template = self._template(broadcast)
        except Exception:
            log.exception("The template of broadcast %s can't be read", broadcast["id"])
            await self._call(self._store.pause_broadcast, broadcast["id"], Why("unreadable_template"))
            return 0
        start = self._last.get(broadcast["sender"], 0.0) - time.monotonic()
        answered, self._settled = (self._settled, []) if self._goes_along() else ([], self._settled)
        written = {s.id for s in answered}
        self._claiming = True
        try:
            claim = await self._call(
                self._claim,
                answered,
                broadcast["id"],
                limit,
                epoch,
                replace(self._rules, known=known),
                self._store.now() + int(start * 1_000_000) if start > 0 else 0,
            )
        finally:
            self._claiming = False
            self._open -= written.difference(s.id for s in answered)
            self._settled[:0] = answered
        self._claim_at[broadcast["id"]] = (
            time.monotonic() + LOOK_FOR_BROADCASTS if claim.again_at is None else self._moment(claim.again_at)
        )
        tenure = _Tenure(epoch, known.installation)
        for claimed in claim.rows:
            self._open.add(claimed.id)
            moment = self._moment(claimed.send_at)
            self._fly(self._one_delivery(connector, template, claimed, moment, claim.interval / 1e6, tenure))
        return len(claim.rows)

    def _claim(
        self, answered: list[Settlement], broadcast_id: str, limit: int, epoch: int, rules: ClaimRules, start: int
    ) -> Claim:
        """Settle, claim, and remember it in the file beside the settings before the first byte leaves.

        `answered` is emptied as soon as it is written down, whatever becomes of the claim.
        """
        if answered:
            self._store.settle_deliveries(answered)
            answered.clear()
        claim = self._store.claim_deliveries(broadcast_id, limit, epoch, rules, start)
        if claim.rows:
            self._fence.note(claim.rows[0].sender, claim.claims)
        return claim

    async def _one_delivery(
        self,
        connector: Connector,
        template: Template,
        claimed: Claimed,
        moment: float,
        interval: float,
        tenure: _Tenure,
    ) -> None:
        until = await self._begin(claimed.sender, moment, interval, tenure)
        if until is None:
            settlement = _fenced(claimed)
        else:
            settlement = await send_delivery(connector, template, claimed, self._key, tenure.installation, until)
        self._settled.append(settlement)
        self._answered(settlement)

    async def _one_message(self, queued: QueuedMessage, moment: float, tenure: _Tenure) -> None:
        connector = self._connectors.get(queued.channel)
        if connector is None:
            settlement = _no_channel(queued)
        elif (until := await self._begin(queued.sender, moment, queued.interval / 1e6, tenure)) is None:
            settlement = _fenced(queued)
        else:
            settlement = await send_message(connector, queued, tenure.installation, until)
        self._settled_messages.append(settlement)
        self._answered(settlement)

    async def _begin(self, sender: str, moment: float, interval: float, tenure: _Tenure) -> float | None:
        """Wait for a row's moment. Returns until when it may go (time.monotonic()).

        None: this process was given up meanwhile, as it had been frozen, and must not send what it had claimed.
        """
        try:
            if (wait := moment - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            now = time.monotonic()
            # Those that woke up late must not go out in a bunch: the spacing holds between real beginnings.
            begins = max(now, self._last.get(sender, 0.0) + interval)
            self._last[sender] = begins
            if begins - now > 0.001:
                await asyncio.sleep(begins - now)
        except asyncio.CancelledError:  # frozen for longer than a send may take: its slot must come back all the same
            return None
        until = self._sends_until
        return until if self._epoch == tenure.epoch and time.monotonic() < until else None

    def _answered(self, settlement: Settlement) -> None:
        self._answers = 0 if settlement.trouble else self._answers + 1
        self._wake.set()

    def _fly(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._flying.add(task)
        # A connector answers in time by itself; one that hangs must not keep its slot for ever.
        hangs = asyncio.get_running_loop().call_later(HANG_SECONDS, task.cancel)

        def landed(task: asyncio.Task[None]) -> None:
            hangs.cancel()
            self._flying.discard(task)

        task.add_done_callback(landed)

    async def _settle(self) -> None:
        deliveries, self._settled = self._settled, []
        messages, self._settled_messages = self._settled_messages, []
        failed = {s.broadcast_id for s in deliveries if s.state is DeliveryState.FAILED}
        try:
            if deliveries:
                await self._call(self._store.settle_deliveries, deliveries)
                self._open.difference_update(s.id for s in deliveries)
                deliveries = []
            if messages:
                await self._call(self._store.settle_messages, messages)
                self._open_messages.difference_update(s.id for s in messages)
                messages = []
                self._messages_at = 0.0  # the next one to the same person may go now
        finally:  # what could not be written now is written next time
            self._settled[:0] = deliveries
            self._settled_messages[:0] = messages
        for broadcast_id in sorted(failed):
            await self._call(self._house.stop_early, broadcast_id)

    # ------------------------------------------------------------------ small things
    def _template(self, broadcast: dict[str, Any]) -> Template:
        found = self._templates.get(broadcast["id"])
        if found is None:
            if len(self._templates) > 100:
                self._templates.clear()
            found = self._templates[broadcast["id"]] = Template.from_meta(orjson.loads(broadcast["template"]))
        return found

    def _moment(self, at: int) -> float:
        """Microseconds UTC as time.monotonic(); never far away, for the clock may be turned back at any time."""
        return time.monotonic() + min((at - self._store.now()) / 1e6, FURTHEST)

    async def _until(self, moment: float) -> None:
        """Sleep until `moment` or until something happens."""
        wait = moment - time.monotonic()
        if wait > 0 and not self._wake.is_set():
            try:
                await asyncio.wait_for(self._wake.wait(), wait)
            except asyncio.TimeoutError:
                return

    async def _wake_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    @staticmethod
    async def _sleep(stop: asyncio.Event, seconds: float) -> None:
        try:
            await asyncio.wait_for(stop.wait(), seconds)
        except asyncio.TimeoutError:
            return

    @staticmethod
    async def _call(function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.to_thread(function, *arguments)


def _no_channel(row: QueuedMessage) -> Settlement:
    return Settlement(
        row.id, row.claimed_at, DeliveryState.FAILED, error_code="channel",
        error=f"the channel {row.channel} is not configured",
    )  # fmt: skip


def _fenced(row: Claimed | QueuedMessage) -> Settlement:
    return not_sent(row, "fenced", "this dispatcher was given up before it could send")


async def run_worker(services: Services, stop: asyncio.Event) -> None:
    """Dispatch until `stop`, with connectors of this event loop's own."""
    connectors = open_connectors(services.settings)
    try:
        await Dispatcher(services, connectors).run(stop)
    finally:
        for connector in connectors.values():
            await connector.aclose()
