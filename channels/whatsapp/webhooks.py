"""Meta's webhook bodies as the core's events (Meta: Webhooks, ``messages`` and ``user_preferences`` fields).

The parser is total: one item that can't be read becomes `Unreadable` and never harms its neighbours. Persons without a
phone number (only a business-scoped user id) are normal since April 2026, and statuses without ``contacts`` too.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from itertools import accumulate
from typing import Any

import orjson

from plugin.connector import ConsentChange, InboundEvent, InboundMessage, StatusUpdate, Unreadable
from plugin.errors import Invalid

logger = logging.getLogger(__name__)

_STATUSES = frozenset({"sent", "delivered", "read", "failed"})

#: How a message without words reads in a conversation (screens are in pt-BR).
_MEDIA = {"image": "imagem", "video": "vídeo", "audio": "áudio", "document": "documento", "sticker": "figurinha"}

#: What reading an odd item can raise. Anything else is a bug of ours and should be seen.
_ODD = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError)

#: Meta's bodies are some ten levels deep.
_MAX_DEPTH = 100
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)

Json = Mapping[str, Any]


def parse(body: bytes, sender: str, ignored: Counter[str]) -> list[InboundEvent]:
    """Every item of the batch, in its order.

    Args:
        sender: our number when an item does not name it.
        ignored: counts the statuses we have no use for (``played``, ``deleted`` …).

    Raises:
        Invalid: not JSON, or not the envelope of a WhatsApp Business Account.
    """
    envelope = _loads(body)
    entries = envelope.get("entry") if isinstance(envelope, dict) else None
    if not isinstance(entries, list) or envelope.get("object") != "whatsapp_business_account":
        raise Invalid("The webhook is not of a WhatsApp Business Account.", "Subscribe the app to that object only.")
    events: list[InboundEvent] = []
    for entry in entries:
        changes = entry.get("changes") if isinstance(entry, dict) else None
        if not isinstance(changes, list):
            events.append(Unreadable("entry without changes", entry))
            continue
        for change in changes:
            events.extend(_change(change, sender, ignored))
    return events


def _loads(body: bytes) -> Any:
    """The parsed body. Half an emoji (a lone surrogate) or a NUL in one name must not cost the batch, here or in the
    database: they are replaced, which takes the slow way.
    """
    try:
        if b"\\u0000" not in body:
            return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        logger.debug("not strictly JSON, reading it the slow way: %s", error)
    text = body.decode("utf-8", "replace")
    try:
        if _depth(text) <= _MAX_DEPTH:
            return _clean(json.loads(text))
        reason: Exception | None = None
    except ValueError as error:
        reason = error
    raise Invalid("The webhook's body is not JSON.", "Only Meta's servers should call this address.") from reason


def _depth(text: str) -> int:
    """How deep lists and objects are nested. `json` would recurse as deep, and at Python's limit anything may fail:
    a destructor that happens to run there, for one.
    """
    brackets = re.sub(r"[^][{}]+", "", _STRING.sub("", text))
    return max(accumulate(1 if one in "[{" else -1 for one in brackets), default=0)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_clean(one) for one in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(one) for key, one in value.items()}
    return value


def _change(change: Any, sender: str, ignored: Counter[str]) -> Iterator[InboundEvent]:
    value = change.get("value") if isinstance(change, dict) else None
    if not isinstance(value, dict):
        yield Unreadable("change without value", change)
        return
    field = change.get("field", "messages")  # some relays leave it out
    if field not in ("messages", "user_preferences"):
        yield Unreadable(f"field {field!r} is not read", change)
        return
    metadata = value.get("metadata")
    named = metadata.get("phone_number_id") if isinstance(metadata, dict) else None
    ours = named if isinstance(named, str) and named else sender
    people = _People(value.get("contacts"))
    known = False
    for key, read in (("messages", _message), ("statuses", _status), ("user_preferences", _preference)):
        for item in _items(value, key):
            known = True
            try:
                event = read(item, ours, people, ignored)
            except _ODD as error:
                yield Unreadable(f"{key}: {type(error).__name__}: {error}", item)
                continue
            if event is not None:
                yield event
    for item in _items(value, "errors"):
        known = True
        yield Unreadable("error of the account or app", item)
    if not known:
        yield Unreadable(f"field {field!r} without an item that is read", change)


def _items(value: Json, key: str) -> list[Any]:
    items = value.get(key)
    if items is None:
        return []
    return items if isinstance(items, list) else [items]


class _People:
    """The batch's ``contacts``: profile names, and the other id of a person of whom an item gives one."""

    def __init__(self, contacts: Any) -> None:
        items = contacts if isinstance(contacts, list) else []
        self._all: list[Json] = [one for one in items if isinstance(one, dict)]

    def find(self, address: str | None, user_id: str | None) -> Json:
        for one in self._all:
            if (address and one.get("wa_id") == address) or (user_id and one.get("user_id") == user_id):
                return one
        # An item that names nobody is of the only contact, if there is only one.
        return self._all[0] if len(self._all) == 1 and not address and not user_id else {}


