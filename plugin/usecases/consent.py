"""Whom we must not write to: one number or a whole list, undoing it, and the report of who and why.

Suppression is the installation's: whoever asked one operation to stop is written to by none. So anybody who may send
may add; lifting it lets every operation write to the person again, and takes an administrator of all of them.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy.engine import Connection

from plugin.domain.access import ADMIN, BROADCAST, EVERY_OPERATION, REPORT, Principal, Reach
from plugin.domain.address import InvalidAddress, canonical, for_spreadsheet, parse
from plugin.domain.consent import SOURCES, UNDO_WARNING
from plugin.domain.upload import Limits
from plugin.errors import Conflict, Forbidden, Invalid, NotSuppressed, UnreadableFile
from plugin.usecases.csvfile import inspect
from plugin.usecases.csvnumbers import BadLine, find_numbers, read_numbers
from plugin.usecases.csvrows import guard
from plugin.usecases.intake import shown_name
from plugin.usecases.report import rfc3339

#: Numbers per transaction: long enough to be fast, short enough that webhooks on SQLite don't wait.
_BATCH = 10_000
#: Refused lines that are described; the others are counted.
_DESCRIBED = 100
_MAX_PAGE = 500
_CSV_PAGE = 5_000
_MAX_NOTE = 500
#: A place in the list, as `Page.next` writes it.
_CURSOR = re.compile(r"(\d{1,18})\.(\d{1,19})")


@dataclass(frozen=True)
class Suppression:
    """Why a number is suppressed. `at` in microseconds; `by` is who imported or entered it (None: command line).

    `row` and `line` are those of the broadcast's file, for whoever answered or was refused a broadcast.
    """

    address: str
    source: str
    detail: str
    at: int
    user_id: str | None = None
    by: str | None = None
    broadcast_id: str | None = None
    template: str | None = None
    filename: str | None = None
    row: int | None = None
    line: int | None = None
    operation_id: str | None = None
    operation: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; the time as RFC 3339."""
        broadcast = self.broadcast_id and {
            "id": self.broadcast_id,
            "template": self.template,
            "filename": self.filename,
            "row": self.row,
            "line": self.line,
        }
        operation = self.operation_id and {"id": self.operation_id, "name": self.operation}
        return {
            "address": self.address,
            "source": self.source,
            "why": SOURCES.get(self.source, self.source),
            "detail": self.detail,
            "at": rfc3339(self.at),
            "by": self.by,
            "broadcast": broadcast or None,
            "operation": operation or None,
            "undo_warning": UNDO_WARNING if self.source == "provider" else None,
        }


@dataclass(frozen=True)
class Cursor:
    """A place in the list: what comes after it is older."""

    at: int
    canonical: str


@dataclass(frozen=True)
class Search:
    """What to look for. Within `operations` and what `user_id` entered, unless a whole number is asked for."""

    operations: Reach
    user_id: str
    operation_id: str | None = None
    source: str | None = None
    canonical: str | None = None
    digits: str | None = None
    words: str | None = None


@dataclass(frozen=True)
class Page:
    """One page; `next` goes into the next call's `after`, None on the last page."""

    items: list[dict[str, Any]]
    next: str | None


@dataclass(frozen=True)
class Imported:
    """What became of a list: ``rows == added + already + rejected_count``; `rejected` describes the first hundred.

    `already` counts numbers that were suppressed before, also by an earlier line of the same list.
    """

    rows: int
    added: int
    already: int
    rejected: tuple[BadLine, ...]
    rejected_count: int


class ConsentStore(Protocol):
    """What this module needs of the store; see `plugin.store.consent`."""

    def write(self) -> AbstractContextManager[Connection]: ...
    def write_opt_out(
        self, connection: Connection, canonical: str, source: str, *, detail: str = "", user_id: str | None = None
    ) -> bool: ...
    def suppress_all(self, keys: Sequence[str], source: str, *, detail: str, user_id: str | None) -> int: ...
    def delete_opt_out(self, connection: Connection, canonical: str) -> dict[str, Any] | None: ...
    def suppressions(self, search: Search, after: Cursor | None, limit: int) -> list[Suppression]: ...
    def audit(self, connection: Connection, user_id: str | None, action: str, target: str, **detail: Any) -> None: ...


