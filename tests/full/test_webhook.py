"""The webhook on Rasa's server: who may post, what is kept, what is answered."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from plugin.cli.state import PHONE_NUMBER_ID, WABA_ID

if TYPE_CHECKING:
    from tests.full.conftest import World

pytestmark = pytest.mark.full

PATH = "/webhooks/whatsapp/webhook"


@pytest.fixture
def rasa(world: World) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=world.stack.rasa_url, timeout=60, trust_env=False) as client:
        yield client


def message(wamid: str, text: str = "oi", number: str = "5531961777001") -> bytes:
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "553133330000", "phone_number_id": PHONE_NUMBER_ID},
        "contacts": [{"wa_id": number, "profile": {"name": "Rita"}}],
        "messages": [
            {"from": number, "id": wamid, "timestamp": str(int(time.time())), "type": "text", "text": {"body": text}}
        ],
    }
    entry = {"id": WABA_ID, "changes": [{"field": "messages", "value": value}]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


def post(world: World, rasa: httpx.Client, body: bytes, **more: Any) -> httpx.Response:
    secret = world.stack.state.secrets()["app_secret"].encode()
    signature = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": signature, "Content-Type": "application/json", **more.pop("headers", {})}
    return rasa.post(PATH, content=more.pop("content", body), headers=headers)


def stored(world: World, wamid: str) -> int:
    with world.store.read() as connection:
        return int(
            connection.exec_driver_sql("SELECT count(*) FROM inbound WHERE provider_id = ?", (wamid,)).scalar_one()
        )


def test_a_signed_message_is_stored_when_200_is_answered_and_a_repetition_changes_nothing(
    world: World, rasa: httpx.Client
) -> None:
    for _ in range(3):
        assert post(world, rasa, message("wamid.A")).status_code == 200
        assert stored(world, "wamid.A") == 1


def test_two_signed_copies_at_once_are_one_message(world: World, rasa: httpx.Client) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(world, rasa, message("wamid.B")).status_code, range(16)))
    assert set(answers) == {200}
    assert stored(world, "wamid.B") == 1


@pytest.mark.parametrize(
    "headers", [{"X-Hub-Signature-256": "sha256=" + "0" * 64}, {"X-Hub-Signature-256": "md5=1"}], ids=["wrong", "kind"]
)
def test_a_wrong_signature_is_refused_and_nothing_is_kept(
    world: World, rasa: httpx.Client, headers: dict[str, str]
) -> None:
    assert post(world, rasa, message("wamid.C"), headers=headers).status_code == 401
    assert stored(world, "wamid.C") == 0


def test_a_body_changed_after_signing_is_refused(world: World, rasa: httpx.Client) -> None:
    assert post(world, rasa, message("wamid.D"), content=message("wamid.D") + b" ").status_code == 401


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b'{"object": "page", "entry": []}', b"\xff\xfe"])
def test_a_signed_body_of_another_shape_is_a_400(world: World, rasa: httpx.Client, body: bytes) -> None:
    assert post(world, rasa, body).status_code == 400


def test_a_body_over_3_mb_is_refused_whether_announced_or_not(world: World, rasa: httpx.Client) -> None:
    body = b" " * (3 * 1024 * 1024 + 1)
    assert post(world, rasa, body).status_code == 413
    chunks = (b" " * 65536 for _ in range(60))
    assert post(world, rasa, b"", content=chunks).status_code == 413


def test_a_sender_that_dawdles_gets_a_408_and_one_line_in_the_log(world: World) -> None:
    before = world.stack.log("rasa")
    with socket.create_connection(("127.0.0.1", world.stack.ports.rasa), timeout=60) as sender:
        sender.sendall(f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert sender.recv(1000).startswith(b"HTTP/1.1 408 ")
    told = world.stack.log("rasa")[len(before) :]
    assert told.count("did not arrive within 20 s") == 1
    assert "Traceback" not in told


def test_a_store_that_fails_is_a_500_so_that_the_provider_tries_again(world: World, rasa: httpx.Client) -> None:
    database = world.stack.state.directory / "vamos.db"
    with closing(sqlite3.connect(database, isolation_level=None, timeout=30)) as connection:
        connection.execute("ALTER TABLE inbound RENAME TO inbound_away")
        try:
            assert post(world, rasa, message("wamid.E")).status_code == 500
        finally:
            connection.execute("ALTER TABLE inbound_away RENAME TO inbound")
    assert post(world, rasa, message("wamid.E")).status_code == 200
    assert stored(world, "wamid.E") == 1
    world.text("+5531961777009", "oi")
    world.hears("+5531961777009", "Olá! Aqui é a Clara", seconds=60)  # the gate went on as well


def test_the_handshake_answers_the_challenge_as_plain_text_to_who_knows_the_token(
    world: World, rasa: httpx.Client
) -> None:
    token = world.stack.state.secrets()["verify_token"]
    query = {"hub.mode": "subscribe", "hub.verify_token": token, "hub.challenge": "<b>1158201444</b>"}
    answer = rasa.get(PATH, params=query)
    assert (answer.status_code, answer.text) == (200, "<b>1158201444</b>")
    assert answer.headers["content-type"].startswith("text/plain")
    assert rasa.get(PATH, params={**query, "hub.verify_token": "x"}).status_code == 403
    assert rasa.get(PATH).status_code == 403
