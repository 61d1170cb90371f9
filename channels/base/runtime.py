"""What the channels of one Rasa process share: the services, one gate, and the embedded dispatcher.

Each channel's blueprint calls `attach`; whatever the number of channels, a process has one of each. Nothing is opened
before the server starts: Rasa builds channels in the parent process, before it forks.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from rasa.core.channels.channel import OutputChannel
from sanic import Blueprint

from channels.base.compat import compile_action_schema
from channels.base.conversation import RasaBot
from channels.base.gate import Gate
from channels.base.output import ConnectorOutput
from plugin.bootstrap import Services, open_services
from plugin.dispatch import EmbeddedDispatcher

log = logging.getLogger(__name__)


class Runtime:
    """Open from before_server_start to after_server_stop; lives in ``app.ctx.vamos``."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._services: Services | None = None
        self._gate: Gate | None = None
        self._dispatcher: EmbeddedDispatcher | None = None
        self._outputs: dict[str, OutputChannel] = {}

    @property
    def services(self) -> Services:
        """Settings, store and connectors of this process. Connectors belong to Rasa's event loop."""
        if self._services is None:
            raise RuntimeError("The server has not started yet: services are opened in before_server_start.")
        return self._services

    def add_output(self, output: OutputChannel) -> None:
        """The bot's answers on channel ``output.name()`` leave through `output`."""
        self._outputs[output.name()] = output

    def output(self, channel: str) -> OutputChannel:
        """The output channel of a channel name: one given by `add_output`, else the connector's own."""
        found = self._outputs.get(channel)
        if found is None:
            kind = type("ChannelOutput", (ConnectorOutput,), {"channel": channel})
            services = self.services
            found = self._outputs[channel] = kind(services.connector(channel), services.store, services.settings.rate)
        return found

    def wake(self) -> None:
        """A webhook was stored."""
        if self._gate is not None:
            self._gate.wake()

    async def open(self) -> None:
        if self._services is None:
            self._services = await asyncio.to_thread(open_services)

    async def start(self) -> None:
        """Start the gate: the agent and all channels are ready now."""
        if self._gate is not None:
            return
        services = self.services
        compile_action_schema()
        bot = RasaBot(
            lambda: getattr(self._app.ctx, "agent", None),
            self.output,
            greeting=services.settings.greeting,
            greet_intent=services.settings.greet_intent,
        )
        self._gate = Gate(services.store, services.settings, services.key, bot)
        self._gate.start()

    async def start_dispatcher(self) -> None:
        """Send broadcasts from this process, unless `vamos worker` does (``dispatch: external``)."""
        settings = self.services.settings
        if self._dispatcher is not None or settings.dispatch != "embedded":
            return
        self._dispatcher = EmbeddedDispatcher(self.services)
        await asyncio.to_thread(self._dispatcher.start)

    async def stop(self) -> None:
        """End what is in work; nothing new is taken."""
        gate, self._gate = self._gate, None
        dispatcher, self._dispatcher = self._dispatcher, None
        if gate is not None:
            await gate.stop()
        if dispatcher is not None:
            await asyncio.to_thread(dispatcher.stop)

    async def close(self) -> None:
        services, self._services = self._services, None
        if services is None:
            return
        for connector in services.connectors.values():
            await connector.aclose()
        services.close()


def runtime_of(app: Any) -> Runtime:
    """The runtime of a server, made on first use."""
    if getattr(app.ctx, "vamos", None) is None:
        app.ctx.vamos = Runtime(app)
    found: Runtime = app.ctx.vamos
    return found


def attach(blueprint: Blueprint, *, dispatcher: bool = False) -> None:
    """Tie the runtime's life to the server that `blueprint` is mounted on."""

    async def before_start(app: Any, *_: Any) -> None:
        await runtime_of(app).open()

    async def after_start(app: Any, *_: Any) -> None:
        await runtime_of(app).start()
        if dispatcher:
            await runtime_of(app).start_dispatcher()

    async def before_stop(app: Any, *_: Any) -> None:
        await runtime_of(app).stop()

    async def after_stop(app: Any, *_: Any) -> None:
        await runtime_of(app).close()

    blueprint.listener("before_server_start")(before_start)
    blueprint.listener("after_server_start")(after_start)
    blueprint.listener("before_server_stop")(before_stop)
    blueprint.listener("after_server_stop")(after_stop)
