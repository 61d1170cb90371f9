"""What a claim looks at again: pace, sending hours, conversations, the frequency cap, the day's budget."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from plugin.connector import InboundMessage
from plugin.domain.hours import SendingHours
from plugin.store.database import micros
from plugin.testing.clock import SettableClock
from plugin.testing.scenario import SENDER, Scenario
from plugin.usecases.dispatch import ClaimRules
from plugin.usecases.handoff import close_case, list_cases
from plugin.usecases.report import report, report_rows

#: A Tuesday, 12:00 UTC: 9:00 in São Paulo, 8:00 in Manaus, 7:00 in Rio Branco.
NOON = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
MINUTE = 60_000_000
DAY = 24 * 60 * MINUTE


@pytest.fixture
def clock(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> SettableClock:
    settable = SettableClock(NOON)
    monkeypatch.setattr(scenario.store, "_clock", settable)
    return settable


def waits(scenario: Scenario, broadcast: str) -> list[tuple[str, str]]:
    return [(row["state"], row["reason"]) for row in report_rows(scenario.store, scenario.operator, broadcast)]


# --------------------------------------------------------------------------- pace
def test_two_dispatchers_share_one_line_of_places(scenario: Scenario, clock: SettableClock) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(10)])
    one, two = scenario.dispatcher(), scenario.dispatcher()
    rules = ClaimRules(rate=10, horizon=450_000)
    first = scenario.store.claim_deliveries(broadcast, 3, one, rules)
    second = scenario.store.claim_deliveries(broadcast, 9, two, rules)
    start = scenario.store.now()
    assert [c.send_at - start for c in [*first.rows, *second.rows]] == [0, 100_000, 200_000, 300_000, 400_000]
    nothing = scenario.store.claim_deliveries(broadcast, 9, one, rules)
    assert (nothing.rows, nothing.again_at) == ([], start + 500_000 - 450_000)


def test_a_number_that_fell_behind_does_not_catch_up_in_a_burst(scenario: Scenario, clock: SettableClock) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(10)])
    scenario.claim(broadcast, 1, rate=1, horizon=0)
    clock.advance(seconds=60)
    assert len(scenario.claim(broadcast, 9, rate=1, horizon=0)) == 1


# --------------------------------------------------------------------------- hours
def test_hours_hold_by_the_recipients_clock_and_defer(scenario: Scenario, clock: SettableClock) -> None:
    hours = SendingHours(8 * 60, 20 * 60)
    sao_paulo, manaus, rio_branco = "+5511987654321", "+5592987654321", "+5568987654321"
    broadcast = scenario.launch([sao_paulo, manaus, rio_branco], hours=hours)
    assert [c.address for c in scenario.claim(broadcast)] == [sao_paulo, manaus]
    assert waits(scenario, broadcast)[2] == ("deferred", "hours")
    assert scenario.claim(broadcast) == []
    clock.advance(hours=1)
    assert [c.address for c in scenario.claim(broadcast)] == [rio_branco]


def test_a_broadcast_sleeps_while_all_of_brazil_is_closed(scenario: Scenario, clock: SettableClock) -> None:
    hours = SendingHours(8 * 60, 20 * 60)
    broadcast = scenario.launch([scenario.number() for _ in range(3)], hours=hours)
    clock.advance(hours=13)
    assert scenario.claim(broadcast) == []
    assert waits(scenario, broadcast) == [("queued", "")] * 3, "a whole broadcast is not rewritten row by row"
    assert scenario.store.running_broadcasts() == []
    with scenario.store.read() as connection:
        wake_at, reason = connection.exec_driver_sql("SELECT wake_at, wait_reason FROM broadcast").one()
    assert (wake_at, reason) == (hours.opens_anywhere(scenario.store.now()), "hours")
    clock.at = datetime(2026, 11, 25, 11, 0, 1, tzinfo=timezone.utc)
    assert [b["id"] for b in scenario.store.running_broadcasts()] == [broadcast]
    assert len(scenario.claim(broadcast)) == 3


def test_somebody_abroad_is_not_kept_waiting_by_brazils_night(scenario: Scenario, clock: SettableClock) -> None:
    brazil, japan = scenario.number(), "+819012345678"
    broadcast = scenario.launch([brazil, japan], hours=SendingHours(8 * 60, 20 * 60))
    clock.at = datetime(2026, 11, 25, 3, tzinfo=timezone.utc)  # noon in Tokyo, midnight in São Paulo
    assert [c.address for c in scenario.claim(broadcast)] == [japan]


def test_nobody_is_put_off_for_ever_wherever_they_live(scenario: Scenario, clock: SettableClock) -> None:
    hours = SendingHours(9 * 60, 18 * 60)
    brazil, japan = scenario.number(), "+819012345678"
    broadcast = scenario.launch([brazil, japan], hours=hours)
    sent = {}
    for _ in range(48):
        for claimed in scenario.claim(broadcast) if scenario.store.running_broadcasts() else []:
            assert hours.opens(claimed.address, scenario.store.now()) == scenario.store.now()
            sent[claimed.address] = clock()
        clock.advance(hours=0.5)
    assert sent.keys() == {brazil, japan}


# --------------------------------------------------------------------------- conversations
def says(scenario: Scenario, number: str, clock: SettableClock) -> str:
    message: InboundMessage = scenario.inbound(number, "Oi", at=clock())
    return str(scenario.store_message(message))


def test_who_is_talking_to_the_bot_is_not_interrupted(scenario: Scenario, clock: SettableClock) -> None:
    number, other = scenario.number(), scenario.number()
    broadcast = scenario.launch([number, other])
    says(scenario, number, clock)
    clock.advance(minutes=4)
    assert [c.address for c in scenario.claim(broadcast, quiet=15 * MINUTE)] == [other]
    assert waits(scenario, broadcast)[0] == ("deferred", "conversation")
    clock.advance(minutes=10.9)
    assert scenario.claim(broadcast, quiet=15 * MINUTE) == []
    clock.advance(minutes=0.2)
    assert [c.address for c in scenario.claim(broadcast, quiet=15 * MINUTE)] == [number]


def test_who_is_with_a_person_waits_until_the_case_is_closed(scenario: Scenario, clock: SettableClock) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number]))
    scenario.redirect(scenario.reply(number, at=clock()))
    broadcast = scenario.launch([number])
    clock.advance(hours=2)
    assert scenario.claim(broadcast, quiet=15 * MINUTE) == []
    (case,) = list_cases(scenario.store, scenario.operator)
    close_case(scenario.store, scenario.operator, case.id, version=case.version, outcome="ok", returned="silent")
    clock.advance(minutes=6)
    assert len(scenario.claim(broadcast, quiet=15 * MINUTE)) == 1


# --------------------------------------------------------------------------- how often, how many
def test_the_frequency_cap_counts_over_all_broadcasts(scenario: Scenario, clock: SettableClock) -> None:
    number, other = scenario.number(), scenario.number()
    cap = {"frequency": (2, 7 * DAY)}
    for _ in range(2):
        scenario.settle(scenario.claim(scenario.launch([number]), **cap))
        clock.advance(days=1)
    broadcast = scenario.launch([number, other])
    assert [c.address for c in scenario.claim(broadcast, **cap)] == [other]
    assert waits(scenario, broadcast)[0] == ("deferred", "frequency")
    clock.advance(days=4.9)
    assert scenario.claim(broadcast, **cap) == []
    clock.advance(days=0.2)
    assert [c.address for c in scenario.claim(broadcast, **cap)] == [number]


def test_what_failed_does_not_count_towards_the_cap(scenario: Scenario, clock: SettableClock) -> None:
    from plugin.domain.delivery import DeliveryState

    number = scenario.number()
    scenario.settle(scenario.claim(scenario.launch([number])), DeliveryState.FAILED)
    assert len(scenario.claim(scenario.launch([number]), frequency=(1, 7 * DAY))) == 1


def test_the_days_budget_counts_people_and_the_rest_waits(scenario: Scenario, clock: SettableClock) -> None:
    people = [scenario.number() for _ in range(5)]
    first = scenario.launch(people[:2])
    assert len(scenario.claim(first, daily=3)) == 2
    second = scenario.launch(people)
    assert [c.address for c in scenario.claim(second, daily=3)] == people[:3], "the same person twice is one person"
    assert scenario.claim(second, daily=3) == []
    with scenario.store.read() as connection:
        wake_at, reason = connection.exec_driver_sql(
            "SELECT wake_at, wait_reason FROM broadcast ORDER BY id DESC"
        ).first()  # type: ignore[misc]
    assert (wake_at, reason) == (micros(NOON) + DAY, "daily")
    clock.advance(hours=24, seconds=1)
    assert [c.address for c in scenario.claim(second, daily=3)] == people[3:]
    facts = scenario.store.sender_facts(SENDER)
    assert facts is not None
    assert facts["reached"] == 2


def test_a_number_of_its_own_tier_follows_it(scenario: Scenario, clock: SettableClock) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(3)])
    scenario.store.reserve_place(SENDER, 40)
    with scenario.store.write() as connection:
        connection.exec_driver_sql("UPDATE sender SET daily = 1, rate = 0.5")
    assert len(scenario.claim(broadcast, rate=40, horizon=60_000_000, daily=0)) == 1


def test_a_claim_counts_everybody_who_waits(scenario: Scenario, clock: SettableClock) -> None:
    numbers = [scenario.number() for _ in range(4)]
    broadcast = scenario.launch(numbers, hours=SendingHours(8 * 60, 20 * 60))
    says(scenario, numbers[0], clock)
    scenario.claim(broadcast, 2, quiet=15 * MINUTE)
    found = report(scenario.store, scenario.operator, broadcast)
    assert sum(found.states.values()) == found.rows == 4
    assert (found.states["deferred"], found.states["sending"], found.states["queued"]) == (1, 2, 1)
