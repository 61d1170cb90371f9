"""Where a run takes place: a database that is ours to fill, the sandbox, a file of recipients, a broadcast."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError

from plugin.bootstrap import Services, open_services, unopened
from plugin.cli.console import say
from plugin.cli.crashtest.census import live_dispatchers
from plugin.cli.process import Child, stop_all
from plugin.cli.seed import fetch_templates
from plugin.cli.state import PHONE_NUMBER_ID, WABA_ID, Ports, State
from plugin.domain.access import BROADCAST, Principal
from plugin.domain.redirect import Redirect, RedirectKind
from plugin.errors import ConfigurationError
from plugin.settings import load
from plugin.store.database import Database, shown
from plugin.store.tables import metadata
from plugin.usecases.access import create_user
from plugin.usecases.intake import take_upload
from plugin.usecases.launch import LaunchRequest, launch
from plugin.usecases.setup import create_operation

_TEMPLATE = "aviso_manutencao"
_LOGIN = "crash-test"
_HEADER = "telefone;nome;bairro;horario"
#: Lines that can't be sent, of each kind: one in so many.
_BAD_EVERY = 200
_HEALTH_LIMIT = 30.0
#: Tables that the product itself writes to, without anybody's doing.
_OWN = frozenset({"dispatcher", "lease", "meta", "template"})

#: What goes wrong at the provider beside our own deaths, as shares of the attempts. ``throttle`` is rare because each
#: one rightly holds the whole number for seconds; 131056 (too much to one person) is the throttling that may be common.
FAILURES: tuple[Mapping[str, Any], ...] = (
    {"kind": "throttle", "rate": 0.0005},
    {"kind": 131056, "rate": 0.02},
    {"kind": 131000, "rate": 0.01},
    {"kind": "error", "rate": 0.002},
    {"kind": "cut", "rate": 0.005},
    {"kind": "reset", "rate": 0.01},
    {"kind": "slow", "rate": 0.01},
)
DISORDER: Mapping[str, Any] = {"shuffled": 0.1, "twice": 0.05, "late": 0.02, "late_ms": 3000}
#: Milliseconds until the provider answers (Meta takes a hundred or more): time to die in.
LATENCY_MS = 50


@dataclass(frozen=True)
class Broadcast:
    """What was launched: `lines` are those of the file, `recipients` those of them that can be sent to; `bad` are the
    others by line (from 1, without the header): ``skipped`` or ``rejected``."""

    id: str
    lines: int
    recipients: int
    bad: Mapping[int, str]


class Stage:
    """Files, sandbox and database of one run. `open` starts, `close` stops and tidies up.

    Args:
        database: URL; None for a SQLite file in `directory`.
        keep: leave the tables of an emptied PostgreSQL database when closing.

    Raises:
        ConfigurationError: the database holds something that is not ours.
    """

    def __init__(self, directory: Path, *, database: str | None, rate: float, window: int, keep: bool = False) -> None:
        self.state = State(directory)
        self.database = database or f"sqlite:///{self.state.directory / 'vamos.db'}"
        self._ports = Ports.free()
        self._was_empty = require_ours(self.database)
        self._keep = keep
        values = {"database": self.database, "rate": rate, "window": window}
        self.state.write_configuration(self._ports, values)
        self.settings = load(self.state.settings, {})
        self.services: Services = open_services(self.settings)
        own = self.state.secrets()
        command = [sys.executable, "-m", "channels.whatsapp.sandbox", "--port", str(self._ports.sandbox)]
        command += ["--state", str(self.state.sandbox), "--webhook", f"http://127.0.0.1:{self.webhook_port}/webhook"]
        command += ["--phone-number-id", PHONE_NUMBER_ID, "--waba-id", WABA_ID]
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("VAMOS_")}
        secrets = {f"VAMOS_SANDBOX_{name.upper()}": own[name] for name in ("access_token", "app_secret")}
        log = self.state.logs / "sandbox.log"
        self._sandbox = Child("sandbox", command, log, self.state.directory, {**self.environment, **secrets})
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self._ports.sandbox}", timeout=30, trust_env=False)

    @property
    def webhook_port(self) -> int:
        """Where the receiver listens."""
        return self._ports.rasa

    @property
    def ledger(self) -> Path:
        """The sandbox's ledger."""
        return self.state.sandbox / "ledger.jsonl"

    # ------------------------------------------------------------------ the sandbox
    def open(self, seed: int) -> None:
        """Start the sandbox with everything that may go wrong at a provider."""
        self._sandbox.start()
        deadline = time.monotonic() + _HEALTH_LIMIT
        while not self._healthy():
            self._sandbox.check()
            if time.monotonic() > deadline:
                raise ConfigurationError(f"The sandbox does not answer. The end of its log:\n{self._sandbox.tail()}")
            time.sleep(0.05)
        failures = [{**failure, "seed": seed * 100 + number} for number, failure in enumerate(FAILURES)]
        config = {"failures": failures, "disorder": {**DISORDER, "seed": seed}, "latency_ms": LATENCY_MS}
        self._http.put("/sandbox/config", json=config).raise_for_status()

    def pending_webhooks(self) -> int:
        """Webhooks that the provider still has to bring us."""
        return int(self._http.get("/sandbox/idle").raise_for_status().json()["webhooks"])

    def check(self) -> None:
        """Raise `plugin.cli.process.ChildDied` when the sandbox is no longer there."""
        self._sandbox.check()

    def stop_sandbox(self) -> None:
        """End it, so that its ledger is complete."""
        stop_all([self._sandbox], 10)

    def _healthy(self) -> bool:
        try:
            return self._http.get("/sandbox/health").status_code == 200
        except httpx.TransportError:
            return False

    # ------------------------------------------------------------------ the broadcast
    def launch(self, recipients: int) -> Broadcast:
        """Upload a file of `recipients` and some lines that can't be sent, and launch it."""
        store = self.services.store
        asyncio.run(fetch_templates(self.services))
        operation = create_operation(store, "Crash test", PHONE_NUMBER_ID)
        grants = [(operation, BROADCAST)]
        account = store.account(_LOGIN)
        user = account.id if account else create_user(store, _LOGIN, "Crash test", grants)
        principal = Principal(user, _LOGIN, "Crash test", frozenset(grants))
        template = next(one.id for one in store.templates("whatsapp") if one.name == _TEMPLATE)
        file = self.state.directory / "recipients.csv"
        digest = hashlib.sha256()
        bad: dict[int, str] = {}
        with open(file, "wb") as out:
            for number, (line, spoilt) in enumerate(_lines(recipients)):
                digest.update(line)
                out.write(line)
                bad.update({number: spoilt} if spoilt else {})
        upload = take_upload(
            store, principal, operation_id=operation, template_id=template, filename=file.name, path=file,
            sha256=digest.hexdigest(),
        )  # fmt: skip
        request = LaunchRequest(operation, upload.id, template, Redirect(RedirectKind.NONE))
        done = launch(store, principal, request, idempotency_key=f"crash-test-{digest.hexdigest()[:32]}")
        assert upload.accepted == recipients, f"{upload.accepted} of {recipients} made-up lines were accepted"
        return Broadcast(done.broadcast_id, upload.rows, upload.accepted, bad)

    def close(self) -> None:
        """Stop the sandbox; leave a PostgreSQL database that was empty as it was, unless it is to be kept."""
        self._http.close()
        self.stop_sandbox()
        if self._was_empty and not self._keep and self.services.store.dialect == "postgresql":
            try:
                with self.services.store.write() as connection:
                    metadata.drop_all(connection)
                    connection.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")
            except SQLAlchemyError as error:
                say(f"The tables could not be removed from {shown(self.database)}: {error}")
        self.services.close()


