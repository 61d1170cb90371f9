"""The gate's loop over a real store and real use cases; only the bot is a recorder (the real one: tests/full)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from channels.base.gate import Gate, Said, Turn
from plugin.domain.conversation import Returned
from plugin.domain.redirect import Redirect, RedirectKind
from plugin.domain.token import ButtonToken
from plugin.settings import Settings
from plugin.store import Store
from plugin.testing.scenario import KEY, Scenario
from plugin.usecases.handoff import answer_case, close_case, list_cases, take_case
from plugin.usecases.redirect import Redirected


class Recorder:
    """A bot that writes down what it is asked, and can be slow, broken or absent."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.told: list[tuple[str, list[Said], bool]] = []
        self.texts: list[str] = []
        self.redirected: list[Redirected] = []
        self.is_ready = True
        self.failures = 0
        self.hold: asyncio.Event | None = None
        self.busy: set[str] = set()
        self.most_busy = 0

    def ready(self) -> bool:
        return self.is_ready

    async def _do(self, what: str, turn: Turn) -> None:
        assert turn.contact_id not in self.busy, "two messages of one contact at once"
        self.busy.add(turn.contact_id)
        self.most_busy = max(self.most_busy, len(self.busy))
        try:
            self.calls.append((what, turn.inbound_id))
            self.texts.append(turn.text)
            if self.hold is not None:
                await self.hold.wait()
            if self.failures:
                self.failures -= 1
                raise RuntimeError("the bot is broken")
        finally:
            self.busy.discard(turn.contact_id)

    async def turn(self, turn: Turn) -> None:
        await self._do("turn", turn)

    async def first_turn(self, turn: Turn) -> None:
        await self._do("first_turn", turn)

    async def interaction(self, turn: Turn, redirect: Callable[[], Awaitable[Redirected]]) -> Redirected:
        await self._do("interaction", turn)
        result = await redirect()
        self.redirected.append(result)
        return result

    async def human_done(
        self, contact_id: str, channel: str, case_id: str, said: Sequence[Said], *, menu: bool
    ) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the bot is broken")
        self.told.append((case_id, list(said), menu))


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.usecases.receive.FIRST_DELAY", 0.05)


@pytest.fixture
def scenario(store: Store) -> Scenario:
    return Scenario(store)


@asynccontextmanager
async def running(scenario: Scenario, bot: Recorder, **options: Any) -> AsyncIterator[Gate]:
    options.setdefault("poll_seconds", 0.05)
    gate = Gate(scenario.store, Settings(), KEY, bot, **options)
    gate.start()
    try:
        yield gate
    finally:
        await gate.stop()


async def until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = await asyncio.to_thread(condition)
        if found:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {seconds:g} s: {what}")


def stored(scenario: Scenario, address: str, text: str = "Oi", **more: Any) -> str:
    inbound_id = scenario.store_message(scenario.inbound(address, text, **more))
    assert inbound_id is not None
    return inbound_id


def state(scenario: Scenario, inbound_id: str) -> str:
    found = scenario.store.inbound(inbound_id)
    assert found is not None
    return found.state


async def done(scenario: Scenario, *inbound_ids: str) -> None:
    for one in inbound_ids:
        await until(lambda one=one: state(scenario, one) == "done", f"message {one} is done")  # type: ignore[misc]


# --------------------------------------------------------------------------- order
async def test_messages_of_one_contact_reach_the_bot_in_order_and_one_at_a_time(scenario: Scenario) -> None:
    numbers = [scenario.number() for _ in range(4)]
    sent = [stored(scenario, number, f"{i}") for i in range(5) for number in numbers]
    bot = Recorder()
    async with running(scenario, bot):
        await done(scenario, *sent)
    # `Recorder` itself asserts that no contact has two at once.
    for first in range(4):
        assert [call for call in bot.calls if call[1] in sent[first::4]] == [("turn", one) for one in sent[first::4]]


async def test_different_contacts_are_served_at_the_same_time_up_to_the_limit(scenario: Scenario) -> None:
    sent = [stored(scenario, scenario.number()) for _ in range(6)]
    bot = Recorder()
    bot.hold = asyncio.Event()
    async with running(scenario, bot, concurrency=4):
        await until(lambda: len(bot.busy) == 4, "four turns in work")
        bot.hold.set()
        await done(scenario, *sent)
    assert bot.most_busy == 4


async def test_waking_the_gate_serves_a_message_without_waiting_for_the_next_poll(scenario: Scenario) -> None:
    bot = Recorder()
    async with running(scenario, bot, poll_seconds=60.0) as gate:
        await asyncio.sleep(0.2)  # past its first look
        one = await asyncio.to_thread(stored, scenario, scenario.number())
        gate.wake()
        await done(scenario, one)


