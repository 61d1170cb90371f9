"""Why a broadcast stands where it stands: a code with its figures, put into words when somebody reads it.

Reasons of our own. A provider's refusal has its channel's words, see `plugin.domain.refusal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

#: So many different error codes are named in a reason.
_NAMED_CODES = 3

_BEFORE_RECONCILING = (
    " Nada será enviado até alguém decidir. As linhas na fila podem já ter recebido a mensagem depois da cópia. O que"
    " foi feito depois dela se perdeu: pedidos de descadastro (importe a sua lista de descadastros), pausas e"
    " cancelamentos, e disparos inteiros (não os repita sem conferir). Confira e reconcilie este disparo.",
    " Nothing is sent until somebody decides. Waiting lines may have got the message after the copy was made. What was"
    " done after it is lost: requests to opt out (import your suppression list), pauses and cancellations, and whole"
    " broadcasts (don't repeat them without checking). Check, and reconcile this broadcast.",
)
_AFTER_A_STOP = (
    ". Confira a mensagem e o arquivo; depois retome, ou cancele. As que falharam podem ser reenviadas.",
    ". Check the message and the file; then resume, or cancel. What failed can be sent again.",
)


def _held(pt: str, en: str) -> tuple[str, str]:
    return pt + _BEFORE_RECONCILING[0], en + _BEFORE_RECONCILING[1]


def _stopped(pt: str, en: str) -> tuple[str, str]:
    before = "O disparo parou sozinho: ", "The broadcast stopped by itself: "
    return before[0] + pt + _AFTER_A_STOP[0], before[1] + en + _AFTER_A_STOP[1]


# fmt: off
#: (pt, en) by code. In braces the figures, or what `_shown` makes of them.
WORDS: Mapping[str, tuple[str, str]] = {
    "paused": ("Pausado por {by}.", "Paused by {by}."),
    "cancelled": ("Cancelado por {by}.", "Cancelled by {by}."),
    "cancelled_held": (
        "Cancelado por {by}, depois que o banco de dados voltou de uma cópia: quem estava na fila pode já ter recebido,"
        " e ficou como desconhecido.",
        "Cancelled by {by}, after the database was put back from a backup: those who were waiting may have got the"
        " message, and are unknown."),
    "no_channel": (
        "O canal {channel} não está configurado. Configure-o em credentials.yml, reinicie e retome.",
        "The channel {channel} is not configured. Configure it in credentials.yml, restart and resume."),
    "unreadable_template": (
        "A mensagem guardada com este disparo não pôde ser lida. Busque as mensagens de novo e crie um disparo.",
        "The message kept with this broadcast could not be read. Refresh the templates and make a new broadcast."),
    "first_suspect": _stopped(
        "as {failed} primeiras mensagens foram recusadas ({codes})",
        "the first {failed} messages were refused ({codes})"),
    "first_alike": _stopped(
        "as {failed} primeiras mensagens falharam todas do mesmo modo ({codes})",
        "the first {failed} messages all failed in the same way ({codes})"),
    "last_suspect": _stopped(
        "{failed} das últimas {of} mensagens foram recusadas ({codes})",
        "{failed} of the last {of} messages were refused ({codes})"),
    "wave": (
        "A primeira leva parou o disparo: {over}. {tried} de {of} contatos testados; descadastros: {opt_outs}, falhas:"
        " {failures}{counted}, sem resposta do provedor: {unknown}. Veja as linhas; retomar envia ao restante.",
        "The first wave stopped the broadcast: {over}. {tried} of {of} contacts tried; opt-outs: {opt_outs}, failures:"
        " {failures}{counted}, without an answer of the provider: {unknown}. See the lines; resuming sends to the"
        " rest."),
    "wave_too_few": (
        "A primeira leva parou o disparo: só {tried} de {of} contatos testados, e os outros continuam à espera. Veja as"
        " linhas; retomar envia ao restante.",
        "The first wave stopped the broadcast: only {tried} of {of} contacts tried, and the others still wait. See the"
        " lines; resuming sends to the rest."),
    "put_back": _held(
        "O banco de dados voltou no tempo: foi restaurado de uma cópia de segurança.",
        "The database went back in time: it was restored from a backup."),
    "another": _held(
        "Este não é o banco de dados que este servidor usava: foi trocado, ou restaurado de uma cópia de segurança.",
        "This is not the database that this server used: it was exchanged, or restored from a backup."),
    "failed_over": _held(
        "O servidor PostgreSQL foi trocado por uma réplica ou por uma cópia, que pode estar atrasada.",
        "The PostgreSQL server was replaced by a standby or a copy, which may lag behind."),
    "no_mark": _held(
        "Não é possível saber se o banco de dados está completo: falta o arquivo que marca até onde ele foi.",
        "Nobody can tell whether the database is complete: the file that marks how far it had come is missing."),
    "unknown_attempt": _held(
        "O provedor confirmou mensagens que este banco de dados não conhece: foi restaurado de uma cópia de segurança.",
        "The provider confirmed messages that this database does not know: it was restored from a backup."),
}
# fmt: on


@dataclass(frozen=True)
class Why:
    """`code` is one of `WORDS`; `figures` (JSON-able) are what its words name."""

    code: str
    figures: Mapping[str, Any] = field(default_factory=dict)

    def words(self, language: str) -> str:
        """In Portuguese, or in English for any other language."""
        pt = language.lower().startswith("pt")
        return WORDS[self.code][0 if pt else 1].format(**_shown(self.figures, pt))

    def stored(self) -> dict[str, str]:
        """The columns of a broadcast that say it."""
        return {"state_code": self.code, "state_reason": orjson.dumps(self.figures).decode()}

    @classmethod
    def read(cls, state_code: str, state_reason: str) -> Why | None:
        """What was `stored`; None when the columns hold a provider's code, or nothing."""
        return cls(state_code, orjson.loads(state_reason)) if state_code in WORDS else None

    def __str__(self) -> str:
        return self.words("en")


def _shown(figures: Mapping[str, Any], pt: bool) -> dict[str, Any]:
    """`figures` as texts, where they are more than a number or a name.

    `codes` is a list of codes, or counts by code; `over` is {"opt_outs" or "failures": [share, limit]}, in percent.
    """
    shown: dict[str, Any] = {**figures, "counted": ""}
    none = "sem código" if pt else "no code"
    codes = figures.get("codes")
    if isinstance(codes, Mapping):
        most = sorted(codes.items(), key=lambda item: (-item[1], item[0]))[:_NAMED_CODES]
        if most:
            shown["counted"] = f" ({', '.join(f'{code or none}: {n}' for code, n in most)})"
    elif codes is not None:
        shown["codes"] = f"{'código' if pt else 'code'} {', '.join(codes)}" if codes else none
    names = {"opt_outs": "de descadastros" if pt else "opt-outs", "failures": "de falhas" if pt else "failures"}
    shown["over"] = (" e " if pt else " and ").join(
        f"{_percent(share, pt)} {names[name]} ({'limite' if pt else 'limit'} {_percent(limit, pt)})"
        for name, (share, limit) in figures.get("over", {}).items()
    )
    return shown


def _percent(value: float, pt: bool) -> str:
    return f"{value:.10g}".replace(".", ",") + " %" if pt else f"{value:.10g}%"
