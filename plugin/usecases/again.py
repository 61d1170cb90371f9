"""Send again, because a person says so: what failed, and what nobody knows the outcome of."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy.engine import Connection

from plugin.domain.access import Principal
from plugin.domain.refusal import Reaction
from plugin.errors import Conflict, Invalid
from plugin.usecases.control import ControlStore, Locked, opened, refuse_unreconciled
from plugin.usecases.explain import Explain, of_own

#: Statuses of a message may still come for so long after its claim.
SETTLING_SECONDS = 120
#: Row numbers one request may name, and so many the audit trail keeps.
MAX_ROWS = 10_000
_AUDITED_ROWS = 1_000

_RISK = (
    "Não se sabe se estas pessoas receberam a mensagem: o provedor pode tê-la aceito antes de a resposta se perder. "
    "Quem já recebeu vai receber de novo, e pode se incomodar, responder duas vezes ou denunciar o número."
)


@dataclass(frozen=True)
class Requeued:
    """How many rows wait to be sent again, and how many do not, by why.

    Why: opted_out (asked us to stop), suppressed (asked the provider to), recent (a status may still come),
    settled (the outcome is known meanwhile).
    """

    queued: int
    left_out: dict[str, int] = field(default_factory=dict)


class AgainStore(ControlStore, Protocol):
    """What sending again asks of the store; see `plugin.store.control`."""

    def failed_codes(self, connection: Connection, broadcast_id: str) -> list[str]: ...
    def failed_count(self, connection: Connection, broadcast_id: str, codes: Collection[str]) -> int: ...
    def requeue_failed(
        self, connection: Connection, broadcast_id: str, codes: Collection[str]
    ) -> tuple[int, int, int]: ...
    def last_row(self, connection: Connection, broadcast_id: str) -> int: ...
    def unknown_rows(self, connection: Connection, broadcast_id: str) -> list[tuple[int, int | None, bool]]: ...
    def requeue_unknown(
        self, connection: Connection, broadcast_id: str, rows: Iterable[int]
    ) -> tuple[list[int], int]: ...


def retry_failed(
    store: AgainStore,
    principal: Principal,
    broadcast_id: str,
    codes: Collection[str] | None = None,
    *,
    explain: Explain = of_own,
) -> Requeued:
    """Queue failed rows afresh, all of them or those that failed with one of `codes`. A finished broadcast runs again.

    Left out: people who opted out, and those who asked the provider to, as `explain` tells from the code.

    Raises:
        NotFound, Forbidden: not this person's.
        Invalid: `codes` is empty.
        Conflict: it was cancelled, has not begun, or has to be reconciled first.
    """
    if codes is not None and not codes:
        raise Invalid("Nenhum código foi escolhido.", "Escolha um, ou todos (null).", field="codes")
    with opened(store, principal, broadcast_id) as (connection, found):
        _require_begun(found)
        there = [c for c in store.failed_codes(connection, broadcast_id) if codes is None or c in codes]
        final = [code for code in there if code and explain(found.channel, code).reaction is Reaction.SUPPRESS]
        left_out = {"suppressed": store.failed_count(connection, broadcast_id, final)} if final else {}
        queued, opted_out, first = store.requeue_failed(connection, broadcast_id, [c for c in there if c not in final])
        left_out["opted_out"] = opted_out
        _go_on(store, connection, broadcast_id, found, queued, first)
        store.audit(
            connection, principal.user_id, "broadcast.retry_failed", broadcast_id,
            codes=None if codes is None else sorted(codes), queued=queued, left_out=left_out,
        )  # fmt: skip
    return Requeued(queued, {why: n for why, n in left_out.items() if n})


def resend_unknown(
    store: AgainStore,
    principal: Principal,
    broadcast_id: str,
    rows: Collection[int] | None = None,
    *,
    accept_risk: bool = False,
) -> Requeued:
    """Queue rows of unknown outcome afresh, all of them or those with these row numbers: they may get it twice.

    Left out: people who opted out, rows whose outcome is known meanwhile, and rows so young that a status may come.

    Raises:
        NotFound, Forbidden: not this person's.
        Invalid: the risk is not accepted, or a row number is wrong.
        Conflict: everything is too young; or as `retry_failed`.
    """
    with opened(store, principal, broadcast_id) as (connection, found):
        if not accept_risk:
            raise Invalid(_RISK, "Para reenviar mesmo assim, confirme com accept_risk = true.", field="accept_risk")
        _require_begun(found)
        wanted = None if rows is None else _existing(rows, store.last_row(connection, broadcast_id))
        unknown = {
            row: (claimed_at or 0, opted_out)
            for row, claimed_at, opted_out in store.unknown_rows(connection, broadcast_id)
            if wanted is None or row in wanted
        }
        settling = store.now() - SETTLING_SECONDS * 1_000_000
        recent = [row for row, (claimed_at, out) in unknown.items() if claimed_at > settling and not out]
        ready = [row for row, (claimed_at, out) in unknown.items() if claimed_at <= settling and not out]
        if recent and not ready:
            raise Conflict(
                f"O provedor ainda pode informar o resultado de {len(recent)} envios, feitos há menos de "
                f"{SETTLING_SECONDS // 60} minutos.",
                f"Espere {SETTLING_SECONDS // 60} minutos e tente de novo, se ainda estiverem como desconhecidos.",
            )
        queued, first = store.requeue_unknown(connection, broadcast_id, ready)
        left_out = {
            "recent": len(recent),
            "opted_out": sum(out for _, out in unknown.values()),
            "settled": (len(wanted) - len(unknown) if wanted is not None else 0) + len(ready) - len(queued),
        }
        _go_on(store, connection, broadcast_id, found, len(queued), first)
        store.audit(
            connection, principal.user_id, "broadcast.resend_unknown", broadcast_id,
            queued=len(queued), rows=queued[:_AUDITED_ROWS], chosen="all" if rows is None else "rows",
            left_out=left_out,
        )  # fmt: skip
    return Requeued(len(queued), {why: n for why, n in left_out.items() if n})


def _existing(rows: Collection[int], last: int) -> set[int]:
    wanted = set(rows)
    if not wanted or len(wanted) > MAX_ROWS:
        raise Invalid(f"Escolha de 1 a {MAX_ROWS} linhas, ou todas (null).", field="rows")
    for row in sorted(wanted):
        if not 1 <= row <= last:
            raise Invalid(f"A linha {row} não existe neste disparo.", f"As linhas vão de 1 a {last}.", field="rows")
    return wanted


def _require_begun(found: Locked) -> None:
    refuse_unreconciled(found)
    if found.state == "cancelled":
        raise Conflict("Este disparo foi cancelado, e isso é definitivo.", "Envie os contatos em um novo disparo.")
    if found.state == "scheduled":
        raise Conflict("Este disparo ainda não começou.", "Espere até que comece.")


def _go_on(
    store: AgainStore, connection: Connection, broadcast_id: str, found: Locked, queued: int, first: int
) -> None:
    """A person has seen the outcomes: what was sent before stops nothing early any more. A pause stays a pause."""
    if not queued:
        return
    values: dict[str, Any] = {"state": "running", "finished_at": None} if found.state == "finished" else {}
    store.change_broadcast(
        connection, broadcast_id,
        resumed_at=store.now(), watch_from=first - 1, wake_at=None, wait_reason="", **values,
    )  # fmt: skip
