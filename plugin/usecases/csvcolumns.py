"""From a CSV's header to what each column is for."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from plugin.domain.address import is_address, is_attempt
from plugin.domain.template import Template, fold
from plugin.domain.upload import Limits
from plugin.errors import UnreadableFile
from plugin.usecases.csvfile import DELIMITERS, CsvFile, header

# Keys are folded headers without spaces. First the names that mean nothing but a phone, then those that may.
_PHONE = frozenset(
    fold(
        "telefone telefones celular celulares fone phone phonenumber mobile mobilephone mobilenumber cellphone cell"
        " msisdn whatsapp whats wpp zap telefono movil tel"
    ).split()
)
_PHONE_PERHAPS = frozenset(fold("numero number num contato contact destino destinatario recipient to para").split())

_REDIRECT = {
    "kind": frozenset({"redirecionamento", "redirect"}),
    "queue": frozenset({"fila", "queue"}),
    "agent": frozenset({"atendente", "agente", "agent"}),
}

#: Keys of the column that `rejected_csv` appends; on the way in it is ignored.
REASON_KEYS = frozenset({"motivo", "reason", "motivodarecusa"})

_POSITIONAL = ("", "var", "variavel", "variable", "param", "parametro", "parameter", "campo", "field")


@dataclass(frozen=True)
class Layout:
    """Which column holds what; numbers count from 0. `variables` is in the template's order.

    `matched` says how the variables found their columns: by name, by order, or none needed.
    """

    delimiter: str
    header_line: int
    headers: tuple[str, ...]
    address: int
    variables: tuple[tuple[str, int], ...]
    matched: str
    redirect: tuple[tuple[str, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The shape of `plugin.domain.upload.Upload.columns`."""
        used = {self.address, *(i for _, i in self.variables), *(i for _, i in self.redirect)}
        return {
            "columns": list(self.headers),
            "address": self.label(self.address),
            "variables": {name: self.label(i) for name, i in self.variables},
            "matched": self.matched,
            "redirect": {part: self.label(i) for part, i in self.redirect},
            "ignored": [self.label(i) for i in range(len(self.headers)) if i not in used],
        }

    def label(self, index: int) -> str:
        """A column's name for people."""
        return self.headers[index] or f"coluna {index + 1}"


def key(text: str) -> str:
    """What headers are compared by: no case, accents, punctuation or spaces."""
    return fold(text).replace(" ", "")


def is_phone_header(text: str) -> bool:
    """Whether this is a usual name of a column of phones."""
    return key(text) in _PHONE | _PHONE_PERHAPS


def read_layout(file: CsvFile, template: Template, limits: Limits) -> Layout:
    """Choose the delimiter by the header it makes sense of, and assign the columns.

    Raises:
        UnreadableFile: the header can't be used; says what is missing and what was found.
    """
    delimiters = (file.delimiter,) if file.delimiter else DELIMITERS
    found: list[tuple[tuple[int, int], str, int, list[str]]] = []
    failure: UnreadableFile | None = None
    for delimiter in delimiters:
        try:
            line, cells = header(file, delimiter, limits)
        except UnreadableFile as error:
            failure = failure or error
            continue
        keys = [key(cell) for cell in cells]
        known = _PHONE | _PHONE_PERHAPS | frozenset().union(*_REDIRECT.values()) | _parameter_keys(template)
        found.append(((sum(k in known for k in keys), len(cells)), delimiter, line, cells))
    if not found:
        assert failure is not None  # each delimiter gave a header or an error
        raise failure
    # max() keeps the first of equals: the order of DELIMITERS.
    _, delimiter, line, cells = max(found, key=lambda one: one[0])
    headers = header_names(cells)
    if len(headers) > limits.columns:
        raise _refuse(
            "too_many_columns",
            f"O arquivo tem {len(headers)} colunas; o limite é {limits.columns}.",
            "Apague as colunas que a mensagem não usa.",
            line,
        )
    return _assign(delimiter, line, headers, template)


def _assign(delimiter: str, line: int, headers: list[str], template: Template) -> Layout:
    keys = [key(one) for one in headers]
    if any(map(is_address, headers)):
        raise _refuse(
            "no_header",
            f"A linha {line} já é um contato: falta o cabeçalho.",
            f"Ponha na primeira linha os nomes das colunas: {_example(template)}.",
            line,
        )
    for index, one in enumerate(keys):
        if one and one in keys[:index]:
            raise _refuse(
                "duplicate_header",
                f"As colunas {keys.index(one) + 1} e {index + 1} têm o mesmo nome ({headers[index]}).",
                "Renomeie ou apague uma das duas.",
                line,
            )
    named = _by_name(template, keys)
    taken = set(named.values())
    address = phone_column(keys, headers, taken, line, _example(template))
    redirect = tuple(
        (part, index)
        for part, names in _REDIRECT.items()
        for index in [_only(keys, names - {keys[i] for i in taken}, headers, line)]
        if index is not None
    )
    reserved = {address, *(i for _, i in redirect)}
    variables, matched = _variables(template, named, keys, reserved, headers, line)
    return Layout(delimiter, line, tuple(headers), address, variables, matched, redirect)


