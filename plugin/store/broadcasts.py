"""Launch: a broadcast's rows are made by the database, never one object a row."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import or_, select, text
from sqlalchemy.engine import Connection

from plugin.domain.broadcast import ButtonRule, redirect_to_json, rule_to_json
from plugin.domain.redirect import Redirect, RedirectKind
from plugin.domain.template import Template
from plugin.domain.upload import Upload
from plugin.errors import AlreadyLaunched
from plugin.store import tables as t
from plugin.store.database import new_id
from plugin.store.meta import MetaQueries, to_json
from plugin.usecases.launch import LaunchRequest, OperationFacts

_DELIVERIES = """
INSERT INTO delivery (broadcast_id, row, line, state, reason, sender, address, canonical, variables, redirect,
                      attempts, epoch)
SELECT :broadcast, u.row, u.line,
       CASE WHEN u.state <> 'accepted' THEN u.state WHEN o.canonical IS NULL THEN 'queued' ELSE 'skipped' END,
       CASE WHEN u.state <> 'accepted' THEN u.reason WHEN o.canonical IS NULL THEN '' ELSE 'opted_out' END,
       :sender, u.address, u.canonical, u.variables, u.redirect, 0, 0
FROM upload_row u LEFT JOIN opt_out o ON o.canonical = u.canonical
WHERE u.upload_id = :upload
ORDER BY u.row
"""

#: A test send: one row of the file, addressed to somebody else.
_TRIAL = """
INSERT INTO delivery (broadcast_id, row, line, state, reason, sender, address, canonical, variables, redirect,
                      attempts, epoch)
SELECT :broadcast, :nth, :nth, CASE WHEN o.canonical IS NULL THEN 'queued' ELSE 'skipped' END,
       CASE WHEN o.canonical IS NULL THEN '' ELSE 'opted_out' END,
       :sender, :address, :canonical, u.variables, u.redirect, 0, 0
