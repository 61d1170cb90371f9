"""API: operations, templates, notifications."""

from __future__ import annotations

from typing import Any

from sanic.response import HTTPResponse

from plugin.domain.access import ATTEND, BROADCAST, REPORT, SUPERVISE
from plugin.domain.template import Template
from plugin.usecases import notify, setup
from plugin.web.answers import json_answer
from plugin.web.endpoint import LOGGED_IN, Call, Endpoint, Query, limit

_LIMIT = limit(500)
OPERATION = Query("operation", "Only this operation", "id")


async def operations(call: Call) -> HTTPResponse:
    found = await call.run(setup.list_operations, call.services.store, call.session.principal)
    return json_answer({"items": found})


async def templates(call: Call) -> HTTPResponse:
    found = await call.run(
        setup.list_templates, call.services.store, call.session.principal, operation_id=call.text("operation")
    )
    label = call.services.settings.talk_button
    return json_answer({"items": [describe_template(t, label) for t in found]})


async def sync(call: Call) -> HTTPResponse:
    counts = {}
    for name, connector in call.services.connectors.items():
        if connector.capabilities.templates:
            counts[name] = await setup.sync_templates(call.services.store, connector, by=call.session.principal)
    return json_answer({"templates": counts})


async def notifications(call: Call) -> HTTPResponse:
    found = await call.run(
        notify.list_notifications,
        call.services.store,
        call.session.principal,
        operation_id=call.text("operation"),
        limit=call.number(_LIMIT, 100),
    )
    return json_answer({"items": found})


def describe_template(template: Template, talk_label: str) -> dict[str, Any]:
    """A template for screens. `talk_button` is the text of the button that asks for a conversation, or None."""
    talk = template.talk_button(talk_label)
    return {
        "id": template.id,
        "name": template.name,
        "language": template.language,
        "category": template.category,
        "status": template.status,
        "header": template.header,
        "body": template.body,
        "footer": template.footer,
        "buttons": [{"index": b.index, "kind": b.kind.value, "text": b.text} for b in template.buttons],
        "parameters": list(template.parameters),
        "talk_button": talk.text if talk else None,
    }


ENDPOINTS = (
    Endpoint(
        "GET",
        "/api/v1/operations",
        operations,
        LOGGED_IN,
        "The operations in which you may do something, with their queues and agents.",
        answers={200: ("By name.", "Operations")},
    ),
    Endpoint(
        "GET",
        "/api/v1/templates",
        templates,
        BROADCAST,
        "Message templates, approved ones first.",
        query=(Query("operation", "Where they would be sent", "id"),),
        answers={200: ("The templates.", "Templates"), 404: ("No such operation.", None)},
    ),
    Endpoint(
        "POST",
        "/api/v1/templates/sync",
        sync,
        BROADCAST,
        "Fetch the templates from the provider again.",
        answers={200: ("Number of templates by channel.", "Synced"), 502: ("The provider refused.", None)},
    ),
    Endpoint(
        "GET",
        "/api/v1/notifications",
        notifications,
        (BROADCAST, ATTEND, SUPERVISE, REPORT),
        "Notifications that replies raised, newest first.",
        query=(OPERATION, _LIMIT),
        answers={200: ("The notifications.", "Notifications"), 404: ("No such operation.", None)},
    ),
)
