"""Upload: a file of contacts becomes rows that a broadcast can be launched on; what can't be sent comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from plugin.domain.access import BROADCAST, Principal, Reach
from plugin.domain.address import is_address, is_attempt
from plugin.domain.template import Template
from plugin.domain.upload import Limits, Upload
from plugin.errors import NotFound, UnreadableFile
from plugin.usecases.csvcolumns import Layout, read_layout
from plugin.usecases.csvfile import CsvFile, inspect, records
from plugin.usecases.csvrows import AcceptedRow, OtherRow, RowReader, require_room
from plugin.usecases.rejected import RejectedStore, rejected_csv
from plugin.usecases.setup import OperationInfo

#: Rows per transaction: long enough to be fast, short enough that webhooks on SQLite don't wait.
_BATCH = 10_000

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
        filename=_shown(filename),
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


def _shown(filename: str) -> str:
    """A file name for screens. It is never used as a path."""
    last = filename.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in last if c.isprintable())[:255]


def _read(store: UploadStore, upload_id: str, file: CsvFile, layout: Layout, reader: RowReader, limits: Limits) -> None:
    lines = records(file, layout.delimiter, limits, swallowed=_swallowed(layout))
    total = 0
    # Up to and including the header: read_layout has seen them.
    for line, _ in lines:
        if line >= layout.header_line:
            break
    for accepted, others in reader.batches(lines, _BATCH):
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


def _swallowed(layout: Layout) -> Callable[[list[str]], bool]:
    """Whether a record of several lines is really several records behind an unclosed quote.

    Line breaks in a cell are fine. But a record that has the wrong number of columns, or in which a line looks like a
    contact of its own, with a good phone or a bad one, would cost people their message without a word.
    """
    width, phone, delimiter = len(layout.headers), layout.address, layout.delimiter

    def swallowed(cells: list[str]) -> bool:
        if len(cells) < width or any(cell.strip() for cell in cells[width:]):
            return True
        return any(_eaten(cell, index) for index, cell in enumerate(cells) if "\n" in cell or "\r" in cell)

    def _eaten(cell: str, column: int) -> bool:
        """Whether `cell` runs from `column` of one record over whole lines to `column` of a later one."""
        first, *inner = (line.split(delimiter) for line in cell.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
        # The first line ends a record, the last one begins one.
        if len(first) == width - column > 1 and phone >= column and _is_phone(first[phone - column]):
            return True
        for parts in inner:
            if phone >= len(parts) or (len(parts) == 1 and width > 1):
                continue
            if is_address(parts[phone].strip('" ')):
                return True
            whole = len(parts) == (column + 1 if parts is inner[-1] else width)
            missing = phone < len(parts) - 1 and not parts[phone].strip('" ')
            if whole and (missing or _is_phone(parts[phone])):
                return True
        return False

    return swallowed


def _is_phone(text: str) -> bool:
    text = text.strip('" ')
    return is_attempt(text) or is_address(text)
