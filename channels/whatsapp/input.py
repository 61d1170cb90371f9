"""The Rasa side of WhatsApp: the webhook, mounted on Rasa's server at ``/webhooks/whatsapp``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from rasa.core.channels.channel import InputChannel, OutputChannel, UserMessage
from rasa.shared.exceptions import RasaException
from sanic import Blueprint, response
from sanic.request import Request
from sanic.response import HTTPResponse

from channels.base.runtime import Runtime, attach, runtime_of
from channels.base.webhook import READ_SECONDS, BodyTooLarge, read_body
from channels.whatsapp.connector import WhatsAppConnector, from_credentials
from plugin.errors import Invalid, SignatureError, VamosError
from plugin.usecases.receive import receive

log = logging.getLogger(__name__)

#: Largest webhook body (Meta, "Webhooks": "payloads can be up to 3 MB").
MAX_BODY = 3 * 1024 * 1024


class WhatsAppInput(InputChannel):
    """In ``credentials.yml``: ``channels.whatsapp.WhatsAppInput:`` with the keys of `channels.whatsapp.connector`."""

    def __init__(self, credentials: Mapping[str, Any]) -> None:
        # Built to check the credentials and to answer the handshake; it opens nothing until it sends.
        self._connector: WhatsAppConnector = from_credentials(credentials)
        self._runtime: Runtime | None = None

    @classmethod
    def name(cls) -> str:
        return "whatsapp"

    @classmethod
    def from_credentials(cls, credentials: dict[str, Any] | None) -> InputChannel:
        try:
            return cls(credentials or {})
        except VamosError as error:
            raise RasaException(str(error)) from error

    def get_output_channel(self) -> OutputChannel | None:
        """For reminders, ``/trigger_intent`` and other turns that no message began. None before the server starts."""
        return self._runtime.output(self.name()) if self._runtime is not None else None

    def blueprint(self, on_new_message: Callable[[UserMessage], Awaitable[Any]]) -> Blueprint:
        # The gate, not `on_new_message`, hands messages to Rasa: only after they are stored, and in order.
        blueprint = Blueprint("vamos_whatsapp")
        attach(blueprint)

        async def remember(app: Any, *_: Any) -> None:
            self._runtime = runtime_of(app)

        blueprint.listener("before_server_start")(remember)

        @blueprint.get("/")
        async def health(_: Request) -> HTTPResponse:
            return response.json({"status": "ok"})

        @blueprint.get("/webhook")
        async def handshake(request: Request) -> HTTPResponse:
            query = {name: values[0] for name, values in request.args.items()}
            try:
                # Plain text: the challenge comes from the query and must never be read as HTML.
                return response.text(self._connector.handshake(query))
            except SignatureError as error:
                return response.text(error.message, status=403)

        @blueprint.post("/webhook", stream=True)
        async def webhook(request: Request) -> HTTPResponse:
            runtime = runtime_of(request.app)
            try:
                body = await read_body(request, MAX_BODY)
            except BodyTooLarge:
                return response.text("The body is larger than 3 MB.", status=413)
            except asyncio.TimeoutError:
                log.warning("A webhook's body did not arrive within %g s", READ_SECONDS)
                return response.text("The body did not arrive in time.", status=408)
            try:
                services = runtime.services
                received = await asyncio.to_thread(
                    receive, services.store, services.connector(self.name()), request.headers, body
                )
            except SignatureError as error:
                log.warning("A webhook was refused: %s", error)
                return response.text(error.message, status=401)
            except Invalid as error:
                log.warning("A webhook could not be read: %s", error)
                return response.text(error.message, status=400)
            except Exception:
                # Ours to mend: the provider tries again for days.
                log.exception("A webhook could not be stored")
                return response.text("Try again.", status=500)
            if received.messages or received.consents:
                runtime.wake()
            return response.text("ok")

        return blueprint
