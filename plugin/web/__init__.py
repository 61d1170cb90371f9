"""The desk: pages and API, mounted under /desk on Rasa's own server."""

from __future__ import annotations

from collections.abc import Callable

from sanic import Blueprint
from sanic.response import HTTPResponse

import plugin
from plugin.bootstrap import Services
from plugin.web import (
    api_broadcasts,
    api_cases,
    api_catalogue,
    api_control,
    api_reconcile,
    api_session,
    api_suppressions,
    openapi,
    pages,
)
from plugin.web.answers import json_answer
from plugin.web.cookies import cookie_name
from plugin.web.desk import PREFIX, Desk
from plugin.web.endpoint import PUBLIC, Call, Endpoint

__all__ = ["PREFIX", "desk_blueprint", "endpoints"]


def endpoints() -> tuple[Endpoint, ...]:
    """The whole route table."""
    return (
        *api_session.ENDPOINTS,
        *api_catalogue.ENDPOINTS,
        *api_broadcasts.ENDPOINTS,
        *api_control.ENDPOINTS,
        *api_reconcile.ENDPOINTS,
        *api_suppressions.ENDPOINTS,
        *api_cases.ENDPOINTS,
        Endpoint(
            "GET",
            "/api/v1/openapi.json",
            _document,
            PUBLIC,
            "This document.",
            answers={200: ("OpenAPI 3.1.", "OpenAPI")},
        ),
        *pages.ENDPOINTS,
    )


def desk_blueprint(services: Callable[[], Services]) -> Blueprint:
    """The desk as one flat blueprint (Sanic 21.12 drops inner prefixes of groups) for the prefix /desk.

    Args:
        services: called with each request; opening the database is left to it.

    Raises:
        ConfigurationError: when mounted, if a route has no declared permission.
    """
    return Desk(services, endpoints())


async def _document(call: Call) -> HTTPResponse:
    cookie = cookie_name(call.services.settings.public_url)
    return json_answer(openapi.document(endpoints(), PREFIX, plugin.__version__, cookie))
