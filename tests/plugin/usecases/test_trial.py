"""A test send goes the normal way to a few phones, and is no broadcast to the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from plugin.domain.access import Principal
from plugin.domain.hours import SendingHours
from plugin.domain.redirect import Outcome, RedirectKind
from plugin.domain.wave import FirstWave
from plugin.errors import AlreadyLaunched, Conflict, Forbidden, Invalid, NotFound
from plugin.testing.scenario import Scenario
from plugin.usecases.launch import launch
from plugin.usecases.report import list_broadcasts, report, report_rows
from plugin.usecases.trial import TrialLaunched, send_trial


def send(scenario: Scenario, upload: str, numbers: Sequence[str], row: int | None = None, **more: Any) -> TrialLaunched:
    key = more.pop("key", "a key of tests")
    principal = more.pop("principal", scenario.operator)
    return send_trial(scenario.store, principal, scenario.request(upload, **more), numbers, row, idempotency_key=key)


def variables(scenario: Scenario, broadcast: str) -> list[str]:
    with scenario.store.read() as connection:
        found = connection.execute(
            text("SELECT variables FROM delivery WHERE broadcast_id = :b ORDER BY id"), {"b": broadcast}
        )
        return [row[0] for row in found]


def test_each_number_gets_the_message_of_the_first_accepted_row(scenario: Scenario) -> None:
    upload = scenario.upload(["12", scenario.number(), scenario.number()])
    phones = [scenario.number(), "(31) 9 9876-5432"]
    broadcast = send(scenario, upload, phones).broadcast_id
    assert variables(scenario, broadcast) == ['{"1":"Pessoa 2"}'] * 2
    assert list(scenario.send_all(broadcast)) == [phones[0], "+5531998765432"]
    found = report(scenario.store, scenario.operator, broadcast)
    assert (found.test, found.rows, found.accepted, found.rejected) == (True, 2, 2, 0)
    assert scenario.store.finish_broadcasts() == [broadcast]


def test_another_row_can_be_chosen_and_its_redirect_comes_with_it(scenario: Scenario) -> None:
    upload = scenario.upload([scenario.number() for _ in range(3)], extra="redirecionamento=notificacao")
    broadcast = send(scenario, upload, [phone := scenario.number()], 3, notify_text="Obrigado!").broadcast_id
    assert variables(scenario, broadcast) == ['{"1":"Pessoa 3"}']
    scenario.send_all(broadcast)
    reply = scenario.reply(phone, "Vamos conversar")
    assert reply.decision is not None
    assert reply.decision.outcome is Outcome.NOTIFICATION


def test_the_file_itself_is_untouched_and_can_be_launched_afterwards(scenario: Scenario) -> None:
    people = [scenario.number() for _ in range(3)]
    upload = scenario.upload(people)
    send(scenario, upload, [people[0]])
    real = launch(scenario.store, scenario.operator, scenario.request(upload), idempotency_key="the real one")
    assert sorted(scenario.send_all(real.broadcast_id)) == sorted(people)


def test_who_opted_out_is_skipped_and_said_to_be(scenario: Scenario) -> None:
    upload, gone, stays = scenario.upload([scenario.number()]), scenario.number(), scenario.number()
    with scenario.store.write() as connection:
        scenario.store.write_opt_out(connection, gone, "word")
    sent = send(scenario, upload, [gone, stays])
    assert (sent.queued, sent.skipped) == (1, ((gone, "opted_out"),))
    assert send(scenario, upload, [gone, stays]) == replace(sent, replayed=True)
    broadcast = sent.broadcast_id
    rows = report_rows(scenario.store, scenario.operator, broadcast)
    assert [(row["row"], row["address"], row["state"], row["reason"]) for row in rows] == [
        (1, gone, "skipped", "opted_out"), (2, stays, "queued", ""),
    ]  # fmt: skip


def test_schedule_hours_and_first_wave_do_not_apply(scenario: Scenario) -> None:
    upload = scenario.upload([scenario.number() for _ in range(3)])
    broadcast = send(
        scenario, upload, [scenario.number()],
        start_at=9 * 10**15, hours=SendingHours(0, 1), first_wave=FirstWave(1, 60, 1, 1), on_unknown="resend",
    ).broadcast_id  # fmt: skip
    found = report(scenario.store, scenario.operator, broadcast)
    assert (found.state, found.hours, found.first_wave, found.on_unknown) == ("running", None, None, "keep")


def test_tests_are_listed_only_when_asked_for(scenario: Scenario) -> None:
    upload = scenario.upload([scenario.number()])
    trial = send(scenario, upload, [scenario.number()]).broadcast_id
    real = scenario.launch([scenario.number()])
    assert [b.id for b in list_broadcasts(scenario.store, scenario.operator).items] == [real]
    both = list_broadcasts(scenario.store, scenario.operator, tests=True).items
    assert [(b.id, b.test) for b in both] == [(real, False), (trial, True)]


def test_a_key_stands_for_one_test_with_its_numbers_and_row(scenario: Scenario) -> None:
    upload, phone = scenario.upload([scenario.number(), scenario.number()]), scenario.number()
    first = send(scenario, upload, [phone])
    assert send(scenario, upload, [phone.replace("+55", "")]) == replace(first, replayed=True)
    for numbers, row in (([scenario.number()], None), ([phone], 2)):
        with pytest.raises(AlreadyLaunched):
            send(scenario, upload, numbers, row)
    with pytest.raises(AlreadyLaunched):
        launch(scenario.store, scenario.operator, scenario.request(upload), idempotency_key="a key of tests")


@pytest.mark.parametrize(
    ("numbers", "field", "words"),
    [
        ([], "numbers", "não 0"),
        (["31 99876-5431"] * 6, "numbers", "não 6"),
        (["31 99876-5432", "98765-4321"], "numbers.1", "2º número: O telefone está sem DDD."),
        (["31 99876-5432", "31 9876-5432"], "numbers.1", "2º número se repete"),
    ],
)
def test_a_wrong_number_is_named_with_its_reason(
    scenario: Scenario, numbers: list[str], field: str, words: str
) -> None:
    upload = scenario.upload([scenario.number()])
    with pytest.raises(Invalid, match=words) as refused:
        send(scenario, upload, numbers)
    assert (refused.value.field, bool(refused.value.remedy)) == (field, True)


@pytest.mark.parametrize("row", [1, 4, 0])
def test_only_an_accepted_row_lends_its_values(scenario: Scenario, row: int) -> None:
    upload = scenario.upload(["12", scenario.number(), scenario.number()])
    with pytest.raises(Invalid, match=f"linha {row} ") as refused:
        send(scenario, upload, [scenario.number()], row)
    assert refused.value.field == "row"


def test_a_test_needs_what_a_launch_needs(scenario: Scenario) -> None:
    upload = scenario.upload([scenario.number()])
    stranger = Principal("s" * 32, "s", "S", frozenset({("other", "desk.broadcast")}))
    with pytest.raises(NotFound):
        send(scenario, upload, ["nonsense"], principal=stranger)
    with pytest.raises(Forbidden):
        send(scenario, upload, ["nonsense"], principal=scenario.ana)
    with pytest.raises(Conflict, match="PAUSED"):
        send(scenario, scenario.upload([scenario.number()], "paused"), ["31 99876-5432"], template="paused")
    with pytest.raises(Invalid):
        send(scenario, upload, ["31 99876-5432"], redirect_=RedirectKind.NONE, window_hours=0)
