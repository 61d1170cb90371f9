"""A list of phone numbers: one column of a CSV with a header or without one, or a plain text with a number a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Union

from plugin.domain.address import InvalidAddress, canonical, fast, is_address, is_attempt, mask_text, parse
from plugin.domain.upload import Limits
from plugin.errors import UnreadableFile
from plugin.usecases.csvcolumns import Layout, header_names, is_phone_header, key, phone_column, swallowed
from plugin.usecases.csvfile import DELIMITERS, CsvFile, records

#: Records looked at before it is decided which column the numbers are in.
_SAMPLE = 100
_EXAMPLE = "telefone;nome"
#: A first line with a cell of so many digits is no header: "Fulano 31998765442" must be refused aloud, not passed over.
_NO_HEADER_DIGITS = 7
#: Delimiters that don't occur in a number.
_OTHERS = frozenset(DELIMITERS) - {","}
#: (line, cells)
_Record = tuple[int, list[str]]


@dataclass(frozen=True)
class BadLine:
    """A line without a readable number. `value` is masked; `reason` and `remedy` are for people."""

    line: int
    value: str
    reason: str
    remedy: str
    code: str

    def to_dict(self) -> dict[str, Union[int, str]]:
        return asdict(self)


def find_numbers(file: CsvFile, limits: Limits) -> Layout:
    """Where the numbers are. `header_line` is 0 for a file without a header.

    Raises:
        UnreadableFile: no column, or more than one that may be it; quotes gone wrong; nothing but blank lines.
    """
    found: list[tuple[tuple[int, int, int, int], str, list[_Record]]] = []
    failure: UnreadableFile | None = None
    for delimiter in (file.delimiter,) if file.delimiter else DELIMITERS:
        sample: list[_Record] = []
        try:
            sample.extend(islice(_filled(file, delimiter, limits), _SAMPLE))
        except UnreadableFile as error:  # comes again where it matters: when the whole file is read by this delimiter
            failure = failure or error
        if sample:
            found.append((_score(sample), delimiter, sample))
    if not found:
        raise failure or UnreadableFile(
            "O arquivo não tem números.", "Envie um número por linha, ou um CSV com a coluna telefone.", code="no_rows"
        )
    # max() keeps the first of equals: the order of DELIMITERS.
    _, delimiter, sample = max(found, key=lambda one: one[0])
    return _layout(delimiter, sample)


def _filled(file: CsvFile, delimiter: str, limits: Limits) -> Iterator[_Record]:
    """Records with a letter or digit in them, without empty cells at the end."""
    for line, cells in records(file, delimiter, limits):
        if any(c.isalnum() for cell in cells for c in cell):
            yield line, _trim(cells)


def _score(sample: list[_Record]) -> tuple[int, int, int, int]:
    """How much sense a delimiter makes: names of phone columns, records with a number, lines that are one spoilt
    number (5,53E+12 is no two cells), columns."""
    first = sample[0][1]
    names = sum(map(is_phone_header, first)) if _may_be_header(first) else 0
    numbers = sum(any(map(is_address, cells)) for _, cells in sample)
    spoilt = sum(len(cells) == 1 and is_attempt(cells[0]) and not set(cells[0]) & _OTHERS for _, cells in sample)
    return names, numbers, spoilt, len(first)


def _may_be_header(cells: list[str]) -> bool:
    """Whether nobody's number is in this line, not even a spoilt one (5,53E+12)."""
    return not any(sum(map(str.isdigit, cell)) >= _NO_HEADER_DIGITS or is_attempt(cell) for cell in cells)


def _layout(delimiter: str, sample: list[_Record]) -> Layout:
    line, cells = sample[0]
    header = _may_be_header(cells)
    if len(cells) == 1:
        header = header and any(map(str.isalpha, cells[0]))
        return _made(delimiter, line if header else 0, header_names(cells) if header else [""], 0)
    if header:
        headers = header_names(cells)
        return _made(delimiter, line, headers, phone_column([*map(key, headers)], headers, set(), line, _EXAMPLE))
    found = [i for i in range(len(cells)) if any(i < len(one) and is_address(one[i]) for _, one in sample)]
    if not found:
        raise UnreadableFile(
            f"Nenhuma das primeiras {len(sample)} linhas tem um telefone que se possa ler.",
            f"Ponha na primeira linha os nomes das colunas; a dos números chama-se telefone: {_EXAMPLE}.",
            line=line,
            code="no_phone_column",
        )
    if len(found) > 1:
        raise UnreadableFile(
            f"O arquivo não tem cabeçalho, e as colunas {', '.join(str(i + 1) for i in found)} parecem telefones.",
            f"Ponha na primeira linha os nomes das colunas; a dos números chama-se telefone: {_EXAMPLE}.",
            line=line,
            code="ambiguous_phone_column",
        )
    return _made(delimiter, 0, [""] * len(cells), found[0])


def _made(delimiter: str, header_line: int, headers: Sequence[str], address: int) -> Layout:
    return Layout(delimiter, header_line, tuple(headers), address, (), "none")


def read_numbers(file: CsvFile, layout: Layout, limits: Limits, size: int) -> Iterator[tuple[list[str], list[BadLine]]]:
    """The numbers as keys (`plugin.domain.address.canonical`) and the lines that hold none, in batches of `size` lines.

    Blank lines don't count. Memory does not grow with the file.

    Raises:
        UnreadableFile: quotes gone wrong, or more lines than `limits` allow.
    """
    width, phone = len(layout.headers), layout.address
    keys: list[str] = []
    bad: list[BadLine] = []
    total = 0
    for line, cells in records(file, layout.delimiter, limits, swallowed(layout)):
        if line <= layout.header_line:
            continue
        address = fast(cells[phone]) if len(cells) == width else None
        if address is not None:
            # Only Brazilian numbers of 13 characters have another canonical form.
            keys.append(canonical(address) if len(address) == 13 else address)
        else:
            trimmed = _trim(cells)
            if not trimmed:
                continue
            found = _examine(line, trimmed, layout)
            if isinstance(found, BadLine):
                bad.append(found)
            else:
                keys.append(found)
        if len(keys) + len(bad) >= size:
            total += len(keys) + len(bad)
            if total > limits.rows:
                raise _too_many(limits)
            yield keys, bad
            keys, bad = [], []
    if total + len(keys) + len(bad) > limits.rows:
        raise _too_many(limits)
    if keys or bad:
        yield keys, bad


def _too_many(limits: Limits) -> UnreadableFile:
    return UnreadableFile(
        f"O arquivo tem mais de {limits.rows} linhas.", "Divida a lista em arquivos menores.", code="too_many_rows"
    )


def _examine(line: int, cells: list[str], layout: Layout) -> str | BadLine:
    """The key of an uncommon record's number, or what is wrong with it."""
    width = len(layout.headers)
    together = layout.delimiter.join(cells)
    if width > 1 and not layout.address < len(cells) <= width:
        return BadLine(
            line,
            mask_text(together),
            f"A linha tem {len(cells)} colunas; esperavam-se {width}.",
            "Confira os separadores da linha.",
            "ragged_row",
        )
    # In a list of one column a comma belongs to the number: 5,53E+12, or two numbers in one line.
    cell = together if width == 1 else cells[layout.address]
    try:
        return canonical(parse(cell))
    except InvalidAddress as error:
        return BadLine(line, mask_text(cell), error.message, error.remedy, error.code)


def _trim(cells: list[str]) -> list[str]:
    """`cells` without empty ones at the end."""
    end = len(cells)
    while end and not cells[end - 1].strip():
        end -= 1
    return cells[:end]
