"""THE CONTRACT between the core and a messaging channel.

A channel package offers ``<package>.connector.from_credentials(credentials) -> Connector``. A connector knows the
provider's HTTP shapes and nothing else: no database, no Rasa, no web server. The same object serves the
dispatcher, the webhook and the tests, and is driven from one event loop at a time.

Send errors say what the *core* may do next, not what the provider called them::

    SendError           code, message, raw kept for the report
    ├── NotSent         no byte reached the provider: the row may be claimed again at once
    ├── Refused         definitely not taken; `refusal`, a row of the channel's error table, says how to react
    └── Ambiguous       bytes left and no definite answer came: the row becomes `unknown`, never resent blindly
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, Union

from plugin.domain.refusal import Refusal
from plugin.domain.template import Template


# --------------------------------------------------------------------------- outbound
@dataclass(frozen=True)
class TemplateMessage:
    """A template with its values.

    `body` maps placeholder name to text, in the template's order. `payloads` maps a quick reply's button index to
    the token we want back when it is tapped.
    """

    name: str
    language: str
    body: Mapping[str, str] = field(default_factory=dict)
    named: bool = False
    payloads: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TextMessage:
    """Free text inside the 24-hour window, with at most three reply buttons as ``(id, title)``."""

    text: str
    buttons: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Outbound:
    """One message to one person.

    `sender` is the provider's id of our number, `address` the person's E.164 number with ``+`` ("" when only
    `user_id`, the provider's own id of the person, is known). `correlation` comes back in status events. After
    `not_after` (time.monotonic()) no byte may leave any more: `NotSent`.
    """

    sender: str
    address: str
    content: Union[TemplateMessage, TextMessage]
    user_id: str | None = None
    correlation: str | None = None
    not_after: float | None = None


@dataclass(frozen=True)
class SendResult:
    """The provider accepted the message; that is not delivery.

    `address` is the person's number as the provider knows it (Brazil: may lack the ninth digit), digits only.
    """

    provider_id: str
    address: str | None = None
    user_id: str | None = None
    held: bool = False


class SendError(Exception):
    """Base of what a send may raise; `code` is the provider's own code as text, or one of `plugin.domain.causes`."""

    def __init__(self, message: str, code: str = "", raw: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.raw = dict(raw or {})


class NotSent(SendError):
    """No byte left: connection refused, pool exhausted, name not resolved."""


class Ambiguous(SendError):
    """The request left and no definite answer came back: the message may have been accepted."""


class Refused(SendError):
    """The provider (or the connector on its behalf) definitely did not take the message.

    `refusal` says what the core does about it; `code` is the refusal's. `message` and `raw` are the provider's own
    words, kept for the report. `retry_after` is the wait in seconds that this answer asks for, which wins over the
    table's; None when it asks for none.
    """

    def __init__(
        self,
        refusal: Refusal,
        message: str,
        raw: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, refusal.code, raw)
        self.refusal = refusal
        self.retry_after = retry_after


# --------------------------------------------------------------------------- inbound
@dataclass(frozen=True)
class InboundMessage:
    """A message from a person.

    `address` and `user_id` identify the person (either may be missing, never both); `sender` is our number.
    `payload` is set for a tap on a button and `is_tap` says so even when the payload is empty.
    `context_id` is the provider's id of the message replied to. `raw` is the provider's own object.
    """

    provider_id: str
    sender: str
    address: str | None
    user_id: str | None
    kind: str
    text: str
    at: datetime
    is_tap: bool = False
    payload: str | None = None
    context_id: str | None = None
    profile_name: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StatusUpdate:
    """What became of one of our messages. `status` is one of sent, delivered, read, failed."""

    provider_id: str
    status: str
    at: datetime
    correlation: str | None = None
    address: str | None = None
    user_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None


@dataclass(frozen=True)
class ConsentChange:
    """The provider's own opt-out (or opt-in) event for marketing messages."""

    sender: str
    address: str | None
    user_id: str | None
    stop: bool
    at: datetime


@dataclass(frozen=True)
class Unreadable:
    """An item of a batch that could not be read: kept for a person, never fails its neighbours."""

    reason: str
    raw: Any


InboundEvent = Union[InboundMessage, StatusUpdate, ConsentChange, Unreadable]


# --------------------------------------------------------------------------- the connector
@dataclass(frozen=True)
class Capabilities:
    """What the channel can do, for screens and pre-flight checks."""

    templates: bool = True
    max_buttons: int = 3
    #: Seconds after the person's last message in which free text is allowed; None means no such limit.
    session_window: int | None = 24 * 3600


class Connector(Protocol):
    """A messaging channel. Shapes above; errors of `send` are the `SendError` family only."""

    #: Channel name as Rasa knows it (`InputChannel.name()`).
    name: str
    capabilities: Capabilities
    #: Provider ids of our sending numbers.
    senders: Sequence[str]

    async def send(self, message: Outbound) -> SendResult:
        """Send one message.

        Raises:
            SendError: one of its subclasses, never another exception apart from `asyncio.CancelledError`.
        """
        ...

    def refusal(self, code: str) -> Refusal:
        """What a code means: of an answer, of a `failed` status or as a row of the report keeps it.

        Never raises: a code in no table gets `Refusal.unknown`.
        """
        ...

    async def fetch_templates(self) -> list[Template]:
        """All templates of the account, whatever their status.

        Raises:
            SendError: the provider could not be asked.
        """
        ...

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Check a webhook's signature over its raw body. Header names are compared without case.

        Raises:
            plugin.errors.SignatureError: missing or wrong.
        """
        ...

    def parse(self, body: bytes) -> list[InboundEvent]:
        """Every item of a webhook body, in its order. An item that can't be read becomes `Unreadable`.

        Raises:
            plugin.errors.Invalid: the body as a whole is not the provider's envelope.
        """
        ...

    async def aclose(self) -> None:
        """Close connections. The object can't be used afterwards."""
        ...
