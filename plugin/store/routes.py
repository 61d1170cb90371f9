"""One stored message: what it answers, what was decided for it, and what that changes."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import and_, select
from sqlalchemy.engine import Connection

from plugin.domain.broadcast import Broadcast, redirect_from_json, rule_from_json
from plugin.domain.conversation import Candidate, Inbound
from plugin.domain.redirect import Decision, FreeText, Outcome, Redirect
from plugin.store import tables as t
from plugin.store.contacts import ContactQueries
from plugin.store.meta import from_json, mapping
from plugin.usecases.receive import Person


class RouteQueries(ContactQueries):
    """Queries on one row of `inbound` and the deliveries it may answer."""

    def inbound(self, inbound_id: str, connection: Connection | None = None) -> Inbound | None:
        """One stored message; with a connection, locked for the rest of its transaction."""
        if connection is None:
            with self.read() as reading:
                return self._inbound(reading, inbound_id, lock=False)
        return self._inbound(connection, inbound_id, lock=self.dialect == "postgresql")

    def _inbound(self, connection: Connection, inbound_id: str, *, lock: bool) -> Inbound | None:
        if lock:
            connection.execute(select(t.inbound.c.id).where(t.inbound.c.id == inbound_id).with_for_update())
        joined = t.inbound.outerjoin(t.delivery, t.inbound.c.delivery_id == t.delivery.c.id).outerjoin(
            t.broadcast, t.delivery.c.broadcast_id == t.broadcast.c.id
        )
        row = connection.execute(
            select(t.inbound, t.broadcast.c.id.label("broadcast_id"), t.broadcast.c.operation_id)
            .select_from(joined)
            .where(t.inbound.c.id == inbound_id)
        ).first()
        return _inbound(mapping(row)) if row and row.contact_id else None

    def candidates(self, connection: Connection, inbound: Inbound, person: Person) -> dict[str, list[Candidate]]:
        """Deliveries the message may answer, by rung: context, user_ref, returned_address, number; newest first."""
        d = t.delivery.c
        found: dict[str, list[Candidate]] = {}
        if inbound.context_id:
            proved = and_(d.sender == inbound.sender, d.provider_id == inbound.context_id)
            found["context"] = self._candidates(connection, proved)
        # Who was refused the message can't be answering it.
        unsent = ("skipped", "rejected", "queued", "deferred", "failed")
        base = and_(d.sender == inbound.sender, d.state.notin_(unsent))
        if person.user_ref:
            found["user_ref"] = self._candidates(connection, and_(base, d.user_ref == person.user_ref))
        if person.address:
            digits = person.address.lstrip("+")
            found["returned_address"] = self._candidates(connection, and_(base, d.returned_address == digits))
        if person.canonical:
            found["number"] = self._candidates(connection, and_(base, d.canonical == person.canonical))
        return found

    def candidate(self, connection: Connection, delivery_id: int) -> Candidate | None:
        found = self._candidates(connection, t.delivery.c.id == delivery_id)
        return found[0] if found else None

    def _candidates(self, connection: Connection, condition: Any) -> list[Candidate]:
        d, b = t.delivery.c, t.broadcast.c
        rows = connection.execute(
            select(
                d.id, d.broadcast_id, d.sender, d.canonical, d.user_ref, d.sent_at, d.claimed_at, d.replied_at,
                d.redirect.label("row_redirect"), b.window, b.redirect, b.queue_id, b.agent_id,
            )
            .select_from(t.delivery.join(t.broadcast, d.broadcast_id == b.id))
            .where(condition)
            .order_by(d.id.desc())
            .limit(20)
        )  # fmt: skip
        return [
            Candidate(
                delivery_id=row.id,
                broadcast_id=row.broadcast_id,
                sender=row.sender,
                canonical=row.canonical,
                user_ref=row.user_ref,
                sent_at=row.claimed_at or row.sent_at or 0,
                window=row.window,
                replied=row.replied_at is not None,
                row_redirect=from_json(row.row_redirect),
                broadcast_redirect={"kind": row.redirect, "queue": row.queue_id, "agent": row.agent_id},
            )
            for row in rows
        ]

    def broadcast_of(self, connection: Connection, delivery_id: int) -> tuple[Broadcast, Redirect | None]:
        """The broadcast of a delivery and the row's own redirect."""
        d, b = t.delivery.c, t.broadcast.c
        row = connection.execute(
            select(t.broadcast, d.redirect.label("row_redirect"), t.operation.c.push_queue_id)
            .select_from(
                t.delivery.join(t.broadcast, d.broadcast_id == b.id).join(
                    t.operation, b.operation_id == t.operation.c.id
                )
            )
            .where(d.id == delivery_id)
        ).one()
        values = mapping(row)
        chosen = {"kind": values["redirect"], "queue": values["queue_id"], "agent": values["agent_id"]}
        redirect = redirect_from_json(chosen)
        assert redirect is not None
        return Broadcast(
            id=values["id"],
            operation_id=values["operation_id"],
            channel=values["channel"],
            sender=values["sender"],
            template=from_json(values["template"]),
            redirect=redirect,
            free_text=FreeText(values["free_text"]),
            buttons={int(k): rule_from_json(v) for k, v in from_json(values["buttons"]).items()},
            notify_text=values["notify_text"],
            notify_team=bool(values["notify_team"]),
            window=values["window"],
            push_queue=values["push_queue_id"],
        ), redirect_from_json(from_json(values["row_redirect"]))

    def mark_replied(self, connection: Connection, delivery_id: int, at: int) -> bool:
        """Note the first answer to a delivery. False: there was one before."""
        d = t.delivery.c
        return bool(
            connection.execute(
                t.delivery.update().where(d.id == delivery_id, d.replied_at.is_(None)).values(replied_at=at)
            ).rowcount
        )

    def save_route(self, connection: Connection, inbound_id: str, **values: Any) -> None:
        """Write what routing found out. `decision` is a Decision, `outcome` an Outcome."""
        if isinstance(values.get("decision"), Decision):
            values["decision"] = decision_to_json(values["decision"])
        if isinstance(values.get("outcome"), Outcome):
            values["outcome"] = values["outcome"].value
        connection.execute(
            t.inbound.update().where(t.inbound.c.id == inbound_id).values(routed_at=self.now(), **values)
        )

    def mark_redirected(self, connection: Connection, inbound_id: str, by: str, case_id: str | None) -> None:
        connection.execute(
            t.inbound.update()
            .where(t.inbound.c.id == inbound_id)
            .values(redirected_at=self.now(), redirected_by=by, case_id=case_id)
        )


