"""``python -m channels.whatsapp.sandbox``: see the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import os
import signal
import sys
from pathlib import Path

from channels.whatsapp.sandbox.account import Account
from channels.whatsapp.sandbox.config import ConfigError
from channels.whatsapp.sandbox.ledger import LedgerInUse
from channels.whatsapp.sandbox.server import application, serve

_ACCESS_TOKEN, _APP_SECRET = "VAMOS_SANDBOX_ACCESS_TOKEN", "VAMOS_SANDBOX_APP_SECRET"


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m channels.whatsapp.sandbox",
        description="A local WhatsApp Cloud API with phones to answer from.",
        epilog="The first line on stdout names the address, also when --port 0 takes a free one. The two secrets may"
        f" also come in {_ACCESS_TOKEN} and {_APP_SECRET}, which other users of the machine can't read.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=5080, help="port to listen on; 0 takes a free one (default: 5080)")
    parser.add_argument("--state", type=Path, required=True, help="directory of the ledger; made if it is missing")
    parser.add_argument("--webhook", help="address to send webhooks to, e.g. Rasa's /webhooks/whatsapp/webhook")
    parser.add_argument("--phone-number-id", required=True, help="id of the sending number, as in credentials.yml")
    parser.add_argument("--waba-id", required=True, help="id of the WhatsApp Business Account, as in credentials.yml")
    for option, variable, text in (
        ("--access-token", _ACCESS_TOKEN, "token that requests must carry"),
        ("--app-secret", _APP_SECRET, "secret that signs the webhooks"),
    ):
        given = os.environ.get(variable)
        parser.add_argument(option, default=given, required=not given, help=f"{text} (or ${variable})")
    return parser.parse_args(arguments)


async def _run(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    account = Account(
        options.state,
        phone_number_id=options.phone_number_id,
        waba_id=options.waba_id,
        app_secret=options.app_secret,
        webhook=options.webhook,
    )
    runner, port = await serve(application(account, options.access_token), options.host, options.port)
    print(f"WhatsApp sandbox on http://{options.host}:{port}/", flush=True)
    await stop.wait()
    await runner.cleanup()


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM. Exit code 1: it could not start, and stderr says why."""
    options = _options(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(_run(options))
    except LedgerInUse:
        return _failed(f"Another sandbox is using {options.state}. Stop it, or give another --state.")
    except ConfigError as error:
        return _failed(f"The configuration can't be used: {error}.")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return _failed(f"Port {options.port} is in use. Stop the program that has it, or give another --port.")
        return _failed(f"The sandbox could not start: {error}.")
    return 0


def _failed(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
