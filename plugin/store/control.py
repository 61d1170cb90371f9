"""What people and the clock do to a broadcast: schedule, pause, resume, cancel, send again.

Every change locks the broadcast's row first and its deliveries afterwards, as the claim does: who pauses or cancels
waits for claims under way, and no claim begins before it is committed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import bindparam, select, text, update
from sqlalchemy.engine import Connection

from plugin.store import tables as t
from plugin.store.watch import WatchQueries
from plugin.usecases.control import Locked

_OPTED_OUT = "EXISTS (SELECT 1 FROM opt_out o WHERE o.canonical = delivery.canonical)"

#: States of a delivery that has been claimed, and is not waiting to be claimed again.
_CLAIMED = ("sending", "unknown", "sent", "failed", "delivered", "read")

#: Rows skipped in one transaction (0.4 s): a million at once would keep every other writer of SQLite waiting for 17 s,
#: longer than they do.
_AT_ONCE = 25_000

_WAITING = " UNION ALL ".join(
    f"SELECT id FROM (SELECT id FROM delivery WHERE broadcast_id = :b AND state = '{state}' LIMIT :n) AS {state}_rows"
    for state in ("deferred", "queued")
)

#: An unknown outcome is sent again by itself for so long after its claim; later the message may have lost its meaning.
_RESEND_WITHIN_SECONDS = 24 * 3600

# The end of a dispatcher counts too: statuses that came while nothing ran are only now being told to us.
_DUE_UNKNOWN = (
    "delivery.state = 'unknown' AND delivery.resent = 0"
    " AND delivery.claimed_at BETWEEN CAST(:oldest AS BIGINT) AND CAST(:newest AS BIGINT)"
    f" AND NOT {_OPTED_OUT} AND NOT EXISTS (SELECT 1 FROM dispatcher x WHERE x.epoch = delivery.epoch"
    " AND x.ended_at > CAST(:newest AS BIGINT))"
)


class ControlQueries(WatchQueries):
    """Queries that change what a broadcast may do next."""

    # ------------------------------------------------------------------ by a person
    def lock_broadcast(self, connection: Connection, broadcast_id: str) -> Locked | None:
        """The broadcast as it stands, held until the transaction ends: claims wait, and it waits for claims."""
        b = t.broadcast.c
        wanted = select(b.state, b.hold, b.start_at, b.channel).where(b.id == broadcast_id)
        row = connection.execute(wanted.with_for_update(key_share=True)).first()
        return Locked(row.state, row.hold, row.start_at, row.channel) if row else None

    def change_broadcast(self, connection: Connection, broadcast_id: str, **values: Any) -> None:
        """Write columns of a broadcast that the caller has locked."""
        connection.execute(update(t.broadcast).where(t.broadcast.c.id == broadcast_id).values(**values))

    def claimed_up_to(self, connection: Connection, broadcast_id: str) -> int:
        """The last delivery that has been claimed, 0 for none."""
        one = "SELECT MAX(id) AS last FROM delivery WHERE broadcast_id = :b AND state = '{}'"
        found = connection.execute(
            text(f"SELECT MAX(last) FROM ({' UNION ALL '.join(map(one.format, _CLAIMED))}) AS lasts"),
            {"b": broadcast_id},
        ).scalar()
        return int(found or 0)

    def waiting_rows(self, connection: Connection, broadcast_id: str) -> int:
        """How many rows are not under way yet."""
        return int(
            connection.execute(
                text("SELECT COUNT(*) FROM delivery WHERE broadcast_id = :b AND state IN ('queued', 'deferred')"),
                {"b": broadcast_id},
            ).scalar_one()
        )

    def skip_rest(self, connection: Connection, broadcast_id: str) -> int:
        """Skip for good what is not under way yet, at most `_AT_ONCE` rows of it. Returns how many."""
        ids = connection.execute(text(_WAITING), {"b": broadcast_id, "n": _AT_ONCE}).scalars().all()[:_AT_ONCE]
        if not ids:
            return 0
        values = {"ids": self.many(ids)}
        these = f"id IN ({self.each('ids', 'BIGINT')}) AND state IN ('queued', 'deferred')"
        if self.dialect == "postgresql":  # late statuses lock rows in this order too
            connection.execute(text(f"SELECT 1 FROM delivery WHERE {these} ORDER BY id FOR UPDATE"), values)
        return connection.execute(
            text(f"UPDATE delivery SET state = 'skipped', reason = 'cancelled', not_before = NULL WHERE {these}"),
            values,
        ).rowcount

    def failed_codes(self, connection: Connection, broadcast_id: str) -> list[str]:
        """The codes of this broadcast's failures, "" for those without."""
        found = connection.execute(
            text("SELECT DISTINCT error_code FROM delivery WHERE broadcast_id = :b AND state = 'failed'"),
            {"b": broadcast_id},
        )
        return sorted({row[0] or "" for row in found})

    def failed_count(self, connection: Connection, broadcast_id: str, codes: Collection[str]) -> int:
        """How many rows failed with one of these codes."""
        counted = text(
            "SELECT COUNT(*) FROM delivery WHERE broadcast_id = :b AND state = 'failed'"
            " AND COALESCE(error_code, '') IN :codes"
        ).bindparams(bindparam("codes", expanding=True))
        return int(connection.execute(counted, {"b": broadcast_id, "codes": list(codes)}).scalar_one())

    def requeue_failed(self, connection: Connection, broadcast_id: str, codes: Collection[str]) -> tuple[int, int, int]:
        """Queue failed rows with these codes afresh, but for people who opted out.

        The error stays on the row until the next outcome; attempts go on counting, so the next one has a
        correlation of its own.

        Returns:
            (rows queued, rows left out, the first delivery queued or 0).
        """
        wanted = "broadcast_id = :b AND state = 'failed' AND COALESCE(error_code, '') IN :codes"
        values = {"b": broadcast_id, "codes": list(codes)}

        def run(statement: str) -> Any:
            return connection.execute(text(statement).bindparams(bindparam("codes", expanding=True)), values)

        left_out = run(f"SELECT COUNT(*) FROM delivery WHERE {wanted} AND {_OPTED_OUT}").scalar_one()
        first = run(f"SELECT MIN(id) FROM delivery WHERE {wanted} AND NOT {_OPTED_OUT}").scalar()
        queued: int = run(
            "UPDATE delivery SET state = 'queued', reason = '', tries = 0, not_before = NULL, failed_at = NULL"
            f" WHERE {wanted} AND NOT {_OPTED_OUT}"
        ).rowcount
        return queued, int(left_out), int(first or 0)

    def unknown_rows(self, connection: Connection, broadcast_id: str) -> list[tuple[int, int | None, bool]]:
        """(row number, claimed at, opted out) of every row whose outcome is unknown."""
        rows = connection.execute(
            text(
                "SELECT delivery.row, claimed_at, CASE WHEN o.canonical IS NULL THEN 0 ELSE 1 END FROM delivery"
                " LEFT JOIN opt_out o ON o.canonical = delivery.canonical"
                " WHERE broadcast_id = :b AND state = 'unknown' ORDER BY delivery.row"
            ),
            {"b": broadcast_id},
        )
        return [(int(row[0]), row[1], bool(row[2])) for row in rows]

    def last_row(self, connection: Connection, broadcast_id: str) -> int:
        """The number of the file's last row."""
        found = connection.execute(
            text("SELECT MAX(delivery.row) FROM delivery WHERE broadcast_id = :b"), {"b": broadcast_id}
        ).scalar()
        return int(found or 0)

    def requeue_unknown(self, connection: Connection, broadcast_id: str, rows: Iterable[int]) -> tuple[list[int], int]:
        """Queue these rows afresh, as far as their outcome is still unknown.

        Returns:
            (the row numbers that were queued, the first delivery queued or 0).
        """
        statement = text(
            "UPDATE delivery SET state = 'queued', reason = '', tries = 0, not_before = NULL"
            " WHERE broadcast_id = :b AND state = 'unknown' AND delivery.row IN :rows RETURNING delivery.row, id"
        ).bindparams(bindparam("rows", expanding=True))
        wanted = list(rows)
        done: list[Any] = []
        for start in range(0, len(wanted), 10_000):  # SQLite takes 32,766 values in a statement
            done += connection.execute(statement, {"b": broadcast_id, "rows": wanted[start : start + 10_000]}).all()
        return sorted(int(row[0]) for row in done), min((int(row[1]) for row in done), default=0)

    # ------------------------------------------------------------------ by the dispatcher
    def pause_broadcast(self, broadcast_id: str, reason: str) -> bool:
        """Pause a running broadcast; False when it was not running."""
        with self.write() as connection:
            paused = connection.execute(
                text(
                    "UPDATE broadcast SET state = 'paused', state_reason = :r, state_code = ''"
                    " WHERE id = :b AND state = 'running'"
                ),
                {"b": broadcast_id, "r": reason},
            ).rowcount
            if paused:
                self.audit(connection, None, "broadcast.pause", broadcast_id, reason=reason)
        return bool(paused)

    def start_due_broadcasts(self) -> list[str]:
        """Let scheduled broadcasts run whose time has come. Returns their ids."""
        due = "state = 'scheduled' AND start_at <= CAST(:now AS BIGINT)"
        values = {"now": self.now()}
        with self.read() as connection:  # once a second: the writer is not to be troubled for nothing
            if not connection.execute(text(f"SELECT 1 FROM broadcast WHERE {due} LIMIT 1"), values).first():
                return []
        with self.write() as connection:
            rows = connection.execute(
                text(f"UPDATE broadcast SET state = 'running' WHERE {due} RETURNING id, start_at"), values
            ).all()
            for row in rows:
                self.audit(connection, None, "broadcast.start", row[0], start_at=row[1])
        return [row[0] for row in rows]

    def drop_cancelled(self) -> int:
        """Skip rows of cancelled broadcasts: the rest of big ones, bit by bit, and what was in flight and came back.

        Nothing of them is claimed in the meantime, and the report counts them as skipped already. Returns how many.
        """
        with self.read() as connection:
            found = connection.execute(
                text(
                    "SELECT b.id FROM broadcast b WHERE b.state = 'cancelled' AND EXISTS (SELECT 1 FROM delivery d"
                    " WHERE d.broadcast_id = b.id AND d.state IN ('queued', 'deferred'))"
                )
            ).all()
        dropped = 0
        for row in found:
            with self.write() as connection:
                dropped += self.skip_rest(connection, row[0])
        return dropped

    def resend_due_unknowns(self, older_than: float = 600.0) -> int:
        """Queue again what has had no outcome for `older_than` seconds, where the launch asked for at least once.

        Once per row and within a day of its claim: what stays unknown after that waits for a person.
        Returns how many rows.
        """
        now = self.now()
        values: Mapping[str, int] = {
            "newest": now - int(older_than * 1_000_000),
            "oldest": now - _RESEND_WITHIN_SECONDS * 1_000_000,
        }
        with self.read() as connection:
            found = connection.execute(
                text(
                    "SELECT b.id FROM broadcast b WHERE b.on_unknown = 'resend' AND b.state IN ('running', 'finished')"
                    f" AND EXISTS (SELECT 1 FROM delivery WHERE delivery.broadcast_id = b.id AND {_DUE_UNKNOWN})"
                ),
                values,
            ).all()
        return sum(self._resend(row[0], values) for row in found)

    def _resend(self, broadcast_id: str, values: Mapping[str, int]) -> int:
        with self.write() as connection:
            locked = self.lock_broadcast(connection, broadcast_id)
            if locked is None or locked.state not in ("running", "finished"):
                return 0
            queued = connection.execute(
                text(
                    "UPDATE delivery SET state = 'queued', reason = '', not_before = NULL, resent = resent + 1"
                    f" WHERE delivery.broadcast_id = :b AND {_DUE_UNKNOWN}"
                ),
                {"b": broadcast_id, **values},
            ).rowcount
            if queued:
                self.change_broadcast(
                    connection, broadcast_id, state="running", finished_at=None, wake_at=None, wait_reason=""
                )
                self.audit(connection, None, "broadcast.resend_unknown", broadcast_id, queued=queued)
        return queued
