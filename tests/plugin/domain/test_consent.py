"""Opt-out words: all of them, however they are typed, and nothing that merely holds one."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plugin.domain.consent import _WORDS, AMBIGUOUS_WORDS, OPT_OUT_WORDS, is_clear_opt_out, is_opt_out
from plugin.domain.template import fold

#: As written, with their accents.
SPELLED = sorted({word.strip() for line in _WORDS.splitlines() for word in line.split(",")} - {""})
#: What people put around a word that is neither letter nor digit. (Digits would be another message.)
AROUND = st.text(alphabet=" \t\n.,;:!?…*_~-—\"'“”()🛑😡👎🏽✋❌\u200f\u200e\u00a0\ufe0f", max_size=6)


def respelled(word: str, case: str, form: str) -> str:
    changed = {"upper": word.upper(), "title": word.title(), "as is": word}[case]
    if form == "plain":
        return "".join(c for c in unicodedata.normalize("NFD", changed) if not unicodedata.combining(c))
    return unicodedata.normalize(form, changed)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(SPELLED),
    st.sampled_from(["upper", "title", "as is"]),
    st.sampled_from(["NFC", "NFD", "plain"]),
    AROUND,
    AROUND,
    st.integers(1, 3),
)
@example("não quero mais receber mensagens", "upper", "NFD", "🛑 ", " !!!", 1)
def test_a_word_counts_with_any_case_accents_and_signs_around_it(
    word: str, case: str, form: str, before: str, after: str, times: int
) -> None:
    once = before + respelled(word, case, form) + after
    assert is_opt_out(once)
    if " " not in fold(word):
        assert is_opt_out(" ".join([once] * times)), "sent twice in one message"


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(SPELLED),
    st.sampled_from(["a visita de amanhã", "o Zé não vem", "de chover", "the order", "la cita", "2ª via", "123"]),
    st.booleans(),
    st.sampled_from([" ", ", ", "\n", " - "]),
)
def test_a_word_inside_a_sentence_does_not_count(word: str, rest: str, first: bool, between: str) -> None:
    text = word + between + rest if first else rest + between + word
    assert not is_opt_out(text)


@pytest.mark.parametrize("word", SPELLED)
def test_every_word_of_the_list_is_recognised_in_capitals(word: str) -> None:
    assert is_opt_out(word.upper() + "!")
    assert is_clear_opt_out(word) is (fold(word) not in AMBIGUOUS_WORDS)


@pytest.mark.parametrize(
    "text",
    [
        "parar", "PARE", "Sair", "cancelar", "Descadastrar", "remover", "STOP", "unsubscribe", "baja", "Opt-out",
        "\u200fstop", "*sair*", "“sair”", "𝐏𝐀𝐑𝐀𝐑", "ＳＴＯＰ", "Não quero mais", "NAO QUERO MAIS",
        "Me remova, por favor",
        "Por favor, parar", "sair, obrigada", "favor remover", "Please stop", "stop pls", "Stop promotions",
        "Parar promoções", "Detener promociones", "cancelar suscripción", "Remova-me", "PARE PARE PARE", "sair\nsair",
        "Don't message me", "me tira dessa lista 😡",
    ],
)  # fmt: skip
def test_a_message_that_is_an_opt_out_word_opts_out(text: str) -> None:
    assert is_opt_out(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "👍", "sim", "não", "Vamos conversar", "não quero parar", "não quero parar a internet",
        "para, o Zé não vem", "quero cancelar a visita", "quero cancelar a visita de amanhã",
        "pare de cobrar e me ligue", "saída", "nonstop",
        "paramos", "stopp", "STOP 2", "stop?" * 500, "por favor", "obrigado", "não, obrigado", "não quero, obrigado",
        "sair com a Ana", "me tira uma dúvida", "como faço para sair da lista?", "parar sair", "no quiero, gracias",
        "don't stop", "please cancel my order", "para quando?", "favor", "basta ligar",
    ],
)  # fmt: skip
def test_any_other_message_does_not(text: str) -> None:
    assert not is_opt_out(text)


def test_words_with_other_meanings_are_words_of_the_list() -> None:
    assert AMBIGUOUS_WORDS < OPT_OUT_WORDS