# --------------------------------------------------------------------------- in
def suppress(store: ConsentStore, principal: Principal, address: str, note: str = "") -> bool:
    """Write to this number no more; what waits for it is skipped at once. False: it was suppressed already.

    Raises:
        Forbidden: without ``desk.broadcast`` in any operation.
        Invalid: not a number (`plugin.domain.address.InvalidAddress`), or a note that is too long.
    """
    _require_any(principal, BROADCAST)
    key = canonical(parse(address))
    note = _note(note, "note")
    with store.write() as connection:
        added = store.write_opt_out(connection, key, "person", detail=note, user_id=_who(principal))
        store.audit(connection, _who(principal), "suppression.add", key, note=note, added=added)
    return added


def import_list(
    store: ConsentStore, principal: Principal, path: Path, filename: str, limits: Limits | None = None
) -> Imported:
    """Suppress every number of a file: a CSV with a phone column, or plain text with a number a line.

    Good lines count although others are bad: whoever asked for silence gets it, whatever is wrong with their
    neighbours. A file that can't be read to its end changes nothing: it is read once before the first number is
    written. Cut off half-way (a crash) it can be sent again: what is there already is not written twice.

    Raises:
        Forbidden: as `suppress`.
        UnreadableFile: the file as a whole can't be used.
    """
    _require_any(principal, BROADCAST)
    limits, name = limits or Limits(), shown_name(filename)
    file = inspect(path, limits)
    layout = find_numbers(file, limits)
    if not sum(len(keys) + len(bad) for keys, bad in read_numbers(file, layout, limits, _BATCH)):
        raise UnreadableFile("O arquivo não tem números.", "Escreva um número por linha.", code="no_rows")
    _audit(store, principal, "suppression.import", filename=name)
    rows = added = rejected_count = 0
    rejected: list[BadLine] = []
    for keys, bad in read_numbers(file, layout, limits, _BATCH):
        if keys:
            added += store.suppress_all(sorted(set(keys)), "import", detail=name, user_id=_who(principal))
        rows += len(keys) + len(bad)
        rejected_count += len(bad)
        rejected += bad[: _DESCRIBED - len(rejected)]
    _audit(store, principal, "suppression.imported", filename=name, rows=rows, added=added, rejected=rejected_count)
    return Imported(rows, added, rows - rejected_count - added, tuple(rejected), rejected_count)


# --------------------------------------------------------------------------- undo
def undo(
    store: ConsentStore, principal: Principal, address: str, reason: str, *, accept_risk: bool = False
) -> Suppression:
    """Let later broadcasts reach the number again; lines already skipped stay skipped. Returns the entry as it was.

    The audit log keeps who, why and the whole entry, its number included: it must show what was undone.

    Raises:
        Forbidden: not an administrator of every operation.
        Invalid: no reason, or not a number.
        NotSuppressed: it is not on the list.
        Conflict: the person opted out at the provider, which refuses whatever we lift: needs `accept_risk`.
    """
    if not principal.can(ADMIN, EVERY_OPERATION):
        raise Forbidden(
            "Só um administrador de todas as operações pode desfazer um descadastro.",
            "Peça a um administrador; a pessoa volta a receber de todas as operações.",
        )
    reason = _note(reason, "reason")
    if not reason:
        raise Invalid("Falta o motivo.", "Diga por que a pessoa pode voltar a receber mensagens.", field="reason")
    key = _key(address)
    with store.write() as connection:
        entry = store.delete_opt_out(connection, key)
        if entry is None:
            raise NotSuppressed("Este número não está descadastrado.", "Confira o número.")
        if entry["source"] == "provider" and not accept_risk:
            raise Conflict(UNDO_WARNING, "Se mesmo assim quiser desfazer, confirme que leu este aviso.")
        store.audit(connection, _who(principal), "suppression.undo", key, reason=reason, entry=entry)
    return Suppression(key, entry["source"], entry["detail"], entry["at"], entry["user_id"])


def _key(address: str) -> str:
    """As the list shows it, or as people write it. A provider may have named a number that `parse` doesn't take."""
    try:
        return canonical(parse(address))
    except InvalidAddress:
        if re.fullmatch(r"\+\d{1,19}", address.strip(), re.ASCII):
            return canonical(address.strip())
        raise


