"""Reports: a broadcast's rows are counted by the database, and listed in the file's order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import and_, func, or_, select, text, union_all
from sqlalchemy.engine import Connection

from plugin.domain.delivery import WAITING, DeliveryState, given_up
from plugin.store import tables as t
from plugin.store.meta import MetaQueries, from_json, mapping, within
from plugin.usecases.report import BroadcastSummary, rfc3339

#: Messages to the broadcast's number, while it may be answered, that are attributed to nothing, from people it reached.
_LOOSE = """
SELECT COUNT(*) FROM broadcast b
JOIN inbound i ON i.sender = b.sender AND i.delivery_id IS NULL
    AND i.at BETWEEN b.created_at AND COALESCE(b.finished_at, CAST(:now AS BIGINT)) + b.window
JOIN contact c ON c.id = i.contact_id
JOIN delivery d ON d.canonical = c.canonical AND d.sender = c.sender AND d.broadcast_id = b.id
WHERE b.id = :b AND i.routed_at IS NOT NULL AND d.state IN ('unknown', 'sent', 'delivered', 'read')
    AND i.at BETWEEN d.claimed_at AND d.claimed_at + b.window
"""

_TIMES = ("not_before", "sent_at", "delivered_at", "read_at", "failed_at", "replied_at")


class ReportQueries(MetaQueries):
    """Queries on `broadcast` and on `delivery` as a whole."""

    def broadcast_facts(self, broadcast_id: str) -> Mapping[str, Any] | None:
        b = t.broadcast.c
        with self.read() as connection:
            row = connection.execute(
                select(
                    t.broadcast,
                    t.operation.c.name.label("operation"),
                    t.app_user.c.name.label("author"),
                    t.queue.c.name.label("queue"),
                    t.sender.c.held_until,
                    t.sender.c.hold_reason,
                )
                .select_from(
                    t.broadcast.join(t.operation, b.operation_id == t.operation.c.id)
                    .join(t.app_user, b.created_by == t.app_user.c.id)
                    .outerjoin(t.queue, b.queue_id == t.queue.c.id)
                    .outerjoin(t.sender, b.sender == t.sender.c.id)
                )
                .where(b.id == broadcast_id)
            ).first()
            if row is None:
                return None
            facts = mapping(row)
            agent = connection.execute(select(t.app_user.c.name).where(t.app_user.c.id == facts["agent_id"])).scalar()
        facts.update(
            agent=agent,
            created_by=facts["author"],
            template=from_json(facts["template"])["name"],
            hours=from_json(facts["hours"]),
            first_wave=from_json(facts["first_wave"]),
            test=bool(facts["test"]),
            held_until=facts["held_until"] if (facts["held_until"] or 0) > self.now() else None,
            **self._sleep_of(facts["wake_at"], facts["wait_reason"]),
        )
        return facts

    def _sleep_of(self, wake_at: int | None, wait_reason: str) -> dict[str, Any]:
        """Until when a broadcast sleeps and why. Waking changes no row: what is stored may be over."""
        if wake_at is None or wake_at <= self.now():
            return {"wake_at": None, "wait_reason": ""}
        return {"wake_at": wake_at, "wait_reason": wait_reason}

    def delivery_counts(self, broadcast_id: str) -> list[tuple[str, str, int]]:
        """(state, reason, count); the reason only of rows that are skipped or deferred."""
        with self.read() as connection:
            # One statement, so that the counts are of one instant.
            rows = connection.execute(
                text(
                    "SELECT state, '' AS why, COUNT(*) FROM delivery WHERE broadcast_id = :b"
                    " AND state NOT IN ('skipped', 'deferred') GROUP BY state"
                    " UNION ALL SELECT state, reason, COUNT(*) FROM delivery WHERE broadcast_id = :b"
                    f" AND state IN ('skipped', 'deferred') AND {t.EXPLAINED} GROUP BY state, reason"
                ),
                {"b": broadcast_id},
            ).all()
        return [(row[0], row[1], int(row[2])) for row in rows]

    def reply_counts(self, broadcast_id: str) -> tuple[int, dict[str, int], int]:
        """(contacts who answered, contacts redirected by outcome, messages that could not be attributed).

        Unattributed: from a person this broadcast reached, inside its window, yet no delivery could be proved.
        """
        values = {"b": broadcast_id}
        with self.read() as connection:
            replied = connection.execute(
                text("SELECT COUNT(*) FROM delivery WHERE broadcast_id = :b AND replied_at IS NOT NULL"), values
            ).scalar_one()
            outcomes = connection.execute(
                text(
                    "SELECT i.outcome, COUNT(DISTINCT d.id) FROM delivery d JOIN inbound i ON i.delivery_id = d.id"
                    " WHERE d.broadcast_id = :b AND d.replied_at IS NOT NULL AND i.redirected_at IS NOT NULL"
                    " GROUP BY i.outcome"
                ),
                values,
            ).all()
            loose = connection.execute(text(_LOOSE), {**values, "now": self.now()}).scalar_one()
        return int(replied), {row[0]: int(row[1]) for row in outcomes if row[0]}, int(loose)

    def failure_counts(self, broadcast_id: str) -> list[dict[str, Any]]:
        """Failures by the provider's code: code, message of the last one, count; the most frequent first."""
        with self.read() as connection:
            rows = connection.execute(
                text(
                    "SELECT COALESCE(d.error_code, '') AS code, d.error AS message, f.count FROM"
                    " (SELECT COUNT(*) AS count, MAX(id) AS last FROM delivery WHERE broadcast_id = :b"
                    f" AND state = 'failed' AND {t.EXPLAINED} GROUP BY COALESCE(error_code, '')) AS f"
                    " JOIN delivery d ON d.id = f.last ORDER BY f.count DESC"
                ),
                {"b": broadcast_id},
            ).all()
        return [mapping(row) for row in rows]

    def broadcasts_page(
        self,
        operations: frozenset[str] | str,
        operation_id: str | None,
        after: str | None,
        limit: int,
        tests: bool = False,
    ) -> list[BroadcastSummary]:
        """Newest first; `after` is the id of the last one of the page before. `tests`: test sends too."""
        b = t.broadcast.c
        conditions = within(b.operation_id, operations, operation_id)
        with self.read() as connection:
            if after is not None:
                # Within reach only: a foreign id must look like one that doesn't exist.
                last = connection.execute(select(b.created_at).where(b.id == after, *conditions)).scalar()
                if last is None:
                    return []
                conditions.append(or_(b.created_at < last, and_(b.created_at == last, b.id < after)))
            if not tests:
                conditions.append(b.test.is_(False))
            rows = connection.execute(
                select(t.broadcast, t.operation.c.name.label("operation"), t.app_user.c.name.label("author"))
                .select_from(
                    t.broadcast.join(t.operation, b.operation_id == t.operation.c.id).join(
                        t.app_user, b.created_by == t.app_user.c.id
                    )
                )
                .where(*conditions)
                .order_by(b.created_at.desc(), b.id.desc())
                .limit(limit)
            ).all()
            counts: dict[str, dict[str, int]] = {row.id: {} for row in rows}
            d = t.delivery.c
            for broadcast_id, state, count in connection.execute(
                select(d.broadcast_id, d.state, func.count())
                .where(d.broadcast_id.in_(list(counts)))
                .group_by(d.broadcast_id, d.state)
            ):
                counts[broadcast_id][state] = int(count)
        return [
            BroadcastSummary(
                id=row.id,
                operation_id=row.operation_id,
                operation=row.operation,
                template=from_json(row.template)["name"],
                filename=row.filename,
                redirect=row.redirect,
                state=row.state,
                rows=row.rows,
                created_by=row.author,
                created_at=row.created_at,
                states=_folded(counts[row.id], given_up(row.state, row.hold)),
                start_at=row.start_at,
                test=bool(row.test),
                **self._sleep_of(row.wake_at, row.wait_reason),
            )
            for row in rows
        ]

    def delivery_rows(self, broadcast_id: str, state: str | None, after: int, limit: int) -> list[dict[str, Any]]:
        """Lines in file order after row number `after`, with the reply that was attributed to each.

        States are those the report counts: what waits in a cancelled broadcast is given up already.
        """
        b, d, i = t.broadcast.c, t.delivery.c, t.inbound.c
        with self.read() as connection:
            broadcast = connection.execute(select(b.state, b.hold).where(b.id == broadcast_id)).one()
            given = given_up(broadcast.state, broadcast.hold)
            condition, order = [d.broadcast_id == broadcast_id, d.row > after], d.row
            if state is not None:
                states = [s.value for s in DeliveryState if state == (given[0] if given and s in WAITING else s)]
                condition, order = [d.id.in_(_ids(broadcast_id, states, after, limit))], d.id
            rows = connection.execute(
                select(
                    d.row, d.line, d.address, d.state, d.reason, d.error_code, d.error, d.attempts, d.not_before,
                    d.sent_at, d.delivered_at, d.read_at, d.failed_at, d.replied_at, i.text.label("reply"), i.outcome,
                    i.proof, i.redirected_by,
                )
                .select_from(t.delivery.outerjoin(t.inbound, and_(i.delivery_id == d.id, i.interaction.is_(True))))
                .where(*condition)
                .order_by(order)
                .limit(limit)
            )  # fmt: skip
            names = tuple(rows.keys())
            # A download has a million of them.
            found = [dict(zip(names, row, strict=True)) for row in rows.all()]
            refused = [values["row"] for values in found if values["state"] == "rejected"]
            reasons = self._refused_lines(connection, broadcast_id, refused) if refused else {}
        for values in found:
            for name in _TIMES:
                if values[name] is not None:
                    values[name] = rfc3339(values[name])
            if values["row"] in reasons:
                values["error"] = reasons[values["row"]]
            if given and values["state"] in WAITING:
                values["state"], values["reason"], values["not_before"] = *given, None
                if values["state"] == DeliveryState.UNKNOWN.value:
                    values["error_code"], values["error"] = "restore", None
        return found

    def _refused_lines(self, connection: Connection, broadcast_id: str, rows: list[int]) -> dict[int, str]:
        """What the check of the file said about its refused lines, by row number."""
        u, b = t.upload_row.c, t.broadcast.c
        found = connection.execute(
            select(u.row, u.errors)
            .select_from(t.upload_row.join(t.broadcast, b.upload_id == u.upload_id))
            .where(b.id == broadcast_id, u.row.in_(rows))
        ).all()
        return {row: " ".join(_said(error) for error in from_json(errors or "[]")) for row, errors in found}


