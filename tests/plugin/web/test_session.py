"""Login, cookies, CSRF, over real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from sanic import Sanic

from plugin.bootstrap import Services
from plugin.settings import Settings
from plugin.store import Store
from plugin.testing.scenario import KEY
from plugin.usecases.access import CLIENT_FAILURES, create_user, make_login_link
from plugin.web import desk_blueprint
from plugin.web.endpoint import Call

from .conftest import PASSWORD, Site, serve, stop

SESSION = "/desk/api/v1/session"


async def add_user(site: Site, login: str = "bia") -> None:
    grants = [(site.scenario.operation, "desk.broadcast")]
    await asyncio.to_thread(create_user, site.store, login, "Bia", grants, password=PASSWORD)


async def test_a_password_opens_a_session_and_logout_ends_it(site: Site) -> None:
    await add_user(site)
    client = site.client()
    answer = await client.post(SESSION, json={"login": "bia", "password": PASSWORD})
    assert answer.status_code == 201
    assert answer.json()["user"]["login"] == "bia"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("vamos=")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Secure" not in cookie
    assert (await client.get(SESSION)).json()["csrf"] == answer.json()["csrf"]
    gone = await client.delete(SESSION, headers={"X-CSRF-Token": answer.json()["csrf"]})
    assert gone.status_code == 204
    assert (await client.get(SESSION)).status_code == 401


async def test_over_https_the_cookie_is_host_bound_and_secure(sqlite_url: str, tmp_path: Path) -> None:
    store = Store(sqlite_url)
    settings = Settings(database=sqlite_url, uploads=str(tmp_path), public_url="https://desk.example.com")
    services = Services(settings, store, {}, KEY)
    app = Sanic("desk_test_https", configure_logging=False)
    app.blueprint(desk_blueprint(lambda: services))
    site = await serve(app, services)
    try:
        await add_user(site)
        answer = await site.client().post(SESSION, json={"login": "bia", "password": PASSWORD})
        cookie = answer.headers["set-cookie"]
        token = cookie.split(";")[0].partition("=")[2]
        assert cookie.startswith("__Host-vamos=")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Strict"} <= set(cookie.split("; "))
        assert "Domain" not in cookie
        for name, status in (("__Host-vamos", 200), ("vamos", 401)):
            found = await site.client().get(SESSION, headers={"Cookie": f"{name}={token}"})
            assert found.status_code == status
    finally:
        await stop(site)
        store.close()


async def test_failed_logins_are_throttled_with_a_retry_after(site: Site) -> None:
    await add_user(site)
    client = site.client()
    statuses = []
    for _ in range(7):
        answer = await client.post(SESSION, json={"login": "bia", "password": "wrong password"})
        statuses.append(answer.status_code)
    assert statuses == [401] * 5 + [429] * 2
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["code"] == "too_many_attempts"
    right = await client.post(SESSION, json={"login": "bia", "password": PASSWORD})
    assert right.status_code == 429


async def test_of_many_browsers_with_one_link_one_gets_in(site: Site) -> None:
    await add_user(site)
    link = await asyncio.to_thread(make_login_link, site.store, "bia")
    answers = await asyncio.gather(*(site.client().post(SESSION, json={"link": link}) for _ in range(8)))
    assert sorted(a.status_code for a in answers) == [201] + [401] * 7


async def test_opening_the_link_page_does_not_use_the_link_up(site: Site) -> None:
    await add_user(site)
    link = await asyncio.to_thread(make_login_link, site.store, "bia")
    for _ in range(3):  # a messenger's preview, a virus scanner
        assert (await site.client().get(f"/desk/login?link={link}")).status_code == 200
    assert (await site.client().post(SESSION, json={"link": link})).status_code == 201


async def test_login_rotates_the_session(site: Site) -> None:
    await add_user(site)
    client = site.client()
    await client.post(SESSION, json={"login": "bia", "password": PASSWORD})
    first = client.cookies["vamos"]
    await client.post(SESSION, json={"login": "bia", "password": PASSWORD})
    assert client.cookies["vamos"] != first
    old = await site.client().get(SESSION, headers={"Cookie": f"vamos={first}"})
    assert old.status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"login": "bia"},
        {"login": "bia", "password": PASSWORD, "link": "x"},
        {"login": "bia", "password": PASSWORD, "admin": True},
        {"login": 1, "password": PASSWORD},
        {"login": None, "password": None},
        {"login": "b" * 201, "password": "x"},
        {"login": "b\0", "password": "x"},
        {"link": ["x"]},
        {"link": True},
    ],
)
async def test_a_malformed_login_is_a_400_that_names_the_field(site: Site, body: dict[str, object]) -> None:
    answer = await site.client().post(SESSION, json=body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == {"type", "title", "status", "detail", "code", "remedy", "field", "line", "existing"}
    assert answer.json()["field"]


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        ";",
        "=",
        "vamos",
        "vamos=",
        "vamos=short",
        "vamos=" + "a" * 44,
        "vamos=" + "a" * 42 + "é",
        'vamos="' + "a" * 43 + '"',
        "vamos=%41" + "a" * 40,
        "vamos=\\101" + "a" * 39,
        "x" * 6000,
        ";".join(f"c{i}=v" for i in range(900)),
        "vamos=" + "'" * 43,
    ],
    ids=range(14),
)
async def test_an_ugly_cookie_is_nobody(site: Site, cookie: str) -> None:
    answer = await site.client().get(SESSION, headers={"Cookie": cookie.encode("latin-1")})
    assert answer.status_code == 401
    assert (await site.client().get("/desk/health")).status_code == 200


async def test_our_cookie_is_found_among_others_but_not_beside_a_planted_one(site: Site) -> None:
    client = await site.logged_in("operador")
    token = client.cookies["vamos"]
    ours = f'a=b; weird="x;y; __Host-vamos=no; vamos={token};'
    assert (await site.client().get(SESSION, headers={"Cookie": ours})).status_code == 200
    planted = f"vamos={'A' * 43}; vamos={token}"
    assert (await site.client().get(SESSION, headers={"Cookie": planted})).status_code == 401
    other_name = f"Vamos={token}"
    assert (await site.client().get(SESSION, headers={"Cookie": other_name})).status_code == 401


@pytest.mark.parametrize("token", [None, "", "wrong", "é"])
async def test_an_unsafe_request_without_the_csrf_token_is_refused(site: Site, token: str | None) -> None:
    client = await site.logged_in("operador")
    headers = {} if token is None else {"X-CSRF-Token": token.encode()}
    client.headers.pop("X-CSRF-Token")
    answer = await client.post("/desk/api/v1/templates/sync", headers=headers)
    assert answer.status_code == 403
    assert "CSRF" in answer.json()["detail"]


async def test_the_csrf_token_of_another_session_does_not_help(site: Site) -> None:
    client, other = await site.logged_in("operador"), await site.logged_in("operador")
    answer = await client.post("/desk/api/v1/templates/sync", headers={"X-CSRF-Token": other.headers["X-CSRF-Token"]})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": ""}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Origin": "http://x\u2100"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:5005"}, 403),
        ({"Origin": "http://127.0.0.1:5005"}, 200),
    ],
)
async def test_a_request_from_another_site_is_refused(site: Site, headers: dict[str, str], status: int) -> None:
    client = await site.logged_in("operador")
    raw = {name: value.encode() for name, value in headers.items()}
    assert (await client.post("/desk/api/v1/templates/sync", headers=raw)).status_code == status


async def test_another_site_cannot_log_a_browser_in(site: Site) -> None:
    await add_user(site)
    body = {"login": "bia", "password": PASSWORD}
    cross = {"Sec-Fetch-Site": "cross-site"}
    assert (await site.client().post(SESSION, json=body, headers=cross)).status_code == 403
    form = await site.client().post(SESSION, data=body)
    assert form.status_code == 415


async def test_a_page_asks_for_the_login_and_comes_back(site: Site) -> None:
    client = site.client()
    answer = await client.get("/desk/broadcasts?operation=abc")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/desk/login?next=%2Fdesk%2Fbroadcasts%3Foperation%3Dabc"
    page = await client.get(answer.headers["location"])
    assert 'data-onward="/desk/broadcasts?operation=abc"' in page.text


@pytest.mark.parametrize(
    "onward", ["https://evil.example", "//evil.example", "/desk//evil", "/desk/\\evil", "javascript:1"]
)
async def test_the_login_sends_nobody_to_another_site(site: Site, onward: str) -> None:
    page = await site.client().get("/desk/login", params={"next": onward})
    assert 'data-onward="/desk/"' in page.text


async def test_a_disabled_person_is_out_with_the_next_request(site: Site) -> None:
    client = await site.logged_in("ana")
    assert (await client.get("/desk/cases")).status_code == 200
    await asyncio.to_thread(site.store.set_disabled, site.scenario.ana.user_id, True)
    assert (await client.get("/desk/api/v1/cases")).status_code == 401


async def test_a_rush_of_logins_is_turned_away_early(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.web.endpoint.MAX_WAITING_LOGINS", 4)
    bodies = [{"login": f"nobody{i}", "password": "wrong password"} for i in range(20)]
    answers = await asyncio.gather(*(site.client().post(SESSION, json=one) for one in bodies))
    statuses = [a.status_code for a in answers]
    assert statuses.count(401) >= 4
    assert 429 in statuses
    later = await site.client().post(SESSION, json=bodies[0])
    assert later.status_code in (401, 429)


async def test_logins_do_not_hold_up_other_requests(site: Site) -> None:
    await add_user(site)
    client = await site.logged_in("operador")
    body = {"login": "nobody", "password": "wrong password"}
    rush = [asyncio.create_task(site.client().post(SESSION, json=body)) for _ in range(20)]
    await asyncio.sleep(0)
    answer = await client.get(SESSION)
    unfinished = sum(not task.done() for task in rush)
    assert answer.status_code == 200
    assert unfinished > 0
    answers: list[httpx.Response] = await asyncio.gather(*rush)
    assert {a.status_code for a in answers} <= {401, 429}


async def test_a_link_does_not_wait_for_passwords(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await add_user(site)
    link = await asyncio.to_thread(make_login_link, site.store, "bia")
    monkeypatch.setattr("plugin.web.endpoint.MAX_WAITING_LOGINS", 0)  # a rush: passwords are turned away
    busy = await site.client().post(SESSION, json={"login": "bia", "password": PASSWORD})
    assert busy.status_code == 429
    assert (await site.client().post(SESSION, json={"link": link})).status_code == 201


async def test_one_address_is_throttled_over_all_accounts(site: Site) -> None:
    client = site.client()
    bodies = [{"login": f"nobody{i}", "password": "Senha@2024"} for i in range(CLIENT_FAILURES + 2)]
    statuses = [(await client.post(SESSION, json=one)).status_code for one in bodies]
    assert statuses == [401] * CLIENT_FAILURES + [429] * 2


@pytest.mark.parametrize(
    ("ip", "forwarded", "counted"),
    [
        ("203.0.113.5", "", "203.0.113.5"),
        ("127.0.0.1", "203.0.113.5", "203.0.113.5"),
        ("2001:db8:1:2:3::4", "", "2001:db8:1:2::/64"),
        ("127.0.0.1", "[2001:db8:1:2:9::9]", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.5", "", "203.0.113.5"),
        ("fe80::1%eth0", "", "fe80::/64"),
        ("/run/desk.sock", "", "/run/desk.sock"),
    ],
)
def test_an_address_is_counted_as_its_owner(ip: str, forwarded: str, counted: str) -> None:
    request: Any = SimpleNamespace(ip=ip, remote_addr=forwarded)
    nothing: Any = None
    assert Call(request, nothing, nothing, nothing, nothing, nothing).client == counted
