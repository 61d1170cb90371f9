"""From a record's cells to a row that can be sent, or to what is wrong with it.

`batches` is the hot loop of an upload: tuples, no object per accepted row.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, repeat

import orjson

from plugin.domain.address import InvalidAddress, canonical, fast_all, mask_text, parse
from plugin.domain.delivery import SkipReason
from plugin.domain.template import Template
from plugin.domain.upload import CellError, RowState
from plugin.errors import Invalid
from plugin.usecases.csvcolumns import Layout
from plugin.usecases.csvfile import Block
from plugin.usecases.csvredirect import resolver
from plugin.usecases.setup import OperationInfo

#: (row, line, address, canonical, variables as JSON, redirect as JSON or empty)
AcceptedRow = tuple[int, int, str, str, str, str]
#: (row, line, state, reason, cells as JSON or empty, errors as JSON or empty)
OtherRow = tuple[int, int, str, str, str, str]

#: Meta: the body with its values, in characters (Cloud API, template components).
MAX_BODY = 1024

#: Characters that show nothing although they are neither spaces nor format characters (category Cf): Hangul fillers,
#: Braille blank, variation selectors and other joiners.
_INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u2800\u3164\uffa0" + "".join(
    map(chr, range(0xFE00, 0xFE10))
)
_HAS_INVISIBLE = re.compile(f"[{_INVISIBLE}]").search

_NO_REDIRECT: tuple[str, tuple[CellError, ...]] = ("", ())

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


def _is_plain(text: str) -> bool:
    """Whether `clean` would leave `text` as it is, but for its ends, and it needs no escaping in JSON and shows."""
    return (
        text.isprintable()
        and not ("  " in text or '"' in text or "\\" in text)
        and (_is_latin(text) or (unicodedata.is_normalized("NFC", text) and not _HAS_INVISIBLE(text)))
    )


def _is_latin(text: str) -> bool:
    """Whether all of `text` is Latin-1: then its accents are composed, and it shows if it can be printed."""
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def _are_tidy(columns: Iterable[Sequence[str]]) -> bool:
    """Whether all values, whichever rows they are in, are as `clean` would leave them and need no escaping in JSON."""
    text = "|" + "|".join(chain.from_iterable(columns)) + "|"
    return not ("| " in text or " |" in text or "|'" in text) and _is_plain(text)


@dataclass
class RowReader:
    """Reads the records of one file. `errors` of a row come in the order phone, variables, redirect."""

    layout: Layout
    template: Template
    operation: OperationInfo
    _longest: int = field(init=False)

    def __post_init__(self) -> None:
        self._resolve = resolver(self.operation)
        empty = dict.fromkeys(self.template.parameters, "")
        fixed = len(self.template.render(empty))
        # The body may hold a placeholder more than once.
        most = max((len(self.template.render({**empty, p: "x"})) - fixed for p in empty), default=1)
        # The JSON of the variables, for values that need no escaping, and the longest that fits wherever it is shown.
        self._shape = "{" + ",".join(f'"{name}":"%s"' for name, _ in self.layout.variables) + "}"
        self._longest = len(self._shape % (("",) * len(self.layout.variables))) + (MAX_BODY - fixed) // most
        self._nothing = ("",) * len(self.layout.headers)

    def batches(self, blocks: Iterable[Block], size: int) -> Iterator[tuple[list[AcceptedRow], list[OtherRow]]]:
        """The records in batches of `size` rows or a few more, numbered from 1."""
        accepted: list[AcceptedRow] = []
        others: list[OtherRow] = []
        number = 1
        for lines, records in blocks:
            self._read(number, lines, records, accepted, others)
            number += len(records)
            if len(accepted) + len(others) >= size:
                yield accepted, others
                accepted, others = [], []
        if accepted or others:
            yield accepted, others

    def _read(
        self,
        first: int,
        lines: Sequence[int],
        records: Sequence[Sequence[str]],
        accepted: list[AcceptedRow],
        others: list[OtherRow],
    ) -> None:
        """Sort `records`, numbered from `first`, into `accepted` and `others`.

        What can be found out about all of them at once is not asked of each.
        """
        width = len(self.layout.headers)
        # A record of another width is as good as an empty one here: `_examine` says what is wrong with it.
        columns = list(zip(*[cells if len(cells) == width else self._nothing for cells in records], strict=True))
        addresses = fast_all(columns[self.layout.address])
        wanted = [columns[index] for _, index in self.layout.variables]
        tidy = _are_tidy(wanted)
        rows: Iterable[tuple[str, ...]] = zip(*wanted, strict=True) if wanted else repeat((), len(records))
        redirect, wrong = _NO_REDIRECT
        every = zip(count(first), lines, records, addresses, rows, strict=False)
        for number, line, cells, address, values in every:
            if address is not None:
                variables = self._shape % values if tidy and all(values) else self._in_common(values)
                if self.layout.redirect:
                    redirect, wrong = self._redirect(cells)
                if variables is not None and len(variables) <= self._longest and not wrong:
                    # Only Brazilian numbers of 13 characters have another canonical form.
                    twin = canonical(address) if len(address) == 13 else address
                    accepted.append((number, line, address, twin, variables, redirect))
                    continue
            self._examine(number, line, cells, accepted, others)

    def _in_common(self, values: Sequence[str]) -> str | None:
        """The JSON of one row's values when they need nothing but `str.strip` and fit, else None."""
        text = "".join(values)
        stripped = tuple([value.strip() for value in values])
        if not (all(stripped) and _is_plain(text)) or ("'" in text and any(value[0] == "'" for value in stripped)):
            return None
        variables = self._shape % stripped
        return variables if len(variables) <= self._longest else None

    # ------------------------------------------------------------------ the uncommon rows
    def _examine(
        self, number: int, line: int, cells: Sequence[str], accepted: list[AcceptedRow], others: list[OtherRow]
    ) -> None:
        """The whole truth about one record, whatever the fast path thought of it."""
        if not any(cell.strip() for cell in cells):
            others.append((number, line, RowState.SKIPPED.value, SkipReason.BLANK.value, "", ""))
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
        variables = self._in_common([cells[index] for _, index in self.layout.variables])
        if variables is None:
            values = {name: clean(cells[index]) for name, index in self.layout.variables}
            errors.extend(self._wrong_values(cells, values))
            variables = orjson.dumps(values).decode()
        redirect, wrong = self._redirect(cells)
        errors.extend(wrong)
        if errors:
            self._reject(number, line, cells, errors, others)
        else:
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

    def _redirect(self, cells: Sequence[str]) -> tuple[str, tuple[CellError, ...]]:
        if not self.layout.redirect:
            return _NO_REDIRECT
        parts = dict(self.layout.redirect)
        given = {part: clean(cells[index]) for part, index in parts.items()}
        json, problems = self._resolve(given.get("kind", ""), given.get("queue", ""), given.get("agent", ""))
        return json, tuple(self._error(parts[p.part], cells, p.code, p.reason, p.remedy) for p in problems)
