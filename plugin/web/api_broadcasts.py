"""API: upload, launch, report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sanic.response import HTTPResponse

from plugin.domain.access import BROADCAST, REPORT
from plugin.domain.broadcast import DEFAULT_WINDOW_HOURS, MAX_WINDOW_HOURS
from plugin.domain.delivery import DeliveryState
from plugin.domain.hours import SendingHours
from plugin.domain.redirect import FreeText, Redirect, RedirectKind
from plugin.domain.upload import Limits, RowState, Upload
from plugin.domain.wave import MAX_WAIT_MINUTES, MAX_WAVE, FirstWave
from plugin.errors import Invalid
from plugin.usecases import intake, launch, report, review
from plugin.usecases.explain import LANGUAGES
from plugin.web.answers import json_answer, plain, stream_csv
from plugin.web.body import Received
from plugin.web.endpoint import Call, Endpoint, Query, limit
from plugin.web.schema import Schema, body, listed, moment, nullable, text
from plugin.web.uploading import with_file

READERS = (BROADCAST, REPORT)
ROW_STATES = tuple(s.value for s in RowState)
AFTER_ROW = Query("after", "Only lines after this row number", "integer")
_ROWS, _PAGE = limit(500), limit(200)
_LANGUAGE = Query("language", "Of the explanations", values=LANGUAGES)
NOT_NOW = "Not possible in the present state; or the key was used with another body, and `existing` came of that."
_MISSING = {404: ("Missing, or in an operation that is not yours.", None)}


async def upload(call: Call) -> HTTPResponse:
    store, principal = call.services.store, call.session.principal
    operation_id, template_id = call.needed("operation"), call.needed("template")
    filename = (call.text("filename") or "contatos.csv")[:255]
    principal.require(BROADCAST, operation_id)  # before the first byte; the use case asks again

    def take(received: Received, limits: Limits) -> Upload:
        return intake.take_upload(
            store,
            principal,
            operation_id=operation_id,
            template_id=template_id,
            filename=filename,
            path=received.path,
            sha256=received.sha256,
            limits=limits,
        )

    taken = await with_file(call, take)
    return json_answer(taken, 201, {"Location": f"/desk/api/v1/uploads/{taken.id}"})


async def show_upload(call: Call, upload_id: str) -> HTTPResponse:
    return json_answer(await call.run(review.view_upload, call.services.store, call.session.principal, upload_id))


async def upload_rows(call: Call, upload_id: str) -> HTTPResponse:
    wanted, state = call.number(_ROWS, 100), call.choice("state", ROW_STATES)
    rows = await call.run(
        review.view_rows,
        call.services.store,
        call.session.principal,
        upload_id,
        state=RowState(state) if state else None,
        after=call.number(AFTER_ROW, 0),
        limit=wanted,
    )
    items = [plain(row) for row in rows]
    return json_answer({"items": items, "next": items[-1]["row"] if len(items) == wanted else None})


async def rejected(call: Call, upload_id: str) -> None:
    seen = await call.run(review.view_upload, call.services.store, call.session.principal, upload_id)
    pieces = await call.run(intake.rejected_csv, call.services.store, call.session.principal, upload_id)
    await stream_csv(call, pieces, f"recusadas-{seen.filename}")


def idempotency_key(call: Call) -> str:
    """The header that tells a repetition from another launch.

    Raises:
        Invalid.
    """
    key = call.request.headers.getone("idempotency-key", "").strip()
    if not 8 <= len(key) <= 128 or not key.isprintable():
        raise Invalid(
            "The Idempotency-Key header is missing or not 8 to 128 characters long.",
            "Send a new random value with each launch, and the same one when you repeat it.",
            field="Idempotency-Key",
        )
    return key


def message_of(given: Mapping[str, Any]) -> launch.LaunchRequest:
    """What is sent and what becomes of the answers, from a body with `MESSAGE`."""
    chosen = given.get("redirect") or {}
    return launch.LaunchRequest(
        operation_id=given["operation"],
        upload_id=given["upload"],
        template_id=given["template"],
        redirect=Redirect(
            RedirectKind(chosen.get("kind") or "none"), chosen.get("queue") or None, chosen.get("agent") or None
        ),
        free_text=FreeText(given.get("free_text") or "redirect"),
        notify_text=given.get("notify_text") or "",
        notify_team=bool(given.get("notify_team")),
        window_hours=given.get("window_hours") or DEFAULT_WINDOW_HOURS,
    )


def launched_answer(launched: launch.Launched, **more: Any) -> HTTPResponse:
    answer = {"id": launched.broadcast_id, "replayed": launched.replayed, **more}
    return json_answer(answer, 201, {"Location": f"/desk/api/v1/broadcasts/{launched.broadcast_id}"})


async def start(call: Call) -> HTTPResponse:
    given, key = call.body, idempotency_key(call)
    hours, wave = given.get("hours"), given.get("first_wave")
    request = replace(
        message_of(given),
        start_at=moment(given.get("start_at"), "start_at"),
        hours=None if hours is None else SendingHours.from_json(hours),
        first_wave=None if wave is None else FirstWave.from_json(wave),
        on_unknown=given.get("on_unknown") or "keep",
    )
    launched = await call.run(
        launch.launch,
        call.services.store,
        call.session.principal,
        request,
        idempotency_key=key,
        talk_button=call.services.settings.talk_button,
    )
    return launched_answer(launched)


async def listing(call: Call) -> HTTPResponse:
    page = await call.run(
        report.list_broadcasts,
        call.services.store,
        call.session.principal,
        operation_id=call.text("operation"),
        after=call.text("after"),
        limit=call.number(_PAGE, 50),
        tests=call.choice("tests", _TESTS.values) == "true",
    )
    return json_answer({"items": page.items, "next": page.next})


async def show(call: Call, broadcast_id: str) -> HTTPResponse:
    found = await call.run(
        report.report,
        call.services.store,
        call.session.principal,
        broadcast_id,
        explain=call.services.explain,
        language=call.choice("language", LANGUAGES) or LANGUAGES[0],
    )
    return json_answer(found.to_dict())


async def rows(call: Call, broadcast_id: str) -> HTTPResponse:
    wanted = call.number(_ROWS, 100)
    items: list[dict[str, Any]] = await call.run(
        report.report_rows,
        call.services.store,
        call.session.principal,
        broadcast_id,
        state=call.choice("state", tuple(s.value for s in DeliveryState)),
        after=call.number(AFTER_ROW, 0),
        limit=wanted,
        explain=call.services.explain,
        language=call.choice("language", LANGUAGES) or LANGUAGES[0],
    )
    return json_answer({"items": items, "next": items[-1]["row"] if len(items) == wanted else None})


async def export(call: Call, broadcast_id: str) -> None:
    pieces = await call.run(
        report.report_csv,
        call.services.store,
        call.session.principal,
        broadcast_id,
        explain=call.services.explain,
        language=call.choice("language", LANGUAGES) or LANGUAGES[0],
    )
    await stream_csv(call, pieces, f"relatorio-{broadcast_id[:12]}.csv")


_REDIRECT = body(
    ("kind",), kind=text(enum=[k.value for k in RedirectKind]), queue=nullable(text(32)), agent=nullable(text(32))
)

#: Of a launch and of a test send.
MESSAGE: Mapping[str, Schema] = {
    "operation": text(32),
    "upload": text(32),
    "template": text(32),
    "redirect": _REDIRECT,
    "free_text": text(enum=[f.value for f in FreeText]),
    "notify_text": text(1024),
    "notify_team": {"type": "boolean"},
    "window_hours": {"type": "integer", "minimum": 1, "maximum": MAX_WINDOW_HOURS},
}
KEY = Query("Idempotency-Key", "8 to 128 characters, new for each launch", required=True)
START_AT = nullable(text(40, format="date-time", description="Not before; null: at once."))

_PERCENT = {"type": "number", "minimum": 0, "maximum": 100, "description": "Per cent of the wave's contacts."}
_WAVE = body(
    ("size", "wait_minutes", "max_opt_outs", "max_failures"),
    size={"type": "integer", "minimum": 1, "maximum": MAX_WAVE},
    wait_minutes={"type": "integer", "minimum": 0, "maximum": MAX_WAIT_MINUTES},
    max_opt_outs=_PERCENT,
    max_failures=_PERCENT,
)
_HOURS = body(
    ("from", "to"),
    **{
        "from": text(5, description="HH:MM by the recipient's clock."),
        "to": text(5, description="HH:MM, exclusive; 24:00 is midnight."),
        "days": listed({"type": "integer", "minimum": 1, "maximum": 7}, 7, least=0),
        "holidays": {"type": "boolean", "description": "Whether to send on national holidays."},
    },
)
_TESTS = Query("tests", "Whether test sends are listed too", values=("true", "false"))

ENDPOINTS = (
    Endpoint(
        "POST",
        "/api/v1/uploads",
        upload,
        BROADCAST,
        "Upload a contact list (the raw file as body) and have every line checked.",
        body="file",
        query=(
            Query("operation", "Where it will be sent", "id", required=True),
            Query("template", "With which template", "id", required=True),
            Query("filename", "The file's name, for people"),
        ),
        answers={
            201: ("Read and checked.", "Upload"),
            409: ("Two uploads of yours are still running.", None),
            413: ("Larger than the limit.", None),
            415: ("Compressed.", None),
            422: ("Not readable as a table; `line` says where.", None),
            **_MISSING,
        },
    ),
    Endpoint(
        "GET",
        "/api/v1/uploads/<upload_id>",
        show_upload,
        BROADCAST,
        "An upload with its counts: rows = accepted + rejected + the sum of skipped.",
        answers={200: ("The upload.", "Upload"), **_MISSING},
    ),
    Endpoint(
        "GET",
        "/api/v1/uploads/<upload_id>/rows",
        upload_rows,
        BROADCAST,
        "Its rows in the file's order.",
        query=(
            Query("state", "Only rows in this state", values=ROW_STATES),
            AFTER_ROW,
            _ROWS,
        ),
        answers={200: ("The rows.", "UploadRows"), **_MISSING},
    ),
    Endpoint(
        "GET",
        "/api/v1/uploads/<upload_id>/rejected.csv",
        rejected,
        BROADCAST,
        "The refused rows with their reasons, to be corrected and sent again.",
        answers={200: ("The file.", "text/csv"), **_MISSING},
    ),
    Endpoint(
        "POST",
        "/api/v1/broadcasts",
        start,
        BROADCAST,
        "Send, now or later. The same Idempotency-Key with the same body never sends twice.",
        body=body(
            ("operation", "upload", "template"),
            **MESSAGE,
            start_at=START_AT,
            hours=nullable(_HOURS),
            first_wave=nullable(_WAVE),
            on_unknown=text(enum=list(launch.ON_UNKNOWN)),
        ),
        headers=(KEY,),
        answers={201: ("Launched.", "Launched"), 409: (NOT_NOW, None), **_MISSING},
    ),
    Endpoint(
        "GET",
        "/api/v1/broadcasts",
        listing,
        READERS,
        "Broadcasts, newest first.",
        query=(
            Query("operation", "Only this operation", "id"),
            Query("after", "`next` of the page before"),
            _PAGE,
            _TESTS,
        ),
        answers={200: ("A page of broadcasts.", "Broadcasts"), **_MISSING},
    ),
    Endpoint(
        "GET",
        "/api/v1/broadcasts/<broadcast_id>",
        show,
        READERS,
        "The report: counts that add up to the file's lines.",
        query=(_LANGUAGE,),
        answers={200: ("The report.", "Report"), **_MISSING},
    ),
    Endpoint(
        "GET",
        "/api/v1/broadcasts/<broadcast_id>/rows",
        rows,
        READERS,
        "The report line by line.",
        query=(
            Query("state", "Only lines in this state", values=tuple(s.value for s in DeliveryState)),
            AFTER_ROW,
            _ROWS,
            _LANGUAGE,
        ),
        answers={200: ("The lines.", "DeliveryRows"), **_MISSING},
    ),
    Endpoint(
        "GET",
        "/api/v1/broadcasts/<broadcast_id>/report.csv",
        export,
        READERS,
        "The report line by line as a file that is safe to open in a spreadsheet.",
        query=(_LANGUAGE,),
        answers={200: ("The file.", "text/csv"), **_MISSING},
    ),
)
