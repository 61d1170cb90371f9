"""The demonstration's operation, queues and people, made through the use cases; a second time changes nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from plugin.bootstrap import Services, open_connectors
from plugin.cli.state import PHONE_NUMBER_ID
from plugin.domain.access import ADMIN, ATTEND, BROADCAST, REPORT, SUPERVISE
from plugin.usecases.access import create_user, make_login_link
from plugin.usecases.setup import add_queue_member, create_operation, create_queue, sync_templates

OPERATION = "Suporte Fibra"
QUEUES = ("Cobrança", "Suporte técnico", "Vendas")
PUSH_QUEUE = "Suporte técnico"
#: login → name
AGENTS = {"ana": "Ana Souza", "bruno": "Bruno Lima"}
OPERATOR = "operador"


@dataclass(frozen=True)
class Seeded:
    """Ids of what the demonstration works with."""

    operation: str
    queues: dict[str, str]
    templates: int


def seed(services: Services) -> Seeded:
    """Bring the demonstration's data into the database and fetch the templates from the sandbox.

    Raises:
        plugin.connector.SendError: the sandbox could not be asked.
    """
    store = services.store
    operation = create_operation(store, OPERATION, PHONE_NUMBER_ID)
    queues = {name: create_queue(store, operation, name, push=name == PUSH_QUEUE) for name in QUEUES}
    manages = [(operation, permission) for permission in (BROADCAST, SUPERVISE, REPORT, ATTEND)]
    _person(services, OPERATOR, "Operador", [*manages, (operation, ADMIN)])
    for login, name in AGENTS.items():
        agent = _person(services, login, name, [(operation, ATTEND)])
        for queue in queues.values():
            add_queue_member(store, queue, agent)
    return Seeded(operation, queues, asyncio.run(fetch_templates(services)))


async def fetch_templates(services: Services) -> int:
    """Ask every configured provider for its templates; returns how many there are.

    Raises:
        plugin.connector.SendError: a provider could not be asked.
    """
    # Connectors of this event loop's own, closed with it.
    connectors = open_connectors(services.settings)
    try:
        return sum([await sync_templates(services.store, connector) for connector in connectors.values()])
    finally:
        for connector in connectors.values():
            await connector.aclose()


def login_link(services: Services, desk: str, login: str) -> str:
    """An address that logs this person in once."""
    return f"{desk}/login?link={make_login_link(services.store, login)}"


def _person(services: Services, login: str, name: str, grants: list[tuple[str, str]]) -> str:
    account = services.store.account(login)
    return account.id if account else create_user(services.store, login, name, grants)
