"""Schedule, pause, resume, cancel."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from plugin.domain.access import Principal
from plugin.domain.delivery import DeliveryState
from plugin.domain.hours import SendingHours
from plugin.domain.wave import FirstWave
from plugin.errors import Conflict, Forbidden, Invalid, NotFound
from plugin.store.database import micros
from plugin.testing.clock import SettableClock
from plugin.testing.scenario import Scenario
from plugin.usecases.again import resend_unknown, retry_failed
from plugin.usecases.control import cancel, pause, reschedule, resume
from plugin.usecases.launch import launch
from plugin.usecases.reconcile import PUT_BACK, reconcile
from plugin.usecases.report import report, report_rows


def people(scenario: Scenario, count: int) -> list[str]:
    return [scenario.number() for _ in range(count)]


def state_of(scenario: Scenario, broadcast: str) -> str:
    return report(scenario.store, scenario.operator, broadcast).state


def audited(scenario: Scenario, broadcast: str) -> list[str]:
    with scenario.store.read() as connection:
        found = connection.execute(text("SELECT action FROM audit WHERE object = :b ORDER BY id"), {"b": broadcast})
        return [row[0].removeprefix("broadcast.") for row in found]


def later(clock: SettableClock, **time: float) -> int:
    return micros(clock.at + timedelta(**time))


# --------------------------------------------------------------------------- pause and resume
def test_a_paused_broadcast_sends_nothing_and_a_resumed_one_the_rest(scenario: Scenario) -> None:
    broadcast = scenario.launch(people(scenario, 3))
    pause(scenario.store, scenario.operator, broadcast)
    assert scenario.send_all(broadcast) == {}
    found = report(scenario.store, scenario.operator, broadcast)
    assert (found.state, found.state_reason) == ("paused", "Pausado por Operador.")
    assert scenario.store.finish_broadcasts() == []
    resume(scenario.store, scenario.operator, broadcast)
    assert len(scenario.send_all(broadcast)) == 3
    assert scenario.store.finish_broadcasts() == [broadcast]
    assert audited(scenario, broadcast) == ["launch", "pause", "resume"]


def test_what_does_not_run_is_not_paused_and_what_is_not_paused_not_resumed(scenario: Scenario) -> None:
    broadcast = scenario.launch(people(scenario, 1))
    with pytest.raises(Conflict):
        resume(scenario.store, scenario.operator, broadcast)
    pause(scenario.store, scenario.operator, broadcast)
    with pytest.raises(Conflict):
        pause(scenario.store, scenario.operator, broadcast)
    assert audited(scenario, broadcast) == ["launch", "pause"]


def test_a_pause_after_a_restore_is_not_ended_by_resuming_or_sending_again(scenario: Scenario) -> None:
    broadcast = scenario.launch(people(scenario, 1))
    pause(scenario.store, scenario.operator, broadcast)
    with scenario.store.write() as connection:
        connection.execute(text("UPDATE broadcast SET hold = 'restore'"))
    for verb in (resume, retry_failed):
        with pytest.raises(Conflict, match="Reconcilie"):
            verb(scenario.store, scenario.operator, broadcast)
    with pytest.raises(Conflict, match="Reconcilie"):
        resend_unknown(scenario.store, scenario.operator, broadcast, accept_risk=True)
    assert report(scenario.store, scenario.operator, broadcast).hold == "restore"


def test_resuming_wakes_a_broadcast_that_was_asleep(scenario: Scenario) -> None:
    broadcast = scenario.launch(people(scenario, 1))
    with scenario.store.write() as connection:
        connection.execute(text("UPDATE broadcast SET wake_at = 9000000000000000, wait_reason = 'daily'"))
    pause(scenario.store, scenario.operator, broadcast)
    resume(scenario.store, scenario.operator, broadcast)
    found = report(scenario.store, scenario.operator, broadcast)
    assert (found.wake_at, found.wait_reason) == (None, "")


VERBS: dict[str, Callable[[Scenario, Principal, str], Any]] = {
    "pause": lambda s, who, b: pause(s.store, who, b),
    "resume": lambda s, who, b: resume(s.store, who, b),
    "cancel": lambda s, who, b: cancel(s.store, who, b),
    "reschedule": lambda s, who, b: reschedule(s.store, who, b, None),
    "retry": lambda s, who, b: retry_failed(s.store, who, b),
    "resend": lambda s, who, b: resend_unknown(s.store, who, b, accept_risk=True),
}


@pytest.mark.parametrize("verb", list(VERBS))
def test_only_those_who_broadcast_for_the_operation_control_it(scenario: Scenario, verb: str) -> None:
    broadcast = scenario.launch(people(scenario, 1))
    stranger = Principal("s" * 32, "s", "S", frozenset({("other", "desk.broadcast")}))
    with pytest.raises(NotFound):
        VERBS[verb](scenario, stranger, broadcast)
    with pytest.raises(Forbidden):
        VERBS[verb](scenario, scenario.ana, broadcast)
    with pytest.raises(NotFound):
        VERBS[verb](scenario, scenario.operator, "0" * 32)
    assert state_of(scenario, broadcast) == "running"


# --------------------------------------------------------------------------- cancel
@pytest.mark.parametrize("before", ["running", "paused", "scheduled"])
def test_a_cancelled_broadcast_skips_what_was_not_under_way_for_good(
    timed: Scenario, clock: SettableClock, before: str
) -> None:
    start_at = later(clock, hours=1) if before == "scheduled" else None
    broadcast = timed.launch([*people(timed, 5), "12"], start_at=start_at)
    sent = 0
    if before != "scheduled":
        one, two, _flying = timed.claim(broadcast, 3)
        timed.settle([one])
        timed.settle([two], DeliveryState.DEFERRED, delay=60, error_code="131000")
        sent = 1
    if before == "paused":
        pause(timed.store, timed.operator, broadcast)
    assert cancel(timed.store, timed.operator, broadcast) == 5 - 2 * sent
    found = report(timed.store, timed.operator, broadcast)
    assert (found.state, found.state_reason) == ("cancelled", "Cancelado por Operador.")
    assert found.skipped == {"cancelled": 5 - 2 * sent}
    assert (found.states["sent"], found.states["sending"], found.states["queued"]) == (sent, sent, 0)
    assert found.rows == found.accepted + found.rejected + sum(found.skipped.values())
    assert timed.claim(broadcast) == []
    for verb in (pause, resume, retry_failed, cancel):
        with pytest.raises(Conflict):
            verb(timed.store, timed.operator, broadcast)
    assert audited(timed, broadcast)[-1] == "cancel"


def test_what_was_in_flight_at_the_cancel_ends_by_itself_and_is_not_tried_again(scenario: Scenario) -> None:
    broadcast = scenario.launch(people(scenario, 3))
    arrives, comes_back, fails = scenario.claim(broadcast, 3)
    cancel(scenario.store, scenario.operator, broadcast)
    assert scenario.store.drop_cancelled() == 0
    scenario.settle([arrives])
    scenario.settle([comes_back], DeliveryState.DEFERRED, delay=60, error_code="131000")
    scenario.settle([fails], DeliveryState.FAILED, error_code="131026")
    assert scenario.store.drop_cancelled() == 1
    found = report(scenario.store, scenario.operator, broadcast)
    assert (found.states["sent"], found.states["failed"], found.skipped) == (1, 1, {"cancelled": 1})
    assert scenario.store.finish_broadcasts() == []


def test_a_big_broadcast_is_cancelled_at_once_and_its_rows_are_skipped_bit_by_bit(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenario.store, "at_once", 4)
    broadcast = scenario.launch(people(scenario, 12))
    scenario.settle(scenario.claim(broadcast, 2), DeliveryState.DEFERRED, delay=60, error_code="131000")
    scenario.settle(scenario.claim(broadcast, 1))
    assert cancel(scenario.store, scenario.operator, broadcast) == 11
    left = []
    while dropped := scenario.store.drop_cancelled():
        left.append(dropped)
        found = report(scenario.store, scenario.operator, broadcast)
        assert (found.skipped, found.states["queued"], found.states["sent"]) == ({"cancelled": 11}, 0, 1)
        assert scenario.claim(broadcast) == []
    assert left == [4, 3]
    rows = report_rows(scenario.store, scenario.operator, broadcast)
    assert [row["reason"] for row in rows].count("cancelled") == 11


def test_after_a_restore_a_cancelled_broadcast_does_not_claim_that_nothing_was_sent(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenario.store, "at_once", 2)
    broadcast = scenario.launch(people(scenario, 5))
    with scenario.store.write() as connection:
        scenario.store.raise_alarm(connection, PUT_BACK)
    assert cancel(scenario.store, scenario.operator, broadcast) == 5
    while True:
        found = report(scenario.store, scenario.operator, broadcast)
        assert (found.state, found.skipped, found.states["unknown"], found.states["queued"]) == ("cancelled", {}, 5, 0)
        assert "pode já ter recebido" in found.state_reason
        assert scenario.claim(broadcast) == []
        if not scenario.store.drop_cancelled():
            break
    rows = report_rows(scenario.store, scenario.operator, broadcast)
    assert {(row["state"], row["error_code"]) for row in rows} == {("unknown", "restore")}
    assert not any("disparo novo" in row["remedy"] for row in rows)
    with pytest.raises(Conflict):
        reconcile(scenario.store, scenario.operator, broadcast, rows="unknown")


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_who_stops_a_broadcast_does_not_wait_for_claims_to_come_and_then_there_are_none(
    scenario: Scenario, verb: str
) -> None:
    rows = 1500
    broadcast = scenario.launch(people(scenario, rows))
    epoch, stopped, begun = scenario.dispatcher(), threading.Event(), threading.Barrier(5)
    late: list[object] = []

    def dispatch() -> None:
        scenario.claim(broadcast, 1, epoch)
        begun.wait(30)
        while True:
            over = stopped.is_set()
            claimed = scenario.claim(broadcast, 1, epoch)
            if over:
                late.extend(claimed)
            if over or not claimed:
                return

    threads = [threading.Thread(target=dispatch) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait(30)
    VERBS[verb](scenario, scenario.operator, broadcast)
    stopped.set()
    for thread in threads:
        thread.join(30)
    assert late == []
    found = report(scenario.store, scenario.operator, broadcast)
    left = found.states["queued"] + found.skipped.get("cancelled", 0)
    assert left > rows / 2, "claims went on while somebody waited to stop them"
    assert found.states["sending"] == rows - left
    assert (found.states["queued"] == 0) is (verb == "cancel")


# --------------------------------------------------------------------------- schedule
def test_a_scheduled_broadcast_begins_when_it_is_due_and_not_before(timed: Scenario, clock: SettableClock) -> None:
    broadcast = timed.launch(people(timed, 2), start_at=later(clock, hours=1))
    assert (state_of(timed, broadcast), timed.store.start_due_broadcasts()) == ("scheduled", [])
    assert timed.claim(broadcast) == []
    assert timed.store.finish_broadcasts() == []
    clock.advance(hours=1)
    assert timed.store.start_due_broadcasts() == [broadcast]
    assert timed.store.start_due_broadcasts() == []
    assert len(timed.send_all(broadcast)) == 2
    assert report(timed.store, timed.operator, broadcast).to_dict()["start_at"] == "2026-11-22T13:00:00Z"


def test_who_opts_out_before_a_scheduled_broadcast_begins_gets_nothing(timed: Scenario, clock: SettableClock) -> None:
    gone, stays = people(timed, 2)
    broadcast = timed.launch([gone, stays], start_at=later(clock, hours=1))
    with timed.store.write() as connection:
        timed.store.write_opt_out(connection, gone, "person")
    clock.advance(hours=1)
    timed.store.start_due_broadcasts()
    assert list(timed.send_all(broadcast)) == [stays]
    assert report(timed.store, timed.operator, broadcast).skipped == {"opted_out": 1}


def test_a_scheduled_broadcast_that_was_paused_goes_back_to_its_schedule(timed: Scenario, clock: SettableClock) -> None:
    broadcast = timed.launch(people(timed, 1), start_at=later(clock, hours=1))
    pause(timed.store, timed.operator, broadcast)
    resume(timed.store, timed.operator, broadcast)
    assert state_of(timed, broadcast) == "scheduled"
    pause(timed.store, timed.operator, broadcast)
    clock.advance(hours=2)
    assert timed.store.start_due_broadcasts() == []
    resume(timed.store, timed.operator, broadcast)
    assert state_of(timed, broadcast) == "running"


def test_a_schedule_can_be_changed_until_it_begins(timed: Scenario, clock: SettableClock) -> None:
    broadcast = timed.launch(people(timed, 1), start_at=later(clock, hours=1))
    reschedule(timed.store, timed.operator, broadcast, later(clock, hours=3))
    clock.advance(hours=2)
    assert timed.store.start_due_broadcasts() == []
    reschedule(timed.store, timed.operator, broadcast, None)
    assert state_of(timed, broadcast) == "running"
    with pytest.raises(Conflict):
        reschedule(timed.store, timed.operator, broadcast, later(clock, hours=1))
    assert audited(timed, broadcast) == ["launch", "reschedule", "reschedule"]


@pytest.mark.parametrize(("time", "words"), [({"hours": 0}, "passou"), ({"days": 90, "seconds": 1}, "90 dias")])
def test_a_time_that_is_past_or_far_off_is_refused_with_a_remedy(
    timed: Scenario, clock: SettableClock, time: dict[str, float], words: str
) -> None:
    with pytest.raises(Invalid, match=words) as refused:
        timed.launch(people(timed, 1), start_at=later(clock, **time))
    assert (refused.value.field, bool(refused.value.remedy)) == ("start_at", True)
    broadcast = timed.launch(people(timed, 1), start_at=later(clock, days=90))
    with pytest.raises(Invalid, match=words):
        reschedule(timed.store, timed.operator, broadcast, later(clock, **time))


def test_repeating_a_scheduled_launch_after_its_time_gives_the_same_broadcast(
    timed: Scenario, clock: SettableClock
) -> None:
    request = timed.request(timed.upload(people(timed, 1)), start_at=later(clock, hours=1))
    first = launch(timed.store, timed.operator, request, idempotency_key="the-same-key")
    clock.advance(days=1)
    again = launch(timed.store, timed.operator, request, idempotency_key="the-same-key")
    assert (again.broadcast_id, again.replayed) == (first.broadcast_id, True)


def test_each_option_is_part_of_what_a_key_stands_for(scenario: Scenario) -> None:
    upload = scenario.upload(people(scenario, 9))
    plain = scenario.request(upload)
    noon = micros(datetime.fromisoformat("2030-01-01T12:00:00+00:00"))
    options: list[dict[str, Any]] = [
        {"start_at": noon},
        {"start_at": noon + 1},
        {"hours": SendingHours(480, 1200)},
        {"hours": SendingHours(480, 1200, holidays=True)},
        {"first_wave": FirstWave(5, 60, 1, 1)},
        {"first_wave": FirstWave(5, 60, 1, 2)},
        {"on_unknown": "resend"},
    ]
    prints = {scenario.request(upload, **one).fingerprint() for one in options}
    assert len(prints | {plain.fingerprint()}) == len(options) + 1


def test_the_options_of_a_launch_are_in_its_report(timed: Scenario, clock: SettableClock) -> None:
    broadcast = timed.launch(
        people(timed, 5), start_at=later(clock, hours=1), hours=SendingHours(480, 1200),
        first_wave=FirstWave(2, 90, 1.5, 10), on_unknown="resend",
    )  # fmt: skip
    found = report(timed.store, timed.operator, broadcast).to_dict()
    assert found["hours"]["from"] == "08:00"
    assert found["first_wave"] == {
        "size": 2, "wait_minutes": 1.5, "max_opt_outs": 1.5, "max_failures": 10, "running": True, "tried": 0, "of": 2,
    }  # fmt: skip
    assert (found["on_unknown"], found["test"], found["hold"]) == ("resend", False, "")


def test_at_least_once_is_refused_for_what_is_not_utility(scenario: Scenario) -> None:
    with pytest.raises(Invalid, match="MARKETING") as refused:
        scenario.launch(people(scenario, 1), "offer", on_unknown="resend")
    assert refused.value.field == "on_unknown"
    with pytest.raises(Invalid):
        scenario.launch(people(scenario, 1), on_unknown="always")


def test_a_cancelled_line_says_why_it_was_not_sent(scenario: Scenario) -> None:
    broadcast = scenario.launch(people(scenario, 2))
    cancel(scenario.store, scenario.operator, broadcast)
    rows = report_rows(scenario.store, scenario.operator, broadcast)
    assert [(row["line"], row["state"], row["reason"]) for row in rows] == [
        (2, "skipped", "cancelled"), (3, "skipped", "cancelled"),
    ]  # fmt: skip
    assert all(row["explanation"] for row in rows)
