"""API: what people do to a broadcast, and test sends."""

from __future__ import annotations

from sanic.response import HTTPResponse

from plugin.domain.access import BROADCAST
from plugin.usecases import again, control, trial
from plugin.web.answers import json_answer
from plugin.web.api_broadcasts import KEY, MESSAGE, NOT_NOW, START_AT, idempotency_key, launched_answer, message_of
from plugin.web.endpoint import Call, Endpoint
from plugin.web.schema import body, listed, moment, nullable, text

_MISSING = {404: ("Missing, or in an operation that is not yours.", None)}
_ROW = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}


async def pause(call: Call, broadcast_id: str) -> HTTPResponse:
    await call.run(control.pause, call.services.store, call.session.principal, broadcast_id)
    return HTTPResponse(status=204)


async def resume(call: Call, broadcast_id: str) -> HTTPResponse:
    await call.run(control.resume, call.services.store, call.session.principal, broadcast_id)
    return HTTPResponse(status=204)


async def cancel(call: Call, broadcast_id: str) -> HTTPResponse:
    await call.run(control.cancel, call.services.store, call.session.principal, broadcast_id)
    return HTTPResponse(status=204)


async def schedule(call: Call, broadcast_id: str) -> HTTPResponse:
    start_at = moment(call.body["start_at"], "start_at")
    await call.run(control.reschedule, call.services.store, call.session.principal, broadcast_id, start_at)
    return HTTPResponse(status=204)


async def retry(call: Call, broadcast_id: str) -> HTTPResponse:
    done = await call.run(
        again.retry_failed,
        call.services.store,
        call.session.principal,
        broadcast_id,
        call.body.get("codes"),
        explain=call.services.explain,
    )
    return json_answer(done)


async def resend_unknown(call: Call, broadcast_id: str) -> HTTPResponse:
    done = await call.run(
        again.resend_unknown,
        call.services.store,
        call.session.principal,
        broadcast_id,
        call.body.get("rows"),
        accept_risk=call.body.get("accept_risk", False),
    )
    return json_answer(done)


async def test(call: Call) -> HTTPResponse:
    given, key = call.body, idempotency_key(call)
    launched = await call.run(
        trial.send_trial,
        call.services.store,
        call.session.principal,
        message_of(given),
        given["numbers"],
        given.get("row"),
        idempotency_key=key,
        talk_button=call.services.settings.talk_button,
    )
    skipped = [{"address": address, "reason": reason} for address, reason in launched.skipped]
    return launched_answer(launched, queued=launched.queued, skipped=skipped)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/api/v1/broadcasts/<broadcast_id>/pause",
        pause,
        BROADCAST,
        "Send nothing more until it is resumed. What is on its way arrives.",
        answers={204: ("Paused.", None), 409: ("It neither runs nor is scheduled.", None), **_MISSING},
    ),
    Endpoint(
        "POST",
        "/api/v1/broadcasts/<broadcast_id>/resume",
        resume,
        BROADCAST,
        "Go on with a paused broadcast, whoever or whatever paused it. A first wave that was stopped is over then.",
        answers={
            204: ("Running, or scheduled again if it is not due yet.", None),
            409: ("It is not paused, or has to be reconciled first.", None),
            **_MISSING,
        },
    ),
    Endpoint(
        "POST",
        "/api/v1/broadcasts/<broadcast_id>/cancel",
        cancel,
        BROADCAST,
        "End it for good: what is not on its way yet is skipped.",
        answers={204: ("Cancelled.", None), 409: ("It is over already.", None), **_MISSING},
    ),
    Endpoint(
        "POST",
        "/api/v1/broadcasts/<broadcast_id>/schedule",
        schedule,
        BROADCAST,
        "Put a scheduled broadcast to another time, or begin now (null).",
        body=body(("start_at",), start_at=START_AT),
        answers={204: ("Done.", None), 409: ("It is not scheduled.", None), **_MISSING},
    ),
    Endpoint(
        "POST",
        "/api/v1/broadcasts/<broadcast_id>/retry",
        retry,
        BROADCAST,
        "Send again what failed: all of it (null), or what failed with one of these codes.",
        body=body(codes=nullable(listed(text(100), 200))),
        answers={
            200: ("How many, and how many not.", "Requeued"),
            409: ("Cancelled, not begun, or to be reconciled first.", None),
            **_MISSING,
        },
    ),
    Endpoint(
        "POST",
        "/api/v1/broadcasts/<broadcast_id>/resend-unknown",
        resend_unknown,
        BROADCAST,
        "Send again what nobody knows the outcome of (row numbers, or null for all): people may get it twice.",
        body=body(
            rows=nullable(listed(_ROW, again.MAX_ROWS)),
            accept_risk={"type": "boolean", "description": "Without it the answer spells the risk out."},
        ),
        answers={
            200: ("How many, and how many not.", "Requeued"),
            409: ("Too early: statuses may still come. Or as for retry.", None),
            **_MISSING,
        },
    ),
    Endpoint(
        "POST",
        "/api/v1/broadcasts/test",
        test,
        BROADCAST,
        "Send the message, with one row's values (null: the first accepted), to a few numbers. A broadcast of its own.",
        body=body(
            ("operation", "upload", "template", "numbers"),
            **MESSAGE,
            row=nullable(_ROW),
            numbers=listed(text(80), trial.MAX_NUMBERS),
        ),
        headers=(KEY,),
        answers={201: ("Launched.", "TestLaunched"), 409: (NOT_NOW, None), **_MISSING},
    ),
)
