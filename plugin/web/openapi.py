"""The OpenAPI 3.1 document, made from the route table: a route that isn't in it can't exist."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from plugin.domain.consent import SOURCES
from plugin.domain.delivery import DeliveryState
from plugin.domain.upload import RowState
from plugin.web.endpoint import ID, PUBLIC, Endpoint, Query
from plugin.web.problems import MEDIA_TYPE
from plugin.web.schema import Schema


def _object(**properties: Schema) -> Schema:
    """Exactly these, all of them always there."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _items(item: str, paged: str | None = None) -> Schema:
    listed: dict[str, Schema] = {"items": {"type": "array", "items": _reference(item)}}
    if paged:
        listed["next"] = {"type": [paged, "null"], "description": "Goes into `after` of the next call."}
    return _object(**listed)


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT: Schema = {"type": "string"}
_MAYBE: Schema = {"type": ["string", "null"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number", "minimum": 0}
_FLAG: Schema = {"type": "boolean"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_MAYBE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
_WAKE_AT: Schema = {**_MAYBE_TIME, "description": "Nothing can be sent before; `wait_reason` says why."}
_WAIT_REASON: Schema = {"enum": ["", "hours", "daily"]}
_COUNTS: Schema = {"type": "object", "additionalProperties": _COUNT}
_TEXTS: Schema = {"type": "object", "additionalProperties": _TEXT}
_ANY: Schema = {"type": "object"}

SCHEMAS: Mapping[str, Schema] = {
    "Problem": _object(
        **dict.fromkeys(("type", "title", "detail", "code", "remedy", "field"), _TEXT),
        status=_COUNT,
        line=_COUNT,
        existing={**_TEXT, "description": "With `already_launched`: the id of the broadcast that the key stands for."},
    ),
    "Session": _object(
        csrf=_TEXT,
        user=_object(
            id=_TEXT,
            login=_TEXT,
            name=_TEXT,
            grants={"type": "array", "items": _object(operation=_TEXT, permission=_TEXT)},
        ),
    ),
    "Health": _object(status=_TEXT),
    "Named": _object(id=_TEXT, name=_TEXT),
    "Operation": _object(
        id=_TEXT,
        name=_TEXT,
        sender=_TEXT,
        push_queue=_MAYBE,
        queues={"type": "array", "items": _reference("Named")},
        agents={"type": "array", "items": _reference("Named")},
    ),
    "Operations": _items("Operation"),
    "Template": _object(
        id=_TEXT,
        name=_TEXT,
        language=_TEXT,
        category=_TEXT,
        status=_TEXT,
        header=_TEXT,
        body=_TEXT,
        footer=_TEXT,
        buttons={"type": "array", "items": _object(index=_COUNT, kind=_TEXT, text=_TEXT)},
        parameters={"type": "array", "items": _TEXT},
        talk_button=_MAYBE,
    ),
    "Templates": _items("Template"),
    "Synced": _object(templates=_COUNTS),
    "Upload": _object(
        id=_TEXT,
        operation_id=_TEXT,
        template_id=_TEXT,
        user_id=_TEXT,
        filename=_TEXT,
        sha256=_TEXT,
        encoding=_TEXT,
        delimiter=_TEXT,
        columns={**_ANY, "description": "Which column of the file is what: address, variables, redirect, ignored."},
        state={"enum": ["reading", "ready", "unreadable"]},
        error=_or_null(_ANY),
        rows=_COUNT,
        accepted=_COUNT,
        rejected=_COUNT,
        skipped=_COUNTS,
        created_at=_TIME,
    ),
    "UploadRow": _object(
        row=_COUNT,
        line=_COUNT,
        state={"enum": [s.value for s in RowState]},
        reason=_TEXT,
        address=_MAYBE,
        canonical=_MAYBE,
        variables=_TEXTS,
        redirect=_or_null(_object(kind=_TEXT, queue=_MAYBE, agent=_MAYBE)),
        cells=_list(_TEXT),
        errors=_list(_object(column=_TEXT, value=_TEXT, reason=_TEXT, remedy=_TEXT, code=_TEXT)),
    ),
    "UploadRows": _items("UploadRow", "integer"),
    "DeliveryRow": _object(
        row=_COUNT,
        line=_COUNT,
        address=_MAYBE,
        state={"enum": [s.value for s in DeliveryState]},
        reason=_MAYBE,
        error_code=_MAYBE,
        error=_MAYBE,
        explanation=_TEXT,
        remedy=_TEXT,
        attempts=_COUNT,
        not_before=_MAYBE_TIME,
        sent_at=_MAYBE_TIME,
        delivered_at=_MAYBE_TIME,
        read_at=_MAYBE_TIME,
        failed_at=_MAYBE_TIME,
        replied_at=_MAYBE_TIME,
        reply=_MAYBE,
        outcome=_MAYBE,
        proof=_MAYBE,
        redirected_by=_MAYBE,
    ),
    "DeliveryRows": _items("DeliveryRow", "integer"),
    "Launched": _object(id=_TEXT, replayed=_FLAG),
    "TestLaunched": _object(
        id=_TEXT,
        replayed=_FLAG,
        queued={**_COUNT, "description": "How many get it, or have got it."},
        skipped=_list(_object(address=_TEXT, reason={"enum": ["opted_out", "cancelled"]})),
    ),
    "Requeued": _object(
        queued=_COUNT,
        left_out={**_COUNTS, "description": "Rows that are not sent again, by why."},
    ),
    "Reconciled": _object(rows=_COUNT),
    "BroadcastSummary": _object(
        id=_TEXT,
        operation_id=_TEXT,
        operation=_TEXT,
        template=_TEXT,
        filename=_TEXT,
        redirect=_TEXT,
        state=_TEXT,
        rows=_COUNT,
        created_by=_TEXT,
        created_at=_TIME,
        states=_COUNTS,
        start_at=_MAYBE_TIME,
        test=_FLAG,
        wake_at=_WAKE_AT,
        wait_reason=_WAIT_REASON,
    ),
    "Broadcasts": _items("BroadcastSummary", "string"),
    "Report": _object(
        id=_TEXT,
        operation=_reference("Named"),
        template=_TEXT,
        filename=_TEXT,
        redirect=_object(kind=_TEXT, queue=_MAYBE, agent=_MAYBE, free_text=_TEXT),
        state=_TEXT,
        state_reason=_TEXT,
        created_by=_TEXT,
        created_at=_TIME,
        finished_at=_MAYBE_TIME,
        rows=_COUNT,
        accepted=_COUNT,
        rejected=_COUNT,
        skipped=_COUNTS,
        states=_COUNTS,
        replied=_COUNT,
        redirected=_COUNTS,
        unattributed=_COUNT,
        failures=_list(
            _object(
                code=_TEXT,
                message=_MAYBE,
                count=_COUNT,
                explanation=_TEXT,
                remedy=_TEXT,
                retry={**_FLAG, "description": "Whether sending these again makes sense."},
            )
        ),
        start_at={**_MAYBE_TIME, "description": "Scheduled for."},
        wake_at=_WAKE_AT,
        wait_reason=_WAIT_REASON,
        hold={"enum": ["", "restore", "wave"], "description": "Why a pause is more than a pause."},
        hours=_or_null(_ANY),
        first_wave=_or_null(
            _object(
                size=_COUNT,
                wait_minutes=_NUMBER,
                max_opt_outs=_NUMBER,
                max_failures=_NUMBER,
                running={**_FLAG, "description": "Nothing beyond the wave is sent yet."},
                tried={**_or_null(_COUNT), "description": "So many have been tried; null when the wave is over."},
                of={**_or_null(_COUNT), "description": "Of so many that it can reach."},
            )
        ),
        test=_FLAG,
        on_unknown={"enum": ["keep", "resend"]},
        deferred={**_COUNTS, "description": "Who waits, by why."},
        held_until={**_MAYBE_TIME, "description": "The sending number itself waits; `held_reason` says why."},
        held_reason=_TEXT,
    ),
    "Suppression": _object(
        address=_TEXT,
        source={"enum": list(SOURCES)},
        why={**_TEXT, "description": "The source in words."},
        detail={**_TEXT, "description": "What the person wrote, the list's name or the note."},
        at=_TIME,
        by={**_MAYBE, "description": "Who imported or entered it; null on the command line and for all others."},
        broadcast=_or_null(_object(id=_TEXT, template=_TEXT, filename=_TEXT, row=_COUNT, line=_COUNT)),
        operation=_or_null(_reference("Named")),
        undo_warning={**_MAYBE, "description": "What somebody must have read before undoing it."},
    ),
    "Suppressions": _items("Suppression", "string"),
    "Suppressed": _object(added=_FLAG),
    "Imported": _object(
        rows=_COUNT,
        added=_COUNT,
        already={**_COUNT, "description": "Suppressed before, also by an earlier line of the list."},
        rejected=_list(_object(line=_COUNT, value=_TEXT, reason=_TEXT, remedy=_TEXT, code=_TEXT)),
        rejected_count=_COUNT,
    ),
    "Case": _object(
        id=_TEXT,
        operation_id=_TEXT,
        queue_id=_MAYBE,
        queue=_MAYBE,
        agent_id=_MAYBE,
        agent=_MAYBE,
        contact_id=_TEXT,
        contact_name=_TEXT,
        address=_MAYBE,
        state=_TEXT,
        version=_COUNT,
        why=_TEXT,
        last_text=_TEXT,
        opened_at=_TIME,
        waiting_since=_MAYBE_TIME,
        closed_at=_MAYBE_TIME,
        returned=_TEXT,
        outcome=_TEXT,
    ),
    "Cases": _items("Case"),
    "CaseView": _object(
        summary=_reference("Case"),
        broadcast=_or_null(
            _object(
                broadcast=_TEXT,
                template=_TEXT,
                header=_TEXT,
                text=_TEXT,
                footer=_TEXT,
                buttons=_list(_TEXT),
                state=_TEXT,
                at=_MAYBE_TIME,
            )
        ),
        messages=_list(
            _object(
                id=_COUNT,
                author=_TEXT,
                author_name=_MAYBE,
                text=_MAYBE,
                state=_TEXT,
                at=_MAYBE_TIME,
                error=_MAYBE,
                case_id=_MAYBE,
            )
        ),
        events=_list(_object(event=_TEXT, actor=_MAYBE, at=_TIME, actor_name=_MAYBE)),
        last_inbound_at=_MAYBE_TIME,
        buttons=_list(_TEXT),
    ),
    "Notification": _object(
        id=_TEXT,
        operation_id=_TEXT,
        broadcast_id=_TEXT,
        contact_name=_TEXT,
        address=_MAYBE,
        text=_TEXT,
        reply=_TEXT,
        team=_FLAG,
        via=_TEXT,
        state=_TEXT,
        at=_TIME,
    ),
    "Notifications": _items("Notification"),
    "OpenAPI": _ANY,
}


def document(endpoints: Sequence[Endpoint], prefix: str, version: str, cookie: str) -> dict[str, Any]:
    """The document for every API route of the table (pages are not part of it). `cookie` is the session cookie's name,
    which depends on the address that the desk is reached at.
    """
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        if not endpoint.page:
            path = prefix + re.sub(r"<(\w+)>", r"{\1}", endpoint.path)
            paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Vamos", "version": version, "description": "Active outreach for Rasa bots: the desk's API."},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "cookie": {"type": "apiKey", "in": "cookie", "name": cookie},
                "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token"},
            },
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.about,
        "tags": [endpoint.path.removeprefix("/api/v1/").split("/")[0].split(".")[0].lstrip("/")],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": f"^{ID.pattern}$"}}
            for name in re.findall(r"<(\w+)>", endpoint.path)
        ]
        + [_parameter(one, "query") for one in endpoint.query]
        + [_parameter(one, "header") for one in endpoint.headers],
        "responses": {str(s): _response(s, about, kind) for s, (about, kind) in sorted(_answers(endpoint).items())},
        "security": []
        if endpoint.access == PUBLIC
        else [{"cookie": [], "csrf": []} if endpoint.unsafe else {"cookie": []}],
        "x-permission": endpoint.access,
    }
    if endpoint.body == "file":
        octets = {"schema": {"type": "string", "contentMediaType": "text/csv"}}
        described["requestBody"] = {
            "required": True,
            "content": {"text/csv": octets, "application/octet-stream": octets},
        }
    elif endpoint.body is not None:
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": endpoint.body}}}
    return described


