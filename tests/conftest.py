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
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from plugin.store.database import Database

if TYPE_CHECKING:
    from plugin.store import Store

# No deadlines: a busy machine is no defect. A failure prints what replays it.
settings.register_profile("vamos", deadline=None, print_blob=True)
settings.load_profile("vamos")

_numbers = itertools.count(1)

#: No network, and nothing that a test would need to survive a power cut.
_FAST = (
    "-c listen_addresses= -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
    " -c max_connections=200 -c shared_buffers=64MB"
    " -c track_commit_timestamp=on"  # which of two transactions came first, for the tests of races
)


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

    def empty(self, name: str) -> None:
        """Delete every row, and end the connections that a test left open."""
        self._execute(
            name,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid();"
            "SET session_replication_role = replica;"  # no foreign keys to mind
            "DO $$ DECLARE name text; BEGIN FOR name IN SELECT tablename FROM pg_tables"
            " WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
            " LOOP EXECUTE format('DELETE FROM %I', name); END LOOP; END $$",
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
    url = postgresql_cluster.create("vamos_shared")
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
    postgresql_cluster.empty("vamos_shared")


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
