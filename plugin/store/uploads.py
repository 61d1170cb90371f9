"""Uploads and their rows. Rows arrive in bulk; duplicates and opt-outs are found by the database."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import orjson
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.engine import Connection

from plugin.domain.broadcast import redirect_from_json
from plugin.domain.delivery import SkipReason
from plugin.domain.upload import CellError, RowState, Upload, UploadRow, UploadState
from plugin.store.database import Database, new_id
from plugin.store.tables import upload, upload_row
from plugin.usecases.csvrows import AcceptedRow, OtherRow

_SORT_KIB = 8192

#: In one statement: every SQLite takes so many.
_PARAMETERS = 999

_ACCEPTED = ("row", "line", "address", "canonical", "variables", "redirect")
_OTHERS = ("row", "line", "state", "reason", "cells", "errors")
_EMPTY_IS_NULL = frozenset({"redirect", "cells", "errors"})

# Opt-outs before duplicates: whoever asked us to stop is told so in every row.
_OPTED_OUT = text(
    "UPDATE upload_row SET state = 'skipped', reason = :reason"
    " WHERE upload_id = :upload AND state = 'accepted' AND canonical IN (SELECT canonical FROM opt_out)"
)
_DUPLICATES = (
    "UPDATE upload_row SET state = 'skipped', reason = :reason WHERE upload_id = :upload AND \"row\" IN ("
    ' SELECT "row" FROM ('
    '  SELECT "row", row_number() OVER (PARTITION BY canonical ORDER BY "row") AS nth'
    "  FROM upload_row WHERE upload_id = :upload AND state = 'accepted'{among}) AS numbered"
    " WHERE nth > 1)"
)
# SQLite finds out sooner which numbers occur again, and numbers only those; PostgreSQL does not.
_AMONG = {
    "sqlite": " AND canonical IN (SELECT canonical FROM upload_row WHERE upload_id = :upload AND state = 'accepted'"
    " GROUP BY canonical HAVING count(*) > 1)",
    "postgresql": "",
}
_OTHERS_COUNT = text(
    "SELECT state, reason, count(*) FROM upload_row WHERE upload_id = :upload AND state <> 'accepted'"
    " GROUP BY state, reason"
)
_COUNT = text('SELECT coalesce(max("row"), 0) FROM upload_row WHERE upload_id = :upload')


class UploadQueries(Database):
    """Satisfies `plugin.usecases.intake.UploadStore` (with the catalogue's queries)."""

    def begin_upload(self, *, operation_id: str, template_id: str, user_id: str, filename: str, sha256: str) -> str:
        """A new upload in state `reading`; returns its id."""
        upload_id = new_id()
        with self.write() as connection:
            connection.execute(
                insert(upload).values(
                    id=upload_id,
                    operation_id=operation_id,
                    template_id=template_id,
                    user_id=user_id,
                    filename=filename,
                    sha256=sha256,
                    state=UploadState.READING.value,
                    created_at=self.now(),
                )
            )
        return upload_id

    def describe_upload(self, upload_id: str, encoding: str, delimiter: str, columns: Mapping[str, Any]) -> None:
        """How the file turned out to be written, and what its columns are for."""
        with self.write() as connection:
            connection.execute(
                update(upload)
                .where(upload.c.id == upload_id)
                .values(encoding=encoding, delimiter=delimiter, columns=orjson.dumps(columns).decode())
            )

    def add_upload_rows(self, upload_id: str, accepted: Sequence[AcceptedRow], others: Sequence[OtherRow]) -> None:
        """One batch, in one transaction."""
        with self.write() as connection:
            if accepted:
                state = RowState.ACCEPTED.value
                self._bulk(connection, _ACCEPTED, accepted, upload_id=upload_id, state=state, reason="")
            if others:
                self._bulk(connection, _OTHERS, others, upload_id=upload_id)

    def _bulk(
        self, connection: Connection, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], **common: str
    ) -> None:
        """Insert `rows` of `columns`. `common` is the same in all of them: our own ids and words, never input."""
        names = ", ".join(f'"{column}"' for column in (*columns, *common))
        if self.dialect == "sqlite":
            # Binding is what takes the time: nothing for what is the same in all rows, and a None as much as two texts.
            bound = ["nullif(?, '')" if column in _EMPTY_IS_NULL else "?" for column in columns]
            row = "(" + ", ".join(bound + [f"'{value}'" for value in common.values()]) + ")"
            # Many rows a statement: the tree is searched for the place of the first one only.
            several = _PARAMETERS // len(columns)
            whole = len(rows) - len(rows) % several
            begin = f"INSERT INTO upload_row ({names}) VALUES "
            together = [tuple(chain.from_iterable(rows[i : i + several])) for i in range(0, whole, several)]
            for statement, values in ((begin + ", ".join([row] * several), together), (begin + row, rows[whole:])):
                if values:
                    connection.exec_driver_sql(statement, values)
            return
        buffer = io.StringIO()
        constants = tuple(common.values())
        csv.writer(buffer).writerows([row + constants for row in rows])
        buffer.seek(0)
        # An empty field means NULL, but for `reason`, which may be empty and never NULL.
        statement = f"COPY upload_row ({names}) FROM STDIN (FORMAT csv, FORCE_NOT_NULL (reason))"
        connection.connection.cursor().copy_expert(statement, buffer)

    def finish_upload(self, upload_id: str) -> None:
        """Skip opted-out numbers and repeated ones, count, and open the upload for launching."""
        with self.write() as connection:
            if self.dialect == "postgresql":
                # Of rows just loaded the planner knows nothing: what follows would compare each one with every other.
                connection.execute(text("ANALYZE upload_row"))
            connection.execute(_OPTED_OUT, {"upload": upload_id, "reason": SkipReason.OPTED_OUT.value})
            with self._sorting(connection):
                repeated = text(_DUPLICATES.format(among=_AMONG[self.dialect]))
                connection.execute(repeated, {"upload": upload_id, "reason": SkipReason.DUPLICATE.value})
            rows = connection.execute(_COUNT, {"upload": upload_id}).scalar_one()
            rejected = 0
            skipped: dict[str, int] = {}
            for state, reason, count in connection.execute(_OTHERS_COUNT, {"upload": upload_id}):
                if state == RowState.SKIPPED.value:
                    skipped[reason] = count
                else:
                    rejected += count
            connection.execute(
                update(upload)
                .where(upload.c.id == upload_id)
                .values(
                    state=UploadState.READY.value,
                    rows=rows,
                    accepted=rows - rejected - sum(skipped.values()),
                    rejected=rejected,
                    skipped=orjson.dumps(skipped).decode(),
                )
            )

    @contextmanager
    def _sorting(self, connection: Connection) -> Iterator[None]:
        """SQLite sorts in as much memory again as its page cache may take: less of it inside the block."""
        if self.dialect != "sqlite":
            yield
            return
        usual = connection.exec_driver_sql("PRAGMA cache_size").scalar_one()
        connection.exec_driver_sql(f"PRAGMA cache_size={-_SORT_KIB}")
        try:
            yield
        finally:
            connection.exec_driver_sql(f"PRAGMA cache_size={usual}")

    def refuse_upload(self, upload_id: str, error: Mapping[str, Any]) -> None:
        """The file can't be used: keep why, drop its rows."""
        with self.write() as connection:
            connection.execute(delete(upload_row).where(upload_row.c.upload_id == upload_id))
            connection.execute(
                update(upload)
                .where(upload.c.id == upload_id)
                .values(state=UploadState.UNREADABLE.value, error=orjson.dumps(error).decode())
            )

    def drop_abandoned_uploads(self, older_than_seconds: float) -> int:
        """Delete uploads begun longer ago that are still `reading`, with their rows; returns how many.

        Their process was killed. `older_than_seconds` must be more than the longest reading takes: a reading whose
        upload is gone fails.
        """
        before = self.now() - round(older_than_seconds * 1_000_000)
        abandoned = select(upload.c.id).where(upload.c.state == UploadState.READING.value, upload.c.created_at < before)
        with self.write() as connection:
            # Locked, so that none of them becomes `ready` between its rows and itself; one that gets rows now is left.
            ids = connection.execute(abandoned.with_for_update(skip_locked=True)).scalars().all()
            if ids:
                connection.execute(delete(upload_row).where(upload_row.c.upload_id.in_(ids)))
                connection.execute(delete(upload).where(upload.c.id.in_(ids)))
        return len(ids)

    def upload(self, upload_id: str) -> Upload | None:
        """An upload by its id."""
        with self.read() as connection:
            row = connection.execute(select(upload).where(upload.c.id == upload_id)).mappings().first()
        if row is None:
            return None
        return Upload(
            **{
                **row,
                "columns": orjson.loads(row["columns"]),
                "state": UploadState(row["state"]),
                "error": orjson.loads(row["error"]) if row["error"] else None,
                "skipped": orjson.loads(row["skipped"]),
            }
        )

    def upload_rows(
        self, upload_id: str, state: RowState | str | None = None, after: int = 0, limit: int = 100
    ) -> list[UploadRow]:
        """Rows in the file's order; the next page begins `after` the last one's `row`."""
        wanted = select(upload_row).where(upload_row.c.upload_id == upload_id, upload_row.c.row > after)
        if state is not None:
            wanted = wanted.where(upload_row.c.state == RowState(state).value)
            if RowState(state) is not RowState.ACCEPTED:
                # Said literally so that SQLite sees that the partial index applies.
                wanted = wanted.where(text("state <> 'accepted'"))
        with self.read() as connection:
            found = connection.execute(wanted.order_by(upload_row.c.row).limit(limit)).mappings().all()
        return [_row(one) for one in found]


def _row(row: Mapping[Any, Any]) -> UploadRow:
    return UploadRow(
        row=row["row"],
        line=row["line"],
        state=RowState(row["state"]),
        reason=row["reason"],
        address=row["address"],
        canonical=row["canonical"],
        variables=orjson.loads(row["variables"]) if row["variables"] else {},
        redirect=redirect_from_json(orjson.loads(row["redirect"])) if row["redirect"] else None,
        cells=tuple(orjson.loads(row["cells"])) if row["cells"] else (),
        errors=tuple(CellError(**error) for error in orjson.loads(row["errors"])) if row["errors"] else (),
    )
