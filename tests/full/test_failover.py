"""Two real PostgreSQL servers, the standby promoted in the middle of a broadcast (F23)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg2
import pytest

from channels.loopback.connector import LoopbackConnector
from plugin.bootstrap import Services
from plugin.connector import Outbound, SendResult
from plugin.dispatch.loop import Dispatcher
from plugin.domain.access import EVERY_OPERATION
from plugin.domain.template import Template
from plugin.settings import Settings
from plugin.store import Store
from plugin.testing.scenario import KEY, SENDER, TEMPLATES, Scenario
from plugin.usecases.reconcile import FAILED_OVER, PUT_BACK, reconcile
from plugin.usecases.report import report

pytestmark = pytest.mark.full

NUMBERS = 60
_OPTIONS = "-c listen_addresses= -c fsync=off -c max_wal_senders=4 -c wal_level=replica -c shared_buffers=32MB"


class Pair:
    """A primary and its standby in one folder, on unix sockets; `address` prefers whichever takes writes."""

    def __init__(self, *, synchronous: bool) -> None:
        self._binaries = _binaries()
        self._user = None if os.getuid() else next(n for n in ("postgres", "nobody") if _exists(n))
        self.folder = Path(tempfile.mkdtemp(prefix="vamos-ha-", dir="/tmp"))
        if self._user:
            shutil.chown(self.folder, self._user)
        self._log = open(self.folder / "log", "wb")  # noqa: SIM115 - lives as long as the servers
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self._run("initdb", "-U", "vamos", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D", "a")
        self._start("a", 5432)
        self._execute(5432, "CREATE DATABASE vamos")
        self._run("pg_basebackup", "-h", str(self.folder), "-p", "5432", "-U", "vamos", "-R", "-X", "stream",
                  "-c", "fast", "-D", "b")  # fmt: skip
        self._start("b", 5433)
        if synchronous:
            self._execute(5432, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        folder = str(self.folder)
        self.address = (
            f"postgresql://vamos@/vamos?host={folder},{folder}&port=5432,5433&target_session_attrs=read-write"
        )

    def stop_following(self) -> None:
        """The standby hears no more of the primary: it lags."""
        self._execute(5433, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
        _eventually(lambda: self._ask(5433, "SELECT COUNT(*) FROM pg_stat_wal_receiver") == 0)

    def caught_up(self) -> None:
        """Wait until the standby has all that is written now."""
        at = self._ask(5432, "SELECT pg_current_wal_flush_lsn()")
        _eventually(lambda: bool(self._ask(5433, f"SELECT pg_last_wal_replay_lsn() >= '{at}'")))

    def fail_over(self) -> None:
        """The primary dies, and the standby takes its place."""
        self._kill("a")
        self._execute(5433, "SELECT pg_promote(true, 30)")

    def stop(self) -> None:
        for name in list(self._servers):
            self._kill(name)
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _kill(self, name: str) -> None:
        server = self._servers.pop(name)
        server.send_signal(signal.SIGQUIT)
        server.wait(30)

    def _start(self, name: str, port: int) -> None:
        self._servers[name] = subprocess.Popen(
            [str(self._binaries / "postgres"), "-D", name, "-k", str(self.folder), "-p", str(port), *_OPTIONS.split()],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, cwd=self.folder, user=self._user,
        )  # fmt: skip

        def answers() -> bool:
            with contextlib.suppress(psycopg2.OperationalError):
                return bool(self._ask(port, "SELECT 1", database="postgres"))
            return False

        _eventually(answers)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._binaries / program), *arguments], check=True, cwd=self.folder, user=self._user,
            stdout=self._log, stderr=self._log, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip

    def _ask(self, port: int, statement: str, database: str = "vamos") -> object:
        with contextlib.closing(self._connect(port, database)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            found = cursor.fetchone()
            return found[0] if found else None

    def _execute(self, port: int, *statements: str) -> None:
        with contextlib.closing(self._connect(port, "postgres")) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def _connect(self, port: int, database: str) -> psycopg2.extensions.connection:
        connection = psycopg2.connect(dbname=database, user="vamos", host=str(self.folder), port=port)
        connection.autocommit = True
        return connection


def _binaries() -> Path:
    named = shutil.which("pg_basebackup") or shutil.which("initdb")
    places = [Path(named).resolve().parent] if named else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in places:
        if all((place / program).exists() for program in ("initdb", "postgres", "pg_basebackup")):
            return place
    pytest.skip("no PostgreSQL server found")


def _exists(user: str) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(user))
    return False


def _eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.05)


class Provider(LoopbackConnector):
    """Accepts up to `gate` messages, then makes everybody wait until it is moved."""

    def __init__(self, gate: int) -> None:
        super().__init__(SENDER, "a secret", [Template.from_meta(raw) for raw in TEMPLATES])
        self.gate = gate
        self._moved = asyncio.Condition()
        self.reached = asyncio.Event()

    async def send(self, message: Outbound) -> SendResult:
        async with self._moved:
            if len(self.sent) >= self.gate:
                self.reached.set()
            await self._moved.wait_for(lambda: len(self.sent) < self.gate)
            return await super().send(message)

    async def up_to(self, gate: int) -> None:
        """Let messages pass until so many are accepted."""
        async with self._moved:
            self.reached.clear()
            self.gate = gate
            self._moved.notify_all()

    def repeated(self) -> int:
        return len(self.sent) - len({message.address for message, _ in self.sent})


@pytest.fixture
def pair(kind: str) -> Iterator[Pair]:
    made = Pair(synchronous=kind == "synchronous")
    yield made
    made.stop()


@asynccontextmanager
async def dispatching(store: Store, provider: Provider, fence: Path) -> AsyncIterator[None]:
    settings = Settings(database=store.url, rate=1000, window=4, fence=str(fence))
    stop = asyncio.Event()
    task = asyncio.create_task(Dispatcher(Services(settings, store, {}, KEY), {"whatsapp": provider}).run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        with contextlib.suppress(Exception):  # the database is away meanwhile
            if await asyncio.to_thread(condition):
                return
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", ["lagging", "level", "synchronous"])
async def test_a_standby_promoted_in_the_middle_repeats_nothing(pair: Pair, kind: str, tmp_path: Path) -> None:
    """level: asynchronous, yet nothing is missing, which nobody can know: PostgreSQL's timeline alone tells."""
    store = Store(pair.address)
    store.migrate()
    scenario = Scenario(store)
    broadcast = scenario.launch([scenario.number() for _ in range(NUMBERS)])
    provider = Provider(gate=NUMBERS // 3)

    def on_hold() -> bool:
        return [one.id for one in store.on_hold(EVERY_OPERATION)] == [broadcast]

    def state() -> str:
        return report(store, scenario.operator, broadcast).state

    async with dispatching(store, provider, tmp_path / "fence.json"):
        await asyncio.wait_for(provider.reached.wait(), 60)
        await asyncio.to_thread(pair.caught_up)
        if kind == "lagging":  # what is acknowledged from here on, the standby never hears of
            await asyncio.to_thread(pair.stop_following)
            await provider.up_to(2 * NUMBERS // 3)
            await asyncio.wait_for(provider.reached.wait(), 60)
        await asyncio.to_thread(pair.fail_over)
        promoted = asyncio.get_running_loop().time()
        await provider.up_to(10 * NUMBERS)
        if kind == "synchronous":
            await until(lambda: state() == "finished")
            assert store.on_hold(EVERY_OPERATION) == []
        else:
            await until(on_hold)
            print(f"{kind}: on hold {asyncio.get_running_loop().time() - promoted:.1f} s after the failover")
            why = store.on_hold(EVERY_OPERATION)[0].why
            assert why in ((FAILED_OVER, PUT_BACK) if kind == "lagging" else (FAILED_OVER,))
            sent = len(provider.sent)
            reconcile(store, scenario.operator, broadcast, rows="unknown")
            await until(lambda: state() == "finished")
            assert len(provider.sent) == sent
    assert provider.repeated() == 0
    counts = report(store, scenario.operator, broadcast).states
    assert sum(counts.values()) == NUMBERS
    if kind == "synchronous":
        assert counts["sent"] + counts["unknown"] == NUMBERS
        assert counts["unknown"] <= 4, "the window"
    store.close()
