"""Plays a plan: keeps dispatchers and a receiver alive, ends them as planned, and watches the counts."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from plugin.cli.crashtest import census
from plugin.cli.crashtest.forks import Forked, Forks
from plugin.cli.crashtest.plan import Act
from plugin.cli.crashtest.stage import Broadcast, Stage
from plugin.dispatch.loop import LEASE_SECONDS
from plugin.errors import VamosError

T = TypeVar("T")

DISPATCHER, RECEIVER = "plugin.cli.crashtest.roles:dispatcher", "plugin.cli.crashtest.roles:receiver"
STORE = "plugin.store:Store"

#: Seconds between two looks at the counts.
_LOOK = 0.4
#: Seconds for a process to become ready.
_READY = 30.0
#: Seconds after which a point is given up that nothing passes (the work is done, or waits); a random kill instead.
_UNREACHED = 6.0
#: Rows per life are drawn evenly up to twice this share of the recipients per life: the rest is for the end.
_USED = 0.75
#: Rows a second before the run has shown its own pace, and the shortest time a life is given.
_FIRST_RATE, _SHORTEST = 300.0, 0.02
#: Webhooks that a doomed receiver may take before it dies.
_WEBHOOKS = 6
#: Longest that a drain may take (docs/architecture.md).
DRAIN_LIMIT = 12.0
#: Seconds a process is frozen, and how long it is watched afterwards.
_FROZEN, _THAWED = LEASE_SECONDS + 2.0, 1.5
#: Seconds without any change of the counts after which the run has come to a stop.
_STILL = 90.0
#: Windows in flight at once after which nothing can be hoped for.
_RUNAWAY = 3
#: After the number of any act.
_LAST = 2**31


class Stuck(VamosError):
    """The run came to a stop before everybody was sent to."""

    code = "stuck"


@dataclass
class Outcome:
    """What happened while the plan was played. `crashes`: rows left open, one for each dispatcher that died.

    `points`: kills by point, "random" from outside; `died_at`: the same by epoch. `idle_kills` hit a dispatcher when
    nothing was left to send.
    `sent_after_fence`: attempts that a frozen process, awake again, still may not send (row, attempt, seconds).
    """

    kills: int = 0
    crashes: list[int] = field(default_factory=list)
    points: Counter[str] = field(default_factory=Counter)
    unknown_by_point: Counter[str] = field(default_factory=Counter)
    died_at: dict[int, str] = field(default_factory=dict)
    idle_kills: int = 0
    drained: int = 0
    unknown_after_drain: int = 0
    drain_seconds_max: float = 0.0
    frozen: int = 0
    fenced: list[tuple[int, int, float]] = field(default_factory=list)
    looks: int = 0
    in_flight_max: int = 0
    problems: list[str] = field(default_factory=list)


class Controller:
    """One run.

    Args:
        dispatchers: how many send at once.
        store: class of the store the dying processes work with ("module:class").
        tick: called with words on how far it is.
    """

    def __init__(
        self,
        stage: Stage,
        broadcast: Broadcast,
        forks: Forks,
        plan: Sequence[Act],
        *,
        dispatchers: int,
        store: str = STORE,
        tick: Callable[[str], None] = lambda words: None,
    ) -> None:
        self.outcome = Outcome()
        self._stage = stage
        self._broadcast = broadcast
        self._forks = forks
        self._dispatchers = dispatchers
        self._store = store
        self._tick = tick
        self._planned = sum(act.kind == "kill" for act in plan)
        self._queue = deque(act for act in plan if act.target == "dispatcher")
        self._webhook_queue = deque(act for act in plan if act.target == "receiver")
        self._turn = 0
        #: How many rows one life may send, on average.
        self._rows = _USED * broadcast.recipients / max(1, len(self._queue))
        self._census = census.Census({"queued": broadcast.recipients}, "running", "", {})
        self._progress: deque[tuple[float, int]] = deque(maxlen=25)
        self._background: set[asyncio.Task[None]] = set()
        self._turned = asyncio.Condition()
        self._done = asyncio.Event()

    async def run(self) -> Outcome:
        """Play the plan to its end, let the rest be sent and every webhook come in.

        Raises:
            Stuck: nothing moved for a long time.
            ForkServerGone, ChildDied: a part of the stage broke.
        """
        tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._receivers())]
        tasks += [asyncio.create_task(self._lives()) for _ in range(self._dispatchers)]
        try:
            everything = asyncio.gather(*tasks)
            await everything
        finally:
            for task in [*tasks, *self._background]:
                task.cancel()
            await asyncio.gather(*tasks, *self._background, return_exceptions=True)
        return self.outcome

    # ------------------------------------------------------------------ dispatchers
    async def _lives(self) -> None:
        """One after the other, as planned; the last one lives until everything is sent."""
        while self._queue:
            act = self._queue.popleft()
            await self._turn_to(act.number)
            await self._life(act)
        await self._turn_to(_LAST)
        before = await self._call(census.newest_epoch)
        last = await self._forks.start(DISPATCHER, self._spec())
        await self._done.wait()
        await self._drain(last, before)

    async def _life(self, act: Act) -> None:
        before = await self._call(census.newest_epoch)
        after = int(act.share * 2 * self._rows)
        dispatcher = await self._forks.start(DISPATCHER, self._spec(act.point, after))
        if not await dispatcher.wait_ready(_READY):
            self.outcome.problems.append(f"a dispatcher did not start (act {act.number})")
            await dispatcher.kill()
            return
        if act.point:
            if not await dispatcher.wait(_UNREACHED + 2 * after / self._pace()):
                await dispatcher.kill()
            await self._died(dispatcher, before)
            return
        await dispatcher.wait(max(_SHORTEST, after / self._pace()))
        if act.kind == "drain":
            await self._drain(dispatcher, before)
        elif act.kind == "freeze":
            dispatcher.signal(signal.SIGSTOP)
            task = asyncio.create_task(self._freeze(dispatcher, before))
            self._background.add(task)
            task.add_done_callback(self._background.discard)
        else:
            await dispatcher.kill()
            await self._died(dispatcher, before)

    async def _died(self, dispatcher: Forked, before: int) -> None:
        """Count what it left behind, at once: the next one takes care of it."""
        left = await self._left_open(dispatcher, before)
        status = dispatcher.ended.result()
        if status != -signal.SIGKILL:
            self.outcome.problems.append(f"a dispatcher ended by itself with exit code {status}")
            return
        point = dispatcher.point or "random"
        self._killed(point)
        self.outcome.crashes.append(left)
        self.outcome.unknown_by_point[point] += left
        self.outcome.died_at.update(dict.fromkeys(await self._epochs(dispatcher, before), point))
        self.outcome.idle_kills += not self._census.left

    async def _drain(self, dispatcher: Forked, before: int) -> None:
        asked = time.monotonic()
        dispatcher.signal(signal.SIGTERM)
        if not await dispatcher.wait(DRAIN_LIMIT + 5):
            await dispatcher.kill()
        seconds = time.monotonic() - asked
        self.outcome.drained += 1
        self.outcome.drain_seconds_max = max(self.outcome.drain_seconds_max, seconds)
        self.outcome.unknown_after_drain += await self._left_open(dispatcher, before)
        if status := dispatcher.ended.result():
            self.outcome.problems.append(f"a dispatcher that was asked to end ended with {status}")

    async def _freeze(self, dispatcher: Forked, before: int) -> None:
        """Frozen for longer than its epoch lasts: others take over, and awake again it must not send what it held."""
        await asyncio.sleep(_FROZEN)
        for epoch in await self._epochs(dispatcher, before):
            self.outcome.died_at[epoch] = "frozen"
            # Not given up although it is overdue: every other dispatcher was dead at the time. Wait for one.
            for _ in range(50):
                if await self._call(census.how_ended, epoch) == "crashed" or self._done.is_set():
                    break
                await asyncio.sleep(0.1)
            held = await self._call(census.attempts_of, epoch)
            self.outcome.fenced += [(row, attempt, time.time()) for row, attempt in held]
            self.outcome.crashes.append(left := await self._call(census.left_open, epoch))
            self.outcome.unknown_by_point["frozen"] += left
        self.outcome.frozen += 1
        before = await self._call(census.newest_epoch)
        dispatcher.signal(signal.SIGCONT)
        await asyncio.sleep(_THAWED)
        await self._drain(dispatcher, before)

    async def _epochs(self, dispatcher: Forked, before: int) -> list[int]:
        return await self._call(census.epochs_of, dispatcher.pid, before)

    async def _left_open(self, dispatcher: Forked, before: int) -> int:
        return sum([await self._call(census.left_open, epoch) for epoch in await self._epochs(dispatcher, before)])

    # ------------------------------------------------------------------ the receiver
    async def _turn_to(self, number: int) -> None:
        """The dispatchers have come to act `number`: receivers follow, so that both die all through the run."""
        async with self._turned:
            self._turn = max(self._turn, number)
            self._turned.notify_all()

    async def _reached(self, number: int) -> None:
        async with self._turned:
            await self._turned.wait_for(lambda: self._turn >= number)

    async def _receivers(self) -> None:
        """Always one; each dies when its turn comes. The last one stays until every webhook is in."""
        while self._webhook_queue and not self._done.is_set():
            act = self._webhook_queue.popleft()
            receiver = await self._receiver(act.point, int(act.share * _WEBHOOKS))
            await self._reached(act.number)
            if act.point:
                receiver.signal(signal.SIGUSR1)
                await receiver.wait(_UNREACHED)
            else:
                await asyncio.sleep(act.share * 0.3)
            await receiver.kill()
            if receiver.ended.result() != -signal.SIGKILL:
                self.outcome.problems.append(f"the receiver ended by itself with {receiver.ended.result()}")
            else:
                self._killed(receiver.point or "random receiver")
        last = await self._receiver("", 0)
        await self._done.wait()
        last.signal(signal.SIGTERM)
        await last.wait(10)

    async def _receiver(self, point: str, after: int) -> Forked:
        receiver = await self._forks.start(RECEIVER, {**self._spec(point, after), "port": self._stage.webhook_port})
        if not await receiver.wait_ready(_READY):
            self.outcome.problems.append("the receiver did not start")
        return receiver

    # ------------------------------------------------------------------ the counts
    async def _watch(self) -> None:
        """Look at the counts until all is sent, settled and told; they must add up at every look."""
        changed, seen = time.monotonic(), self._census
        for _ in itertools.count():
            now = await self._call(census.look, self._broadcast.id)
            self._note(now)
            webhooks = await asyncio.to_thread(self._stage.pending_webhooks)
            if now.states != seen.states:
                changed, seen = time.monotonic(), now
            finished = not now.left and not self._queue and not self._webhook_queue and not webhooks
            if finished and now.broadcast == "finished" and not self._background:
                self._done.set()
                return
            if max(now.in_flight.values(), default=0) > _RUNAWAY * self._stage.settings.window:
                raise Stuck(
                    f"A dispatcher has {max(now.in_flight.values())} rows in flight; its window is"
                    f" {self._stage.settings.window}.",
                    f"Look at the logs in {self._stage.state.logs}.",
                )
            if now.broadcast == "paused":
                raise Stuck(f"The broadcast was paused: {now.reason}")
            if time.monotonic() - changed > _STILL and not self._queue:
                raise Stuck(
                    f"Nothing has moved for {_STILL:.0f} s: {now.states}, broadcast {now.broadcast},"
                    f" {webhooks} webhooks to come.",
                    f"Look at the logs in {self._stage.state.logs}.",
                )
            self._stage.check()
            done = sum(now.states.values()) - now.left
            self._tick(f"{self.outcome.kills} of {self._planned} kills, {done} of {self._broadcast.lines} lines")
            await asyncio.sleep(_LOOK)

    def _note(self, now: census.Census) -> None:
        self._census = now
        self._progress.append((time.monotonic(), now.left))
        self.outcome.looks += 1
        rows = sum(now.states.values())
        if rows != self._broadcast.lines:
            self.outcome.problems.append(f"the states came to {rows}, not to the {self._broadcast.lines} lines")
        self.outcome.in_flight_max = max([self.outcome.in_flight_max, *now.in_flight.values()])

    def _pace(self) -> float:
        """Rows a second of one dispatcher, lately; never so slow that a life becomes long."""
        (first, more), (last, less) = self._progress[0], self._progress[-1]
        found = (more - less) / (last - first) if last > first else _FIRST_RATE
        return max(found, _FIRST_RATE / 3) / self._dispatchers

    def _killed(self, point: str) -> None:
        self.outcome.kills += 1
        self.outcome.points[point] += 1

    # ------------------------------------------------------------------ small things
    def _spec(self, point: str = "", after: int = 0) -> dict[str, Any]:
        return {"settings": str(self._stage.state.settings), "store": self._store, "point": point, "after": after}

    async def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.to_thread(function, self._stage.services.store, *arguments)
