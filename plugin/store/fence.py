"""Is this database still the one it was? Its mark, the alarm that holds every broadcast, and the end of a hold.

In `meta`: `installation`, in the name of everything we send; `generation`, which only grows; `installations`, JSON of
the earlier ones. An alarm gives the database a new installation, because it will give out again the row numbers and
attempts that were lost: what the provider still says about those must not be taken for news of other people's rows.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from plugin.connector import StatusUpdate
from plugin.domain.access import Reach
from plugin.domain.correlation import Correlation
from plugin.domain.why import Why
from plugin.store.database import micros
from plugin.store.meta import MetaQueries, from_json, mapping
from plugin.usecases.reconcile import UNKNOWN_ATTEMPT, Mark, OnHold

_OPEN = "broadcast.state IN ('scheduled', 'running', 'paused') AND broadcast.hold <> 'restore'"
_TIMELINE = "substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
_SYSTEM = "SELECT CAST(system_identifier AS TEXT) FROM pg_control_system()"
_SYNCHRONOUS = (
    "SELECT current_setting('synchronous_standby_names') <> ''"
    " AND current_setting('synchronous_commit') IN ('on', 'remote_apply')"
)
_KINDS = {"d": "delivery", "m": "message"}
#: A claim that the database lost, written back.
_PROVED = """
UPDATE delivery SET attempts = :attempt, claimed_at = COALESCE(claimed_at, CAST(:at AS BIGINT)),
  error_code = CASE WHEN state IN ('queued', 'deferred') THEN 'restore' ELSE error_code END,
  reason = CASE WHEN state IN ('queued', 'deferred') THEN '' ELSE reason END,
  not_before = CASE WHEN state IN ('queued', 'deferred') THEN NULL ELSE not_before END,
  state = CASE WHEN state IN ('queued', 'deferred') THEN 'unknown' ELSE state END
