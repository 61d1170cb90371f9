"""Mounts `plugin.web` at ``/desk`` on Rasa's server and starts the embedded dispatcher beside it.

In ``credentials.yml``: ``channels.desk.DeskInput: {}``. No messages come in here; it is a channel because that is how
Rasa lets a plugin onto its server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from rasa.core.channels.channel import InputChannel, UserMessage
from sanic import Blueprint

from channels.base.runtime import Runtime, attach, runtime_of
from plugin.bootstrap import Services
from plugin.web import PREFIX, desk_blueprint


class DeskInput(InputChannel):
    """The desk."""

    def __init__(self) -> None:
        self._runtime: Runtime | None = None

    @classmethod
    def name(cls) -> str:
        return "desk"

    @classmethod
    def from_credentials(cls, credentials: dict[str, Any] | None) -> InputChannel:
        return cls()

    def url_prefix(self) -> str:
        """Absolute, so that Rasa's ``/webhooks/`` is not put before it (it joins the two as addresses)."""
        return PREFIX

    def _services(self) -> Services:
        if self._runtime is None:
            raise RuntimeError("The server has not started yet.")
        return self._runtime.services

    def blueprint(self, on_new_message: Callable[[UserMessage], Awaitable[Any]]) -> Blueprint:
        blueprint = desk_blueprint(self._services)

        async def remember(app: Any, *_: Any) -> None:
            self._runtime = runtime_of(app)

        blueprint.listener("before_server_start")(remember)
        attach(blueprint, dispatcher=True)
        return blueprint
