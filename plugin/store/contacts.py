"""People and the messages exchanged with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.engine import Connection

from plugin.domain.conversation import Contact
from plugin.domain.delivery import DeliveryState
from plugin.store import tables as t
from plugin.store.database import new_id
from plugin.store.meta import MetaQueries, mapping, to_json
from plugin.usecases.dispatch import QueuedMessage, Settlement


class ContactQueries(MetaQueries):
    """Queries on `contact` and `message`."""

    def contact(self, contact_id: str, connection: Connection | None = None) -> Contact | None:
        """A person; inside a transaction, on its own connection (a second one might wait for the first)."""
        if connection is None:
            with self.read() as reading:
                return self.contact(contact_id, reading)
        row = connection.execute(select(t.contact).where(t.contact.c.id == contact_id)).first()
        return _contact(mapping(row)) if row else None

    def find_contact(
        self,
        connection: Connection,
        *,
        channel: str,
        sender: str,
        address: str | None,
        canonical: str | None,
        user_ref: str | None,
        name: str,
    ) -> str:
        """The id of the person, made on first sight; learns a number or provider id it did not know yet.

        A known number with a new provider id is a new person: Meta renews that id when a number changes hands.
        """
        known = self._known_contact(connection, sender, canonical, user_ref)
        if known and user_ref and known["user_ref"] and known["user_ref"] != user_ref:
            connection.execute(
                t.contact.update().where(t.contact.c.id == known["id"]).values(address=None, canonical=None)
            )
            known = None
        if known is None:
            contact_id = new_id()
            connection.execute(
                text(
                    "INSERT INTO contact (id, channel, sender, address, canonical, user_ref, name, created_at)"
                    " VALUES (:id, :channel, :sender, :address, :canonical, :user_ref, :name, :now)"
                    " ON CONFLICT DO NOTHING"
                ),
                {
                    "id": contact_id,
                    "channel": channel,
                    "sender": sender,
                    "address": address,
                    "canonical": canonical,
                    "user_ref": user_ref,
                    "name": name[:200],
                    "now": self.now(),
                },
            )
            known = self._known_contact(connection, sender, canonical, user_ref)
            if known is None:  # neither number nor provider id: the connector promises one of them
                raise ValueError("an inbound message names nobody")
        changes: dict[str, Any] = {}
        if canonical and not known["canonical"] and not self._known_contact(connection, sender, canonical, None):
            changes.update(canonical=canonical, address=address)
        if user_ref and not known["user_ref"] and not self._known_contact(connection, sender, None, user_ref):
            changes["user_ref"] = user_ref
        if name and not known["name"]:
            changes["name"] = name[:200]
        if changes:
            connection.execute(t.contact.update().where(t.contact.c.id == known["id"]).values(**changes))
        found: str = known["id"]
        return found

    def _known_contact(
        self, connection: Connection, sender: str, canonical: str | None, user_ref: str | None
    ) -> dict[str, Any] | None:
        c = t.contact.c
        if user_ref:
            row = connection.execute(select(t.contact).where(c.sender == sender, c.user_ref == user_ref)).first()
            if row:
                return mapping(row)
        if canonical:
            row = connection.execute(select(t.contact).where(c.sender == sender, c.canonical == canonical)).first()
            if row:
                return mapping(row)
        return None

    # ------------------------------------------------------------------ messages
    def queue_message(
        self,
        connection: Connection,
        *,
        contact_id: str,
        author: str,
        text_: str,
        case_id: str | None = None,
        author_id: str | None = None,
        dedupe: str | None = None,
    ) -> None:
        """Put a message to a person in line for the dispatcher; a second one with the same `dedupe` is ignored."""
        connection.execute(
            text(
                "INSERT INTO message (contact_id, case_id, author, author_id, text, buttons, state, epoch, attempts,"
                " dedupe, at) VALUES (:contact, :case, :author, :author_id, :text, '[]', 'queued', 0, 0, :dedupe, :now)"
                " ON CONFLICT (dedupe) DO NOTHING"
            ),
            {
                "contact": contact_id,
                "case": case_id,
                "author": author,
                "author_id": author_id,
                "text": text_,
                "dedupe": dedupe,
                "now": self.now(),
            },
        )

    def add_bot_message(
        self, contact_id: str, text_: str, provider_id: str | None, buttons: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Record what the bot said; it went out through Rasa's output channel (`provider_id` None: it failed)."""
        with self.write() as connection:
            connection.execute(
                t.message.insert(),
                {
                    "contact_id": contact_id,
                    "author": "bot",
                    "text": text_,
                    "buttons": to_json([list(b) for b in buttons]),
                    "state": "sent" if provider_id else "failed",
                    "epoch": 0,
                    "attempts": 1,
                    "provider_id": provider_id,
                    "at": self.now(),
                    "sent_at": self.now() if provider_id else None,
                },
            )

    def claim_messages(self, limit: int, lease: str, epoch: int) -> list[QueuedMessage]:
        """Turn up to `limit` queued messages into `sending` and commit; one per contact, so that order is kept."""
        now = self.now()
        skip_locked = " FOR UPDATE SKIP LOCKED" if self.dialect == "postgresql" else ""
        with self.write() as connection:
            rows = connection.execute(
                text(
                    "UPDATE message SET state = 'sending', attempts = attempts + 1, epoch = :epoch, claimed_at = :now"
                    " WHERE id IN (SELECT m.id FROM message m WHERE m.state = 'queued' AND m.at <= :now"
                    " AND NOT EXISTS (SELECT 1 FROM message e WHERE e.contact_id = m.contact_id AND e.id < m.id"
                    " AND e.state IN ('queued', 'sending'))"
                    f" ORDER BY m.id LIMIT :n{skip_locked})"
                    " AND EXISTS (SELECT 1 FROM lease WHERE name = :lease AND epoch = :epoch AND expires_at > :now)"
                    " RETURNING id, contact_id, text, buttons, attempts, claimed_at"
                ),
                {"n": limit, "lease": lease, "epoch": epoch, "now": now},
            ).all()
            found = [mapping(row) for row in rows]
            people = {
                row.id: _contact(mapping(row))
                for row in connection.execute(
                    select(t.contact).where(t.contact.c.id.in_({f["contact_id"] for f in found}))
                )
            }
        return [
            QueuedMessage(
                id=f["id"],
                channel=people[f["contact_id"]].channel,
                sender=people[f["contact_id"]].sender,
                address=people[f["contact_id"]].address,
                user_ref=people[f["contact_id"]].user_ref,
                text=f["text"],
                buttons=f["buttons"],
                attempts=f["attempts"],
                claimed_at=f["claimed_at"],
            )
            for f in sorted(found, key=lambda f: int(f["id"]))
        ]

    def settle_messages(self, settlements: Sequence[Settlement]) -> None:
        """Write the provider's answers to messages of agents and of the system."""
        now = self.now()
        with self.write() as connection:
            for s in settlements:
                if s.state is DeliveryState.QUEUED:
                    statement = (
                        "UPDATE message SET state = 'queued', attempts = attempts - :refund, error = :error, at = :at"
                        " WHERE id = :id AND state IN ('sending', 'unknown') AND claimed_at = :claimed_at"
                    )
                else:
                    statement = (
                        "UPDATE message SET state = :state, provider_id = COALESCE(:p, provider_id), error = :error,"
                        " sent_at = CASE WHEN :state = 'sent' THEN :now ELSE sent_at END"
                        " WHERE id = :id AND state IN ('sending', 'unknown')"
                    )
                connection.execute(
                    text(statement),
                    {
                        "id": s.id,
                        "claimed_at": s.claimed_at,
                        "state": s.state.value,
                        "p": s.provider_id,
                        "error": f"{s.error_code}: {s.error}" if s.error else None,
                        "refund": int(s.refund),
                        "now": now,
                        # `at` is also when it may next be tried; it moves only while the message still waits.
                        "at": now + int(s.delay * 1_000_000),
                    },
                )

    def conversation(self, contact_id: str, limit: int = 200) -> list[dict[str, Any]]:
        """The last `limit` messages with a person, oldest first."""
        m = t.message.c
        with self.read() as connection:
            rows = connection.execute(
                select(t.message, t.app_user.c.name.label("author_name"))
                .select_from(t.message.outerjoin(t.app_user, m.author_id == t.app_user.c.id))
                .where(m.contact_id == contact_id)
                .order_by(m.id.desc())
                .limit(limit)
            ).all()
        return [mapping(row) for row in reversed(rows)]


def _contact(row: dict[str, Any]) -> Contact:
    return Contact(row["id"], row["channel"], row["sender"], row["address"], row["user_ref"], row["name"])
