"""Whom we must not write to: `opt_out`, one row per person, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import or_, select, text, tuple_
from sqlalchemy.engine import Connection

from plugin.store import tables as t
from plugin.store.database import retried
from plugin.store.meta import MetaQueries, mapping
from plugin.store.spelling import any_spelling
from plugin.usecases.consent import Cursor, Search, Suppression

#: Advisory lock of PostgreSQL. Claims share it from their look at the opt-outs to their commit; an opt-out takes it
#: alone until its own.
CONSENT_LOCK = 0x6F7074

_INSERT = """
INSERT INTO opt_out (canonical, source, detail, inbound_id, delivery_id, user_id, at)
WITH person(key) AS ({keys})
SELECT key, :source, :detail, :inbound, CAST(:delivery AS BIGINT), :user, CAST(:at AS BIGINT) FROM person
WHERE true ORDER BY key ON CONFLICT (canonical) DO NOTHING
"""
# What the person or we decided outlives what the provider reported: the provider's own `resume` must not undo it.
_OVERRULE = """
UPDATE opt_out SET source = :source, detail = :detail, inbound_id = :inbound, delivery_id = CAST(:delivery AS BIGINT),
  user_id = :user, at = CAST(:at AS BIGINT)
WHERE source = 'provider' AND canonical IN ({keys})
"""
# By person, never by state (hence the ||): without statistics both databases would look through all that is queued.
_WAITING = "canonical IN ({keys}) AND state || '' IN ('queued', 'deferred')"
# Nobody knows whether what waits in a broadcast that a restore holds was sent: it isn't now, and claims no more.
_HELD = "broadcast_id IN (SELECT id FROM broadcast WHERE hold = 'restore')"
_DROP = (
    f"UPDATE delivery SET state = CASE WHEN {_HELD} THEN 'unknown' ELSE 'skipped' END,"
    f" reason = CASE WHEN {_HELD} THEN '' ELSE 'opted_out' END,"
    f" error_code = CASE WHEN {_HELD} THEN 'restore' ELSE error_code END, not_before = NULL WHERE "
)
_SKIP = {
    "sqlite": _DROP + _WAITING,
    # Locked in order of rows, as everywhere, so that two writers wait for one another in line.
    "postgresql": f"{_DROP} id IN (SELECT id FROM delivery WHERE {_WAITING} ORDER BY id FOR UPDATE)",
}


class ConsentQueries(MetaQueries):
    """Queries on `opt_out`. Satisfies `plugin.usecases.consent.ConsentStore`."""

    def write_opt_out(
        self,
        connection: Connection,
        canonical: str,
        source: str,
        *,
        detail: str = "",
        inbound_id: str | None = None,
        delivery_id: int | None = None,
        user_id: str | None = None,
        at: int | None = None,
    ) -> bool:
        """Suppress a number. What waits for it is skipped in the same transaction. False: it was suppressed already.

        Args:
            source: word, button, provider, import or person. Any other one takes the place of ``provider``.
            delivery_id: the delivery that was answered, or refused for it.
            at: when the provider says it happened (microseconds); None: now.

        Raises:
            ValueError: a NUL in the number; PostgreSQL takes none, and SQLite's JSON would end there.
        """
        if "\0" in canonical:
            raise ValueError("a NUL in a number")
        values = {"detail": detail, "inbound": inbound_id, "delivery": delivery_id, "user": user_id, "at": at}
        return bool(self._suppress(connection, [canonical], source, values))

    def suppress_all(self, keys: Sequence[str], source: str, *, detail: str, user_id: str | None) -> int:
        """Suppress these numbers and skip what waits for them, in one transaction. Returns how many are new."""
        values = {"detail": detail, "inbound": None, "delivery": None, "user": user_id, "at": None}

        def write() -> int:
            with self.write() as connection:
                return self._suppress(connection, keys, source, values)

        return retried(write)

    def _suppress(self, connection: Connection, keys: Sequence[str], source: str, given: dict[str, Any]) -> int:
        at = self.now() if given["at"] is None else given["at"]
        values = {**given, "at": at, "source": source, "keys": self.many(keys)}
        new: int = connection.execute(self._over_keys(_INSERT), values).rowcount
        if source != "provider" and new < len(keys):
            connection.execute(self._over_keys(_OVERRULE), values)
        connection.execute(self._over_keys(_SKIP[self.dialect]), {"keys": values["keys"]})
        if self.dialect == "postgresql":
            # Claims that have already looked for opt-outs and did not see this one; those that follow wait for us.
            connection.execute(text(f"SELECT pg_advisory_xact_lock({CONSENT_LOCK})"))
        return new

    def _over_keys(self, statement: str) -> Any:
        return text(statement.format(keys=self.each("keys", "TEXT")))

    # ------------------------------------------------------------------ undo
    def delete_opt_out(self, connection: Connection, canonical: str) -> dict[str, Any] | None:
        """Lift a suppression; the entry as it was, None when there was none. Rows skipped for it stay skipped."""
        o = t.opt_out.c
        row = connection.execute(select(t.opt_out).where(o.canonical == canonical).with_for_update()).first()
        if row is None:
            return None
        connection.execute(t.opt_out.delete().where(o.canonical == canonical))
        return _entry(row)

    def resume_consent(self, connection: Connection, canonical: str, at: int) -> bool:
        """The provider reports that the person wants messages again: lift its own opt-out, if that is older than `at`.

        Whatever the person told us, or we decided, stands.
        """
        o = t.opt_out.c
        row = connection.execute(
            select(t.opt_out)
            .where(o.canonical == canonical, o.source == "provider", o.at <= at)
            .with_for_update()
        ).first()  # fmt: skip
        if row is None:
            return False
        connection.execute(t.opt_out.delete().where(o.canonical == canonical))
        self.audit(connection, None, "suppression.resume", canonical, entry=_entry(row))
        return True

    # ------------------------------------------------------------------ report
    def suppressions(self, search: Search, after: Cursor | None, limit: int) -> list[Suppression]:
        """Newest first; `after` is the place of the last one of the page before."""
        o, d, b = t.opt_out.c, t.delivery.c, t.broadcast.c
        conditions: list[Any] = []
        if after is not None:
            conditions.append(tuple_(o.at, o.canonical) < tuple_(after.at, after.canonical))
        if search.operation_id is not None:
            conditions += [o.delivery_id.isnot(None), b.operation_id == search.operation_id]
        if search.source is not None:
            conditions.append(o.source == search.source)
        if search.canonical is not None:
            conditions.append(o.canonical == search.canonical)
        elif search.operations != "*":
            # The first condition needs no join: most rows of a long imported list end there.
            conditions.append(or_(o.delivery_id.isnot(None), o.user_id == search.user_id))
            conditions.append(or_(b.operation_id.in_(sorted(search.operations)), o.user_id == search.user_id))
        if search.digits is not None:
            conditions.append(o.canonical.contains(search.digits, autoescape=True))
        if search.words is not None:
            conditions.append(o.detail.regexp_match(any_spelling(search.words)))
        statement = (
            select(
                o.canonical.label("address"), o.source, o.detail, o.at, o.user_id, t.app_user.c.name.label("by"),
                b.id.label("broadcast_id"), t.template.c.name.label("template"), b.filename, d.row, d.line,
                b.operation_id, t.operation.c.name.label("operation"),
            )
            .select_from(
                t.opt_out.outerjoin(t.delivery, d.id == o.delivery_id)
                .outerjoin(t.broadcast, b.id == d.broadcast_id)
                .outerjoin(t.template, t.template.c.id == b.template_id)
                .outerjoin(t.operation, t.operation.c.id == b.operation_id)
                .outerjoin(t.app_user, t.app_user.c.id == o.user_id)
            )
            .where(*conditions)
            .order_by(o.at.desc(), o.canonical.desc())
            .limit(limit)
        )  # fmt: skip
        with self.read() as connection:
            return [Suppression(**mapping(row)) for row in connection.execute(statement)]


def _entry(row: Any) -> dict[str, Any]:
    """The whole row, its names as plain texts: for the audit log."""
    return {str(name): value for name, value in mapping(row).items()}
