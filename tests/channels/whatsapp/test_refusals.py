"""Meta's error table: every code of Meta's list, its reaction, and words for an operator."""

from __future__ import annotations

import pytest

from channels.whatsapp.refusals import TABLE, explain, of_meta
from plugin.domain.refusal import Reaction

#: Meta's published codes by what this project does about them.
EXPECTED: dict[Reaction, str] = {
    Reaction.PAUSE: (
        "0 3 10 33 100/33 190 368 131005 131008 131031 131037 131042 131044 131045 131048 131051 131061 131063 131064"
        " 132000 132001 132015 132016 132018 132068 132069 133010 134011"
    ),
    Reaction.BACK_OFF: "4 80007 130429 131057 2494100",
    Reaction.RETRY: "1 2 131000 131016 131053 133004 135000",
    Reaction.WAIT: "131056",
    Reaction.DEFER: "131049",
    Reaction.FAIL: "130403 130472 131021 131026 131030 131043 131047 131052 131062 132005 137000",
    Reaction.SUSPECT: "100 130497 131009 132007 132008 132012",
    Reaction.SUPPRESS: "131050",
}
#: Further tries of those that have any.
TRIES = {"1": 1, "2": 3, "131000": 3, "131016": 3, "131053": 2, "133004": 3, "135000": 1, "131049": 1}


def test_every_code_of_metas_list_has_the_reaction_decided_for_it() -> None:
    expected = {code: reaction for reaction, codes in EXPECTED.items() for code in codes.split()}
    assert {code: row.reaction for code, row in TABLE.items()} == expected


def test_waits_and_tries_are_those_decided() -> None:
    assert {code: row.tries for code, row in TABLE.items() if row.tries} == TRIES
    backing_off = {code: row.seconds for code, row in TABLE.items() if row.reaction is Reaction.BACK_OFF}
    assert backing_off == {"4": 120, "80007": 60, "130429": 2, "131057": 60, "2494100": 60}
    assert TABLE["131049"].seconds == 24 * 3600
    assert all(row.seconds > 0 for row in TABLE.values() if row.reaction is Reaction.RETRY)


@pytest.mark.parametrize("row", TABLE.values(), ids=lambda row: row.code)
def test_every_row_says_in_both_languages_what_happened_and_what_to_do(row: object) -> None:
    texts = [getattr(row, name) for name in ("pt", "en", "remedy_pt", "remedy_en")]
    assert all(text.strip() == text and text.endswith(".") and text[0].isupper() for text in texts), texts
    assert len(set(texts)) == 4


def test_no_two_codes_are_explained_alike_in_the_table() -> None:
    assert len({row.pt for row in TABLE.values()}) == len({row.en for row in TABLE.values()}) == len(TABLE)


@pytest.mark.parametrize("code", ["200", "210", "299"])
def test_each_missing_permission_pauses_under_its_own_code(code: str) -> None:
    row = explain(code)
    assert (row.code, row.reaction) == (code, Reaction.PAUSE)
    assert "permissão" in row.pt


@pytest.mark.parametrize("code", ["199", "300", "0200", "２０0", "131058", "nonsense", ""])
def test_a_code_that_is_not_in_the_table_is_unknown(code: str) -> None:
    assert of_meta(code) is None
    row = explain(code)
    assert (row.code, row.reaction, row.tries) == (code, Reaction.RETRY, 1)
    assert "provedor" in row.remedy_pt
    assert "provider" in row.remedy_en


def test_codes_of_our_own_are_explained_too() -> None:
    assert explain("ReadTimeout").pt == "A mensagem saiu e o provedor não respondeu a tempo."
    assert explain("http_503").reaction is Reaction.FAIL
