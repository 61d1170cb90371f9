"""The sandbox's WhatsApp account: takes messages, plays the phones, tells the webhook. Everything it must remember is
in the ledger before it is answered; starting again replays the ledger.
"""

from __future__ import annotations

import asyncio
import base64
import heapq
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from channels.whatsapp.sandbox import answers, people, shapes
from channels.whatsapp.sandbox.chats import Message, Phone, Phones
from channels.whatsapp.sandbox.config import Config, Failure
from channels.whatsapp.sandbox.ledger import Ledger
from channels.whatsapp.sandbox.outbox import Item, Outbox
from channels.whatsapp.sandbox.templates import TEMPLATES
from plugin.domain.template import Template

logger = logging.getLogger(__name__)

Entry = dict[str, Any]


class Account:
    """One business number with its phones.

    Args:
        directory: holds the ledger. Raises `channels.whatsapp.sandbox.ledger.LedgerInUse` when another has it.
        config: what the command line says; it replaces the webhook that an earlier run was given, the rest stays.
    """

    display_number = shapes.DISPLAY_NUMBER
    verified_name = "Suporte Fibra"

    def __init__(
        self,
        directory: Path,
        *,
        phone_number_id: str,
        waba_id: str,
        app_secret: str,
        webhook: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.phone_number_id = phone_number_id
        self.waba_id = waba_id
        self._clock = clock
        self.templates: dict[tuple[str, str], Template] = {
            (one["name"], one["language"]): Template.from_meta(one) for one in TEMPLATES
        }
        self.phones = Phones()
        self.config = Config()
        self.accepted = 0
        self._hits: dict[Failure, int] = {}
        self._watchers: set[Callable[[str], None]] = set()
        self._outbox = Outbox(
            url=lambda: self.config.webhook,
            waba_id=waba_id,
            app_secret=app_secret,
            metadata={"display_phone_number": self.display_number, "phone_number_id": phone_number_id},
            now=clock,
            on_left=self._webhooks_left,
            on_settled=self._webhooks_settled,
        )
        self._answers: dict[str, tuple[Phone, answers.Answer]] = {}
        self._answers_due: list[tuple[float, str]] = []
        self._answer_due = asyncio.Event()
        self._autopilot: asyncio.Task[None] | None = None
        self.ledger = Ledger(directory)
        self._load()
        if webhook != self.config.webhook:
            self.configure({"webhook": webhook})

    # ------------------------------------------------------------------ life
    def _load(self) -> None:
        """Replay the ledger; queue again what was not acknowledged and not answered."""
        waiting: dict[str, Item] = {}
        self._pending: dict[str, Item] | None = waiting
        for entry in self.ledger.replay():
            self._apply(entry)
        self._pending = None
        for item in waiting.values():
            self._outbox.add(item)

    def start(self) -> None:
        """Begin to send webhooks and answers, on the running loop."""
        self._outbox.start()
        self._autopilot = asyncio.create_task(self._answer())

    async def stop(self) -> None:
        await self._outbox.stop()
        if self._autopilot is not None:
            self._autopilot.cancel()
            await asyncio.gather(self._autopilot, return_exceptions=True)
        self.ledger.close()

    def now(self) -> float:
        """Seconds since 1970 on the sandbox's clock."""
        return self._clock() + self.config.clock_offset_s

    @property
    def pending(self) -> dict[str, int]:
        """What is still going to happen by itself."""
        return {"webhooks": self._outbox.pending, "answers": len(self._answers)}

    @property
    def counters(self) -> dict[str, int]:
        """For the health page."""
        return {
            "phones": len(self.phones),
            "accepted": self.accepted,
            "webhook_posts": self._outbox.posts,
            "webhooks_refused": self._outbox.refused,
            "webhooks_dropped": self._outbox.dropped,
        }

    def watch(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call `callback(wa_id)` whenever a chat changes, until the returned function is called."""
        self._watchers.add(callback)
        return lambda: self._watchers.discard(callback)

    def _changed(self, account: str) -> None:
        for callback in self._watchers:
            callback(account)

    # ------------------------------------------------------------------ what is written and replayed
    def _record(self, entry: Entry) -> None:
        self._apply(self.ledger.write({"at": round(self.now(), 3), **entry}))

    def _apply(self, entry: Entry) -> None:
        getattr(self, f"_apply_{entry['kind']}")(entry)

    def configure(self, raw: Any) -> None:
        """Change the configuration. Raises `ConfigError`."""
        self.config.changed(raw)
        self._record({"kind": "config", "config": raw})

    def _apply_config(self, entry: Entry) -> None:
        self.config = self.config.changed(entry["config"])
        if "failures" in entry["config"]:
            self._hits.clear()

    def accept(
        self, phone: Phone, to: str, request: Entry, kind: str, shown: Entry, category: str, fails: int | None,
        begun: float,
    ) -> str:  # fmt: skip
        """Take a message from the business; returns its id.

        `fails`: the code it fails with afterwards. `begun`: when the request's first bytes came; its last may have come
        much later, from a process that was frozen in between.
        """
        provider_id = self._new_id(phone)
        self._record(
            {
                **({} if fails is None else {"fails": fails}),
                "kind": "message",
                "begun": round(begun, 3),
                "id": provider_id,
                "wa_id": phone.wa_id,
                "to": to,
                "type": kind,
                "category": category,
                "shown": shown,
                "request": request,
            }
        )
        return provider_id

    def _apply_message(self, entry: Entry) -> None:
        phone = self.phones.of(entry["wa_id"])
        shown = entry["shown"]
        message = Message(entry["id"], entry["at"], "business", entry["type"], **shown)
        self.phones.add(phone, message)
        self.accepted += 1
        error = shapes.delayed_failure(phone, entry)
        for status, due in shapes.course(self.config, phone, entry, failed=bool(error)):
            self._queue(shapes.status(phone, entry, status, due, error))
        if entry["type"] == "template":
            phone.templates += 1
            phone.called = phone.called or _called(entry["request"])
            if not error and self.config.answers is not None:
                self._plan_answer(phone, message)
        self._changed(phone.wa_id)

    def refuse(self, phone: Phone, request: Entry, why: str) -> None:
        """Note a request that came and was not accepted."""
        correlation = request.get("biz_opaque_callback_data")
        self._record({"kind": "refused", "wa_id": phone.wa_id, "why": why, "correlation": correlation})

    def _apply_refused(self, entry: Entry) -> None:
        """Nothing comes of it."""

    def reply(self, phone: Phone, body: Entry, *, shown: str, answers_to: str | None = None) -> str:
        """The person writes or taps; `body` is the type-specific part of Meta's message object."""
        provider_id = self._new_id(phone)
        entry: Entry = {"kind": "reply", "id": provider_id, "wa_id": phone.wa_id, "message": body, "shown": shown}
        self._record({**entry, "answers_to": answers_to} if answers_to else entry)
        return provider_id

    def _apply_reply(self, entry: Entry) -> None:
        phone = self.phones.of(entry["wa_id"])
        body: Entry = entry["message"]
        context = body.get("context", {}).get("id")
        message = Message(entry["id"], entry["at"], "person", body["type"], entry["shown"], context_id=context)
        self.phones.add(phone, message)
        self._answers.pop(entry.get("answers_to", ""), None)
        self._queue(shapes.reply(phone, entry))
        self._changed(phone.wa_id)

    def tap(self, phone: Phone, message: Message, button: Entry, *, answers_to: str | None = None) -> str:
        """The person taps a button: a quick reply of a template, or a reply button."""
        if message.kind == "template":
            body: Entry = {"type": "button", "button": {"payload": button["payload"], "text": button["text"]}}
        else:
            reply = {"id": button["payload"], "title": button["text"]}
            body = {"type": "interactive", "interactive": {"type": "button_reply", "button_reply": reply}}
        if not phone.ends_in("0033"):
            body["context"] = {"from": self.display_number, "id": message.id}
        message.tapped = button["index"]
        self._record({"kind": "tapped", "wa_id": phone.wa_id, "id": message.id, "button": button["index"]})
        return self.reply(phone, body, shown=button["text"], answers_to=answers_to)

    def _apply_tapped(self, entry: Entry) -> None:
        self.phones.of(entry["wa_id"]).messages[entry["id"]].tapped = entry["button"]

    def prefer(self, phone: Phone, value: str) -> None:
        """The person stops or resumes our marketing messages in WhatsApp itself."""
        self._record({"kind": "preference", "wa_id": phone.wa_id, "value": value})

    def _apply_preference(self, entry: Entry) -> None:
        phone = self.phones.of(entry["wa_id"])
        phone.stopped = entry["value"] == "stop"
        self._queue(shapes.preference(phone, entry))
        self._changed(phone.wa_id)

    def _apply_read(self, entry: Entry) -> None:
        found = self.message_of_person(entry["id"])
        if found is not None:
            found[1].reaches("read")
            self._changed(found[0].wa_id)

    def mark_read(self, message_id: str) -> bool:
        """The business has read a person's message; False when there is none of that id."""
        if self.message_of_person(message_id) is None:
            return False
        self._record({"kind": "read", "id": message_id})
        return True

    def message_of_person(self, message_id: str) -> tuple[Phone, Message] | None:
        """A person's message by its id, which names the account."""
        account = _account_in(message_id)
        phone = self.phones.find(account) if account else None
        message = phone.messages.get(message_id) if phone else None
        return (phone, message) if phone and message and message.author == "person" else None

    # ------------------------------------------------------------------ webhooks
    def _queue(self, item: Item) -> None:
        # Waiting goes by the real clock: moving the sandbox's clock back must not hold anything up.
        item = replace(item, due=item.due - self.config.clock_offset_s)
        if self._pending is not None:
            self._pending[item.key] = item
        else:
            self._outbox.add(item)

    def _webhooks_left(self, items: Sequence[Item]) -> None:
        self._tick(items, message_reaches="sent")

    def _webhooks_settled(self, items: Sequence[Item], acked: bool) -> None:
        self._record({"kind": "acked" if acked else "dropped", "items": [item.key for item in items]})
        if acked:
            self._tick(items, message_reaches="delivered")

    def _tick(self, items: Sequence[Item], message_reaches: str) -> None:
        for item in items:
            if item.part == "statuses":
                self._reach(item.account, item.body["id"], item.body["status"])
            elif item.part == "messages":
                self._reach(item.account, item.body["id"], message_reaches)

    def _reach(self, account: str, message_id: str, status: str) -> None:
        self.phones.of(account).messages[message_id].reaches(status)
        self._changed(account)

    def _apply_acked(self, entry: Entry) -> None:
        if self._pending is None:
            return
        done = [self._pending.pop(key) for key in entry["items"] if key in self._pending]
        self._tick(done, message_reaches="delivered")

    _apply_dropped = _apply_acked

    # ------------------------------------------------------------------ answers by themselves
    def _plan_answer(self, phone: Phone, message: Message) -> None:
        assert self.config.answers is not None
        answer = answers.draw(self.config.answers, phone, message, phone.templates)
        if answer is None:
            return
        delays = self.config.delays_ms
        # After the last status at the latest: who answers has read.
        wait = max(delays.answer * (0.5 + people.share("answer", message.id)), delays.read * 1.5)
        self._answers[message.id] = (phone, answer)
        heapq.heappush(self._answers_due, (message.at - self.config.clock_offset_s + wait / 1000, message.id))
        self._answer_due.set()

    async def _answer(self) -> None:
        while True:
            while self._answers_due and self._answers_due[0][0] <= self._clock():
                _due, message_id = heapq.heappop(self._answers_due)
                if message_id in self._answers:
                    self._give(message_id, *self._answers[message_id])
            self._answer_due.clear()
            wait = max(0.0, self._answers_due[0][0] - self._clock()) if self._answers_due else None
            try:
                await asyncio.wait_for(self._answer_due.wait(), wait)
            except asyncio.TimeoutError:
                continue

    def _give(self, message_id: str, phone: Phone, answer: answers.Answer) -> None:
        message = phone.messages[message_id]
        if answer.button is None:
            self.say(phone, answer.text, answers_to=message_id)
            return
        button = next(one for one in message.buttons if one["index"] == answer.button)
        self.tap(phone, message, button, answers_to=message_id)

    def say(self, phone: Phone, text: str, *, context: str | None = None, answers_to: str | None = None) -> str:
        """The person types `text`."""
        body: Entry = {"type": "text", "text": {"body": text}}
        if context:
            body["context"] = {"from": self.display_number, "id": context}
        return self.reply(phone, body, shown=text, answers_to=answers_to)

    # ------------------------------------------------------------------ failures and ids
    def failure(self, phone: Phone) -> Failure | None:
        """The rule that decides this attempt, if any."""
        phone.attempts += 1
        for rule in self.config.failures:
            if rule.numbers is not None and phone.wa_id not in rule.numbers:
                continue
            if rule.times is not None and self._hits.get(rule, 0) >= rule.times:
                continue
            if people.share("failure", rule.seed, phone.wa_id, phone.attempts) < rule.rate:
                self._hits[rule] = self._hits.get(rule, 0) + 1
                return rule
        return None

    def _new_id(self, phone: Phone) -> str:
        """A WAMID: opaque to us as to everyone, but like Meta's it holds the account."""
        inner = (
            b"\x1c\x18" + bytes([len(phone.wa_id)]) + phone.wa_id.encode() + b"\x15\x02\x00" + secrets.token_bytes(12)
        )
        return "wamid." + base64.b64encode(inner).decode()


def _account_in(message_id: str) -> str | None:
    try:
        inner = base64.b64decode(message_id.removeprefix("wamid."), validate=True)
        return inner[3 : 3 + inner[2]].decode("ascii")
    except (ValueError, IndexError):
        return None


def _called(request: Entry) -> str:
    """The template's first value, when it is a name."""
    components = request["template"].get("components") or []
    values = [one["text"] for part in components if part.get("type") == "body" for one in part["parameters"]]
    return values[0] if values and people.looks_like_name(values[0]) else ""
