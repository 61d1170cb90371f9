"""Take what a provider posts, keep it, and say where each message goes.

``receive`` verifies, parses, stores and commits: only then may the webhook answer 200. ``take_inbound`` leases stored
messages to the gate, ``route`` attributes one and decides, ``finish`` or ``release`` ends its turn. ``sweep`` does the
redirects that Rasa did not get to. Each step is idempotent: a crash between any two repeats, it does not double.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sqlalchemy.engine import Connection

from plugin.connector import Connector, ConsentChange, InboundMessage, StatusUpdate, Unreadable
from plugin.domain.address import canonical
from plugin.domain.consent import is_clear_opt_out, is_opt_out
from plugin.domain.conversation import Candidate, Contact, Inbound, Proof
from plugin.domain.delivery import DeliveryState
from plugin.domain.redirect import Decision, Outcome, choose, decide
from plugin.domain.refusal import Refusal
from plugin.domain.template import DEFAULT_TALK_BUTTON, Template, fold
from plugin.domain.token import BUTTON_PREFIX, ButtonToken
from plugin.errors import NotFound
from plugin.usecases.redirect import RedirectStore, Texts, redirect

log = logging.getLogger(__name__)

#: Hours of trying one message before it is set aside for a person to look at. Long: while the bot's own store is
#: down, every message fails. Others of the same person pass it after a few tries.
PATIENCE_HOURS = 24
#: Seconds until the first new try; each further one waits twice as long, at most `MAX_DELAY`.
FIRST_DELAY = 2.0
MAX_DELAY = 300.0

#: Things a provider reports about a conversation that nobody said in it: no answer to a broadcast, no turn for the bot.
SILENT_KINDS = frozenset({"reaction", "system", "unsupported", "edit", "revoke", "request_welcome"})


@dataclass(frozen=True)
class Person:
    """What identifies the author of a message: E.164 with ``+``, the ninth-digit-proof key, the provider's own id."""

    address: str | None
    canonical: str | None
    user_ref: str | None

    @classmethod
    def of(cls, address: str | None, user_ref: str | None) -> Person:
        """From the provider's own words: the number with or without ``+``."""
        dialled = f"+{address.lstrip('+')}" if address else None
        return cls(dialled, canonical(dialled) if dialled else None, user_ref)


@dataclass(frozen=True)
class StoredItem:
    message: InboundMessage
    person: Person


@dataclass(frozen=True)
class Received:
    """What one webhook body held."""

    messages: int
    repeated: int
    statuses: int
    consents: int
    unreadable: int


@dataclass(frozen=True)
class Route:
    """Where one message goes.

    kind ``done``: nothing is left to do. ``interaction``: run the redirect of `decision`, then what it asks of the
    bot. ``bot``: the bot answers as if we were not there. `contact_id` is Rasa's ``sender_id``; `broadcast_text` is
    what the person had been sent.
    """

    kind: Literal["done", "interaction", "bot"]
    inbound_id: str
    contact_id: str
    channel: str
    sender: str
    address: str | None
    user_ref: str | None
    text: str
    payload: str | None
    decision: Decision | None = None
    broadcast_text: str = ""
    case_id: str | None = None
    proof: str = ""
    redirected: bool = False


class ReceiveStore(RedirectStore, Protocol):
    """What receiving asks of the store; see `plugin.store.replies`."""

    def store_batch(
        self,
        channel: str,
        messages: Sequence[StoredItem],
        statuses: Sequence[StatusUpdate],
        consents: Sequence[tuple[ConsentChange, str | None]],
        unreadable: Sequence[tuple[Unreadable, str]],
        refusals: Mapping[str, Refusal] = ...,
    ) -> tuple[int, int]: ...
    def take_inbound(self, limit: int, lease_seconds: float) -> list[str]: ...
    def stale_inbound(self, older_than: int, limit: int) -> list[str]: ...
    def finish_inbound(self, inbound_id: str) -> None: ...
    def release_inbound(
        self, inbound_id: str, error: str, *, first_delay: float, max_delay: float, patience: float
    ) -> bool: ...
    def candidates(
        self, connection: Connection, inbound: Inbound, person: Person
    ) -> Mapping[str, Sequence[Candidate]]: ...
    def mark_replied(self, connection: Connection, delivery_id: int, at: int) -> bool: ...
    def save_route(self, connection: Connection, inbound_id: str, **values: Any) -> None: ...
    def delivery_text(self, delivery_id: int) -> str: ...


