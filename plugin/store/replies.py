"""What people send us: stored once, taken in order, tried until it has had its turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from sqlalchemy import and_, or_, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, IntegrityError

from plugin.connector import ConsentChange, InboundMessage, StatusUpdate, Unreadable
from plugin.domain.refusal import Refusal
from plugin.store import tables as t
from plugin.store.database import micros, new_id, retried
from plugin.store.meta import to_json
from plugin.store.outbox import OutboxQueries
from plugin.store.routes import RouteQueries
from plugin.usecases.receive import Person, StoredItem

#: Tries of one message after which later messages of the same person pass it.
_PASSED_AFTER = 5
_FEW = "(CASE WHEN attempts < 7 THEN attempts ELSE 7 END)"


class ReplyQueries(RouteQueries, OutboxQueries):
    """Queries on `inbound`."""

    def store_batch(
        self,
        channel: str,
        messages: Sequence[StoredItem],
        statuses: Sequence[StatusUpdate],
        consents: Sequence[tuple[ConsentChange, str | None]],
        unreadable: Sequence[tuple[Unreadable, str]],
        refusals: Mapping[str, Refusal] = MappingProxyType({}),
    ) -> tuple[int, int]:
        """Commit one webhook body. Returns how many messages were new and how many were seen before.

        `refusals` explains the codes of failed statuses.
        """
        return retried(partial(self._store_batch, channel, messages, statuses, consents, unreadable, refusals))

    def _store_batch(
        self,
        channel: str,
        messages: Sequence[StoredItem],
        statuses: Sequence[StatusUpdate],
        consents: Sequence[tuple[ConsentChange, str | None]],
        unreadable: Sequence[tuple[Unreadable, str]],
        refusals: Mapping[str, Refusal],
    ) -> tuple[int, int]:
        new = 0
        with self.write() as connection:
            received_at = self.now()
            # In order of people, as everywhere: two batches of the same people then wait for one another in line.
            for offset, item in sorted(enumerate(messages), key=lambda pair: _who(pair[1].person)):
                at = received_at + offset
                write = partial(self._store_message, connection, channel, item.person, item.message, at)
                new += self._guarded(connection, channel, item.message, at, write) or 0
            together = partial(self.apply_statuses, connection, statuses, refusals)
            if self._guarded(connection, channel, None, received_at, together) is None:
                for update in statuses:
                    alone = partial(self.apply_statuses, connection, [update], refusals)
                    self._guarded(connection, channel, update, received_at, alone)
            for change, canonical in consents:
                write = partial(self._apply_consent, connection, change, canonical)
                self._guarded(connection, channel, change, received_at, write)
            for broken, key in unreadable:
                self._store_unreadable(connection, channel, broken, key, received_at)
        return new, len(messages) - new

    def _guarded(
        self,
        connection: Connection,
        channel: str,
        item: InboundMessage | StatusUpdate | ConsentChange | None,
        at: int,
        write: Callable[[], int],
    ) -> int | None:
        """Write one item on a savepoint; one that the database refuses is set aside, and its neighbours are stored."""
        try:
            with connection.begin_nested():
                return write()
        except (DataError, IntegrityError, ValueError) as error:  # ValueError: psycopg2's word for a NUL in a text
            if item is not None:
                reason = f"{type(error).__name__}: {str(getattr(error, 'orig', error))[:200]}"
                broken = Unreadable(reason, _printable(item))
                self._store_unreadable(connection, channel, broken, f"unreadable.{new_id()}", at)
            return None

    def _store_message(
        self, connection: Connection, channel: str, person: Person, message: InboundMessage, received_at: int
    ) -> int:
        inbound_id = new_id()
        contact_id = self.find_contact(
            connection,
            channel=channel,
            sender=message.sender,
            address=person.address,
            canonical=person.canonical,
            user_ref=message.user_id,
            name=message.profile_name,
        )
        inserted = connection.execute(
            text(
                "INSERT INTO inbound (id, channel, provider_id, sender, contact_id, kind, text, payload, is_tap,"
                " context_id, raw, state, note, attempts, in_work, proof, interaction, redirected_by, at, received_at)"
                " VALUES (:id, :channel, :provider_id, :sender, :contact, :kind, :text, :payload, :is_tap,"
                " :context_id, :raw, 'stored', '', 0, :no, '', :no, '', :at, :received_at)"
                " ON CONFLICT (provider_id) DO NOTHING"
            ),
            {
                "id": inbound_id,
                "channel": channel,
                "provider_id": message.provider_id,
                "sender": message.sender,
                "contact": contact_id,
                "kind": message.kind,
                "text": message.text,
                "payload": message.payload,
                "is_tap": message.is_tap,
                "context_id": message.context_id,
                "raw": to_json(message.raw),
                "no": False,
                "at": micros(message.at),
                "received_at": received_at,
            },
        ).rowcount
        if inserted:
            connection.execute(
                text(
                    "INSERT INTO message (contact_id, author, text, buttons, state, epoch, attempts, provider_id,"
                    " inbound_id, at) VALUES (:contact, 'contact', :text, '[]', 'received', 0, 0, :p, :inbound, :at)"
                ),
                {
                    "contact": contact_id,
                    "text": message.text,
                    "p": message.provider_id,
                    "inbound": inbound_id,
                    "at": received_at,
                },
            )
            connection.execute(
                t.contact.update().where(t.contact.c.id == contact_id).values(last_inbound_at=received_at)
            )
        return int(inserted)

    def _apply_consent(self, connection: Connection, change: ConsentChange, canonical: str | None) -> int:
        """A provider's opt-out or opt-in: of its own number, or of those we know by that provider's id of a person."""
        numbers = [canonical] if canonical else self._numbers(connection, change)
        if not numbers:
            self.count_fact(connection, "consents_unmatched", 1)
        for number in numbers:
            if change.stop:
                self.write_opt_out(connection, number, "provider", at=micros(change.at))
            else:
                self.resume_consent(connection, number, micros(change.at))
        return len(numbers)

    def _numbers(self, connection: Connection, change: ConsentChange) -> list[str]:
        if change.user_id is None:
            return []
        d, c = t.delivery.c, t.contact.c
        written = select(d.canonical).where(d.sender == change.sender, d.user_ref == change.user_id)
        writing = select(c.canonical).where(c.sender == change.sender, c.user_ref == change.user_id)
        found = connection.execute(written.union(writing)).scalars()
        return sorted(number for number in found if number)

    def _store_unreadable(self, connection: Connection, channel: str, item: Unreadable, key: str, at: int) -> None:
        stored = connection.execute(
            text(
                "INSERT INTO inbound (id, channel, provider_id, sender, kind, text, is_tap, raw, state, note, attempts,"
                " in_work, proof, interaction, redirected_by, at, received_at)"
                " VALUES (:id, :channel, :key, '', 'unreadable', '',"
                " :no, :raw, 'quarantined', :note, 0, :no, '', :no, '', :at, :at) ON CONFLICT (provider_id) DO NOTHING"
            ),
            {
                "id": new_id(),
                "channel": channel,
                "key": key,
                "no": False,
                "raw": to_json(item.raw),
                "note": item.reason,
                "at": at,
            },
        ).rowcount
        if stored:
            self.count_fact(connection, "items_unreadable", 1)

    # ------------------------------------------------------------------ work
    def take_inbound(self, limit: int, lease_seconds: float) -> list[str]:
        """Lease stored messages: in order per person, never two of one person at once."""
        now = self.now()
        skip_locked = " FOR UPDATE SKIP LOCKED" if self.dialect == "postgresql" else ""
        with self.write() as connection:
            rows = connection.execute(
                text(
                    # A message that kills its worker comes back later and later: the lease doubles with each attempt.
                    f"UPDATE inbound SET taken_until = :now + CAST(:lease AS BIGINT) * (1 << {_FEW}),"
                    " attempts = attempts + 1, in_work = :yes WHERE id IN ("
                    "SELECT i.id FROM inbound i WHERE i.state = 'stored'"
                    " AND (i.taken_until IS NULL OR i.taken_until <= :now)"
                    " AND NOT EXISTS (SELECT 1 FROM inbound e WHERE e.contact_id = i.contact_id AND e.state = 'stored'"
                    f" AND (e.attempts <= {_PASSED_AFTER} OR (e.in_work = :yes AND e.taken_until > :now))"
                    " AND (e.received_at < i.received_at OR (e.received_at = i.received_at AND e.id < i.id)))"
                    f" ORDER BY i.received_at LIMIT :n{skip_locked}) RETURNING id, received_at"
                ),
                {"lease": int(lease_seconds * 1_000_000), "now": now, "n": limit, "yes": True},
            ).all()
        return [row[0] for row in sorted(rows, key=lambda row: (row[1], row[0]))]

    def renew_inbound(self, inbound_ids: Sequence[str], lease_seconds: float) -> None:
        """Keep messages leased that are still in work."""
        i = t.inbound.c
        until = self.now() + int(lease_seconds * 1_000_000)
        with self.write() as connection:
            connection.execute(
                t.inbound.update().where(i.id.in_(inbound_ids), i.state == "stored").values(taken_until=until)
            )

    def stale_inbound(self, older_than: int, limit: int) -> list[str]:
        """Stored messages that nobody routed or redirected in time (`older_than`: microseconds of age)."""
        i = t.inbound.c
        with self.read() as connection:
            rows = connection.execute(
                select(i.id)
                .where(
                    i.state == "stored",
                    i.received_at < self.now() - older_than,
                    or_(i.routed_at.is_(None), and_(i.outcome.isnot(None), i.redirected_at.is_(None))),
                )
                .order_by(i.received_at, i.id)
                .limit(limit)
            ).all()
        return [row[0] for row in rows]

    def finish_inbound(self, inbound_id: str) -> None:
        """The message has had everything it needs."""
        with self.write() as connection:
            connection.execute(
                t.inbound.update()
                .where(t.inbound.c.id == inbound_id, t.inbound.c.state == "stored")
                .values(state="done", bot_done_at=self.now(), taken_until=None)
            )

    def release_inbound(
        self, inbound_id: str, error: str, *, first_delay: float, max_delay: float, patience: float
    ) -> bool:
        """Try again later and later; `patience` seconds after its arrival the message is quarantined (True)."""
        i = t.inbound.c
        with self.write() as connection:
            row = connection.execute(select(i.attempts, i.state, i.received_at).where(i.id == inbound_id)).first()
            if row is None or row.state != "stored":
                return False
            delay = min(first_delay * 2 ** min(max(int(row.attempts) - 1, 0), 20), max_delay)
            late = self.now() - int(row.received_at) >= patience * 1_000_000
            values: dict[str, Any] = {
                "note": error[:2000],
                "taken_until": self.now() + int(delay * 1_000_000),
                "in_work": False,
            }
            if late:
                values["state"] = "quarantined"
            connection.execute(t.inbound.update().where(i.id == inbound_id).values(**values))
        return late


def _who(person: Person) -> tuple[str, str]:
    return person.canonical or "", person.user_ref or ""


def _printable(item: InboundMessage | StatusUpdate | ConsentChange) -> dict[str, Any]:
    return {name: str(value).replace("\0", "") for name, value in vars(item).items()}
