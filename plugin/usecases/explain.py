"""What a line of a report says for itself: what happened to it, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Union

from plugin.domain.causes import REASONS, REFUSED, UNKNOWN_REMEDY, Words, of_code
from plugin.domain.delivery import DeliveryState
from plugin.domain.refusal import Refusal

#: (channel, code) → what the code means there.
Explain = Callable[[str, str], Refusal]
#: (state, reason, error code) of a line → (explanation, remedy).
ExplainLine = Callable[[str, Union[str, None], Union[str, None]], "tuple[str, str]"]

LANGUAGES = ("pt-BR", "en")

_REJECTED = Words(
    "A linha foi recusada na conferência do arquivo.",
    "The line was refused when the file was checked.",
    "Baixe as linhas recusadas do arquivo, corrija-as e envie-as num disparo novo.",
    "Download the file's refused lines, correct them and send them in a new broadcast.",
)
_UNKNOWN = Words(
    "O envio foi interrompido: não se sabe se a mensagem saiu.",
    "Sending was interrupted: it is not known whether the message left.",
    *UNKNOWN_REMEDY,
)
_NO_CODE = Words(
    "O provedor recusou sem dar um código.",
    "The provider refused without giving a code.",
    "Leia a mensagem do provedor nesta linha.",
    "Read the provider's message on this line.",
)
#: Of lines that are on their way or have arrived; there is nothing to do about them.
_ON_THE_WAY: Mapping[str, Words] = {
    DeliveryState.QUEUED.value: Words("A mensagem espera a sua vez de sair.", "The message waits for its turn."),
    DeliveryState.SENDING.value: Words(
        "A mensagem está sendo entregue ao provedor agora; falta a resposta dele.",
        "The message is being handed to the provider right now; its answer is still to come.",
    ),
    DeliveryState.SENT.value: Words(
        "O provedor aceitou a mensagem; ainda não confirmou que ela chegou ao telefone.",
        "The provider accepted the message; it has not confirmed yet that it reached the phone.",
    ),
    DeliveryState.DELIVERED.value: Words(
        "A mensagem chegou ao telefone da pessoa; não há confirmação de leitura.",
        "The message reached the person's phone; there is no confirmation that it was read.",
    ),
    DeliveryState.READ.value: Words("A mensagem foi lida.", "The message was read."),
}
#: Deferred for these reasons, the line has a code that says why.
_REFUSED = ("retry", "provider")


def of_own(_channel: str, code: str) -> Refusal:
    """An `Explain` that knows the core's own codes only: for a channel that is not configured (any more)."""
    return of_code(code) or Refusal.unknown(code)


def lines(explain: Explain, channel: str, language: str) -> ExplainLine:
    """Explains the lines of one report, each distinct case once: a report may have a million lines."""

    @lru_cache(maxsize=1024)
    def line(state: str, reason: str | None, code: str | None) -> tuple[str, str]:
        def of_error() -> tuple[str, str]:
            return explain(channel, code).explanation(language) if code else _NO_CODE.explanation(language)

        if state == DeliveryState.REJECTED.value:
            happened, remedy = _REJECTED.explanation(language)
            more = "" if language.lower().startswith("pt") else REFUSED.get(reason or "", "")
            return f"{happened} {more}".rstrip(), remedy
        if state == DeliveryState.FAILED.value:
            return of_error()
        if state == DeliveryState.UNKNOWN.value:
            remedy = _UNKNOWN.explanation(language)[1]
            return (of_error() if code else _UNKNOWN.explanation(language))[0], remedy
        if state == DeliveryState.QUEUED.value and code:
            return of_error()  # given back, because a person must act first
        if state in _ON_THE_WAY:
            return _ON_THE_WAY[state].explanation(language)
        words = REASONS.get(reason or "")
        happened, remedy = words.explanation(language) if words else (reason or "", "")
        if code and reason in _REFUSED:
            happened = f"{happened} {of_error()[0]}"
        return happened, remedy

    return line
