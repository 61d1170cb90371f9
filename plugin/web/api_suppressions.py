"""API: whom we must not write to, and why."""

from __future__ import annotations

from typing import Any

from sanic.response import HTTPResponse

from plugin.domain.access import ADMIN, BROADCAST, REPORT
from plugin.domain.consent import SOURCES
from plugin.usecases import consent
from plugin.web.answers import json_answer, stream_csv
from plugin.web.endpoint import Call, Endpoint, Query, limit
from plugin.web.schema import body, text
from plugin.web.uploading import with_file

READERS = (BROADCAST, REPORT)
_PAGE = limit(500)
_FILTERS = (
    Query("operation", "Only what came out of this operation's broadcasts", "id"),
    Query("source", "Only from this source", values=tuple(SOURCES)),
    Query("q", "A whole number, some of its digits, or words of the detail"),
)
_ADDRESS, _NOTE = text(80), text(500)


def _filters(call: Call) -> dict[str, Any]:
    return {
        "operation_id": call.text("operation"),
        "source": call.choice("source", tuple(SOURCES)),
        "q": call.text("q"),
    }


async def listing(call: Call) -> HTTPResponse:
    page = await call.run(
        consent.list_suppressions,
        call.services.store,
        call.session.principal,
        **_filters(call),
        after=call.text("after"),
        limit=call.number(_PAGE, 50),
    )
    return json_answer({"items": page.items, "next": page.next})


async def export(call: Call) -> None:
    pieces = await call.run(
        consent.suppressions_csv, call.services.store, call.session.principal, **_filters(call)
    )  # fmt: skip
    await stream_csv(call, pieces, "descadastros.csv")


async def add(call: Call) -> HTTPResponse:
    added = await call.run(
        consent.suppress,
        call.services.store,
        call.session.principal,
        call.body["address"],
        call.body.get("note", ""),
    )
    return json_answer({"added": added}, 201)


async def import_list(call: Call) -> HTTPResponse:
    filename = (call.text("filename") or "lista.csv")[:255]
    store, principal = call.services.store, call.session.principal
    done = await with_file(
        call, lambda received, limits: consent.import_list(store, principal, received.path, filename, limits)
    )
    return json_answer(done, 201)


async def undo(call: Call) -> HTTPResponse:
    await call.run(
        consent.undo,
        call.services.store,
        call.session.principal,
        call.body["address"],
        call.body["reason"],
        accept_risk=call.body.get("accept_risk", False),
    )
    return HTTPResponse(status=204)


ENDPOINTS = (
    Endpoint(
        "GET",
        "/api/v1/suppressions",
        listing,
        READERS,
        "Numbers that are not written to and why, newest first: those of your operations, or any when asked for whole.",
        query=(*_FILTERS, Query("after", "`next` of the page before"), _PAGE),
        answers={200: ("A page of suppressions.", "Suppressions"), 404: ("No such operation.", None)},
    ),
    Endpoint(
        "GET",
        "/api/v1/suppressions.csv",
        export,
        READERS,
        "The same as a file that is safe to open in a spreadsheet and can be imported again.",
        query=_FILTERS,
        answers={200: ("The file.", "text/csv"), 404: ("No such operation.", None)},
    ),
    Endpoint(
        "POST",
        "/api/v1/suppressions",
        add,
        BROADCAST,
        "Write to a number no more, from any operation. What waits for it is skipped at once.",
        body=body(("address",), address=_ADDRESS, note=_NOTE),
        answers={201: ("It is suppressed; `added` says whether it wasn't before.", "Suppressed")},
    ),
    Endpoint(
        "POST",
        "/api/v1/suppressions/import",
        import_list,
        BROADCAST,
        "Suppress a list: a CSV with a phone column, or one number a line. Good lines count although others are bad.",
        body="file",
        query=(Query("filename", "The file's name, for people"),),
        answers={
            201: (
                "rows = added + already + rejected_count; the first hundred refused lines are described.",
                "Imported",
            ),
            409: ("Two uploads of yours are still running.", None),
            413: ("Larger than the limit.", None),
            415: ("Compressed.", None),
            422: ("Not readable as a list, and nothing was changed; `line` says where.", None),
        },
    ),
    Endpoint(
        "POST",
        "/api/v1/suppressions/undo",
        undo,
        ADMIN,
        "Let later broadcasts reach a number again. Needs admin in every operation. Skipped lines stay skipped.",
        body=body(("address", "reason"), address=_ADDRESS, reason=_NOTE, accept_risk={"type": "boolean"}),
        answers={
            204: ("Lifted.", None),
            404: ("The number is not suppressed.", None),
            409: ("The person opted out at the provider: `accept_risk` must say that its warning was read.", None),
        },
    ),
)
