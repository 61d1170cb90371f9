"""Bodies that we send, beside Meta's own examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from channels.whatsapp.requests import one_line, send_body
from plugin.connector import Outbound, Refused, TemplateMessage, TextMessage

TO = "+5541999990000"


def body(content: TemplateMessage | TextMessage, **more: Any) -> dict[str, Any]:
    return send_body(Outbound("1", more.pop("address", TO), content, **more))


def test_a_named_template_with_quick_replies_is_the_documented_request(fixtures: Path) -> None:
    expected = json.loads((fixtures / "synthetic/request/template_named_quick_reply.json").read_text())
    content = TemplateMessage(
        "vamos_conversar", "pt_BR", {"nome": "Ana"}, named=True, payloads={1: "aa1.c7.r42.out", 0: "aa1.c7.r42.vc"}
    )
    assert body(content, correlation="aa1.c7.r42") == expected


def test_a_positional_template_has_metas_shape(fixtures: Path) -> None:
    example = json.loads((fixtures / "meta-openapi/messages/requests/send_message_template_text.json").read_text())
    example["to"] = TO
    example["template"]["components"][0]["parameters"] = [
        {"type": "text", "text": "Ana"},
        {"type": "text", "text": "B"},
    ]
    example["template"] |= {"name": "aviso", "language": {"code": "pt_BR"}}
    assert body(TemplateMessage("aviso", "pt_BR", {"1": "Ana", "2": "B"})) == example


def test_quick_reply_components_have_metas_shape(fixtures: Path) -> None:
    path = fixtures / "meta-openapi/messages/requests/send_message_template_interactive.json"
    theirs = [one for one in json.loads(path.read_text())["template"]["components"] if one["type"] == "button"]
    payloads = {int(one["index"]): one["parameters"][0]["payload"] for one in theirs}
    assert body(TemplateMessage("a", "pt_BR", payloads=payloads))["template"]["components"] == theirs


def test_text_has_metas_shape(fixtures: Path) -> None:
    example = json.loads((fixtures / "meta-openapi/messages/requests/send_text_message.json").read_text())
    assert body(TextMessage("text-message-content")) == {**example, "to": TO}


def test_reply_buttons_have_metas_shape(fixtures: Path) -> None:
    example = json.loads((fixtures / "meta-openapi/messages/requests/send_reply_button.json").read_text())
    example["to"] = TO
    for button, title in zip(example["interactive"]["action"]["buttons"], ("Sim", "Não"), strict=True):
        button["reply"]["title"] = title
    content = TextMessage("<BUTTON_TEXT>", (("<UNIQUE_BUTTON_ID_1>", "Sim"), ("<UNIQUE_BUTTON_ID_2>", "Não")))
    assert body(content) == example


def test_a_template_without_values_or_buttons_has_no_components() -> None:
    assert body(TemplateMessage("hello_world", "en_US"))["template"] == {
        "name": "hello_world",
        "language": {"code": "en_US"},
    }


def test_the_number_always_carries_its_plus() -> None:
    """Without it Meta puts the sender's own country code before it: the message goes to a stranger."""
    assert body(TextMessage("oi"), address="5541999990000")["to"] == TO
    assert body(TextMessage("oi"), address=TO)["to"] == TO


def test_a_person_without_a_phone_is_addressed_by_user_id_and_the_phone_wins_otherwise() -> None:
    hidden = body(TextMessage("oi"), address="", user_id="BR.150")
    assert hidden["recipient"] == "BR.150"
    assert "to" not in hidden
    both = body(TextMessage("oi"), user_id="BR.150")
    assert "recipient" not in both


@pytest.mark.parametrize(
    "address", ["", "+0551199999", "+55 31 99999", "abc", "+5531999990001999999", "+٥٥٣١٩٩٩٩", "+55٣١٩٩٩٩٩"]
)
def test_an_address_that_is_not_e164_never_leaves(address: str) -> None:
    with pytest.raises(Refused) as caught:
        body(TextMessage("oi"), address=address)
    assert caught.value.code == "local_address"


def test_values_lose_the_white_space_that_meta_refuses() -> None:
    content = TemplateMessage("a", "pt_BR", {"1": "Rua A\n  nº 10\t\tcasa", "2": "a      b"})
    values = [one["text"] for one in body(content)["template"]["components"][0]["parameters"]]
    assert values == ["Rua A nº 10 casa", "a    b"]
    assert one_line("um dois  três") == "um dois  três"


@pytest.mark.parametrize(
    "content",
    [
        TextMessage(" \n"),
        TextMessage("x" * 4097),
        TextMessage("x" * 1025, (("a", "A"),)),
        TextMessage("x", tuple((str(n), str(n)) for n in range(4))),
    ],
)
def test_a_text_that_meta_would_refuse_is_rejected_here(content: TextMessage) -> None:
    with pytest.raises(Refused) as caught:
        body(content)
    assert caught.value.code.startswith("local_")


def test_a_long_button_title_is_shortened_rather_than_the_message_lost() -> None:
    content = TextMessage("x", (("a", "Segunda via da minha fatura"),))
    [button] = body(content)["interactive"]["action"]["buttons"]
    assert button["reply"] == {"id": "a", "title": "Segunda via da minh…"}
