"""The signed token that a quick reply carries, so that a tap proves which delivery it answers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from dataclasses import dataclass

#: How every button token begins: what starts otherwise belongs to somebody else.
BUTTON_PREFIX = "v1."
_MAC_BYTES = 12
_BODY = struct.Struct(">QB")


@dataclass(frozen=True)
class ButtonToken:
    """`delivery` is the delivery's row id, `button` the button's index in the template."""

    delivery: int
    button: int

    def sign(self, key: bytes) -> str:
        """ASCII text of 31 characters: far below the 128 bytes that every WhatsApp provider takes as payload."""
        body = _BODY.pack(self.delivery, self.button)
        return BUTTON_PREFIX + base64.urlsafe_b64encode(body + _mac(key, body)).decode("ascii").rstrip("=")

    @classmethod
    def read(cls, text: str | None, key: bytes) -> ButtonToken | None:
        """The token in `text`, or None when it isn't one of ours or was tampered with."""
        if not text or not text.startswith(BUTTON_PREFIX) or len(text) > 64:
            return None
        encoded = text[len(BUTTON_PREFIX) :]
        try:
            data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        except ValueError:
            return None
        body, mac = data[: _BODY.size], data[_BODY.size :]
        # Re-encoding closes base64's slack: several texts decode to the same bytes, only one is ours.
        if len(body) != _BODY.size or not hmac.compare_digest(mac, _mac(key, body)):
            return None
        token = cls(*_BODY.unpack(body))
        return token if hmac.compare_digest(token.sign(key).encode(), text.encode("utf-8", "replace")) else None


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.new(key, b"vamos.button\0" + body, hashlib.sha256).digest()[:_MAC_BYTES]