# --------------------------------------------------------------------------- text
@pytest.mark.parametrize(
    ("text", "more", "seen"),
    [
        ("/restart", {}, "∕restart"),
        ('  /inform{"cpf": "1"}', {}, '∕inform{"cpf": "1"}'),
        ("qual é o valor?", {}, "qual é o valor?"),
        ("2ª via da fatura", {"is_tap": True, "payload": "/request_invoice"}, "/request_invoice"),
        ("Vamos conversar", {"is_tap": True, "payload": ButtonToken(999, 0).sign(b"another key")}, "Vamos conversar"),
    ],
    ids=["typed restart", "typed entities", "plain", "the bot's own button", "a broadcast button nobody knows"],
)
async def test_what_is_typed_names_no_intent_and_the_bots_own_buttons_do(
    scenario: Scenario, text: str, more: dict[str, Any], seen: str
) -> None:
    bot = Recorder()
    one = stored(scenario, scenario.number(), text, **more)
    async with running(scenario, bot):
        await done(scenario, one)
    assert bot.texts == [seen]


# --------------------------------------------------------------------------- replies to a broadcast
async def test_a_reply_that_restarts_the_bot_is_its_first_turn(scenario: Scenario) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number], "without_button"))
    one = stored(scenario, number, "que horas?")
    bot = Recorder()
    async with running(scenario, bot):
        await done(scenario, one)
    assert bot.calls == [("interaction", one), ("first_turn", one)]


async def test_a_reply_to_a_notification_goes_on_with_the_bot(scenario: Scenario) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number], "with_talk_button", RedirectKind.NOTIFICATION, notify_text="Até já"))
    one = stored(scenario, number, "ok")
    bot = Recorder()
    async with running(scenario, bot):
        await done(scenario, one)
    assert bot.calls == [("interaction", one), ("turn", one)]


async def test_while_a_human_has_the_contact_the_bot_hears_nothing(scenario: Scenario) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number], "with_talk_button"))
    sent = [stored(scenario, number, text) for text in ("oi", "tem alguém?", "/restart", "/session_start")]
    bot = Recorder()
    async with running(scenario, bot):
        await done(scenario, *sent)
    assert bot.calls == [("interaction", sent[0])]
    (case,) = list_cases(scenario.store, scenario.operator)
    assert case.last_text == "/session_start"


async def test_when_rasas_side_breaks_the_person_is_served_and_the_tracker_follows_on_a_retry(
    scenario: Scenario,
) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number], "with_talk_button"))
    one = stored(scenario, number)
    bot = Recorder()
    bot.failures = 1
    async with running(scenario, bot):
        await until(lambda: list_cases(scenario.store, scenario.operator), "the case is there")
        await done(scenario, one)
    assert bot.calls == [("interaction", one), ("interaction", one)]
    assert [result.first for result in bot.redirected] == [False], "the effect came from the first try"
    assert len(list_cases(scenario.store, scenario.operator)) == 1


