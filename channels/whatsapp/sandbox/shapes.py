"""What the webhook items look like: Meta, Webhooks, ``messages`` (v23.0, with the user ids of April 2026)."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from channels.whatsapp.sandbox import people
from channels.whatsapp.sandbox.chats import Phone
from channels.whatsapp.sandbox.codes import words
from channels.whatsapp.sandbox.config import Config, Disorder
from channels.whatsapp.sandbox.outbox import Item

Entry = dict[str, Any]

DISPLAY_NUMBER = "551140002025"

_ERROR_PAGE = "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/"


def contact(phone: Phone) -> Entry:
    """The person, as ``contacts`` shows it."""
    person: Entry = {"profile": {"name": phone.name}, "user_id": people.user_id(phone.wa_id)}
    return person if phone.hidden else {**person, "wa_id": phone.wa_id}


def course(config: Config, phone: Phone, entry: Entry, *, failed: bool) -> list[tuple[str, float]]:
    """The statuses of an accepted message and when they come, in that order."""
    delays = config.delays_ms
    steps = [("sent", delays.sent), ("delivered", delays.delivered), ("read", delays.read)]
    if failed:
        steps = [("sent", delays.sent), ("failed", delays.delivered)]
    elif phone.ends_in("0088") or people.share("read", phone.wa_id) >= config.read:
        steps.pop()
    times = accumulate((entry["at"] + ms / 1000 * (0.5 + people.share(name, entry["id"])) for name, ms in steps), max)
    return _disordered(config.disorder, phone, [(name, due) for (name, _), due in zip(steps, times, strict=True)])


def _disordered(disorder: Disorder, phone: Phone, planned: list[tuple[str, float]]) -> list[tuple[str, float]]:
    def drawn(what: str) -> float:
        return people.share(what, disorder.seed, phone.wa_id)

    if drawn("shuffled") < disorder.shuffled:
        names = [name for name, _ in planned]
        turned = 1 + int(drawn("turn") * (len(names) - 1))  # by at least one place: never the right order again
        planned = [(names[(i + turned) % len(names)], due) for i, (_, due) in enumerate(planned)]
    if drawn("twice") < disorder.twice:
        planned = planned + [(name, due + drawn(name)) for name, due in planned]
    if drawn("late") < disorder.late:
        planned = [(name, due + disorder.late_ms / 1000) for name, due in planned]
    return sorted(planned, key=lambda one: one[1])


def status(phone: Phone, entry: Entry, name: str, due: float, error: Entry | None) -> Item:
    """One status of the message in `entry`."""
    body: Entry = {"id": entry["id"], "status": name, "timestamp": str(int(due))}
    if not phone.hidden:
        body["recipient_id"] = phone.wa_id
    if correlation := entry["request"].get("biz_opaque_callback_data"):
        body["biz_opaque_callback_data"] = correlation
    key = f"{entry['id']}/{name}"
    if name == "failed":  # Meta leaves the person out of it
        body["errors"] = [error]
        return Item(key, phone.wa_id, due, "messages", "statuses", body)
    body["recipient_user_id"] = people.user_id(phone.wa_id)
    if name in ("sent", "delivered"):
        category = entry["category"].lower()
        body["pricing"] = {"billable": True, "pricing_model": "PMP", "type": "regular", "category": category}
    return Item(key, phone.wa_id, due, "messages", "statuses", body, contact(phone))


def reply(phone: Phone, entry: Entry) -> Item:
    """The person's message in `entry`."""
    who = {} if phone.hidden else {"from": phone.wa_id}
    body = {**who, "from_user_id": people.user_id(phone.wa_id), "id": entry["id"]}
    body |= {"timestamp": str(int(entry["at"])), **entry["message"]}
    return Item(entry["id"], phone.wa_id, entry["at"], "messages", "messages", body, contact(phone))


def preference(phone: Phone, entry: Entry) -> Item:
    """The person's wish about our marketing messages."""
    body = {} if phone.hidden else {"wa_id": phone.wa_id}
    body |= {"user_id": people.user_id(phone.wa_id), "category": "marketing_messages", "value": entry["value"]}
    detail = f"User requested to {entry['value']} marketing messages"
    sent: Entry = {**body, "detail": detail, "timestamp": int(entry["at"])}
    key = f"{phone.wa_id}/preference/{entry['n']}"
    return Item(key, phone.wa_id, entry["at"], "user_preferences", "user_preferences", sent, contact(phone))


def delayed_failure(phone: Phone, entry: Entry) -> Entry | None:
    """The error of a message that is accepted and fails afterwards; None: it arrives."""
    if "fails" in entry:
        title = words(entry["fails"])[1]
        return _error(entry["fails"], title, title)
    if phone.ends_in("0026"):
        return _error(131026, "Message undeliverable", "Message Undeliverable.")
    if entry["category"] != "MARKETING":
        return None
    if phone.ends_in("0049"):
        title = "This message was not delivered to maintain healthy ecosystem engagement."
        return _error(131049, title, title)
    if phone.stopped:
        title = "User has stopped marketing messages"
        return _error(131050, title, f"{title} from your business.")
    return None


def _error(code: int, title: str, details: str) -> Entry:
    return {"code": code, "title": title, "message": title, "error_data": {"details": details}, "href": _ERROR_PAGE}
