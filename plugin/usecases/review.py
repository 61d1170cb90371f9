"""Look at an upload between reading and launching."""

from __future__ import annotations

from typing import Protocol

from plugin.domain.access import BROADCAST, Principal
from plugin.domain.upload import RowState, Upload, UploadRow
from plugin.errors import NotFound


class ReviewStore(Protocol):
    """What this module needs of the store."""

    def upload(self, upload_id: str) -> Upload | None: ...
    def upload_rows(
        self, upload_id: str, state: RowState | None = None, after: int = 0, limit: int = 100
    ) -> list[UploadRow]: ...


def view_upload(store: ReviewStore, principal: Principal, upload_id: str) -> Upload:
    """An upload with its counts.

    Raises:
        NotFound, Forbidden: missing, or of an operation this person does not broadcast for.
    """
    upload = store.upload(upload_id)
    if upload is None:
        raise NotFound("O arquivo enviado não existe.", "Atualize a página e envie de novo.")
    principal.require(BROADCAST, upload.operation_id)
    return upload


def view_rows(
    store: ReviewStore,
    principal: Principal,
    upload_id: str,
    *,
    state: RowState | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[UploadRow]:
    """Rows in the file's order after row number `after`, `limit` (1 to 500) at most.

    Raises:
        NotFound, Forbidden: as `view_upload`.
    """
    view_upload(store, principal, upload_id)
    return store.upload_rows(upload_id, state, max(after, 0), max(1, min(limit, 500)))
