"""The WhatsApp Cloud API as a `plugin.connector.Connector`. No Rasa, no database, no web server."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from channels.base.http import AiohttpTransport
from channels.whatsapp.errors import not_understood, of_transport, refused
from channels.whatsapp.refusals import explain
from channels.whatsapp.requests import MAX_BUTTONS, send_body
from channels.whatsapp.webhooks import parse
from plugin.connector import (
    Capabilities,
    InboundEvent,
    NotSent,
    Outbound,
    Refused,
    SendResult,
)
from plugin.domain.refusal import Refusal
from plugin.domain.template import Template
from plugin.errors import ConfigurationError, SignatureError

logger = logging.getLogger(__name__)

_TIMEOUT = httpx.Timeout(connect=5, read=20, write=10, pool=10)
_TEMPLATE_FIELDS = "id,name,language,status,category,parameter_format,quality_score,components,rejected_reason"
_MAX_TEMPLATE_PAGES = 100


@dataclass(frozen=True)
class WhatsAppCredentials:
    """What ``credentials.yml`` says about the account. Secrets never show in its `repr`."""

    phone_number_id: str
    waba_id: str
    access_token: str = field(repr=False)
    #: Several while a secret is being rotated; any of them may sign a webhook.
    app_secrets: tuple[str, ...] = field(repr=False)
    verify_token: str = field(default="", repr=False)
    base_url: str = "https://graph.facebook.com"
    graph_version: str = "v23.0"
    connections: int = 100
    proxy: str | None = field(default=None, repr=False)


class WhatsAppConnector:
    """One sending number of one WhatsApp Business Account.

    Args:
        transport: replaces the wire, for tests.
    """

    name = "whatsapp"
    capabilities = Capabilities(templates=True, max_buttons=MAX_BUTTONS, session_window=24 * 3600)

    def __init__(self, credentials: WhatsAppCredentials, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._credentials = credentials
        self.senders: Sequence[str] = (credentials.phone_number_id,)
        #: Statuses that were read but mean nothing to the core, by name.
        self.ignored_statuses: Counter[str] = Counter()
        self._secrets = tuple(secret.encode() for secret in credentials.app_secrets)
        self._transport = transport or AiohttpTransport(limit=credentials.connections, proxy=credentials.proxy)
        self._client = httpx.AsyncClient(
            base_url=f"{credentials.base_url.rstrip('/')}/{credentials.graph_version}/",
            headers={"Authorization": f"Bearer {credentials.access_token}", "User-Agent": "vamos"},
            transport=self._transport,
            timeout=_TIMEOUT,
            trust_env=False,
        )
        self._message = self._client.build_request(
            "POST", f"{credentials.phone_number_id}/messages", headers={"Content-Type": "application/json"}
        )
        del self._message.headers["Content-Length"]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._credentials!r})"

    async def send(self, message: Outbound) -> SendResult:
        """See `plugin.connector.Connector.send`."""
        if message.sender not in self.senders:
            raise Refused(explain("local_sender"), f"{message.sender!r} is not a sending number of this account.")
        try:
            content = orjson.dumps(send_body(message))
        except orjson.JSONEncodeError as error:  # half of a surrogate pair
            raise Refused(explain("local_text"), "The text holds a character that is not Unicode.") from error
        extensions = self._message.extensions
        if message.not_after is not None:
            extensions = {**extensions, "not_after": message.not_after}
        request = httpx.Request(
            "POST", self._message.url, headers=self._message.headers, content=content, extensions=extensions
        )
        answer = await self._ask(request)
        try:
            body = orjson.loads(answer.content)
            sent = body["messages"][0]
            provider_id = sent["id"]
            if not isinstance(provider_id, str) or not provider_id:
                raise TypeError("message id")
        except (LookupError, TypeError, ValueError) as error:
            raise not_understood(answer) from error
        contacts = body.get("contacts")
        contact = contacts[0] if isinstance(contacts, list) and contacts and isinstance(contacts[0], dict) else {}
        user_id = contact.get("user_id")
        return SendResult(
            provider_id=provider_id,
            address=_digits(contact.get("wa_id")),
            user_id=user_id if isinstance(user_id, str) and user_id else None,
            held=sent.get("message_status", "accepted") != "accepted",
        )

    def refusal(self, code: str) -> Refusal:
        """See `plugin.connector.Connector.refusal`."""
        return explain(code)

    async def fetch_templates(self) -> list[Template]:
        """See `plugin.connector.Connector.fetch_templates`."""
        templates: list[Template] = []
        params = {"fields": _TEMPLATE_FIELDS, "limit": "100"}
        for _page in range(_MAX_TEMPLATE_PAGES):
            path = f"{self._credentials.waba_id}/message_templates"
            answer = await self._ask(self._client.build_request("GET", path, params=params))
            try:
                page = orjson.loads(answer.content)
                items, paging = page["data"], page.get("paging") or {}
                templates += [Template.from_meta(item) for item in items]
                # `paging.next` is an address with our token in it, on a host of their choice: only the cursor is used.
                after = paging["cursors"]["after"] if paging.get("next") else None
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                raw = {"error": repr(error)}
                raise Refused(explain("templates"), "The list of templates can't be read.", raw) from error
            if after is None or after == params.get("after"):
                return templates
            params["after"] = after
        raise Refused(explain("templates"), f"The list of templates has more than {_MAX_TEMPLATE_PAGES} pages.")

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        """The answer to one request if it is a success.

        Straight from the transport: httpx's client, looking for cookies, redirects and logins that don't exist here,
        costs nearly as much processor time as the exchange itself (0.26 ms of 0.61 ms a message).

        Raises:
            SendError: refused, or no definite answer.
        """
        if self._client.is_closed:
            raise NotSent("The connector is closed.", "closed")
        try:
            answer = await self._transport.handle_async_request(request)
            await answer.aread()
        except httpx.RequestError as error:
            raise of_transport(error) from error
        if answer.is_success:
            return answer
        failure = refused(answer, (self._credentials.access_token, *self._credentials.app_secrets))
        logger.debug("Meta refused a request: %s (%s)", failure.code, type(failure).__name__)
        raise failure

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Check ``X-Hub-Signature-256``; see `plugin.connector.Connector.verify`."""
        given = next((value for name, value in headers.items() if name.lower() == "x-hub-signature-256"), "")
        if not given.startswith("sha256="):
            raise SignatureError("The webhook has no X-Hub-Signature-256.", "Only Meta's servers may call this one.")
        claimed = given[len("sha256=") :].strip().encode("utf-8", "replace")
        # Every secret is tried, so that the time taken tells nothing about which one fits.
        fits = [
            hmac.compare_digest(hmac.new(secret, body, hashlib.sha256).hexdigest().encode(), claimed)
            for secret in self._secrets
        ]
        if not any(fits):
            raise SignatureError("The webhook's signature is wrong.", "Check app_secret in credentials.yml.")

    def handshake(self, query: Mapping[str, str]) -> str:
        """The challenge to send back when Meta verifies the webhook's address with a GET.

        Args:
            query: first value of each query parameter.

        Raises:
            SignatureError: not a subscription, or another verify token than ours.
        """
        token = query.get("hub.verify_token", "").encode("utf-8", "replace")
        expected = self._credentials.verify_token.encode()
        if query.get("hub.mode") != "subscribe" or not expected or not hmac.compare_digest(token, expected):
            raise SignatureError("The verify token is wrong.", "Check verify_token in credentials.yml.")
        return query.get("hub.challenge", "")

    def parse(self, body: bytes) -> list[InboundEvent]:
        """See `plugin.connector.Connector.parse`."""
        return parse(body, self._credentials.phone_number_id, self.ignored_statuses)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def from_credentials(credentials: Mapping[str, Any] | None) -> WhatsAppConnector:
    """The connector for one block of ``credentials.yml``. Opens nothing.

    Keys: `phone_number_id`, `waba_id`, `access_token`, `app_secret` (one, or a list while rotating) and `verify_token`;
    optional `base_url`, `graph_version`, `connections`, `proxy`.

    Raises:
        ConfigurationError: a key is missing or of the wrong kind; names the key, never its value.
    """
    given = credentials or {}
    if not isinstance(given, Mapping):
        raise _wrong("the block", "must hold keys and values")
    secrets = given.get("app_secret")
    listed = secrets if isinstance(secrets, (list, tuple)) else [secrets]
    if not listed or any(not isinstance(one, (str, int)) or not str(one).strip() for one in listed):
        raise _wrong("app_secret", "is missing")
    base_url = str(given.get("base_url") or WhatsAppCredentials.base_url)
    if not base_url.startswith(("https://", "http://")) or not _host(base_url):
        raise _wrong("base_url", "must be an address like https://graph.facebook.com")
    version = str(given.get("graph_version") or WhatsAppCredentials.graph_version)
    if not version.startswith("v"):
        raise _wrong("graph_version", "must look like v23.0")
    connections = given.get("connections", WhatsAppCredentials.connections)
    if not isinstance(connections, int) or not 1 <= connections <= 2000:
        raise _wrong("connections", "must be a whole number from 1 to 2000")
    return WhatsAppConnector(
        WhatsAppCredentials(
            phone_number_id=_identifier(given, "phone_number_id"),
            waba_id=_identifier(given, "waba_id"),
            access_token=_required(given, "access_token"),
            app_secrets=tuple(str(one).strip() for one in listed),
            verify_token=_required(given, "verify_token"),
            base_url=base_url,
            graph_version=version,
            connections=connections,
            proxy=str(given["proxy"]) if given.get("proxy") else None,
        )
    )


def _host(url: str) -> str:
    try:
        return httpx.URL(url).host
    except httpx.InvalidURL:
        return ""


def _required(given: Mapping[str, Any], key: str) -> str:
    value = given.get(key)
    if not isinstance(value, (str, int)) or isinstance(value, bool) or not str(value).strip():
        raise _wrong(key, "is missing")
    text = str(value).strip()
    if not text.isascii() or not text.isprintable():
        raise _wrong(key, "holds a character that can't be sent")
    return text


def _identifier(given: Mapping[str, Any], key: str) -> str:
    text = _required(given, key)
    if not text.isdigit():
        raise _wrong(key, "must be digits only (Meta's id, not the phone number itself)")
    return text


def _wrong(key: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"credentials.yml: channels.whatsapp.WhatsAppInput: {key} {what}.",
        "Meta's app dashboard shows these values under WhatsApp > API setup, app_secret under App settings > Basic.",
    )


def _digits(value: Any) -> str | None:
    text = "".join(c for c in value if c.isdigit()) if isinstance(value, str) else ""
    return text or None
