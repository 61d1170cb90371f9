"""API: log in and out."""

from __future__ import annotations

import asyncio
from typing import Any

from sanic.response import HTTPResponse

from plugin.errors import Invalid
from plugin.usecases import access
from plugin.web.answers import json_answer
from plugin.web.cookies import set_cookie
from plugin.web.endpoint import LOGGED_IN, PUBLIC, Call, Endpoint
from plugin.web.schema import body, text


async def open_session(call: Call) -> HTTPResponse:
    store, given = call.services.store, call.body
    if "link" in given and not {"login", "password"} & given.keys():
        opened = await call.run(access.login_with_link, store, given["link"], previous=call.token)
    elif {"login", "password"} == given.keys():
        names = {"previous": call.token, "client": call.client}
        opened = await call.run_login(access.login, store, given["login"], given["password"], **names)
    else:
        raise Invalid('Send {"login", "password"} or {"link"}.', field="login")
    cookie = set_cookie(call.services.settings.public_url, opened.token, access.ABSOLUTE // 1_000_000)
    return json_answer(_describe(opened.session), 201, {"Set-Cookie": cookie})


async def show_session(call: Call) -> HTTPResponse:
    return json_answer(_describe(call.session))


async def close_session(call: Call) -> HTTPResponse:
    if call.token:
        await call.run(access.logout, call.services.store, call.token)
    return HTTPResponse(status=204, headers={"Set-Cookie": set_cookie(call.services.settings.public_url, "", 0)})


async def health(call: Call) -> HTTPResponse:
    await asyncio.wait_for(call.run(call.services.store.now), 5)
    return json_answer({"status": "ok"})


def _describe(session: access.Session) -> dict[str, Any]:
    person = session.principal
    return {
        "csrf": session.csrf,
        "user": {
            "id": person.user_id,
            "login": person.login,
            "name": person.name,
            "grants": [{"operation": o, "permission": p} for o, p in sorted(person.grants)],
        },
    }


ENDPOINTS = (
    Endpoint(
        "POST",
        "/api/v1/session",
        open_session,
        PUBLIC,
        "Log in with a password or a one-time link. Sets the session cookie.",
        body=body(login=text(), password=text(256), link=text(100)),
        answers={
            201: ("Logged in.", "Session"),
            401: ("Wrong login, password or link.", None),
            429: ("Too many failed attempts; see Retry-After.", None),
        },
    ),
    Endpoint(
        "GET",
        "/api/v1/session",
        show_session,
        LOGGED_IN,
        "Who is logged in, and the CSRF token for unsafe requests.",
        answers={200: ("The session.", "Session")},
    ),
    Endpoint(
        "DELETE",
        "/api/v1/session",
        close_session,
        LOGGED_IN,
        "Log out.",
        answers={204: ("Logged out.", None)},
    ),
    Endpoint("GET", "/health", health, PUBLIC, "Whether the desk answers.", answers={200: ("It does.", "Health")}),
)
