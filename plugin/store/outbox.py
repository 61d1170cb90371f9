"""Messages of agents and of the system on their way out: the same claim and settlement as a delivery's."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, IntegrityError

from plugin.domain.delivery import DeliveryState
from plugin.store.settlements import SettlementQueries
from plugin.usecases.dispatch import ClaimRules, QueuedMessage, Settlement

log = logging.getLogger(__name__)

_UNSENT = (DeliveryState.QUEUED, DeliveryState.DEFERRED)

#: `at` is also when a message may next be tried; it moves only while the message still waits.
_GIVE_BACK = """
UPDATE message SET state = 'queued', attempts = attempts - :refund, error = :error, at = :at
WHERE id = :id AND state IN ('sending', 'unknown') AND claimed_at = :claimed_at
"""
_ANSWERED = """
UPDATE message SET state = :state, provider_id = COALESCE(:p, provider_id), error = :error,
  sent_at = CASE WHEN :state = 'sent' THEN :now ELSE sent_at END
WHERE id = :id AND state IN ('sending', 'unknown')
"""


class OutboxQueries(SettlementQueries):
    """Queries on `message` while it is being sent."""

    def claim_messages(self, limit: int, epoch: int, rules: ClaimRules) -> list[QueuedMessage]:
        """Turn up to `limit` queued messages into `sending` and commit; one per contact, so that order is kept.

        They take their number's next places at the wire, before anything of a broadcast is claimed.
        """
        now = self.now()
        with self.read() as connection:  # nearly always there is nothing: no lock for that
            if not self.run(
                connection, "SELECT 1 FROM message WHERE state = 'queued' AND at <= :now LIMIT 1", {"now": now}
            ).first():
                return []
        with self.write() as connection:
            claimed: list[QueuedMessage] = []
            if rules.known and self.moved(connection, rules.known):
                return []
            for sender, rows in self._waiting(connection, limit, epoch, now).items():
                line = self.lock_sender(connection, sender)
                rate = line.rate or rules.rate
                # A hold is a broadcast's: it is not minded while a person is waiting.
                free = replace(line.pace, held_until=0, failures=0)
                rows = rows[: free.places(rate, now, rules.horizon)]
                times, pace = free.take(len(rows), rate, now)
                if rows:
                    self.save_places(connection, sender, pace.next_at, 0)
                interval, unwell = free.interval(rate, now), bool(line.pace.failures)
                claimed += [_queued(row, now, at, interval, unwell) for row, at in zip(rows, times, strict=True)]
            if claimed:
                self.run(
                    connection,
                    "UPDATE message SET state = 'sending', attempts = attempts + 1, epoch = :epoch,"
                    f" claimed_at = :now WHERE id IN ({self.each('ids', 'BIGINT')})",
                    {"epoch": epoch, "now": now, "ids": self.many([m.id for m in claimed])},
                )
        return sorted(claimed, key=lambda message: message.id)

    def _waiting(self, connection: Connection, limit: int, epoch: int, now: int) -> dict[str, list[Any]]:
        """Messages that may go, by sending number; locked. Empty when the dispatcher has ended."""
        shared = " FOR SHARE" if self.dialect == "postgresql" else ""
        locked = " FOR UPDATE OF m SKIP LOCKED" if self.dialect == "postgresql" else ""
        if not self.run(
            connection,
            f"SELECT 1 FROM dispatcher WHERE epoch = :epoch AND ended = '' AND expires_at > :now{shared}",
            {"epoch": epoch, "now": now},
        ).first():
            return {}
        rows = self.run(
            connection,
            "SELECT m.id, m.text, m.buttons, m.attempts, c.channel, c.sender, c.address, c.user_ref"
            " FROM message m JOIN contact c ON c.id = m.contact_id"
            " WHERE m.state = 'queued' AND m.at <= :now AND NOT EXISTS (SELECT 1 FROM message e"
            " WHERE e.contact_id = m.contact_id AND e.id < m.id AND e.state IN ('queued', 'sending'))"
            f" ORDER BY m.id LIMIT :n{locked}",
            {"n": limit, "now": now},
        ).all()
        found: dict[str, list[Any]] = {sender: [] for sender in sorted({row.sender for row in rows})}
        for row in rows:
            found[row.sender].append(row)
        return found

    def settle_messages(self, settlements: Sequence[Settlement]) -> None:
        """Write the provider's answers to messages of agents and of the system; as `settle_deliveries`."""
        try:
            self._settle_messages(settlements)
        except (DataError, IntegrityError, ValueError, OverflowError):
            for s in settlements:
                try:
                    self._settle_messages([s])
                except (DataError, IntegrityError, ValueError, OverflowError):
                    log.exception("The provider's answer to message %d can't be stored", s.id)
                    self._settle_messages(
                        [Settlement(s.id, s.claimed_at, DeliveryState.UNKNOWN, error_code="unstorable")]
                    )

    def _settle_messages(self, settlements: Sequence[Settlement]) -> None:
        now = self.now()
        with self.write() as connection:
            self.note_mood(connection, settlements, now)
            for s in sorted(settlements, key=lambda s: s.id):
                values = {
                    "id": s.id,
                    "claimed_at": s.claimed_at,
                    "state": s.state.value,
                    "p": s.provider_id,
                    "error": f"{s.error_code}: {s.error}" if s.error else None,
                    # What did not leave, or came at a bad time for the whole number, was no attempt.
                    "refund": int(s.back_off > 0 or (s.trouble and not s.counts)),
                    "now": now,
                    "at": now + int(s.delay * 1_000_000),
                }
                self.run(connection, _GIVE_BACK if s.state in _UNSENT else _ANSWERED, values)


def _queued(row: Any, now: int, send_at: int, interval: int, unwell: bool) -> QueuedMessage:
    return QueuedMessage(
        id=row.id,
        channel=row.channel,
        sender=row.sender,
        address=row.address,
        user_ref=row.user_ref,
        text=row.text,
        buttons=row.buttons,
        attempts=row.attempts + 1,
        claimed_at=now,
        send_at=send_at,
        interval=interval,
        unwell=unwell,
    )
