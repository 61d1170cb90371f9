"""Stop a running broadcast and let it go on. A pause holds from its commit: nothing is claimed after it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy.engine import Connection

from plugin.domain.access import BROADCAST, Principal
from plugin.errors import Conflict, NotFound


class ControlStore(Protocol):
    """What control asks of the store; see `plugin.store.deliveries`."""

    def write(self) -> AbstractContextManager[Connection]: ...
    def broadcast_facts(self, broadcast_id: str) -> Mapping[str, Any] | None: ...
    def pause_broadcast(self, broadcast_id: str, reason: str) -> bool: ...
    def resume_broadcast(self, broadcast_id: str) -> bool: ...
    def audit(self, connection: Connection, user_id: str | None, action: str, target: str, **detail: Any) -> None: ...


def pause(store: ControlStore, principal: Principal, broadcast_id: str) -> None:
    """Claim nothing more of this broadcast. What is on its way arrives; queued rows wait.

    Raises:
        NotFound, Forbidden: not this person's.
        Conflict: it is not running.
    """
    _require(store, principal, broadcast_id)
    if not store.pause_broadcast(broadcast_id, f"Pausado por {principal.name}."):
        raise Conflict("Este disparo não está em andamento.", "Atualize a página e veja a situação.")
    _audit(store, principal, "broadcast.pause", broadcast_id)


def resume(store: ControlStore, principal: Principal, broadcast_id: str) -> None:
    """Go on with a paused broadcast, whether a person or a provider's refusal paused it.

    Raises:
        NotFound, Forbidden: not this person's.
        Conflict: it is not paused.
    """
    _require(store, principal, broadcast_id)
    if not store.resume_broadcast(broadcast_id):
        raise Conflict("Este disparo não está pausado.", "Atualize a página e veja a situação.")
    _audit(store, principal, "broadcast.resume", broadcast_id)


def _require(store: ControlStore, principal: Principal, broadcast_id: str) -> None:
    facts = store.broadcast_facts(broadcast_id)
    if facts is None:
        raise NotFound("Este disparo não existe.")
    principal.require(BROADCAST, facts["operation_id"])


def _audit(store: ControlStore, principal: Principal, action: str, broadcast_id: str) -> None:
    with store.write() as connection:
        store.audit(connection, principal.user_id, action, broadcast_id)
