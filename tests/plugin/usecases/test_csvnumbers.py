"""Lists of numbers as people have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugin.domain.upload import Limits
from plugin.errors import UnreadableFile
from plugin.usecases.csvfile import inspect
from plugin.usecases.csvnumbers import BadLine, find_numbers, read_numbers

ANA, BIA, LANDLINE = "+5531998765432", "+5511987654321", "+553132221234"


def read(folder: Path, content: str | bytes, size: int = 1000, **limits: int) -> tuple[list[str], list[BadLine]]:
    """All keys and bad lines of a file with this content."""
    path = folder / "list"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    bounds = Limits(**limits)
    file = inspect(path, bounds)
    keys: list[str] = []
    bad: list[BadLine] = []
    for more, worse in read_numbers(file, find_numbers(file, bounds), bounds, size):
        assert len(more) + len(worse) <= size
        keys += more
        bad += worse
    return keys, bad


@pytest.mark.parametrize(
    "content",
    [
        "31998765432\n11987654321\n",
        "+55 31 99876-5432\r\n(11) 98765-4321",
        "\n\n31998765432\n\n   \n11987654321\n\n",
        "lista de bloqueio\n31998765432\n11987654321\n",
        "telefone\n31998765432\n11987654321\n",
        "telefone;nome\n31998765432;Ana\n11987654321;Bia\n",
        "Nome,Telefone do cliente\nAna,31998765432\n\"Bia, a outra\",11987654321\n",
        "nome\tcelular\tcpf\nAna\t31998765432\t31998765499\nBia\t11987654321\t12345678901\n",
        "Ana;31998765432;R$ 10,50\nBia;11987654321;R$ 9,00\n",
        "31998765432;;\n11987654321;;\n",
        "31998765432,Ana\n11987654321,\n",
        "sep=|\ncontato|x\n31998765432|1\n11987654321|2\n",
        "\ufeffNúmero;obs\n5531998765432;\n5511987654321;\"duas\nlinhas\"\n",
        "telefone;nome\n31998765432;João\n11987654321;Bia\n".encode("cp1252"),
        "telefone;nome\n31998765432;João\n11987654321;Bia\n".encode("utf-16"),
        "\"31998765432\"\n'11987654321\n",
        "3198765432\n1187654321\n",
    ],
)  # fmt: skip
def test_numbers_are_found_with_and_without_header_in_any_column_and_encoding(
    tmp_path: Path, content: str | bytes
) -> None:
    assert read(tmp_path, content) == ([ANA, BIA], [])


@pytest.mark.parametrize(
    ("cell", "code", "shown"),
    [
        ("5,53E+12", "phone_scientific", "*,***+**"),
        ("98765-4321", "phone_no_area_code", "*****-4321"),
        ("31998765432, 11987654321", "phone_many", "***********,*******4321"),
        ("31 9876O-5432", "phone_letters", "** *****-5432"),
        ("0800 123 4567", "phone_not_reachable", "**** *** 4567"),
        ("bloqueado", "phone_letters", "b********"),
    ],
)
def test_a_bad_line_is_named_masked_with_its_remedy_and_spares_its_neighbours(
    tmp_path: Path, cell: str, code: str, shown: str
) -> None:
    keys, (bad,) = read(tmp_path, f"31998765432\n{cell}\n11987654321\n")
    assert keys == [ANA, BIA]
    assert (bad.line, bad.code, bad.value) == (2, code, shown)
    assert bad.reason
    assert bad.remedy


def test_a_first_line_that_is_a_spoilt_number_is_no_header(tmp_path: Path) -> None:
    keys, bad = read(tmp_path, "5,53E+12\n98765-4321\n3132221234\n")
    assert (keys, [one.line for one in bad]) == ([LANDLINE], [1, 2])


@pytest.mark.parametrize(
    ("content", "numbers", "refused"),
    [
        ("Fulano 31998765432\n11987654321\n", 1, [1]),
        ("\ufeffFulano 31998765432\r\n11987654321\r\n", 1, [1]),
        ('"Fulano 31998765432"\n"11987654321"\n', 1, [1]),
        ("Celular: 55 31 99876-5432\n11987654321\n", 1, [1]),
        ("55 31 99876-5432 (Ana)\n11987654321\n", 1, [1]),
        ("wa.me/5531998765432\n11987654321\n", 1, [1]),
        ("55 31 99876-5432\n11987654321\n", 2, []),
        ('\ufeff"55 31 99876-5432"\n11987654321\n', 2, []),
        ("Ana;31998765432\nBia;11987654321\n", 2, []),
        ("Ana;3199876\nBia;11987654321\n", 1, [1]),
        ("Ana;5,53E+12\nBia;11987654321\n", 1, [1]),
        ("Telefone 31998765432O;Ana\n11987654321;Bia\n", 1, [1]),
        ("telefone;cel 31998765432\n11987654321;Bia\n", 1, [1]),
        # Headers: nobody's number is in them.
        ("Telefone 1\n31998765432\n11987654321\n", 2, []),
        ("Telefone 1;Nome\n31998765432;Ana\n11987654321;Bia\n", 2, []),
        ("Descadastros de 2024\n31998765432\n", 1, []),
        ('\ufeff"telefone"\n"31998765432"\n', 1, []),
    ],
)
def test_a_first_line_with_a_number_in_it_is_never_passed_over_as_a_header(
    tmp_path: Path, content: str, numbers: int, refused: list[int]
) -> None:
    keys, bad = read(tmp_path, content)
    assert (len(keys), [one.line for one in bad]) == (numbers, refused)


def test_a_record_with_more_columns_than_the_header_is_a_bad_line(tmp_path: Path) -> None:
    keys, bad = read(tmp_path, "nome,telefone\nSilva, Ana,31998765432\nBia,11987654321\n")
    assert (keys, [(one.line, one.code) for one in bad]) == ([BIA], [(2, "ragged_row")])


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        ("nome;cpf\nAna;12345678901\n", "no_phone_column", 1),
        ("Ana;5,53E+12\nBia;5,53E+12\n", "no_phone_column", 1),
        ("telefone;celular\n31998765432;11987654321\n", "ambiguous_phone_column", 1),
        ("31998765432;Ana;11987654321\n", "ambiguous_phone_column", 1),
        ('telefone;nome\n31998765432;"Ana\n11987654321;Bia\n', "unclosed_quote", 2),
        ('"31998765432\n11987654321\n3132221234"\n', "unclosed_quote", 1),
        ("", "empty_file", 0),
        ("\n \n;;\n", "no_rows", 0),
        ("31998765432\n" * 11, "too_many_rows", 0),
        (b"PK\x03\x04rest", "spreadsheet_file", 0),
    ],
)
def test_a_file_that_cannot_be_read_as_a_list_says_why(
    tmp_path: Path, content: str | bytes, code: str, line: int
) -> None:
    with pytest.raises(UnreadableFile) as raised:
        read(tmp_path, content, rows=10)
    assert (raised.value.code, raised.value.line) == (code, line)
    assert raised.value.remedy


def test_batches_hold_so_many_lines_and_the_rest(tmp_path: Path) -> None:
    assert read(tmp_path, "\n".join(f"319900000{i:02}" for i in range(10)), size=4)[0][-1] == "+5531990000009"
