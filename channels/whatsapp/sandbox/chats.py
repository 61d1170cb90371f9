"""The phones and their conversations, in memory; the ledger can rebuild them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from channels.whatsapp.sandbox import people

#: Order of what can become of a message; it never goes back.
TICKS = ("accepted", "sent", "delivered", "read", "failed")


@dataclass
class Message:
    """One bubble. `status` is one of `TICKS`; of a person's message it tells how far our webhook got."""

    id: str
    at: float
    author: str  # business | person
    kind: str
    body: str
    header: str = ""
    footer: str = ""
    buttons: list[dict[str, Any]] = field(default_factory=list)
    tapped: int | None = None
    context_id: str | None = None
    status: str = "accepted"

    def reaches(self, status: str) -> None:
        """Move the ticks forward."""
        if TICKS.index(status) > TICKS.index(self.status):
            self.status = status

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "at": self.at,
            "author": self.author,
            "kind": self.kind,
            "header": self.header,
            "body": self.body,
            "footer": self.footer,
            "buttons": [{"index": one["index"], "text": one["text"]} for one in self.buttons],
            "tapped": self.tapped,
            "context": self.context_id,
            "status": self.status,
        }


@dataclass
class Phone:
    """One person's WhatsApp.

    `stopped`: takes no marketing from us (the provider's own opt-out). `called`: how the first template called the
    person, so that the phone of "Olá, Ana!" is Ana's.
    """

    wa_id: str
    number: str
    messages: dict[str, Message] = field(default_factory=dict)
    last_from_person: float = 0.0
    templates: int = 0
    attempts: int = 0
    unread: int = 0
    stopped: bool = False
    called: str = ""

    @property
    def name(self) -> str:
        return people.name(self.wa_id, self.called)

    def ends_in(self, digits: str) -> bool:
        """Whether this is one of the numbers with a behaviour of their own (see the package's docstring)."""
        return self.wa_id.endswith(digits)

    @property
    def hidden(self) -> bool:
        """Whether the person shows a user id instead of the phone (Meta: usernames, since April 2026)."""
        return self.ends_in("0077")

    def summary(self) -> dict[str, Any]:
        last = next(reversed(self.messages.values()), None)
        return {
            "number": self.number,
            "wa_id": self.wa_id,
            "name": self.name,
            "unread": self.unread,
            "stopped": self.stopped,
            "last": last.to_json() if last else None,
        }


class Phones:
    """All phones, the one with the latest message last."""

    def __init__(self) -> None:
        self._by_account: dict[str, Phone] = {}
        self._by_user: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._by_account)

    def of(self, digits: str) -> Phone:
        """The phone that answers `digits`; it comes into being with its first use."""
        account = people.wa_id(digits)
        phone = self._by_account.get(account)
        if phone is None:
            phone = Phone(account, f"+{people.with_ninth(account)}")
            self._by_account[account] = phone
            self._by_user[people.user_id(account)] = account
        return phone

    def find(self, digits: str) -> Phone | None:
        return self._by_account.get(people.wa_id(digits))

    def of_user(self, user_id: str) -> Phone | None:
        account = self._by_user.get(user_id)
        return self._by_account[account] if account else None

    def add(self, phone: Phone, message: Message) -> None:
        """Append `message` to the phone's chat."""
        phone.messages[message.id] = message
        if message.author == "person":
            phone.last_from_person = max(phone.last_from_person, message.at)
            phone.unread = 0
        else:
            phone.unread += 1
        self._by_account[phone.wa_id] = self._by_account.pop(phone.wa_id)

    def latest(self, wanted: str = "") -> Iterator[Phone]:
        """Latest first; `wanted` is part of the number or of the name."""
        wanted = wanted.casefold().strip()
        digits = "".join(c for c in wanted if c.isdigit())
        for phone in reversed(self._by_account.values()):
            if not phone.messages:
                continue  # a request for it was refused
            if not wanted or wanted in phone.name.casefold() or (digits and digits in phone.number):
                yield phone
