"""Uploaded files and their rows. (INTAKE: yours to replace as a whole; here so that `plugin.store` imports.)"""

from __future__ import annotations

from plugin.store.database import Database


class UploadQueries(Database):
    """Queries on `upload` and `upload_row`."""
