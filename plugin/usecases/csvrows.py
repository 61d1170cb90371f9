"""From a record's cells to a row that can be sent, or to what is wrong with it.

`batches` is the hot loop of an upload: tuples, no object per accepted row.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Union

import orjson

from plugin.domain.address import InvalidAddress, canonical, fast, mask_text, parse
from plugin.domain.delivery import SkipReason
from plugin.domain.template import Template
from plugin.domain.upload import CellError, RowState
from plugin.errors import Invalid
from plugin.usecases.csvcolumns import Layout
from plugin.usecases.csvredirect import resolver
from plugin.usecases.setup import OperationInfo

#: (row, line, address, canonical, variables as JSON, redirect as JSON or None)
AcceptedRow = tuple[int, int, str, str, str, Union[str, None]]
#: (row, line, state, reason, cells as JSON or None, errors as JSON or None)
OtherRow = tuple[int, int, str, str, Union[str, None], Union[str, None]]

#: Meta: the body with its values, in characters (Cloud API, template components).
MAX_BODY = 1024

#: Characters that show nothing although they are neither spaces nor format characters (category Cf): Hangul fillers,
#: Braille blank, variation selectors and other joiners.
_INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u2800\u3164\uffa0" + "".join(
    map(chr, range(0xFE00, 0xFE10))
)
_HAS_INVISIBLE = re.compile(f"[{_INVISIBLE}]").search

_NO_REDIRECT: tuple[None, tuple[CellError, ...]] = (None, ())

#: A spreadsheet takes a cell that begins so for a formula (OWASP, "CSV injection"); NUL and full-width forms too.
_FORMULA = frozenset("=+-@\t\r\0＝＋－＠")
#: Invisible marks that turn the direction of text, with which one name can be made to look like another.
_BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
#: Control characters become spaces, direction marks nothing.
_UNWANTED = {**dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], " "), **dict.fromkeys(map(ord, _BIDI))}


def guard(cell: str) -> str:
    """`cell` so that no spreadsheet runs it as a formula; `clean` takes the guard off again."""
    return "'" + cell if cell.lstrip("\ufeff ")[:1] in _FORMULA and cell else cell


def clean(value: str) -> str:
    """A value as the provider takes it: no line breaks, tabs or runs of spaces (Meta refuses them), no marks that
    turn the direction of text, accents composed, and without the guard of an exported cell."""
    value = value.strip()
    if value[:1] == "'":
        guarded = value[1:].lstrip("\ufeff ")
        if not guarded or guarded[0] in _FORMULA:
            value = guarded
    return unicodedata.normalize("NFC", " ".join(value.translate(_UNWANTED).split()))


def require_room(template: Template) -> None:
    """Refuse a template that no value fits into.

    Raises:
        Invalid: the body with one character for each placeholder is longer than `MAX_BODY`.
    """
    shortest = len(template.render(dict.fromkeys(template.parameters, "x")))
    if shortest > MAX_BODY:
        raise Invalid(
            f"O texto da mensagem {template.name} já passa em {shortest - MAX_BODY} caracteres do limite de {MAX_BODY}"
            " do WhatsApp, qualquer que seja a lista.",
            "Escolha outra mensagem, ou encurte esta no WhatsApp Manager e sincronize de novo.",
            field="template",
        )


def _shows(value: str) -> bool:
    """Whether there is anything to see in `value`."""
    return any(c not in _INVISIBLE and not c.isspace() and unicodedata.category(c) != "Cf" for c in value)


def _is_clean(values: Sequence[str], together: str) -> bool:
    """Whether `clean` would do no more than `str.strip` to `values`, they need no escaping in JSON and what is there
    shows.

    `together` is all of them joined: a few scans of one text instead of many of several.
    """
    return (
        together.isprintable()
        and not ("  " in together or '"' in together or "\\" in together)
        and (together.isascii() or (unicodedata.is_normalized("NFC", together) and not _HAS_INVISIBLE(together)))
        and not ("'" in together and any(value.lstrip()[:1] == "'" for value in values))
    )


def _picker(columns: Sequence[int]) -> Callable[[Sequence[str]], tuple[str, ...]]:
    """A function that takes `columns` from a record."""
    if len(columns) > 1:
        return itemgetter(*columns)
    return lambda cells: tuple([cells[index] for index in columns])


@dataclass
class RowReader:
    """Reads the records of one file. `errors` of a row come in the order phone, variables, redirect."""

    layout: Layout
    template: Template
    operation: OperationInfo
    _room: int = field(init=False)
    _most: int = field(init=False)

    def __post_init__(self) -> None:
        self._resolve = resolver(self.operation)
        empty = dict.fromkeys(self.template.parameters, "")
        fixed = len(self.template.render(empty))
        self._room = MAX_BODY - fixed
        # The body may hold a placeholder more than once.
        self._most = max((len(self.template.render({**empty, p: "x"})) - fixed for p in empty), default=1)

    def batches(
        self, records: Iterable[tuple[int, Sequence[str]]], size: int
    ) -> Iterator[tuple[list[AcceptedRow], list[OtherRow]]]:
        """The records in batches of `size` rows, numbered from 1."""
        width = len(self.layout.headers)
        phone = self.layout.address
        pick = _picker([index for _, index in self.layout.variables])
        # The JSON of the variables, for values that need no escaping.
        shape = "{" + ",".join(f'"{name}":"%s"' for name, _ in self.layout.variables) + "}"
        room = self._room // self._most
        accepted: list[AcceptedRow] = []
        others: list[OtherRow] = []
        for number, (line, cells) in enumerate(records, 1):
            row: AcceptedRow | None = None
            if len(cells) == width:
                address = fast(cells[phone])
                values = pick(cells)
                together = "".join(values)
                if address is not None and len(together) <= room and _is_clean(values, together):
                    values = tuple([value.strip() for value in values])
                    redirect, wrong = self._redirect(cells) if self.layout.redirect else _NO_REDIRECT
                    if all(values) and not wrong:
                        variables = shape % values
                        # Only Brazilian numbers of 13 characters have another canonical form.
                        twin = canonical(address) if len(address) == 13 else address
                        row = (number, line, address, twin, variables, redirect)
            if row is not None:
                accepted.append(row)
            else:
                self._examine(number, line, cells, accepted, others)
            if not number % size:
                yield accepted, others
                accepted, others = [], []
        if accepted or others:
            yield accepted, others

    # ------------------------------------------------------------------ the uncommon rows
    def _examine(
        self, number: int, line: int, cells: Sequence[str], accepted: list[AcceptedRow], others: list[OtherRow]
    ) -> None:
        """The whole truth about one record, whatever the fast path thought of it."""
        if not any(cell.strip() for cell in cells):
            others.append((number, line, RowState.SKIPPED.value, SkipReason.BLANK.value, None, None))
            return
        width = len(self.layout.headers)
        if not any(cell.strip() for cell in cells[width:]):
            cells = cells[:width]  # ";;;" after the last column
        if len(cells) != width:
            self._reject(number, line, cells, [self._ragged(cells)], others)
            return
        errors: list[CellError] = []
        address = ""
        try:
            address = parse(cells[self.layout.address])
        except InvalidAddress as error:
            errors.append(self._error(self.layout.address, cells, error.code, error.message, error.remedy))
        values = {name: clean(cells[index]) for name, index in self.layout.variables}
        errors.extend(self._wrong_values(cells, values))
        redirect, wrong = self._redirect(cells)
        errors.extend(wrong)
        if errors:
            self._reject(number, line, cells, errors, others)
        else:
            variables = orjson.dumps(values).decode()
            accepted.append((number, line, address, canonical(address), variables, redirect))

    def _wrong_values(self, cells: Sequence[str], values: dict[str, str]) -> Iterator[CellError]:
        for name, index in self.layout.variables:
            if not _shows(values[name]):
                yield self._error(
                    index, cells, "missing_value", f"Falta o valor de {{{{{name}}}}}.", "Preencha a célula."
                )
        over = len(self.template.render(values)) - MAX_BODY
        if over > 0:
            longest = max(self.layout.variables, key=lambda one: len(values[one[0]]))
            yield self._error(
                longest[1],
                cells,
                "text_too_long",
                f"Com estes valores a mensagem passa em {over} caracteres do limite de {MAX_BODY} do WhatsApp.",
                "Encurte o valor.",
            )

    def _ragged(self, cells: Sequence[str]) -> CellError:
        expected, got = len(self.layout.headers), len(cells)
        remedy = "Confira os separadores da linha."
        if got > expected and self.layout.delimiter == ",":
            remedy = 'Um valor com vírgula precisa de aspas: "R$ 10,50".'
        return CellError(
            "",
            mask_text(self.layout.delimiter.join(cells)),
            f"A linha tem {got} colunas; o cabeçalho tem {expected}.",
            remedy,
            "ragged_row",
        )

    def _error(self, index: int, cells: Sequence[str], code: str, reason: str, remedy: str) -> CellError:
        return CellError(self.layout.label(index), mask_text(cells[index]), reason, remedy, code)

    def _reject(
        self, number: int, line: int, cells: Sequence[str], errors: list[CellError], others: list[OtherRow]
    ) -> None:
        kept = orjson.dumps(list(cells)).decode()
        described = orjson.dumps([error.to_dict() for error in errors]).decode()
        others.append((number, line, RowState.REJECTED.value, errors[0].code, kept, described))

    def _redirect(self, cells: Sequence[str]) -> tuple[str | None, tuple[CellError, ...]]:
        if not self.layout.redirect:
            return None, ()
        parts = dict(self.layout.redirect)
        given = {part: clean(cells[index]) for part, index in parts.items()}
        json, problems = self._resolve(given.get("kind", ""), given.get("queue", ""), given.get("agent", ""))
        return json, tuple(self._error(parts[p.part], cells, p.code, p.reason, p.remedy) for p in problems)
