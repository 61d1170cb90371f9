"""API: the human side."""

from __future__ import annotations

from sanic.response import HTTPResponse

from plugin.domain.access import ATTEND, SUPERVISE
from plugin.usecases import handoff
from plugin.web.answers import json_answer
from plugin.web.endpoint import Call, Endpoint, Query, limit
from plugin.web.schema import body, text

STATES = ("queued", "active", "closed")
RETURNS = ("continue", "menu", "silent")
_LIMIT = limit(500)
_PEOPLE = (ATTEND, SUPERVISE)
_VERSION = {"type": "integer", "minimum": 1, "maximum": 2**31}
_MISSING = {404: ("Missing, or in an operation that is not yours.", None)}
_CHANGED = {409: ("The case changed meanwhile; read it again.", None)}


async def listing(call: Call) -> HTTPResponse:
    found = await call.run(
        handoff.list_cases,
        call.services.store,
        call.session.principal,
        operation_id=call.text("operation"),
        queue_id=call.text("queue"),
        state=call.choice("state", STATES),
        limit=call.number(_LIMIT, 100),
    )
    return json_answer({"items": found})


async def show(call: Call, case_id: str) -> HTTPResponse:
    return json_answer(await call.run(handoff.view_case, call.services.store, call.session.principal, case_id))


async def take(call: Call, case_id: str) -> HTTPResponse:
    principal, store = call.session.principal, call.services.store
    return json_answer(await call.run(handoff.take_case, store, principal, case_id, version=call.body["version"]))


async def answer(call: Call, case_id: str) -> HTTPResponse:
    principal, store = call.session.principal, call.services.store
    return json_answer(await call.run(handoff.answer_case, store, principal, case_id, text=call.body["text"]), 201)


async def close(call: Call, case_id: str) -> HTTPResponse:
    closed = await call.run(
        handoff.close_case,
        call.services.store,
        call.session.principal,
        case_id,
        version=call.body["version"],
        outcome=call.body.get("outcome", ""),
        returned=call.body.get("returned", "continue"),
    )
    return json_answer(closed)


ENDPOINTS = (
    Endpoint(
        "GET",
        "/api/v1/cases",
        listing,
        _PEOPLE,
        "Cases, the longest waiting first.",
        query=(
            Query("operation", "Only this operation", "id"),
            Query("queue", "Only this queue", "id"),
            Query("state", "Only this state", values=STATES),
            _LIMIT,
        ),
        answers={200: ("The cases.", "Cases"), **_MISSING},
    ),
    Endpoint(
        "GET",
        "/api/v1/cases/<case_id>",
        show,
        _PEOPLE,
        "A case with what was broadcast and the conversation.",
        answers={200: ("The case.", "CaseView"), **_MISSING},
    ),
    Endpoint(
        "POST",
        "/api/v1/cases/<case_id>/take",
        take,
        _PEOPLE,
        "Make the case your own.",
        body=body(("version",), version=_VERSION),
        answers={200: ("It is yours.", "Case"), **_MISSING, **_CHANGED},
    ),
    Endpoint(
        "POST",
        "/api/v1/cases/<case_id>/messages",
        answer,
        _PEOPLE,
        "Answer the contact through their channel.",
        body=body(("text",), text=text(8192)),
        answers={201: ("Queued; it goes out before any broadcast.", "Case"), **_MISSING, **_CHANGED},
    ),
    Endpoint(
        "POST",
        "/api/v1/cases/<case_id>/close",
        close,
        _PEOPLE,
        "End the human stretch; `returned` says what the bot does next.",
        body=body(("version",), version=_VERSION, outcome=text(64), returned=text(enum=list(RETURNS))),
        answers={200: ("Closed.", "Case"), **_MISSING, **_CHANGED},
    ),
)
