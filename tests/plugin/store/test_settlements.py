from __future__ import annotations

from datetime import datetime, timezone

from plugin.connector import StatusUpdate
from plugin.domain.delivery import DeliveryState
from plugin.domain.refusal import Reaction, Refusal
from plugin.testing.scenario import Scenario

AT = datetime(2026, 11, 23, tzinfo=timezone.utc)


def running(scenario: Scenario, broadcast: str) -> bool:
    return [one["id"] for one in scenario.store.running_broadcasts()] == [broadcast]


def test_a_finished_broadcast_runs_again_when_a_frozen_process_gives_a_row_back(scenario: Scenario) -> None:
    broadcast, epoch = scenario.launch([scenario.number()]), scenario.dispatcher()
    claimed = scenario.claim(broadcast, epoch=epoch)
    scenario.store.end_dispatcher(epoch)
    assert scenario.store.finish_broadcasts() == [broadcast]  # its only row is unknown
    assert scenario.store.reopen_broadcasts() == []
    scenario.settle(claimed, DeliveryState.DEFERRED)
    assert scenario.store.reopen_broadcasts() == [broadcast]
    assert running(scenario, broadcast)
    assert scenario.store.finish_broadcasts() == []


def test_a_finished_broadcast_runs_again_when_a_late_status_asks_to_try_again(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number()])
    [delivery] = scenario.send_all(broadcast).values()
    assert scenario.store.finish_broadcasts() == [broadcast]
    later = Refusal("131049", Reaction.DEFER, "", "", seconds=86_400, tries=1)
    failed = StatusUpdate("wamid.1", "failed", AT, scenario.correlation(delivery), error_code="131049")
    with scenario.store.write() as connection:
        scenario.store.apply_statuses(connection, [failed], {"131049": later})
    assert scenario.store.reopen_broadcasts() == [broadcast]
    assert running(scenario, broadcast)
    assert scenario.store.reopen_broadcasts() == []
