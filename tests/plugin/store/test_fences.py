"""What keeps two writers apart: each test fails when its fence is taken out of the SQL."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timezone

import pytest
from sqlalchemy import create_engine, text

from plugin.connector import StatusUpdate
from plugin.domain.delivery import DeliveryState
from plugin.testing.scenario import KEY, TEXTS, Scenario
from plugin.usecases.dispatch import Settlement
from plugin.usecases.handoff import close_case, list_cases
from plugin.usecases.receive import route
from plugin.usecases.redirect import redirect
from plugin.usecases.report import report, report_rows


def execute(scenario: Scenario, statement: str, **values: object) -> None:
    with scenario.store.write() as connection:
        connection.execute(text(statement), values)


def together(*actions: Callable[[], object]) -> list[object]:
    """Run these at once; their results, or what they raised."""
    results: list[object] = [None] * len(actions)
    start = threading.Barrier(len(actions))

    def go(index: int, action: Callable[[], object]) -> None:
        start.wait()
        try:
            results[index] = action()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=go, args=pair) for pair in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def postgresql_only(scenario: Scenario) -> None:
    if scenario.store.dialect != "postgresql":
        pytest.skip("SQLite has one writer at a time")


# --------------------------------------------------------------------------- claims
def test_the_claim_itself_passes_over_people_who_opted_out(scenario: Scenario) -> None:
    stays, gone = scenario.number(), scenario.number()
    broadcast = scenario.launch([stays, gone])
    # As when the opt-out commits while the launch of the same person is under way: the row is still queued.
    execute(scenario, "INSERT INTO opt_out (canonical, source, detail, at) VALUES (:c, 'word', '', 1)", c=gone)
    epoch = scenario.dispatcher()
    assert [c.address for c in scenario.claim(broadcast, 9, epoch)] == [stays]
    assert report(scenario.store, scenario.operator, broadcast).skipped == {"opted_out": 1}


def test_a_claim_waits_for_a_pause_that_is_being_committed(scenario: Scenario) -> None:
    postgresql_only(scenario)
    broadcast = scenario.launch([scenario.number() for _ in range(5)])
    epoch = scenario.dispatcher()
    claimed: list[object] = []
    with scenario.store.write() as connection:
        connection.execute(text("UPDATE broadcast SET state = 'paused'"))
        thread = threading.Thread(target=lambda: claimed.extend(scenario.claim(broadcast, 9, epoch)))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive(), "the claim did not wait"
    thread.join(10)
    assert claimed == []


def test_only_what_a_dead_dispatcher_left_becomes_unknown(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(2)])
    here, elsewhere = scenario.store.register_dispatcher("here", 7, "p", 300), scenario.dispatcher()
    (mine,), (theirs,) = scenario.claim(broadcast, 1, here), scenario.claim(broadcast, 1, elsewhere)
    assert scenario.store.recover_crashed("here", lambda pid, process: True) == 0
    assert scenario.store.recover_crashed("here", lambda pid, process: (pid, process) != (7, "p")) == 1
    rows = report_rows(scenario.store, scenario.operator, broadcast)
    assert [row["state"] for row in rows] == ["unknown", "sending"]
    assert (mine.id, theirs.id) == tuple(sorted((mine.id, theirs.id)))


def test_a_dead_dispatcher_is_only_taken_for_dead_once_its_claim_has_committed(scenario: Scenario) -> None:
    postgresql_only(scenario)
    broadcast = scenario.launch([scenario.number()])
    epoch = scenario.store.register_dispatcher("here", 7, "p", 300)
    # As in the middle of a claim: the row is `sending`, not yet committed, and the claim holds its dispatcher's row.
    with scenario.store.write() as connection:
        connection.execute(text("SELECT 1 FROM dispatcher WHERE epoch = :e FOR SHARE"), {"e": epoch})
        connection.execute(text("UPDATE delivery SET state = 'sending', epoch = :e"), {"e": epoch})
        recovered: list[int] = []
        thread = threading.Thread(
            target=lambda: recovered.append(scenario.store.recover_crashed("here", lambda pid, process: False))
        )
        thread.start()
        thread.join(0.5)
        assert thread.is_alive(), "recovery did not wait"
    thread.join(10)
    assert recovered == [1]
    assert report(scenario.store, scenario.operator, broadcast).states["unknown"] == 1


def test_a_refusal_written_twice_does_not_undo_the_claim_made_in_between(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number()])
    epoch = scenario.dispatcher()
    (first,) = scenario.claim(broadcast, 1, epoch)
    refused = Settlement(first.id, first.claimed_at, DeliveryState.QUEUED)
    scenario.store.settle_deliveries([refused])
    assert len(scenario.claim(broadcast, 1, epoch)) == 1
    scenario.store.settle_deliveries([refused])
    assert scenario.claim(broadcast, 1, epoch) == []


def test_a_definite_refusal_that_comes_after_recovery_proves_that_nothing_was_sent(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number()])
    epoch = scenario.dispatcher()
    (claimed,) = scenario.claim(broadcast, 1, epoch)
    assert scenario.store.end_dispatcher(epoch) == 1
    scenario.store.settle_deliveries([Settlement(claimed.id, claimed.claimed_at, DeliveryState.QUEUED)])
    found = report(scenario.store, scenario.operator, broadcast)
    assert (found.states["unknown"], found.states["queued"]) == (0, 1)


@pytest.mark.parametrize("rows", [3, 2000])
def test_a_claim_takes_no_more_than_it_was_asked_for(scenario: Scenario, rows: int) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(rows)])
    execute(scenario, "ANALYZE")
    epoch = scenario.dispatcher()
    assert len(scenario.claim(broadcast, 2, epoch)) == 2


def test_an_error_is_shown_as_long_as_its_state_lasts(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number()])
    epoch = scenario.dispatcher()
    for state in (DeliveryState.QUEUED, DeliveryState.SENT):
        (claimed,) = scenario.claim(broadcast, 1, epoch)
        code = "130429" if state is DeliveryState.QUEUED else None
        scenario.store.settle_deliveries([Settlement(claimed.id, claimed.claimed_at, state, "w", error_code=code)])
    (row,) = report_rows(scenario.store, scenario.operator, broadcast)
    assert (row["state"], row["error_code"]) == ("sent", None)


# --------------------------------------------------------------------------- replies and cases
def test_two_replies_of_one_person_that_are_redirected_at_once_share_one_case(scenario: Scenario) -> None:
    for _ in range(5):
        number = scenario.number()
        scenario.send_all(scenario.launch([number]))
        first = scenario.reply(number, "um")
        scenario.send_all(scenario.launch([number]))
        second = scenario.reply(number, "dois")
        assert first.kind == second.kind == "interaction"
        results = together(
            *(
                lambda f=f: redirect(scenario.store, f.inbound_id, contact_id=f.contact_id, by="action", texts=TEXTS)
                for f in (first, second)
            )
        )
        assert len({getattr(r, "case_id", r) for r in results}) == 1, results
        messages = scenario.store.conversation(first.contact_id)
        assert len({m["case_id"] for m in messages if m["author"] == "contact"}) == 1
    assert len(list_cases(scenario.store, scenario.operator)) == 5


def test_a_message_that_arrives_while_its_case_is_being_closed_is_not_lost(scenario: Scenario) -> None:
    postgresql_only(scenario)
    number = scenario.number()
    scenario.send_all(scenario.launch([number]))
    case_id = str(scenario.redirect(scenario.reply(number)).case_id)
    version = list_cases(scenario.store, scenario.operator)[0].version
    inbound_id = str(scenario.store_message(scenario.inbound(number, "ainda não funciona")))
    attach = scenario.store.attach_to_case
    closing: list[threading.Thread] = []

    def attach_while_closing(*arguments: object) -> None:
        thread = threading.Thread(target=lambda: close_case(scenario.store, scenario.ana, case_id, version=version))
        closing.append(thread)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive(), "the case was closed under the message"
        attach(*arguments)  # type: ignore[arg-type]

    scenario.store.attach_to_case = attach_while_closing  # type: ignore[method-assign,assignment]
    route(scenario.store, inbound_id, key=KEY)
    closing[0].join(10)
    found = [m["case_id"] for m in scenario.store.conversation(route(scenario.store, inbound_id, key=KEY).contact_id)]
    assert set(found) == {case_id}


def test_opposed_status_batches_end_without_a_deadlock(scenario: Scenario) -> None:
    numbers = [scenario.number() for _ in range(60)]
    broadcast = scenario.launch(numbers)
    ids = list(scenario.send_all(broadcast).values())
    now = datetime.now(timezone.utc)

    def post(order: list[int], status: str) -> None:
        for _ in range(10):
            scenario.statuses(*(StatusUpdate(f"w{i}", status, now, correlation=scenario.correlation(i)) for i in order))

    assert together(lambda: post(ids, "delivered"), lambda: post(ids[::-1], "read")) == [None, None]
    assert report(scenario.store, scenario.operator, broadcast).states["read"] == 60


def test_messages_are_routed_on_as_few_connections_as_there_are_workers(scenario: Scenario) -> None:
    postgresql_only(scenario)
    ids = []
    for _ in range(6):
        number = scenario.number()
        scenario.send_all(scenario.launch([number]))
        ids.append(str(scenario.store_message(scenario.inbound(number))))
    scenario.store.engine.dispose()
    scenario.store.engine = create_engine(scenario.store.url, future=True, pool_size=3, max_overflow=0, pool_timeout=5)
    results = together(*(lambda i=i: route(scenario.store, i, key=KEY).kind for i in ids))
    assert results == ["interaction"] * 6


def test_one_item_the_database_refuses_costs_its_neighbours_nothing(scenario: Scenario) -> None:
    postgresql_only(scenario)  # SQLite takes any text
    good, bad = scenario.number(), scenario.number()
    other = scenario.number()
    delivery, failing = scenario.send_all(scenario.launch([good, other])).values()
    now = datetime.now(timezone.utc)
    from plugin.usecases.receive import Person, StoredItem

    messages = [scenario.inbound(good, "oi"), scenario.inbound(bad, "nul \0 byte")]
    statuses = [
        StatusUpdate("w1", "delivered", now, correlation=scenario.correlation(delivery)),
        StatusUpdate("w2", "failed", now, correlation=scenario.correlation(failing), error_message="nul \0 byte"),
    ]
    items = [StoredItem(m, Person.of(m.address, None)) for m in messages]
    assert scenario.store.store_batch("whatsapp", items, statuses, [], [])[0] == 1
    assert scenario.store.facts()["items_unreadable"] == 2
    rows = report_rows(scenario.store, scenario.operator, _only_broadcast(scenario))
    assert [row["state"] for row in rows] == ["delivered", "sent"]


def _only_broadcast(scenario: Scenario) -> str:
    with scenario.store.read() as connection:
        return str(connection.execute(text("SELECT id FROM broadcast")).scalar_one())
