"""The sandbox as a process, and a receiver for its webhooks."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web

from channels.whatsapp.connector import WhatsAppConnector, from_credentials
from plugin.connector import InboundEvent, Outbound, StatusUpdate, TemplateMessage

_ROOT = Path(__file__).parents[2]

CREDENTIALS: Mapping[str, str] = {
    "phone_number_id": "100000000000001",
    "waba_id": "200000000000001",
    "access_token": "EAAtest-token-123",
    "app_secret": "app-secret-456",
    "verify_token": "verify-789",
}
SENDER = CREDENTIALS["phone_number_id"]
BILL = TemplateMessage(
    "cobranca_vamos_conversar", "pt_BR", {"1": "Ana", "2": "R$ 129,90", "3": "05/12"}, payloads={0: "v1.token"}
)
OFFER = TemplateMessage(
    "oferta_upgrade",
    "pt_BR",
    {"nome": "Ana", "plano": "Fibra 600", "preco": "R$ 119,90"},
    named=True,
    payloads={0: "p0", 1: "p1", 2: "p2"},
)
NOTICE = TemplateMessage("aviso_manutencao", "pt_BR", {"1": "Ana", "2": "Savassi", "3": "02/12, das 2h às 5h"})


def bill(number: str, correlation: str | None = None, template: TemplateMessage = BILL) -> Outbound:
    return Outbound(SENDER, number, template, correlation=correlation)


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait for `condition`, and say so when it never comes."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        await asyncio.sleep(0.01)


@dataclass
class Receiver:
    """A webhook endpoint. `answers` are the next HTTP statuses; when they are used up, 200."""

    url: str = ""
    bodies: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def events(self, connector: WhatsAppConnector) -> list[InboundEvent]:
        """Everything that was acknowledged, verified and parsed."""
        found: list[InboundEvent] = []
        for headers, body in self.bodies:
            connector.verify(headers, body)
            found += connector.parse(body)
        return found

    def statuses(self, connector: WhatsAppConnector, correlation: str) -> list[str]:
        events = self.events(connector)
        return [one.status for one in events if isinstance(one, StatusUpdate) and one.correlation == correlation]


@asynccontextmanager
async def listening() -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    kept = Receiver()

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        status = kept.answers.pop(0) if kept.answers else 200
        if status == 200:
            kept.bodies.append((dict(request.headers), body))
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    kept.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield kept
    finally:
        await runner.cleanup()


class Sandbox:
    """A sandbox process."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.url = ""
        self.http = httpx.Client(trust_env=False, verify=False)  # noqa: S501 - plain HTTP to this machine
        self._process: subprocess.Popen[str] | None = None

    def start(self, webhook: str | None = None, port: int = 0) -> None:
        command = [sys.executable, "-m", "channels.whatsapp.sandbox", "--port", str(port), "--state", str(self.state)]
        for key in ("phone_number_id", "waba_id", "access_token", "app_secret"):
            command += [f"--{key.replace('_', '-')}", CREDENTIALS[key]]
        command += ["--webhook", webhook] if webhook else []
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            command, cwd=_ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert "http://" in line, f"the sandbox did not start: {line!r}"
        self.url = line.strip().rsplit(" ", 1)[1].rstrip("/")

    def kill(self) -> None:
        """As a crash does."""
        assert self._process is not None
        self._process.kill()
        self._close()

    def stop(self) -> int:
        """As Ctrl-C does; the exit code, 0 when it never ran."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.terminate()
        return self._close()

    def _close(self) -> int:
        assert self._process is not None
        code = self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    def connector(self) -> WhatsAppConnector:
        return from_credentials({**CREDENTIALS, "base_url": self.url})

    def configure(self, **config: object) -> None:
        self.http.put(f"{self.url}/sandbox/config", json=config).raise_for_status()

    def idle(self) -> bool:
        return bool(self.http.get(f"{self.url}/sandbox/idle").json() == {"webhooks": 0, "answers": 0})

    def health(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get(f"{self.url}/sandbox/health").json()
        return answer

    def chat(self, number: str) -> list[dict[str, Any]]:
        """The messages on a phone."""
        messages: list[dict[str, Any]] = self.http.get(f"{self.url}/sandbox/phones/{number}").json()["messages"]
        return messages

    def ledger(self, after: int = 0, limit: int = 1000) -> dict[str, Any]:
        """A page of the ledger."""
        params = {"after": after, "limit": limit}
        answer: dict[str, Any] = self.http.get(f"{self.url}/sandbox/ledger", params=params).json()
        return answer

    def prefer(self, number: str, value: str) -> None:
        """The person stops or resumes our marketing messages."""
        self.http.post(f"{self.url}/sandbox/phones/{number}/preference", json={"value": value}).raise_for_status()

    def tap(self, number: str, **what: object) -> httpx.Response:
        return self.http.post(f"{self.url}/sandbox/phones/{number}/tap", json=what)

    def text(self, number: str, text: str) -> httpx.Response:
        return self.http.post(f"{self.url}/sandbox/phones/{number}/text", json={"text": text})
