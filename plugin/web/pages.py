"""Pages: the same use cases as the API, rendered on the server. Scripts only send what a form holds."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from sanic.response import HTTPResponse

from plugin.domain.access import ADMIN, ATTEND, BROADCAST, EVERY_OPERATION, REPORT, SUPERVISE, Principal
from plugin.domain.consent import SOURCES
from plugin.domain.delivery import DeliveryState
from plugin.errors import Unauthenticated
from plugin.usecases import access, consent, handoff, notify, report, setup
from plugin.web import situation
from plugin.web.api_broadcasts import AFTER_ROW
from plugin.web.api_cases import RETURNS, STATES
from plugin.web.api_catalogue import describe_template
from plugin.web.endpoint import LOGGED_IN, PUBLIC, Call, Endpoint
from plugin.web.figures import funnel, state_counts, waiting
from plugin.web.render import page, static_files
from plugin.web.shared import pace

_ROWS = 50
READERS = (BROADCAST, REPORT)
PEOPLE = (ATTEND, SUPERVISE)
EVERYBODY = (BROADCAST, ATTEND, SUPERVISE, REPORT)


async def login(call: Call) -> HTTPResponse:
    link, here = call.text("link") or "", ""
    if call.token:
        try:
            session = await call.run(access.resume_session, call.services.store, call.token)
        except Unauthenticated:
            pass  # an old cookie: show the form
        else:
            if not link:
                return _see_other("/desk/")
            here = session.principal.name  # somebody else's link must not swap the account unnoticed
    wanted = call.text("next") or ""
    # Only our own pages: no open redirect by way of the login.
    onward = wanted if wanted.startswith("/desk/") and "//" not in wanted and "\\" not in wanted else "/desk/"
    return page("login.html", link=link, here=here, onward=onward)


async def home(call: Call) -> HTTPResponse:
    return page("home.html", **await _shell(call, "home"))


async def broadcasts(call: Call) -> HTTPResponse:
    operation, tests = call.text("operation"), call.choice("tests", ("true",)) is not None
    found = await call.run(
        report.list_broadcasts,
        call.services.store,
        call.session.principal,
        operation_id=operation,
        after=call.text("after"),
        limit=_ROWS,
        tests=tests,
    )
    shell = await _shell(call, "broadcasts", *READERS)
    moving = any(b.state == "running" for b in found.items)
    return page(
        "broadcasts.html",
        items=[(b, state_counts(b.states)) for b in found.items],
        next=found.next,
        chosen=operation,
        tests=tests,
        pace=max(3 if moving else 20, pace(sum(b.rows for b in found.items))),
        **shell,
    )


async def new_broadcast(call: Call) -> HTTPResponse:
    shell = await _shell(call, "broadcasts", BROADCAST)
    operations = shell["operations"]
    wanted = call.text("operation")
    if wanted is not None:
        call.session.principal.require(BROADCAST, wanted)
    operation = next((o for o in operations if o.id == wanted), operations[0] if operations else None)
    templates: list[dict[str, Any]] = []
    if operation is not None:
        found = await call.run(
            setup.list_templates, call.services.store, call.session.principal, operation_id=operation.id
        )
        talk = call.services.settings.talk_button
        templates = [describe_template(t, talk) for t in found if t.status != "DELETED"]
    return page(
        "broadcast_new.html",
        operation=operation,
        templates=templates,
        max_upload_mb=call.services.settings.max_upload_mb,
        **shell,
    )


async def show_broadcast(call: Call, broadcast_id: str) -> HTTPResponse:
    store, principal = call.services.store, call.session.principal
    state = call.choice("state", tuple(s.value for s in DeliveryState))
    version = await call.run(report.version, store, principal, broadcast_id)
    counted = await call.counts.of(call, broadcast_id, version)
    found = await call.run(
        report.report, store, principal, broadcast_id, counted=counted, explain=call.services.explain
    )
    rows = await call.run(
        report.report_rows,
        store,
        principal,
        broadcast_id,
        state=state,
        after=call.number(AFTER_ROW, 0),
        limit=_ROWS,
        explain=call.services.explain,
    )
    may = situation.actions(found) if principal.can(BROADCAST, found.operation_id) else frozenset()
    return page(
        "report.html",
        report=found,
        funnel=funnel(found),
        notices=situation.notices(found, store.now()),
        options=situation.options(found),
        waiting=waiting(found.states),
        pace=_pace(found),
        states=[s.value for s in DeliveryState],
        state=state,
        rows=rows,
        next=rows[-1]["row"] if len(rows) == _ROWS else None,
        may=may,
        **await _shell(call, "broadcasts"),
    )


async def cases(call: Call) -> HTTPResponse:
    state, operation, queue = call.choice("state", STATES), call.text("operation"), call.text("queue")
    found = await call.run(
        handoff.list_cases,
        call.services.store,
        call.session.principal,
        operation_id=operation,
        queue_id=queue,
        state=state,
        limit=200,
    )
    if state is None:
        found = [c for c in found if c.state != "closed"]
    return page(
        "cases.html",
        cases=found,
        state=state,
        chosen=operation,
        queue=queue,
        case_states=STATES,
        now=call.services.store.now(),
        **await _shell(call, "cases", *PEOPLE),
    )


async def show_case(call: Call, case_id: str) -> HTTPResponse:
    view = await call.run(handoff.view_case, call.services.store, call.session.principal, case_id)
    return page("case.html", view=view, case=view.summary, returns=RETURNS, **await _shell(call, "cases"))


async def notifications(call: Call) -> HTTPResponse:
    operation = call.text("operation")
    found = await call.run(
        notify.list_notifications, call.services.store, call.session.principal, operation_id=operation
    )
    shell = await _shell(call, "notifications", *EVERYBODY)
    return page("notifications.html", items=found, chosen=operation, **shell)


async def suppressions(call: Call) -> HTTPResponse:
    operation, source = call.text("operation"), call.choice("source", tuple(SOURCES))
    q = call.text("q")
    found = await call.run(
        consent.list_suppressions,
        call.services.store,
        call.session.principal,
        operation_id=operation,
        source=source,
        q=q,
        after=call.text("after"),
        limit=_ROWS,
    )
    filters = {name: value for name, value in (("operation", operation), ("source", source), ("q", q)) if value}
    return page(
        "suppressions.html",
        items=found.items,
        next=found.next,
        chosen=operation,
        source=source,
        sources=SOURCES,
        q=q or "",
        filters=urlencode(filters),
        may_undo=call.session.principal.can(ADMIN, EVERY_OPERATION),
        max_upload_mb=call.services.settings.max_upload_mb,
        **await _shell(call, "suppressions", *READERS),
    )


async def static(call: Call, name: str) -> HTTPResponse:
    file = static_files().get(name)
    if file is None:
        return HTTPResponse(status=404)
    etag = f'"{file.version}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if call.request.headers.getone("if-none-match", "") == etag:
        return HTTPResponse(status=304, headers=headers)
    return HTTPResponse(file.content, headers=headers, content_type=file.content_type)


async def _shell(call: Call, section: str, *permissions: str) -> dict[str, Any]:
    """What every page needs: who, which sections, and the operations to filter by (where any of `permissions`)."""
    principal = call.session.principal
    operations = await call.run(setup.list_operations, call.services.store, principal)
    return {
        "me": principal,
        "csrf": call.session.csrf,
        "section": section,
        "sections": _sections(principal),
        "operations": [o for o in operations if not permissions or any(principal.can(p, o.id) for p in permissions)],
        "may_send": bool(principal.operations(BROADCAST)),
    }


def _sections(principal: Principal) -> list[tuple[str, str, str]]:
    """Entries of the menu: key, address, text."""
    known = (
        ("broadcasts", "/desk/broadcasts", "Broadcast", READERS),
        ("cases", "/desk/cases", "Atendimento", PEOPLE),
        ("notifications", "/desk/notifications", "Notificações", EVERYBODY),
        ("suppressions", "/desk/suppressions", "Descadastros", READERS),
    )
    return [(key, href, text) for key, href, text, needed in known if principal.operations(*needed)]


def _pace(found: report.Report) -> int:
    """Seconds after which the report's page looks again."""
    if found.state == "running" and found.wake_at is None:
        return pace(found.rows)
    coming = found.state in ("running", "scheduled") or found.states.get("sent") or found.states.get("unknown")
    return 10 if coming else 30


def _see_other(address: str) -> HTTPResponse:
    return HTTPResponse(status=303, headers={"Location": address})


ENDPOINTS = (
    Endpoint("GET", "/login", login, PUBLIC, "Log in.", page=True),
    Endpoint("GET", "/", home, LOGGED_IN, "Platforms.", page=True),
    Endpoint("GET", "/broadcasts", broadcasts, READERS, "Broadcasts.", page=True),
    Endpoint("GET", "/broadcasts/new", new_broadcast, BROADCAST, "A new broadcast.", page=True),
    Endpoint("GET", "/broadcasts/<broadcast_id>", show_broadcast, READERS, "A report.", page=True),
    Endpoint("GET", "/cases", cases, PEOPLE, "Cases.", page=True),
    Endpoint("GET", "/cases/<case_id>", show_case, PEOPLE, "A case.", page=True),
    Endpoint("GET", "/notifications", notifications, EVERYBODY, "Notifications.", page=True),
    Endpoint("GET", "/suppressions", suppressions, READERS, "Who must not be written to.", page=True),
    Endpoint("GET", "/static/<name>", static, PUBLIC, "Style sheets and scripts.", page=True),
)
