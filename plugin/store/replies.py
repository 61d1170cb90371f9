"""What people send us: stored once, taken in order, attributed, redirected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import orjson
from sqlalchemy import and_, or_, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from plugin.connector import ConsentChange, InboundMessage, StatusUpdate, Unreadable
from plugin.domain.broadcast import Broadcast, redirect_from_json, rule_from_json
from plugin.domain.conversation import Candidate, Inbound
from plugin.domain.redirect import Decision, FreeText, Outcome, Redirect
from plugin.store import tables as t
from plugin.store.contacts import ContactQueries
from plugin.store.database import micros, new_id
from plugin.store.deliveries import DeliveryQueries
from plugin.store.meta import from_json, mapping, to_json
from plugin.usecases.receive import Person, StoredItem

#: PostgreSQL's code for a transaction that was ended to break a deadlock.
_DEADLOCK = "40P01"
#: Tries of one message after which later messages of the same person pass it.
_PASSED_AFTER = 5
_FEW = "(CASE WHEN attempts < 7 THEN attempts ELSE 7 END)"


class ReplyQueries(ContactQueries, DeliveryQueries):
    """Queries on `inbound`."""

    def store_batch(
        self,
        channel: str,
        messages: Sequence[StoredItem],
        statuses: Sequence[StatusUpdate],
        consents: Sequence[tuple[ConsentChange, str | None]],
        unreadable: Sequence[tuple[Unreadable, str]],
    ) -> tuple[int, int]:
        """Commit one webhook body. Returns how many messages were new and how many were seen before."""
        for attempt in (1, 2, 3):
            try:
                return self._store_batch(channel, messages, statuses, consents, unreadable)
            except OperationalError as error:
                # PostgreSQL ends one of two writers that wait for one another; the batch is whole, so it may go again.
                if attempt == 3 or getattr(error.orig, "pgcode", None) != _DEADLOCK:
                    raise
        raise AssertionError("unreachable")

    def _store_batch(
        self,
        channel: str,
        messages: Sequence[StoredItem],
        statuses: Sequence[StatusUpdate],
        consents: Sequence[tuple[ConsentChange, str | None]],
        unreadable: Sequence[tuple[Unreadable, str]],
    ) -> tuple[int, int]:
        new = 0
        with self.write() as connection:
            received_at = self.now()
            # In order of people, as everywhere: two batches of the same people then wait for one another in line.
            for offset, item in sorted(enumerate(messages), key=lambda pair: _who(pair[1].person)):
                at = received_at + offset
                write = partial(self._store_message, connection, channel, item.person, item.message, at)
                new += self._guarded(connection, channel, item.message, at, write) or 0
            together = partial(self.apply_statuses, connection, statuses)
            if self._guarded(connection, channel, None, received_at, together) is None:
                for update in statuses:
                    alone = partial(self.apply_statuses, connection, [update])
                    self._guarded(connection, channel, update, received_at, alone)
            for change, canonical in consents:
                for number in self._numbers(connection, change, canonical) if change.stop else ():
                    self.write_opt_out(connection, number, "provider", "", None)
            for broken, key in unreadable:
                self._store_unreadable(connection, channel, broken, key, received_at)
        return new, len(messages) - new

    def _guarded(
        self,
        connection: Connection,
        channel: str,
        item: InboundMessage | StatusUpdate | None,
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

    def _numbers(self, connection: Connection, change: ConsentChange, canonical: str | None) -> list[str]:
        """The numbers a provider's opt-out event is about: its own, or those we wrote to under that provider id."""
        if canonical:
            return [canonical]
        d = t.delivery.c
        found = connection.execute(
            select(d.canonical)
            .where(d.sender == change.sender, d.user_ref == change.user_id, d.canonical.isnot(None))
            .distinct()
        ).scalars()
        return list(found)

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

    # ------------------------------------------------------------------ one message
    def inbound(self, inbound_id: str, connection: Connection | None = None) -> Inbound | None:
        """One stored message; with a connection, locked for the rest of its transaction."""
        if connection is None:
            with self.read() as reading:
                return self._inbound(reading, inbound_id, lock=False)
        return self._inbound(connection, inbound_id, lock=self.dialect == "postgresql")

    def _inbound(self, connection: Connection, inbound_id: str, *, lock: bool) -> Inbound | None:
        if lock:
            connection.execute(select(t.inbound.c.id).where(t.inbound.c.id == inbound_id).with_for_update())
        joined = t.inbound.outerjoin(t.delivery, t.inbound.c.delivery_id == t.delivery.c.id).outerjoin(
            t.broadcast, t.delivery.c.broadcast_id == t.broadcast.c.id
        )
        row = connection.execute(
            select(t.inbound, t.broadcast.c.id.label("broadcast_id"), t.broadcast.c.operation_id)
            .select_from(joined)
            .where(t.inbound.c.id == inbound_id)
        ).first()
        return _inbound(mapping(row)) if row and row.contact_id else None

    def candidates(self, connection: Connection, inbound: Inbound, person: Person) -> dict[str, list[Candidate]]:
        """Deliveries the message may answer, by rung: context, user_ref, returned_address, number; newest first."""
        d = t.delivery.c
        found: dict[str, list[Candidate]] = {}
        if inbound.context_id:
            proved = and_(d.sender == inbound.sender, d.provider_id == inbound.context_id)
            found["context"] = self._candidates(connection, proved)
        # Who was refused the message can't be answering it.
        unsent = ("skipped", "rejected", "queued", "deferred", "failed")
        base = and_(d.sender == inbound.sender, d.state.notin_(unsent))
        if person.user_ref:
            found["user_ref"] = self._candidates(connection, and_(base, d.user_ref == person.user_ref))
        if person.address:
            digits = person.address.lstrip("+")
            found["returned_address"] = self._candidates(connection, and_(base, d.returned_address == digits))
        if person.canonical:
            found["number"] = self._candidates(connection, and_(base, d.canonical == person.canonical))
        return found

    def candidate(self, connection: Connection, delivery_id: int) -> Candidate | None:
        found = self._candidates(connection, t.delivery.c.id == delivery_id)
        return found[0] if found else None

    def _candidates(self, connection: Connection, condition: Any) -> list[Candidate]:
        d, b = t.delivery.c, t.broadcast.c
        rows = connection.execute(
            select(
                d.id, d.broadcast_id, d.sender, d.canonical, d.user_ref, d.sent_at, d.claimed_at, d.replied_at,
                d.redirect.label("row_redirect"), b.window, b.redirect, b.queue_id, b.agent_id,
            )
            .select_from(t.delivery.join(t.broadcast, d.broadcast_id == b.id))
            .where(condition)
            .order_by(d.id.desc())
            .limit(20)
        )  # fmt: skip
        return [
            Candidate(
                delivery_id=row.id,
                broadcast_id=row.broadcast_id,
                sender=row.sender,
                canonical=row.canonical,
                user_ref=row.user_ref,
                sent_at=row.claimed_at or row.sent_at or 0,
                window=row.window,
                replied=row.replied_at is not None,
                row_redirect=from_json(row.row_redirect),
                broadcast_redirect={"kind": row.redirect, "queue": row.queue_id, "agent": row.agent_id},
            )
            for row in rows
        ]

    def broadcast_of(self, connection: Connection, delivery_id: int) -> tuple[Broadcast, Redirect | None]:
        """The broadcast of a delivery and the row's own redirect."""
        d, b = t.delivery.c, t.broadcast.c
        row = connection.execute(
            select(t.broadcast, d.redirect.label("row_redirect"), t.operation.c.push_queue_id)
            .select_from(
                t.delivery.join(t.broadcast, d.broadcast_id == b.id).join(
                    t.operation, b.operation_id == t.operation.c.id
                )
            )
            .where(d.id == delivery_id)
        ).one()
        values = mapping(row)
        chosen = {"kind": values["redirect"], "queue": values["queue_id"], "agent": values["agent_id"]}
        redirect = redirect_from_json(chosen)
        assert redirect is not None
        return Broadcast(
            id=values["id"],
            operation_id=values["operation_id"],
            channel=values["channel"],
            sender=values["sender"],
            template=from_json(values["template"]),
            redirect=redirect,
            free_text=FreeText(values["free_text"]),
            buttons={int(k): rule_from_json(v) for k, v in from_json(values["buttons"]).items()},
            notify_text=values["notify_text"],
            notify_team=bool(values["notify_team"]),
            window=values["window"],
            push_queue=values["push_queue_id"],
        ), redirect_from_json(from_json(values["row_redirect"]))

    def mark_replied(self, connection: Connection, delivery_id: int, at: int) -> bool:
        """Note the first answer to a delivery. False: there was one before."""
        d = t.delivery.c
        return bool(
            connection.execute(
                t.delivery.update().where(d.id == delivery_id, d.replied_at.is_(None)).values(replied_at=at)
            ).rowcount
        )

    def save_route(self, connection: Connection, inbound_id: str, **values: Any) -> None:
        """Write what routing found out. `decision` is a Decision, `outcome` an Outcome."""
        if isinstance(values.get("decision"), Decision):
            values["decision"] = decision_to_json(values["decision"])
        if isinstance(values.get("outcome"), Outcome):
            values["outcome"] = values["outcome"].value
        connection.execute(
            t.inbound.update().where(t.inbound.c.id == inbound_id).values(routed_at=self.now(), **values)
        )

    def mark_redirected(self, connection: Connection, inbound_id: str, by: str, case_id: str | None) -> None:
        connection.execute(
            t.inbound.update()
            .where(t.inbound.c.id == inbound_id)
            .values(redirected_at=self.now(), redirected_by=by, case_id=case_id)
        )

    # ------------------------------------------------------------------ consent
    def write_opt_out(
        self, connection: Connection, canonical: str, source: str, detail: str, inbound_id: str | None
    ) -> bool:
        """Suppress a number. What is still queued for it is skipped in the same transaction. False: it was already."""
        new = connection.execute(
            text(
                "INSERT INTO opt_out (canonical, source, detail, inbound_id, at) VALUES (:c, :s, :d, :i, :now)"
                " ON CONFLICT (canonical) DO NOTHING"
            ),
            {"c": canonical, "s": source, "d": detail, "i": inbound_id, "now": self.now()},
        ).rowcount
        connection.execute(
            text(
                "UPDATE delivery SET state = 'skipped', reason = 'opted_out'"
                " WHERE canonical = :c AND state IN ('queued', 'deferred')"
            ),
            {"c": canonical},
        )
        return bool(new)


