"""Uploads, from bytes to rows, on each kind of database."""

from __future__ import annotations

import csv
import io
import itertools
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from plugin.domain.access import Principal
from plugin.domain.redirect import Redirect, RedirectKind
from plugin.domain.upload import Limits, RowState, Upload, UploadRow, UploadState
from plugin.errors import Forbidden, Invalid, NotFound, UnreadableFile
from plugin.store.tables import opt_out
from plugin.testing.scenario import Scenario
from plugin.usecases.intake import rejected_csv

Take = Callable[..., Upload]

#: For what happens before the first row is stored: one kind of database says it all.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def _rows(scenario: Scenario, upload: Upload, state: RowState | None = None) -> list[UploadRow]:
    return scenario.store.upload_rows(upload.id, state, limit=10_000)


def _adds_up(upload: Upload) -> bool:
    return upload.rows == upload.accepted + upload.rejected + sum(upload.skipped.values())


# ------------------------------------------------------------------------------------- how files are written
_TABLE = [
    ["Telefone", "Nome", "Valor", "Vencimento"],
    ["(31) 99876-5432", "João D'Ávila", "R$ 10,50", "10/12/2026"],
    ["11 98765-4321", "Conceição", "R$ 1.200,00", "11/12/2026"],
]


def test_every_delimiter_encoding_and_line_end_gives_the_same_rows(scenario: Scenario, take: Take) -> None:
    encodings = ("utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be")
    for delimiter, encoding, end in itertools.product(",;\t|", encodings, ("\r\n", "\n", "\r")):
        buffer = io.StringIO()
        csv.writer(buffer, delimiter=delimiter, lineterminator=end).writerows(_TABLE)
        upload = take(buffer.getvalue().encode(encoding))
        assert (upload.state, upload.encoding, upload.delimiter) == (UploadState.READY, encoding, delimiter)
        assert [(r.line, r.address, dict(r.variables)) for r in _rows(scenario, upload)] == [
            (2, "+5531998765432", {"1": "João D'Ávila", "2": "R$ 10,50", "3": "10/12/2026"}),
            (3, "+5511987654321", {"1": "Conceição", "2": "R$ 1.200,00", "3": "11/12/2026"}),
        ], (delimiter, encoding, end)


@on_sqlite
def test_big_endian_utf_16_with_its_mark_is_read(take: Take) -> None:
    assert take(b"\xfe\xff" + "telefone\n31998765432\n".encode("utf-16-be"), "plain").accepted == 1


@on_sqlite
@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"'])
def test_excels_sep_line_names_the_delimiter_and_counts_as_a_line(scenario: Scenario, take: Take, first: str) -> None:
    upload = take(f"{first}\r\ntelefone;nome, ou apelido;b;c\r\n31998765432;Ana;x;y\r\n")
    assert upload.delimiter == ";"
    assert [r.line for r in _rows(scenario, upload)] == [3]


def test_a_quoted_line_break_is_allowed_and_lines_stay_the_files_own(scenario: Scenario, take: Take) -> None:
    upload = take(
        'telefone,nome,valor,data,obs\n31998765432,"Ana\nMaria",1,2,"a\nb\nc"\n11987654321,Bia,1,2,x\n\n1,B,1,2,\n'
    )
    rows = _rows(scenario, upload)
    assert [(r.row, r.line, r.state.value) for r in rows] == [
        (1, 2, "accepted"),
        (2, 6, "accepted"),
        (3, 7, "skipped"),
        (4, 8, "rejected"),
    ]
    assert rows[0].variables["1"] == "Ana Maria"


