"""The OpenAPI 3.1 document, made from the route table: a route that isn't in it can't exist."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from plugin.web.endpoint import PUBLIC, Endpoint, Query
from plugin.web.problems import MEDIA_TYPE
from plugin.web.schema import Schema


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


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
_FLAG: Schema = {"type": "boolean"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_MAYBE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
_COUNTS: Schema = {"type": "object", "additionalProperties": _COUNT}
_ANY: Schema = {"type": "object"}
_ANY_MAYBE: Schema = {"type": ["object", "null"]}

SCHEMAS: Mapping[str, Schema] = {
    "Problem": _object(
        type=_TEXT, title=_TEXT, status=_COUNT, detail=_TEXT, code=_TEXT, remedy=_TEXT, field=_TEXT, line=_COUNT
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
        filename=_TEXT,
        sha256=_TEXT,
        encoding=_TEXT,
        delimiter=_TEXT,
        columns=_ANY,
        state={"enum": ["reading", "ready", "unreadable"]},
        error=_ANY_MAYBE,
        rows=_COUNT,
        accepted=_COUNT,
        rejected=_COUNT,
        skipped=_COUNTS,
        created_at=_TIME,
    ),
    "Row": _object(row=_COUNT, line=_COUNT, state=_TEXT, reason=_TEXT, address=_MAYBE),
    "Rows": _items("Row", "integer"),
    "Launched": _object(id=_TEXT, replayed=_FLAG),
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
    ),
    "Broadcasts": _items("BroadcastSummary", "string"),
    "Report": _object(
        id=_TEXT,
        operation=_reference("Named"),
        template=_TEXT,
        filename=_TEXT,
        redirect=_ANY,
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
        failures={"type": "array", "items": _ANY},
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
        broadcast=_ANY_MAYBE,
        messages={"type": "array", "items": _ANY},
        events={"type": "array", "items": _ANY},
        last_inbound_at=_MAYBE_TIME,
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


def document(endpoints: Sequence[Endpoint], prefix: str, version: str) -> dict[str, Any]:
    """The document for every API route of the table (pages are not part of it)."""
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
                "cookie": {"type": "apiKey", "in": "cookie", "name": "__Host-vamos"},
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
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"}}
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
