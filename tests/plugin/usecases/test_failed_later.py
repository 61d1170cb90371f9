"""A message that was accepted fails afterwards: its code means what it means in an answer to a send."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from channels.loopback.connector import LoopbackConnector
from channels.whatsapp.refusals import TABLE, explain
from plugin.connector import StatusUpdate
from plugin.domain.refusal import Reaction
from plugin.store import tables as t
from plugin.testing.scenario import SENDER, Scenario
from plugin.usecases.receive import receive
from plugin.usecases.report import report, report_rows

AT = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)

#: What the row is after a status that failed with a code of this reaction, and whether it may be sent again.
AFTER: dict[Reaction, str] = {
    Reaction.RETRY: "deferred",
    Reaction.BACK_OFF: "deferred",
    Reaction.WAIT: "deferred",
    Reaction.DEFER: "deferred",
    Reaction.FAIL: "failed",
    Reaction.SUSPECT: "failed",
    Reaction.SUPPRESS: "failed",
    Reaction.PAUSE: "queued",
}


@pytest.fixture
def connector() -> LoopbackConnector:
    connector = LoopbackConnector(SENDER, "s3cret")
    connector.refusals.update(TABLE)
    return connector


def failed(scenario: Scenario, delivery: int, code: str | None, provider_id: str = "") -> StatusUpdate:
    correlation = scenario.correlation(delivery)
    return StatusUpdate(
        provider_id or f"wamid.out.{delivery}", "failed", AT, correlation, error_code=code, error_message="Meta's words"
    )


def take(scenario: Scenario, connector: LoopbackConnector, *updates: StatusUpdate) -> None:
    assert receive(scenario.store, connector, *connector.webhook(*updates)).statuses == len(updates)


def rows(scenario: Scenario, broadcast: str) -> list[dict[str, Any]]:
    return report_rows(scenario.store, scenario.operator, broadcast, explain=lambda _, code: explain(code))


def test_each_code_of_the_table_has_its_reaction(scenario: Scenario, connector: LoopbackConnector) -> None:
    codes = [code for code in TABLE if "/" not in code]
    broadcast = scenario.launch([scenario.number() for _ in codes])
    sent = scenario.send_all(broadcast)
    by_code = dict(zip(codes, sent.values(), strict=True))
    take(scenario, connector, *(failed(scenario, delivery, code) for code, delivery in by_code.items()))
    for row, code in zip(rows(scenario, broadcast), codes, strict=True):
        assert (row["error_code"], row["error"], row["state"]) == (
            code,
            "Meta's words",
            AFTER[TABLE[code].reaction],
        ), code
        assert TABLE[code].pt in row["explanation"]
        assert bool(row["not_before"]) == (row["state"] == "deferred")


def test_a_code_that_nobody_should_be_sent_after_pauses_and_says_why_in_both_languages(
    scenario: Scenario, connector: LoopbackConnector
) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(3)])
    first, *_ = scenario.send_all(broadcast).values()
    take(scenario, connector, failed(scenario, first, "131042"))
    for language in ("pt-BR", "en"):
        found = report(
            scenario.store, scenario.operator, broadcast, explain=lambda _, code: explain(code), language=language
        )
        assert (found.state, found.states["queued"]) == ("paused", 1)
        assert found.state_reason == " ".join(TABLE["131042"].explanation(language))


def test_a_person_who_stopped_marketing_is_suppressed(scenario: Scenario, connector: LoopbackConnector) -> None:
    number = scenario.number()
    broadcast = scenario.launch([number, scenario.number()])
    delivery = scenario.send_all(broadcast)[number]
    take(scenario, connector, failed(scenario, delivery, "131050"))
    again = scenario.launch([number, scenario.number()])
    assert report(scenario.store, scenario.operator, again).skipped == {"opted_out": 1}


def test_the_marketing_cap_waits_a_day_once(scenario: Scenario, connector: LoopbackConnector) -> None:
    number = scenario.number()
    broadcast = scenario.launch([number])
    delivery = scenario.send_all(broadcast)[number]
    before = scenario.store.now()
    take(scenario, connector, failed(scenario, delivery, "131049"))
    d = t.delivery.c
    with scenario.store.write() as connection:
        row = connection.execute(t.delivery.select().where(d.id == delivery)).one()
        assert (row.state, row.tries) == ("deferred", 1)
        assert 0 <= row.not_before - before - 24 * 3600 * 1_000_000 < 60_000_000
        connection.execute(t.delivery.update().where(d.id == delivery).values(state="sent", not_before=None))
    take(scenario, connector, failed(scenario, delivery, "131049"))
    (row,) = rows(scenario, broadcast)
    assert (row["state"], row["error_code"]) == ("failed", "131049")


@pytest.mark.parametrize("code", ["999999", "nonsense"])
def test_an_unknown_code_is_tried_once_more_and_kept_as_it_came(
    scenario: Scenario, connector: LoopbackConnector, code: str
) -> None:
    broadcast = scenario.launch([scenario.number()])
    (delivery,) = scenario.send_all(broadcast).values()
    take(scenario, connector, failed(scenario, delivery, code))
    (row,) = rows(scenario, broadcast)
    assert (row["state"], row["error_code"], row["error"]) == ("deferred", code, "Meta's words")
    assert code in row["explanation"]


def test_a_failure_without_a_code_fails_the_row(scenario: Scenario, connector: LoopbackConnector) -> None:
    broadcast = scenario.launch([scenario.number()])
    (delivery,) = scenario.send_all(broadcast).values()
    take(scenario, connector, failed(scenario, delivery, None))
    (row,) = rows(scenario, broadcast)
    assert (row["state"], row["error_code"], bool(row["explanation"])) == ("failed", None, True)
