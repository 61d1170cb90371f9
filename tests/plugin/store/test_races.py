"""Two things at once, on the database that really does two things at once. Many more: `python -m benchmarks.proof`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.proof import interleavings, races
from plugin.store import Store
from plugin.testing.scenario import Scenario


def test_however_many_launch_at_once_each_key_makes_one_broadcast(store: Store) -> None:
    found = races.run(store.url, 12, seed=1)
    assert found["broadcasts made"] == found["keys"] == 16


def test_nothing_is_claimed_after_the_commit_of_a_pause_a_cancel_or_an_opt_out(store: Store) -> None:
    found = interleavings.run(store, 20, seed=1)
    assert found["claimed after"] == 0
    assert 10 <= found["claimed before"] <= 70, "they did not meet"


def test_a_claim_that_has_looked_already_keeps_an_opt_out_waiting(scenario: Scenario) -> None:
    if scenario.store.dialect != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    number = scenario.number()
    epoch = scenario.dispatcher()
    take, order = scenario.store._take, []
    committed = threading.Event()

    def take_late(*arguments: Any) -> Sequence[Any]:
        committed.wait(0.5)
        return take(*arguments)

    scenario.store._take = take_late  # type: ignore[method-assign]

    def claim() -> None:
        order.extend(["claimed"] * len(scenario.claim(broadcast, 9, epoch)))

    with scenario.store.write() as connection:
        connection.exec_driver_sql("SAVEPOINT opt_out")
        scenario.store.write_opt_out(connection, number, "word")
        # Launched meanwhile: neither sees the other.
        launching = threading.Thread(target=lambda: broadcasts.append(scenario.launch([number])))
        broadcasts: list[str] = []
        launching.start()
        launching.join(10)
        (broadcast,) = broadcasts
        claiming = threading.Thread(target=claim)
        claiming.start()
        claiming.join(0.2)
    order.append("opted out")
    committed.set()
    claiming.join(10)
    assert order in (["opted out"], ["claimed", "opted out"])
