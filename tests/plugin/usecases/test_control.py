"""Pause and resume."""

from __future__ import annotations

import pytest

from plugin.domain.access import Principal
from plugin.errors import Conflict, Forbidden, NotFound
from plugin.testing.scenario import Scenario
from plugin.usecases.control import pause, resume
from plugin.usecases.report import report


def test_a_paused_broadcast_sends_nothing_and_a_resumed_one_the_rest(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(3)])
    pause(scenario.store, scenario.operator, broadcast)
    assert scenario.send_all(broadcast) == {}
    found = report(scenario.store, scenario.operator, broadcast)
    assert (found.state, found.state_reason) == ("paused", "Pausado por Operador.")
    assert scenario.store.finish_broadcasts() == []
    resume(scenario.store, scenario.operator, broadcast)
    assert len(scenario.send_all(broadcast)) == 3
    assert scenario.store.finish_broadcasts() == [broadcast]


def test_what_does_not_run_is_not_paused_and_what_is_not_paused_not_resumed(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number()])
    with pytest.raises(Conflict):
        resume(scenario.store, scenario.operator, broadcast)
    pause(scenario.store, scenario.operator, broadcast)
    with pytest.raises(Conflict):
        pause(scenario.store, scenario.operator, broadcast)


def test_only_those_who_broadcast_for_the_operation_control_it(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number()])
    stranger = Principal("s" * 32, "s", "S", frozenset({("other", "desk.broadcast")}))
    for verb in (pause, resume):
        with pytest.raises(NotFound):
            verb(scenario.store, stranger, broadcast)
        with pytest.raises(Forbidden):
            verb(scenario.store, scenario.ana, broadcast)
        with pytest.raises(NotFound):
            verb(scenario.store, scenario.operator, "0" * 32)