def _who(person: Person) -> tuple[str, str]:
    return person.canonical or "", person.user_ref or ""


def _printable(item: InboundMessage | StatusUpdate) -> dict[str, Any]:
    return {name: str(value).replace("\0", "") for name, value in vars(item).items()}


def decision_to_json(decision: Decision) -> str:
    return orjson.dumps(
        {
            "outcome": decision.outcome.value,
            "queue": decision.queue,
            "agent": decision.agent,
            "restart": decision.restart,
            "bot_reply": decision.bot_reply,
            "why": decision.why,
        }
    ).decode()


def _inbound(row: dict[str, Any]) -> Inbound:
    decision = from_json(row["decision"])
    return Inbound(
        id=row["id"],
        channel=row["channel"],
        provider_id=row["provider_id"],
        sender=row["sender"],
        contact_id=row["contact_id"],
        kind=row["kind"],
        text=row["text"],
        payload=row["payload"],
        is_tap=bool(row["is_tap"]),
        context_id=row["context_id"],
        state=row["state"],
        at=row["at"],
        received_at=row["received_at"],
        routed=row["routed_at"] is not None,
        delivery_id=row["delivery_id"],
        proof=row["proof"],
        interaction=bool(row["interaction"]),
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        decision=Decision(**{**decision, "outcome": Outcome(decision["outcome"])}) if decision else None,
        case_id=row["case_id"],
        redirected=row["redirected_at"] is not None,
        redirected_by=row["redirected_by"],
        broadcast_id=row["broadcast_id"],
        operation_id=row["operation_id"],
    )