def decision_to_json(decision: Decision) -> str:
    return orjson.dumps(
        {
            "outcome": decision.outcome.value,
            "queue": decision.queue,
            "agent": decision.agent,
            "restart": decision.restart,
            "bot_reply": decision.bot_reply,
            "why": decision.why,
        }
    ).decode()


def _inbound(row: dict[str, Any]) -> Inbound:
    decision = from_json(row["decision"])
    return Inbound(
        id=row["id"],
        channel=row["channel"],
        provider_id=row["provider_id"],
        sender=row["sender"],
        contact_id=row["contact_id"],
        kind=row["kind"],
        text=row["text"],
        payload=row["payload"],
        is_tap=bool(row["is_tap"]),
        context_id=row["context_id"],
        state=row["state"],
        at=row["at"],
        received_at=row["received_at"],
        routed=row["routed_at"] is not None,
        delivery_id=row["delivery_id"],
        proof=row["proof"],
        interaction=bool(row["interaction"]),
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        decision=Decision(**{**decision, "outcome": Outcome(decision["outcome"])}) if decision else None,
        case_id=row["case_id"],
        redirected=row["redirected_at"] is not None,
        redirected_by=row["redirected_by"],
        broadcast_id=row["broadcast_id"],
        operation_id=row["operation_id"],
    )
