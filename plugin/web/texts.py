"""Words of the screens (pt-BR) for the codes of the API. Scripts get the same through `data-` attributes."""

from __future__ import annotations

TEXTS: dict[str, dict[str, str]] = {
    "delivery": {
        "queued": "Na fila",
        "deferred": "Adiada",
        "sending": "Enviando",
        "unknown": "Sem confirmação",
        "sent": "Enviada",
        "failed": "Falhou",
        "delivered": "Entregue",
        "read": "Lida",
        "skipped": "Ignorada",
        "rejected": "Recusada",
    },
    "reason": {
        "duplicate": "Número repetido no arquivo",
        "opted_out": "Pediu descadastro",
        "blank": "Linha em branco",
        "cancelled": "Disparo cancelado",
    },
    "broadcast": {
        "running": "Enviando",
        "paused": "Pausado",
        "finished": "Concluído",
        "cancelled": "Cancelado",
    },
    "redirect": {"none": "Sem redirecionamento", "human": "Humano", "notification": "Notificações"},
    "outcome": {
        "human": "Atendimento humano",
        "bot": "Bot",
        "notification": "Notificação",
        "opt_out": "Descadastro",
    },
    "category": {"UTILITY": "Utilidade", "MARKETING": "Marketing", "AUTHENTICATION": "Autenticação"},
    "template": {
        "APPROVED": "Aprovada",
        "PENDING": "Em análise",
        "REJECTED": "Recusada pela Meta",
        "PAUSED": "Pausada pela Meta",
        "DISABLED": "Desativada",
        "IN_APPEAL": "Em recurso",
        "DELETED": "Excluída",
    },
    "case": {
        "queued": "Na fila",
        "offered": "Oferecido",
        "active": "Em atendimento",
        "waiting_contact": "Aguardando cliente",
        "closed": "Encerrado",
    },
    "why": {
        "redirect: human": "Redirecionamento: humano",
        "no redirect, template with talk button: push queue": "Tocou no botão de conversa: fila de push",
        "asked the bot for a person": "Pediu ao bot para falar com uma pessoa",
        "already in conversation with a person": "Já estava em conversa com uma pessoa",
    },
    "returned": {"continue": "Bot continua", "menu": "Volta ao menu", "silent": "Bot em silêncio"},
    "author": {
        "contact": "Cliente",
        "bot": "Bot",
        "agent": "Atendente",
        "system": "Sistema",
        "broadcast": "Disparo",
    },
    "message": {
        "queued": "na fila",
        "sending": "enviando",
        "sent": "enviada",
        "delivered": "entregue",
        "read": "lida",
        "failed": "falhou",
        "unknown": "sem confirmação",
        "received": "",
    },
}

ERRORS: dict[int, tuple[str, str]] = {
    400: ("Pedido inválido", "O endereço tem algo que não entendemos. Volte e tente de novo."),
    403: ("Sem permissão", "Você não tem a permissão que esta página exige. Peça a um administrador."),
    404: ("Não encontrado", "Isto não existe, ou pertence a uma operação à qual você não tem acesso."),
    405: ("Não permitido", "Este endereço não aceita esse tipo de pedido."),
    500: ("Algo deu errado", "O erro foi registrado. Tente de novo em instantes."),
    503: ("Indisponível", "O servidor está ocupado ou encerrando. Tente de novo em instantes."),
}
