"""Control through the API: bodies, answers and errors as documented."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from plugin.domain.delivery import DeliveryState
from plugin.usecases.consent import suppress

from .conftest import Site

API = "/desk/api/v1"
HOURS = {"from": "08:00", "to": "20:00", "days": [1, 2, 3, 4, 5], "holidays": False}
WAVE = {"size": 2, "wait_minutes": 5, "max_opt_outs": 1.5, "max_failures": 10}
LATER = (datetime.now(timezone(timedelta(hours=-3))) + timedelta(days=8)).isoformat(timespec="seconds")
LATER_STILL = (datetime.now(timezone.utc) + timedelta(days=9)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Desk:
    """An operator's client and a file to launch."""

    def __init__(self, site: Site, client: httpx.AsyncClient) -> None:
        self.site, self.client = site, client
        self.keys = iter(f"key number {n}" for n in range(100))

    async def body(self, **more: Any) -> dict[str, Any]:
        scenario = self.site.scenario
        upload = await asyncio.to_thread(scenario.upload, [scenario.number() for _ in range(3)])
        template = scenario.templates["with_talk_button"]
        return {"operation": scenario.operation, "upload": upload, "template": template, **more}

    async def post(self, path: str, body: Any = None) -> httpx.Response:
        headers = {"Idempotency-Key": next(self.keys)}
        return await self.client.post(f"{API}/broadcasts{path}", json=body, headers=headers)

    async def launched(self, **more: Any) -> str:
        answer = await self.post("", await self.body(**more))
        assert answer.status_code == 201, answer.text
        found: str = answer.json()["id"]
        return found

    async def report(self, broadcast: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.client.get(f"{API}/broadcasts/{broadcast}")).json()
        return found

    async def outcome(self, broadcast: str, state: DeliveryState, **more: Any) -> None:
        """Every row of the broadcast ends so."""
        scenario = self.site.scenario
        await asyncio.to_thread(lambda: scenario.settle(scenario.claim(broadcast), state, **more))


@pytest.fixture
async def desk(site: Site) -> Desk:
    return Desk(site, await site.logged_in("operador"))


async def fits(desk: Desk, name: str, value: Any) -> None:
    document = (await desk.client.get(f"{API}/openapi.json")).json()
    schema = {**document["components"]["schemas"][name], "components": document["components"]}
    assert [e.message for e in Draft202012Validator(schema).iter_errors(value)] == []


