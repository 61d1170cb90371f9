"""Retry what failed, resend what nobody knows the outcome of, by hand and by itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

import orjson
import pytest
from sqlalchemy import text

from channels.whatsapp.refusals import explain as explain_meta
from plugin.connector import StatusUpdate
from plugin.domain.correlation import Correlation
from plugin.domain.delivery import DeliveryState
from plugin.domain.refusal import Reaction, Refusal
from plugin.errors import Conflict, Invalid
from plugin.testing.clock import SettableClock
from plugin.testing.scenario import Scenario
from plugin.usecases.again import Requeued, resend_unknown, retry_failed
from plugin.usecases.control import cancel, pause
from plugin.usecases.report import report, report_rows


def failed(scenario: Scenario, *codes: str | None) -> str:
    """A finished broadcast whose rows failed with these codes."""
    broadcast = scenario.launch([scenario.number() for _ in codes])
    for claimed, code in zip(scenario.claim(broadcast), codes, strict=True):
        scenario.settle([claimed], DeliveryState.FAILED, error_code=code, error="no", counts=True)
    assert scenario.store.finish_broadcasts() == [broadcast]
    return broadcast


def unknown(scenario: Scenario, count: int, **launched: str) -> str:
    """A finished broadcast with so many rows of unknown outcome."""
    broadcast = scenario.launch([scenario.number() for _ in range(count)], **launched)  # type: ignore[arg-type]
    scenario.settle(scenario.claim(broadcast), DeliveryState.UNKNOWN)
    assert scenario.store.finish_broadcasts() == [broadcast]
    return broadcast


def states(scenario: Scenario, broadcast: str) -> list[str]:
    return [row["state"] for row in report_rows(scenario.store, scenario.operator, broadcast)]


def opt_out(scenario: Scenario, broadcast: str, row: int) -> None:
    with scenario.store.write() as connection:
        canonical = connection.execute(
            text("SELECT canonical FROM delivery WHERE broadcast_id = :b AND delivery.row = :r"),
            {"b": broadcast, "r": row},
        ).scalar_one()
        scenario.store.write_opt_out(connection, canonical, "person")


def audit_of(scenario: Scenario, broadcast: str) -> dict[str, object]:
    with scenario.store.read() as connection:
        detail = connection.execute(
            text("SELECT detail FROM audit WHERE object = :b ORDER BY id DESC LIMIT 1"), {"b": broadcast}
        ).scalar_one()
    found: dict[str, object] = orjson.loads(detail)
    return found


# --------------------------------------------------------------------------- retry
def test_retrying_queues_what_failed_afresh_and_a_finished_broadcast_runs_again(scenario: Scenario) -> None:
    broadcast = failed(scenario, "131026", "131049", None)
    assert retry_failed(scenario.store, scenario.operator, broadcast) == Requeued(3)
    found = report(scenario.store, scenario.operator, broadcast)
    assert (found.state, found.finished_at, found.states["queued"]) == ("running", None, 3)
    row = report_rows(scenario.store, scenario.operator, broadcast)[0]
    assert (row["error_code"], row["failed_at"], row["attempts"]) == ("131026", None, 1)
    again = scenario.claim(broadcast)
    assert [(c.attempts, c.tries) for c in again] == [(2, 0)] * 3
    scenario.settle(again)
    assert report_rows(scenario.store, scenario.operator, broadcast)[0]["error_code"] is None
    assert scenario.store.finish_broadcasts() == [broadcast]


def test_only_the_chosen_codes_are_retried(scenario: Scenario) -> None:
    broadcast = failed(scenario, "131026", "131049", None)
    assert retry_failed(scenario.store, scenario.operator, broadcast, ["131049", "99"]) == Requeued(1)
    assert states(scenario, broadcast) == ["failed", "queued", "failed"]
    assert retry_failed(scenario.store, scenario.operator, broadcast, [""]) == Requeued(1)
    assert states(scenario, broadcast) == ["failed", "queued", "queued"]
    with pytest.raises(Invalid) as refused:
        retry_failed(scenario.store, scenario.operator, broadcast, [])
    assert refused.value.field == "codes"


def test_people_who_asked_to_be_left_alone_are_counted_and_not_retried(scenario: Scenario) -> None:
    broadcast = failed(scenario, "131026", "131050", "131026")
    opt_out(scenario, broadcast, 3)

    def explain(channel: str, code: str) -> Refusal:
        assert channel == "whatsapp"
        return Refusal(code, Reaction.SUPPRESS if code == "131050" else Reaction.FAIL, "", "")

    done = retry_failed(scenario.store, scenario.operator, broadcast, explain=explain)
    assert done == Requeued(1, {"suppressed": 1, "opted_out": 1})
    assert states(scenario, broadcast) == ["queued", "failed", "failed"]
    assert audit_of(scenario, broadcast)["left_out"] == done.left_out


def test_a_finished_broadcast_without_anything_to_retry_stays_finished(scenario: Scenario) -> None:
    broadcast = failed(scenario, "131026")
    opt_out(scenario, broadcast, 1)
    assert retry_failed(scenario.store, scenario.operator, broadcast) == Requeued(0, {"opted_out": 1})
    assert report(scenario.store, scenario.operator, broadcast).state == "finished"


def test_a_paused_broadcast_stays_paused_and_a_cancelled_one_is_not_retried(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(2)])
    scenario.settle(scenario.claim(broadcast, 1), DeliveryState.FAILED, error_code="131026")
    pause(scenario.store, scenario.operator, broadcast)
    assert retry_failed(scenario.store, scenario.operator, broadcast).queued == 1
    assert report(scenario.store, scenario.operator, broadcast).state == "paused"
    other = scenario.launch([scenario.number()])
    scenario.settle(scenario.claim(other), DeliveryState.FAILED, error_code="131026")
    cancel(scenario.store, scenario.operator, other)
    with pytest.raises(Conflict, match="definitivo"):
        retry_failed(scenario.store, scenario.operator, other)
    assert states(scenario, other) == ["failed"]


@pytest.mark.parametrize(("late", "state"), [("failed", "queued"), ("sent", "queued"), ("delivered", "delivered")])
def test_old_news_of_the_failed_attempt_does_not_touch_the_row_that_waits_again_but_its_arrival_does(
    scenario: Scenario, late: str, state: str
) -> None:
    broadcast = scenario.launch([scenario.number()])
    (claimed,) = scenario.claim(broadcast)
    scenario.settle([claimed])

    def news(status: str) -> StatusUpdate:
        correlation = str(Correlation("d", claimed.id, claimed.attempts, scenario.store.installation()))
        code = "131026" if status == "failed" else None
        at = datetime.now(timezone.utc)
        return StatusUpdate(f"wamid.out.{claimed.id}", status, at, correlation=correlation, error_code=code)

    scenario.statuses(news("failed"))
    assert states(scenario, broadcast) == ["failed"]
    retry_failed(scenario.store, scenario.operator, broadcast)
    scenario.statuses(news(late))  # providers repeat themselves, in any order
    assert states(scenario, broadcast) == [state]


def test_whom_the_provider_lets_nobody_write_to_again_so_soon_is_counted_and_not_retried(
    timed: Scenario, clock: SettableClock
) -> None:
    broadcast = failed(timed, "131049", "131026", "131049")
    clock.advance(hours=23)
    assert retry_failed(timed.store, timed.operator, broadcast, explain=_meta) == Requeued(1, {"too_soon": 2})
    assert states(timed, broadcast) == ["failed", "queued", "failed"]
    clock.advance(hours=1)
    assert retry_failed(timed.store, timed.operator, broadcast, ["131049"], explain=_meta) == Requeued(2)


def _meta(_channel: str, code: str) -> Refusal:
    return explain_meta(code)


def sliced(scenario: Scenario, monkeypatch: pytest.MonkeyPatch, between: Callable[[], None]) -> None:
    """Two rows a transaction, and `between` after each but the last."""
    monkeypatch.setattr(scenario.store, "at_once", 2)
    monkeypatch.setattr(scenario.store, "give_way", between)


def audits(scenario: Scenario, action: str) -> int:
    with scenario.store.read() as connection:
        found: int = connection.execute(
            text("SELECT COUNT(*) FROM audit WHERE action = :a"), {"a": f"broadcast.{action}"}
        ).scalar_one()
    return found


def test_many_rows_are_retried_slice_by_slice_and_each_once(
    timed: Scenario, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    broadcast = failed(timed, *["131026"] * 5)
    seen = []

    def dispatch() -> None:
        clock.advance(seconds=1)
        seen.append(len(rows := timed.claim(broadcast)))
        timed.settle(rows, DeliveryState.FAILED, error_code="131026")
        timed.store.finish_broadcasts()

    sliced(timed, monkeypatch, dispatch)
    assert retry_failed(timed.store, timed.operator, broadcast) == Requeued(5)
    assert (seen, len(timed.claim(broadcast))) == ([2, 2], 1)
    assert (audits(timed, "retry_failed"), audit_of(timed, broadcast)["asked_for"]) == (1, 5)


def test_a_cancel_between_two_slices_holds(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    broadcast = failed(scenario, *["131026"] * 5)
    with scenario.store.write() as connection:
        scenario.store.change_broadcast(connection, broadcast, state="running")

    def stop() -> None:
        cancel(scenario.store, scenario.operator, broadcast)

    sliced(scenario, monkeypatch, stop)
    assert retry_failed(scenario.store, scenario.operator, broadcast) == Requeued(2)
    assert states(scenario, broadcast) == ["skipped"] * 2 + ["failed"] * 3


def test_a_crash_between_two_slices_leaves_what_can_be_asked_for_again(
    timed: Scenario, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    broadcast = unknown(timed, 5)
    clock.advance(minutes=3)

    def crash() -> None:
        raise KeyboardInterrupt

    sliced(timed, monkeypatch, crash)
    with pytest.raises(KeyboardInterrupt):
        resend_unknown(timed.store, timed.operator, broadcast, accept_risk=True)
    assert states(timed, broadcast) == ["queued"] * 2 + ["unknown"] * 3
    assert report(timed.store, timed.operator, broadcast).state == "running"
    monkeypatch.undo()
    assert resend_unknown(timed.store, timed.operator, broadcast, accept_risk=True) == Requeued(3)
    assert states(timed, broadcast) == ["queued"] * 5


# --------------------------------------------------------------------------- resend by hand
def test_resending_asks_for_the_risk_to_be_accepted_and_spells_it_out(timed: Scenario, clock: SettableClock) -> None:
    broadcast = unknown(timed, 1)
    clock.advance(minutes=3)
    with pytest.raises(Invalid, match="vai receber de novo") as refused:
        resend_unknown(timed.store, timed.operator, broadcast)
    assert (refused.value.field, "accept_risk" in refused.value.remedy) == ("accept_risk", True)
    assert states(timed, broadcast) == ["unknown"]


def test_all_unknown_rows_or_single_ones_are_sent_again(timed: Scenario, clock: SettableClock) -> None:
    broadcast = unknown(timed, 4)
    clock.advance(minutes=3)
    done = resend_unknown(timed.store, timed.operator, broadcast, [2, 3, 3], accept_risk=True)
    assert (done, states(timed, broadcast)) == (Requeued(2), ["unknown", "queued", "queued", "unknown"])
    assert report(timed.store, timed.operator, broadcast).state == "running"
    assert (audit_of(timed, broadcast)["rows"], audit_of(timed, broadcast)["chosen"]) == ([2, 3], "rows")
    assert resend_unknown(timed.store, timed.operator, broadcast, accept_risk=True) == Requeued(2)
    assert audit_of(timed, broadcast)["chosen"] == "all"
    assert {c.attempts for c in timed.claim(broadcast)} == {2}


def test_a_status_may_still_settle_what_was_sent_a_moment_ago(timed: Scenario, clock: SettableClock) -> None:
    broadcast = unknown(timed, 3)
    clock.advance(seconds=119)
    with pytest.raises(Conflict, match="resultado de 3 envios") as refused:
        resend_unknown(timed.store, timed.operator, broadcast, accept_risk=True)
    assert "Espere" in refused.value.remedy
    clock.advance(seconds=1)
    assert resend_unknown(timed.store, timed.operator, broadcast, accept_risk=True) == Requeued(3)


def test_what_is_not_resent_is_counted_by_why(timed: Scenario, clock: SettableClock) -> None:
    broadcast = timed.launch([timed.number() for _ in range(4)])
    timed.settle(timed.claim(broadcast, 3), DeliveryState.UNKNOWN)
    clock.advance(minutes=3)
    timed.settle(timed.claim(broadcast, 1), DeliveryState.UNKNOWN)
    opt_out(timed, broadcast, 1)
    with timed.store.write() as connection:  # a status has come for it
        connection.execute(text("UPDATE delivery SET state = 'read' WHERE delivery.row = 2"))
    done = resend_unknown(timed.store, timed.operator, broadcast, [1, 2, 3, 4], accept_risk=True)
    assert done == Requeued(1, {"recent": 1, "opted_out": 1, "settled": 1})
    assert states(timed, broadcast) == ["unknown", "read", "queued", "unknown"]


def test_rows_that_are_not_in_the_file_are_named(timed: Scenario) -> None:
    broadcast = unknown(timed, 2)
    for rows in ([3], [0], []):
        with pytest.raises(Invalid, match="1 a") as refused:
            resend_unknown(timed.store, timed.operator, broadcast, rows, accept_risk=True)
        assert refused.value.field == "rows"


# --------------------------------------------------------------------------- by itself, at least once
def test_at_least_once_sends_again_after_ten_minutes_and_once_only(timed: Scenario, clock: SettableClock) -> None:
    broadcast = unknown(timed, 2, on_unknown="resend")
    kept = unknown(timed, 1)
    clock.advance(minutes=9, seconds=59)
    assert timed.store.resend_due_unknowns() == 0
    clock.advance(seconds=1)
    assert timed.store.resend_due_unknowns() == 2
    assert (report(timed.store, timed.operator, broadcast).state, states(timed, kept)) == ("running", ["unknown"])
    assert audit_of(timed, broadcast)["queued"] == 2
    one, two = timed.claim(broadcast)
    timed.settle([one], DeliveryState.UNKNOWN)
    timed.settle([two])
    clock.advance(minutes=11)
    assert timed.store.resend_due_unknowns() == 0
    assert states(timed, broadcast) == ["unknown", "sent"]


def test_what_was_retried_for_another_reason_is_still_sent_again_once(timed: Scenario, clock: SettableClock) -> None:
    broadcast = timed.launch([timed.number()], on_unknown="resend")
    timed.settle(timed.claim(broadcast), DeliveryState.DEFERRED, delay=1, error_code="131000")
    clock.advance(seconds=2)
    timed.settle(timed.claim(broadcast), DeliveryState.UNKNOWN)
    clock.advance(minutes=10)
    assert timed.store.resend_due_unknowns() == 1


@pytest.mark.parametrize("verb", [cancel, pause])
def test_a_stopped_broadcast_sends_nothing_again_by_itself(timed: Scenario, clock: SettableClock, verb: object) -> None:
    broadcast = timed.launch([timed.number() for _ in range(2)], on_unknown="resend")
    timed.settle(timed.claim(broadcast, 1), DeliveryState.UNKNOWN)
    (cancel if verb is cancel else pause)(timed.store, timed.operator, broadcast)
    clock.advance(minutes=30)
    assert timed.store.resend_due_unknowns() == 0


def test_who_opted_out_meanwhile_is_not_sent_to_again(timed: Scenario, clock: SettableClock) -> None:
    broadcast = unknown(timed, 1, on_unknown="resend")
    opt_out(timed, broadcast, 1)
    clock.advance(minutes=30)
    assert timed.store.resend_due_unknowns() == 0


def test_after_a_long_stop_statuses_get_their_ten_minutes_and_old_news_is_not_sent(
    timed: Scenario, clock: SettableClock
) -> None:
    broadcast = timed.launch([timed.number()], on_unknown="resend")
    epoch = timed.dispatcher()
    timed.settle(timed.claim(broadcast, epoch=epoch), DeliveryState.UNKNOWN)
    clock.advance(hours=2)  # nothing ran; now its end is noticed
    timed.store.end_dispatcher(epoch)
    clock.advance(minutes=9)
    assert timed.store.resend_due_unknowns() == 0
    clock.advance(minutes=2)
    assert timed.store.resend_due_unknowns() == 1
    late = unknown(timed, 1, on_unknown="resend")
    clock.advance(hours=25)
    assert timed.store.resend_due_unknowns() == 0
    assert states(timed, late) == ["unknown"]
