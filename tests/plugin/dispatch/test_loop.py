"""The dispatcher against a real database and a connector that does as it is told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timezone

import pytest

from channels.loopback.connector import LoopbackConnector
from plugin.bootstrap import Services
from plugin.connector import (
    Ambiguous,
    NotSent,
    Outbound,
    Refused,
    SendResult,
    StatusUpdate,
    TemplateMessage,
    TextMessage,
)
from plugin.dispatch.loop import Dispatcher
from plugin.dispatch.process import this_process
from plugin.domain.refusal import Reaction, Refusal
from plugin.domain.template import Template
from plugin.domain.token import ButtonToken
from plugin.domain.why import Why
from plugin.settings import Settings
from plugin.store import Store
from plugin.testing.scenario import KEY, SENDER, TEMPLATES, Scenario
from plugin.usecases.dispatch import Settlement
from plugin.usecases.report import report


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.dispatch.loop.HOUSEKEEPING", 0.05)
    monkeypatch.setattr("plugin.usecases.dispatch.NOT_SENT_SECONDS", 0.05)
    sleep = Dispatcher._sleep  # before the next try of what the database refused
    monkeypatch.setattr(Dispatcher, "_sleep", staticmethod(lambda stop, _: sleep(stop, 0.05)))


def refused(reaction: Reaction, code: str, *, seconds: float = 0.05, tries: int = 0) -> Refused:
    return Refused(Refusal(code, reaction, "Foi assim.", "It was so.", "Faça isto.", "Do this.", seconds, tries), "no")


class Loopback(LoopbackConnector):
    """Counts attempts, and may take its time."""

    def __init__(self, latency: float = 0.0) -> None:
        super().__init__(SENDER, "a secret", [Template.from_meta(raw) for raw in TEMPLATES])
        self.latency = latency
        self.attempts = 0

    async def send(self, message: Outbound) -> SendResult:
        self.attempts += 1
        await asyncio.sleep(self.latency)
        return await super().send(message)

    @property
    def messages(self) -> list[Outbound]:
        return [message for message, _ in self.sent]


def services(store: Store, **changes: object) -> Services:
    return Services(Settings(**{"database": store.url, "rate": 1000, **changes}), store, {}, KEY)  # type: ignore[arg-type]


@asynccontextmanager
async def dispatching(store: Store, connector: Loopback, **changes: object) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(Dispatcher(services(store, **changes), {"whatsapp": connector}).run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not await asyncio.to_thread(condition):
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def states(scenario: Scenario, broadcast: str) -> dict[str, int]:
    found = report(scenario.store, scenario.operator, broadcast)
    assert found.rows == found.accepted + found.rejected + sum(found.skipped.values())
    return {state: count for state, count in found.states.items() if count}


async def test_a_broadcast_is_sent_with_its_values_tokens_and_correlation_and_finishes(scenario: Scenario) -> None:
    numbers = [scenario.number() for _ in range(40)]
    broadcast = scenario.launch(numbers)
    connector = Loopback()
    async with dispatching(scenario.store, connector):
        await until(lambda: report(scenario.store, scenario.operator, broadcast).state == "finished")
    assert states(scenario, broadcast) == {"sent": 40}
    assert sorted(m.address for m in connector.messages) == sorted(numbers)
    first = next(m for m in connector.messages if m.address == numbers[0])
    assert isinstance(first.content, TemplateMessage)
    assert first.content.body == {"1": "Pessoa 1"}
    token = ButtonToken.read(first.content.payloads[0], KEY)
    assert token is not None
    assert first.correlation == scenario.correlation(token.delivery)


@pytest.mark.parametrize(
    ("error", "end", "sends"),
    [
        (refused(Reaction.FAIL, "131026"), {"failed": 1}, 1),
        (Ambiguous("timeout"), {"unknown": 1}, 1),
        (RuntimeError("a bug in a connector"), {"unknown": 1}, 1),
        (NotSent("refused"), {"sent": 1}, 2),
        (refused(Reaction.BACK_OFF, "130429"), {"sent": 1}, 2),
    ],
    ids=["rejected", "ambiguous", "bug", "not sent", "throttled"],
)
async def test_each_refusal_has_its_own_end(
    scenario: Scenario, error: Exception, end: dict[str, int], sends: int
) -> None:
    broadcast = scenario.launch([scenario.number()])
    connector = Loopback()
    connector.fail_next(error)
    async with dispatching(scenario.store, connector):
        await until(lambda: report(scenario.store, scenario.operator, broadcast).state == "finished")
    assert states(scenario, broadcast) == end
    assert connector.attempts == sends


async def test_an_error_that_waiting_may_cure_is_tried_three_times(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number()])
    connector = Loopback()
    connector.fail_next(*[refused(Reaction.RETRY, "131000", tries=2)] * 3)
    async with dispatching(scenario.store, connector):
        await until(lambda: connector.attempts == 3)
        await until(lambda: report(scenario.store, scenario.operator, broadcast).state == "finished")
    assert states(scenario, broadcast) == {"failed": 1}


async def test_an_error_that_concerns_everybody_pauses_the_broadcast_with_its_reason(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(30)])
    connector = Loopback()
    connector.fail_next(*[refused(Reaction.PAUSE, "190")] * 30)
    async with dispatching(scenario.store, connector, window=2):
        await until(lambda: report(scenario.store, scenario.operator, broadcast).state == "paused")
    found = report(scenario.store, scenario.operator, broadcast)
    assert "190" in found.state_reason  # explained by the channel, where the report is read
    assert states(scenario, broadcast) == {"queued": 30}


async def test_what_a_dead_dispatcher_left_open_becomes_unknown_and_its_status_settles_it(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(3)])
    claimed = scenario.claim(broadcast, 2)
    assert len(claimed) == 2
    with scenario.store.write() as connection:
        connection.exec_driver_sql("UPDATE dispatcher SET expires_at = 0")
    connector = Loopback()
    async with dispatching(scenario.store, connector):
        await until(lambda: states(scenario, broadcast) == {"unknown": 2, "sent": 1})
    assert connector.attempts == 1  # nothing was resent blindly
    now = datetime.now(timezone.utc)
    scenario.statuses(StatusUpdate("wamid.x", "delivered", now, correlation=scenario.correlation(claimed[0].id)))
    assert states(scenario, broadcast) == {"unknown": 1, "sent": 1, "delivered": 1}


async def test_a_dead_process_of_the_same_machine_is_noticed_at_once(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number()])
    me = this_process()
    epoch = scenario.store.register_dispatcher(me.host, me.pid, "an earlier process with my pid", 300)
    scenario.claim(broadcast, 1, epoch)
    async with dispatching(scenario.store, Loopback()):
        await until(lambda: states(scenario, broadcast) == {"unknown": 1}, 3)


def test_a_dispatcher_that_was_given_up_claims_nothing(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number()])
    old, new = scenario.dispatcher(), scenario.dispatcher()
    assert old < new
    scenario.store.end_dispatcher(old)
    assert not scenario.store.renew_dispatcher(old, 60)
    assert scenario.claim(broadcast, 10, old) == []
    assert len(scenario.claim(broadcast, 10, new)) == 1


def test_nothing_is_claimed_after_a_pause_or_an_opt_out(scenario: Scenario) -> None:
    stays, goes = scenario.number(), scenario.number()
    broadcast = scenario.launch([stays, goes])
    epoch = scenario.dispatcher()
    with scenario.store.write() as connection:
        scenario.store.write_opt_out(connection, goes, "word")
    assert scenario.store.pause_broadcast(broadcast, Why("paused", {"by": "a person"}))
    assert scenario.claim(broadcast, 10, epoch) == []
    with scenario.store.write() as connection:
        connection.exec_driver_sql("UPDATE broadcast SET state = 'running'")
    assert [c.address for c in scenario.claim(broadcast, 10, epoch)] == [stays]


@pytest.mark.parametrize("order", [["sent", "delivered", "read"], ["read", "delivered", "sent"], ["delivered", "read"]])
def test_the_rank_never_falls_whatever_the_order_of_statuses(scenario: Scenario, order: list[str]) -> None:
    number = scenario.number()
    broadcast = scenario.launch([number])
    delivery = scenario.send_all(broadcast)[number]
    now = datetime.now(timezone.utc)
    for status in order:
        scenario.statuses(
            StatusUpdate(f"wamid.out.{delivery}", status, now, correlation=scenario.correlation(delivery))
        )
    assert states(scenario, broadcast) == {"read": 1}


async def test_never_more_rows_are_open_than_the_window_holds(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(120)])
    connector = Loopback(latency=0.01)
    most = 0

    def done() -> bool:
        nonlocal most
        most = max(most, report(scenario.store, scenario.operator, broadcast).states["sending"])
        return len(connector.sent) == 120

    async with dispatching(scenario.store, connector, window=6):
        await until(done)
    assert 0 < most <= 6


async def test_an_answer_that_was_committed_but_not_heard_of_leads_to_no_second_send(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario.launch([scenario.number()])
    settle = scenario.store.settle_deliveries
    calls = 0

    def lost(settlements: Sequence[Settlement]) -> None:
        nonlocal calls
        settle(settlements)
        calls += 1
        if calls == 1:
            raise ConnectionError("server closed the connection unexpectedly")

    monkeypatch.setattr(scenario.store, "settle_deliveries", lost)
    connector = Loopback(latency=0.3)
    connector.fail_next(NotSent("refused"))
    async with dispatching(scenario.store, connector):
        await until(lambda: calls >= 3)
    assert len(connector.sent) == 1


async def test_a_message_that_only_a_person_can_unblock_neither_spins_nor_starves_the_broadcast(
    scenario: Scenario,
) -> None:
    for _ in range(8):
        number = scenario.number()
        scenario.send_all(scenario.launch([number]))
        scenario.redirect(scenario.reply(number))
    broadcast = scenario.launch([scenario.number() for _ in range(60)])

    class Expired(Loopback):
        async def send(self, message: Outbound) -> SendResult:
            if isinstance(message.content, TextMessage):
                self.attempts += 1
                raise refused(Reaction.PAUSE, "190")
            return await super().send(message)

    connector = Expired()
    async with dispatching(scenario.store, connector):
        await until(lambda: states(scenario, broadcast) == {"sent": 60})
    assert connector.attempts <= 60 + 8


async def test_an_agents_answer_goes_out_before_bulk_and_in_order(scenario: Scenario) -> None:
    from plugin.usecases.handoff import answer_case, take_case

    number = scenario.number()
    scenario.send_all(scenario.launch([number]))
    case_id = str(scenario.redirect(scenario.reply(number)).case_id)
    take_case(scenario.store, scenario.ana, case_id, version=1)
    for text in ("um", "dois", "três"):
        answer_case(scenario.store, scenario.ana, case_id, text=text)
    scenario.launch([scenario.number() for _ in range(200)])
    connector = Loopback()
    async with dispatching(scenario.store, connector):
        await until(lambda: [getattr(m.content, "text", None) for m in connector.messages].count("três") == 1)
    texts = [m.content.text for m in connector.messages if m.address == number]  # type: ignore[union-attr]
    assert texts[1:] == ["um", "dois", "três"]
    assert len(connector.sent) < 150, "bulk went first"


async def test_a_stop_drains_and_leaves_nothing_open(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(300)])
    connector = Loopback(latency=0.2)
    async with dispatching(scenario.store, connector, window=16):
        await until(lambda: connector.attempts >= 32)
    left = states(scenario, broadcast)
    assert left.get("unknown", 0) == left.get("sending", 0) == 0
    assert left["sent"] == len(connector.sent)


def test_the_embedded_dispatcher_runs_beside_and_stops(scenario: Scenario, tmp_path: object) -> None:
    from pathlib import Path

    from plugin.dispatch import EmbeddedDispatcher

    credentials = Path(str(tmp_path)) / "credentials.yml"
    credentials.write_text("rest: {}\n")
    settings = Settings(database=scenario.store.url, credentials=str(credentials), rate=1000)
    broadcast = scenario.launch([scenario.number()])
    embedded = EmbeddedDispatcher(Services(settings, scenario.store, {}, KEY))
    embedded.start()
    try:
        asyncio.run(until(lambda: report(scenario.store, scenario.operator, broadcast).state == "paused"))
    finally:
        embedded.stop()
    reason = report(scenario.store, scenario.operator, broadcast).state_reason
    assert "whatsapp" in reason, os.linesep + reason


async def test_a_claim_that_was_committed_but_not_heard_of_is_sent_after_all(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugin.dispatch.loop.STRAY_SECONDS", 0.1)
    monkeypatch.setattr("plugin.dispatch.loop.RENEW_EVERY", 0.1)
    broadcast = scenario.launch([scenario.number() for _ in range(3)])
    claim = scenario.store.claim_deliveries
    calls = 0

    def lost(*arguments: object) -> object:
        nonlocal calls
        found = claim(*arguments)  # type: ignore[arg-type]
        calls += 1
        if calls == 1:
            raise ConnectionError("server closed the connection unexpectedly")
        return found

    monkeypatch.setattr(scenario.store, "claim_deliveries", lost)
    connector = Loopback()
    async with dispatching(scenario.store, connector):
        await until(lambda: states(scenario, broadcast) == {"sent": 3})
    assert len(connector.sent) == 3


async def test_answers_are_written_down_although_nothing_more_can_be_claimed(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(30)])
    connector = Loopback()
    claim = scenario.store.claim_deliveries

    def broken(*arguments: object) -> object:
        if connector.sent:
            raise ConnectionError("server closed the connection unexpectedly")
        return claim(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(scenario.store, "claim_deliveries", broken)
    async with dispatching(scenario.store, connector):
        await until(lambda: states(scenario, broadcast).get("sent", 0) > 0)
        monkeypatch.setattr(scenario.store, "claim_deliveries", claim)
        await until(lambda: states(scenario, broadcast) == {"sent": 30})
    assert len(connector.sent) == 30


async def test_an_answer_is_written_down_although_the_window_is_closed_to_claims(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(40)])
    go_on = asyncio.Event()

    class Held(Loopback):
        async def send(self, message: Outbound) -> SendResult:
            self.attempts += 1
            if self.attempts == 16:  # when all slots are taken: the connections fail, and the window closes to one
                await asyncio.sleep(0.2)
                raise NotSent("refused")
            if self.attempts > 8:
                await go_on.wait()
            return await LoopbackConnector.send(self, message)

    connector = Held()
    async with dispatching(scenario.store, connector, window=8):
        try:
            await until(
                lambda: states(scenario, broadcast) == {"sent": 8, "sending": 7, "deferred": 1, "queued": 24}, 5
            )
        finally:
            go_on.set()
        await until(lambda: states(scenario, broadcast) == {"sent": 40})


async def test_a_row_that_cannot_be_put_into_words_fails_and_the_others_go(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(3)])
    with scenario.store.write() as connection:
        connection.exec_driver_sql("UPDATE delivery SET variables = '[1' WHERE row = 2")
    connector = Loopback()
    async with dispatching(scenario.store, connector):
        await until(lambda: states(scenario, broadcast) == {"sent": 2, "failed": 1})


async def test_a_frozen_template_that_cannot_be_read_pauses_its_broadcast_and_claims_nothing(
    scenario: Scenario,
) -> None:
    broadcast = scenario.launch([scenario.number()])
    with scenario.store.write() as connection:
        connection.exec_driver_sql("UPDATE broadcast SET template = '{'")
    async with dispatching(scenario.store, Loopback()):
        await until(lambda: scenario.store.running_broadcasts() == [])
    with scenario.store.read() as connection:
        assert connection.exec_driver_sql("SELECT state, attempts FROM delivery").one() == ("queued", 0)
    assert broadcast
