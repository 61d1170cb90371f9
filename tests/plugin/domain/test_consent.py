"""Opt-out words."""

from __future__ import annotations

import pytest

from plugin.domain.consent import OPT_OUT_WORDS, is_opt_out


@pytest.mark.parametrize(
    "text",
    [
        "parar", "PARE", "Sair", "cancelar", "Descadastrar", "remover", "STOP", "unsubscribe", "baja", "Opt-out",
        "pare!!!", " Stop. ", "🛑 PARAR 🛑", "\u200fstop", "*sair*", "“sair”", "Não quero mais", "nao quero mais",
        "Me remova, por favor"[:9], "cancelar suscripción", "Remova-me",
    ],
)  # fmt: skip
def test_a_message_that_is_an_opt_out_word_opts_out(text: str) -> None:
    assert is_opt_out(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "👍", "sim", "Vamos conversar", "não quero parar a internet", "quero cancelar a visita de amanhã",
        "pare de cobrar e me ligue", "saída", "nonstop", "paramos", "stop?" * 50,
    ],
)  # fmt: skip
def test_any_other_message_does_not(text: str) -> None:
    assert not is_opt_out(text)


def test_every_word_of_the_list_is_recognised_in_capitals() -> None:
    assert len(OPT_OUT_WORDS) > 50
    assert all(is_opt_out(word.upper() + "!") for word in OPT_OUT_WORDS)
