"""Send one claimed row and say what became of it. Pacing and claiming are the loop's business (`plugin.dispatch`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from plugin.connector import (
    Ambiguous,
    Connector,
    NotSent,
    Outbound,
    Refused,
    SendResult,
    TemplateMessage,
    TextMessage,
)
from plugin.domain.correlation import Correlation
from plugin.domain.delivery import DeliveryState
from plugin.domain.refusal import Reaction, Refusal
from plugin.domain.template import Template
from plugin.domain.token import ButtonToken
from plugin.usecases.reconcile import Mark

log = logging.getLogger(__name__)

#: Seconds until something is tried again that never left this machine.
NOT_SENT_SECONDS = 1.0
#: Seconds until a message is tried again that only a person can help (a delivery waits for its paused broadcast).
PAUSED_SECONDS = 30.0
PAUSED_ATTEMPTS = 20
#: What a row raises whose stored values are not what they should be.
_UNSPEAKABLE = (ValueError, TypeError, AttributeError, LookupError)
#: Meta asks to wait 4^X seconds for one person; X grows with the attempts up to this (17 minutes).
_LONGEST_WAIT = 5


@dataclass(frozen=True)
class ClaimRules:
    """What a claim obeys apart from the broadcast's own choices.

    `rate`: messages per second of a sending number that has none of its own. `horizon`: microseconds that places may
    lie ahead. `quiet`: microseconds of silence after which a conversation with the bot is over. `frequency`: at most
    so many broadcasts per person within so many microseconds (0: no cap). `daily`: different people a number may
    write to in 24 hours (0: no limit). `known`: the database as the dispatcher last knew it; in another one, or in an
    older copy of it, nothing is claimed (None: not asked).
    """

    rate: float = 1000.0
    horizon: int = 10_000
    quiet: int = 0
    frequency: tuple[int, int] = (0, 0)
    daily: int = 0
    known: Mark | None = None


@dataclass(frozen=True)
class Claimed:
    """A delivery this process may send, once, at `send_at` (microseconds UTC).

    `variables` is JSON text {placeholder: value}. `attempts` counts claims, this one included; `tries` the refusals
    that counted so far.
    """

    id: int
    broadcast_id: str
    sender: str
    address: str
    variables: str | None
    attempts: int
    tries: int
    claimed_at: int
    send_at: int
    #: The provider had been failing: a success is worth telling.
    unwell: bool = False


@dataclass(frozen=True)
class Claim:
    """What a claim brought, and when asking again makes sense (microseconds UTC; None: nothing waits).

    `interval`: microseconds between two messages of the sending number, for whoever falls behind. `claims`: how many
    the number has had, these included.
    """

    rows: list[Claimed] = field(default_factory=list)
    again_at: int | None = None
    interval: int = 0
    claims: int = 0


@dataclass(frozen=True)
class QueuedMessage:
    """A message of an agent or of the system this process may send, once, at `send_at` (microseconds UTC).

    Where it is late, not sooner than `interval` microseconds after the number's last. `buttons` is JSON text
    [[id, title]…].
    """

    id: int
    channel: str
    sender: str
    address: str | None
    user_ref: str | None
    text: str
    buttons: str
    attempts: int
    claimed_at: int
    send_at: int
    interval: int
    unwell: bool = False


@dataclass(frozen=True)
class Settlement:
    """What became of a claimed row.

    `claimed_at` names the claim it answers (microseconds UTC), and for a success `attempt` too (None: not known).
    States `queued` and `deferred` give the row back, the latter for `delay` seconds; `counts` when the refusal used
    up one of the recipient's tries.

    The rest concerns more than this row. `sender`: the sending number, when the answer says something about it;
    `trouble`: the provider is unwell (for its breaker); `back_off`: the whole number waits so many seconds; `pause`:
    the refusal that stops the whole broadcast `broadcast_id`; `suppress`: the person asked the provider not to hear
    from us.
    """

    id: int
    claimed_at: int
    state: DeliveryState
    provider_id: str | None = None
    address: str | None = None
    user_ref: str | None = None
    error_code: str | None = None
    error: str | None = None
    delay: float = 0.0
    counts: bool = False
    sender: str = ""
    broadcast_id: str = ""
    trouble: bool = False
    back_off: float = 0.0
    pause: Refusal | None = None
    suppress: bool = False
    attempt: int | None = None


def template_message(template: Template, claimed: Claimed, key: bytes) -> TemplateMessage:
    """The template with the row's frozen values and a signed token behind each quick reply."""
    values: Mapping[str, str] = orjson.loads(claimed.variables) if claimed.variables else {}
    return TemplateMessage(
        name=template.name,
        language=template.language,
        body={name: values.get(name, "") for name in template.parameters},
        named=template.named,
        payloads={b.index: ButtonToken(claimed.id, b.index).sign(key) for b in template.quick_replies},
    )


async def send_delivery(
    connector: Connector, template: Template, claimed: Claimed, key: bytes, installation: str, not_after: float
) -> Settlement:
    """Send one delivery if it can begin by `not_after` (time.monotonic()). Never raises for what the provider did."""
    try:
        content = template_message(template, claimed, key)
    except _UNSPEAKABLE as error:
        return _unspeakable(claimed, error)
    message = Outbound(
        sender=claimed.sender,
        address=claimed.address,
        content=content,
        correlation=str(Correlation("d", claimed.id, claimed.attempts, installation)),
        not_after=not_after,
    )
    return await _send(connector, message, claimed, claimed.tries)