FROM upload_row u LEFT JOIN opt_out o ON o.canonical = :canonical
WHERE u.upload_id = :upload AND u.row = :row
"""

#: New rows that change what the planner should think of the table.
_MANY = 500


class BroadcastQueries(MetaQueries):
    """Queries that launch a broadcast."""

    def replayed(self, connection: Connection, user_id: str, key: str, body_hash: str) -> str | None:
        """The broadcast launched under this key before.

        Raises:
            AlreadyLaunched: the key was used for a different request.
        """
        if self.dialect == "postgresql":  # two requests with one key: the second waits for the first
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:k))"), {"k": f"{user_id}.{key}"})
        i = t.idempotency.c
        row = connection.execute(select(i.body_hash, i.response).where(i.user_id == user_id, i.key == key)).first()
        if row is None:
            return None
        found: str = row.response
        if row.body_hash != body_hash:
            raise AlreadyLaunched(found)
        return found

    def remember(self, connection: Connection, user_id: str, key: str, body_hash: str, response: str) -> None:
        """Bind a key to its effect, in the transaction of the effect."""
        connection.execute(
            t.idempotency.insert(),
            {"user_id": user_id, "key": key, "body_hash": body_hash, "response": response, "at": self.now()},
        )

    def operation_facts(self, operation_id: str) -> OperationFacts | None:
        o, q, m, g = t.operation.c, t.queue.c, t.queue_member.c, t.user_grant.c
        with self.read() as connection:
            row = connection.execute(select(o.sender, o.push_queue_id).where(o.id == operation_id)).first()
            if row is None:
                return None
            queues = connection.execute(select(q.id).where(q.operation_id == operation_id)).scalars().all()
            members = connection.execute(
                select(m.user_id).join(t.queue, m.queue_id == q.id).where(q.operation_id == operation_id)
            ).scalars()
            attending = connection.execute(
                select(g.user_id).where(
                    g.permission == "desk.attend", or_(g.operation_id == operation_id, g.operation_id == "*")
                )
            ).scalars()
            agents = frozenset(members) | frozenset(attending)
        return OperationFacts(row.sender, row.push_queue_id, frozenset(queues), agents)

    def rows_ask_for_human(self, upload_id: str) -> bool:
        """Whether a row of the file redirects to a human without saying to whom."""
        asked = to_json(redirect_to_json(Redirect(RedirectKind.HUMAN)))
        u = t.upload_row.c
        with self.read() as connection:
            found = connection.execute(
                select(u.row).where(u.upload_id == upload_id, u.state == "accepted", u.redirect == asked).limit(1)
            ).first()
        return found is not None

    def accepted_row(self, upload_id: str, row: int | None) -> int | None:
        """`row`, if it is an accepted row of the file; for None the first one. None: there is no such row."""
        u = t.upload_row.c
        wanted = select(u.row).where(u.upload_id == upload_id, u.state == "accepted")
        with self.read() as connection:
            found: int | None = connection.execute(
                (wanted if row is None else wanted.where(u.row == row)).order_by(u.row).limit(1)
            ).scalar()
        return found

    def template_channel(self, template_id: str) -> str:
        """The channel whose provider approved a template."""
        with self.read() as connection:
            found: str = connection.execute(
                select(t.template.c.channel).where(t.template.c.id == template_id)
            ).scalar_one()
        return found

    def create_broadcast(
        self,
        connection: Connection,
        request: LaunchRequest,
        *,
        channel: str,
        sender: str,
        upload: Upload,
        template: Template,
        buttons: Mapping[int, ButtonRule],
        user_id: str,
    ) -> str:
        """Insert the broadcast and a delivery for every line of its upload, or for every person of a test."""
        broadcast_id = new_id()
        trial = request.trial
        connection.execute(
            t.broadcast.insert(),
            {
                "id": broadcast_id,
                "operation_id": request.operation_id,
                "channel": channel,
                "sender": sender,
                "upload_id": upload.id,
                "template_id": request.template_id,
                "template": to_json(template.raw),
                "filename": upload.filename,
                "sha256": upload.sha256,
                "redirect": request.redirect.kind.value,
                "queue_id": request.redirect.queue,
                "agent_id": request.redirect.agent,
                "buttons": to_json({str(i): rule_to_json(rule) for i, rule in buttons.items()}),
                "free_text": request.free_text.value,
                "notify_text": request.notify_text.strip(),
                "notify_team": request.notify_team,
                "window": request.window_hours * 3600 * 1_000_000,
                "state": "running" if request.start_at is None else "scheduled",
                "state_reason": "",
                "test": trial is not None,
                "hours": to_json(request.hours.to_json()) if request.hours else "",
                "first_wave": to_json(request.first_wave.to_json()) if request.first_wave else "",
                "on_unknown": request.on_unknown,
                "start_at": request.start_at,
                "rows": len(trial.people) if trial else upload.rows,
                "created_by": user_id,
                "created_at": self.now(),
            },
        )
        values = {"broadcast": broadcast_id, "sender": sender, "upload": upload.id}
        if trial is None:
            connection.execute(text(_DELIVERIES), values)
        else:
            people = enumerate(trial.people, 1)
            connection.execute(
                text(_TRIAL),
                [{**values, "row": trial.row, "nth": n, "address": a, "canonical": c} for n, (a, c) in people],
            )
        if request.first_wave is not None:
            self._bound_wave(connection, broadcast_id, request.first_wave.size)
        return broadcast_id

    def deliveries_came(self, rows: int) -> None:
        """Tell PostgreSQL's planner of so many new rows: before it knows, finding one takes 30 times as long.

        After the launch's transaction: statistics wait for one another.
        """
        if self.dialect == "postgresql" and rows >= _MANY:
            with self.write() as connection:
                connection.execute(text("ANALYZE delivery"))

    def _bound_wave(self, connection: Connection, broadcast_id: str, size: int) -> None:
        """Note where the first wave ends. No further when opt-outs left nobody beyond: all of it is the wave then."""
        d = t.delivery.c
        queued = select(d.id).where(d.broadcast_id == broadcast_id, d.state == "queued").order_by(d.id)
        last = connection.execute(queued.offset(size - 1).limit(2)).scalars().all()
        if len(last) == 2:
            b = t.broadcast
            connection.execute(b.update().where(b.c.id == broadcast_id).values(wave_end=last[0]))
