"""Bodies of ``POST /{PHONE_NUMBER_ID}/messages`` (Meta: Cloud API reference, Messages; template components)."""

from __future__ import annotations

import re
from typing import Any

from channels.whatsapp.refusals import explain
from plugin.connector import Outbound, Refused, TemplateMessage, TextMessage

#: Meta's limits, in characters.
MAX_TEXT = 4096
MAX_INTERACTIVE_TEXT = 1024
MAX_BUTTONS = 3
MAX_BUTTON_TITLE = 20

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_LINE_BREAK = re.compile(r" *[^\S ]\s*")
_LONG_GAP = re.compile(r" {5,}")


def send_body(message: Outbound) -> dict[str, Any]:
    """The JSON object for `message`.

    Raises:
        Refused: Meta would refuse the message whatever its state; `code` starts with ``local_``.
    """
    content = message.content
    body: dict[str, Any] = {"messaging_product": "whatsapp", "recipient_type": "individual", **_recipient(message)}
    if isinstance(content, TemplateMessage):
        body["type"] = "template"
        body["template"] = _template(content)
    elif content.buttons:
        body["type"] = "interactive"
        body["interactive"] = _reply_buttons(content)
    else:
        body["type"] = "text"
        body["text"] = {"preview_url": False, "body": _bounded(content.text, MAX_TEXT)}
    if message.correlation:
        body["biz_opaque_callback_data"] = message.correlation
    return body


def _recipient(message: Outbound) -> dict[str, str]:
    """The phone wins when both are known, as at Meta. Without the ``+`` Meta would put our own country code first."""
    if message.address:
        number = message.address if message.address.startswith("+") else f"+{message.address}"
        if not _E164.fullmatch(number):
            raise Refused(explain("local_address"), "The number is not E.164.")
        return {"to": number}
    if message.user_id:
        return {"recipient": message.user_id}
    raise Refused(explain("local_address"), "The message has neither a number nor a user id.")


def _template(content: TemplateMessage) -> dict[str, Any]:
    components: list[dict[str, Any]] = []
    if content.body:
        parameters = [
            {"type": "text", **({"parameter_name": name} if content.named else {}), "text": one_line(value)}
            for name, value in content.body.items()
        ]
        components.append({"type": "body", "parameters": parameters})
    components += [
        {
            "type": "button",
            "sub_type": "quick_reply",
            "index": str(index),
            "parameters": [{"type": "payload", "payload": payload}],
        }
        for index, payload in sorted(content.payloads.items())
    ]
    template: dict[str, Any] = {"name": content.name, "language": {"code": content.language}}
    if components:
        template["components"] = components
    return template


def _reply_buttons(content: TextMessage) -> dict[str, Any]:
    if len(content.buttons) > MAX_BUTTONS:
        raise Refused(explain("local_buttons"), f"WhatsApp shows at most {MAX_BUTTONS} reply buttons.")
    buttons = [
        {"type": "reply", "reply": {"id": identifier, "title": _shortened(title)}}
        for identifier, title in content.buttons
    ]
    return {
        "type": "button",
        "body": {"text": _bounded(content.text, MAX_INTERACTIVE_TEXT)},
        "action": {"buttons": buttons},
    }


def one_line(value: str) -> str:
    """A parameter value as Meta takes it: no line break or tab, at most four spaces in a row (else error 132012)."""
    return _LONG_GAP.sub("    ", _LINE_BREAK.sub(" ", value)).strip()


def _shortened(title: str) -> str:
    """A title that is too long loses its end rather than the whole message being refused."""
    return title if len(title) <= MAX_BUTTON_TITLE else title[: MAX_BUTTON_TITLE - 1].rstrip() + "…"


def _bounded(text: str, limit: int) -> str:
    if not text.strip():
        raise Refused(explain("local_text"), "The text is empty.")
    if len(text) > limit:
        raise Refused(explain("local_text"), f"The text has {len(text)} characters; WhatsApp takes {limit}.")
    return text
