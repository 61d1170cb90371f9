"""Called by alembic with a connection already inside a transaction (see `plugin.store.migrations.upgrade`)."""

from __future__ import annotations

from alembic import context

from plugin.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
context.run_migrations()
