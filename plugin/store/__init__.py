"""The only SQL of the product. `Store` satisfies the store protocols that the use cases declare."""

from __future__ import annotations

from plugin.store.access import AccessQueries
from plugin.store.broadcasts import BroadcastQueries
from plugin.store.catalogue import CatalogueQueries
from plugin.store.database import Database, new_id
from plugin.store.desk import DeskQueries
from plugin.store.dispatchers import DispatcherQueries
from plugin.store.replies import ReplyQueries
from plugin.store.reports import ReportQueries
from plugin.store.uploads import UploadQueries


class Store(
    UploadQueries,
    AccessQueries,
    CatalogueQueries,
    BroadcastQueries,
    ReportQueries,
    ReplyQueries,
    DeskQueries,
    DispatcherQueries,
    Database,
):
    """Everything that can be asked of the database."""


__all__ = ["Database", "Store", "new_id"]
