"""Reading Meta's template objects and filling them in."""

from __future__ import annotations

from plugin.domain.template import ButtonKind, Template, fold

RAW = {
    "id": "1",
    "name": "oferta",
    "language": "pt-BR",
    "status": "APPROVED",
    "category": "MARKETING",
    "parameter_format": "NAMED",
    "components": [
        {"type": "HEADER", "format": "TEXT", "text": "Novidade"},
        {"type": "BODY", "text": "{{nome}}, o plano {{plano}} custa {{preco}}. Vale, {{nome}}?"},
        {"type": "FOOTER", "text": "Fibra Clara"},
        {
            "type": "BUTTONS",
            "buttons": [
                {"type": "QUICK_REPLY", "text": "Quero"},
                {"type": "URL", "text": "Ver", "url": "https://example.org"},
                {"type": "VOICE_CALL", "text": "Ligar"},
            ],
        },
    ],
}


def test_a_template_is_read_with_its_parts_in_order() -> None:
    template = Template.from_meta(RAW)
    assert (template.language, template.named, template.approved) == ("pt_BR", True, True)
    assert template.parameters == ("nome", "plano", "preco")
    assert [(b.index, b.kind) for b in template.buttons] == [
        (0, ButtonKind.QUICK_REPLY),
        (1, ButtonKind.URL),
        (2, ButtonKind.OTHER),
    ]
    assert [b.text for b in template.quick_replies] == ["Quero"]


def test_rendering_replaces_once_and_leaves_unknown_placeholders_visible() -> None:
    template = Template.from_meta(RAW)
    assert template.render({"nome": "{{preco}}", "plano": "500 Mega"}) == (
        "{{preco}}, o plano 500 Mega custa {{preco}}. Vale, {{preco}}?"
    )


def test_labels_are_compared_as_people_do() -> None:
    assert fold(" VAMOS   Conversar!! ") == fold("vamos conversar")
    assert fold("Número") == "numero"
