"""People and the messages exchanged with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.engine import Connection

from plugin.domain.conversation import Contact
from plugin.store import tables as t
from plugin.store.database import new_id
from plugin.store.meta import MetaQueries, mapping, to_json


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