# ------------------------------------------------------------------------------------- headers
@on_sqlite
@pytest.mark.parametrize(
    "header",
    ["telefone", "Telefone ", "TELEFONE", "celular", "phone", "Número", "nº whatsapp", "Whats App", "Fone", "mobile",
     "MSISDN", "\ufefftelefone", '"telefone"', "Telefone do cliente", "tele fone"],
)  # fmt: skip
def test_the_phone_column_is_found_without_case_accents_or_spaces(take: Take, header: str) -> None:
    upload = take(f"nome;{header}\nAna;31998765432\n", "plain")
    assert upload.accepted == 1
    assert upload.columns["ignored"] == ["nome"]


@on_sqlite
def test_named_variables_are_found_by_header_whatever_their_order(scenario: Scenario, take: Take) -> None:
    upload = take("PREÇO,Plano Novo,fone,Nome\n10,Turbo,31998765432,Ana\n", "offer_named")
    assert upload.columns["matched"] == "name"
    assert upload.columns["variables"] == {"nome": "Nome", "plano_novo": "Plano Novo", "preco": "PREÇO"}
    assert _rows(scenario, upload)[0].variables == {"nome": "Ana", "plano_novo": "Turbo", "preco": "10"}


@on_sqlite
@pytest.mark.parametrize(
    "names", ["3;2;1", "var3;VAR 2;Var1", "variável 3;Variavel 2;variavel_1", "{{3}};{{2}};{{ 1 }}"]
)
def test_positional_variables_are_found_by_their_number(scenario: Scenario, take: Take, names: str) -> None:
    upload = take(f"telefone;{names}\n31998765432;c;b;a\n")
    assert upload.columns["matched"] == "name"
    assert _rows(scenario, upload)[0].variables == {"1": "a", "2": "b", "3": "c"}


@on_sqlite
def test_other_columns_fill_positional_variables_in_order_and_the_upload_says_so(take: Take) -> None:
    upload = take("nome;telefone;motivo;valor;fila;data;obs\nAna;31998765432;velho;1;Cobrança;2;3\n")
    assert upload.columns == {
        "columns": ["nome", "telefone", "motivo", "valor", "fila", "data", "obs"],
        "address": "telefone",
        "variables": {"1": "nome", "2": "valor", "3": "data"},
        "matched": "order",
        "redirect": {"queue": "fila"},
        "ignored": ["motivo", "obs"],
    }


def test_a_variable_called_motivo_is_not_ignored(scenario: Scenario, take: Take) -> None:
    upload = take("telefone;motivo\n31998765432;Chuva\n", "reason_named")
    assert _rows(scenario, upload)[0].variables == {"motivo": "Chuva"}


# ------------------------------------------------------------------------------------- files refused as a whole
_HEAD = "telefone,nome,valor,data\n"
_GOOD = "31998765432,Ana,1,2\n"


