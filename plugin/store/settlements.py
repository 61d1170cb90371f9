"""What became of a send: the provider's answer, its status webhooks, and the end of a broadcast. Set-based."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, IntegrityError

from plugin.connector import StatusUpdate
from plugin.domain.delivery import RANK, DeliveryState
from plugin.domain.pace import Pace
from plugin.domain.refusal import Reaction, Refusal
from plugin.store.claims import ClaimQueries
from plugin.store.consent import ConsentQueries
from plugin.store.control import ControlQueries
from plugin.store.database import micros, retried
from plugin.store.meta import has_rows
from plugin.usecases.dispatch import Settlement, consequence

log = logging.getLogger(__name__)

#: Microseconds after its end within which anything may still happen to a broadcast: providers repeat a status for a
#: week.
_LATE = 8 * 24 * 3600 * 1_000_000

#: A row that was skipped while it waited for another attempt still learns that the first one arrived.
_RANK_SQL = (
    "CASE WHEN delivery.state = 'skipped' AND delivery.attempts > 0 THEN 0 ELSE CASE delivery.state "
    + " ".join(f"WHEN '{s.value}' THEN {r}" for s, r in RANK.items())
    + " ELSE 0 END END"
)

#: Good news counts whichever attempt it is about, and only ever lifts a row. But that an attempt was accepted is old
#: news once it, or a later one, is known to have failed.
_LIFTS = (
    f"({_RANK_SQL} < {{rank}} AND ({{rank}} > {RANK[DeliveryState.SENT]} OR delivery.failed_attempt = 0"
    " OR {attempt} IS NULL OR {attempt} > delivery.failed_attempt))"
)

#: An error is shown as long as its state lasts: a success clears it.
_GOOD_NEWS = f"""
UPDATE delivery SET
  error_code = CASE WHEN {_LIFTS} THEN NULL ELSE delivery.error_code END,
  error = CASE WHEN {_LIFTS} THEN NULL ELSE delivery.error END,
  reason = CASE WHEN {_LIFTS} THEN '' ELSE delivery.reason END,
  not_before = CASE WHEN {_LIFTS} THEN NULL ELSE delivery.not_before END,
  state = CASE WHEN {_LIFTS} THEN {{state}} ELSE delivery.state END,
  provider_id = COALESCE({{provider_id}}, delivery.provider_id),
  returned_address = COALESCE({{address}}, delivery.returned_address),
  user_ref = COALESCE({{user_ref}}, delivery.user_ref),
  sent_at = COALESCE(delivery.sent_at, {{sent_at}}),
  delivered_at = COALESCE(delivery.delivered_at, {{delivered_at}}),
  read_at = COALESCE(delivery.read_at, {{read_at}})
{{source}} WHERE delivery.id = {{id}}
"""
_GOOD_KINDS = {
    "id": "BIGINT", "rank": "INTEGER", "state": "TEXT", "attempt": "INTEGER", "provider_id": "TEXT", "address": "TEXT",
    "user_ref": "TEXT", "sent_at": "BIGINT", "delivered_at": "BIGINT", "read_at": "BIGINT",
}  # fmt: skip

#: Bad news counts only for the claim it answers. Written twice, because the answer to the first commit was lost, it
#: does not undo a claim made in between; and a claim that recovery took for cut off (`unknown`) may still be given
#: back: a definite refusal proves that nothing was sent.
_BAD_NEWS = """
UPDATE delivery SET state = {state},
  failed_attempt = CASE WHEN {state} = 'unknown' THEN delivery.failed_attempt ELSE delivery.attempts END,
  error_code = {error_code}, error = {error}, reason = {reason}, not_before = {not_before},
  tries = delivery.tries + {counts},
  failed_at = CASE WHEN {state} = 'failed' THEN {at} ELSE delivery.failed_at END
{source} WHERE delivery.id = {id} AND delivery.claimed_at = {claimed_at} AND delivery.state IN ('sending', 'unknown')
"""
#: The same for a `failed` status: the claim it answers is known by its attempt, and the row may be `sent` by now.
_FAILED_STATUS = _BAD_NEWS.replace("delivery.claimed_at = {claimed_at}", "delivery.attempts = {attempt}").replace(
    "('sending', 'unknown')", "('sending', 'unknown', 'sent')"
)
#: What a `failed` status proves whatever became of its row since.
_FAILED_ATTEMPT = """
UPDATE delivery SET failed_attempt = {attempt} {source}
WHERE delivery.id = {id} AND delivery.failed_attempt < {attempt} AND {attempt} <= delivery.attempts
"""
_BAD_KINDS = {
    "id": "BIGINT", "state": "TEXT", "error_code": "TEXT", "error": "TEXT", "reason": "TEXT", "not_before": "BIGINT",
    "counts": "INTEGER", "at": "BIGINT",
}  # fmt: skip

_GOOD = (DeliveryState.SENT, DeliveryState.DELIVERED, DeliveryState.READ)

_MESSAGE_STATUS = (
    "UPDATE message SET state = CASE WHEN CASE state "
    + " ".join(f"WHEN '{s.value}' THEN {r}" for s, r in RANK.items())
    + " ELSE 0 END < :rank THEN :state ELSE state END, provider_id = COALESCE(provider_id, :p)"
    " WHERE id = :id AND state <> 'received'"
)


class SettlementQueries(ClaimQueries, ControlQueries, ConsentQueries):
    """Queries on `delivery` once something is known about a send."""

    # ------------------------------------------------------------------ answers
    def settle_deliveries(self, settlements: Sequence[Settlement]) -> None:
        """Write the provider's answers, in one transaction; one that can't be stored becomes `unknown` by itself."""
        try:
            retried(partial(self._settle_deliveries, settlements))
        except (DataError, IntegrityError, ValueError):  # ValueError: psycopg2's word for a NUL in a text
            for settlement in settlements:
                try:
                    self._settle_deliveries([settlement])
                except (DataError, IntegrityError, ValueError):
                    log.exception("The provider's answer to delivery %d can't be stored", settlement.id)
                    unknown = Settlement(
                        settlement.id, settlement.claimed_at, DeliveryState.UNKNOWN, error_code="unstorable"
                    )
                    self._settle_deliveries([unknown])

    def _settle_deliveries(self, settlements: Sequence[Settlement]) -> None:
        now = self.now()
        good = [
            {
                **_nothing_known(s.id, s.state, s.attempt), "provider_id": s.provider_id, "address": s.address,
                "user_ref": s.user_ref, "sent_at": now,
            }
            for s in settlements
            if s.state in _GOOD
        ]  # fmt: skip
        bad = [
            {
                "id": s.id,
                "claimed_at": s.claimed_at,
                "state": s.state.value,
                "error_code": s.error_code,
                "error": s.error,
                "reason": "" if s.state is not DeliveryState.DEFERRED else "provider" if s.delay >= 3600 else "retry",
                "not_before": now + int(s.delay * 1_000_000) if s.state is DeliveryState.DEFERRED else None,
                "counts": int(s.counts),
                "at": now,
            }
            for s in settlements
            if s.state not in _GOOD
        ]
        with self.write() as connection:
            for s in sorted((s for s in settlements if s.pause and s.broadcast_id), key=lambda s: s.broadcast_id):
                assert s.pause is not None
                self.pause_refused(connection, s.broadcast_id, s.pause)
            self.note_mood(connection, settlements, now)
            self._lock_deliveries(connection, [s.id for s in settlements])
            self.update_many(connection, _GOOD_NEWS, _GOOD_KINDS, good)
            self.update_many(connection, _BAD_NEWS, {**_BAD_KINDS, "claimed_at": "BIGINT"}, bad)
            for s in sorted((s for s in settlements if s.suppress), key=lambda s: s.id):
                self._suppress_recipient(connection, s.id, s.error_code or "")

    def note_mood(self, connection: Connection, settlements: Sequence[Settlement], now: int) -> None:
        """What the answers say about the sending numbers: pace, breaker, ramp."""
        by_sender: dict[str, list[Settlement]] = defaultdict(list)
        for s in settlements:
            if s.sender:
                by_sender[s.sender].append(s)
        for sender, said in sorted(by_sender.items()):
            line = self.lock_sender(connection, sender)
            pace, reason = line.pace, None
            for s in said:  # in the order of the answers
                before = pace
                pace = _after(pace, s, now)
                if pace.held_until > before.held_until:
                    reason = s.error_code or ""
            if pace != line.pace:
                self.save_pace(connection, sender, pace, reason)

    def _lock_deliveries(self, connection: Connection, ids: Sequence[int]) -> None:
        """In order of ids, as everywhere: two writers of the same rows then wait for one another, never in a circle."""
        if self.dialect == "postgresql" and len(ids) > 1:
            self.run(
                connection,
                f"SELECT id FROM delivery WHERE id IN ({self.each('ids', 'BIGINT')}) ORDER BY id FOR UPDATE",
                {"ids": self.many(sorted(set(ids)))},
            )

    def _suppress_recipient(self, connection: Connection, delivery_id: int, detail: str) -> None:
        canonical = self.run(connection, "SELECT canonical FROM delivery WHERE id = :id", {"id": delivery_id}).scalar()
        if canonical:
            self.write_opt_out(connection, canonical, "provider", detail=detail, delivery_id=delivery_id)

    # ------------------------------------------------------------------ statuses
    def apply_statuses(
        self, connection: Connection, updates: Sequence[StatusUpdate], refusals: Mapping[str, Refusal] | None = None
    ) -> int:
        """Apply status webhooks inside the caller's transaction. Returns how many named no row of ours.

        `refusals` explains the codes of failed ones; a code it lacks means that the recipient failed.
        """
        ours, messages, unmatched = self._sort_statuses(connection, updates)
        now = self.now()
        good: dict[int, dict[str, Any]] = {}
        bad: dict[int, tuple[StatusUpdate, int | None]] = {}
        for update, row, attempt in ours:
            if update.status != DeliveryState.FAILED.value:
                good[row] = _merged(good.get(row), update, row, attempt)
            elif row not in bad or (attempt or 0) >= (bad[row][1] or 0):  # the latest attempt's; others are old news
                bad[row] = (update, attempt)
        failed = self._failures(connection, bad, refusals or {}, now) if bad else []
        self._lock_deliveries(connection, [*good, *bad])
        self.update_many(connection, _GOOD_NEWS, _GOOD_KINDS, [good[row] for row in sorted(good)])
        proved = [{"id": row, "attempt": attempt} for row, (_, attempt) in sorted(bad.items()) if attempt]
        self.update_many(connection, _FAILED_ATTEMPT, {"id": "BIGINT", "attempt": "INTEGER"}, proved)
        self.update_many(connection, _FAILED_STATUS, {**_BAD_KINDS, "attempt": "INTEGER"}, failed)
        for values in failed:
            if values["suppress"]:
                self._suppress_recipient(connection, values["id"], values["error_code"] or "")
        if messages:
            self.run(connection, _MESSAGE_STATUS, sorted(messages, key=lambda values: values["id"]))
        if unmatched:
            self.count_fact(connection, "statuses_unmatched", unmatched)
        return unmatched

    def _sort_statuses(
        self, connection: Connection, updates: Sequence[StatusUpdate]
    ) -> tuple[list[tuple[StatusUpdate, int, int | None]], list[dict[str, Any]], int]:
        """(statuses of deliveries with row and attempt, values for messages, how many are neither)."""
        ours: list[tuple[StatusUpdate, int, int | None]] = []
        messages: list[dict[str, Any]] = []
        loose: list[StatusUpdate] = []
        for update, correlation in self.named_rows(connection, updates):
            if correlation is None:
                loose.append(update)
            elif correlation.kind == "d":
                ours.append((update, correlation.row, correlation.attempt))
            else:
                messages.append(_message_values(update, correlation.row))
        unmatched = 0
        for update in loose:  # sent by somebody who knows no correlation: the bot's own messages, other tools
            found = self.run(
                connection, "SELECT id, attempts, state FROM delivery WHERE provider_id = :p", {"p": update.provider_id}
            ).first()
            if found:  # a row that was claimed again still has the id of the attempt before
                ours.append((update, found.id, found.attempts if found.state == DeliveryState.SENT.value else 0))
                continue
            message = self.run(
                connection, "SELECT id FROM message WHERE provider_id = :p", {"p": update.provider_id}
            ).first()
            if message:
                messages.append(_message_values(update, message[0]))
            else:
                unmatched += 1
        return ours, messages, unmatched

    def _failures(
        self,
        connection: Connection,
        bad: Mapping[int, tuple[StatusUpdate, int | None]],
        refusals: Mapping[str, Refusal],
        now: int,
    ) -> list[dict[str, Any]]:
        """Values for `_FAILED_STATUS`; what a failure means beyond its row is done here, before rows are locked."""
        rows = self.run(
            connection,
            "SELECT id, broadcast_id, sender, attempts, tries, state FROM delivery"
            f" WHERE id IN ({self.each('ids', 'BIGINT')}) ORDER BY id",
            {"ids": self.many(list(bad))},
        ).all()
        failed, stopped, slowed = [], {}, {}
        for row in rows:
            update, attempt = bad[row.id]
            if attempt != row.attempts or row.state not in ("sending", "unknown", "sent"):
                continue  # about an attempt that something else became of
            refusal = refusals.get(update.error_code or "")
            reaction = refusal.reaction if refusal else Reaction.FAIL
            state, delay, counts = DeliveryState.FAILED, 0.0, False
            if refusal:
                meant = consequence(refusal, row.attempts, row.tries)
                state, delay, counts = meant.state, meant.delay, meant.counts
                if reaction is Reaction.PAUSE:
                    stopped[row.broadcast_id] = refusal
                if reaction is Reaction.BACK_OFF:
                    slowed[row.sender] = refusal
            failed.append(
                {
                    "id": row.id,
                    "attempt": row.attempts,
                    "state": state.value,
                    "error_code": update.error_code,
                    "error": update.error_message,
                    "reason": "" if state is not DeliveryState.DEFERRED else "provider" if delay >= 3600 else "retry",
                    "not_before": now + int(delay * 1_000_000) if state is DeliveryState.DEFERRED else None,
                    "counts": int(counts),
                    "at": micros(update.at),
                    "suppress": reaction is Reaction.SUPPRESS,
                }
            )
        for broadcast_id, refusal in sorted(stopped.items()):
            self.pause_refused(connection, broadcast_id, refusal)
        for sender, refusal in sorted(slowed.items()):
            line = self.lock_sender(connection, sender)
            self.save_pace(connection, sender, line.pace.backed_off(now, refusal.seconds), refusal.code)
        return failed

    def pause_refused(self, connection: Connection, broadcast_id: str, refusal: Refusal) -> bool:
        """Pause a broadcast that the provider will not let through. False: it was neither running nor finished.

        A finished one, too: a status that comes later gives its row back.
        """
        reason = f"{refusal.pt} {refusal.remedy_pt}".strip()
        return bool(
            self.run(
                connection,
                "UPDATE broadcast SET state = 'paused', state_reason = :reason, state_code = :code, finished_at = NULL"
                " WHERE id = :b AND state IN ('running', 'finished')",
                {"b": broadcast_id, "reason": reason, "code": refusal.code},
            ).rowcount
        )

    # ------------------------------------------------------------------ the end of a broadcast
    def reopen_broadcasts(self) -> list[str]:
        """Let finished broadcasts run again that rows came back to. Returns their ids.

        An unknown row is no reason to wait with the end; but a process that was frozen may still give it back unsent,
        and a status may say days later that the provider asks to try again.
        """
        now = self.now()
        came_back = " OR ".join(has_rows(state) for state in ("queued", "deferred"))
        which = f"state = 'finished' AND finished_at > CAST(:since AS BIGINT) AND ({came_back})"
        values = {"since": now - _LATE}
        with self.read() as connection:  # once a second: the writer is not to be troubled for nothing
            if not self.run(connection, f"SELECT 1 FROM broadcast WHERE {which} LIMIT 1", values).first():
                return []
        with self.write() as connection:
            rows = self.run(
                connection,
                f"UPDATE broadcast SET state = 'running', finished_at = NULL WHERE {which} RETURNING id",
                values,
            ).all()
        return [row[0] for row in rows]

    def finish_broadcasts(self) -> list[str]:
        """Close running broadcasts that have nothing left to send. Returns their ids."""
        now = self.now()
        with self.write() as connection:
            rows = self.run(
                connection,
                "UPDATE broadcast SET state = 'finished', finished_at = :now WHERE state = 'running'"
                + "".join(f" AND NOT {has_rows(state)}" for state in ("queued", "deferred", "sending"))
                + " RETURNING id",
                {"now": now},
            ).all()
        return [row[0] for row in rows]


def _after(pace: Pace, settlement: Settlement, now: int) -> Pace:
    if settlement.back_off:
        return pace.backed_off(now, settlement.back_off)
    return pace.failed(now) if settlement.trouble else pace.succeeded(now)


def _nothing_known(row: int, state: DeliveryState, attempt: int | None) -> dict[str, Any]:
    return {
        "id": row,
        "attempt": attempt,
        "state": state.value,
        "rank": RANK[state],
        "provider_id": None,
        "address": None,
        "user_ref": None,
        "sent_at": None,
        "delivered_at": None,
        "read_at": None,
    }


def _merged(known: dict[str, Any] | None, update: StatusUpdate, row: int, attempt: int | None) -> dict[str, Any]:
    """Several statuses of one delivery in a batch, in any order, are one update."""
    state, at = DeliveryState(update.status), micros(update.at)
    values = known or _nothing_known(row, state, attempt)
    if attempt is not None:
        values["attempt"] = max(attempt, values["attempt"] or 0)
    if RANK[state] > values["rank"]:
        values.update(state=state.value, rank=RANK[state])
    values["provider_id"] = values["provider_id"] or update.provider_id
    values["address"] = values["address"] or update.address
    values["user_ref"] = values["user_ref"] or update.user_id
    # A later state implies the earlier ones: Meta may leave them out (`read` without `delivered`).
    for name, state_of in (("sent_at", 0), ("delivered_at", 1), ("read_at", 2)):
        if _GOOD.index(state) >= state_of:
            values[name] = at if values[name] is None else min(values[name], at)
    return values


def _message_values(update: StatusUpdate, row: int) -> dict[str, Any]:
    return {"id": row, "state": update.status, "rank": RANK[DeliveryState(update.status)], "p": update.provider_id}
