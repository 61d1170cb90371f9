"""Steering the sandbox, and the page with the phones. For this machine only."""

from __future__ import annotations

import asyncio
import ipaddress
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from channels.whatsapp.sandbox import people
from channels.whatsapp.sandbox.account import Account
from channels.whatsapp.sandbox.chats import Message, Phone, Phones
from channels.whatsapp.sandbox.config import ConfigError

_STATIC = Path(__file__).with_name("static")
_FILES = {"phone.css": "text/css", "phone.js": "text/javascript", "icon.svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)
#: Changes are gathered this long before they are told to a page.
_GATHER = 0.15
_KEEP_ALIVE = 15.0
_NO_NUMBER = "the number must be international, like +5531999990001"


class Control:
    """Handlers for one account."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def routes(self) -> list[web.RouteDef]:
        phone = "/sandbox/phones/{number}"
        return [
            web.get("/", self._page),
            web.get("/static/{file}", self._static),
            web.get("/sandbox/health", self._health),
            web.get("/sandbox/idle", self._idle),
            web.put("/sandbox/config", self._config),
            web.get("/sandbox/ledger", self._ledger),
            web.get("/sandbox/events", self._events),
            web.get("/sandbox/phones", self._phones),
            web.get(phone, self._phone),
            web.post(f"{phone}/tap", self._tap),
            web.post(f"{phone}/text", self._text),
            web.post(f"{phone}/open", self._open),
            web.post(f"{phone}/preference", self._preference),
        ]

    # ------------------------------------------------------------------ the machine
    async def _health(self, _request: web.Request) -> web.Response:
        return _json({"status": "ok", **self._account.counters, "pending": self._account.pending})

    async def _idle(self, _request: web.Request) -> web.Response:
        return _json(self._account.pending)

    async def _config(self, request: web.Request) -> web.Response:
        try:
            self._account.configure(await _body(request))
        except ConfigError as error:
            raise _bad(str(error)) from error
        return _json({"status": "ok"})

    async def _ledger(self, request: web.Request) -> web.Response:
        try:
            after, limit = int(request.query.get("after", "0")), int(request.query.get("limit", "1000"))
        except ValueError as error:
            raise _bad("after and limit must be whole numbers") from error
        items = self._account.ledger.read(max(0, after), min(max(1, limit), 10_000))
        return _json({"items": items, "next": items[-1]["n"] if items else after})

    # ------------------------------------------------------------------ the phones
    async def _phones(self, request: web.Request) -> web.Response:
        limit = min(int(request.query.get("limit", "100")), 1000) if request.query.get("limit", "1").isdigit() else 100
        items: list[dict[str, Any]] = []
        for phone in self._account.phones.latest(request.query.get("q", "")):
            if len(items) == limit:
                break
            items.append(phone.summary())
        return _json({"total": len(self._account.phones), "items": items})

    async def _phone(self, request: web.Request) -> web.Response:
        digits = _digits(request)
        if digits is None:
            raise _bad(_NO_NUMBER)
        # Every number is somebody's, also before the first message.
        phone = self._account.phones.find(digits) or Phones().of(digits)
        messages = [message.to_json() for message in phone.messages.values()]
        return _json({**phone.summary(), "messages": messages, "business": self._account.verified_name})

    async def _tap(self, request: web.Request) -> web.Response:
        phone, body = self._known(request), await _body(request)
        message = _with_buttons(phone, body.get("message"))
        wanted = body.get("button", 0)
        button = next((one for one in message.buttons if wanted in (one["index"], one["text"], one["payload"])), None)
        if button is None:
            raise _bad(f"the message has no button {wanted!r}")
        return _json({"message": self._account.tap(phone, message, button)}, 201)

    async def _text(self, request: web.Request) -> web.Response:
        body = await _body(request)
        text = body.get("text")
        if not isinstance(text, str) or not text.strip() or len(text) > 4096:
            raise _bad("text must have 1 to 4096 characters")
        digits = _digits(request)
        if digits is None:
            raise _bad(_NO_NUMBER)
        phone = self._account.phones.of(digits)
        context = body.get("context")
        return _json({"message": self._account.say(phone, text, context=str(context) if context else None)}, 201)

    async def _open(self, request: web.Request) -> web.Response:
        self._known(request).unread = 0
        return _json({"status": "ok"})

    async def _preference(self, request: web.Request) -> web.Response:
        phone, value = self._known(request), (await _body(request)).get("value")
        if value not in ("stop", "resume"):
            raise _bad("value must be stop or resume")
        self._account.prefer(phone, value)
        return _json({"status": "ok"}, 201)

    def _known(self, request: web.Request) -> Phone:
        digits = _digits(request)
        phone = self._account.phones.find(digits) if digits else None
        if phone is None:
            raise _problem(web.HTTPNotFound, "no phone of that number has had a message yet")
        return phone

    # ------------------------------------------------------------------ the page
    async def _page(self, _request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
        page = (_STATIC / "phone.html").read_text("utf-8")
        return web.Response(text=page, content_type="text/html", headers=headers)

    async def _static(self, request: web.Request) -> web.Response:
        kind = _FILES.get(request.match_info["file"])
        if kind is None:
            raise web.HTTPNotFound
        text = (_STATIC / request.match_info["file"]).read_text("utf-8")
        return web.Response(text=text, content_type=kind, headers={"Cache-Control": "no-cache"})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: the WhatsApp ids of the chats that changed."""
        changed: set[str] = set()
        wake = asyncio.Event()

        def on_change(account: str) -> None:
            changed.add(account)
            wake.set()

        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        answer = web.StreamResponse(headers=headers)
        await answer.prepare(request)
        unwatch = self._account.watch(on_change)
        try:
            while True:
                try:
                    await asyncio.wait_for(wake.wait(), _KEEP_ALIVE)
                except asyncio.TimeoutError:
                    await answer.write(b": \n\n")
                    continue
                await asyncio.sleep(_GATHER)
                told = sorted(changed)
                changed.clear()
                wake.clear()
                await answer.write(b"data: " + orjson.dumps({"phones": told[:500]}) + b"\n\n")
        except ConnectionError:
            return answer
        finally:
            unwatch()


@web.middleware
async def this_machine_only(request: web.Request, handler: Any) -> web.StreamResponse:
    """Refuse other machines, and other sites' pages: a name that points here (DNS rebinding), a cross-site request."""
    if request.path == "/" or request.path.startswith(("/sandbox/", "/static/")):
        _check_origin(request)
    answer: web.StreamResponse = await handler(request)
    return answer


def _check_origin(request: web.Request) -> None:
    host = (request.host or "").rsplit(":", 1)[0].strip("[]")
    origin = request.headers.get("Origin")
    local = _is_loopback(request.remote or "") and (host == "localhost" or _is_loopback(host))
    if not local or (origin is not None and origin != f"http://{request.host}"):
        raise _problem(web.HTTPForbidden, "the sandbox is steered from this machine only")


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def _with_buttons(phone: Phone, message_id: Any) -> Message:
    """The message of that id; without an id the latest one that has buttons."""
    if message_id is None:
        found = next((one for one in reversed(phone.messages.values()) if one.buttons), None)
    else:
        found = phone.messages.get(str(message_id))
    if found is None:
        raise _problem(web.HTTPNotFound, "the chat has no such message with buttons")
    return found


def _digits(request: web.Request) -> str | None:
    number = request.match_info["number"]
    return people.dialled(number if number.startswith("+") else f"+{number}")


async def _body(request: web.Request) -> dict[str, Any]:
    # A form of another site can't send this type without asking first (CORS), and nobody here would say yes.
    if request.content_type != "application/json":
        raise _problem(web.HTTPUnsupportedMediaType, "send JSON with Content-Type: application/json")
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise _bad("the body is not JSON") from error
    if not isinstance(body, dict):
        raise _bad("the body must be an object")
    return body


def _bad(detail: str) -> web.HTTPException:
    return _problem(web.HTTPBadRequest, detail)


def _problem(kind: type[web.HTTPException], detail: str) -> web.HTTPException:
    return kind(body=orjson.dumps({"detail": detail}), content_type="application/problem+json")


def _json(body: Any, status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json", headers=headers)
