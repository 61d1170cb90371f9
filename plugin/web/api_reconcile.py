"""API: let a broadcast go on that is on hold because the database was put back from a backup."""

from __future__ import annotations

from sanic.response import HTTPResponse

from plugin.domain.access import BROADCAST
from plugin.usecases import reconcile
from plugin.web.answers import json_answer
from plugin.web.endpoint import Call, Endpoint
from plugin.web.schema import body, text


async def decide(call: Call, broadcast_id: str) -> HTTPResponse:
    rows = await call.run(
        reconcile.reconcile,
        call.services.store,
        call.session.principal,
        broadcast_id,
        rows=call.body["rows"],
        accept_risk=call.body.get("accept_risk", False),
    )
    return json_answer({"rows": rows})


ENDPOINTS = (
    Endpoint(
        "POST",
        "/api/v1/broadcasts/<broadcast_id>/reconcile",
        decide,
        BROADCAST,
        "After a restore: take the waiting rows for unknown (nothing is sent), or send them although some may have been"
        " sent after the backup was made.",
        body=body(
            ("rows",),
            rows=text(enum=[reconcile.UNKNOWN, reconcile.SEND]),
            accept_risk={
                "type": "boolean",
                "description": "Needed to send; without it the answer spells the risk out.",
            },
        ),
        answers={
            200: ("How many rows were waiting.", "Reconciled"),
            404: ("Missing, or in an operation that is not yours.", None),
            409: ("It is not on hold after a restore.", None),
        },
    ),
)
