"""Codes of our own: why nothing left, why nobody knows whether it arrived, what was wrong before the provider saw it.

A provider's codes are its channel's; these mean the same on every channel. Reasons (`REASONS`) say why a line waits or
was not meant to be sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from plugin.domain.refusal import Reaction, Refusal


@dataclass(frozen=True)
class Words:
    """What an operator reads: what happened, and what to do."""

    pt: str
    en: str
    remedy_pt: str = ""
    remedy_en: str = ""

    def explanation(self, language: str) -> tuple[str, str]:
        """As `plugin.domain.refusal.Refusal.explanation`."""
        return (self.pt, self.remedy_pt) if language.lower().startswith("pt") else (self.en, self.remedy_en)


#: A line of state `unknown`, whatever its code.
UNKNOWN_REMEDY = (
    "A confirmação do provedor pode ainda chegar e resolver a linha. Reenvie só se aceitar o risco de a pessoa receber"
    " a mensagem duas vezes.",
    "The provider's confirmation may still come and settle the line. Send it again only if you accept the risk that"
    " the person gets the message twice.",
)
_UNREACHABLE = (
    "Nada a fazer se passar sozinho: nada foi enviado e a linha continua na fila. Se durar, confira a rede e o"
    " endereço do provedor.",
    "Nothing to do if it passes: nothing was sent and the line stays queued. If it lasts, check the network and the"
    " provider's address.",
)
_ADDRESS = (
    "Confira o endereço do provedor em credentials.yml e o proxy, se houver, e retome o disparo.",
    "Check the provider's address in credentials.yml and the proxy, if any, and resume the broadcast.",
)


def _not_sent(code: str, pt: str, en: str) -> Refusal:
    return Refusal(code, Reaction.BACK_OFF, pt, en, *_UNREACHABLE, seconds=1.0)


def _ambiguous(code: str, pt: str, en: str) -> Refusal:
    # `FAIL` in the sense that nothing is done by itself: the row is `unknown`, and only news or a person moves it.
    return Refusal(code, Reaction.FAIL, pt, en, *UNKNOWN_REMEDY)


# fmt: off
_ROWS = (
    # ------------------------------------------------------------------ no byte left
    _not_sent("NotSent", "A mensagem não chegou a sair.", "The message never left."),
    _not_sent("ConnectError", "Não foi possível conectar ao provedor.", "The provider could not be connected to."),
    _not_sent("ConnectTimeout", "O provedor não atendeu à conexão a tempo.", "The provider did not take the connection"
              " in time."),
    _not_sent("PoolTimeout", "Todas as conexões com o provedor estavam ocupadas.",
              "All connections to the provider were busy."),
    _not_sent("ProxyError", "O proxy da rede recusou a conexão ao provedor.",
              "The network's proxy refused the connection to the provider."),
    _not_sent("UnsupportedProtocol", "O endereço do provedor não é http nem https.",
              "The provider's address is neither http nor https."),
    _not_sent("fenced", "O processo que ia enviar foi dado como parado; outro envia.",
              "The process about to send was given up as stopped; another one sends."),
    _not_sent("closed", "O canal estava sendo desligado.", "The channel was being shut down."),

    # ------------------------------------------------------------------ bytes left, no definite answer came
    _ambiguous("Ambiguous", "A mensagem saiu e não houve resposta certa do provedor.",
               "The message left and no definite answer came from the provider."),
    _ambiguous("ReadTimeout", "A mensagem saiu e o provedor não respondeu a tempo.",
               "The message left and the provider did not answer in time."),
    _ambiguous("WriteTimeout", "A conexão travou enquanto a mensagem saía.",
               "The connection stalled while the message was leaving."),
    _ambiguous("ReadError", "A conexão caiu antes da resposta do provedor.",
               "The connection broke before the provider's answer."),
    _ambiguous("WriteError", "A conexão caiu enquanto a mensagem saía.",
               "The connection broke while the message was leaving."),
    _ambiguous("CloseError", "A conexão caiu ao ser encerrada.", "The connection broke while it was being closed."),
    _ambiguous("RemoteProtocolError", "O provedor encerrou a conexão no meio da resposta.",
               "The provider ended the connection in the middle of its answer."),
    _ambiguous("DecodingError", "A resposta do provedor chegou ilegível.", "The provider's answer was unreadable."),
    _ambiguous("connector", "O canal falhou de um modo inesperado durante o envio.",
               "The channel failed in an unexpected way while sending."),
    _ambiguous("unstorable", "O provedor respondeu, e a resposta não pôde ser gravada no banco de dados.",
               "The provider answered, and the answer could not be stored in the database."),
    _ambiguous("restore", "O banco de dados foi restaurado de uma cópia: o envio pode ter acontecido depois dela.",
               "The database was restored from a backup: the message may have been sent after it."),
    _ambiguous("crash", "O programa foi interrompido durante o envio.",
               "The program was interrupted while sending."),

    # ------------------------------------------------------------------ refused before the provider saw it
    Refusal("channel", Reaction.PAUSE, "O canal deste disparo não está configurado.",
            "The channel of this broadcast is not configured.",
            "Configure o canal em credentials.yml, reinicie e retome.",
            "Configure the channel in credentials.yml, restart and resume."),
    Refusal("local_sender", Reaction.PAUSE, "O número de envio não é o desta conta, ou o canal foi desligado.",
            "The sending number is not this account's, or the channel was shut down.",
            "Confira o número da operação e credentials.yml, e retome.",
            "Check the operation's number and credentials.yml, and resume."),
    Refusal("message", Reaction.FAIL, "A mensagem desta linha não pôde ser montada.",
            "The message of this line could not be put together.",
            "Confira os valores da linha e o texto da mensagem, e envie de novo.",
            "Check the line's values and the template, and send it again."),
    Refusal("local_address", Reaction.FAIL, "O número de telefone não é válido.", "The phone number is not valid.",
            "Corrija o número: com código do país, como +5531999990001.",
            "Correct the number: with its country code, like +5531999990001."),
    Refusal("local_text", Reaction.FAIL, "O texto está vazio, longo demais ou tem um caractere inválido.",
            "The text is empty, too long or holds an invalid character.",
            "Corrija o texto e envie de novo.", "Correct the text and send it again."),
    Refusal("local_buttons", Reaction.FAIL, "A mensagem tem mais botões do que o canal mostra.",
            "The message has more buttons than the channel shows.",
            "Diminua os botões e envie de novo.", "Use fewer buttons and send it again."),
    Refusal("template", Reaction.PAUSE, "A mensagem não existe no provedor ou não está aprovada.",
            "The template does not exist or is not approved.",
            "Busque as mensagens de novo e crie um disparo.", "Refresh the templates and make a new broadcast."),
    Refusal("templates", Reaction.RETRY, "A lista de mensagens do provedor não pôde ser lida.",
            "The provider's list of templates could not be read.",
            "Tente de novo em instantes.", "Try again in a moment.", seconds=2, tries=3),
)
# fmt: on

#: By code.
OWN: Mapping[str, Refusal] = {row.code: row for row in _ROWS}

_HTTP = re.compile(r"http_([1-5][0-9]{2})")


def of_code(code: str) -> Refusal | None:
    """The row for a code of ours: one of `OWN`, or ``http_503`` and its like; None for any other."""
    if code in OWN:
        return OWN[code]
    found = _HTTP.fullmatch(code)
    return _of_http(code, int(found.group(1))) if found else None


def _of_http(code: str, status: int) -> Refusal:
    """An answer that is not in the provider's own words: something between it and us wrote it."""
    if status == 429:
        return Refusal(
            code,
            Reaction.BACK_OFF,
            "O provedor, ou algo antes dele, pediu para enviar mais devagar (HTTP 429).",
            "The provider, or something before it, asked to send slower (HTTP 429).",
            "Nada a fazer: o envio recomeça sozinho, mais devagar.",
            "Nothing to do: sending resumes by itself, slower.",
            seconds=5.0,
        )
    if status in (408, 425):
        return Refusal(
            code,
            Reaction.RETRY,
            f"O pedido não foi processado a tempo (HTTP {status}).",
            f"The request was not processed in time (HTTP {status}).",
            "As novas tentativas são automáticas. Se a linha falhou mesmo assim, reenvie as falhas mais tarde.",
            "It is tried again by itself. If the line failed all the same, retry the failures later.",
            seconds=2.0,
            tries=3,
        )
    if status >= 500:
        return _ambiguous(
            code,
            f"O servidor respondeu HTTP {status} sem explicar: a mensagem pode ter sido aceita.",
            f"The server answered HTTP {status} without explaining: the message may have been accepted.",
        )
    if status < 300:
        return _ambiguous(
            code,
            f"O servidor respondeu HTTP {status} sem o identificador da mensagem: ela pode ter sido aceita.",
            f"The server answered HTTP {status} without the message's id: it may have been accepted.",
        )
    return Refusal(
        code,
        Reaction.PAUSE,
        f"Quem respondeu (HTTP {status}) não parece ser o provedor.",
        f"Whoever answered (HTTP {status}) does not look like the provider.",
        *_ADDRESS,
    )


