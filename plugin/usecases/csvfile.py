"""CSV files as people really send them: which encoding, which delimiter, which line a record is on.

Nothing is guessed by statistics (`csv.Sniffer` is quadratic and often wrong) and nothing is replaced silently.
Texts are for operators, in Portuguese.
"""

from __future__ import annotations

import codecs
import csv
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

from plugin.domain.upload import Limits
from plugin.errors import UnreadableFile

#: In order of preference when a header fits several equally well.
DELIMITERS = (",", ";", "\t", "|")

#: The physical lines that some records begin on, and their cells.
Block = tuple[Sequence[int], list[list[str]]]

_CHUNK = 1 << 20
#: Characters, and records, of one block.
_BLOCK = 1 << 14
_RECORDS = 250
_SAVE_AS_CSV = "Na planilha, use Salvar como e escolha CSV UTF-8; depois envie o arquivo .csv."
_SAVE_AS_UTF8 = "Abra o arquivo na planilha, confira os acentos e salve como CSV UTF-8."

# First bytes of files that are no text at all.
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "spreadsheet_file", "O arquivo é uma planilha (.xlsx, .ods) ou um .zip, não um CSV."),
    (b"PK\x05\x06", "compressed_file", "O arquivo é um .zip vazio, não um CSV."),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "spreadsheet_file", "O arquivo é uma planilha antiga (.xls), não um CSV."),
    (b"\x1f\x8b", "compressed_file", "O arquivo está compactado (.gz)."),
    (b"BZh", "compressed_file", "O arquivo está compactado (.bz2)."),
    (b"\xfd7zXZ\x00", "compressed_file", "O arquivo está compactado (.xz)."),
    (b"\x28\xb5\x2f\xfd", "compressed_file", "O arquivo está compactado (.zst)."),
    (b"7z\xbc\xaf\x27\x1c", "compressed_file", "O arquivo está compactado (.7z)."),
    (b"Rar!\x1a\x07", "compressed_file", "O arquivo está compactado (.rar)."),
    (b"%PDF-", "pdf_file", "O arquivo é um PDF, não um CSV."),
    (b"{\\rtf", "document_file", "O arquivo é um documento de texto formatado (.rtf), não um CSV."),
)
_BLANK = codecs.BOM_UTF8 + codecs.BOM_UTF16 + b"\x00 \t\r\n"
_MARKUP = re.compile(rb"\s*<(?:\?xml|!doctype|html|table|meta|head)", re.IGNORECASE)
_SEP_LINE = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)
#: A character of two to four bytes in UTF-8.
_UTF8_SEQUENCE = re.compile(rb"[\xc3-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_HIGH = re.compile(rb"[\x80-\xff]")


@dataclass(frozen=True)
class CsvFile:
    """A file that is text throughout. `delimiter` is set when an Excel ``sep=`` line (then line 1) names it."""

    path: Path
    encoding: str
    delimiter: str | None = None
    lines_before: int = 0

    @contextmanager
    def open(self) -> Iterator[TextIO]:
        """The text, with its line ends as they are and without the ``sep=`` line."""
        with open(self.path, encoding=self.encoding, newline="") as file:
            for _ in range(self.lines_before):
                file.readline()
            yield file


def inspect(path: Path, limits: Limits) -> CsvFile:
    """Find out how `path` is written, reading all of it once in bounded memory.

    Raises:
        UnreadableFile: not a text file, too large, or damaged; with the line where known.
    """
    size = path.stat().st_size
    if size > limits.bytes:
        raise UnreadableFile(
            f"O arquivo tem {size / 1e6:.1f} MB; o limite é {limits.bytes / 1e6:.0f} MB.",
            "Divida a lista em arquivos menores.",
            code="file_too_large",
        )
    with path.open("rb") as file:
        head = file.read(4096)
        start = head
        while start and not start.strip(_BLANK):
            start = file.read(_CHUNK)
    if not start:
        raise UnreadableFile(
            "O arquivo está vazio.", "Envie um CSV com cabeçalho e uma linha por contato.", code="empty_file"
        )
    for magic, code, message in _MAGIC:
        if head.startswith(magic):
            raise UnreadableFile(message, _SAVE_AS_CSV, code=code)
    if _MARKUP.match(head):
        raise UnreadableFile("O arquivo é uma página HTML ou XML, não um CSV.", _SAVE_AS_CSV, code="document_file")
    encoding = _encoding(path, head, limits)
    with open(path, encoding=encoding, newline="") as text:
        first = _SEP_LINE.fullmatch(text.readline(16))
    if first is None:
        return CsvFile(path, encoding)
    if first[1] not in DELIMITERS:
        raise UnreadableFile(
            f"A linha sep= pede o separador {first[1]!r}, que não é aceito.",
            "Use vírgula, ponto e vírgula, tabulação ou barra vertical.",
            line=1,
            code="unknown_delimiter",
        )
    return CsvFile(path, encoding, first[1], 1)


# --------------------------------------------------------------------------------------------------- encoding
def _encoding(path: Path, head: bytes, limits: Limits) -> str:
    encoding = _by_first_bytes(head)
    try:
        _check(path, encoding or "utf-8", limits)
    except UnicodeDecodeError as error:
        if encoding is not None:
            raise _damaged(path, encoding) from error
    else:
        return encoding or "utf-8"
    if _mostly_utf8(path):
        raise _damaged(path, "utf-8")
    try:
        _check(path, "cp1252", limits)
    except UnicodeDecodeError as error:
        line = _line_where(path, "latin-1", lambda text: not _decodes(text, "cp1252"))
        raise UnreadableFile(
            f"O arquivo não está em UTF-8, UTF-16 nem Windows-1252 (linha {line}).",
            _SAVE_AS_UTF8,
            line=line,
            code="unknown_encoding",
        ) from error
    return "cp1252"


def _by_first_bytes(head: bytes) -> str | None:
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    # UTF-16 without a mark: every other byte of Western text is zero.
    even, odd, half = head[0::2].count(0), head[1::2].count(0), len(head) // 2
    if odd > 0.6 * half and even < 0.1 * half:
        return "utf-16-le"
    if even > 0.6 * half and odd < 0.1 * half:
        return "utf-16-be"
    return None


def _check(path: Path, encoding: str, limits: Limits) -> None:
    """Decode everything; refuse NUL (csv and PostgreSQL can't take it) and endless lines (they would fill memory)."""
    length = 0  # of the line that the last chunk ended in
    with open(path, encoding=encoding, newline="") as file:
        while chunk := file.read(_CHUNK):
            if "\0" in chunk:
                line = _line_where(path, encoding, lambda text: "\0" in text)
                raise UnreadableFile(
                    f"A linha {line} contém um caractere nulo (NUL).",
                    "O arquivo está danificado ou não é texto: exporte-o de novo como CSV UTF-8.",
                    line=line,
                    code="nul_character",
                )
            position = -length
            while position + limits.record < len(chunk):
                window = max(position, 0), position + limits.record + 1
                end = max(chunk.rfind("\n", *window), chunk.rfind("\r", *window))
                if end < 0:
                    line = _line_where(path, encoding, lambda text: len(text.rstrip("\r\n")) > limits.record)
                    raise UnreadableFile(
                        f"A linha {line} tem mais de {limits.record} caracteres.",
                        "Confira se o arquivo é mesmo um CSV com uma linha por contato.",
                        line=line,
                        code="line_too_long",
                    )
                position = end + 1
            length = len(chunk) - position


def _line_where(path: Path, encoding: str, wrong: Callable[[str], bool]) -> int:
    """Number of the first line for which `wrong`. Slow, for error messages; 0 when none is found."""
    with open(path, encoding=encoding, newline="") as file:
        return next((number for number, text in enumerate(file, 1) if wrong(text)), 0)


def _decodes(latin: str, encoding: str) -> bool:
    try:
        latin.encode("latin-1").decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _damaged(path: Path, encoding: str) -> UnreadableFile:
    line = 0
    if encoding.startswith("utf-8"):
        line = _line_where(path, "latin-1", lambda text: not _decodes(text, "utf-8"))
    where = f" na linha {line}" if line else ""
    return UnreadableFile(
        f"O arquivo está em {encoding.removesuffix('-sig').upper()}, mas tem bytes inválidos{where}.",
        "Provavelmente dois arquivos com codificações diferentes foram juntados. " + _SAVE_AS_UTF8,
        line=line,
        code="damaged_encoding",
    )


def _mostly_utf8(path: Path) -> bool:
    """Whether a file that fails as UTF-8 is one all the same, with a few bad bytes: read as Windows-1252 it would
    greet "JoÃ£o"."""
    high = sequences = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            high += len(_HIGH.findall(chunk))
            sequences += sum(map(len, _UTF8_SEQUENCE.findall(chunk)))
    return sequences * 2 > high


# --------------------------------------------------------------------------------------------------- records
def header(file: CsvFile, delimiter: str, limits: Limits) -> tuple[int, list[str]]:
    """The first record with a letter or digit in it, and its line.

    Raises:
        UnreadableFile: quotes gone wrong, an endless record, or nothing but blank lines.
    """
    for line, cells in records(file, delimiter, limits):
        if any(c.isalnum() for cell in cells for c in cell):
            return line, cells
    raise UnreadableFile(
        "O arquivo não tem cabeçalho nem contatos.",
        "Envie um CSV com cabeçalho e uma linha por contato.",
        code="empty_file",
    )


class _TooLong(Exception):
    """A record is longer than `Limits.record`."""


def records(
    file: CsvFile, delimiter: str, limits: Limits, swallowed: Callable[[list[str]], bool] | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Every record as ``(physical line it begins on, cells)``; an empty line is an empty list.

    No record is held in memory beyond ``limits.record`` characters. `swallowed` looks at a record of several lines and
    says whether an unclosed quote has eaten other records.

    Raises:
        UnreadableFile: a quote that is never closed, text after a closing one, or a record over the limit, at the line
            where it opened.
    """
    with file.open() as text:
        yield from _records(file, text, file.lines_before, delimiter, limits, swallowed)


def blocks(
    file: CsvFile, delimiter: str, limits: Limits, swallowed: Callable[[list[str]], bool], after: int
) -> Iterator[Block]:
    """`records` that begin after line `after`, some hundred at a time, which is faster. Raises the same."""
    for lines, found in _blocks(file, delimiter, limits, swallowed):
        begin = bisect_right(lines, after)
        if begin < len(lines):
            yield lines[begin:], found[begin:]


def _blocks(file: CsvFile, delimiter: str, limits: Limits, swallowed: Callable[[list[str]], bool]) -> Iterator[Block]:
    with file.open() as text:
        line = file.lines_before
        while lines := text.readlines(_BLOCK):
            try:
                # strict: otherwise an unclosed quote silently takes the rest of the file for one cell.
                found = list(csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True))
            except csv.Error:
                break
            if len(found) < len(lines):  # a record of several lines
                break
            yield range(line + 1, line + 1 + len(lines)), found
            line += len(lines)
        # From there on one by one, as in few files.
        rest = _records(file, chain(lines, text), line, delimiter, limits, swallowed)
        while some := list(islice(rest, _RECORDS)):
            yield [begin for begin, _ in some], [cells for _, cells in some]


def _records(
    file: CsvFile,
    text: Iterable[str],
    line: int,
    delimiter: str,
    limits: Limits,
    swallowed: Callable[[list[str]], bool] | None,
) -> Iterator[tuple[int, list[str]]]:
    """The records of `text`, which comes after `line` in `file`, and the lines they begin on."""
    taken = 0  # characters of the record that is being read

    def bounded() -> Iterator[str]:
        nonlocal taken
        for content in text:
            taken += len(content)
            # The line end does not count; `_check` has seen to the single lines.
            if taken > limits.record + 2:
                raise _TooLong
            yield content

    reader = csv.reader(bounded(), delimiter=delimiter, strict=True, skipinitialspace=True)
    before = line
    try:
        for cells in reader:
            taken = 0
            begin = line + 1
            line = before + reader.line_num
            if line > begin and swallowed is not None and swallowed(cells):
                raise _quote_error(file, delimiter, begin)
            yield begin, cells
    except (csv.Error, _TooLong) as error:
        raise _quote_error(file, delimiter, line + 1, limits.record) from error


def _quote_error(file: CsvFile, delimiter: str, begin: int, longest: int = 0) -> UnreadableFile:
    """What went wrong with the quotes of the record that begins on line `begin`, found by reading it again.

    With `longest` its reader gave up: when the quotes turn out to be right, the record was too long for it.
    """
    opened, broken, closed = _culprit(file, delimiter, begin)
    if closed and longest:
        line = opened or begin
        return UnreadableFile(
            f"O registro da linha {begin} tem mais de {longest} caracteres.",
            f"Veja se as aspas abertas na linha {line} se fecham onde deviam; se estão certas, encurte o campo.",
            line=line,
            code="record_too_long",
        )
    if broken == opened:
        return UnreadableFile(
            f"Na linha {opened} há texto depois das aspas que fecham um campo.",
            'Dentro de um campo entre aspas, escreva cada aspa duas vezes (""), ou tire as aspas.',
            line=opened,
            code="misplaced_quote",
        )
    return UnreadableFile(
        f"As aspas abertas na linha {opened} não foram fechadas.",
        "Feche ou apague as aspas nessa linha e envie o arquivo de novo.",
        line=opened,
        code="unclosed_quote",
    )


def _culprit(file: CsvFile, delimiter: str, begin: int) -> tuple[int, int, bool]:
    """Lines on which the offending quote opened, and on which the record went wrong (0: at the end); and whether the
    record came to an end.

    The state machine of `csv.reader`. When the record is formally right but has eaten others, the first quote that
    stays open over a line end is the one.
    """
    opened = crossing = 0
    state = "start"
    with file.open() as text:
        lines = islice(text, begin - 1 - file.lines_before, None)
        for number, content in enumerate(lines, begin):
            if state == "quoted" and '"' not in content:
                crossing = crossing or opened
                continue
            for c in content:
                if state == "quoted":
                    if c == '"':
                        state = "after"
                    elif c in "\r\n":
                        crossing = crossing or opened
                elif state == "after" and c == '"':
                    state = "quoted"
                elif c in "\r\n":
                    return crossing, 0, True
                elif c == delimiter:
                    state = "start"
                elif state == "after":
                    return opened, number, False
                elif state == "start" and c == '"':
                    state, opened = "quoted", number
                elif state == "start" and c != " ":
                    state = "plain"
    return (opened, 0, False) if state == "quoted" else (crossing, 0, True)
