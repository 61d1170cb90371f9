"""The rejected rows of an upload as a CSV that can be corrected and sent again."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Protocol

from plugin.domain.access import BROADCAST, Principal
from plugin.domain.address import for_spreadsheet
from plugin.domain.upload import RowState, Upload, UploadRow
from plugin.errors import NotFound
from plugin.usecases.csvcolumns import REASON_KEYS, key
from plugin.usecases.csvrows import guard

_PAGE = 1_000


class RejectedStore(Protocol):
    """What this module needs of the store."""

    def upload(self, upload_id: str) -> Upload | None: ...
    def upload_rows(
        self, upload_id: str, state: RowState | None = None, after: int = 0, limit: int = 100
    ) -> list[UploadRow]: ...


def rejected_csv(store: RejectedStore, principal: Principal, upload_id: str) -> Iterator[bytes]:
    """The rejected rows: the file's own columns and a last one, ``motivo``, which intake ignores on the way in.

    UTF-8 with BOM and ``;``: what Excel in Portuguese opens by double click. Phones are written with punctuation,
    since Excel turns long bare numbers into 5,53E+12; no cell can start a formula.

    Raises:
        NotFound, Forbidden: there is no such upload, or it is not this person's to see.
    """
    upload = store.upload(upload_id)
    if upload is None:
        raise NotFound("O arquivo enviado não existe.", "Atualize a página e escolha de novo.")
    principal.require(BROADCAST, upload.operation_id)
    return _chunks(store, upload)


def _chunks(store: RejectedStore, upload: Upload) -> Iterator[bytes]:
    headers: list[str] = list(upload.columns.get("columns", ()))
    address = upload.columns.get("address", "")
    used = {address, *upload.columns.get("variables", {}).values()}
    # A file corrected before has the column already; a variable of that name stays where it is.
    kept = [i for i, one in enumerate(headers) if key(one) not in REASON_KEYS or one in used]
    reason = "motivo" if all(key(headers[i]) != "motivo" for i in kept) else "motivo da recusa"
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=";", quoting=csv.QUOTE_ALL)
    writer.writerow([*(guard(headers[i]) for i in kept), reason])
    yield b"\xef\xbb\xbf" + _drain(buffer)
    after = 0
    while rows := store.upload_rows(upload.id, RowState.REJECTED, after, _PAGE):
        for row in rows:
            # Short rows are filled up, so that the reason stands in its column; long ones end with it, whole.
            cells = [*row.cells, *[""] * (len(headers) - len(row.cells))]
            if len(cells) == len(headers):
                cells = [for_spreadsheet(cells[i]) if headers[i] == address else cells[i] for i in kept]
            why = " ".join(
                f"{error.column}: {error.reason} {error.remedy}" if error.column else f"{error.reason} {error.remedy}"
                for error in row.errors
            )
            writer.writerow(map(guard, [*cells, why]))
        after = rows[-1].row
        yield _drain(buffer)


def _drain(buffer: io.StringIO) -> bytes:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text.encode()