@on_sqlite
@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (b"", "empty_file", 0),
        (b"\xef\xbb\xbf", "empty_file", 0),
        (b"\r\n \r\n\n", "empty_file", 0),
        (b" ;\n;\n", "empty_file", 0),
        (_HEAD, "no_rows", 0),
        ("31998765432,Ana,1,2\n31987654321,Bia,1,2\n", "no_header", 1),
        ("nome,valor,data\nAna,1,2\n", "no_phone_column", 1),
        ("Relatório de clientes\n\ntelefone,nome\n", "no_phone_column", 1),
        ("telefone,celular,a,b,c\n", "ambiguous_phone_column", 1),
        ("telefone,nome,Nome ,data\n" + _GOOD, "duplicate_header", 1),
        ("telefone,fila,queue,a,b,c\n", "duplicate_header", 1),
        ("telefone,nome\n31998765432,Ana\n", "missing_variable_column", 1),
        ("telefone,1,2,nome\n31998765432,Ana,1,2\n", "missing_variable_column", 1),
        ("\n\ntelefone,nome\n31998765432,Ana\n", "missing_variable_column", 3),
        (",".join(["telefone", *(f"c{i}" for i in range(64))]) + "\n", "too_many_columns", 1),
        (_HEAD + _GOOD + '31987654321,"Bia,1,2\n' + _GOOD * 3, "unclosed_quote", 3),
        (_HEAD + _GOOD + '31987654321,"Bia,1,2\n' + _GOOD * 9000, "unclosed_quote", 3),
        (_HEAD + _GOOD + '31987654321,"Bia,1,2\n' + _GOOD + '31977776666,"Caio",1,2\n', "unclosed_quote", 3),
        (_HEAD + '31987654321,"a\nb","Bia,1\n' + _GOOD, "unclosed_quote", 3),
        (_HEAD + _GOOD + '31987654321,"Bia,1\n31977776666,Caio",1,2\n', "unclosed_quote", 3),
        ("sep=,\n" + _HEAD + _GOOD + '31987654321,"Bia,1,2\n', "unclosed_quote", 4),
        (_HEAD + _GOOD + '31987654321,"Bia" Lima,1,2\n' + _GOOD, "misplaced_quote", 3),
        ('"telefone,nome\n31998765432,Ana\n', "unclosed_quote", 1),
        (_HEAD.encode() + b"31998765432,A\0na,1,2\n", "nul_character", 2),
        (_HEAD + "31998765432," + "x" * 70_000 + ",1,2\n", "line_too_long", 2),
        ("sep=:\ntelefone:a:b:c\n", "unknown_delimiter", 1),
        (b"PK\x03\x04\x14\x00\x06\x00", "spreadsheet_file", 0),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00", "spreadsheet_file", 0),
        (b"\x1f\x8b\x08\x00rest", "compressed_file", 0),
        (b"%PDF-1.7\n", "pdf_file", 0),
        (b"<html><table>", "document_file", 0),
        (b"telefone,nome,v,d\n31998765432,Concei\xc3\xa7\xc3\xa3o,1,2\n1,Jo\xe3o,1,2\n", "damaged_encoding", 3),
        (b"telefone,nome,v,d\n31998765432,\x81\x8d,1,2\n", "unknown_encoding", 2),
        ("telefone\n3199876543".encode("utf-16") + b"\x00", "damaged_encoding", 0),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_refused_at_its_line_and_leaves_no_rows(
    scenario: Scenario, take: Take, content: bytes | str, code: str, line: int
) -> None:
    with pytest.raises(UnreadableFile) as caught:
        take(content)
    assert (caught.value.code, caught.value.line) == (code, line)
    assert caught.value.remedy
    with scenario.store.read() as connection:
        kept = connection.exec_driver_sql("SELECT id FROM upload").scalar_one()
    upload = scenario.store.upload(kept)
    assert upload is not None
    assert (upload.state, upload.rows) == (UploadState.UNREADABLE, 0)
    assert upload.error is not None
    assert (upload.error["code"], upload.error["line"]) == (code, line)
    assert _rows(scenario, upload) == []


@on_sqlite
@pytest.mark.parametrize(
    "rows",
    [
        # The eaten row would have been rejected: it must come back as such, not vanish in Ana's name.
        '31998765432;"Ana\n5,531999E+12;Bia"\n31998765433;Caio\n',
        '31998765432;"Ana\n98765-4321;Bia"\n31998765433;Caio\n',
        '31998765432;"Ana\r\n(00) 99876-5432;Bia\r\n31998765433;Caio"\r\n',
        '31998765432;"Ana\n31 9876O-5432;Bia"\n',
        '31998765432;"Ana\n;Bia"\n31998765433;Caio\n',
        '31998765432;"Ana\n""98765-4321"";Bia"\n31998765433;Caio\n',
        # The quote opened before the first row's own phone.
        '"98765-4321;Ana\n";Bia\n',
    ],
)
def test_a_quote_that_eats_a_row_is_found_though_the_rows_phone_is_bad(take: Take, rows: str) -> None:
    with pytest.raises(UnreadableFile) as caught:
        take("telefone;nome\n" + rows, "one")
    assert (caught.value.code, caught.value.line) == ("unclosed_quote", 2)