# --------------------------------------------------------------------------- in
def receive(store: ReceiveStore, connector: Connector, headers: Mapping[str, str], body: bytes) -> Received:
    """Verify, parse, store and commit one webhook body.

    Raises:
        plugin.errors.SignatureError: not from the provider; nothing was stored.
        plugin.errors.Invalid: not the provider's envelope; nothing was stored.
    """
    connector.verify(headers, body)
    events = connector.parse(body)
    messages = [StoredItem(e, Person.of(e.address, e.user_id)) for e in events if isinstance(e, InboundMessage)]
    statuses = [e for e in events if isinstance(e, StatusUpdate)]
    consents = [(e, Person.of(e.address, e.user_id).canonical) for e in events if isinstance(e, ConsentChange)]
    unreadable = [(e, _fingerprint(e)) for e in events if isinstance(e, Unreadable)]
    # A message that was accepted may still fail; its code means what it means in an answer to a send.
    codes = {e.error_code for e in statuses if e.status == DeliveryState.FAILED.value and e.error_code}
    refusals = {code: connector.refusal(code) for code in codes}
    new, repeated = store.store_batch(connector.name, messages, statuses, consents, unreadable, refusals)
    return Received(new, repeated, len(statuses), len(consents), len(unreadable))


def _fingerprint(item: Unreadable) -> str:
    """The same unreadable item posted twice is one row."""
    return "unreadable." + hashlib.sha256(repr(item.raw).encode()).hexdigest()


# --------------------------------------------------------------------------- work
def take_inbound(store: ReceiveStore, *, limit: int, lease_seconds: float = 30.0) -> list[str]:
    """Ids of messages to work on now, leased for `lease_seconds`; in order per person."""
    return store.take_inbound(limit, lease_seconds)


def finish(store: ReceiveStore, inbound_id: str) -> None:
    """The message has had everything it needs, the bot's turn included."""
    store.finish_inbound(inbound_id)


def release(store: ReceiveStore, inbound_id: str, error: str) -> None:
    """Something failed: try again later and later, for `PATIENCE_HOURS`, then set the message aside."""
    if store.release_inbound(
        inbound_id, error, first_delay=FIRST_DELAY, max_delay=MAX_DELAY, patience=PATIENCE_HOURS * 3600
    ):
        log.error("Message %s was set aside after %d hours: %s", inbound_id, PATIENCE_HOURS, error)


def route(store: ReceiveStore, inbound_id: str, *, key: bytes, talk_button: str = DEFAULT_TALK_BUTTON) -> Route:
    """Attribute one stored message and decide where it goes. Asked again, it gives the same answer.

    `key` verifies button tokens; `talk_button` is the label that asks for a conversation.

    Raises:
        NotFound: there is no such message.
    """
    with store.write() as connection:
        inbound = store.inbound(inbound_id, connection)
        if inbound is None:
            raise NotFound("There is no such message.")
        if not inbound.routed:
            _route(store, connection, inbound, key, talk_button)
            inbound = store.inbound(inbound_id, connection)
            assert inbound is not None
    contact = store.contact(inbound.contact_id)
    assert contact is not None
    return _as_route(store, inbound, contact)


def _route(store: ReceiveStore, connection: Connection, inbound: Inbound, key: bytes, talk_button: str) -> None:
    contact = store.contact(inbound.contact_id, connection)
    assert contact is not None
    if inbound.kind in SILENT_KINDS:
        live_case = store.live_case(connection, inbound.contact_id)
        if live_case:
            store.attach_to_case(connection, inbound.id, live_case)
        store.save_route(connection, inbound.id, state="done", note=f"{inbound.kind}: nothing to answer")
        return
    person = Person.of(contact.address, contact.user_ref)
    candidate, proof, note = _attribute(store, connection, inbound, person, key)
    values: dict[str, Any] = {"note": note}
    first = False
    if candidate:
        if candidate.open_at(inbound.at):
            first = store.mark_replied(connection, candidate.delivery_id, inbound.at)
        else:
            values["note"] = "after the reply window"
        values.update(delivery_id=candidate.delivery_id, proof=proof, interaction=first)
    decision = _decide(store, connection, inbound, candidate, proof, first, key, talk_button)
    live_case = store.live_case(connection, inbound.contact_id)
    if live_case:
        # A person is talking to this contact: the bot keeps silent, whatever the broadcast says.
        store.attach_to_case(connection, inbound.id, live_case)
        if decision is None or decision.outcome is not Outcome.OPT_OUT:
            if first:
                decision = Decision(Outcome.HUMAN, why="already in conversation with a person")
                values.update(outcome=decision.outcome, decision=decision)
            values.update(case_id=live_case, redirected_at=store.now(), redirected_by="gate", state="done")
            store.save_route(connection, inbound.id, **values)
            return
    if decision:
        values.update(outcome=decision.outcome, decision=decision)
    store.save_route(connection, inbound.id, **values)


