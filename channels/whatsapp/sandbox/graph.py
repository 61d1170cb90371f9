"""The Graph API paths that the connector uses."""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
import socket
import struct
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import orjson
from aiohttp import web

from channels.whatsapp.sandbox import checks, people
from channels.whatsapp.sandbox.account import Account
from channels.whatsapp.sandbox.chats import Phone
from channels.whatsapp.sandbox.checks import Refused
from channels.whatsapp.sandbox.templates import TEMPLATES

_WINDOW = 24 * 3600
_VERSION = re.compile(r"v\d{1,2}\.0")
_HELD_OPEN = 120.0
_BEGUN = "begun"
#: Seconds until a ``slow`` answer.
_SLOW = 1.0


class Graph:
    """Handlers for one account."""

    def __init__(self, account: Account, access_token: str) -> None:
        self._account = account
        self._token = access_token.encode()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/{version}/{node}/messages", self._guarded(self._send)),
            web.get("/{version}/{node}/message_templates", self._guarded(self._templates)),
            web.get("/{version}/{node}", self._guarded(self._number)),
        ]

    def _guarded(self, handler: Any) -> Any:
        """`handler` behind the checks that every Graph path has, with refusals in Meta's shape."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            request[_BEGUN] = self._account.now()
            if self._account.config.latency_ms:
                # Taken first: whoever hangs up while we think about it has been heard all the same.
                with suppress(ConnectionError):
                    await request.read()
                await asyncio.sleep(self._account.config.latency_ms / 1000)
            try:
                self._check_token(request)
                if not _VERSION.fullmatch(request.match_info["version"]):
                    raise Refused(2500, "Unknown path components: /" + request.match_info["version"])
                answer: web.StreamResponse = await handler(request)
            except Refused as refused:
                return _json(refused.to_json("A" + secrets.token_urlsafe(16)), refused.status)
            except ConnectionError:  # the client hung up in the middle of its request
                return web.Response(status=400)
            return answer

        return guarded

    def _check_token(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "")
        if not given.startswith("Bearer "):
            raise Refused(190, "An access token is required to request this resource.", status=401)
        if not hmac.compare_digest(given[len("Bearer ") :].strip().encode("utf-8", "replace"), self._token):
            raise Refused(190, "Error validating access token: Session has expired", status=401, subcode=463)

    def _check_node(self, request: web.Request, expected: str) -> None:
        node = request.match_info["node"]
        if node != expected:
            message = (
                f"Unsupported {request.method.lower()} request. Object with ID '{node}' does not exist, cannot be"
                " loaded due to missing permissions, or does not support this operation."
            )
            raise Refused(100, message, subcode=33)

    async def _number(self, request: web.Request) -> web.Response:
        self._check_node(request, self._account.phone_number_id)
        return _json(
            {
                "id": self._account.phone_number_id,
                "display_phone_number": f"+{self._account.display_number}",
                "verified_name": self._account.verified_name,
                "quality_rating": "GREEN",
                "code_verification_status": "VERIFIED",
                "throughput": {"level": "STANDARD"},
                "whatsapp_business_manager_messaging_limit": "TIER_100K",
            }
        )

    async def _templates(self, request: web.Request) -> web.Response:
        self._check_node(request, self._account.waba_id)
        query = request.query
        found = [
            one
            for one in TEMPLATES
            if all(one[key] == query[key] for key in ("name", "status", "language", "category") if key in query)
        ]
        try:
            limit, start = int(query.get("limit", "25")), int(query.get("after", "0"))
        except ValueError as error:
            raise Refused(100, "(#100) Param limit or after is not valid") from error
        wanted = {"id", *filter(None, query.get("fields", "").split(","))}
        page = found[start : start + max(1, limit)]
        end = start + len(page)
        paging: dict[str, Any] = {"cursors": {"before": str(start), "after": str(end)}}
        if end < len(found):
            following = urlencode({**query, "after": str(end)})
            paging["next"] = f"http://{request.host}{request.path}?{following}"
        data = [{key: value for key, value in one.items() if len(wanted) == 1 or key in wanted} for one in page]
        return _json({"data": data, **({"paging": paging} if data else {})})

    async def _send(self, request: web.Request) -> web.StreamResponse:
        self._check_node(request, self._account.phone_number_id)
        try:
            body = orjson.loads(await request.read())
        except orjson.JSONDecodeError as error:
            raise Refused(100, "(#100) The body is not valid JSON.") from error
        if not isinstance(body, dict) or body.get("messaging_product") != "whatsapp":
            raise checks.missing("messaging_product")
        if body.get("status") == "read":
            if not self._account.mark_read(str(body.get("message_id", ""))):
                raise checks.invalid("Message not found")
            return _json({"success": True})
        digits, user_id = checks.recipient(body)
        if digits is not None and people.wa_id(digits).endswith("0126"):
            self._account.refuse(self._account.phones.of(digits), body, "131026")
            raise checks.known(131026)
        phone = self._phone(digits, user_id)
        failure = self._account.failure(phone)
        if failure is not None and failure.refuses:
            self._account.refuse(phone, body, failure.kind)
        if failure is not None and failure.kind == "error":
            return web.Response(status=500, text="<html><body>Internal Server Error</body></html>")
        if failure is not None and failure.kind == "throttle":
            raise checks.known(130429)
        if failure is not None and failure.refusal is not None:
            raise checks.known(*failure.refusal)
        if failure is not None and failure.kind == "cut":
            _reset(request)
            return web.Response()  # nobody is there to read it
        provider_id = self._accept(phone, body, failure.later if failure is not None else None, request[_BEGUN])
        if failure is not None and failure.kind == "reset":
            _reset(request)
        elif failure is not None and failure.kind == "slow":
            await asyncio.sleep(_SLOW)
        elif failure is not None and failure.kind == "drop":
            await _hold(request)
        contact = {"input": user_id, "user_id": user_id} if digits is None else _contact(body["to"], phone)
        messages = [{"id": provider_id, "message_status": "accepted"}]
        return _json({"messaging_product": "whatsapp", "contacts": [contact], "messages": messages})

    def _phone(self, digits: str | None, user_id: str | None) -> Phone:
        if digits is not None:
            return self._account.phones.of(digits)
        phone = self._account.phones.of_user(user_id or "")
        if phone is None:
            raise checks.invalid("Recipient user id is not known to this business")
        return phone

    def _accept(self, phone: Phone, body: dict[str, Any], fails: int | None, begun: float) -> str:
        kind = body.get("type", "text")
        category = "SERVICE"
        if len(str(body.get("biz_opaque_callback_data", ""))) > 512:
            raise checks.invalid("biz_opaque_callback_data must have at most 512 characters")
        if kind == "template":
            template, shown = checks.template(body, self._account.templates)
            category = template.category
        elif kind in ("text", "interactive"):
            shown = checks.text(body) if kind == "text" else checks.interactive(body)
            if self._account.now() - phone.last_from_person > _WINDOW:
                details = (
                    "Message failed to send because more than 24 hours have passed since the customer last replied"
                    " to this number."
                )
                raise Refused(131047, "(#131047) Re-engagement message", details, status=429)
        else:
            raise Refused(131051, "(#131051) Unsupported message type", f"type {kind!r} is not played by the sandbox")
        to = str(body.get("to") or body.get("recipient"))
        return self._account.accept(phone, to, body, kind, shown, category, fails, begun)


def _contact(dialled: str, phone: Phone) -> dict[str, str]:
    return {"input": dialled, "wa_id": phone.wa_id}


def _reset(request: web.Request) -> None:
    """Cut the connection as a crashed front end does (RST)."""
    if request.transport is not None:
        sock = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()


async def _hold(request: web.Request) -> None:
    """Never answer, until the client has gone."""
    waited = 0.0
    while waited < _HELD_OPEN and request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(0.25)
        waited += 0.25
    _reset(request)


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
