"""The sandbox's web server."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from channels.whatsapp.sandbox.account import Account
from channels.whatsapp.sandbox.control import Control, this_machine_only
from channels.whatsapp.sandbox.graph import Graph

_MAX_BODY = 1024 * 1024


def application(account: Account, access_token: str) -> web.Application:
    """The aiohttp application; `account` starts and stops with it."""
    app = web.Application(client_max_size=_MAX_BODY, middlewares=[this_machine_only])
    app.add_routes(Control(account).routes())
    app.add_routes(Graph(account, access_token).routes())

    async def life(_app: web.Application) -> AsyncIterator[None]:
        account.start()
        yield
        await account.stop()

    app.cleanup_ctx.append(life)
    return app


async def serve(app: web.Application, host: str, port: int) -> tuple[web.AppRunner, int]:
    """Listen; returns the runner (its `cleanup` stops everything) and the port, which differs when 0 was asked.

    Raises:
        OSError: the port can't be had.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    return runner, int(runner.addresses[0][1])
