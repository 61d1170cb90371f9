"""What Meta would refuse about a request to send, with its codes and words (Meta: Cloud API error codes)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from channels.whatsapp.sandbox import people
from channels.whatsapp.sandbox.codes import words
from plugin.domain.template import Template

_FORBIDDEN_IN_PARAMETER = ("\n", "\t", "\r", "     ")


class Refused(Exception):
    """A Graph error. `status` is the HTTP status."""

    def __init__(self, code: int, message: str, details: str = "", *, status: int = 400, subcode: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.status = status
        self.subcode = subcode

    def to_json(self, trace: str) -> dict[str, Any]:
        """Meta's error object."""
        kind = "OAuthException" if self.code != 803 else "GraphMethodException"
        error: dict[str, Any] = {"message": self.message, "type": kind, "code": self.code}
        if self.details:
            error["error_data"] = {"messaging_product": "whatsapp", "details": self.details}
        if self.subcode:
            error["error_subcode"] = self.subcode
        return {"error": {**error, "fbtrace_id": trace}}


def known(code: int, subcode: int = 0) -> Refused:
    """The refusal for a code, in Meta's words where `codes` has them."""
    status, title = words(code)
    return Refused(code, f"(#{code}) {title}", title, status=status, subcode=subcode)


def missing(name: str) -> Refused:
    return Refused(100, f"(#100) The parameter {name} is required.")


def invalid(details: str) -> Refused:
    return Refused(131009, "(#131009) Parameter value is not valid", details)


def part(body: Any, key: str) -> Mapping[str, Any]:
    """The object `body[key]`."""
    value = body.get(key)
    if not isinstance(value, Mapping):
        raise missing(key)
    return value


