"""Send one claimed row and say what became of it. Pacing and claiming are the loop's business (`plugin.dispatch`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from plugin.connector import (
    Ambiguous,
    Blocked,
    Connector,
    NotSent,
    Outbound,
    Rejected,
    SendError,
    SendResult,
    TemplateMessage,
    TextMessage,
    Throttled,
    Transient,
)
from plugin.domain.correlation import Correlation
from plugin.domain.delivery import DeliveryState
from plugin.domain.template import Template
from plugin.domain.token import ButtonToken

log = logging.getLogger(__name__)

#: Attempts for an error that trying later may cure.
MAX_ATTEMPTS = 3
#: Seconds until the first new try; each further one waits twice as long.
RETRY_SECONDS = 1.0
#: Seconds until something is tried again that only a person can put right.
BLOCKED_SECONDS = 30.0


@dataclass(frozen=True)
class Claimed:
    """A delivery this process may send, once. `variables` is JSON text {placeholder: value}."""

    id: int
    broadcast_id: str
    sender: str
    address: str
    variables: str | None
    attempts: int
    claimed_at: int


@dataclass(frozen=True)
class QueuedMessage:
    """A message of an agent or of the system this process may send, once. `buttons` is JSON text [[id, title]…]."""

    id: int
    channel: str
    sender: str
    address: str | None
    user_ref: str | None
    text: str
    buttons: str
    attempts: int
    claimed_at: int


@dataclass(frozen=True)
class Settlement:
    """What became of a claimed row.

    `claimed_at` names the claim it answers (microseconds UTC). State `queued` gives the row back: after `delay`
    seconds it may be claimed again; `refund` when the refusal was not
    this recipient's fault and costs no attempt. `slow_down` asks the whole sending number to wait so many seconds;
    `blocked` says why the whole broadcast must stop.
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
    refund: bool = False
    slow_down: float = 0.0
    blocked: str = ""


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
    connector: Connector, template: Template, claimed: Claimed, key: bytes, installation: str
) -> Settlement:
    """Send one delivery. Never raises for what the provider did."""
    message = Outbound(
        sender=claimed.sender,
        address=claimed.address,
        content=template_message(template, claimed, key),
        correlation=str(Correlation("d", claimed.id, claimed.attempts, installation)),
    )
    return await _send(connector, message, claimed.id, claimed.claimed_at, claimed.attempts)


async def send_message(connector: Connector, queued: QueuedMessage, installation: str) -> Settlement:
    """Send one message of an agent or of the system."""
    buttons = tuple((str(i), str(title)) for i, title in orjson.loads(queued.buttons))
    message = Outbound(
        sender=queued.sender,
        address=queued.address or "",
        user_id=queued.user_ref if not queued.address else None,
        content=TextMessage(queued.text, buttons),
        correlation=str(Correlation("m", queued.id, queued.attempts, installation)),
    )
    return await _send(connector, message, queued.id, queued.claimed_at, queued.attempts)


async def _send(connector: Connector, message: Outbound, row: int, claim: int, attempts: int) -> Settlement:
    try:
        return _accepted(await connector.send(message), row, claim)
    except SendError as error:
        return _refused(error, row, claim, attempts)
    except Exception as error:
        # A connector must not raise anything else; when it does, nobody knows whether bytes left.
        log.exception("The connector %s failed in a way it should not", connector.name)
        return Settlement(row, claim, DeliveryState.UNKNOWN, error_code="connector", error=type(error).__name__)


def _accepted(result: SendResult, row: int, claim: int) -> Settlement:
    return Settlement(
        row, claim, DeliveryState.SENT, provider_id=result.provider_id, address=result.address, user_ref=result.user_id
    )


def _refused(error: SendError, row: int, claim: int, attempts: int) -> Settlement:
    code, text = error.code or type(error).__name__, error.message
    if isinstance(error, Ambiguous):
        return Settlement(row, claim, DeliveryState.UNKNOWN, error_code=code, error=text)
    if isinstance(error, Throttled):
        wait = error.retry_after
        return Settlement(
            row, claim, DeliveryState.QUEUED, error_code=code, error=text, delay=wait, refund=True, slow_down=wait
        )
    if isinstance(error, NotSent):
        return Settlement(
            row,
            claim,
            DeliveryState.QUEUED,
            error_code=code,
            error=text,
            delay=RETRY_SECONDS,
            refund=True,
            slow_down=RETRY_SECONDS,
        )
    if isinstance(error, Blocked):
        reason = f"{text} (código {code})"
        return Settlement(
            row, claim, DeliveryState.QUEUED, error_code=code, error=text,
            delay=BLOCKED_SECONDS, refund=True, blocked=reason,
        )  # fmt: skip
    if isinstance(error, Transient) and attempts < MAX_ATTEMPTS:
        return Settlement(
            row, claim, DeliveryState.QUEUED, error_code=code, error=text, delay=RETRY_SECONDS * 2**attempts
        )
    if not isinstance(error, (Rejected, Transient)):
        log.warning("A send error of no known class was taken as final: %s", type(error).__name__)
    return Settlement(row, claim, DeliveryState.FAILED, error_code=code, error=text)
