"""The report explains itself: each line, each group of failures, in the JSON and in the file."""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import Any

import pytest

from channels.whatsapp.refusals import explain as of_meta
from plugin.domain.causes import REASONS, REFUSED, UNKNOWN_REMEDY
from plugin.domain.delivery import DeliveryState
from plugin.domain.refusal import Refusal
from plugin.store import tables as t
from plugin.testing.scenario import Scenario
from plugin.usecases import report as reporting
from plugin.usecases.control import cancel
from plugin.usecases.explain import lines, of_own
from plugin.web.texts import TEXTS

#: state, reason, code → words that the explanation holds, words that the remedy holds (Portuguese).
CASES: list[tuple[str, str, str | None, str, str]] = [
    ("failed", "", "131026", "não tem WhatsApp", "não insista"),
    ("failed", "", "987654", "987654", "mensagem do provedor"),
    ("failed", "", None, "sem dar um código", "mensagem do provedor"),
    ("unknown", "", "ReadTimeout", "não respondeu a tempo", "duas vezes"),
    ("unknown", "", None, "interrompido", "duas vezes"),
    ("queued", "", "190", "token de acesso", "credentials.yml"),
    ("queued", "", None, "espera a sua vez", ""),
    ("deferred", "retry", "131016", "tentado de novo. Um serviço da Meta", "automática"),
    ("deferred", "provider", "131049", "esperar com este destinatário. A Meta não entregou", "quando a espera acabar"),
    ("deferred", "hours", "131016", "fuso do destinatário.", "horário abrir"),
    ("deferred", "conversation", None, "conversa", "quando a conversa terminar"),
    ("deferred", "frequency", None, "máximo de disparos", "quando o limite permitir"),
    ("skipped", "opted_out", None, "está na lista de descadastros", "desfaça o descadastro"),
    ("skipped", "duplicate", None, "repete", ""),
    ("skipped", "blank", None, "vazia", ""),
    ("skipped", "cancelled", None, "cancelado", "disparo novo"),
    ("rejected", "phone_letters", None, "conferência do arquivo", "corrija"),
    ("sending", "", None, "entregue ao provedor agora", ""),
    ("sent", "", None, "provedor aceitou", ""),
    ("delivered", "", None, "chegou ao telefone", ""),
    ("read", "", None, "foi lida", ""),
]


def explain(_channel: str, code: str) -> Refusal:
    return of_meta(code)


@pytest.mark.parametrize(("state", "reason", "code", "happened", "remedy"), CASES)
def test_a_line_says_what_happened_and_what_to_do(
    state: str, reason: str, code: str | None, happened: str, remedy: str
) -> None:
    found = lines(explain, "whatsapp", "pt-BR")(state, reason, code)
    assert happened in found[0]
    assert remedy in found[1]
    assert [bool(text) for text in found] == [True, bool(remedy)]
    english = lines(explain, "whatsapp", "en")(state, reason, code)
    assert [bool(text) for text in english] == [True, bool(remedy)]
    assert english[0] != found[0]


def test_every_state_has_a_case() -> None:
    assert {case[0] for case in CASES} == {state.value for state in DeliveryState}


def test_an_unknown_line_spells_out_the_risk_whatever_its_code() -> None:
    for code in ("ReadTimeout", "restore", "connector", "http_503", "something new", None):
        assert lines(explain, "whatsapp", "pt-BR")("unknown", "", code)[1] == UNKNOWN_REMEDY[0]


def test_a_case_is_looked_up_once_for_a_million_lines() -> None:
    asked: Counter[str] = Counter()

    def counting(_channel: str, code: str) -> Refusal:
        asked[code] += 1
        return of_meta(code)

    line = lines(counting, "whatsapp", "pt-BR")
    for _ in range(1000):
        line("failed", "", "131026")
        line("failed", "", "131050")
    assert asked == {"131026": 1, "131050": 1}