def _lines(recipients: int) -> Iterator[tuple[bytes, str]]:
    """A CSV file: every recipient once, some twice, and some that nobody can send to, each line with the state that it
    is to keep."""
    yield f"{_HEADER}\n".encode(), ""
    for number in range(1, recipients + 1):
        phone = f"+55{31 + number // 9_000_000}9{90_000_000 + number % 9_000_000}"
        line = f"{phone};Pessoa {number};Centro;das 0h às 6h\n".encode()
        yield line, ""
        if number % _BAD_EVERY == 1:
            yield line, "skipped"
            yield f"12345;Pessoa {number};Centro;das 0h às 6h\n".encode(), "rejected"


def require_ours(url: str) -> bool:
    """Whether the database is without tables; one of the product that nothing was ever put into will do too.

    Raises:
        ConfigurationError: it can't be opened, holds something else or anybody's data, or somebody sends on it.
    """
    database = Database(url)
    try:
        with database.read() as connection:
            there = {name for name in inspect(connection).get_table_names() if not name.startswith("sqlite_")}
            there.discard("alembic_version")
            if not there:
                return True
            remedy = "Give an empty database of its own; this one was not touched."
            known = {table.name for table in metadata.sorted_tables}
            if "broadcast" not in there or there - known:
                raise ConfigurationError(f"{shown(url)} holds tables of something else.", remedy)
            held = [
                name
                for name in sorted(there - _OWN)
                if connection.exec_driver_sql(f"SELECT 1 FROM {name} LIMIT 1").first()
            ]
            if held:
                raise ConfigurationError(f"{shown(url)} is in use: there is something in {', '.join(held)}.", remedy)
        if live_dispatchers(database):
            raise ConfigurationError(f"A dispatcher is working on {shown(url)}.", remedy)
    except (SQLAlchemyError, OSError) as error:
        raise unopened(url, error) from error
    finally:
        database.close()
    return False
