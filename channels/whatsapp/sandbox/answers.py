"""The phones' own answers to templates: drawn by seed, so that a run can be repeated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from channels.whatsapp.sandbox.chats import Message, Phone
from channels.whatsapp.sandbox.config import ANSWER_KINDS, Answers
from channels.whatsapp.sandbox.people import share
from plugin.domain.template import DEFAULT_TALK_BUTTON, fold

OPT_OUT = ("PARAR", "SAIR", "Parar", "sair", "PARE", "Descadastrar")

SENTENCES = (
    "Oi, tudo bem? Quero saber mais sim",
    "Boa tarde! Já paguei essa fatura ontem no pix",
    "Qual o valor certinho?",
    "pode mandar a segunda via por favor",
    "Não tô conseguindo abrir o boleto",
    "minha internet tá caindo toda hora desde ontem",
    "Bom dia, vcs atendem no sábado?",
    "Quero falar com um atendente",
    "Já resolvi, obrigada!",
    "👍",
    "quem é?",
    "Consigo parcelar?",
    "Vence quando mesmo?",
    "Me liga depois das 18h, tô no trabalho",
    "Esse número não é mais da Maria, é engano",
    "Ok",
    "isso é golpe?",
    "A velocidade aumenta mesmo ou é só propaganda?",
    "Estou sem sinal aqui na Rua das Acácias, 120",
    "Tem como mudar o vencimento pro dia 10?",
    "show, pode fazer",
    "Agora não posso falar",
    "kkkk adorei, quero sim",
    "Preciso do código de barras, não do QR code",
)


@dataclass(frozen=True)
class Answer:
    """`button` is the index to tap, or None to type `text`."""

    button: int | None
    text: str = ""


def draw(answers: Answers, phone: Phone, message: Message, ordinal: int) -> Answer | None:
    """What `phone` does about its `ordinal`-th template; None for silence.

    The draw depends on the seed, the account and the ordinal. The message's id has no part in it, because ids are new
    in each installation and two runs with one seed must agree.
    """
    key = (answers.seed, phone.wa_id, ordinal)
    kind, left = "silence", share("kind", *key)
    for candidate in ANSWER_KINDS:
        left -= answers.mix.get(candidate, 0.0)
        if left < 0:
            kind = candidate
            break
    if kind == "silence":
        return None
    if kind == "opt_out":
        return Answer(None, _pick(OPT_OUT, *key))
    if kind == "tap" and message.buttons:
        talk = [one for one in message.buttons if fold(one["text"]) == fold(DEFAULT_TALK_BUTTON)]
        return Answer(_pick(tuple(talk or message.buttons), *key)["index"])
    return Answer(None, _pick(SENTENCES, *key))


def _pick(choices: tuple[Any, ...], *key: object) -> Any:
    return choices[int(share("pick", *key) * len(choices))]
