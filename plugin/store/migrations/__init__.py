"""Schema versions (alembic) and the one call that brings a database up to date."""

from __future__ import annotations

from functools import lru_cache
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


@lru_cache(maxsize=1)
def head() -> str | None:
    """The newest version there is. Alembic runs every migration's module to find out."""
    return ScriptDirectory.from_config(config()).get_current_head()


def upgrade(database: Database) -> None:
    """Run the missing migrations in one transaction. A database that is up to date is only read.

    Raises:
        ConfigurationError: the database was written by a newer version of the product.
    """
    with database.read() as connection:
        if MigrationContext.configure(connection).get_current_revision() == head():
            return
    with database.write() as connection:
        if database.dialect == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        if MigrationContext.configure(connection).get_current_revision() == head():
            return  # another process was faster
        configuration = config()
        configuration.attributes["connection"] = connection
        try:
            command.upgrade(configuration, "head")
        except CommandError as error:
            raise ConfigurationError(
                f"The database has a schema this version does not know ({error}).",
                "It was used by a newer Vamos: upgrade the program, or restore the backup made before that upgrade.",
            ) from error
