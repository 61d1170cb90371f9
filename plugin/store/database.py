"""Connection, transactions and schema: the part of the store that knows which database it talks to."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import orjson
from sqlalchemy import create_engine, event, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection, CursorResult, Engine
from sqlalchemy.engine.url import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import QueuePool

from plugin.errors import ConfigurationError

#: Microseconds a writer of SQLite waits for another process's transaction.
_BUSY_MS = 15_000
#: PostgreSQL's code for a transaction that was ended to break a deadlock.
_DEADLOCK = "40P01"

T = TypeVar("T")


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


def new_id() -> str:
    """A UUIDv7-shaped id as 32 hex digits: 48 bits of milliseconds, then randomness (RFC 9562 §5.7)."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return f"{value:032x}"


def micros(moment: datetime) -> int:
    """`moment` as microseconds since 1970 (UTC)."""
    return int(moment.timestamp() * 1_000_000)


class Database:
    """One database: SQLite (a file) or PostgreSQL.

    Methods are synchronous and thread-safe; async callers use `asyncio.to_thread`. A write transaction on SQLite
    begins IMMEDIATE: a deferred one that turns writer later fails at once with "database is locked", whatever the
    timeout, when another process wrote in between.
    """

    def __init__(self, url: str, clock: Callable[[], datetime] = utc_now) -> None:
        self.url = url
        self._clock = clock
        self.engine = _engine(url)
        self.dialect: str = self.engine.dialect.name
        # Threads of one process queue here, in order, instead of polling SQLite's file lock.
        self._writer = threading.RLock() if self.dialect == "sqlite" else None

    def now(self) -> int:
        """Microseconds since 1970, UTC, by the injected clock."""
        return micros(self._clock())

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading; what it sees is one snapshot on SQLite, read committed on PostgreSQL."""
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: committed at the end of the block, rolled back when it raises."""
        if self._writer is None:
            with self.engine.begin() as connection:
                yield connection
            return
        with self._writer, self.engine.connect().execution_options(vamos_write=True) as connection, connection.begin():
            yield connection

    def run(
        self, connection: Connection, statement: str, values: Mapping[str, Any] | Sequence[Mapping[str, Any]] = ()
    ) -> CursorResult[Any]:
        """Execute `statement` with ``:name`` for its values: what `execute(text(…))` does at a third of its cost.

        For what runs for every claim and settlement. Several values: the statement runs once for each of them.
        """
        native = statement if self.dialect == "sqlite" else _native(statement)
        return connection.exec_driver_sql(native, values or None)

    # ------------------------------------------------------------------ many rows in one statement
    def each(self, name: str, kind: str) -> str:
        """SQL for the values of the list bound as `name` (see `many`): ``WHERE id IN ({each("ids", "BIGINT")})``."""
        if self.dialect == "sqlite":
            return f"SELECT value FROM json_each(:{name})"
        return f"SELECT unnest(CAST(:{name} AS {kind}[]))"

    def many(self, values: Sequence[Any]) -> Any:
        """A list as a bound parameter of `each`."""
        return orjson.dumps(list(values)).decode() if self.dialect == "sqlite" else list(values)

    def update_many(
        self, connection: Connection, statement: str, kinds: Mapping[str, str], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """One UPDATE for many rows, each with values of its own.

        `statement` is ``UPDATE table SET … {source} WHERE table.id = {id} …`` with ``{name}`` for a row's value and
        the table's name before every column that is read. `kinds`: SQL type by value name. No two rows may be for
        the same record: PostgreSQL would take either.
        """
        if not rows:
            return
        if self.dialect == "sqlite":  # prepared once, bound again and again: nothing is faster
            names = {name: f":{name}" for name in kinds}
            self.run(connection, statement.format(source="", **names), list(rows))
            return
        columns = ", ".join(f"unnest(CAST(:{name} AS {kind}[])) AS {name}" for name, kind in kinds.items())
        names = {name: f"v.{name}" for name in kinds}
        self.run(
            connection,
            statement.format(source=f"FROM (SELECT {columns}) AS v", **names),
            {name: [row[name] for row in rows] for name in kinds},
        )

    def migrate(self) -> None:
        """Bring the schema to this version; safe to call from several processes at once."""
        from plugin.store.migrations import upgrade

        upgrade(self)

    def close(self) -> None:
        self.engine.dispose()


@lru_cache(maxsize=256)
def _native(statement: str) -> str:
    """`statement` with its values named as psycopg2 wants them; SQLite takes ``:name`` as it stands."""
    return str(text(statement).compile(dialect=postgresql.dialect(paramstyle="pyformat")))


def retried(work: Callable[[], T]) -> T:
    """`work()`, again when PostgreSQL ended its transaction to break a deadlock. It must be one whole transaction."""
    for attempt in (1, 2, 3):
        try:
            return work()
        except OperationalError as error:
            if attempt == 3 or getattr(error.orig, "pgcode", None) != _DEADLOCK:
                raise
    raise AssertionError("unreachable")


def shown(url: str) -> str:
    """A database's address without user, password and options, whether or not it can be read as one."""
    if url.startswith("sqlite"):
        return url
    scheme, found, rest = url.partition("://") if "://" in url else ("", "", url)
    return f"{scheme}{found}{rest.rpartition('@')[2].partition('?')[0]}"


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return _sqlite(url)
        if parsed.get_backend_name() == "postgresql":
            # keepalives: a half-open connection must fail, not hang a worker for hours.
            return create_engine(
                url,
                future=True,
                hide_parameters=True,  # phones and texts of customers don't belong in a log
                pool_pre_ping=True,
                pool_size=10,
                max_overflow=10,
                connect_args={
                    "keepalives_idle": 15,
                    "keepalives_interval": 5,
                    "keepalives_count": 3,
                    "connect_timeout": 10,
                },
            )
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        # SQLAlchemy's words quote the address with its password.
        raise ConfigurationError(
            f"The database address {shown(url)!r} can't be read.",
            "Write it as sqlite:///path/to/file.db or postgresql://user:password@host/name, with %40 for an @ in it.",
        ) from error
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"The driver for {url.split(':', 1)[0]} is not installed ({error.name}).",
            "Install it with: pip install 'vamos[postgresql]'.",
        ) from error
    raise ConfigurationError(
        f"The database address {shown(url)!r} names neither SQLite nor PostgreSQL.",
        "Write it as sqlite:///path/to/file.db or postgresql://user:password@host/name.",
    )


def _sqlite(url: str) -> Engine:
    file = make_url(url).database
    if not file or file == ":memory:":
        raise ConfigurationError(
            "An in-memory SQLite database can't be shared by the bot, the action server and the dispatcher.",
            "Give it a file: sqlite:///var/vamos.db.",
        )
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    if not os.path.exists(file):
        # Contacts and conversations: for the owner's eyes only.
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    engine = create_engine(
        url,
        future=True,
        hide_parameters=True,
        connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False, "isolation_level": None},
        poolclass=QueuePool,  # SQLAlchemy 1.4 pools files only when told
        pool_size=10,
        max_overflow=20,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        # FULL: a claim that is committed must survive a power cut, or somebody is messaged twice.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA cache_size=-32768")
        cursor.execute("PRAGMA wal_autocheckpoint=4000")
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        wants_write = connection.get_execution_options().get("vamos_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if wants_write else "BEGIN")

    return engine
