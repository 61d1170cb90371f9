"""Words by which a person asks us to stop writing, and our words for why somebody is not written to."""

from __future__ import annotations

from plugin.domain.template import fold

# Portuguese; English, with Twilio's and Meta's standard keywords; Spanish.
_WORDS = """
parar, pare, para, pare de enviar, pare de mandar, pare de me enviar mensagens, pare de mandar mensagens
parar mensagens, sair, quero sair, sair da lista, cancelar, cancela, cancele, cancelar inscrição, cancelar envio
cancelar mensagens, descadastrar, descadastre, descadastro, me descadastre, quero me descadastrar, descadastrar-me
desinscrever, remover, remova, remova-me, me remova, me remove, me tire da lista, me tira da lista, me retire da lista
remover da lista, remover meu número, excluir meu número, não quero mais, não quero mais receber, não quero receber
não quero mais receber mensagens, não quero receber mensagens, não quero mais mensagens, não me mande mais mensagens
não mande mais mensagens, não me envie mais mensagens, não envie mais mensagens, não enviar, não enviar mais
não perturbe

stop, stop all, stopall, stop it, please stop, unsubscribe, unsubscribe me, optout, opt out, cancel, end, quit
revoke, remove, remove me, stop messaging me, stop sending messages, do not contact me

baja, darme de baja, dar de baja, dame de baja, quiero darme de baja, alto, cancelar suscripción, detener
parar mensajes, no quiero más, no quiero recibir, no quiero recibir más, no quiero más mensajes, eliminar
eliminarme, borrarme, salir, desuscribir, desuscribirme, no enviar, no enviar más, no molestar
"""

#: Folded: without case, accents or punctuation.
OPT_OUT_WORDS: frozenset[str] = frozenset(filter(None, map(fold, _WORDS.replace(",", "\n").splitlines())))

_LONGEST = max(map(len, OPT_OUT_WORDS))


def is_opt_out(text: str) -> bool:
    """Whether the message as a whole asks to stop. Case, accents, and punctuation or emoji around don't matter.

    >>> is_opt_out("PARAR!!! 😡"), is_opt_out("quero cancelar a visita de amanhã")
    (True, False)
    """
    # Folding a long message costs time and can't end in a hit: four times leaves room for spaces and emoji.
    return len(text) <= 4 * _LONGEST and fold(text) in OPT_OUT_WORDS


#: Words that also answer other questions: "cancelar" in the middle of a form is about the form.
AMBIGUOUS_WORDS: frozenset[str] = frozenset(
    map(
        fold, ("para", "cancelar", "cancela", "cancele", "cancel", "remover", "remova", "remove", "end", "quit", "alto")
    )
)


def is_clear_opt_out(text: str) -> bool:
    """As `is_opt_out`, but only by words that can mean nothing else: for messages that answer no broadcast directly.

    >>> is_clear_opt_out("Parar"), is_clear_opt_out("Cancelar")
    (True, False)
    """
    return is_opt_out(text) and fold(text) not in AMBIGUOUS_WORDS


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
