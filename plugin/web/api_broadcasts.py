"""API: upload, launch, report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sanic.response import HTTPResponse

from plugin.domain.access import BROADCAST, REPORT
from plugin.domain.broadcast import DEFAULT_WINDOW_HOURS, MAX_WINDOW_HOURS
from plugin.domain.delivery import DeliveryState
from plugin.domain.redirect import FreeText, Redirect, RedirectKind
from plugin.domain.upload import Limits, RowState, Upload
from plugin.errors import Conflict, Invalid
from plugin.usecases import control, intake, launch, report, review
from plugin.usecases.explain import LANGUAGES
from plugin.web.answers import json_answer, plain, stream_csv
from plugin.web.body import receive_file, settled
from plugin.web.endpoint import Call, Endpoint, Query, limit
from plugin.web.schema import body, nullable, text

READERS = (BROADCAST, REPORT)
ROW_STATES = tuple(s.value for s in RowState)
AFTER_ROW = Query("after", "Only lines after this row number", "integer")
_ROWS, _PAGE = limit(500), limit(200)
_LANGUAGE = Query("language", "Of the explanations", values=LANGUAGES)
_MISSING = {404: ("Missing, or in an operation that is not yours.", None)}

#: Uploads in progress by person: each costs disk, a thread and a long transaction.
_MAX_PARALLEL_UPLOADS = 2
_uploading: dict[str, int] = {}


async def upload(call: Call) -> HTTPResponse:
    principal, settings = call.session.principal, call.services.settings
    most = settings.max_upload_mb * 1024 * 1024
    operation_id, template_id = call.needed("operation"), call.needed("template")
    filename = (call.text("filename") or "contatos.csv")[:255]
    principal.require(BROADCAST, operation_id)  # before the first byte; the use case asks again
    if _uploading.get(principal.user_id, 0) >= _MAX_PARALLEL_UPLOADS:
        raise Conflict("Two uploads of yours are still running.", "Wait until one is done.")
    _uploading[principal.user_id] = _uploading.get(principal.user_id, 0) + 1
    try:
        received = await receive_file(call.request, Path(settings.uploads), most, call.run)

        def read() -> Upload:
            try:
                return intake.take_upload(
                    call.services.store,
                    principal,
                    operation_id=operation_id,
                    template_id=template_id,
                    filename=filename,
                    path=received.path,
                    sha256=received.sha256,
                    limits=Limits(bytes=most),
                )
            finally:
                # What is needed of it is in the database now; personal data lies around nowhere else.
                received.path.unlink(missing_ok=True)

        # Whoever hangs up meanwhile has not freed their place: the file is being read all the same.
        taken = await settled(call.run_intake(read))
    finally:
        _uploading[principal.user_id] -= 1
        if not _uploading[principal.user_id]:
            del _uploading[principal.user_id]
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


async def start(call: Call) -> HTTPResponse:
    given, key = call.body, call.request.headers.getone("idempotency-key", "").strip()
    if not 8 <= len(key) <= 128 or not key.isprintable():
        raise Invalid(
            "The Idempotency-Key header is missing or not 8 to 128 characters long.",
            "Send a new random value with each launch, and the same one when you repeat it.",
            field="Idempotency-Key",
        )
    chosen = given.get("redirect") or {}
    request = launch.LaunchRequest(
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
    launched = await call.run(
        launch.launch,
        call.services.store,
        call.session.principal,
        request,
        idempotency_key=key,
        talk_button=call.services.settings.talk_button,
    )
    answer = {"id": launched.broadcast_id, "replayed": launched.replayed}
    return json_answer(answer, 201, {"Location": f"/desk/api/v1/broadcasts/{launched.broadcast_id}"})


async def listing(call: Call) -> HTTPResponse:
    page = await call.run(
        report.list_broadcasts,
        call.services.store,
        call.session.principal,
        operation_id=call.text("operation"),
        after=call.text("after"),
        limit=call.number(_PAGE, 50),
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


async def pause(call: Call, broadcast_id: str) -> HTTPResponse:
    await call.run(control.pause, call.services.store, call.session.principal, broadcast_id)
    return HTTPResponse(status=204)


async def resume(call: Call, broadcast_id: str) -> HTTPResponse:
    await call.run(control.resume, call.services.store, call.session.principal, broadcast_id)
    return HTTPResponse(status=204)


_REDIRECT = body(
    ("kind",), kind=text(enum=[k.value for k in RedirectKind]), queue=nullable(text(32)), agent=nullable(text(32))
)

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
        "Send. The same Idempotency-Key with the same body never sends twice.",
        body=body(
            ("operation", "upload", "template"),
            operation=text(32),
            upload=text(32),
            template=text(32),
            redirect=_REDIRECT,
            free_text=text(enum=[f.value for f in FreeText]),
            notify_text=text(1024),
            notify_team={"type": "boolean"},
            window_hours={"type": "integer", "minimum": 1, "maximum": MAX_WINDOW_HOURS},
        ),
        headers=(Query("Idempotency-Key", "8 to 128 characters, new for each launch", required=True),),
        answers={201: ("Launched.", "Launched"), 409: ("Not possible in the present state.", None), **_MISSING},
    ),
    Endpoint(
        "GET",
        "/api/v1/broadcasts",
        listing,
        READERS,
        "Broadcasts, newest first.",
        query=(Query("operation", "Only this operation", "id"), Query("after", "`next` of the page before"), _PAGE),
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
    Endpoint(
        "POST",
        "/api/v1/broadcasts/<broadcast_id>/pause",
        pause,
        BROADCAST,
        "Send nothing more until it is resumed. What is on its way arrives.",
        answers={204: ("Paused.", None), 409: ("It is not running.", None), **_MISSING},
    ),
    Endpoint(
        "POST",
        "/api/v1/broadcasts/<broadcast_id>/resume",
        resume,
        BROADCAST,
        "Go on with a paused broadcast, whether a person or a provider's refusal paused it.",
        answers={204: ("Running.", None), 409: ("It is not paused.", None), **_MISSING},
    ),
)