async def test_a_launch_takes_schedule_hours_and_first_wave_and_the_report_shows_them(desk: Desk) -> None:
    broadcast = await desk.launched(start_at=LATER, hours=HOURS, first_wave=WAVE, on_unknown="resend")
    found = await desk.report(broadcast)
    await fits(desk, "Report", found)
    assert (found["state"], datetime.fromisoformat(found["start_at"][:-1] + "+00:00")) == (
        "scheduled", datetime.fromisoformat(LATER),
    )  # fmt: skip
    assert (found["hours"], found["on_unknown"]) == (HOURS, "resend")
    assert found["first_wave"] == {**WAVE, "running": True, "tried": 0, "of": 2}
    plain = await desk.report(await desk.launched(start_at=None, hours=None, first_wave=None))
    await fits(desk, "Report", plain)
    assert (plain["state"], plain["start_at"], plain["hours"], plain["first_wave"]) == ("running", None, None, None)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"start_at": "2031-12-01T09:30:00"}, "start_at"),
        ({"start_at": "tomorrow"}, "start_at"),
        ({"start_at": "2001-01-01T00:00:00Z"}, "start_at"),
        ({"start_at": "9999-12-31T23:59:59-12:00"}, "start_at"),
        ({"start_at": 5}, "start_at"),
        ({"hours": {"from": "20:00", "to": "08:00"}}, "hours"),
        ({"hours": {"from": "08:00"}}, "hours.to"),
        ({"hours": {**HOURS, "days": [0]}}, "hours.days.0"),
        ({"hours": {**HOURS, "days": []}}, "hours"),
        ({"hours": {**HOURS, "days": [1] * 8}}, "hours.days"),
        ({"first_wave": {**WAVE, "size": 0}}, "first_wave.size"),
        ({"first_wave": {**WAVE, "size": 3}}, "first_wave.size"),
        ({"first_wave": {**WAVE, "max_failures": 101}}, "first_wave.max_failures"),
        ({"first_wave": {"size": 1}}, "first_wave.wait_minutes"),
        ({"on_unknown": "always"}, "on_unknown"),
    ],
)
async def test_a_wrong_option_is_refused_by_name(desk: Desk, given: dict[str, Any], field: str) -> None:
    answer = await desk.post("", await desk.body(**given))
    assert (answer.status_code, answer.json()["field"]) == (400, field), answer.text


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        ({"window_hours": 0}, "window_hours deve ficar entre 1 e 720."),
        ({"window_hours": "x"}, "window_hours deve ser um número inteiro."),
        ({"notify_text": 1}, "notify_text deve ser um texto."),
        ({"notify_text": "x" * 1025}, "notify_text passa de 1024 caracteres."),
        ({"notify_text": "\0"}, "notify_text tem um caractere nulo (NUL)."),
        ({"start_at": "amanhã"}, "start_at não é data e hora com o fuso."),
        ({"start_at": 7}, "start_at deve ser um texto ou null."),
        ({"free_text": "x"}, "free_text deve ser um destes: redirect, bot."),
        ({"hours": {**HOURS, "days": [1] * 8}}, "hours.days deve ter de 0 a 7 itens."),
        ({"first_wave": {"size": 1}}, "Falta first_wave.wait_minutes."),
        ({"colour": 1}, "O campo 'colour' não existe."),
    ],
)
async def test_what_a_page_may_send_wrongly_is_refused_in_portuguese(
    desk: Desk, given: dict[str, Any], detail: str
) -> None:
    answer = await desk.post("", await desk.body(**given))
    assert (answer.json()["detail"], answer.json()["title"]) == (detail, "Pedido inválido")


async def test_schedule_pause_resume_and_cancel(desk: Desk) -> None:
    broadcast = await desk.launched(start_at=LATER)
    for path, body, state in (
        ("pause", None, "paused"),
        ("resume", None, "scheduled"),
        ("schedule", {"start_at": LATER_STILL}, "scheduled"),
        ("schedule", {"start_at": None}, "running"),
        ("cancel", None, "cancelled"),
    ):
        answer = await desk.post(f"/{broadcast}/{path}", body)
        assert answer.status_code == 204, answer.text
        found = await desk.report(broadcast)
        assert found["state"] == state
        assert path != "schedule" or state == "running" or found["start_at"] == LATER_STILL
    assert (await desk.report(broadcast))["skipped"] == {"cancelled": 3}
    for path, body in (("pause", None), ("schedule", {"start_at": LATER}), ("retry", {}), ("cancel", None)):
        answer = await desk.post(f"/{broadcast}/{path}", body)
        assert (answer.status_code, bool(answer.json()["remedy"])) == (409, True), answer.text


async def test_failed_rows_are_retried_by_code(desk: Desk) -> None:
    broadcast = await desk.launched()
    await desk.outcome(broadcast, DeliveryState.FAILED, error_code="131050")
    answer = await desk.post(f"/{broadcast}/retry", {"codes": None})
    assert answer.json() == {"queued": 0, "left_out": {"suppressed": 3}}  # they asked the provider
    other = await desk.launched()
    await desk.outcome(other, DeliveryState.FAILED, error_code="131026")
    assert (await desk.post(f"/{other}/retry", {"codes": ["1"]})).json() == {"queued": 0, "left_out": {}}
    answer = await desk.post(f"/{other}/retry", {"codes": ["131026"]})
    assert (answer.status_code, answer.json()) == (200, {"queued": 3, "left_out": {}})
    await fits(desk, "Requeued", answer.json())
    assert (await desk.post(f"/{other}/retry", {"codes": []})).json()["field"] == "codes"


