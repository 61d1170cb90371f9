"""The blueprint: who is asking, may they, and only then the handler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from sanic import Blueprint, Sanic
from sanic.exceptions import SanicException
from sanic.request import Request
from sanic.response import HTTPResponse

from plugin.bootstrap import Services
from plugin.connector import SendError
from plugin.errors import ConfigurationError, Forbidden, NotFound, Unauthenticated, VamosError
from plugin.usecases import access
from plugin.web import body, guard, problems
from plugin.web.cookies import read_token
from plugin.web.endpoint import ID, LOGGED_IN, PUBLIC, Call, Endpoint
from plugin.web.render import Html, error_page
from plugin.web.schema import check
from plugin.web.shared import SharedCounts

log = logging.getLogger(__name__)

PREFIX = "/desk"
#: Sent with requests that a page makes by itself; they don't keep a session alive.
BACKGROUND_HEADER = "x-vamos-background"
CSRF_HEADER = "x-csrf-token"


class Desk(Blueprint):
    """Pages and API under one prefix. Every route comes from the table of `Endpoint`s given here."""

    def __init__(self, services: Callable[[], Services], endpoints: Sequence[Endpoint]) -> None:
        super().__init__("vamos_desk", url_prefix=PREFIX)
        self.ctx.declared = set()
        self.ctx.executor = ThreadPoolExecutor(8, "vamos-desk")
        # Argon2id takes 19 MiB and a core a time: two at once, whoever asks.
        self.ctx.login_executor = ThreadPoolExecutor(2, "vamos-login")
        self.ctx.intake_executor = ThreadPoolExecutor(2, "vamos-intake")
        self.ctx.counts = SharedCounts()
        self.ctx.services = services
        for endpoint in endpoints:
            self.ctx.declared.add((endpoint.method, endpoint.path))
            route = self.route(
                endpoint.path,
                methods=[endpoint.method],
                name=endpoint.name,
                stream=endpoint.unsafe,
                # Sanic would otherwise read a GET's body, up to 100 MB, before anything of ours.
                ignore_body=not endpoint.unsafe,
                # Given, or Sanic reads the source of every handler to guess one.
                error_format="text",
            )
            route(self._guarded(endpoint))
        self.ctx.endpoints = tuple(endpoints)

    def register(self, app: Sanic, options: dict[str, Any]) -> None:
        """Mount on a server; the guards are added to it.

        Raises:
            ConfigurationError: a route without a declared permission.
        """
        for endpoint in self.ctx.endpoints:
            endpoint.check()
        for route in self._future_routes:
            for method in route.methods or ():
                if (method, route.uri) not in self.ctx.declared:
                    raise ConfigurationError(
                        f"The route {method} {route.uri} was added past the route table.",
                        "Declare it as an Endpoint with its permission.",
                    )
        if options.get("url_prefix") not in (None, PREFIX):
            raise ConfigurationError(
                f"The desk is mounted at {options['url_prefix']!r}.", f"Its pages link to {PREFIX}: mount it there."
            )
        super().register(app, options)
        guard.install(app, PREFIX)

        async def finish(request: Any, response: Any) -> Any:
            if request is None or not guard.under(request.path, PREFIX):
                return None
            return _finished(request, response)

        app.register_middleware(finish, "response")

        async def tidy(*_: Any) -> None:
            folder = Path(self.ctx.services().settings.uploads)
            removed = await asyncio.get_running_loop().run_in_executor(None, body.remove_stale, folder)
            if removed:
                log.warning("removed %d uploads that were left half-way", removed)

        app.register_listener(tidy, "after_server_start")

    def _guarded(self, endpoint: Endpoint) -> Callable[..., Any]:
        ctx = self.ctx

        async def handle(request: Request, **path: str) -> HTTPResponse | None:
            try:
                if not endpoint.unsafe:
                    await body.refuse(request)
                call = Call(request, ctx.services(), ctx.executor, ctx.login_executor, ctx.intake_executor, ctx.counts)
                await _admit(call, endpoint)
                for name, value in path.items():
                    if name.endswith("_id") and not ID.fullmatch(value):
                        raise NotFound("There is no such object.", "Check the address.")
                if isinstance(endpoint.body, str):
                    pass  # the handler reads it
                elif endpoint.body is not None:
                    call.body = await body.read_json(request)
                    check(call.body, endpoint.body)
                elif endpoint.unsafe:
                    await body.read_nothing(request)
                return await endpoint.handler(call, **path)
            except (VamosError, SendError) as error:
                await body.refuse(request)
                return _refusal(request, endpoint, error)
            except (asyncio.CancelledError, SanicException):
                raise
            except Exception:
                # The text of an unexpected error may hold anything: it goes to the log, not to the browser.
                log.exception("%s %s failed", endpoint.method, endpoint.path)
                await body.refuse(request)
                return (
                    error_page(500) if endpoint.page else problems.problem(500, "internal", remedy="Try again later.")
                )

        handle.__name__ = endpoint.name
        return handle


async def _admit(call: Call, endpoint: Endpoint) -> None:
    """Session, permission, origin and CSRF token, before the first byte of the body."""
    request, settings = call.request, call.services.settings
    call.token = read_token(request, settings.public_url)
    if endpoint.unsafe:
        _check_origin(request, settings.public_url)
    if endpoint.access == PUBLIC:
        return
    if call.token is None:
        raise Unauthenticated("Log in first.", "POST /desk/api/v1/session.")
    background = BACKGROUND_HEADER in request.headers
    call.signed_in = await call.run(access.resume_session, call.services.store, call.token, touch=not background)
    if endpoint.access != LOGGED_IN:
        wanted = (endpoint.access,) if isinstance(endpoint.access, str) else endpoint.access or ()
        if not call.session.principal.operations(*wanted):
            raise Forbidden(f"This needs the permission {' or '.join(wanted)}.", "Ask an administrator to grant it.")
    if endpoint.unsafe:
        given = request.headers.getone(CSRF_HEADER, "")
        if not access.same_token(given, call.session.csrf):
            raise Forbidden("The CSRF token is missing or wrong.", "Send X-CSRF-Token as given by GET /session.")


def _check_origin(request: Request, public_url: str) -> None:
    """A browser says where a request comes from; an unsafe one from another site goes no further."""
    site = request.headers.getone("sec-fetch-site", None)
    if site is not None:
        if site in ("same-origin", "none"):
            return
    else:
        origin = request.headers.getone("origin", None)
        if origin is None:
            return  # no browser
        ours = {urlsplit(public_url).netloc.lower(), request.headers.getone("host", "").lower()}
        try:
            theirs = urlsplit(origin).netloc.lower()
        except ValueError:  # "http://[" and the like: no address at all
            theirs = ""
        if theirs in ours - {""}:
            return
    raise Forbidden("This request comes from another site.", "Use the desk's own pages.")


def _refusal(request: Request, endpoint: Endpoint, error: VamosError | SendError) -> HTTPResponse:
    if isinstance(error, SendError):
        log.warning(
            "%s %s: the provider refused: %s", endpoint.method, endpoint.path, error.code or type(error).__name__
        )
        return problems.problem(502, "provider", error.message, "Check the channel's credentials and try again.")
    status = problems.status_of(error)
    if status >= 500:
        log.error("%s %s: %s", endpoint.method, endpoint.path, error.code)
    if not endpoint.page:
        return problems.problem_of(error)
    if status == 401:
        query = f"?{request.query_string}" if request.query_string else ""
        return HTTPResponse(
            status=303, headers={"Location": f"{PREFIX}/login?next={quote(request.path + query, safe='')}"}
        )
    return error_page(status)


def _finished(request: Request, response: HTTPResponse) -> HTTPResponse | None:
    """Security headers on everything; the server's own error texts become problem documents or pages."""
    replaced: HTTPResponse | None = None
    kind = (response.content_type or "").split(";")[0]
    if response.status >= 400 and not isinstance(response, Html) and kind != problems.MEDIA_TYPE:
        in_api = guard.under(request.path, PREFIX + "/api")
        replaced = problems.problem(response.status) if in_api else error_page(response.status)
        for name in ("allow", "retry-after"):
            if name in response.headers:
                replaced.headers[name] = response.headers[name]
    final = replaced or response
    for name, value in guard.SECURITY_HEADERS.items():
        final.headers[name] = value
    final.headers.setdefault("Cache-Control", "no-store")
    return replaced
