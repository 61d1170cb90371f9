"""`vamos worker`, `vamos sandbox` and `vamos migrate`: single services of the product."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys

from plugin.bootstrap import open_services
from plugin.cli.console import say, stdout
from plugin.cli.stack import WORKER_READY
from plugin.dispatch import run_worker
from plugin.store.database import shown


def worker(options: argparse.Namespace) -> int:
    """Send until SIGTERM or Ctrl-C; what is in flight ends first."""
    return asyncio.run(_work())


async def _work() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("httpx", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    services = await asyncio.to_thread(open_services)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Also read by the supervisor, to know that this process is up.
    stdout(f"{WORKER_READY} from {shown(services.settings.database)}")
    try:
        await run_worker(services, stop)
    finally:
        services.close()
    return 0


def sandbox(options: argparse.Namespace) -> int:
    """Become the sandbox process."""
    arguments = [argument for argument in options.arguments if argument != "--"]
    os.execv(sys.executable, [sys.executable, "-m", "channels.whatsapp.sandbox", *arguments])  # noqa: S606


def migrate(options: argparse.Namespace) -> int:
    """Bring the schema up to date."""
    services = open_services()
    say(f"The database is up to date: {shown(services.settings.database)}")
    services.close()
    return 0
