"""The early stop and the first wave, from the rows themselves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

import pytest
from sqlalchemy import text

from plugin.domain.delivery import DeliveryState
from plugin.domain.hours import SendingHours
from plugin.domain.wave import FirstWave, Step
from plugin.domain.why import Why
from plugin.errors import Invalid
from plugin.store import Store
from plugin.testing.clock import SettableClock
from plugin.testing.scenario import Scenario
from plugin.usecases.again import retry_failed
from plugin.usecases.control import cancel, pause, resume
from plugin.usecases.dispatch import Claimed
from plugin.usecases.launch import launch
from plugin.usecases.report import report

BAD = "132012"
SUSPECTS = frozenset({BAD})
WAVE = FirstWave(size=10, wait_seconds=600, max_opt_outs=10, max_failures=20)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def scenario(database_url: str, clock: SettableClock) -> Iterator[Scenario]:
    store = Store(database_url, clock)
    yield Scenario(store)
    store.close()


def broadcast_of(scenario: Scenario, rows: int, wave: FirstWave | None = None) -> str:
    return scenario.launch([scenario.number() for _ in range(rows)], first_wave=wave)


def fail(scenario: Scenario, rows: list[Claimed], code: str = BAD) -> None:
    scenario.settle(rows, DeliveryState.FAILED, error_code=code)


def opt_out(scenario: Scenario, *rows: Claimed) -> None:
    with scenario.store.write() as connection:
        for row in rows:
            scenario.store.write_opt_out(connection, row.address, "word")


# --------------------------------------------------------------------------- early stop
def test_first_rows_that_fail_with_a_suspect_code_are_a_reason_to_stop(scenario: Scenario) -> None:
    broadcast = broadcast_of(scenario, 6)
    fail(scenario, scenario.claim(broadcast, 2))
    assert scenario.store.stop_reason(broadcast, SUSPECTS) is None
    fail(scenario, scenario.claim(broadcast, 1))
    assert BAD in str(scenario.store.stop_reason(broadcast, SUSPECTS))
    assert scenario.store.stop_reason(broadcast, frozenset()) is None
    assert scenario.store.stop_reason("0" * 32, SUSPECTS) is None


def test_the_files_order_counts_and_unknown_outcomes_say_nothing(scenario: Scenario) -> None:
    broadcast = broadcast_of(scenario, 12)
    rows = scenario.claim(broadcast, 12)
    scenario.settle(rows[:1], DeliveryState.UNKNOWN)
    fail(scenario, rows[10:0:-1], "131026")
    assert "the first 10 messages" in str(scenario.store.stop_reason(broadcast, SUSPECTS))
    scenario.settle(rows[:1])  # its status came: the first one did arrive
    assert scenario.store.stop_reason(broadcast, SUSPECTS) is None


def test_many_refusals_among_the_last_rows_are_a_reason_to_stop(scenario: Scenario) -> None:
    broadcast = broadcast_of(scenario, 200)
    scenario.settle(scenario.claim(broadcast, 100))
    rows = scenario.claim(broadcast, 50)
    scenario.settle(rows[::2])
    fail(scenario, rows[1:20:2])
    assert scenario.store.stop_reason(broadcast, SUSPECTS) is None
    fail(scenario, rows[21:23:2])
    assert "11 of the last 50" in str(scenario.store.stop_reason(broadcast, SUSPECTS))


def test_what_a_person_has_seen_does_not_stop_it_again_but_what_follows_does(
    scenario: Scenario, clock: SettableClock
) -> None:
    broadcast = broadcast_of(scenario, 10)
    fail(scenario, scenario.claim(broadcast, 3))
    assert scenario.store.pause_broadcast(broadcast, Why("paused", {"by": "a person"}))
    clock.advance(seconds=60)
    resume(scenario.store, scenario.operator, broadcast)
    assert scenario.store.stop_reason(broadcast, SUSPECTS) is None
    clock.advance(seconds=1)
    fail(scenario, scenario.claim(broadcast, 3))
    assert scenario.store.stop_reason(broadcast, SUSPECTS) is not None


def test_rows_that_are_retried_and_fail_alike_stop_it_again(scenario: Scenario, clock: SettableClock) -> None:
    broadcast = broadcast_of(scenario, 10)
    fail(scenario, scenario.claim(broadcast, 2), "131026")
    fail(scenario, scenario.claim(broadcast, 8))
    clock.advance(seconds=60)
    retry_failed(scenario.store, scenario.operator, broadcast, [BAD])
    assert scenario.store.stop_reason(broadcast, SUSPECTS) is None
    clock.advance(seconds=1)
    fail(scenario, scenario.claim(broadcast, 3))
    assert scenario.store.stop_reason(broadcast, SUSPECTS) is not None


def test_rows_that_are_retried_during_a_pause_and_fail_alike_stop_it_again(
    scenario: Scenario, clock: SettableClock
) -> None:
    broadcast = broadcast_of(scenario, 60)
    rows = scenario.claim(broadcast, 50)
    fail(scenario, rows[:40])
    scenario.settle(rows[40:])
    pause(scenario.store, scenario.operator, broadcast)
    clock.advance(seconds=5)
    assert retry_failed(scenario.store, scenario.operator, broadcast).queued == 40
    clock.advance(seconds=1)
    resume(scenario.store, scenario.operator, broadcast)
    assert scenario.store.stop_reason(broadcast, SUSPECTS) is None
    clock.advance(seconds=1)
    fail(scenario, scenario.claim(broadcast, 40))
    assert scenario.store.stop_reason(broadcast, SUSPECTS) is not None


def test_rows_put_off_before_a_resume_and_claimed_after_it_count(scenario: Scenario, clock: SettableClock) -> None:
    broadcast = broadcast_of(scenario, 60)
    scenario.settle(scenario.claim(broadcast, 3), DeliveryState.DEFERRED, delay=60, error_code="131000")
    scenario.settle(scenario.claim(broadcast, 57))
    pause(scenario.store, scenario.operator, broadcast)
    clock.advance(seconds=61)
    resume(scenario.store, scenario.operator, broadcast)
    clock.advance(seconds=1)
    fail(scenario, scenario.claim(broadcast, 3))
    assert scenario.store.stop_reason(broadcast, SUSPECTS) is not None


# --------------------------------------------------------------------------- first wave
def test_nobody_beyond_the_first_wave_is_claimed_until_it_has_been_judged(
    scenario: Scenario, clock: SettableClock
) -> None:
    broadcast = broadcast_of(scenario, 15, WAVE)
    rows = scenario.claim(broadcast, 15)
    assert len(rows) == 10
    assert scenario.store.finish_broadcasts() == []
    scenario.settle(rows[:9])
    clock.advance(seconds=600)
    assert scenario.store.judge_waves() == []  # one is still in flight
    scenario.settle(rows[9:])
    assert [(b, v.step) for b, v in scenario.store.judge_waves()] == [(broadcast, Step.GO)]
    assert scenario.store.judge_waves() == []
    assert len(scenario.claim(broadcast, 15)) == 5
    wave = report(scenario.store, scenario.operator, broadcast).first_wave
    assert wave == {**WAVE.to_json(), "running": False, "tried": None, "of": None}


def test_the_wait_begins_with_the_last_one_sent(scenario: Scenario, clock: SettableClock) -> None:
    broadcast = broadcast_of(scenario, 15, WAVE)
    scenario.settle(scenario.claim(broadcast, 9))
    clock.advance(seconds=500)
    scenario.settle(scenario.claim(broadcast, 1))
    clock.advance(seconds=599)
    assert scenario.store.judge_waves() == []
    clock.advance(seconds=1)
    assert len(scenario.store.judge_waves()) == 1


def test_a_wave_above_its_limits_pauses_with_its_figures_and_a_person_may_let_the_rest_follow(
    scenario: Scenario, clock: SettableClock
) -> None:
    broadcast = broadcast_of(scenario, 15, WAVE)
    rows = scenario.claim(broadcast, 10)
    scenario.settle(rows[:8])
    fail(scenario, rows[8:9], "131026")
    scenario.settle(rows[9:], DeliveryState.UNKNOWN)
    clock.advance(seconds=60)
    opt_out(scenario, rows[0])
    assert scenario.store.judge_waves() == []  # ten and ten per cent, so far
    opt_out(scenario, rows[1])
    ((found, verdict),) = scenario.store.judge_waves()
    assert (found, verdict.step) == (broadcast, Step.STOP)
    seen = report(scenario.store, scenario.operator, broadcast)
    assert (seen.state, seen.hold) == ("paused", "wave")
    assert "20 % de descadastros (limite 10 %). 10 de 10 contatos testados" in seen.state_reason
    assert "descadastros: 2, falhas: 1 (131026: 1), sem resposta do provedor: 1" in seen.state_reason
    english = report(scenario.store, scenario.operator, broadcast, language="en").state_reason
    assert "20% opt-outs (limit 10%). 10 of 10 contacts tried" in english
    assert scenario.claim(broadcast, 15) == []
    resume(scenario.store, scenario.operator, broadcast)
    assert (scenario.store.judge_waves(), len(scenario.claim(broadcast, 15))) == ([], 5)


def test_failures_that_came_by_status_count_too(scenario: Scenario, clock: SettableClock) -> None:
    broadcast = broadcast_of(scenario, 15, WAVE)
    scenario.settle(scenario.claim(broadcast, 10))
    with scenario.store.write() as connection:
        connection.execute(text("UPDATE delivery SET state = 'failed', error_code = '130403' WHERE delivery.row <= 3"))
    ((_, verdict),) = scenario.store.judge_waves()  # beyond doubt: nobody waits ten minutes for it
    assert (verdict.step, "130403: 3" in str(verdict.why)) == (Step.STOP, True)


def test_an_opt_out_of_before_the_message_is_no_answer_to_it(scenario: Scenario, clock: SettableClock) -> None:
    broadcast = broadcast_of(scenario, 15, WAVE)
    rows = scenario.claim(broadcast, 10)
    scenario.settle(rows)
    with scenario.store.write() as connection:
        connection.execute(
            text("INSERT INTO opt_out (canonical, source, detail, at) SELECT canonical, 'x', '', 1 FROM delivery")
        )
    clock.advance(seconds=600)
    ((_, verdict),) = scenario.store.judge_waves()
    assert verdict.step is Step.GO


def test_contacts_that_wait_for_later_do_not_hold_the_wave_up(scenario: Scenario, clock: SettableClock) -> None:
    broadcast = broadcast_of(scenario, 15, WAVE)
    rows = scenario.claim(broadcast, 10)
    scenario.settle(rows[:8])
    scenario.settle(rows[8:], DeliveryState.DEFERRED, delay=90_000, error_code="131049")
    clock.advance(seconds=600)
    assert [v.step for _, v in scenario.store.judge_waves()] == [Step.GO]


def test_one_person_is_no_verdict_while_the_others_wait_for_their_hours(
    scenario: Scenario, clock: SettableClock
) -> None:
    clock.at = datetime(
        2026, 11, 24, 11, 30, tzinfo=timezone.utc
    )  # half past eight in São Paulo, an hour less in Manaus
    numbers = ["+5511987650001"] + [f"+559298765{i:04}" for i in range(1, 30)]
    broadcast = scenario.launch(numbers, hours=SendingHours(8 * 60, 20 * 60), first_wave=WAVE)
    rows = scenario.claim(broadcast)
    assert [row.address for row in rows] == ["+5511987650001"]
    scenario.settle(rows)
    clock.advance(minutes=16)
    assert scenario.store.judge_waves() == []
    wave = report(scenario.store, scenario.operator, broadcast).first_wave
    assert wave == {**WAVE.to_json(), "running": True, "tried": 1, "of": 10}
    clock.advance(minutes=30)
    scenario.settle(scenario.claim(broadcast))
    clock.advance(minutes=10)
    ((_, found),) = scenario.store.judge_waves()
    assert (found.step, found.tried, found.of) == (Step.GO, 10, 10)


@pytest.mark.parametrize("verb", [pause, cancel])
def test_a_wave_of_a_stopped_broadcast_is_not_judged(scenario: Scenario, clock: SettableClock, verb: object) -> None:
    broadcast = broadcast_of(scenario, 15, WAVE)
    fail(scenario, scenario.claim(broadcast, 10))
    (pause if verb is pause else cancel)(scenario.store, scenario.operator, broadcast)
    clock.advance(seconds=600)
    assert scenario.store.judge_waves() == []


def test_resuming_from_another_pause_leaves_the_wave_as_it_is(scenario: Scenario, clock: SettableClock) -> None:
    broadcast = broadcast_of(scenario, 15, WAVE)
    pause(scenario.store, scenario.operator, broadcast)
    resume(scenario.store, scenario.operator, broadcast)
    assert len(scenario.claim(broadcast, 15)) == 10


def test_a_wave_as_big_as_the_file_is_refused_and_one_that_opt_outs_leave_alone_is_none(scenario: Scenario) -> None:
    numbers = [scenario.number() for _ in range(11)]
    with pytest.raises(Invalid, match="não é menor") as refused:
        scenario.launch(numbers[:10], first_wave=WAVE)
    assert refused.value.field == "first_wave.size"
    upload = scenario.upload(numbers)
    with scenario.store.write() as connection:
        scenario.store.write_opt_out(connection, numbers[0], "word")
    request = scenario.request(upload, first_wave=WAVE)
    broadcast = launch(scenario.store, scenario.operator, request, idempotency_key="a key of tests").broadcast_id
    assert len(scenario.send_all(broadcast)) == 10
    assert scenario.store.judge_waves() == []
    assert scenario.store.finish_broadcasts() == [broadcast]
