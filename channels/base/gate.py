"""The gate before Rasa: takes stored messages in order and gives each to a human, to the redirect, or to the bot.

::

    webhook → receive → commit → 200 → Gate.wake()
    gate    → take_inbound → route → done         a human has the contact: the bot keeps silent
                                   → interaction  action_redirect, then what its outcome asks of the bot
                                   → bot          the bot, unchanged

Runs on Rasa's event loop, so it never touches the database there, only in threads. A crash at any point leaves the
row's lease to run out; every step recognises what was done before. Imports nothing of Rasa: see `Bot`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from channels.base.compat import plain_text
from plugin.domain.conversation import Returned
from plugin.domain.token import BUTTON_PREFIX
from plugin.settings import Settings
from plugin.store import Store
from plugin.usecases import receive
from plugin.usecases.receive import Route
from plugin.usecases.redirect import Redirected, Texts, redirect

log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: Messages of different people in work at once.
CONCURRENCY = 16
#: Seconds between looks at the store when nobody wakes the gate (another process took the webhook; a lease ran out).
POLL_SECONDS = 1.0
#: Seconds a message is ours; renewed while it is in work, so that only a dead process's lease runs out.
LEASE_SECONDS = 15.0
#: Seconds that stopping waits for turns in work.
DRAIN_SECONDS = 10.0
#: Longest pause after failures of the store.
_MAX_PAUSE = 15.0


@dataclass(frozen=True)
class Turn:
    """One message as the bot gets it. `bot_speaks` says whether the bot answers this reply at all."""

    inbound_id: str
    contact_id: str
    channel: str
    text: str
    broadcast_text: str = ""
    bot_speaks: bool = True
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True)
class Said:
    """A message for the tracker. `author` is broadcast, contact, agent, bot or system; `key` identifies it for ever;
    `inbound_id` is the reply that it is, or that it answers."""

    author: str
    text: str
    key: str = ""
    inbound_id: str = ""


class Bot(Protocol):
    """What the gate asks of a bot: `channels.base.conversation.RasaBot` in the product, a recorder in fast tests."""

    def ready(self) -> bool: ...
    async def turn(self, turn: Turn) -> None: ...
    async def interaction(self, turn: Turn, redirect: Callable[[], Awaitable[Redirected]]) -> Redirected: ...
    async def first_turn(self, turn: Turn) -> None: ...
    async def human_done(
        self, contact_id: str, channel: str, case_id: str, said: Sequence[Said], *, menu: bool
    ) -> None: ...


class Gate:
    """`start` on the server's loop, `wake` after each stored webhook, `stop` before the server stops."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        key: bytes,
        bot: Bot,
        *,
        concurrency: int = CONCURRENCY,
        poll_seconds: float = POLL_SECONDS,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._store = store
        self._bot = bot
        self._texts = Texts(settings.text_handoff, settings.text_opt_out, settings.text_notification)
        self._route = partial(receive.route, key=key, talk_button=settings.talk_button)
        self._concurrency = concurrency
        self._poll_seconds = poll_seconds
        self._lease_seconds = lease_seconds
        self._work: dict[str, asyncio.Task[None]] = {}
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._awake = asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        # Not the loop's default threads: NLU, name resolution and the desk may have all of those busy.
        self._threads = ThreadPoolExecutor(8, "vamos-gate")

    def start(self) -> None:
        """Begin. Call it on the event loop that Rasa serves from."""
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._renew())]

    def wake(self) -> None:
        """There is something to do."""
        self._awake.set()

    async def stop(self) -> None:
        """Take nothing new and let turns in work end, at most `DRAIN_SECONDS`; the next start takes the rest again."""
        self._stopping = True
        self._awake.set()
        if self._tasks:
            await self._tasks[0]
        rest = [*self._work.values(), *self._telling.values()]
        if rest:
            await asyncio.wait(rest, timeout=DRAIN_SECONDS)
        rest += self._tasks
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        self._threads.shutdown(wait=False)

    # ------------------------------------------------------------------ loop
    async def _run(self) -> None:
        pause = self._poll_seconds
        while not self._stopping:
            self._awake.clear()
            try:
                # Without a model nothing is taken: the sweeper redirects, what only the bot can answer waits for it.
                if self._bot.ready():
                    await self._take()
                    for case in await self._in_thread(self._store.cases_to_tell, self._concurrency):
                        self._tell(case)
                pause = self._poll_seconds
            except Exception:
                log.exception("The gate could not look at the store; trying again in %g s", pause)
                pause = min(pause * 2, _MAX_PAUSE)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._awake.wait(), pause)

    async def _take(self) -> None:
        free = self._concurrency - len(self._work)
        if free <= 0:
            return
        for inbound_id in await self._in_thread(
            receive.take_inbound, self._store, limit=free, lease_seconds=self._lease_seconds
        ):
            if inbound_id not in self._work:
                self._work[inbound_id] = asyncio.create_task(self._process(inbound_id))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            if not self._work:
                continue
            try:
                await self._in_thread(self._store.renew_inbound, list(self._work), self._lease_seconds)
            except Exception:
                log.exception("The leases of %d messages could not be renewed", len(self._work))

    async def _process(self, inbound_id: str) -> None:
        try:
            route: Route = await self._in_thread(self._route, self._store, inbound_id)
            if route.kind == "interaction":
                await self._interaction(route)
            elif route.kind == "bot":
                await self._human_first(route.contact_id)
                await self._bot.turn(_turn(route))
            if route.kind != "done":
                await self._in_thread(receive.finish, self._store, inbound_id)
        except Exception as error:
            log.exception("Message %s failed and is tried again", inbound_id)
            await self._release(inbound_id, f"{type(error).__name__}: {error}")
        finally:
            self._work.pop(inbound_id, None)
            self._awake.set()

    async def _release(self, inbound_id: str, error: str) -> None:
        try:
            await self._in_thread(receive.release, self._store, inbound_id, error)
        except Exception:
            log.exception("Message %s could not be given back; its lease runs out by itself", inbound_id)

    async def _interaction(self, route: Route) -> None:
        assert route.decision is not None
        turn = _turn(route)

        async def carry_out() -> Redirected:
            return await self._in_thread(
                redirect, self._store, route.inbound_id, contact_id=route.contact_id, by="gate", texts=self._texts
            )

        try:
            result = await self._bot.interaction(turn, carry_out)
        except Exception:
            # Rasa's tracker store or lock failed: the person is served all the same, the tracker follows on a retry.
            await carry_out()
            raise
        if result.restart:
            await self._bot.first_turn(turn)
        elif result.bot_reply:
            await self._bot.turn(turn)

    # ------------------------------------------------------------------ human stretches that are over
    async def _human_first(self, contact_id: str) -> None:
        """What a human said comes before what the bot says next, also in the tracker."""
        over = await self._in_thread(self._store.cases_to_tell, 1000)
        mine = [self._tell(case) for case in over if case["contact_id"] == contact_id]
        if mine:
            await asyncio.wait(mine)

    def _tell(self, case: dict[str, str]) -> asyncio.Task[None]:
        """Tell the bot about one case, once at a time. In a task: the conversation may be busy for long."""
        case_id = case["id"]
        if case_id not in self._telling:
            task = self._telling[case_id] = asyncio.create_task(self._tell_case(case))
            task.add_done_callback(lambda _: self._telling.pop(case_id, None))
        return self._telling[case_id]

    async def _tell_case(self, case: dict[str, str]) -> None:
        try:
            if not await self._in_thread(self._store.case_to_tell, case["id"]):
                return  # told since it was looked up
            said = await self._in_thread(self._said, case["contact_id"], case["id"])
            menu = case["returned"] == Returned.MENU.value
            await self._bot.human_done(case["contact_id"], case["channel"], case["id"], said, menu=menu)
            await self._in_thread(self._store.case_told, case["id"])
        except Exception:
            log.exception("The bot could not be told that case %s is over; trying again", case["id"])

    def _said(self, contact_id: str, case_id: str) -> list[Said]:
        """What the person was sent and everything said in the case, oldest first."""
        summary = self._store.case(case_id)
        broadcast = self._store.case_view(summary).broadcast if summary else None
        messages = [
            Said(m["author"], m["text"], f"message.{m['id']}", m["inbound_id"] or _answered(m["dedupe"]))
            for m in self._store.conversation(contact_id)
            if m["case_id"] == case_id and m["text"]
        ]
        if broadcast is None:
            return messages
        reply = next((one.inbound_id for one in messages if one.author == "contact"), "")
        return [Said("broadcast", broadcast["text"], f"broadcast.{case_id}", reply), *messages]

    async def _in_thread(self, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *args, **kwargs))


def _answered(dedupe: str | None) -> str:
    """The reply that a message of the system acknowledges (`plugin.usecases.redirect`)."""
    kind, _, rest = (dedupe or "").partition(".")
    return rest.partition(".")[0] if kind == "redirect" else ""


def _turn(route: Route) -> Turn:
    return Turn(
        inbound_id=route.inbound_id,
        contact_id=route.contact_id,
        channel=route.channel,
        text=_text(route),
        broadcast_text=route.broadcast_text,
        bot_speaks=route.decision is None or route.decision.bot_reply,
    )


def _text(route: Route) -> str:
    """What the bot reads: the payload of a button that the bot itself offered, else the text, which names no intent.

    A payload can't be typed: the provider returns the one that was sent with the button. The tokens of broadcast
    buttons mean nothing to a bot.
    """
    if route.payload and not route.payload.startswith(BUTTON_PREFIX):
        return route.payload
    return plain_text(route.text)