# --------------------------------------------------------------------------- report
def list_suppressions(
    store: ConsentStore,
    principal: Principal,
    *,
    operation_id: str | None = None,
    source: str | None = None,
    q: str | None = None,
    after: str | None = None,
    limit: int = 50,
) -> Page:
    """Who must not be written to and why, newest first.

    A person sees entries that came out of their operations' broadcasts and those they entered themselves; with a grant
    in every operation, all. Asked for a whole number, the list answers for any, but of a foreign entry it tells only
    the source and the time.

    Args:
        q: a whole number, some of its digits, or words of the detail (a file's name, a note, what the person wrote).

    Raises:
        NotFound, Forbidden: without ``desk.broadcast`` or ``desk.report``; `operation_id` is not theirs.
        Invalid: `after` or `source` is none.
    """
    search = _search(principal, operation_id, source, q)
    limit = max(1, min(limit, _MAX_PAGE))
    found = store.suppressions(search, _cursor(after), limit + 1)
    items = [_withheld(one, search).to_dict() for one in found[:limit]]
    last = found[limit - 1] if len(found) > limit else None
    return Page(items, f"{last.at}.{last.address.lstrip('+')}" if last else None)


def suppressions_csv(
    store: ConsentStore,
    principal: Principal,
    *,
    operation_id: str | None = None,
    source: str | None = None,
    q: str | None = None,
) -> Iterator[bytes]:
    """The whole list for a spreadsheet (UTF-8 with BOM, semicolons), in pieces; memory stays flat. It can be imported.

    Raises:
        NotFound, Forbidden, Invalid: as `list_suppressions`, before the first piece.
    """
    return _csv_pieces(store, _search(principal, operation_id, source, q))


_COLUMNS = ["telefone", "origem", "detalhe", "quando", "quem_incluiu", "operacao", "mensagem", "arquivo", "linha"]


def _csv_pieces(store: ConsentStore, search: Search) -> Iterator[bytes]:
    yield b"\xef\xbb\xbf" + _csv([_COLUMNS])
    after: Cursor | None = None
    while found := store.suppressions(search, after, _CSV_PAGE):
        yield _csv(_csv_line(_withheld(one, search)) for one in found)
        after = Cursor(found[-1].at, found[-1].address)


def _csv(lines: Iterable[list[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=";", quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(lines)
    return out.getvalue().encode()


def _csv_line(one: Suppression) -> list[str]:
    texts = (
        SOURCES.get(one.source, one.source),
        one.detail,
        rfc3339(one.at) or "",
        one.by or "",
        one.operation or "",
        one.template or "",
        one.filename or "",
    )
    return [guard(for_spreadsheet(one.address)), *map(guard, texts), "" if one.line is None else str(one.line)]


def _search(principal: Principal, operation_id: str | None, source: str | None, q: str | None) -> Search:
    if operation_id is not None:
        principal.require((BROADCAST, REPORT), operation_id)
    _require_any(principal, BROADCAST, REPORT)
    if source is not None and source not in SOURCES:
        raise Invalid(f"There is no source {source!r}.", f"Known are: {', '.join(SOURCES)}.", field="source")
    search = Search(principal.operations(BROADCAST, REPORT), principal.user_id, operation_id, source)
    q = (q or "").strip()
    if any(map(str.isalpha, q)):
        return replace(search, words=q)
    try:
        return replace(search, canonical=canonical(parse(q)))
    except InvalidAddress:
        digits = re.sub(r"\D", "", q)
        return replace(search, digits=digits or None, words=q if q and not digits else None)


def _withheld(one: Suppression, search: Search) -> Suppression:
    """`one` without what somebody else's operation knows about it."""
    if search.operations == EVERY_OPERATION or one.operation_id in search.operations:
        return one
    if one.user_id is not None and one.user_id == search.user_id:
        return one
    return Suppression(one.address, one.source, "", one.at)


def _cursor(after: str | None) -> Cursor | None:
    if after is None:
        return None
    found = _CURSOR.fullmatch(after)
    if found is None:
        raise Invalid("after is not a place in this list.", "Use `next` of the page before.", field="after")
    return Cursor(int(found[1]), f"+{found[2]}")


# --------------------------------------------------------------------------- who
def _require_any(principal: Principal, *permissions: str) -> None:
    if not principal.operations(*permissions):
        raise Forbidden(
            f"This needs the permission {' or '.join(permissions)} in some operation.",
            "Ask an administrator to grant it.",
        )


def _who(principal: Principal) -> str | None:
    return principal.user_id or None  # nobody of the desk: the command line


def _audit(store: ConsentStore, principal: Principal, action: str, **detail: Any) -> None:
    with store.write() as connection:
        store.audit(connection, _who(principal), action, "", **detail)


def _note(text: str, field: str) -> str:
    text = " ".join(text.split())
    if len(text) > _MAX_NOTE:
        raise Invalid(f"O texto passa de {_MAX_NOTE} caracteres.", "Encurte.", field=field)
    return text
