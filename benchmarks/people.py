"""Who launches the benchmarks' broadcasts, and what is sent."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import insert

from plugin.domain.access import BROADCAST, Principal
from plugin.domain.template import Template
from plugin.store import Store
from plugin.store.database import new_id
from plugin.store.tables import app_user

#: A template as Meta describes it, with three values.
TEMPLATE = {
    "name": "benchmark",
    "language": "pt_BR",
    "status": "APPROVED",
    "category": "UTILITY",
    "components": [{"type": "BODY", "text": "Olá {{1}}, sua fatura de {{2}} vence em {{3}}."}],
}


@dataclass(frozen=True)
class People:
    principal: Principal
    operation: str
    template: str


def operator(store: Store, channel: str = "benchmark", sender: str = "1") -> People:
    """Somebody who may broadcast for a new operation, with `TEMPLATE` at hand."""
    operation = store.add_operation(f"Benchmark {new_id()}", sender)
    user = new_id()
    with store.write() as connection:
        connection.execute(insert(app_user).values(id=user, login=user, name="Benchmark", disabled=False, created_at=0))
    store.upsert_templates(channel, [Template.from_meta(TEMPLATE)])
    principal = Principal(user, "benchmark", "Benchmark", frozenset({(operation, BROADCAST)}))
    return People(principal, operation, store.templates(channel)[0].id)