@on_sqlite
@pytest.mark.parametrize(
    "rows",
    ['"Ana;98765-4321;x\nBia";31998765432;y\n', 'Ana;"31998765432;x\nBia;98765-4321";y\n',
     'A;31998765432;"x\nB;12;y\nC;;"\n']
)  # fmt: skip
def test_a_quote_that_eats_a_row_is_found_in_whatever_column_it_opened(take: Take, rows: str) -> None:
    with pytest.raises(UnreadableFile) as caught:
        take("nome;telefone;obs\n" + rows, "one")
    assert (caught.value.code, caught.value.line) == ("unclosed_quote", 2)


@on_sqlite
@pytest.mark.parametrize(
    "cell",
    [
        "Rua A, 10\n30130-010, Belo Horizonte",
        "Rua A 10\n30130-010, Belo Horizonte",
        "Rua A\nnº 12, fundos\nBairro, cidade",
        "Cliente desde\n10/12/2026, às 9h\nCPF 529.982.247-25, titular",
        "Oi,\ntudo bem?\n\nAté já,\nAna",
        "Ligar para\n98765-4321",
        "protocolo\nnúmero 12345678, urgente",
        "R$ 1.200.000\nR$ 1.300.000, à vista",
        "1\n2, 3\n4",
    ],
)
def test_addresses_and_prose_of_several_lines_are_cells_like_others(scenario: Scenario, take: Take, cell: str) -> None:
    last = take(f'telefone,nome\n31998765432,"{cell}"\n31987654321,Bia\n', "one")
    assert (last.accepted, last.rows) == (2, 2)
    assert _rows(scenario, last)[0].variables == {"1": " ".join(cell.split())}
    assert take(f'nome,telefone\n"{cell}",31998765432\nBia,31987654321\n', "one").accepted == 2


@on_sqlite
def test_two_phones_in_a_cell_are_an_error_of_that_row_only(scenario: Scenario, take: Take) -> None:
    upload = take('telefone;nome\n"31998765432\n31998765433";Ana\n31987654321;Bia\n', "one")
    assert (upload.accepted, _rows(scenario, upload)[0].reason) == (1, "phone_many")


@on_sqlite
@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        # Closed, however late: too long. Never closed: that is what is wrong.
        (_HEAD + '31998765432,"' + ("x" * 60_000 + "\n") * 3 + '",1,2\n' + _GOOD, "record_too_long", 2),
        (_HEAD + '31998765432,"' + ("x" * 60_000 + "\n") * 3 + '",1,2', "record_too_long", 2),
        (_HEAD + _GOOD + "31998765432," + '"ab\n",' * 20_000 + "\n" + _GOOD, "record_too_long", 3),
        ('"ab\n",' * 20_000 + "\n" + _GOOD, "record_too_long", 1),
        (_HEAD + '31998765432,"' + ("x" * 60_000 + "\n") * 3, "unclosed_quote", 2),
    ],
    ids=["closed", "closed at the end", "many cells", "in the header", "never closed"],
)
def test_a_record_over_the_limit_is_called_too_long_unless_its_quote_never_closes(
    take: Take, content: str, code: str, line: int
) -> None:
    with pytest.raises(UnreadableFile) as caught:
        take(content)
    assert (caught.value.code, caught.value.line) == (code, line)


@on_sqlite
def test_a_record_is_limited_with_its_line_breaks_to_the_character(take: Take) -> None:
    limits = Limits(record=100)
    row = '31998765432,"' + "x" * 40 + "\n" + "x" * 45 + '"'
    assert len(row) == 100
    assert take(f"telefone,obs\n{row}\r\n{row}\r\n", "plain", limits=limits).rows == 2
    with pytest.raises(UnreadableFile) as caught:
        take(f'telefone,obs\n{row}\r\n{row[:-1]}x"\r\n', "plain", limits=limits)
    assert (caught.value.code, caught.value.line) == ("record_too_long", 4)


