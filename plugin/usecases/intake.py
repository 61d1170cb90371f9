"""Upload: a file of contacts becomes rows that a broadcast can be launched on; what can't be sent comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from plugin.domain.access import BROADCAST, Principal, Reach
from plugin.domain.template import Template
from plugin.domain.upload import Limits, Upload
from plugin.errors import NotFound, UnreadableFile
from plugin.usecases.csvcolumns import Layout, read_layout, swallowed
from plugin.usecases.csvfile import CsvFile, blocks, inspect
from plugin.usecases.csvrows import AcceptedRow, OtherRow, RowReader, require_room
from plugin.usecases.rejected import RejectedStore, rejected_csv
from plugin.usecases.setup import OperationInfo

#: Rows per transaction: long enough to be fast, short enough that webhooks on SQLite don't wait.
_BATCH = 5_000

__all__ = ["UploadStore", "rejected_csv", "take_upload"]


class UploadStore(RejectedStore, Protocol):
    """What this module needs of the store."""

    def operations(self, reach: Reach) -> list[OperationInfo]: ...
    def template(self, template_id: str) -> Template | None: ...
    def begin_upload(self, *, operation_id: str, template_id: str, user_id: str, filename: str, sha256: str) -> str: ...
    def describe_upload(self, upload_id: str, encoding: str, delimiter: str, columns: Mapping[str, Any]) -> None: ...
    def add_upload_rows(self, upload_id: str, accepted: Sequence[AcceptedRow], others: Sequence[OtherRow]) -> None: ...
    def finish_upload(self, upload_id: str) -> None: ...
    def refuse_upload(self, upload_id: str, error: Mapping[str, Any]) -> None: ...


def take_upload(
    store: UploadStore,
    principal: Principal,
    *,
    operation_id: str,
    template_id: str,
    filename: str,
    path: Path,
    sha256: str,
    limits: Limits | None = None,
) -> Upload:
    """Read the file at `path` into rows. Needs ``desk.broadcast`` in the operation.

    Memory does not grow with the file. Every row of the file ends in exactly one state, so that
    rows = accepted + rejected + skipped. Of a number that occurs twice (also as ninth-digit twin) the first row that
    can be sent is kept.

    Raises:
        NotFound, Forbidden: the operation or template does not exist, or is not this person's to use.
        Invalid: the template's own text is longer than the provider takes.
        UnreadableFile: the file as a whole can't be used. The upload is kept in state `unreadable`, without rows.
    """
    principal.require(BROADCAST, operation_id)
    operation = next(iter(store.operations(frozenset({operation_id}))), None)
    template = store.template(template_id)
    if operation is None or template is None:
        raise NotFound("A operação ou a mensagem não existe.", "Atualize a página e escolha de novo.")
    require_room(template)
    limits = limits or Limits()
    upload_id = store.begin_upload(
        operation_id=operation_id,
        template_id=template_id,
        user_id=principal.user_id,
        filename=shown_name(filename),
        sha256=sha256,
    )
    try:
        file = inspect(path, limits)
        layout = read_layout(file, template, limits)
        store.describe_upload(upload_id, file.encoding, layout.delimiter, layout.to_dict())
        _read(store, upload_id, file, layout, RowReader(layout, template, operation), limits)
        store.finish_upload(upload_id)
    except UnreadableFile as error:
        store.refuse_upload(
            upload_id, {"code": error.code, "message": error.message, "remedy": error.remedy, "line": error.line}
        )
        raise
    except BaseException:
        store.refuse_upload(
            upload_id,
            {
                "code": "interrupted",
                "message": "A leitura do arquivo foi interrompida.",
                "remedy": "Envie o arquivo de novo.",
                "line": 0,
            },
        )
        raise
    done = store.upload(upload_id)
    if done is None:
        raise NotFound("O arquivo enviado não existe mais.", "Envie o arquivo de novo.")
    return done


def shown_name(filename: str) -> str:
    """A file name for screens. It is never used as a path."""
    last = filename.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in last if c.isprintable())[:255]


def _read(store: UploadStore, upload_id: str, file: CsvFile, layout: Layout, reader: RowReader, limits: Limits) -> None:
    found = blocks(file, layout.delimiter, limits, swallowed(layout), after=layout.header_line)
    total = 0
    for accepted, others in reader.batches(found, _BATCH):
        total += len(accepted) + len(others)
        if total > limits.rows:
            raise UnreadableFile(
                f"O arquivo tem mais de {limits.rows} linhas.",
                "Divida a lista em arquivos menores.",
                code="too_many_rows",
            )
        store.add_upload_rows(upload_id, accepted, others)
    if not total:
        raise UnreadableFile(
            "O arquivo tem cabeçalho, mas nenhum contato.", "Acrescente uma linha por contato.", code="no_rows"
        )
