"""The templates of the sandbox's account, an internet provider's, as Meta lists them (``message_templates``)."""

from __future__ import annotations

from typing import Any


def _template(
    number: int,
    name: str,
    category: str,
    body: str,
    example: dict[str, Any],
    *,
    header: str,
    buttons: tuple[str, ...] = (),
    status: str = "APPROVED",
    footer: str = "Suporte Fibra",
) -> dict[str, Any]:
    components: list[dict[str, Any]] = [
        {"type": "HEADER", "format": "TEXT", "text": header},
        {"type": "BODY", "text": body, "example": example},
        {"type": "FOOTER", "text": footer},
    ]
    if buttons:
        components.append({"type": "BUTTONS", "buttons": [{"type": "QUICK_REPLY", "text": text} for text in buttons]})
    return {
        "id": str(300000000000000 + number),
        "name": name,
        "language": "pt_BR",
        "status": status,
        "category": category,
        "parameter_format": "NAMED" if "body_text_named_params" in example else "POSITIONAL",
        "quality_score": {"score": "GREEN" if status == "APPROVED" else "UNKNOWN", "date": 1795000000},
        "rejected_reason": "NONE",
        "components": components,
    }


TEMPLATES: tuple[dict[str, Any], ...] = (
    _template(
        1,
        "cobranca_vamos_conversar",
        "UTILITY",
        "Olá, {{1}}! Sua fatura de *{{2}}*, com vencimento em {{3}}, ainda está em aberto.\n\n"
        "Quer a segunda via ou combinar uma nova data? É só tocar no botão.",
        {"body_text": [["Ana", "R$ 129,90", "05/12"]]},
        header="Fatura da sua internet",
        buttons=("Vamos conversar",),
    ),
    _template(
        2,
        "aviso_manutencao",
        "UTILITY",
        "Olá, {{1}}! Vamos melhorar a rede no bairro {{2}}.\n\nPeríodo: *{{3}}*.\n\n"
        "Sua internet pode oscilar nesse horário. Se tiver dúvida, responda a esta mensagem.",
        {"body_text": [["Ana", "Savassi", "02/12, das 2h às 5h"]]},
        header="Manutenção programada",
    ),
    _template(
        3,
        "oferta_upgrade",
        "MARKETING",
        "Oi, {{nome}}! Liberamos para você o plano *{{plano}}* por {{preco}} ao mês, sem taxa de instalação.\n\n"
        "A oferta vale até o fim da semana. O que acha?",
        {
            "body_text_named_params": [
                {"param_name": "nome", "example": "Ana"},
                {"param_name": "plano", "example": "Fibra 600"},
                {"param_name": "preco", "example": "R$ 119,90"},
            ]
        },
        header="Mais velocidade em casa",
        buttons=("Quero a oferta", "Falar com atendente", "Não quero mais"),
        footer="Para não receber ofertas, responda PARAR",
    ),
    _template(
        4,
        "pesquisa_satisfacao",
        "UTILITY",
        "Olá, {{1}}! De 0 a 10, quanto você recomendaria a nossa internet a um amigo?",
        {"body_text": [["Ana"]]},
        header="Sua opinião",
        status="PENDING",
    ),
    _template(
        5,
        "volte_para_a_fibra",
        "MARKETING",
        "Oi, {{1}}! Sentimos a sua falta. Volte com 50% de desconto nos três primeiros meses.",
        {"body_text": [["Ana"]]},
        header="Que tal voltar?",
        buttons=("Vamos conversar",),
        status="PAUSED",
    ),
)
