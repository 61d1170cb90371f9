"""Fixtures for every test: a database of each kind, and the store on it.

PostgreSQL is started by the session itself, from the binaries of the machine: one cluster, one database per test.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from argon2 import PasswordHasher
from hypothesis import settings
from sqlalchemy import event

import plugin.store.database
from plugin.store.database import Database
from plugin.usecases import access

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import Pool

    from plugin.store import Store

# No deadlines: a busy machine is no defect. A failure prints what replays it.
settings.register_profile("vamos", deadline=None, print_blob=True)
settings.load_profile("vamos")

# A shell starts what runs in the background with Ctrl-C ignored, and so would be every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_numbers = itertools.count(1)

#: The name of the database that tests share, and of the connections that stay open from one of them to the next.
_SHARED, _KEPT = "vamos_shared", "vamos_kept"

#: No network, and nothing that a test would need to survive a power cut.
_FAST = (
    "-c listen_addresses= -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
    " -c max_connections=200 -c shared_buffers=64MB"
    " -c track_commit_timestamp=on"  # which of two transactions came first, for the tests of races
)


#: Who needs one of these is run by the same worker, so that it is made once: a stack takes 15 s, Rasa's agent 10 s.
_TOGETHER = {"world": "world", "stranger": "stranger", "loaded": "agent", "agent": "agent"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in _TOGETHER.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group(_TOGETHER[fixture]))


class PostgreSQLMissing(Exception):
    """No server binaries, or the server did not start; the text says which."""


def _binaries() -> Path:
    """The directory that holds `initdb` and `postgres`."""
    candidates = [Path(found).parent for found in [shutil.which("initdb")] if found]
    config = shutil.which("pg_config")
    if config:
        answer = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        candidates.append(Path(answer.stdout.strip()))
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for candidate in candidates:
        if (candidate / "initdb").exists() and (candidate / "postgres").exists():
            return candidate
    raise PostgreSQLMissing("no PostgreSQL server found (initdb on PATH, pg_config, /usr/lib/postgresql/*/bin)")


def _die_with_parent() -> None:
    """In the child: the server stops when pytest is killed, however hard."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGQUIT)


class Cluster:
    """A PostgreSQL server of our own on a unix socket, owned by an unprivileged user when we are root."""

    def __init__(self) -> None:
        binaries = _binaries()
        # Not pytest's directory: that one is closed to other users, and its path may be too long for a socket.
        self.directory = Path(tempfile.mkdtemp(prefix="vamos-pg-", dir="/tmp"))
        user: str | None = None
        if os.getuid() == 0:
            user = _unprivileged_user()
            shutil.chown(self.directory, user)
        self._log = open(self.directory / "log", "wb")  # noqa: SIM115 - lives as long as the cluster
        data = self.directory / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._emptier: Any = None
        try:
            self._run(
                [*f"{binaries / 'initdb'} -U vamos -A trust -E UTF8 --locale=C --no-sync -D".split(), str(data)], user
            )
            self._process = subprocess.Popen(
                [str(binaries / "postgres"), "-D", str(data), "-k", str(self.directory), *_FAST.split()],
                stdout=self._log,
                stderr=self._log,
                stdin=subprocess.DEVNULL,
                cwd=self.directory,
                user=user,
                preexec_fn=_die_with_parent,
            )
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise

    def url(self, name: str) -> str:
        return f"postgresql://vamos@/{name}?host={self.directory}"

    def create(self, name: str) -> str:
        """A new database; its address."""
        self._execute("postgres", f"CREATE DATABASE {name}")
        return self.url(name)

    def drop(self, name: str) -> None:
        self._execute("postgres", f"DROP DATABASE {name} WITH (FORCE)")

    def empty(self) -> None:
        """Delete every row of the shared database, and end the connections that a test left at work."""
        import psycopg2

        if self._emptier is None:
            self._emptier = psycopg2.connect(dbname=_SHARED, user="vamos", host=str(self.directory))
            self._emptier.autocommit = True
        with self._emptier.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                f" AND pid <> pg_backend_pid() AND NOT (application_name = '{_KEPT}' AND state = 'idle');"
                "SET session_replication_role = replica;"  # no foreign keys to mind
                "DO $$ DECLARE name text; BEGIN FOR name IN SELECT tablename FROM pg_tables"
                " WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
                " LOOP EXECUTE format('DELETE FROM %I', name); END LOOP; END $$"
            )

    def _execute(self, name: str, statement: str) -> None:
        import psycopg2

        connection = psycopg2.connect(dbname=name, user="vamos", host=str(self.directory))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()

    def stop(self) -> None:
        if self._emptier is not None:
            self._emptier.close()
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
        self._log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _run(self, command: list[str], user: str | None) -> None:
        environment = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(
            command, stdout=self._log, stderr=self._log, cwd=self.directory, user=user, env=environment, check=False
        )
        if done.returncode:
            raise PostgreSQLMissing(f"{command[0]} failed:\n{self._tail()}")

    def _wait_until_it_answers(self) -> None:
        import psycopg2

        assert self._process is not None
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg2.connect(dbname="postgres", user="vamos", host=str(self.directory)).close()
            except psycopg2.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise PostgreSQLMissing(f"the server did not start: {error}\n{self._tail()}") from error
                time.sleep(0.05)
            else:
                return

    def _tail(self) -> str:
        self._log.flush()
        return (self.directory / "log").read_text(errors="replace")[-2000:]


