"""Stop a broadcast, let it go on, put it off, end it. A pause or an end holds from its commit: nothing is claimed
after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.engine import Connection

from plugin.domain.access import BROADCAST, Principal
from plugin.domain.schedule import check_start
from plugin.domain.why import Why
from plugin.errors import Conflict, NotFound

_REFRESH = "Atualize a página e veja a situação."


@dataclass(frozen=True)
class Locked:
    """What decides which verbs a broadcast allows, as of now. `hold`: see the column."""

    state: str
    hold: str
    start_at: int | None
    channel: str


class ControlStore(Protocol):
    """What control asks of the store; see `plugin.store.control`."""

    def now(self) -> int: ...
    def write(self) -> AbstractContextManager[Connection]: ...
    def broadcast_facts(self, broadcast_id: str) -> Mapping[str, Any] | None: ...
    def lock_broadcast(self, connection: Connection, broadcast_id: str) -> Locked | None: ...
    def change_broadcast(self, connection: Connection, broadcast_id: str, **values: Any) -> None: ...
    def waiting_rows(self, connection: Connection, broadcast_id: str) -> int: ...
    def give_way(self) -> None: ...
    def drop_waiting(self, connection: Connection, broadcast_id: str, *, unknown: bool) -> int: ...
    def audit(self, connection: Connection, user_id: str | None, action: str, target: str, **detail: Any) -> None: ...


def pause(store: ControlStore, principal: Principal, broadcast_id: str) -> None:
    """Claim nothing more of this broadcast. What is on its way arrives; queued rows wait.

    Raises:
        NotFound, Forbidden: not this person's.
        Conflict: it neither runs nor is scheduled.
    """
    with opened(store, principal, broadcast_id) as (connection, found):
        if found.state not in ("running", "scheduled"):
            raise Conflict("Este disparo não está em andamento.", _REFRESH)
        store.change_broadcast(
            connection, broadcast_id,
            state="paused", hold="", **Why("paused", {"by": principal.name}).stored(),
        )  # fmt: skip
        store.audit(connection, principal.user_id, "broadcast.pause", broadcast_id, state=found.state)


def resume(store: ControlStore, principal: Principal, broadcast_id: str) -> None:
    """Go on with a paused broadcast, whoever or whatever paused it; one that is not due yet is scheduled again.

    The person has seen what stopped it: a first wave that was stopped is over, the rest follows; and what was sent
    before no longer stops it early.

    Raises:
        NotFound, Forbidden: not this person's.
        Conflict: it is not paused, or only reconciling may end its pause.
    """
    with opened(store, principal, broadcast_id) as (connection, found):
        if found.state != "paused":
            raise Conflict("Este disparo não está pausado.", _REFRESH)
        refuse_unreconciled(found)
        now = store.now()
        values: dict[str, Any] = {"wave_end": None} if found.hold == "wave" else {}
        store.change_broadcast(
            connection, broadcast_id,
            state="scheduled" if found.start_at and found.start_at > now else "running",
            state_reason="", state_code="", hold="", wake_at=None, wait_reason="", resumed_at=now, **values,
        )  # fmt: skip
        store.audit(connection, principal.user_id, "broadcast.resume", broadcast_id, hold=found.hold)


def cancel(store: ControlStore, principal: Principal, broadcast_id: str) -> int:
    """End a broadcast for good: whatever is not under way is skipped. Returns how many rows.

    What is under way ends by itself, and its answers still count. Of a big broadcast the dispatcher skips the rest,
    see `Store.drop_cancelled`. After a restore nobody knows whether what waits was sent: it becomes unknown instead.

    Raises:
        NotFound, Forbidden: not this person's.
        Conflict: it is over already.
    """
    with opened(store, principal, broadcast_id) as (connection, found):
        if found.state not in ("scheduled", "running", "paused"):
            raise Conflict("Este disparo já terminou; não há o que cancelar.", _REFRESH)
        unknown = found.hold == "restore"
        store.change_broadcast(
            connection, broadcast_id,
            state="cancelled", finished_at=store.now(), wake_at=None, wait_reason="",
            hold="restore" if unknown else "",  # for the rows that are not dropped yet
            **Why("cancelled_held" if unknown else "cancelled", {"by": principal.name}).stored(),
        )  # fmt: skip
        waiting = store.waiting_rows(connection, broadcast_id)
        store.drop_waiting(connection, broadcast_id, unknown=unknown)
        store.audit(
            connection, principal.user_id, "broadcast.cancel", broadcast_id,
            **{"unknown" if unknown else "skipped": waiting},
        )  # fmt: skip
    return waiting


def reschedule(store: ControlStore, principal: Principal, broadcast_id: str, start_at: int | None) -> None:
    """Put a scheduled broadcast to another time (microseconds UTC); None: begin now.

    Raises:
        NotFound, Forbidden: not this person's.
        Invalid: that time is past or too far ahead.
        Conflict: it is not scheduled (any more).
    """
    with opened(store, principal, broadcast_id) as (connection, found):
        now = store.now()
        check_start(start_at, now)
        if found.state != "scheduled":
            raise Conflict("Este disparo não está agendado.", _REFRESH)
        store.change_broadcast(
            connection, broadcast_id,
            start_at=now if start_at is None else start_at, state="running" if start_at is None else "scheduled",
        )  # fmt: skip
        store.audit(
            connection, principal.user_id, "broadcast.reschedule", broadcast_id, before=found.start_at, after=start_at
        )


@contextmanager
def opened(store: ControlStore, principal: Principal, broadcast_id: str) -> Iterator[tuple[Connection, Locked]]:
    """One transaction that holds a broadcast of this person's.

    Raises:
        NotFound, Forbidden: not this person's.
    """
    facts = store.broadcast_facts(broadcast_id)
    if facts is None:
        raise NotFound("Este disparo não existe.")
    principal.require(BROADCAST, facts["operation_id"])
    with store.write() as connection:
        found = store.lock_broadcast(connection, broadcast_id)
        if found is None:
            raise NotFound("Este disparo não existe.")
        yield connection, found


def refuse_unreconciled(found: Locked) -> None:
    """Raise Conflict while only reconciling may go on with the broadcast."""
    if found.hold == "restore":
        raise Conflict(
            "O banco de dados voltou de uma cópia de segurança: não se sabe o que este disparo já enviou depois dela.",
            "Reconcilie o disparo antes.",
        )