def _answers(endpoint: Endpoint) -> dict[int, tuple[str, str | None]]:
    """What the route declares plus what the front door answers by itself."""
    answers: dict[int, tuple[str, str | None]] = {500: ("Our fault; it is in the log.", None)}
    if endpoint.access != PUBLIC:
        answers[401] = ("Not logged in, or the session is over.", None)
        answers[403] = ("Without the permission, from another site, or without the CSRF token.", None)
    elif endpoint.unsafe:
        answers[403] = ("From another site.", None)
    if endpoint.unsafe or endpoint.query or endpoint.headers:
        answers[400] = ("The request is wrong; `field` says where.", None)
    if endpoint.unsafe:
        answers[408] = ("The body took too long.", None)
        answers[413] = ("The body is too large.", None)
        answers[415] = ("The body's media type or coding is not the one expected.", None)
    return {**answers, **endpoint.answers}


def _parameter(query: Query, place: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer" if query.kind == "integer" else "string"}
    if query.kind == "integer":
        schema["minimum"], schema["maximum"] = query.low, query.high
    if query.kind == "id":
        schema["pattern"] = f"^{ID.pattern}$"
    if query.values:
        schema["enum"] = list(query.values)
    return {"name": query.name, "in": place, "required": query.required, "description": query.about, "schema": schema}


def _response(status: int, about: str, kind: str | None) -> dict[str, Any]:
    if kind is None:
        if status < 400:
            return {"description": about}
        return {"description": about, "content": {MEDIA_TYPE: {"schema": _reference("Problem")}}}
    if "/" in kind:
        return {"description": about, "content": {kind: {"schema": {"type": "string"}}}}
    return {"description": about, "content": {"application/json": {"schema": _reference(kind)}}}
