"""The hot loop of an upload against the same rules taken step by step."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plugin.domain.template import Template
from plugin.testing.scenario import Scenario
from plugin.usecases.csvcolumns import Layout
from plugin.usecases.csvrows import AcceptedRow, OtherRow, RowReader, clean, guard
from plugin.usecases.intake import take_upload
from plugin.usecases.setup import Named, OperationInfo

_OPERATION = OperationInfo("o", "Suporte", "1", None, (Named("q1", "Cobrança"),), (Named("a1", "Ana"),))
_TEMPLATE = Template("1", "t", "pt_BR", "UTILITY", "APPROVED", "Oi {{1}}, {{2}} e de novo {{2}}." + "x" * 980)
_LAYOUT = Layout(
    ";", 1, ("telefone", "a", "b", "fila"), 0, (("1", 1), ("2", 2)), "order", (("queue", 3),)
)  # fmt: skip

_TEXT = st.one_of(
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=8),
    st.sampled_from(
        [
            "",
            "\u200b",
            "\u3164",
            "\u2800 \ufe0f",
            "❤\ufe0f",
            "João",
            "Jo\u0303ao",
            "'=1",
            "'t Hooft",
            "a  b",
            'a "b"',
            "a\\b",
            " a ",
            "x" * 12,
            "\u202ea",
            "a\u00a0b",
        ]
    ),
)
_PHONE = st.one_of(
    st.sampled_from(["31998765432", "(31) 9876-5432", "3178765432", "+14155552671", "5,53E+12", "'5531998765432"]),
    _TEXT,
)


@settings(max_examples=800, deadline=None)
@given(
    phone=_PHONE,
    a=_TEXT,
    b=_TEXT,
    queue=st.sampled_from(["", "cobranca", "q1", "outra"]),
    more=st.lists(_TEXT, max_size=1),
)
@example(phone="31998765432", a="Ana", b="Bia", queue="", more=[])
def test_the_fast_path_of_a_row_gives_what_the_full_examination_gives(
    phone: str, a: str, b: str, queue: str, more: list[str]
) -> None:
    reader = RowReader(_LAYOUT, _TEMPLATE, _OPERATION)
    cells = [phone, a, b, queue, *more]
    ((accepted, others),) = reader.batches([(7, cells)], 10)
    slow: tuple[list[AcceptedRow], list[OtherRow]] = ([], [])
    reader._examine(1, 7, cells, *slow)
    assert (accepted, others) == slow
    for row in accepted:
        values = orjson.loads(row[4])
        assert values == {"1": clean(a), "2": clean(b)}
        assert len(_TEMPLATE.render(values)) <= 1024
        assert not any(c in value for value in values.values() for c in "\t\r\n\u202e")


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(max_size=10), st.text("=+-@'\t \ufeffa", max_size=5)))
def test_a_guarded_cell_starts_no_formula_and_cleans_to_what_it_was(cell: str) -> None:
    assert guard(cell).lstrip("\ufeff ")[:1] not in set("=+-@\t\r\0＝＋－＠")
    if "'" not in cell:  # an apostrophe of one's own can't be told from the guard
        assert clean(guard(cell)) == clean(cell)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_memory_does_not_grow_with_the_file(scenario: Scenario, tmp_path: Path) -> None:
    peaks = []
    for rows in (20_000, 60_000):
        path = tmp_path / f"{rows}.csv"
        lines = (f"3199{number:07},Pessoa número {number}\n" for number in range(rows))
        path.write_text("telefone,nome\n" + "".join(lines), encoding="utf-8")
        tracemalloc.start()
        try:
            taken = take_upload(
                scenario.store,
                scenario.operator,
                operation_id=scenario.operation,
                template_id=scenario.templates["without_button"],
                filename=path.name,
                path=path,
                sha256="0" * 64,
            )
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert taken.accepted == rows
    assert peaks[1] < 1.2 * peaks[0]
