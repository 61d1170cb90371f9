"""The connector: against a played Meta, and against the sandbox over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from channels.whatsapp.connector import WhatsAppConnector, from_credentials
from plugin.connector import (
    Ambiguous,
    InboundEvent,
    NotSent,
    Outbound,
    Refused,
    SendError,
    TextMessage,
)
from plugin.domain.refusal import Reaction
from plugin.errors import ConfigurationError, SignatureError
from plugin.testing.conformance import ConnectorConformance, Subject
from plugin.testing.sandbox import BILL, CREDENTIALS, SENDER, Receiver, Sandbox, bill, until

ACCEPTED = {"messaging_product": "whatsapp", "contacts": [], "messages": [{"id": "wamid.1"}]}


def played(handler: Callable[[httpx.Request], httpx.Response], **credentials: Any) -> WhatsAppConnector:
    connector = from_credentials({**CREDENTIALS, **credentials})
    return WhatsAppConnector(connector._credentials, transport=httpx.MockTransport(handler))


def answering(status: int = 200, **answer: Any) -> WhatsAppConnector:
    return played(lambda _: httpx.Response(status, **answer))


def signature(body: bytes, secret: str = CREDENTIALS["app_secret"]) -> dict[str, str]:
    return {"X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


class TestConformance(ConnectorConformance):
    @pytest.fixture
    async def subject(self, live: Sandbox, receiver: Receiver) -> AsyncIterator[Subject]:
        live.configure(webhook=receiver.url)
        connector = live.connector()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
        metadata = {"display_phone_number": "1", "phone_number_id": SENDER}
        person = [{"wa_id": "5531999990001", "profile": {"name": "Ana"}}]
        message = {"from": "5531999990001", "id": "wamid.9", "timestamp": "1795000000", "type": "text"}
        status = {"id": "wamid.8", "status": "read", "timestamp": "1795000000", "recipient_id": "5531999990001"}

        def envelope(**value: Any) -> bytes:
            change = {"field": "messages", "value": {"metadata": metadata, "contacts": person, **value}}
            whole = {"object": "whatsapp_business_account", "entry": [{"id": "2", "changes": [change]}]}
            return json.dumps(whole).encode()

        async def statuses(correlations: set[str]) -> list[InboundEvent]:
            await until(lambda: all(receiver.statuses(connector, one) for one in correlations))
            return receiver.events(connector)

        async def open_window(number: str) -> None:
            live.text(number, "oi").raise_for_status()

        yield Subject(
            connector=connector,
            template=BILL,
            address="+5531999990001",
            refused_address="+5531988880126",
            signed=signature,
            message_body=envelope(messages=[{**message, "text": {"body": "Olá"}}]),
            status_body=envelope(statuses=[status]),
            secrets=[CREDENTIALS["access_token"], CREDENTIALS["app_secret"], CREDENTIALS["verify_token"]],
            unreachable=from_credentials({**CREDENTIALS, "base_url": nobody}),
            statuses=statuses,
            open_window=open_window,
        )
        await connector.aclose()


# ---------------------------------------------------------------------------------------------- sending
async def test_a_request_goes_to_the_numbers_path_with_the_token() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=ACCEPTED)

    connector = played(handler, base_url="https://graph.example/", graph_version="v26.0")
    await connector.send(bill("+5531999990001", "d.1"))
    assert str(seen[0].url) == f"https://graph.example/v26.0/{SENDER}/messages"
    assert seen[0].headers["Authorization"] == f"Bearer {CREDENTIALS['access_token']}"
    assert seen[0].headers["Content-Type"] == "application/json"
    assert json.loads(seen[0].content)["biz_opaque_callback_data"] == "d.1"


@pytest.mark.parametrize("odd", [[1], {"a": "b"}, 7, True, ""])
async def test_only_a_text_is_taken_as_a_persons_id_or_number(odd: object) -> None:
    result = await answering(json={**ACCEPTED, "contacts": [{"user_id": odd, "wa_id": odd}]}).send(
        bill("+5541999990000")
    )
    assert (result.provider_id, result.user_id, result.address) == ("wamid.1", None, None)


@pytest.mark.parametrize(
    ("name", "address", "held"),
    [
        ("br/send_response_9digit_dropped", "554199990000", False),
        ("br/send_response_9digit_kept_sp", "5511999990000", False),
        ("send_response_held_for_quality_assessment", None, True),
    ],
)
async def test_metas_answers_are_read(fixtures: Path, name: str, address: str | None, held: bool) -> None:
    body = (fixtures / f"synthetic/{name}.json").read_bytes()
    result = await answering(content=body).send(bill("+5541999990000"))
    assert result.provider_id == json.loads(body)["messages"][0]["id"]
    assert address is None or result.address == address
    assert result.held is held


async def test_every_stored_answer_to_a_send_is_read(fixtures: Path) -> None:
    paths = sorted((fixtures / "meta-openapi/messages/responses").glob("200_*.json"))
    read = 0
    for path in paths:
        body = json.loads(path.read_text())
        if body.get("messages"):
            assert (await answering(json=body).send(bill("+5541999990000"))).provider_id
            read += 1
    assert read > 20


async def test_an_answer_for_a_person_without_a_phone_gives_the_user_id() -> None:
    contact = {"input": "BR.150", "user_id": "BR.150"}
    connector = answering(json={**ACCEPTED, "contacts": [contact]})
    result = await connector.send(Outbound(SENDER, "", TextMessage("oi"), user_id="BR.150"))
    assert (result.address, result.user_id) == (None, "BR.150")


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"<html>", b'{"messages":[]}', b'{"messages":[{}]}', b'{"messages":[{"id":7}]}', b"null"],
)
async def test_a_success_without_an_id_is_ambiguous(content: bytes) -> None:
    with pytest.raises(Ambiguous) as caught:
        await answering(content=content).send(bill("+5531999990001"))
    assert caught.value.raw["http_status"] == 200


async def test_a_foreign_number_or_half_a_character_never_leaves() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise AssertionError("the request left")

    with pytest.raises(Refused) as foreign:
        await played(handler).send(Outbound("../200/x", "+5531999990001", TextMessage("oi")))
    with pytest.raises(Refused) as broken:
        await played(handler).send(Outbound(SENDER, "+5531999990001", TextMessage("oi \ud83d")))
    assert (foreign.value.refusal.reaction, broken.value.refusal.reaction) == (Reaction.PAUSE, Reaction.FAIL)


async def test_a_closed_connector_sends_nothing() -> None:
    connector = answering(json=ACCEPTED)
    await connector.aclose()
    with pytest.raises(NotSent):
        await connector.send(bill("+5531999990001"))


# ---------------------------------------------------------------------------------------------- templates
async def test_all_pages_of_templates_are_read_by_cursor_and_never_by_their_address(fixtures: Path) -> None:
    path = fixtures / "meta-openapi/message_templates_get/responses/200_example_response.json"
    items = json.loads(path.read_text())["data"]
    asked: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params.get("after"))
        assert request.url.host == "graph.facebook.com"
        if "after" not in request.url.params:
            paging = {"cursors": {"after": "MjQ"}, "next": "https://evil.example/?access_token=x"}
            return httpx.Response(200, json={"data": items[:1], "paging": paging})
        return httpx.Response(200, json={"data": items[1:], "paging": {"cursors": {"after": "MjU"}}})

    templates = await played(handler).fetch_templates()
    assert asked == [None, "MjQ"]
    assert [one.name for one in templates] == ["hello_world", "2023_april_promo"]
    assert templates[1].parameters == ("1", "2")
    assert [button.text for button in templates[1].quick_replies] == ["Stop promotions"]


async def test_an_account_without_templates_has_none() -> None:
    assert await answering(json={"data": []}).fetch_templates() == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"content": b"<html>"}, Refused),
        ({"json": {"data": [{"id": "1"}]}}, Refused),
        ({"json": {"data": [7]}}, Refused),
        ({"status": 502}, Ambiguous),
        ({"status": 401, "json": {"error": {"code": 190, "message": "x"}}}, Refused),
        ({"status": 429, "json": {"error": {"code": 80008, "message": "x"}}}, Refused),
    ],
)
async def test_a_list_that_cannot_be_had_is_a_send_error(answer: dict[str, Any], kind: type[SendError]) -> None:
    with pytest.raises(kind) as caught:
        await answering(**answer).fetch_templates()
    assert type(caught.value) is kind


async def test_a_list_that_never_ends_is_given_up() -> None:
    numbers = iter(range(10_000))

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"data": [], "paging": {"cursors": {"after": str(next(numbers))}, "next": "x"}})

    with pytest.raises(Refused) as caught:
        await played(handler).fetch_templates()
    assert caught.value.code == "templates"


# ---------------------------------------------------------------------------------------------- webhooks
def test_the_signature_vector() -> None:
    """Reference channels-and-push A4."""
    body = b'{"object":"whatsapp_business_account","entry":[]}'
    header = "sha256=4d57187b838990375712e5d0f9975815a99f6406bfd8e60aa8a46204d8d21960"
    connector = from_credentials({**CREDENTIALS, "app_secret": "wa-test-secret"})
    connector.verify({"x-hub-signature-256": header}, body)
    for bad in (header[:-1] + "1", header.removeprefix("sha256="), header.replace("sha256", "sha1"), header + "00", ""):
        with pytest.raises(SignatureError):
            connector.verify({"X-Hub-Signature-256": bad}, body)


def test_two_secrets_are_good_while_one_replaces_the_other() -> None:
    connector = from_credentials({**CREDENTIALS, "app_secret": ["new", "old"]})
    for secret in ("new", "old"):
        connector.verify(signature(b"{}", secret), b"{}")
    with pytest.raises(SignatureError):
        connector.verify(signature(b"{}", "older"), b"{}")


def test_the_handshake_gives_the_challenge_back_for_our_token_only() -> None:
    connector = from_credentials(CREDENTIALS)
    query = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": CREDENTIALS["verify_token"]}
    assert connector.handshake(query) == "1158201444"
    for change in ({"hub.verify_token": "x"}, {"hub.verify_token": "é"}, {"hub.mode": "unsubscribe"}):
        with pytest.raises(SignatureError):
            connector.handshake({**query, **change})
    with pytest.raises(SignatureError):
        connector.handshake({})


# ---------------------------------------------------------------------------------------------- credentials
@pytest.mark.parametrize("key", sorted(CREDENTIALS))
@pytest.mark.parametrize("value", [None, "", "  ", [], {"a": 1}])
def test_a_missing_key_is_named(key: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=key):
        from_credentials({**CREDENTIALS, key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("phone_number_id", "+55 31 99999-0001"),
        ("waba_id", "me/../x"),
        ("base_url", "graph.facebook.com"),
        ("base_url", "https://"),
        ("graph_version", "23"),
        ("connections", 0),
        ("connections", "many"),
        ("access_token", "EAAção"),
        ("access_token", "EAA\nX-Evil: 1"),
    ],
)
def test_an_unusable_value_is_refused_without_showing_it(key: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=key) as caught:
        from_credentials({**CREDENTIALS, key: value})
    assert key != "access_token" or "EAA" not in str(caught.value)


def test_yaml_numbers_are_taken_as_ids() -> None:
    assert from_credentials({**CREDENTIALS, "phone_number_id": 100000000000001}).senders == ("100000000000001",)


def test_building_a_connector_opens_no_socket_and_needs_no_rasa() -> None:
    code = (
        "import socket, sys\n"
        "def never(*a, **k): raise SystemExit('a socket was opened')\n"
        "socket.socket.connect = socket.socket.bind = never\n"
        "from channels.whatsapp.connector import from_credentials\n"
        f"from_credentials({CREDENTIALS!r})\n"
        "sys.exit('rasa' in sys.modules and 'rasa was imported')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


# ---------------------------------------------------------------------------------------------- over real sockets
@pytest.mark.parametrize(
    ("failure", "expected", "accepted"),
    [
        ("throttle", Reaction.BACK_OFF, 0),
        ("error", Ambiguous, 0),
        ("reset", Ambiguous, 1),
        (131026, Reaction.FAIL, 0),
        (190, Reaction.PAUSE, 0),
        (131016, Reaction.RETRY, 0),
        (424242, Reaction.RETRY, 0),
    ],
)
async def test_failures_of_the_wire_and_of_meta(
    live: Sandbox, failure: str | int, expected: Reaction | type[SendError], accepted: int
) -> None:
    live.configure(failures=[{"kind": failure, "times": 1}])
    connector, before = live.connector(), live.health()["accepted"]
    with pytest.raises(SendError) as caught:
        await connector.send(bill("+5531999990001"))
    error = caught.value
    assert (error.refusal.reaction if isinstance(error, Refused) else type(error)) == expected
    assert live.health()["accepted"] == before + accepted
    assert (await connector.send(bill("+5531999990001"))).provider_id
    await connector.aclose()


async def test_an_answer_that_never_comes_is_ambiguous_although_the_message_was_accepted(
    live: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channels.whatsapp.connector._TIMEOUT", httpx.Timeout(5, read=0.3))
    live.configure(failures=[{"kind": "drop", "numbers": ["+5531999990001"]}])
    connector, before = live.connector(), live.health()["accepted"]
    with pytest.raises(Ambiguous) as caught:
        await connector.send(bill("+5531999990001"))
    assert caught.value.code == "ReadTimeout"
    assert (await connector.send(bill("+5531999990003"))).provider_id
    assert live.health()["accepted"] == before + 2
    await connector.aclose()


async def test_a_wrong_token_or_number_blocks_everything(live: Sandbox) -> None:
    for change in ({"access_token": "other"}, {"phone_number_id": "999"}):
        connector = from_credentials({**CREDENTIALS, "base_url": live.url, **change})
        with pytest.raises(Refused) as caught:
            await connector.send(Outbound(connector.senders[0], "+5531999990001", BILL))
        assert caught.value.refusal.reaction is Reaction.PAUSE
        await connector.aclose()


async def test_logs_hold_neither_numbers_nor_secrets(live: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    connector = live.connector()
    await connector.send(bill("+5531999990001"))
    with pytest.raises(SendError):
        await connector.send(bill("+5531988880126"))
    await connector.aclose()
    await asyncio.sleep(0)
    assert caplog.text
    for secret in (CREDENTIALS["access_token"], CREDENTIALS["app_secret"], "999990001", "988880126"):
        assert secret not in caplog.text