#: Why a line waits (state `deferred`) or is not sent (state `skipped`), by `delivery.reason`.
REASONS: Mapping[str, Words] = {
    "hours": Words(
        "Fora do horário de envio no fuso do destinatário.",
        "Outside the sending hours in the recipient's time zone.",
        "Nada a fazer: será enviada quando o horário abrir.",
        "Nothing to do: it goes out when the hours open.",
    ),
    "conversation": Words(
        "A pessoa está no meio de uma conversa com o bot ou com um atendente.",
        "The person is in the middle of a conversation with the bot or an attendant.",
        "Nada a fazer: será enviada quando a conversa terminar.",
        "Nothing to do: it goes out when the conversation is over.",
    ),
    "frequency": Words(
        "A pessoa já recebeu o máximo de disparos permitido no período.",
        "The person has had as many broadcasts as the period allows.",
        "Nada a fazer: será enviada quando o limite permitir.",
        "Nothing to do: it goes out when the limit allows.",
    ),
    "provider": Words(
        "O provedor pediu para esperar com este destinatário.",
        "The provider asked to wait with this recipient.",
        "Nada a fazer: será enviada quando a espera acabar.",
        "Nothing to do: it goes out when the wait is over.",
    ),
    "retry": Words(
        "O envio falhou e será tentado de novo.",
        "Sending failed and will be tried again.",
        "Nada a fazer: a nova tentativa é automática.",
        "Nothing to do: the next try is automatic.",
    ),
    "opted_out": Words(
        "O número está na lista de descadastros.",
        "The number is on the suppression list.",
        "Nada a fazer. Se foi engano, desfaça o descadastro e diga o motivo.",
        "Nothing to do. If it was a mistake, undo the suppression and say why.",
    ),
    "duplicate": Words(
        "O número se repete no arquivo: só a primeira linha vale.",
        "The number is repeated in the file: only its first line counts.",
    ),
    "blank": Words("A linha está vazia.", "The line is blank."),
    "cancelled": Words(
        "O disparo foi cancelado antes desta linha.",
        "The broadcast was cancelled before this line.",
        "Para enviar a quem falta, crie um disparo novo.",
        "To reach those who are left, make a new broadcast.",
    ),
}

