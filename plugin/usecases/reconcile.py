"""After a database was put back from a backup: notice it, hold every broadcast, and let a person decide what goes on.

A restored database shows people as waiting who were written to after the backup was made. Nothing inside it says so:
the proof comes from outside, from a `Mark` kept in a file beside the settings, from PostgreSQL's timeline, or from a
status of the provider's that names an attempt the database has never made (`plugin.store.fence`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy.engine import Connection

from plugin.domain.access import BROADCAST, Principal, Reach
from plugin.errors import Conflict, Invalid, NotFound

#: What to do with the rows of a broadcast on hold.
UNKNOWN, SEND = "unknown", "send"

PUT_BACK = "O banco de dados voltou no tempo: foi restaurado de uma cópia de segurança."
ANOTHER = "Este não é o banco de dados que este servidor usava: foi trocado, ou restaurado de uma cópia de segurança."
FAILED_OVER = "O servidor PostgreSQL foi trocado por uma réplica ou por uma cópia, que pode estar atrasada."
NO_MARK = "Não é possível saber se o banco de dados está completo: falta o arquivo que marca até onde ele foi."
UNKNOWN_ATTEMPT = (
    "O provedor confirmou mensagens que este banco de dados não conhece: foi restaurado de uma cópia de segurança."
)
#: Follows each of the above on a broadcast's page.
WHAT_TO_DO = (
    "Nada será enviado até alguém decidir. As linhas na fila podem já ter recebido a mensagem depois da cópia. O que"
    " foi feito depois dela se perdeu: pedidos de descadastro (importe a sua lista de supressão), pausas e"
    " cancelamentos, e disparos inteiros (não os repita sem conferir). Confira e reconcilie este disparo."
)


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
    reason: str
    waiting: int


class MarkStore(Protocol):
    """What noticing asks of the store; see `plugin.store.fence`."""

    def write(self) -> AbstractContextManager[Connection]: ...
    def read_mark(self, connection: Connection) -> Mark: ...
    def advance_mark(self, connection: Connection) -> Mark: ...
    def open_broadcasts(self, connection: Connection) -> int: ...
    def raise_alarm(self, connection: Connection, reason: str) -> int: ...


class ReconcileStore(Protocol):
    """What reconciling asks of the store; see `plugin.store.fence`."""

    def write(self) -> AbstractContextManager[Connection]: ...
    def broadcast_facts(self, broadcast_id: str) -> Mapping[str, Any] | None: ...
    def on_hold(self, operations: Reach, connection: Connection | None = None) -> list[OnHold]: ...
    def release_hold(self, connection: Connection, broadcast_id: str, *, send: bool) -> int | None: ...
    def audit(self, connection: Connection, user_id: str | None, action: str, target: str, **detail: Any) -> None: ...


# --------------------------------------------------------------------------- notice
@dataclass(frozen=True)
class Advanced:
    """The mark after a heartbeat; `alarm`: why everything was put on hold, "" when nothing was; `held`: how much."""

    mark: Mark
    alarm: str = ""
    held: int = 0


def suspicion(known: Mark, found: Mark) -> str:
    """Why `found`, read from the database later than `known` and advanced once, can't be its continuation; or ""."""
    if known.installation != found.installation:
        # An alarm since then, of another dispatcher or of a status: everything that was open then is on hold.
        return "" if known.installation in found.earlier else ANOTHER
    if found.generation <= known.generation or any(found.claims.get(s, 0) < n for s, n in known.claims.items()):
        return PUT_BACK
    if known.system and found.system and known.system != found.system:
        return FAILED_OVER
    if known.timeline and found.timeline and known.timeline != found.timeline and not known.synchronous:
        # A standby that commits waited for lacks nothing that anybody was told.
        return FAILED_OVER
    return ""


def advance(store: MarkStore, known: Sequence[Mark]) -> Advanced:
    """One heartbeat: move the database's mark on and compare it with what is `known` of it; alarm when it fell back."""
    with store.write() as connection:
        found = store.advance_mark(connection)
        for mark in known:
            if reason := suspicion(mark, found):
                return _alarmed(store, connection, reason)
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


def _alarmed(store: MarkStore, connection: Connection, reason: str) -> Advanced:
    held = store.raise_alarm(connection, reason)
    return Advanced(store.advance_mark(connection), reason, held)


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

    Raises:
        NotFound, Forbidden: not this person's.
        Conflict: it is not on hold.
        Invalid: `rows` is neither; "send" without `accept_risk`.
    """
    if rows not in (UNKNOWN, SEND):
        raise Invalid(f"rows é {rows!r}.", "Escreva unknown ou send.", field="rows")
    facts = store.broadcast_facts(broadcast_id)
    if facts is None:
        raise NotFound("Este disparo não existe.")
    principal.require(BROADCAST, facts["operation_id"])
    send = rows == SEND
    if send and not accept_risk:
        raise Invalid(
            "As linhas na fila podem já ter recebido a mensagem depois da cópia de segurança: quem recebeu vai receber"
            " de novo, e quem pediu para sair depois da cópia também.",
            "Importe a sua lista de supressão, confira com o provedor o que foi enviado, e só então aceite o risco.",
            field="accept_risk",
        )
    with store.write() as connection:
        waiting = store.release_hold(connection, broadcast_id, send=send)
        if waiting is None:
            raise Conflict("Este disparo não espera por reconciliação.", "Atualize a página e veja a situação.")
        store.audit(connection, principal.user_id, "broadcast.reconcile", broadcast_id, rows=rows, waiting=waiting)
    return waiting
