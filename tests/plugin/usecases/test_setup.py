from __future__ import annotations

from dataclasses import replace

import pytest

from plugin.connector import Capabilities
from plugin.domain.access import Principal
from plugin.domain.template import Template
from plugin.errors import Conflict, Forbidden, Invalid, NotFound
from plugin.store import Store
from plugin.testing.scenario import SENDER, TEMPLATES, Scenario
from plugin.usecases import setup


class Catalogue:
    name = "whatsapp"
    capabilities = Capabilities()
    senders = (SENDER,)

    def __init__(self, templates: list[Template]) -> None:
        self.templates = templates

    async def fetch_templates(self) -> list[Template]:
        return self.templates


def test_an_operation_lists_its_queues_and_who_may_attend(scenario: Scenario) -> None:
    (operation,) = setup.list_operations(scenario.store, scenario.operator)
    assert operation.name == "Suporte Fibra"
    assert operation.push_queue == scenario.push
    assert [q.name for q in operation.queues] == ["Cobrança", "Suporte técnico"]
    assert {a.id for a in operation.agents} == {scenario.operator.user_id, scenario.ana.user_id}


def test_operations_of_others_are_not_listed(scenario: Scenario) -> None:
    setup.create_operation(scenario.store, "Vendas", SENDER)
    stranger = Principal("x", "x", "X")
    everywhere = Principal("y", "y", "Y", frozenset({("*", "admin")}))
    assert setup.list_operations(scenario.store, stranger) == []
    assert [o.name for o in setup.list_operations(scenario.store, scenario.operator)] == ["Suporte Fibra"]
    assert [o.name for o in setup.list_operations(scenario.store, everywhere)] == ["Suporte Fibra", "Vendas"]


def test_seeding_twice_changes_nothing(scenario: Scenario) -> None:
    store = scenario.store
    assert setup.create_operation(store, " Suporte  Fibra ", SENDER) == scenario.operation
    assert setup.create_queue(store, scenario.operation, "Cobrança") == scenario.billing
    setup.add_queue_member(store, scenario.billing, scenario.ana.user_id)
    (operation,) = setup.list_operations(store, scenario.operator)
    assert len(operation.queues) == 2
    assert operation.push_queue == scenario.push


def test_a_name_in_use_with_another_number_is_a_conflict(scenario: Scenario) -> None:
    with pytest.raises(Conflict):
        setup.create_operation(scenario.store, "Suporte Fibra", "another number")
    with pytest.raises(Invalid):
        setup.create_operation(scenario.store, " ", SENDER)
    with pytest.raises(NotFound):
        setup.create_queue(scenario.store, "0" * 32, "Fila")
    with pytest.raises(NotFound):
        setup.add_queue_member(scenario.store, "0" * 32, scenario.ana.user_id)


def test_only_an_administrator_sets_things_up(scenario: Scenario) -> None:
    with pytest.raises((Forbidden, NotFound)):
        setup.create_operation(scenario.store, "Minha", SENDER, by=scenario.operator)
    with pytest.raises(Forbidden):
        setup.create_queue(scenario.store, scenario.operation, "Minha", by=scenario.operator)
    with pytest.raises(Forbidden):
        setup.add_queue_member(scenario.store, scenario.billing, scenario.ana.user_id, by=scenario.ana)


def test_approved_templates_come_first_and_only_senders_see_any(scenario: Scenario) -> None:
    found = setup.list_templates(scenario.store, scenario.operator, operation_id=scenario.operation)
    assert [t.name for t in found] == ["offer", "with_talk_button", "without_button", "paused"]
    with pytest.raises(Forbidden):
        setup.list_templates(scenario.store, scenario.ana, operation_id=scenario.operation)
    with pytest.raises(NotFound):
        setup.list_templates(scenario.store, scenario.operator, operation_id="0" * 32)


async def test_syncing_keeps_our_ids_updates_the_rest_and_keeps_what_is_gone(scenario: Scenario) -> None:
    store: Store = scenario.store
    before = dict(scenario.templates)
    fetched = [Template.from_meta(raw) for raw in TEMPLATES[:3]]
    fetched[0] = replace(fetched[0], status="PAUSED")
    fetched.append(Template.from_meta({**TEMPLATES[0], "language": "en_US"}))
    assert await setup.sync_templates(store, Catalogue(fetched), by=scenario.operator) == 4  # type: ignore[arg-type]
    now = {(t.name, t.language): t for t in store.templates("whatsapp")}
    assert {t.name: t.id for t in now.values() if t.language == "pt_BR"} == before
    assert now["with_talk_button", "pt_BR"].status == "PAUSED"
    assert now["paused", "pt_BR"].status == "DELETED"
    assert len(now) == 5
    gone = store.template(before["paused"])
    assert gone is not None
    assert not gone.approved


async def test_syncing_needs_the_permission_to_send(scenario: Scenario) -> None:
    with pytest.raises(Forbidden):
        await setup.sync_templates(scenario.store, Catalogue([]), by=scenario.ana)  # type: ignore[arg-type]