# --------------------------------------------------------------------------- stored lines
@pytest.fixture
def broadcast(scenario: Scenario) -> str:
    """A broadcast of one line for each of `CASES` that a sent line can be in, one refused number and one repeated."""
    wanted = [case for case in CASES if case[0] not in ("rejected", "skipped")]
    numbers = [scenario.number() for _ in wanted]
    found = scenario.launch([*numbers, "abc", numbers[0]])
    d = t.delivery.c
    with scenario.store.write() as connection:
        for row, (state, reason, code, _, _) in enumerate(wanted, 1):
            values: dict[str, Any] = {"state": state, "reason": reason, "error_code": code}
            if state == "deferred":
                values["not_before"] = 1_795_000_000_000_000
            if state == "failed":
                values["error"] = "=Words of the provider"
            connection.execute(t.delivery.update().where(d.broadcast_id == found, d.row == row).values(**values))
    return found


def test_each_stored_line_is_explained_in_the_language_asked_for(scenario: Scenario, broadcast: str) -> None:
    store, person = scenario.store, scenario.operator
    rows = reporting.report_rows(store, person, broadcast, explain=explain)
    for row in rows:
        expected = lines(explain, "whatsapp", "pt-BR")(row["state"], row["reason"], row["error_code"])
        assert (row["explanation"], row["remedy"]) == expected
    waiting = [row["not_before"] for row in rows if row["state"] == "deferred"]
    assert set(waiting) == {"2026-11-18T11:06:40Z"}
    english = reporting.report_rows(store, person, broadcast, explain=explain, language="en")
    assert next(row["explanation"] for row in english if row["error_code"] == "190") == (
        "The access token has expired or was revoked."
    )


def test_pages_of_one_state_follow_the_file_and_leave_nobody_out(scenario: Scenario, broadcast: str) -> None:
    store, person = scenario.store, scenario.operator
    every = reporting.report_rows(store, person, broadcast, limit=1000)
    for state in {row["state"] for row in every}:
        wanted = [row["row"] for row in every if row["state"] == state]
        found: list[int] = []
        while page := reporting.report_rows(
            store, person, broadcast, state=state, after=found[-1] if found else 0, limit=2
        ):
            found.extend(row["row"] for row in page)
        assert found == wanted
        before = wanted[-1] - 1  # a row of whatever state
        assert [r["row"] for r in reporting.report_rows(store, person, broadcast, state=state, after=before)] == [
            wanted[-1]
        ]


def test_a_refused_line_repeats_what_the_check_of_the_file_said(scenario: Scenario, broadcast: str) -> None:
    (row,) = reporting.report_rows(scenario.store, scenario.operator, broadcast, state="rejected")
    assert row["error"].startswith("telefone: ")
    assert row["error"].count(".") == 2
    assert "abc" not in row["error"]
    (row,) = reporting.report_rows(scenario.store, scenario.operator, broadcast, state="rejected", language="en")
    assert row["explanation"].endswith(" The number has letters or symbols, or is none.")


def test_every_reason_to_refuse_a_line_is_said_in_both_languages() -> None:
    assert set(TEXTS["reason"]) - set(REASONS) == set(REFUSED)


def test_failures_are_grouped_by_code_and_explained(scenario: Scenario, broadcast: str) -> None:
    found = reporting.report(scenario.store, scenario.operator, broadcast, explain=explain).failures
    assert {one["code"]: one["count"] for one in found} == {"131026": 1, "987654": 1, "": 1}
    assert all(one["explanation"] and one["remedy"] for one in found)
    by_code = {one["code"]: one for one in found}
    assert by_code["131026"]["explanation"] == of_meta("131026").pt
    assert by_code["987654"]["message"] == "=Words of the provider"
    assert {code: one["retry"] for code, one in by_code.items()} == {"131026": False, "987654": True, "": True}


def test_the_file_has_the_same_explanations_and_nothing_that_runs_as_a_formula(
    scenario: Scenario, broadcast: str
) -> None:
    store, person = scenario.store, scenario.operator
    text = b"".join(reporting.report_csv(store, person, broadcast, explain=explain)).decode("utf-8-sig")
    read = list(csv.DictReader(io.StringIO(text), delimiter=";"))
    rows = reporting.report_rows(store, person, broadcast, explain=explain, limit=1000)
    assert [(r["explicacao"], r["o_que_fazer"]) for r in read] == [(r["explanation"], r["remedy"]) for r in rows]
    assert {r["erro"] for r in read if r["situacao"] == "failed"} == {"'=Words of the provider"}
    assert all(r["nao_antes_de"] for r in read if r["situacao"] == "deferred")
    english = b"".join(reporting.report_csv(store, person, broadcast, explain=explain, language="en")).decode()
    assert "The access token has expired or was revoked." in english