async def test_resending_unknown_outcomes_spells_the_risk_out_first(desk: Desk) -> None:
    broadcast = await desk.launched()
    await desk.outcome(broadcast, DeliveryState.UNKNOWN)
    refused = await desk.post(f"/{broadcast}/resend-unknown", {"rows": [1]})
    assert (refused.status_code, refused.json()["field"]) == (400, "accept_risk")
    assert "receber de novo" in refused.json()["detail"]
    early = await desk.post(f"/{broadcast}/resend-unknown", {"rows": [1], "accept_risk": True})
    assert early.status_code == 409
    with desk.site.store.write() as connection:
        connection.exec_driver_sql("UPDATE delivery SET claimed_at = 1")
    answer = await desk.post(f"/{broadcast}/resend-unknown", {"rows": [1, 3], "accept_risk": True})
    assert (answer.status_code, answer.json()) == (200, {"queued": 2, "left_out": {}})
    for rows, field in (([9], "rows"), (["1"], "rows.0"), ([0], "rows.0"), ([], "rows")):
        answer = await desk.post(f"/{broadcast}/resend-unknown", {"rows": rows, "accept_risk": True})
        assert (answer.status_code, answer.json()["field"]) == (400, field)


async def test_a_test_send_is_a_broadcast_that_the_list_leaves_out(desk: Desk) -> None:
    body = await desk.body(numbers=["31 99876-5432"], row=2, redirect={"kind": "human"})
    answer = await desk.post("/test", body)
    assert answer.status_code == 201, answer.text
    await fits(desk, "TestLaunched", answer.json())
    broadcast = answer.json()["id"]
    assert answer.headers["Location"] == f"{API}/broadcasts/{broadcast}"
    assert (answer.json()["queued"], answer.json()["skipped"]) == (1, [])
    found = await desk.report(broadcast)
    assert (found["test"], found["rows"], found["redirect"]["kind"]) == (True, 1, "human")
    assert (await desk.client.get(f"{API}/broadcasts")).json()["items"] == []
    listed = (await desk.client.get(f"{API}/broadcasts", params={"tests": "true"})).json()
    await fits(desk, "Broadcasts", listed)
    assert [(one["id"], one["test"]) for one in listed["items"]] == [(broadcast, True)]
    for given, field in (
        ({"numbers": []}, "numbers"),
        ({"numbers": ["98765"]}, "numbers.0"),
        ({"numbers": ["31 99876-5432"] * 6}, "numbers"),
        ({"numbers": [5531998765432]}, "numbers.0"),
        ({"row": 99}, "row"),
        ({"start_at": LATER}, "start_at"),
    ):
        refused = await desk.post("/test", {**body, **given})
        assert (refused.status_code, refused.json()["field"]) == (400, field), refused.text
    without_key = await desk.client.post(f"{API}/broadcasts/test", json=body)
    assert without_key.json()["field"] == "Idempotency-Key"


async def test_a_used_key_with_another_body_says_what_was_launched_under_it(desk: Desk) -> None:
    body, key = await desk.body(), {"Idempotency-Key": "one and the same"}
    first = await desk.client.post(f"{API}/broadcasts", json=body, headers=key)
    trial = {**body, "numbers": ["31 99876-5432"]}
    for path, changed in (("", {**body, "hours": HOURS}), ("/test", trial)):
        refused = await desk.client.post(f"{API}/broadcasts{path}", json=changed, headers=key)
        assert refused.status_code == 409
        assert (refused.json()["code"], refused.json()["existing"]) == ("already_launched", first.json()["id"])
        await fits(desk, "Problem", refused.json())
    again = await desk.client.post(f"{API}/broadcasts", json=body, headers=key)
    assert again.json() == {"id": first.json()["id"], "replayed": True}


async def test_a_test_send_says_who_is_left_out(desk: Desk) -> None:
    await asyncio.to_thread(suppress, desk.site.store, desk.site.scenario.operator, "31988887777")
    body = await desk.body(numbers=["31 98888-7777", "31 99876-5432"])
    answer = await desk.post("/test", body)
    await fits(desk, "TestLaunched", answer.json())
    found = answer.json()
    assert (found["queued"], found["skipped"]) == (1, [{"address": "+5531988887777", "reason": "opted_out"}])
