"""People, their messages and the cases opened for them, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from plugin.domain.redirect import Decision, Outcome


@dataclass(frozen=True)
class Contact:
    """A person on one of our sending numbers. `id` is Rasa's `sender_id`; `address` is E.164 with ``+`` when known."""

    id: str
    channel: str
    sender: str
    address: str | None
    user_ref: str | None
    name: str = ""


#: Providers give whole seconds of their own clock; microseconds.
CLOCK_SLACK = 30_000_000


class CaseState(str, Enum):
    QUEUED = "queued"
    ACTIVE = "active"
    CLOSED = "closed"


class Returned(str, Enum):
    """What the bot does when a person hands the contact back.

    continue: the next message goes on where the bot was. menu: the bot starts over.
    silent: as continue, without a word.
    """

    CONTINUE = "continue"
    MENU = "menu"
    SILENT = "silent"


class Proof(str, Enum):
    """Rungs of the attribution ladder (docs/architecture.md), strongest first."""

    TOKEN = "token"  # noqa: S105  a rung's name, not a secret
    CONTEXT = "context"
    USER_REF = "user_ref"
    RETURNED_ADDRESS = "returned_address"
    NUMBER = "number"


@dataclass(frozen=True)
class Inbound:
    """A stored message of a person, with what is known of it so far.

    `at` and `received_at` are microseconds UTC. `outcome` and `decision` are set once the message is routed as an
    interaction or an opt-out.
    """

    id: str
    channel: str
    provider_id: str
    sender: str
    contact_id: str
    kind: str
    text: str
    payload: str | None
    is_tap: bool
    context_id: str | None
    state: str
    at: int
    received_at: int
    routed: bool = False
    delivery_id: int | None = None
    proof: str = ""
    interaction: bool = False
    outcome: Outcome | None = None
    decision: Decision | None = None
    case_id: str | None = None
    redirected: bool = False
    redirected_by: str = ""
    broadcast_id: str | None = None
    operation_id: str | None = None


@dataclass(frozen=True)
class Candidate:
    """A delivery that a message may answer. `sent_at` is the time of its claim, UTC; both times are microseconds."""

    delivery_id: int
    broadcast_id: str
    sender: str
    canonical: str | None
    user_ref: str | None
    sent_at: int
    window: int
    replied: bool
    row_redirect: Mapping[str, Any] | None = None
    broadcast_redirect: Mapping[str, Any] = field(default_factory=dict)

    def open_at(self, moment: int) -> bool:
        """Whether a message at `moment` counts as the answer: not written before the send, nor after the window."""
        return self.sent_at - CLOCK_SLACK <= moment <= self.sent_at + self.window

    @property
    def goes_to(self) -> tuple[Any, ...]:
        """Where an answer to it would go: what must agree when two deliveries are equally likely."""
        chosen = self.row_redirect or self.broadcast_redirect
        return chosen.get("kind"), chosen.get("queue"), chosen.get("agent")
