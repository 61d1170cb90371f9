"""Schema versions (alembic) and the one call that brings a database up to date."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import text

from plugin.errors import ConfigurationError

if TYPE_CHECKING:
    from plugin.store.database import Database

#: Any constant does: it keeps two starting processes from migrating one PostgreSQL at once.
_LOCK_KEY = 0x56414D4F53


def config() -> Config:
    """Alembic's configuration, built here so that no ini file has to be found."""
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return configuration


def upgrade(database: Database) -> None:
    """Run the missing migrations in one transaction.

    Raises:
        ConfigurationError: the database was written by a newer version of the product.
    """
    head = ScriptDirectory.from_config(config()).get_current_head()
    with database.write() as connection:
        if database.dialect == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        if MigrationContext.configure(connection).get_current_revision() == head:
            return
        configuration = config()
        configuration.attributes["connection"] = connection
        try:
            command.upgrade(configuration, "head")
        except CommandError as error:
            raise ConfigurationError(
                f"The database has a schema this version does not know ({error}).",
                "It was used by a newer Vamos: upgrade the program, or restore the backup made before that upgrade.",
            ) from error
