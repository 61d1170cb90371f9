"""Cases, their events, notifications."""

from __future__ import annotations

from typing import Any

from sqlalchemy import case as sql_case
from sqlalchemy import func, literal, select, text
from sqlalchemy.engine import Connection

from plugin.domain.template import Template
from plugin.store import tables as t
from plugin.store.contacts import ContactQueries
from plugin.store.database import new_id
from plugin.store.meta import from_json, mapping, to_json, within
from plugin.usecases.handoff import CaseSummary, CaseView
from plugin.usecases.notify import NotificationSummary

_LIVE = ("queued", "active")


class DeskQueries(ContactQueries):
    """Queries on `service_case`, `case_event` and `notification`."""

    def live_case(self, connection: Connection, contact_id: str) -> str | None:
        """The contact's open case, if a human has one; it can't be closed before the transaction ends."""
        c = t.service_case.c
        found = select(c.id).where(c.contact_id == contact_id, c.state.in_(_LIVE)).order_by(c.opened_at).limit(1)
        row = connection.execute(found.with_for_update() if self.dialect == "postgresql" else found).first()
        return row[0] if row else None

    def open_case(
        self,
        connection: Connection,
        *,
        operation_id: str,
        queue_id: str | None,
        agent_id: str | None,
        contact_id: str,
        inbound_id: str | None,
        delivery_id: int | None,
        why: str,
    ) -> str:
        """Open a case; a named agent has it at once, otherwise it waits in its queue."""
        if self.dialect == "postgresql":  # two replies of one contact at once must not open two cases
            connection.execute(select(t.contact.c.id).where(t.contact.c.id == contact_id).with_for_update())
            live = self.live_case(connection, contact_id)
            if live:
                if inbound_id:
                    self.attach_to_case(connection, inbound_id, live)
                return live
        case_id, now = new_id(), self.now()
        connection.execute(
            t.service_case.insert(),
            {
                "id": case_id,
                "operation_id": operation_id,
                "queue_id": queue_id,
                "contact_id": contact_id,
                "inbound_id": inbound_id,
                "delivery_id": delivery_id,
                "state": "active" if agent_id else "queued",
                "version": 1,
                "agent_id": agent_id,
                "why": why,
                "outcome": "",
                "returned": "",
                "waiting_since": now,
                "opened_at": now,
            },
        )
        self._event(connection, case_id, "opened", "system", {"queue": queue_id, "agent": agent_id, "why": why})
        if inbound_id:
            self.attach_to_case(connection, inbound_id, case_id)
        return case_id

    def attach_to_case(self, connection: Connection, inbound_id: str, case_id: str) -> None:
        """Make a contact's message part of a case."""
        connection.execute(t.message.update().where(t.message.c.inbound_id == inbound_id).values(case_id=case_id))
        c = t.service_case.c
        connection.execute(
            t.service_case.update()
            .where(c.id == case_id, c.waiting_since.is_(None), c.state.in_(_LIVE))
            .values(waiting_since=self.now())
        )

    def move_case(
        self, connection: Connection, case_id: str, version: int, event: str, actor: str, **changes: Any
    ) -> bool:
        """Compare-and-swap on the version, with its event row. False: somebody was faster, nothing changed."""
        c = t.service_case.c
        moved = connection.execute(
            t.service_case.update()
            .where(c.id == case_id, c.version == version, c.state.in_(_LIVE))
            .values(version=version + 1, **changes)
        ).rowcount
        if moved:
            self._event(connection, case_id, event, actor, changes)
        return bool(moved)

    def _event(self, connection: Connection, case_id: str, event: str, actor: str, detail: dict[str, Any]) -> None:
        connection.execute(
            t.case_event.insert(),
            {"case_id": case_id, "event": event, "actor": actor, "detail": to_json(detail), "at": self.now()},
        )

    def answer(self, connection: Connection, case_id: str, contact_id: str, agent_id: str, text_: str) -> None:
        self.queue_message(
            connection, contact_id=contact_id, author="agent", author_id=agent_id, text_=text_, case_id=case_id
        )

    def operation_of_sender(self, connection: Connection, contact_id: str) -> tuple[str, str | None] | None:
        """(operation, its push queue): the one that last wrote to the contact, else one that has their number."""
        row = connection.execute(
            text(
                "SELECT o.id, o.push_queue_id FROM contact c JOIN operation o ON o.sender = c.sender"
                " LEFT JOIN (SELECT b.operation_id, MAX(d.id) AS last FROM delivery d JOIN broadcast b"
                " ON b.id = d.broadcast_id JOIN contact cc ON cc.canonical = d.canonical AND cc.sender = d.sender"
                " WHERE cc.id = :contact GROUP BY b.operation_id) w ON w.operation_id = o.id"
                " WHERE c.id = :contact ORDER BY COALESCE(w.last, 0) DESC, o.created_at LIMIT 1"
            ),
            {"contact": contact_id},
        ).first()
        return (row[0], row[1]) if row else None

    # ------------------------------------------------------------------ reading
    def _summaries(self, *conditions: Any) -> Any:
        c = t.service_case.c
        last = (
            select(t.message.c.text)
            .where(t.message.c.case_id == c.id, t.message.c.author == "contact")
            .order_by(t.message.c.id.desc())
            .limit(1)
            .correlate(t.service_case)
            .scalar_subquery()
        )
        return (
            select(
                t.service_case,
                t.queue.c.name.label("queue_name"),
                t.app_user.c.name.label("agent_name"),
                t.contact.c.name.label("contact_name"),
                t.contact.c.address,
                last.label("last_text"),
            )
            .select_from(
                t.service_case.join(t.contact, c.contact_id == t.contact.c.id)
                .outerjoin(t.queue, c.queue_id == t.queue.c.id)
                .outerjoin(t.app_user, c.agent_id == t.app_user.c.id)
            )
            .where(*conditions)
        )

    def cases(
        self,
        operations: frozenset[str] | str,
        operation_id: str | None,
        queue_id: str | None,
        state: str | None,
        limit: int,
    ) -> list[CaseSummary]:
        c = t.service_case.c
        conditions = within(c.operation_id, operations, operation_id)
        if queue_id is not None:
            conditions.append(c.queue_id == queue_id)
        if state is not None:
            conditions.append(c.state == state)
        # Open ones first, among them who has waited longest; then the closed ones, newest first.
        rank = sql_case((c.state == "closed", 1), else_=0)
        with self.read() as connection:
            rows = connection.execute(
                self._summaries(*conditions)
                .order_by(
                    rank, func.coalesce(c.waiting_since, c.opened_at) * sql_case((c.state == "closed", -1), else_=1)
                )
                .limit(limit)
            ).all()
        return [_summary(mapping(row)) for row in rows]

    def case(self, case_id: str) -> CaseSummary | None:
        with self.read() as connection:
            row = connection.execute(self._summaries(t.service_case.c.id == case_id)).first()
        return _summary(mapping(row)) if row else None

    def case_view(self, summary: CaseSummary) -> CaseView:
        e = t.case_event.c
        with self.read() as connection:
            case = connection.execute(select(t.service_case).where(t.service_case.c.id == summary.id)).one()
            events = connection.execute(
                select(e.event, e.actor, e.at, t.app_user.c.name.label("actor_name"))
                .select_from(t.case_event.outerjoin(t.app_user, e.actor == t.app_user.c.id))
                .where(e.case_id == summary.id)
                .order_by(e.id)
            ).all()
            last = connection.execute(
                select(t.contact.c.last_inbound_at).where(t.contact.c.id == summary.contact_id)
            ).scalar_one()
        return CaseView(
            summary=summary,
            broadcast=self.delivery_view(case.delivery_id) if case.delivery_id else None,
            messages=[
                {k: m[k] for k in ("id", "author", "author_name", "text", "state", "at", "error", "case_id")}
                for m in self.conversation(summary.contact_id)
            ],
            events=[mapping(row) for row in events],
            last_inbound_at=last,
        )

    def delivery_view(self, delivery_id: int) -> dict[str, Any]:
        """What a person was sent: broadcast, template name, the text as the phone showed it, buttons, time."""
        d, b = t.delivery.c, t.broadcast.c
        with self.read() as connection:
            row = connection.execute(
                select(d.variables, d.sent_at, d.state, b.template, b.id.label("broadcast"))
                .select_from(t.delivery.join(t.broadcast, d.broadcast_id == b.id))
                .where(d.id == delivery_id)
            ).one()
        template = Template.from_meta(from_json(row.template))
        return {
            "broadcast": row.broadcast,
            "template": template.name,
            "text": template.render(from_json(row.variables) or {}),
            "header": template.header,
            "footer": template.footer,
            "buttons": [button.text for button in template.buttons],
            "state": row.state,
            "at": row.sent_at,
        }

    def delivery_text(self, delivery_id: int) -> str:
        """The text a person was sent."""
        found: str = self.delivery_view(delivery_id)["text"]
        return found

    # ------------------------------------------------------------------ the bot learns that a case is over
    def cases_to_tell(self, limit: int) -> list[dict[str, str]]:
        """Closed cases whose end the bot's tracker does not know yet: id, contact_id, channel, returned."""
        c = t.service_case.c
        with self.read() as connection:
            rows = connection.execute(
                select(c.id, c.contact_id, t.contact.c.channel, c.returned)
                .select_from(t.service_case.join(t.contact, c.contact_id == t.contact.c.id))
                .where(c.state == "closed", c.bot_told_at.is_(None))
                .order_by(c.closed_at)
                .limit(limit)
            ).all()
        return [mapping(row) for row in rows]

    def case_to_tell(self, case_id: str) -> bool:
        """Whether a case is one of `cases_to_tell`."""
        c = t.service_case.c
        wanted = select(c.id).where(c.id == case_id, c.state == "closed", c.bot_told_at.is_(None))
        with self.read() as connection:
            return connection.execute(wanted).first() is not None

    def case_told(self, case_id: str) -> None:
        with self.write() as connection:
            connection.execute(
                t.service_case.update().where(t.service_case.c.id == case_id).values(bot_told_at=self.now())
            )

    # ------------------------------------------------------------------ notifications
    def add_notification(self, connection: Connection, **values: Any) -> None:
        connection.execute(t.notification.insert(), {"id": new_id(), "at": self.now(), **values})

    def notifications(
        self, operations: frozenset[str] | str, operation_id: str | None, limit: int
    ) -> list[NotificationSummary]:
        """Newest first."""
        n = t.notification.c
        conditions = within(n.operation_id, operations, operation_id)
        with self.read() as connection:
            rows = connection.execute(
                select(
                    t.notification,
                    t.contact.c.name.label("contact_name"),
                    t.contact.c.address,
                    t.inbound.c.text.label("reply"),
                    t.message.c.state.label("message_state"),
                )
                .select_from(
                    t.notification.join(t.contact, n.contact_id == t.contact.c.id)
                    .join(t.inbound, n.inbound_id == t.inbound.c.id)
                    .outerjoin(t.message, t.message.c.dedupe == literal("redirect.") + n.inbound_id + literal(".0"))
                )
                .where(*conditions)
                .order_by(n.at.desc(), n.id.desc())
                .limit(limit)
            ).all()
        return [
            NotificationSummary(
                id=row.id,
                operation_id=row.operation_id,
                broadcast_id=row.broadcast_id,
                contact_name=row.contact_name,
                address=row.address,
                text=row.text,
                reply=row.reply,
                team=bool(row.team),
                via=row.via,
                state=row.message_state or "",
                at=row.at,
            )
            for row in rows
        ]


def _summary(row: dict[str, Any]) -> CaseSummary:
    return CaseSummary(
        id=row["id"],
        operation_id=row["operation_id"],
        queue_id=row["queue_id"],
        queue=row["queue_name"],
        agent_id=row["agent_id"],
        agent=row["agent_name"],
        contact_id=row["contact_id"],
        contact_name=row["contact_name"],
        address=row["address"],
        state=row["state"],
        version=row["version"],
        why=row["why"],
        last_text=row["last_text"] or "",
        opened_at=row["opened_at"],
        waiting_since=row["waiting_since"],
        closed_at=row["closed_at"],
        returned=row["returned"],
        outcome=row["outcome"],
    )
