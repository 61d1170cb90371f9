"""Meta's error codes with the HTTP status and the words they come with (Meta: Cloud API error codes)."""

from __future__ import annotations

from collections.abc import Mapping

#: Code → HTTP status of a refused request, title. A code that only ever comes in a webhook has 400.
KNOWN: Mapping[int, tuple[int, str]] = {
    0: (401, "AuthException"),
    1: (500, "An unknown error occurred"),
    2: (503, "An unexpected error has occurred. Please retry your request later."),
    3: (403, "API Method"),
    4: (429, "Application request limit reached"),
    10: (403, "Permission Denied"),
    33: (404, "Parameter value is not valid"),
    100: (400, "Invalid parameter"),
    190: (401, "Error validating access token: Session has expired"),
    368: (403, "Temporarily blocked for policies violations"),
    80007: (429, "Rate limit issues"),
    130403: (403, "User is blocked by the business"),
    130429: (429, "Rate limit hit"),
    130472: (400, "User's number is part of an experiment"),
    130497: (403, "Business account is restricted from messaging users in this country"),
    131000: (500, "Something went wrong"),
    131005: (403, "Access denied"),
    131008: (400, "Required parameter is missing"),
    131009: (400, "Parameter value is not valid"),
    131016: (503, "Service unavailable"),
    131021: (400, "Recipient cannot be sender"),
    131026: (400, "Message undeliverable"),
    131030: (400, "Recipient phone number not in allowed list"),
    131031: (403, "Account has been locked"),
    131037: (400, "Display name approval required"),
    131042: (402, "Business eligibility payment issue"),
    131043: (400, "Message expired"),
    131044: (402, "Payment method required"),
    131045: (400, "Incorrect certificate"),
    131047: (429, "Re-engagement message"),
    131048: (429, "Spam rate limit hit"),
    131049: (429, "Message not delivered to maintain healthy ecosystem engagement"),
    131050: (400, "User has opted out of receiving marketing messages from your business"),
    131051: (400, "Unsupported message type"),
    131052: (400, "Media download error"),
    131053: (400, "Media upload error"),
    131056: (429, "(Business Account, Consumer Account) pair rate limit hit"),
    131057: (503, "Account in maintenance mode"),
    131061: (400, "Template with a maximum price on this endpoint"),
    131062: (400, "Recipient is not allowed for this message"),
    131063: (400, "Marketing messages are disabled on this endpoint"),
    131064: (429, "Limited for template classification violations"),
    132000: (400, "Number of parameters does not match the expected number of params"),
    132001: (404, "Template name does not exist in the translation"),
    132005: (400, "Translated text too long"),
    132007: (400, "Template format character policy violated"),
    132008: (400, "Template parameter value invalid"),
    132012: (400, "Parameter format does not match"),
    132015: (400, "Template is paused"),
    132016: (400, "Template is disabled"),
    132018: (400, "Template parameter issue"),
    132068: (400, "Flow is in blocked state"),
    132069: (400, "Flow is in throttled state"),
    133004: (503, "Server temporarily unavailable"),
    133010: (400, "Phone number not registered"),
    134011: (400, "Payments terms of service not accepted"),
    135000: (400, "Generic user error"),
    137000: (400, "Identity key mismatch"),
    2494100: (503, "Phone number in maintenance mode"),
}


def words(code: int) -> tuple[int, str]:
    """HTTP status and title of any code."""
    return KNOWN.get(code, (403, "Permission Denied") if 200 <= code < 300 else (400, "Injected failure"))
