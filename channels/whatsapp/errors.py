"""Meta's refusals as the core's `SendError` family.

Source: Meta, "Cloud API error codes", and the project's decision per code. Decide on
the code, never on the title, which Meta rewords.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import httpx
import orjson

from plugin.connector import Ambiguous, Blocked, NotSent, Rejected, SendError, Throttled, Transient

#: The whole sender waits this many seconds (Meta sends no Retry-After).
_THROTTLED: dict[int, float] = {
    4: 120.0,  # app call limit
    80007: 60.0,  # account rate limit
    130429: 2.0,  # throughput of the number
    131057: 60.0,  # maintenance while the throughput is upgraded
    132069: 3600.0,  # flow throttled, 10 per hour
    2494100: 60.0,  # same as 131057
}

#: Refused now, may pass later.
_TRANSIENT = frozenset(
    {
        1,  # API unknown
        2,  # service down
        131000,  # something went wrong
        131016,  # service unavailable
        131053,  # media could not be fetched
        131056,  # too many to this one person: others may go on
        133004,  # server unavailable
        135000,  # generic parameter error: Meta's own advice is to try again once
    }
)

#: This recipient will not get this message.
_REJECTED = frozenset(
    {
        100,  # invalid parameter (subcode 33 is ours to fix: see `_of_code`)
        130403,  # we blocked the person
        130472,  # person is in a Meta experiment
        130497,  # country restricted
        131009,  # parameter value invalid
        131021,  # recipient is the sender
        131026,  # undeliverable: no WhatsApp, old app, terms not accepted
        131030,  # not on the test number's allow-list
        131043,  # expired
        131047,  # outside the 24-hour window; HTTP 429, yet no rate limit
        131049,  # marketing cap of this person: an early resend can block it for a day
        131050,  # the person stopped our marketing messages
        131062,  # user id not allowed for this message
        132005,  # filled-in text too long
        132007,  # content policy
        132008,  # value invalid
        132012,  # parameter format
        137000,  # identity key mismatch
    }
)

#: Nobody will get it until a person acts.
_BLOCKED = frozenset(
    {
        0,  # auth
        3,  # capability
        10,  # permission
        33,  # number deleted
        190,  # token expired
        368,  # policy block
        131005,  # access denied
        131008,  # required parameter missing: our bug
        131031,  # account locked
        131037,  # display name not approved
        131042,  # payment
        131044,  # payment
        131045,  # number not registered
        131048,  # spam limit: Meta asks to check quality, so a person decides
        131051,  # type not supported
        131061,  # max-price template on this endpoint
        131063,  # marketing disabled on this endpoint
        131064,  # limit for wrongly classified templates
        132000,  # parameter count
        132001,  # template missing or not approved
        132015,  # template paused
        132016,  # template disabled
        132018,  # template parameters
        132068,  # flow blocked
        133010,  # number not registered
        134011,  # payment terms
        *range(200, 300),  # permissions
    }
)


def refusal(answer: httpx.Response, secrets: Iterable[str] = ()) -> SendError:
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
    code = _whole_number(error.get("code"))
    subcode = _whole_number(error.get("error_subcode"))
    message = _message(error)
    raw = {"http_status": answer.status_code, "error": error}
    shown = "" if code is None else str(code)
    kind = _of_code(code, subcode)
    if kind is Throttled or (kind is None and answer.status_code == 429):
        wait = _THROTTLED.get(code or 0, 5.0)
        return Throttled(message, shown, raw, retry_after=_retry_after(answer) or wait)
    if kind is None:
        # Unknown code: one class up for authentication, otherwise worth the retries the core allows.
        kind = Blocked if answer.status_code == 401 and not error.get("is_transient") else Transient
    return kind(message, shown, raw)


def not_understood(answer: httpx.Response) -> Ambiguous:
    """A success without a message id: Meta may have accepted the message."""
    raw = {"http_status": answer.status_code, "body": answer.text[:500]}
    return Ambiguous("The answer holds no message id.", f"http_{answer.status_code}", raw)


def of_transport(error: httpx.RequestError) -> SendError:
    """`NotSent` when no byte of the request left, else `Ambiguous` (see `channels.base.http.AiohttpTransport`)."""
    name = type(error).__name__
    unsent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
    return (NotSent if isinstance(error, unsent) else Ambiguous)(str(error) or name, name)


def _of_code(code: int | None, subcode: int | None) -> type[SendError] | None:
    if code is None:
        return None
    if code in _THROTTLED:
        return Throttled
    if code in _TRANSIENT:
        return Transient
    if code == 100 and subcode == 33:
        return Blocked  # wrong phone number id, or no access to it
    if code in _REJECTED:
        return Rejected
    return Blocked if code in _BLOCKED else None


def _without_error_object(answer: httpx.Response, text: str) -> SendError:
    """Something between us and Meta answered, or the address isn't Meta's."""
    status = answer.status_code
    code, raw = f"http_{status}", {"http_status": status, "body": text[:500]}
    if status >= 500:
        return Ambiguous(f"HTTP {status} without an error object: the message may have been accepted.", code, raw)
    if status == 429:
        return Throttled("HTTP 429", code, raw, retry_after=_retry_after(answer) or 5.0)
    if status in (408, 425):
        return Transient(f"HTTP {status}", code, raw)
    return Blocked(f"HTTP {status} without Meta's error object. Is base_url right?", code, raw)


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


def _whole_number(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _retry_after(answer: httpx.Response) -> float | None:
    value = answer.headers.get("retry-after", "")
    return min(float(value), 3600.0) if value.isdigit() else None
