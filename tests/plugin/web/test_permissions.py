"""Every route × every kind of caller, generated from the route table: a new route is in the matrix at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from sanic import Sanic
from sanic.response import HTTPResponse

from plugin.bootstrap import Services
from plugin.domain.access import PERMISSIONS
from plugin.errors import ConfigurationError
from plugin.testing.scenario import SENDER
from plugin.usecases.setup import create_operation
from plugin.web import desk_blueprint, endpoints
from plugin.web.desk import Desk
from plugin.web.endpoint import LOGGED_IN, PUBLIC, Call, Endpoint

from .conftest import Site

ROUTES = [e for e in endpoints() if e.access != PUBLIC]
#: Not of one operation.
INSTALLATION_WIDE = "/api/v1/suppressions"


@dataclass
class World:
    """Objects of one operation, and callers who stand differently to it."""

    site: Site
    objects: dict[str, str]
    callers: dict[str, httpx.AsyncClient]

    async def ask(self, caller: str, endpoint: Endpoint, **other: str) -> httpx.Response:
        objects = {**self.objects, **other}
        path = endpoint.path
        for name, value in objects.items():
            path = path.replace(f"<{name}>", value)
        body, headers = None, {}
        if endpoint.path == "/api/v1/broadcasts" and endpoint.method == "POST":
            body = {k: objects[k] for k in ("operation", "upload", "template")}
            headers["Idempotency-Key"] = f"key of {caller}"
        elif endpoint.path == "/api/v1/broadcasts/test":
            body = {**{k: objects[k] for k in ("operation", "upload", "template")}, "numbers": ["31 99876-5432"]}
            headers["Idempotency-Key"] = f"test of {caller}"
        elif endpoint.path.endswith(("/retry", "/resend-unknown", "/schedule", "/reconcile")):
            body = {
                "retry": {},
                "resend-unknown": {"accept_risk": True},
                "schedule": {"start_at": None},
                "reconcile": {"rows": "unknown"},
            }[endpoint.path.rpartition("/")[2]]
        elif endpoint.path.endswith(("/take", "/close")):
            body = {"version": 1}
        elif endpoint.path.startswith(INSTALLATION_WIDE) and endpoint.unsafe and endpoint.body != "file":
            body = {"address": "+5531998000077"} | ({"reason": "x"} if endpoint.path.endswith("/undo") else {})
        elif endpoint.path.endswith("/messages"):
            body = {"text": "Bom dia"}
        params = {q.name: objects[q.name] for q in endpoint.query if q.name in ("operation", "template")}
        content = b"telefone;nome\n+5531998000099;Ana\n" if endpoint.body == "file" else None
        return await self.callers[caller].request(
            endpoint.method, "/desk" + path, json=body, content=content, params=params, headers=headers
        )


@pytest.fixture
async def world(site: Site) -> World:
    scenario = site.scenario

    def prepare() -> dict[str, str]:
        number = scenario.number()
        broadcast = scenario.launch([number])
        sent = scenario.send_all(broadcast)
        done = scenario.redirect(scenario.reply(number, "Vamos conversar"))
        assert sent
        assert done.case_id
        return {
            "operation": scenario.operation,
            "template": scenario.templates["with_talk_button"],
            "upload": scenario.upload([scenario.number()]),
            "upload_id": scenario.upload([scenario.number()]),
            "broadcast_id": broadcast,
            "case_id": done.case_id,
        }

    objects = await asyncio.to_thread(prepare)
    other = await asyncio.to_thread(create_operation, site.store, "Vendas", SENDER)
    callers = {
        "anonymous": site.client(),
        "no grant": await site.person("nobody"),
        "other operation": await site.person("other", *((other, p) for p in PERMISSIONS)),
        "admin": await site.person("root", ("*", "admin")),
    }
    for permission in PERMISSIONS:
        callers[permission] = await site.person(permission, (scenario.operation, permission))
    return World(site, objects, callers)


def names_an_object(endpoint: Endpoint) -> bool:
    return "<" in endpoint.path or any(q.name == "operation" for q in endpoint.query) or endpoint.body is not None


async def test_access_is_as_declared_for_every_route_and_caller(world: World) -> None:
    wrong: list[str] = []
    document = (await world.site.client().get("/desk/api/v1/openapi.json")).json()
    # Logging out comes last: it ends the sessions that the others need.
    for endpoint in sorted(ROUTES, key=lambda e: e.method == "DELETE"):
        for caller in world.callers:
            answer = await world.ask(caller, endpoint)
            if not endpoint.page and answer.status_code < 300:
                fits(document, endpoint, answer)
            if answer.status_code not in expected(endpoint, caller):
                wrong.append(f"{endpoint.method} {endpoint.path} as {caller}: {answer.status_code} {answer.text[:200]}")
            if not endpoint.page and answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["status"] == answer.status_code
    assert wrong == []


def fits(document: dict[str, Any], endpoint: Endpoint, answer: httpx.Response) -> None:
    """The answer is one that the document describes, to the last field."""
    described = document["paths"]["/desk" + re.sub(r"<(\w+)>", r"{\1}", endpoint.path)][endpoint.method.lower()]
    content = described["responses"][str(answer.status_code)].get("content", {})
    kind = answer.headers.get("content-type", "").split(";")[0]
    assert kind in content or not (content or answer.content), (endpoint.path, kind)
    if kind == "application/json":
        schema = {**content[kind]["schema"], "components": document["components"]}
        errors = [f"{e.json_path}: {e.message}" for e in Draft202012Validator(schema).iter_errors(answer.json())]
        assert errors == [], (endpoint.method, endpoint.path)


def expected(endpoint: Endpoint, caller: str) -> set[int]:
    declared = (endpoint.access,) if isinstance(endpoint.access, str) else endpoint.access or ()
    if caller == "anonymous":
        return {303} if endpoint.page else {401}
    if declared == (LOGGED_IN,):
        return {200, 204}
    if caller == "no grant" or (caller in PERMISSIONS and caller not in (*declared, "admin")):
        return {403}
    if endpoint.path.startswith(INSTALLATION_WIDE) and endpoint.unsafe:
        # Whoever may send anywhere may suppress; to undo takes an administrator of all operations, who isn't here.
        return {403} if endpoint.path.endswith("/undo") else {201}
    if caller == "other operation" and names_an_object(endpoint):
        return {404}
    # A case may have moved on by an earlier caller's hand: that is an answer to somebody allowed in.
    return {200, 201, 204, 409} if endpoint.unsafe else {200}


async def test_a_foreign_object_and_a_missing_one_look_the_same(world: World) -> None:
    missing = dict.fromkeys(("upload_id", "broadcast_id", "case_id"), "0123456789abcdef" * 2)
    for endpoint in ROUTES:
        if "<" not in endpoint.path:
            continue
        foreign = await world.ask("other operation", endpoint)
        nowhere = await world.ask("other operation", endpoint, **missing)
        nonsense = await world.ask("other operation", endpoint, **dict.fromkeys(missing, "nonsense"))
        answers = (foreign, nowhere, nonsense)
        assert [a.status_code for a in answers] == [404] * 3, endpoint.path
        if endpoint.page:
            assert foreign.text == nowhere.text == nonsense.text
        else:
            assert foreign.json() == nowhere.json() == nonsense.json(), endpoint.path


async def test_a_foreign_object_in_a_parameter_or_body_looks_like_a_missing_one_too(world: World) -> None:
    client, missing = world.callers["other operation"], "0123456789abcdef" * 2
    mine = (await client.get("/desk/api/v1/operations")).json()["items"][0]["id"]
    scenario, objects = world.site.scenario, world.objects
    foreign = {**objects, "queue": scenario.push, "agent": scenario.ana.user_id}

    def asked(pick: Callable[[str], str]) -> list[tuple[str, str, dict[str, Any]]]:
        launch = {"operation": mine, "upload": pick("upload"), "template": objects["template"]}
        human = {**launch, "redirect": {"kind": "human", "queue": pick("queue")}}
        return [
            ("GET", f"broadcasts?after={pick('broadcast_id')}", {}),
            ("GET", f"broadcasts?operation={pick('operation')}", {}),
            ("GET", f"cases?operation={pick('operation')}", {}),
            ("GET", f"cases?queue={pick('queue')}", {}),
            ("GET", f"notifications?operation={pick('operation')}", {}),
            ("GET", f"templates?operation={pick('operation')}", {}),
            ("POST", f"uploads?operation={pick('operation')}&template={objects['template']}", {"content": b"x"}),
            ("POST", "broadcasts", {"json": launch}),
            ("POST", "broadcasts", {"json": {**launch, "operation": pick("operation")}}),
            ("POST", "broadcasts", {"json": human}),
            ("POST", "broadcasts/test", {"json": {**launch, "numbers": ["31 99876-5432"]}}),
            ("POST", "broadcasts/test", {"json": {**launch, "operation": pick("operation"), "numbers": ["zero"]}}),
        ]

    async def answers(pick: Callable[[str], str]) -> list[tuple[str, int, Any]]:
        found = []
        for number, (method, path, more) in enumerate(asked(pick)):
            key = {"Idempotency-Key": f"{'m' if pick('upload') == missing else 'f'} number {number}"}
            answer = await client.request(method, f"/desk/api/v1/{path}", headers=key, **more)
            found.append((f"{method} {path.split('?')[0]} {number}", answer.status_code, answer.json()))
        return found

    # A launch of one's own first: a foreign cursor must not even sort among one's own broadcasts.
    own = {"operation": mine, "template": objects["template"]}
    taken = await client.post("/desk/api/v1/uploads", params=own, content=b"telefone;nome\n+5531998000098;Ana\n")
    key = {"Idempotency-Key": "a launch of my own"}
    request = {**own, "upload": taken.json()["id"], "redirect": {"kind": "notification"}, "notify_text": "Obrigado!"}
    launched = await client.post("/desk/api/v1/broadcasts", json=request, headers=key)
    assert launched.status_code == 201, launched.text
    newer = await asyncio.to_thread(scenario.launch, [scenario.number()])
    foreign["broadcast_id"] = newer
    assert await answers(lambda name: foreign[name]) == await answers(lambda _: missing)


async def test_lists_hold_nothing_of_other_operations(world: World) -> None:
    for path in ("broadcasts", "cases", "notifications"):
        mine = await world.callers["admin"].get(f"/desk/api/v1/{path}")
        theirs = await world.callers["other operation"].get(f"/desk/api/v1/{path}")
        assert theirs.json()["items"] == []
        assert path == "notifications" or mine.json()["items"]
    operations = await world.callers["other operation"].get("/desk/api/v1/operations")
    assert [o["name"] for o in operations.json()["items"]] == ["Vendas"]


async def test_a_revoked_grant_counts_from_the_next_request(world: World) -> None:
    client = world.callers["desk.attend"]
    path = f"/desk/api/v1/cases/{world.objects['case_id']}"
    assert (await client.get(path)).status_code == 200
    person = await client.get("/desk/api/v1/session")
    await asyncio.to_thread(world.site.store.set_grants, person.json()["user"]["id"], [])
    assert (await client.get(path)).status_code == 403


async def _nothing(_: Call) -> HTTPResponse:
    return HTTPResponse("")


@pytest.mark.parametrize("access", [None, "", (), "desk.everything", ("desk.broadcast", "everybody")])
def test_a_route_without_a_declared_permission_stops_the_server(access: object) -> None:
    app = Sanic("desk_test_undeclared", configure_logging=False)
    try:
        open_door = Endpoint("GET", "/open", _nothing, access, "Oops.")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="/open"):
            app.blueprint(Desk(_services, [open_door]))
    finally:
        Sanic._app_registry.pop(app.name)


def test_a_route_added_past_the_table_stops_the_server() -> None:
    app = Sanic("desk_test_past", configure_logging=False)
    blueprint = desk_blueprint(_services)

    @blueprint.get("/backdoor")
    async def backdoor(_: object) -> HTTPResponse:
        return HTTPResponse("")

    try:
        with pytest.raises(ConfigurationError, match="/backdoor"):
            app.blueprint(blueprint)
    finally:
        Sanic._app_registry.pop(app.name)


def test_the_desk_is_mounted_where_its_pages_link_to() -> None:
    app = Sanic("desk_test_prefix", configure_logging=False)
    try:
        with pytest.raises(ConfigurationError, match="/elsewhere"):
            app.blueprint(desk_blueprint(_services), url_prefix="/elsewhere")
    finally:
        Sanic._app_registry.pop(app.name)


def _services() -> Services:
    raise AssertionError("not asked for before a request")
