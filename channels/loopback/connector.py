"""A `plugin.connector.Connector` that keeps what it is given and plays what it is told."""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import datetime, timezone
from typing import Any

import orjson

from plugin.connector import (
    Ambiguous,
    Capabilities,
    ConsentChange,
    InboundEvent,
    InboundMessage,
    Outbound,
    Refused,
    SendError,
    SendResult,
    StatusUpdate,
    TemplateMessage,
    Unreadable,
)
from plugin.domain.causes import of_code
from plugin.domain.refusal import Refusal
from plugin.domain.template import Template
from plugin.errors import ConfigurationError, Invalid, SignatureError

SIGNATURE = "X-Loopback-Signature"

_KINDS = {"message": InboundMessage, "status": StatusUpdate, "consent": ConsentChange}


class LoopbackConnector:
    """Records each accepted message in `sent`; `templates` may be changed at any time."""

    name = "loopback"
    capabilities = Capabilities()

    def __init__(self, sender: str, secret: str, templates: Iterable[Template] = ()) -> None:
        self.senders: Sequence[str] = (sender,)
        self.templates = list(templates)
        self.sent: list[tuple[Outbound, SendResult]] = []
        #: The error table, by code; a test fills it.
        self.refusals: dict[str, Refusal] = {}
        self._secret = secret.encode()
        self._failures: deque[SendError] = deque()
        self._refused: dict[str, Callable[[], SendError]] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}(sender={self.senders[0]!r})"

    # ------------------------------------------------------------------ steering
    def fail_next(self, *errors: SendError) -> None:
        """The next sends raise these, one each. An `Ambiguous` one is recorded as sent first: that is its point."""
        self._failures.extend(errors)

    def refuse(self, address: str, error: Callable[[], SendError]) -> None:
        """Every send to `address` raises what `error()` makes."""
        self._refused[address] = error

    def webhook(self, *events: InboundMessage | StatusUpdate | ConsentChange) -> tuple[dict[str, str], bytes]:
        """Headers and body that `verify` accepts and `parse` reads back as `events`."""
        names = {kind: name for name, kind in _KINDS.items()}
        items = [{"event": names[type(one)], **_plain(one)} for one in events]
        body = orjson.dumps({"loopback": items})
        return self.signed(body), body

    def signed(self, body: bytes) -> dict[str, str]:
        """Headers that `verify` accepts for `body`."""
        return {SIGNATURE: hmac.new(self._secret, body, hashlib.sha256).hexdigest()}

    # ------------------------------------------------------------------ the contract
    async def send(self, message: Outbound) -> SendResult:
        """See `plugin.connector.Connector.send`."""
        if self._closed or message.sender not in self.senders:
            why = "The connector is closed." if self._closed else "Not our number."
            raise Refused(self.refusal("local_sender"), why)
        if not message.address and not message.user_id:
            raise Refused(self.refusal("local_address"), "The message has neither a number nor a user id.")
        content = message.content
        if isinstance(content, TemplateMessage) and self._template(content) is None:
            raise Refused(self.refusal("template"), f"There is no approved template {content.name!r}.")
        if message.address in self._refused:
            raise self._refused[message.address]()
        failure = self._failures.popleft() if self._failures else None
        accepted = SendResult(f"loopback.{len(self.sent) + 1}", message.address.lstrip("+") or None, message.user_id)
        if failure is None or isinstance(failure, Ambiguous):
            self.sent.append((message, accepted))
        if failure is not None:
            raise failure
        return accepted

    def _template(self, content: TemplateMessage) -> Template | None:
        wanted = (content.name, content.language)
        return next((one for one in self.templates if one.approved and (one.name, one.language) == wanted), None)

    def refusal(self, code: str) -> Refusal:
        """See `plugin.connector.Connector.refusal`."""
        return self.refusals.get(code) or of_code(code) or Refusal.unknown(code)

    async def fetch_templates(self) -> list[Template]:
        """See `plugin.connector.Connector.fetch_templates`."""
        return [replace(one) for one in self.templates]

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """See `plugin.connector.Connector.verify`."""
        given = next((value for name, value in headers.items() if name.lower() == SIGNATURE.lower()), "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self.signed(body)[SIGNATURE].encode()):
            raise SignatureError(f"{SIGNATURE} is missing or wrong.")

    def parse(self, body: bytes) -> list[InboundEvent]:
        """See `plugin.connector.Connector.parse`."""
        try:
            items = orjson.loads(body)["loopback"]
        except (orjson.JSONDecodeError, LookupError, TypeError) as error:
            raise Invalid("The body is not a loopback batch.") from error
        if not isinstance(items, list):
            raise Invalid("The body is not a loopback batch.")
        return [_event(item) for item in items]

    async def aclose(self) -> None:
        """See `plugin.connector.Connector.aclose`."""
        self._closed = True


def from_credentials(credentials: Mapping[str, Any] | None) -> LoopbackConnector:
    """Keys: `sender` and `secret`."""
    given = credentials or {}
    for key in ("sender", "secret"):
        if not given.get(key):
            raise ConfigurationError(f"credentials.yml: channels.loopback: {key} is missing.")
    return LoopbackConnector(str(given["sender"]), str(given["secret"]))


def _plain(event: Any) -> dict[str, Any]:
    if not is_dataclass(event):
        raise TypeError(f"{event!r} is not an event")
    return {one.name: getattr(event, one.name) for one in fields(event)}


def _event(item: Any) -> InboundEvent:
    try:
        given = dict(item)
        kind = _KINDS[given.pop("event")]
        at = datetime.fromisoformat(given.pop("at"))
        return kind(**given, at=at.astimezone(timezone.utc))
    except (LookupError, TypeError, ValueError) as error:
        return Unreadable(f"{type(error).__name__}: {error}", item)