@on_sqlite
@pytest.mark.parametrize("before", ["", "telefone;nome\n31998765432;"])
def test_an_endless_record_is_never_held_in_memory(take: Take, before: str) -> None:
    content = (before + '"ab\n";' * 500_000 + "\n").encode()
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableFile):
            take(content, "one")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Whole, it would take 28 MB for its list of cells alone.
    assert peak < 12_000_000


@on_sqlite
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_any_number_of_blank_lines_may_stand_before_the_header(
    scenario: Scenario, take: Take, end: str, encoding: str
) -> None:
    upload = take((end * 5000 + f"telefone;nome{end}31998765432;Ana{end}").encode(encoding), "one")
    assert [(r.line, r.state) for r in _rows(scenario, upload)] == [(5002, RowState.ACCEPTED)]


@on_sqlite
def test_a_template_that_no_value_fits_into_is_refused_before_the_file_is_read(scenario: Scenario, take: Take) -> None:
    for template in ("endless", "no_room"):
        with pytest.raises(Invalid) as caught:
            take("telefone;a;b\n31998765432;x;y\n", template)
        assert (caught.value.field, bool(caught.value.remedy)) == ("template", True)
    with scenario.store.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM upload").scalar_one() == 0
    assert take("telefone;a;b\n31998765432;x;y\n", "just_room").accepted == 1


@on_sqlite
@pytest.mark.parametrize(
    ("limits", "code"),
    [(Limits(bytes=30), "file_too_large"), (Limits(rows=1), "too_many_rows"), (Limits(columns=3), "too_many_columns")],
)
def test_a_file_over_a_limit_is_refused(take: Take, limits: Limits, code: str) -> None:
    with pytest.raises(UnreadableFile) as caught:
        take(_HEAD + _GOOD + _GOOD, limits=limits)
    assert caught.value.code == code


@on_sqlite
def test_a_long_line_that_ends_between_two_reads_is_no_error(take: Take) -> None:
    # Lines of 60,001 characters against blocks of 2**20: every phase of the two occurs.
    line = "31998765432," + "x" * 59_988 + "\n"
    assert take("telefone,obs\n" + line * 60, "plain").rows == 60


# ------------------------------------------------------------------------------------- rows
@pytest.mark.parametrize(
    ("line", "codes"),
    [
        ("5,531999E+12;Ana;1;2", ["phone_scientific"]),
        (";Ana;1;2", ["phone_missing"]),
        ("99876-5432;Ana;1;2", ["phone_no_area_code"]),
        ("31998765432;;1;\u00a0", ["missing_value", "missing_value"]),
        ("12;;1;2", ["phone_too_short", "missing_value"]),
        ("31998765432;Ana;1", ["ragged_row"]),
        ("31998765432;Ana;1;2;3", ["ragged_row"]),
        ("31998765432;" + "x" * 1000 + ";1;2", ["text_too_long"]),
    ],
)
def test_a_bad_row_says_what_is_wrong_cell_by_cell(scenario: Scenario, take: Take, line: str, codes: list[str]) -> None:
    upload = take(f"telefone;nome;valor;data\n11987654321;Bia;1;2\n{line}\n")
    assert (upload.rows, upload.accepted, upload.rejected) == (2, 1, 1)
    (row,) = _rows(scenario, upload, RowState.REJECTED)
    assert [error.code for error in row.errors] == codes
    assert row.reason == codes[0]
    assert (row.line, list(row.cells)) == (3, line.split(";"))
    assert all(error.reason and error.remedy for error in row.errors)
    assert not any("99876" in error.value or "Ana" in error.value for error in row.errors)


@on_sqlite
def test_values_are_sent_as_meta_takes_them(scenario: Scenario, take: Take) -> None:
    upload = take('telefone;a;b;c\n31998765432;  Ana\u00a0 \tLima ;"R$\n10     00";\u202eabc\u0301 👩\u200d🔧\n')
    assert _rows(scenario, upload)[0].variables == {"1": "Ana Lima", "2": "R$ 10 00", "3": "ab\u0107 👩\u200d🔧"}