def _by_name(template: Template, keys: Sequence[str]) -> dict[str, int]:
    """Parameters whose column carries their name."""
    found = {}
    for parameter in template.parameters:
        index = next((keys.index(k) for k in _names_of(parameter, template.named) if k in keys), None)
        if index is not None:
            found[parameter] = index
    return found


def _names_of(parameter: str, named: bool) -> list[str]:
    return [key(parameter)] if named else [prefix + parameter for prefix in _POSITIONAL]


def _parameter_keys(template: Template) -> frozenset[str]:
    return frozenset(k for p in template.parameters for k in _names_of(p, template.named))


def phone_column(keys: list[str], headers: list[str], taken: set[int], line: int, example: str) -> int:
    """Which column holds the phones, by its header.

    Args:
        keys: `headers` as `key` makes them.
        taken: columns that something else asks for by name.
        example: a header that would do, for the remedy.

    Raises:
        UnreadableFile: none, or several.
    """
    # A column that the template asks for by name is the phone only when nothing else is.
    for candidates in (
        [i for i, k in enumerate(keys) if k in _PHONE and i not in taken],
        [i for i, k in enumerate(keys) if k in _PHONE_PERHAPS and i not in taken],
        [i for i, one in enumerate(headers) if not _PHONE.isdisjoint(fold(one).split()) and i not in taken],
        [i for i, k in enumerate(keys) if k in _PHONE],
    ):
        if len(candidates) > 1:
            names = ", ".join(f"{headers[i]} (coluna {i + 1})" for i in candidates)
            raise _refuse(
                "ambiguous_phone_column",
                f"Há mais de uma coluna de telefone: {names}.",
                "Deixe só a coluna com o número que deve receber a mensagem, ou renomeie as outras.",
                line,
            )
        if candidates:
            return candidates[0]
    raise _refuse(
        "no_phone_column",
        f"Não há coluna de telefone. Colunas encontradas: {_listed(headers)}.",
        f"Dê à coluna dos números o nome telefone, na primeira linha: {example}.",
        line,
    )


def _variables(
    template: Template, named: dict[str, int], keys: list[str], reserved: set[int], headers: list[str], line: int
) -> tuple[tuple[tuple[str, int], ...], str]:
    parameters = template.parameters
    if not parameters:
        return (), "none"
    if not named and not template.named:
        free = [i for i, k in enumerate(keys) if i not in reserved and k and k not in REASON_KEYS]
        if len(free) >= len(parameters):
            # {{2}} is the second value even where the body mentions it first.
            in_order = dict(zip(sorted(parameters, key=lambda p: (len(p), p)), free, strict=False))
            return tuple((p, in_order[p]) for p in parameters), "order"
    missing = [p for p in parameters if p not in named]
    if missing:
        shown = ", ".join("{{" + p + "}}" for p in missing)
        raise _refuse(
            "missing_variable_column",
            f"Falta coluna para {shown} da mensagem {template.name}. Colunas encontradas: {_listed(headers)}.",
            f"Acrescente a coluna com esse nome no cabeçalho: {_example(template)}.",
            line,
        )
    return tuple((p, named[p]) for p in parameters), "name"


def _only(keys: list[str], names: Iterable[str], headers: list[str], line: int) -> int | None:
    found = [i for i, k in enumerate(keys) if k in names]
    if len(found) > 1:
        raise _refuse(
            "duplicate_header",
            f"As colunas {headers[found[0]]} e {headers[found[1]]} dizem a mesma coisa.",
            "Apague uma das duas.",
            line,
        )
    return found[0] if found else None


def header_names(cells: Sequence[str]) -> list[str]:
    """A header's cells as they are shown."""
    headers = [_clean(cell) for cell in cells]
    while headers and not headers[-1]:  # Excel writes ";;;" after a table that was once wider
        headers.pop()
    return headers


def _clean(cell: str) -> str:
    plain = "".join(" " if unicodedata.category(c) == "Cc" else c for c in cell if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFC", " ".join(plain.split()))


def _listed(headers: list[str]) -> str:
    return ", ".join(one[:40] or "(sem nome)" for one in headers[:20]) + ("…" if len(headers) > 20 else "")


def _example(template: Template) -> str:
    return ";".join(["telefone", *template.parameters])


def _refuse(code: str, message: str, remedy: str, line: int) -> UnreadableFile:
    return UnreadableFile(message, remedy, line=line, code=code)


def swallowed(layout: Layout) -> Callable[[list[str]], bool]:
    """Whether a record of several lines is really several records behind an unclosed quote.

    Line breaks in a cell are fine. But a record that has the wrong number of columns, or in which a line looks like a
    contact of its own, with a good phone or a bad one, would cost people their message without a word.
    """
    width, phone, delimiter = len(layout.headers), layout.address, layout.delimiter

    def has_eaten(cells: list[str]) -> bool:
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

    return has_eaten


def _is_phone(text: str) -> bool:
    text = text.strip('" ')
    return is_attempt(text) or is_address(text)
