"""After a database was put back from a backup: notice it, hold every broadcast, and let a person decide what goes on.

A restored database shows people as waiting who were written to after the backup was made. Nothing inside it says so:
the proof comes from outside, from a `Mark` kept in a file beside the settings, from PostgreSQL's timeline, or from a
status of the provider's that names an attempt the database has never made (`plugin.store.fence`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy.engine import Connection

from plugin.domain.access import BROADCAST, Principal, Reach
from plugin.domain.why import Why
from plugin.errors import Conflict, Invalid
from plugin.usecases.control import ControlStore, Locked, opened

#: What to do with the rows of a broadcast on hold.
UNKNOWN, SEND = "unknown", "send"

PUT_BACK, ANOTHER, FAILED_OVER = Why("put_back"), Why("another"), Why("failed_over")
NO_MARK, UNKNOWN_ATTEMPT = Why("no_mark"), Why("unknown_attempt")


@dataclass(frozen=True)
class Mark:
    """How far a database had come at some moment.

    `installation` changes with every alarm; `earlier` are those it had before. `generation` grows with every heartbeat
    of a dispatcher, `claims` (by sending number) with every claim. `system` and `timeline` identify a PostgreSQL
    server ("" on SQLite, or where the server does not tell); `synchronous`: its commits wait for a standby.
    """

    installation: str
    generation: int
    claims: Mapping[str, int] = field(default_factory=dict)
    system: str = ""
    timeline: str = ""
    synchronous: bool = False
    earlier: frozenset[str] = frozenset()


@dataclass(frozen=True)
class OnHold:
    """A broadcast that waits for a person. `waiting`: rows that would be sent if it went on."""

    id: str
    operation_id: str
    operation: str
    filename: str
    waiting: int
    why: Why | None


class MarkStore(Protocol):
    """What noticing asks of the store; see `plugin.store.fence`."""

    def write(self) -> AbstractContextManager[Connection]: ...
    def read_mark(self, connection: Connection) -> Mark: ...
    def advance_mark(self, connection: Connection) -> Mark: ...
    def open_broadcasts(self, connection: Connection) -> int: ...
    def raise_alarm(self, connection: Connection, why: Why) -> int: ...


class ReconcileStore(ControlStore, Protocol):
    """What reconciling asks of the store; see `plugin.store.fence` and `plugin.store.control`."""

    def on_hold(self, operations: Reach, connection: Connection | None = None) -> list[OnHold]: ...
    def before_hold(self, connection: Connection, broadcast_id: str) -> dict[str, str]: ...


# --------------------------------------------------------------------------- notice
@dataclass(frozen=True)
class Advanced:
    """The mark after a heartbeat; `alarm`: why everything was put on hold, None when nothing was; `held`: how much."""

    mark: Mark
    alarm: Why | None = None
    held: int = 0


def suspicion(known: Mark, found: Mark) -> Why | None:
    """Why `found`, read from the database later than `known` and advanced once, can't be its continuation; or None."""
    if known.installation != found.installation:
        # An alarm since then, of another dispatcher or of a status: everything that was open then is on hold.
        return None if known.installation in found.earlier else ANOTHER
    if found.generation <= known.generation or any(found.claims.get(s, 0) < n for s, n in known.claims.items()):
        return PUT_BACK
    if known.system and found.system and known.system != found.system:
        return FAILED_OVER
    if known.timeline and found.timeline and known.timeline != found.timeline and not known.synchronous:
        # A standby that commits waited for lacks nothing that anybody was told.
        return FAILED_OVER
    return None


def advance(store: MarkStore, known: Sequence[Mark]) -> Advanced:
    """One heartbeat: move the database's mark on and compare it with what is `known` of it; alarm when it fell back."""
    with store.write() as connection:
        found = store.advance_mark(connection)
        for mark in known:
            if why := suspicion(mark, found):
                return _alarmed(store, connection, why)
        return Advanced(found)