WHERE id = :id AND attempts < :attempt
"""


@dataclass(frozen=True)
class _Earlier:
    """An installation that an alarm ended: `last` row by kind ("d", "m") and the time, microseconds UTC."""

    last: dict[str, int]
    at: int


class FenceQueries(MetaQueries):
    """Queries that tell a database from an older copy of itself."""

    # ------------------------------------------------------------------ the mark
    def read_mark(self, connection: Connection) -> Mark:
        """How far this database has come."""
        installation = self.installation(connection)
        return Mark(
            installation=installation,
            generation=int(self._meta(connection, "generation") or 0),
            claims={row[0]: int(row[1]) for row in connection.execute(text("SELECT id, claims FROM sender"))},
            system=str(self._told(connection, _SYSTEM) or ""),
            timeline=str(self._told(connection, f"SELECT {_TIMELINE}") or ""),
            synchronous=bool(self._told(connection, _SYNCHRONOUS)),
            earlier=frozenset(self._earlier(connection)),
        )

    def advance_mark(self, connection: Connection) -> Mark:
        """Count one heartbeat, and read. Whoever else advances or alarms waits until this transaction ends."""
        connection.execute(
            text(
                "INSERT INTO meta (key, value) VALUES ('generation', '1') ON CONFLICT (key) DO UPDATE"
                " SET value = CAST(CAST(meta.value AS BIGINT) + 1 AS TEXT)"
            )
        )
        return self.read_mark(connection)

    def moved(self, connection: Connection, mark: Mark) -> bool:
        """Whether this is no longer the database that `mark` was read from: for each claim, one cheap look.

        True also after an alarm, which changes the installation: what is claimed next must carry the new one.
        """
        timeline = _TIMELINE if mark.timeline else "''"
        row = self.run(
            connection,
            "SELECT MAX(CASE WHEN key = 'installation' THEN value END) AS installation,"
            f" MAX(CASE WHEN key = 'generation' THEN value END) AS generation, {timeline} AS timeline"
            " FROM meta WHERE key IN ('installation', 'generation')",
        ).one()
        return (
            row.installation != mark.installation
            or int(row.generation or 0) < mark.generation
            or row.timeline != mark.timeline
        )

    def _meta(self, connection: Connection, key: str) -> str | None:
        found: str | None = connection.execute(
            text("SELECT value FROM meta WHERE key = :key"), {"key": key}
        ).scalar_one_or_none()
        return found

    def _told(self, connection: Connection, query: str) -> Any:
        """What a PostgreSQL server says of itself; None when it may not, as on some hosted ones."""
        if self.dialect != "postgresql":
            return None
        try:
            with connection.begin_nested():
                return connection.execute(text(query)).scalar()
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            return None

    def _earlier(self, connection: Connection) -> dict[str, _Earlier]:
        found = from_json(self._meta(connection, "installations")) or {}
        return {name: _Earlier({"d": one["d"], "m": one["m"]}, one["at"]) for name, one in found.items()}

    # ------------------------------------------------------------------ the alarm
    def open_broadcasts(self, connection: Connection) -> int:
        """How many broadcasts may still send by themselves or at a person's click."""
        return int(connection.execute(text(f"SELECT COUNT(*) FROM broadcast WHERE {_OPEN}")).scalar_one())

    def raise_alarm(self, connection: Connection, why: Why) -> int:
        """Hold every broadcast until a person has reconciled it. Returns how many were not on hold before.

        Whatever was on its way when the backup was made is unknown now, messages of agents included. A broadcast
        launched later is not held.
        """
        connection.execute(text("UPDATE meta SET value = value WHERE key = 'generation'"))  # one alarm at a time
        held = connection.execute(
            text(f"SELECT id, state, hold, state_code, state_reason FROM broadcast WHERE {_OPEN} ORDER BY id")
        ).all()
        for row in held:
            # The entry also serves `release_hold`: it says what the broadcast was.
            self.audit(connection, None, "broadcast.hold", row.id, cause=why.code, before=mapping(row))
        connection.execute(
            text(
                "UPDATE broadcast SET state = 'paused', hold = 'restore', state_code = :state_code,"
                f" state_reason = :state_reason WHERE {_OPEN}",
            ),
            why.stored(),
        )
        # A finished one goes on by itself when a row comes back to it, or to send unknown ones again: it may have.
        connection.execute(
            text(
                "UPDATE broadcast SET on_unknown = 'keep' WHERE state = 'finished' AND on_unknown = 'resend' AND EXISTS"
                " (SELECT 1 FROM delivery d WHERE d.broadcast_id = broadcast.id AND d.state = 'unknown')"
            )
        )
        connection.execute(
            text(
                "UPDATE delivery SET state = 'unknown', error_code = 'restore', error = NULL, reason = '',"
                " not_before = NULL WHERE state IN ('queued', 'deferred')"
                " AND broadcast_id IN (SELECT id FROM broadcast WHERE state = 'finished')"
            )
        )
        ended = self._end_installation(connection)
        lost = connection.execute(
            text("UPDATE delivery SET state = 'unknown', error_code = 'restore' WHERE state = 'sending'")
        ).rowcount
        lost_messages = connection.execute(
            text("UPDATE message SET state = 'unknown' WHERE state IN ('queued', 'sending')")
        ).rowcount
        self.audit(
            connection, None, "restore.alarm", ended, cause=why.code, held=len(held), rows=lost, messages=lost_messages
        )
        return len(held)

    def _end_installation(self, connection: Connection) -> str:
        """Give the database a new installation; returns the one it had."""
        ended = self.installation(connection)
        last = {
            kind: int(connection.execute(text(f"SELECT MAX(id) FROM {table}")).scalar() or 0)
            for kind, table in _KINDS.items()
        }
        known = from_json(self._meta(connection, "installations")) or {}
        values = {
            "installation": secrets.token_hex(4),
            "installations": orjson.dumps({**known, ended: {**last, "at": self.now()}}).decode(),
        }
        for key, value in values.items():
            connection.execute(
                text(
                    "INSERT INTO meta (key, value) VALUES (:key, :value)"
                    " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
                ),
                {"key": key, "value": value},
            )
        return ended

    # ------------------------------------------------------------------ the end of a hold
    def on_hold(self, operations: Reach, connection: Connection | None = None) -> list[OnHold]:
        """Broadcasts that only reconciling lets go on, oldest first."""
        if connection is None:
            with self.read() as reading:
                return self.on_hold(operations, reading)
        rows = connection.execute(
            text(
                "SELECT b.id, b.operation_id, o.name AS operation, b.filename, b.state_code, b.state_reason,"
                " (SELECT COUNT(*) FROM delivery d WHERE d.broadcast_id = b.id AND d.state IN ('queued', 'deferred'))"
                " AS waiting FROM broadcast b JOIN operation o ON o.id = b.operation_id"
                " WHERE b.state = 'paused' AND b.hold = 'restore' ORDER BY b.created_at, b.id"
            )
        )
        found = [
            OnHold(row.id, row.operation_id, row.operation, row.filename, row.waiting, Why.read(row[4], row[5]))
            for row in rows
        ]
        return [one for one in found if operations == "*" or one.operation_id in operations]

    def before_hold(self, connection: Connection, broadcast_id: str) -> dict[str, str]:
        """What a broadcast on hold was before the alarm: its columns state, hold, state_code, state_reason."""
        entry = connection.execute(
            text("SELECT detail FROM audit WHERE action = 'broadcast.hold' AND object = :b ORDER BY id DESC LIMIT 1"),
            {"b": broadcast_id},
        ).scalar_one()
        before = from_json(entry)["before"]
        return {name: before[name] for name in ("state", "hold", "state_code", "state_reason")}

    # ------------------------------------------------------------------ statuses
    def named_rows(
        self, connection: Connection, updates: Sequence[StatusUpdate]
    ) -> list[tuple[StatusUpdate, Correlation | None]]:
        """Each status with the row of ours that it names; None: a stranger's, or a row that a restore lost.

        A status that names an attempt this database never made proves that the database was put back: everything is
        put on hold, once (the alarm ends the installation that the status names). The proof counts for the row too:
        what was waiting has been sent, in that attempt, and becomes `unknown` for the status to settle.
        """
        current, earlier = self.installation(connection), self._earlier(connection)
        read = [(update, Correlation.read(update.correlation, current, *earlier)) for update in updates]
        named = [c for _, c in read if c is not None]
        rows = {kind: self._attempts(connection, kind, {c.row for c in named if c.kind == kind}) for kind in _KINDS}
        fresh = [c for c in named if c.installation == current]
        if any(self._never_made(connection, c, rows[c.kind]) for c in fresh):
            self.raise_alarm(connection, UNKNOWN_ATTEMPT)
            earlier = self._earlier(connection)
        found: list[tuple[StatusUpdate, Correlation | None]] = []
        proved: dict[int, dict[str, int]] = {}
        for update, c in read:
            known = rows[c.kind].get(c.row) if c else None
            ended = earlier.get(c.installation) if c else None
            if c is None or known is None or (ended and c.row > ended.last[c.kind]):
                found.append((update, None))
                continue
            if ended and known.claimed_at is not None and known.claimed_at > ended.at:
                # Sent again since: an attempt of the same number, but not this one.
                c = replace(c, attempt=0)
            elif c.kind == "d" and c.attempt > max(known.attempts, proved.get(c.row, {}).get("attempt", 0)):
                at = min(micros(update.at), ended.at if ended else self.now())
                proved[c.row] = {"id": c.row, "attempt": c.attempt, "at": at}
            found.append((update, c))
        if proved:
            connection.execute(text(_PROVED), [proved[row] for row in sorted(proved)])
        return found

    def _attempts(self, connection: Connection, kind: str, rows: Collection[int]) -> dict[int, Any]:
        """The known ones of these rows: {id: (id, attempts, claimed_at)}."""
        if not rows:
            return {}
        found = connection.execute(
            text(f"SELECT id, attempts, claimed_at FROM {_KINDS[kind]} WHERE id IN ({self.each('ids', 'BIGINT')})"),
            {"ids": self.many(sorted(rows))},
        )
        return {row.id: row for row in found}

    def _never_made(self, connection: Connection, c: Correlation, known: Mapping[int, Any]) -> bool:
        """Whether no claim of this database's can have sent that. A row missing below the highest may be deleted."""
        if c.row in known:
            return c.kind == "d" and c.attempt > int(known[c.row].attempts)  # those of a message may fall
        highest = connection.execute(text(f"SELECT MAX(id) FROM {_KINDS[c.kind]}")).scalar()
        return c.row > int(highest or 0)