def test_codes_of_a_channel_that_is_gone_are_kept_and_called_unknown() -> None:
    assert "131026" in lines(of_own, "whatsapp", "pt-BR")("failed", "", "131026")[0]
    assert lines(of_own, "whatsapp", "pt-BR")("unknown", "", "ReadTimeout")[0] == of_meta("ReadTimeout").pt


def test_a_sleep_that_is_over_is_told_by_nobody(scenario: Scenario) -> None:
    store, broadcast = scenario.store, scenario.launch([scenario.number()])
    wake_at = store.now() + 60_000_000
    with store.write() as connection:
        connection.execute(t.broadcast.update().values(wake_at=wake_at, wait_reason="daily"))

    def told() -> list[tuple[Any, str]]:
        (listed,) = reporting.list_broadcasts(store, scenario.operator).items
        return [
            (one.wake_at, one.wait_reason) for one in (listed, reporting.report(store, scenario.operator, broadcast))
        ]

    assert told() == [(wake_at, "daily")] * 2
    with store.write() as connection:
        connection.execute(t.broadcast.update().values(wake_at=store.now() - 1))
    assert told() == [(None, "")] * 2


# --------------------------------------------------------------------------- a cancel that is being worked off
@pytest.mark.parametrize(
    ("hold", "state", "reason", "code"), [("", "skipped", "cancelled", ""), ("restore", "unknown", "", "restore")]
)
def test_while_a_big_cancel_is_worked_off_every_view_says_the_same(
    scenario: Scenario, hold: str, state: str, reason: str, code: str
) -> None:
    store, person = scenario.store, scenario.operator
    broadcast = scenario.launch([scenario.number() for _ in range(6)])
    sent, deferred, *_ = scenario.claim(broadcast, 2)
    scenario.settle([sent])
    scenario.settle([deferred], DeliveryState.DEFERRED, delay=60, error_code="131000")
    with store.write() as connection:
        connection.execute(t.broadcast.update().values(hold=hold, state="paused"))
    store.at_once = 2
    cancel(store, person, broadcast)
    with store.read() as connection:  # three of five are still to be rewritten
        waiting = t.delivery.c.state.in_(("queued", "deferred"))
        assert len(connection.execute(t.delivery.select().where(waiting)).all()) == 3

    def seen() -> list[Any]:
        """What each view says; the same before and after the work is done."""
        text = b"".join(reporting.report_csv(store, person, broadcast, explain=explain)).decode("utf-8-sig")
        read = csv.DictReader(io.StringIO(text), delimiter=";")
        found = reporting.report(store, person, broadcast)
        listed = reporting.list_broadcasts(store, person).items[0].states
        first = reporting.report_rows(store, person, broadcast, state=state, limit=2)
        return [
            [(r["situacao"], r["motivo"], r["nao_antes_de"]) for r in read],
            reporting.report_rows(store, person, broadcast, explain=explain),
            (found.states, found.skipped, found.deferred),
            {s: n for s, n in listed.items() if n},
            [r["row"] for r in first],
            [r["row"] for r in reporting.report_rows(store, person, broadcast, state=state, after=first[-1]["row"])],
            reporting.report_rows(store, person, broadcast, state="queued"),
            reporting.report_rows(store, person, broadcast, state="deferred"),
        ]

    before = seen()
    assert before[0] == [("sent", "", ""), *[(state, reason, "")] * 5]
    assert {r["error_code"] or "" for r in before[1][2:]} == {code}
    assert before[3] == {"sent": 1, state: 5}
    assert before[4:] == [[2, 3], [4, 5, 6], [], []]
    while store.drop_cancelled():
        pass
    assert seen() == before


def test_the_file_names_who_redirected_and_by_which_proof(scenario: Scenario) -> None:
    broadcast = scenario.launch([number := scenario.number(), scenario.number()])
    scenario.send_all(broadcast)
    scenario.redirect(scenario.reply(number, "Vamos conversar"), by="sweeper")
    text = b"".join(reporting.report_csv(scenario.store, scenario.operator, broadcast)).decode("utf-8-sig")
    read = list(csv.DictReader(io.StringIO(text), delimiter=";"))
    assert [(r["prova"], r["redirecionado_por"]) for r in read] == [("returned_address", "sweeper"), ("", "")]
