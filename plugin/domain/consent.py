"""Words by which a person asks us to stop writing, and our words for why somebody is not written to."""

from __future__ import annotations

import re
import unicodedata

from plugin.domain.template import fold

# Portuguese; English, with Twilio's and Meta's standard keywords; Spanish.
_WORDS = """
parar, pare, para, pare de enviar, pare de mandar, pare de me enviar mensagens, pare de mandar mensagens
pare de me mandar mensagens, para de mandar mensagem, para de me mandar mensagem, parar mensagens, parar promoções
parar de receber, parar de receber mensagens, quero parar de receber, quero parar de receber mensagens
interromper promoções, sair, quero sair, sair da lista, sair desta lista, sair dessa lista
sair da lista de transmissão, cancelar, cancela, cancele, cancelar inscrição, cancelar minha inscrição
cancelar subscrição, anular subscrição, cancelar envio, cancelar envios, cancelar mensagens, cancelar recebimento
descadastrar, descadastre, descadastra, descadastro, me descadastre, me descadastra, quero me descadastrar
descadastrar-me, descadastrar meu número, desinscrever, desinscrever-me, desinscreva-me, me desinscreva, remover
remova, remova-me, me remova, me remove, me tire da lista, me tira da lista, me tirem da lista, me tire desta lista
me tira dessa lista, me retire da lista, me remova da lista, me remove da lista, quero sair da lista, remover da lista
remover meu número, remova meu número, remover meu contato, remova meu contato, tirar meu número, tire meu número
tira meu número, excluir meu número, exclua meu número, excluir meu contato, exclua meu contato, apagar meu número
apague meu número, não quero mais, não quero mais receber, não quero receber mais, não quero receber
não quero mais receber mensagem, não quero mais receber mensagens, não quero receber mensagem
não quero receber mensagens, não quero receber mais mensagens, não quero mais mensagens, não quero mais receber nada
não quero receber mais nada, não desejo receber mensagens, não desejo mais receber mensagens, não desejo mais receber
não desejo receber, não me mande mais mensagens, não me mande mais mensagem, não me mande mensagens, não me mande mais
não me mande mais nada, não mande mais, não mande mais mensagens, não mande mais mensagem, não me manda mais mensagem
não me manda mais nada, não me envie mais mensagens, não me envie mais mensagem, não me envie mensagens
não me envie mais, não me envie mais nada, não envie mais, não envie mais mensagens, não me enviem mais mensagens
não me mandem mais mensagens, não enviar, não enviar mais, não enviar mensagens, não perturbe, não me perturbe
não perturbar, chega de mensagens

stop, stop all, stopall, stop it, please stop, stop messages, stop messaging, stop messaging me, stop sending
stop sending messages, stop sending me messages, stop texting me, stop promotions, unsubscribe, unsubscribe me, unsub
optout, opt out, opt me out, i want to opt out, cancel, end, quit, revoke, remove, remove me, remove me from the list
remove me from your list, remove my number, take me off the list, take me off your list, no more messages
do not contact me, do not message me, don't message me, do not disturb, don't send me messages

baja, darme de baja, darse de baja, dar de baja, dame de baja, denme de baja, quiero darme de baja, alto
cancelar suscripción, anular suscripción, detener, detener promociones, detener mensajes, parar mensajes
cancelar mensajes, no quiero más, no quiero recibir, no quiero recibir más, no quiero más mensajes
no quiero recibir mensajes, no quiero recibir más mensajes, no deseo recibir mensajes, no deseo recibir más mensajes
no me envíen más mensajes, no me envíe más mensajes, no me manden más mensajes, dejar de recibir
dejen de enviar mensajes, eliminar, eliminarme, elimínenme, borrarme, eliminar mi número, borrar mi número
quitar mi número, quítenme de la lista, sáquenme de la lista, salir, salir de la lista, desuscribir, desuscribirme
no enviar, no enviar más, no molestar, no más mensajes
"""

#: Folded: without case, accents or punctuation.
OPT_OUT_WORDS: frozenset[str] = frozenset(filter(None, map(fold, _WORDS.replace(",", "\n").splitlines())))

_LONGEST = max(map(len, OPT_OUT_WORDS))

#: What people put before or behind it without meaning anything else.
_COURTESY = "por favor|por gentileza|favor|pfv|pf|please|pls|obrigad[oa]|obg|thanks|thank you|gracias"
_POLITE = re.compile(f"(?:(?:{_COURTESY}) )?(.+?)(?: (?:{_COURTESY}))?")


def _request(text: str) -> str:
    """What is asked for: folded, without courtesy, and said once however often it was repeated."""
    # Folding a long message costs time and can't end in a hit: four times leaves room for spaces and emoji.
    if len(text) > 4 * _LONGEST:
        return ""
    found = _POLITE.fullmatch(fold(unicodedata.normalize("NFKC", text)))
    words = found[1].split() if found else []
    return words[0] if len(set(words)) == 1 else " ".join(words)


def is_opt_out(text: str) -> bool:
    """Whether the message as a whole asks to stop. Case, accents, and punctuation or emoji around don't matter.

    >>> is_opt_out("PARAR, por favor!!! 😡"), is_opt_out("quero cancelar a visita de amanhã")
    (True, False)
    """
    return _request(text) in OPT_OUT_WORDS


#: Words that also answer other questions: "cancelar" in the middle of a form is about the form.
AMBIGUOUS_WORDS: frozenset[str] = frozenset(
    map(
        fold,
        (
            *("para", "cancelar", "cancela", "cancele", "cancel", "remover", "remova", "remove", "eliminar", "end"),
            *("quit", "alto", "detener", "não enviar", "não quero mais", "não quero receber", "não desejo receber"),
            *("no enviar", "no quiero más", "no quiero recibir"),
        ),
    )
)


def is_clear_opt_out(text: str) -> bool:
    """As `is_opt_out`, but only by words that can mean nothing else: for messages that answer no broadcast directly.

    >>> is_clear_opt_out("Parar"), is_clear_opt_out("Cancelar")
    (True, False)
    """
    return _request(text) in OPT_OUT_WORDS - AMBIGUOUS_WORDS


#: Where a suppression came from, in words.
SOURCES: dict[str, str] = {
    "word": "Pediu por mensagem",
    "button": "Tocou no botão de descadastro",
    "provider": "Pediu ao provedor do canal",
    "import": "Lista importada",
    "person": "Incluído por uma pessoa",
}

#: What somebody must have read before lifting what the person told the provider.
UNDO_WARNING = (
    "Esta pessoa pediu ao próprio provedor do canal (por exemplo, nas opções do WhatsApp) para não receber mais estas"
    " mensagens. Desfazer aqui não muda isso: o provedor vai continuar recusando até que ela mesma volte a permitir, e"
    " insistir pode prejudicar a qualidade do número."
)