def _attribute(
    store: ReceiveStore, connection: Connection, inbound: Inbound, person: Person, key: bytes
) -> tuple[Candidate | None, str, str]:
    """The attribution ladder. Returns the delivery, the rung that proved it, and a note for people."""
    if inbound.is_tap and inbound.payload and inbound.payload.startswith(BUTTON_PREFIX):
        token = ButtonToken.read(inbound.payload, key)
        found = store.candidate(connection, token.delivery) if token else None
        if found and found.sender == inbound.sender and _same_person(found, person):
            return found, Proof.TOKEN.value, ""
        note = "the button's token is not ours" if found is None else "the button was sent to somebody else"
        return None, "", note
    rungs = store.candidates(connection, inbound, person)
    for found in rungs.get("context", ()):
        if _same_person(found, person):
            return found, Proof.CONTEXT.value, ""
    for rung in (Proof.USER_REF, Proof.RETURNED_ADDRESS):
        found_open = [c for c in rungs.get(rung.value, ()) if c.open_at(inbound.at)]
        if found_open:
            return found_open[0], rung.value, ""
    near = [c for c in rungs.get("number", ()) if c.open_at(inbound.at)]
    if len({c.goes_to for c in near}) == 1:
        return near[0], Proof.NUMBER.value, ""
    if not inbound.is_tap and is_clear_opt_out(inbound.text):
        # "PARAR" needs no window and no certainty about which of our broadcasts was meant: the newest stands for all.
        for rung in (Proof.USER_REF, Proof.RETURNED_ADDRESS, Proof.NUMBER):
            for found in rungs.get(rung.value, ()):
                return found, rung.value, "opt-out outside the reply window or to any of several broadcasts"
    if near:
        return None, "", "two broadcasts with different redirects are equally likely"
    return None, "", ""


def _same_person(candidate: Candidate, person: Person) -> bool:
    """Whether what is known of the author fits the delivery's recipient. Nothing known is no contradiction."""
    if person.user_ref and candidate.user_ref:
        return person.user_ref == candidate.user_ref
    if person.canonical and candidate.canonical:
        return person.canonical == candidate.canonical
    return True


def _decide(
    store: ReceiveStore,
    connection: Connection,
    inbound: Inbound,
    candidate: Candidate | None,
    proof: str,
    first: bool,
    key: bytes,
    talk_button: str,
) -> Decision | None:
    if candidate is None:
        return None
    broadcast, row = store.broadcast_of(connection, candidate.delivery_id)
    template = Template.from_meta(broadcast.template)
    button = _tapped_button(inbound, template, proof, key)
    rule = broadcast.buttons.get(button) if button is not None else None
    if inbound.is_tap:
        # A button of the bot's own may say "Cancelar" and mean an appointment: only the template's buttons opt out.
        opt_out = bool(rule and rule.opt_out)
    else:
        opt_out = is_opt_out(inbound.text) if first else is_clear_opt_out(inbound.text)
    if not first and not opt_out:
        return None
    chosen, _level = choose(rule.redirect if rule else None, row, broadcast.redirect)
    return decide(
        template=template,
        redirect=chosen,
        push_queue=broadcast.push_queue,
        is_tap=button is not None,
        free_text=broadcast.free_text,
        opt_out=opt_out,
        talk_button=template.talk_button(talk_button) is not None,
    )


def _tapped_button(inbound: Inbound, template: Template, proof: str, key: bytes) -> int | None:
    """The index of the template's button that was tapped; None for typed text and for buttons of the bot's own.

    Without a token of ours in it (a template sent by another tool, or before the key changed) a tap is known by
    context and label: Meta returns the label as payload when none was sent along.
    """
    if not inbound.is_tap:
        return None
    token = ButtonToken.read(inbound.payload, key)
    if token is not None:
        return token.button
    if proof != Proof.CONTEXT.value:
        return None
    label = fold(inbound.text)
    return next((b.index for b in template.quick_replies if fold(b.text) == label), None)


def _as_route(store: ReceiveStore, inbound: Inbound, contact: Contact) -> Route:
    if inbound.state != "stored":
        kind: Literal["done", "interaction", "bot"] = "done"
    elif inbound.outcome is not None:
        kind = "interaction"
    else:
        kind = "bot"
    return Route(
        kind=kind,
        inbound_id=inbound.id,
        contact_id=contact.id,
        channel=contact.channel,
        sender=contact.sender,
        address=contact.address,
        user_ref=contact.user_ref,
        text=inbound.text,
        payload=inbound.payload,
        decision=inbound.decision,
        broadcast_text=store.delivery_text(inbound.delivery_id) if inbound.delivery_id else "",
        case_id=inbound.case_id,
        proof=inbound.proof,
        redirected=inbound.redirected,
    )


# --------------------------------------------------------------------------- without Rasa
def sweep(store: ReceiveStore, *, key: bytes, texts: Texts, talk_button: str, older_than: float) -> int:
    """Redirect stored replies that Rasa did not take within `older_than` seconds. Returns how many.

    What only the bot can answer stays stored until the bot is back.
    """
    swept = 0
    for inbound_id in store.stale_inbound(int(older_than * 1_000_000), 200):
        try:
            swept += _sweep_one(store, inbound_id, key, texts, talk_button)
        except Exception:
            # One message that can't be redirected must not keep those behind it waiting.
            log.exception("Message %s could not be redirected without the bot", inbound_id)
    return swept


def _sweep_one(store: ReceiveStore, inbound_id: str, key: bytes, texts: Texts, talk_button: str) -> bool:
    found = route(store, inbound_id, key=key, talk_button=talk_button)
    if found.kind != "interaction" or found.redirected:
        return False
    done = redirect(store, inbound_id, contact_id=None, by="sweeper", texts=texts)
    if not done.bot_reply:
        store.finish_inbound(inbound_id)
    return done.first
