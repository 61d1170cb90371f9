"""Send again, because a person says so: what failed, and what nobody knows the outcome of."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from sqlalchemy.engine import Connection

from plugin.domain.access import Principal
from plugin.domain.refusal import Reaction, Refusal
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

    Why: opted_out (on the suppression list), suppressed (asked the provider to), too_soon (the provider wants
    nobody to insist yet), recent (a status may still come), settled (not of unknown outcome any more).
    """

    queued: int
    left_out: dict[str, int] = field(default_factory=dict)


class Ended(NamedTuple):
    """A row with an outcome. Times in microseconds UTC, 0 when there is none; `code` is "" for none."""

    id: int
    row: int
    code: str
    claimed_at: int
    failed_at: int
    opted_out: bool


class AgainStore(ControlStore, Protocol):
    """What sending again asks of the store; see `plugin.store.control`."""

    #: Rows to be changed in one transaction, at most.
    at_once: int

    def ended_rows(self, broadcast_id: str, state: str) -> Iterator[Ended]: ...
    def last_row(self, connection: Connection, broadcast_id: str) -> int: ...
    def requeue(self, connection: Connection, ids: Sequence[int], state: str, asked: int) -> int: ...


def retry_failed(
    store: AgainStore,
    principal: Principal,
    broadcast_id: str,
    codes: Collection[str] | None = None,
    *,
    explain: Explain = of_own,
) -> Requeued:
    """Queue failed rows afresh, all of them or those that failed with one of `codes`. A finished broadcast runs again.

    Left out: people who opted out, and as `explain` tells from the code those who asked the provider to, and those
    whom the provider lets nobody write to again so soon. See `_requeue` for what a crash in between means.

    Raises:
        NotFound, Forbidden: not this person's.
        Invalid: `codes` is empty.
        Conflict: it was cancelled, has not begun, or has to be reconciled first.
    """
    if codes is not None and not codes:
        raise Invalid("Nenhum código foi escolhido.", "Escolha um, ou todos (null).", field="codes")
    with opened(store, principal, broadcast_id) as (_, found):
        _require_begun(found)
    asked, refusals = store.now(), dict[str, Refusal]()
    ready, left_out = array("q"), Counter[str]()
    for row in store.ended_rows(broadcast_id, "failed"):
        if codes is not None and row.code not in codes:
            continue
        if row.code and row.code not in refusals:
            refusals[row.code] = explain(found.channel, row.code)
        if why := _unfit(row, refusals.get(row.code), asked):
            left_out[why] += 1
        else:
            ready.append(row.id)
    queued = _requeue(
        store, principal, broadcast_id, "failed", ready, asked, "broadcast.retry_failed",
        codes=None if codes is None else sorted(codes), left_out=left_out,
    )  # fmt: skip
    return Requeued(queued, dict(left_out))


def _unfit(row: Ended, refusal: Refusal | None, now: int) -> str:
    """Why a failed row is not to be sent again, "" when it is."""
    if refusal and refusal.reaction is Reaction.SUPPRESS:
        return "suppressed"
    if row.opted_out:
        return "opted_out"
    if refusal and refusal.reaction is Reaction.DEFER and row.failed_at > now - int(refusal.seconds * 1_000_000):
        return "too_soon"
    return ""


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
    See `_requeue` for what a crash in between means.

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
    asked = store.now()
    ready, numbers, left_out = array("q"), list[int](), Counter[str]()
    for row in store.ended_rows(broadcast_id, "unknown"):
        if wanted is not None and row.row not in wanted:
            continue
        if row.opted_out:
            left_out["opted_out"] += 1
        elif row.claimed_at > asked - SETTLING_SECONDS * 1_000_000:
            left_out["recent"] += 1
        else:
            ready.append(row.id)
            if len(numbers) < _AUDITED_ROWS:
                numbers.append(row.row)
    if left_out["recent"] and not ready:
        raise Conflict(
            f"O provedor ainda pode informar o resultado de {left_out['recent']} envios, feitos há menos de "
            f"{SETTLING_SECONDS // 60} minutos.",
            f"Espere {SETTLING_SECONDS // 60} minutos e tente de novo, se ainda estiverem como desconhecidos.",
        )
    if wanted is not None:
        left_out["settled"] = len(wanted) - len(ready) - sum(left_out.values())
    queued = _requeue(
        store, principal, broadcast_id, "unknown", ready, asked, "broadcast.resend_unknown",
        rows=numbers, chosen="all" if rows is None else "rows", left_out=left_out,
    )  # fmt: skip
    left_out["settled"] += len(ready) - queued
    return Requeued(queued, {why: n for why, n in left_out.items() if n})


def _requeue(
    store: AgainStore,
    principal: Principal,
    broadcast_id: str,
    state: str,
    ids: Sequence[int],
    asked: int,
    action: str,
    **detail: Any,
) -> int:
    """Queue these rows afresh, slice by slice: in one go, a million would stop every other writer of SQLite for long.

    The first slice commits the decision and its audit entry (`asked_for`: how many rows it is about). After a crash in
    between, the rows of later slices are what they were, and counted so: the person asks again for the rest. A slice
    takes only what is still in `state` and was not claimed after the person `asked`; when somebody cancels the
    broadcast meanwhile, or a restore holds it, the later ones are left. Returns how many rows were queued.
    """
    queued = 0
    for start in range(0, max(len(ids), 1), store.at_once):
        if start:
            store.give_way()
        with opened(store, principal, broadcast_id) as (connection, found):
            if start == 0:
                _require_begun(found)
                store.audit(connection, principal.user_id, action, broadcast_id, asked_for=len(ids), **detail)
            elif found.state == "cancelled" or found.hold == "restore":
                break
            done = store.requeue(connection, ids[start : start + store.at_once], state, asked)
            if done:
                _go_on(store, connection, broadcast_id, found, asked)
            queued += done
    return queued


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


def _go_on(store: AgainStore, connection: Connection, broadcast_id: str, found: Locked, asked: int) -> None:
    """A person has seen the outcomes: what was sent before stops nothing early any more. A pause stays a pause."""
    values: dict[str, Any] = {"state": "running", "finished_at": None} if found.state == "finished" else {}
    store.change_broadcast(
        connection, broadcast_id, resumed_at=asked, wake_at=None, wait_reason="", **values
    )  # fmt: skip
