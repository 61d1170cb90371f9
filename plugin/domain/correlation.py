"""The text we send along with a message and get back in its statuses (Meta: ``biz_opaque_callback_data``)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(r"v1\.([dm])\.([0-9a-f]{8})\.([0-9]{1,18})\.([0-9]{1,6})", re.ASCII)


@dataclass(frozen=True)
class Correlation:
    """Names a row of `delivery` (kind ``d``) or of `message` (kind ``m``) and the attempt that sent it.

    `installation`: 8 hex digits that only this database gives out, and a new one after it was put back from a backup
    (`Store.installation`). Several may share one account of the provider, and each hears of the others' messages.
    """

    kind: str
    row: int
    attempt: int
    installation: str

    def __str__(self) -> str:
        return f"v1.{self.kind}.{self.installation}.{self.row}.{self.attempt}"

    @classmethod
    def read(cls, text: str | None, *ours: str) -> Correlation | None:
        """What was sent under one of `ours`, this database's installations. None: by another tool or database."""
        match = _FORM.fullmatch(text or "")
        if match is None or match.group(2) not in ours:
            return None
        return cls(match.group(1), int(match.group(3)), int(match.group(4)), match.group(2))
