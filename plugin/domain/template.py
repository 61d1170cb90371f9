"""Message templates as the provider approved them, and what the product reads from them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

#: Button text that makes a quick reply the *talk button* when nothing marks one explicitly.
DEFAULT_TALK_BUTTON = "Vamos conversar"

_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")


def fold(text: str) -> str:
    """`text` without case, accents, punctuation or repeated spaces: how people compare labels.

    >>> fold("  Vamos  Conversar! ")
    'vamos conversar'
    >>> fold("NÚMERO")
    'numero'
    """
    plain = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(c if c.isalnum() else " " for c in plain if not unicodedata.combining(c))
    return " ".join(kept.split())


class ButtonKind(str, Enum):
    """Meta's own button types that a template may carry."""

    QUICK_REPLY = "QUICK_REPLY"
    URL = "URL"
    PHONE_NUMBER = "PHONE_NUMBER"
    COPY_CODE = "COPY_CODE"
    FLOW = "FLOW"
    OTHER = "OTHER"


@dataclass(frozen=True)
class Button:
    """A button of a template. `index` counts over all buttons from 0, as Meta's send request does."""

    index: int
    kind: ButtonKind
    text: str


@dataclass(frozen=True)
class Template:
    """A template in one language.

    `body` keeps the provider's placeholders (``{{1}}`` or ``{{nome}}``). `raw` is the provider's own object,
    kept so that later versions can read more of it.
    """

    id: str
    name: str
    language: str
    category: str
    status: str
    body: str
    header: str = ""
    footer: str = ""
    buttons: tuple[Button, ...] = ()
    named: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def approved(self) -> bool:
        """Only an APPROVED template may be sent."""
        return self.status == "APPROVED"

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the body's placeholders in order of first appearance: ``("1", "2")`` or ``("nome",)``."""
        return tuple(dict.fromkeys(_PLACEHOLDER.findall(self.body)))

    @cached_property
    def quick_replies(self) -> tuple[Button, ...]:
        return tuple(b for b in self.buttons if b.kind is ButtonKind.QUICK_REPLY)

    def talk_button(self, label: str = DEFAULT_TALK_BUTTON) -> Button | None:
        """The quick reply that asks for a conversation, or None."""
        wanted = fold(label)
        return next((b for b in self.quick_replies if fold(b.text) == wanted), None)

    def render(self, values: Mapping[str, str]) -> str:
        """The body as the phone shows it. One pass: a value that looks like a placeholder is not replaced again."""
        return _PLACEHOLDER.sub(lambda m: values.get(m.group(1), m.group(0)), self.body)

    @classmethod
    def from_meta(cls, raw: Mapping[str, Any]) -> Template:
        """Read one item of Meta's ``GET /{WABA_ID}/message_templates`` (Template API, component types)."""
        body = header = footer = ""
        buttons: list[Button] = []
        for component in raw.get("components") or ():
            kind = str(component.get("type", "")).upper()
            if kind == "BODY":
                body = str(component.get("text", ""))
            elif kind == "HEADER" and component.get("format", "TEXT") == "TEXT":
                header = str(component.get("text", ""))
            elif kind == "FOOTER":
                footer = str(component.get("text", ""))
            elif kind == "BUTTONS":
                for index, button in enumerate(component.get("buttons") or ()):
                    name = str(button.get("type", "")).upper()
                    known = ButtonKind(name) if name in ButtonKind.__members__ else ButtonKind.OTHER
                    buttons.append(Button(index, known, str(button.get("text", ""))))
        return cls(
            id=str(raw.get("id", "")),
            name=str(raw["name"]),
            # Template webhooks write "en-US" where the list writes "en_US" (seen 2026-04).
            language=str(raw.get("language", "")).replace("-", "_"),
            category=str(raw.get("category", "")),
            status=str(raw.get("status", "")),
            body=body,
            header=header,
            footer=footer,
            buttons=tuple(buttons),
            named=str(raw.get("parameter_format", "POSITIONAL")).upper() == "NAMED",
            raw=dict(raw),
        )
