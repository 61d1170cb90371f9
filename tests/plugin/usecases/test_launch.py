"""A launch happens once, with everything frozen, and its counts sum to the file."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from plugin.domain.access import Principal
from plugin.domain.hours import SendingHours
from plugin.domain.redirect import Redirect, RedirectKind
from plugin.domain.wave import FirstWave
from plugin.errors import AlreadyLaunched, Conflict, Forbidden, Invalid, NotFound
from plugin.store.database import micros
from plugin.testing.clock import SettableClock
from plugin.testing.scenario import Scenario
from plugin.usecases.launch import Launched, launch
from plugin.usecases.report import report


def test_every_uploaded_line_becomes_a_row_and_the_counts_sum(scenario: Scenario) -> None:
    twin = scenario.number()
    numbers = [scenario.number(), twin, twin, "12", ""]
    found = report(scenario.store, scenario.operator, scenario.launch(numbers))
    assert (found.rows, found.accepted, found.rejected, found.skipped) == (5, 2, 2, {"duplicate": 1})
    assert found.rows == found.accepted + found.rejected + sum(found.skipped.values())
    assert found.states["queued"] == 2


def test_people_who_opted_out_between_upload_and_launch_are_skipped(scenario: Scenario) -> None:
    gone, stays = scenario.number(), scenario.number()
    request = scenario.request(scenario.upload([gone, stays]))
    with scenario.store.write() as connection:
        scenario.store.write_opt_out(connection, gone, "import")
    launched = launch(scenario.store, scenario.operator, request, idempotency_key="key-one-1")
    found = report(scenario.store, scenario.operator, launched.broadcast_id)
    assert (found.states["queued"], found.skipped) == (1, {"opted_out": 1})


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresql_knows_of_many_new_rows_as_soon_as_they_are_launched(scenario: Scenario) -> None:
    scenario.launch([scenario.number() for _ in range(500)])
    with scenario.store.read() as connection:
        known = connection.execute(text("SELECT reltuples FROM pg_class WHERE relname = 'delivery'")).scalar_one()
    assert known >= 500


def test_the_same_key_with_the_same_request_is_one_broadcast(scenario: Scenario) -> None:
    request = scenario.request(scenario.upload([scenario.number()]))
    first = launch(scenario.store, scenario.operator, request, idempotency_key="key-one-1")
    again = launch(scenario.store, scenario.operator, request, idempotency_key="key-one-1")
    assert again == Launched(first.broadcast_id, replayed=True)


def test_the_same_key_with_another_request_is_refused(scenario: Scenario) -> None:
    upload = scenario.upload([scenario.number()])
    first = launch(scenario.store, scenario.operator, scenario.request(upload), idempotency_key="key-one-1")
    other = scenario.request(upload, redirect_=RedirectKind.NOTIFICATION)
    with pytest.raises(AlreadyLaunched, match="já foi criado") as refused:
        launch(scenario.store, scenario.operator, other, idempotency_key="key-one-1")
    assert refused.value.existing == first.broadcast_id
    assert "chave" not in str(refused.value)  # what an operator never saw is no remedy


def test_launches_that_race_with_one_key_make_one_broadcast(scenario: Scenario) -> None:
    request = scenario.request(scenario.upload([scenario.number() for _ in range(20)]))
    results: list[Launched | BaseException] = []
    start = threading.Barrier(6)

    def go() -> None:
        start.wait()
        try:
            results.append(launch(scenario.store, scenario.operator, request, idempotency_key="the-same-key"))
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=go) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    launched = [r for r in results if isinstance(r, Launched)]
    assert len(launched) == 6, results
    assert len({r.broadcast_id for r in launched}) == 1
    assert sum(not r.replayed for r in launched) == 1


def test_a_template_that_is_not_approved_is_refused(scenario: Scenario) -> None:
    with pytest.raises(Conflict, match="PAUSED"):
        scenario.launch([scenario.number()], "paused")


def test_a_file_checked_with_another_template_is_refused(scenario: Scenario) -> None:
    upload = scenario.upload([scenario.number()], "with_talk_button")
    with pytest.raises(Conflict, match="outra mensagem"):
        launch(
            scenario.store, scenario.operator, scenario.request(upload, "without_button"), idempotency_key="key-one-1"
        )


def test_a_file_without_one_good_line_is_refused(scenario: Scenario) -> None:
    with pytest.raises(Conflict, match="Nenhuma linha"):
        scenario.launch(["12", "abc"])


@pytest.mark.parametrize(
    "redirect",
    [
        Redirect(RedirectKind.HUMAN, queue="f" * 32),
        Redirect(RedirectKind.HUMAN, agent="f" * 32),
        Redirect(RedirectKind.NONE, queue="f" * 32),
    ],
    ids=["foreign queue", "foreign agent", "queue without human"],
)
def test_a_target_outside_the_operation_is_refused(scenario: Scenario, redirect: Redirect) -> None:
    with pytest.raises(Invalid):
        scenario.launch([scenario.number()], redirect_=redirect)


def test_another_operations_person_cannot_tell_that_it_exists(scenario: Scenario) -> None:
    request = scenario.request(scenario.upload([scenario.number()]))
    stranger = Principal("s" * 32, "s", "S", frozenset({("other", "desk.broadcast")}))
    with pytest.raises(NotFound):
        launch(scenario.store, stranger, request, idempotency_key="key-one-1")
    with pytest.raises(Forbidden):
        launch(scenario.store, scenario.ana, request, idempotency_key="key-one-1")


@pytest.mark.parametrize("key", ["", "short", "x" * 129, "line\nbreak-in-key"])
def test_a_poor_idempotency_key_is_refused(scenario: Scenario, key: str) -> None:
    request = scenario.request(scenario.upload([scenario.number()]))
    with pytest.raises(Invalid, match="Idempotency-Key"):
        launch(scenario.store, scenario.operator, request, idempotency_key=key)


def test_a_repetition_gets_its_broadcast_even_when_the_template_was_paused_meanwhile(scenario: Scenario) -> None:
    request = scenario.request(scenario.upload([scenario.number()]))
    first = launch(scenario.store, scenario.operator, request, idempotency_key="key-one-1")
    with scenario.store.write() as connection:
        connection.exec_driver_sql("UPDATE template SET status = 'PAUSED'")
    again = launch(scenario.store, scenario.operator, request, idempotency_key="key-one-1")
    assert again == Launched(first.broadcast_id, replayed=True)


@pytest.mark.parametrize(
    ("redirect", "extra"),
    [(RedirectKind.NONE, ""), (RedirectKind.HUMAN, ""), (RedirectKind.NOTIFICATION, "redirecionamento=humano")],
    ids=["talk button", "human without target", "a row asks for a human"],
)
def test_without_a_push_queue_nobody_is_sent_into_no_queue(
    scenario: Scenario, redirect: RedirectKind, extra: str
) -> None:
    with scenario.store.write() as connection:
        connection.exec_driver_sql("UPDATE operation SET push_queue_id = NULL")
    with pytest.raises(Invalid, match="fila de push"):
        scenario.launch([scenario.number()], redirect_=redirect, extra=extra)
    scenario.launch([scenario.number()], redirect_=Redirect(RedirectKind.HUMAN, scenario.billing))


def audited(scenario: Scenario, broadcast: str) -> list[tuple[str, str | None, dict[str, Any]]]:
    """(action, who, detail) of a broadcast's entries."""
    with scenario.store.read() as connection:
        found = connection.execute(
            text("SELECT action, user_id, detail FROM audit WHERE object = :b ORDER BY id"), {"b": broadcast}
        ).all()
    return [(row[0], row[1], json.loads(row[2])) for row in found]


def test_the_audit_trail_has_every_option_of_a_launch_and_the_start_of_a_schedule(
    timed: Scenario, clock: SettableClock
) -> None:
    at, hours, wave = micros(clock.at + timedelta(hours=1)), SendingHours(480, 1200), FirstWave(1, 60, 2, 10)
    broadcast = timed.launch(
        [timed.number() for _ in range(3)], "offer", start_at=at, hours=hours, first_wave=wave
    )  # fmt: skip
    clock.advance(hours=1)
    assert timed.store.start_due_broadcasts() == [broadcast]
    (launched, who, detail), (started, nobody, due) = audited(timed, broadcast)
    assert (launched, who, started, nobody) == (
        "broadcast.launch", timed.operator.user_id, "broadcast.start", None,
    )  # fmt: skip
    assert (detail["start_at"], detail["hours"], detail["first_wave"]) == (at, hours.to_json(), wave.to_json())
    assert due == {"start_at": at}
    plain = audited(timed, timed.launch([timed.number()]))[0][2]
    assert (plain["hours"], plain["first_wave"], plain["start_at"]) == (None, None, None)