@on_sqlite
@pytest.mark.parametrize(
    "value",
    ["\u200b", "\u3164", "\u2060 \u00ad", "\u2800\u2800",
     "\u115f\u1160", "\uffa0", "\ufe0f", "\u034f", "\u3164 \u200d"]
)  # fmt: skip
def test_a_value_that_shows_nothing_is_missing(scenario: Scenario, take: Take, value: str) -> None:
    upload = take(f"telefone;a\n31998765432;{value}\n31987654321;❤\ufe0f {value}\n", "one")
    assert [(r.state.value, r.reason) for r in _rows(scenario, upload)] == [
        ("rejected", "missing_value"),
        ("accepted", ""),
    ]


@on_sqlite
def test_the_longest_message_is_accepted_and_one_character_more_is_not(take: Take) -> None:
    room = 1024 - len("Olá , sua fatura de  vence em .") - 2
    assert take(f"telefone;a;b;c\n31998765432;{'x' * room};1;2\n").accepted == 1
    assert take(f"telefone;a;b;c\n31998765432;{'x' * (room + 1)};1;2\n").accepted == 0


@on_sqlite
def test_separators_after_the_last_column_and_blank_lines_are_no_errors(take: Take) -> None:
    upload = take("telefone;a;b;c;;\n31998765432;1;2;3;;\n\n;;;;;\n \n11987654321;1;2;3\n")
    assert (upload.rows, upload.accepted, upload.skipped) == (5, 2, {"blank": 3})


def test_the_first_sendable_row_of_a_number_is_kept_and_its_twins_are_skipped(scenario: Scenario, take: Take) -> None:
    upload = take(
        "telefone;a;b;c\n31998765432;;2;3\n(31) 9876-5432;1;2;3\n+55 31 99876-5432;1;2;3\n31998765432;1;2;3\n"
        "3132221111;1;2;3\n3199 322-21111;1;2;3\n"
    )
    assert [(r.state.value, r.reason) for r in _rows(scenario, upload)][:5] == [
        ("rejected", "missing_value"),
        ("accepted", ""),
        ("skipped", "duplicate"),
        ("skipped", "duplicate"),
        ("accepted", ""),
    ]


def test_opted_out_numbers_are_skipped_in_either_form_each_time(scenario: Scenario, take: Take) -> None:
    with scenario.store.write() as connection:
        connection.execute(insert(opt_out).values(canonical="+5531998765432", source="word", detail="", at=1))
    upload = take("telefone;a;b;c\n3198765432;1;2;3\n31998765432;1;2;3\n11987654321;1;2;3\n")
    assert (upload.accepted, upload.skipped) == (1, {"opted_out": 2})


def test_the_same_number_in_two_uploads_is_no_duplicate(take: Take) -> None:
    assert take(_HEAD + _GOOD).accepted == 1
    assert take(_HEAD + _GOOD).accepted == 1


# ------------------------------------------------------------------------------------- per-row redirect
def test_a_row_may_choose_its_own_redirect(scenario: Scenario, take: Take) -> None:
    upload = take(
        "telefone;redirecionamento;fila;atendente\n"
        "31998765401;sem;;\n31998765402;Humano;COBRANCA;\n31998765403;human;;ana\n31998765404;notificação;;\n"
        f"31998765405;;{scenario.billing};{scenario.ana.user_id}\n31998765406;;;\n31998765407;HUMANO;;\n",
        "plain",
    )
    assert [r.redirect for r in _rows(scenario, upload)] == [
        Redirect(RedirectKind.NONE),
        Redirect(RedirectKind.HUMAN, queue=scenario.billing),
        Redirect(RedirectKind.HUMAN, agent=scenario.ana.user_id),
        Redirect(RedirectKind.NOTIFICATION),
        Redirect(RedirectKind.HUMAN, queue=scenario.billing, agent=scenario.ana.user_id),
        None,
        Redirect(RedirectKind.HUMAN),
    ]


