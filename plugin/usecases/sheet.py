"""A broadcast's lines as a file for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any

#: A cell beginning so would run as a formula in a spreadsheet (OWASP ASVS 5.0, 1.2.10).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\0", "＝", "＋", "－", "＠")

_COLUMNS = (
    ("linha", "line"), ("telefone", "address"), ("situacao", "state"), ("motivo", "reason"), ("codigo", "error_code"),
    ("erro", "error"), ("explicacao", "explanation"), ("o_que_fazer", "remedy"), ("tentativas", "attempts"),
    ("nao_antes_de", "not_before"), ("enviado_em", "sent_at"), ("entregue_em", "delivered_at"), ("lido_em", "read_at"),
    ("falhou_em", "failed_at"), ("respondeu_em", "replied_at"), ("resposta", "reply"), ("destino", "outcome"),
    ("prova", "proof"), ("redirecionado_por", "redirected_by"),
)  # fmt: skip


#: Columns that hold what others wrote, or a number.
_FOREIGN = ("address", "error_code", "error", "explanation", "remedy", "reply")
_cells = itemgetter(*[key for _, key in _COLUMNS])


def sheet(pages: Iterable[list[dict[str, Any]]]) -> Iterator[bytes]:
    """CSV (UTF-8 with BOM, semicolons) in pieces, one a page; the rows' cells are changed on the way.

    Phones are written without ``+`` and cells that a spreadsheet would run as a formula get a leading apostrophe.
    """
    yield b"\xef\xbb\xbf"
    yield _csv([[name for name, _ in _COLUMNS]])
    for rows in pages:
        for row in rows:
            for key in _FOREIGN:
                if row[key]:
                    row[key] = _cell(row[key])
        yield _csv(map(_cells, rows))


def _csv(rows: Iterable[Sequence[Any]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=";", quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(rows)
    return out.getvalue().encode("utf-8")


def _cell(text: str) -> str:
    if text[0] == "+" and text[1:].isdigit():
        return text[1:]
    return f"'{text}" if text.lstrip("\ufeff ").startswith(_FORMULA) else text