def _unprivileged_user() -> str:
    import pwd

    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise PostgreSQLMissing("PostgreSQL does not run as root and there is no user postgres or nobody")


class _Handed:
    """What the engines of a session hand on: compiled SQL, and open connections to the shared PostgreSQL database.

    A server process that is new to a database, and SQL that is compiled again, cost more than most tests themselves.
    """

    def __init__(self) -> None:
        self._make = plugin.store.database._engine
        self._first: dict[str, Engine] = {}
        self._pools: list[Pool] = []

    def engine(self, url: str) -> Engine:
        """In the place of `plugin.store.database._engine`: an engine of its own, with a pool that nobody else uses."""
        made = self._make(url)
        shared = f"/{_SHARED}?" in url
        if made.dialect.name == "sqlite":
            event.listen(made, "connect", _careless)
        elif not shared:
            return made
        first = self._first.setdefault(made.dialect.name, made)
        if first is not made:
            made.dialect, made._compiled_cache = first.dialect, first._compiled_cache
        if shared:
            if self._pools:
                made.pool = self._pools.pop()
            else:
                event.listen(made, "connect", _keep)
            given_back: list[Pool] = []

            def dispose(close: bool = True) -> None:
                if not given_back:
                    given_back.append(made.pool)
                    self._pools.append(made.pool)

            made.dispose = dispose
        return made


def _careless(connection: Any, _record: Any) -> None:
    """No test survives a power cut, so none need wait for the disk (2 ms a commit)."""
    connection.execute("PRAGMA synchronous=OFF").close()


def _keep(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET application_name = '{_KEPT}'")
    connection.commit()


plugin.store.database._engine = _Handed().engine


@pytest.fixture(scope="session", autouse=True)
def real_hashing() -> Iterator[tuple[PasswordHasher, str]]:
    """The product's own hasher and its hash for nobody, for tests of their cost; all others hash cheaply."""
    real, cheap = (access._HASHER, access._NOBODY), PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(access, "_HASHER", cheap)
        patch.setattr(access, "_NOBODY", cheap.hash("nobody"))
        yield real


@pytest.fixture(scope="session")
def postgresql_cluster() -> Iterator[Cluster]:
    try:
        cluster = Cluster()
    except (PostgreSQLMissing, ImportError) as error:
        # In CI a missing database is a failure; on a laptop the tests for SQLite still say something.
        if os.environ.get("CI"):
            raise
        pytest.skip(f"PostgreSQL: {error}")
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql_cluster: Cluster) -> str:
    """Address of the database that tests share, one after the other."""
    url = postgresql_cluster.create(_SHARED)
    database = Database(url)
    database.migrate()
    database.close()
    return url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file that tests are copied from."""
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    database = Database(f"sqlite:///{file}")
    database.migrate()
    with database.read() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return file


@pytest.fixture
def postgresql_url(postgresql_cluster: Cluster, migrated_postgresql: str) -> Iterator[str]:
    """A migrated PostgreSQL database without rows. Emptied, not made anew: 3 ms instead of 130."""
    yield migrated_postgresql
    postgresql_cluster.empty()


@pytest.fixture
def sqlite_url(tmp_path: Path, sqlite_template: Path) -> str:
    """A migrated SQLite file of the test's own."""
    shutil.copy(sqlite_template, tmp_path / "vamos.db")
    return f"sqlite:///{tmp_path / 'vamos.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of the test's own, once of each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables, once of each kind: for tests of the migrations themselves."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    cluster: Cluster = request.getfixturevalue("postgresql_cluster")
    name = f"vamos_{next(_numbers)}"
    yield cluster.create(name)
    cluster.drop(name)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """An open, migrated store, once on each kind of database."""
    from plugin.store import Store

    opened = Store(database_url)
    yield opened
    opened.close()