def begin(store: MarkStore, seen: Mark | None, *, patient: bool) -> Advanced | None:
    """A first heartbeat where no file says how far the database had come.

    Nothing speaks against a database that never saw a dispatcher, or has nothing open. Otherwise only a dispatcher
    that knows the database vouches for it: by advancing the mark beyond the one `seen` at an earlier call. None: look
    again later (`patient`); else it is an alarm.
    """
    with store.write() as connection:
        found = store.read_mark(connection)
        vouched = seen is not None and found.installation == seen.installation and found.generation > seen.generation
        if found.generation == 0 or vouched or not store.open_broadcasts(connection):
            return Advanced(store.advance_mark(connection))
        if patient:
            return None
        return _alarmed(store, connection, NO_MARK)


def _alarmed(store: MarkStore, connection: Connection, why: Why) -> Advanced:
    held = store.raise_alarm(connection, why)
    return Advanced(store.advance_mark(connection), why, held)


# --------------------------------------------------------------------------- decide
def on_hold(store: ReconcileStore, principal: Principal) -> list[OnHold]:
    """Broadcasts of this person's operations that wait for `reconcile`, oldest first."""
    return store.on_hold(principal.operations(BROADCAST))


def reconcile(
    store: ReconcileStore, principal: Principal, broadcast_id: str, *, rows: str, accept_risk: bool = False
) -> int:
    """End the hold of one broadcast. Returns how many waiting rows it was about.

    `rows` "unknown": they become `unknown`, and nothing of this broadcast is sent by itself any more; confirmations of
    the provider that still come settle them, and a person may send them again. "send": they stay in the queue, and
    the broadcast is again what it was before the alarm (running, scheduled or paused).

    Rows become unknown slice by slice, while the broadcast is still on hold: the first slice commits with the decision
    and its audit entry, the hold ends with the last. A crash in between leaves it on hold with fewer rows that wait,
    and the person decides again.

    Raises:
        NotFound, Forbidden: not this person's.
        Conflict: it is not on hold.
        Invalid: `rows` is neither; "send" without `accept_risk`.
    """
    if rows not in (UNKNOWN, SEND):
        raise Invalid(f"rows é {rows!r}.", "Escreva unknown ou send.", field="rows")
    if rows == SEND:
        return _send(store, principal, broadcast_id, accept_risk)
    total, decided = 0, False
    while True:
        with opened(store, principal, broadcast_id) as (connection, found):
            if not _on_hold(found):
                if decided:  # somebody else ended the hold, or the broadcast, between two slices
                    return total
                raise _not_on_hold()
            if not decided:
                waiting = store.waiting_rows(connection, broadcast_id)
                store.audit(
                    connection, principal.user_id, "broadcast.reconcile", broadcast_id, rows=rows, waiting=waiting
                )
            done = store.drop_waiting(connection, broadcast_id, unknown=True)
            # `keep`: an unknown outcome that is sent again by itself would be just what was not wanted.
            change = {"on_unknown": "keep"} if done else _RELEASED
            store.change_broadcast(connection, broadcast_id, **change)
        total, decided = total + done, True
        if not done:
            return total
        store.give_way()


_RELEASED = {
    "state": "running", "hold": "", "state_code": "", "state_reason": "", "on_unknown": "keep", "wake_at": None,
    "wait_reason": "",
}  # fmt: skip


def _send(store: ReconcileStore, principal: Principal, broadcast_id: str, accept_risk: bool) -> int:
    with opened(store, principal, broadcast_id) as (connection, found):
        if not accept_risk:
            raise Invalid(
                "As linhas na fila podem já ter recebido a mensagem depois da cópia de segurança: quem recebeu vai"
                " receber de novo, e quem pediu para sair depois da cópia também.",
                "Importe a sua lista de descadastros, confira com o provedor o que foi enviado, e só então aceite o"
                " risco.",
                field="accept_risk",
            )
        if not _on_hold(found):
            raise _not_on_hold()
        before = store.before_hold(connection, broadcast_id)
        store.change_broadcast(connection, broadcast_id, wake_at=None, wait_reason="", **before)
        waiting = store.waiting_rows(connection, broadcast_id)
        store.audit(connection, principal.user_id, "broadcast.reconcile", broadcast_id, rows=SEND, waiting=waiting)
    return waiting


def _on_hold(found: Locked) -> bool:
    return found.state == "paused" and found.hold == "restore"


def _not_on_hold() -> Conflict:
    return Conflict("Este disparo não espera por reconciliação.", "Atualize a página e veja a situação.")