def recipient(body: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """``(dialled digits, None)`` or ``(None, user id)``; ``to`` wins when both are given."""
    to, user = body.get("to"), body.get("recipient")
    if isinstance(to, str) and to.strip():
        digits = people.dialled(to)
        if digits is None:
            raise invalid(f"Recipient phone number not valid: {to[:3]}…")
        return digits, None
    if isinstance(user, str) and user:
        return None, user
    raise missing("to")


def template(body: Mapping[str, Any], known_templates: Mapping[tuple[str, str], Template]) -> tuple[Template, Shown]:
    """The template that `body` sends and what the phone shows of it."""
    wanted = part(body, "template")
    name, language = str(wanted.get("name", "")), part(wanted, "language").get("code")
    found = known_templates.get((name, str(language)))
    if found is None or found.status in ("PENDING", "REJECTED", "DELETED"):
        details = f"template name ({name}) does not exist in {language}"
        raise Refused(132001, "(#132001) Template name does not exist in the translation", details, status=404)
    if found.status == "PAUSED":
        raise Refused(132015, "(#132015) Template is paused", f"template ({name}) is paused due to low quality")
    if found.status != "APPROVED":
        raise Refused(132016, "(#132016) Template is disabled", f"template ({name}) is {found.status.lower()}")
    components = wanted.get("components") or []
    if not isinstance(components, Sequence) or not all(isinstance(one, Mapping) for one in components):
        raise invalid("components must be a list of objects")
    values = _values(components, found)
    text = found.render(values)
    if len(text) > 1024:
        raise Refused(132005, "(#132005) Translated text too long", "body: hydrated text is longer than 1024")
    payloads = _payloads(components, found)
    buttons = [
        # Without a payload of the sender's, Meta gives back the label.
        {"index": one.index, "text": one.text, "payload": payloads.get(one.index, one.text)}
        for one in found.quick_replies
    ]
    return found, {"header": found.header, "body": text, "footer": found.footer, "buttons": buttons}


Shown = dict[str, Any]


def _values(components: Sequence[Mapping[str, Any]], found: Template) -> dict[str, str]:
    bodies = [one for one in components if str(one.get("type", "")).lower() == "body"]
    given: Sequence[Any] = bodies[0].get("parameters") or [] if bodies else []
    expected = found.parameters
    if len(given) != len(expected):
        details = (
            f"body: number of localizable_params ({len(given)}) does not match the expected number of params"
            f" ({len(expected)})"
        )
        raise Refused(132000, "(#132000) Number of parameters does not match the expected number of params", details)
    values: dict[str, str] = {}
    for position, parameter in enumerate(given):
        if not isinstance(parameter, Mapping) or parameter.get("type") != "text":
            raise Refused(132012, "(#132012) Parameter format does not match", "body: expected a text parameter")
        text = parameter.get("text")
        if not isinstance(text, str) or not text.strip():
            raise Refused(131008, "(#131008) Required parameter is missing", f"body: text of parameter {position + 1}")
        if any(bad in text for bad in _FORBIDDEN_IN_PARAMETER):
            details = "Param text cannot have new-line/tab characters or more than 4 consecutive spaces"
            raise Refused(132012, "(#132012) Parameter format does not match", details)
        name = str(parameter.get("parameter_name", "")) if found.named else expected[position]
        if name not in expected or name in values:
            raise Refused(100, "(#100) Invalid parameter", "Parameter name is missing or empty")
        values[name] = text
    return values


def _payloads(components: Sequence[Mapping[str, Any]], found: Template) -> dict[int, str]:
    kinds = {button.index for button in found.quick_replies}
    payloads: dict[int, str] = {}
    for one in components:
        if str(one.get("type", "")).lower() != "button":
            continue
        try:
            index = int(one.get("index", ""))
            payload = (one.get("parameters") or [{}])[0].get("payload")
        except (TypeError, ValueError, AttributeError, LookupError):
            index, payload = -1, None
        if one.get("sub_type") != "quick_reply" or index not in kinds:
            raise Refused(132018, "(#132018) Template parameter issue", f"button: no quick reply at index {index}")
        if not isinstance(payload, str) or not 0 < len(payload) <= 256:
            raise invalid("button: payload must have 1 to 256 characters")
        payloads[index] = payload
    return payloads


def text(body: Mapping[str, Any]) -> Shown:
    """What the phone shows of a ``text`` message."""
    value = part(body, "text").get("body")
    if not isinstance(value, str) or not value.strip():
        raise missing("text['body']")
    if len(value) > 4096:
        raise Refused(100, "(#100) Param text['body'] must be at most 4096 characters long.")
    return {"header": "", "body": value, "footer": "", "buttons": []}


def interactive(body: Mapping[str, Any]) -> Shown:
    """What the phone shows of an ``interactive`` message with reply buttons."""
    inner = part(body, "interactive")
    if inner.get("type") != "button":
        raise Refused(131051, "(#131051) Unsupported message type", "the sandbox shows reply buttons only")
    value = part(inner, "body").get("text")
    if not isinstance(value, str) or not 0 < len(value) <= 1024:
        raise invalid("interactive body text must have 1 to 1024 characters")
    given = part(inner, "action").get("buttons")
    if not isinstance(given, list) or not 1 <= len(given) <= 3:
        raise invalid("interactive action must have 1 to 3 buttons")
    buttons = []
    for index, one in enumerate(given):
        reply = one.get("reply") if isinstance(one, Mapping) else None
        title, identifier = (reply.get("title"), reply.get("id")) if isinstance(reply, Mapping) else (None, None)
        if not isinstance(title, str) or not 0 < len(title) <= 20:
            raise invalid("button title must have 1 to 20 characters")
        if not isinstance(identifier, str) or not 0 < len(identifier) <= 256:
            raise invalid("button id must have 1 to 256 characters")
        buttons.append({"index": index, "text": title, "payload": identifier})
    if len({one["text"] for one in buttons}) < len(buttons) or len({one["payload"] for one in buttons}) < len(buttons):
        raise invalid("buttons must differ in title and id")
    header = inner.get("header") or {}
    footer = inner.get("footer") or {}
    return {
        "header": str(header.get("text", "")) if isinstance(header, Mapping) else "",
        "body": value,
        "footer": str(footer.get("text", "")) if isinstance(footer, Mapping) else "",
        "buttons": buttons,
    }
