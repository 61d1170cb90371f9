"""Every webhook we have seen, and many that nobody has."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.whatsapp.webhooks import _loads, parse
from plugin.connector import ConsentChange, InboundEvent, InboundMessage, StatusUpdate, Unreadable
from plugin.errors import Invalid

OURS = "100000000000001"


def read(source: Path | dict[str, Any] | bytes, ignored: Counter[str] | None = None) -> list[InboundEvent]:
    body = source.read_bytes() if isinstance(source, Path) else source
    body = json.dumps(body).encode() if isinstance(body, dict) else body
    return parse(body, OURS, Counter() if ignored is None else ignored)


def envelope(field: str = "messages", **value: Any) -> dict[str, Any]:
    change = {"field": field, "value": {"metadata": {"phone_number_id": OURS}, **value}}
    return {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [change]}]}


def message(**fields: Any) -> dict[str, Any]:
    whole = {
        "from": "5531999990001",
        "id": "wamid.1",
        "timestamp": "1795000000",
        "type": "text",
        "text": {"body": "oi"},
    }
    return {key: value for key, value in {**whole, **fields}.items() if value is not None}


def one(**fields: Any) -> InboundMessage:
    [event] = read(envelope(messages=[message(**fields)]))
    assert isinstance(event, InboundMessage), event
    return event


def items_of(body: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for entry in body["entry"]:
        for change in entry["changes"]:
            for key in ("messages", "statuses", "user_preferences"):
                for item in change["value"].get(key) or []:
                    yield key, item


def test_every_stored_webhook_is_read_without_losing_an_item(fixtures: Path) -> None:
    seen = Counter[str]()
    for path in sorted(fixtures.rglob("*.json")):
        body = json.loads(path.read_text("utf-8"))
        if not isinstance(body, dict) or body.get("object") != "whatsapp_business_account" or "entry" not in body:
            continue
        events = read(path)
        assert len(events) >= max(1, len(list(items_of(body)))), path
        seen.update(type(event).__name__ for event in events)
        for event in events:
            if isinstance(event, InboundMessage):
                assert event.text, path
    assert seen["InboundMessage"] >= 25
    assert seen["StatusUpdate"] >= 6
    assert seen["ConsentChange"] == 1


@pytest.mark.parametrize(
    ("name", "kind", "text", "tap"),
    [
        ("text_message", "text", None, False),
        ("button_message", "button", "Unsubscribe", True),
        ("interactive_button_reply_message", "button_reply", "Cancel", True),
        ("interactive_list_reply_message", "list_reply", "Priority Mail Express", True),
        ("image_message", "image", "[imagem] Taj Mahal", False),
        ("location_message", "location", "[localização: Philz Coffee, 101 Forest Ave, Palo Alto, CA 94301]", False),
        ("contact_sharing_message", "contacts", "[contato: Lucía Gómez]", False),
        ("order_message", "order", "[pedido: 2 itens]", False),
        ("reaction_message", "reaction", "[reação: 👍]", False),
        ("system_message", "system", None, False),
        ("unsupported_message", "unsupported", "[mensagem que o WhatsApp não repassa]", False),
    ],
)
def test_metas_own_examples(fixtures: Path, name: str, kind: str, text: str | None, tap: bool) -> None:
    [event] = read(fixtures / f"meta-openapi/webhooks/webhooks/{name}.json")
    assert isinstance(event, InboundMessage)
    assert (event.kind, event.is_tap) == (kind, tap)
    assert text is None or event.text == text
    assert event.sender == "106540352242922"


def test_a_tap_carries_payload_context_person_and_time(fixtures: Path) -> None:
    [event] = read(fixtures / "synthetic/br/button_tap_12digit_with_context.json")
    assert isinstance(event, InboundMessage)
    assert event.payload == "aa1.c7.r42.vc"
    assert event.context_id == "wamid.SYNTH_BR_1"
    assert (event.address, event.user_id) == ("554199990000", "BR.1502576394655843")
    assert event.profile_name == "Contato Teste"
    assert event.at == datetime.fromtimestamp(1795000000, timezone.utc)


def test_a_tap_without_context_or_phone_is_still_a_tap(fixtures: Path) -> None:
    [event] = read(fixtures / "synthetic/br/button_tap_no_context_no_phone.json")
    assert isinstance(event, InboundMessage)
    assert event.is_tap
    assert event.context_id is None
    assert (event.address, event.user_id) == (None, "BR.1502576394655843")


def test_a_reaction_points_to_the_message_reacted_to(fixtures: Path) -> None:
    [event] = read(fixtures / "meta-openapi/webhooks/webhooks/reaction_message.json")
    assert isinstance(event, InboundMessage)
    assert event.context_id == "wamid.HBgLMTY1MDM4Nzk0MzkVAgARGBI0RTJEOTc2ODVERUY5RDlGNkYA"


def test_all_items_of_a_batch_come_in_their_order(fixtures: Path) -> None:
    events = read(fixtures / "synthetic/batch/two_entries_mixed_messages_and_statuses.json")
    ids = [getattr(event, "provider_id", None) for event in events]
    assert ids == [f"wamid.SYNTH_{end}" for end in ("B1", "B2", "S1", "S2", "B3")]
    failed = events[3]
    assert isinstance(failed, StatusUpdate)
    assert (failed.status, failed.error_code, failed.correlation) == ("failed", "131026", "aa1.c7.r45")
    assert failed.error_message == "Message Undeliverable."
    assert [event.profile_name for event in events if isinstance(event, InboundMessage)] == ["A", "B", "C"]


def test_the_providers_own_opt_out_is_a_change_of_consent(fixtures: Path) -> None:
    [event] = read(fixtures / "synthetic/user_preferences_stop.json")
    assert event == ConsentChange(
        "106540352242922", "554199990000", "BR.1502576394655843", True, datetime.fromtimestamp(1795000006, timezone.utc)
    )
    back = {"wa_id": "1", "category": "marketing_messages", "value": "resume", "timestamp": 1795000006}
    [resumed] = read(envelope("user_preferences", user_preferences=[back]))
    assert isinstance(resumed, ConsentChange)
    assert resumed.stop is False


def test_other_fields_are_kept_for_a_person(fixtures: Path) -> None:
    [event] = read(fixtures / "synthetic/template_paused.json")
    assert isinstance(event, Unreadable)
    assert "message_template_status_update" in event.reason
    assert event.raw["value"]["event"] == "PAUSED"


def test_statuses_we_have_no_use_for_are_counted() -> None:
    ignored = Counter[str]()
    item = {"id": "wamid.1", "status": "played", "timestamp": "1795000000"}
    kept = {**item, "status": "read", "recipient_id": "5531999990001"}
    events = read(envelope(statuses=[item, kept, {**item, "status": "deleted"}, item]), ignored)
    assert [event.status for event in events if isinstance(event, StatusUpdate)] == ["read"]
    assert len(events) == 1
    assert ignored == {"played": 2, "deleted": 1}


def test_a_status_learns_the_user_id_from_its_contacts() -> None:
    item = {"id": "wamid.1", "status": "sent", "timestamp": "1795000000", "recipient_id": "55319"}
    [event] = read(
        envelope(statuses=[item], contacts=[{"wa_id": "1", "user_id": "X"}, {"wa_id": "55319", "user_id": "Y"}])
    )
    assert isinstance(event, StatusUpdate)
    assert event.user_id == "Y"


def test_milliseconds_are_seconds_in_the_end() -> None:
    assert one(timestamp="1795000000123").at.timestamp() == pytest.approx(1795000000.123)
    assert one(timestamp=1795000000).at.timestamp() == 1795000000


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"type": "audio", "audio": {"id": "1", "voice": True}}, "[mensagem de voz]"),
        ({"type": "audio", "audio": {"id": "1"}}, "[áudio]"),
        ({"type": "video", "video": {"id": "1", "caption": "veja"}}, "[vídeo] veja"),
        ({"type": "document", "document": {"filename": "conta.pdf"}}, "[documento: conta.pdf]"),
        ({"type": "sticker", "sticker": {"id": "1"}}, "[figurinha]"),
        ({"type": "location", "location": {"latitude": -19.9, "longitude": -43.9}}, "[localização: -19.9, -43.9]"),
        ({"type": "reaction", "reaction": {"message_id": "wamid.0"}}, "[reação removida]"),
        (
            {"type": "interactive", "interactive": {"type": "nfm_reply", "nfm_reply": {"response_json": "{bad"}}},
            "[formulário enviado]",
        ),
        (
            {"type": "interactive", "interactive": {"type": "call_permission_reply"}},
            "[resposta do tipo call_permission_reply]",
        ),
        ({"type": "revoke"}, "[apagou uma mensagem]"),
        ({"type": "hologram"}, "[mensagem do tipo hologram]"),
    ],
)
def test_messages_without_words_have_a_readable_text(fields: dict[str, Any], text: str) -> None:
    event = one(**{"type": "interactive", **fields})
    assert event.text == text
    assert not event.is_tap


@pytest.mark.parametrize(
    "bad",
    [
        {"id": None},
        {"timestamp": None},
        {"timestamp": "soon"},
        {"timestamp": "9" * 40},
        {"text": None},
        {"text": "oi"},
        {"from": None},
        {"type": "button"},
        {"type": "interactive", "interactive": {"type": "button_reply"}},
        {"group_id": "g"},
    ],
)
def test_one_bad_message_never_harms_its_neighbours(bad: dict[str, Any]) -> None:
    events = read(envelope(messages=[message(id="wamid.0"), message(**bad), 17, None, message(id="wamid.9")]))
    assert [type(event).__name__ for event in events] == [
        "InboundMessage",
        "Unreadable",
        "Unreadable",
        "Unreadable",
        "InboundMessage",
    ]


def test_a_message_that_names_nobody_is_of_the_batchs_only_contact() -> None:
    body = envelope(messages=[message(**{"from": None})], contacts=[{"user_id": "BR.1", "profile": {"name": "Ana"}}])
    [event] = read(body)
    assert isinstance(event, InboundMessage)
    assert (event.user_id, event.profile_name) == ("BR.1", "Ana")


def test_half_an_emoji_or_a_nul_in_one_message_does_not_cost_the_batch() -> None:
    """`json.dumps` writes both as escapes; orjson refuses the first, PostgreSQL the second."""
    texts = ["inteiro 😊", "meio \ud83d", "nulo \0!"]
    messages = [message(id=f"wamid.{n}", text={"body": text}) for n, text in enumerate(texts)]
    events = read(envelope(messages=messages))
    assert [event.text for event in events if isinstance(event, InboundMessage)] == ["inteiro 😊", "meio ?", "nulo !"]


def test_an_error_of_the_account_is_kept() -> None:
    [event] = read(envelope(errors=[{"code": 131031, "title": "Account locked"}]))
    assert isinstance(event, Unreadable)
    assert event.raw["code"] == 131031


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_shape_of_item_raises(data: st.DataObject) -> None:
    """A valid batch in which one value, anywhere inside the entries, is replaced by something else."""
    body = envelope(
        messages=[
            message(),
            message(type="interactive", interactive={"type": "list_reply", "list_reply": {"id": "a", "title": "A"}}),
            message(type="contacts", contacts=[{"name": {"formatted_name": "A"}}], context={"id": "wamid.0"}),
            message(type="order", order={"product_items": [1]}),
            message(type="reaction", reaction={"message_id": "wamid.0", "emoji": "x"}),
        ],
        statuses=[
            {"id": "w", "status": "failed", "timestamp": "1", "errors": [{"code": 1, "error_data": {"details": "x"}}]}
        ],
        user_preferences=[{"wa_id": "1", "category": "marketing_messages", "value": "stop", "timestamp": 1}],
        contacts=[{"wa_id": "5531999990001", "user_id": "BR.1", "profile": {"name": "Ana"}}],
    )
    mutated = copy.deepcopy(body)
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        for key in range(len(node)) if isinstance(node, list) else list(node):
            places.append((node, key))
            if isinstance(node[key], (list, dict)):
                collect(node[key])

    collect(mutated["entry"])
    node, key = data.draw(st.sampled_from(places))
    node[key] = data.draw(json_values)
    assert read(mutated) is not None


def test_brackets_in_a_text_are_no_nesting_even_on_the_slow_way() -> None:
    body = b'{"text": "' + b'[{\\"' * 1000 + b'\\ud83d", "list": [[1]]}'
    assert _loads(body) == {"text": '[{"' * 1000 + "?", "list": [[1]]}
    with pytest.raises(Invalid):
        _loads(b'{"text": "\\ud83d", "list": ' + b"[" * 2000 + b"]" * 2000 + b"}")
