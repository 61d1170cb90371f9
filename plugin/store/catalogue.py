"""Operations, queues, members and templates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
from sqlalchemy import insert, select, text, update

from plugin.domain.access import ATTEND, EVERY_OPERATION, Reach
from plugin.domain.template import Template
from plugin.store.database import Database, new_id
from plugin.store.tables import app_user, operation, queue, queue_member, template, user_grant
from plugin.usecases.setup import Named, OperationInfo

#: Status of a template that the provider no longer lists.
DELETED = "DELETED"


class CatalogueQueries(Database):
    """What must be there before somebody can send. Satisfies `plugin.usecases.setup.SetupStore`."""

    def operations(self, reach: Reach) -> list[OperationInfo]:
        """The operations within `reach` by name, with their queues and those who may attend."""
        wanted = select(operation).order_by(operation.c.name)
        if reach != EVERY_OPERATION:
            if not reach:
                return []
            wanted = wanted.where(operation.c.id.in_(sorted(reach)))
        queues: dict[str, list[Named]] = defaultdict(list)
        agents: dict[str, list[Named]] = defaultdict(list)
        with self.read() as connection:
            rows = connection.execute(wanted).mappings().all()
            for q in connection.execute(select(queue).order_by(queue.c.name)).mappings():
                queues[q["operation_id"]].append(Named(q["id"], q["name"]))
            granted = (
                select(user_grant.c.operation_id, app_user.c.id, app_user.c.name)
                .join(app_user, app_user.c.id == user_grant.c.user_id)
                .where(user_grant.c.permission == ATTEND, app_user.c.disabled.is_(False))
            )
            members = (
                select(queue.c.operation_id, app_user.c.id, app_user.c.name)
                .select_from(queue_member.join(queue, queue.c.id == queue_member.c.queue_id))
                .join(app_user, app_user.c.id == queue_member.c.user_id)
                .where(app_user.c.disabled.is_(False))
            )
            for people in (granted, members):
                for operation_id, user_id, name in connection.execute(people):
                    agents[operation_id].append(Named(user_id, name))
        return [
            OperationInfo(
                id=row["id"],
                name=row["name"],
                sender=row["sender"],
                push_queue=row["push_queue_id"],
                queues=tuple(queues[row["id"]]),
                agents=_by_name(agents[row["id"]] + agents[EVERY_OPERATION]),
            )
            for row in rows
        ]

    def add_operation(self, name: str, sender: str) -> str:
        operation_id = new_id()
        with self.write() as connection:
            connection.execute(
                insert(operation).values(id=operation_id, name=name, sender=sender, created_at=self.now())
            )
        return operation_id

    def add_queue(self, operation_id: str, name: str) -> str:
        queue_id = new_id()
        with self.write() as connection:
            connection.execute(
                insert(queue).values(id=queue_id, operation_id=operation_id, name=name, created_at=self.now())
            )
        return queue_id

    def queue_operation(self, queue_id: str) -> str | None:
        """The operation that a queue belongs to."""
        with self.read() as connection:
            found: str | None = connection.execute(select(queue.c.operation_id).where(queue.c.id == queue_id)).scalar()
        return found

    def set_push_queue(self, operation_id: str, queue_id: str) -> None:
        with self.write() as connection:
            connection.execute(update(operation).where(operation.c.id == operation_id).values(push_queue_id=queue_id))

    def add_queue_member(self, queue_id: str, user_id: str) -> None:
        with self.write() as connection:
            connection.execute(
                text("INSERT INTO queue_member (queue_id, user_id) VALUES (:q, :u) ON CONFLICT DO NOTHING"),
                {"q": queue_id, "u": user_id},
            )

    # ------------------------------------------------------------------ templates
    def templates(self, channel: str | None = None) -> list[Template]:
        """Every template ever seen, with our own ids."""
        wanted = select(template)
        if channel is not None:
            wanted = wanted.where(template.c.channel == channel)
        with self.read() as connection:
            return [_template(row) for row in connection.execute(wanted).mappings()]

    def template(self, template_id: str) -> Template | None:
        """A template by our id."""
        with self.read() as connection:
            row = connection.execute(select(template).where(template.c.id == template_id)).mappings().first()
        return _template(row) if row else None

    def upsert_templates(self, channel: str, templates: Sequence[Template]) -> None:
        """Make the table say what the provider says now; our ids stay. A missing one becomes DELETED."""
        now = self.now()
        with self.write() as connection:
            known = {
                (row["name"], row["language"]): row["id"]
                for row in connection.execute(select(template).where(template.c.channel == channel)).mappings()
            }
            for one in templates:
                values = {
                    "provider_id": one.id,
                    "category": one.category,
                    "status": one.status,
                    "raw": orjson.dumps(dict(one.raw)).decode(),
                    "synced_at": now,
                }
                template_id = known.pop((one.name, one.language), None)
                if template_id:
                    connection.execute(update(template).where(template.c.id == template_id).values(**values))
                else:
                    connection.execute(
                        insert(template).values(
                            id=new_id(), channel=channel, name=one.name, language=one.language, **values
                        )
                    )
            if known:
                gone = template.c.id.in_(list(known.values()))
                connection.execute(update(template).where(gone).values(status=DELETED, synced_at=now))


def _template(row: Any) -> Template:
    # The columns win over the raw object: DELETED is our own finding.
    return replace(Template.from_meta(orjson.loads(row["raw"])), id=row["id"], status=row["status"])


def _by_name(people: list[Named]) -> tuple[Named, ...]:
    return tuple(sorted(dict.fromkeys(people), key=lambda p: p.name))