# --------------------------------------------------------------------------- trouble
async def test_a_message_that_fails_again_and_again_lets_the_next_one_pass_and_is_not_lost(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugin.usecases.receive.FIRST_DELAY", 0.0)
    number = scenario.number()
    failing, good = stored(scenario, number, "a"), stored(scenario, number, "b")
    bot = Recorder()
    bot.failures = 6
    async with running(scenario, bot):
        await done(scenario, good)
        await done(scenario, failing)
    assert [call[1] for call in bot.calls[:6]] == [failing] * 6
    assert sorted(call[1] for call in bot.calls[6:]) == sorted([failing, good])


async def test_without_a_model_messages_wait(scenario: Scenario) -> None:
    one = stored(scenario, scenario.number())
    bot = Recorder()
    bot.is_ready = False
    async with running(scenario, bot):
        await asyncio.sleep(0.3)
        assert (bot.calls, state(scenario, one)) == ([], "stored")
        bot.is_ready = True
        await done(scenario, one)


async def test_the_gate_survives_a_store_that_fails_for_a_while(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, failures = scenario.store.take_inbound, [OSError("disk full")] * 2

    def failing(limit: int, lease_seconds: float) -> list[str]:
        if failures:
            raise failures.pop()
        return take(limit, lease_seconds)

    monkeypatch.setattr(scenario.store, "take_inbound", failing)
    one = stored(scenario, scenario.number())
    async with running(scenario, Recorder()):
        await done(scenario, one)


async def test_a_long_turn_keeps_its_lease_so_that_no_second_process_takes_it(scenario: Scenario) -> None:
    one = stored(scenario, scenario.number())
    slow, other = Recorder(), Recorder()
    slow.hold = asyncio.Event()
    async with running(scenario, slow, lease_seconds=0.6):
        await until(lambda: slow.busy, "the slow turn began")
        async with running(scenario, other, lease_seconds=0.6):
            await asyncio.sleep(2.0)  # more than three leases
            slow.hold.set()
            await done(scenario, one)
    assert (len(slow.calls), other.calls) == (1, [])


async def test_a_message_of_a_process_that_died_is_taken_again_when_its_lease_runs_out(scenario: Scenario) -> None:
    one = stored(scenario, scenario.number())
    assert scenario.store.take_inbound(10, 0.5) == [one]  # and nothing more: the taker is gone
    bot = Recorder()
    async with running(scenario, bot):
        await done(scenario, one)
    assert bot.calls == [("turn", one)]


async def test_stopping_lets_the_turn_in_work_end(scenario: Scenario) -> None:
    one = stored(scenario, scenario.number())
    bot = Recorder()
    bot.hold = asyncio.Event()
    async with running(scenario, bot) as gate:
        await until(lambda: bot.busy, "the turn began")
        stopping = asyncio.create_task(gate.stop())
        await asyncio.sleep(0.1)
        assert not stopping.done()
        bot.hold.set()
        await stopping
    assert state(scenario, one) == "done"


# --------------------------------------------------------------------------- after a human
@pytest.mark.parametrize("returned", list(Returned))
async def test_the_bot_is_told_once_what_was_said_while_a_human_had_the_contact(
    scenario: Scenario, returned: Returned
) -> None:
    number = scenario.number()
    chosen = Redirect(RedirectKind.HUMAN, scenario.billing)
    scenario.send_all(scenario.launch([number], "with_talk_button", chosen))
    sent = [stored(scenario, number, "oi"), stored(scenario, number, "minha fatura")]
    bot = Recorder()
    bot.failures = 0
    async with running(scenario, bot):
        await done(scenario, *sent)
        (case,) = list_cases(scenario.store, scenario.ana)
        case = take_case(scenario.store, scenario.ana, case.id, version=case.version)
        case = answer_case(scenario.store, scenario.ana, case.id, text="Já resolvi")
        bot.failures = 1  # the first telling fails
        close_case(scenario.store, scenario.ana, case.id, version=case.version, returned=returned.value)
        await until(lambda: bot.told, "the bot was told")
        await until(lambda: not scenario.store.cases_to_tell(10), "the case is marked")
        await asyncio.sleep(0.2)
    ((case_id, said, menu),) = bot.told
    assert (case_id, menu) == (case.id, returned is Returned.MENU)
    assert (said[0].author, said[0].text) == ("broadcast", "Olá Pessoa 1, sua fatura venceu.")
    assert ("contact", "minha fatura") in [(one.author, one.text) for one in said]
    assert ("agent", "Já resolvi") in [(one.author, one.text) for one in said]


async def test_who_looked_before_the_bot_was_told_does_not_tell_it_again(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number], "with_talk_button"))
    bot = Recorder()
    one = stored(scenario, number, "oi")
    async with running(scenario, bot):
        await done(scenario, one)
        (case,) = list_cases(scenario.store, scenario.operator)
        close_case(scenario.store, scenario.operator, case.id, version=case.version)
        stale = scenario.store.cases_to_tell(10)
        await until(lambda: not scenario.store.cases_to_tell(10), "the case is marked")
        looks: list[int] = []

        def look(limit: int) -> list[dict[str, str]]:
            looks.append(limit)
            return stale

        monkeypatch.setattr(scenario.store, "cases_to_tell", look)
        await until(lambda: len(looks) > 5, "the gate looked several times")
    assert len(bot.told) == 1


async def test_the_bot_hears_of_the_human_before_the_next_message(scenario: Scenario) -> None:
    """Also when the contact writes at the very moment the case is closed."""
    number = scenario.number()
    scenario.send_all(scenario.launch([number], "with_talk_button"))
    bot = Recorder()
    one = stored(scenario, number, "oi")
    async with running(scenario, bot):
        await done(scenario, one)
    (case,) = list_cases(scenario.store, scenario.operator)
    close_case(scenario.store, scenario.operator, case.id, version=case.version, returned="menu")
    two = stored(scenario, number, "e agora?")
    order: list[str] = []
    bot.human_done = lambda *a, **k: _note(order, "human")  # type: ignore[method-assign]
    bot.turn = lambda turn: _note(order, "bot")  # type: ignore[method-assign]
    async with running(scenario, bot):
        await done(scenario, two)
    assert order == ["human", "bot"]


async def _note(order: list[str], what: str) -> None:
    if what == "human":
        await asyncio.sleep(0.3)
    order.append(what)
