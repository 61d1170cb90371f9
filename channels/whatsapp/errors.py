"""Answers and lost connections as the core's `SendError` family; what each code means is in `refusals`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import httpx
import orjson

from channels.whatsapp.refusals import explain, of_meta
from plugin.connector import Ambiguous, NotSent, Refused, SendError
from plugin.domain.refusal import Reaction, Refusal


def refused(answer: httpx.Response, secrets: Iterable[str] = ()) -> SendError:
    """The error for an answer that is not a success.

    Args:
        secrets: blotted out of what is kept: Meta's error 190 quotes the token.
    """
    text = answer.text
    for secret in secrets:
        text = text.replace(secret, "***")
    error = _graph_error(text)
    if error is None:
        return _without_error_object(answer, text)
    raw = {"http_status": answer.status_code, "error": error}
    found = _found(error, answer.status_code)
    if answer.status_code >= 500 and of_meta(found.code) is None:
        # Not a code of Meta's: a gateway in between may speak JSON, too, and the message may have been accepted.
        return Ambiguous(_message(error), f"http_{answer.status_code}", raw)
    return Refused(found, _message(error), raw, retry_after=_retry_after(answer))


def not_understood(answer: httpx.Response) -> Ambiguous:
    """A success without a message id: Meta may have accepted the message."""
    raw = {"http_status": answer.status_code, "body": answer.text[:500]}
    return Ambiguous("The answer holds no message id.", f"http_{answer.status_code}", raw)


def of_transport(error: httpx.RequestError) -> SendError:
    """`NotSent` when no byte of the request left, else `Ambiguous` (see `channels.base.http.AiohttpTransport`)."""
    name = type(error).__name__
    unsent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
    return (NotSent if isinstance(error, unsent) else Ambiguous)(str(error) or name, name)


def _found(error: Mapping[str, Any], status: int) -> Refusal:
    """The table's row for Meta's error object; of an unknown code the HTTP status tells a little."""
    code = _code(error.get("code"))
    if code == "100" and _code(error.get("error_subcode")) == "33":
        code = "100/33"
    known = of_meta(code)
    if known is not None:
        return known
    unknown = Refusal.unknown(code)
    if status == 429:
        return replace(unknown, reaction=Reaction.BACK_OFF, seconds=5.0, tries=0)
    if status == 401 and not error.get("is_transient"):
        return replace(unknown, reaction=Reaction.PAUSE, seconds=0.0, tries=0)
    return unknown


def _without_error_object(answer: httpx.Response, text: str) -> SendError:
    """Something between us and Meta answered, or the address isn't Meta's."""
    status = answer.status_code
    code, raw = f"http_{status}", {"http_status": status, "body": text[:500]}
    if status >= 500:
        return Ambiguous(f"HTTP {status} without an error object: the message may have been accepted.", code, raw)
    return Refused(explain(code), f"HTTP {status} without Meta's error object.", raw, retry_after=_retry_after(answer))


def _graph_error(text: str) -> Mapping[str, Any] | None:
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else None


def _message(error: Mapping[str, Any]) -> str:
    data = error.get("error_data")
    details = data.get("details") if isinstance(data, dict) else None
    parts = dict.fromkeys(str(part) for part in (error.get("message"), details) if part)
    return ": ".join(parts) or "Meta gave no reason."


def _code(value: Any) -> str:
    """Meta's code as text, "" for none. Meta writes a number; whatever else comes is kept as it came."""
    return "" if value is None or isinstance(value, (dict, list)) else str(value).strip()[:40]


def _retry_after(answer: httpx.Response) -> float | None:
    value = answer.headers.get("retry-after", "")
    return min(float(value), 3600.0) if value.isdigit() else None
