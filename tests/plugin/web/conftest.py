"""A bare Sanic server with the desk on it, on a free port of this process, over real sockets and a real database."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from sanic import Sanic
from sanic.touchup.schemes.ode import OptionalDispatchEvent

from channels.whatsapp.refusals import explain
from plugin.bootstrap import Services
from plugin.connector import Capabilities
from plugin.domain.refusal import Refusal
from plugin.domain.template import Template
from plugin.settings import Settings
from plugin.store import Store
from plugin.testing.scenario import KEY, TEMPLATES, Scenario
from plugin.usecases.access import create_user, make_login_link
from plugin.web import desk_blueprint

PASSWORD = "four words make one"
# At its start Sanic rewrites its own methods for the signals in use; only so may a second server do it again.
Sanic.test_mode = True
_names = itertools.count(1)

_rewrite, _rewritten = OptionalDispatchEvent.run, {}  # type: ignore[var-annotated]


def _rewrite_once(scheme: OptionalDispatchEvent, method: Callable[..., Any], names: dict[str, Any]) -> Any:
    """That rewriting, once for each method and set of signals: it takes longer than most tests."""
    key = method, frozenset(scheme._registered_events), scheme.app.state.verbosity
    if key not in _rewritten:
        _rewritten[key] = _rewrite(scheme, method, names)
    return _rewritten[key]


OptionalDispatchEvent.run = _rewrite_once


class Catalogue:
    """A channel that only knows templates and codes: what the desk asks of a connector."""

    name = "whatsapp"
    capabilities = Capabilities()
    senders = ("100000000000001",)

    def refusal(self, code: str) -> Refusal:
        return explain(code)

    async def fetch_templates(self) -> list[Template]:
        return [Template.from_meta(raw) for raw in TEMPLATES]


@dataclass
class Site:
    """A running desk."""

    url: str
    port: int
    services: Services
    scenario: Scenario
    app: Sanic
    clients: list[httpx.AsyncClient] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return self.services.store

    def client(self) -> httpx.AsyncClient:
        """A browser without a session. It sends no `Sec-Fetch-Site`, as API programs don't."""
        made = httpx.AsyncClient(base_url=self.url, timeout=20, trust_env=False, verify=False)
        self.clients.append(made)
        return made

    async def logged_in(self, login: str) -> httpx.AsyncClient:
        """A client with a session and its CSRF token."""
        client = self.client()
        token = await asyncio.to_thread(make_login_link, self.store, login)
        answer = await client.post("/desk/api/v1/session", json={"link": token})
        assert answer.status_code == 201, answer.text
        client.headers["X-CSRF-Token"] = answer.json()["csrf"]
        return client

    async def person(self, login: str, *grants: tuple[str, str]) -> httpx.AsyncClient:
        """A new person with these grants, logged in."""
        await asyncio.to_thread(create_user, self.store, login, login.title(), grants)
        return await self.logged_in(login)


async def eventually(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 15) -> None:
    """Wait until `condition` holds, or fail."""
    until = time.monotonic() + seconds
    while True:
        found = condition()
        if await found if inspect.isawaitable(found) else found:
            return
        assert time.monotonic() < until, "it never came true"
        await asyncio.sleep(0.01)


@pytest.fixture
async def site(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    store = Store(sqlite_url)
    settings = Settings(database=sqlite_url, uploads=str(tmp_path / "uploads"), max_upload_mb=1)
    services = Services(settings, store, {"whatsapp": Catalogue()}, KEY)  # type: ignore[dict-item]
    app = Sanic(f"desk_test_{next(_names)}", configure_logging=False)
    app.blueprint(desk_blueprint(lambda: services))
    found = await serve(app, services)
    yield found
    await stop(found)
    store.close()


@pytest.fixture
async def browser() -> AsyncIterator[Any]:
    """Chromium; the test is skipped where there is none."""
    from .browsing import opened

    async with opened() as found:
        yield found


async def serve(app: Sanic, services: Services, scenario: Scenario | None = None) -> Site:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = await app.create_server(sock=listener, return_asyncio_server=True, access_log=False)
    assert server is not None
    await server.startup()
    await server.before_start()
    await server.after_start()
    app.ctx.server = server
    return Site(f"http://127.0.0.1:{port}", port, services, scenario or Scenario(services.store), app)


async def stop(site: Site) -> None:
    for client in site.clients:
        await client.aclose()
    server = site.app.ctx.server
    await server.before_stop()
    await server.close()
    for connection in list(server.connections):
        connection.abort()
    await server.after_stop()
    Sanic._app_registry.pop(site.app.name, None)
