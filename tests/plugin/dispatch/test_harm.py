"""One thing that goes wrong, or is big, harms nothing beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timezone

import pytest
from sqlalchemy import text

from plugin.connector import Outbound, SendResult, StatusUpdate, TextMessage
from plugin.dispatch.house import Housekeeping
from plugin.dispatch.loop import Dispatcher
from plugin.domain.delivery import DeliveryState
from plugin.domain.refusal import Reaction, Refusal
from plugin.testing.clock import SettableClock
from plugin.testing.scenario import SENDER, Scenario
from plugin.usecases.again import retry_failed
from plugin.usecases.dispatch import ClaimRules, Settlement
from plugin.usecases.report import report

from .test_loop import Loopback, dispatching, refused, services, states, until


def acknowledged(scenario: Scenario, people: int = 1) -> None:
    """So many people are about to get a message of the system."""
    for _ in range(people):
        number = scenario.number()
        scenario.send_all(scenario.launch([number]))
        scenario.redirect(scenario.reply(number))


async def test_a_big_broadcast_does_not_keep_the_next_one_waiting(scenario: Scenario) -> None:
    scenario.launch([scenario.number() for _ in range(400)])
    small = scenario.launch([scenario.number() for _ in range(10)])
    connector = Loopback()
    async with dispatching(scenario.store, connector, rate=100):
        await until(lambda: states(scenario, small) == {"sent": 10})
    assert len(connector.sent) < 100


async def test_a_broadcast_that_cannot_be_claimed_from_does_not_stop_the_others(scenario: Scenario) -> None:
    scenario.launch([scenario.number()])
    with scenario.store.write() as connection:
        connection.exec_driver_sql("UPDATE broadcast SET hours = '{'")
    other = scenario.launch([scenario.number()])
    async with dispatching(scenario.store, Loopback()):
        await until(lambda: states(scenario, other) == {"sent": 1})


@pytest.mark.parametrize("how", ["hangs", "is cancelled"])
async def test_a_connector_that_never_answers_costs_no_slot(
    scenario: Scenario, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugin.dispatch.loop.HANG_SECONDS", 0.2)

    class Silent(Loopback):
        async def send(self, message: Outbound) -> SendResult:
            self.attempts += 1
            if self.attempts > 1:
                return await super().send(message)
            if how == "hangs":
                await asyncio.sleep(3600)
            raise asyncio.CancelledError

    broadcast = scenario.launch([scenario.number() for _ in range(20)])
    async with dispatching(scenario.store, Silent(), window=1):
        await until(lambda: states(scenario, broadcast) == {"unknown": 1, "sent": 19})


async def test_a_row_that_waited_too_long_for_its_moment_costs_no_slot(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Dispatcher._begin
    late: list[str] = []

    async def frozen(self: Dispatcher, sender: str, moment: float, interval: float, tenure: object) -> float | None:
        if (
            not late
        ):  # the whole process stood still: when it goes on, the row's time is up before its moment is looked at
            late.append(sender)
            asyncio.get_running_loop().call_later(0.02, asyncio.current_task().cancel)  # type: ignore[union-attr]
            moment += 30
        return await begin(self, sender, moment, interval, tenure)  # type: ignore[arg-type]

    monkeypatch.setattr(Dispatcher, "_begin", frozen)
    broadcast = scenario.launch([scenario.number() for _ in range(3)])
    connector = Loopback()
    async with dispatching(scenario.store, connector, window=1):
        await until(lambda: states(scenario, broadcast) == {"sent": 3})
    assert len(connector.sent) == 3


async def test_answers_that_a_claim_wrote_down_on_its_way_are_not_told_again_when_it_fails(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(6)])
    claim, settle = scenario.store.claim_deliveries, scenario.store.settle_deliveries
    told: list[int] = []
    fails = [True]

    def failing(*arguments: object) -> object:
        if told and fails:
            fails.clear()
            raise ConnectionError("server closed the connection unexpectedly")
        return claim(*arguments)  # type: ignore[arg-type]

    def settling(settlements: Sequence[Settlement]) -> None:
        told.extend(s.id for s in settlements)
        settle(settlements)

    monkeypatch.setattr(scenario.store, "claim_deliveries", failing)
    monkeypatch.setattr(scenario.store, "settle_deliveries", settling)
    async with dispatching(scenario.store, Loopback(), window=1):
        await until(lambda: states(scenario, broadcast) == {"sent": 6})
    assert not fails
    assert len(told) == len(set(told))


async def test_an_answer_to_a_message_that_cannot_be_stored_stops_nothing(scenario: Scenario) -> None:
    acknowledged(scenario)
    broadcast = scenario.launch([scenario.number() for _ in range(20)])

    class Poisoned(Loopback):
        async def send(self, message: Outbound) -> SendResult:
            if isinstance(message.content, TextMessage):
                error = refused(Reaction.FAIL, "131000")
                error.message = "nul \0 byte"
                raise error
            return await super().send(message)

    async with dispatching(scenario.store, Poisoned()):
        await until(lambda: states(scenario, broadcast) == {"sent": 20})


async def test_a_message_whose_buttons_cannot_be_read_fails_alone(scenario: Scenario) -> None:
    acknowledged(scenario, 2)
    with scenario.store.write() as connection:
        connection.exec_driver_sql(
            "UPDATE message SET buttons = '[1' WHERE id = (SELECT MIN(id) FROM message WHERE state = 'queued')"
        )
    connector = Loopback()
    async with dispatching(scenario.store, connector, window=1):
        await until(lambda: sum(isinstance(m.content, TextMessage) for m in connector.messages) == 1)


@pytest.mark.parametrize("pinch", ["places at the wire", "slots of the window"])
async def test_a_message_goes_before_bulk_wherever_it_gets_tight(scenario: Scenario, pinch: str) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number]))
    reply = scenario.reply(number)
    scenario.launch([scenario.number() for _ in range(300)])
    wire = pinch == "places at the wire"
    connector = Loopback(latency=0.0 if wire else 0.04)

    def told() -> bool:
        return any(isinstance(message.content, TextMessage) for message in connector.messages)

    async with dispatching(scenario.store, connector, **({"rate": 6} if wire else {"window": 2})):
        await until(lambda: len(connector.sent) >= 4)
        await asyncio.to_thread(scenario.redirect, reply)
        before = connector.attempts
        await until(told)
    # What was claimed already, and what is claimed until the dispatcher looks, which it does every 50 ms.
    assert connector.attempts - before <= (3 if wire else 12)


def test_a_hold_of_the_number_does_not_silence_agents(scenario: Scenario) -> None:
    acknowledged(scenario)
    broadcast = scenario.launch([scenario.number() for _ in range(2)])
    (claimed,) = scenario.claim(broadcast, 1)
    scenario.settle([claimed], DeliveryState.DEFERRED, delay=60, back_off=60, sender=SENDER)
    assert scenario.claim(broadcast) == []
    assert len(scenario.store.claim_messages(9, scenario.dispatcher(), ClaimRules())) == 1


def test_a_talkative_bot_does_not_put_everybody_else_off_for_minutes(scenario: Scenario) -> None:
    acknowledged(scenario)
    for _ in range(200):
        scenario.store.reserve_place(SENDER, 40)
    facts = scenario.store.sender_facts(SENDER)
    assert facts is not None
    assert facts["next_at"] <= scenario.store.now() + 2_000_000


def test_a_payment_that_fails_after_the_end_pauses_instead_of_sending_for_ever(scenario: Scenario) -> None:
    number = scenario.number()
    broadcast = scenario.launch([number])
    delivery = scenario.send_all(broadcast)[number]
    assert scenario.store.finish_broadcasts() == [broadcast]
    failed = StatusUpdate(
        f"wamid.out.{delivery}", "failed", datetime.now(timezone.utc), correlation=scenario.correlation(delivery),
        error_code="131042", error_message="payment",
    )  # fmt: skip
    refusals = {"131042": Refusal("131042", Reaction.PAUSE, "Pague.", "Pay.")}
    scenario.store.store_batch("whatsapp", [], [failed], [], [], refusals)
    scenario.store.reopen_broadcasts()
    found = report(scenario.store, scenario.operator, broadcast)
    assert (found.state, found.states["queued"]) == ("paused", 1)


def test_codes_about_a_message_never_open_the_breaker_and_prove_that_the_provider_lives(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(12)])
    claimed = scenario.claim(broadcast)
    for c in claimed[:4]:
        scenario.settle([c], DeliveryState.UNKNOWN, sender=SENDER, trouble=True)
    scenario.settle([claimed[4]], DeliveryState.FAILED, error_code="131026", sender=SENDER)
    for c in claimed[5:9]:
        scenario.settle([c], DeliveryState.UNKNOWN, sender=SENDER, trouble=True)
    facts = scenario.store.sender_facts(SENDER)
    assert facts is not None
    assert (facts["failures"], facts["trips"]) == (4, 0)


def test_a_pair_limit_on_an_agents_message_waits_longer_each_time(scenario: Scenario) -> None:
    acknowledged(scenario)
    attempts = []
    for _ in range(3):
        with scenario.store.write() as connection:
            connection.exec_driver_sql("UPDATE message SET at = 0 WHERE state = 'queued'")
        (queued,) = scenario.store.claim_messages(1, scenario.dispatcher(), ClaimRules(rate=1_000_000))
        attempts.append(queued.attempts)
        scenario.store.settle_messages([Settlement(queued.id, queued.claimed_at, DeliveryState.DEFERRED, delay=1.0)])
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize("restarted", [False, True])
def test_what_a_clock_that_ran_ahead_put_off_does_not_wait_for_that_time(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    clock = SettableClock(datetime(2026, 11, 24, 12, tzinfo=timezone.utc))
    monkeypatch.setattr(scenario.store, "_clock", clock)
    legitimate = scenario.launch([scenario.number()])
    scenario.settle(scenario.claim(legitimate), DeliveryState.DEFERRED, delay=24 * 3600.0)
    clock.advance(days=30)
    house = Housekeeping(services(scenario.store), {})
    house.keep()
    asleep, refused_, talking = (scenario.launch([scenario.number()]) for _ in range(3))
    with scenario.store.write() as connection:
        values = {"far": scenario.store.now() + 3_600_000_000, "talk": talking, "b": asleep}
        connection.execute(
            text(
                "UPDATE delivery SET state = 'deferred', reason = 'conversation', not_before = :far"
                " WHERE broadcast_id = :talk"
            ),
            values,
        )
        connection.execute(text("UPDATE broadcast SET wake_at = :far, wait_reason = 'daily' WHERE id = :b"), values)
    scenario.settle(scenario.claim(refused_), DeliveryState.DEFERRED, delay=600.0)

    clock.advance(days=-30)
    if restarted:
        house = Housekeeping(services(scenario.store), {})
    house.keep()
    assert {b["id"] for b in scenario.store.running_broadcasts()} == {legitimate, asleep, refused_, talking}
    assert len(scenario.claim(talking)) == len(scenario.claim(asleep)) == 1
    assert not scenario.claim(refused_)
    clock.advance(seconds=601)
    house.keep()
    assert len(scenario.claim(refused_)) == 1
    assert not scenario.claim(legitimate), "a wait that the right clock named still holds"


def test_a_mend_of_the_clock_that_is_cut_off_is_done_again_and_shortens_no_wait(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SettableClock(datetime(2026, 12, 24, 12, tzinfo=timezone.utc))
    monkeypatch.setattr(scenario.store, "_clock", clock)
    house = Housekeeping(services(scenario.store), {})
    house.keep()
    broadcast = scenario.launch([scenario.number()])
    scenario.settle(scenario.claim(broadcast), DeliveryState.DEFERRED, delay=600.0)
    clock.advance(days=-30)
    forget = scenario.store.forget_the_future

    def cut_off() -> int:
        forget()
        raise ConnectionError("server closed the connection unexpectedly")

    monkeypatch.setattr(scenario.store, "forget_the_future", cut_off)
    with pytest.raises(ConnectionError):
        house.keep()
    done: list[int] = []

    def again() -> int:
        done.append(forget())
        return done[-1]

    monkeypatch.setattr(scenario.store, "forget_the_future", again)
    clock.advance(seconds=1)
    Housekeeping(services(scenario.store), {}).keep()
    assert done == [0]
    clock.advance(seconds=598)
    assert not scenario.claim(broadcast)
    clock.advance(seconds=2)
    assert len(scenario.claim(broadcast)) == 1


def test_what_was_claimed_by_a_clock_that_ran_ahead_keeps_nobody_waiting_for_that_time(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SettableClock(datetime(2026, 12, 24, 12, tzinfo=timezone.utc))
    monkeypatch.setattr(scenario.store, "_clock", clock)
    house = Housekeeping(services(scenario.store), {})
    house.keep()
    number = scenario.number()
    scenario.settle(scenario.claim(scenario.launch([number])))
    failed, flying = scenario.launch([scenario.number()]), scenario.launch([scenario.number()])
    scenario.settle(scenario.claim(failed), DeliveryState.FAILED)
    under_way = scenario.claim(flying)
    clock.advance(days=-30)
    house.keep()

    assert retry_failed(scenario.store, scenario.operator, failed).queued == 1
    scenario.settle(under_way, DeliveryState.FAILED)
    assert states(scenario, flying) == {"failed": 1}, "the answer finds the claim"
    again = scenario.launch([number])
    epoch = scenario.store.register_dispatcher("host", 1, "process", 172_800)
    rules = ClaimRules(rate=40, horizon=10_000, quiet=0, frequency=(1, 86_400_000_000), daily=0)
    assert not scenario.store.claim_deliveries(again, 1, epoch, rules).rows
    clock.advance(seconds=86_401)
    assert len(scenario.store.claim_deliveries(again, 1, epoch, rules).rows) == 1


async def test_messages_that_a_busy_process_sends_late_keep_their_spacing(scenario: Scenario) -> None:
    acknowledged(scenario, 8)

    class Busy(Loopback):
        async def send(self, message: Outbound) -> SendResult:
            begun.append(time.monotonic())
            if len(begun) == 4:
                time.sleep(0.2)  # noqa: ASYNC251 - the whole process stands still
            return await super().send(message)

    begun: list[float] = []
    async with dispatching(scenario.store, Busy(), rate=40):
        await until(lambda: len(begun) == 8)
    assert begun[7] - begun[4] > 0.055, "three intervals, were it not for other work on the machine"
