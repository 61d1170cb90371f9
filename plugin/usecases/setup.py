"""Operations, queues and templates: what must be there before somebody can send.

The command line seeds with these; the administration pages will call the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from plugin.connector import Connector
from plugin.domain.access import ADMIN, BROADCAST, EVERY_OPERATION, LOCAL_ADMIN, Principal, Reach
from plugin.domain.template import Template
from plugin.errors import Conflict, Forbidden, Invalid, NotFound


@dataclass(frozen=True)
class Named:
    """An id with the name people know it by."""

    id: str
    name: str


@dataclass(frozen=True)
class OperationInfo:
    """An operation as the screens need it. `agents` may attend in it; `push_queue` is a queue's id or None."""

    id: str
    name: str
    sender: str
    push_queue: str | None
    queues: tuple[Named, ...]
    agents: tuple[Named, ...]


class SetupStore(Protocol):
    """What this module needs of the store."""

    def operations(self, reach: Reach) -> list[OperationInfo]: ...
    def add_operation(self, name: str, sender: str) -> str: ...
    def add_queue(self, operation_id: str, name: str) -> str: ...
    def queue_operation(self, queue_id: str) -> str | None: ...
    def set_push_queue(self, operation_id: str, queue_id: str) -> None: ...
    def add_queue_member(self, queue_id: str, user_id: str) -> None: ...
    def templates(self, channel: str | None = None) -> list[Template]: ...
    def upsert_templates(self, channel: str, templates: Sequence[Template]) -> None: ...
    def add_audit(self, user_id: str | None, action: str, object_id: str = "") -> None: ...


def create_operation(store: SetupStore, name: str, sender: str, *, by: Principal = LOCAL_ADMIN) -> str:
    """An operation that sends from the number `sender` (the provider's id). Asked again with the same values, the
    existing one is returned.

    Raises:
        Conflict: the name belongs to an operation with another number.
    """
    by.require(ADMIN, EVERY_OPERATION)
    name, sender = _name(name), sender.strip()
    if not sender:
        raise Invalid("The sending number is missing.", "Give the provider's id of the number.", field="sender")
    for existing in store.operations(EVERY_OPERATION):
        if existing.name == name:
            if existing.sender != sender:
                raise Conflict(f"There is an operation {name!r} with another number.", "Choose another name.")
            return existing.id
    operation_id = store.add_operation(name, sender)
    store.add_audit(by.user_id or None, "operation.create", operation_id)
    return operation_id


def create_queue(
    store: SetupStore, operation_id: str, name: str, *, push: bool = False, by: Principal = LOCAL_ADMIN
) -> str:
    """A queue of an operation; `push` makes it the operation's push queue. An existing name returns its queue.

    Raises:
        NotFound: no such operation.
    """
    by.require(ADMIN, operation_id)
    name = _name(name)
    operation = next((o for o in store.operations(EVERY_OPERATION) if o.id == operation_id), None)
    if operation is None:
        raise NotFound("There is no such operation.")
    queue_id = next((q.id for q in operation.queues if q.name == name), None)
    if queue_id is None:
        queue_id = store.add_queue(operation_id, name)
        store.add_audit(by.user_id or None, "queue.create", queue_id)
    if push:
        store.set_push_queue(operation_id, queue_id)
    return queue_id


def add_queue_member(store: SetupStore, queue_id: str, user_id: str, *, by: Principal = LOCAL_ADMIN) -> None:
    """Let a person take cases of this queue; a second time changes nothing.

    Raises:
        NotFound: no such queue.
    """
    operation_id = store.queue_operation(queue_id)
    if operation_id is None:
        raise NotFound("There is no such queue.")
    by.require(ADMIN, operation_id)
    store.add_queue_member(queue_id, user_id)


def list_operations(store: SetupStore, principal: Principal) -> list[OperationInfo]:
    """The operations in which this person may do anything, by name."""
    return store.operations(principal.operations())


def list_templates(
    store: SetupStore, principal: Principal, *, operation_id: str | None = None, channel: str | None = None
) -> list[Template]:
    """Templates for those who send, approved ones first, then by name.

    Args:
        operation_id: where they would be sent; None asks for the permission in any operation.

    Raises:
        NotFound, Forbidden.
    """
    if operation_id is not None:
        principal.require(BROADCAST, operation_id)
    elif not principal.operations(BROADCAST):
        raise Forbidden(f"This needs the permission {BROADCAST}.", "Ask an administrator to grant it.")
    return sorted(store.templates(channel), key=lambda t: (not t.approved, t.name, t.language))


async def sync_templates(store: SetupStore, connector: Connector, *, by: Principal = LOCAL_ADMIN) -> int:
    """Fetch the provider's templates; returns how many there are. Those that are gone are kept as DELETED.

    Raises:
        Forbidden, plugin.connector.SendError.
    """
    if not by.operations(BROADCAST):
        raise Forbidden(f"This needs the permission {BROADCAST}.", "Ask an administrator to grant it.")
    templates = await connector.fetch_templates()
    await asyncio.to_thread(store.upsert_templates, connector.name, templates)
    return len(templates)


def _name(name: str) -> str:
    name = " ".join(name.split())
    if not 0 < len(name) <= 200 or not name.isprintable():
        raise Invalid("The name must have 1 to 200 characters.", field="name")
    return name
