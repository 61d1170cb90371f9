"""Why a broadcast stands where it stands, in two languages."""

from __future__ import annotations

import string

import pytest

from plugin.domain.causes import OWN
from plugin.domain.why import WORDS, Why

FIGURES = {
    "by": "Ana", "channel": "whatsapp", "failed": 3, "of": 50, "codes": ["132012"], "tried": 12, "opt_outs": 1,
    "failures": 2, "unknown": 0, "over": {"failures": [16.7, 10]},
}  # fmt: skip


@pytest.mark.parametrize("code", sorted(WORDS))
def test_each_reason_is_said_in_both_languages_and_survives_the_database(code: str) -> None:
    why = Why(code, FIGURES)
    assert Why.read(**why.stored()) == why
    pt, en = why.words("pt-BR"), why.words("en")
    assert pt != en == str(why)
    assert not set("{}") & set(pt + en)
    names = [{name for _, name, _, _ in string.Formatter().parse(words) if name} for words in WORDS[code]]
    assert names[0] == names[1]


def test_a_providers_code_or_an_old_sentence_is_not_taken_for_one_of_ours() -> None:
    assert not set(WORDS) & set(OWN)
    assert Why.read("131042", "Sem pagamento.") is None
    assert Why.read("", "Pausado por Ana.") is None
