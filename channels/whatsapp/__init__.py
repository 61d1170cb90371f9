"""WhatsApp Cloud API.

`WhatsAppInput` is what Rasa's ``credentials.yml`` names. It is loaded on demand, because it imports Rasa (10 s,
600 MiB) and a worker that only sends needs none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from channels.whatsapp.input import WhatsAppInput

__all__ = ["WhatsAppInput"]


def __getattr__(name: str) -> Any:
    if name == "WhatsAppInput":
        from channels.whatsapp.input import WhatsAppInput

        return WhatsAppInput
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