def _ids(broadcast_id: str, states: Iterable[str], after: int, limit: int) -> Any:
    """The first `limit` deliveries in each of these states after row number `after`.

    By id, which grows with the row: the index has the rows of one state in this order.
    """
    d, e = t.delivery.c, t.delivery.alias().c
    last = select(e.id).where(e.broadcast_id == broadcast_id, e.row <= after).order_by(e.row.desc()).limit(1)
    beyond = [d.id > func.coalesce(last.scalar_subquery(), 0)] if after else []
    firsts = [
        select(d.id).where(d.broadcast_id == broadcast_id, d.state == state, *beyond).order_by(d.id).limit(limit)
        for state in states
    ]
    return union_all(*(select(first.subquery().c.id) for first in firsts)) if firsts else ()


def _folded(states: dict[str, int], given: tuple[str, str] | None) -> dict[str, int]:
    """Counts by state with what is `given_up` where it belongs."""
    waiting = sum(states.get(state, 0) for state in WAITING)
    if given is None or not waiting:
        return states
    return {s: n for s, n in states.items() if s not in WAITING} | {given[0]: states.get(given[0], 0) + waiting}


def _said(error: Mapping[str, str]) -> str:
    """One refused cell in words, without its value."""
    where = f"{error['column']}: " if error["column"] else ""
    return f"{where}{error['reason']} {error['remedy']}"
