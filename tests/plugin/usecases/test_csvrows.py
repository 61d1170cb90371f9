"""The hot loop of an upload against the same rules taken step by step."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from random import Random

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
            " a",
            "a ",
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
_QUEUE = st.sampled_from(["", "cobranca", "q1", "outra"])


class _Thorough(RowReader):
    """Takes no row's values for common."""

    def _in_common(self, values: Sequence[str]) -> None:
        return None


def _one_by_one(lines: Sequence[int], records: Sequence[Sequence[str]]) -> tuple[list[AcceptedRow], list[OtherRow]]:
    found: tuple[list[AcceptedRow], list[OtherRow]] = ([], [])
    reader = _Thorough(_LAYOUT, _TEMPLATE, _OPERATION)
    for number, (line, cells) in enumerate(zip(lines, records, strict=True), 1):
        reader._examine(number, line, cells, *found)
    return found


@settings(max_examples=200, deadline=None)
@given(
    phone=_PHONE,
    a=_TEXT,
    b=_TEXT,
    queue=_QUEUE,
    more=st.lists(_TEXT, max_size=1),
)
@example(phone="31998765432", a="Ana", b="Bia", queue="", more=[])
def test_the_fast_path_of_a_row_gives_what_the_full_examination_gives(
    phone: str, a: str, b: str, queue: str, more: list[str]
) -> None:
    reader = RowReader(_LAYOUT, _TEMPLATE, _OPERATION)
    block = ([7], [[phone, a, b, queue, *more]])
    ((accepted, others),) = reader.batches([block], 10)
    assert (accepted, others) == _one_by_one(*block)
    for row in accepted:
        values = orjson.loads(row[4])
        assert values == {"1": clean(a), "2": clean(b)}
        assert len(_TEMPLATE.render(values)) <= 1024
        assert not any(c in value for value in values.values() for c in "\t\r\n\u202e")


_GOOD_PHONE = st.sampled_from(["31998765432", "(31) 9876-5432", "3178765432"])
_GOOD = st.tuples(
    _GOOD_PHONE,
    st.sampled_from(["Ana", "João", "Sant'Anna", "Ana|Bia", "x" * 6]),
    st.sampled_from(["R$ 10,90", "Íris", "|", "12/12/2026"]),
    _QUEUE,
)
_BAD = st.one_of(
    st.tuples(_GOOD_PHONE, _TEXT, _TEXT, _QUEUE), st.lists(st.one_of(_PHONE, _TEXT), max_size=5).map(tuple)
)


@settings(max_examples=100, deadline=None)
@given(good=st.lists(_GOOD, max_size=6), bad=st.lists(_BAD, max_size=2), draw=st.randoms(use_true_random=False))
def test_rows_looked_at_together_come_out_as_each_would_alone(
    good: list[tuple[str, ...]], bad: list[tuple[str, ...]], draw: Random
) -> None:
    records = list(map(list, [*good, *bad]))
    draw.shuffle(records)
    lines = range(2, 2 + len(records))
    half = len(records) // 2
    blocks = [(lines[part], records[part]) for part in (slice(half), slice(half, None)) if records[part]]
    found: tuple[list[AcceptedRow], list[OtherRow]] = ([], [])
    for accepted, others in RowReader(_LAYOUT, _TEMPLATE, _OPERATION).batches(blocks, 3):
        found[0].extend(accepted)
        found[1].extend(others)
    assert found == _one_by_one(lines, records)


@settings(max_examples=200, deadline=None)
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
