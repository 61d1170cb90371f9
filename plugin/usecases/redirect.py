"""Carry out the redirect of one reply: the effect of `action_redirect`, of the gate without it, and of the sweeper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.engine import Connection

from plugin.domain.address import canonical
from plugin.domain.broadcast import Broadcast
from plugin.domain.conversation import Candidate, Contact, Inbound
from plugin.domain.redirect import Outcome, Redirect
from plugin.errors import NotFound
from plugin.usecases.handoff import CaseStore


@dataclass(frozen=True)
class Texts:
    """What people are told, from the settings."""

    handoff: str
    opt_out: str
    notification: str


@dataclass(frozen=True)
class Redirected:
    """What became of a reply.

    `restart`: the bot must start over with the reply as first turn. `bot_reply`: the bot goes on with the reply.
    `said`: what the person is being told, for the tracker. `first` is False when it had been carried out before.
    """

    outcome: Outcome
    restart: bool
    bot_reply: bool
    said: tuple[str, ...]
    case_id: str | None
    first: bool


class RedirectStore(CaseStore, Protocol):
    """What redirecting asks of the store besides; see `plugin.store.routes` and `plugin.store.desk`."""

    def inbound(self, inbound_id: str, connection: Connection | None = None) -> Inbound | None: ...
    def contact(self, contact_id: str, connection: Connection | None = None) -> Contact | None: ...
    def broadcast_of(self, connection: Connection, delivery_id: int) -> tuple[Broadcast, Redirect | None]: ...
    def candidate(self, connection: Connection, delivery_id: int) -> Candidate | None: ...
    def attach_to_case(self, connection: Connection, inbound_id: str, case_id: str) -> None: ...
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
    ) -> None: ...
    def write_opt_out(
        self,
        connection: Connection,
        canonical: str,
        source: str,
        *,
        detail: str = "",
        inbound_id: str | None = None,
        delivery_id: int | None = None,
    ) -> bool: ...
    def add_notification(self, connection: Connection, **values: Any) -> None: ...
    def mark_redirected(self, connection: Connection, inbound_id: str, by: str, case_id: str | None) -> None: ...


def redirect(store: RedirectStore, reply_id: str, *, contact_id: str | None, by: str, texts: Texts) -> Redirected:
    """Carry out the decision stored with a reply, once; asked again, say what was done.

    Args:
        contact_id: who claims to have sent the reply (Rasa's ``sender_id``); None when the caller is ourselves.
        by: ``action``, ``gate`` or ``sweeper``; kept for the report.

    Raises:
        NotFound: no such reply, not this contact's, or not one with a decision.
    """
    with store.write() as connection:
        reply = store.inbound(reply_id, connection)
        if reply is None or reply.decision is None or (contact_id is not None and reply.contact_id != contact_id):
            raise NotFound("There is no such reply to redirect.")
        if reply.redirected:
            return _told(reply, _said(store, connection, reply, texts), reply.case_id, first=False)
        said = _said(store, connection, reply, texts)
        case_id = _carry_out(store, connection, reply, said)
        store.mark_redirected(connection, reply.id, by, case_id)
        return _told(reply, said, case_id, first=True)


def _told(reply: Inbound, said: tuple[str, ...], case_id: str | None, *, first: bool) -> Redirected:
    assert reply.decision is not None
    return Redirected(
        outcome=reply.decision.outcome,
        restart=reply.decision.restart,
        bot_reply=reply.decision.bot_reply,
        said=said,
        case_id=case_id,
        first=first,
    )


def _said(store: RedirectStore, connection: Connection, reply: Inbound, texts: Texts) -> tuple[str, ...]:
    assert reply.decision is not None
    outcome = reply.decision.outcome
    if outcome is Outcome.HUMAN:
        return (texts.handoff,)
    if outcome is Outcome.OPT_OUT:
        return (texts.opt_out,)
    if outcome is Outcome.NOTIFICATION and reply.delivery_id is not None:
        broadcast, _ = store.broadcast_of(connection, reply.delivery_id)
        return (broadcast.notify_text or texts.notification,)
    return ()


def _carry_out(store: RedirectStore, connection: Connection, reply: Inbound, said: tuple[str, ...]) -> str | None:
    """Write the effect and queue what the person is told. Returns the case, if one is concerned."""
    decision = reply.decision
    assert decision is not None
    case_id: str | None = None
    contact = store.contact(reply.contact_id, connection)
    assert contact is not None
    if decision.outcome is Outcome.HUMAN:
        assert reply.operation_id is not None
        case_id = store.live_case(connection, reply.contact_id)
        if case_id is not None:
            store.attach_to_case(connection, reply.id, case_id)
        else:
            case_id = store.open_case(
                connection,
                operation_id=reply.operation_id,
                queue_id=decision.queue,
                agent_id=decision.agent,
                contact_id=reply.contact_id,
                inbound_id=reply.id,
                delivery_id=reply.delivery_id,
                why=decision.why,
            )
    elif decision.outcome is Outcome.OPT_OUT:
        # Both numbers: the one the reply came from, if it shows one, and the one the message had been sent to.
        candidate = store.candidate(connection, reply.delivery_id) if reply.delivery_id is not None else None
        numbers = {canonical(contact.address) if contact.address else None, candidate.canonical if candidate else None}
        for number in sorted(n for n in numbers if n):
            store.write_opt_out(
                connection,
                number,
                "button" if reply.is_tap else "word",
                detail=reply.text,
                inbound_id=reply.id,
                delivery_id=reply.delivery_id,
            )
    elif decision.outcome is Outcome.NOTIFICATION:
        assert reply.delivery_id is not None
        broadcast, _ = store.broadcast_of(connection, reply.delivery_id)
        store.add_notification(
            connection,
            operation_id=broadcast.operation_id,
            contact_id=reply.contact_id,
            inbound_id=reply.id,
            broadcast_id=broadcast.id,
            text=said[0],
            team=broadcast.notify_team,
            via="channel",
        )
    for position, text in enumerate(said):
        store.queue_message(
            connection,
            contact_id=reply.contact_id,
            author="system",
            text_=text,
            case_id=case_id,
            dedupe=f"redirect.{reply.id}.{position}",
        )
    return case_id
