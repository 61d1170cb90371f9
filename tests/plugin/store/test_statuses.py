"""Statuses that come late, twice, out of order or without our correlation: nothing is lost, nothing sent twice."""

from __future__ import annotations

import threading
from datetime import datetime, timezone

import pytest

from plugin.connector import StatusUpdate
from plugin.domain.delivery import DeliveryState
from plugin.domain.refusal import Reaction, Refusal
from plugin.testing.scenario import Scenario
from plugin.usecases.again import resend_unknown, retry_failed
from plugin.usecases.dispatch import Claimed
from plugin.usecases.report import report

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)
AGAIN = Refusal("131000", Reaction.RETRY, "Foi assim.", "It was so.", seconds=0.0, tries=3)


def states(scenario: Scenario, broadcast: str) -> dict[str, int]:
    return {state: n for state, n in report(scenario.store, scenario.operator, broadcast).states.items() if n}


def told(scenario: Scenario, claimed: Claimed, status: str, code: str | None = None, *, loose: bool = False) -> None:
    """A status of the message that this claim sent."""
    correlation = None if loose else scenario.correlation(claimed.id, claimed.attempts)
    update = StatusUpdate(f"wamid.out.{claimed.id}", status, NOW, correlation=correlation, error_code=code)
    scenario.store.store_batch("whatsapp", [], [update], [], [], {AGAIN.code: AGAIN})


@pytest.mark.parametrize("late", ["the answer", "its status"])
def test_an_acceptance_that_is_told_after_the_failure_does_not_hide_it(scenario: Scenario, late: str) -> None:
    broadcast = scenario.launch([scenario.number()])
    (first,) = scenario.claim(broadcast)
    told(scenario, first, "failed", AGAIN.code)
    assert states(scenario, broadcast) == {"deferred": 1}
    if late == "the answer":
        scenario.settle([first])
    else:
        told(scenario, first, "sent")
    assert states(scenario, broadcast) == {"deferred": 1}, "it would never be sent again"
    (second,) = scenario.claim(broadcast)
    scenario.settle([second])
    assert (second.attempts, states(scenario, broadcast)) == (2, {"sent": 1})


def test_an_acceptance_told_again_while_the_next_attempt_is_on_its_way_does_not_hide_its_failure(
    scenario: Scenario,
) -> None:
    broadcast = scenario.launch([scenario.number()])
    (first,) = scenario.claim(broadcast)
    scenario.settle([first])
    told(scenario, first, "failed", AGAIN.code)
    (second,) = scenario.claim(broadcast)
    told(scenario, first, "sent")
    assert states(scenario, broadcast) == {"sending": 1}
    scenario.settle([second], DeliveryState.DEFERRED, error_code="131000")
    assert states(scenario, broadcast) == {"deferred": 1}


def test_a_person_sends_an_unknown_again_and_its_own_news_come_in_the_wrong_order(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number()])
    (first,) = scenario.claim(broadcast)
    scenario.settle([first], DeliveryState.UNKNOWN)
    with scenario.store.write() as connection:  # long enough ago
        connection.exec_driver_sql("UPDATE delivery SET claimed_at = claimed_at - 600000000")
    assert resend_unknown(scenario.store, scenario.operator, broadcast, accept_risk=True).queued == 1
    told(scenario, first, "failed", AGAIN.code)
    told(scenario, first, "sent")
    assert states(scenario, broadcast) == {"queued": 1}


def test_of_two_failures_in_one_batch_the_latest_attempts_counts(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number()])
    (first,) = scenario.claim(broadcast)
    scenario.settle([first])
    told(scenario, first, "failed", AGAIN.code)
    (second,) = scenario.claim(broadcast)
    scenario.settle([second])
    failures = [
        StatusUpdate("w", "failed", NOW, correlation=scenario.correlation(c.id, c.attempts), error_code=AGAIN.code)
        for c in (second, first)
    ]
    scenario.store.store_batch("whatsapp", [], failures, [], [], {AGAIN.code: AGAIN})
    assert states(scenario, broadcast) == {"deferred": 1}


def test_a_failure_reported_after_the_end_of_a_broadcast_is_tried_again(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number()])
    (first,) = scenario.claim(broadcast)
    scenario.settle([first])
    assert scenario.store.finish_broadcasts() == [broadcast]
    told(scenario, first, "failed", AGAIN.code)
    assert states(scenario, broadcast) == {"deferred": 1}
    assert scenario.store.reopen_broadcasts() == [broadcast]
    assert scenario.store.finish_broadcasts() == scenario.store.reopen_broadcasts() == []
    assert report(scenario.store, scenario.operator, broadcast).state == "running"
    assert len(scenario.claim(broadcast)) == 1


def test_old_news_told_again_without_a_correlation_change_nothing_about_a_later_attempt(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number()])
    (first,) = scenario.claim(broadcast)
    scenario.settle([first])
    told(scenario, first, "failed", AGAIN.code, loose=True)
    assert states(scenario, broadcast) == {"deferred": 1}
    assert [c.attempts for c in scenario.claim(broadcast)] == [2]
    told(scenario, first, "failed", AGAIN.code, loose=True)
    told(scenario, first, "sent", loose=True)
    assert states(scenario, broadcast) == {"sending": 1}
    assert scenario.claim(broadcast) == [], "the second attempt is on its way"


def test_a_broadcast_does_not_end_over_rows_that_are_being_queued_again(scenario: Scenario) -> None:
    if scenario.store.dialect != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    numbers = [scenario.number() for _ in range(2)]
    broadcast = scenario.launch(numbers)
    first, second = scenario.claim(broadcast)
    scenario.settle([first], DeliveryState.FAILED, error_code="131026")
    scenario.settle([second])
    change = scenario.store.change_broadcast
    finished: list[threading.Thread] = []

    def change_while_it_is_finished(*arguments: object, **values: object) -> None:
        thread = threading.Thread(target=scenario.store.finish_broadcasts)
        finished.append(thread)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive(), "it did not wait"
        change(*arguments, **values)  # type: ignore[arg-type]

    scenario.store.change_broadcast = change_while_it_is_finished  # type: ignore[method-assign]
    assert retry_failed(scenario.store, scenario.operator, broadcast).queued == 1
    finished[0].join(10)
    scenario.store.reopen_broadcasts()  # PostgreSQL looks at the rows as they were when the statement began
    assert report(scenario.store, scenario.operator, broadcast).state == "running"
