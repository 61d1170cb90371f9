"""The text we send along with a message and get back in its statuses (Meta: ``biz_opaque_callback_data``)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(r"^v1\.([dm])\.(\d{1,18})\.(\d{1,6})$", re.ASCII)


@dataclass(frozen=True)
class Correlation:
    """Names a row of `delivery` (kind ``d``) or of `message` (kind ``m``) and the attempt that sent it."""

    kind: str
    row: int
    attempt: int

    def __str__(self) -> str:
        return f"v1.{self.kind}.{self.row}.{self.attempt}"

    @classmethod
    def read(cls, text: str | None) -> Correlation | None:
        match = _FORM.match(text or "")
        return cls(match.group(1), int(match.group(2)), int(match.group(3))) if match else None
