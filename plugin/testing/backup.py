"""A backup of a store's database, and its return: time travel for tests."""

from __future__ import annotations

import io
import shutil
import sqlite3
from pathlib import Path

from sqlalchemy.engine.url import make_url

from plugin.store import Database, tables

_TABLES = [table.name for table in tables.metadata.sorted_tables]
#: The counters of its keys belong to a backup; pg_dump writes them too.
_SEQUENCES = "SELECT quote_ident(sequencename), last_value FROM pg_sequences WHERE last_value IS NOT NULL"


class Backup:
    """The database as it was when this was made.

    SQLite: a copy of the file by its own backup interface, put back by replacing the file. PostgreSQL: every table
    and sequence in one snapshot, put back in one transaction; the user must be a superuser.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        if database.dialect == "sqlite":
            self._copy = folder / "backup.db"
            with sqlite3.connect(_file(database)) as source, sqlite3.connect(self._copy) as target:
                source.backup(target)
            source.close()
            target.close()
        else:
            self._dump()

    def put_back(self) -> None:
        """Turn time back. What is open on a SQLite file must be closed before."""
        if self._database.dialect == "sqlite":
            self._database.engine.dispose()
            file = _file(self._database)
            for suffix in ("-wal", "-shm"):
                file.with_name(file.name + suffix).unlink(missing_ok=True)
            shutil.copyfile(self._copy, file)
        else:
            self._restore()

    def _dump(self) -> None:
        connection = self._database.engine.raw_connection()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                self._rows: dict[str, bytes] = {}
                for name in _TABLES:
                    rows = io.BytesIO()
                    cursor.copy_expert(f'COPY "{name}" TO STDOUT', rows)
                    self._rows[name] = rows.getvalue()
                cursor.execute(_SEQUENCES)
                self._counters = dict(cursor.fetchall())
            connection.rollback()
        finally:
            connection.close()

    def _restore(self) -> None:
        connection = self._database.engine.raw_connection()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL session_replication_role = replica")  # no foreign keys to mind
                for name in _TABLES:
                    cursor.execute(f'DELETE FROM "{name}"')
                    cursor.copy_expert(f'COPY "{name}" FROM STDIN', io.BytesIO(self._rows[name]))
                cursor.execute(_SEQUENCES)
                for name, _ in cursor.fetchall():
                    cursor.execute(
                        "SELECT setval(%s, %s, %s)", (name, self._counters.get(name, 1), name in self._counters)
                    )
            connection.commit()
        finally:
            connection.close()


def _file(database: Database) -> Path:
    return Path(str(make_url(database.url).database))