async def send_message(connector: Connector, queued: QueuedMessage, installation: str, not_after: float) -> Settlement:
    """Send one message of an agent or of the system, as `send_delivery` does."""
    try:
        buttons = tuple((str(i), str(title)) for i, title in orjson.loads(queued.buttons))
    except _UNSPEAKABLE as error:
        return _unspeakable(queued, error)
    message = Outbound(
        sender=queued.sender,
        address=queued.address or "",
        user_id=queued.user_ref if not queued.address else None,
        content=TextMessage(queued.text, buttons),
        correlation=str(Correlation("m", queued.id, queued.attempts, installation)),
        not_after=not_after,
    )
    return await _send(connector, message, queued, queued.attempts - 1)


async def _send(connector: Connector, message: Outbound, row: Claimed | QueuedMessage, tries: int) -> Settlement:
    try:
        return _accepted(row, await connector.send(message))
    except Refused as error:
        return _refused(row, error, tries)
    except NotSent as error:
        return not_sent(row, error.code or type(error).__name__, error.message, trouble=True)
    except Ambiguous as error:
        return Settlement(
            row.id, row.claimed_at, DeliveryState.UNKNOWN, sender=row.sender, trouble=True,
            error_code=error.code or "Ambiguous", error=error.message,
        )  # fmt: skip
    except (Exception, asyncio.CancelledError) as error:
        # A connector must not raise anything else, nor hang until it is cancelled; when it does, nobody knows whether
        # bytes left.
        log.exception("The connector %s failed in a way it should not", connector.name)
        return Settlement(
            row.id, row.claimed_at, DeliveryState.UNKNOWN, error_code="connector", error=type(error).__name__
        )


def _unspeakable(row: Claimed | QueuedMessage, error: Exception) -> Settlement:
    log.error("Row %d can't be put into words", row.id, exc_info=error)
    return Settlement(
        row.id, row.claimed_at, DeliveryState.FAILED, error_code="message", error=type(error).__name__,
        broadcast_id=row.broadcast_id if isinstance(row, Claimed) else "",
    )  # fmt: skip


def not_sent(row: Claimed | QueuedMessage, code: str, error: str, *, trouble: bool = False) -> Settlement:
    """Give a row back of which no byte left: it costs no try."""
    return Settlement(
        row.id, row.claimed_at, DeliveryState.DEFERRED, error_code=code, error=error, delay=NOT_SENT_SECONDS,
        sender=row.sender, trouble=trouble,
    )  # fmt: skip


def _accepted(row: Claimed | QueuedMessage, result: SendResult) -> Settlement:
    return Settlement(
        row.id, row.claimed_at, DeliveryState.SENT, provider_id=result.provider_id, address=result.address,
        user_ref=result.user_id, sender=row.sender if row.unwell else "", attempt=row.attempts,
    )  # fmt: skip


@dataclass(frozen=True)
class Consequence:
    """What a refusal means for its row: the state it gets, for how many seconds, and whether that used up a try."""

    state: DeliveryState
    delay: float = 0.0
    counts: bool = False


def consequence(refusal: Refusal, attempts: int, tries: int, retry_after: float | None = None) -> Consequence:
    """The same for an answer of the provider and for a `failed` status that comes later."""
    reaction = refusal.reaction
    if reaction is Reaction.PAUSE:
        return Consequence(DeliveryState.QUEUED, PAUSED_SECONDS)
    if reaction is Reaction.BACK_OFF:
        return Consequence(DeliveryState.DEFERRED, retry_after or refusal.seconds)
    if reaction is Reaction.WAIT:
        return Consequence(DeliveryState.DEFERRED, max(4.0 ** min(attempts - 1, _LONGEST_WAIT), retry_after or 0.0))
    if reaction is Reaction.RETRY and tries < refusal.tries:
        return Consequence(DeliveryState.DEFERRED, retry_after or refusal.seconds * 2**tries, counts=True)
    if reaction is Reaction.DEFER and tries < refusal.tries:
        return Consequence(DeliveryState.DEFERRED, max(refusal.seconds, retry_after or 0.0), counts=True)
    return Consequence(DeliveryState.FAILED)


def _refused(row: Claimed | QueuedMessage, error: Refused, tries: int) -> Settlement:
    refusal = error.refusal
    found = consequence(refusal, row.attempts, tries, error.retry_after)
    if isinstance(row, QueuedMessage) and refusal.reaction is Reaction.PAUSE and row.attempts >= PAUSED_ATTEMPTS:
        found = Consequence(DeliveryState.FAILED)  # those behind it have waited long enough
    back_off = found.delay if refusal.reaction is Reaction.BACK_OFF else 0.0
    return Settlement(
        row.id,
        row.claimed_at,
        found.state,
        error_code=error.code,
        error=error.message,
        delay=found.delay,
        counts=found.counts,
        # A definite answer about a person says that the provider is well.
        sender=row.sender if back_off or refusal.unwell or row.unwell else "",
        broadcast_id=row.broadcast_id if isinstance(row, Claimed) else "",
        trouble=refusal.unwell,
        back_off=back_off,
        pause=refusal if refusal.reaction is Reaction.PAUSE else None,
        suppress=refusal.reaction is Reaction.SUPPRESS,
    )
