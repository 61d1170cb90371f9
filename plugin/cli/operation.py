"""`vamos operation`: what must be there before somebody can send, from the command line of the machine."""

from __future__ import annotations

import argparse
import asyncio

from plugin.bootstrap import Services
from plugin.cli.console import say, stdout
from plugin.cli.seed import fetch_templates
from plugin.cli.user import open_configured
from plugin.domain.access import EVERY_OPERATION
from plugin.errors import ConfigurationError, NotFound
from plugin.usecases.access import normalise_login
from plugin.usecases.setup import add_queue_member, create_operation, create_queue


def add(options: argparse.Namespace) -> int:
    """Create an operation with its queues, or add queues and agents to one that exists."""
    services = open_configured(options.state)
    try:
        number = options.number or _only_number(services)
        operation = create_operation(services.store, options.name, number)
        names = [*options.queue, *([options.push] if options.push and options.push not in options.queue else [])]
        queues = [create_queue(services.store, operation, name, push=name == options.push) for name in names]
        for login in options.agent:
            account = services.store.account(normalise_login(login))
            if account is None:
                raise NotFound(
                    f"There is no user {login!r}.", f"Create one: vamos user add {login} --grant desk.attend"
                )
            for queue in queues:
                add_queue_member(services.store, queue, account.id)
        return _print_operations(services)
    finally:
        services.close()


def show(options: argparse.Namespace) -> int:
    """List operations with their queues and agents."""
    services = open_configured(options.state)
    try:
        return _print_operations(services)
    finally:
        services.close()


def templates(options: argparse.Namespace) -> int:
    """Fetch the provider's templates and list them."""
    services = open_configured(options.state)
    try:
        asyncio.run(fetch_templates(services))
        found = services.store.templates()
        for template in sorted(found, key=lambda t: (not t.approved, t.name, t.language)):
            stdout(f"{template.status:10} {template.language:6} {template.category:10} {template.name}")
        say(f"{len(found)} templates, {sum(t.approved for t in found)} approved.")
        return 0
    finally:
        services.close()


def _only_number(services: Services) -> str:
    numbers = sorted({number for connector in services.connectors.values() for number in connector.senders})
    if len(numbers) != 1:
        raise ConfigurationError(
            f"There are {len(numbers)} sending numbers in {services.settings.credentials}.",
            f"Say which one this operation uses: --number {'|'.join(numbers) or 'ID'}",
        )
    return numbers[0]


def _print_operations(services: Services) -> int:
    found = services.store.operations(EVERY_OPERATION)
    for operation in found:
        stdout(f"{operation.name} (number {operation.sender})")
        for queue in operation.queues:
            stdout(f"  queue {queue.name}{' (push)' if queue.id == operation.push_queue else ''}")
        for agent in operation.agents:
            stdout(f"  agent {agent.name}")
    if not found:
        say("There is no operation yet. Create one: vamos operation add NAME --queue QUEUE --push QUEUE")
    return 0
