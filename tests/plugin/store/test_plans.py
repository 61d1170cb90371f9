"""What is asked once a second, or with each claim, reads no row that it does not return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import pytest
from sqlalchemy import event, text

from plugin.domain.hours import SendingHours
from plugin.store import Store
from plugin.testing.clock import SettableClock
from plugin.testing.scenario import SENDER, Scenario

#: 2:00 in São Paulo, 14:00 in Tokyo.
NIGHT = datetime(2026, 11, 24, 5, tzinfo=timezone.utc)
ROWS = 20_000


@pytest.fixture
def scenario(database_url: str) -> Iterator[Scenario]:
    store = Store(database_url, SettableClock(NIGHT))
    yield Scenario(store)
    store.close()


@pytest.fixture
def big(scenario: Scenario) -> str:
    """A broadcast that many in Brazil wait for, and a few in Japan; with the statistics that lead a planner astray."""
    broadcast = scenario.launch([scenario.number()], hours=SendingHours(8 * 60, 20 * 60))
    store = scenario.store
    with store.write() as connection:
        connection.execute(
            text(
                "INSERT INTO delivery (broadcast_id, row, line, state, reason, sender, address, canonical, variables,"
                f" attempts, tries, failed_attempt, resent, epoch) WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT"
                f" n + 1 FROM g WHERE n < {ROWS}) SELECT :b, n + 9, n + 9, 'queued', '', '{SENDER}',"
                " CASE WHEN n % 1000 = 0 THEN '+8190' || (12340000 + n) ELSE '+5531' || (970000000 + n) END,"
                " CASE WHEN n % 1000 = 0 THEN '+8190' || (12340000 + n) ELSE '+5531' || (970000000 + n) END,"
                " '{}', 0, 0, 0, 0, 0 FROM g"
            ),
            {"b": broadcast},
        )
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    return broadcast


@contextmanager
def plans(store: Store, about: str) -> Iterator[list[str]]:
    """How the database carries out each query that speaks of `about`, as it says itself."""
    asked: list[tuple[str, Any]] = []
    found: list[str] = []

    def note(_c: object, _cursor: object, statement: str, values: Any, _context: object, _many: bool) -> None:
        if about in statement and not statement.startswith("EXPLAIN"):
            asked.append((statement, values))

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(store.engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN " if store.dialect == "sqlite" else "EXPLAIN "
    with store.read() as connection:
        for statement, values in asked:
            rows = connection.exec_driver_sql(explain + statement, values or None).all()
            found.append("\n".join(str(row[-1]) for row in rows))


def test_a_claim_at_night_finds_those_abroad_without_a_look_at_everybody_who_sleeps(
    scenario: Scenario, big: str
) -> None:
    with plans(scenario.store, "d.state = 'queued'") as found:
        (claimed,) = scenario.claim(big, 1)
    assert claimed.address.startswith("+81")
    assert found
    assert all("delivery_abroad" in plan for plan in found), found


@pytest.mark.parametrize("chore", [Store.drop_cancelled, Store.resend_due_unknowns, Store.finish_broadcasts])
def test_a_chore_of_every_second_looks_into_the_index_by_state(
    scenario: Scenario, big: str, chore: Callable[[Store], object]
) -> None:
    empty = scenario.launch([scenario.number()], on_unknown="resend")
    with scenario.store.write() as connection:
        state = "cancelled" if chore is Store.drop_cancelled else "running"
        connection.execute(text("UPDATE broadcast SET state = :s WHERE id = :b"), {"s": state, "b": empty})
    with plans(scenario.store, "FROM delivery d WHERE d.broadcast_id = broadcast.id") as found:
        chore(scenario.store)
    scans = ("Seq Scan on delivery", "using delivery_pkey", "SCAN d", "SCAN delivery", "INTEGER PRIMARY KEY")
    assert found
    assert all("delivery_state" in plan for plan in found), found
    assert not [plan for plan in found if any(scan in plan for scan in scans)], found
