"""Looks at the database from outside, while the run goes on and after it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import text

from plugin.cli.crashtest.checker import Row
from plugin.store.database import Database


@dataclass(frozen=True)
class Census:
    """One glance: rows by state, the broadcast's state and its reason, rows that each live epoch has in flight."""

    states: dict[str, int]
    broadcast: str
    reason: str
    in_flight: dict[int, int]

    @property
    def left(self) -> int:
        """Rows that are still to be sent or settled."""
        return sum(self.states.get(state, 0) for state in ("queued", "deferred", "sending"))


def look(database: Database, broadcast_id: str) -> Census:
    """Count, each count in one statement."""
    with database.read() as connection:
        states = connection.execute(
            text("SELECT state, COUNT(*) FROM delivery WHERE broadcast_id = :b GROUP BY state"), {"b": broadcast_id}
        ).all()
        flying = connection.execute(
            text("SELECT epoch, COUNT(*) FROM delivery WHERE state = 'sending' GROUP BY epoch")
        ).all()
        found = connection.execute(
            text("SELECT state, state_reason FROM broadcast WHERE id = :b"), {"b": broadcast_id}
        ).one()
    return Census(dict(map(tuple, states)), found[0], found[1], dict(map(tuple, flying)))


def newest_epoch(database: Database) -> int:
    """The last epoch given out, 0 before the first."""
    with database.read() as connection:
        return int(connection.execute(text("SELECT COALESCE(MAX(epoch), 0) FROM dispatcher")).scalar_one())


def epochs_of(database: Database, pid: int, after: int) -> list[int]:
    """The epochs that process `pid` was given since `after`."""
    with database.read() as connection:
        return list(
            connection.execute(
                text("SELECT epoch FROM dispatcher WHERE pid = :pid AND epoch > :after"), {"pid": pid, "after": after}
            ).scalars()
        )


def left_open(database: Database, epoch: int) -> int:
    """Rows that a dead dispatcher left in flight, whether or not they have been found already."""
    with database.read() as connection:
        return int(
            connection.execute(
                text(
                    "SELECT cut_off + (SELECT COUNT(*) FROM delivery d WHERE d.epoch = p.epoch AND d.state = 'sending')"
                    " FROM dispatcher p WHERE p.epoch = :epoch"
                ),
                {"epoch": epoch},
            ).scalar_one()
        )


def how_ended(database: Database, epoch: int) -> str:
    """``drained``, ``crashed``, or nothing while it counts as alive."""
    with database.read() as connection:
        return str(
            connection.execute(text("SELECT ended FROM dispatcher WHERE epoch = :epoch"), {"epoch": epoch}).scalar_one()
        )


def attempts_of(database: Database, epoch: int) -> set[tuple[int, int]]:
    """(row, attempt) of every claim of this epoch that is the row's latest."""
    with database.read() as connection:
        found = connection.execute(text("SELECT id, attempts FROM delivery WHERE epoch = :epoch"), {"epoch": epoch})
        return {(row, attempt) for row, attempt in found}


def live_dispatchers(database: Database) -> int:
    """Dispatchers that announced to be alive now."""
    with database.read() as connection:
        return int(
            connection.execute(
                text("SELECT COUNT(*) FROM dispatcher WHERE ended = '' AND expires_at > :now"), {"now": database.now()}
            ).scalar_one()
        )


def rows_of(database: Database, broadcast_id: str) -> Iterator[Row]:
    """Every row of the broadcast."""
    with database.read() as connection:
        found = connection.execute(
            text("SELECT id, row, state, error_code, attempts, epoch FROM delivery WHERE broadcast_id = :b"),
            {"b": broadcast_id},
        )
        for one in found:
            yield Row(*one)
