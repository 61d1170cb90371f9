"""Small shared facts: keys, counters, leases, audit."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import orjson
from sqlalchemy import select, text
from sqlalchemy.engine import Connection

from plugin.store import tables as t
from plugin.store.database import Database

#: What claims to last so many microseconds longer than anything does was written before the clock was turned back.
FURTHEST = 600 * 1_000_000


class MetaQueries(Database):
    """Queries on `meta`, `lease`, `audit` and `provider_fact`."""

    def meta(self, key: str, default: str) -> str:
        """The value of `key`; the first caller's `default` is stored and wins for ever."""
        with self.write() as connection:
            connection.execute(
                text("INSERT INTO meta (key, value) VALUES (:key, :value) ON CONFLICT (key) DO NOTHING"),
                {"key": key, "value": default},
            )
            value: str = connection.execute(select(t.meta.c.value).where(t.meta.c.key == key)).scalar_one()
            return value

    def installation(self, connection: Connection | None = None) -> str:
        """What tells this database's correlations from those of others: 8 hex digits, made once.

        Read anew each time, inside the caller's transaction when one is given: the database under a running process
        may be put back from a backup.
        """
        found = select(t.meta.c.value).where(t.meta.c.key == "installation")
        with nullcontext(connection) if connection is not None else self.read() as reading:
            known: str | None = reading.execute(found).scalar_one_or_none()
        if known is not None:
            return known
        with nullcontext(connection) if connection is not None else self.write() as writing:
            writing.execute(
                text("INSERT INTO meta (key, value) VALUES ('installation', :value) ON CONFLICT (key) DO NOTHING"),
                {"value": secrets.token_hex(4)},
            )
            made: str = writing.execute(found).scalar_one()
            return made

    # ------------------------------------------------------------------ lease
    def clock_turned_back(self, lease: str) -> bool:
        """Whether the lease was last taken by a clock that was more than `FURTHEST` ahead of the present one."""
        with self.read() as connection:
            expires_at = connection.execute(select(t.lease.c.expires_at).where(t.lease.c.name == lease)).scalar()
        return expires_at is not None and expires_at > self.now() + FURTHEST

    def take_lease(self, name: str, holder: str, seconds: float) -> int | None:
        """Take or renew a lease. Returns its epoch, which grows with every change of holder; None: another holds it.

        The epoch fences: a write that carries an old epoch is refused by `claim_deliveries` and its like.
        """
        now = self.now()
        until = now + int(seconds * 1_000_000)
        values = {"name": name, "holder": holder, "now": now, "until": until, "furthest": until + FURTHEST}
        with self.write() as connection:
            renewed = connection.execute(
                text(
                    "UPDATE lease SET expires_at = :until WHERE name = :name AND holder = :holder AND expires_at > :now"
                ),
                values,
            )
            if not renewed.rowcount:
                connection.execute(
                    text(
                        "INSERT INTO lease (name, holder, epoch, expires_at) VALUES (:name, :holder, 1, :until)"
                        " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = lease.epoch + 1,"
                        " expires_at = excluded.expires_at WHERE lease.expires_at <= :now OR lease.holder = :holder"
                        " OR lease.expires_at > :furthest"
                    ),
                    values,
                )
            row = connection.execute(
                text("SELECT epoch FROM lease WHERE name = :name AND holder = :holder AND expires_at = :until"), values
            ).first()
            return int(row[0]) if row else None

    def drop_lease(self, name: str, holder: str) -> None:
        """Give the lease back so that the next holder need not wait."""
        with self.write() as connection:
            connection.execute(
                text("UPDATE lease SET expires_at = 0 WHERE name = :name AND holder = :holder"),
                {"name": name, "holder": holder},
            )

    # ------------------------------------------------------------------ audit and counters
    def audit(self, connection: Connection, user_id: str | None, action: str, target: str, **detail: Any) -> None:
        """Record who did what, inside the caller's transaction."""
        connection.execute(
            t.audit.insert(),
            {
                "user_id": user_id,
                "action": action,
                "object": target,
                "detail": to_json(detail),
                "at": self.now(),
            },
        )

    def count_fact(self, connection: Connection, name: str, amount: int) -> None:
        """Add to a counter of things that happened at the provider's side."""
        connection.execute(
            text(
                "INSERT INTO provider_fact (name, count) VALUES (:name, :n)"
                " ON CONFLICT (name) DO UPDATE SET count = provider_fact.count + :n"
            ),
            {"name": name, "n": amount},
        )

    def facts(self) -> dict[str, int]:
        """All counters."""
        with self.read() as connection:
            return {name: int(count) for name, count in connection.execute(select(t.provider_fact))}


def has_rows(state: str) -> str:
    """Condition: the `broadcast` at hand has deliveries in `state`.

    One look at an index, however the planner feels: of an EXISTS PostgreSQL makes a scan of the whole table as soon as
    it believes that rows in this state are many. Ordered by a state that is not said to be one, because the primary
    key gives the ids' order as well, and by that it would read all other rows first.
    """
    return (
        "((SELECT d.id FROM delivery d WHERE d.broadcast_id = broadcast.id"
        f" AND d.state >= '{state}' AND d.state <= '{state}' ORDER BY d.state, d.id LIMIT 1) IS NOT NULL)"
    )


def to_json(value: Any) -> str:
    """JSON text as the database holds it."""
    return orjson.dumps(value, default=str).decode()


def from_json(value: str | None) -> Any:
    return orjson.loads(value) if value else None


def within(column: Any, operations: frozenset[str] | str, operation_id: str | None) -> list[Any]:
    """Conditions that keep a query to a person's operations ("*": all) and, if given, to one of them."""
    conditions: list[Any] = [] if operations == "*" else [column.in_(sorted(operations))]
    return conditions if operation_id is None else [*conditions, column == operation_id]


def mapping(row: Any) -> dict[str, Any]:
    """A result row as a plain dict."""
    found: Mapping[str, Any] = row._mapping
    return dict(found)
