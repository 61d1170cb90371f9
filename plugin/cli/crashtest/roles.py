"""The two kinds of process that die: a dispatcher and a receiver of webhooks. Both are the product's own code."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import web

from plugin.bootstrap import Services, open_connectors, open_services
from plugin.cli.crashtest.doom import Doom, DoomedConnector, doom_sockets, doomed_store
from plugin.connector import Connector
from plugin.dispatch import Dispatcher, run_worker
from plugin.errors import VamosError
from plugin.settings import load
from plugin.store import Store
from plugin.usecases.receive import receive

Tell = Callable[[Mapping[str, Any]], None]

CHANNEL = "whatsapp"
_MAX_BODY = 4 * 1024 * 1024


def dispatcher(spec: Mapping[str, Any], tell: Tell) -> int:
    """What `vamos worker` does, dying where `spec` says."""
    return asyncio.run(_dispatch(spec, tell))


def receiver(spec: Mapping[str, Any], tell: Tell) -> int:
    """What the webhook of the Rasa server does: verify, parse, store, commit, and only then 200."""
    return asyncio.run(_receive(spec, tell))


async def _dispatch(spec: Mapping[str, Any], tell: Tell) -> int:
    stop = _until_terminated()
    services, doom = _open(spec, tell)
    tell({"ready": os.getpid()})
    try:
        if doom is None:
            await run_worker(services, stop)
        else:
            await _run_doomed(services, stop, doom)
    finally:
        services.close()
    return 0


async def _run_doomed(services: Services, stop: asyncio.Event, doom: Doom) -> None:
    """As `run_worker`, with connectors that may end the process."""
    connectors = open_connectors(services.settings)
    doomed: dict[str, Connector] = {name: DoomedConnector(one, doom) for name, one in connectors.items()}
    try:
        await Dispatcher(services, doomed).run(stop)
    finally:
        for connector in connectors.values():
            await connector.aclose()


async def _receive(spec: Mapping[str, Any], tell: Tell) -> int:
    stop = _until_terminated()
    services, doom = _open(spec, tell, armed=False)
    if doom is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, doom.arm)
    connector = services.connector(CHANNEL)

    async def webhook(request: web.Request) -> web.Response:
        body = await request.read()
        try:
            await asyncio.to_thread(receive, services.store, connector, request.headers, body)
        except VamosError as error:
            return web.Response(status=400, text=error.message)
        return web.Response()

    app = web.Application(client_max_size=_MAX_BODY)
    app.router.add_post("/webhook", webhook)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", spec["port"]).start()
    tell({"ready": os.getpid()})
    await stop.wait()
    await runner.cleanup()
    services.close()
    return 0


def _open(spec: Mapping[str, Any], tell: Tell, *, armed: bool = True) -> tuple[Services, Doom | None]:
    """The product's services, on a store of the class that `spec` names.

    spec: `settings` (path), `store` ("module:class"), `point` and `after` (see `Doom`; an empty point: not doomed).
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    for name in ("httpx", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    services = open_services(load(Path(spec["settings"]), {}))
    module, _, name = spec["store"].partition(":")
    store_class: type[Store] = getattr(importlib.import_module(module), name)
    url = services.settings.database
    if not spec["point"]:
        if store_class is Store:
            return services, None
        services.store.close()
        return replace(services, store=store_class(url)), None

    def die(point: str) -> None:
        tell({"dying": os.getpid(), "point": point})
        os.kill(os.getpid(), signal.SIGKILL)

    doom = Doom(spec["point"], spec["after"], die, armed=armed)
    if doom.point == "send.bytes_out":
        doom_sockets(doom)
    services.store.close()
    return replace(services, store=doomed_store(store_class, url, doom)), doom


def _until_terminated() -> asyncio.Event:
    """Set by SIGTERM, as in `vamos worker`."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    return stop