#: In English, why the check of a file refused a line, by code. The Portuguese is kept with the line itself, and names
#: its column and value.
REFUSED: Mapping[str, str] = {
    "phone_missing": "There is no number.",
    "phone_scientific": "A spreadsheet made scientific notation of the number and lost digits: format it as text.",
    "phone_letters": "The number has letters or symbols, or is none.",
    "phone_extension": "The number has an extension, which can't get messages.",
    "phone_many": "There is more than one number: write one a line.",
    "phone_no_area_code": "The area code (DDD) is missing.",
    "phone_area_code": "There is no such area code (DDD); a foreign number begins with + and its country's code.",
    "phone_too_short": "The number has too few digits.",
    "phone_too_long": "The number has too many digits.",
    "phone_not_reachable": "It is a service number (such as 0800), which gets no messages.",
    "phone_invalid": "There is no such number: check the country's code and the digits.",
    "ragged_row": "The line has more or fewer columns than the header: check its separators.",
    "missing_value": "The value of one of the message's variables is missing.",
    "text_too_long": "A value is too long.",
    "redirect_unknown": "There is no such redirect.",
    "redirect_conflict": "A queue or an agent goes with a redirect to a human only.",
    "queue_unknown": "The operation has no such queue.",
    "agent_unknown": "No such agent attends in the operation.",
}
