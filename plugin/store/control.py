"""What people and the clock do to a broadcast: schedule, pause, resume, cancel, send again.

Every change locks the broadcast's row first and its deliveries afterwards, as the claim does: who pauses or cancels
waits for claims under way, and no claim begins before it is committed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select, text, update
from sqlalchemy.engine import Connection

from plugin.domain.why import Why
from plugin.store import tables as t
from plugin.store.meta import has_rows
from plugin.store.watch import WatchQueries
from plugin.usecases.again import Ended
from plugin.usecases.control import Locked

_OPTED_OUT = "EXISTS (SELECT 1 FROM opt_out o WHERE o.canonical = delivery.canonical)"

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
_DUE = text(f"SELECT id FROM delivery WHERE broadcast_id = :b AND {_DUE_UNKNOWN} ORDER BY id LIMIT :n")
#: Not of rows that the answer to their claim, which names its time, may still change.
_CLAIMED_AHEAD = "claimed_at > :now AND state NOT IN ('sending', 'unknown')"
#: What becomes of rows that are not sent: the first for what nobody knows about, because a copy was put back.
_DROPPED = {
    True: "state = 'unknown', error_code = 'restore', error = NULL, reason = '', not_before = NULL",
    False: "state = 'skipped', reason = 'cancelled', not_before = NULL",
}


class ControlQueries(WatchQueries):
    """Queries that change what a broadcast may do next."""

    #: Rows changed in one transaction (0.4 s): a million at once would keep every other writer of SQLite waiting for
    #: longer than they do.
    at_once = 25_000

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

    def waiting_rows(self, connection: Connection, broadcast_id: str) -> int:
        """How many rows are not under way yet."""
        return int(
            connection.execute(
                text("SELECT COUNT(*) FROM delivery WHERE broadcast_id = :b AND state IN ('queued', 'deferred')"),
                {"b": broadcast_id},
            ).scalar_one()
        )

    def drop_waiting(self, connection: Connection, broadcast_id: str, *, unknown: bool) -> int:
        """Skip for good what is not under way yet, at most `at_once` rows of it. Returns how many.

        `unknown`: after a restore. Nobody knows whether they were sent, so that is what they become.
        """
        ids = connection.execute(text(_WAITING), {"b": broadcast_id, "n": self.at_once}).scalars().all()
        still = "state IN ('queued', 'deferred')"
        return self._change_rows(connection, ids[: self.at_once], still, _DROPPED[unknown])

    def _change_rows(self, connection: Connection, ids: Sequence[int], still: str, change: str, **values: Any) -> int:
        """Change those of these deliveries that are `still` so; locked in order of ids, as everywhere."""
        if not ids:
            return 0
        these, values = f"id IN ({self.each('ids', 'BIGINT')}) AND {still}", {"ids": self.many(ids), **values}
        if self.dialect == "postgresql":
            connection.execute(text(f"SELECT 1 FROM delivery WHERE {these} ORDER BY id FOR UPDATE"), values)
        return connection.execute(text(f"UPDATE delivery SET {change} WHERE {these}"), values).rowcount

    def give_way(self) -> None:
        """Between two slices. SQLite has no queue of writers: those of other processes look every tenth of a second."""
        if self.dialect == "sqlite":
            time.sleep(0.11)

    def ended_rows(self, broadcast_id: str, state: str) -> Iterator[Ended]:
        """Rows in this state, in the file's order, read bit by bit."""
        rows = text(
            "SELECT d.id, d.row, COALESCE(d.error_code, '') AS code, COALESCE(d.claimed_at, 0) AS claimed_at,"
            " COALESCE(d.failed_at, 0) AS failed_at,"
            " EXISTS (SELECT 1 FROM opt_out o WHERE o.canonical = d.canonical) AS opted_out FROM delivery d"
            " WHERE d.broadcast_id = :b AND d.state = :state AND d.id > CAST(:after AS BIGINT) ORDER BY d.id LIMIT :n"
        )
        after = 0
        while True:
            with self.read() as connection:
                values = {"b": broadcast_id, "state": state, "after": after, "n": self.at_once}
                found = connection.execute(rows, values).all()
            yield from map(Ended._make, found)
            if len(found) < self.at_once:
                return
            after = found[-1].id

    def requeue(self, connection: Connection, ids: Sequence[int], state: str, asked: int) -> int:
        """Queue these rows afresh as far as they are still in this state, and were not claimed after `asked`.

        The error stays on a row until its next outcome; attempts go on counting, so the next one has a correlation of
        its own. Returns how many.
        """
        return self._change_rows(
            connection,
            ids,
            "state = :state AND COALESCE(claimed_at, 0) <= CAST(:asked AS BIGINT)",
            "state = 'queued', reason = '', tries = 0, not_before = NULL, failed_at = NULL",
            state=state,
            asked=asked,
        )

    def last_row(self, connection: Connection, broadcast_id: str) -> int:
        """The number of the file's last row."""
        found = connection.execute(
            text("SELECT MAX(delivery.row) FROM delivery WHERE broadcast_id = :b"), {"b": broadcast_id}
        ).scalar()
        return int(found or 0)

    # ------------------------------------------------------------------ by the dispatcher
    def pause_broadcast(self, broadcast_id: str, why: Why) -> bool:
        """Pause a running broadcast; False when it was not running."""
        with self.write() as connection:
            paused = connection.execute(
                text(
                    "UPDATE broadcast SET state = 'paused', state_code = :state_code, state_reason = :state_reason"
                    " WHERE id = :b AND state = 'running'"
                ),
                {"b": broadcast_id, **why.stored()},
            ).rowcount
            if paused:
                self.audit(connection, None, "broadcast.pause", broadcast_id, why=str(why))
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

    def forget_the_future(self) -> int:
        """After the clock was turned back: nothing waits for a moment that the wrong clock had named.

        What is looked at again when its turn comes may come at once; what the provider asked to wait for waits as
        long as it asked for, from now. (A number's own times are mended when they are read, see `Pace.read`.)
        Done again, it changes no such wait. Returns how many rows had waited.
        """
        now = {"now": self.now()}
        for change in (
            "UPDATE broadcast SET wake_at = NULL, wait_reason = '' WHERE wake_at > :now",
            "UPDATE reached SET at = :now WHERE at > :now",
            "UPDATE message SET at = :now WHERE state = 'queued' AND at > :now",
            "UPDATE contact SET last_inbound_at = :now WHERE last_inbound_at > :now",
            "UPDATE broadcast SET resumed_at = :now WHERE resumed_at > :now",
        ):
            with self.write() as connection:
                connection.execute(text(change), now)
        with self.read() as connection:
            live = connection.execute(
                text(f"SELECT id FROM broadcast WHERE state <> 'cancelled' AND {has_rows('deferred')}")
            ).all()
        mended = sum(self._forget_rows(row[0], now["now"]) for row in live)
        with self.read() as connection:
            ahead = connection.execute(
                text(
                    "SELECT id FROM broadcast WHERE EXISTS (SELECT 1 FROM delivery WHERE broadcast_id = broadcast.id"
                    f" AND {_CLAIMED_AHEAD})"
                ),
                now,
            ).all()
        for row in ahead:
            self._claimed_by_now(row[0], now["now"])
        return mended

    def _forget_rows(self, broadcast_id: str, now: int) -> int:
        waiting = "state = 'deferred' AND not_before > :now"
        wrong = text(
            f"SELECT id FROM delivery WHERE broadcast_id = :b AND {waiting} AND id > :after"
            " AND (claimed_at > :now OR reason NOT IN ('retry', 'provider')) ORDER BY id LIMIT :n"
        )
        mended = after = 0
        while True:
            with self.write() as connection:
                found = connection.execute(wrong, {"b": broadcast_id, "now": now, "after": after, "n": self.at_once})
                ids = found.scalars().all()
                mended += self._change_rows(
                    connection,
                    ids,
                    waiting,
                    "not_before = CAST(:now AS BIGINT) + CASE WHEN reason IN ('retry', 'provider')"
                    " THEN not_before - claimed_at ELSE 0 END,"
                    " claimed_at = CASE WHEN claimed_at > CAST(:now AS BIGINT) THEN CAST(:now AS BIGINT)"
                    " ELSE claimed_at END",
                    now=now,
                )
            if len(ids) < self.at_once:
                return mended
            after = ids[-1]
            self.give_way()

    def _claimed_by_now(self, broadcast_id: str, now: int) -> None:
        """What has an outcome was claimed by now: caps, waves and retries reckon from it."""
        ahead = text(f"SELECT id FROM delivery WHERE broadcast_id = :b AND {_CLAIMED_AHEAD} ORDER BY id LIMIT :n")
        while True:
            with self.write() as connection:
                values = {"b": broadcast_id, "now": now, "n": self.at_once}
                ids = connection.execute(ahead, values).scalars().all()
                self._change_rows(connection, ids, _CLAIMED_AHEAD, "claimed_at = :now", now=now)
            if len(ids) < self.at_once:
                return
            self.give_way()

    def drop_cancelled(self) -> int:
        """Drop rows of cancelled broadcasts: the rest of big ones, bit by bit, and what was in flight and came back.

        Nothing of them is claimed in the meantime, and the report counts them as dropped already. Returns how many.
        """
        with self.read() as connection:
            found = connection.execute(
                text(
                    "SELECT id, hold FROM broadcast WHERE state = 'cancelled'"
                    f" AND ({has_rows('queued')} OR {has_rows('deferred')})"
                )
            ).all()
        dropped = 0
        for row in found:
            with self.write() as connection:
                dropped += self.drop_waiting(connection, row.id, unknown=row.hold == "restore")
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
            asked = "on_unknown = 'resend' AND state IN ('running', 'finished')"
            found = connection.execute(text(f"SELECT id FROM broadcast WHERE {asked} AND {has_rows('unknown')}")).all()
            due = [row[0] for row in found if connection.execute(_DUE, {"b": row[0], "n": 1, **values}).first()]
        return sum(self._resend(broadcast_id, values) for broadcast_id in due)

    def _resend(self, broadcast_id: str, values: Mapping[str, int]) -> int:
        limits = {"b": broadcast_id, "n": self.at_once, **values}
        with self.write() as connection:
            locked = self.lock_broadcast(connection, broadcast_id)
            if locked is None or locked.state not in ("running", "finished"):
                return 0
            queued = self._change_rows(
                connection,
                connection.execute(_DUE, limits).scalars().all(),
                "state = 'unknown'",
                "state = 'queued', reason = '', not_before = NULL, resent = resent + 1",
            )
            if queued:
                self.change_broadcast(
                    connection, broadcast_id, state="running", finished_at=None, wake_at=None, wait_reason=""
                )
                self.audit(connection, None, "broadcast.resend_unknown", broadcast_id, queued=queued)
        return queued