@on_sqlite
@pytest.mark.parametrize(
    ("cells", "code", "column"),
    [
        ("robô;;", "redirect_unknown", "redirect"),
        ("human;Vendas;", "queue_unknown", "queue"),
        ("human;;carla", "agent_unknown", "agent"),
        ("none;Cobrança;", "redirect_conflict", "queue"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_a_cell_error(
    scenario: Scenario, take: Take, cells: str, code: str, column: str
) -> None:
    upload = take(f"phone;redirect;queue;agent\n31998765401;{cells}\n", "plain")
    (error,) = _rows(scenario, upload)[0].errors
    assert (error.code, error.column) == (code, column)


# ------------------------------------------------------------------------------------- who may
def test_uploading_needs_the_broadcast_permission_in_that_operation(scenario: Scenario, take: Take) -> None:
    with pytest.raises(Forbidden):
        take(_HEAD + _GOOD, principal=scenario.ana)
    stranger = Principal("x", "x", "X", frozenset({("another", "desk.broadcast")}))
    with pytest.raises(NotFound):
        take(_HEAD + _GOOD, principal=stranger)
    upload = take(_HEAD + "1,a,b,c\n")
    with pytest.raises(Forbidden):
        rejected_csv(scenario.store, scenario.ana, upload.id)
    with pytest.raises(NotFound):
        rejected_csv(scenario.store, stranger, upload.id)
    with pytest.raises(NotFound):
        rejected_csv(scenario.store, scenario.operator, "0" * 32)
    with pytest.raises(NotFound):
        take(_HEAD + _GOOD, template_id="0" * 32)


@on_sqlite
def test_a_file_name_is_shown_without_its_path_or_control_characters(take: Take) -> None:
    assert take(_HEAD + _GOOD, filename="..\\..\\C:/temp/co\x1bnta\ntos.csv").filename == "contatos.csv"
    assert len(take(_HEAD + _GOOD, filename="x" * 400).filename) == 255


# ------------------------------------------------------------------------------------- the equation
_CELL = st.one_of(
    st.sampled_from(["31998765432", "3198765432", "11987654321", "5,53E+12", "", " ", "Ana", '"', "a;b", "'=1"]),
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12),
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.lists(st.lists(_CELL, max_size=6), max_size=12),
    raw=st.booleans(),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
@example(table=[['"', "a", "b", "c"]], raw=True, end="\n")
def test_rows_always_equal_accepted_and_rejected_and_skipped(
    scenario: Scenario, take: Take, table: list[list[str]], raw: bool, end: str
) -> None:
    header = ["telefone", "1", "2", "3"]
    if raw:  # as somebody's script might write it
        content = end.join(";".join(cells) for cells in [header, *table]) + end
    else:
        buffer = io.StringIO()
        csv.writer(buffer, delimiter=";", quoting=csv.QUOTE_ALL, lineterminator=end).writerows([header, *table])
        content = buffer.getvalue()
    refused: UnreadableFile | None = None
    try:
        upload = take(content)
    except UnreadableFile as error:
        refused = error
    if refused is not None:
        assert refused.line >= 2 or refused.code == "no_rows"
        # What a CSV writer wrote is readable, but for a line break before what looks like a contact of its own.
        assert raw or not table or refused.code == "unclosed_quote"
        return
    rows = _rows(scenario, upload)
    assert _adds_up(upload)
    assert upload.rows == len(rows)
    assert [r.row for r in rows] == list(range(1, len(rows) + 1))
    assert len({r.canonical for r in rows if r.state is RowState.ACCEPTED}) == upload.accepted
    if not raw:
        assert upload.rows == len(table)
    lines = content.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert all(0 < r.line < len(lines) for r in rows)
