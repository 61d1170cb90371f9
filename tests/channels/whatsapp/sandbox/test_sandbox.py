"""The sandbox as its users see it: a process, its ports and its ledger."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from channels.whatsapp.refusals import TABLE
from channels.whatsapp.sandbox.__main__ import _options, main
from channels.whatsapp.sandbox.codes import KNOWN
from plugin.connector import (
    Ambiguous,
    ConsentChange,
    InboundMessage,
    Outbound,
    Refused,
    StatusUpdate,
    TemplateMessage,
    TextMessage,
)
from plugin.domain.consent import is_opt_out
from plugin.testing.sandbox import BILL, CREDENTIALS, NOTICE, OFFER, SENDER, Receiver, Sandbox, bill, until

ROOT = Path(__file__).parents[4]

_numbers = itertools.count(1)


def fresh() -> str:
    """A number that no other test has used, without a behaviour of its own."""
    return f"+55319{70_000_001 + 10 * next(_numbers)}"


def post(live: Sandbox, **change: Any) -> httpx.Response:
    """A raw request, to send what the connector never would."""
    body = {
        "messaging_product": "whatsapp",
        "to": "+5531999990001",
        "type": "template",
        "template": {
            "name": "cobranca_vamos_conversar",
            "language": {"code": "pt_BR"},
            "components": [
                {"type": "body", "parameters": [{"type": "text", "text": text} for text in ("Ana", "B", "C")]}
            ],
        },
        **change,
    }
    headers = {"Authorization": f"Bearer {CREDENTIALS['access_token']}"}
    body = {key: value for key, value in body.items() if value is not None}
    return live.http.post(f"{live.url}/v23.0/{SENDER}/messages", json=body, headers=headers)


def template(
    name: str = "cobranca_vamos_conversar", *components: dict[str, Any], language: str = "pt_BR"
) -> dict[str, Any]:
    return {"name": name, "language": {"code": language}, "components": list(components)}


def values(*texts: str) -> dict[str, Any]:
    return {"type": "body", "parameters": [{"type": "text", "text": text} for text in texts]}


THREE = values("Ana", "R$ 10", "05/12")
BUTTON = {"type": "button", "sub_type": "quick_reply", "index": "0"}


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"messaging_product": None}, 400, 100),
        ({"to": None}, 400, 100),
        ({"to": "abc"}, 400, 131009),
        ({"type": "hologram"}, 400, 131051),
        ({"template": None}, 400, 100),
        ({"template": template("no_such", THREE)}, 404, 132001),
        ({"template": template("cobranca_vamos_conversar", THREE, language="en_US")}, 404, 132001),
        ({"template": template("pesquisa_satisfacao", values("Ana"))}, 404, 132001),
        ({"template": template("volte_para_a_fibra", values("Ana"))}, 400, 132015),
        ({"template": template("cobranca_vamos_conversar", values("Ana"))}, 400, 132000),
        ({"template": template("cobranca_vamos_conversar")}, 400, 132000),
        ({"template": template("cobranca_vamos_conversar", values("Ana", "", "x"))}, 400, 131008),
        ({"template": template("cobranca_vamos_conversar", values("Ana\nB", "x", "x"))}, 400, 132012),
        ({"template": template("cobranca_vamos_conversar", values("A" * 1000, "x", "x"))}, 400, 132005),
        ({"template": template("oferta_upgrade", THREE)}, 400, 100),
        (
            {
                "template": template(
                    "aviso_manutencao", THREE, {"type": "button", "sub_type": "quick_reply", "index": "0"}
                )
            },
            400,
            132018,
        ),
        ({"to": "+5531988880126"}, 400, 131026),
        ({"to": None, "recipient": "BR.unknown"}, 400, 131009),
        ({"biz_opaque_callback_data": "x" * 513}, 400, 131009),
        ({"type": "text", "text": {"body": "oi"}, "to": "+5531977770001"}, 429, 131047),
    ],
)
def test_refusals_carry_metas_code(live: Sandbox, change: dict[str, Any], status: int, code: int) -> None:
    before = live.health()["accepted"]
    answer = post(live, **change)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["fbtrace_id"]
    assert live.health()["accepted"] == before


def test_a_number_that_is_refused_at_once_is_in_the_ledger(live: Sandbox) -> None:
    start = 0
    while live.ledger(start)["items"]:
        start = live.ledger(start)["next"]
    assert post(live, to="+5531988880126", biz_opaque_callback_data="v1.d.0a1b2c3d.7.1").status_code == 400
    refused = [entry for entry in live.ledger(start)["items"] if entry["kind"] == "refused"]
    assert [(entry["why"], entry["correlation"]) for entry in refused] == [("131026", "v1.d.0a1b2c3d.7.1")]


def test_the_token_and_the_ids_are_checked_first(live: Sandbox) -> None:
    bearer = {"Authorization": f"Bearer {CREDENTIALS['access_token']}"}
    assert live.http.post(f"{live.url}/v23.0/{SENDER}/messages").json()["error"]["code"] == 190
    wrong = live.http.get(f"{live.url}/v23.0/{SENDER}", headers={"Authorization": "Bearer other"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, 190)
    other = live.http.post(f"{live.url}/v23.0/999/messages", headers=bearer).json()["error"]
    assert (other["code"], other["error_subcode"]) == (100, 33)
    number = live.http.get(f"{live.url}/v23.0/{SENDER}", headers=bearer).json()
    assert (number["id"], number["quality_rating"]) == (SENDER, "GREEN")
    assert live.http.get(f"{live.url}/latest/{SENDER}", headers=bearer).status_code == 400


def test_templates_are_paged_and_filtered(live: Sandbox) -> None:
    url, bearer = f"{live.url}/v23.0/{CREDENTIALS['waba_id']}/message_templates", CREDENTIALS["access_token"]
    headers = {"Authorization": f"Bearer {bearer}"}
    first = live.http.get(url, params={"limit": 2, "fields": "name,status"}, headers=headers).json()
    assert [set(one) for one in first["data"]] == [{"id", "name", "status"}] * 2
    second = live.http.get(first["paging"]["next"], headers=headers).json()
    third = live.http.get(second["paging"]["next"], headers=headers).json()
    assert "next" not in third["paging"]
    names = [one["name"] for page in (first, second, third) for one in page["data"]]
    assert len(set(names)) == 5
    approved = live.http.get(url, params={"status": "APPROVED"}, headers=headers).json()["data"]
    assert {one["name"] for one in approved} == {"cobranca_vamos_conversar", "aviso_manutencao", "oferta_upgrade"}


async def test_brazils_ninth_digit_is_dropped_for_some_numbers(live: Sandbox) -> None:
    connector = live.connector()
    for dialled, known in [
        ("+5541999990000", "554199990000"),
        ("+5541999990001", "5541999990001"),
        ("+5511999990000", "5511999990000"),
        ("+351912345678", "351912345678"),
    ]:
        assert (await connector.send(bill(dialled))).address == known
    assert live.chat("+5541999990000") == live.chat("+554199990000")
    await connector.aclose()


def test_a_number_without_its_plus_reaches_somebody_else(live: Sandbox) -> None:
    """As at Meta: our own country code is put before it."""
    assert post(live, to="5511999990001").json()["contacts"][0]["wa_id"] == "555511999990001"


async def test_an_accepted_message_is_reported_in_order_with_our_correlation(live: Sandbox, receiver: Receiver) -> None:
    live.configure(webhook=receiver.url)
    connector, number = live.connector(), fresh()
    result = await connector.send(bill(number, "d7.1"))
    await until(lambda: len(receiver.statuses(connector, "d7.1")) == 3)
    assert receiver.statuses(connector, "d7.1") == ["sent", "delivered", "read"]
    events = [one for one in receiver.events(connector) if isinstance(one, StatusUpdate)]
    assert {(one.provider_id, one.address) for one in events} == {(result.provider_id, number[1:])}
    assert live.chat(number)[-1]["status"] == "read"
    await connector.aclose()


async def test_numbers_with_a_behaviour_of_their_own(live: Sandbox, receiver: Receiver) -> None:
    live.configure(webhook=receiver.url)
    connector = live.connector()
    await connector.send(bill("+5531988880026", "m.26"))
    await connector.send(bill("+5531988880049", "m.49", OFFER))
    await connector.send(bill("+5531988880088", "m.88"))
    await connector.send(bill("+5531988880077", "m.77"))
    await connector.send(bill("+5531988880033", "m.33"))
    await until(live.idle)
    got = {name: receiver.statuses(connector, f"m.{name}") for name in (26, 49, 88, 77)}
    assert got == {
        26: ["sent", "failed"],
        49: ["sent", "failed"],
        88: ["sent", "delivered"],
        77: ["sent", "delivered", "read"],
    }
    events = receiver.events(connector)
    codes = {one.correlation: one.error_code for one in events if isinstance(one, StatusUpdate) and one.error_code}
    assert codes == {"m.26": "131026", "m.49": "131049"}
    hidden = [one for one in events if isinstance(one, StatusUpdate) and one.correlation == "m.77"]
    assert all(one.address is None and one.user_id for one in hidden)

    live.tap("+5531988880033", button=0).raise_for_status()
    live.text("+5531988880077", "oi").raise_for_status()
    await until(live.idle)
    tap, text = (one for one in receiver.events(connector) if isinstance(one, InboundMessage))
    assert (tap.is_tap, tap.payload, tap.context_id) == (True, "v1.token", None)
    assert (text.address, text.user_id) == (None, hidden[0].user_id)

    answer = await connector.send(Outbound(SENDER, "", TextMessage("olá"), user_id=text.user_id))
    assert (answer.address, answer.user_id) == (None, text.user_id)
    await connector.aclose()


async def test_taps_and_words_reach_the_webhook_as_metas_messages(live: Sandbox, receiver: Receiver) -> None:
    live.configure(webhook=receiver.url)
    connector, number = live.connector(), fresh()
    sent = await connector.send(bill(number, template=OFFER))
    live.tap(number, message=sent.provider_id, button="Falar com atendente").raise_for_status()
    live.text(number, "Olá! 😊").raise_for_status()
    buttons = await connector.send(Outbound(SENDER, number, TextMessage("Mais?", (("sim", "Sim"), ("nao", "Não")))))
    live.tap(number, button=1).raise_for_status()
    await until(live.idle)
    tap, text, reply = (one for one in receiver.events(connector) if isinstance(one, InboundMessage))
    assert (tap.kind, tap.text, tap.payload) == ("button", "Falar com atendente", "p1")
    assert tap.context_id == sent.provider_id
    assert (text.kind, text.text, text.is_tap, text.context_id) == ("text", "Olá! 😊", False, None)
    assert (reply.kind, reply.text, reply.payload) == ("button_reply", "Não", "nao")
    assert reply.context_id == buttons.provider_id
    assert [one["author"] for one in live.chat(number)] == ["business", "person", "person", "business", "person"]
    await connector.aclose()


async def test_free_text_needs_an_open_window(live: Sandbox) -> None:
    connector, number = live.connector(), fresh()
    live.text(number, "oi").raise_for_status()
    await connector.send(Outbound(SENDER, number, TextMessage("dentro da janela")))
    live.configure(clock_offset_s=24 * 3600 + 60)
    with pytest.raises(Refused) as caught:
        await connector.send(Outbound(SENDER, number, TextMessage("fora da janela")))
    assert caught.value.code == "131047"
    live.text(number, "oi de novo").raise_for_status()
    await connector.send(Outbound(SENDER, number, TextMessage("aberta outra vez")))
    await connector.aclose()


async def test_a_person_who_stops_marketing_still_gets_the_bill(live: Sandbox, receiver: Receiver) -> None:
    live.configure(webhook=receiver.url)
    connector, number = live.connector(), fresh()
    await connector.send(bill(number, "p.0"))
    live.prefer(number, "stop")
    await connector.send(bill(number, "p.1", OFFER))
    await connector.send(bill(number, "p.2"))
    await until(live.idle)
    [consent] = (one for one in receiver.events(connector) if isinstance(one, ConsentChange))
    assert (consent.stop, consent.address) == (True, number[1:])
    assert receiver.statuses(connector, "p.1") == ["sent", "failed"]
    assert receiver.statuses(connector, "p.2") == ["sent", "delivered", "read"]
    await connector.aclose()


# ---------------------------------------------------------------------------------------------- every code
async def test_each_code_of_the_table_can_be_provoked_at_once(live: Sandbox) -> None:
    connector, seen = live.connector(), {}
    before = live.health()["accepted"]
    for code in [*TABLE, "210", "999999"]:
        live.configure(failures=[{"kind": code}])
        with pytest.raises(Refused) as caught:
            await connector.send(bill(fresh()))
        seen[code] = caught.value.refusal
    await connector.aclose()
    assert {code: refusal.code for code, refusal in seen.items()} == {code: code for code in seen}
    assert {code: seen[code] for code in TABLE} == TABLE
    assert set(TABLE) - {"100/33"} == {str(code) for code in KNOWN}
    assert live.health()["accepted"] == before


async def test_each_code_of_the_table_can_be_provoked_after_acceptance(live: Sandbox, receiver: Receiver) -> None:
    connector = live.connector()
    numbers = {fresh(): code for code in [*(one for one in TABLE if "/" not in one), "210", "999999"]}
    rules = [{"kind": f"async_{code}", "numbers": [number]} for number, code in numbers.items()]
    live.configure(webhook=receiver.url, failures=rules)
    for number, code in numbers.items():
        await connector.send(bill(number, f"later.{code}"))
    await until(live.idle)
    failed = [one for one in receiver.events(connector) if isinstance(one, StatusUpdate) and one.status == "failed"]
    assert {one.correlation: one.error_code for one in failed} == {f"later.{one}": one for one in numbers.values()}
    assert all(one.error_message for one in failed)
    assert receiver.statuses(connector, "later.131049") == ["sent", "failed"]
    await connector.aclose()


async def test_a_message_that_is_to_fail_still_fails_after_a_restart(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.start("http://127.0.0.1:9/nobody")  # nothing is acknowledged
    sandbox.configure(failures=[{"kind": "async_131042", "times": 1}], delays_ms={"sent": 1, "delivered": 2})
    connector = sandbox.connector()
    await connector.send(bill(fresh(), "x.1"))
    await connector.aclose()
    sandbox.kill()
    sandbox.start(receiver.url)
    await until(sandbox.idle)
    connector = sandbox.connector()
    [failed] = [one for one in receiver.events(connector) if isinstance(one, StatusUpdate) and one.status == "failed"]
    assert failed.error_code == "131042"
    await connector.aclose()


# ---------------------------------------------------------------------------------------------- webhooks
async def test_statuses_come_in_another_order_twice_or_late_when_asked_to(live: Sandbox, receiver: Receiver) -> None:
    connector, orders = live.connector(), []
    for name, disorder in (
        ("shuffled", {"shuffled": 1}),
        ("twice", {"twice": 1}),
        ("late", {"late": 1, "late_ms": 300}),
        ("none", {}),
    ):
        live.configure(webhook=receiver.url, disorder={**disorder, "seed": 3})
        asked = asyncio.get_running_loop().time()
        await connector.send(bill(fresh(), f"disorder.{name}"))
        await until(live.idle)
        if name == "late":
            assert asyncio.get_running_loop().time() - asked >= 0.3
        orders.append(receiver.statuses(connector, f"disorder.{name}"))
    shuffled, twice, late, none = orders
    right = ["sent", "delivered", "read"]
    assert shuffled != right
    assert sorted(shuffled) == sorted(right)
    assert Counter(twice) == dict.fromkeys(right, 2)
    assert late == none == right
    await connector.aclose()


async def test_a_cut_request_was_not_accepted_and_a_slow_one_is_answered_late(live: Sandbox) -> None:
    connector, number = live.connector(), fresh()
    live.configure(failures=[{"kind": "cut"}])
    with pytest.raises(Ambiguous):
        await connector.send(bill(number))
    assert live.chat(number) == []
    live.configure(failures=[{"kind": "slow"}])
    asked = asyncio.get_running_loop().time()
    assert (await connector.send(bill(number))).provider_id == live.chat(number)[0]["id"]
    assert asyncio.get_running_loop().time() - asked >= 0.9
    await connector.aclose()


async def test_webhooks_are_repeated_until_they_are_acknowledged_and_keep_their_order(
    live: Sandbox, receiver: Receiver
) -> None:
    receiver.answers = [500, 503, 500]
    live.configure(webhook=receiver.url)
    connector, number = live.connector(), fresh()
    await connector.send(bill(number, "w.1"))
    for text in ("um", "dois", "três"):
        live.text(number, text).raise_for_status()
    await until(live.idle)
    texts = [one.text for one in receiver.events(connector) if isinstance(one, InboundMessage)]
    assert texts == ["um", "dois", "três"]
    assert receiver.statuses(connector, "w.1") == ["sent", "delivered", "read"]
    assert not receiver.answers
    await connector.aclose()


async def test_webhooks_wait_for_a_receiver_that_is_down(live: Sandbox, receiver: Receiver) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        live.configure(webhook=f"http://127.0.0.1:{free.getsockname()[1]}/hook")
        connector, number = live.connector(), fresh()
        await connector.send(bill(number, "w.2"))
        await until(lambda: live.health()["pending"]["webhooks"] == 3)
    live.configure(webhook=receiver.url)
    await until(live.idle)
    assert receiver.statuses(connector, "w.2") == ["sent", "delivered", "read"]
    await connector.aclose()


async def test_two_hundred_messages_a_second_are_taken_and_reported(live: Sandbox, receiver: Receiver) -> None:
    live.configure(webhook=receiver.url)
    connector = live.connector()
    loop = asyncio.get_running_loop()
    begin = loop.time()
    room = asyncio.Semaphore(50)

    async def one(number: int) -> None:
        async with room:
            await connector.send(bill(fresh(), f"load.{number}"))

    await asyncio.gather(*(one(number) for number in range(400)))
    await until(live.idle)
    seconds = loop.time() - begin
    seen = Counter(one.status for one in receiver.events(connector) if isinstance(one, StatusUpdate))
    assert seen == {"sent": 400, "delivered": 400, "read": 400}
    assert len(receiver.bodies) < 1200, "statuses are not batched"
    assert seconds < 2.0 * 3, f"{400 / seconds:.0f} messages/s"  # room for a busy machine
    await connector.aclose()


# ---------------------------------------------------------------------------------------------- answers by themselves
MIX = {"tap": 0.3, "text": 0.2, "opt_out": 0.05, "silence": 0.45}


async def answered(sandbox: Sandbox, receiver: Receiver, seed: int, content: TemplateMessage) -> dict[str, str]:
    """What each phone answers, by number."""
    sandbox.start(receiver.url)
    sandbox.configure(answers={"seed": seed, "mix": MIX}, delays_ms={"sent": 1, "delivered": 2, "read": 3, "answer": 4})
    connector = sandbox.connector()
    numbers = [f"+55319{70_000_001 + 10 * number}" for number in range(200)]
    await asyncio.gather(*(connector.send(bill(number, template=content)) for number in numbers))
    await until(sandbox.idle)
    events = [one for one in receiver.events(connector) if isinstance(one, InboundMessage)]
    assert len({one.address for one in events}) == len(events), "a phone answered twice"
    await connector.aclose()
    sandbox.stop()
    return {str(one.address): f"tap {one.payload}" if one.is_tap else one.text for one in events}


async def test_the_same_seed_gives_the_same_answers_in_about_the_mix_asked_for(
    tmp_path: Path, receiver: Receiver
) -> None:
    seed = 20261122
    runs = []
    for name, one_seed in (("a", seed), ("b", seed), ("c", seed + 1)):
        receiver.bodies.clear()
        runs.append(await answered(Sandbox(tmp_path / name), receiver, one_seed, BILL))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    taps = sum(text == "tap v1.token" for text in runs[0].values())
    stops = sum(is_opt_out(text) for text in runs[0].values())
    assert (45 <= taps <= 75, 3 <= stops <= 20, 90 <= len(runs[0]) <= 130) == (True, True, True)


async def test_a_template_without_buttons_is_answered_in_words(live: Sandbox, receiver: Receiver) -> None:
    live.configure(webhook=receiver.url, answers={"seed": 1, "mix": {"tap": 1}})
    connector, number = live.connector(), fresh()
    await connector.send(bill(number, template=NOTICE))
    await until(live.idle)
    [reply] = (one for one in receiver.events(connector) if isinstance(one, InboundMessage))
    assert not reply.is_tap
    assert reply.text
    await connector.send(Outbound(SENDER, number, TextMessage("o bot responde")))
    await until(live.idle)
    assert len(live.chat(number)) == 3, "only templates are answered"
    await connector.aclose()


async def test_a_template_with_several_buttons_gets_taps_on_each(live: Sandbox, receiver: Receiver) -> None:
    live.configure(webhook=receiver.url, answers={"seed": 5, "mix": {"tap": 1}})
    connector = live.connector()
    for _ in range(30):
        await connector.send(bill(fresh(), template=OFFER))
    await until(live.idle)
    taps = Counter(one.payload for one in receiver.events(connector) if isinstance(one, InboundMessage))
    assert set(taps) == {"p0", "p1", "p2"}
    await connector.aclose()


# ---------------------------------------------------------------------------------------------- state
async def test_a_killed_sandbox_forgets_nothing(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.start("http://127.0.0.1:9/nobody")  # nothing is acknowledged
    sandbox.configure(delays_ms={"sent": 1, "delivered": 2, "read": 3}, answers={"seed": 3, "mix": {"tap": 1}})
    connector, number = sandbox.connector(), fresh()
    await connector.send(bill(number, "s.1"))
    await until(lambda: len(sandbox.chat(number)) == 2)
    sandbox.text(number, "alguém aí?").raise_for_status()
    before = [(one["author"], one["body"]) for one in sandbox.chat(number)]
    await connector.aclose()
    sandbox.kill()

    sandbox.start(receiver.url)
    assert [(one["author"], one["body"]) for one in sandbox.chat(number)] == before
    await until(sandbox.idle)
    connector = sandbox.connector()
    assert receiver.statuses(connector, "s.1") == ["sent", "delivered", "read"]
    texts = [one.text for one in receiver.events(connector) if isinstance(one, InboundMessage)]
    assert texts == ["Vamos conversar", "alguém aí?"]
    sandbox.kill()

    receiver.bodies.clear()
    sandbox.start(receiver.url)
    await until(sandbox.idle)
    assert not receiver.bodies, "what was acknowledged was sent again"
    assert [one["status"] for one in sandbox.chat(number)] == ["read", "delivered", "delivered"]
    assert sandbox.chat(number)[0]["tapped"] == 0
    await connector.aclose()


async def test_a_line_torn_by_a_crash_is_cut_off(sandbox: Sandbox) -> None:
    sandbox.start()
    connector = sandbox.connector()
    await connector.send(bill(fresh()))
    await connector.aclose()
    sandbox.kill()
    ledger = sandbox.state / "ledger.jsonl"
    whole = ledger.read_bytes()
    ledger.write_bytes(whole + b'{"n":99,"kind":"mess')
    sandbox.start()
    assert sandbox.health()["accepted"] == 1
    sandbox.kill()
    assert ledger.read_bytes().startswith(whole)
    assert b'"mess\n' not in ledger.read_bytes()
    assert all(json.loads(line)["n"] == n for n, line in enumerate(ledger.read_bytes().splitlines(), 1))


async def test_the_ledger_can_be_read_from_any_line(live: Sandbox) -> None:
    connector = live.connector()
    start = 0
    while page := live.ledger(start)["items"]:
        start = page[-1]["n"]
    sent = [(await connector.send(bill(fresh(), f"l.{n}"))).provider_id for n in range(3)]
    await until(live.idle)
    rest = live.ledger(start)
    messages = [one for one in rest["items"] if one["kind"] == "message"]
    assert [one["id"] for one in messages] == sent
    assert [one["request"]["biz_opaque_callback_data"] for one in messages] == ["l.0", "l.1", "l.2"]
    assert live.ledger(rest["next"]) == {"items": [], "next": rest["next"]}
    assert len(live.ledger(start, limit=2)["items"]) == 2
    await connector.aclose()


# ---------------------------------------------------------------------------------------------- steering
@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"webhook": "ftp://x"}, "webhook"),
        ({"latency_ms": -1}, "latency_ms"),
        ({"failures": [{"kind": "explode"}]}, "throttle"),
        ({"failures": [{"kind": "async_explode"}]}, "async_"),
        ({"failures": [{"kind": True}]}, "throttle"),
        ({"failures": [{"kind": "error", "rate": 2}]}, "rate"),
        ({"answers": {"mix": {"tap": 0.9, "text": 0.9}}}, "more than 1"),
        ({"answers": {"mix": {"shout": 0.1}}}, "shout"),
        ({"answers": 3}, "answers"),
        ({"delays_ms": {"sent": "soon"}}, "soon"),
        ({"disorder": {"twice": 2}}, "disorder.twice"),
        ({"disorder": {"lost": 1}}, "shuffled"),
    ],
)
def test_an_unusable_configuration_is_refused_in_words_and_changes_nothing(
    live: Sandbox, config: dict[str, Any], word: str
) -> None:
    answer = live.http.put(f"{live.url}/sandbox/config", json={"latency_ms": 5000, **config})
    assert answer.status_code == 400
    assert word in answer.json()["detail"]
    assert post(live, to=fresh()).elapsed.total_seconds() < 2


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/+5531900000000/tap", {"button": 0}, 404),
        ("/nonsense/text", {"text": "oi"}, 400),
        ("/+5531999990001/text", {"text": " "}, 400),
        ("/+5531999990001/text", [], 400),
        ("/+5531999990001/preference", {"value": "maybe"}, 400),
    ],
)
def test_odd_steering_is_answered_in_words(live: Sandbox, path: str, body: Any, status: int) -> None:
    live.text("+5531999990001", "oi").raise_for_status()
    answer = live.http.post(f"{live.url}/sandbox/phones{path}", json=body)
    assert answer.status_code == status
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Content-Type": "text/plain"}]
)
def test_another_sites_page_cannot_steer_it(live: Sandbox, headers: dict[str, str]) -> None:
    answer = live.http.put(f"{live.url}/sandbox/config", content=b"{}", headers=headers)
    assert answer.status_code in (403, 415)


def test_the_page_brings_all_it_needs_and_allows_no_inline_script(live: Sandbox) -> None:
    page = live.http.get(live.url + "/")
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert "http" not in page.text.replace("http://www.w3.org/2000/svg", "")
    assert "onclick" not in page.text
    for name, kind in (("phone.css", "text/css"), ("phone.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        assert f"/static/{name}" in page.text
        assert live.http.get(f"{live.url}/static/{name}").headers["Content-Type"].startswith(kind)
    assert live.http.get(f"{live.url}/static/..%2f__init__.py").status_code == 404


async def test_changes_are_told_as_they_happen(live: Sandbox) -> None:
    number = fresh()
    async with httpx.AsyncClient(base_url=live.url) as client, client.stream("GET", "/sandbox/events") as stream:
        lines = stream.aiter_lines()
        await client.post(f"/sandbox/phones/{number}/text", json={"text": "oi"})
        line = await asyncio.wait_for(anext(lines), 5)
    assert json.loads(line.removeprefix("data: "))["phones"] == [number[1:]]


def run_sandbox(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "channels.whatsapp.sandbox", "--phone-number-id", "1", "--waba-id", "2"]
    command += ["--access-token", "a", "--app-secret", "s", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)


def test_a_port_or_a_state_in_use_is_said_in_words(live: Sandbox, tmp_path: Path) -> None:
    port = live.url.rsplit(":", 1)[1]
    taken = run_sandbox("--port", port, "--state", str(tmp_path / "other"))
    assert (taken.returncode, taken.stdout) == (1, "")
    assert taken.stderr == f"Port {port} is in use. Stop the program that has it, or give another --port.\n"
    locked = run_sandbox("--port", "0", "--state", str(live.state))
    assert locked.returncode == 1
    assert "Another sandbox is using" in locked.stderr


def test_secrets_may_come_from_the_environment_and_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = ["--state", "s", "--phone-number-id", "1", "--waba-id", "2"]
    with pytest.raises(SystemExit):
        main(ids)
    assert "required: --access-token, --app-secret" in capsys.readouterr().err
    monkeypatch.setenv("VAMOS_SANDBOX_ACCESS_TOKEN", "a-token")
    monkeypatch.setenv("VAMOS_SANDBOX_APP_SECRET", "a-secret")
    assert (_options(ids).access_token, _options(ids).app_secret) == ("a-token", "a-secret")
    assert _options([*ids, "--access-token", "mine"]).access_token == "mine"
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "VAMOS_SANDBOX_APP_SECRET" in shown
    assert "a-token" not in shown
    assert "a-secret" not in shown


# ---------------------------------------------------------------------------------------------- randomness
async def test_a_share_of_failures_hits_about_that_share_and_may_pass_on_retry(live: Sandbox) -> None:
    seed = random.Random(7).randrange(1000)
    live.configure(failures=[{"kind": "throttle", "rate": 0.2, "seed": seed}])
    codes = Counter(post(live, to=fresh()).status_code for _ in range(100))
    assert 8 <= codes[429] <= 34
    assert codes[200] == 100 - codes[429]
    number = fresh()
    again = [post(live, to=number).status_code for _ in range(30)]
    assert set(again) == {200, 429}