def _message(item: Any, sender: str, people: _People, _ignored: Counter[str]) -> InboundEvent:
    address, user_id = _text_or_none(item.get("from")), _text_or_none(item.get("from_user_id"))
    person = people.find(address, user_id)
    address = address or _text_or_none(person.get("wa_id"))
    user_id = user_id or _text_or_none(person.get("user_id"))
    if not address and not user_id:
        return Unreadable("message from nobody", item)
    if item.get("group_id"):
        return Unreadable("message in a group", item)
    kind = str(item.get("type") or ("text" if "text" in item else "unknown"))
    context = item.get("context")
    context_id = _text_or_none(context.get("id")) if isinstance(context, dict) else None
    payload: str | None = None
    is_tap = False
    if kind == "button":
        button = item["button"]
        is_tap, payload, text = True, _text_or_none(button.get("payload")), str(button.get("text") or "")
    elif kind == "interactive":
        kind, text, payload = _interactive(item["interactive"])
        is_tap = kind in ("button_reply", "list_reply")
    elif kind == "reaction":
        context_id = _text_or_none(item["reaction"].get("message_id")) or context_id
        emoji = item["reaction"].get("emoji")
        text = f"[reação: {emoji}]" if emoji else "[reação removida]"
    else:
        text = _readable(kind, item)
    profile = person.get("profile")
    return InboundMessage(
        provider_id=_required(item, "id"),
        sender=sender,
        address=address,
        user_id=user_id,
        kind=kind,
        text=text,
        at=_moment(item["timestamp"]),
        is_tap=is_tap,
        payload=payload,
        context_id=context_id,
        profile_name=str(profile.get("name") or "") if isinstance(profile, dict) else "",
        raw=item,
    )


def _interactive(body: Json) -> tuple[str, str, str | None]:
    """Kind, text and payload of an answer to buttons, a list or a form."""
    kind = str(body["type"])
    inner = body.get(kind)
    inner = inner if isinstance(inner, dict) else {}
    if kind in ("button_reply", "list_reply"):
        return kind, str(inner["title"]), _text_or_none(inner.get("id"))
    if kind == "nfm_reply":
        return kind, "[formulário enviado]", None
    return kind, f"[resposta do tipo {kind}]", None


def _readable(kind: str, item: Json) -> str:
    """What a person reads in the conversation for a message of `kind`."""
    if kind == "text":
        return str(item["text"]["body"])
    inner = item.get(kind)
    body: Json = inner if isinstance(inner, dict) else {}
    if kind in _MEDIA:
        label = "mensagem de voz" if kind == "audio" and body.get("voice") else _MEDIA[kind]
        name = f": {body['filename']}" if body.get("filename") else ""
        return f"[{label}{name}] {body.get('caption') or ''}".rstrip()
    if kind == "location":
        place = ", ".join(str(body[key]) for key in ("name", "address") if body.get(key))
        return f"[localização: {place or '{}, {}'.format(body.get('latitude'), body.get('longitude'))}]"
    if kind == "contacts":
        cards = inner if isinstance(inner, list) else []
        names = [str(card["name"].get("formatted_name", "")) for card in cards]
        return f"[contato: {', '.join(names)}]"
    if kind == "order":
        return f"[pedido: {len(_items(body, 'product_items'))} itens]"
    if kind == "system":
        return f"[aviso: {body.get('body') or body.get('type')}]"
    fixed = {
        "unsupported": "[mensagem que o WhatsApp não repassa]",
        "request_welcome": "[abriu a conversa]",
        "edit": "[editou uma mensagem]",
        "revoke": "[apagou uma mensagem]",
    }
    return fixed.get(kind, f"[mensagem do tipo {kind}]")


def _status(item: Any, _sender: str, people: _People, ignored: Counter[str]) -> InboundEvent | None:
    status = _required(item, "status")
    if status not in _STATUSES:
        ignored[status] += 1
        return None
    address, user_id = _text_or_none(item.get("recipient_id")), _text_or_none(item.get("recipient_user_id"))
    person = people.find(address, user_id)
    code = message = None
    errors = _items(item, "errors")
    if errors and isinstance(errors[0], dict):
        first = errors[0]
        code = _text_or_none(first.get("code"))
        data = first.get("error_data")
        details = data.get("details") if isinstance(data, dict) else None
        message = str(details or first.get("message") or first.get("title") or "") or None
    return StatusUpdate(
        provider_id=_required(item, "id"),
        status=status,
        at=_moment(item["timestamp"]),
        correlation=_text_or_none(item.get("biz_opaque_callback_data")),
        address=address or _text_or_none(person.get("wa_id")),
        user_id=user_id or _text_or_none(person.get("user_id")),
        error_code=code,
        error_message=message,
    )


def _preference(item: Any, sender: str, people: _People, _ignored: Counter[str]) -> InboundEvent:
    value, category = item.get("value"), item.get("category")
    if value not in ("stop", "resume", "signup") or category != "marketing_messages":
        return Unreadable(f"preference {category!r}={value!r} is not read", item)
    address, user_id = _text_or_none(item.get("wa_id")), _text_or_none(item.get("user_id"))
    if not address and not user_id:
        return Unreadable("preference of nobody", item)
    person = people.find(address, user_id)
    return ConsentChange(
        sender=sender,
        address=address or _text_or_none(person.get("wa_id")),
        user_id=user_id or _text_or_none(person.get("user_id")),
        stop=value == "stop",
        at=_moment(item["timestamp"]),
    )


def _required(item: Json, key: str) -> str:
    value = item[key]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} is not a text")
    return value


def _text_or_none(value: Any) -> str | None:
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "" else None


def _moment(value: Any) -> datetime:
    """Seconds since 1970, as text. Meta has sent milliseconds at times: no second we'll see has 13 digits."""
    seconds = int(value)
    return datetime.fromtimestamp(seconds / 1000 if seconds >= 10**12 else seconds, timezone.utc)
