"""Rejected rows, back and forth."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest

from plugin.domain.upload import Upload
from plugin.testing.scenario import Scenario
from plugin.usecases.intake import rejected_csv

Take = Callable[..., Upload]


def test_rejected_rows_can_be_corrected_and_sent_again_until_none_is_left(scenario: Scenario, take: Take) -> None:
    upload = take(
        'Telefone,Nome,Valor,Data,Obs\n31998765432,,"R$ 1,00",2,=2+2\n99876-5432,Ana,1,2,\n+14155552671,,1,2,\n'
        "11987654321,Bia,1,2,\n"
    )
    back = b"".join(rejected_csv(scenario.store, scenario.operator, upload.id))
    assert back.startswith(b"\xef\xbb\xbf")
    lines = list(csv.reader(io.StringIO(back.decode("utf-8-sig")), delimiter=";"))
    assert lines[0] == ["Telefone", "Nome", "Valor", "Data", "Obs", "motivo"]
    assert lines[1][:5] == ["(31) 99876-5432", "", "R$ 1,00", "2", "'=2+2"]
    assert [line[5] != "" for line in lines[1:]] == [True, True, True]
    # Sent back untouched, the same rows are refused again, for the same reasons.
    again = take(back)
    assert (again.accepted, again.rejected) == (0, 3)
    assert b"".join(rejected_csv(scenario.store, scenario.operator, again.id)) == back
    # Corrected, they pass, and what the spreadsheet's guard covered arrives as it was.
    lines[1][1], lines[2][0], lines[3][1] = "'-João", "31 99876-5433", "Jo"
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=";").writerows(lines)
    fixed = take(buffer.getvalue().encode("cp1252"))
    assert (fixed.accepted, fixed.rejected) == (3, 0)
    rows = scenario.store.upload_rows(fixed.id)
    assert [r.address for r in rows] == ["+5531998765432", "+5531998765433", "+14155552671"]
    assert rows[0].variables["1"] == "-João"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", " =", "＝", "＠"])
def test_no_cell_of_the_rejected_rows_can_start_a_formula(scenario: Scenario, take: Take, start: str) -> None:
    upload = take(f'telefone;a;b;{start}x\n9;"{start}cmd|calc";1;"{start}1"\n')
    content = b"".join(rejected_csv(scenario.store, scenario.operator, upload.id)).decode("utf-8-sig")
    for cells in csv.reader(io.StringIO(content), delimiter=";"):
        assert not any(cell.lstrip(" \ufeff")[:1] in set("=+-@\t\r＝＋－＠") for cell in cells if cell)


def test_many_rejected_rows_come_back_in_order(scenario: Scenario, take: Take) -> None:
    upload = take("telefone\n" + "".join(f"{i}\n" for i in range(2500)), "plain")
    content = b"".join(rejected_csv(scenario.store, scenario.operator, upload.id)).decode("utf-8-sig")
    assert [line[0] for line in csv.reader(io.StringIO(content), delimiter=";")][1:] == [str(i) for i in range(2500)]
